/* Links by server and slot: made when first used and again when used after they broke. Whoever used a broken
 * one learns of it through its calls and comes back after a pause of its own. */
#define LOG_MODULE "client"
#include "base/log.h"
#include "base/mem.h"
#include "client/core_state.h"

unsigned core_slots_take(struct core *core, unsigned count)
{
    unsigned first = core->next_slot;
    core->next_slot += count;
    return first;
}

static void core_link_free(struct core_link *link)
{
    struct net_link *net = link->net;
    link->net = NULL;
    net_link_free(net);
    mem_free(link->address);
    mem_free(link);
}

void core_slots_drop(struct core *core, unsigned first, unsigned count)
{
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(core->links, &at)) != NULL) {
        struct core_link *link = entry->value;
        if (link->slot < first || link->slot - first >= count)
            continue;
        map_remove(core->links, entry->key);
        core_link_free(link);
    }
}

struct core_link *core_link_get(struct core *core, const char *address, unsigned slot)
{
    struct strbuf key = {0};
    strbuf_printf(&key, "%u %s", slot, address);
    if (key.failed) {
        strbuf_free(&key);
        return NULL;
    }
    struct bytes name = bytes_of(key.data, key.len);
    struct core_link *link = map_get(core->links, name);
    if (!link && (link = mem_zalloc(sizeof(*link))) != NULL) {
        link->core = core;
        link->slot = slot;
        link->address = mem_strdup(address);
        if (!link->address || map_put(core->links, name, link) != 0) {
            mem_free(link->address);
            mem_free(link);
            link = NULL;
        }
    }
    strbuf_free(&key);
    return link;
}

static void core_link_closed(void *ctx, int error)
{
    struct core_link *link = ctx;
    struct net_link *net = link->net;
    log_debug("the connection to %s is closed: %s", link->address, error_sentence(error));
    link->net = NULL;
    net_link_free(net);
}

int core_link_call(struct core_link *link, enum rpc_method_id method, const void *request,
                   const struct slice *payload, int64_t timeout_ms, net_answer_callback done, void *ctx)
{
    if (!link->net) {
        log_debug("connecting to %s", link->address);
        struct net_link_config config = {
            .address = link->address,
            .connect_ms = link->core->config.connect_timeout_ms,
            /* An answer holds a message and some more. */
            .max_message_bytes = link->core->config.max_message_bytes + (1 << 20),
            .on_closed = core_link_closed,
            .ctx = link,
        };
        int error = net_link_new(link->core->loop, &config, &link->net);
        if (error)
            return error;
    }
    return net_link_call(link->net, method, request, payload, timeout_ms, done, ctx);
}

bool core_error_is_transport(const struct net_answer *answer)
{
    return answer->error != 0 && answer->exception_type == 0;
}

const char core_own_limit_sentence[] =
    "the answer is longer than this client allows: raise its option max_message_bytes";

bool core_error_is_own_limit(const struct net_answer *answer)
{
    return core_error_is_transport(answer) && answer->error == CLYMQ_ETOOBIG;
}

/* Where a server tells no number, an exception says no more than whether the call was understood. */
static int exception_number(const struct net_answer *answer)
{
    if (answer->exception_error < 0)
        return answer->exception_error;
    return answer->exception_type == THRIFT_UNKNOWN_METHOD   ? CLYMQ_EUNSUPPORTED
           : answer->exception_type == THRIFT_PROTOCOL_ERROR ? CLYMQ_EPROTO
                                                             : CLYMQ_EUNCERTAIN;
}

int core_answer_error(enum rpc_method_id method, const struct net_answer *answer, struct bytes *ret_sentence)
{
    *ret_sentence = answer->error ? answer->text : bytes_of(NULL, 0);
    if (answer->exception_type)
        return exception_number(answer);
    if (core_error_is_own_limit(answer))
        *ret_sentence = bytes_of_text(core_own_limit_sentence);
    if (answer->error)
        return answer->error;
    switch (method) {
#define NUMBERED(METHOD, name)                                                                               \
    case RPC_METHOD_##METHOD: {                                                                              \
        const struct rpc_##name##_response *response = answer->response;                                     \
        *ret_sentence = response->err;                                                                       \
        /* A newer server may know numbers that we do not: they are failures all the same. */                \
        return response->error <= 0 ? response->error : CLYMQ_EPROTO;                                        \
    }
        NUMBERED(PUSH_BATCH, push_batch)
        NUMBERED(PULL_BATCH, pull_batch)
        NUMBERED(LIST_OFFSET, list_offset)
        NUMBERED(LIST_TOPICS, list_topics)
        NUMBERED(DESCRIBE_TOPIC, describe_topic)
        NUMBERED(DELETE_TOPIC, delete_topic)
        NUMBERED(DELETE_PART, delete_part)
        NUMBERED(SET_TOPIC_CONFIG, set_topic_config)
#undef NUMBERED
#define CREATING(METHOD, name, failure)                                                                      \
    case RPC_METHOD_##METHOD: {                                                                              \
        const struct rpc_##name##_response *response = answer->response;                                     \
        *ret_sentence = response->err;                                                                       \
        return response->ret ? 0 : failure;                                                                  \
    }
        CREATING(CREATE_TOPIC, create_topic, CLYMQ_EEXIST)
        CREATING(CREATE_PART, create_part, CLYMQ_EEXIST)
        CREATING(SET_PARTITION_STATE, set_partition_state, CLYMQ_EINVAL)
#undef CREATING
    default:
        return 0;
    }
}
