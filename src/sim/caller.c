/* A connection that is made when it is needed: see caller.h. */
#include "sim/caller.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"

enum { CONNECT_MS = 3000, ANSWER_MAX = 32 << 20 };

static void on_closed(void *ctx, int error)
{
    struct caller *caller = ctx;
    struct net_link *link = caller->link;

    caller->link = NULL;
    net_link_free(link);
}

int caller_call(struct caller *caller, enum rpc_method_id method, const void *request,
                const struct slice *payload, int64_t timeout_ms, net_answer_callback done, void *ctx)
{
    if (!caller->link) {
        struct net_link_config config = {
            .address = caller->address,
            .connect_ms = CONNECT_MS,
            .max_message_bytes = ANSWER_MAX,
            .on_closed = on_closed,
            .ctx = caller,
        };
        int error = net_link_new(caller->run->loop, &config, &caller->link);

        if (error)
            return error;
        caller->links++;
    }
    return net_link_call(caller->link, method, request, payload, timeout_ms, done, ctx);
}

void caller_close(struct caller *caller)
{
    struct net_link *link = caller->link;

    caller->link = NULL;
    net_link_free(link);
}

static bool contains(struct bytes text, const char *part)
{
    return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

enum caller_verdict caller_judge(const struct net_answer *answer)
{
    if (!answer->error)
        return CALLER_ANSWERED;
    if (answer->exception_type) /* docs/protocol-rpc.md: the sentence says whether it is certain */
        return contains(answer->text, "was not stored") ? CALLER_REFUSED : CALLER_DOUBT;
    return answer->sent ? CALLER_DOUBT : CALLER_REFUSED;
}

const char *caller_text(const struct net_answer *answer)
{
    static char text[160];

    if (!answer->error)
        return "";
    if (!answer->exception_type)
        return error_name(answer->error);
    snprintf(text, sizeof(text), "exception %d: %.*s", answer->exception_type,
             (int)(answer->text.len < 120 ? answer->text.len : 120), (const char *)answer->text.ptr);
    return text;
}
