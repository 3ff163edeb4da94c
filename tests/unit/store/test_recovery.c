/* Recovery: what is read, what is cut, what is reported; failed syncs and writes. Named cases; the crash test
 * draws the rest. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/checkpoint.h"
#include "store/fsck.h"
#include "store/index.h"
#include "store/store_impl.h"
#include "store_rig.h"

#define DIR "data/aabb0000000000000000000000000000/0/0"

static struct block *create(struct rig *rig, const struct block_events *events)
{
    struct block *block;
    struct block_key key = rig_key(0);
    assert_int_equal(block_create(rig->store, &key, 0, events, &block), 0);
    return block;
}

static struct block *reopen(struct rig *rig, const struct block_events *events,
                            struct block_recovery *ret_recovery)
{
    struct block *block;
    struct block_key key = rig_key(0);
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_open(rig->store, &key, events, &block, ret_recovery), 0);
    return block;
}

static uint64_t file_size(struct rig *rig, const char *path)
{
    struct io_file *file;
    uint64_t size;
    assert_int_equal(io_fs_open(rig->fs, path, IO_OPEN_READ, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    io_file_close(file);
    return size;
}

static void write_at_end(struct rig *rig, const char *path, const void *data, size_t len)
{
    struct io_file *file;
    uint64_t size = file_size(rig, path);
    assert_int_equal(io_fs_open(rig->fs, path, IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_pwrite(file, data, len, size), (int)len);
    assert_int_equal(io_file_sync(file), 0);
    io_file_close(file);
}

static void reads_only_what_follows_the_checkpoint(void **state)
{
    struct rig rig;
    rig_init(&rig, 3);
    rig.config.checkpoint_bytes = 64 << 10;
    rig.config.segment_bytes = 1 << 20;
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 400; i++) {
        assert_int_equal(rig_append(block, 1, 8000, (uint64_t)i), 0);
        if (i % 4 == 3)
            rig_settle(&rig);
    }
    rig_settle(&rig);
    int64_t end = block_end(block);
    assert_true(block_size(block) > 3000000);
    rig_crash(&rig, false);
    struct block_recovery recovery;
    block = reopen(&rig, NULL, &recovery);
    assert_int_equal(block_end(block), end);
    assert_int_equal(block_durable_end(block), end);
    assert_true(recovery.bytes_read <= (64 << 10) + 4 * 8192);
    struct strbuf all = {0};
    assert_int_equal(rig_read_all(block, 0, end, 100000, &all), 0);
    assert_int_equal(all.len, block_size(block));
    strbuf_free(&all);
    rig_free(&rig);
}

static void a_torn_tail_is_cut(void **state)
{
    struct rig rig;
    rig_init(&rig, 4);
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 10; i++)
        assert_int_equal(rig_append(block, 1, 300, (uint64_t)i), 0);
    rig_settle(&rig);
    int64_t end = block_end(block);
    rig_crash(&rig, false);
    struct buf *next = rig_batch(end, 0, 1, 300, 99, 5);
    write_at_end(&rig, DIR "/00000000000000000000.log", next->data, next->len / 2);
    struct block_recovery recovery;
    block = reopen(&rig, NULL, &recovery);
    assert_false(recovery.damaged);
    assert_int_equal(recovery.bytes_cut, next->len / 2);
    assert_int_equal(block_end(block), end);
    assert_int_equal(rig_append_buf(block, next), 0);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), end + 1);
    buf_unref(next);
    rig_free(&rig);
}

/* A whole batch behind the end does not continue the log if its offset is not the next one. Where it is, and
 * only the epoch goes back, one of the two epochs is damaged. */
static void stops_where_offset_or_epoch_do_not_follow(void **state)
{
    const struct {
        int64_t offset;
        int32_t epoch;
        bool follows;
    } cases[] = {{10, 7, true}, {10, 8, true}, {10, 6, false}, {9, 7, false}, {11, 7, false}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rig rig;
        rig_init(&rig, 5);
        assert_int_equal(rig_start(&rig), 0);
        struct block *block = create(&rig, NULL);
        struct buf *batch = rig_batch(0, 7, 10, 20, 1, 5);
        assert_int_equal(rig_append_buf(block, batch), 0);
        buf_unref(batch);
        rig_settle(&rig);
        rig_crash(&rig, false);
        batch = rig_batch(cases[i].offset, cases[i].epoch, 1, 20, 2, 5);
        write_at_end(&rig, DIR "/00000000000000000000.log", batch->data, batch->len);
        buf_unref(batch);
        struct block_recovery recovery;
        block = reopen(&rig, NULL, &recovery);
        bool damaged = cases[i].epoch < 7;
        assert_int_equal(recovery.damaged, damaged);
        assert_int_equal(block_end(block), cases[i].follows ? 11 : 10);
        assert_int_equal(recovery.bytes_cut > 0, !cases[i].follows && !damaged);
        rig_settle(&rig);
        assert_int_equal(block_durable_end(block), block_end(block));
        rig_free(&rig);
    }
}

