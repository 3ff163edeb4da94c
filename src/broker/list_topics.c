/* listTopics: the topics whose names begin with a prefix, as JSON. */
#include <stdio.h>

#include "base/error.h"
#include "broker/coord_call.h"

static void ask(struct coord *coord, struct coord_call *list)
{
    coord_list_topics(coord, list->topic, coord_call_on_text, list);
}

static void finish(struct request *request)
{
    struct coord_call *list = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_list_topics_response response = {
        .error = request->error,
        .err = bytes_of_text(coord_call_sentence(list)),
        .topics = {NULL, list->text.len},
    };

    coord_call_answer_text(list, &response);
}

/* No names themselves, but names may begin so. */
static bool is_dots(struct bytes prefix)
{
    return bytes_equal(prefix, BYTES_LITERAL(".")) || bytes_equal(prefix, BYTES_LITERAL(".."));
}

void handle_list_topics(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_list_topics_request arguments;
    struct coord_call *list;
    bool is_name;

    if (!request_decode(call, &arguments))
        return;
    list = coord_call_new(bs, call);
    if (!list)
        return;
    list->large = true;
    is_name = arguments.prefix.len > 0 && !is_dots(arguments.prefix);
    if (!is_name)
        snprintf(list->topic, sizeof(list->topic), "%.*s", (int)arguments.prefix.len, arguments.prefix.ptr);
    coord_call_go(list, ACTION_DESCRIBE,
                  (struct coord_call_names){.topic = is_name ? &arguments.prefix : NULL}, ask, finish);
}
