/* Recovery of one block, shared by block_begin.c (where to begin) and block_recover.c (reading, and what
 * follows). */
#ifndef CLYMQ_STORE_RECOVERY_H
#define CLYMQ_STORE_RECOVERY_H

#include "store/store_impl.h"

struct recovery {
    struct block *block;
    const struct state_entry *entry; /* NULL: the state files do not know the block */
    bool entry_durable; /* it is what the state files said at start, not of a block closed in this run */
    struct block_recovery result;
    char dir[BLOCK_DIR_MAX];
    struct log_point mark;       /* durable for certain */
    struct log_point checkpoint; /* where reading begins, were it not for snapshots */
    struct log_point at;         /* everything before it was found good, or is not looked at */
    int64_t replay_from;         /* on_recover is told of batches from here */
    int64_t *snapshots;          /* offsets of snapshot files, ascending */
    size_t snapshot_count;
    uint8_t *buffer; /* bytes [buffer_at, buffer_at + buffer_len) of the segment that is read */
    size_t buffer_cap, buffer_len;
    uint32_t buffer_at;
    bool stopped;      /* something at `at` does not continue the log */
    bool contradicted; /* the mark lies before everything that is there */
    bool wrong_epoch;  /* what is at `at` continues the log but for its epoch, or that of the batch before */
};

/* Finds the segments and snapshots that lie in the block's folder. */
int recovery_scan_folder(struct recovery *recovery);
struct log_point recovery_begin_of(const struct segment *segment);
/* Takes the marks from what the state files say. */
void recovery_find_marks(struct recovery *recovery);
/* Loads a snapshot, and sets recovery->at and what is known of the indexes of each segment. */
int recovery_choose_begin(struct recovery *recovery);
void recovery_remove_old_snapshots(struct recovery *recovery);
/* Of one segment: the summary, or all its files. 0 or an error: some may be there still. */
int recovery_remove_segment(struct recovery *recovery, int64_t base, bool log_too);

#endif
