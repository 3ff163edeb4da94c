/* CreatePart: a partition of a given name. ret=false only where it exists. */
#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *create)
{
    coord_create_partition(coord, create->topic, create->partition, coord_call_on_created, create);
}

static void finish(struct request *request)
{
    struct coord_call *create = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_create_part_response response = {
        .ret = !request->error,
        .err = bytes_of_text(coord_call_sentence(create)),
    };

    if (request->error != CLYMQ_EEXIST && coord_call_failed(create))
        return;
    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_create_part(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_create_part_request arguments;
    struct coord_call *create;

    if (!request_decode(call, &arguments))
        return;
    create = coord_call_new(bs, call);
    if (create)
        coord_call_go(create, ACTION_CREATE,
                      (struct coord_call_names){&arguments.topic, &arguments.partition}, ask, finish);
}
