/* A consumer's fetching: one fetch after the other per partition, with prefetch bounded by buffer_bytes.
 *
 * What was fetched waits as chunks, each the bytes of one answer, in one queue of all partitions;
 * consumer_reader.c takes them apart. A partition asks for more while its own chunks hold less than one
 * fetch's worth and the buffer has room; those that find no room wait in line. Calls on a connection are
 * answered in order and an empty pull may wait: so partitions use links of their own, CONSUMER_LINKS of them,
 * and share them without waiting when there are more partitions than links. */
#include "base/mem.h"
#include "client/consumer_state.h"

enum {
    FETCH_LEAST = 16384,
    IDLE_FIRST_MS = 2, /* pause after an empty answer that did not wait */
};

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

void consumer_again(struct consumer_partition *partition)
{
    partition->attempts++;
    partition_pause(partition, core_backoff_ns(partition->consumer->core, partition->attempts));
}

/* An error for the reader, and what it means (constant; NULL: what it always does); the partition waits until
 * it was read. */
static void partition_report(struct consumer_partition *partition, int error, const char *sentence)
{
    struct core_consumer *consumer = partition->consumer;
    struct consumer_chunk *chunk = mem_zalloc(sizeof(*chunk));
    if (!chunk) {
        consumer_again(partition);
        return;
    }
    chunk->partition = partition;
    chunk->error = error;
    chunk->sentence = sentence;
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
        partition_report(partition, error, NULL);
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
        partition_report(partition, CLYMQ_ECORRUPT, NULL);
        return;
    }
    partition->from_beginning &= empty;
    consumer_lock(consumer);
    partition->high_watermark = response->high_watermark;
    /* The reader may have sent the partition back meanwhile: then this is not what it goes on with. */
    if (empty || partition->asked_generation != partition->generation) {
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
    if (!empty) {
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
            consumer_again(partition);
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
        partition_report(partition, error, core_error_is_own_limit(answer) ? core_own_limit_sentence : NULL);
}

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

void consumer_feed(struct core_consumer *consumer)
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
            partition_report(partition, topic->error ? topic->error : CLYMQ_EPARTITION_UNKNOWN, NULL);
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
    const struct core_partition *known =
        core_topic_find_near(partition->topic, partition->name, &partition->place);
    const char *address = known ? known->leader : NULL;
    if (!address) {
        partition_seek_leader(partition);
        return;
    }
    size_t size = fetch_size(partition);
    if (!partition_reserve(partition, size))
        return;
    partition->waited = consumer->partition_count <= CONSUMER_LINKS;
    struct rpc_pull_batch_request request = {
        .topic = bytes_of_text(partition->topic->name),
        .partition = bytes_of_text(partition->name),
        .offset = partition->asked_offset,
        .max_bytes = (int32_t)size,
        .min_bytes = (int32_t)consumer->config.fetch_min_bytes,
        .wait_ms = partition->waited ? (int32_t)consumer->config.fetch_wait_ms : 0,
    };
    struct core_link *link =
        core_link_get(core, address, consumer->slot + (unsigned)(partition->index % CONSUMER_LINKS));
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

void consumer_fetch_init(struct consumer_partition *partition)
{
    partition->timer = (struct io_timer){.fire = partition_timer, .ctx = partition};
    partition->watch = (struct core_topic_watch){.changed = partition_topic_changed, .ctx = partition};
}
