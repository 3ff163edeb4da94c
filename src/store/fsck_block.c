/* The offline check of one block: every batch of every segment with its checksum and its place in the order,
 * the durable end, indexes against the log, snapshots. Nothing is changed, but for indexes that are wrong, if
 * asked. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
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

/* A place of the log that was noted: a batch ends there, or the log is not the one that the note is of. */
struct place {
    struct log_point point;
    const char *noted; /* by what */
};

/* Where the check of a block's logs stands. */
struct walk {
    struct fsck *fsck;
    const char *dir;
    const struct state_entry *entry; /* NULL: no marks */
    struct log_point at;             /* behind the last good batch */
    bool lost;                       /* at says nothing: the segment before is damaged at its end */
    struct log_point mark;           /* what lies before it was durable */
    struct place *places;            /* in the log's order */
    size_t place_count, place_at;
    bool summarized; /* the segment that is read has a summary, which says its size */
    uint8_t *index;  /* of the segment that is read, whole; NULL: not to be compared */
    size_t index_len, index_at, index_first_wrong;
    uint32_t index_wrong; /* entries */
    bool index_unnoted;   /* its checksum is not the noted one */
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

__attribute__((format(printf, 5, 6))) static void find_wrong_index(struct walk *walk, int64_t base,
                                                                   const char *suffix, uint64_t position,
                                                                   const char *format, ...)
{
    char path[SEGMENT_PATH_MAX], wrong[128];
    va_list args;
    va_start(args, format);
    vsnprintf(wrong, sizeof(wrong), format, args);
    va_end(args);
    segment_path(path, walk->dir, base, suffix);
    bool removed = false;
    if (walk->fsck->options->repair_indexes)
        remove_indexes(walk, base, &removed);
    if (removed)
        fsck_find_repaired(walk->fsck, FSCK_WRONG_INDEX, path, position, base,
                           "%s: removed, it is made again at its next use", wrong);
    else
        fsck_find(walk->fsck, FSCK_WRONG_INDEX, path, position, base, "%s: it is made again at its next use",
                  wrong);
}

/* The first `count` entries of an index file against their checksum. */
static bool index_file_fits(const uint8_t *data, size_t len, uint32_t count, size_t entry_size, uint32_t crc)
{
    size_t want = (size_t)count * entry_size;
    return len >= want && crc32c(0, data, want) == crc;
}

static int read_index(const struct walk *walk, int64_t base, const char *suffix, uint8_t **ret_data,
                      size_t *ret_len)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, walk->dir, base, suffix);
    return io_fs_read_file(walk->fsck->fs, path, INDEX_FILE_MAX, ret_data, ret_len);
}

/* Reads the indexes of a segment and compares them with what was noted of them; leaves the offset index to be
 * compared with the batches. Files of which nothing was noted are not used by the server. */
static int begin_indexes(struct walk *walk, int64_t base, uint64_t log_size)
{
    const struct state_entry *entry = walk->entry;
    struct segment segment = {.base = base, .size = (uint32_t)log_size};
    struct segment_summary summary;
    struct index_mark mark;
    int error = segment_summary_read(walk->fsck->fs, walk->dir, &segment, &summary);
    walk->summarized = !error;
    if (error == CLYMQ_ENOMEM)
        return error;
    if (error == CLYMQ_ECORRUPT && !(entry && entry->checkpoint.base <= base)) {
        find_wrong_index(walk, base, ".summary", 0, "does not match the log");
        return 0;
    }
    if (walk->summarized)
        mark = summary.index;
    else if (entry && entry->checkpoint.base == base)
        mark = entry->index;
    else
        return 0;
    uint8_t *times = NULL;
    size_t times_len = 0;
    bool times_wrong = false;
    if (mark.index_count > 0) { /* both are read before either is removed */
        error = read_index(walk, base, ".index", &walk->index, &walk->index_len);
        if (error == CLYMQ_ENOMEM)
            return error;
        /* Removed by an earlier check: the state file still has the note of it. */
        walk->index_unnoted = !(error == CLYMQ_ENOENT && !walk->summarized) &&
                              (error || !index_file_fits(walk->index, walk->index_len, mark.index_count,
                                                         INDEX_ENTRY, mark.index_crc));
        size_t want = (size_t)mark.index_count * INDEX_ENTRY;
        walk->index_len = walk->index_len < want ? walk->index_len / INDEX_ENTRY * INDEX_ENTRY : want;
    }
    if (mark.time_count > 0) {
        error = read_index(walk, base, ".timeindex", &times, &times_len);
        if (error == CLYMQ_ENOMEM)
            return error;
        times_wrong =
            !(error == CLYMQ_ENOENT && !walk->summarized) &&
            (error || !index_file_fits(times, times_len, mark.time_count, TIME_ENTRY, mark.time_crc));
        mem_free(times);
    }
    if (times_wrong)
        find_wrong_index(walk, base, ".timeindex", 0, "is not the one that was noted");
    return 0;
}

