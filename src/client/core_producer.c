/* The producer core: takes over what was accumulated, when a batch is full, has lingered long enough or shall
 * be flushed, and tells outcomes message by message. The way of a batch on the network is core_sender.c's. */
#include <assert.h>

#include "base/mem.h"
#include "client/producer_state.h"

enum {
    DELIVERY_HEADERS = 16,
    RECORDS_MAX = 1 << 30, /* of a batch of our own, inflated to be told */
    RETRY_NOTICE_MS = 100, /* after memory ran out */
    TICK_MS = 1000,
};

void core_producer_config_defaults(struct core_producer_config *config)
{
    *config = (struct core_producer_config){
        .ack = -1,
        .linger_ms = 5,
        .batch_bytes = 262144, /* in flight five times, it covers what a disk writes while it syncs */
        .buffer_bytes = 33554432,
        .delivery_timeout_ms = 120000,
        .compression = BATCH_NONE,
        .max_in_flight = 5,
        .idempotence = true,
    };
}

static int config_check(const struct core_producer_config *config)
{
    if (config->ack < -1 || config->ack > 1)
        return CLYMQ_EACK_LEVEL;
    if (config->linger_ms < 0 || config->batch_bytes < 1 || config->batch_bytes > 64 << 20 ||
        config->buffer_bytes < 4096 || config->delivery_timeout_ms < 1 || config->max_in_flight < 1 ||
        config->max_in_flight > 5 || config->compression < BATCH_NONE || config->compression > BATCH_ZSTD)
        return CLYMQ_EINVAL;
    return 0;
}

int64_t producer_random_id(struct core_producer *producer)
{
    /* Bit 62 set: apart from the ids that a server hands out counting from 0. */
    return (int64_t)(rng_next(&producer->core->rng) >> 2 | (uint64_t)1 << 62);
}

/* ---- outcomes ---- */

static void deliver(struct core_producer *producer, struct accumulator_batch *batch, int index, int error,
                    clymq_message *message)
{
    message->topic = batch->partition->topic->name;
    message->partition = batch->partition->name;
    message->opaque = batch->opaques ? batch->opaques[index] : NULL;
    producer->config.on_delivery(producer->config.delivery_ctx, error, message);
}

static void deliver_record(struct core_producer *producer, struct accumulator_batch *batch, int index,
                           int error, int64_t offset, struct batch_record *record)
{
    clymq_header few[DELIVERY_HEADERS], *headers = few, *many = NULL;
    size_t count = 0, total = (size_t)record->header_count;
    if (total > DELIVERY_HEADERS)
        headers = many = mem_calloc(total, sizeof(*many));
    clymq_message message = {
        .offset = offset,
        .timestamp_ms = record->timestamp_ms,
        .key = record->key.ptr,
        .key_len = record->key.len,
        .value = record->value.ptr,
        .value_len = record->value.len,
        .headers = headers,
    };
    /* Keys of headers are not NUL-terminated in the batch: here they are copied so that they are. First the
     * texts, which may move while they grow, then the pointers into them. */
    struct strbuf keys = {0};
    struct batch_record_header header;
    while (headers && count < total && batch_header_next(record, &header) == 0) {
        const char *place = (const char *)(uintptr_t)keys.len;
        headers[count++] = (clymq_header){place, header.value.ptr, header.value.len};
        strbuf_append(&keys, header.key.ptr, header.key.len);
        strbuf_append(&keys, "", 1);
    }
    if (keys.failed)
        count = 0;
    for (size_t i = 0; i < count; i++)
        headers[i].key = keys.data + (uintptr_t)headers[i].key;
    message.header_count = count;
    deliver(producer, batch, index, error, &message);
    strbuf_free(&keys);
    mem_free(many);
}

