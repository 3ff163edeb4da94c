/* Variable-length integers: seven bits a byte, lowest first, the top bit set on all but the last; signed
 * numbers zigzag. Thrift's compact protocol and Kafka's records use the same form. At most ten bytes. Pure;
 * any thread. */
#ifndef CLYMQ_WIRE_VARINT_H
#define CLYMQ_WIRE_VARINT_H

#include <stddef.h>
#include <stdint.h>

enum { VARINT_MAX_SIZE = 10, VARINT32_MAX_SIZE = 5 };

static inline uint64_t zigzag_encode(int64_t value)
{
    return ((uint64_t)value << 1) ^ (uint64_t)(value >> 63);
}
static inline int64_t zigzag_decode(uint64_t value)
{
    return (int64_t)(value >> 1) ^ -(int64_t)(value & 1);
}

/* Continues varint_read after a first byte with its top bit set. */
const uint8_t *varint_read_long(const uint8_t *at, const uint8_t *end, uint64_t *ret_value);

/* Reads at [at, end) and returns the place behind it, or NULL where it is cut short, longer than ten bytes or
 * beyond 64 bits. */
static inline const uint8_t *varint_read(const uint8_t *at, const uint8_t *end, uint64_t *ret_value)
{
    if (at < end && *at < 0x80) {
        *ret_value = *at;
        return at + 1;
    }
    return varint_read_long(at, end, ret_value);
}
/* As above for a number of at most 32 bits; more is NULL. */
static inline const uint8_t *varint_read_u32(const uint8_t *at, const uint8_t *end, uint32_t *ret_value)
{
    uint64_t wide;
    at = varint_read(at, end, &wide);
    if (!at || wide > UINT32_MAX)
        return NULL;
    *ret_value = (uint32_t)wide;
    return at;
}
static inline const uint8_t *varint_read_i32(const uint8_t *at, const uint8_t *end, int32_t *ret_value)
{
    uint32_t raw;
    at = varint_read_u32(at, end, &raw);
    if (at)
        *ret_value = (int32_t)zigzag_decode(raw);
    return at;
}
static inline const uint8_t *varint_read_i64(const uint8_t *at, const uint8_t *end, int64_t *ret_value)
{
    uint64_t raw;
    at = varint_read(at, end, &raw);
    if (at)
        *ret_value = zigzag_decode(raw);
    return at;
}

/* How many bytes the number at [at, at + len) takes: 1 to 10; 0 = cut short; -1 = longer than ten bytes. */
static inline int varint_measure(const uint8_t *at, size_t len)
{
    for (size_t i = 0; i < len && i < VARINT_MAX_SIZE; i++)
        if (at[i] < 0x80)
            return (int)i + 1;
    return len < VARINT_MAX_SIZE ? 0 : -1;
}

/* Bytes that value takes. */
static inline int varint_size(uint64_t value)
{
    return (63 - __builtin_clzll(value | 1)) / 7 + 1;
}
/* Writes at `at`, which has room for varint_size(value) bytes, and returns the place behind. */
static inline uint8_t *varint_write(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

#endif
