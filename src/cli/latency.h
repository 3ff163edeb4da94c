/* A histogram of latencies: any number of values in fixed memory, quantiles to within 1/64 (never below the
 * true one by more than its microsecond). Zeroed it is empty. One thread at a time. */
#ifndef CLYMQ_CLI_LATENCY_H
#define CLYMQ_CLI_LATENCY_H

#include <stdint.h>

enum { LATENCY_BUCKETS = 64 * 59 };
struct latency {
    uint64_t counts[LATENCY_BUCKETS];
    uint64_t count, sum_us, max_us;
};
/* Below 0 counts as 0: clocks of two threads may differ by a little. */
void latency_add(struct latency *latency, int64_t us);
void latency_merge(struct latency *into, const struct latency *from);
/* The value that a share q of all (0 to 1) does not exceed, in us; 0 where there is none. */
uint64_t latency_quantile(const struct latency *latency, double q);

#endif
