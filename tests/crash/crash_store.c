/* Random operations on a few blocks with crashes at any disk operation, failing syncs and writes, a full
 * disk, and flipped bits, checked against a model in memory. A run follows from its seed.
 *
 *   crash_store --seeds 1-400        every seed must pass
 *   crash_store --seed 17 --verbose  one, telling what it does
 *   crash_store --control NAME …     one protection is off: at least one of the seeds must fail, or the
 * checker is blind
 *
 * What is checked after every restart: what was told durable is there byte for byte; what is there is a
 * prefix of what was appended, so that nothing refused is back; the owner's state fits; damage is reported
 * unless none was done. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>

#include "base/log.h"
#include "crash/crash_model.h"
#include "store/fsck.h"

enum { BLOCKS = 3, OPERATIONS = 120 };
enum control { CONTROL_NONE, CONTROL_IGNORE_SYNC, CONTROL_IGNORE_MARK, CONTROL_RETRY_SYNC };

/* The simulated disk, watched for failed syncs of folders. File systems answer such a failure by going
 * read-only until they are mounted again; the simulated disk goes on, with the entries lost for good. So a
 * restart by power loss follows. */
struct watched_fs {
    struct io_fs base;
    struct io_fs_ops ops;
    struct io_fs *inner;
    bool folder_sync_failed;
};

struct creation {
    struct block_creation base;
    int result; /* 1 = not told */
};

struct run {
    struct rig rig;
    struct watched_fs fs;
    struct rng rng;
    uint64_t seed, next_content;
    enum control control;
    bool verbose;
    bool flips;         /* this seed flips bits */
    bool was_flipped;   /* ever */
    char found[256];    /* by the offline check */
    bool state_flipped; /* since the last start: marks may be lost */
    bool power_loss;    /* in the last crash */
    bool reopening;
    bool was_faulty; /* at some time since the last start */
    bool faulty;     /* faults are drawn now */
    uint32_t next_seq;
    struct model models[BLOCKS];
    struct store_faults faults;
    struct block_range range; /* being checked, and its bytes: released here when a check fails */
    uint8_t *data;
    struct buf *batch; /* being appended */
    struct creation creation;
    jmp_buf failed;
    char why[256];
};

__attribute__((noreturn, format(printf, 2, 3))) static void fail(struct run *run, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(run->why, sizeof(run->why), format, args);
    va_end(args);
    longjmp(run->failed, 1);
}

#define CHECK(run, condition, ...)                                                                           \
    do {                                                                                                     \
        if (!(condition))                                                                                    \
            fail(run, __VA_ARGS__);                                                                          \
    } while (0)

#define TELL(run, ...)                                                                                       \
    do {                                                                                                     \
        if ((run)->verbose) {                                                                                \
            printf("  " __VA_ARGS__);                                                                        \
            printf("\n");                                                                                    \
        }                                                                                                    \
    } while (0)

static struct io_fs *inner(struct io_fs *fs)
{
    return CONTAINER_OF(fs, struct watched_fs, base)->inner;
}

static int watched_open(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    return io_fs_open(inner(fs), path, flags, ret_file);
}

static int watched_rename(struct io_fs *fs, const char *from, const char *to)
{
    return io_fs_rename(inner(fs), from, to);
}

static int watched_unlink(struct io_fs *fs, const char *path)
{
    return io_fs_unlink(inner(fs), path);
}

static int watched_make_dir(struct io_fs *fs, const char *path)
{
    return io_fs_make_dir(inner(fs), path);
}

static int watched_remove_dir(struct io_fs *fs, const char *path)
{
    return io_fs_remove_dir(inner(fs), path);
}

static int watched_list(struct io_fs *fs, const char *path, char ***ret_names, size_t *ret_count)
{
    return io_fs_list(inner(fs), path, ret_names, ret_count);
}

static int watched_space(struct io_fs *fs, uint64_t *ret_free, uint64_t *ret_total)
{
    return io_fs_space(inner(fs), ret_free, ret_total);
}

static int watched_lock(struct io_fs *fs, const char *path, struct io_file **ret_lock)
{
    return io_fs_lock(inner(fs), path, ret_lock);
}

static int watched_sync_dir(struct io_fs *fs, const char *path)
{
    int error = io_fs_sync_dir(inner(fs), path);
    if (error && error != CLYMQ_ENOENT)
        CONTAINER_OF(fs, struct watched_fs, base)->folder_sync_failed = true;
    return error;
}

static void watch(struct run *run)
{
    struct watched_fs *fs = &run->fs;
    fs->inner = sim_process_fs(run->rig.process);
    fs->ops = (struct io_fs_ops){.open = watched_open,
                                 .rename = watched_rename,
                                 .unlink = watched_unlink,
                                 .make_dir = watched_make_dir,
                                 .remove_dir = watched_remove_dir,
                                 .sync_dir = watched_sync_dir,
                                 .list = watched_list,
                                 .space = watched_space,
                                 .lock = watched_lock};
    fs->base.ops = &fs->ops;
    run->rig.fs = &fs->base;
}

