/* Inside of store/: the structs that its files share. Nobody else includes this. */
#ifndef CLYMQ_STORE_STORE_IMPL_H
#define CLYMQ_STORE_STORE_IMPL_H

#include "store/block.h"
#include "store/commit.h"
#include "store/files.h"
#include "store/segment.h"
#include "store/state.h"
#include "store/store.h"
#include "store/store_state.h"

enum { BLOCK_DIR_MAX = 64, BLOCK_HINTS = 4 };
enum { BLOCK_CREATE_BYTES = 4096 }; /* what making a block takes, roughly */
#define SLOT_NONE UINT32_MAX

struct block_hint {
    int64_t offset; /* a batch begins there; -1 = unused */
    int64_t base;
    uint32_t position;
};

struct block {
    struct store *store;
    struct list link; /* store->blocks */
    struct block_key key;
    struct block_events events;
    struct segment **segments; /* by base; at least one */
    uint32_t segment_count, segment_cap;
    uint32_t slot; /* in the state file; SLOT_NONE: no record in it yet */
    int64_t start;
    uint64_t size;                     /* bytes of all segments */
    int64_t segment_bytes, segment_ms; /* a segment ends there; 0 = never by age */
    struct log_point end;
    struct log_point synced;  /* the mark */
    struct log_point durable; /* what the owner was told: synced, but for STORE_FSYNC_INTERVAL and _NEVER */
    struct log_point checkpoint;
    struct index_mark checkpoint_index;
    struct log_point limit; /* place of the last limit_offset looked up; base -1 = none */
    struct block_hint hints[BLOCK_HINTS];
    uint8_t next_hint;
    unsigned small_syncs;    /* in a row, up to those that zeros are written after */
    struct ahead_room *room; /* being made by a disk worker */
    bool room_failed : 1; /* the last of that: the next append makes its own, no more, or tells the error */
    bool sealed : 1;
    bool empty_snapshot : 1;
    bool dir_unsynced : 1; /* a file was made or removed in the folder since its last sync began */
    bool state_full : 1;   /* its whole record has to be written to the state file */
    bool want_checkpoint : 1;
    bool error_told : 1;
    int error; /* why it failed; 0 = it has not */
    int64_t damaged_offset;
    struct list dirty_link;    /* store->dirty: has something unsynced */
    struct list announce_link; /* store->announce */
    struct list backlog_link;  /* store->backlog: has bytes after its checkpoint */
    uint64_t backlog;
    struct list commits; /* struct commit_entry: in the running passes that it is part of */
    struct checkpoint_job *checkpointing;
    int64_t snapshots[2]; /* offsets of the newest and the one before; -1 = none */
    void (*seal_done)(void *ctx, struct block *block, int error);
    void *seal_ctx;
};

/* Told on the shard once what was in the state file when it was queued is durable. */
struct state_waiter {
    struct list link;
    void (*done)(struct state_waiter *waiter, int error);
};

enum { CHECKPOINT_LANES = 4 };

/* Checkpoints that one disk worker writes, one after the other. */
struct checkpoint_lane {
    struct store *store;
    struct list jobs; /* struct checkpoint_job; the worker's until done */
    struct io_work work;
};

struct store {
    struct store_config config;
    struct store_folder *folder;
    struct io_fs *fs;
    struct shard *shard;
    struct io_loop *loop;
    struct file_cache files;
    struct state_file state;
    uint32_t next_slot;
    struct list blocks;
    unsigned block_count;
    struct map *open;      /* block id -> struct block */
    struct map *closed;    /* block id -> struct state_entry of blocks closed in this run */
    struct strbuf dropped; /* ids of blocks of earlier runs that are no more */

    struct list dirty, announce;
    struct shard_tail tail;
    struct io_timer commit_timer; /* fsync interval; a pass put off; retry when memory was short */
    struct list passes;           /* struct commit_pass: that run, in the order in which they began */
    unsigned pass_count;
    uint64_t pass_began_ns; /* the last one */
    bool commit_wanted;     /* somebody waits for the next one */
    bool retrying;          /* the last pass left out what it had no memory or descriptors for */
    bool force_pass;        /* a seal, a stop or a checkpoint wants one, whatever the policy */

    struct list backlog; /* oldest first */
    uint64_t backlog_bytes;
    uint64_t checkpoint_at;       /* backlog_bytes at which the next one begins */
    struct list checkpoint_queue; /* struct checkpoint_job, captured and durable */
    struct checkpoint_lane lanes[CHECKPOINT_LANES];
    unsigned lanes_running;

    struct list state_waiting; /* struct state_waiter, for the next sync of the state file */
    struct list state_syncing; /* for the one that runs */
    struct io_op state_op;
    struct segment_ref *state_ref;
    bool state_op_running;
    int state_sync_error; /* known before the sync ends */

