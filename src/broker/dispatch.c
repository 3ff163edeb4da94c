/* Method to handler; and the calls that came before the broker was ready. */
#include "base/error.h"
#include "broker/handlers.h"

static const broker_handler handlers[RPC_METHOD_COUNT] = {
    [RPC_METHOD_PUSH] = handle_push,
    [RPC_METHOD_PULL] = handle_pull,
    [RPC_METHOD_INFO] = handle_con_info,
    [RPC_METHOD_INFO_GET] = handle_start_to_get,
    [RPC_METHOD_PUSH_BATCH] = handle_push_batch,
    [RPC_METHOD_PULL_BATCH] = handle_pull_batch,
    [RPC_METHOD_LIST_OFFSET] = handle_list_offset,
    [RPC_METHOD_CREATE_TOPIC] = handle_create_topic,
    [RPC_METHOD_CREATE_PART] = handle_create_part,
    [RPC_METHOD_SET_PARTITION_STATE] = handle_set_partition_state,
    [RPC_METHOD_PRO_GET_BROK] = handle_pro_get_broker,
    [RPC_METHOD_SUB] = handle_sub,
    [RPC_METHOD_CON_START_GET_BROK] = handle_con_start_get_broker,
    [RPC_METHOD_GET_NEW_LEADER] = handle_get_new_leader,
    [RPC_METHOD_LIST_TOPICS] = handle_list_topics,
    [RPC_METHOD_DESCRIBE_TOPIC] = handle_describe_topic,
    [RPC_METHOD_DELETE_TOPIC] = handle_delete_topic,
    [RPC_METHOD_DELETE_PART] = handle_delete_part,
    [RPC_METHOD_SET_TOPIC_CONFIG] = handle_set_topic_config,
};

void broker_on_call(void *ctx, struct net_call *call)
{
    struct broker_node *node = ctx;
    struct broker_shard *bs = broker_shard_of(node, call->shard);

    if (!bs->ready && !bs->draining) {
        call->ctx = NULL;
        if (bs->parked)
            bs->parked_last->ctx = call;
        else
            bs->parked = call;
        bs->parked_last = call;
        return;
    }
    if (!bs->ready)
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_ESHUTDOWN, "%s", error_sentence(CLYMQ_ESHUTDOWN));
    else if (handlers[call->method->id])
        handlers[call->method->id](bs, call);
    else
        net_call_fail(call, THRIFT_UNKNOWN_METHOD, CLYMQ_EUNSUPPORTED, "unknown method");
}

static struct net_call *unpark(struct broker_shard *bs)
{
    struct net_call *call = bs->parked;

    if (call)
        bs->parked = call->ctx;
    return call;
}

void broker_run_parked(struct broker_shard *bs)
{
    struct net_call *call;

    bs->ready = true;
    while ((call = unpark(bs)))
        broker_on_call(bs->node, call);
}

void broker_fail_parked(struct broker_shard *bs)
{
    struct net_call *call;

    bs->draining = true;
    while ((call = unpark(bs)))
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_ESHUTDOWN, "%s", error_sentence(CLYMQ_ESHUTDOWN));
}
