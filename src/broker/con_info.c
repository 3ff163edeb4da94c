/* ConInfo: where a consumer's own server listens, for push mode. Push mode comes with subscriptions; until
 * then it is refused with a sentence, since clients take ret=false for success. */
#include "base/error.h"
#include "broker/handlers.h"
#include "broker/request.h"
#include "broker/subscription_option.h"

void handle_con_info(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_info_request arguments;

    if (!request_decode(call, &arguments))
        return;
    if (authorize(&call->principal, ACTION_PULL, bytes_of("", 0)))
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_EDENIED, "%s", error_sentence(CLYMQ_EDENIED));
    else
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_EUNSUPPORTED, "%s", push_mode_refusal);
}
