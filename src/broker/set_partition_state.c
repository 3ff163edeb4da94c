/* SetPartitionState: a partition's ack level (`option`) and number of replicas (`dupnum`; 0 leaves it). */
#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *set)
{
    coord_set_partition_state(coord, set->topic, set->partition, set->ack, set->replicas, coord_call_on_done,
                              set);
}

static void finish(struct request *request)
{
    struct coord_call *set = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_set_partition_state_response response = {.ret = true};

    if (coord_call_failed(set))
        return;
    response.err = BYTES_LITERAL("");
    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_set_partition_state(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_set_partition_state_request arguments;
    struct coord_call *set;

    if (!request_decode(call, &arguments))
        return;
    if (arguments.option < -1 || arguments.option > 1 || arguments.dupnum < 0) {
        net_call_fail(call, THRIFT_INTERNAL_ERROR, arguments.dupnum < 0 ? CLYMQ_EINVAL : CLYMQ_EACK_LEVEL,
                      "%s",
                      arguments.dupnum < 0 ? "the number of replicas cannot be negative"
                                           : error_sentence(CLYMQ_EACK_LEVEL));
        return;
    }
    set = coord_call_new(bs, call);
    if (!set)
        return;
    set->ack = arguments.option;
    set->replicas = (uint32_t)arguments.dupnum;
    coord_call_go(set, ACTION_ALTER, (struct coord_call_names){&arguments.topic, &arguments.partition}, ask,
                  finish);
}