/* Indexes hold offsets relative to the segment's name: a gap that none could lead across is not taken. */
static void a_gap_has_bounds(void **state)
{
    static const int64_t gaps[] = {1000, INT32_MAX, (int64_t)INT32_MAX + 1, (int64_t)1 << 60};
    for (size_t i = 0; i < sizeof(gaps) / sizeof(gaps[0]); i++) {
        for (int follows = 0; follows < 2; follows++) {
            struct rig rig;
            struct block_recovery recovery;
            struct strbuf all = {0};
            rig_init(&rig, 5);
            assert_int_equal(rig_start(&rig), 0);
            struct block *block = create(&rig, NULL);
            if (follows)
                assert_int_equal(rig_append(block, 1, 10, 0), 0);
            int64_t end = block_end(block);
            struct buf *batch = rig_batch(end + gaps[i], 0, 1, 10, 1, 1000);
            bool taken = gaps[i] <= INT32_MAX;
            assert_int_equal(rig_append_buf(block, batch), taken ? 0 : CLYMQ_EINVAL);
            rig_settle(&rig);
            if (taken)
                assert_int_equal(rig_read_all(block, end, end + gaps[i] + 1, 1000, &all), 0);
            rig_crash(&rig, false);
            if (gaps[i] > UINT32_MAX) { /* as if an earlier release had */
                char path[128];
                snprintf(path, sizeof(path), "%s/%020d.log", DIR, 0);
                struct io_file *file;
                assert_int_equal(io_fs_open(rig.fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file), 0);
                assert_int_equal(io_file_pwrite(file, batch->data, batch->len, 0), (int)batch->len);
                assert_int_equal(io_file_sync(file), 0);
                io_file_close(file);
            }
            buf_unref(batch);
            block = reopen(&rig, NULL, &recovery);
            assert_int_equal(recovery.damaged, gaps[i] > UINT32_MAX && follows);
            assert_int_equal(block_end(block), taken ? end + gaps[i] + 1 : end);
            strbuf_free(&all);
            rig_free(&rig);
        }
    }
}

static void damage_below_the_mark_is_reported_and_kept(void **state)
{
    struct rig rig;
    rig_init(&rig, 6);
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 10; i++)
        assert_int_equal(rig_append(block, 1, 300, (uint64_t)i), 0);
    rig_settle(&rig);
    rig_crash(&rig, false);
    const char *path = DIR "/00000000000000000000.log";
    uint64_t size = file_size(&rig, path), batch = size / 10;
    assert_int_equal(sim_process_flip_bits(rig.process, path, 4 * batch + 100, 100, 1), 0);
    for (int round = 0; round < 3; round++) {
        struct block_recovery recovery;
        block = reopen(&rig, NULL, &recovery);
        assert_true(recovery.damaged);
        assert_int_equal(recovery.damaged_offset, 4);
        assert_int_equal(recovery.bytes_cut, 0);
        assert_int_equal(block_error(block), CLYMQ_ECORRUPT);
        assert_int_equal(block_durable_end(block), 10);
        assert_int_equal(rig_append(block, 1, 10, 1), CLYMQ_ELOG_FAILED);
        struct strbuf good = {0};
        assert_int_equal(rig_read_all(block, 0, 4, 1, &good), 0);
        assert_int_equal(good.len, 4 * batch);
        strbuf_free(&good);
        struct block_verify verify = {0};
        int64_t damaged = -1;
        int error;
        while ((error = block_verify_step(block, &verify, 1, &damaged)) == 0)
            ;
        assert_int_equal(error, CLYMQ_ECORRUPT);
        assert_int_equal(damaged, 4);
        assert_int_equal(block_verify_step(block, &verify, 1, &damaged), CLYMQ_ENOENT);
        rig_crash(&rig, round == 1);
        assert_int_equal(file_size(&rig, path), size);
    }
    rig_free(&rig);
}

