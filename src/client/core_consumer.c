/* The consumer core's loop side: which partitions it reads, from where, and its life. How they are fetched is
 * consumer_fetch.c's, how what was fetched is taken apart consumer_reader.c's. */
#include "base/mem.h"
#include "client/consumer_state.h"

enum { TICK_MS = 1000 };

void core_consumer_config_defaults(struct core_consumer_config *config)
{
    *config = (struct core_consumer_config){
        .fetch_max_bytes = 1 << 20,
        .fetch_min_bytes = 1,
        .fetch_wait_ms = 500,
        .buffer_bytes = 8 << 20,
    };
}

static struct consumer_partition *partition_at(struct list *link)
{
    return CONTAINER_OF(link, struct consumer_partition, link);
}

void consumer_chunk_free(struct consumer_chunk *chunk)
{
    buf_unref(chunk->message);
    mem_free(chunk);
}

/* ---- assigning ---- */

static void partition_place(struct consumer_partition *partition, int64_t position)
{
    struct core_consumer *consumer = partition->consumer;
    consumer_lock(consumer);
    partition->position = position;
    partition->high_watermark = -1;
    partition->generation++;
    atomic_fetch_add_explicit(&consumer->placements, 1, memory_order_relaxed);
    partition->halted = false;
    partition->assigned = true;
    consumer_unlock(consumer);
    partition->placed = true;
    partition->attempts = partition->unknown = 0;
    partition->failing_since_ns = 0;
    io_timer_stop(consumer->core->loop, &partition->timer);
}

static void partition_found(struct core_call *call, int error, const void *answer, const char *sentence)
{
    struct consumer_partition *partition = call->ctx;
    const struct rpc_list_offset_response *response = answer;
    void (*done)(void *, int, int64_t, const char *) = partition->done;
    partition->done = NULL;
    int64_t position = -1;
    if (!error) {
        /* An offset that was asked for is used as it is: the server says whether it is in range when it is
         * read. */
        position = partition->at_offset >= 0 ? partition->at_offset : response->offset;
        partition_place(partition, position);
        partition->from_beginning = partition->at_offset == CLYMQ_OFFSET_BEGINNING;
        consumer_fetch(partition);
    }
    done(partition->done_ctx, error, position, sentence);
}

/* The key of a partition; '/' is in no name. */
static int partition_key(const char *topic, const char *partition, struct strbuf *key)
{
    strbuf_printf(key, "%s/%s", topic, partition);
    return key->failed ? CLYMQ_ENOMEM : 0;
}

static int partition_new(struct core_consumer *consumer, const char *topic, const char *name,
                         struct bytes key, struct consumer_partition **ret_partition)
{
    struct core_topic *known = core_topic_get(consumer->core, topic);
    struct consumer_partition *partition = known ? mem_zalloc(sizeof(*partition)) : NULL;
    if (!partition)
        return CLYMQ_ENOMEM;
    partition->name = mem_strdup(name);
    if (!partition->name || map_put(consumer->by_name, key, partition) != 0) {
        mem_free(partition->name);
        mem_free(partition);
        return CLYMQ_ENOMEM;
    }
    partition->consumer = consumer;
    partition->topic = known;
    partition->high_watermark = -1;
    consumer_fetch_init(partition);
    list_init(&partition->starving);
    list_init(&partition->woken);
    core_topic_watch_add(known, &partition->watch);
    consumer_lock(consumer);
    partition->index = consumer->partition_count++;
    list_push_back(&consumer->partitions, &partition->link);
    consumer_unlock(consumer);
    *ret_partition = partition;
    return 0;
}

int core_consumer_assign(struct core_consumer *consumer, const char *topic, const char *partition, int64_t at,
                         bool by_time,
                         void (*done)(void *ctx, int error, int64_t position, const char *sentence),
                         void *ctx)
{
    if (!by_time && at < 0 && at != CLYMQ_OFFSET_BEGINNING && at != CLYMQ_OFFSET_END)
        return CLYMQ_EINVAL;
    if (by_time && at < 0)
        return CLYMQ_EINVAL;
    struct strbuf key = {0};
    int error = partition_key(topic, partition, &key);
    struct consumer_partition *place = error ? NULL : map_get(consumer->by_name, bytes_of(key.data, key.len));
    if (!error && !place)
        error = partition_new(consumer, topic, partition, bytes_of(key.data, key.len), &place);
    strbuf_free(&key);
    if (error)
        return error;
    if (place->done)
        return CLYMQ_EBUSY;
    place->at_offset = by_time ? -1 : at;
    place->done = done;
    place->done_ctx = ctx;
    place->request = (struct rpc_list_offset_request){
        .topic = bytes_of_text(place->topic->name),
        .partition = bytes_of_text(place->name),
        /* For an offset too: that asks whether the partition is there and where. */
        .timestamp_ms = by_time || at < 0 ? at : CLYMQ_OFFSET_BEGINNING,
    };
    place->find = (struct core_call){
        .method = RPC_METHOD_LIST_OFFSET,
        .request = &place->request,
        .topic = place->topic->name,
        .partition = place->name,
        .unreachable_ms = CORE_UNREACHABLE_MS,
        .done = partition_found,
        .ctx = place,
    };
    error = core_call_start(consumer->core, &place->find);
    if (error)
        place->done = NULL;
    return error;
}

