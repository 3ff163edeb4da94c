/* The JSON of the metadata nodes: see codec.h. Written by hand, in one fixed order, so that equal states give
 * equal bytes; read with jansson. */
#include "coord/codec.h"

#include <jansson.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

static const char *const registry_states[] = {"creating", "ready", "deleting"};
static const char *const block_states[] = {"creating", "open", "sealing", "sealed", "deleted"};

const char *coord_block_state_name(enum coord_block_state state)
{
    return block_states[state];
}

/* ---- writing ---- */

void codec_write_string(struct strbuf *out, const char *text)
{
    strbuf_append_text(out, "\"");
    const uint8_t *at = (const uint8_t *)text;
    while (*at) {
        size_t len = *at < 0x80 ? 1 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : 4;
        if (strnlen((const char *)at, len) < len || !utf8_valid(bytes_of(at, len))) {
            strbuf_append_text(out, "\xef\xbf\xbd");
            at++;
            continue;
        }
        if (*at == '"' || *at == '\\')
            strbuf_printf(out, "\\%c", *at);
        else if (*at < 0x20 || *at == 0x7f)
            strbuf_printf(out, "\\u%04x", *at);
        else
            strbuf_append(out, at, len);
        at += len;
    }
    strbuf_append_text(out, "\"");
}

static void write_id(struct strbuf *out, struct uuid id)
{
    char text[33];
    uuid_format(id, text);
    strbuf_printf(out, "\"%s\"", text);
}

void codec_write_cluster(struct strbuf *out, struct uuid id)
{
    strbuf_append_text(out, "{\"id\":");
    write_id(out, id);
    strbuf_printf(out, ",\"format\":%d}", CODEC_FORMAT);
}

void codec_write_epoch(struct strbuf *out, int64_t epoch)
{
    strbuf_printf(out, "{\"epoch\":%lld}", (long long)epoch);
}

void codec_write_coordinator(struct strbuf *out, const char *name, const char *address, int64_t epoch)
{
    strbuf_append_text(out, "{\"name\":");
    codec_write_string(out, name);
    strbuf_append_text(out, ",\"address\":");
    codec_write_string(out, address);
    strbuf_printf(out, ",\"epoch\":%lld}", (long long)epoch);
}

void codec_write_broker(struct strbuf *out, const struct coord_broker *broker)
{
    strbuf_append_text(out, "{\"address\":");
    codec_write_string(out, broker->address);
    strbuf_append_text(out, ",\"rack\":");
    codec_write_string(out, broker->rack);
    strbuf_append_text(out, ",\"disk\":");
    write_id(out, broker->disk_id);
    strbuf_append_text(out, "}");
}

void codec_write_config(struct strbuf *out, const struct coord_topic_config *config)
{
    const char *separator = "{";
#define X(name, smallest, greatest)                                                                          \
    if (config->name != COORD_OPTION_UNSET) {                                                                \
        strbuf_printf(out, "%s\"" #name "\":%lld", separator, (long long)config->name);                      \
        separator = ",";                                                                                     \
    }
    COORD_TOPIC_OPTIONS(X)
#undef X
    strbuf_append_text(out, *separator == '{' ? "{}" : "}");
}

void codec_write_topic(struct strbuf *out, struct uuid id, enum registry_state state, uint32_t next_number,
                       const struct coord_topic_config *config)
{
    strbuf_append_text(out, "{\"id\":");
    write_id(out, id);
    strbuf_printf(out, ",\"state\":\"%s\",\"next_number\":%u,\"config\":", registry_states[state],
                  next_number);
    codec_write_config(out, config);
    strbuf_append_text(out, "}");
}

void codec_write_partition(struct strbuf *out, const struct codec_partition *partition)
{
    strbuf_printf(out, "{\"number\":%u,\"state\":\"%s\"", partition->number,
                  registry_states[partition->state]);
    if (partition->ack != COORD_ACK_UNSET)
        strbuf_printf(out, ",\"ack\":%d", partition->ack);
    strbuf_printf(out, ",\"replicas\":%u}", partition->replicas);
}

void codec_write_block(struct strbuf *out, const struct coord_block *block, const char *leader)
{
    strbuf_append_text(out, "{\"id\":");
    write_id(out, block->id);
    strbuf_printf(out, ",\"state\":\"%s\",\"round\":%u", block_states[block->state], block->round);
    if (block->start >= 0)
        strbuf_printf(out, ",\"start\":%lld", (long long)block->start);
    if (block->end >= 0)
        strbuf_printf(out, ",\"end\":%lld", (long long)block->end);
    strbuf_printf(out, ",\"base_epoch\":%u,\"ack\":%d,\"leader\":", block->base_epoch, block->ack);
    codec_write_string(out, leader);
    strbuf_append_text(out, "}");
}

void codec_write_copy(struct strbuf *out, struct uuid disk_id)
{
    strbuf_append_text(out, "{\"disk\":");
    write_id(out, disk_id);
    strbuf_append_text(out, ",\"state\":\"voter\"}");
}

/* ---- reading ---- */

static json_t *load_object(struct bytes json)
{
    json_error_t why;
    json_t *object = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, &why);
    if (object && !json_is_object(object)) {
        json_decref(object);
        object = NULL;
    }
    return object;
}

