/* What a broker counts, one set per shard, so that shards share no cache lines. Updates are cheap and need no
 * lock. */
#ifndef CLYMQ_BROKER_METRICS_H
#define CLYMQ_BROKER_METRICS_H

#include "base/metrics.h"
#include "wire/rpc.h"

enum { ERROR_NUMBERS = 64 };

struct broker_metrics {
    struct metrics *registry;
    unsigned shard;
    struct metric *pushes, *push_messages, *push_bytes;
    struct metric *pulls, *pull_messages, *pull_bytes;
    struct metric *partitions, *failed_partitions, *log_bytes, *disk_full, *recovered_bytes;
    struct metric *scrub_bytes, *scrub_damaged;
    struct metric *latency_us[RPC_METHOD_COUNT]; /* broker and coordinator methods */
    struct metric *push_latency_us[3];           /* ack -1, 0, 1 */
    struct metric *errors[ERROR_NUMBERS];        /* made when first seen */
};

/* registry is not NULL and outlives metrics. 0 or CLYMQ_ENOMEM. */
int broker_metrics_init(struct broker_metrics *metrics, struct metrics *registry, unsigned shard);
/* A request that ended with this error (0 counts nothing). */
void broker_metrics_error(struct broker_metrics *metrics, int error);

#endif
