/* Calls at full speed over many connections, made of bytes encoded once: so little work a call that the
 * server is what is measured, where libclymq, which batches, checks and tries again, would be measured too.
 *
 * A connection has up to `depth` calls unanswered; when one may be sent next is said by a schedule. One
 * thread. Answers are looked at as far as to know whether they succeed. The first that fails is told; a
 * connection that breaks ends the run. */
#ifndef CLYMQ_CLI_PUMP_H
#define CLYMQ_CLI_PUMP_H

#include <sys/uio.h>

#include "cli/bench.h"
#include "cli/schedule.h"
#include "wire/rpc.h"

/* A call as it goes out: framed strict binary, in up to three parts. */
struct pump_call {
    struct iovec parts[3];
    int part_count;
    size_t size;
    struct buf *owner; /* of head and tail */
};
/* payload: for the STRING field of the request whose ptr is NULL; borrowed; none where its len is 0. 0 or
 * CLYMQ_ENOMEM, CLYMQ_ETOOBIG. */
int pump_call_encode(enum rpc_method_id method, const void *request, struct bytes payload,
                     struct pump_call *ret_call);
void pump_call_free(struct pump_call *call);

/* A connected socket, blocking, without delay. source: which of several loopback addresses it comes from, for
 * more connections than one has ports. -1: told. */
int pump_connect(const char *address, unsigned source);

struct pump_config {
    enum rpc_method_id method;
    const struct pump_call
        *calls; /* connection c makes calls c, c + connections, … in turn, and begins anew */
    size_t call_count;
    const int *fds; /* connected; the pump makes them non-blocking */
    unsigned connections, depth;
    uint64_t total;      /* calls; 0 = until duration_us is over */
    int64_t duration_us; /* nothing is sent after it; 0 = no limit */
    int64_t rate;        /* messages a second; 0 = closed loop */
    int64_t per_call;    /* messages in each call; 0 = 1 */
    int64_t timeout_us;  /* the run fails when nothing is answered for so long */
};
/* Adds to result: latencies, and in messages and failed the calls answered. 0, or the exit code (told). */
int pump_run(const struct pump_config *config, struct bench_result *result);

#endif
