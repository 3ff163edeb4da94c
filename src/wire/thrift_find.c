/* Where a message ends: tells the forms apart by their first bytes (docs/protocol-rpc.md has the table) and
 * finds the end, by the frame's length where there is one and by skipping where there is none.
 *
 * TTHeader (CloudWeGo, "TTHeader": LENGTH u32, MAGIC 0x1000, FLAGS u16, SEQUENCE u32, HEADER SIZE u16 in
 * units of four bytes, then PROTOCOL ID u8, NUM TRANSFORMS u8, info blocks, padding, payload): the info
 * blocks are of no interest here and are jumped over; the payload tells its protocol by its own first bytes,
 * as Kitex itself decides. */
#include "base/error.h"
#include "wire/byte_order.h"
#include "wire/thrift_skip.h"
#include "wire/varint.h"

enum {
    FRAME_MAX = 0x3fffffff,
    TTHEADER_MAGIC = 0x1000,
    TTHEADER_FIXED = 14, /* up to and with HEADER SIZE */
};

static bool is_binary(const uint8_t *at)
{
    return load_be16(at) == BINARY_VERSION;
}

static bool is_compact(const uint8_t *at)
{
    return at[0] == COMPACT_PROTOCOL_ID && (at[1] & COMPACT_VERSION_MASK) == COMPACT_VERSION;
}

/* The header of an unframed message: version, kind, method's name, sequence id. Leaves its end in scan->at.
 */
static int begin_binary(struct thrift_scan *scan, struct bytes data, size_t *ret_need)
{
    if (data.len < 8) {
        *ret_need = 8;
        return CLYMQ_EAGAIN;
    }
    uint32_t name_len = load_be32(data.ptr + 4);
    if (name_len > INT32_MAX)
        return CLYMQ_EPROTO;
    scan->at = 8 + (size_t)name_len + 4;
    return 0;
}

static int begin_compact(struct thrift_scan *scan, struct bytes data, size_t *ret_need)
{
    const uint8_t *at = data.ptr + 2, *end = data.ptr + data.len;
    uint32_t sequence, name_len;
    for (int i = 0; i < 2; i++) {
        int size = varint_measure(at, (size_t)(end - at));
        if (size == 0) {
            *ret_need = data.len + 1;
            return CLYMQ_EAGAIN;
        }
        if (size < 0 || !varint_read_u32(at, end, i ? &name_len : &sequence))
            return CLYMQ_EPROTO;
        at += size;
    }
    if (name_len > INT32_MAX)
        return CLYMQ_EPROTO;
    scan->at = (size_t)(at - data.ptr) + name_len;
    return 0;
}

static int find_unframed(struct thrift_scan *scan, enum thrift_protocol protocol, struct bytes data,
                         size_t max_size, struct thrift_extent *ret_extent, size_t *ret_need)
{
    if (!scan->begun) {
        int error = protocol == THRIFT_BINARY ? begin_binary(scan, data, ret_need)
                                              : begin_compact(scan, data, ret_need);
        if (error)
            return error;
        if (scan->at >= max_size)
            return CLYMQ_ETOOBIG;
        scan->begun = true;
        thrift_skip_push_struct(scan);
    }
    int error = thrift_skip_run(scan, protocol, data, max_size, ret_need);
    if (error)
        return error;
    *ret_extent = (struct thrift_extent){
        .form = {.protocol = protocol, .envelope = THRIFT_UNFRAMED}, .size = scan->at, .body_len = scan->at};
    return 0;
}

/* Tells the protocol of a message that lies at [body, end) in data, all of it at hand. */
static int look_inside(struct bytes data, size_t body, size_t end, enum thrift_envelope envelope,
                       int32_t sequence, struct thrift_extent *ret_extent)
{
    if (end - body < 2)
        return CLYMQ_EPROTO;
    const uint8_t *at = data.ptr + body;
    if (!is_binary(at) && !is_compact(at))
        return CLYMQ_EPROTO;
    *ret_extent = (struct thrift_extent){
        .form = {.protocol = is_binary(at) ? THRIFT_BINARY : THRIFT_COMPACT,
                 .envelope = envelope,
                 .ttheader_sequence = sequence},
        .size = end,
        .body = body,
        .body_len = end - body,
    };
    return 0;
}

static int find_in_ttheader(struct bytes data, size_t size, struct thrift_extent *ret_extent)
{
    if (size < TTHEADER_FIXED + 4)
        return CLYMQ_EPROTO;
    int32_t sequence = (int32_t)load_be32(data.ptr + 8);
    size_t header_size = (size_t)load_be16(data.ptr + 12) * 4, body = TTHEADER_FIXED + header_size;
    if (header_size == 0 || body > size)
        return CLYMQ_EPROTO;
    uint8_t protocol_id = data.ptr[TTHEADER_FIXED], transforms = data.ptr[TTHEADER_FIXED + 1];
    /* 0 binary; 2 compact; 3, the compact protocol's second form, is taken by Kitex for compatibility. */
    if ((protocol_id != 0 && protocol_id != 2 && protocol_id != 3) || transforms != 0)
        return CLYMQ_EPROTO;
    enum thrift_envelope envelope = THRIFT_TTHEADER;
    if (size - body >= 4 && load_be32(data.ptr + body) == size - body - 4) {
        envelope = THRIFT_TTHEADER_FRAMED;
        body += 4;
    }
    return look_inside(data, body, size, envelope, sequence, ret_extent);
}

static int find_framed(struct bytes data, size_t max_size, struct thrift_extent *ret_extent, size_t *ret_need)
{
    if (data.len < 8) {
        *ret_need = 8;
        return CLYMQ_EAGAIN;
    }
    size_t size = 4 + (size_t)load_be32(data.ptr);
    bool ttheader = load_be16(data.ptr + 4) == TTHEADER_MAGIC;
    if (size < 8 || (!ttheader && !is_binary(data.ptr + 4) && !is_compact(data.ptr + 4)))
        return CLYMQ_EPROTO;
    if (size > max_size)
        return CLYMQ_ETOOBIG;
    if (size > data.len) {
        *ret_need = size;
        return CLYMQ_EAGAIN;
    }
    return ttheader ? find_in_ttheader(data, size, ret_extent)
                    : look_inside(data, 4, size, THRIFT_FRAMED, 0, ret_extent);
}

int thrift_find_message(struct thrift_scan *scan, struct bytes data, size_t max_size,
                        struct thrift_extent *ret_extent, size_t *ret_need)
{
    if (data.len == 0) {
        *ret_need = 1;
        return CLYMQ_EAGAIN;
    }
    if (data.ptr[0] <= FRAME_MAX >> 24)
        return find_framed(data, max_size, ret_extent, ret_need);
    if (data.ptr[0] != BINARY_VERSION >> 8 && data.ptr[0] != COMPACT_PROTOCOL_ID)
        return CLYMQ_EPROTO;
    if (data.len < 2) {
        *ret_need = 2;
        return CLYMQ_EAGAIN;
    }
    if (is_binary(data.ptr))
        return find_unframed(scan, THRIFT_BINARY, data, max_size, ret_extent, ret_need);
    if (is_compact(data.ptr))
        return find_unframed(scan, THRIFT_COMPACT, data, max_size, ret_extent, ret_need);
    return CLYMQ_EPROTO;
}