static bool trace; /* tell what the owners of blocks are told */

static bool alive(struct run *run)
{
    return sim_process_alive(run->rig.process);
}

/* ---- the owner of a block ---- */

static void on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct model *model = ctx;
    if (trace)
        printf("    %u durable up to %" PRId64 ", %s\n", model->key.partition, durable_end,
               error_name(error));
    if (error) {
        model->failed = true;
        return;
    }
    model->mark_behind = model->faulty; /* or else the mark was written before this was told */
    if (durable_end > model->durable)
        model->durable = durable_end;
}

static int on_recover(void *ctx, const struct batch_header *header, struct bytes batch)
{
    struct model *model = ctx;
    if (model->sum_end < 0) { /* nothing was loaded */
        model->sum_partial = header->base_offset != model->created_at;
        model->sum = 0;
        model->sum_end = header->base_offset;
    }
    if (trace)
        printf("    recovery tells %u of %" PRId64 "\n", model->key.partition, header->base_offset);
    if (header->base_offset < model->sum_end)
        model->sum_repeated = true;
    model->sum = model_fold(model->sum, header->base_offset, header->crc);
    model->sum_end = batch_last_offset(header) + 1;
    return 0;
}

static void on_snapshot_save(void *ctx, struct strbuf *state)
{
    struct model *model = ctx;
    if (model->sum_end == model->created_at)
        return; /* empty */
    if (trace)
        printf("    snapshot of %u as of %" PRId64 "\n", model->key.partition, model->sum_end);
    strbuf_append(state, &model->sum, sizeof(model->sum));
    strbuf_append(state, &model->sum_end, sizeof(model->sum_end));
    strbuf_append(state, &model->sum_partial, sizeof(model->sum_partial));
}

static int on_snapshot_load(void *ctx, struct bytes state)
{
    struct model *model = ctx;
    if (state.len != 17)
        return CLYMQ_ECORRUPT;
    memcpy(&model->sum, state.ptr, 8);
    memcpy(&model->sum_end, state.ptr + 8, 8);
    memcpy(&model->sum_partial, state.ptr + 16, 1);
    if (trace)
        printf("    snapshot of %u loaded, as of %" PRId64 "\n", model->key.partition, model->sum_end);
    return 0;
}

static struct block_events events_of(struct model *model)
{
    return (struct block_events){.on_durable = on_durable,
                                 .on_recover = on_recover,
                                 .on_snapshot_save = on_snapshot_save,
                                 .on_snapshot_load = on_snapshot_load,
                                 .ctx = model};
}

/* ---- checking ---- */

static void release_range(struct run *run)
{
    free(run->data);
    run->data = NULL;
    block_range_release(&run->range);
}

/* Told durable without a sync, and then a sync failed: the page cache may have dropped it. */
static bool may_be_lost(const struct run *run, const struct model *model)
{
    return model->failed && run->rig.config.fsync != STORE_FSYNC_COMMIT;
}

/* Reads one range and compares it with the model. Returns the next offset. Errors are allowed where bits were
 * flipped or faults are drawn. */
static int64_t check_range(struct run *run, struct model *model, int64_t offset, int64_t limit,
                           size_t max_bytes)
{
    int error = block_read(model->block, offset, limit, max_bytes, &run->range);
    if (error) {
        CHECK(run, run->faulty || model->damaged || model->told_damaged || !alive(run),
              "partition %u: reading offset %" PRId64 ": %s", model->key.partition, offset,
              error_name(error));
        return -1;
    }
    struct block_range range = run->range;
    CHECK(run, range.len > 0, "partition %u: nothing at offset %" PRId64 " below %" PRId64,
          model->key.partition, offset, limit);
    uint8_t *data = run->data = malloc(range.len);
    ssize_t got = io_file_pread(range.file, data, range.len, range.position);
    size_t i = 0;
    while (i < model->count && model->batches[i].last < offset)
        i++;
    size_t at = 0;
    if (got == (ssize_t)range.len)
        CHECK(run, range.first_offset == model->batches[i].first || model->damaged,
              "partition %u: range at %" PRId64 " says first offset %" PRId64, model->key.partition, offset,
              range.first_offset);
    while (got == (ssize_t)range.len && at < range.len) {
        struct batch_header header;
        int bad = batch_check(bytes_of(data + at, range.len - at), UINT32_MAX, &header);
        if (!bad && at > 0 && header.base_offset != offset)
            bad = CLYMQ_EBATCH; /* within a range offsets are contiguous: a receiver can check that */
        if (bad && (model->damaged || may_be_lost(run, model)))
            break;
        CHECK(run, !bad, "partition %u: bad batch served at offset %" PRId64, model->key.partition, offset);
        const struct model_batch *want = i < model->count ? &model->batches[i] : NULL;
        if (model->damaged && want && header.base_offset != want->first)
            break; /* a flipped base offset in the first batch */
        CHECK(run, want && want->bytes->len == header.size, "partition %u: another batch at offset %" PRId64,
              model->key.partition, offset);
        /* The epoch is outside the checksum. */
        size_t skip = model->damaged ? 16 : 0;
        CHECK(run, memcmp(data + at + skip, want->bytes->data + skip, header.size - skip) == 0,
              "partition %u: other bytes at offset %" PRId64, model->key.partition, offset);
        CHECK(run, header.base_offset < limit, "partition %u: offset %" PRId64 " beyond the limit",
              model->key.partition, header.base_offset);
        offset = batch_last_offset(&header) + 1;
        at += header.size;
        i++;
    }
    bool whole = at == range.len;
    release_range(run);
    CHECK(run, whole || run->faulty || model->damaged || may_be_lost(run, model) || !alive(run),
          "partition %u: range not readable", model->key.partition);
    return whole ? offset : -1;
}

