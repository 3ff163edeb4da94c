/* Reading a batch's records, and the deep check of what a producer sends. A record (Apache Kafka
 * documentation, "Record"): length varint, attributes i8, timestamp delta varlong, offset delta varint, key
 * length varint, key, value length varint, value, header count varint, headers; a length of -1 is null. Every
 * record is read by the same function, inlined into the check, which is on the path of each push. */

#include "base/error.h"
#include "base/mem.h"
#include "wire/batch.h"
#include "wire/byte_order.h"
#include "wire/compress.h"
#include "wire/varint.h"

/* length, attributes, two deltas, two lengths, header count: a byte each */
enum { RECORD_LEAST_SIZE = 7 };

struct raw_record {
    int64_t timestamp_delta;
    int32_t offset_delta, header_count;
    struct bytes key, value, headers;
};

/* A length that may be -1 (null) and so many bytes. */
static inline const uint8_t *read_nullable(const uint8_t *at, const uint8_t *end, struct bytes *ret_bytes)
{
    int32_t len;
    at = varint_read_i32(at, end, &len);
    if (!at || len < -1 || len > end - at)
        return NULL;
    if (len < 0) {
        *ret_bytes = (struct bytes){0};
        return at;
    }
    *ret_bytes = bytes_of(at, (size_t)len);
    return at + len;
}

static inline const uint8_t *read_header(const uint8_t *at, const uint8_t *end,
                                         struct batch_record_header *ret_header)
{
    at = read_nullable(at, end, &ret_header->key);
    if (!at || !ret_header->key.ptr)
        return NULL; /* a header's key is never null */
    return read_nullable(at, end, &ret_header->value);
}

/* The record at [at, end); returns the place behind it, or NULL when malformed. Headers are not looked into.
 */
static inline const uint8_t *read_record(const uint8_t *at, const uint8_t *end, struct raw_record *ret_record)
{
    int32_t len;
    at = varint_read_i32(at, end, &len);
    if (!at || len < RECORD_LEAST_SIZE - 1 || len > end - at)
        return NULL;
    end = at + len;
    at++; /* attributes: none are defined */
    if (!(at = varint_read_i64(at, end, &ret_record->timestamp_delta)) ||
        !(at = varint_read_i32(at, end, &ret_record->offset_delta)) ||
        !(at = read_nullable(at, end, &ret_record->key)) ||
        !(at = read_nullable(at, end, &ret_record->value)) ||
        !(at = varint_read_i32(at, end, &ret_record->header_count)))
        return NULL;
    /* Each header takes two bytes or more. */
    if (ret_record->header_count < 0 || ret_record->header_count > (end - at) / 2)
        return NULL;
    ret_record->headers = bytes_of(at, (size_t)(end - at));
    return end;
}

static bool headers_good(const struct raw_record *record)
{
    const uint8_t *at = record->headers.ptr, *end = at + record->headers.len;
    for (int32_t i = 0; i < record->header_count; i++) {
        struct batch_record_header header;
        if (!(at = read_header(at, end, &header)))
            return false;
    }
    return at == end;
}

/* The records of a batch as plain bytes: a view, or owned memory in *ret_inflated. */
static int plain_records(struct bytes data, const struct batch_header *header, size_t max_records_size,
                         struct bytes *ret_records, uint8_t **ret_inflated)
{
    struct bytes packed = bytes_of(data.ptr + BATCH_HEADER_SIZE, header->size - BATCH_HEADER_SIZE);
    int compression = header->attributes & BATCH_COMPRESSION_MASK;
    if (!batch_compression_name(compression))
        return CLYMQ_ECOMPRESSION;
    if (compression == BATCH_NONE) {
        *ret_records = packed;
        *ret_inflated = NULL;
        return 0;
    }
    uint8_t *plain;
    size_t len;
    int error = compress_inflate(compression, packed, max_records_size, &plain, &len);
    if (error)
        return error;
    *ret_records = bytes_of(plain, len);
    *ret_inflated = plain;
    return 0;
}