/* Two segments of three batches each and one of one, of a later epoch; each batch has two offsets. */
static void change_marks(struct state_entry *entry, int which)
{
    switch (which) {
    case 0: /* in the middle of the last batch */
        entry->mark.position -= 100;
        entry->mark.offset--;
        break;
    case 1: /* behind the last batch of a segment that another one follows */
        entry->mark = (struct log_point){.offset = 6, .base = 0, .position = 4000};
        break;
    case 2: /* another offset */
        entry->mark.offset--;
        break;
    case 3: /* another epoch */
        entry->mark.epoch++;
        break;
    case 4: /* the checkpoint in the middle of a batch */
        entry->checkpoint = (struct log_point){.offset = 7, .base = 6, .position = 100};
        break;
    case 5: /* the log begins with an earlier epoch than the checkpoint's */
        entry->checkpoint = (struct log_point){.epoch = 1};
        break;
    default: /* segments that are not there any more */
        entry->mark = entry->checkpoint = (struct log_point){.offset = 8, .base = 7, .position = 100};
    }
    entry->index = index_mark_empty();
}

/* The log says otherwise than the state files do: nobody knows what is missing, and nothing is cut. */
static void marks_that_the_log_contradicts_are_damage(void **state)
{
    for (int which = 0; which < 7; which++) {
        struct rig rig;
        rig_init(&rig, 16);
        rig.config.segment_bytes = 4096;
        assert_int_equal(rig_start(&rig), 0);
        struct block *block = create(&rig, NULL);
        for (int i = 0; i < 6; i++)
            assert_int_equal(rig_append(block, 2, 600, (uint64_t)i), 0);
        struct buf *last = rig_batch(12, 1, 2, 600, 6, 1000);
        assert_int_equal(rig_append_buf(block, last), 0);
        buf_unref(last);
        rig_settle(&rig);
        rig_crash(&rig, false);
        if (which == 1) /* bytes that a cut would take */
            write_at_end(&rig, DIR "/00000000000000000000.log", (uint8_t[200]){0}, 200);
        uint64_t sizes = file_size(&rig, DIR "/00000000000000000000.log") +
                         file_size(&rig, DIR "/00000000000000000006.log") +
                         file_size(&rig, DIR "/00000000000000000012.log");
        rig_change_entry(&rig, change_marks, which);
        struct fsck_totals totals;
        assert_int_equal(fsck_run(rig.fs, &(struct fsck_options){0}, &totals), 0);
        assert_true(totals.damages > 0);
        struct block_recovery recovery;
        block = reopen(&rig, NULL, &recovery);
        assert_true(recovery.damaged);
        assert_int_equal(block_error(block), CLYMQ_ECORRUPT);
        assert_true(block_durable_end(block) <= block_end(block));
        rig_crash(&rig, false);
        assert_int_equal(file_size(&rig, DIR "/00000000000000000000.log") +
                             file_size(&rig, DIR "/00000000000000000006.log") +
                             file_size(&rig, DIR "/00000000000000000012.log"),
                         sizes);
        rig_free(&rig);
    }
}

/* A block with a durable batch, after a kill. */
static void leave_one_batch(struct rig *rig)
{
    rig_init(rig, 17);
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(rig_append(create(rig, NULL), 1, 10, 1), 0);
    rig_settle(rig);
    rig_crash(rig, false);
}

/* A folder that was moved by hand is no other partition's. */
static void a_block_of_another_place_is_not_opened(void **state)
{
    struct rig rig;
    struct block *block;
    leave_one_batch(&rig);
    struct block_key key = rig_key(0), other = key;
    other.seq = 3;
    assert_int_equal(block_write_id(rig.fs, DIR, &other), 0);
    struct fsck_totals totals;
    assert_int_equal(fsck_run(rig.fs, &(struct fsck_options){0}, &totals), 0);
    assert_int_equal(totals.damages, 1);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), CLYMQ_ENOENT);
    rig_free(&rig);
}

static void move_entry(struct state_entry *entry, int which)
{
    entry->key.seq = (uint32_t)which;
}

/* A damaged id is made again from what the state files say, and only where they say this place. */
static void a_damaged_id_is_believed_of_its_place_only(void **state)
{
    for (int seq = 0; seq < 2; seq++) {
        struct rig rig;
        struct block *block;
        leave_one_batch(&rig);
        assert_int_equal(io_fs_replace_file(rig.fs, DIR "/id", "garbage", 7), 0);
        rig_change_entry(&rig, move_entry, seq);
        struct fsck_totals totals;
        assert_int_equal(fsck_run(rig.fs, &(struct fsck_options){0}, &totals), 0);
        assert_int_equal(totals.damages, seq);
        assert_int_equal(rig_start(&rig), 0);
        struct block_key key = rig_key(0);
        assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), seq ? CLYMQ_ECORRUPT : 0);
        rig_free(&rig);
    }
}

