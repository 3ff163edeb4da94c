/* The core's own life: its list of coordinators, its back-off, and the order in which its parts end. */
#include <stdlib.h>

#include "base/mem.h"
#include "client/core_state.h"

void core_config_defaults(struct core_config *config)
{
    *config = (struct core_config){
        .coordinators = "127.0.0.1:7878",
        .request_timeout_ms = 30000,
        .connect_timeout_ms = 10000,
        .retry_backoff_ms = 100,
        .retry_backoff_max_ms = 1000,
        .metadata_max_age_ms = 300000,
        .max_message_bytes = 16 << 20,
    };
}

/* One address of the list, trimmed, with the default port where it has none. NULL: out of memory. */
static char *coordinator_address(struct bytes text)
{
    const char *colon = memrchr(text.ptr, ':', text.len);
    const char *bracket = memrchr(text.ptr, ']', text.len);
    bool has_port = colon && (!bracket || colon > bracket);
    struct strbuf address = {0};
    strbuf_append(&address, text.ptr, text.len);
    if (!has_port)
        strbuf_append_text(&address, ":7878");
    if (address.failed) {
        strbuf_free(&address);
        return NULL;
    }
    return address.data;
}

/* Takes the next address off *list, which is NULL after the last one. */
static struct bytes coordinator_next(const char **list)
{
    const char *at = *list;
    while (*at == ' ' || *at == '\t')
        at++;
    const char *comma = strchr(at, ',');
    const char *end = comma ? comma : at + strlen(at);
    *list = comma ? comma + 1 : NULL;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return bytes_of(at, (size_t)(end - at));
}

static bool coordinator_is_sound(struct bytes text)
{
    if (text.len == 0 || text.len > 512)
        return false;
    for (size_t i = 0; i < text.len; i++)
        if (text.ptr[i] <= ' ' || text.ptr[i] == '/' || text.ptr[i] == 0x7f)
            return false;
    if (text.ptr[0] == ':')
        return false;
    const uint8_t *colon = memrchr(text.ptr, ':', text.len);
    const uint8_t *bracket = memrchr(text.ptr, ']', text.len);
    if (!colon || (bracket && colon < bracket))
        return true;
    size_t digits = (size_t)(text.ptr + text.len - colon - 1);
    if (digits == 0 || digits > 5)
        return false;
    unsigned port = 0;
    for (const uint8_t *at = colon + 1; at < text.ptr + text.len; at++) {
        if (*at < '0' || *at > '9')
            return false;
        port = port * 10 + (*at - '0');
    }
    return port > 0 && port < 65536;
}

int core_check_coordinators(const char *coordinators)
{
    const char *at = coordinators;
    do {
        if (!coordinator_is_sound(coordinator_next(&at)))
            return CLYMQ_EINVAL;
    } while (at);
    return 0;
}

static int core_parse_coordinators(struct core *core, const char *coordinators)
{
    size_t cap = 1;
    for (const char *at = coordinators; *at; at++)
        cap += *at == ',';
    core->coordinators = mem_calloc(cap, sizeof(*core->coordinators));
    if (!core->coordinators)
        return CLYMQ_ENOMEM;
    const char *at = coordinators;
    do {
        char *address = coordinator_address(coordinator_next(&at));
        if (!address)
            return CLYMQ_ENOMEM;
        core->coordinators[core->coordinator_count++] = address;
    } while (at && core->coordinator_count < cap);
    return 0;
}

int core_new(struct io_loop *loop, const struct core_config *config, struct core **ret_core)
{
    int error = core_check_coordinators(config->coordinators);
    if (error)
        return error;
    struct core *core = mem_zalloc(sizeof(*core));
    if (!core)
        return CLYMQ_ENOMEM;
    core->loop = loop;
    core->config = *config;
    core->config.coordinators = NULL;
    core->next_slot = 1;
    list_init(&core->calls);
    uint64_t seed;
    io_loop_random(loop, &seed, sizeof(seed));
    rng_seed(&core->rng, seed);
    core->links = map_new();
    core->topics = map_new();
    error = core->links && core->topics ? core_parse_coordinators(core, config->coordinators) : CLYMQ_ENOMEM;
    if (error) {
        core_free(core);
        return error;
    }
    /* Not every client of a big cluster begins with the same one. */
    core->coordinator_at = (size_t)rng_below(&core->rng, core->coordinator_count);
    *ret_core = core;
    return 0;
}

void core_free(struct core *core)
{
    if (!core)
        return;
    core->freeing = true;
    LIST_FOR_EACH_SAFE(at, &core->calls) {
        struct core_call *call = CONTAINER_OF(at, struct core_call, link);
        core_call_cancel(call);
        call->done(call, CLYMQ_ECANCELED, NULL, error_sentence(CLYMQ_ECANCELED));
    }
    if (core->links)
        core_slots_drop(core, 0, core->next_slot);
    size_t at = 0;
    struct map_entry *entry;
    while (core->topics && (entry = map_next(core->topics, &at)) != NULL)
        core_topic_free(entry->value);
    map_free(core->topics);
    map_free(core->links);
    for (size_t i = 0; i < core->coordinator_count; i++)
        mem_free(core->coordinators[i]);
    mem_free(core->coordinators);
    mem_free(core);
}

uint64_t core_backoff_ns(struct core *core, unsigned attempts)
{
    int64_t ms = core->config.retry_backoff_ms;
    for (unsigned i = 1; i < attempts && ms < core->config.retry_backoff_max_ms; i++)
        ms *= 2;
    if (ms > core->config.retry_backoff_max_ms)
        ms = core->config.retry_backoff_max_ms;
    uint64_t ns = IO_MS(ms);
    return ns / 2 + rng_below(&core->rng, ns / 2 + 1);
}
