/* Compression of a batch's records. lz4 frames have independent blocks, because Kafka's Java client reads no
 * others (KafkaLZ4BlockInputStream); snappy is written raw, as librdkafka does, which every client reads. */
#include "wire/compress.h"

#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>

#include "base/error.h"
#include "wire/zstd_context.h"

enum {
    GZIP_WINDOW_BITS = 15 + 16, /* zlib.h, deflateInit2: + 16 for a gzip header */
    ZSTD_LEVEL_ULTRA = 20,      /* zstd.h: from here on levels take more memory, for windows above 8 MiB */
};

static int room_for(size_t bound, size_t room, struct buf **ret_buf)
{
    struct buf *buf = buf_new(room + bound);
    if (!buf)
        return CLYMQ_ENOMEM;
    buf->len = room;
    *ret_buf = buf;
    return 0;
}

static int deflate_gzip(int level, struct bytes in, size_t room, struct buf **ret_buf)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    if (level <= 0 || level > Z_BEST_COMPRESSION)
        level = Z_DEFAULT_COMPRESSION;
    if (deflateInit2(&stream, level, Z_DEFLATED, GZIP_WINDOW_BITS, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return CLYMQ_ENOMEM;
    size_t bound = deflateBound(&stream, in.len);
    int error = room_for(bound, room, ret_buf);
    if (!error) {
        stream.next_out = (*ret_buf)->data + room;
        stream.avail_out = (uInt)bound;
        if (deflate(&stream, Z_FINISH) == Z_STREAM_END) {
            (*ret_buf)->len = room + stream.total_out;
        } else {
            buf_unref(*ret_buf);
            error = CLYMQ_ECOMPRESSION;
        }
    }
    deflateEnd(&stream);
    return error;
}

static int deflate_snappy(struct bytes in, size_t room, struct buf **ret_buf)
{
    size_t len = snappy_max_compressed_length(in.len);
    int error = room_for(len, room, ret_buf);
    if (error)
        return error;
    if (snappy_compress((const char *)in.ptr, in.len, (char *)(*ret_buf)->data + room, &len) != SNAPPY_OK) {
        buf_unref(*ret_buf);
        return CLYMQ_ECOMPRESSION;
    }
    (*ret_buf)->len = room + len;
    return 0;
}

static int deflate_lz4(int level, struct bytes in, size_t room, struct buf **ret_buf)
{
    LZ4F_preferences_t preferences = {
        .frameInfo = {.blockSizeID = LZ4F_max64KB, .blockMode = LZ4F_blockIndependent},
        .compressionLevel = level,
    };
    size_t bound = LZ4F_compressFrameBound(in.len, &preferences);
    int error = room_for(bound, room, ret_buf);
    if (error)
        return error;
    size_t len = LZ4F_compressFrame((*ret_buf)->data + room, bound, in.ptr, in.len, &preferences);
    if (LZ4F_isError(len)) {
        buf_unref(*ret_buf);
        return CLYMQ_ECOMPRESSION;
    }
    (*ret_buf)->len = room + len;
    return 0;
}

/* Records that are no longer than the largest window that readers take have no larger one at any level. */
static size_t zstd_into(ZSTD_CCtx *context, int level, struct bytes in, uint8_t *out, size_t bound)
{
    if (level < ZSTD_LEVEL_ULTRA || in.len <= (size_t)1 << ZSTD_CONTEXT_WINDOW_LOG_MAX)
        return ZSTD_compressCCtx(context, out, bound, in.ptr, in.len, level);
    size_t error = ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level);
    return ZSTD_isError(error) ? error : ZSTD_compress2(context, out, bound, in.ptr, in.len);
}

static int deflate_zstd(int level, struct bytes in, size_t room, struct buf **ret_buf)
{
    ZSTD_CCtx *context = zstd_compressor();
    if (!context)
        return CLYMQ_ENOMEM;
    size_t bound = ZSTD_compressBound(in.len);
    int error = room_for(bound, room, ret_buf);
    if (error)
        return error;
    size_t len = zstd_into(context, level, in, (*ret_buf)->data + room, bound);
    if (ZSTD_isError(len)) {
        buf_unref(*ret_buf);
        return CLYMQ_ECOMPRESSION;
    }
    (*ret_buf)->len = room + len;
    return 0;
}

int compress_deflate(enum batch_compression codec, int level, struct bytes in, size_t room,
                     struct buf **ret_buf)
{
    struct buf *buf;
    int error;
    if (in.len > INT32_MAX)
        return CLYMQ_ETOOBIG;
    switch (codec) {
    case BATCH_GZIP:
        error = deflate_gzip(level, in, room, &buf);
        break;
    case BATCH_SNAPPY:
        error = deflate_snappy(in, room, &buf);
        break;
    case BATCH_LZ4:
        error = deflate_lz4(level, in, room, &buf);
        break;
    case BATCH_ZSTD:
        error = deflate_zstd(level, in, room, &buf);
        break;
    default:
        return CLYMQ_ECOMPRESSION;
    }
    if (!error)
        *ret_buf = buf;
    return error;
}
