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

/* What is found and read while partitions are being opened. The rest changes the metadata, which is the
 * coordinator's again once this broker is registered. */
static bool runs_while_opening(const struct rpc_method *method)
{
    switch (method->id) {
    case RPC_METHOD_PRO_GET_BROK:
    case RPC_METHOD_CON_START_GET_BROK:
    case RPC_METHOD_GET_NEW_LEADER:
    case RPC_METHOD_LIST_TOPICS:
    case RPC_METHOD_DESCRIBE_TOPIC:
        return true;
    default:
        return method->service == RPC_BROKER;
    }
}

static void refuse(struct net_call *call, int error)
{
    net_call_fail(call, THRIFT_INTERNAL_ERROR, error, "%s", error_sentence(error));
}

static void wait_for_phase(struct broker_shard *bs, struct net_call *call)
{
    int error = bs->draining ? CLYMQ_ESHUTDOWN : early_calls_add(&bs->early, call);

    if (error)
        refuse(call, error);
}

void broker_on_call(void *ctx, struct net_call *call)
{
    struct broker_node *node = ctx;
    struct broker_shard *bs = broker_shard_of(node, call->shard);

    if (bs->phase == BROKER_CLOSED || (bs->phase == BROKER_OPENING && !runs_while_opening(call->method)))
        wait_for_phase(bs, call);
    else if (handlers[call->method->id])
        handlers[call->method->id](bs, call);
    else
        net_call_fail(call, THRIFT_UNKNOWN_METHOD, CLYMQ_EUNSUPPORTED, "unknown method");
}

void broker_wait_for_partition(struct broker_shard *bs, uint64_t hash, struct net_call *call)
{
    int error = bs->draining ? CLYMQ_ESHUTDOWN : early_calls_add_waiting(&bs->early, hash, call);

    if (error)
        refuse(call, error);
}

void broker_enter_phase(struct broker_shard *bs, enum broker_phase phase)
{
    bs->phase = phase;
    early_calls_run_all(&bs->early, broker_on_call, bs->node);
}

void broker_run_waiting(struct broker_shard *bs, uint64_t hash)
{
    early_calls_run_waiting(&bs->early, hash, broker_on_call, bs->node);
}

static void refuse_early(void *ctx, struct net_call *call)
{
    refuse(call, CLYMQ_ESHUTDOWN);
}

void broker_refuse_early(struct broker_shard *bs)
{
    bs->draining = true;
    early_calls_run_all(&bs->early, refuse_early, NULL);
}