static void count_wrong(struct walk *walk)
{
    if (walk->index_wrong++ == 0)
        walk->index_first_wrong = walk->index_at;
    walk->index_at += INDEX_ENTRY;
}

/* The entries up to the batch at position: each has to lead to a batch. */
static void compare_index(struct walk *walk, int64_t base, const struct batch_header *header,
                          uint64_t position, uint64_t log_size)
{
    while (walk->index_at < walk->index_len) {
        const uint8_t *entry = walk->index + walk->index_at;
        uint32_t offset = load_be32(entry), at = load_be32(entry + 4);
        bool last = walk->index_at + INDEX_ENTRY >= walk->index_len;
        if (at == position && base + offset == batch_last_offset(header)) {
            walk->index_at += INDEX_ENTRY;
            return;
        }
        if (at > position && at < log_size && (last || load_be32(entry + INDEX_ENTRY + 4) > at))
            return;
        count_wrong(walk);
    }
}

static void end_indexes(struct walk *walk, int64_t base, bool whole)
{
    while (whole && walk->index_at < walk->index_len)
        count_wrong(walk);
    if (walk->index_wrong > 0)
        find_wrong_index(walk, base, ".index", walk->index_first_wrong,
                         "%" PRIu32 " of %zu entries do not match the log", walk->index_wrong,
                         walk->index_len / INDEX_ENTRY);
    else if (walk->index_unnoted)
        find_wrong_index(walk, base, ".index", 0, "is not the one that was noted");
    mem_free(walk->index);
    walk->index = NULL;
    walk->index_len = walk->index_at = 0;
    walk->index_wrong = 0;
    walk->index_unnoted = false;
}

/* ---- logs ---- */

/* Whether what lies at this place was durable. Without a mark nobody knows. */
static bool is_below_mark(const struct walk *walk, int64_t base, uint64_t position)
{
    return !walk->entry || base < walk->mark.base ||
           (base == walk->mark.base && position < walk->mark.position);
}

/* The log was read up to walk->at. told: something between is missing, which was told already. */
static void pass_places(struct walk *walk, const char *path, bool told)
{
    struct log_point *at = &walk->at;
    for (; walk->place_at < walk->place_count; walk->place_at++) {
        const struct place *place = &walk->places[walk->place_at];
        int order = log_point_compare(&place->point, at);
        if (order > 0)
            return;
        bool same = order == 0 && place->point.offset == at->offset &&
                    (at->position == 0 || place->point.epoch == at->epoch);
        if (!same && !told)
            fsck_find(walk->fsck, FSCK_DAMAGED_LOG, path, place->point.position, at->offset,
                      "%s says that offset %" PRId64 " begins at byte %" PRIu32 " of segment %" PRId64
                      ": the log says otherwise",
                      place->noted, place->point.offset, place->point.position, place->point.base);
        if (same && place->point.epoch > at->epoch) /* recovery may begin here, with that epoch */
            at->epoch = place->point.epoch;
    }
}

/* CLYMQ_EBATCH, with the finding told, when the batch is not the next one. */
static int check_order(struct walk *walk, const char *path, int64_t base, uint64_t position,
                       const struct batch_header *header)
{
    bool in_place =
        (position == 0 || header->base_offset == walk->at.offset) && segment_can_hold(base, header);
    if (in_place && header->leader_epoch >= walk->at.epoch)
        return 0;
    bool damage = in_place || is_below_mark(walk, base, position);
    fsck_find(walk->fsck, damage ? FSCK_DAMAGED_LOG : FSCK_TORN_TAIL, path, position, walk->at.offset,
              "the batch says offset %" PRId64 " and epoch %" PRId32 " after offset %" PRId64
              " and epoch %" PRId32 "%s",
              header->base_offset, header->leader_epoch, walk->at.offset - 1, walk->at.epoch,
              damage ? "" : ": it is behind the durable end and is cut at the next start");
    return CLYMQ_EBATCH;
}

