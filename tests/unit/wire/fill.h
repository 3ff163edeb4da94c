/* Any RPC struct by its table: filled at random, compared, and encoded to bytes in one piece. */
#ifndef CLYMQ_TEST_WIRE_FILL_H
#define CLYMQ_TEST_WIRE_FILL_H

#include <assert.h>
#include <stdlib.h>

#include "base/rng.h"
#include "hex.h"
#include "wire/rpc.h"

/* Larger than any of the structs, and aligned for all. */
union rpc_any {
    uint8_t bytes[512];
    int64_t align;
};

static const uint8_t fill_pool[600] = "The quick brown fox \xe5\x8c\x97\xe4\xba\xac jumps";

static inline void *field_of(const struct thrift_struct *type, void *value, unsigned index)
{
    return (uint8_t *)value + type->fields[index].offset;
}

static inline void fill_random(const struct thrift_struct *type, void *value, struct rng *rng)
{
    uint32_t present = 0;
    assert(type->size <= sizeof(union rpc_any));
    memset(value, 0, type->size);
    for (unsigned i = 0; i < type->count; i++) {
        void *at = field_of(type, value, i);
        if (type->fields[i].optional && rng_chance(rng, 1, 2))
            continue;
        present |= UINT32_C(1) << i;
        uint64_t number = rng_next(rng) >> rng_below(rng, 64);
        if (rng_chance(rng, 1, 2))
            number = -number;
        switch (type->fields[i].type) {
        case THRIFT_BOOL:
            *(bool *)at = number & 1;
            break;
        case THRIFT_I8:
            *(int8_t *)at = (int8_t)number;
            break;
        case THRIFT_I32:
            *(int32_t *)at = (int32_t)number;
            break;
        case THRIFT_I64:
            *(int64_t *)at = (int64_t)number;
            break;
        default:
            assert(type->fields[i].type == THRIFT_STRING);
            *(struct bytes *)at =
                bytes_of(fill_pool, rng_below(rng, rng_chance(rng, 1, 4) ? sizeof(fill_pool) : 30));
        }
    }
    *(uint32_t *)(void *)((uint8_t *)value + type->present_offset) = present;
}

static inline bool structs_equal(const struct thrift_struct *type, void *a, void *b)
{
    for (unsigned i = 0; i < type->count; i++) {
        void *left = field_of(type, a, i), *right = field_of(type, b, i);
        if (rpc_has(type, a, type->fields[i].offset) != rpc_has(type, b, type->fields[i].offset))
            return false;
        bool equal;
        switch (type->fields[i].type) {
        case THRIFT_BOOL:
            equal = *(bool *)left == *(bool *)right;
            break;
        case THRIFT_I8:
            equal = *(int8_t *)left == *(int8_t *)right;
            break;
        case THRIFT_I32:
            equal = *(int32_t *)left == *(int32_t *)right;
            break;
        case THRIFT_I64:
            equal = *(int64_t *)left == *(int64_t *)right;
            break;
        default:
            equal = bytes_equal(*(struct bytes *)left, *(struct bytes *)right);
        }
        if (!equal)
            return false;
    }
    return true;
}

/* Encodes without a payload, in exactly as much memory. */
static inline struct bytes encode_whole(const struct thrift_form *form, enum thrift_message_kind kind,
                                        struct bytes method, int32_t sequence, int16_t wrapper_id,
                                        const struct thrift_struct *type, const void *value)
{
    struct thrift_encoded encoded;
    int error = thrift_encode(form, kind, method, sequence, wrapper_id, type, value, &encoded);
    assert(error == 0 && encoded.payload_len == 0 && encoded.tail_len == 0);
    assert(encoded.head_len == encoded.buf->len);
    struct bytes whole = exact_copy(encoded.buf->data, encoded.buf->len);
    buf_unref(encoded.buf);
    return whole;
}

enum { FORM_COUNT = 8 };
static inline struct thrift_form form_of(int index)
{
    bool ttheader = index / 2 >= THRIFT_TTHEADER;
    return (struct thrift_form){
        .protocol = index & 1, .envelope = index / 2, .ttheader_sequence = ttheader ? 0x01020304 : 0};
}

#endif
