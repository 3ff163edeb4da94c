/* Checkpoints: places up to which recovery need not read. One is taken of the blocks that were first appended
 * to, whenever the bytes after the checkpoints of all blocks of a store reach a bound. The owner's state is
 * captured when a pass of the group commit begins, and written (by a disk worker) only after that pass: a
 * snapshot never speaks of what is not durable. Belongs to one store; on its shard's thread, but for the
 * writing. */
#ifndef CLYMQ_STORE_CHECKPOINT_H
#define CLYMQ_STORE_CHECKPOINT_H

#include "store/store_impl.h"

struct checkpoint_job {
    struct list link; /* store->checkpoint_queue, then a lane's jobs */
    struct store *store;
    struct block *block; /* NULL: closed meanwhile */
    struct log_point point;
    struct index_mark index;
    uint64_t backlog;    /* the block's, when captured */
    struct strbuf state; /* the owner's */
    bool with_file;      /* a snapshot file is to be written */
    bool empty;          /* the owner's state is empty */
    bool seal;
    int64_t replaced;               /* snapshot to remove afterwards; -1 = none */
    struct segment_ref *indexes[2]; /* to be synced, for a seal */
    char dir[BLOCK_DIR_MAX];
    struct state_waiter waiter;
    int error;
};

/* Whether the next pass is to capture some; it begins when no other runs. */
bool checkpoint_due(const struct store *store);
/* Marks blocks whose checkpoint is due and puts them into the next pass. */
void checkpoint_select(struct store *store);
/* At the beginning of a pass that syncs the block up to its end. CLYMQ_ENOMEM. */
int checkpoint_capture(struct block *block, struct checkpoint_job **ret_job);
/* After the pass: it is written with what else is submitted in this round. */
void checkpoint_submit(struct checkpoint_job *job);
/* At the end of a round: begins to write what is queued, unless some is being written. */
void checkpoint_tail(struct store *store);
void checkpoint_init(struct store *store);
/* The pass failed. error is told to who waits for a seal. */
void checkpoint_drop(struct checkpoint_job *job, int error);
void checkpoint_detach(struct store *store, struct block *block);
bool checkpoint_idle(const struct store *store);
/* Frees what will never report (the loop is dead). */
void checkpoint_abandon(struct store *store);

/* Snapshot files. */
struct snapshot {
    struct log_point point;
    struct bytes state; /* view into data */
    uint8_t *data;      /* owned: mem_free */
};
/* <dir>/<offset>.snapshot, durable. Any thread. */
int snapshot_write(struct io_fs *fs, const char *dir, const struct log_point *point, struct bytes state);
/* CLYMQ_ENOENT, CLYMQ_ECORRUPT, CLYMQ_EFORMAT. */
int snapshot_read(struct io_fs *fs, const char *dir, int64_t offset, struct snapshot *ret_snapshot);

#endif