static void a_missing_segment_is_damage(void **state)
{
    for (int which = 0; which < 3; which++) {
        struct rig rig;
        rig_init(&rig, 7);
        rig.config.segment_bytes = 4096;
        assert_int_equal(rig_start(&rig), 0);
        struct block *block = create(&rig, NULL);
        for (int i = 0; i < 9; i++)
            assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
        rig_settle(&rig);
        rig_crash(&rig, false);
        static const char *const paths[] = {DIR "/00000000000000000000.log", DIR "/00000000000000000003.log",
                                            DIR "/00000000000000000006.log"};
        static const int64_t damaged_at[] = {0, 3, 6};
        assert_int_equal(io_fs_unlink(rig.fs, paths[which]), 0);
        struct block_recovery recovery;
        block = reopen(&rig, NULL, &recovery);
        assert_true(recovery.damaged);
        assert_int_equal(recovery.damaged_offset, damaged_at[which]);
        /* What is left can be read, the end of the last segment included. */
        for (int64_t offset = 0; offset < 9; offset++) {
            struct block_range range;
            bool lost = offset / 3 == damaged_at[which] / 3;
            assert_int_equal(block_read(block, offset, 9, 1 << 20, &range), lost ? CLYMQ_ECORRUPT : 0);
            if (!lost) {
                assert_int_equal(range.first_offset, offset);
                block_range_release(&range);
            }
        }
        rig_free(&rig);
    }
}

/* A log that is shorter than its durable end: what is there can be read, and no range goes beyond it. */
static void a_log_cut_short_is_read_up_to_the_cut(void **state)
{
    struct rig rig;
    rig_init(&rig, 7);
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rig_append(block, 1, 200, (uint64_t)i), 0);
    rig_settle(&rig);
    uint64_t batch = block_size(block) / 9, left = 5 * batch + 10;
    rig_crash(&rig, false);
    struct io_file *file;
    assert_int_equal(io_fs_open(rig.fs, DIR "/00000000000000000000.log", IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_truncate(file, left), 0);
    io_file_close(file);
    struct block_recovery recovery;
    block = reopen(&rig, NULL, &recovery);
    assert_true(recovery.damaged);
    assert_int_equal(recovery.damaged_offset, 5);
    for (int64_t offset = 0; offset < 9; offset++) {
        for (size_t max_bytes = 1; max_bytes < 4096; max_bytes *= 4) {
            struct block_range range;
            int error = block_read(block, offset, 9, max_bytes, &range);
            assert_int_equal(error, offset < 5 ? 0 : CLYMQ_ECORRUPT);
            if (error)
                continue;
            assert_int_equal(range.first_offset, offset);
            assert_true(range.len >= batch && range.position + range.len <= left);
            block_range_release(&range);
        }
    }
    rig_free(&rig);
}

struct told {
    int64_t durable_end;
    int error;
    int errors;
};

static void move_mark_to_segment(struct state_entry *entry, int which)
{
    entry->mark = (struct log_point){.offset = 6, .base = 6, .epoch = 0};
}

/* Behind the last batch of a segment and at the beginning of the next one is the same place. */
static void a_mark_at_a_segments_begin_is_met(void **state)
{
    struct rig rig;
    rig_init(&rig, 18);
    rig.config.segment_bytes = 4096;
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 4; i++)
        assert_int_equal(rig_append(block, 2, 600, (uint64_t)i), 0);
    rig_settle(&rig);
    rig_crash(&rig, false);
    assert_int_equal(sim_process_flip_bits(rig.process, DIR "/00000000000000000006.log", 100, 100, 1), 0);
    rig_change_entry(&rig, move_mark_to_segment, 0);
    for (int life = 0; life < 2; life++) {
        struct block_recovery recovery;
        struct strbuf all = {0};
        block = reopen(&rig, NULL, &recovery);
        assert_false(recovery.damaged);
        assert_int_equal(block_end(block), 6 + 2 * life);
        assert_int_equal(rig_append(block, 2, 600, 9), 0);
        assert_int_equal(rig_read_all(block, 0, 8 + 2 * life, 1000, &all), 0);
        rig_settle(&rig);
        strbuf_free(&all);
        rig_crash(&rig, life == 0);
    }
    rig_free(&rig);
}

static void on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct told *told = ctx;
    told->durable_end = durable_end;
    told->error = error;
    told->errors += error != 0;
}

/* What recovery kept stays open until it is synced, however few files may be open: a file opened again might
 * not tell of a failed write, and cannot be opened where reading fails. */
