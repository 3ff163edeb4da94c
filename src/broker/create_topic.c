/* CreateTopic, with the growth fields: partitions made with it, replicas, ack level, options. ret=false only
 * where the topic exists; every other failure is an exception, since clients take ret=false without an error
 * for success. */
#include <stddef.h>

#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *create)
{
    struct coord_topic_request topic = {
        .name = create->topic,
        .partitions = create->partitions,
        .replicas = create->replicas,
        .ack = create->ack,
        .config = create->config,
    };

    coord_create_topic(coord, &topic, coord_call_on_created, create);
}

static void finish(struct request *request)
{
    struct coord_call *create = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_create_topic_response response = {
        .ret = !request->error,
        .err = bytes_of_text(coord_call_sentence(create)),
    };

    if (request->error != CLYMQ_EEXIST && coord_call_failed(create))
        return;
    request_answer(request, &response, NULL);
    request_free(request);
}

static bool has(const struct net_call *call, const struct rpc_create_topic_request *arguments, size_t field)
{
    return rpc_has(call->method->request, arguments, field);
}

void handle_create_topic(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_create_topic_request arguments;
    struct coord_call *create;

    if (!request_decode(call, &arguments))
        return;
    if (arguments.partitions < 0 || arguments.replicas < 0) {
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_EINVAL,
                      "the numbers of partitions and replicas cannot be negative");
        return;
    }
    create = coord_call_new(bs, call);
    if (!create)
        return;
    create->partitions = (uint32_t)arguments.partitions;
    create->replicas = (uint32_t)arguments.replicas;
    create->ack = has(call, &arguments, offsetof(struct rpc_create_topic_request, ack)) ? arguments.ack
                                                                                        : COORD_ACK_UNSET;
    create->config = arguments.config;
    coord_call_go(create, ACTION_CREATE, (struct coord_call_names){.topic = &arguments.topic}, ask, finish);
}
