/* A client's connection to one of the broker's ports, made anew when it broke. Calls may be pipelined. */
#ifndef CLYMQ_SIM_CALLER_H
#define CLYMQ_SIM_CALLER_H

#include "net/link.h"
#include "sim/run.h"

struct caller {
    struct run *run;
    const char *address;
    struct net_link *link; /* NULL = not connected and not connecting */
    uint32_t links;        /* made so far */
};

/* As net_link_call; an error returned means that nothing was sent and done is not called. */
int caller_call(struct caller *caller, enum rpc_method_id method, const void *request,
                const struct slice *payload, int64_t timeout_ms, net_answer_callback done, void *ctx);
/* Outstanding calls are told, from inside. */
void caller_close(struct caller *caller);

/* What an answer says of a call's outcome. */
enum caller_verdict { CALLER_ANSWERED, CALLER_REFUSED, CALLER_DOUBT };
/* An answer that is not the method's response: refused where the server or the link says that nothing was
 * done. */
enum caller_verdict caller_judge(const struct net_answer *answer);
/* A short text of what went wrong, for the log; valid until the next call. */
const char *caller_text(const struct net_answer *answer);

#endif
