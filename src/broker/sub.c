/* Sub: a consumer subscribes. With PSB_PULL the consumer keeps its own offset, so there is nothing to record:
 * the partition must exist. The other kinds come with subscriptions. */
#include "base/error.h"
#include "broker/coord_call.h"
#include "broker/subscription_option.h"

enum { ASK_MS = 1 };

/* Known is enough: that its leader is not there yet does not matter. */
static void on_found(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                     size_t count)
{
    coord_call_return(ctx, error == CLYMQ_ETIMEDOUT ? 0 : error, sentence);
}

static void ask(struct coord *coord, struct coord_call *sub)
{
    coord_find_leaders(coord, sub->topic, sub->partition, ASK_MS, on_found, sub);
}

static void finish(struct request *request)
{
    struct rpc_sub_response response = {.ret = true};

    if (coord_call_failed(CONTAINER_OF(request, struct coord_call, base)))
        return;
    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_sub(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_sub_request arguments;
    struct coord_call *sub;

    if (!request_decode(call, &arguments))
        return;
    if (subscription_option_refused(call, arguments.option))
        return;
    sub = coord_call_new(bs, call);
    if (sub)
        coord_call_go(sub, ACTION_PULL, (struct coord_call_names){&arguments.topic, &arguments.partition},
                      ask, finish);
}