/* ---- life ---- */

void core_consumer_kick(struct core_consumer *consumer)
{
    if (consumer->freeing)
        return;
    for (;;) {
        consumer_lock(consumer);
        consumer->signalled = false;
        struct list *at = list_pop_front(&consumer->woken);
        struct consumer_partition *partition = at ? CONTAINER_OF(at, struct consumer_partition, woken) : NULL;
        bool resumed = partition && partition->resumed;
        if (partition)
            partition->resumed = false;
        consumer_unlock(consumer);
        if (!partition)
            break;
        if (!resumed)
            consumer_fetch(partition);
        else if (partition->placed && !partition->calling && !io_timer_armed(&partition->timer))
            consumer_again(partition);
    }
    consumer_feed(consumer);
}

/* Armed all the time, so that a kick never lacks memory for its timer; and once a second it makes good what
 * other timers could not be started for. */
static void consumer_tick(struct io_timer *timer)
{
    struct core_consumer *consumer = timer->ctx;
    (void)io_timer_start(consumer->core->loop, &consumer->tick, IO_MS(TICK_MS)); /* in the place just left */
    core_consumer_kick(consumer);
    consumer_follows_tick(consumer);
    LIST_FOR_EACH(at, &consumer->partitions)
        if (partition_at(at)->stuck)
            consumer_fetch(partition_at(at));
}

void consumer_wake_partition(struct consumer_partition *partition)
{
    if (list_empty(&partition->woken))
        list_push_back(&partition->consumer->woken, &partition->woken);
    consumer_signal(partition->consumer);
}

void consumer_signal(struct core_consumer *consumer)
{
    if (consumer->signalled || consumer->freeing)
        return;
    consumer->signalled = true;
    if (consumer->config.wake)
        consumer->config.wake(consumer->config.ctx);
    else
        (void)io_timer_start(consumer->core->loop, &consumer->tick, 0); /* armed already: cannot fail */
}

int core_consumer_new(struct core *core, const struct core_consumer_config *config,
                      struct core_consumer **ret_consumer)
{
    if (config->fetch_max_bytes < 1 || config->fetch_max_bytes > 1 << 30 || config->fetch_min_bytes < 0 ||
        config->fetch_min_bytes > config->fetch_max_bytes || config->fetch_wait_ms < 0 ||
        config->fetch_wait_ms > 600000 || config->buffer_bytes < 4096)
        return CLYMQ_EINVAL;
    struct core_consumer *consumer = mem_zalloc(sizeof(*consumer));
    if (!consumer)
        return CLYMQ_ENOMEM;
    consumer->core = core;
    consumer->config = *config;
    if (consumer->config.fetch_max_bytes > core->config.max_message_bytes) /* more would be refused */
        consumer->config.fetch_max_bytes = core->config.max_message_bytes;
    consumer->tick = (struct io_timer){.fire = consumer_tick, .ctx = consumer};
    consumer->by_name = map_new();
    int error =
        consumer->by_name ? io_timer_start(core->loop, &consumer->tick, IO_MS(TICK_MS)) : CLYMQ_ENOMEM;
    if (error) {
        map_free(consumer->by_name);
        mem_free(consumer);
        return error;
    }
    consumer->slot = core_slots_take(core, CONSUMER_LINKS);
    list_init(&consumer->partitions);
    list_init(&consumer->follows);
    list_init(&consumer->starving);
    list_init(&consumer->woken);
    list_init(&consumer->chunks);
    *ret_consumer = consumer;
    return 0;
}

void core_consumer_free(struct core_consumer *consumer)
{
    if (!consumer)
        return;
    consumer->freeing = true;
    io_timer_stop(consumer->core->loop, &consumer->tick);
    core_slots_drop(consumer->core, consumer->slot, CONSUMER_LINKS);
    consumer_follows_end(consumer);
    consumer_reader_end(consumer);
    struct list *at;
    while ((at = list_pop_front(&consumer->chunks)) != NULL)
        consumer_chunk_free(CONTAINER_OF(at, struct consumer_chunk, link));
    while ((at = list_pop_front(&consumer->partitions)) != NULL) {
        struct consumer_partition *partition = partition_at(at);
        core_call_cancel(&partition->find);
        core_topic_watch_remove(&partition->watch);
        io_timer_stop(consumer->core->loop, &partition->timer);
        mem_free(partition->name);
        mem_free(partition);
    }
    map_free(consumer->by_name);
    mem_free(consumer);
}

size_t core_consumer_buffered_bytes(struct core_consumer *consumer)
{
    consumer_lock(consumer);
    size_t bytes = consumer->used;
    consumer_unlock(consumer);
    return bytes;
}
