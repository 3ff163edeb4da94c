/* Opening a block that an earlier run left.
 *
 * What is read: everything behind the checkpoint, batch by batch, with checksums; or behind the newest
 * snapshot that can be read, where the owner keeps some and that one is older. What comes out, by where the
 * first thing lies that is not a batch continuing the log (checksum, length, offset not the next one, epoch
 * going back):
 *
 *   zeros to the end of the last file   written ahead (store/ahead.h): kept, they are no part of the log
 *   at or behind the durable-end mark   a torn tail: cut, with all later segments
 *   below it, or a whole batch whose    damage: nothing is cut, the block is failed, what can be read stays
 *   epoch cannot be                     readable
 *
 * The same holds for a log in which the mark, or the checkpoint, is not where a batch ends: it is another one
 * than the marks are of.
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
#include "store/ahead.h"
#include "store/checkpoint.h"
#include "store/folder_impl.h"
#include "store/index.h"
#include "store/recovery.h"

enum { READ_CHUNK = 256 << 10 };

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
    bool follows = position == 0 || header.base_offset == recovery->at.offset;
    if (!follows || !segment_can_hold(segment->base, &header))
        return CLYMQ_EBATCH;
    int64_t epoch_end = recovery->block->events.epoch_end;
    recovery->wrong_epoch =
        header.leader_epoch < recovery->at.epoch || (epoch_end && header.leader_epoch >= epoch_end);
    if (recovery->wrong_epoch)
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
        segment_note_change(recovery->block->store, segment, ref);
    }
    if (log_point_compare(&here, &recovery->checkpoint) >= 0)
        index_add(block, segment, header, position);
    if (block->events.on_recover && header->base_offset >= recovery->replay_from) {
        int error = block->events.on_recover(block->events.ctx, header, batch);
        if (error)
            return error;
    }
    return 0;
}

/* Whether the log, which goes from before to after in one step, is another one at point than was noted. */
static bool misses(const struct log_point *point, const struct log_point *before,
                   const struct log_point *after)
{
    int order = log_point_compare(after, point);
    if (order == 0)
        return after->offset != point->offset || (after->position > 0 && after->epoch != point->epoch);
    return order > 0 && log_point_compare(before, point) < 0;
}

static bool contradicts_marks(const struct recovery *recovery, const struct log_point *after)
{
    return misses(&recovery->mark, &recovery->at, after) ||
           misses(&recovery->checkpoint, &recovery->at, after);
}

/* The beginning of the segment behind recovery->at. */
static struct log_point begin_next(const struct recovery *recovery, const struct segment *next)
{
    return (struct log_point){.offset = next->base, .base = next->base, .epoch = recovery->at.epoch};
}

/* Cuts what lies behind the last batch of a segment though another segment follows: it was named by the
 * offset behind that batch, so nothing was meant to be there. (What renew_size leaves, if it is interrupted,
 * or a cut that a power loss undid.) */
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
    segment->size = position;
    ahead_forget(segment);
    segment_note_change(recovery->block->store, segment, ref);
    return 0;
}

/* Whether only zeros follow in the segment. */
static int rest_is_zero(struct recovery *recovery, struct segment *segment, uint32_t position, bool *ret_zero)
{
    *ret_zero = false;
    while (position < segment->size) {
        struct bytes bytes;
        int error = fill_buffer(recovery, segment, position, 1, &bytes);
        if (error || bytes.len == 0 || !bytes_are_zero(bytes))
            return error;
        position += (uint32_t)bytes.len;
    }
    *ret_zero = true;
    return 0;
}

/* What lies at the end of the log is no batch. Where it is zeros that were written ahead, they are kept for
 * the next appends; anything else stops recovery. */
static int meet_end(struct recovery *recovery, struct segment *segment, bool last, uint32_t position)
{
    bool zero = false;
    if (last && log_point_compare(&recovery->at, &recovery->mark) >= 0) {
        int error = rest_is_zero(recovery, segment, position, &zero);
        if (error)
            return error;
    }
    recovery->stopped = !zero;
    if (!zero)
        return 0;
    recovery->block->size -= segment->size - position;
    segment->zeroed = segment->size;
    segment->size = position;
    return 0;
}

