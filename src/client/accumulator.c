/* The accumulator: finds a message's partition, encodes the message into its open batch, and keeps count of
 * memory. */
#include "client/accumulator.h"

#include <assert.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "client/partitioner.h"

enum {
    FIRST_GUESS = 1024,  /* of a partition's first batch */
    HEADERS_MAX = 10000, /* of one message */
};

static struct accumulator_batch *batch_at(struct list *link)
{
    return CONTAINER_OF(link, struct accumulator_batch, link);
}

int accumulator_init(struct accumulator *accumulator, uint64_t seed)
{
    list_init(&accumulator->live);
    list_init(&accumulator->fresh);
    list_init(&accumulator->ready);
    list_init(&accumulator->fresh_topics);
    list_init(&accumulator->topics);
    rng_seed(&accumulator->rng, seed);
    accumulator->by_topic = map_new();
    return accumulator->by_topic ? 0 : CLYMQ_ENOMEM;
}

static void partition_free(struct accumulator_partition *partition)
{
    mem_free(partition->name);
    mem_free(partition);
}

static void topic_free(struct accumulator_topic *topic)
{
    size_t at = 0;
    struct map_entry *entry;
    while (topic->by_name && (entry = map_next(topic->by_name, &at)) != NULL)
        partition_free(entry->value);
    map_free(topic->by_name);
    mem_free(topic->by_number);
    mem_free(topic->name);
    mem_free(topic);
}

void accumulator_end(struct accumulator *accumulator)
{
    assert(list_empty(&accumulator->live));
    struct list *at;
    while ((at = list_pop_front(&accumulator->topics)) != NULL)
        topic_free(CONTAINER_OF(at, struct accumulator_topic, link));
    map_free(accumulator->by_topic);
}

static void partition_init(struct accumulator_partition *partition, struct accumulator_topic *topic)
{
    partition->topic = topic;
    list_init(&partition->closed);
    list_init(&partition->ready);
}

static int partition_get(struct accumulator_topic *topic, const char *name,
                         struct accumulator_partition **ret_partition)
{
    struct bytes key = bytes_of_text(name);
    struct accumulator_partition *partition = map_get(topic->by_name, key);
    if (partition) {
        *ret_partition = partition;
        return 0;
    }
    int error = name_check(key);
    if (error)
        return error;
    partition = mem_zalloc(sizeof(*partition));
    if (!partition)
        return CLYMQ_ENOMEM;
    partition_init(partition, topic);
    partition->name = mem_strdup(name);
    if (!partition->name || map_put(topic->by_name, key, partition) != 0) {
        partition_free(partition);
        return CLYMQ_ENOMEM;
    }
    *ret_partition = partition;
    return 0;
}

static int topic_get(struct accumulator *accumulator, const char *name, struct accumulator_topic **ret_topic,
                     bool *ret_notice)
{
    if (accumulator->last_topic && strcmp(accumulator->last_topic->name, name) == 0) {
        *ret_topic = accumulator->last_topic;
        return 0;
    }
    struct bytes key = bytes_of_text(name);
    struct accumulator_topic *topic = map_get(accumulator->by_topic, key);
    if (!topic) {
        int error = name_check(key);
        if (error)
            return error;
        topic = mem_zalloc(sizeof(*topic));
        if (!topic)
            return CLYMQ_ENOMEM;
        partition_init(&topic->limbo, topic);
        list_init(&topic->fresh);
        topic->name = mem_strdup(name);
        topic->by_name = map_new();
        if (!topic->name || !topic->by_name || map_put(accumulator->by_topic, key, topic) != 0) {
            topic_free(topic);
            return CLYMQ_ENOMEM;
        }
        list_push_back(&accumulator->topics, &topic->link);
        list_push_back(&accumulator->fresh_topics, &topic->fresh);
        *ret_notice = true;
    }
    accumulator->last_topic = topic;
    *ret_topic = topic;
    return 0;
}

static struct accumulator_partition *choose_partition(struct accumulator_topic *topic, struct bytes key)
{
    if (topic->count == 0)
        return &topic->limbo;
    if (key.ptr)
        return topic->by_number[partitioner_choose(key, (uint32_t)topic->count)];
    return topic->by_number[topic->sticky % topic->count];
}

