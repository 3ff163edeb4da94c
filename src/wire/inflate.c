/* Decompression. Output memory starts small and doubles as output appears, up to one byte beyond what is
 * allowed: reaching that byte is what tells "too big" from "just fits". Input holds one stream exactly; what
 * follows it is an error.
 *
 * What a codec allocates for itself is bounded by constants: zlib's window 32 KiB, lz4's block 4 MiB, zstd's
 * window 8 MiB (RFC 8878, section 3.1.1.1.2, recommends that much to be supported; larger ones are refused).
 */
#include <lz4frame.h>
#include <snappy-c.h>
#include <zlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "wire/byte_order.h"
#include "wire/compress.h"
#include "wire/zstd_context.h"

enum {
    GZIP_WINDOW_BITS = 15 + 16,
    OUTPUT_FIRST = 4096,
    /* A snappy copy of 3 bytes yields at most 64 (format_description.txt, "Copies"). */
    SNAPPY_RATIO_MAX = 22,
};

struct output {
    uint8_t *data;
    size_t len, cap, max;
};

/* Room for at least one more byte. */
static int output_grow(struct output *output)
{
    if (output->len < output->cap)
        return 0;
    if (output->len > output->max)
        return CLYMQ_ETOOBIG;
    size_t cap = output->cap * 2;
    if (cap > output->max)
        cap = output->max + 1;
    uint8_t *data = mem_realloc(output->data, cap);
    if (!data)
        return CLYMQ_ENOMEM;
    output->data = data;
    output->cap = cap;
    return 0;
}

/* in_len: usual ratios are 2 to 4, so that most outputs grow once or never. */
static int output_begin(struct output *output, size_t in_len, size_t max_len)
{
    size_t cap = in_len * 4 > OUTPUT_FIRST ? in_len * 4 : OUTPUT_FIRST;
    if (cap > max_len)
        cap = max_len + 1;
    *output = (struct output){.data = mem_alloc(cap), .cap = cap, .max = max_len};
    return output->data ? 0 : CLYMQ_ENOMEM;
}

static int inflate_gzip(struct bytes in, struct output *output)
{
    z_stream stream = {.next_in = (Bytef *)(uintptr_t)in.ptr, .avail_in = (uInt)in.len};
    if (inflateInit2(&stream, GZIP_WINDOW_BITS) != Z_OK)
        return CLYMQ_ENOMEM;
    int error = 0, status = Z_OK;
    while (!error && status != Z_STREAM_END) {
        if ((error = output_grow(output)))
            break;
        size_t room = output->cap - output->len;
        stream.next_out = output->data + output->len;
        stream.avail_out = room > INT32_MAX ? INT32_MAX : (uInt)room;
        uInt given = stream.avail_out;
        status = inflate(&stream, Z_NO_FLUSH);
        output->len += given - stream.avail_out;
        if (status == Z_MEM_ERROR)
            error = CLYMQ_ENOMEM;
        else if (status != Z_OK && status != Z_STREAM_END)
            error = CLYMQ_ECOMPRESSION; /* Z_BUF_ERROR too: the input ended early */
    }
    if (!error && stream.avail_in > 0)
        error = CLYMQ_ECOMPRESSION;
    inflateEnd(&stream);
    return error;
}

/* One raw snappy block. The length that it claims is believed as far as the input could yield it. */
static int inflate_snappy_block(struct bytes in, struct output *output)
{
    size_t claimed;
    if (snappy_uncompressed_length((const char *)in.ptr, in.len, &claimed) != SNAPPY_OK ||
        claimed > in.len * SNAPPY_RATIO_MAX)
        return CLYMQ_ECOMPRESSION;
    if (claimed > output->max - output->len)
        return CLYMQ_ETOOBIG;
    if (claimed > output->cap - output->len) {
        size_t cap = output->cap * 2 < output->max ? output->cap * 2 : output->max;
        if (cap < output->len + claimed)
            cap = output->len + claimed;
        uint8_t *data = mem_realloc(output->data, cap);
        if (!data)
            return CLYMQ_ENOMEM;
        output->data = data;
        output->cap = cap;
    }
    size_t len = output->cap - output->len;
    if (snappy_uncompress((const char *)in.ptr, in.len, (char *)output->data + output->len, &len) !=
        SNAPPY_OK)
        return CLYMQ_ECOMPRESSION;
    output->len += len;
    return 0;
}

