/* A shard's part of the data folder: its state file, group commit, cache of open files, and the blocks on it.
 *
 * One struct store per shard, used on that shard's thread only. It owns the struct blocks opened through it.
 * All writes to logs go to the page cache on the shard's thread; syncs go to the shard's disk workers in
 * passes (group commit): one pass syncs every block that was appended to since the last one began, then
 * records their durable ends in the state file in one write, then tells each block's owner. While a pass runs
 * the next one gathers. At most one pass runs at a time.
 *
 * The state file (state/<shard>.state, format in docs/file-format.md) holds per block: durable-end mark,
 * checkpoint, log start, and, once it failed, why. Blocks may move to another shard between runs (the number
 * of shards changed): at start all state files are read and merged by store_folder_open, then each shard
 * writes its own. */
#ifndef CLYMQ_STORE_STORE_H
#define CLYMQ_STORE_STORE_H

#include "base/metrics.h"
#include "shard/shard.h"
#include "store/folder.h"

enum store_fsync { STORE_FSYNC_COMMIT, STORE_FSYNC_INTERVAL, STORE_FSYNC_NEVER };

/* Protections switched off, for the control runs of tests: a checker that cannot fail proves nothing. */
struct store_faults {
    bool ignore_mark; /* recovery believes that nothing was durable: damage is cut away like a torn tail */
    bool retry_failed_sync; /* a failed sync is tried again and its success believed */
};

enum { STORE_ZEROS_AHEAD_MAX = 1 << 20 };

struct store_config {
    enum store_fsync fsync;
    int64_t fsync_interval_ms; /* with STORE_FSYNC_INTERVAL */
    /* With STORE_FSYNC_COMMIT: how long after a pass began the next one is put off while nobody waits for it
     * (block_want_commit); default 0 */
    int64_t commit_linger_ms;
    int64_t segment_bytes;        /* roll beyond; default 256 MiB, 1 MiB … 2 GiB - 1 */
    int64_t segment_ms;           /* roll a segment whose first batch is older; default 7 d */
    int64_t index_interval_bytes; /* log bytes per index entry; default 4096 */
    int64_t checkpoint_bytes; /* per shard: what recovery may have to read after a crash; default 32 MiB */
    int64_t max_open_files;   /* per shard; default 1024, >= 16 */
    int64_t max_batch_bytes;  /* no batch appended is longer; default 16 MiB */
    int64_t zeros_ahead;    /* most zeros written ahead of small syncs (store/ahead.h); default 256 KiB, 0 …
                               STORE_ZEROS_AHEAD_MAX */
    unsigned small_syncs;   /* of a block in a row, before any are; default 8 */
    int64_t room_by_worker; /* reserving so much disk space or more is a disk worker's; default 1 MiB */
    int64_t state_bytes;    /* a state file that is no longer is never written anew; default 1 MiB */
    unsigned sync_all_from; /* as many blocks made together share one sync of the file system; default 8 */
    const struct store_faults *faults; /* control runs only; NULL otherwise */
};
void store_config_defaults(struct store_config *config);

struct store;
/* folder outlives the store. 0 or an error of opening the shard's state file. */
int store_open(const struct store_config *config, struct store_folder *folder, struct shard *shard,
               struct metrics *metrics, struct store **ret_store);
/* Clean stop: syncs and checkpoints every open block, writes the state file, then calls done on the shard. No
 * block may be appended to meanwhile. Where memory or descriptors stay short for some seconds what could not
 * be synced is left to the next start, and done is told why (CLYMQ_ENOMEM, CLYMQ_ELIMIT). */
void store_stop(struct store *store, void (*done)(void *ctx, int error), void *ctx);
/* Closes files and frees everything, blocks included, without syncing. Nothing of the store may be under way
 * on disk workers: call it after store_stop told its end, or with a loop that is dead (a simulated crash). */
void store_close(struct store *store);
/* Set while the disk is full: from an append that failed with CLYMQ_ENOSPC until space for it is seen again
 * (checked once a second). While set, appends as large as one that was refused fail at once with CLYMQ_ENOSPC
 * and nothing written; smaller ones are tried. */
bool store_is_full(const struct store *store);

#endif
