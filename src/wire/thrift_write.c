/* Encoding: one allocation of an upper bound of the size, one pass that writes, then the frame lengths are
 * set, which count the payload that stays outside. */
#include <assert.h>

#include "base/error.h"
#include "wire/byte_order.h"
#include "wire/thrift_skip.h"
#include "wire/varint.h"

enum {
    MESSAGE_MAX = 0x3fffffff, /* what a frame's length may say, and TTHeader's */
    TTHEADER_SIZE = 18,       /* fixed part, protocol id, no transforms, two bytes of padding */
    ENVELOPE_ROOM = TTHEADER_SIZE + 4,
    MESSAGE_ROOM = 32, /* version, kind, name length, sequence, wrapper's header, two stops */
    FIELD_ROOM = 3 + VARINT_MAX_SIZE,
};

struct writer {
    uint8_t *start, *at;
    enum thrift_protocol protocol;
    int16_t last_id; /* compact */
    uint8_t *split;  /* where the payload goes; NULL = none */
    size_t payload_len;
};

static void put_u8(struct writer *writer, uint8_t value)
{
    *writer->at++ = value;
}

static void put_be32(struct writer *writer, uint32_t value)
{
    store_be32(writer->at, value);
    writer->at += 4;
}

static uint8_t type_to_compact(uint8_t type)
{
    switch (type) {
    case THRIFT_BOOL:
        return COMPACT_TRUE;
    case THRIFT_I8:
        return COMPACT_I8;
    case THRIFT_I32:
        return COMPACT_I32;
    case THRIFT_I64:
        return COMPACT_I64;
    case THRIFT_STRING:
        return COMPACT_BINARY;
    default:
        assert(type == THRIFT_STRUCT);
        return COMPACT_STRUCT;
    }
}

/* wire_type: binary's, or compact's (where a boolean's value is its type). */
static void put_field(struct writer *writer, uint8_t wire_type, int16_t id)
{
    if (writer->protocol == THRIFT_BINARY) {
        put_u8(writer, wire_type);
        store_be16(writer->at, (uint16_t)id);
        writer->at += 2;
        return;
    }
    int delta = id - writer->last_id;
    if (delta > 0 && delta <= 15) {
        put_u8(writer, (uint8_t)(delta << 4 | wire_type));
    } else {
        put_u8(writer, wire_type);
        writer->at = varint_write(writer->at, zigzag_encode(id));
    }
    writer->last_id = id;
}

static void put_length(struct writer *writer, size_t len)
{
    if (writer->protocol == THRIFT_BINARY)
        put_be32(writer, (uint32_t)len);
    else
        writer->at = varint_write(writer->at, len);
}

static void put_string(struct writer *writer, struct bytes string)
{
    put_length(writer, string.len);
    if (string.len > 0 && !string.ptr) {
        assert(!writer->split); /* one payload at most */
        writer->split = writer->at;
        writer->payload_len = string.len;
        return;
    }
    if (string.len > 0)
        memcpy(writer->at, string.ptr, string.len);
    writer->at += string.len;
}

static void put_i32(struct writer *writer, int32_t value)
{
    if (writer->protocol == THRIFT_BINARY)
        put_be32(writer, (uint32_t)value);
    else
        writer->at = varint_write(writer->at, zigzag_encode(value));
}

static void put_value(struct writer *writer, const struct thrift_field *field, const void *value)
{
    bool compact = writer->protocol == THRIFT_COMPACT;
    if (field->type == THRIFT_BOOL && compact) {
        put_field(writer, *(const bool *)value ? COMPACT_TRUE : COMPACT_FALSE, field->id);
        return;
    }
    put_field(writer, compact ? type_to_compact(field->type) : field->type, field->id);
    switch (field->type) {
    case THRIFT_BOOL:
        put_u8(writer, *(const bool *)value);
        break;
    case THRIFT_I8:
        put_u8(writer, (uint8_t) * (const int8_t *)value);
        break;
    case THRIFT_I32:
        put_i32(writer, *(const int32_t *)value);
        break;
    case THRIFT_I64:
        if (compact) {
            writer->at = varint_write(writer->at, zigzag_encode(*(const int64_t *)value));
        } else {
            store_be64(writer->at, (uint64_t) * (const int64_t *)value);
            writer->at += 8;
        }
        break;
    default:
        assert(field->type == THRIFT_STRING);
        put_string(writer, *(const struct bytes *)value);
    }
}

static void put_message_header(struct writer *writer, enum thrift_message_kind kind, struct bytes method,
                               int32_t sequence)
{
    if (writer->protocol == THRIFT_BINARY) {
        put_be32(writer, (uint32_t)BINARY_VERSION << 16 | kind);
        put_string(writer, method);
        put_be32(writer, (uint32_t)sequence);
    } else {
        put_u8(writer, COMPACT_PROTOCOL_ID);
        put_u8(writer, (uint8_t)(kind << COMPACT_KIND_SHIFT | COMPACT_VERSION));
        writer->at = varint_write(writer->at, (uint32_t)sequence);
        put_string(writer, method);
    }
}

/* A buffer with room for `room` bytes of message behind the envelope, and the writer at the message's start.
 */
