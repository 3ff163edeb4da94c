/* The producer table as bytes: for snapshots beside a block and for the control batch that begins a block;
 * and the fold over the log's batches that makes it again. Layout (big-endian; docs/file-format.md, "Producer
 * table"):
 *
 *   version u8 = 1
 *   producers u32, each: id i64, epoch i16, last_ms i64, batches u8, each: base sequence i32, last sequence
 * i32, base offset i64 sessions u32, each: key length u16, key (session i64 in host-independent order, name),
 * last_ms i64, pushes u32, each oldest first: command index i64, offset i64
 */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "partition/producers.h"
#include "partition/producers_table.h"

enum {
    PRODUCERS_VERSION = 1,
    CONTROL_KEY_VERSION = 0,
    /* Kafka's control record types end far below; clients skip control batches whatever their type. */
    CONTROL_TYPE_PRODUCERS = 0x434c,
};

static void put(struct strbuf *out, uint64_t value, unsigned size)
{
    uint8_t bytes[8];
    for (unsigned i = 0; i < size; i++)
        bytes[i] = (uint8_t)(value >> (8 * (size - 1 - i)));
    strbuf_append(out, bytes, size);
}

struct cursor {
    struct bytes rest;
    bool failed;
};

static uint64_t take(struct cursor *in, unsigned size)
{
    if (in->failed || in->rest.len < size) {
        in->failed = true;
        return 0;
    }
    uint64_t value = 0;
    for (unsigned i = 0; i < size; i++)
        value = value << 8 | in->rest.ptr[i];
    in->rest.ptr += size;
    in->rest.len -= size;
    return value;
}

static int64_t session_number(const uint8_t *key)
{
    int64_t session;
    memcpy(&session, key, sizeof(session));
    return session;
}

void producers_save(const struct producers *producers, struct strbuf *out)
{
    put(out, PRODUCERS_VERSION, 1);
    put(out, map_count(producers->by_id), 4);
    LIST_FOR_EACH(at, &producers->batch_lru) {
        const struct batch_producer *entry = CONTAINER_OF(at, struct batch_producer, lru);
        put(out, (uint64_t)entry->id, 8);
        put(out, (uint16_t)entry->epoch, 2);
        put(out, (uint64_t)entry->last_ms, 8);
        put(out, entry->batch_count, 1);
        for (unsigned i = 0; i < entry->batch_count; i++) {
            put(out, (uint32_t)entry->batches[i].base_sequence, 4);
            put(out, (uint32_t)entry->batches[i].last_sequence, 4);
            put(out, (uint64_t)entry->batches[i].base_offset, 8);
        }
    }
    put(out, map_count(producers->by_session), 4);
    LIST_FOR_EACH(at, &producers->session_lru) {
        const struct session *entry = CONTAINER_OF(at, struct session, lru);
        put(out, entry->key_len, 2);
        put(out, (uint64_t)session_number(entry->key), 8);
        strbuf_append(out, entry->key + 8, entry->key_len - 8u);
        put(out, (uint64_t)entry->last_ms, 8);
        put(out, entry->count, 4);
        for (uint32_t i = 0; i < entry->count; i++) {
            const struct session_push *push =
                &entry->known[(entry->next + entry->cap - entry->count + i) % entry->cap];
            put(out, (uint64_t)push->command_index, 8);
            put(out, (uint64_t)push->offset, 8);
        }
    }
}

static int load_batch_producers(struct producers *producers, struct cursor *in)
{
    uint32_t count = (uint32_t)take(in, 4);
    for (uint32_t i = 0; i < count && !in->failed; i++) {
        int64_t id = (int64_t)take(in, 8);
        int16_t epoch = (int16_t)take(in, 2);
        int64_t last_ms = (int64_t)take(in, 8);
        unsigned batches = (unsigned)take(in, 1);
        if (in->failed || batches > PRODUCERS_BATCHES)
            return CLYMQ_ECORRUPT;
        struct batch_producer *entry = producers_ensure(producers, id, epoch);
        if (!entry)
            return CLYMQ_ENOMEM;
        entry->last_ms = last_ms;
        entry->batch_count = (uint8_t)batches;
        for (unsigned b = 0; b < batches; b++) {
            entry->batches[b].base_sequence = (int32_t)take(in, 4);
            entry->batches[b].last_sequence = (int32_t)take(in, 4);
            entry->batches[b].base_offset = (int64_t)take(in, 8);
        }
    }
    return in->failed ? CLYMQ_ECORRUPT : 0;
}