static int read_id(const json_t *object, const char *key, struct uuid *ret_id)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_string(value) ||
        uuid_parse(bytes_of(json_string_value(value), json_string_length(value)), ret_id))
        return CLYMQ_ECORRUPT;
    return 0;
}

static int read_number(const json_t *object, const char *key, int64_t smallest, int64_t greatest,
                       int64_t *ret_number)
{
    const json_t *value = json_object_get(object, key);
    if (!json_is_integer(value) || json_integer_value(value) < smallest ||
        json_integer_value(value) > greatest)
        return CLYMQ_ECORRUPT;
    *ret_number = json_integer_value(value);
    return 0;
}

/* A number that may be missing: then it is absent. */
static int read_optional(const json_t *object, const char *key, int64_t smallest, int64_t greatest,
                         int64_t absent, int64_t *ret_number)
{
    if (!json_object_get(object, key)) {
        *ret_number = absent;
        return 0;
    }
    return read_number(object, key, smallest, greatest, ret_number);
}

static int read_word(const json_t *object, const char *key, const char *const *words, int count,
                     int *ret_word)
{
    const char *text = json_string_value(json_object_get(object, key));
    for (int i = 0; text && i < count; i++)
        if (strcmp(text, words[i]) == 0) {
            *ret_word = i;
            return 0;
        }
    return CLYMQ_ECORRUPT;
}

int codec_read_cluster(struct bytes json, struct uuid *ret_id)
{
    json_t *object = load_object(json);
    struct uuid id;
    int64_t format;
    int error = read_number(object, "format", 1, INT64_MAX, &format);
    if (!error && format > CODEC_FORMAT)
        error = CLYMQ_EFORMAT;
    if (!error)
        error = read_id(object, "id", &id);
    if (!error)
        *ret_id = id;
    json_decref(object);
    return error;
}

int codec_read_epoch(struct bytes json, int64_t *ret_epoch)
{
    json_t *object = load_object(json);
    int error = read_number(object, "epoch", 0, INT64_MAX - 1, ret_epoch);
    json_decref(object);
    return error;
}

int codec_read_broker(struct bytes json, struct registry_broker *broker)
{
    json_t *object = load_object(json);
    struct uuid disk;
    const char *address = json_string_value(json_object_get(object, "address"));
    const char *rack = json_string_value(json_object_get(object, "rack"));
    int error = read_id(object, "disk", &disk);
    if (!error)
        error = address && rack ? registry_set_broker(broker, address, rack, disk) : CLYMQ_ECORRUPT;
    json_decref(object);
    return error;
}

static void config_fill(struct coord_topic_config *config, int64_t value)
{
#define X(name, smallest, greatest) config->name = value;
    COORD_TOPIC_OPTIONS(X)
#undef X
}

