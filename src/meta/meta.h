/* The metadata tree: versioned nodes, multi-node compare-and-set transactions, watches, sessions with
 * ephemeral nodes.
 *
 * One interface, one contract test suite, several backends: embedded (SQLite, meta/embedded.c), simulated
 * (meta/sim.c), and ZooKeeper with the cluster issue. The interface promises what all of them can:
 * ZooKeeper's model (Hunt et al., "ZooKeeper: wait-free coordination for internet-scale systems", 2010).
 *
 * Belongs to one shard; calls are made and callbacks run there, never from inside the call (except that
 * CLYMQ_ENOMEM may come from inside, where there was no memory to keep the request). Paths are "/A/b",
 * absolute, parts are any UTF-8 without '/' (CLYMQ_EINVAL otherwise); "/" itself is always there and never
 * changes. A node has a value (at most 1 MiB; ClyMQ keeps JSON in it), a version that starts at 0 and grows
 * by one per set, and children. Results are views valid during the callback. Every request gets exactly one
 * callback, in the order of the requests; CLYMQ_ESESSION when the session is lost (outcome of a transaction
 * unknown: read back), CLYMQ_ESHUTDOWN when the backend is closed first (from inside meta_close). */
#ifndef CLYMQ_META_META_H
#define CLYMQ_META_META_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "shard/shard.h"

enum { META_ANY_VERSION = -1, META_VALUE_MAX = 1 << 20, META_PATH_MAX = 4096 };

enum meta_op_kind {
    META_CREATE, /* CLYMQ_EEXIST; CLYMQ_ENOENT when the parent is missing */
    META_SET,    /* CLYMQ_ENOENT; CLYMQ_EVERSION unless the version matches (or is META_ANY_VERSION) */
    META_DELETE, /* as SET; CLYMQ_EBUSY when it has children */
    META_CHECK,  /* as SET, changes nothing */
};
struct meta_op {
    enum meta_op_kind kind;
    const char *path;
    struct bytes value; /* CREATE, SET: copied before the call returns */
    int64_t version;    /* SET, DELETE, CHECK */
    bool ephemeral;     /* CREATE: gone with the session; may have no children */
};

struct meta_node {
    struct bytes value;
    int64_t version;
    bool ephemeral;
};

struct meta_result {
    int error;                    /* 0 or CLYMQ_E… */
    int failed_op;                /* transaction: index of the operation that failed; -1 otherwise */
    struct meta_node node;        /* get */
    const struct bytes *children; /* list: sorted by bytes */
    size_t child_count;
};
typedef void (*meta_callback)(void *ctx, const struct meta_result *result);

enum meta_event {
    META_EVENT_CHANGED, /* the node was created, set or deleted, or a child of it was created or deleted */
    META_EVENT_SESSION, /* the session was lost: every ephemeral node of it is gone, all watches are gone */
};
typedef void (*meta_watcher)(void *ctx, enum meta_event event, const char *path);

struct meta;
struct meta_ops {
    void (*close)(struct meta *meta);
    void (*transact)(struct meta *meta, const struct meta_op *ops, size_t count, meta_callback done,
                     void *ctx);
    void (*get)(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx);
    void (*list)(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx);
};
/* Backends begin their struct with this. */
struct meta {
    const struct meta_ops *ops;
    meta_watcher watcher; /* set with meta_set_watcher */
    void *watcher_ctx;
};

/* All operations or none; durable when done says 0. */
static inline void meta_transact(struct meta *meta, const struct meta_op *ops, size_t count,
                                 meta_callback done, void *ctx)
{
    meta->ops->transact(meta, ops, count, done, ctx);
}
/* CLYMQ_ENOENT when there is no such node (a watch is set all the same: it tells of its creation). A watch
 * fires once. */
static inline void meta_get(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx)
{
    meta->ops->get(meta, path, watch, done, ctx);
}
static inline void meta_list(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx)
{
    meta->ops->list(meta, path, watch, done, ctx);
}
static inline void meta_set_watcher(struct meta *meta, meta_watcher watcher, void *ctx)
{
    meta->watcher = watcher;
    meta->watcher_ctx = ctx;
}
/* Ends the session (ephemeral nodes go) and frees. Outstanding requests get CLYMQ_ESHUTDOWN first, from
 * inside. */
static inline void meta_close(struct meta *meta)
{
    if (meta)
        meta->ops->close(meta);
}

/* SQLite in the file at path (an operating-system path), opened by one process; WAL with synchronous=FULL.
 * SQLite's calls run as io_work on the shard's disk workers. After CLYMQ_ESESSION (an input/output error
 * whose outcome is unknown) the next request begins a new session: it opens the file again and reads back.
 * CLYMQ_ELOCKED, CLYMQ_EFORMAT, CLYMQ_ECORRUPT with a sentence in error. */
int meta_embedded_open(struct shard *shard, const char *path, struct strbuf *error, struct meta **ret_meta);

/* The simulated backend: a tree that outlives the processes that use it (as ZooKeeper's would), or is kept
 * per process (as embedded would be): whoever owns the sim_meta_store decides. Transactions take simulated
 * time and are durable at the instant they are applied; a crash in between applies them or not. */
struct sim_meta_store;
struct sim_meta_store *sim_meta_store_new(uint64_t seed);
void sim_meta_store_free(struct sim_meta_store *store);
/* A session of this shard's process on the store. Delays are drawn in [min, max]. */
int sim_meta_open(struct sim_meta_store *store, struct shard *shard, uint64_t min_delay_ns,
                  uint64_t max_delay_ns, struct meta **ret_meta);
/* The process of this session died: its ephemeral nodes go after the session time-out (immediately here). */
void sim_meta_expire(struct sim_meta_store *store, struct meta *meta);

#endif