static void what_was_kept_stays_open(void **state)
{
    enum { COUNT = 40 };
    struct rig rig;
    struct block *blocks[COUNT];
    rig_init(&rig, 13);
    rig.config.max_open_files = 1;
    assert_int_equal(rig_start(&rig), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_create(rig.store, &key, 0, NULL, &blocks[i]), 0);
        assert_int_equal(rig_append(blocks[i], 1, 100, i), 0);
    }
    rig_crash(&rig, false);
    assert_int_equal(rig_start(&rig), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_open(rig.store, &key, NULL, &blocks[i], NULL), 0);
        assert_int_equal(block_end(blocks[i]), 1);
    }
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.eio_read_ppm = 1000000});
    rig_settle(&rig);
    for (uint32_t i = 0; i < COUNT; i++) {
        assert_int_equal(block_error(blocks[i]), 0);
        assert_int_equal(block_durable_end(blocks[i]), 1);
    }
    rig_free(&rig);
}

static void a_failed_sync_is_final(void **state)
{
    struct rig rig;
    rig_init(&rig, 8);
    assert_int_equal(rig_start(&rig), 0);
    struct told told = {0};
    struct block_events events = {.on_durable = on_durable, .ctx = &told};
    struct block *block = create(&rig, &events);
    assert_int_equal(rig_append(block, 1, 100, 1), 0);
    rig_settle(&rig);
    assert_int_equal(told.durable_end, 1);
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
    assert_int_equal(rig_append(block, 1, 100, 2), 0);
    rig_settle(&rig);
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){0});
    assert_int_equal(told.error, CLYMQ_EIO);
    assert_int_equal(told.durable_end, 1);
    assert_int_equal(rig_append(block, 1, 100, 3), CLYMQ_ELOG_FAILED);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 1);
    assert_int_equal(told.errors, 1);
    /* A restart in the same boot: what the page cache still has is written again, and then it is safe. */
    rig_crash(&rig, false);
    struct block_recovery recovery;
    block = reopen(&rig, &events, &recovery);
    assert_false(recovery.damaged);
    assert_int_equal(block_error(block), 0);
    rig_settle(&rig);
    int64_t end = block_durable_end(block);
    assert_int_equal(end, block_end(block));
    rig_crash(&rig, true);
    block = reopen(&rig, &events, &recovery);
    assert_int_equal(block_end(block), end);
    rig_free(&rig);
}

static void a_refused_batch_never_comes_back(void **state)
{
    /* Many, because the kernel must have written the batch back before it was cut off again. */
    for (uint64_t seed = 0; seed < 600; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        assert_int_equal(rig_start(&rig), 0);
        struct block *block = create(&rig, NULL);
        assert_int_equal(rig_append(block, 1, 700, 1), 0);
        rig_settle(&rig);
        struct sim_disk_faults faults = {.short_write_ppm = 1000000};
        if (seed % 2)
            faults = (struct sim_disk_faults){.enospc_write_ppm = 1000000};
        sim_process_set_disk_faults(rig.process, &faults);
        int error = rig_append(block, 1, 2000, 2);
        sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){0});
        assert_true(error == CLYMQ_EIO || error == CLYMQ_ENOSPC);
        assert_int_equal(block_error(block), 0);
        assert_int_equal(block_end(block), 1);
        if (seed % 3 == 0)
            rig_settle(&rig);
        rig_crash(&rig, true);
        struct block_recovery recovery;
        block = reopen(&rig, NULL, &recovery);
        assert_int_equal(block_end(block), 1);
        rig_free(&rig);
    }
}

static void a_damaged_index_never_misleads(void **state)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        rig.config.index_interval_bytes = 200;
        rig.config.segment_bytes = 32 << 10;
        assert_int_equal(rig_start(&rig), 0);
        struct block *block = create(&rig, NULL);
        for (int i = 0; i < 200; i++)
            assert_int_equal(rig_append(block, 1, 300, (uint64_t)i), 0);
        int64_t end = block_end(block);
        assert_int_equal(rig_stop(&rig), 0);
        static const char *const names[] = {".index", ".timeindex", ".summary"};
        char path[128];
        snprintf(path, sizeof(path), "%s/%020d%s", DIR, 0, names[seed % 3]);
        assert_int_equal(sim_process_flip_bits(rig.process, path, 0, 1 << 20, 2), 0);
        struct block_recovery recovery;
        block = reopen(&rig, NULL, &recovery);
        for (int64_t offset = 0; offset < end; offset += 7) {
            struct block_range range;
            assert_int_equal(block_read(block, offset, end, 1, &range), 0);
            assert_int_equal(range.first_offset, offset);
            block_range_release(&range);
            int64_t found, found_ms;
            assert_int_equal(block_find_time(block, 1000 + offset, end, &found, &found_ms), 0);
            assert_int_equal(found, offset);
        }
        rig_free(&rig);
    }
}