static void check_all(struct run *run, struct model *model)
{
    int64_t offset = block_start(model->block), end = block_end(model->block);
    size_t max_bytes = 1 + rng_below(&run->rng, 6000);
    while (offset >= 0 && offset < end)
        offset = check_range(run, model, offset, end, max_bytes);
}

static void check_time(struct run *run, struct model *model)
{
    int64_t start = block_start(model->block), end = block_end(model->block);
    int64_t time_ms = (int64_t)rng_below(&run->rng, (uint64_t)model->next_time_ms + 10);
    int64_t want = -1;
    for (size_t i = 0; i < model->count && want < 0; i++) {
        const struct model_batch *batch = &model->batches[i];
        for (int k = 0; k < batch->count && want < 0; k++) {
            if (batch->first + k >= start && batch->first + k < end && batch->time_ms + k >= time_ms)
                want = batch->first + k;
        }
    }
    int64_t found = -1, found_ms;
    int error = block_find_time(model->block, time_ms, end, &found, &found_ms);
    if (error && error != CLYMQ_ENOENT) {
        CHECK(run, run->faulty || model->damaged || model->told_damaged || !alive(run),
              "partition %u: finding time: %s", model->key.partition, error_name(error));
        return;
    }
    if (model->damaged || model->told_damaged || run->faulty || !alive(run))
        return;
    CHECK(run, want == (error ? -1 : found),
          "partition %u: time %" PRId64 " found at %" PRId64 ", not %" PRId64, model->key.partition, time_ms,
          error ? -1 : found, want);
}

/* After a restart: what is there must be a prefix of what was appended, with all that was told durable. */
static void check_recovered(struct run *run, struct model *model, const struct block_recovery *recovery)
{
    /* Without a sync per commit a power loss, and a failed sync, may take what was told. */
    bool relaxed = run->rig.config.fsync != STORE_FSYNC_COMMIT && (run->power_loss || run->was_faulty);
    /* A power loss may take the newest marks, and then damage behind an older mark looks like a torn tail. */
    relaxed |= model->damaged && model->mark_behind;
    relaxed |= model->damaged &&
               (run->power_loss || run->state_flipped || run->rig.config.fsync != STORE_FSYNC_COMMIT);
    int64_t end = block_end(model->block);
    unsigned partition = model->key.partition;
    if (recovery->damaged) {
        CHECK(run, model->damaged || run->state_flipped || model->told_damaged,
              "partition %u: damage reported that nobody did, at %" PRId64, partition,
              recovery->damaged_offset);
        model->told_damaged = true;
    }
    size_t keep = 0;
    while (keep < model->count && model->batches[keep].last < end)
        keep++;
    if (!recovery->damaged) {
        bool at_batch = keep == 0 ? end == model->created_at : end == model->batches[keep - 1].last + 1;
        if (!at_batch && model->damaged) { /* a flipped base offset before which a gap may be */
            model->told_damaged = true;
            return;
        }
        CHECK(run, keep == 0 ? end == model->created_at : end == model->batches[keep - 1].last + 1,
              "partition %u: ends at %" PRId64 ", no batch does", partition, end);
        CHECK(run, relaxed || end >= model->durable,
              "partition %u: durable up to %" PRId64 ", recovered only to %" PRId64, partition,
              model->durable, end);
        model_cut(model, keep);
        CHECK(run,
              model->sum_partial || model->sum_end == end ||
                  (model->sum_end < 0 && end == model->created_at) || model->sum_end < 0,
              "partition %u: owner's state as of %" PRId64 ", not %" PRId64, partition, model->sum_end, end);
        if (model->sum_end < 0) { /* neither a snapshot nor a batch */
            CHECK(run, end == model->created_at || block_start(model->block) == end,
                  "partition %u: owner was told nothing", partition);
            model->sum = 0;
            model->sum_end = end;
            model->sum_partial = end != model->created_at;
        }
        CHECK(run, model->sum_partial || model->sum == model_sum(model, end),
              "partition %u: owner's state is wrong", partition);
    }
    int64_t start = block_start(model->block);
    CHECK(run, start <= model->asked_start && (start >= model->start || run->state_flipped),
          "partition %u: starts at %" PRId64 ", not in %" PRId64 "-%" PRId64, partition, start, model->start,
          model->asked_start);
    if (!run->reopening) /* the start of a run makes durable what the state files say */
        model->start = model->asked_start = start;
    CHECK(run, !model->sealed || block_is_sealed(model->block) || run->state_flipped,
          "partition %u: no longer sealed", partition);
    model->sealing = block_is_sealed(model->block);
    model->sealed =
        model->sealing && !run->reopening; /* the start of a run makes durable what the state files say */
    model->failed = recovery->damaged;
    model->mark_behind |= run->power_loss;
    if (relaxed || recovery->damaged)
        model->durable = block_durable_end(model->block);
    check_all(run, model);
    for (int i = 0; i < 3; i++)
        check_time(run, model);
}

