/* The calls of one shard that came before what they need is there: before the node may answer anything, or,
 * while partitions are being opened, before the one that they name. They wait in the order they came in.
 *
 * Used on its shard only. Calls that wait are neither answered nor given back; they are the server's to free
 * when the node dies. */
#ifndef CLYMQ_BROKER_EARLY_CALLS_H
#define CLYMQ_BROKER_EARLY_CALLS_H

#include <stdint.h>

#include "base/list.h"

struct net_call;

enum { EARLY_BUCKETS = 64 };

struct early_calls {
    struct list all;                    /* wait for the next phase of the start */
    struct list waiting[EARLY_BUCKETS]; /* for a partition, by its hash */
};

typedef void (*early_call_run)(void *ctx, struct net_call *call);

void early_calls_init(struct early_calls *early);
/* 0 or CLYMQ_ENOMEM. */
int early_calls_add(struct early_calls *early, struct net_call *call);
/* For the partition of this hash (catalog_hash). 0 or CLYMQ_ENOMEM. */
int early_calls_add_waiting(struct early_calls *early, uint64_t hash, struct net_call *call);
/* Runs those that wait for this partition; run may add calls, which then wait for the next time. */
void early_calls_run_waiting(struct early_calls *early, uint64_t hash, early_call_run run, void *ctx);
/* Runs all: first those that wait for partitions. run may add calls, as above. */
void early_calls_run_all(struct early_calls *early, early_call_run run, void *ctx);
/* Forgets what is left. */
void early_calls_free(struct early_calls *early);

#endif