/* Raw, or the framing of xerial's snappy-java: 8 bytes of magic, two versions, then blocks with an i32 length
 * each. */
static int inflate_snappy(struct bytes in, struct output *output)
{
    static const uint8_t magic[8] = {0x82, 'S', 'N', 'A', 'P', 'P', 'Y', 0};
    if (in.len < 16 || memcmp(in.ptr, magic, sizeof(magic)) != 0)
        return inflate_snappy_block(in, output);
    for (size_t at = 16; at < in.len;) {
        if (in.len - at < 4)
            return CLYMQ_ECOMPRESSION;
        size_t len = load_be32(in.ptr + at);
        at += 4;
        if (len > in.len - at)
            return CLYMQ_ECOMPRESSION;
        int error = inflate_snappy_block(bytes_of(in.ptr + at, len), output);
        if (error)
            return error;
        at += len;
    }
    return 0;
}

static int inflate_lz4(struct bytes in, struct output *output)
{
    LZ4F_dctx *context;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION)))
        return CLYMQ_ENOMEM;
    int error = 0;
    size_t at = 0, hint = 1;
    while (!error && hint != 0) {
        if ((error = output_grow(output)))
            break;
        size_t room = output->cap - output->len, taken = in.len - at;
        hint = LZ4F_decompress(context, output->data + output->len, &room, in.ptr + at, &taken, NULL);
        if (LZ4F_isError(hint) || (room == 0 && taken == 0)) {
            error = CLYMQ_ECOMPRESSION;
            break;
        }
        output->len += room;
        at += taken;
    }
    if (!error && at < in.len)
        error = CLYMQ_ECOMPRESSION;
    LZ4F_freeDecompressionContext(context);
    return error;
}

static int inflate_zstd(struct bytes in, struct output *output)
{
    /* Only frames of RFC 8878: Debian's libzstd reads older formats too, whose windows nothing limits. */
    static const uint8_t magic[4] = {0x28, 0xb5, 0x2f, 0xfd};
    if (in.len < sizeof(magic) || memcmp(in.ptr, magic, sizeof(magic)) != 0)
        return CLYMQ_ECOMPRESSION;
    ZSTD_DCtx *context = zstd_decompressor();
    if (!context)
        return CLYMQ_ENOMEM;
    int error = 0;
    size_t hint = 1;
    ZSTD_inBuffer input = {in.ptr, in.len, 0};
    while (!error && hint != 0) {
        if ((error = output_grow(output)))
            break;
        ZSTD_outBuffer produced = {output->data, output->cap, output->len};
        size_t before = input.pos;
        hint = ZSTD_decompressStream(context, &produced, &input);
        if (ZSTD_isError(hint) || (produced.pos == output->len && input.pos == before))
            error = CLYMQ_ECOMPRESSION;
        else
            output->len = produced.pos;
    }
    if (!error && input.pos < in.len)
        error = CLYMQ_ECOMPRESSION;
    return error;
}

int compress_inflate(enum batch_compression codec, struct bytes in, size_t max_len, uint8_t **ret_data,
                     size_t *ret_len)
{
    if (in.len > INT32_MAX)
        return CLYMQ_ETOOBIG;
    if (max_len > SIZE_MAX / 4)
        max_len = SIZE_MAX / 4;
    struct output output;
    int error = output_begin(&output, in.len, max_len);
    if (error)
        return error;
    switch (codec) {
    case BATCH_GZIP:
        error = inflate_gzip(in, &output);
        break;
    case BATCH_SNAPPY:
        error = inflate_snappy(in, &output);
        break;
    case BATCH_LZ4:
        error = inflate_lz4(in, &output);
        break;
    case BATCH_ZSTD:
        error = inflate_zstd(in, &output);
        break;
    default:
        error = CLYMQ_ECOMPRESSION;
    }
    if (!error && output.len > max_len)
        error = CLYMQ_ETOOBIG;
    if (error) {
        mem_free(output.data);
        return error;
    }
    *ret_data = output.data;
    *ret_len = output.len;
    return 0;
}