/* ---- operations ---- */

static void set_faults(struct run *run, bool on)
{
    struct sim_disk_faults faults = {.ignore_sync = run->control == CONTROL_IGNORE_SYNC};
    if (on) {
        faults.eio_read_ppm = rng_chance(&run->rng, 1, 4) ? 20000 : 0;
        faults.eio_write_ppm = rng_chance(&run->rng, 1, 2) ? 30000 : 0;
        faults.eio_sync_ppm = rng_chance(&run->rng, 1, 2) || run->control == CONTROL_RETRY_SYNC ? 100000 : 0;
        faults.enospc_write_ppm = rng_chance(&run->rng, 1, 2) ? 100000 : 0;
        faults.short_write_ppm = rng_chance(&run->rng, 1, 2) ? 30000 : 0;
    }
    run->faulty = on;
    run->was_faulty |= on;
    for (int i = 0; i < BLOCKS; i++)
        run->models[i].faulty = on;
    sim_process_set_disk_faults(run->rig.process, &faults);
}

static void creation_done(struct block_creation *base, int error)
{
    CONTAINER_OF(base, struct creation, base)->result = error;
}

/* Among those of a group, then opened. */
static int create_later(struct run *run, struct model *model)
{
    struct block_events events = events_of(model);
    run->creation = (struct creation){
        .base = {.key = model->key, .start_offset = model->created_at, .done = creation_done}, .result = 1};
    block_create_later(run->rig.store, &run->creation.base);
    rig_wait(&run->rig, &run->creation.result);
    if (!alive(run))
        return CLYMQ_EIO;
    CHECK(run, run->creation.result != 1, "creating does not end");
    if (run->creation.result)
        return run->creation.result;
    bool was_faulty = run->faulty;
    set_faults(run, false);
    int error = block_open(run->rig.store, &model->key, &events, &model->block, NULL);
    CHECK(run, !error || !alive(run), "created and not opened: %s", error_name(error));
    if (was_faulty)
        set_faults(run, true);
    return error;
}

static void create(struct run *run, struct model *model)
{
    struct block_key key = rig_key(model->key.partition);
    key.seq = run->next_seq++;
    key.id.byte[4] = (uint8_t)key.seq;
    key.id.byte[5] = (uint8_t)(key.seq >> 8);
    model_clear(model);
    model->key = key;
    model->created_at = rng_chance(&run->rng, 1, 2) ? 0 : (int64_t)rng_below(&run->rng, 1000000);
    model->start = model->asked_start = model->durable = model->sum_end = model->created_at;
    model->maybe = true;
    struct block_events events = events_of(model);
    int error = rng_chance(&run->rng, 1, 2)
                    ? create_later(run, model)
                    : block_create(run->rig.store, &key, model->created_at, &events, &model->block);
    TELL(run, "create %u/%u at %" PRId64 ": %s", key.partition, key.seq, model->created_at,
         error_name(error));
    if (!error) {
        model->exists = true;
        model->maybe = false;
    } else {
        model->block = NULL;
        CHECK(run, run->faulty || !alive(run) || store_is_full(run->rig.store), "creating: %s",
              error_name(error));
        if (alive(run))
            model->maybe = false;
    }
}