/* ---- batches ---- */

static size_t batch_memory(const struct accumulator_batch *batch)
{
    size_t bytes = sizeof(*batch) + (size_t)(batch->opaque_cap + batch->target_cap) * sizeof(void *);
    if (batch->builder.buf)
        bytes += sizeof(struct buf) + batch->builder.buf->cap;
    if (batch->data)
        bytes += sizeof(struct buf) + batch->data->cap;
    return bytes;
}

void accumulator_recount(struct accumulator *accumulator, struct accumulator_batch *batch)
{
    size_t bytes = batch_memory(batch);
    assert(accumulator->used >= batch->charged);
    accumulator->used = accumulator->used - batch->charged + bytes;
    batch->charged = bytes;
}

static void batch_free(struct accumulator_batch *batch)
{
    batch_builder_free(&batch->builder);
    buf_unref(batch->data);
    mem_free(batch->opaques);
    mem_free(batch->targets);
    mem_free(batch);
}

void accumulator_settle(struct accumulator *accumulator, struct accumulator_batch *batch)
{
    if (batch->settled)
        return;
    batch->settled = true;
    if (batch->closed)
        accumulator->closed--;
    list_remove(&batch->live);
    accumulator->messages -= (uint64_t)(batch->count - batch->dealt);
}

void accumulator_release(struct accumulator *accumulator, struct accumulator_batch *batch)
{
    assert(list_empty(&batch->waiters));
    accumulator_settle(accumulator, batch);
    list_remove(&batch->link);
    list_remove(&batch->lingering);
    accumulator->used -= batch->charged;
    batch_free(batch);
}

static struct accumulator_batch *batch_open(struct accumulator *accumulator,
                                            struct accumulator_partition *partition, size_t size)
{
    struct accumulator_batch *batch = mem_zalloc(sizeof(*batch));
    if (!batch)
        return NULL;
    if (batch_builder_init(&batch->builder, size) != 0) {
        mem_free(batch);
        return NULL;
    }
    batch->partition = partition;
    batch->base_offset = -1;
    batch->serial = ++accumulator->next_serial;
    list_init(&batch->link);
    list_init(&batch->waiters);
    list_push_back(&accumulator->live, &batch->live);
    list_push_back(&accumulator->fresh, &batch->lingering);
    partition->open = batch;
    accumulator_recount(accumulator, batch);
    return batch;
}

void accumulator_close(struct accumulator *accumulator, struct accumulator_partition *partition)
{
    struct accumulator_batch *batch = partition->open;
    if (!batch)
        return;
    partition->open = NULL;
    partition->is_due = false;
    batch->closed = true;
    accumulator->closed++;
    partition->last_size = batch->builder.buf->len - BATCH_HEADER_SIZE;
    list_push_back(&partition->closed, &batch->link);
    if (list_empty(&partition->ready))
        list_push_back(&accumulator->ready, &partition->ready);
    /* The next batch of messages without a key goes to the next partition. */
    struct accumulator_topic *topic = partition->topic;
    if (topic->count > 1 && topic->by_number[topic->sticky % topic->count] == partition)
        topic->sticky = (topic->sticky + 1) % topic->count;
}

void accumulator_close_all(struct accumulator *accumulator)
{
    LIST_FOR_EACH(at, &accumulator->live) {
        struct accumulator_batch *batch = CONTAINER_OF(at, struct accumulator_batch, live);
        if (batch->partition->open == batch)
            accumulator_close(accumulator, batch->partition);
    }
}

struct accumulator_batch *accumulator_take(struct accumulator_partition *partition)
{
    struct list *at = list_pop_front(&partition->closed);
    return at ? batch_at(at) : NULL;
}

int accumulator_finish_plain(struct accumulator_batch *batch)
{
    if (batch->data)
        return 0;
    return batch_builder_finish(&batch->builder, BATCH_NONE, 0, &batch->data);
}

/* ---- adding ---- */

