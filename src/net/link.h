/* An outgoing connection: calls of the RPC contract to one server, pipelined, answers matched in order.
 *
 * Belongs to one loop's thread. It connects when made; when it breaks, every outstanding call gets its
 * callback with the error and on_closed is told; reconnecting is its user's business (make another). Framed
 * strict binary on the wire. */
#ifndef CLYMQ_NET_LINK_H
#define CLYMQ_NET_LINK_H

#include "io/loop.h"
#include "net/server.h"
#include "wire/rpc.h"

struct net_link;

struct net_link_config {
    const char *address;
    int64_t connect_ms;        /* 10,000 */
    int64_t max_message_bytes; /* of an answer */
    /* Told once, never from inside a call: connected; or closed, with why, after the callbacks of all
     * outstanding calls (the link is freed by its owner). Both may be NULL. Errors:
     *   CLYMQ_EUNREACH   never connected: refused, no route, no such name
     *   CLYMQ_ETIMEDOUT  not connected within connect_ms, or a call's time was over
     *   CLYMQ_ECLOSED    the other side closed, or reading or writing failed; also after the answer to a call
     *                    that was not sent in full
     *   CLYMQ_EPROTO     what came is no answer to the oldest call, or malformed
     *   CLYMQ_ETOOBIG    an answer of more than max_message_bytes: that of the oldest call, the others get
     *                    CLYMQ_ECLOSED
     *   CLYMQ_ENOMEM     no memory for connecting, for an answer or for a timer */
    void (*on_connected)(void *ctx);
    void (*on_closed)(void *ctx, int error);
    void *ctx;
};

/* An answer. error 0: response is the method's decoded response struct; its views (and message) are valid
 * during the callback, longer with a reference on message. CLYMQ_EPROTO: malformed. CLYMQ_EUNSUPPORTED: the
 * server threw a TApplicationException (text). */
struct net_answer {
    int error;
    const void *response;
    struct bytes text;      /* an exception's sentence */
    int32_t exception_type; /* 0 = none */
    int exception_error;    /* the number that came with it; 0 = none (foreign and older servers) */
    struct buf *message;
    bool sent; /* whether any of the call may have left; an unsent call was surely not executed */
};
typedef void (*net_answer_callback)(void *ctx, const struct net_answer *answer);

int net_link_new(struct io_loop *loop, const struct net_link_config *config, struct net_link **ret_link);
/* Closes; outstanding calls get CLYMQ_ECANCELED, from inside (on_closed is not called). Allowed in callbacks.
 * NULL is allowed. When the loop has died (a crashed simulated process) it frees all the same. */
void net_link_free(struct net_link *link);
/* Sends a call. payload: as in net_call_answer, for one STRING field of the request whose ptr is NULL; a
 * reference is taken, NULL = none. timeout_ms 0 = none; on time-out the call gets CLYMQ_ETIMEDOUT and the
 * link is closed, since answers are in order. 0, CLYMQ_ENOMEM, or CLYMQ_ECLOSED (done is not called then).
 * Calls before connected are queued. */
int net_link_call(struct net_link *link, enum rpc_method_id method, const void *request,
                  const struct slice *payload, int64_t timeout_ms, net_answer_callback done, void *ctx);
size_t net_link_outstanding(const struct net_link *link);

#endif
