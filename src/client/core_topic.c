/* The metadata cache: each topic's partitions and their leaders, as the coordinator's describeTopic told
 * last. Kept fresh while somebody watches, and asked for again whenever a server turns out not to be where we
 * thought. */
#define LOG_MODULE "client"
#include <assert.h>
#include <jansson.h>
#include <stdlib.h>

#include "base/log.h"
#include "base/mem.h"
#include "client/core_state.h"

static void partitions_free(struct core_partition *partitions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        mem_free(partitions[i].name);
        mem_free(partitions[i].leader);
    }
    mem_free(partitions);
}

static int partition_compare(const void *a, const void *b)
{
    const struct core_partition *left = a, *right = b;
    return left->number < right->number ? -1 : left->number > right->number;
}

/* One element of "partitions" (docs/metadata.md). */
static int partition_read(const json_t *json, struct core_partition *ret_partition)
{
    const json_t *name = json_object_get(json, "name"), *number = json_object_get(json, "number");
    if (!json_is_string(name) || !json_is_integer(number) || json_integer_value(number) < 0 ||
        json_integer_value(number) > UINT32_MAX)
        return CLYMQ_EPROTO;
    const char *leader = json_string_value(json_object_get(json_object_get(json, "leader"), "address"));
    struct core_partition partition = {
        .number = (uint32_t)json_integer_value(number),
        .name = mem_strdup(json_string_value(name)),
        .leader = leader && leader[0] ? mem_strdup(leader) : NULL,
    };
    if (!partition.name || (leader && leader[0] && !partition.leader)) {
        mem_free(partition.name);
        mem_free(partition.leader);
        return CLYMQ_ENOMEM;
    }
    *ret_partition = partition;
    return 0;
}

static int partitions_read(struct bytes text, struct core_partition **ret_partitions, size_t *ret_count)
{
    json_t *root = json_loadb((const char *)text.ptr, text.len, 0, NULL);
    const json_t *array = json_object_get(root, "partitions");
    size_t count = json_array_size(array), read = 0;
    int error = json_is_array(array) ? 0 : CLYMQ_EPROTO;
    struct core_partition *partitions = NULL;
    if (!error && !(partitions = mem_calloc(count ? count : 1, sizeof(*partitions))))
        error = CLYMQ_ENOMEM;
    while (!error && read < count) {
        error = partition_read(json_array_get(array, read), &partitions[read]);
        if (!error)
            read++;
    }
    json_decref(root);
    if (error) {
        partitions_free(partitions, read);
        return error;
    }
    qsort(partitions, count, sizeof(*partitions), partition_compare);
    *ret_partitions = partitions;
    *ret_count = count;
    return 0;
}

static void topic_arm_refresh(struct core_topic *topic, uint64_t delay_ns)
{
    /* Without memory for a timer the next user that misses something asks again. */
    (void)io_timer_start(topic->core->loop, &topic->timer, delay_ns);
}

static void topic_finish(struct core_topic *topic, int error)
{
    log_debug("metadata of topic %s: %zu partitions; %s", topic->name, topic->count, error_sentence(error));
    topic->calling = false;
    topic->error = error;
    topic->unknown = error == CLYMQ_ETOPIC_UNKNOWN ? topic->unknown + 1 : error ? topic->unknown : 0;
    topic->version++;
    topic->finished_ns = io_loop_now_ns(topic->core->loop);
    if (!error && !list_empty(&topic->watches))
        topic_arm_refresh(topic, IO_MS(topic->core->config.metadata_max_age_ms));
    LIST_FOR_EACH_SAFE(at, &topic->watches) {
        struct core_topic_watch *watch = CONTAINER_OF(at, struct core_topic_watch, link);
        watch->changed(watch);
    }
}

static void topic_described(struct core_call *call, int error, const void *answer, const char *sentence)
{
    struct core_topic *topic = call->ctx;
    if (topic->core->freeing)
        return;
    const struct rpc_describe_topic_response *response = answer;
    struct core_partition *partitions = NULL;
    size_t count = 0;
    if (!error)
        error = partitions_read(response->topic, &partitions, &count);
    if (!error) {
        partitions_free(topic->partitions, topic->count);
        topic->partitions = partitions;
        topic->count = count;
        topic->known = true;
    }
    topic_finish(topic, error);
}

static void topic_ask(struct core_topic *topic)
{
    topic->request = (struct rpc_describe_topic_request){.topic = bytes_of_text(topic->name)};
    topic->call = (struct core_call){
        .method = RPC_METHOD_DESCRIBE_TOPIC,
        .request = &topic->request,
        .done = topic_described,
        .ctx = topic,
    };
    topic->calling = true;
    if (core_call_start(topic->core, &topic->call) != 0)
        topic->calling = false;
}

static void topic_timer(struct io_timer *timer)
{
    struct core_topic *topic = timer->ctx;
    if (!topic->calling)
        topic_ask(topic);
}

void core_topic_refresh(struct core_topic *topic)
{
    struct core *core = topic->core;
    if (topic->calling || core->freeing)
        return;
    uint64_t now_ns = io_loop_now_ns(core->loop), pause_ns = IO_MS(core->config.retry_backoff_ms);
    if (topic->version == 0 || now_ns >= topic->finished_ns + pause_ns) {
        io_timer_stop(core->loop, &topic->timer);
        topic_ask(topic);
    } else {
        topic_arm_refresh(topic, topic->finished_ns + pause_ns - now_ns);
    }
}

struct core_topic *core_topic_get(struct core *core, const char *name)
{
    struct core_topic *topic = map_get(core->topics, bytes_of_text(name));
    if (topic)
        return topic;
    topic = mem_zalloc(sizeof(*topic));
    if (!topic)
        return NULL;
    topic->core = core;
    topic->name = mem_strdup(name);
    topic->timer = (struct io_timer){.fire = topic_timer, .ctx = topic};
    list_init(&topic->watches);
    if (!topic->name || map_put(core->topics, bytes_of_text(name), topic) != 0) {
        mem_free(topic->name);
        mem_free(topic);
        return NULL;
    }
    return topic;
}

void core_topic_watch_add(struct core_topic *topic, struct core_topic_watch *watch)
{
    list_push_back(&topic->watches, &watch->link);
}

void core_topic_watch_remove(struct core_topic_watch *watch)
{
    if (watch->link.next)
        list_remove(&watch->link);
}

const struct core_partition *core_topic_find(const struct core_topic *topic, const char *partition)
{
    for (size_t i = 0; i < topic->count; i++)
        if (strcmp(topic->partitions[i].name, partition) == 0)
            return &topic->partitions[i];
    return NULL;
}

const struct core_partition *core_topic_find_near(const struct core_topic *topic, const char *partition,
                                                  size_t *place)
{
    if (*place < topic->count && strcmp(topic->partitions[*place].name, partition) == 0)
        return &topic->partitions[*place];
    const struct core_partition *found = core_topic_find(topic, partition);
    if (found)
        *place = (size_t)(found - topic->partitions);
    return found;
}

void core_topic_free(struct core_topic *topic)
{
    assert(topic->core->freeing);
    io_timer_stop(topic->core->loop, &topic->timer);
    partitions_free(topic->partitions, topic->count);
    mem_free(topic->name);
    mem_free(topic);
}
