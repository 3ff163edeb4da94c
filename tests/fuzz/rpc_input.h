/* A fuzzer's input taken apart: numbers, strings, and any struct of the RPC by its table. What is not there
 * any more reads as zeros and empty strings. */
#ifndef CLYMQ_FUZZ_RPC_INPUT_H
#define CLYMQ_FUZZ_RPC_INPUT_H

#include "fuzz.h"
#include "wire/rpc.h"

/* Larger than any of the structs, and aligned for all. */
union rpc_value {
    uint8_t bytes[512];
    int64_t align;
};

static inline uint64_t take_number(struct bytes *input, unsigned size)
{
    uint64_t number = 0;
    for (; size > 0; size--) {
        number = number << 8 | (input->len ? input->ptr[0] : 0);
        if (input->len)
            *input = bytes_of(input->ptr + 1, input->len - 1);
    }
    return number;
}

static inline struct bytes take_content(struct bytes *input, size_t len)
{
    if (len > input->len)
        len = input->len;
    struct bytes taken = bytes_of(input->ptr, len);
    *input = bytes_of(input->ptr + len, input->len - len);
    return taken;
}

/* A length of one byte and the string; or, from 0xf0 on, a name that means something to the server. */
static inline struct bytes take_string(struct bytes *input)
{
    static const char *const known[] = {"t", "0", "u", "1", "b1", "server:8888", "", "c"};
    uint8_t len = (uint8_t)take_number(input, 1);
    if (len < 0xf0)
        return take_content(input, len);
    if (len >= 0xf8) /* a long one */
        return take_content(input, (size_t)take_number(input, 2));
    return bytes_of_text(known[len - 0xf0]);
}

/* A number as it may stand in a field: its first byte says how large it is. */
static inline int64_t take_field_number(struct bytes *input)
{
    uint8_t head = (uint8_t)take_number(input, 1);
    if (head < 0xc0)
        return (int64_t)head - 8;
    unsigned size = 1 + (head & 7);
    uint64_t number = take_number(input, size);
    return head & 8 ? (int64_t)~number : (int64_t)number;
}

/* All fields are there. */
static inline void take_struct(struct bytes *input, const struct thrift_struct *type, union rpc_value *value)
{
    FUZZ_CHECK(type->size <= sizeof(*value));
    memset(value, 0, sizeof(*value));
    for (unsigned i = 0; i < type->count; i++) {
        uint8_t *at = value->bytes + type->fields[i].offset;
        switch (type->fields[i].type) {
        case THRIFT_BOOL:
            *(bool *)at = take_number(input, 1) & 1;
            break;
        case THRIFT_I8:
            *(int8_t *)at = (int8_t)take_number(input, 1);
            break;
        case THRIFT_I32:
            *(int32_t *)(void *)at = (int32_t)take_field_number(input);
            break;
        case THRIFT_I64:
            *(int64_t *)(void *)at = take_field_number(input);
            break;
        default:
            *(struct bytes *)(void *)at = take_string(input);
        }
    }
    *(uint32_t *)(void *)(value->bytes + type->present_offset) = (uint32_t)((UINT64_C(1) << type->count) - 1);
}

#endif
