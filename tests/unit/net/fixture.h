/* A server and its clients on one thread, over the operating system's loop or over the simulated world, so
 * that each test of net runs on both. */
#ifndef CLYMQ_TESTS_NET_FIXTURE_H
#define CLYMQ_TESTS_NET_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "messages.h"
#include "net/link.h"
#include "net/server.h"

enum { ENV_HELD = 8192, ENV_STREAMS = 256 };

/* What the handler does with a push is told by its field producer:
 *   "echo"     answered at once: ret true, err = the message
 *   "hold"     kept in held[]
 *   "fail"     exception 6
 *   "quiet"    ret true, err empty
 * Where `routed`, its partition is the number of the shard that the call is said to be for.
 * A pull is answered with Msgs = `payload_size` bytes of the payload, from memory (option 1), or from the
 * file (option 2), or from the file although it is shorter (option 3). */
struct env {
    bool simulated;
    struct sim_world *world;
    struct sim_process *server_process, *client_process;
    struct io_loop *loops[4], *client_loop;
    unsigned shard_count;
    struct shards *shards;
    struct metrics *metrics;
    struct net_server *server;
    char address[64];
    bool server_stopped;
    bool routed;
    struct shard_tail tail; /* run() is called at the end of a call's round, before the server's own */

    struct net_call *held[ENV_HELD];
    int held_count;
    struct io_stream *streams[ENV_STREAMS]; /* of the raw clients: closed first after a failed test */
    void (*end)(void);                      /* likewise, what else the test has opened; NULL = nothing */
    int calls, oneways, input_ends, closed, released;
    uint64_t last_conn_id, last_closed_id;
    unsigned last_shard, last_closed_shard;
    struct buf *payload;
    struct io_fs *fs;
    struct io_file *file;
    char *folder;
    size_t payload_size;
};

/* Group setups: each test gets its own env through *state. */
int env_setup_real(void **state);
int env_setup_sim(void **state);
int env_teardown(void **state);
#define TEST_SIM(function)                                                                                   \
    {                                                                                                        \
#function "_sim", function, env_setup_sim, env_teardown, NULL                                        \
    }
#define TEST_BOTH(function)                                                                                  \
    {#function "_real", function, env_setup_real, env_teardown, NULL}, TEST_SIM(function)

struct net_limits env_limits(void);
/* Makes shards and starts the server; fails the test when it cannot. */
void env_start(struct env *env, unsigned shards, const struct net_limits *limits);
/* Runs both sides until done() says so; fails the test after limit_ms of the loop's time. */
void env_run_until(struct env *env, bool (*done)(void *ctx), void *ctx, int limit_ms);
void env_run_for(struct env *env, int ms);
/* Stops the server and waits until it has; or each for itself. */
void env_stop(struct env *env, int64_t grace_ms);
void env_begin_stop(struct env *env, int64_t grace_ms);
void env_wait_stopped(struct env *env, int limit_ms);
int64_t env_metric(struct env *env, const char *name_and_labels);
/* Answers held[index] with ret true and err = its message. */
void env_answer_held(struct env *env, int index);
/* Makes the payload of pulls: memory and a file of the same content. */
void env_make_payload(struct env *env, size_t size);

/* A client that sends and receives bytes. */
struct raw {
    struct env *env;
    struct io_stream *stream;
    struct strbuf out, in;
    size_t out_at, in_at;
    size_t chunk; /* writes at most so many bytes at once; 0 = no limit */
    bool deaf;    /* does not read */
    bool closed;  /* the other side closed, or an error */
    bool cut;     /* an error before all was sent */
    unsigned watched;
    int slot; /* in env->streams */
};
void raw_connect(struct raw *raw, struct env *env);
void raw_flush(struct raw *raw); /* after appending to out, or changing deaf */
void raw_close(struct raw *raw);
/* Waits until all is sent. */
void raw_send(struct raw *raw);
/* Waits for the next whole message and takes it off; its views live until the next call. */
struct thrift_message raw_receive(struct raw *raw, struct thrift_form *ret_form);
/* Receives the answer of a push with that sequence and compares err. */
void raw_expect_push(struct raw *raw, const struct thrift_form *form, int32_t sequence, struct bytes err);
void raw_expect_exception(struct raw *raw, int32_t sequence, int32_t type, const char *text_part);
void raw_wait_closed(struct raw *raw, int limit_ms);

#endif
