/* StarttoGet: a consumer asks for a partition's messages from an offset. In push mode the broker would begin
 * to send (it comes with subscriptions); for PSB_PULL there is nothing to begin, so only the partition is
 * checked. */
#include "base/error.h"
#include "broker/handlers.h"
#include "broker/request.h"
#include "broker/subscription_option.h"

static void finish(struct request *request)
{
    struct rpc_info_get_response response = {.ret = true};

    if (request->error)
        request_fail(request, "%s", error_sentence(request->error));
    else
        request_answer(request, &response, NULL);
    request_free(request);
}

static void work(struct broker_shard *owner, struct request *request)
{
    if (request_partition(owner, request))
        request_return(request);
}

void handle_start_to_get(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_info_get_request arguments;
    struct request *request;

    if (!request_decode(call, &arguments))
        return;
    if (subscription_option_refused(call, arguments.option))
        return;
    request = request_new(bs, call, sizeof(*request));
    if (!request)
        return;
    request->work = work;
    request->finish = finish;
    request->topic = arguments.topic;
    request->partition = arguments.partition;
    if (request_find(request, ACTION_PULL))
        request_go(request);
}
