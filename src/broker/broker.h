/* The inside of a broker node, shared by the files of this folder (and its tests) only: the node, its part on
 * each shard.
 *
 * struct broker_shard belongs to its shard and is touched only there. struct broker_node's own fields belong
 * to shard 0, except those marked otherwise. */
#ifndef CLYMQ_BROKER_BROKER_H
#define CLYMQ_BROKER_BROKER_H

#include "broker/answer_gate.h"
#include "broker/catalog.h"
#include "broker/early_calls.h"
#include "broker/metrics.h"
#include "broker/node.h"
#include "broker/pull_turns.h"
#include "broker/scrub.h"
#include "coord/coord.h"

enum { WAIT_BUCKETS = 256, PULL_BYTES_MAX = 16 << 20, PULL_BYTES_DEFAULT = 1 << 20 };

struct local_broker;

/* What a shard answers. Each phase begins on every shard before the next does on any. */
enum broker_phase {
    BROKER_CLOSED,  /* nothing: calls wait */
    BROKER_OPENING, /* what needs no more than the partitions that are in service; other calls wait */
    BROKER_READY,
};

/* The reloadable values, a copy on each shard. */
struct broker_tuning {
    int64_t max_batch_bytes, push_wait_ms, pull_wait_max_ms, max_waiting_bytes, producer_expiry_ms;
    int64_t retention_ms, retention_bytes, retention_check_ms;
    int64_t scrub_bytes_per_s, scrub_every_ms;
};

struct broker_shard {
    struct broker_node *node;
    struct shard *shard;
    struct store *store; /* NULL before it is open and after it is closed */
    struct catalog catalog;
    struct list hosted; /* struct hosted, every partition that lives here */
    struct broker_tuning tuning;
    struct broker_metrics metrics;

    struct list requests;            /* struct request that came in here, until freed */
    struct list waits[WAIT_BUCKETS]; /* struct pull_batch_request that may wait, by connection */
    struct answer_gate answer_gate;
    struct pull_turns pull_turns;  /* of pulls whose partitions live here */
    struct pull_turns batch_turns; /* of pullBatch, likewise */
    struct early_calls early;
    uint64_t pushes_ahead_bytes; /* held by pushes of level 0 that were answered on receipt */
    enum broker_phase phase;
    bool draining;

    /* housekeeping.c */
    struct io_timer housekeeping;
    struct list *retention_at; /* next of hosted to look at; NULL: the pass is over */
    uint64_t retention_next_ns, gauges_next_ns, tidy_next_ns;
    struct list tidy;          /* folders of deleted partitions */
    struct shard_message drop; /* one request to drop emptied blocks at a time */
    bool drop_sent;
    struct uuid drop_topic;
    uint32_t drop_partition, drop_seq;

    struct scrub scrub;

    /* node.c: the stages of start and stop */
    struct shard_message stage;
    int stage_error;
};

struct broker_node {
    struct shards *shards;
    struct store_folder *folder;
    struct metrics *registry;
    struct broker_node_config config; /* texts owned */
    unsigned shard_count;             /* constant */
    struct broker_shard *shard;       /* shard_count of them */
    struct net_server *broker_server, *coordinator_server;
    char broker_address[300], coordinator_address[300];       /* where it listens */
    char broker_advertised[300], coordinator_advertised[300]; /* what clients are told */
    struct meta *meta;
    struct coord *coord;
    struct local_broker *local;

    bool stopping;
    bool role_waits;   /* the coordinator's role is to be taken again, and there was no memory for a timer */
    _Atomic bool dead; /* any thread. Freeing: callbacks do nothing */
    _Atomic bool serving; /* any thread */
    struct shard_message start_message, stop_message;
    broker_node_done start_done, stop_done;
    void *start_ctx, *stop_ctx;
    int64_t grace_ms;
    void (*stage_work)(struct broker_shard *bs);
    void (*stage_then)(struct broker_node *node);
    unsigned stage_left, servers_left;
    int stage_error;
    int stop_error;
    struct io_timer timer; /* progress while starting; retry of a lost role; waiting while stopping */
    uint64_t timer_deadline_ns;
    struct list reloads;
};

/* dispatch.c: a call of either port, on its shard. */
void broker_on_call(void *ctx, struct net_call *call);
/* Enters BROKER_OPENING or BROKER_READY; calls that waited for it run. */
void broker_enter_phase(struct broker_shard *bs, enum broker_phase phase);
/* A partition of this hash came into service: calls that waited for it run. */
void broker_run_waiting(struct broker_shard *bs, uint64_t hash);
/* While partitions are being opened: the call, which nothing else holds any more, waits for this one, or for
 * the end of opening. */
void broker_wait_for_partition(struct broker_shard *bs, uint64_t hash, struct net_call *call);
/* The node stops: calls that waited are refused, and those that come and would have to wait. */
void broker_refuse_early(struct broker_shard *bs);

/* housekeeping.c */
int housekeeping_start(struct broker_shard *bs); /* 0 or CLYMQ_ENOMEM */
void housekeeping_stop(struct broker_shard *bs);
/* The shard's tuning changed: the next look at old messages comes no later than that says. */
void housekeeping_retune(struct broker_shard *bs);
/* A partition was deleted: its folder and its topic's go once they are empty. */
void housekeeping_tidy_later(struct broker_shard *bs, struct uuid topic, uint32_t partition);
void housekeeping_free(struct broker_shard *bs);

static inline struct broker_shard *broker_shard_of(struct broker_node *node, const struct shard *shard)
{
    return &node->shard[shard->id];
}
static inline bool broker_is_dead(const struct broker_node *node)
{
    return atomic_load_explicit(&node->dead, memory_order_relaxed);
}

#endif
