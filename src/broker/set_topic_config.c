/* setTopicConfig: changes some of a topic's options; the others stay as they are. */
#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *set)
{
    coord_set_topic_config(coord, set->topic, set->config, coord_call_on_done, set);
}

static void finish(struct request *request)
{
    struct coord_call *set = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_set_topic_config_response response = {
        .error = request->error,
        .err = bytes_of_text(coord_call_sentence(set)),
    };

    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_set_topic_config(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_set_topic_config_request arguments;
    struct coord_call *set;

    if (!request_decode(call, &arguments))
        return;
    set = coord_call_new(bs, call);
    if (!set)
        return;
    set->config = arguments.config;
    coord_call_go(set, ACTION_ALTER, (struct coord_call_names){.topic = &arguments.topic}, ask, finish);
}
