/* The four codecs of record batches, in the framings that Kafka's clients use: gzip (RFC 1952), snappy (raw,
 * and xerial's framing "\x82SNAPPY\0" on reading), lz4 (the LZ4 frame format), zstd (frames). Pure; any
 * thread. */
#ifndef CLYMQ_WIRE_COMPRESS_H
#define CLYMQ_WIRE_COMPRESS_H

#include "base/buf.h"
#include "wire/batch.h"

/* Compresses in after the first `room` bytes of a new buffer (room for a header), owned by the caller. */
int compress_deflate(enum batch_compression codec, int level, struct bytes in, size_t room,
                     struct buf **ret_buf);
/* Decompresses into memory grown as output appears, never beyond max_len (CLYMQ_ETOOBIG): a length that the
 * input claims is a hint, not believed. The caller frees (mem_free). CLYMQ_ECOMPRESSION for damaged or
 * trailing input. */
int compress_inflate(enum batch_compression codec, struct bytes in, size_t max_len, uint8_t **ret_data,
                     size_t *ret_len);

#endif
