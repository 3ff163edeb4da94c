/* The offline check of a data folder: see fsck.h. One pass over each log; the indexes are held against the
 * batches as they come by. */
#include "store/fsck.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/folder_impl.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { INDEX_FILE_MAX = 1 << 27, SENTENCE_MAX = 256 };

struct check {
    struct io_fs *fs;
    const struct fsck_options *options;
    struct fsck_totals totals;
    struct state_table table;
    /* the block looked at */
    const struct state_entry *entry; /* NULL: the state files do not know it */
    char dir[BLOCK_DIR_MAX];
    int64_t expected; /* offset that the next batch has; -1 = any */
    int32_t epoch;
};

bool fsck_is_damage(enum fsck_kind kind)
{
    return kind == FSCK_DAMAGED_LOG || kind == FSCK_MISSING_LOG || kind == FSCK_FAILED_BLOCK ||
           kind == FSCK_UNREADABLE;
}

static void __attribute__((format(printf, 7, 8)))
find(struct check *check, enum fsck_kind kind, const char *path, uint64_t position, int64_t offset,
     bool repaired, const char *format, ...)
{
    char sentence[SENTENCE_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    if (fsck_is_damage(kind))
        check->totals.damages++;
    else
        check->totals.harmless++;
    check->totals.repaired += repaired;
    struct fsck_finding finding = {.kind = kind,
                                   .path = path,
                                   .position = position,
                                   .offset = offset,
                                   .sentence = sentence,
                                   .repaired = repaired};
    check->options->on_finding(check->options->ctx, &finding);
}

/* ---- indexes ---- */

/* One index file, its entries compared with the batches in order. */
struct index_walk {
    uint8_t *data;
    size_t len, at, entry_size;
    bool wrong;
};

static int index_walk_begin(struct check *check, int64_t base, const char *suffix, size_t entry_size,
                            struct index_walk *ret_walk)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, check->dir, base, suffix);
    struct index_walk walk = {.entry_size = entry_size};
    int error = io_fs_read_file(check->fs, path, INDEX_FILE_MAX, &walk.data, &walk.len);
    if (error == CLYMQ_ENOMEM)
        return error;
    /* A missing one is right: the log is read instead. One that cannot be read is as bad as a wrong one. */
    walk.wrong = (error && error != CLYMQ_ENOENT) || walk.len % entry_size != 0;
    *ret_walk = walk;
    return 0;
}

static void index_walk_batch(struct index_walk *offsets, struct index_walk *times, int64_t base,
                             uint64_t position, const struct batch_header *header)
{
    uint32_t last = (uint32_t)(batch_last_offset(header) - base);
    if (!offsets->wrong && offsets->at < offsets->len) {
        uint64_t place = load_be32(offsets->data + offsets->at + 4);
        if (place == position && load_be32(offsets->data + offsets->at) == last)
            offsets->at += offsets->entry_size;
        else if (place <= position)
            offsets->wrong = true;
    }
    if (!times->wrong && times->at < times->len) {
        uint32_t entry_last = load_be32(times->data + times->at + 8);
        if (entry_last == last && (int64_t)load_be64(times->data + times->at) == header->max_timestamp_ms)
            times->at += times->entry_size;
        else if (entry_last <= last)
            times->wrong = true;
    }
}

static void index_walk_end(struct check *check, struct index_walk *walk, int64_t base, const char *suffix)
{
    size_t at = walk->at;
    bool wrong = walk->wrong || at < walk->len; /* entries that no batch answers to */
    mem_free(walk->data);
    *walk = (struct index_walk){0};
    if (!wrong)
        return;
    char path[SEGMENT_PATH_MAX];
    segment_path(path, check->dir, base, suffix);
    bool repaired = check->options->repair_indexes && io_fs_unlink(check->fs, path) == 0;
    find(check, FSCK_WRONG_INDEX, path, at, -1, repaired,
         repaired ? "does not match its log; removed, the server makes it again from the log"
                  : "does not match its log; harmless, the server makes it again from the log");
}

/* ---- logs ---- */

