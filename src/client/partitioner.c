/* murmur2 as Austin Appleby published it (MurmurHash2, public domain), read as little-endian words, and the
 * rule of Kafka's default partitioner: positive(murmur2(key)) % partitions. */
#include "client/partitioner.h"

#include <assert.h>

int32_t partitioner_murmur2(struct bytes key)
{
    const uint32_t m = 0x5bd1e995;
    uint32_t h = 0x9747b28cu ^ (uint32_t)key.len;
    const uint8_t *at = key.ptr;
    size_t left = key.len;
    for (; left >= 4; left -= 4, at += 4) {
        uint32_t k = (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
        k *= m;
        k ^= k >> 24;
        k *= m;
        h = h * m ^ k;
    }
    if (left >= 3)
        h ^= (uint32_t)at[2] << 16;
    if (left >= 2)
        h ^= (uint32_t)at[1] << 8;
    if (left >= 1) {
        h ^= at[0];
        h *= m;
    }
    h ^= h >> 13;
    h *= m;
    h ^= h >> 15;
    return (int32_t)h;
}

uint32_t partitioner_choose(struct bytes key, uint32_t count)
{
    assert(count > 0);
    return ((uint32_t)partitioner_murmur2(key) & 0x7fffffffu) % count;
}