/* Whether the segment ends here, because the next one is named by the offset that was reached, as recovery
 * sees it. */
static bool ends_segment(struct walk *walk, const char *path, int64_t base, int64_t next_base,
                         const struct segment_scan *scan)
{
    if (next_base != walk->at.offset || scan->position == scan->size)
        return false;
    if (walk->summarized) /* so that nobody looks, and readers are sent them */
        find_wrong_index(walk, base, ".summary", scan->position, "counts in what is behind the last batch");
    fsck_find(walk->fsck, FSCK_TORN_TAIL, path, scan->position, walk->at.offset,
              "%" PRIu64 " bytes behind the last batch: cut when the index is made again",
              scan->size - scan->position);
    return true;
}

/* Whether zeros that were written ahead follow. Below the durable end they are lost pages. */
static bool is_ahead(const struct walk *walk, int64_t base, bool last, struct segment_scan *scan)
{
    return last && !(walk->entry && is_below_mark(walk, base, scan->position)) &&
           segment_scan_rest_is_zero(scan);
}

static void find_bad_batch(struct walk *walk, const char *path, int64_t base, const struct segment_scan *scan)
{
    if (is_below_mark(walk, base, scan->position))
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
        if (ends_segment(walk, path, base, next_base, scan))
            return 0;
        int error = segment_scan_next(scan, &header, &batch);
        if (error == CLYMQ_ENOENT)
            return 0;
        if (error == CLYMQ_ENOMEM)
            return error;
        if (error == CLYMQ_EBATCH && is_ahead(walk, base, next_base < 0, scan))
            return 0;
        if (error == CLYMQ_EBATCH) {
            find_bad_batch(walk, path, base, scan);
            return error;
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
        compare_index(walk, base, &header, position, scan->size);
        walk->at = (struct log_point){.offset = batch_last_offset(&header) + 1,
                                      .base = base,
                                      .position = (uint32_t)scan->position,
                                      .epoch = header.leader_epoch};
        pass_places(walk, path, false);
    }
}

/* One segment; next_base: the name of the one behind it, or -1. */
static int check_segment(struct walk *walk, int64_t base, int64_t next_base)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, walk->dir, base, ".log");
    struct segment_scan scan;
    bool gap = !walk->lost && walk->at.offset != base;
    if (gap) {
        bool below = !walk->entry || base <= walk->mark.base;
        fsck_find(walk->fsck, below ? FSCK_MISSING_LOG : FSCK_TORN_TAIL, path, 0, walk->at.offset,
                  "the segment before ends at offset %" PRId64 "%s", walk->at.offset - 1,
                  below ? ": one between them is missing"
                        : ": what is behind the durable end is cut at the next start");
        if (!below)
            return 0;
    }
    walk->at = (struct log_point){.offset = base, .base = base, .epoch = walk->at.epoch};
    pass_places(walk, path, gap || walk->lost);
    int error = segment_scan_begin(walk->fsck->fs, path, &scan);
    if (error == CLYMQ_ENOMEM)
        return error;
    if (error) {
        fsck_find(walk->fsck, FSCK_UNREADABLE, path, 0, base, "%s", error_sentence(error));
        walk->lost = true;
        return 0;
    }
    walk->summarized = false;
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

/* Whether recovery takes the snapshot for one of this log. */
static bool is_in_log(const struct walk *walk, const struct log_point *point, const int64_t *bases,
                      size_t count)
{
    char path[SEGMENT_PATH_MAX];
    struct segment_scan scan;
    bool named = false;
    for (size_t i = 0; i < count && !named; i++)
        named = bases[i] == point->base;
    if (!named || !log_point_is_possible(point))
        return false;
    segment_path(path, walk->dir, point->base, ".log");
    if (segment_scan_begin(walk->fsck->fs, path, &scan))
        return false;
    named = point->position <= scan.size;
    segment_scan_end(&scan);
    return named;
}

static int compare_places(const void *a, const void *b)
{
    const struct place *left = a, *right = b;
    return log_point_compare(&left->point, &right->point);
}

/* The places that recovery goes by, besides snapshots, which are among them: those of another log are told
 * and left out. */