static void tell_stop(struct check *check, const char *path, int64_t base, bool last_segment,
                      const struct segment_scan *scan, int error)
{
    struct log_point here = {.base = base, .position = (uint32_t)scan->position};
    uint64_t rest = scan->size - scan->position;
    if (error != CLYMQ_EBATCH)
        find(check, FSCK_UNREADABLE, path, scan->position, check->expected, false, "cannot be read: %s",
             error_sentence(error));
    else if (last_segment && (!check->entry || log_point_compare(&here, &check->entry->mark) >= 0))
        find(check, FSCK_TORN_TAIL, path, scan->position, check->expected, false,
             "%" PRIu64 " bytes of an unfinished write at the end; never acknowledged, cut at the next start",
             rest);
    else
        find(check, FSCK_DAMAGED_LOG, path, scan->position, check->expected, false,
             "damaged: what lies here is not the batch of offset %" PRId64
             "; messages from there on are not served. Restore the folder from a backup",
             check->expected);
}

/* Checks one segment. false: the block cannot be followed beyond it. */
static int check_segment(struct check *check, int64_t base, bool last_segment, bool *ret_whole)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, check->dir, base, ".log");
    struct segment_scan scan;
    struct index_walk offsets = {0}, times = {0};
    int error = segment_scan_begin(check->fs, path, &scan);
    if (error == CLYMQ_ENOMEM)
        return error;
    check->totals.segments++;
    if (error) {
        find(check, FSCK_UNREADABLE, path, 0, base, false, "cannot be opened: %s", error_sentence(error));
        *ret_whole = false;
        return 0;
    }
    error = index_walk_begin(check, base, ".index", 8, &offsets);
    if (!error)
        error = index_walk_begin(check, base, ".timeindex", 12, &times);
    while (!error) {
        struct batch_header header;
        struct bytes batch;
        uint64_t position = scan.position;
        error = segment_scan_next(&scan, &header, &batch);
        bool follows = header.base_offset >= base && header.leader_epoch >= check->epoch &&
                       (check->expected < 0 || header.base_offset == check->expected);
        if (!error && !follows) {
            /* Offset and epoch are outside of the checksum: that they go on is what proves them. */
            scan.position = position;
            error = CLYMQ_EBATCH;
        }
        if (error)
            break;
        index_walk_batch(&offsets, &times, base, position, &header);
        check->totals.batches++;
        check->totals.records += (uint64_t)header.record_count;
        check->totals.bytes += header.size;
        check->expected = batch_last_offset(&header) + 1;
        check->epoch = header.leader_epoch;
    }
    *ret_whole = error == CLYMQ_ENOENT;
    if (error != CLYMQ_ENOENT && error != CLYMQ_ENOMEM)
        tell_stop(check, path, base, last_segment, &scan, error);
    if (*ret_whole) {
        index_walk_end(check, &offsets, base, ".index");
        index_walk_end(check, &times, base, ".timeindex");
    }
    mem_free(offsets.data);
    mem_free(times.data);
    segment_scan_end(&scan);
    if (check->options->on_progress)
        check->options->on_progress(check->options->ctx, &check->totals);
    return error == CLYMQ_ENOMEM ? error : 0;
}

/* ---- blocks ---- */

/* The number in "<20 digits><suffix>"; -1 where the name is another. */
static int64_t number_of(const char *name, const char *suffix)
{
    if (strlen(name) != 20 + strlen(suffix) || strcmp(name + 20, suffix) != 0)
        return -1;
    int64_t number = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || number > (INT64_MAX - 9) / 10)
            return -1;
        number = number * 10 + (name[i] - '0');
    }
    return number;
}

static void check_snapshot(struct check *check, int64_t offset)
{
    struct snapshot snapshot;
    int error = snapshot_read(check->fs, check->dir, offset, &snapshot);
    if (!error) {
        mem_free(snapshot.data);
        return;
    }
    char path[SEGMENT_PATH_MAX];
    segment_path(path, check->dir, offset, ".snapshot");
    find(check, FSCK_WRONG_SNAPSHOT, path, 0, offset, false,
         "unusable: %s; harmless, the producer table is read from the log", error_sentence(error));
}

