/* describeTopic: one topic with its options, partitions and chains of blocks, as JSON. */
#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *describe)
{
    coord_describe_topic(coord, describe->topic, coord_call_on_text, describe);
}

static void finish(struct request *request)
{
    struct coord_call *describe = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_describe_topic_response response = {
        .error = request->error,
        .err = bytes_of_text(coord_call_sentence(describe)),
        .topic = {NULL, describe->text.len},
    };

    coord_call_answer_text(describe, &response);
}

void handle_describe_topic(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_describe_topic_request arguments;
    struct coord_call *describe;

    if (!request_decode(call, &arguments))
        return;
    describe = coord_call_new(bs, call);
    if (!describe)
        return;
    describe->large = true;
    coord_call_go(describe, ACTION_DESCRIBE, (struct coord_call_names){.topic = &arguments.topic}, ask,
                  finish);
}