static int load_sessions(struct producers *producers, struct cursor *in)
{
    uint32_t count = (uint32_t)take(in, 4);
    for (uint32_t i = 0; i < count && !in->failed; i++) {
        unsigned key_len = (unsigned)take(in, 2);
        int64_t session = (int64_t)take(in, 8);
        if (in->failed || key_len < 8 || key_len > SESSION_KEY_MAX || in->rest.len < key_len - 8)
            return CLYMQ_ECORRUPT;
        struct bytes producer = {in->rest.ptr, key_len - 8};
        in->rest.ptr += producer.len;
        in->rest.len -= producer.len;
        int64_t last_ms = (int64_t)take(in, 8);
        uint32_t pushes = (uint32_t)take(in, 4);
        if (in->failed || pushes == 0 || pushes > SESSION_WINDOW_MAX)
            return CLYMQ_ECORRUPT;
        for (uint32_t p = 0; p < pushes; p++) {
            int64_t command_index = (int64_t)take(in, 8);
            int64_t offset = (int64_t)take(in, 8);
            if (in->failed)
                return CLYMQ_ECORRUPT;
            int error = producers_note_session(producers, producer, session, command_index, offset, last_ms);
            if (error)
                return error;
        }
    }
    return in->failed || in->rest.len != 0 ? CLYMQ_ECORRUPT : 0;
}

int producers_load(struct producers *producers, struct bytes state)
{
    struct cursor in = {state, false};
    producers_clear(producers);
    int error;
    uint64_t version = take(&in, 1);
    if (in.failed)
        error = CLYMQ_ECORRUPT;
    else if (version != PRODUCERS_VERSION)
        error = CLYMQ_EFORMAT;
    else
        error = load_batch_producers(producers, &in);
    if (!error)
        error = load_sessions(producers, &in);
    if (error)
        producers_clear(producers);
    return error;
}

int producers_control_batch(const struct producers *producers, struct buf **ret_batch)
{
    struct strbuf state = {0};
    producers_save(producers, &state);
    int error = state.failed ? CLYMQ_ENOMEM : 0;
    struct batch_builder builder;
    if (!error)
        error = batch_builder_init(&builder, state.len + 64);
    if (!error) {
        const uint8_t key[4] = {0, CONTROL_KEY_VERSION, CONTROL_TYPE_PRODUCERS >> 8,
                                CONTROL_TYPE_PRODUCERS & 0xff};
        builder.attributes |= BATCH_CONTROL;
        /* Without a timestamp, so that no search by time ends here. */
        error = batch_builder_add(&builder, -1, bytes_of(key, sizeof(key)), bytes_of(state.data, state.len),
                                  NULL, 0);
        if (!error)
            error = batch_builder_finish(&builder, BATCH_NONE, 0, ret_batch);
        batch_builder_free(&builder);
    }
    strbuf_free(&state);
    return error;
}

/* The table inside a control batch, if it is one of ours. */
static int note_control(struct producers *producers, struct batch_reader *reader)
{
    struct batch_record record;
    int error = batch_reader_next(reader, &record);
    if (error)
        return error == CLYMQ_ENOENT ? 0 : error;
    const uint8_t *key = record.key.ptr;
    if (record.key.len != 4 || (key[2] << 8 | key[3]) != CONTROL_TYPE_PRODUCERS)
        return 0;
    return producers_load(producers, record.value);
}

static int note_sessions(struct producers *producers, struct batch_reader *reader)
{
    struct batch_record record;
    int error;
    while ((error = batch_reader_next(reader, &record)) == 0) {
        struct batch_record_header header;
        int64_t offset = record.offset, timestamp_ms = record.timestamp_ms;
        while ((error = batch_header_next(&record, &header)) == 0) {
            if (!bytes_equal(header.key, BYTES_LITERAL(PRODUCERS_SESSION_HEADER)) ||
                header.value.len < PRODUCERS_SESSION_VALUE)
                continue;
            struct cursor in = {header.value, false};
            int64_t session = (int64_t)take(&in, 8);
            int64_t command_index = (int64_t)take(&in, 8);
            if (take(&in, 4) != producers_offset_crc(producers->place, offset))
                continue; /* a client's copy */
            error = producers_note_session(producers, in.rest, session, command_index, offset, timestamp_ms);
            if (error)
                return error;
        }
        if (error != CLYMQ_ENOENT)
            return error;
    }
    return error == CLYMQ_ENOENT ? 0 : error;
}

int producers_note_batch(struct producers *producers, const struct batch_header *header, struct bytes batch,
                         int64_t now_ms)
{
    if (header->producer_id >= 0)
        return producers_note_header(producers, header, now_ms);
    /* Single pushes are written uncompressed by the partition itself; a producer's own batch without an id
     * has nothing to remember. */
    if (header->attributes & BATCH_COMPRESSION_MASK)
        return 0;
    struct batch_reader reader;
    int error = batch_reader_begin(&reader, batch, batch.len);
    if (error)
        return error;
    error = batch_is_control(header) ? note_control(producers, &reader) : note_sessions(producers, &reader);
    batch_reader_end(&reader);
    return error;
}
