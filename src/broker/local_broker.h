/* The broker as the coordinator of the same process sees it: struct coord_broker_ops over messages to the
 * shards.
 *
 * Lives on shard 0. Each call makes a round: first to the shard that owns the partition, which does the work,
 * then past all other shards, which change their catalogs, then back to shard 0. So when the coordinator (and
 * through it a client) is told that a partition is in service, every shard knows it. */
#ifndef CLYMQ_BROKER_LOCAL_BROKER_H
#define CLYMQ_BROKER_LOCAL_BROKER_H

#include "broker/broker.h"

extern const struct coord_broker_ops local_broker_ops; /* broker: struct local_broker */

/* NULL: out of memory. */
struct local_broker *local_broker_new(struct broker_node *node);
/* Rounds under way. */
size_t local_broker_pending(const struct local_broker *local);
/* The coordinator is gone: rounds end without telling it. */
void local_broker_disconnect(struct local_broker *local);
/* After disconnect, the shards being quiet or dead. NULL is allowed. */
void local_broker_free(struct local_broker *local);

#endif