static void deliver_batch(struct core_producer *producer, struct accumulator_batch *batch, int error,
                          int64_t base_offset)
{
    struct batch_reader reader;
    int index = 0;
    bool readable =
        accumulator_finish_plain(batch) == 0 &&
        batch_reader_begin(&reader, bytes_of(batch->data->data, batch->data->len), RECORDS_MAX) == 0;
    if (readable) {
        struct batch_record record;
        for (; index < batch->count && batch_reader_next(&reader, &record) == 0; index++)
            if (index >= batch->dealt)
                deliver_record(producer, batch, index, error, base_offset < 0 ? -1 : base_offset + index,
                               &record);
        batch_reader_end(&reader);
    }
    /* Without memory to read them: still told, by their opaque pointers. */
    for (; index < batch->count; index++) {
        clymq_message message = {.offset = base_offset < 0 ? -1 : base_offset + index};
        if (index >= batch->dealt)
            deliver(producer, batch, index, error, &message);
    }
}

void producer_settle(struct core_producer *producer, struct accumulator_batch *batch, int error,
                     int64_t base_offset)
{
    if (!batch->settled && producer->config.on_delivery)
        deliver_batch(producer, batch, error, base_offset);
    producer_lock(producer);
    struct list *at;
    while ((at = list_pop_front(&batch->waiters)) != NULL) {
        struct accumulator_waiter *waiter = CONTAINER_OF(at, struct accumulator_waiter, link);
        waiter->error = error;
        waiter->offset = error || base_offset < 0 ? -1 : base_offset + waiter->index;
        waiter->done = true;
    }
    if (batch->calling) /* its bytes may still be on their way out */
        accumulator_settle(&producer->accumulator, batch);
    else
        accumulator_release(&producer->accumulator, batch);
    if (producer->config.on_progress)
        producer->config.on_progress(producer->config.ctx);
    producer_unlock(producer);
}

/* ---- noticing what was added ---- */

/* Under the lock. */
static void producer_signal(struct core_producer *producer)
{
    if (producer->signalled || producer->freeing)
        return;
    producer->signalled = true;
    if (producer->config.wake)
        producer->config.wake(producer->config.ctx);
    else
        (void)io_timer_start(producer->core->loop, &producer->tick, 0); /* armed already: cannot fail */
}

static struct accumulator_batch *lingering_at(struct list *link)
{
    return CONTAINER_OF(link, struct accumulator_batch, lingering);
}

/* Under the lock: closes the open batches whose time has come, or leaves them open to grow where the
 * partition has no free place yet. */
static void producer_close_due(struct core_producer *producer, uint64_t now_ns)
{
    struct accumulator *accumulator = &producer->accumulator;
    while (!list_empty(&producer->lingering)) {
        struct accumulator_batch *batch = lingering_at(producer->lingering.next);
        struct accumulator_partition *partition = batch->partition;
        if (partition->open == batch && batch->opened_ns + IO_MS(producer->config.linger_ms) > now_ns)
            break;
        list_remove(&batch->lingering);
        if (partition->open != batch)
            continue;
        struct core_sender *sender = partition->sender;
        partition->is_due = sender && (!sender_has_place(sender) || !list_empty(&sender->queue));
        if (!partition->is_due)
            accumulator_close(accumulator, partition);
    }
}

/* Under the lock: closed batches go to their senders, which are collected in work. */
static int producer_take_ready(struct core_producer *producer, struct list *work)
{
    struct list *at;
    while ((at = list_pop_front(&producer->accumulator.ready)) != NULL) {
        struct accumulator_partition *partition = CONTAINER_OF(at, struct accumulator_partition, ready);
        struct producer_topic *topic = partition->topic->ctx;
        if (!partition->name) /* limbo: its topic sees to it */
            continue;
        struct core_sender *sender = partition->sender;
        if (!topic || (!sender && sender_new(topic, partition, &sender) != 0)) {
            list_push_front(&producer->accumulator.ready, &partition->ready);
            return CLYMQ_ENOMEM;
        }
        struct accumulator_batch *batch;
        while ((batch = accumulator_take(partition)) != NULL) {
            list_remove(&batch->lingering);
            list_push_back(&sender->queue, &batch->link);
        }
        if (list_empty(&sender->work))
            list_push_back(work, &sender->work);
    }
    return 0;
}