static void sealed(void *ctx, struct block *block, int error)
{
    *(int *)ctx = error;
}

static void a_seal_survives(void **state)
{
    struct rig rig;
    rig_init(&rig, 9);
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    assert_int_equal(rig_append(block, 3, 100, 1), 0);
    int result = 1;
    block_seal(block, sealed, &result);
    assert_int_equal(rig_append(block, 1, 100, 2), CLYMQ_EINVAL);
    assert_int_equal(rig_wait(&rig, &result), 0);
    assert_int_equal(block_durable_end(block), 3);
    rig_crash(&rig, true);
    struct block_recovery recovery;
    block = reopen(&rig, NULL, &recovery);
    assert_true(block_is_sealed(block));
    assert_int_equal(block_end(block), 3);
    assert_int_equal(rig_append(block, 1, 100, 2), CLYMQ_EINVAL);
    rig_free(&rig);
}

/* The epoch, which no checksum covers, is damaged upwards in a log without marks: the batches that follow, or
 * what is known of the epochs, show that it was no torn write, and nothing is cut. */
static void a_wrong_epoch_is_no_torn_tail(void **state)
{
    for (int last = 0; last < 2; last++) {
        struct rig rig;
        rig_init(&rig, 19);
        rig.config.fsync = STORE_FSYNC_NEVER;
        assert_int_equal(rig_start(&rig), 0);
        struct block *block = create(&rig, NULL);
        for (int i = 0; i < 5; i++)
            assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
        uint64_t size = block_size(block);
        rig_crash(&rig, false);
        struct io_file *file;
        const char *path = DIR "/00000000000000000000.log";
        assert_int_equal(io_fs_open(rig.fs, path, IO_OPEN_WRITE, &file), 0);
        uint64_t at = (last ? 4 : 2) * (size / 5) + 12; /* of a batch: behind base offset and length */
        assert_int_equal(io_file_pwrite(file, (uint8_t[4]){0, 1, 0, 0}, 4, at), 4);
        io_file_close(file);
        struct block_events events = {.epoch_end = 1};
        struct block_recovery recovery;
        block = reopen(&rig, &events, &recovery);
        assert_true(recovery.damaged);
        assert_int_equal(recovery.damaged_offset, last ? 4 : 2);
        assert_int_equal(block_error(block), CLYMQ_ECORRUPT);
        assert_int_equal(file_size(&rig, path), size);
        rig_crash(&rig, false);
        if (!last) { /* also without knowing the epochs, by what follows */
            (void)reopen(&rig, NULL, &recovery);
            assert_true(recovery.damaged);
            assert_int_equal(file_size(&rig, path), size);
            struct fsck_totals totals;
            rig_crash(&rig, false);
            assert_int_equal(fsck_run(rig.fs, &(struct fsck_options){0}, &totals), 0);
            assert_true(totals.damages > 0);
        }
        rig_free(&rig);
    }
}

static int unlink_error;
static const struct io_fs_ops *real_ops;

static int unlink_or_fail(struct io_fs *fs, const char *path)
{
    return unlink_error ? unlink_error : real_ops->unlink(fs, path);
}

/* A file behind the place of a cut that cannot be removed would lie between the segments that follow. */
static void what_cannot_be_cut_keeps_the_block_closed(void **state)
{
    struct rig rig;
    rig_init(&rig, 18);
    rig.config.segment_bytes = 4096;
    rig.config.fsync = STORE_FSYNC_NEVER; /* no mark: what does not continue the log is a torn tail */
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
    rig_crash(&rig, false);
    assert_int_equal(sim_process_flip_bits(rig.process, DIR "/00000000000000000000.log", 3000, 8, 1), 0);
    assert_int_equal(rig_start(&rig), 0);
    struct io_fs_ops ops = *rig.fs->ops;
    real_ops = rig.fs->ops;
    ops.unlink = unlink_or_fail;
    rig.fs->ops = &ops;
    unlink_error = CLYMQ_EIO;
    struct block_key key = rig_key(0);
    struct block_recovery recovery;
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), CLYMQ_EIO);
    unlink_error = 0;
    for (int run = 0; run < 2; run++) {
        assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
        assert_false(recovery.damaged);
        assert_int_equal(block_end(block), run ? 8 : 2);
        for (int i = 0; !run && i < 6; i++)
            assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
        rig_crash(&rig, false);
        assert_int_equal(rig_start(&rig), 0);
    }
    rig.fs->ops = real_ops;
    rig_free(&rig);
}

