/* Seeded random numbers (xoshiro256**, seeded by splitmix64; Blackman and Vigna, "Scrambled linear
 * pseudorandom number generators", 2018). Not for secrets. One owner per generator; the same seed gives the
 * same sequence on any machine. */
#ifndef CLYMQ_BASE_RNG_H
#define CLYMQ_BASE_RNG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct rng {
    uint64_t state[4];
};

void rng_seed(struct rng *rng, uint64_t seed);
uint64_t rng_next(struct rng *rng);
/* Uniform in [0, bound); bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);
/* Uniform in [low, high], low <= high. */
int64_t rng_between(struct rng *rng, int64_t low, int64_t high);
/* True with probability numerator / denominator. */
bool rng_chance(struct rng *rng, uint32_t numerator, uint32_t denominator);
void rng_fill(struct rng *rng, void *out, size_t len);

#endif
