/* Opening a block: what lies in its folder, what the state files say of it, which snapshot can be read, and
 * so where reading its log begins. */
#include <inttypes.h>
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/index.h"
#include "store/recovery.h"

enum { SNAPSHOTS_KEPT = 2 };

/* ---- what lies in the folder ---- */

static int add_segment(struct recovery *recovery, int64_t base)
{
    struct io_fs *fs = recovery->block->store->fs;
    char path[SEGMENT_PATH_MAX];
    segment_path(path, recovery->dir, base, ".log");
    struct io_file *file;
    uint64_t size = 0;
    int error = io_fs_open(fs, path, IO_OPEN_READ, &file);
    if (error)
        return error;
    error = io_file_size(file, &size);
    io_file_close(file);
    if (error)
        return error;
    /* Longer than we ever write: what is behind cannot be ours, and shows as damage or a torn tail. */
    struct segment *segment = segment_new(base, size > INT32_MAX ? INT32_MAX : (uint32_t)size);
    if (!segment)
        return CLYMQ_ENOMEM;
    error = block_add_segment(recovery->block, segment);
    if (error)
        segment_free(recovery->block->store, segment);
    return error;
}

int recovery_remove_segment(struct recovery *recovery, int64_t base, bool log_too)
{
    static const char *const suffixes[] = {".summary", ".index", ".timeindex", ".log"};
    int error = 0;
    for (int i = 0; i < (log_too ? 4 : 1); i++) {
        char path[SEGMENT_PATH_MAX];
        segment_path(path, recovery->dir, base, suffixes[i]);
        int failed = io_fs_unlink(recovery->block->store->fs, path);
        if (!failed)
            recovery->block->dir_unsynced = true;
        else if (failed != CLYMQ_ENOENT)
            error = failed;
    }
    return error;
}

/* Segments that retention dropped, but whose files it could not remove any more, or not yet. */
static size_t count_leftovers(const struct recovery *recovery, const int64_t *bases, size_t count)
{
    const struct state_entry *entry = recovery->entry;
    size_t below = 0;
    while (entry && below + 1 < count && bases[below + 1] <= entry->start &&
           bases[below] < entry->mark.base && bases[below] < entry->checkpoint.base)
        below++;
    return below;
}

int recovery_scan_folder(struct recovery *recovery)
{
    struct store *store = recovery->block->store;
    char **names;
    size_t count;
    int error = io_fs_list(store->fs, recovery->dir, &names, &count);
    if (error)
        return error;
    int64_t *bases = mem_calloc(count + 1, sizeof(*bases));
    recovery->snapshots = mem_calloc(count + 1, sizeof(*recovery->snapshots));
    size_t base_count = 0;
    if (!bases || !recovery->snapshots)
        error = CLYMQ_ENOMEM;
    for (size_t i = 0; i < count && !error; i++) { /* sorted by name, and so by number */
        int64_t number;
        size_t len = strlen(names[i]);
        if (segment_parse_name(names[i], ".log", &number)) {
            bases[base_count++] = number;
        } else if (segment_parse_name(names[i], ".snapshot", &number)) {
            recovery->snapshots[recovery->snapshot_count++] = number;
        } else if (len > 4 && strcmp(names[i] + len - 4, ".tmp") == 0) {
            char path[SEGMENT_PATH_MAX];
            if (snprintf(path, sizeof(path), "%s/%s", recovery->dir, names[i]) < (int)sizeof(path))
                io_fs_unlink(store->fs, path);
        }
    }
    io_fs_free_names(names, count);
    size_t below = error ? 0 : count_leftovers(recovery, bases, base_count);
    for (size_t i = 0; i < base_count && !error; i++) {
        if (i < below && recovery->entry_durable)
            (void)recovery_remove_segment(recovery, bases[i], true); /* again at the next start */
        else if (i >= below)
            error = add_segment(recovery, bases[i]);
    }
    mem_free(bases);
    return error;
}

/* ---- where to begin ---- */

struct log_point recovery_begin_of(const struct segment *segment)
{
    return (struct log_point){.offset = segment->base, .base = segment->base, .epoch = -1};
}

/* Whether the place can lie in the log as its files are. */
static bool is_within(const struct block *block, const struct log_point *point)
{
    const struct segment *segment = block_segment_named(block, point->base);
    return segment && point->position <= segment->size && log_point_is_possible(point);
}

void recovery_find_marks(struct recovery *recovery)
{
    struct block *block = recovery->block;
    const struct state_entry *entry = recovery->entry;
    const struct store_faults *faults = block->store->config.faults;
    recovery->mark = recovery->checkpoint = block->checkpoint = recovery_begin_of(block->segments[0]);
    block->checkpoint_index = index_mark_empty();
    block->start = entry ? entry->start : block->segments[0]->base;
    block->sealed = entry && entry->sealed;
    if (!entry || (faults && faults->ignore_mark))
        return;
    block->empty_snapshot = entry->empty_snapshot;
    recovery->mark = entry->mark;
    recovery->checkpoint = block->checkpoint = entry->checkpoint;
    block->checkpoint_index = entry->index;
}

