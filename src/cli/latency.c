/* Latencies in microseconds, in buckets that are at most 1/32 wide: exact below 64, then 64 buckets for each
 * power of two, of which the lower half would repeat the power before (so 32 are used). */
#include "cli/cli.h"

static unsigned bucket_of(uint64_t us)
{
    if (us < 64)
        return (unsigned)us;
    unsigned shift = 63 - (unsigned)__builtin_clzll(us) - 5;
    unsigned index = shift * 32 + (unsigned)(us >> shift);
    return index < LATENCY_BUCKETS ? index : LATENCY_BUCKETS - 1;
}

static uint64_t bucket_top(unsigned index)
{
    if (index < 64)
        return index;
    unsigned shift = index / 32 - 1;
    return (((uint64_t)(index - shift * 32) + 1) << shift) - 1;
}

void latency_add(struct latency *latency, int64_t us)
{
    uint64_t value = us > 0 ? (uint64_t)us : 0;
    latency->counts[bucket_of(value)]++;
    latency->count++;
    latency->sum_us += value;
    if (value > latency->max_us)
        latency->max_us = value;
}

uint64_t latency_quantile(const struct latency *latency, double q)
{
    uint64_t wanted = (uint64_t)(q * (double)latency->count), seen = 0;
    if (latency->count == 0)
        return 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        seen += latency->counts[i];
        if (seen > wanted) {
            uint64_t top = bucket_top(i);
            return top < latency->max_us ? top : latency->max_us;
        }
    }
    return latency->max_us;
}