static int sync_dir_error;

static int sync_dir_or_fail(struct io_fs *fs, const char *path)
{
    return sync_dir_error ? sync_dir_error : real_ops->sync_dir(fs, path);
}

/* Files that a cut removed, but whose folder could not be synced, may come back with a power loss. The block
 * opened again in the same run finds nothing to cut: it still has to see to it. */
static void what_a_failed_open_cut_stays_cut(void **state)
{
    static const char *const bases[] = {"0", "3", "6"};
    struct rig rig;
    rig_init(&rig, 19);
    rig.config.segment_bytes = 4096;
    rig.config.fsync = STORE_FSYNC_NEVER; /* no mark: what does not continue the log is a torn tail */
    assert_int_equal(rig_start(&rig), 0);
    struct block *block = create(&rig, NULL);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
    for (size_t i = 0; i < sizeof(bases) / sizeof(bases[0]); i++) {
        char path[128];
        struct io_file *file;
        snprintf(path, sizeof(path), DIR "/0000000000000000000%s.log", bases[i]);
        assert_int_equal(io_fs_open(rig.fs, path, IO_OPEN_WRITE, &file), 0);
        assert_int_equal(io_file_sync(file), 0);
        io_file_close(file);
    }
    assert_int_equal(io_fs_sync_dir(rig.fs, DIR), 0);
    rig_crash(&rig, false);
    assert_int_equal(sim_process_flip_bits(rig.process, DIR "/00000000000000000000.log", 3000, 8, 1), 0);
    rig.config.fsync = STORE_FSYNC_COMMIT;
    assert_int_equal(rig_start(&rig), 0);
    struct io_fs_ops ops = *rig.fs->ops;
    real_ops = rig.fs->ops;
    ops.sync_dir = sync_dir_or_fail;
    rig.fs->ops = &ops;
    struct block_key key = rig_key(0);
    struct block_recovery recovery;
    sync_dir_error = CLYMQ_EIO;
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), CLYMQ_EIO);
    sync_dir_error = 0;
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
    assert_int_equal(block_end(block), 2);
    assert_int_equal(rig_append(block, 1, 1200, 99), 0); /* fills the gap that showed the old segments */
    block_want_commit(block);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 3);
    rig_crash(&rig, true);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
    assert_false(recovery.damaged);
    assert_int_equal(block_end(block), 3);
    rig.fs->ops = real_ops;
    rig_free(&rig);
}

static void on_save(void *ctx, struct strbuf *text)
{
    strbuf_append_text(text, "kept");
}

static int on_load(void *ctx, struct bytes text)
{
    return bytes_equal(text, BYTES_LITERAL("kept")) ? 0 : CLYMQ_ECORRUPT;
}

static int on_recover(void *ctx, const struct batch_header *header, struct bytes batch)
{
    return 0;
}

static int load_result;

static int on_load_newer(void *ctx, struct bytes text)
{
    return load_result;
}

/* After a downgrade: what a newer release kept is neither guessed at nor thrown away. */
static void a_newer_state_of_the_owner_is_refused(void **state)
{
    struct rig rig;
    rig_init(&rig, 12);
    assert_int_equal(rig_start(&rig), 0);
    struct block_events events = {
        .on_recover = on_recover, .on_snapshot_save = on_save, .on_snapshot_load = on_load_newer};
    struct block_key key = rig_key(0);
    struct block *block = create(&rig, &events);
    assert_int_equal(rig_append(block, 1, 100, 1), 0);
    assert_int_equal(rig_stop(&rig), 0);
    assert_int_equal(rig_start(&rig), 0);
    load_result = CLYMQ_EFORMAT;
    assert_int_equal(block_open(rig.store, &key, &events, &block, NULL), CLYMQ_EFORMAT);
    load_result = 0;
    events.on_snapshot_load = on_load; /* the newer release again */
    assert_int_equal(block_open(rig.store, &key, &events, &block, NULL), 0);
    assert_int_equal(block_end(block), 1);
    rig_free(&rig);
}

/* One of a place that the log does not reach is thrown away at once: batches may be written there that it
 * knows nothing of, and then it would look usable. */
