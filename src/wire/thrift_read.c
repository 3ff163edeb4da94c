/* Decoding: a message's header, and the one flat struct inside it, straight from the table into the C struct.
 * Strings stay where they are. Everything below the three entry points is inlined into them with the protocol
 * as a constant, so that there is one text for both protocols and no test of it in the loop. Fields come in
 * order almost always, so the next row of the table is tried before it is searched. */
#include <assert.h>

#include "base/error.h"
#include "wire/byte_order.h"
#include "wire/thrift_skip.h"
#include "wire/varint.h"

#define INLINE static inline __attribute__((always_inline))

/* The bytes not yet read. A reader returns false when they run out or make no sense. */
struct cursor {
    const uint8_t *at, *end;
    enum thrift_protocol protocol;
};
/* A field's header. In compact a boolean's value is part of it. */
struct field_head {
    uint8_t type; /* THRIFT_…; THRIFT_STOP at the end; 0xff = not one of those, skip by wire_type */
    uint8_t wire_type;
    bool truth;
    int16_t id;
};

INLINE bool take(struct cursor *cursor, size_t len, const uint8_t **ret_at)
{
    if ((size_t)(cursor->end - cursor->at) < len)
        return false;
    *ret_at = cursor->at;
    cursor->at += len;
    return true;
}

static uint8_t type_of_compact(uint8_t type)
{
    static const uint8_t types[16] = {
        [COMPACT_STOP] = 0xff,
        [COMPACT_TRUE] = THRIFT_BOOL,
        [COMPACT_FALSE] = THRIFT_BOOL,
        [COMPACT_I8] = THRIFT_I8,
        [COMPACT_I16] = THRIFT_I16,
        [COMPACT_I32] = THRIFT_I32,
        [COMPACT_I64] = THRIFT_I64,
        [COMPACT_DOUBLE] = THRIFT_DOUBLE,
        [COMPACT_BINARY] = THRIFT_STRING,
        [COMPACT_LIST] = THRIFT_LIST,
        [COMPACT_SET] = THRIFT_SET,
        [COMPACT_MAP] = THRIFT_MAP,
        [COMPACT_STRUCT] = THRIFT_STRUCT,
        [COMPACT_UUID] = THRIFT_UUID,
        [14] = 0xff,
        [15] = 0xff,
    };
    return types[type];
}

/* last_id: the struct's last field number so far, 0 at its start (compact counts from it). */
INLINE bool read_field(struct cursor *cursor, int16_t *last_id, struct field_head *ret_head)
{
    const uint8_t *at;
    if (!take(cursor, 1, &at))
        return false;
    uint8_t head = *at;
    if (head == THRIFT_STOP) {
        ret_head->type = THRIFT_STOP;
        return true;
    }
    if (cursor->protocol == THRIFT_BINARY) {
        ret_head->type = ret_head->wire_type = head;
        if (!take(cursor, 2, &at))
            return false;
        ret_head->id = (int16_t)load_be16(at);
        return true;
    }
    int32_t id;
    if (head >> 4)
        id = *last_id + (head >> 4);
    else if (!(cursor->at = varint_read_i32(at = cursor->at, cursor->end, &id))) {
        cursor->at = at;
        return false;
    }
    if (id < INT16_MIN || id > INT16_MAX)
        return false;
    ret_head->wire_type = head & 0x0f;
    ret_head->type = type_of_compact(ret_head->wire_type);
    ret_head->truth = ret_head->wire_type == COMPACT_TRUE;
    ret_head->id = *last_id = (int16_t)id;
    return true;
}

static bool skip_field(struct cursor *cursor, const struct field_head *head)
{
    if (cursor->protocol == THRIFT_COMPACT && head->type == THRIFT_BOOL)
        return true;
    struct thrift_scan scan;
    size_t need, len = (size_t)(cursor->end - cursor->at);
    thrift_scan_reset(&scan);
    thrift_skip_push_value(&scan, head->wire_type);
    if (thrift_skip_run(&scan, cursor->protocol, bytes_of(cursor->at, len), len, &need))
        return false;
    cursor->at += scan.at;
    return true;
}

INLINE bool read_string(struct cursor *cursor, struct bytes *ret_string)
{
    const uint8_t *at;
    uint32_t len;
    if (cursor->protocol == THRIFT_BINARY) {
        if (!take(cursor, 4, &at))
            return false;
        len = load_be32(at);
    } else {
        if (!(at = varint_read_u32(cursor->at, cursor->end, &len)))
            return false;
        cursor->at = at;
    }
    if (len > INT32_MAX || !take(cursor, len, &at))
        return false;
    *ret_string = bytes_of(at, len);
    return true;
}

INLINE bool read_i32(struct cursor *cursor, int32_t *ret_number)
{
    const uint8_t *at;
    if (cursor->protocol == THRIFT_BINARY) {
        if (!take(cursor, 4, &at))
            return false;
        *ret_number = (int32_t)load_be32(at);
        return true;
    }
    if (!(at = varint_read_i32(cursor->at, cursor->end, ret_number)))
        return false;
    cursor->at = at;
    return true;
}

INLINE bool read_value(struct cursor *cursor, const struct field_head *head, void *out)
{
    const uint8_t *at;
    int64_t wide;
    switch (head->type) {
    case THRIFT_BOOL:
        if (cursor->protocol == THRIFT_COMPACT) {
            *(bool *)out = head->truth;
            return true;
        }
        if (!take(cursor, 1, &at))
            return false;
        *(bool *)out = *at != 0;
        return true;
    case THRIFT_I8:
        if (!take(cursor, 1, &at))
            return false;
        *(int8_t *)out = (int8_t)*at;
        return true;
    case THRIFT_I32:
        return read_i32(cursor, out);
    case THRIFT_I64:
        if (cursor->protocol == THRIFT_BINARY) {
            if (!take(cursor, 8, &at))
                return false;
            wide = (int64_t)load_be64(at);
        } else {
            if (!(at = varint_read_i64(cursor->at, cursor->end, &wide)))
                return false;
            cursor->at = at;
        }
        *(int64_t *)out = wide;
        return true;
    default:
        assert(head->type == THRIFT_STRING);
        return read_string(cursor, out);
    }
}