struct record {
    int64_t timestamp_ms;
    struct bytes key, value;
    const struct batch_header_input *headers;
    int header_count;
    void *opaque;
    struct accumulator_partition *target; /* in limbo: where to; NULL = by the key */
    size_t size;                          /* bound of its encoded size */
};

bool accumulator_has_room(const struct accumulator *accumulator, size_t bytes)
{
    return accumulator->used == 0 || accumulator->used + bytes <= accumulator->buffer_bytes;
}

/* Bytes of memory that putting the record into partition takes anew; *ret_new: in a new batch of that
 * capacity. */
static size_t record_memory(const struct accumulator *accumulator,
                            const struct accumulator_partition *partition, const struct record *record,
                            size_t *ret_new)
{
    const struct accumulator_batch *open = partition->open;
    *ret_new = 0;
    if (open && (open->count == 0 ||
                 open->builder.buf->len - BATCH_HEADER_SIZE + record->size <= accumulator->batch_bytes)) {
        const struct buf *buf = open->builder.buf;
        size_t need = 0;
        if (buf->cap - buf->len < record->size)
            need = (buf->cap > record->size ? buf->cap : record->size) + record->size;
        if (accumulator->keep_opaques && open->count == open->opaque_cap)
            need += (size_t)(open->opaque_cap + 16) * sizeof(void *);
        if (!partition->name && open->count == open->target_cap)
            need += (size_t)(open->target_cap + 16) * sizeof(void *);
        return need;
    }
    size_t guess = partition->last_size ? partition->last_size + partition->last_size / 8 : FIRST_GUESS;
    if (guess > accumulator->batch_bytes)
        guess = accumulator->batch_bytes;
    *ret_new = record->size > guess ? record->size : guess;
    return sizeof(struct accumulator_batch) + sizeof(struct buf) + BATCH_HEADER_SIZE + *ret_new;
}

/* Room for one more pointer in an array that grows with the batch. */
static int pointers_reserve(void ***pointers, int *cap, int count)
{
    if (count < *cap)
        return 0;
    int more = *cap * 2 + 16;
    void **grown = mem_realloc(*pointers, (size_t)more * sizeof(*grown));
    if (!grown)
        return CLYMQ_ENOMEM;
    *pointers = grown;
    *cap = more;
    return 0;
}

static int batch_add(struct accumulator *accumulator, struct accumulator_batch *batch,
                     const struct record *record)
{
    bool limbo = !batch->partition->name;
    if (accumulator->keep_opaques && pointers_reserve(&batch->opaques, &batch->opaque_cap, batch->count) != 0)
        return CLYMQ_ENOMEM;
    if (limbo && pointers_reserve((void ***)&batch->targets, &batch->target_cap, batch->count) != 0)
        return CLYMQ_ENOMEM;
    int error = batch_builder_add(&batch->builder, record->timestamp_ms, record->key, record->value,
                                  record->headers, record->header_count);
    if (error)
        return error;
    if (accumulator->keep_opaques)
        batch->opaques[batch->count] = record->opaque;
    if (limbo)
        batch->targets[batch->count] = record->target;
    batch->count++;
    accumulator->messages++;
    return 0;
}

/* Puts a record into the partition's open batch, or into a new one when that is full. */
static int partition_add(struct accumulator *accumulator, struct accumulator_partition *partition,
                         const struct record *record, bool bounded, bool *ret_notice)
{
    size_t new_cap, need = record_memory(accumulator, partition, record, &new_cap);
    if (bounded && need > 0 && !accumulator_has_room(accumulator, need)) {
        accumulator->refused = need;
        if (accumulator->closed == 0) {
            accumulator->hurry = true;
            *ret_notice = true;
        }
        return CLYMQ_EQUEUE_FULL;
    }
    if (new_cap) {
        struct accumulator_batch *full = partition->open;
        if (full) {
            accumulator_close(accumulator, partition);
            *ret_notice = true;
        }
        if (!batch_open(accumulator, partition, new_cap))
            return CLYMQ_ENOMEM;
        *ret_notice = true;
    }
    struct accumulator_batch *batch = partition->open;
    int error = batch_add(accumulator, batch, record);
    if (need)
        accumulator_recount(accumulator, batch);
    if (error && batch->count == 0) {
        partition->open = NULL;
        accumulator_release(accumulator, batch);
    }
    if (error)
        return error;
    if (batch->builder.buf->len - BATCH_HEADER_SIZE >= accumulator->batch_bytes) {
        accumulator_close(accumulator, partition);
        *ret_notice = true;
    }
    return 0;
}