static int remove_snapshot(struct recovery *recovery, int64_t offset)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, recovery->dir, offset, ".snapshot");
    return io_fs_unlink(recovery->block->store->fs, path);
}

/* Durably: one of a place behind the log's end must not come back when batches have been written there that
 * it knows nothing of. */
static int remove_unusable_snapshot(struct recovery *recovery, int64_t offset)
{
    struct block *block = recovery->block;
    int error = remove_snapshot(recovery, offset);
    if (error)
        return error;
    block->dir_unsynced = true;
    error = io_fs_sync_dir(block->store->fs, recovery->dir);
    if (!error)
        block->dir_unsynced = false;
    return error;
}

/* Tries snapshots from the newest on. Afterwards replay_from says from where the owner wants batches, and
 * *ret_point from where they are to be read. */
static int load_snapshot(struct recovery *recovery, struct log_point *ret_point)
{
    struct block *block = recovery->block;
    size_t left = recovery->snapshot_count;
    for (; left > 0; left--) {
        int64_t offset = recovery->snapshots[left - 1];
        if (block->empty_snapshot && recovery->checkpoint.offset >= offset)
            break;
        struct snapshot snapshot;
        int error = snapshot_read(block->store->fs, recovery->dir, offset, &snapshot);
        if (error == CLYMQ_ENOMEM || error == CLYMQ_EFORMAT)
            return error;
        bool below = !error && snapshot.point.base < block->segments[0]->base;
        if (!error) {
            error = below || is_within(block, &snapshot.point)
                        ? block->events.on_snapshot_load(block->events.ctx, snapshot.state)
                        : CLYMQ_ECORRUPT;
            mem_free(snapshot.data);
            if (error == CLYMQ_ENOMEM || error == CLYMQ_EFORMAT)
                return error;
        }
        if (error) {
            log_warn("%s: snapshot at %" PRId64 " is unusable: %s", recovery->dir, offset,
                     error_sentence(error));
            error = error == CLYMQ_ECORRUPT ? remove_unusable_snapshot(recovery, offset) : 0;
            if (error)
                return error;
            continue;
        }
        block->snapshots[0] = offset;
        block->snapshots[1] = left > 1 ? recovery->snapshots[left - 2] : -1;
        recovery->replay_from = offset;
        *ret_point = below ? recovery_begin_of(block->segments[0]) : snapshot.point;
        /* It was written after what it describes became durable, though the mark may be older after a power
         * loss. */
        if (!below && log_point_compare(&snapshot.point, &recovery->mark) > 0)
            recovery->mark = snapshot.point;
        return 0;
    }
    block->snapshots[0] = left > 0 ? recovery->snapshots[left - 1] : -1;
    block->snapshots[1] = left > 1 ? recovery->snapshots[left - 2] : -1;
    if (block->empty_snapshot) {
        recovery->replay_from = recovery->checkpoint.offset;
        *ret_point = recovery->checkpoint;
    } else {
        recovery->replay_from = block->segments[0]->base;
        *ret_point = recovery_begin_of(block->segments[0]);
    }
    return 0;
}

void recovery_remove_old_snapshots(struct recovery *recovery)
{
    for (size_t i = 0; i + SNAPSHOTS_KEPT < recovery->snapshot_count; i++) {
        int64_t offset = recovery->snapshots[i];
        if (offset != recovery->block->snapshots[0] && offset != recovery->block->snapshots[1])
            remove_snapshot(recovery, offset);
    }
}

/* Sets recovery->at, and what is known of the indexes of each segment. */
int recovery_choose_begin(struct recovery *recovery)
{
    struct block *block = recovery->block;
    if (!is_within(block, &recovery->checkpoint)) {
        if (recovery->checkpoint.base >= block->segments[0]->base)
            recovery->stopped = true; /* what lay before the checkpoint is not there any more */
        recovery->checkpoint = recovery_begin_of(block->segments[0]);
        block->checkpoint_index = index_mark_empty();
        block->empty_snapshot = block->empty_snapshot && recovery->checkpoint.offset == block->start;
    }
    struct log_point from = recovery->checkpoint;
    recovery->replay_from = INT64_MIN;
    if (block->events.on_snapshot_load) {
        int error = load_snapshot(recovery, &from);
        if (error)
            return error;
    }
    recovery->at = log_point_compare(&from, &recovery->checkpoint) < 0 ? from : recovery->checkpoint;
    block->checkpoint = recovery->checkpoint;
    for (uint32_t i = 0; i < block->segment_count; i++) {
        struct segment *segment = block->segments[i];
        segment->closed = i + 1 < block->segment_count;
        if (segment->base > recovery->checkpoint.base)
            segment->index_known = segment->index_checked = true;
        if (segment->base == recovery->checkpoint.base) {
            segment->index = block->checkpoint_index;
            segment->index_known = true;
            segment->index_checked = segment->index.index_count == 0 && segment->index.time_count == 0;
        }
    }
    return 0;
}
