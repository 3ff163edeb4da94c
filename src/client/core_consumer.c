/* The consumer core's loop side: one fetch after the other per partition, with prefetch bounded by
 * buffer_bytes.
 *
 * What was fetched waits as chunks, each the bytes of one answer, in one queue of all partitions;
 * consumer_reader.c takes them apart. A partition asks for more while its own chunks hold less than one
 * fetch's worth and the buffer has room; those that find no room wait in line. Calls on a connection are
 * answered in order and an empty pull may wait: so partitions use links of their own, LINKS of them, and
 * share them without waiting when there are more partitions than links. */
#include <assert.h>

#include "base/mem.h"
#include "client/consumer_state.h"

enum {
    LINKS = 16,
    FETCH_LEAST = 16384,
    TICK_MS = 1000,
    IDLE_FIRST_MS = 2, /* pause after an empty answer that did not wait */
};

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

/* ---- fetching ---- */

static size_t fetch_size(const struct consumer_partition *partition)
{
    const struct core_consumer *consumer = partition->consumer;
    int64_t share = consumer->config.buffer_bytes / (int64_t)(2 * consumer->partition_count);
    int64_t size = consumer->config.fetch_max_bytes;
    if (share < size)
        size = share > FETCH_LEAST ? share : FETCH_LEAST;
    /* A batch bigger than that is given whole. */
    return (size_t)(size < consumer->config.fetch_max_bytes ? size : consumer->config.fetch_max_bytes);
}

static void partition_pause(struct consumer_partition *partition, uint64_t delay_ns)
{
    if (io_timer_start(partition->consumer->core->loop, &partition->timer, delay_ns) != 0)
        partition->stuck = true; /* no memory: the next kick goes on */
}

static void partition_again(struct consumer_partition *partition)
{
    partition->attempts++;
    partition_pause(partition, core_backoff_ns(partition->consumer->core, partition->attempts));
}

/* An error for the reader; the partition waits until it was read. */
static void partition_report(struct consumer_partition *partition, int error)
{
    struct core_consumer *consumer = partition->consumer;
    struct consumer_chunk *chunk = mem_zalloc(sizeof(*chunk));
    if (!chunk) {
        partition_again(partition);
        return;
    }
    chunk->partition = partition;
    chunk->error = error;
    consumer_lock(consumer);
    chunk->wanted = partition->position;
    chunk->generation = partition->generation;
    partition->halted = true;
    list_push_back(&consumer->chunks, &chunk->link);
    if (consumer->config.on_ready)
        consumer->config.on_ready(consumer->config.ctx);
    consumer_unlock(consumer);
}

/* A failure that may pass: again after a pause; told when it has lasted. */
static void partition_failed(struct consumer_partition *partition, int error)
{
    struct core *core = partition->consumer->core;
    uint64_t now_ns = io_loop_now_ns(core->loop);
    if (!partition->failing_since_ns)
        partition->failing_since_ns = now_ns;
    partition->attempts++;
    core_topic_refresh(partition->topic);
    if (now_ns - partition->failing_since_ns >= IO_MS(core->config.request_timeout_ms)) {
        partition->failing_since_ns = now_ns;
        partition_report(partition, error);
        return;
    }
    partition_pause(partition, core_backoff_ns(core, partition->attempts));
}

/* Where the next fetch goes on: behind the last whole batch. */
static int64_t chunk_end(struct bytes batches, int64_t wanted, size_t *ret_whole)
{
    struct bytes rest = batches;
    struct batch_header header;
    int64_t end = wanted;
    while (rest.len && batch_read_header(rest, UINT32_MAX, &header) == 0) {
        if (batch_last_offset(&header) + 1 > end)
            end = batch_last_offset(&header) + 1;
        rest = bytes_of(rest.ptr + header.size, rest.len - header.size);
    }
    *ret_whole = batches.len - rest.len;
    return end;
}

