/* Building a batch: records are written one behind the other after room for the header, which is filled at
 * the end. */
#include <assert.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "wire/batch.h"
#include "wire/byte_order.h"
#include "wire/compress.h"
#include "wire/varint.h"

enum {
    FIRST_CAPACITY = 4096, /* where the caller gives no hint */
    BATCH_SIZE_MAX = INT32_MAX - BATCH_LENGTH_END,
};

static size_t nullable_size(struct bytes bytes)
{
    return bytes.ptr ? (size_t)varint_size(zigzag_encode((int64_t)bytes.len)) + bytes.len : 1;
}

static uint8_t *put_nullable(uint8_t *at, struct bytes bytes)
{
    if (!bytes.ptr)
        return varint_write(at, zigzag_encode(-1));
    at = varint_write(at, zigzag_encode((int64_t)bytes.len));
    if (bytes.len)
        memcpy(at, bytes.ptr, bytes.len);
    return at + bytes.len;
}

size_t batch_record_size(struct bytes key, struct bytes value, const struct batch_header_input *headers,
                         int count)
{
    size_t size = 1 + VARINT_MAX_SIZE + 5 * VARINT32_MAX_SIZE + key.len + value.len;
    for (int i = 0; i < count; i++)
        size += 2 * VARINT32_MAX_SIZE + headers[i].key.len + headers[i].value.len;
    return size;
}

int batch_builder_init(struct batch_builder *builder, size_t size_hint)
{
    struct buf *buf = buf_new(BATCH_HEADER_SIZE + (size_hint ? size_hint : FIRST_CAPACITY));
    if (!buf)
        return CLYMQ_ENOMEM;
    buf->len = BATCH_HEADER_SIZE;
    *builder = (struct batch_builder){.buf = buf,
                                      .first_timestamp_ms = -1,
                                      .max_timestamp_ms = -1,
                                      .producer_id = -1,
                                      .producer_epoch = -1,
                                      .base_sequence = -1};
    return 0;
}

static int reserve(struct batch_builder *builder, size_t more)
{
    struct buf *buf = builder->buf;
    if (buf->cap - buf->len >= more)
        return 0;
    size_t cap = buf->cap * 2 > buf->len + more ? buf->cap * 2 : buf->len + more;
    struct buf *grown = buf_new(cap);
    if (!grown)
        return CLYMQ_ENOMEM;
    memcpy(grown->data, buf->data, buf->len);
    grown->len = buf->len;
    buf_unref(buf);
    builder->buf = grown;
    return 0;
}

int batch_builder_add(struct batch_builder *builder, int64_t timestamp_ms, struct bytes key,
                      struct bytes value, const struct batch_header_input *headers, int header_count)
{
    assert(builder->buf && header_count >= 0);
    int64_t first = builder->count ? builder->first_timestamp_ms : timestamp_ms;
    uint64_t delta = zigzag_encode((int64_t)((uint64_t)timestamp_ms - (uint64_t)first));
    size_t body = 1 + (size_t)varint_size(delta) + (size_t)varint_size(zigzag_encode(builder->count)) +
                  nullable_size(key) + nullable_size(value) +
                  (size_t)varint_size(zigzag_encode(header_count));
    for (int i = 0; i < header_count; i++) {
        assert(headers[i].key.ptr);
        body += nullable_size(headers[i].key) + nullable_size(headers[i].value);
    }
    if (key.len > BATCH_SIZE_MAX || value.len > BATCH_SIZE_MAX || body > BATCH_SIZE_MAX ||
        builder->buf->len + body + VARINT32_MAX_SIZE > BATCH_SIZE_MAX)
        return CLYMQ_ETOOBIG;
    int error = reserve(builder, body + VARINT32_MAX_SIZE);
    if (error)
        return error;

    uint8_t *at = builder->buf->data + builder->buf->len;
    at = varint_write(at, zigzag_encode((int64_t)body));
    uint8_t *start = at;
    *at++ = 0; /* attributes */
    at = varint_write(at, delta);
    at = varint_write(at, zigzag_encode(builder->count));
    at = put_nullable(at, key);
    at = put_nullable(at, value);
    at = varint_write(at, zigzag_encode(header_count));
    for (int i = 0; i < header_count; i++) {
        at = put_nullable(at, headers[i].key);
        at = put_nullable(at, headers[i].value);
    }
    assert((size_t)(at - start) == body);
    builder->buf->len = (size_t)(at - builder->buf->data);
    builder->first_timestamp_ms = first;
    if (builder->count == 0 || timestamp_ms > builder->max_timestamp_ms)
        builder->max_timestamp_ms = timestamp_ms;
    builder->count++;
    return 0;
}

static void fill_header(const struct batch_builder *builder, enum batch_compression compression,
                        struct buf *batch)
{
    uint8_t *at = batch->data;
    store_be64(at, 0);
    store_be32(at + 8, (uint32_t)(batch->len - BATCH_LENGTH_END));
    store_be32(at + 12, UINT32_MAX); /* epoch -1 */
    at[16] = BATCH_MAGIC;
    store_be16(at + 21, (uint16_t)((builder->attributes & ~BATCH_COMPRESSION_MASK) | compression));
    store_be32(at + 23, (uint32_t)(builder->count - 1));
    store_be64(at + 27, (uint64_t)builder->first_timestamp_ms);
    store_be64(at + 35, (uint64_t)builder->max_timestamp_ms);
    store_be64(at + 43, (uint64_t)builder->producer_id);
    store_be16(at + 51, (uint16_t)builder->producer_epoch);
    store_be32(at + 53, (uint32_t)builder->base_sequence);
    store_be32(at + 57, (uint32_t)builder->count);
    store_be32(at + 17, crc32c(0, at + 21, batch->len - 21));
}

int batch_builder_finish(struct batch_builder *builder, enum batch_compression compression, int level,
                         struct buf **ret_batch)
{
    if (!builder->buf || builder->count == 0)
        return CLYMQ_EINVAL;
    struct buf *plain = builder->buf, *batch = NULL;
    if (compression != BATCH_NONE) {
        struct bytes records = bytes_of(plain->data + BATCH_HEADER_SIZE, plain->len - BATCH_HEADER_SIZE);
        int error = compress_deflate(compression, level, records, BATCH_HEADER_SIZE, &batch);
        if (error)
            return error;
        if (batch->len >= plain->len) { /* it does not help: readers need not pay for it */
            buf_unref(batch);
            batch = NULL;
        }
    }
    fill_header(builder, batch ? compression : BATCH_NONE, batch ? batch : plain);
    if (batch)
        buf_unref(plain);
    *ret_batch = batch ? batch : plain;
    *builder = (struct batch_builder){0};
    return 0;
}

void batch_builder_free(struct batch_builder *builder)
{
    buf_unref(builder->buf);
    *builder = (struct batch_builder){0};
}