static void append(struct run *run, struct model *model)
{
    int count = 1 + (int)rng_below(&run->rng, 5);
    size_t len = rng_below(&run->rng, rng_chance(&run->rng, 1, 8) ? 6000 : 300);
    int64_t offset = block_end(model->block);
    if (rng_chance(&run->rng, 1, 30))
        offset += 1 + (int64_t)rng_below(&run->rng, 50);
    int64_t time_ms = model->next_time_ms + (int64_t)rng_below(&run->rng, 20) - 5;
    if (time_ms < 0)
        time_ms = 0;
    struct buf *batch = run->batch = rig_batch(offset, (int32_t)(offset / 500), count, len,
                                               run->seed * 100000 + run->next_content++, time_ms);
    bool was_failed = block_error(model->block) != 0;
    bool was_sealed = block_is_sealed(model->block);
    int error = rig_append_buf(model->block, batch);
    TELL(run, "append %u/%u at %" PRId64 ", %zu bytes: %s", model->key.partition, model->key.seq, offset,
         batch->len, error_name(error));
    bool unknown = !alive(run) || (error == CLYMQ_ELOG_FAILED && !was_failed);
    if (!error || unknown) {
        model_add(model, batch, count, time_ms);
        if (time_ms + count > model->next_time_ms)
            model->next_time_ms = time_ms + count;
    }
    if (!error && alive(run)) {
        struct model_batch *added = &model->batches[model->count - 1];
        struct batch_header header;
        batch_check(bytes_of(batch->data, batch->len), UINT32_MAX, &header);
        if (!model->sum_partial && model->sum_end == model->created_at && model->count == 1)
            model->sum = 0;
        model->sum = model_fold(model->sum, added->first, header.crc);
        model->sum_end = added->last + 1;
    }
    if (error == CLYMQ_EINVAL && model->damaged && !was_sealed) {
        model->told_damaged = true; /* a flipped epoch of the last batch */
    } else if (error && alive(run)) {
        bool expected = (was_failed && error == CLYMQ_ELOG_FAILED) || (was_sealed && error == CLYMQ_EINVAL) ||
                        run->faulty || (error == CLYMQ_ENOSPC && store_is_full(run->rig.store)) ||
                        (error == CLYMQ_ELOG_FAILED && unknown && model->failed);
        CHECK(run, expected, "partition %u: append refused: %s", model->key.partition, error_name(error));
    }
    buf_unref(batch);
    run->batch = NULL;
}

static void sealed_done(void *ctx, struct block *block, int error)
{
    struct model *model = ctx;
    model->sealed = !error;
}

static void open_all(struct run *run);

static void flip_one(struct run *run, struct io_fs *fs, const char *dir, struct model *model)
{
    char **names;
    size_t count;
    if (io_fs_list(fs, dir, &names, &count))
        return;
    if (count > 0) {
        const char *name = names[rng_below(&run->rng, count)];
        char path[256];
        snprintf(path, sizeof(path), "%s/%s", dir, name);
        struct io_file *file;
        uint64_t size = 0;
        if (io_fs_open(fs, path, IO_OPEN_READ, &file) == 0) {
            io_file_size(file, &size);
            io_file_close(file);
        }
        size_t len = strlen(name);
        bool is_log = len > 4 && strcmp(name + len - 4, ".log") == 0;
        if (size > 0) {
            /* Mostly near the end, where recovery looks. */
            uint64_t from = rng_chance(&run->rng, 2, 3) && size > 1500 ? size - 1500 : 0;
            sim_process_flip_bits(run->rig.process, path, from, size - from,
                                  1 + (unsigned)rng_below(&run->rng, 3));
            run->was_flipped = true;
            TELL(run, "flip bits of %s behind %" PRIu64, path, from);
            if (is_log && model)
                model->damaged = true;
            if (model && len > 9 && strcmp(name + len - 9, ".snapshot") == 0)
                model->snapshot_flipped = true;
            if (!model)
                run->state_flipped = true;
        }
    }
    io_fs_free_names(names, count);
}

static void flip(struct run *run)
{
    struct io_fs *fs = sim_process_fs(run->rig.process);
    if (rng_chance(&run->rng, 1, 6)) {
        flip_one(run, fs, "state", NULL);
        return;
    }
    struct model *model = &run->models[rng_below(&run->rng, BLOCKS)];
    if (!model->exists || model->damaged)
        return;
    char topic[33], dir[128];
    uuid_format(model->key.topic, topic);
    snprintf(dir, sizeof(dir), "data/%s/%u/%u", topic, model->key.partition, model->key.seq);
    flip_one(run, fs, dir, model);
}

static void forget_open(struct run *run)
{
    for (int i = 0; i < BLOCKS; i++)
        run->models[i].block = NULL;
}

static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    struct run *run = ctx;
    if (fsck_is_damage(finding->kind))
        snprintf(run->found, sizeof(run->found), "%s, byte %" PRIu64 ": %s", finding->path, finding->position,
                 finding->sentence);
}

