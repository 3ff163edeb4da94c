/* A broker node: the coordinator role, the broker role and their two ports in one process, over given shards,
 * data folder and metadata.
 *
 * Everything it uses comes in through its configuration, so the same node runs in clymqd on the operating
 * system and in clymq-sim on the simulated one; there may be several in a process. Its functions are called
 * on any thread while the shards run (new and free: while they do not run, or on shard 0); callbacks come on
 * shard 0. What belongs to one shard is in broker/broker.h.
 *
 * Start: each shard opens its store; the coordinator takes its role and loads the tree; every partition that
 * it names here is recovered on its shard, the shards beside each other; then calls are answered. Both ports
 * are open from the beginning; calls that come earlier wait. A damaged partition does not stop the others. */
#ifndef CLYMQ_BROKER_NODE_H
#define CLYMQ_BROKER_NODE_H

#include "base/metrics.h"
#include "meta/meta.h"
#include "net/server.h"
#include "shard/shard.h"
#include "store/store.h"

struct broker_node;
struct partition_faults;

struct broker_node_config {
    const char *broker_id;     /* name_check, no '@' */
    const char *rack;          /* NULL or "" = none */
    const char *broker_listen; /* HOST:PORT; port 0 = any */
    const char *coordinator_listen;
    const char *advertise_broker; /* HOST or HOST:PORT that clients are told; NULL = as it listens */
    const char *advertise_coordinator;
    const char *metadata_root; /* NULL = "/ClyMQ" */
    struct net_limits limits;
    struct store_config store;
    const struct partition_faults *partition_faults; /* control runs only; NULL otherwise */
    /* Reloadable (broker_node_reload): */
    int64_t max_batch_bytes;    /* of one stored batch or message; 16 MiB */
    int64_t push_wait_ms;       /* what passes is waited out this long; 30,000 */
    int64_t pull_wait_max_ms;   /* longer waits of pullBatch are cut; 60,000 */
    int64_t max_waiting_bytes;  /* per partition; 8 MiB */
    int64_t producer_expiry_ms; /* 7 d */
    int64_t retention_ms;       /* of topics that do not say; -1 = for ever (default) */
    int64_t retention_bytes;    /* per partition, of topics that do not say; -1 = no limit (default) */
    int64_t retention_check_ms; /* 60,000 */
    int64_t scrub_bytes_per_s;  /* per shard: what is stored is read and checked; 0 = off (default) */
    int64_t scrub_every_ms;     /* from one pass's beginning to the next one's, at least; 1 d */
    /* The metadata, opened on shard 0 at start and closed (or, in a simulated crash, expired) by stop or
     * free. error gets a sentence that says what to do. */
    int (*open_meta)(void *ctx, struct shard *shard, struct strbuf *error, struct meta **ret_meta);
    void (*close_meta)(void *ctx, struct meta *meta);
    void *ctx;
};
/* Defaults for everything but the names, addresses and callbacks. */
void broker_node_config_defaults(struct broker_node_config *config);

/* error 0; or why, with a sentence for the user ("" on success). */
typedef void (*broker_node_done)(void *ctx, int error, const char *sentence);

/* Texts are copied. shards, folder and metrics outlive the node. 0 or CLYMQ_ENOMEM. */
int broker_node_new(const struct broker_node_config *config, struct shards *shards,
                    struct store_folder *folder, struct metrics *metrics, struct broker_node **ret_node);
/* done: it serves; or it failed, and is to be stopped (or freed, the shards having been stopped). */
void broker_node_start(struct broker_node *node, broker_node_done done, void *ctx);
/* Takes no new connections, answers what it has (for at most grace_ms), syncs and closes everything. Once;
 * also after a failed start, not during one. error: a log could not be synced. */
void broker_node_stop(struct broker_node *node, int64_t grace_ms, broker_node_done done, void *ctx);
/* After stop's done, or at any time once the shards' threads or simulated loops are dead: no callback comes.
 * NULL is allowed. */
void broker_node_free(struct broker_node *node);

/* Applies the reloadable values, in the order of calls; partitions of topics without a retention of their own
 * follow. Any thread. 0 or CLYMQ_ENOMEM. */
int broker_node_reload(struct broker_node *node, const struct broker_node_config *config);

/* Where it really listens, "HOST:PORT". After start's done. */
const char *broker_node_broker_address(const struct broker_node *node);
const char *broker_node_coordinator_address(const struct broker_node *node);
/* What it serves, for the one line at start and for /health. Any thread. */
struct broker_node_state {
    bool serving, disk_full;
    uint64_t partitions, failed_partitions, recovered_bytes;
    uint64_t scrub_damaged; /* places that the scrub found damaged, each in every pass */
};
void broker_node_get_state(const struct broker_node *node, struct broker_node_state *ret_state);

#endif
