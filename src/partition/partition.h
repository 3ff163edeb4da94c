/* A partition: a chain of blocks with one end that grows, the producer table that makes retries harmless, and
 * the pulls that wait for data.
 *
 * Belongs to one shard; every call is made there and every callback runs there, never from inside the call
 * that asked. It owns its open struct blocks. It never looks at names or connections: routing and rights are
 * broker/'s work.
 *
 * Offsets: start <= watermark <= end. What lies below the watermark is committed (on disk on a majority;
 * here: durable on this disk) and may be read; nothing at or past it is shown. Ack levels change only when a
 * push is answered: 0 on receipt, 1 once written, -1 once the watermark has passed it. At level 0 the caller
 * answers its client at once and done tells later what became of it, as at level 1.
 *
 * A push that cannot be stored now waits in order up to push_wait_ms, then fails with CLYMQ_ENOSPC (disk
 * full), CLYMQ_EPARTITION_REMOVED (its block was sealed and no next one came) or CLYMQ_ELIMIT (the disk did
 * not even find room in that time); so do those beyond max_waiting_bytes, with CLYMQ_ELIMIT, unless it is
 * such room that is waited for, mostly for less than a millisecond. These and all refusals are definite: the
 * push is and will be in no log, nor is one that it repeats. CLYMQ_EUNCERTAIN is not: the log failed while it
 * was being written or synced. */
#ifndef CLYMQ_PARTITION_PARTITION_H
#define CLYMQ_PARTITION_PARTITION_H

#include "store/block.h"

struct partition;

enum { ACK_RECEIVED = 0, ACK_WRITTEN = 1, ACK_COMMITTED = -1 };

/* Protections switched off, for the control runs of tests: a checker that cannot fail proves nothing. */
struct partition_faults {
    bool forget_producers; /* the producer table is not recovered */
    bool ignore_watermark; /* pulls read, and are told, up to the log's end */
};

struct partition_config {
    struct uuid topic;
    uint32_t number;
    int8_t ack_level;        /* -1, 0, 1: what pushes may ask for (-1 only on a partition of level -1) */
    int64_t retention_ms;    /* -1 = keep for ever */
    int64_t retention_bytes; /* -1 = no limit */
    int64_t segment_bytes;   /* size and age at which a log file ends; 0 = as the store says */
    int64_t segment_ms;
    int64_t max_batch_bytes;    /* larger ones are CLYMQ_ETOOBIG */
    int64_t push_wait_ms;       /* how long a push may wait for what passes; default 30,000 */
    int64_t max_waiting_bytes;  /* pushes held while waiting; beyond: CLYMQ_ELIMIT; default 8 MiB */
    int64_t producer_expiry_ms; /* a producer silent for longer is forgotten; default 7 d */
    const struct partition_faults *faults; /* control runs only; NULL otherwise */
};

/* One block of the chain, as metadata names it. */
struct partition_block {
    struct block_key key;
    int64_t start, end; /* end -1: the open one (last) */
    int32_t base_epoch;
};

/* Makes one block on disk, empty and durable, in nobody's service yet (coord's open_block). The same id and
 * start again: 0; an empty one of another id or start is made anew. CLYMQ_EEXIST where it holds something
 * else. Blocking. */
int partition_create_block(struct store *store, const struct partition_block *block);
/* The same without blocking, for many at once: as block_create_later. A block that is there already is looked
 * at on the shard. */
struct partition_creation {
    struct partition_block block;
    void (*done)(struct partition_creation *creation, int error);
    void *ctx;
    /* the partition's */
    struct store *store;
    struct block_creation base;
};
void partition_create_block_later(struct store *store, struct partition_creation *creation);
/* Opens the chain that is on disk and puts it into service. blocks in chain order, at least one; only the
 * last may be open (end -1). A last block that is empty and continues another begins with a control batch
 * that holds the producer table; pushes wait for its commit. CLYMQ_ENOENT: a block is missing. Blocking
 * (recovery). ret_recovery sums over the blocks. */
int partition_open(struct store *store, struct shard *shard, const struct partition_config *config,
                   const struct partition_block *blocks, size_t count, struct partition **ret_partition,
                   struct block_recovery *ret_recovery);
/* The chain as metadata names it now, for a partition in service: opens a new last block as above (waiting
 * pushes go on in it) and removes the files of blocks that are no longer named. 0 when nothing changed. */
int partition_adopt_chain(struct partition *partition, const struct partition_block *blocks, size_t count);
/* Fails waiting pushes, pulls and a seal (CLYMQ_ESHUTDOWN) through their callbacks, closes blocks, frees. No
 * sync: store_stop does that before. */
void partition_close(struct partition *partition);
void partition_set_config(struct partition *partition, const struct partition_config *config);

