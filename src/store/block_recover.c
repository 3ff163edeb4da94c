/* Opening a block that an earlier run left.
 *
 * What is read: everything behind the checkpoint, batch by batch, with checksums; or behind the newest
 * snapshot that can be read, where the owner keeps some and that one is older. What comes out, by where the
 * first thing lies that is not a batch continuing the log (checksum, length, offset not the next one, epoch
 * going back):
 *
 *   at or behind the durable-end mark   a torn tail: cut, with all later segments
 *   below it                            damage: nothing is cut, the block is failed, what can be read stays
 * readable
 *
 * What is kept behind the mark is written again in place: after a failed sync the page cache may hold it as
 * clean although the disk never got it. It is synced by the first group commit, and not counted durable
 * before. */
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/folder_impl.h"
#include "store/index.h"
#include "store/store_impl.h"

enum { READ_CHUNK = 256 << 10, SNAPSHOTS_KEPT = 2 };

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
    bool stopped; /* something at `at` does not continue the log */
};

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

static void remove_segment_files(struct recovery *recovery, int64_t base, bool log_too)
{
    static const char *const suffixes[] = {".summary", ".index", ".timeindex", ".log"};
    for (int i = 0; i < (log_too ? 4 : 1); i++) {
        char path[SEGMENT_PATH_MAX];
        segment_path(path, recovery->dir, base, suffixes[i]);
        if (io_fs_unlink(recovery->block->store->fs, path) == 0)
            recovery->block->dir_unsynced = true;
    }
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

static int scan_folder(struct recovery *recovery)
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
            remove_segment_files(recovery, bases[i], true);
        else if (i >= below)
            error = add_segment(recovery, bases[i]);
    }
    mem_free(bases);
    return error;
}

/* ---- where to begin ---- */

static struct log_point begin_of(const struct segment *segment)
{
    return (struct log_point){.offset = segment->base, .base = segment->base, .epoch = -1};
}

/* Whether the place can lie in the log as its files are. */
static bool is_within(const struct block *block, const struct log_point *point)
{
    const struct segment *segment = block_segment_named(block, point->base);
    return segment && point->position <= segment->size && point->offset >= point->base;
}

static void find_marks(struct recovery *recovery)
{
    struct block *block = recovery->block;
    const struct state_entry *entry = recovery->entry;
    const struct store_faults *faults = block->store->config.faults;
    recovery->mark = recovery->checkpoint = begin_of(block->segments[0]);
    block->checkpoint_index = index_mark_empty();
    block->start = entry ? entry->start : block->segments[0]->base;
    block->sealed = block->sealed_durable = entry && entry->sealed;
    if (!entry || (faults && faults->ignore_mark))
        return;
    block->empty_snapshot = entry->empty_snapshot;
    recovery->mark = entry->mark;
    recovery->checkpoint = entry->checkpoint;
    block->checkpoint_index = entry->index;
}

static void remove_snapshot(struct recovery *recovery, int64_t offset)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, recovery->dir, offset, ".snapshot");
    io_fs_unlink(recovery->block->store->fs, path);
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
            if (error == CLYMQ_ENOMEM)
                return error;
        }
        if (error) {
            log_warn("%s: snapshot at %" PRId64 " is unusable: %s", recovery->dir, offset,
                     error_sentence(error));
            if (error == CLYMQ_ECORRUPT)
                remove_snapshot(recovery, offset);
            continue;
        }
        block->snapshots[0] = offset;
        block->snapshots[1] = left > 1 ? recovery->snapshots[left - 2] : -1;
        recovery->replay_from = offset;
        *ret_point = below ? begin_of(block->segments[0]) : snapshot.point;
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
        *ret_point = begin_of(block->segments[0]);
    }
    return 0;
}

static void remove_old_snapshots(struct recovery *recovery)
{
    for (size_t i = 0; i + SNAPSHOTS_KEPT < recovery->snapshot_count; i++) {
        int64_t offset = recovery->snapshots[i];
        if (offset != recovery->block->snapshots[0] && offset != recovery->block->snapshots[1])
            remove_snapshot(recovery, offset);
    }
}