/* Segments are named by the offset behind the last one of the segment before, so a missing one shows. */
static int check_segments(struct check *check, const int64_t *bases, size_t count)
{
    const struct state_entry *entry = check->entry;
    check->expected = -1;
    check->epoch = -1;
    if (entry && (count == 0 || bases[0] > entry->start))
        find(check, FSCK_MISSING_LOG, check->dir, 0, entry->start, false,
             "no segment holds offset %" PRId64 ", which the state files know of", entry->start);
    for (size_t i = 0; i < count; i++) {
        bool whole;
        if (i > 0 && bases[i] != check->expected) {
            find(check, FSCK_MISSING_LOG, check->dir, 0, check->expected, false,
                 "a segment is missing between offsets %" PRId64 " and %" PRId64, check->expected, bases[i]);
            return 0;
        }
        /* A gap may lie before a segment's first batch, and nowhere else. */
        check->expected = -1;
        int64_t before = bases[i];
        int error = check_segment(check, bases[i], i + 1 == count, &whole);
        if (error)
            return error;
        if (!whole)
            return 0;
        if (check->expected < 0)
            check->expected = before;
    }
    struct log_point mark = entry ? entry->mark : (struct log_point){0};
    if (entry && count > 0 && check->expected < mark.offset)
        find(check, FSCK_MISSING_LOG, check->dir, 0, check->expected, false,
             "ends at offset %" PRId64 ", but everything up to %" PRId64 " had been on disk", check->expected,
             mark.offset);
    return 0;
}

static int check_block(struct check *check, const struct block_key *key)
{
    char **names;
    size_t count, base_count = 0;
    block_dir(key, check->dir);
    check->entry = state_table_find(&check->table, key->id);
    check->totals.blocks++;
    int error = io_fs_list(check->fs, check->dir, &names, &count);
    if (error)
        return error;
    int64_t *bases = mem_calloc(count + 1, sizeof(*bases));
    for (size_t i = 0; bases && i < count; i++) { /* sorted by name, and so by number */
        int64_t number = number_of(names[i], ".log");
        if (number >= 0)
            bases[base_count++] = number;
        number = number_of(names[i], ".snapshot");
        if (number >= 0)
            check_snapshot(check, number);
    }
    io_fs_free_names(names, count);
    if (!bases)
        return CLYMQ_ENOMEM;
    if (check->entry && check->entry->error)
        find(check, FSCK_FAILED_BLOCK, check->dir, 0, check->entry->damaged_offset, false,
             "failed in an earlier run: %s", error_sentence(check->entry->error));
    error = check_segments(check, bases, base_count);
    mem_free(bases);
    return error;
}

/* Blocks that the state files know of and the folder does not hold. */
static void check_missing_blocks(struct check *check, const struct block_key *keys, size_t count)
{
    size_t at = 0;
    struct map_entry *known;
    while ((known = map_next(check->table.entries, &at)) != NULL) {
        const struct state_entry *entry = known->value;
        bool there = false;
        for (size_t i = 0; i < count && !there; i++)
            there = uuid_equal(keys[i].id, entry->key.id);
        if (there)
            continue;
        char dir[BLOCK_DIR_MAX];
        block_dir(&entry->key, dir);
        find(check, FSCK_MISSING_LOG, dir, 0, entry->start, false,
             "the state files know this block and its folder is not there");
    }
}

static int check_format(struct io_fs *fs)
{
    static const char expected[] = "clymq-data 1\n", prefix[] = "clymq-data ";
    uint8_t *data;
    size_t len;
    int error = io_fs_read_file(fs, "FORMAT", 4096, &data, &len);
    if (error)
        return error;
    if (len < sizeof(prefix) - 1 || memcmp(data, prefix, sizeof(prefix) - 1) != 0)
        error = CLYMQ_ECORRUPT;
    else if (len != sizeof(expected) - 1 || memcmp(data, expected, len) != 0)
        error = CLYMQ_EFORMAT;
    mem_free(data);
    return error;
}

int fsck_run(struct io_fs *fs, const struct fsck_options *options, struct fsck_totals *ret_totals)
{
    assert(options->on_finding);
    struct check check = {.fs = fs, .options = options};
    struct io_file *lock;
    struct block_key *keys = NULL;
    size_t count = 0;
    int error = check_format(fs);
    if (error)
        return error;
    error = io_fs_lock(fs, "LOCK", &lock);
    if (error)
        return error;
    error = state_table_load(fs, false, &check.table);
    if (!error && check.table.damaged > 0)
        find(&check, FSCK_WRONG_STATE, "state", 0, -1, false,
             "%" PRIu32 " places could not be read; harmless after a crash: older marks count",
             check.table.damaged);
    if (!error)
        error = block_list(fs, &keys, &count);
    if (error == CLYMQ_ENOENT) /* no topic yet */
        error = 0;
    for (size_t i = 0; i < count && !error; i++)
        error = check_block(&check, &keys[i]);
    if (!error)
        check_missing_blocks(&check, keys, count);
    mem_free(keys);
    state_table_free(&check.table);
    io_file_close(lock);
    *ret_totals = check.totals;
    return error;
}
