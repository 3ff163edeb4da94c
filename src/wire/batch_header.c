/* The record batch's header: reading it, the checksum, the fields that a broker sets in place, and the
 * codecs' names. */
#include "base/crc32c.h"
#include "base/error.h"
#include "wire/batch.h"
#include "wire/byte_order.h"

enum { CRC_AT = 17, CRC_FROM = 21 };

int batch_read_header(struct bytes data, uint32_t max_size, struct batch_header *ret_header)
{
    if (data.len < BATCH_HEADER_SIZE)
        return CLYMQ_EAGAIN;
    const uint8_t *at = data.ptr;
    uint32_t length = load_be32(at + 8);
    if (at[16] != BATCH_MAGIC || length > INT32_MAX - BATCH_LENGTH_END ||
        length < BATCH_HEADER_SIZE - BATCH_LENGTH_END || length > max_size ||
        length + BATCH_LENGTH_END > max_size)
        return CLYMQ_EBATCH;
    struct batch_header header = {
        .base_offset = (int64_t)load_be64(at),
        .size = length + BATCH_LENGTH_END,
        .leader_epoch = (int32_t)load_be32(at + 12),
        .crc = load_be32(at + CRC_AT),
        .attributes = (int16_t)load_be16(at + 21),
        .last_offset_delta = (int32_t)load_be32(at + 23),
        .first_timestamp_ms = (int64_t)load_be64(at + 27),
        .max_timestamp_ms = (int64_t)load_be64(at + 35),
        .producer_id = (int64_t)load_be64(at + 43),
        .producer_epoch = (int16_t)load_be16(at + 51),
        .base_sequence = (int32_t)load_be32(at + 53),
        .record_count = (int32_t)load_be32(at + 57),
    };
    /* A compacted batch keeps its last offset although records are gone, so the delta may exceed the count.
     */
    if (header.record_count < 0 || header.last_offset_delta < 0 ||
        header.record_count - 1 > header.last_offset_delta)
        return CLYMQ_EBATCH;
    if (header.base_offset > INT64_MAX - 1 - header.last_offset_delta)
        return CLYMQ_EBATCH; /* no offset is left for the batch behind it */
    *ret_header = header;
    return data.len < header.size ? CLYMQ_EAGAIN : 0;
}

int batch_check(struct bytes data, uint32_t max_size, struct batch_header *ret_header)
{
    int error = batch_read_header(data, max_size, ret_header);
    if (error)
        return error;
    return crc32c(0, data.ptr + CRC_FROM, ret_header->size - CRC_FROM) == ret_header->crc ? 0 : CLYMQ_EBATCH;
}

void batch_assign(uint8_t *batch, int64_t base_offset, int32_t leader_epoch)
{
    store_be64(batch, (uint64_t)base_offset);
    store_be32(batch + 12, (uint32_t)leader_epoch);
}

static const char *const compression_names[] = {[BATCH_NONE] = "none",
                                                [BATCH_GZIP] = "gzip",
                                                [BATCH_SNAPPY] = "snappy",
                                                [BATCH_LZ4] = "lz4",
                                                [BATCH_ZSTD] = "zstd"};
enum { COMPRESSION_COUNT = sizeof(compression_names) / sizeof(compression_names[0]) };

const char *batch_compression_name(int compression)
{
    return compression >= 0 && compression < COMPRESSION_COUNT ? compression_names[compression] : NULL;
}