static int producer_notice_topics(struct core_producer *producer)
{
    for (;;) {
        producer_lock(producer);
        struct list *at = list_pop_front(&producer->accumulator.fresh_topics);
        producer_unlock(producer);
        if (!at)
            return 0;
        struct accumulator_topic *intake = CONTAINER_OF(at, struct accumulator_topic, fresh);
        if (producer_topic_new(producer, intake) != 0) {
            producer_lock(producer);
            list_push_front(&producer->accumulator.fresh_topics, &intake->fresh);
            producer_unlock(producer);
            return CLYMQ_ENOMEM;
        }
    }
}

/* Deals out what came before its topic's partitions were known, where by now they are: it is noticed next. */
static void producer_tend_topics(struct core_producer *producer)
{
    producer_lock(producer);
    LIST_FOR_EACH(at, &producer->topics) {
        struct producer_topic *topic = CONTAINER_OF(at, struct producer_topic, link);
        topic->has_limbo = topic->intake->limbo.open || !list_empty(&topic->intake->limbo.closed);
    }
    producer_unlock(producer);
    LIST_FOR_EACH(at, &producer->topics) {
        struct producer_topic *topic = CONTAINER_OF(at, struct producer_topic, link);
        if (topic->has_limbo)
            producer_topic_tend(topic);
    }
}

static void producer_notice_batches(struct core_producer *producer, uint64_t now_ns)
{
    struct accumulator *accumulator = &producer->accumulator;
    struct list *at;
    while ((at = list_pop_front(&accumulator->fresh)) != NULL) {
        struct accumulator_batch *batch = lingering_at(at);
        if (!batch->opened_ns)
            batch->opened_ns = now_ns;
        list_push_back(&producer->lingering, &batch->lingering);
    }
    if (accumulator->hurry) {
        accumulator->hurry = false;
        accumulator_close_all(accumulator);
    }
    producer_close_due(producer, now_ns);
}

void core_producer_kick(struct core_producer *producer)
{
    if (producer->freeing)
        return;
    struct list work;
    list_init(&work);
    uint64_t now_ns = io_loop_now_ns(producer->core->loop);
    int error = producer_notice_topics(producer);
    producer_tend_topics(producer);
    producer_lock(producer);
    producer->signalled = false;
    producer_notice_batches(producer, now_ns);
    if (!error)
        error = producer_take_ready(producer, &work);
    uint64_t next_ns = 0;
    if (!list_empty(&producer->lingering))
        next_ns = lingering_at(producer->lingering.next)->opened_ns + IO_MS(producer->config.linger_ms);
    producer_unlock(producer);
    struct list *at;
    while ((at = list_pop_front(&work)) != NULL)
        sender_pump(CONTAINER_OF(at, struct core_sender, work));
    if (error)
        next_ns = now_ns + IO_MS(RETRY_NOTICE_MS);
    if (next_ns)
        (void)io_timer_start(producer->core->loop, &producer->linger_timer,
                             next_ns > now_ns ? next_ns - now_ns : 0);
}

static void producer_linger(struct io_timer *timer)
{
    core_producer_kick(timer->ctx);
}

/* Armed all the time, so that a kick never lacks memory for its timer; and once a second it makes good what
 * other timers could not be started for. */
static void producer_tick(struct io_timer *timer)
{
    struct core_producer *producer = timer->ctx;
    (void)io_timer_start(producer->core->loop, &producer->tick, IO_MS(TICK_MS)); /* in the place just left */
    core_producer_kick(producer);
    LIST_FOR_EACH(at, &producer->topics) {
        struct producer_topic *topic = CONTAINER_OF(at, struct producer_topic, link);
        LIST_FOR_EACH(each, &topic->senders)
            sender_tick(CONTAINER_OF(each, struct core_sender, link));
    }
}

