/* The state files: what a shard knows of its blocks besides their logs.
 *
 *   state/base.state      everything that earlier runs left, folded into one file when the folder is opened
 *   state/<shard>.state   what this run adds: records appended after each group commit
 *
 * Format in docs/file-format.md. A struct state_file is written on its shard's thread; only its sync runs on
 * a disk worker. The folded content (struct state_table) is built before shards start and read by all of
 * them. */
#ifndef CLYMQ_STORE_STATE_H
#define CLYMQ_STORE_STATE_H

#include "base/buf.h"
#include "base/map.h"
#include "store/block.h"
#include "store/files.h"

/* Generations of state files: 1 for the first run, and one more for each that follows, up to here. */
#define STATE_GENERATION_MAX ((uint64_t)INT64_MAX)

/* A place in a block's log between two batches. */
struct log_point {
    int64_t offset;    /* the next batch's base offset, or below it where a gap follows */
    int64_t base;      /* first offset of the segment's name */
    uint32_t position; /* in the segment's file */
    int32_t epoch;     /* of the batch before; -1 = none */
};

/* Order of places in one block: < 0, 0, > 0. */
static inline int log_point_compare(const struct log_point *a, const struct log_point *b)
{
    if (a->base != b->base)
        return a->base < b->base ? -1 : 1;
    return (a->position > b->position) - (a->position < b->position);
}

/* Whether a run may have noted such a place: a batch ends there, or it is a segment's beginning. */
bool log_point_is_possible(const struct log_point *point);

/* How far a segment's indexes went at some point, so that appending to them can go on and damage shows. */
struct index_mark {
    uint32_t index_count, time_count; /* entries */
    uint32_t index_crc, time_crc;     /* CRC-32C of all entries so far */
    uint32_t since_entry;             /* log bytes since the last index entry */
    int64_t last_time_ms;             /* of the last time index entry; INT64_MIN: none */
    int64_t max_time_ms;              /* of all batches so far; INT64_MIN: none */
    int64_t max_time_offset;          /* last offset of the first batch that has it */
};

/* Whether indexes may have been like that at the point, which lies in their segment. */
bool index_mark_is_possible(const struct index_mark *index, const struct log_point *point);

struct state_entry {
    struct block_key key;
    int64_t start;               /* log start: reads below are refused */
    struct log_point mark;       /* durable end */
    struct log_point checkpoint; /* recovery reads from here; <= mark */
    struct index_mark index;     /* of the checkpoint's segment, there */
    int64_t active_since_ms; /* wall clock at the first append to the active segment; 0 = unknown or empty */
    int64_t damaged_offset;  /* with error CLYMQ_ECORRUPT */
    int32_t error;           /* 0, or why the block failed */
    bool sealed;
    bool empty_snapshot; /* the owner's state at the checkpoint was empty: no snapshot file was written */
    bool outdated; /* perhaps: a state file of an earlier run could not be read, and may have said more */
};

struct state_file {
    struct io_fs *fs;
    struct segment_ref *ref;
    char path[64];
    uint64_t generation;
    uint64_t size;         /* of valid records, header included */
    struct strbuf pending; /* records not yet written */
    uint64_t old_size;     /* while it is rewritten */
    uint64_t rewritten;    /* size after the last rewrite; 0 = none in this run */
    bool broken;           /* a sync failed: writes fail until it is rewritten */
};

/* Makes state/<shard>.state anew, durable. */
int state_file_create(struct state_file *state, struct io_fs *fs, unsigned shard, uint64_t generation);
void state_file_close(struct state_file *state);
/* Adds a record to those pending. A mark record is short and refers to the block record with the same slot
 * that came before it in this file. Out of memory shows at state_file_write. */
void state_put_block(struct state_file *state, uint32_t slot, const struct state_entry *entry);
void state_put_mark(struct state_file *state, uint32_t slot, const struct log_point *mark);
void state_put_drop(struct state_file *state, struct uuid id);
/* Writes what is pending in one write, without a sync. On failure it stays pending; the next write goes to
 * the same place.
 */
int state_file_write(struct state_file *state);
/* Forgets pending records (they can be made again from the blocks). */
void state_file_clear_pending(struct state_file *state);
/* Replacing the file by one that holds only what is put between begin and end, durable when end returns 0
 * (temporary file, sync, rename, sync of the folder). Pending records are forgotten by both. On failure the
 * old file stays in use. */
void state_rewrite_begin(struct state_file *state);
int state_rewrite_end(struct state_file *state);

/* What all state files say, merged: block id -> struct state_entry. */
struct state_table {
    struct map *entries;
    uint64_t generation; /* of this run */
    uint32_t damaged;    /* places where a state file could not be read, or says what cannot be */
};
/* Reads all of state/, writes what they say to base.state (durable), then removes the rest. The folder
 * exists. fold false: only reads (fsck). CLYMQ_EFORMAT: a newer version. */
int state_table_load(struct io_fs *fs, bool fold, struct state_table *ret_table);
const struct state_entry *state_table_find(const struct state_table *table, struct uuid id);
void state_table_free(struct state_table *table);

#endif
