/* The consumer core's reading side: takes fetched chunks apart into messages, which are views into the
 * fetched bytes. Every batch's checksum is verified here, since servers send from disk without looking. */
#include <assert.h>

#include "base/mem.h"
#include "client/consumer_state.h"

enum { RECORDS_MAX = 256 << 20 }; /* a compressed batch may grow to that, never more */

/* The chunk is done with: its room is free again. position >= 0: the rest was not usable, the partition goes
 * back there. */
static void reader_drop_chunk(struct core_consumer *consumer, int64_t position)
{
    struct consumer_reader *reader = &consumer->reader;
    struct consumer_chunk *chunk = reader->chunk;
    if (reader->in_batch)
        batch_reader_end(&reader->batch);
    reader->in_batch = false;
    reader->chunk = NULL;
    consumer_lock(consumer);
    struct consumer_partition *partition = chunk->partition;
    consumer->used -= chunk->charged;
    partition->queued -= chunk->charged;
    bool current = chunk->generation == partition->generation;
    if (chunk->error && current)
        partition->halted = false;
    if (position >= 0 && current) {
        partition->position = position;
        partition->generation++;
    }
    if ((chunk->error || position >= 0) && current) {
        partition->resumed = true;
        consumer_wake_partition(partition);
    } else if (partition->full) {
        consumer_wake_partition(partition);
    } else if (!list_empty(&consumer->starving)) {
        consumer_signal(consumer);
    }
    consumer_unlock(consumer);
    consumer_chunk_free(chunk);
}

/* Takes the next chunk of a current assignment. */
static bool reader_take_chunk(struct core_consumer *consumer)
{
    struct consumer_reader *reader = &consumer->reader;
    for (;;) {
        consumer_lock(consumer);
        struct list *at = list_pop_front(&consumer->chunks);
        bool current = false;
        if (at) {
            reader->chunk = CONTAINER_OF(at, struct consumer_chunk, link);
            current = reader->chunk->generation == reader->chunk->partition->generation;
            reader->placements = atomic_load_explicit(&consumer->placements, memory_order_relaxed);
        }
        consumer_unlock(consumer);
        if (!at)
            return false;
        reader->rest = reader->chunk->batches;
        if (current)
            return true;
        reader_drop_chunk(consumer, -1);
    }
}

/* Lets go of a chunk whose partition has been assigned anew since it was begun. Looks without the lock, since
 * this is for each message: who assigns and then reads does so on one thread. */
static void reader_leave_old_place(struct core_consumer *consumer)
{
    struct consumer_reader *reader = &consumer->reader;
    unsigned placements = atomic_load_explicit(&consumer->placements, memory_order_relaxed);
    if (!reader->chunk || reader->placements == placements)
        return;
    reader->placements = placements;
    consumer_lock(consumer);
    bool current = reader->chunk->generation == reader->chunk->partition->generation;
    consumer_unlock(consumer);
    if (!current)
        reader_drop_chunk(consumer, -1);
}

static int reader_fill_headers(struct consumer_reader *reader, struct batch_record *record)
{
    size_t count = (size_t)record->header_count;
    if (count > reader->header_cap) {
        clymq_header *grown = mem_realloc(reader->headers, count * sizeof(*grown));
        if (!grown)
            return CLYMQ_ENOMEM;
        reader->headers = grown;
        reader->header_cap = count;
    }
    reader->keys.len = 0;
    /* First the texts, which may move while they grow, then the pointers into them. (A key may hold a NUL,
     * so that its text ends early.) */
    struct batch_record_header header;
    size_t filled = 0;
    while (filled < count && batch_header_next(record, &header) == 0) {
        const char *place = (const char *)(uintptr_t)reader->keys.len;
        reader->headers[filled++] = (clymq_header){place, header.value.ptr, header.value.len};
        strbuf_append(&reader->keys, header.key.ptr, header.key.len);
        strbuf_append(&reader->keys, "", 1);
    }
    if (reader->keys.failed) {
        strbuf_free(&reader->keys);
        reader->keys = (struct strbuf){0};
        return CLYMQ_ENOMEM;
    }
    for (size_t i = 0; i < filled; i++)
        reader->headers[i].key = reader->keys.data + (uintptr_t)reader->headers[i].key;
    reader->message.header_count = filled;
    return 0;
}

