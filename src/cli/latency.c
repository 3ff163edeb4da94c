/* Latencies in microseconds, in buckets that are at most 1/64 wide, over the whole range of 64 bits: exact
 * below 128, then 64 buckets for each power of two (of 128 the lower half would repeat the power before). */
#include "cli/latency.h"

enum { LINEAR = 128, HALF = LINEAR / 2, HALF_BITS = 6 };

static unsigned bucket_of(uint64_t us)
{
    if (us < LINEAR)
        return (unsigned)us;
    unsigned shift = 63 - (unsigned)__builtin_clzll(us) - HALF_BITS;
    return shift * HALF + (unsigned)(us >> shift);
}

static uint64_t bucket_top(unsigned index)
{
    if (index < LINEAR)
        return index;
    unsigned shift = index / HALF - 1;
    /* The last bucket's end wraps round to UINT64_MAX. */
    return (((uint64_t)(index - shift * HALF) + 1) << shift) - 1;
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

void latency_merge(struct latency *into, const struct latency *from)
{
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++)
        into->counts[i] += from->counts[i];
    into->count += from->count;
    into->sum_us += from->sum_us;
    if (from->max_us > into->max_us)
        into->max_us = from->max_us;
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
