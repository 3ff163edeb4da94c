/* ConStartGetBroker: where a consumer finds its partition, as the JSON document of the RPC contract. With
 * PSB_PULL that is the one asked for, from the offset asked for. The other kinds come with subscriptions. */
#include <inttypes.h>

#include "base/error.h"
#include "broker/coord_call.h"
#include "broker/json_write.h"
#include "broker/subscription_option.h"

static void write_part(struct strbuf *json, const struct coord_location *location, int64_t offset)
{
    bool usable = !location->error;

    strbuf_append_text(json, "{\"name\":");
    json_write_string(json, bytes_of_text(location->partition));
    strbuf_append_text(json, ",\"brokername\":");
    json_write_string(json, bytes_of_text(usable ? location->leader.broker_name : ""));
    strbuf_append_text(json, ",\"brokerhp\":");
    json_write_string(json, bytes_of_text(usable ? location->leader.address : ""));
    strbuf_printf(json, ",\"offset\":%" PRId64 ",\"err\":", offset);
    json_write_string(json, bytes_of_text(usable ? "ok" : location->sentence));
    strbuf_append_text(json, "}");
}

static void on_found(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                     size_t count)
{
    struct coord_call *get = ctx;

    if (!error) {
        strbuf_append_text(&get->text, "{\"partkeys\":[");
        for (size_t i = 0; i < count; i++) {
            if (i)
                strbuf_append_text(&get->text, ",");
            write_part(&get->text, &locations[i], get->index);
        }
        strbuf_append_text(&get->text, "]}");
        get->count = count;
        if (get->text.failed)
            error = CLYMQ_ENOMEM;
    }
    coord_call_return(get, error, sentence);
}

static void ask(struct coord *coord, struct coord_call *get)
{
    const struct broker_tuning *tuning = &get->base.owner->tuning;

    coord_find_leaders(coord, get->topic, get->partition, (uint32_t)tuning->push_wait_ms, on_found, get);
}

static void finish(struct request *request)
{
    struct coord_call *get = CONTAINER_OF(request, struct coord_call, base);
    struct rpc_con_start_get_brok_response response = {
        .ret = true,
        .size = (int64_t)get->count,
        .parts = {(const uint8_t *)get->text.data, get->text.len},
    };

    if (coord_call_failed(get))
        return;
    request_answer(request, &response, NULL);
    request_free(request);
}

void handle_con_start_get_broker(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_con_start_get_brok_request arguments;
    struct coord_call *get;

    if (!request_decode(call, &arguments))
        return;
    if (subscription_option_refused(call, arguments.option))
        return;
    get = coord_call_new(bs, call);
    if (!get)
        return;
    get->index = arguments.index;
    coord_call_go(get, ACTION_PULL, (struct coord_call_names){&arguments.topic, &arguments.partition}, ask,
                  finish);
}
