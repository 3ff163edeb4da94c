/* A block on disk: one run of a partition's offsets, kept as segments of record batches with sparse indexes.
 *
 *   data/<topic id>/<partition number>/<block seq>/
 *       <first offset, 20 digits>.log         record batches, back to back
 *       <first offset>.index                  (relative offset u32, position u32) each, as Kafka's
 *       <first offset>.timeindex              (timestamp i64, relative offset u32) each, as Kafka's
 *       <offset>.snapshot                     the owner's state (producer table) as of that offset,
 * checksummed
 *
 * The log is the truth; indexes and snapshots are made again from it when missing or wrong. A block is owned
 * by its store, used on that store's shard. start <= durable_end <= end at all times. Segments are read while
 * the block is open by anybody who holds a reference (struct segment_ref), on any thread.
 *
 * A failed sync is final: the block is failed, takes no more appends (CLYMQ_ELOG_FAILED), and never moves its
 * durable end again in this process. */
#ifndef CLYMQ_STORE_BLOCK_H
#define CLYMQ_STORE_BLOCK_H

#include "base/map.h"
#include "base/uuid.h"
#include "store/store.h"
#include "wire/batch.h"

struct block;
struct state_entry;

struct block_key {
    struct uuid topic;
    uint32_t partition; /* number */
    uint32_t seq;       /* place in the chain, from 0 */
    struct uuid id;     /* the block's own random id, checked against the file `id` in its folder */
};

/* What the block tells its owner, on the shard's thread. */
struct block_events {
    /* The durable end moved (group commit). error is 0, or why the block has failed (told once). */
    void (*on_durable)(void *ctx, struct block *block, int64_t durable_end, int error);
    /* Room for appends was made, or could not be: block_append, which answered CLYMQ_EAGAIN, can be called
     * again. NULL: room is made in block_append itself, whatever that waits for. */
    void (*on_room)(void *ctx, struct block *block);
    /* Recovery reads a batch that follows the snapshot: rebuild what the snapshot holds. Only during
     * block_open. */
    int (*on_recover)(void *ctx, const struct batch_header *header, struct bytes batch);
    /* Write (append to text) or read the owner's state at the block's current end. NULL: no snapshots are
     * kept. An empty state is not stored, and not loaded: the owner then begins empty. A load that fails may
     * be followed by one of an older snapshot, so each load replaces what was there. CLYMQ_EFORMAT (a newer
     * release wrote it) and CLYMQ_ENOMEM are block_open's errors then. */
    void (*on_snapshot_save)(void *ctx, struct strbuf *state);
    int (*on_snapshot_load)(void *ctx, struct bytes state);
    void *ctx;
    int64_t epoch_end; /* batches have lower leader epochs: a higher one is damage; 0 = not known */
};

/* Makes an empty block, durable when it returns (files, folders and state). start_offset >= 0. CLYMQ_EEXIST:
 * a block is there (what a creation left that did not finish is none, and is made anew); CLYMQ_ENOSPC,
 * CLYMQ_EIO, CLYMQ_ENOMEM. */
int block_create(struct store *store, const struct block_key *key, int64_t start_offset,
                 const struct block_events *events, struct block **ret_block);

/* The same with nothing open afterwards, and without waiting: files are made and synced by a disk worker, and
 * those that are asked for meanwhile share their syncs. done is told on the shard, never from inside the
 * call, what block_create would have returned, or CLYMQ_ESHUTDOWN. It does not come if the store is closed
 * before. The struct is its owner's and stays until done. */
struct block_creation {
    struct block_key key;
    int64_t start_offset;
    void (*done)(struct block_creation *creation, int error);
    /* the store's */
    struct list link;
    struct state_entry *entry;
    int error;
    bool recorded, made;
};
void block_create_later(struct store *store, struct block_creation *creation);
/* Whether a block of the partition is being made: nothing of it may be removed meanwhile. */
bool block_is_being_created(const struct store *store, struct uuid topic, uint32_t partition);