static int walk_segment(struct recovery *recovery, struct segment *segment, const struct segment *next,
                        uint32_t position)
{
    recovery->buffer_len = 0;
    while (position < segment->size) {
        struct batch_header header;
        struct bytes batch;
        struct log_point after;
        if (next && next->base == recovery->at.offset) {
            after = begin_next(recovery, next);
            recovery->stopped = contradicts_marks(recovery, &after);
            return recovery->stopped ? 0 : cut_excess(recovery, segment, position);
        }
        int error = read_batch(recovery, segment, position, &header, &batch);
        if (error == CLYMQ_EBATCH)
            return meet_end(recovery, segment, !next, position);
        if (error)
            return error;
        after = (struct log_point){.offset = batch_last_offset(&header) + 1,
                                   .base = segment->base,
                                   .position = position + header.size,
                                   .epoch = header.leader_epoch};
        if (contradicts_marks(recovery, &after)) {
            recovery->stopped = true;
            return 0;
        }
        error = keep_batch(recovery, segment, position, &header, batch);
        if (error)
            return error;
        recovery->at = after;
        position = after.position;
    }
    return 0;
}

/* After a failed sync the size, too, may be held as clean although the disk never got it: it is changed and
 * changed back. That goes for what zeros written ahead made it, also where nothing but they was kept: what
 * will be written over them would not be in the file. A crash in between leaves one byte, of a torn tail or
 * of zeros. */
static int renew_size(struct recovery *recovery, struct segment *segment)
{
    uint64_t size = segment->zeroed > segment->size ? segment->zeroed : segment->size;
    struct segment_ref *ref;
    int error = segment_file(recovery->block, segment, SEGMENT_LOG, &ref);
    if (!error)
        error = io_file_truncate(ref->file, size + 1);
    if (!error)
        error = io_file_truncate(ref->file, size);
    if (!error)
        segment->reserved = (uint32_t)size;
    return error;
}

static int walk(struct recovery *recovery)
{
    struct block *block = recovery->block;
    uint32_t first = block_segment_at(block, recovery->at.base);
    static const struct log_point nowhere = {.base = -1};
    recovery->contradicted = misses(&recovery->mark, &nowhere, &recovery->at);
    recovery->stopped |= recovery->contradicted;
    for (uint32_t i = first; i < block->segment_count && !recovery->stopped; i++) {
        struct segment *segment = block->segments[i];
        struct log_point begin = begin_next(recovery, segment);
        if (i > first && (begin.offset != recovery->at.offset || contradicts_marks(recovery, &begin))) {
            recovery->stopped = true;
            break;
        }
        if (i > first && (log_point_compare(&begin, &recovery->mark) == 0 ||
                          log_point_compare(&begin, &recovery->checkpoint) == 0))
            recovery->at = begin; /* both places say the same; the segment is known to be there */
        const struct segment *next = i + 1 < block->segment_count ? block->segments[i + 1] : NULL;
        int error = walk_segment(recovery, segment, next, i == first ? recovery->at.position : 0);
        if (!error && (segment->unsynced || segment->zeroed > segment->size))
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
        int error = recovery_remove_segment(recovery, last->base, true);
        if (error)
            return error;
        recovery->result.bytes_cut += last->size;
        block->size -= last->size;
        block->segment_count--;
        segment_free(block->store, last);
    }
    int error = recovery_remove_segment(recovery, segment->base, false);
    if (error)
        return error;
    segment->closed = false;
    if (block->dir_unsynced) {
        error = io_fs_sync_dir(block->store->fs, recovery->dir);
        if (error)
            return error;
        block->dir_unsynced = false;
    }
    if (segment->size == recovery->at.position)
        return 0;
    struct segment_ref *ref;
    error = segment_file(block, segment, SEGMENT_LOG, &ref);
    if (!error)
        error = io_file_truncate(ref->file, recovery->at.position);
    if (!error)
        error = io_file_sync(ref->file);
    if (error)
        return error;
    recovery->result.bytes_cut += segment->size - recovery->at.position;
    block->size -= segment->size - recovery->at.position;
    segment->size = recovery->at.position;
    ahead_forget(segment);
    return 0;
}