int64_t partition_start(const struct partition *partition);
int64_t partition_watermark(const struct partition *partition);
int64_t partition_end(const struct partition *partition);
uint64_t partition_size(const struct partition *partition); /* bytes of log */
int partition_error(const struct partition *partition);     /* 0, or why it takes no pushes */
int32_t partition_epoch(const struct partition *partition);

/* The broker stops: what is stored is still answered, but nothing waits any more to be stored: such pushes,
 * those that come later too, are refused with CLYMQ_ESHUTDOWN. */
void partition_drain(struct partition *partition);

/* A push, embedded in its sender's struct, which stays valid until done. Exactly one done per push, in the
 * order of the pushes at one ack level. */
struct partition_push {
    int8_t ack;
    /* A whole batch, checked by the caller (batch_validate): batch.ptr points into message, of which the
     * caller gives a reference that nobody else writes or reads meanwhile: base offset and epoch are set in
     * place. Its header's producer id, epoch and sequence make it idempotent. */
    struct buf *message; /* reference taken over; released after done at the latest */
    struct bytes batch;
    /* Or a single message (batch.ptr NULL): views into message. Singles that arrive in one round are written
     * as one batch. */
    struct bytes key, value;
    struct bytes producer; /* with session != 0: (producer, session, command_index) makes it idempotent */
    int64_t session, command_index;
    /* The outcome. error 0: base_offset is the (first) message's offset; duplicate: it was stored before
     * (base_offset is that one's, -1 where no longer known). */
    int error;
    int64_t base_offset;
    bool duplicate;
    void (*done)(struct partition_push *push);
    void *ctx;
    /* the partition's */
    struct list link;
    int64_t end_offset;
    uint64_t deadline_ns;
    bool appended;
};
void partition_push(struct partition *partition, struct partition_push *push);

/* A pull, embedded likewise. Waits until min_bytes can be given, the deadline passes or something is wrong.
 */
struct partition_pull {
    int64_t offset; /* in: where to begin; range.first_offset may be below it (a batch is given whole) */
    size_t max_bytes, min_bytes; /* min_bytes 0 or 1: any data; at least one batch is given, however long */
    int64_t wait_ms;             /* 0: answer at once */
    /* The outcome: range may be empty (len 0). Released by the caller with block_range_release. */
    int error; /* CLYMQ_EOFFSET_RANGE, CLYMQ_ECORRUPT, CLYMQ_EIO, CLYMQ_ESHUTDOWN …; CLYMQ_ELOG_FAILED at or
                  past a watermark that lies below what an earlier run may have shown, for good */
    struct block_range range;
    int64_t log_start, watermark;
    void (*done)(struct partition_pull *pull);
    void *ctx;
    struct list link;
    struct io_timer timer;
    struct partition *partition;
};
void partition_pull(struct partition *partition, struct partition_pull *pull);
/* Ends a waiting pull without its done being called (its connection is gone). Harmless after done. */
void partition_pull_cancel(struct partition_pull *pull);

/* timestamp_ms: -1 = the watermark, -2 = the start, otherwise the first record at or after it (the watermark
 * and timestamp -1 where there is none). CLYMQ_EAGAIN instead of the watermark for a moment after opening,
 * while what recovery kept is being synced, CLYMQ_ELOG_FAILED where that failed: the watermark never seems to
 * go back. */
int partition_find_offset(struct partition *partition, int64_t timestamp_ms, int64_t *ret_offset,
                          int64_t *ret_timestamp_ms);

/* Seals the open block: pushes wait from now; when all is committed done gets the end offset.
 * partition_adopt_chain with a next block lets the waiting pushes go on. Sealed already: the same end again.
 * One that is still awaited ends with CLYMQ_EAGAIN. */
void partition_seal(struct partition *partition, void (*done)(void *ctx, int error, int64_t end), void *ctx);

/* Applies retention now; called by its shard's housekeeping once a minute. *ret_empty_blocks: how many sealed
 * blocks at the chain's head hold nothing that is kept: the coordinator may drop them, then
 * partition_adopt_chain removes them. */
int partition_apply_retention(struct partition *partition, int64_t now_ms, size_t *ret_empty_blocks);
/* The scrub of all that is committed: as block_verify_find and block_verify_skip, over the chain. */
int partition_verify_find(struct partition *partition, struct block_verify *verify, size_t max_bytes,
                          struct block_range *ret_range, int64_t *ret_damaged_offset);
void partition_verify_skip(const struct partition *partition, struct block_verify *verify,
                           int64_t *ret_damaged_offset);
/* Removes all its files and frees it (after partition_close's work). */
int partition_delete(struct partition *partition);

#endif