struct block_recovery {
    uint64_t bytes_read; /* of logs */
    uint64_t bytes_cut;  /* torn tail beyond the durable-end mark */
    uint32_t indexes_rebuilt;
    bool damaged; /* below the mark, or an epoch that no write left: the block is failed, what is readable
                     stays readable */
    int64_t damaged_offset; /* first offset that cannot be trusted */
    bool damaged_short;     /* more lies behind the durable end: an earlier run may have shown it */
};
/* Opens what a former run left: reads what follows the last checkpoint (or snapshot, where older), cuts a
 * torn tail beyond the durable-end mark, and rewrites what it keeps past the mark; the first group commit
 * syncs that, then it counts as durable: until then block_durable_end < block_end, and on_durable tells when.
 * CLYMQ_ENOENT, CLYMQ_EFORMAT, CLYMQ_EIO, CLYMQ_ENOSPC, CLYMQ_ENOMEM, CLYMQ_ELIMIT, CLYMQ_EBUSY (open
 * already); CLYMQ_ECORRUPT when not even the block's identity can be read. A block that is damaged below the
 * mark opens (damaged is set, block_error is CLYMQ_ECORRUPT) and reports. Blocking; the shard does this
 * before it serves. */
int block_open(struct store *store, const struct block_key *key, const struct block_events *events,
               struct block **ret_block, struct block_recovery *ret_recovery);
/* Closes and forgets it (no sync). */
void block_close(struct block *block);

/* When its segments end, from the next append or retention on: size in bytes and age of the first batch. 0 =
 * as the store's configuration says, which is how a block begins: nothing of this is kept on disk. */
void block_set_segment_limits(struct block *block, int64_t segment_bytes, int64_t segment_ms);

int64_t block_start(const struct block *block);       /* first offset still kept */
int64_t block_end(const struct block *block);         /* next offset to be written */
int64_t block_durable_end(const struct block *block); /* below this everything is on disk */
uint64_t block_size(const struct block *block);       /* bytes of log */
int block_error(const struct block *block);           /* 0, or why it takes no appends */
bool block_is_sealed(const struct block *block);

/* Somebody waits for the durability of what is appended, so that the next pass of group commit does not
 * linger. */
void block_want_commit(struct block *block);

/* Appends one batch, whose header says base_offset >= block_end and leader epoch (batch_assign was called);
 * parts are its bytes. Written to the page cache when this returns; the group commit follows by itself.
 * CLYMQ_ENOSPC, CLYMQ_EIO, CLYMQ_ENOMEM, CLYMQ_ELIMIT: nothing of it is stored nor will be; the first: try
 * again when there is space. CLYMQ_ELOG_FAILED: the block has failed; if it was by this very write
 * (block_error was 0 before), the outcome is unknown. CLYMQ_EINVAL: offset below the end, epoch below the
 * last one's, sizes that do not fit, or the block is sealed. CLYMQ_ETOOBIG.
 * CLYMQ_ESHUTDOWN: the store is being stopped. CLYMQ_EAGAIN: a disk worker makes room first; nothing is
 * stored, on_room tells when to try again. */
int block_append(struct block *block, const struct batch_header *header, const struct iovec *parts,
                 int count);

/* Whether a disk worker makes room: no append would be taken now. */
bool block_makes_room(const struct block *block);

/* A piece of a segment's file made of whole batches. The reference keeps the file open; it may be released on
 * any thread. */
struct segment_ref;
struct block_range {
    struct segment_ref *ref;
    struct io_file *file;
    uint64_t position;
    size_t len;
    int64_t first_offset; /* base offset of the first batch (may lie below the asked offset) */
    bool more;            /* batches below limit_offset lie behind it: it would not grow by waiting */
};
/* The batches from the one that holds (or, after a gap, follows) offset, all below limit_offset (a batch
 * boundary: the watermark), up to max_bytes but at least one batch. len 0 and no ref: nothing there.
 * CLYMQ_EOFFSET_RANGE below the start or above the end; CLYMQ_ECORRUPT for a damaged place; CLYMQ_EIO. */