/* ---- under the lock ---- */

int core_producer_add(struct core_producer *producer, const clymq_message *message,
                      struct accumulator_waiter *waiter)
{
    bool notice = false;
    if (producer->freeing)
        return CLYMQ_ESHUTDOWN;
    int error = accumulator_add(&producer->accumulator, message, waiter, &notice);
    if (notice)
        producer_signal(producer);
    return error;
}

bool core_producer_has_room(struct core_producer *producer)
{
    struct accumulator *accumulator = &producer->accumulator;
    if (accumulator_has_room(accumulator, accumulator->refused))
        return true;
    if (accumulator->closed == 0) { /* nothing else will give memory back */
        accumulator->hurry = true;
        producer_signal(producer);
    }
    return false;
}

uint64_t core_producer_flush(struct core_producer *producer)
{
    producer->accumulator.hurry = true;
    producer_signal(producer);
    return producer->accumulator.next_serial;
}

bool core_producer_is_flushed(const struct core_producer *producer, uint64_t mark)
{
    const struct list *live = &producer->accumulator.live;
    return list_empty(live) || CONTAINER_OF(live->next, struct accumulator_batch, live)->serial > mark;
}

size_t core_producer_pending_bytes(const struct core_producer *producer)
{
    return producer->accumulator.used;
}

uint64_t core_producer_pending(const struct core_producer *producer)
{
    return producer->accumulator.messages;
}

/* ---- life ---- */

int core_producer_new(struct core *core, const struct core_producer_config *config,
                      struct core_producer **ret_producer)
{
    int error = config_check(config);
    if (error)
        return error;
    struct core_producer *producer = mem_zalloc(sizeof(*producer));
    if (!producer)
        return CLYMQ_ENOMEM;
    producer->core = core;
    producer->config = *config;
    list_init(&producer->lingering);
    list_init(&producer->topics);
    producer->linger_timer = (struct io_timer){.fire = producer_linger, .ctx = producer};
    producer->tick = (struct io_timer){.fire = producer_tick, .ctx = producer};
    producer->accumulator.batch_bytes = (size_t)config->batch_bytes;
    producer->accumulator.buffer_bytes = (size_t)config->buffer_bytes;
    /* A batch travels inside a call, whose other fields take less than a kilobyte. */
    producer->accumulator.max_message_bytes = (size_t)core->config.max_message_bytes - 1024;
    producer->accumulator.keep_opaques = config->on_delivery != NULL;
    error = accumulator_init(&producer->accumulator, rng_next(&core->rng));
    if (!error)
        error = io_timer_start(core->loop, &producer->tick, IO_MS(TICK_MS));
    if (error) {
        accumulator_end(&producer->accumulator);
        mem_free(producer);
        return error;
    }
    producer->slot = core_slots_take(core, 1);
    producer->producer_id = producer_random_id(producer);
    *ret_producer = producer;
    return 0;
}

void core_producer_free(struct core_producer *producer)
{
    if (!producer)
        return;
    producer_lock(producer);
    producer->freeing = true; /* a callback may want to send again what is told below */
    producer_unlock(producer);
    io_timer_stop(producer->core->loop, &producer->linger_timer);
    io_timer_stop(producer->core->loop, &producer->tick);
    core_slots_drop(producer->core, producer->slot, 1);
    LIST_FOR_EACH_SAFE(at, &producer->topics)
        producer_topic_free(CONTAINER_OF(at, struct producer_topic, link));
    /* What no sender had taken yet. */
    accumulator_close_all(&producer->accumulator);
    while (!list_empty(&producer->accumulator.live)) {
        struct accumulator_batch *batch =
            CONTAINER_OF(producer->accumulator.live.next, struct accumulator_batch, live);
        list_remove(&batch->link);
        producer_settle(producer, batch, CLYMQ_ECANCELED, -1);
    }
    accumulator_end(&producer->accumulator);
    mem_free(producer);
}
