/* What every loop must do, real or simulated: cases shared by test_os_loop.c and test_sim_world.c. */
#ifndef TEST_IO_LOOP_CASES_H
#define TEST_IO_LOOP_CASES_H

#include "io/loop.h"

/* Where a case runs. server and client may be one loop. run() drives both until done is set (by
 * loop_case_done) and fails the test when that does not happen. second: another loop of the server's process,
 * or server again. */
struct loop_place {
    struct io_loop *server, *client, *second;
    struct io_fs *fs; /* the server's */
    void (*run)(struct loop_place *place);
    bool done;
    bool simulated;
};

/* Called by a case, on a loop's thread, when it has seen all it wants. */
void loop_case_done(struct loop_place *place);

void case_timers(struct loop_place *place);
void case_wake_and_tail(struct loop_place *place);
void case_disk(struct loop_place *place);
void case_echo(struct loop_place *place);
void case_echo_many(struct loop_place *place);
void case_send_file(struct loop_place *place);
void case_connect_refused(struct loop_place *place);
void case_close_in_callback(struct loop_place *place);
void case_peer_closes(struct loop_place *place);
void case_detach_in_callback(struct loop_place *place);
void case_detach_outside(struct loop_place *place);
void case_detach_broken(struct loop_place *place);
void case_addresses(struct loop_place *place);

#endif