/* The row of that number: usually rows[next]. */
INLINE const struct thrift_field *find_row(const struct thrift_struct *type, unsigned next, int16_t id)
{
    if (next < type->count && type->fields[next].id == id)
        return &type->fields[next];
    for (unsigned i = 0; i < type->count; i++)
        if (type->fields[i].id == id)
            return &type->fields[i];
    return NULL;
}

INLINE bool read_struct(struct cursor *cursor, const struct thrift_struct *type, void *out)
{
    uint8_t *base = out;
    uint32_t present = 0;
    unsigned next = 0;
    int16_t last_id = 0;
    for (;;) {
        struct field_head head = {0};
        if (!read_field(cursor, &last_id, &head))
            return false;
        if (head.type == THRIFT_STOP)
            break;
        const struct thrift_field *row = find_row(type, next, head.id);
        if (!row || row->type != head.type) {
            if (!skip_field(cursor, &head))
                return false;
            continue;
        }
        if (!read_value(cursor, &head, base + row->offset))
            return false;
        unsigned index = (unsigned)(row - type->fields);
        present |= UINT32_C(1) << index;
        next = index + 1;
    }
    *(uint32_t *)(void *)(base + type->present_offset) = present;
    return true;
}

int thrift_read_message(enum thrift_protocol protocol, struct bytes body, struct thrift_message *ret_message)
{
    struct cursor cursor = {body.ptr, body.ptr + body.len, protocol};
    struct thrift_message message;
    const uint8_t *at;
    unsigned kind;
    if (protocol == THRIFT_BINARY) {
        if (!take(&cursor, 4, &at) || load_be16(at) != BINARY_VERSION || at[2] != 0)
            return CLYMQ_EPROTO;
        kind = at[3];
        if (!read_string(&cursor, &message.method) || !read_i32(&cursor, &message.sequence))
            return CLYMQ_EPROTO;
    } else {
        uint32_t sequence;
        if (!take(&cursor, 2, &at) || at[0] != COMPACT_PROTOCOL_ID ||
            (at[1] & COMPACT_VERSION_MASK) != COMPACT_VERSION)
            return CLYMQ_EPROTO;
        kind = at[1] >> COMPACT_KIND_SHIFT;
        if (!(cursor.at = varint_read_u32(cursor.at, cursor.end, &sequence)) ||
            !read_string(&cursor, &message.method))
            return CLYMQ_EPROTO;
        message.sequence = (int32_t)sequence;
    }
    if (kind < THRIFT_CALL || kind > THRIFT_ONEWAY)
        return CLYMQ_EPROTO;
    message.kind = kind;
    message.args = bytes_of(cursor.at, (size_t)(cursor.end - cursor.at));
    *ret_message = message;
    return 0;
}

INLINE int decode(enum thrift_protocol protocol, struct bytes args, int16_t wrapper_id,
                  const struct thrift_struct *type, void *out)
{
    struct cursor cursor = {args.ptr, args.ptr + args.len, protocol};
    int16_t last_id = 0;
    bool found = false;
    memset(out, 0, type->size);
    for (;;) {
        struct field_head head = {0};
        if (!read_field(&cursor, &last_id, &head))
            return CLYMQ_EPROTO;
        if (head.type == THRIFT_STOP)
            break;
        if (head.id != wrapper_id || head.type != THRIFT_STRUCT || found) {
            if (!skip_field(&cursor, &head))
                return CLYMQ_EPROTO;
            continue;
        }
        if (!read_struct(&cursor, type, out))
            return CLYMQ_EPROTO;
        found = true;
    }
    if (cursor.at != cursor.end)
        return CLYMQ_EPROTO;
    return found ? 0 : CLYMQ_ENOENT;
}

int thrift_decode(enum thrift_protocol protocol, struct bytes args, int16_t wrapper_id,
                  const struct thrift_struct *type, void *out)
{
    return protocol == THRIFT_BINARY ? decode(THRIFT_BINARY, args, wrapper_id, type, out)
                                     : decode(THRIFT_COMPACT, args, wrapper_id, type, out);
}

int thrift_decode_exception(enum thrift_protocol protocol, struct bytes args,
                            struct thrift_exception_fields *ret_fields)
{
    struct cursor cursor = {args.ptr, args.ptr + args.len, protocol};
    struct thrift_exception_fields fields = {0};
    int16_t last_id = 0;
    for (;;) {
        struct field_head head = {0};
        if (!read_field(&cursor, &last_id, &head))
            return CLYMQ_EPROTO;
        if (head.type == THRIFT_STOP)
            break;
        bool good;
        if (head.id == 1 && head.type == THRIFT_STRING)
            good = read_string(&cursor, &fields.text);
        else if (head.id == 2 && head.type == THRIFT_I32)
            good = read_i32(&cursor, &fields.type);
        else if (head.id == THRIFT_EXCEPTION_ERROR_ID && head.type == THRIFT_I32)
            good = read_i32(&cursor, &fields.error);
        else
            good = skip_field(&cursor, &head);
        if (!good)
            return CLYMQ_EPROTO;
    }
    if (cursor.at != cursor.end)
        return CLYMQ_EPROTO;
    *ret_fields = fields;
    return 0;
}