static int check_records(struct bytes records, const struct batch_header *header)
{
    const uint8_t *at = records.ptr, *end = at + records.len;
    if ((size_t)header->record_count > records.len / RECORD_LEAST_SIZE)
        return CLYMQ_EBATCH;
    for (int32_t i = 0; i < header->record_count; i++) {
        struct raw_record record;
        at = read_record(at, end, &record);
        if (!at || record.offset_delta != i)
            return CLYMQ_EBATCH;
        if ((record.header_count || record.headers.len) && !headers_good(&record))
            return CLYMQ_EBATCH;
    }
    return at == end ? 0 : CLYMQ_EBATCH;
}

int batch_validate(struct bytes data, uint32_t max_size, size_t max_records_size,
                   struct batch_header *ret_header)
{
    struct batch_header header;
    if (data.len > max_size)
        return CLYMQ_ETOOBIG;
    int error = batch_check(data, max_size, &header);
    if (error)
        return CLYMQ_EBATCH;
    if (header.size != data.len || header.record_count == 0 ||
        header.last_offset_delta != header.record_count - 1 ||
        header.attributes & (BATCH_CONTROL | BATCH_TIMESTAMP_LOG_APPEND))
        return CLYMQ_EBATCH;
    if (header.attributes & BATCH_TRANSACTIONAL)
        return CLYMQ_EUNSUPPORTED;
    bool idempotent = header.producer_id >= 0;
    if (header.producer_id < -1 || (idempotent && (header.producer_epoch < 0 || header.base_sequence < 0)))
        return CLYMQ_EBATCH;
    struct bytes records;
    uint8_t *inflated MEM_CLEANUP = NULL;
    error = plain_records(data, &header, max_records_size, &records, &inflated);
    if (!error)
        error = check_records(records, &header);
    if (!error)
        *ret_header = header;
    return error;
}

int batch_reader_begin(struct batch_reader *reader, struct bytes data, size_t max_records_size)
{
    struct batch_reader begun = {.last_delta = -1};
    if (batch_read_header(data, UINT32_MAX, &begun.header))
        return CLYMQ_EBATCH;
    int error = plain_records(data, &begun.header, max_records_size, &begun.rest, &begun.inflated);
    if (error)
        return error;
    *reader = begun;
    return 0;
}

int batch_reader_next(struct batch_reader *reader, struct batch_record *ret_record)
{
    const struct batch_header *header = &reader->header;
    if (reader->read == header->record_count)
        return reader->rest.len == 0 ? CLYMQ_ENOENT : CLYMQ_EBATCH;
    const uint8_t *end = reader->rest.ptr + reader->rest.len;
    struct raw_record record;
    const uint8_t *at = read_record(reader->rest.ptr, end, &record);
    if (!at || record.offset_delta <= reader->last_delta || record.offset_delta > header->last_offset_delta)
        return CLYMQ_EBATCH;
    reader->rest = bytes_of(at, (size_t)(end - at));
    reader->last_delta = record.offset_delta;
    reader->read++;
    /* Sums of two numbers from the wire: wrapped, not undefined. */
    int64_t own = (int64_t)((uint64_t)header->first_timestamp_ms + (uint64_t)record.timestamp_delta);
    *ret_record = (struct batch_record){
        .offset = (int64_t)((uint64_t)header->base_offset + (uint64_t)record.offset_delta),
        .timestamp_ms = header->attributes & BATCH_TIMESTAMP_LOG_APPEND ? header->max_timestamp_ms : own,
        .key = record.key,
        .value = record.value,
        .headers = record.headers,
        .header_count = record.header_count,
    };
    return 0;
}

void batch_reader_end(struct batch_reader *reader)
{
    mem_free(reader->inflated);
    *reader = (struct batch_reader){0};
}

int batch_header_next(struct batch_record *record, struct batch_record_header *ret_header)
{
    if (record->header_count == 0)
        return record->headers.len == 0 ? CLYMQ_ENOENT : CLYMQ_EBATCH;
    const uint8_t *end = record->headers.ptr + record->headers.len;
    struct batch_record_header header;
    const uint8_t *at = read_header(record->headers.ptr, end, &header);
    if (!at)
        return CLYMQ_EBATCH;
    record->headers = bytes_of(at, (size_t)(end - at));
    record->header_count--;
    *ret_header = header;
    return 0;
}