static void find_places(struct walk *walk, const int64_t *bases, size_t count)
{
    const struct state_entry *entry = walk->entry;
    size_t kept = 0;
    walk->mark = entry ? entry->mark : (struct log_point){.base = -1};
    for (size_t i = 0; i < walk->place_count; i++) {
        struct place *place = &walk->places[i];
        if (place->point.base < bases[0])
            continue;
        if (!is_in_log(walk, &place->point, bases, count)) {
            char path[SEGMENT_PATH_MAX];
            segment_path(path, walk->dir, place->point.offset, ".snapshot");
            fsck_find(walk->fsck, FSCK_WRONG_SNAPSHOT, path, 0, place->point.offset,
                      "is of a place that the log does not have: an older one, or the log, is used");
            continue;
        }
        if (log_point_compare(&place->point, &walk->mark) > 0)
            walk->mark = place->point; /* it was durable when the snapshot was written */
        walk->places[kept++] = *place;
    }
    if (entry && (entry->mark.base >= bases[0] || !entry->outdated))
        walk->places[kept++] = (struct place){.point = entry->mark, .noted = "the durable end"};
    if (entry && entry->checkpoint.base >= bases[0])
        walk->places[kept++] = (struct place){.point = entry->checkpoint, .noted = "the checkpoint"};
    walk->place_count = kept;
    qsort(walk->places, kept, sizeof(walk->places[0]), compare_places);
}

static int check_logs(struct walk *walk, const int64_t *bases, size_t count)
{
    const struct state_entry *entry = walk->entry;
    if (entry && count > 0 && bases[0] > entry->start && entry->outdated)
        fsck_find(walk->fsck, FSCK_WRONG_STATE, walk->dir, 0, -1,
                  "the log begins at offset %" PRId64 ", what could be read in state/ says at %" PRId64
                  ": the log is believed at the next start",
                  bases[0], entry->start);
    else if (entry && (count == 0 || bases[0] > entry->start))
        fsck_find(walk->fsck, FSCK_MISSING_LOG, walk->dir, 0, entry->start,
                  "the log begins behind offset %" PRId64 ", which is still to be kept: segments are missing",
                  entry->start);
    while (entry && count > 1 && bases[1] <= entry->start && bases[0] < entry->checkpoint.base) {
        bases++; /* dropped by retention, but not removed yet */
        count--;
    }
    walk->at = (struct log_point){.offset = count ? bases[0] : 0, .epoch = -1};
    int error = 0;
    if (count > 0)
        find_places(walk, bases, count);
    for (size_t i = 0; i < count && !error; i++)
        error = check_segment(walk, bases[i], i + 1 < count ? bases[i + 1] : -1);
    if (!error && walk->place_at < walk->place_count && !walk->lost)
        fsck_find(walk->fsck, FSCK_MISSING_LOG, walk->dir, 0, walk->at.offset,
                  "the log ends at offset %" PRId64 ", its durable end is %" PRId64, walk->at.offset,
                  walk->mark.offset);
    return error;
}

/* ---- the folder ---- */

static int check_snapshot(struct walk *walk, int64_t offset)
{
    struct fsck *fsck = walk->fsck;
    const char *dir = walk->dir;
    struct snapshot snapshot;
    int error = snapshot_read(fsck->fs, dir, offset, &snapshot);
    if (error == CLYMQ_ENOMEM)
        return error;
    if (!error) {
        mem_free(snapshot.data);
        walk->places[walk->place_count++] = (struct place){.point = snapshot.point, .noted = "a snapshot"};
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
    struct walk walk = {.fsck = fsck, .dir = dir, .entry = entry};
    int64_t *bases = mem_calloc(count + 1, sizeof(*bases));
    walk.places = mem_calloc(count + 2, sizeof(*walk.places));
    if (!bases || !walk.places)
        error = CLYMQ_ENOMEM;
    for (size_t i = 0; i < count && !error; i++) {
        int64_t number;
        if (segment_parse_name(names[i], ".log", &number))
            bases[base_count++] = number;
        else if (segment_parse_name(names[i], ".snapshot", &number))
            error = check_snapshot(&walk, number);
    }
    io_fs_free_names(names, count);
    if (!error)
        error = check_logs(&walk, bases, base_count);
    mem_free(walk.index);
    mem_free(walk.places);
    mem_free(bases);
    return error;
}
