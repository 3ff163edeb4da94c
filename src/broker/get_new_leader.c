/* GetNewLeader: which broker leads a partition now, asked by consumers that came to a block's end or lost
 * their broker. The block's name is not needed: whoever serves the partition serves its whole chain. */
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *get)
{
    const struct broker_tuning *tuning = &get->base.owner->tuning;

    coord_find_leaders(coord, get->topic, get->partition, (uint32_t)tuning->push_wait_ms,
                       coord_call_on_leader, get);
}

static void finish(struct request *request)
{
    struct coord_call *get = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_get_new_leader_response response = {
        .ret = true,
        .leader_broker = bytes_of_text(get->broker_name),
        .host_port = bytes_of_text(get->address),
    };

    if (coord_call_failed(get))
        return;
    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_get_new_leader(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_get_new_leader_request arguments;
    struct coord_call *get;

    if (!request_decode(call, &arguments))
        return;
    get = coord_call_new(bs, call);
    if (get)
        coord_call_go(get, ACTION_DESCRIBE, (struct coord_call_names){&arguments.topic, &arguments.partition},
                      ask, finish);
}