/* Whatever a crash left, the offline check finds no damage in it, unless bits were flipped. */
static void check_offline(struct run *run)
{
    struct fsck_options options = {.on_finding = on_finding, .ctx = run};
    struct fsck_totals totals = {0};
    run->found[0] = '\0';
    int error = fsck_run(run->rig.fs, &options, &totals);
    CHECK(run, !error || error == CLYMQ_ENOENT, "offline check: %s", error_name(error));
    CHECK(run, !run->found[0] || run->was_flipped, "offline check: %s", run->found);
}

/* The process is down, its structs still there. */
static void come_back(struct run *run)
{
    if (run->rig.loop)
        rig_drop(&run->rig);
    if (!alive(run))
        sim_process_restart(run->rig.process);
    forget_open(run);
    run->fs.folder_sync_failed = false;
    sim_process_crash_at_op(run->rig.process, 0, NULL, NULL);
    set_faults(run, false);
    if (run->flips && rng_chance(&run->rng, 1, 4))
        flip(run);
    else if (rng_chance(&run->rng, 1, 3))
        check_offline(run);
    open_all(run);
}

static void crash(struct run *run, bool power_loss)
{
    if (!alive(run)) {
        run->power_loss = true;
    } else {
        power_loss |= run->fs.folder_sync_failed;
        TELL(run, "%s", power_loss ? "power loss" : "kill");
        run->power_loss = power_loss;
        sim_process_crash(run->rig.process, power_loss);
    }
    come_back(run);
}

static void stop(struct run *run)
{
    set_faults(run, false);
    int result = 1;
    store_stop(run->rig.store, rig_stopped, &result);
    rig_wait(&run->rig, &result);
    TELL(run, "clean stop: %s", result == 1 ? "crashed" : error_name(result));
    if (!alive(run)) {
        crash(run, true);
        return;
    }
    bool failed = false;
    for (int i = 0; i < BLOCKS; i++)
        failed |= run->models[i].failed;
    CHECK(run, result == 0 || (failed && result < 0), "the stop %s",
          result == 1 ? "did not end" : error_name(result));
    for (int i = 0; i < BLOCKS; i++) {
        struct model *model = &run->models[i];
        if (model->exists && !model->failed && model->block)
            CHECK(run, model->durable == block_end(model->block), "partition %u: not durable after the stop",
                  i);
    }
    /* After a clean stop a power loss takes nothing. */
    run->power_loss = rng_chance(&run->rng, 1, 2) || run->fs.folder_sync_failed;
    sim_process_crash(run->rig.process, run->power_loss);
    come_back(run);
}

static void open_one(struct run *run, struct model *model)
{
    struct block_events events = events_of(model);
    struct block_recovery recovery = {0};
    model->sum_end = -1;
    model->sum = 0;
    model->sum_partial = model->sum_repeated = false;
    int error = block_open(run->rig.store, &model->key, &events, &model->block, &recovery);
    TELL(run, "open %u/%u: %s, end %" PRId64 ", read %" PRIu64 ", cut %" PRIu64 "%s", model->key.partition,
         model->key.seq, error_name(error), error ? -1 : block_end(model->block), recovery.bytes_read,
         recovery.bytes_cut, recovery.damaged ? ", damaged" : "");
    if (error) {
        model->block = NULL;
        if (!alive(run))
            return;
        if (model->maybe && error == CLYMQ_ENOENT) {
            model_clear(model);
            return;
        }
        CHECK(run, run->faulty || (error == CLYMQ_ECORRUPT && run->state_flipped),
              "partition %u does not open: %s", model->key.partition, error_name(error));
        if (!run->faulty)
            model_clear(model); /* id and state file both damaged */
        return;
    }
    CHECK(run, !model->sum_repeated, "partition %u: recovery told of a batch twice", model->key.partition);
    bool maybe = model->maybe;
    model->maybe = false;
    model->exists = true;
    if (!alive(run))
        return;
    if (maybe && block_end(model->block) < model->durable) { /* a deletion that came half way */
        block_delete(model->block);
        model_clear(model);
        return;
    }
    bool was_faulty = run->faulty;
    if (was_faulty) {
        set_faults(run, false);
        model->sum_partial = true; /* the newest snapshot may have been unreadable */
    }
    if (model->snapshot_flipped && block_start(model->block) > model->created_at)
        model->sum_partial = true; /* what lies between the older snapshot and the log start is gone */
    check_recovered(run, model, &recovery);
}

static void die_later(struct run *run)
{
    uint64_t nth = 1 + rng_below(&run->rng, rng_chance(&run->rng, 1, 2) ? 10 : 80);
    TELL(run, "will crash at disk operation %" PRIu64 " from now", nth);
    sim_process_crash_at_op(run->rig.process, nth, NULL, NULL);
}