    struct list creations; /* struct block_creation that wait for the group under way */
    struct {
        struct list items; /* struct block_creation */
        struct io_work work;
        struct state_waiter waiter;
        bool running;
    } creating;

    struct list rooms; /* struct ahead_room: under way */
    struct list trash; /* struct trash_job: files to be removed once the log start is durable */

    bool cannot_reserve; /* the file system has no fallocate */
    bool folders_unsure; /* an open failed that had removed files, perhaps not durably: those opened since
                            sync their folders */
    bool full;
    uint64_t refused_bytes; /* the smallest append refused since it got full; 0 = none is small enough */
    struct io_timer space_timer;

    bool stopping;
    void (*stop_done)(void *ctx, int error);
    void *stop_ctx;
    int stop_error;
    uint64_t stop_deadline_ns; /* of waiting for memory and descriptors */
    struct state_waiter stop_waiter;

    struct metric *metric_appended, *metric_passes, *metric_beside, *metric_synced_files, *metric_pass_ns;
};

static inline struct segment *block_active(const struct block *block)
{
    return block->segments[block->segment_count - 1];
}

/* block.c */
void block_dir(const struct block_key *key, char dir[BLOCK_DIR_MAX]);
/* A struct without segments, in no list but the store's. NULL: out of memory. */
struct block *block_new(struct store *store, const struct block_key *key, const struct block_events *events);
/* Closes files and frees; detaches from everything that runs. */
void block_free(struct block *block);
int block_add_segment(struct block *block, struct segment *segment);
/* Index of the last segment whose base <= offset; 0 when all are above. */
uint32_t block_segment_at(const struct block *block, int64_t offset);
struct segment *block_segment_named(const struct block *block, int64_t base);
void block_entry(const struct block *block, struct state_entry *ret_entry);
/* Begins a new active segment, named by the block's end, unless the active one is empty. On failure nothing
 * changed. */
int block_roll(struct block *block);
/* Fails it for good: CLYMQ_E… as the reason; recorded and told. */
void block_fail(struct block *block, int error);
/* Bytes were written after the checkpoint. */
void block_add_backlog(struct block *block, uint64_t bytes);
/* Whether the folder holds no log with content: its creation did not finish. */
bool block_is_unborn(struct io_fs *fs, const char *dir);
int block_write_id(struct io_fs *fs, const char *dir, const struct block_key *key);
int block_read_id(struct io_fs *fs, const char *dir, struct block_key *ret_key);
bool block_key_equal(const struct block_key *a, const struct block_key *b);

/* block_create.c: the steps of making a block that touch files only, on any thread. */
/* Folder, first segment and id, not synced. recorded: the state files know the block. CLYMQ_EEXIST: a block
 * is there. On failure nothing of the new one is left. */
int block_make_files(struct io_fs *fs, const struct block_key *key, int64_t start_offset, bool recorded);
int block_sync_files(struct io_fs *fs, const struct block_key *key);
void block_remove_files(struct io_fs *fs, const struct block_key *key);
/* What the state files say of a block that was just made. */
void block_first_entry(const struct block_key *key, int64_t start_offset, struct state_entry *ret_entry);

/* creation.c */
void creation_init(struct store *store);
/* Begins with those that wait, unless a group is under way. */
void creation_start(struct store *store);
bool creation_idle(const struct store *store);
/* Forgets all of them: the loop is dead. */
void creation_abandon(struct store *store);

/* block_trim.c */
/* Removes segments below the log start that recovery has no use for. 0 or CLYMQ_ENOMEM. */
int block_drop_segments(struct block *block);
void block_trim_abandon(struct store *store);
/* Those of its deletions that are under way do not drop the entry of that id any more. */
void block_trim_keep_entry(struct store *store, struct uuid id);

/* store.c */
int64_t store_clamp_segment_bytes(int64_t segment_bytes);
void store_set_full(struct store *store, uint64_t refused_bytes);
/* Whether so much is refused at once, because as much or less was refused before. */
bool store_refuses(struct store *store, uint64_t bytes);
struct block *store_find_open(struct store *store, struct uuid id); /* NULL: not open */
/* What an earlier run, or a close in this one, left of the block; NULL = nothing. */
const struct state_entry *store_find_entry(struct store *store, struct uuid id);
int store_remember_closed(struct store *store, const struct block *block);
/* Takes the entry over where it succeeds. 0 or CLYMQ_ENOMEM. */
int store_put_closed(struct store *store, struct state_entry *entry);
void store_forget_closed(struct store *store, struct uuid id);
/* A block is made whose id another one had that was dropped, or is being removed: from here on what the state
 * files say of that id is the new one's. */
void store_renew_entry(struct store *store, struct uuid id);
/* The block is no more: what the state files said of it does not count, which is written at once. */
void store_drop_entry(struct store *store, struct uuid id);
/* Goes on with stopping, if the store is being stopped and nothing is left to wait for. */
void store_stop_step(struct store *store);

#endif
