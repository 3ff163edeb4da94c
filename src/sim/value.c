/* A value: a fixed head with a checksum, then filler that follows from the message's number: half of it words
 * that compress, half of it random. */
#include "sim/value.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "base/rng.h"
#include "wire/byte_order.h"

enum {
    MAGIC = 0x434d5176, /* "CMQv" */
    CRC_AT = 16,
    FILLER_AT = VALUE_SIZE_MIN,
    REPEATED = 32,
};

static uint32_t checksum(const uint8_t *data, size_t size)
{
    return crc32c(crc32c(0, data, CRC_AT), data + CRC_AT + 4, size - CRC_AT - 4);
}

void value_write(const struct value *value, uint8_t *out)
{
    struct rng rng;
    size_t rest = value->size - FILLER_AT, random = rest / 2;

    assert(value->size >= VALUE_SIZE_MIN && value->size <= VALUE_SIZE_MAX);
    store_be32(out, MAGIC);
    store_be32(out + 4, value->message);
    store_be16(out + 8, value->client);
    store_be16(out + 10, value->slot);
    store_be32(out + 12, value->size);
    store_be32(out + 20, 0);
    rng_seed(&rng, value->message);
    rng_fill(&rng, out + FILLER_AT, random);
    for (size_t i = random; i < rest; i++)
        out[FILLER_AT + i] = (uint8_t)('a' + i % REPEATED);
    store_be32(out + CRC_AT, checksum(out, value->size));
}

bool value_read(struct bytes data, struct value *ret_value)
{
    if (data.len < VALUE_SIZE_MIN || load_be32(data.ptr) != MAGIC)
        return false;
    struct value value = {
        .message = load_be32(data.ptr + 4),
        .client = load_be16(data.ptr + 8),
        .slot = load_be16(data.ptr + 10),
        .size = load_be32(data.ptr + 12),
    };
    if (value.size != data.len || load_be32(data.ptr + CRC_AT) != checksum(data.ptr, data.len))
        return false;
    *ret_value = value;
    return true;
}

struct value_extras value_extras_of(uint32_t message)
{
    struct value_extras extras = {.has_key = message % 3 != 0, .has_header = message % 5 == 0};

    snprintf(extras.key, sizeof(extras.key), "k%" PRIu32, message);
    return extras;
}