/* Sets recovery->at, and what is known of the indexes of each segment. */
static int choose_begin(struct recovery *recovery)
{
    struct block *block = recovery->block;
    if (log_point_compare(&recovery->checkpoint, &recovery->mark) > 0 ||
        !is_within(block, &recovery->checkpoint)) {
        if (recovery->checkpoint.base >= block->segments[0]->base)
            recovery->stopped = true; /* what lay before the checkpoint is not there any more */
        recovery->checkpoint = begin_of(block->segments[0]);
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

/* ---- reading ---- */

/* Makes the bytes of the segment from position on available, at least `need` of them where the segment has so
 * many. */
static int fill_buffer(struct recovery *recovery, struct segment *segment, uint32_t position, size_t need,
                       struct bytes *ret_bytes)
{
    size_t left = segment->size - position;
    if (need > left)
        need = left;
    size_t skip = position - recovery->buffer_at;
    if (position >= recovery->buffer_at && skip <= recovery->buffer_len &&
        recovery->buffer_len - skip >= need) {
        *ret_bytes = bytes_of(recovery->buffer + skip, recovery->buffer_len - skip);
        return 0;
    }
    size_t want = need > READ_CHUNK ? need : READ_CHUNK;
    if (want > left)
        want = left;
    if (want > recovery->buffer_cap) {
        mem_free(recovery->buffer);
        recovery->buffer_cap = recovery->buffer_len = 0;
        recovery->buffer = mem_alloc(want);
        if (!recovery->buffer)
            return CLYMQ_ENOMEM;
        recovery->buffer_cap = want;
    }
    struct segment_ref *ref;
    int error = segment_file(recovery->block, segment, SEGMENT_LOG, &ref);
    if (error)
        return error;
    ssize_t got = io_file_pread(ref->file, recovery->buffer, want, position);
    if (got < 0)
        return (int)got;
    recovery->buffer_at = position;
    recovery->buffer_len = (size_t)got;
    recovery->result.bytes_read += (uint64_t)got;
    *ret_bytes = bytes_of(recovery->buffer, (size_t)got);
    return 0;
}

/* The batch at position, checked. CLYMQ_EBATCH when there is none that continues the log. */
static int read_batch(struct recovery *recovery, struct segment *segment, uint32_t position,
                      struct batch_header *ret_header, struct bytes *ret_batch)
{
    struct bytes bytes;
    int error = fill_buffer(recovery, segment, position, BATCH_HEADER_SIZE, &bytes);
    if (error)
        return error;
    struct batch_header header;
    error = batch_read_header(bytes, segment->size - position, &header);
    if (error == CLYMQ_EAGAIN && bytes.len < BATCH_HEADER_SIZE)
        return CLYMQ_EBATCH;
    if (error == CLYMQ_EAGAIN) {
        error = fill_buffer(recovery, segment, position, header.size, &bytes);
        if (!error && bytes.len < header.size)
            error = CLYMQ_EBATCH;
    }
    if (!error)
        error = batch_check(bytes, segment->size - position, &header);
    if (error)
        return error == CLYMQ_EAGAIN ? CLYMQ_EBATCH : error;
    bool follows =
        position == 0 ? header.base_offset >= segment->base : header.base_offset == recovery->at.offset;
    if (!follows || header.leader_epoch < recovery->at.epoch ||
        header.base_offset > INT64_MAX - 1 - header.last_offset_delta)
        return CLYMQ_EBATCH;
    *ret_header = header;
    *ret_batch = bytes_of(bytes.ptr, header.size);
    return 0;
}

static int keep_batch(struct recovery *recovery, struct segment *segment, uint32_t position,
                      const struct batch_header *header, struct bytes batch)
{
    struct block *block = recovery->block;
    struct log_point here = {.base = segment->base, .position = position};
    if (log_point_compare(&here, &recovery->mark) >= 0) {
        struct segment_ref *ref;
        int error = segment_file(block, segment, SEGMENT_LOG, &ref);
        if (error)
            return error;
        ssize_t written = io_file_pwrite(ref->file, batch.ptr, batch.len, position);
        if (written < 0)
            return (int)written;
        segment->unsynced = true;
    }
    if (log_point_compare(&here, &recovery->checkpoint) >= 0)
        index_add(block, segment, header, position);
    if (block->events.on_recover && header->base_offset >= recovery->replay_from) {
        int error = block->events.on_recover(block->events.ctx, header, batch);
        if (error)
            return error;
    }
    recovery->at = (struct log_point){.offset = batch_last_offset(header) + 1,
                                      .base = segment->base,
                                      .position = position + header->size,
                                      .epoch = header->leader_epoch};
    return 0;
}

/* The durable end was found where it was noted, but at another offset. */
static bool contradicts_mark(const struct recovery *recovery)
{
    return log_point_compare(&recovery->at, &recovery->mark) == 0 &&
           recovery->at.offset != recovery->mark.offset;
}

/* Cuts what lies between the last batch of a segment and its end, though another segment follows: it was
 * named by the offset behind that batch, so nothing was meant to be there. (What renew_size leaves, if it is
 * interrupted.) */
static int cut_excess(struct recovery *recovery, struct segment *segment, uint32_t position)
{
    struct segment_ref *ref;
    int error = segment_file(recovery->block, segment, SEGMENT_LOG, &ref);
    if (!error)
        error = io_file_truncate(ref->file, position);
    if (error)
        return error;
    recovery->result.bytes_cut += segment->size - position;
    recovery->block->size -= segment->size - position;
    segment->size = segment->reserved = position;
    segment->unsynced = true;
    return 0;
}

static int walk_segment(struct recovery *recovery, struct segment *segment, const struct segment *next,
                        uint32_t position)
{
    recovery->buffer_len = 0;
    while (position < segment->size) {
        struct batch_header header;
        struct bytes batch;
        int error = read_batch(recovery, segment, position, &header, &batch);
        if (error == CLYMQ_EBATCH && next && next->base == recovery->at.offset)
            return cut_excess(recovery, segment, position);
        if (error == CLYMQ_EBATCH) {
            recovery->stopped = true;
            return 0;
        }
        struct log_point before = recovery->at;
        if (!error)
            error = keep_batch(recovery, segment, position, &header, batch);
        if (error)
            return error;
        if (contradicts_mark(recovery)) {
            recovery->at = before;
            recovery->stopped = true;
            return 0;
        }
        position += header.size;
    }
    return 0;
}

/* After a failed sync the size, too, may be held as clean although the disk never got it: it is changed and
 * changed back. A crash in between leaves one byte of a torn tail. */
static int renew_size(struct recovery *recovery, struct segment *segment)
{
    struct segment_ref *ref;
    int error = segment_file(recovery->block, segment, SEGMENT_LOG, &ref);
    if (!error)
        error = io_file_truncate(ref->file, (uint64_t)segment->size + 1);
    if (!error)
        error = io_file_truncate(ref->file, segment->size);
    return error;
}

static int walk(struct recovery *recovery)
{
    struct block *block = recovery->block;
    uint32_t first = block_segment_at(block, recovery->at.base);
    for (uint32_t i = first; i < block->segment_count && !recovery->stopped; i++) {
        struct segment *segment = block->segments[i];
        if (i > first && segment->base != recovery->at.offset) {
            recovery->stopped = true;
            break;
        }
        const struct segment *next = i + 1 < block->segment_count ? block->segments[i + 1] : NULL;
        int error = walk_segment(recovery, segment, next, i == first ? recovery->at.position : 0);
        if (!error && segment->unsynced)
            error = renew_size(recovery, segment);
        if (error)
            return error;
        if (!recovery->stopped && segment->closed && segment->base >= recovery->checkpoint.base &&
            segment->index_known) {
            index_finish(block, segment);
            segment_summary_write(block, segment, recovery->at.offset, recovery->at.epoch);
        }
    }
    return 0;
}

/* ---- what follows from it ---- */

/* Cuts everything behind recovery->at, durably: what is cut must not come back behind batches that are yet to
 * be written. */
static int cut(struct recovery *recovery)
{
    struct block *block = recovery->block;
    uint32_t keep = block_segment_at(block, recovery->at.base);
    struct segment *segment = block->segments[keep];
    assert(segment->base == recovery->at.base);
    while (block->segment_count > keep + 1) {
        struct segment *last = block_active(block);
        remove_segment_files(recovery, last->base, true);
        recovery->result.bytes_cut += last->size;
        block->size -= last->size;
        block->segment_count--;
        segment_free(block->store, last);
    }
    remove_segment_files(recovery, segment->base, false);
    segment->closed = false;
    if (block->dir_unsynced) {
        int error = io_fs_sync_dir(block->store->fs, recovery->dir);
        if (error)
            return error;
        block->dir_unsynced = false;
    }
    if (segment->size == recovery->at.position)
        return 0;
    struct segment_ref *ref;
    int error = segment_file(block, segment, SEGMENT_LOG, &ref);
    if (!error)
        error = io_file_truncate(ref->file, recovery->at.position);
    if (!error)
        error = io_file_sync(ref->file);
    if (error)
        return error;
    recovery->result.bytes_cut += segment->size - recovery->at.position;
    block->size -= segment->size - recovery->at.position;
    segment->size = segment->reserved = recovery->at.position;
    return 0;
}

static void open_damaged(struct recovery *recovery, int64_t offset)
{
    struct block *block = recovery->block;
    bool known = recovery->entry && recovery->entry->error == CLYMQ_ECORRUPT;
    recovery->result.damaged = true;
    recovery->result.damaged_offset =
        known && recovery->entry->damaged_offset < offset ? recovery->entry->damaged_offset : offset;
    block->damaged_offset = recovery->result.damaged_offset;
    block->error = CLYMQ_ECORRUPT;
    block->error_told = true; /* by the result */
    block->end = block->synced = block->durable = recovery->mark;
    log_error("%s is damaged at offset %" PRId64 ", below its durable end %" PRId64
              ": nothing is cut, clymq fsck tells more",
              recovery->dir, block->damaged_offset, recovery->mark.offset);
    if (!known) {
        block->state_full = true;
        commit_put_state(block->store, block);
        commit_write_state(block->store);
    }
}

static int open_good(struct recovery *recovery)
{
    struct block *block = recovery->block;
    struct store *store = block->store;
    if (recovery->stopped) {
        int error = cut(recovery);
        if (error)
            return error;
        log_warn("%s: cut %" PRIu64 " bytes of an unfinished write behind offset %" PRId64, recovery->dir,
                 recovery->result.bytes_cut, recovery->at.offset);
    }
    block->end = recovery->at;
    block->synced = recovery->mark;
    if (block->start > block->synced.offset) /* control runs without a mark */
        block->start = block->synced.offset;
    block->durable = store->config.fsync == STORE_FSYNC_COMMIT ? block->synced : block->end;
    const struct state_entry *entry = recovery->entry;
    struct segment *active = block_active(block);
    if (active->size > 0)
        active->since_ms = entry && entry->mark.base == active->base && entry->active_since_ms
                               ? entry->active_since_ms
                               : io_loop_wall_ms(store->loop);
    for (uint32_t i = block_segment_at(block, block->checkpoint.base); i < block->segment_count; i++) {
        struct segment *segment = block->segments[i];
        uint32_t from = segment->base == block->checkpoint.base ? block->checkpoint.position : 0;
        if (segment->size > from)
            block_add_backlog(block, segment->size - from);
    }
    /* Whoever made a segment may have been killed before its folder was synced; the mark moves into one only
     * afterwards. */
    if (active->base != block->synced.base)
        block->dir_unsynced = true;
    block->state_full = entry && entry->error;
    bool behind = log_point_compare(&block->end, &block->synced) != 0;
    if (behind || block->dir_unsynced || block->state_full)
        commit_add(store, block);
    return 0;
}

/* The state files do not know the block, because its creation came only so far, or they were damaged: they
 * have to before anything is written, or else the next recovery could not tell a torn tail from damage. */
static int record_now(struct block *block)
{
    struct store *store = block->store;
    block->state_full = true;
    commit_put_state(store, block);
    int error = commit_write_state(store);
    if (!error)
        error = io_file_sync(store->state.ref->file);
    if (error)
        store->state.broken = true;
    return error;
}

static int recover(struct recovery *recovery)
{
    struct block *block = recovery->block;
    int error = scan_folder(recovery);
    if (error)
        return error;
    if (block->segment_count == 0 && !recovery->entry)
        return CLYMQ_ENOENT; /* its creation did not finish */
    if (block->segment_count == 0) {
        /* Creation makes the first segment durable before it ends. */
        const struct state_entry *entry = recovery->entry;
        struct segment *segment = segment_new(entry ? entry->start : 0, 0);
        error = segment ? block_add_segment(block, segment) : CLYMQ_ENOMEM;
        if (error) {
            segment_free(block->store, segment);
            return error;
        }
        segment->index_known = segment->index_checked = true;
        find_marks(recovery);
        open_damaged(recovery, block->start);
        return 0;
    }
    find_marks(recovery);
    if (block->start < block->segments[0]->base) {
        /* Files go only after the log start that lets them go is durable. */
        open_damaged(recovery, block->start);
        return 0;
    }
    error = choose_begin(recovery);
    if (!error) {
        log_debug("%s: %u segments from %" PRId64 ", mark %" PRId64 " (%" PRId64 "+%u), checkpoint %" PRId64
                  " (%" PRId64 "+%u), reading from %" PRId64 " (%" PRId64 "+%u)",
                  recovery->dir, block->segment_count, block->segments[0]->base, recovery->mark.offset,
                  recovery->mark.base, recovery->mark.position, recovery->checkpoint.offset,
                  recovery->checkpoint.base, recovery->checkpoint.position, recovery->at.offset,
                  recovery->at.base, recovery->at.position);
        error = walk(recovery);
    }
    if (error)
        return error;
    remove_old_snapshots(recovery);
    bool below_mark = log_point_compare(&recovery->at, &recovery->mark) < 0;
    /* Without a mark nobody can tell a torn tail from damage. */
    bool unknown = !recovery->entry && recovery->stopped;
    if (below_mark || unknown || (recovery->entry && recovery->entry->error == CLYMQ_ECORRUPT)) {
        if (unknown)
            recovery->mark = recovery->at;
        open_damaged(recovery, recovery->at.offset);
        return 0;
    }
    error = open_good(recovery);
    return error || recovery->entry ? error : record_now(block);
}

/* The id in the folder, against the key. The state file knows it too, so that a damaged id can be made again.
 */
static int check_id(struct recovery *recovery, const struct block_key *key)
{
    struct io_fs *fs = recovery->block->store->fs;
    struct block_key found;
    int error = block_read_id(fs, recovery->dir, &found);
    if (error == CLYMQ_ECORRUPT && recovery->entry) {
        log_warn("%s/id is damaged: making it again", recovery->dir);
        return block_write_id(fs, recovery->dir, key);
    }
    if (error == CLYMQ_ECORRUPT && block_is_unborn(fs, recovery->dir))
        return CLYMQ_ENOENT;
    if (error)
        return error;
    return uuid_equal(found.id, key->id) ? 0 : CLYMQ_ENOENT;
}

int block_open(struct store *store, const struct block_key *key, const struct block_events *events,
               struct block **ret_block, struct block_recovery *ret_recovery)
{
    if (store_find_open(store, key->id))
        return CLYMQ_EBUSY;
    struct recovery recovery = {.block = block_new(store, key, events),
                                .entry = store_find_entry(store, key->id)};
    recovery.entry_durable = recovery.entry == state_table_find(store_folder_table(store->folder), key->id);
    if (!recovery.block)
        return CLYMQ_ENOMEM;
    block_dir(key, recovery.dir);
    int error = check_id(&recovery, key);
    if (!error)
        error = recover(&recovery);
    mem_free(recovery.buffer);
    mem_free(recovery.snapshots);
    if (error) {
        block_free(recovery.block);
        return error;
    }
    store_forget_closed(store, key->id);
    *ret_block = recovery.block;
    if (ret_recovery)
        *ret_recovery = recovery.result;
    return 0;
}