static void partition_store(struct consumer_partition *partition, struct consumer_chunk *chunk,
                            const struct net_answer *answer)
{
    const struct rpc_pull_batch_response *response = answer->response;
    struct core_consumer *consumer = partition->consumer;
    size_t whole = 0;
    int64_t end = chunk_end(response->batches, partition->asked_offset, &whole);
    bool empty = whole == 0;
    if (empty && response->batches.len) { /* not one whole batch: damaged */
        mem_free(chunk);
        partition_report(partition, CLYMQ_ECORRUPT);
        return;
    }
    partition->from_beginning &= empty;
    consumer_lock(consumer);
    /* The reader may have sent the partition back meanwhile. */
    bool current = partition->asked_generation == partition->generation;
    if (current)
        partition->high_watermark = response->high_watermark;
    if (empty || !current) {
        mem_free(chunk);
    } else {
        chunk->partition = partition;
        chunk->generation = partition->asked_generation;
        chunk->wanted = partition->asked_offset;
        chunk->batches = bytes_of(response->batches.ptr, whole);
        chunk->message = buf_ref(answer->message);
        chunk->charged = sizeof(*chunk) + answer->message->cap;
        consumer->used += chunk->charged;
        partition->queued += chunk->charged;
        partition->position = end;
        list_push_back(&consumer->chunks, &chunk->link);
    }
    /* Also where nothing came: that the end was reached is news. */
    if (consumer->config.on_ready)
        consumer->config.on_ready(consumer->config.ctx);
    consumer_unlock(consumer);
    partition->attempts = 0;
    partition->failing_since_ns = 0;
    if (!empty || !current) {
        partition->idle = 0;
        consumer_fetch(partition);
    } else if (partition->waited) {
        consumer_fetch(partition);
    } else {
        int64_t ms = IDLE_FIRST_MS << (partition->idle < 8 ? partition->idle : 8);
        partition->idle++;
        partition_pause(partition,
                        IO_MS(ms < consumer->config.fetch_wait_ms ? ms : consumer->config.fetch_wait_ms));
    }
}

/* Retention was quicker than the first fetch of one who asked for the beginning, wherever that is. Later the
 * reader is told, since something that it would have seen is gone. */
static bool partition_follow_start(struct consumer_partition *partition, const struct net_answer *answer)
{
    const struct rpc_pull_batch_response *response = answer->response;
    struct core_consumer *consumer = partition->consumer;
    if (!partition->from_beginning || !response || response->log_start <= partition->asked_offset)
        return false;
    consumer_lock(consumer);
    partition->position = response->log_start;
    consumer_unlock(consumer);
    consumer_fetch(partition);
    return true;
}

static void partition_judge(struct consumer_partition *partition, const struct net_answer *answer)
{
    struct core_consumer *consumer = partition->consumer;
    partition->calling = false;
    consumer_lock(consumer);
    consumer->used -= partition->reserved;
    partition->reserved = 0;
    bool current = partition->asked_generation == partition->generation;
    consumer_unlock(consumer);
    if (consumer->freeing)
        return;
    if (!current) { /* this answer is of an old place */
        consumer_fetch(partition);
        return;
    }
    struct bytes sentence;
    int error = core_answer_error(RPC_METHOD_PULL_BATCH, answer, &sentence);
    if (!error) {
        struct consumer_chunk *chunk = mem_zalloc(sizeof(*chunk));
        if (chunk)
            partition_store(partition, chunk, answer);
        else
            partition_again(partition);
        return;
    }
    if (error == CLYMQ_EOFFSET_RANGE && partition_follow_start(partition, answer))
        return;
    /* A broker that does not know it may not have heard yet: metadata decides, and is told of in
     * consumer_fetch. */
    if (error == CLYMQ_ETOPIC_UNKNOWN || error == CLYMQ_EPARTITION_UNKNOWN || error_retriable(error) ||
        error == CLYMQ_ECANCELED)
        partition_failed(partition, error);
    else
        partition_report(partition, error);
}

static void consumer_feed(struct core_consumer *consumer);

static void partition_answered(void *ctx, const struct net_answer *answer)
{
    struct consumer_partition *partition = ctx;
    partition_judge(partition, answer);
    /* What was reserved and not needed is free for others. */
    if (!partition->consumer->freeing)
        consumer_feed(partition->consumer);
}

static bool consumer_has_room(const struct core_consumer *consumer, size_t size)
{
    return consumer->used == 0 || consumer->used + size <= (size_t)consumer->config.buffer_bytes;
}

/* Takes room for a fetch, or a place in the line of those that wait for it. */
static bool partition_reserve(struct consumer_partition *partition, size_t size)
{
    struct core_consumer *consumer = partition->consumer;
    bool fits = false;
    consumer_lock(consumer);
    partition->full = partition->queued >= (size_t)consumer->config.fetch_max_bytes;
    if (!partition->full && consumer_has_room(consumer, size)) {
        fits = true;
        consumer->used += size;
        partition->reserved = size;
        partition->asked_offset = partition->position;
        partition->asked_generation = partition->generation;
    } else if (!partition->full && list_empty(&partition->starving)) {
        list_push_back(&consumer->starving, &partition->starving);
    }
    consumer_unlock(consumer);
    return fits;
}

/* Gives room that came free to those that wait for it, in order. */
static void consumer_feed(struct core_consumer *consumer)
{
    for (;;) {
        consumer_lock(consumer);
        struct list *at = NULL;
        if (!list_empty(&consumer->starving)) {
            struct consumer_partition *first =
                CONTAINER_OF(consumer->starving.next, struct consumer_partition, starving);
            if (consumer_has_room(consumer, fetch_size(first)))
                at = list_pop_front(&consumer->starving);
        }
        consumer_unlock(consumer);
        if (!at)
            return;
        consumer_fetch(CONTAINER_OF(at, struct consumer_partition, starving));
    }
}