static int headers_check(const clymq_message *message)
{
    if (message->header_count > HEADERS_MAX || (message->header_count && !message->headers))
        return CLYMQ_EINVAL;
    for (size_t i = 0; i < message->header_count; i++)
        if (!message->headers[i].key || (!message->headers[i].value && message->headers[i].value_len))
            return CLYMQ_EINVAL;
    return 0;
}

/* The bytes of a nullable field: a value of length 0 is empty, not missing. */
static struct bytes field(const void *ptr, size_t len)
{
    return bytes_of(ptr, ptr ? len : 0);
}

static int message_add(struct accumulator *accumulator, const clymq_message *message,
                       const struct batch_header_input *headers, struct accumulator_waiter *waiter,
                       bool *ret_notice)
{
    struct record record = {
        .timestamp_ms = message->timestamp_ms,
        .key = field(message->key, message->key_len),
        .value = field(message->value, message->value_len),
        .headers = headers,
        .header_count = (int)message->header_count,
        .opaque = message->opaque,
    };
    /* Lengths are checked one by one first, so that their sum cannot overflow. */
    if (record.key.len > accumulator->max_message_bytes || record.value.len > accumulator->max_message_bytes)
        return CLYMQ_ETOOBIG;
    for (int i = 0; i < record.header_count; i++)
        if (headers[i].value.len > accumulator->max_message_bytes)
            return CLYMQ_ETOOBIG;
    record.size = batch_record_size(record.key, record.value, headers, record.header_count);
    if (record.size + BATCH_HEADER_SIZE > accumulator->max_message_bytes ||
        record.size > accumulator->buffer_bytes)
        return CLYMQ_ETOOBIG;
    struct accumulator_topic *topic;
    int error = topic_get(accumulator, message->topic, &topic, ret_notice);
    if (error)
        return error;
    struct accumulator_partition *partition;
    if (message->partition) {
        error = partition_get(topic, message->partition, &partition);
        if (error)
            return error;
        record.target = partition;
        if (topic->count == 0)
            partition = &topic->limbo;
    } else {
        partition = choose_partition(topic, record.key);
    }
    error = partition_add(accumulator, partition, &record, true, ret_notice);
    if (error || !waiter)
        return error;
    /* A message big enough to fill its batch has closed it. */
    struct accumulator_batch *batch = partition->open ? partition->open : batch_at(partition->closed.prev);
    waiter->index = batch->count - 1;
    waiter->done = false;
    waiter->offset = -1;
    list_push_back(&batch->waiters, &waiter->link);
    accumulator_close(accumulator, partition);
    *ret_notice = true;
    return 0;
}

int accumulator_add(struct accumulator *accumulator, const clymq_message *message,
                    struct accumulator_waiter *waiter, bool *ret_notice)
{
    if (!message->topic || (!message->key && message->key_len) || (!message->value && message->value_len))
        return CLYMQ_EINVAL;
    if (message->header_count == 0)
        return message_add(accumulator, message, NULL, waiter, ret_notice);
    int error = headers_check(message);
    if (error)
        return error;
    struct batch_header_input few[8];
    struct batch_header_input *headers = few, *many = NULL;
    if (message->header_count > sizeof(few) / sizeof(few[0])) {
        headers = many = mem_calloc(message->header_count, sizeof(*many));
        if (!many)
            return CLYMQ_ENOMEM;
    }
    for (size_t i = 0; i < message->header_count; i++) {
        headers[i].key = bytes_of_text(message->headers[i].key);
        headers[i].value = field(message->headers[i].value, message->headers[i].value_len);
    }
    error = message_add(accumulator, message, headers, waiter, ret_notice);
    mem_free(many);
    return error;
}

/* ---- partitions become known ---- */