/* Starts the store and opens what exists, again if a crash comes meanwhile. */
static void open_all(struct run *run)
{
    for (;;) {
        if (rng_chance(&run->rng, 1, 5))
            die_later(run);
        bool faulty = rng_chance(&run->rng, 1, 8);
        set_faults(run, faulty);
        run->rig.config.faults = run->control != CONTROL_NONE ? &run->faults : NULL;
        int error = rig_start(&run->rig);
        if (error && alive(run))
            CHECK(run, run->faulty, "the folder does not open: %s", error_name(error));
        for (int i = 0; i < BLOCKS && !error && alive(run); i++) {
            if (run->models[i].exists || run->models[i].maybe)
                open_one(run, &run->models[i]);
        }
        bool missing = false;
        for (int i = 0; i < BLOCKS; i++)
            missing |= run->models[i].exists && !run->models[i].block;
        if (!error && alive(run) && !missing && !run->fs.folder_sync_failed)
            break;
        bool power_loss = !alive(run) || run->fs.folder_sync_failed;
        run->power_loss |= power_loss;
        run->fs.folder_sync_failed = false;
        if (alive(run))
            sim_process_crash(run->rig.process, power_loss);
        rig_drop(&run->rig);
        sim_process_restart(run->rig.process);
        forget_open(run);
        sim_process_crash_at_op(run->rig.process, 0, NULL, NULL);
    }
    set_faults(run, false);
    run->state_flipped = run->was_faulty = false;
}

static void run_for(struct run *run, uint64_t most_us)
{
    io_loop_wake(run->rig.loop);
    sim_world_run_for(run->rig.world, 1000 * (1 + rng_below(&run->rng, most_us)));
}

static void trim(struct run *run, struct model *model)
{
    int64_t low = block_start(model->block), high = block_durable_end(model->block);
    if (run->rig.config.fsync != STORE_FSYNC_COMMIT || high <= low)
        return;
    int64_t start = rng_between(&run->rng, low, high);
    if (rng_chance(&run->rng, 1, 2))
        start = block_retention_start(model->block, (int64_t)rng_below(&run->rng, 20000), -1,
                                      io_loop_wall_ms(run->rig.loop));
    if (!alive(run))
        return;
    if (start > model->asked_start)
        model->asked_start = start;
    int error = block_trim(model->block, start);
    TELL(run, "trim %u/%u to %" PRId64 ": %s", model->key.partition, model->key.seq, start,
         error_name(error));
    CHECK(run, !error || run->faulty || !alive(run) || model->failed, "trim: %s", error_name(error));
}

static void delete (struct run *run, struct model *model)
{
    model->maybe = true;
    model->exists = false;
    int error = block_delete(model->block);
    TELL(run, "delete %u/%u: %s", model->key.partition, model->key.seq, error_name(error));
    if (error && alive(run)) {
        CHECK(run, run->faulty, "delete: %s", error_name(error));
        model->maybe = false;
        model->exists = true;
        return;
    }
    model->block = NULL;
    if (alive(run) || error == 0) {
        uint32_t partition = model->key.partition;
        model_clear(model);
        model->key.partition = partition;
    }
}

static void reopen(struct run *run, struct model *model)
{
    block_close(model->block);
    model->block = NULL;
    bool was = run->power_loss;
    run->power_loss = false;
    run->reopening = true;
    open_one(run, model);
    run->power_loss = was;
    run->reopening = false;
    if (alive(run) && !model->block && model->exists)
        crash(run, false);
}

static void operate(struct run *run)
{
    struct model *model = &run->models[rng_below(&run->rng, BLOCKS)];
    uint64_t draw = rng_below(&run->rng, 1000);
    if (!model->exists) {
        create(run, model);
    } else if (model->told_damaged) {
        delete (run, model);
    } else if (draw < 550) {
        append(run, model);
    } else if (draw < 700) {
        run_for(run, 3000);
    } else if (draw < 770) {
        /* What a failed sync lost may be gone from memory too, even before anybody was told of it. */
        int64_t start = block_start(model->block);
        int64_t end =
            model->failed || run->was_faulty ? block_durable_end(model->block) : block_end(model->block);
        if (end > start)
            check_range(run, model, rng_between(&run->rng, start, end - 1), end,
                        1 + rng_below(&run->rng, 20000));
    } else if (draw < 800) {
        check_time(run, model);
    } else if (draw < 830) {
        trim(run, model);
    } else if (draw < 836) {
        model->sealing = true;
        TELL(run, "seal %u/%u", model->key.partition, model->key.seq);
        block_seal(model->block, sealed_done, model);
    } else if (draw < 842) {
        delete (run, model);
    } else if (draw < 850) {
        reopen(run, model);
    } else if (draw < 880) {
        TELL(run, "faults %s", run->faulty ? "off" : "on");
        set_faults(run, !run->faulty);
    } else if (draw < 920) {
        die_later(run);
    } else if (draw < 950) {
        stop(run);
    } else {
        crash(run, rng_chance(&run->rng, 2, 3));
    }
}