static int set_option(struct coord_topic_config *config, const char *key, const json_t *value,
                      struct strbuf *why)
{
#define X(name, smallest, greatest)                                                                          \
    if (strcmp(key, #name) == 0) {                                                                           \
        config->name = COORD_OPTION_UNSET;                                                                   \
        if (json_is_null(value))                                                                             \
            return 0;                                                                                        \
        if (!json_is_integer(value) || json_integer_value(value) < (smallest) ||                             \
            json_integer_value(value) > (greatest)) {                                                        \
            strbuf_printf(why, "the option " #name " must be a whole number from %lld to %lld",              \
                          (long long)(smallest), (long long)(greatest));                                     \
            return CLYMQ_EINVAL;                                                                             \
        }                                                                                                    \
        config->name = json_integer_value(value);                                                            \
        return 0;                                                                                            \
    }
    COORD_TOPIC_OPTIONS(X)
#undef X
    strbuf_append_text(why, "unknown topic option ");
    codec_write_string(why, key);
    strbuf_append_text(why, ": there are"
#define X(name, smallest, greatest) " " #name
                       COORD_TOPIC_OPTIONS(X)
#undef X
    );
    return CLYMQ_EINVAL;
}

/* Options that the object does not name are `unnamed`. */
static int read_options(json_t *object, int64_t unnamed, struct coord_topic_config *ret_config,
                        struct strbuf *why)
{
    struct coord_topic_config config;
    config_fill(&config, unnamed);
    const char *key;
    json_t *value;
    json_object_foreach(object, key, value)
    {
        int error = set_option(&config, key, value, why);
        if (error)
            return error;
    }
    *ret_config = config;
    return 0;
}

static int read_config(struct bytes json, int64_t unnamed, struct coord_topic_config *ret_config,
                       struct strbuf *why)
{
    if (json.len == 0) {
        config_fill(ret_config, unnamed);
        return 0;
    }
    if (json.len > CODEC_CONFIG_BYTES_MAX) {
        strbuf_printf(why, "the topic options are longer than %d bytes", CODEC_CONFIG_BYTES_MAX);
        return CLYMQ_EINVAL;
    }
    json_error_t details;
    json_t *object = json_loadb((const char *)json.ptr, json.len, JSON_REJECT_DUPLICATES, &details);
    int error;
    if (!object) {
        strbuf_printf(why, "the topic options are no JSON: %s (line %d)", details.text, details.line);
        error = CLYMQ_EINVAL;
    } else if (!json_is_object(object)) {
        strbuf_append_text(why,
                           "the topic options must be a JSON object such as {\"retention_ms\":86400000}");
        error = CLYMQ_EINVAL;
    } else {
        error = read_options(object, unnamed, ret_config, why);
    }
    json_decref(object);
    return error;
}

int codec_read_config(struct bytes json, struct coord_topic_config *ret_config, struct strbuf *why)
{
    return read_config(json, COORD_OPTION_UNSET, ret_config, why);
}

int codec_read_config_change(struct bytes json, struct coord_topic_config *ret_change, struct strbuf *why)
{
    return read_config(json, CODEC_OPTION_KEPT, ret_change, why);
}

void codec_apply_config_change(const struct coord_topic_config *change, struct coord_topic_config *config)
{
#define X(name, smallest, greatest)                                                                          \
    if (change->name != CODEC_OPTION_KEPT)                                                                   \
        config->name = change->name;
    COORD_TOPIC_OPTIONS(X)
#undef X
}

int codec_read_topic(struct bytes json, struct codec_topic *ret_topic)
{
    json_t *object = load_object(json);
    struct codec_topic topic;
    struct strbuf why = {0};
    int64_t next_number;
    int state = 0;
    int error = read_id(object, "id", &topic.id);
    if (!error)
        error = read_word(object, "state", registry_states, 3, &state);
    if (!error)
        error = read_number(object, "next_number", 0, UINT32_MAX, &next_number);
    if (!error) {
        json_t *config = json_object_get(object, "config");
        error = json_is_object(config) ? read_options(config, COORD_OPTION_UNSET, &topic.config, &why)
                                       : CLYMQ_ECORRUPT;
    }
    strbuf_free(&why);
    json_decref(object);
    if (error)
        return CLYMQ_ECORRUPT;
    topic.state = (enum registry_state)state;
    topic.next_number = (uint32_t)next_number;
    *ret_topic = topic;
    return 0;
}

int codec_read_partition(struct bytes json, struct codec_partition *ret_partition)
{
    json_t *object = load_object(json);
    int64_t number, ack, replicas;
    int state = 0;
    int error = read_number(object, "number", 0, UINT32_MAX - 1, &number);
    if (!error)
        error = read_word(object, "state", registry_states, 3, &state);
    if (!error && state == STATE_CREATING)
        error = CLYMQ_ECORRUPT;
    if (!error)
        error = read_optional(object, "ack", -1, 1, COORD_ACK_UNSET, &ack);
    if (!error)
        error = read_number(object, "replicas", 1, COORD_REPLICAS_MAX, &replicas);
    json_decref(object);
    if (error)
        return error;
    *ret_partition =
        (struct codec_partition){(uint32_t)number, (enum registry_state)state, (int)ack, (uint32_t)replicas};
    return 0;
}

int codec_read_block(struct bytes json, struct coord_block *ret_block, char **ret_leader)
{
    json_t *object = load_object(json);
    struct coord_block block = {0};
    int64_t round, base_epoch, ack;
    int state = 0;
    int error = read_id(object, "id", &block.id);
    if (!error)
        error = read_word(object, "state", block_states, 5, &state);
    if (!error)
        error = read_number(object, "round", 0, UINT32_MAX - 1, &round);
    if (!error)
        error = read_optional(object, "start", 0, INT64_MAX, -1, &block.start);
    if (!error)
        error = read_optional(object, "end", 0, INT64_MAX, -1, &block.end);
    if (!error)
        error = read_number(object, "base_epoch", 0, INT32_MAX, &base_epoch);
    if (!error)
        error = read_number(object, "ack", -1, 1, &ack);
    /* Only a block that waits for the end of the one before it has no start; a sealed one has an end, and
     * only it. */
    if (!error && ((block.start < 0 && state != COORD_BLOCK_CREATING) ||
                   (state == COORD_BLOCK_SEALED && block.end < block.start) ||
                   (state <= COORD_BLOCK_SEALING && block.end >= 0)))
        error = CLYMQ_ECORRUPT;
    const char *leader = json_string_value(json_object_get(object, "leader"));
    if (!error && !leader)
        error = CLYMQ_ECORRUPT;
    char *leader_copy = error ? NULL : mem_strdup(leader);
    if (!error && !leader_copy)
        error = CLYMQ_ENOMEM;
    json_decref(object);
    if (error)
        return error;
    block.state = (uint8_t)state;
    block.round = (uint32_t)round;
    block.base_epoch = (uint32_t)base_epoch;
    block.ack = (int8_t)ack;
    *ret_block = block;
    *ret_leader = leader_copy;
    return 0;
}
