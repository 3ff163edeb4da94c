/* The offline check of one block: every batch of every segment with its checksum and its place in the order,
 * the durable end, indexes against the log, snapshots. Nothing is changed, but for indexes that are wrong, if
 * asked. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/fsck_impl.h"
#include "store/index.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { INDEX_FILE_MAX = 1 << 30, INDEX_ENTRY = 8, TIME_ENTRY = 12 };

/* Where the check of a block's logs stands. */
struct walk {
    struct fsck *fsck;
    const char *dir;
    const struct state_entry *entry; /* NULL: no marks */
    struct log_point at;             /* behind the last good batch */
    bool lost;                       /* at says nothing: the segment before is damaged at its end */
    bool mark_seen;
    uint8_t *index; /* of the segment that is read, whole; NULL: not to be compared */
    size_t index_len, index_at;
    bool index_wrong;
};

/* ---- indexes ---- */

static void remove_indexes(struct walk *walk, int64_t base, bool *ret_removed)
{
    static const char *const suffixes[] = {".summary", ".index", ".timeindex"};
    *ret_removed = true;
    for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
        char path[SEGMENT_PATH_MAX];
        segment_path(path, walk->dir, base, suffixes[i]);
        int error = io_fs_unlink(walk->fsck->fs, path);
        if (error && error != CLYMQ_ENOENT)
            *ret_removed = false;
    }
}

static void find_wrong_index(struct walk *walk, int64_t base, const char *suffix, uint64_t position)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, walk->dir, base, suffix);
    bool removed = false;
    if (walk->fsck->options->repair_indexes)
        remove_indexes(walk, base, &removed);
    if (removed)
        fsck_find_repaired(walk->fsck, FSCK_WRONG_INDEX, path, position, base,
                           "does not match the log: removed, it is made again at its next use");
    else
        fsck_find(walk->fsck, FSCK_WRONG_INDEX, path, position, base,
                  "does not match the log: it is made again at its next use");
}

/* The first `count` entries of an index file against their checksum. */
static bool index_file_fits(const uint8_t *data, size_t len, uint32_t count, size_t entry_size, uint32_t crc)
{
    size_t want = (size_t)count * entry_size;
    return len >= want && crc32c(0, data, want) == crc;
}

/* Reads the indexes of a segment and compares them with what was noted of them; leaves the offset index to be
 * compared with the batches. Files of which nothing was noted are not used by the server. */
static int begin_indexes(struct walk *walk, int64_t base, uint64_t log_size)
{
    struct io_fs *fs = walk->fsck->fs;
    const struct state_entry *entry = walk->entry;
    struct segment segment = {.base = base, .size = (uint32_t)log_size};
    struct segment_summary summary;
    struct index_mark mark;
    int error = segment_summary_read(fs, walk->dir, &segment, &summary);
    if (error == CLYMQ_ENOMEM)
        return error;
    if (error == CLYMQ_ECORRUPT && !(entry && entry->checkpoint.base <= base)) {
        find_wrong_index(walk, base, ".summary", 0);
        return 0;
    }
    bool summarized = !error;
    if (summarized)
        mark = summary.index;
    else if (entry && entry->checkpoint.base == base)
        mark = entry->index;
    else
        return 0;
    static const struct {
        const char *suffix;
        size_t entry_size;
    } files[] = {{".timeindex", TIME_ENTRY}, {".index", INDEX_ENTRY}};
    for (int i = 0; i < 2; i++) {
        uint32_t count = i == 0 ? mark.time_count : mark.index_count,
                 crc = i == 0 ? mark.time_crc : mark.index_crc;
        if (count == 0)
            continue;
        char path[SEGMENT_PATH_MAX];
        segment_path(path, walk->dir, base, files[i].suffix);
        uint8_t *data = NULL;
        size_t len = 0;
        error = io_fs_read_file(fs, path, INDEX_FILE_MAX, &data, &len);
        if (error == CLYMQ_ENOMEM)
            return error;
        if (error == CLYMQ_ENOENT && !summarized)
            return 0; /* removed by an earlier check: the state file still has the note of it */
        if (error || !index_file_fits(data, len, count, files[i].entry_size, crc)) {
            mem_free(data);
            find_wrong_index(walk, base, files[i].suffix, 0);
            return 0;
        }
        if (i == 0) {
            mem_free(data);
        } else {
            walk->index = data;
            walk->index_len = (size_t)count * INDEX_ENTRY;
            walk->index_at = 0;
            walk->index_wrong = false;
        }
    }
    return 0;
}

static void compare_index(struct walk *walk, int64_t base, const struct batch_header *header,
                          uint64_t position)
{
    if (!walk->index || walk->index_wrong || walk->index_at >= walk->index_len)
        return;
    uint32_t offset = load_be32(walk->index + walk->index_at),
             at = load_be32(walk->index + walk->index_at + 4);
    if (at > position)
        return;
    walk->index_wrong = at < position || base + offset != batch_last_offset(header);
    if (walk->index_wrong)
        find_wrong_index(walk, base, ".index", walk->index_at);
    walk->index_at += INDEX_ENTRY;
}

