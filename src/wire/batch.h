/* Kafka's record batch, version 2: what is written, replicated and fetched as one, byte for byte, on disk
 * too.
 *
 * Source of the layout: Apache Kafka documentation, "Record Batch". All integers big-endian; varints are
 * zigzag.
 *
 *    0 base offset i64          8 batch length i32 (bytes after this field)   12 partition leader epoch i32
 *   16 magic i8 = 2            17 crc i32 (CRC-32C of everything from 21 on)  21 attributes i16
 *   23 last offset delta i32   27 first timestamp i64                        35 max timestamp i64
 *   43 producer id i64         51 producer epoch i16                         53 base sequence i32
 *   57 records i32             61 the records, compressed as one if attributes say so
 *
 * Base offset and leader epoch are outside the checksum, so a broker sets them in place. Pure functions; any
 * thread. */
#ifndef CLYMQ_WIRE_BATCH_H
#define CLYMQ_WIRE_BATCH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum {
    BATCH_HEADER_SIZE = 61,
    BATCH_LENGTH_END = 12, /* a batch takes 12 + batch length bytes */
    BATCH_MAGIC = 2,
};

enum batch_attributes {
    BATCH_COMPRESSION_MASK = 0x07,
    BATCH_TIMESTAMP_LOG_APPEND = 0x08, /* timestamps are the broker's (max timestamp holds for all) */
    BATCH_TRANSACTIONAL = 0x10,
    BATCH_CONTROL = 0x20,
};

enum batch_compression { BATCH_NONE = 0, BATCH_GZIP = 1, BATCH_SNAPPY = 2, BATCH_LZ4 = 3, BATCH_ZSTD = 4 };

struct batch_header {
    int64_t base_offset;
    uint32_t size; /* of the whole batch, header included */
    int32_t leader_epoch;
    uint32_t crc;
    int16_t attributes;
    int32_t last_offset_delta;                    /* >= 0 */
    int64_t first_timestamp_ms, max_timestamp_ms; /* since 1970; -1 = none */
    int64_t producer_id;                          /* -1 = none */
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t record_count;
};

static inline int64_t batch_last_offset(const struct batch_header *header)
{
    return header->base_offset + header->last_offset_delta;
}
static inline bool batch_is_control(const struct batch_header *header)
{
    return header->attributes & BATCH_CONTROL;
}

/* Reads the header at data. 0; CLYMQ_EAGAIN when data holds fewer bytes than the header or than the batch
 * (ret_header is filled as soon as the header itself is there: its size tells how much is missing);
 * CLYMQ_EBATCH for an impossible header: wrong magic, length below the header's or above max_size, negative
 * counts, delta not fitting the count, offsets that reach the last number there is. */
int batch_read_header(struct bytes data, uint32_t max_size, struct batch_header *ret_header);
/* As above, and the checksum. CLYMQ_EBATCH when it is wrong. */
int batch_check(struct bytes data, uint32_t max_size, struct batch_header *ret_header);
/* What a producer sends is checked deeper: one batch exactly, not a control batch, at least one record, a
 * producer id with an epoch and a sequence or without both, timestamps of its own (not log-append), records
 * well-formed (counted, deltas 0,1,2…, nothing left over); compressed records are decompressed to check,
 * never beyond max_records_size bytes. The max timestamp is not compared with the records'. CLYMQ_EBATCH,
 * CLYMQ_ECOMPRESSION, CLYMQ_ETOOBIG, CLYMQ_ENOMEM; CLYMQ_EUNSUPPORTED for a transactional batch. */
int batch_validate(struct bytes data, uint32_t max_size, size_t max_records_size,
                   struct batch_header *ret_header);
/* Sets offset and epoch in place; the checksum stays valid. */
void batch_assign(uint8_t *batch, int64_t base_offset, int32_t leader_epoch);

/* One record. key.ptr NULL = no key; value.ptr NULL = no value. */
struct batch_record {
    int64_t offset, timestamp_ms;
    struct bytes key, value;
    struct bytes headers; /* encoded headers, header_count of them: see batch_header_next */
    int32_t header_count;
};
struct batch_record_header {
    struct bytes key, value; /* value.ptr NULL = null */
};
/* Takes the next header off record->headers. 0, CLYMQ_ENOENT at the end, CLYMQ_EBATCH. */
int batch_header_next(struct batch_record *record, struct batch_record_header *ret_header);

/* Reads the records of the batch that data begins with (what follows it is not looked at). Uncompressed
 * records are views into data; compressed ones into memory of the reader's, bounded by max_records_size,
 * valid until batch_reader_end. The checksum is not verified here: batch_check does that. Offsets must grow
 * and stay within the header's last one. */
struct batch_reader {
    struct batch_header header;
    struct bytes rest;
    int32_t read;
    int32_t last_delta; /* -1 before the first record */
    uint8_t *inflated;  /* owned */
};
/* 0; CLYMQ_EBATCH (also when the batch is not all there), CLYMQ_ECOMPRESSION, CLYMQ_ETOOBIG, CLYMQ_ENOMEM. On
 * failure nothing is held and batch_reader_end must not be called. */
int batch_reader_begin(struct batch_reader *reader, struct bytes data, size_t max_records_size);
/* 0, CLYMQ_ENOENT after the last record, CLYMQ_EBATCH. */
int batch_reader_next(struct batch_reader *reader, struct batch_record *ret_record);
void batch_reader_end(struct batch_reader *reader);

/* Builds one batch. Zeroed producer fields mean none only through batch_builder_init. Records are appended to
 * one growing buffer; batch_builder_finish compresses (keeping the smaller of both where compression does not
 * help is up to the builder: it then stores them uncompressed), fills the header, computes the checksum and
 * hands the bytes over. */
struct batch_builder {
    struct buf *buf; /* header room, then records */
    int16_t attributes;
    int64_t first_timestamp_ms, max_timestamp_ms;
    int64_t producer_id;
    int16_t producer_epoch;
    int32_t base_sequence;
    int32_t count;
};
struct batch_header_input {
    struct bytes key, value;
};
/* size_hint: bytes of records expected, 0 = unknown. 0 or CLYMQ_ENOMEM. The producer's fields and the
 * attributes (control, transactional) may be set until batch_builder_finish. */
int batch_builder_init(struct batch_builder *builder, size_t size_hint);
/* Upper bound of the bytes that this record adds. */
size_t batch_record_size(struct bytes key, struct bytes value, const struct batch_header_input *headers,
                         int count);
/* 0, CLYMQ_ENOMEM, CLYMQ_ETOOBIG (a batch is below 2 GiB); unchanged on failure. */
int batch_builder_add(struct batch_builder *builder, int64_t timestamp_ms, struct bytes key,
                      struct bytes value, const struct batch_header_input *headers, int header_count);
/* The batch, base offset 0 and epoch -1, as a new buffer owned by the caller; the builder is empty afterwards
 * and must be initialised again. CLYMQ_EINVAL without records, CLYMQ_ENOMEM, CLYMQ_ECOMPRESSION. level 0 =
 * the codec's default. */
int batch_builder_finish(struct batch_builder *builder, enum batch_compression compression, int level,
                         struct buf **ret_batch);
void batch_builder_free(struct batch_builder *builder);

/* "none", "gzip", "snappy", "lz4", "zstd"; NULL for anything else. */
const char *batch_compression_name(int compression);

#endif