static void open_damaged(struct recovery *recovery, int64_t offset)
{
    struct block *block = recovery->block;
    bool known = recovery->entry && recovery->entry->error == CLYMQ_ECORRUPT;
    recovery->result.damaged = true;
    recovery->result.damaged_offset =
        known && recovery->entry->damaged_offset < offset ? recovery->entry->damaged_offset : offset;
    for (uint32_t i = 0; i < block->segment_count; i++) {
        struct segment *segment = block->segments[i];
        struct log_point end = {.base = segment->base, .position = segment->size};
        if (segment->size == 0 || log_point_compare(&end, &recovery->mark) <= 0)
            continue;
        bool zero = false;
        recovery->buffer_len = 0;
        if (i + 1 == block->segment_count && segment->base == recovery->mark.base)
            (void)rest_is_zero(recovery, segment, recovery->mark.position, &zero);
        recovery->result.damaged_short |= !zero;
    }
    block->damaged_offset = recovery->result.damaged_offset;
    block->error = CLYMQ_ECORRUPT;
    block->error_told = true; /* by the result */
    block->end = block->synced = block->durable = recovery->mark;
    log_error("%s is damaged at offset %" PRId64 ", below its durable end %" PRId64
              ": nothing is cut, clymq fsck tells more",
              recovery->dir, block->damaged_offset, recovery->mark.offset);
    if (!known) {
        block->state_full = true;
        store_state_put(block->store, block);
        store_state_write(block->store);
    }
}

static int open_good(struct recovery *recovery)
{
    struct block *block = recovery->block;
    struct store *store = block->store;
    block->dir_unsynced |= store->folders_unsure;
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
    store_state_put(store, block);
    int error = store_state_write(store);
    if (!error)
        error = io_file_sync(store->state.ref->file);
    if (error)
        store->state.broken = true;
    return error;
}

/* Files go only after the log start that lets them go is durable. What the state files said of it last may be
 * what could not be read of them: then the log itself tells, and marks of files that went are forgotten. */
static void follow_start(struct recovery *recovery)
{
    struct block *block = recovery->block;
    struct log_point first = recovery_begin_of(block->segments[0]);
    log_warn("%s begins at offset %" PRId64 " by its files, at %" PRId64
             " by what could be read in state/: the files are believed",
             recovery->dir, first.base, block->start);
    block->start = first.base;
    if (recovery->mark.base < first.base)
        recovery->mark = first;
    if (recovery->checkpoint.base < first.base) {
        recovery->checkpoint = block->checkpoint = first;
        block->checkpoint_index = index_mark_empty();
    }
}

static int recover(struct recovery *recovery)
{
    struct block *block = recovery->block;
    int error = recovery_scan_folder(recovery);
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
        recovery_find_marks(recovery);
        open_damaged(recovery, block->start);
        return 0;
    }
    recovery_find_marks(recovery);
    if (block->start < block->segments[0]->base) {
        if (!recovery->entry || !recovery->entry->outdated) {
            open_damaged(recovery, block->start);
            return 0;
        }
        follow_start(recovery);
    }
    error = recovery_choose_begin(recovery);
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
    recovery_remove_old_snapshots(recovery);
    bool below_mark = recovery->contradicted || log_point_compare(&recovery->at, &recovery->mark) < 0;
    /* A whole batch in its place is no torn tail: its epoch, or the one before it, was written otherwise. */
    below_mark |= recovery->wrong_epoch;
    /* Without a mark nobody can tell a torn tail from damage. */
    bool unknown = !recovery->entry && recovery->stopped;
    if (below_mark || unknown || (recovery->entry && recovery->entry->error == CLYMQ_ECORRUPT)) {
        if (unknown)
            recovery->mark = recovery->at;
        open_damaged(recovery, recovery->at.offset);
    } else {
        error = open_good(recovery);
    }
    return error || recovery->entry ? error : record_now(block);
}

/* The id in the folder, against the key. The state files say it too, so that a damaged id can be made again.
 */
static int check_id(struct recovery *recovery, const struct block_key *key)
{
    struct io_fs *fs = recovery->block->store->fs;
    struct block_key found;
    int error = block_read_id(fs, recovery->dir, &found);
    if (error == CLYMQ_ECORRUPT && recovery->entry && block_key_equal(&recovery->entry->key, key)) {
        log_warn("%s/id is damaged: making it again", recovery->dir);
        return block_write_id(fs, recovery->dir, key);
    }
    if (error == CLYMQ_ECORRUPT && block_is_unborn(fs, recovery->dir))
        return CLYMQ_ENOENT;
    if (error)
        return error;
    return block_key_equal(&found, key) ? 0 : CLYMQ_ENOENT;
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
        store->folders_unsure |= recovery.block->dir_unsynced;
        block_free(recovery.block);
        return error;
    }
    store_forget_closed(store, key->id);
    *ret_block = recovery.block;
    if (ret_recovery)
        *ret_recovery = recovery.result;
    return 0;
}