static void configure(struct run *run)
{
    struct store_config *config = &run->rig.config;
    config->segment_bytes = rng_between(&run->rng, 4096, 20000);
    config->index_interval_bytes = rng_between(&run->rng, 100, 1000);
    config->checkpoint_bytes = rng_between(&run->rng, 2000, 20000);
    config->max_open_files = 16;
    config->max_batch_bytes = 64 << 10;
    config->fsync_interval_ms = 5;
    config->sync_all_from = rng_chance(&run->rng, 1, 2) ? 1 : 8;
    config->small_syncs = rng_chance(&run->rng, 1, 2) ? 0 : 8;
    uint64_t policy = rng_below(&run->rng, 10);
    config->fsync = policy < 8 || run->control != CONTROL_NONE ? STORE_FSYNC_COMMIT
                    : policy == 8                              ? STORE_FSYNC_INTERVAL
                                                               : STORE_FSYNC_NEVER;
    TELL(run, "fsync policy %d", config->fsync);
    run->flips = rng_chance(&run->rng, 1, 3) || run->control == CONTROL_IGNORE_MARK;
    run->faults.ignore_mark = run->control == CONTROL_IGNORE_MARK;
    run->faults.retry_failed_sync = run->control == CONTROL_RETRY_SYNC;
}

/* false: a check failed, see run->why. */
static bool run_seed(struct run *run, uint64_t seed)
{
    run->seed = seed;
    rng_seed(&run->rng, seed);
    rig_init(&run->rig, seed);
    for (uint32_t i = 0; i < BLOCKS; i++)
        run->models[i].key.partition = i;
    bool passed = setjmp(run->failed) == 0;
    if (passed) {
        configure(run);
        watch(run);
        set_faults(run, false);
        open_all(run);
        for (int i = 0; i < OPERATIONS; i++) {
            if (!alive(run) || run->fs.folder_sync_failed)
                crash(run, true);
            operate(run);
        }
        if (!alive(run) || run->fs.folder_sync_failed)
            crash(run, true);
        stop(run);
        /* Told durable means nothing was lost even if all of it is taken away now. */
        crash(run, true);
    }
    release_range(run);
    buf_unref(run->batch);
    rig_free(&run->rig);
    for (uint32_t i = 0; i < BLOCKS; i++)
        model_clear(&run->models[i]);
    return passed;
}

static void print_log(void *ctx, enum log_level level, const char *line)
{
    printf("    %s\n", line);
}

static void drop_log(void *ctx, enum log_level level, const char *line)
{
}

int main(int argc, char **argv)
{
    uint64_t first = 1, last = 100;
    enum control control = CONTROL_NONE;
    bool verbose = false;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--verbose") == 0) {
            verbose = trace = true;
        } else if (strcmp(argv[i], "--seed") == 0 && i + 1 < argc) {
            first = last = strtoull(argv[++i], NULL, 10);
        } else if (strcmp(argv[i], "--seeds") == 0 && i + 1 < argc &&
                   sscanf(argv[i + 1], "%" SCNu64 "-%" SCNu64, &first, &last) == 2) {
            i++;
        } else if (strcmp(argv[i], "--control") == 0 && i + 1 < argc) {
            const char *name = argv[++i];
            control = strcmp(name, "ignore-sync") == 0   ? CONTROL_IGNORE_SYNC
                      : strcmp(name, "ignore-mark") == 0 ? CONTROL_IGNORE_MARK
                      : strcmp(name, "retry-sync") == 0  ? CONTROL_RETRY_SYNC
                                                         : CONTROL_NONE;
        } else {
            fprintf(
                stderr,
                "usage: crash_store [--seed N | --seeds A-B] [--control ignore-sync|ignore-mark|retry-sync] "
                "[--verbose]\n");
            return 2;
        }
    }
    if (verbose)
        log_configure(&(struct log_settings){.filter = "debug"});
    log_set_sink(verbose ? print_log : drop_log, NULL);
    unsigned failed = 0;
    for (uint64_t seed = first; seed <= last; seed++) {
        static struct run run;
        memset(&run, 0, sizeof(run));
        run.control = control;
        run.verbose = verbose;
        if (run_seed(&run, seed))
            continue;
        failed++;
        if (control == CONTROL_NONE)
            printf("seed %" PRIu64 " failed: %s\n", seed, run.why), fflush(stdout);
        else
            printf("caught with seed %" PRIu64 ": %s\n", seed, run.why);
        if (control != CONTROL_NONE)
            return 0;
    }
    if (control != CONTROL_NONE) {
        printf("not caught by seeds %" PRIu64 "-%" PRIu64 ": the checker is blind\n", first, last);
        return 1;
    }
    printf("crash_store: seeds %" PRIu64 "-%" PRIu64 ", %u failed\n", first, last, failed);
    return failed ? 1 : 0;
}