static int reader_fill(struct consumer_reader *reader, struct batch_record *record)
{
    struct consumer_partition *partition = reader->chunk->partition;
    reader->message = (clymq_message){
        .topic = partition->topic->name,
        .partition = partition->name,
        .offset = record->offset,
        .timestamp_ms = record->timestamp_ms,
        .key = record->key.ptr,
        .key_len = record->key.len,
        .value = record->value.ptr,
        .value_len = record->value.len,
    };
    if (record->header_count <= 0)
        return 0;
    int error = reader_fill_headers(reader, record);
    reader->message.headers = reader->headers;
    return error;
}

/* Begins the next batch that has something for us. 0, CLYMQ_ENOENT at the chunk's end, or an error. */
static int reader_begin_batch(struct consumer_reader *reader)
{
    while (reader->rest.len) {
        struct batch_header header;
        int error = batch_check(reader->rest, UINT32_MAX, &header);
        if (error)
            return error == CLYMQ_EAGAIN ? CLYMQ_EBATCH : error;
        struct bytes batch = bytes_of(reader->rest.ptr, header.size);
        if (!batch_is_control(&header) && batch_last_offset(&header) >= reader->chunk->wanted) {
            error = batch_reader_begin(&reader->batch, batch, RECORDS_MAX);
            if (error)
                return error;
            reader->in_batch = true;
        }
        reader->rest = bytes_of(batch.ptr + batch.len, reader->rest.len - batch.len);
        if (reader->in_batch)
            return 0;
    }
    return CLYMQ_ENOENT;
}

/* The next message of the chunk: 0, CLYMQ_ENOENT at its end, or an error. */
static int reader_next(struct consumer_reader *reader)
{
    for (;;) {
        if (!reader->in_batch) {
            int begun = reader_begin_batch(reader);
            if (begun)
                return begun;
        }
        struct batch_record record;
        int error = batch_reader_next(&reader->batch, &record);
        if (error == CLYMQ_ENOENT) {
            batch_reader_end(&reader->batch);
            reader->in_batch = false;
            continue;
        }
        if (error)
            return error;
        if (record.offset < reader->chunk->wanted)
            continue;
        return reader_fill(reader, &record);
    }
}

int core_consumer_next(struct core_consumer *consumer, const clymq_message **ret_message)
{
    struct consumer_reader *reader = &consumer->reader;
    reader_leave_old_place(consumer);
    for (;;) {
        if (!reader->chunk && !reader_take_chunk(consumer))
            return 0;
        struct consumer_chunk *chunk = reader->chunk;
        int error = chunk->error ? chunk->error : reader_next(reader);
        if (!error) {
            chunk->wanted = reader->message.offset + 1; /* what is left, should it have to be read anew */
            *ret_message = &reader->message;
            return 1;
        }
        if (error == CLYMQ_ENOENT && !chunk->error) {
            reader_drop_chunk(consumer, -1);
            continue;
        }
        /* What cannot be read back was damaged on its way or on the disk. */
        if (error == CLYMQ_EBATCH || error == CLYMQ_ECOMPRESSION)
            error = CLYMQ_ECORRUPT;
        reader->message = (clymq_message){.topic = chunk->partition->topic->name,
                                          .partition = chunk->partition->name,
                                          .offset = chunk->wanted};
        *ret_message = &reader->message;
        reader->sentence = chunk->sentence ? chunk->sentence : error_sentence(error);
        reader_drop_chunk(consumer, chunk->error ? -1 : chunk->wanted);
        return error;
    }
}

const char *core_consumer_sentence(const struct core_consumer *consumer)
{
    return consumer->reader.sentence;
}

bool core_consumer_at_end(struct core_consumer *consumer)
{
    struct consumer_reader *reader = &consumer->reader;
    if (reader->chunk && (reader->in_batch || reader->rest.len)) {
        /* What is left may be records that are skipped, but that is known only by looking. */
        if (reader->rest.len || reader->batch.read < reader->batch.header.record_count)
            return false;
    }
    consumer_lock(consumer);
    bool at_end = true;
    LIST_FOR_EACH(at, &consumer->chunks)
        at_end = false;
    LIST_FOR_EACH(at, &consumer->partitions) {
        struct consumer_partition *partition = CONTAINER_OF(at, struct consumer_partition, link);
        if (partition->assigned &&
            (partition->high_watermark < 0 || partition->position < partition->high_watermark))
            at_end = false;
    }
    consumer_unlock(consumer);
    return at_end;
}

void consumer_reader_end(struct core_consumer *consumer)
{
    struct consumer_reader *reader = &consumer->reader;
    if (reader->in_batch)
        batch_reader_end(&reader->batch);
    if (reader->chunk)
        consumer_chunk_free(reader->chunk);
    mem_free(reader->headers);
    strbuf_free(&reader->keys);
    *reader = (struct consumer_reader){0};
}