static const char *partition_leader(struct consumer_partition *partition)
{
    const struct core_topic *topic = partition->topic;
    const struct core_partition *known;
    if (partition->place < topic->count &&
        strcmp(topic->partitions[partition->place].name, partition->name) == 0)
        known = &topic->partitions[partition->place];
    else if ((known = core_topic_find(topic, partition->name)) != NULL)
        partition->place = (size_t)(known - topic->partitions);
    return known ? known->leader : NULL;
}

/* Without a leader: waits for metadata, or reports what it says. */
static void partition_seek_leader(struct consumer_partition *partition)
{
    struct core_topic *topic = partition->topic;
    if (topic->version != partition->seen_version) {
        partition->seen_version = topic->version;
        bool unknown = topic->error == CLYMQ_ETOPIC_UNKNOWN ||
                       (!topic->error && !core_topic_find(topic, partition->name));
        partition->unknown = unknown ? partition->unknown + 1 : 0;
        if (partition->unknown >= 2) {
            partition->unknown = 0;
            partition_report(partition, topic->error ? topic->error : CLYMQ_EPARTITION_UNKNOWN);
            return;
        }
    }
    partition_failed(partition, topic->error ? topic->error : CLYMQ_EAGAIN);
}

void consumer_fetch(struct consumer_partition *partition)
{
    struct core_consumer *consumer = partition->consumer;
    struct core *core = consumer->core;
    if (partition->calling || !partition->placed || consumer->freeing || io_timer_armed(&partition->timer))
        return;
    partition->stuck = false;
    consumer_lock(consumer);
    bool halted = partition->halted;
    consumer_unlock(consumer);
    if (halted)
        return;
    const char *address = partition_leader(partition);
    if (!address) {
        partition_seek_leader(partition);
        return;
    }
    size_t size = fetch_size(partition);
    if (!partition_reserve(partition, size))
        return;
    partition->waited = consumer->partition_count <= LINKS;
    struct rpc_pull_batch_request request = {
        .topic = bytes_of_text(partition->topic->name),
        .partition = bytes_of_text(partition->name),
        .offset = partition->asked_offset,
        .max_bytes = (int32_t)size,
        .min_bytes = (int32_t)consumer->config.fetch_min_bytes,
        .wait_ms = partition->waited ? (int32_t)consumer->config.fetch_wait_ms : 0,
    };
    struct core_link *link =
        core_link_get(core, address, consumer->slot + (unsigned)(partition->index % LINKS));
    int error = link ? core_link_call(link, RPC_METHOD_PULL_BATCH, &request, NULL,
                                      core->config.request_timeout_ms + consumer->config.fetch_wait_ms,
                                      partition_answered, partition)
                     : CLYMQ_ENOMEM;
    if (!error) {
        partition->calling = true;
        return;
    }
    consumer_lock(consumer);
    consumer->used -= partition->reserved;
    partition->reserved = 0;
    consumer_unlock(consumer);
    partition_failed(partition, error);
}

static void partition_timer(struct io_timer *timer)
{
    consumer_fetch(timer->ctx);
}

static void partition_topic_changed(struct core_topic_watch *watch)
{
    struct consumer_partition *partition = watch->ctx;
    if (!partition->placed || partition->calling)
        return;
    /* It may have waited for this news only. */
    if (partition->failing_since_ns && !partition->topic->error) {
        io_timer_stop(partition->consumer->core->loop, &partition->timer);
        consumer_fetch(partition);
    }
}

/* ---- assigning ---- */

static void partition_place(struct consumer_partition *partition, int64_t position)
{
    struct core_consumer *consumer = partition->consumer;
    consumer_lock(consumer);
    partition->position = position;
    partition->high_watermark = -1;
    partition->generation++;
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
    partition->timer = (struct io_timer){.fire = partition_timer, .ctx = partition};
    partition->watch = (struct core_topic_watch){.changed = partition_topic_changed, .ctx = partition};
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
            partition_again(partition);
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
    consumer->tick = (struct io_timer){.fire = consumer_tick, .ctx = consumer};
    consumer->by_name = map_new();
    int error =
        consumer->by_name ? io_timer_start(core->loop, &consumer->tick, IO_MS(TICK_MS)) : CLYMQ_ENOMEM;
    if (error) {
        map_free(consumer->by_name);
        mem_free(consumer);
        return error;
    }
    consumer->slot = core_slots_take(core, LINKS);
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
    core_slots_drop(consumer->core, consumer->slot, LINKS);
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
