/* The partitions that live on one shard: opening, sealing and removing them as the coordinator asks.
 *
 * Used on the owner's shard only. A struct hosted hangs in its route of the shard's catalog. What is asked
 * for comes as a struct hosted_spec, a copy of the coordinator's. All calls are idempotent; those that touch
 * files block, but for the making of blocks. */
#ifndef CLYMQ_BROKER_HOSTED_H
#define CLYMQ_BROKER_HOSTED_H

#include "broker/broker.h"
#include "partition/partition.h"

struct hosted {
    struct list link; /* in the shard's hosted */
    struct catalog_route *route;
    struct partition *partition; /* NULL: not open */
    struct coord_topic_config topic_config;
    uint32_t *seqs; /* the chain's blocks in order */
    uint32_t seq_count;
    bool serving; /* takes requests */
    bool deleted; /* being deleted: what waited is told "partition remove" */
    int8_t ack;
    int error; /* why it could not be opened; 0 = it was not tried or is open */
};

struct hosted_spec {
    struct bytes topic, name;
    struct uuid topic_id;
    uint32_t number;
    int8_t ack;
    struct coord_topic_config config;
    const struct coord_block *chain;
    size_t chain_count;
};

/* As struct coord_broker_ops says of each. */
/* done and ctx of creation are the caller's; done does not come once the store is closed. */
void hosted_open_block(struct broker_shard *bs, const struct hosted_spec *spec,
                       const struct coord_block *block, struct partition_creation *creation);
int hosted_serve(struct broker_shard *bs, const struct hosted_spec *spec);
/* From now on it takes requests, if it could be opened and is still there; those that waited for it run in
 * any case. After hosted_serve, and hosted_wait_shown. */
void hosted_take_requests(struct broker_shard *bs, const struct hosted_spec *spec);
/* On any shard: whether a request for this route (NULL: none is known) can be answered, or refused for
 * certain; not while it may be that its partition has yet to be opened. */
bool hosted_is_decided(const struct catalog_route *route);
/* After a crash, what recovery kept beyond the durable-end mark is shown once it is synced. Waits for that
 * with the caller's pull (its done and ctx being set), so that nobody is served while acknowledged messages
 * are still hidden. false: there is nothing to wait for, done does not come. */
bool hosted_wait_shown(struct broker_shard *bs, const struct hosted_spec *spec, struct partition_pull *pull);
void hosted_seal_block(struct broker_shard *bs, const struct hosted_spec *spec,
                       const struct coord_block *block, void (*done)(void *ctx, int error, int64_t end),
                       void *ctx);
int hosted_check(struct broker_shard *bs, const struct hosted_spec *spec);
int hosted_delete_block(struct broker_shard *bs, const struct hosted_spec *spec,
                        const struct coord_block *block);
int hosted_delete(struct broker_shard *bs, const struct hosted_spec *spec);
void hosted_update_config(struct broker_shard *bs, struct bytes topic, struct uuid topic_id,
                          const struct coord_topic_config *config);
/* The shard's tuning changed. */
void hosted_retune(struct broker_shard *bs);
/* The broker stops: nothing waits any more for a full disk or a seal. */
void hosted_drain_all(struct broker_shard *bs);
/* Closes all (waiting requests are answered through their callbacks); the catalog's routes forget them. */
void hosted_close_all(struct broker_shard *bs);

#endif
