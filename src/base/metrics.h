/* Metrics: counters, gauges and histograms in one registry, printed in Prometheus' text format.
 *
 * A metric is registered once by its owner (any thread, under a lock) and then updated without locks: each
 * update is a relaxed atomic on the metric's own cache line; shards register one instance each with the label
 * shard="N", so they do not share lines. Reading (metrics_print) may run on any thread and sees values that
 * are each right, not one snapshot. Metrics live until metrics_free. Names follow Prometheus:
 * clymq_<what>_<unit>[_total]. */
#ifndef CLYMQ_BASE_METRICS_H
#define CLYMQ_BASE_METRICS_H

#include <stdatomic.h>
#include <stdint.h>

#include "base/buf.h"

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM };

enum { METRIC_BUCKETS = 64 };

struct metric {
    _Alignas(64) _Atomic int64_t value; /* counter, gauge; sum of a histogram */
    /* Histogram: METRIC_BUCKETS of them; bucket 0 counts zeros, bucket i values in [2^(i-1), 2^i), the last
     * all above. */
    _Atomic uint64_t *buckets;
};

struct metrics; /* a registry */

struct metrics *metrics_new(void); /* NULL: out of memory */
void metrics_free(struct metrics *metrics);
/* name and help are constant texts; labels is like "shard=\"0\"", its values escaped, or NULL, and is copied.
 * NULL: out of memory. The same name and labels again give the same metric. */
struct metric *metrics_register(struct metrics *metrics, enum metric_type type, const char *name,
                                const char *labels, const char *help);
/* A counter or gauge, registered once, whose value is what read says when it is printed; read is called by
 * whoever prints, any thread, under the registry's lock. 0 or CLYMQ_ENOMEM. */
int metrics_register_read(struct metrics *metrics, enum metric_type type, const char *name, const char *help,
                          int64_t (*read)(void));
/* Where memory runs out, text->failed is set. */
void metrics_print(struct metrics *metrics, struct strbuf *text);

static inline void metric_add(struct metric *metric, int64_t amount)
{
    atomic_fetch_add_explicit(&metric->value, amount, memory_order_relaxed);
}
static inline void metric_set(struct metric *metric, int64_t value)
{
    atomic_store_explicit(&metric->value, value, memory_order_relaxed);
}
static inline int64_t metric_value(const struct metric *metric)
{
    return atomic_load_explicit(&metric->value, memory_order_relaxed);
}
void metric_observe(struct metric *histogram, uint64_t value);

#endif