static int begin(const struct thrift_form *form, size_t room, struct writer *ret_writer, struct buf **ret_buf)
{
    if (room > MESSAGE_MAX)
        return CLYMQ_ETOOBIG;
    struct buf *buf = buf_new(ENVELOPE_ROOM + room);
    if (!buf)
        return CLYMQ_ENOMEM;
    size_t envelope = 0;
    if (form->envelope == THRIFT_TTHEADER || form->envelope == THRIFT_TTHEADER_FRAMED) {
        memcpy(buf->data + 4, "\x10\x00\x00\x00", 4); /* magic, no flags */
        store_be32(buf->data + 8, (uint32_t)form->ttheader_sequence);
        store_be16(buf->data + 12, 1);
        memcpy(buf->data + 14, form->protocol == THRIFT_COMPACT ? "\x02\0\0\0" : "\0\0\0\0", 4);
        envelope = TTHEADER_SIZE;
    }
    if (form->envelope == THRIFT_FRAMED || form->envelope == THRIFT_TTHEADER_FRAMED)
        envelope += 4;
    *ret_writer = (struct writer){.start = buf->data, .at = buf->data + envelope, .protocol = form->protocol};
    *ret_buf = buf;
    return 0;
}

static void finish(const struct thrift_form *form, struct writer *writer, struct buf *buf,
                   struct thrift_encoded *ret_encoded)
{
    buf->len = (size_t)(writer->at - writer->start);
    assert(buf->len <= buf->cap);
    size_t total = buf->len + writer->payload_len, frame = 0;
    if (form->envelope == THRIFT_TTHEADER || form->envelope == THRIFT_TTHEADER_FRAMED) {
        store_be32(buf->data, (uint32_t)(total - 4));
        frame = TTHEADER_SIZE;
    }
    if (form->envelope == THRIFT_FRAMED || form->envelope == THRIFT_TTHEADER_FRAMED)
        store_be32(buf->data + frame, (uint32_t)(total - frame - 4));
    size_t head_len = writer->split ? (size_t)(writer->split - writer->start) : buf->len;
    *ret_encoded = (struct thrift_encoded){.buf = buf,
                                           .head_len = head_len,
                                           .tail_len = buf->len - head_len,
                                           .payload_len = writer->payload_len};
}

static bool is_sent(const struct thrift_struct *type, unsigned index, const void *value)
{
    uint32_t present = *(const uint32_t *)(const void *)((const uint8_t *)value + type->present_offset);
    return !type->fields[index].optional || present >> index & 1;
}

int thrift_encode(const struct thrift_form *form, enum thrift_message_kind kind, struct bytes method,
                  int32_t sequence, int16_t wrapper_id, const struct thrift_struct *type, const void *value,
                  struct thrift_encoded *ret_encoded)
{
    const uint8_t *base = value;
    size_t room = MESSAGE_ROOM + method.len + (size_t)type->count * FIELD_ROOM, payload_len = 0;
    if (method.len > MESSAGE_MAX)
        return CLYMQ_ETOOBIG;
    for (unsigned i = 0; i < type->count; i++) {
        if (type->fields[i].type != THRIFT_STRING || !is_sent(type, i, value))
            continue;
        const struct bytes *string = (const void *)(base + type->fields[i].offset);
        if (string->len > MESSAGE_MAX)
            return CLYMQ_ETOOBIG;
        *(string->ptr ? &room : &payload_len) += string->len;
    }
    if (room + payload_len + ENVELOPE_ROOM > MESSAGE_MAX)
        return CLYMQ_ETOOBIG;

    struct writer writer;
    struct buf *buf;
    int error = begin(form, room, &writer, &buf);
    if (error)
        return error;
    put_message_header(&writer, kind, method, sequence);
    put_field(&writer, form->protocol == THRIFT_COMPACT ? COMPACT_STRUCT : THRIFT_STRUCT, wrapper_id);
    writer.last_id = 0;
    for (unsigned i = 0; i < type->count; i++)
        if (is_sent(type, i, value))
            put_value(&writer, &type->fields[i], base + type->fields[i].offset);
    put_u8(&writer, THRIFT_STOP);
    put_u8(&writer, THRIFT_STOP);
    finish(form, &writer, buf, ret_encoded);
    return 0;
}

int thrift_encode_exception(const struct thrift_form *form, struct bytes method, int32_t sequence,
                            enum thrift_exception type, int32_t error, const char *text,
                            struct thrift_encoded *ret_encoded)
{
    struct bytes message = bytes_of_text(text);
    if (method.len > MESSAGE_MAX || message.len > MESSAGE_MAX)
        return CLYMQ_ETOOBIG;
    struct writer writer;
    struct buf *buf;
    int failed = begin(form, MESSAGE_ROOM + method.len + 3 * FIELD_ROOM + message.len, &writer, &buf);
    if (failed)
        return failed;
    put_message_header(&writer, THRIFT_EXCEPTION, method, sequence);
    static const struct thrift_field text_field = {.id = 1, .type = THRIFT_STRING, .name = "message"};
    static const struct thrift_field type_field = {.id = 2, .type = THRIFT_I32, .name = "type"};
    static const struct thrift_field error_field = {
        .id = THRIFT_EXCEPTION_ERROR_ID, .type = THRIFT_I32, .name = "error"};
    int32_t number = type;
    put_value(&writer, &text_field, &message);
    put_value(&writer, &type_field, &number);
    if (error)
        put_value(&writer, &error_field, &error);
    put_u8(&writer, THRIFT_STOP);
    finish(form, &writer, buf, ret_encoded);
    return 0;
}
