/* xoshiro256** and the ranges drawn from it: see rng.h. */
#include "base/rng.h"

#include <assert.h>
#include <string.h>

static uint64_t rotate_left(uint64_t value, int bits)
{
    return value << bits | value >> (64 - bits);
}

void rng_seed(struct rng *rng, uint64_t seed)
{
    /* splitmix64 spreads similar seeds apart and never fills the state with zeros only. */
    for (int i = 0; i < 4; i++) {
        seed += 0x9e3779b97f4a7c15u;
        uint64_t mixed = seed;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9u;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebu;
        rng->state[i] = mixed ^ mixed >> 31;
    }
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t *state = rng->state;
    uint64_t result = rotate_left(state[1] * 5, 7) * 9;
    uint64_t shifted = state[1] << 17;
    state[2] ^= state[0];
    state[3] ^= state[1];
    state[1] ^= state[2];
    state[0] ^= state[3];
    state[2] ^= shifted;
    state[3] = rotate_left(state[3], 45);
    return result;
}

/* Lemire, "Fast random integer generation in an interval", 2019: the high half of a 128-bit product, drawn
 * again in the rare case that would make some results more likely than others. */
uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    assert(bound > 0);
    unsigned __int128 product = (unsigned __int128)rng_next(rng) * bound;
    if ((uint64_t)product < bound) {
        uint64_t threshold = -bound % bound;
        while ((uint64_t)product < threshold)
            product = (unsigned __int128)rng_next(rng) * bound;
    }
    return (uint64_t)(product >> 64);
}

int64_t rng_between(struct rng *rng, int64_t low, int64_t high)
{
    assert(low <= high);
    uint64_t width = (uint64_t)high - (uint64_t)low;
    uint64_t step = width == UINT64_MAX ? rng_next(rng) : rng_below(rng, width + 1);
    return (int64_t)((uint64_t)low + step);
}

bool rng_chance(struct rng *rng, uint32_t numerator, uint32_t denominator)
{
    return rng_below(rng, denominator) < numerator;
}

void rng_fill(struct rng *rng, void *out, size_t len)
{
    uint8_t *at = out;
    while (len > 0) {
        uint64_t word = rng_next(rng);
        size_t part = len < sizeof(word) ? len : sizeof(word);
        /* Byte by byte from the low end, so that the sequence is the same on every machine. */
        for (size_t i = 0; i < part; i++)
            at[i] = (uint8_t)(word >> (8 * i));
        at += part;
        len -= part;
    }
}
