/* deletePart: one partition and its messages. */
#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *gone)
{
    coord_delete_partition(coord, gone->topic, gone->partition, coord_call_on_done, gone);
}

static void finish(struct request *request)
{
    struct coord_call *gone = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_delete_part_response response = {
        .error = request->error,
        .err = bytes_of_text(coord_call_sentence(gone)),
    };

    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_delete_part(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_delete_part_request arguments;
    struct coord_call *gone;

    if (!request_decode(call, &arguments))
        return;
    gone = coord_call_new(bs, call);
    if (gone)
        coord_call_go(gone, ACTION_DELETE, (struct coord_call_names){&arguments.topic, &arguments.partition},
                      ask, finish);
}
