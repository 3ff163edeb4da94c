/* A client that pushes single messages with `push`, several on their way at once, at every ack level; with or
 * without a session. With one it repeats a push of unknown outcome under the same Cmdindex until it knows;
 * without one it sends a message again only when the server promised that it is in no log. */
#ifndef CLYMQ_SIM_PUSHER_H
#define CLYMQ_SIM_PUSHER_H

#include "sim/run.h"

struct pusher;

struct pusher_plan {
    uint16_t client;
    bool session;
    unsigned window;   /* pushes at once */
    unsigned pause_ms; /* between bursts, at most */
    bool heartbeat;    /* one small push at level -1 (or the partition's) to each slot in turn, often */
};

struct pusher *pusher_new(struct run *run, const struct pusher_plan *plan);
/* No new messages; those under way go on until they have an outcome. */
void pusher_stop(struct pusher *pusher);
bool pusher_is_idle(const struct pusher *pusher);
/* What is still under way has an unknown outcome. */
void pusher_free(struct pusher *pusher);

#endif