static void end_indexes(struct walk *walk, int64_t base, bool whole)
{
    if (walk->index && !walk->index_wrong && whole && walk->index_at < walk->index_len)
        find_wrong_index(walk, base, ".index", walk->index_at);
    mem_free(walk->index);
    walk->index = NULL;
}

/* ---- logs ---- */

/* Whether what lies at this place was durable. Without a mark nobody knows. */
static bool is_below_mark(const struct walk *walk, int64_t base, uint64_t position)
{
    const struct state_entry *entry = walk->entry;
    return !entry || base < entry->mark.base || (base == entry->mark.base && position < entry->mark.position);
}

static void pass_mark(struct walk *walk, const char *path)
{
    const struct state_entry *entry = walk->entry;
    if (!entry || walk->mark_seen || log_point_compare(&walk->at, &entry->mark) != 0)
        return;
    walk->mark_seen = true;
    if (walk->at.offset != entry->mark.offset)
        fsck_find(walk->fsck, FSCK_DAMAGED_LOG, path, walk->at.position, walk->at.offset,
                  "the log has offset %" PRId64 " where the durable end %" PRId64 " was noted",
                  walk->at.offset, entry->mark.offset);
}

/* CLYMQ_EBATCH, with the finding told, when the batch is not the next one. */
static int check_order(struct walk *walk, const char *path, int64_t base, uint64_t position,
                       const struct batch_header *header)
{
    bool follows = position == 0 ? header->base_offset >= base : header->base_offset == walk->at.offset;
    if (follows && header->leader_epoch >= walk->at.epoch)
        return 0;
    bool damage = is_below_mark(walk, base, position);
    fsck_find(walk->fsck, damage ? FSCK_DAMAGED_LOG : FSCK_TORN_TAIL, path, position, walk->at.offset,
              "the batch says offset %" PRId64 " and epoch %" PRId32 " after offset %" PRId64
              " and epoch %" PRId32 "%s",
              header->base_offset, header->leader_epoch, walk->at.offset - 1, walk->at.epoch,
              damage ? "" : ": it is behind the durable end and is cut at the next start");
    return CLYMQ_EBATCH;
}

static void find_bad_batch(struct walk *walk, const char *path, int64_t base, const struct segment_scan *scan,
                           int64_t next_base)
{
    if (next_base == walk->at.offset)
        fsck_find(walk->fsck, FSCK_TORN_TAIL, path, scan->position, walk->at.offset,
                  "%" PRIu64 " bytes behind the last batch: cut when they are met",
                  scan->size - scan->position);
    else if (is_below_mark(walk, base, scan->position))
        fsck_find(walk->fsck, FSCK_DAMAGED_LOG, path, scan->position, walk->at.offset,
                  "no whole batch where offset %" PRId64 " should be: restore the block from another copy",
                  walk->at.offset);
    else
        fsck_find(walk->fsck, FSCK_TORN_TAIL, path, scan->position, walk->at.offset,
                  "%" PRIu64 " bytes of an unfinished write behind the durable end: cut at the next start",
                  scan->size - scan->position);
}

static int check_batches(struct walk *walk, const char *path, int64_t base, int64_t next_base,
                         struct segment_scan *scan)
{
    struct fsck_totals *totals = &walk->fsck->totals;
    for (;;) {
        struct batch_header header;
        struct bytes batch;
        uint64_t position = scan->position;
        int error = segment_scan_next(scan, &header, &batch);
        if (error == CLYMQ_ENOENT)
            return 0;
        if (error == CLYMQ_ENOMEM)
            return error;
        if (error == CLYMQ_EBATCH) {
            find_bad_batch(walk, path, base, scan, next_base);
            return next_base == walk->at.offset ? 0 : error;
        }
        if (error) {
            fsck_find(walk->fsck, FSCK_UNREADABLE, path, position, walk->at.offset, "%s",
                      error_sentence(error));
            return CLYMQ_EBATCH;
        }
        totals->bytes += header.size;
        error = check_order(walk, path, base, position, &header);
        if (error)
            return error;
        totals->batches++;
        totals->records += (uint64_t)header.record_count;
        compare_index(walk, base, &header, position);
        walk->at = (struct log_point){.offset = batch_last_offset(&header) + 1,
                                      .base = base,
                                      .position = (uint32_t)scan->position,
                                      .epoch = header.leader_epoch};
        pass_mark(walk, path);
    }
}