int accumulator_set_partitions(struct accumulator *accumulator, struct accumulator_topic *topic,
                               const char *const *names, size_t count)
{
    struct accumulator_partition **by_number = mem_calloc(count ? count : 1, sizeof(*by_number));
    if (!by_number)
        return CLYMQ_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        int error = partition_get(topic, names[i], &by_number[i]);
        if (error) {
            mem_free(by_number);
            return error;
        }
    }
    if (topic->count == 0 && count > 0)
        topic->sticky = (size_t)rng_below(&accumulator->rng, count);
    mem_free(topic->by_number);
    topic->by_number = by_number;
    topic->count = count;
    return 0;
}

/* Reads one encoded record back into what the builder takes. *ret_headers is the caller's to free. */
static int record_read(struct batch_record *from, struct record *ret_record,
                       struct batch_header_input **ret_headers)
{
    *ret_record = (struct record){
        .timestamp_ms = from->timestamp_ms,
        .key = from->key,
        .value = from->value,
        .header_count = from->header_count,
    };
    int error = accumulator_read_headers(from, ret_headers);
    if (error)
        return error;
    ret_record->headers = *ret_headers;
    ret_record->size =
        batch_record_size(ret_record->key, ret_record->value, ret_record->headers, ret_record->header_count);
    return 0;
}

/* Moves a waiter of the limbo batch along with its message. */
static void waiter_move(struct accumulator_batch *from, int index, struct accumulator_batch *to)
{
    LIST_FOR_EACH_SAFE(at, &from->waiters) {
        struct accumulator_waiter *waiter = CONTAINER_OF(at, struct accumulator_waiter, link);
        if (waiter->index != index || waiter->done)
            continue;
        list_remove(&waiter->link);
        waiter->index = to->count - 1;
        waiter->done = false;
        list_push_back(&to->waiters, &waiter->link);
        return;
    }
}

/* Deals one limbo batch out, from where it stopped when memory ran out. */
static int deal_batch(struct accumulator *accumulator, struct accumulator_topic *topic,
                      struct accumulator_batch *limbo)
{
    struct batch_reader reader;
    int error = accumulator_finish_plain(limbo);
    if (!error)
        error = batch_reader_begin(&reader, bytes_of(limbo->data->data, limbo->data->len), SIZE_MAX);
    if (error)
        return error;
    struct batch_record from;
    for (int index = 0; !error && batch_reader_next(&reader, &from) == 0; index++) {
        if (index < limbo->dealt)
            continue;
        struct record record;
        struct batch_header_input *headers;
        error = record_read(&from, &record, &headers);
        if (error)
            break;
        record.opaque = limbo->opaques ? limbo->opaques[index] : NULL;
        struct accumulator_partition *partition = limbo->targets[index];
        if (!partition)
            partition = choose_partition(topic, record.key);
        bool notice;
        error = partition_add(accumulator, partition, &record, false, &notice);
        mem_free(headers);
        if (error)
            break;
        limbo->dealt = index + 1;
        accumulator->messages--; /* it was counted in limbo */
        struct accumulator_batch *to = partition->open ? partition->open : batch_at(partition->closed.prev);
        if (limbo->opened_ns && (!to->opened_ns || to->opened_ns > limbo->opened_ns))
            to->opened_ns = limbo->opened_ns;
        if (to->serial > limbo->serial) { /* a flush that waits for the one waits for the other */
            to->serial = limbo->serial;
            list_remove(&to->live);
            list_insert_before(&limbo->live, &to->live);
        }
        waiter_move(limbo, index, to);
    }
    batch_reader_end(&reader);
    return error;
}

int accumulator_deal(struct accumulator *accumulator, struct accumulator_topic *topic)
{
    assert(topic->count > 0);
    accumulator_close(accumulator, &topic->limbo);
    while (!list_empty(&topic->limbo.closed)) {
        struct accumulator_batch *limbo = batch_at(topic->limbo.closed.next);
        int error = deal_batch(accumulator, topic, limbo);
        if (error)
            return error;
        accumulator_release(accumulator, limbo);
    }
    list_remove(&topic->limbo.ready);
    return 0;
}