int block_read(struct block *block, int64_t offset, int64_t limit_offset, size_t max_bytes,
               struct block_range *ret_range);
void block_range_release(struct block_range *range); /* any thread */

/* The first offset below limit_offset whose record's timestamp >= timestamp_ms. CLYMQ_ENOENT: none. */
int block_find_time(struct block *block, int64_t timestamp_ms, int64_t limit_offset, int64_t *ret_offset,
                    int64_t *ret_timestamp_ms);

/* The scrub: each step reads and checks at least one batch and up to max_bytes more of what is durable. Zero
 * the struct to begin. 0: go on; CLYMQ_ENOENT: all was looked at; CLYMQ_ECORRUPT: *ret_damaged_offset cannot
 * be read, the next step goes on in the next segment; CLYMQ_EIO, CLYMQ_ENOMEM, CLYMQ_ELIMIT: the next step
 * tries again. Reports only: what follows from damage is the owner's to decide. */
struct block_verify {
    int64_t offset; /* of the next batch to look at */
};
int block_verify_step(struct block *block, struct block_verify *verify, size_t max_bytes,
                      int64_t *ret_damaged_offset);
/* The parts of a step, so that a disk worker can do the reading: what is to be read next (errors as above, of
 * which CLYMQ_ECORRUPT has gone on already); reading and checking it, on any thread (CLYMQ_ECORRUPT, and
 * other errors of reading); after CLYMQ_ECORRUPT, going on in the next segment. */
int block_verify_find(struct block *block, struct block_verify *verify, size_t max_bytes,
                      struct block_range *ret_range, int64_t *ret_damaged_offset);
int block_verify_check(const struct block_range *range, struct block_verify *verify);
void block_verify_skip(const struct block *block, struct block_verify *verify, int64_t *ret_damaged_offset);

/* Retention: answers reads below new_start with CLYMQ_EOFFSET_RANGE from now on, and removes whole segments
 * below it once that is durable and a checkpoint lies behind them. new_start <= durable end (CLYMQ_EINVAL).
 */
int block_trim(struct block *block, int64_t new_start);
/* What retention by size and age would keep: the offset to give to block_trim. -1 = no limit. The active
 * segment stays, except that a segment older than segment_ms is rolled first. */
int64_t block_retention_start(struct block *block, int64_t keep_bytes, int64_t keep_ms, int64_t now_ms);
/* No more appends (CLYMQ_EINVAL) from now on; everything durable, indexes synced, then done is called on the
 * shard with 0 or an error. Known to be sealed for good only after that. done is not called if the block is
 * closed before. */
void block_seal(struct block *block, void (*done)(void *ctx, struct block *block, int error), void *ctx);
/* Removes the block's files and state; block is gone. Files still referenced are unlinked and vanish with the
 * last ref. On an error nothing has changed, and the block is still open. */
int block_delete(struct block *block);
/* The same for one that block_open fails for: whatever lies in the folder of that key goes, without a look
 * into it. */
int block_delete_unopened(struct store *store, const struct block_key *key);
/* Makes what was removed of a partition (deleted blocks, and files by other hands) removed for good: before
 * done(0) a power loss may bring it back. done comes once, on the store's loop, unless the store is closed
 * before; CLYMQ_ENOMEM: it does not come. */
int block_sync_deletions(struct store *store, struct uuid topic, uint32_t partition,
                         void (*done)(void *ctx, int error), void *ctx);

/* Keys of the blocks that lie in the folder under data/, for start-up checks and fsck. Freed with mem_free.
 */
int block_list(struct io_fs *fs, struct block_key **ret_keys, size_t *ret_count);
/* The same; others (an empty map) gets the folders at a block's place that hold no id of that place. */
int block_list_all(struct io_fs *fs, struct block_key **ret_keys, size_t *ret_count, struct map *others);

#endif