/* One segment; next_base: the name of the one behind it, or -1. */
static int check_segment(struct walk *walk, int64_t base, int64_t next_base)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, walk->dir, base, ".log");
    struct segment_scan scan;
    if (!walk->lost && walk->at.offset != base) {
        bool below = !walk->entry || base <= walk->entry->mark.base;
        fsck_find(walk->fsck, below ? FSCK_MISSING_LOG : FSCK_TORN_TAIL, path, 0, walk->at.offset,
                  "the segment before ends at offset %" PRId64 "%s", walk->at.offset - 1,
                  below ? ": one between them is missing"
                        : ": what is behind the durable end is cut at the next start");
        if (!below)
            return 0;
    }
    walk->at.offset = base;
    int error = segment_scan_begin(walk->fsck->fs, path, &scan);
    if (error == CLYMQ_ENOMEM)
        return error;
    if (error) {
        fsck_find(walk->fsck, FSCK_UNREADABLE, path, 0, base, "%s", error_sentence(error));
        walk->lost = true;
        return 0;
    }
    error = scan.size <= UINT32_MAX ? begin_indexes(walk, base, scan.size) : 0;
    if (!error)
        error = check_batches(walk, path, base, next_base, &scan);
    end_indexes(walk, base, error == 0);
    walk->lost = error == CLYMQ_EBATCH;
    segment_scan_end(&scan);
    walk->fsck->totals.segments++;
    if (walk->fsck->options->on_progress)
        walk->fsck->options->on_progress(walk->fsck->options->ctx, &walk->fsck->totals);
    return error == CLYMQ_ENOMEM ? error : 0;
}

static int check_logs(struct walk *walk, const int64_t *bases, size_t count)
{
    const struct state_entry *entry = walk->entry;
    if (entry && (count == 0 || bases[0] > entry->start))
        fsck_find(walk->fsck, FSCK_MISSING_LOG, walk->dir, 0, entry->start,
                  "the log begins behind offset %" PRId64 ", which is still to be kept: segments are missing",
                  entry->start);
    while (entry && count > 1 && bases[1] <= entry->start && bases[0] < entry->checkpoint.base) {
        bases++; /* dropped by retention, but not removed yet */
        count--;
    }
    walk->at = (struct log_point){.offset = count ? bases[0] : 0, .epoch = -1};
    walk->mark_seen = !entry;
    for (size_t i = 0; i < count; i++) {
        if (entry && entry->mark.base == bases[i] && entry->mark.position == 0)
            walk->mark_seen = true;
        int error = check_segment(walk, bases[i], i + 1 < count ? bases[i + 1] : -1);
        if (error)
            return error;
    }
    if (entry && !walk->mark_seen && !walk->lost && count > 0)
        fsck_find(walk->fsck, FSCK_MISSING_LOG, walk->dir, 0, walk->at.offset,
                  "the log ends at offset %" PRId64 ", its durable end is %" PRId64, walk->at.offset,
                  entry->mark.offset);
    return 0;
}

/* ---- the folder ---- */

static int check_snapshot(struct fsck *fsck, const char *dir, int64_t offset)
{
    struct snapshot snapshot;
    int error = snapshot_read(fsck->fs, dir, offset, &snapshot);
    if (error == CLYMQ_ENOMEM)
        return error;
    if (!error) {
        mem_free(snapshot.data);
        return 0;
    }
    char path[SEGMENT_PATH_MAX];
    segment_path(path, dir, offset, ".snapshot");
    fsck_find(fsck, FSCK_WRONG_SNAPSHOT, path, 0, offset, "%s: an older one, or the log, is used",
              error_sentence(error));
    return 0;
}

int fsck_block(struct fsck *fsck, const char *dir, const struct state_entry *entry)
{
    char **names;
    size_t count, base_count = 0;
    fsck->totals.blocks++;
    int error = io_fs_list(fsck->fs, dir, &names, &count);
    if (error == CLYMQ_ENOMEM)
        return error;
    if (error) {
        fsck_find(fsck, FSCK_UNREADABLE, dir, 0, -1, "%s", error_sentence(error));
        return 0;
    }
    if (entry && entry->error == CLYMQ_ECORRUPT)
        fsck_find(fsck, FSCK_FAILED_BLOCK, dir, 0, entry->damaged_offset,
                  "an earlier run found it damaged at offset %" PRId64, entry->damaged_offset);
    if (entry && log_point_compare(&entry->checkpoint, &entry->mark) > 0)
        fsck_find(fsck, FSCK_DAMAGED_LOG, dir, 0, entry->checkpoint.offset,
                  "recovery was to begin at offset %" PRId64 ", behind the durable end %" PRId64
                  ": the block opens as damaged",
                  entry->checkpoint.offset, entry->mark.offset);
    int64_t *bases = mem_calloc(count + 1, sizeof(*bases));
    if (!bases)
        error = CLYMQ_ENOMEM;
    for (size_t i = 0; i < count && !error; i++) {
        int64_t number;
        if (segment_parse_name(names[i], ".log", &number))
            bases[base_count++] = number;
        else if (segment_parse_name(names[i], ".snapshot", &number))
            error = check_snapshot(fsck, dir, number);
    }
    io_fs_free_names(names, count);
    struct walk walk = {.fsck = fsck, .dir = dir, .entry = entry};
    if (!error)
        error = check_logs(&walk, bases, base_count);
    mem_free(walk.index);
    mem_free(bases);
    return error;
}