static void a_snapshot_ahead_of_the_log_never_comes_back(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rig rig;
        rig_init(&rig, seed);
        assert_int_equal(rig_start(&rig), 0);
        struct block_events events = {
            .on_recover = on_recover, .on_snapshot_save = on_save, .on_snapshot_load = on_load};
        struct block *block = create(&rig, &events);
        assert_int_equal(rig_append(block, 1, 100, 1), 0);
        rig_settle(&rig);
        rig_crash(&rig, false);
        struct log_point ahead = {.offset = 8, .base = 0, .position = 1000, .epoch = 0};
        assert_int_equal(snapshot_write(rig.fs, DIR, &ahead, BYTES_LITERAL("kept")), 0);
        block = reopen(&rig, &events, NULL);
        assert_int_equal(block_end(block), 1);
        rig_crash(&rig, true);
        struct io_file *file;
        assert_int_equal(io_fs_open(rig.fs, DIR "/00000000000000000008.snapshot", IO_OPEN_READ, &file),
                         CLYMQ_ENOENT);
        rig_free(&rig);
    }
}

/* Opening and working survive a failed allocation anywhere, and what was told durable stays. */
static void memory_may_fail_anywhere(void **state)
{
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        struct rig rig;
        rig_init(&rig, 10);
        rig.config.segment_bytes = 4096;
        rig.config.checkpoint_bytes = 3000;
        rig.config.index_interval_bytes = 100;
        assert_int_equal(rig_start(&rig), 0);
        struct told told = {0};
        struct block_events events = {.on_durable = on_durable,
                                      .on_recover = on_recover,
                                      .on_snapshot_save = on_save,
                                      .on_snapshot_load = on_load,
                                      .ctx = &told};
        struct block_key key = rig_key(0);
        struct block *block = NULL;
        struct buf *batches[20];
        for (int i = 0; i < 20; i++)
            batches[i] = rig_batch(i, 0, 1, 500, (uint64_t)i, i);
        struct iovec part;
        struct batch_header header;
        mem_fail_nth(nth);
        int error = block_create(rig.store, &key, 0, &events, &block);
        int stored = 0;
        for (int i = 0; !error && i < 20; i++) {
            batch_assign(batches[stored]->data, block_end(block), 0);
            batch_check(bytes_of(batches[stored]->data, batches[stored]->len), UINT32_MAX, &header);
            part = (struct iovec){batches[stored]->data, batches[stored]->len};
            int refused = block_append(block, &header, &part, 1);
            assert_true(refused == 0 || refused == CLYMQ_ENOMEM || refused == CLYMQ_ELIMIT);
            stored += !refused;
            if (i % 5 == 4)
                rig_settle(&rig);
        }
        failed = mem_failed();
        mem_fail_nth(0);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
        if (!error) {
            rig_settle(&rig);
            assert_int_equal(told.error, 0);
            assert_int_equal(told.durable_end, stored);
            rig_crash(&rig, true);
            assert_int_equal(rig_start(&rig), 0);
            mem_fail_nth(nth);
            error = block_open(rig.store, &key, &events, &block, NULL);
            failed |= mem_failed();
            mem_fail_nth(0);
            assert_true(error == 0 || error == CLYMQ_ENOMEM);
            if (error)
                assert_int_equal(block_open(rig.store, &key, &events, &block, NULL), 0);
            assert_int_equal(block_end(block), stored);
        }
        for (int i = 0; i < 20; i++)
            buf_unref(batches[i]);
        rig_free(&rig);
        assert_true(nth < 5000);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_only_what_follows_the_checkpoint),
        cmocka_unit_test(a_torn_tail_is_cut),
        cmocka_unit_test(stops_where_offset_or_epoch_do_not_follow),
        cmocka_unit_test(a_gap_has_bounds),
        cmocka_unit_test(damage_below_the_mark_is_reported_and_kept),
        cmocka_unit_test(marks_that_the_log_contradicts_are_damage),
        cmocka_unit_test(a_block_of_another_place_is_not_opened),
        cmocka_unit_test(a_damaged_id_is_believed_of_its_place_only),
        cmocka_unit_test(a_mark_at_a_segments_begin_is_met),
        cmocka_unit_test(a_missing_segment_is_damage),
        cmocka_unit_test(a_log_cut_short_is_read_up_to_the_cut),
        cmocka_unit_test(what_was_kept_stays_open),
        cmocka_unit_test(a_failed_sync_is_final),
        cmocka_unit_test(a_refused_batch_never_comes_back),
        cmocka_unit_test(a_damaged_index_never_misleads),
        cmocka_unit_test(what_cannot_be_cut_keeps_the_block_closed),
        cmocka_unit_test(what_a_failed_open_cut_stays_cut),
        cmocka_unit_test(a_wrong_epoch_is_no_torn_tail),
        cmocka_unit_test(a_seal_survives),
        cmocka_unit_test(a_newer_state_of_the_owner_is_refused),
        cmocka_unit_test(a_snapshot_ahead_of_the_log_never_comes_back),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
