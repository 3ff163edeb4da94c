/* What lies behind a segment's end. Disk space that is reserved: how often it is asked for, and when it is
 * given back; both may wait for a busy disk, and everybody of the shard with them. Zeros written ahead of
 * small syncs: when, and that nobody takes them for a part of the log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/fsck.h"
#include "store/store_impl.h"
#include "store_rig.h"

#define FIRST_LOG "data/aabb0000000000000000000000000000/0/0/00000000000000000000.log"

enum { SEGMENT = 1 << 20, BATCH = 60000, SMALL = 3000 };

static struct io_fs_ops ops;
static const struct io_fs_ops *real_ops;
static int allocations, cuts, zero_writes;
static bool full;    /* for zeros */
static bool no_room; /* to reserve all that is asked for */

static int count_open(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    int error = real_ops->open(fs, path, flags, ret_file);
    if (!error && strstr(path, ".log"))
        (*ret_file)->ops = &ops;
    return error;
}

static int count_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
    allocations++;
    if (no_room) {
        (void)real_ops->allocate(file, offset, len / 2);
        return CLYMQ_ENOSPC;
    }
    return real_ops->allocate(file, offset, len);
}

static int count_truncate(struct io_file *file, uint64_t size)
{
    cuts++;
    return real_ops->truncate(file, size);
}

static ssize_t count_pwritev(struct io_file *file, const struct iovec *parts, int count, uint64_t offset)
{
    if (bytes_are_zero(bytes_of(parts[0].iov_base, parts[0].iov_len))) {
        zero_writes++;
        if (full)
            count = 1; /* some of it is done */
    }
    ssize_t written = real_ops->pwritev(file, parts, count, offset);
    return full && bytes_are_zero(bytes_of(parts[0].iov_base, parts[0].iov_len)) ? CLYMQ_ENOSPC : written;
}

static struct block *begin_with(struct rig *rig, const struct block_events *events)
{
    struct block *block;
    struct block_key key = rig_key(0);
    rig_init(rig, 5);
    rig->config.segment_bytes = SEGMENT;
    real_ops = rig->fs->ops;
    ops = *real_ops;
    ops.open = count_open;
    ops.allocate = count_allocate;
    ops.truncate = count_truncate;
    ops.pwritev = count_pwritev;
    rig->fs->ops = &ops;
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_create(rig->store, &key, 0, events, &block), 0);
    allocations = cuts = zero_writes = 0;
    full = no_room = false;
    return block;
}

static struct block *begin(struct rig *rig)
{
    return begin_with(rig, NULL);
}

static void end(struct rig *rig)
{
    rig->fs->ops = real_ops;
    rig_free(rig);
}

static void append_segments(struct block *block, int count)
{
    for (int i = 0; i < count * (SEGMENT / BATCH); i++)
        assert_int_equal(rig_append(block, 1, BATCH, (uint64_t)i), 0);
}

static void full_segments_ask_once_and_are_not_cut(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    append_segments(block, 1);
    int first = allocations;
    assert_in_range(first, 3, 8); /* doubling: it may stay a small one */
    append_segments(block, 8);
    rig_settle(&rig);
    assert_in_range(allocations - first, 8, 9);
    assert_int_equal(cuts, 0);
    end(&rig);
}

static void a_segment_that_ends_early_gives_back(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    for (int i = 0; i < 5; i++)
        assert_int_equal(rig_append(block, 1, BATCH, (uint64_t)i), 0);
    rig_settle(&rig);
    assert_int_equal(cuts, 0);
    int64_t later = io_loop_wall_ms(rig.loop) + rig.config.segment_ms + 1000;
    block_retention_start(block, -1, -1, later); /* closes it for its age */
    assert_int_equal(cuts, 1);
    end(&rig);
}

/* ---- room that a disk worker makes ---- */

static int rooms_told;

static void on_room(void *ctx, struct block *block)
{
    assert_false(block_makes_room(block));
    rooms_told++;
}

static struct block *begin_with_worker(struct rig *rig)
{
    static const struct block_events events = {.on_room = on_room};
    struct block *block = begin_with(rig, &events);
    rooms_told = 0;
    return block;
}

/* Whole segments, waiting for room where it is asked for. How often it was. */
static int append_waiting(struct rig *rig, struct block *block, int segments)
{
    int waits = 0;
    for (int i = 0; i < segments * (SEGMENT / BATCH); i++) {
        int before = allocations;
        int error = rig_append(block, 1, BATCH, (uint64_t)i);
        if (error == CLYMQ_EAGAIN) {
            assert_int_equal(allocations, before);
            assert_true(block_makes_room(block));
            assert_int_equal(rig_append(block, 1, BATCH, (uint64_t)i), CLYMQ_EAGAIN);
            rig_settle(rig);
            assert_int_equal(rooms_told, ++waits);
            assert_int_equal(allocations, before + 1);
            error = rig_append(block, 1, BATCH, (uint64_t)i);
        }
        assert_int_equal(error, 0);
    }
    return waits;
}

static void much_room_is_made_by_a_worker(void **state)
{
    struct rig rig;
    struct block *block = begin_with_worker(&rig);
    int waits = append_waiting(&rig, block, 8);
    assert_in_range(waits, 6, 8); /* once a segment, but for the first: little by little */
    assert_int_equal(cuts, 0);
    end(&rig);
}

static void room_that_cannot_be_made_is_told(void **state)
{
    struct rig rig;
    struct block *block = begin_with_worker(&rig);
    rig.store->config.room_by_worker = 1;
    no_room = true;
    assert_int_equal(rig_append(block, 1, BATCH, 1), CLYMQ_EAGAIN);
    rig_settle(&rig);
    assert_int_equal(rooms_told, 1);
    assert_int_equal(cuts, 1); /* what there was is given back, whatever becomes of the append */
    assert_int_equal(rig_append(block, 1, BATCH, 1), CLYMQ_ENOSPC);
    assert_int_equal(block_end(block), 0);
    no_room = false;
    sim_world_run_for(rig.world, IO_MS(3000)); /* space is looked for */
    assert_int_equal(rig_append(block, 1, BATCH, 1), CLYMQ_EAGAIN);
    rig_settle(&rig);
    assert_int_equal(rig_append(block, 1, BATCH, 1), 0);
    end(&rig);
}

static void a_segment_does_not_end_while_room_is_made(void **state)
{
    struct rig rig;
    struct block *block = begin_with_worker(&rig);
    int64_t later = io_loop_wall_ms(rig.loop) + rig.config.segment_ms + 1000;
    assert_int_equal(rig_append(block, 1, BATCH, 1), 0);
    rig_settle(&rig);
    rig.store->config.room_by_worker = 1;
    assert_int_equal(rig_append(block, 1, BATCH, 2), CLYMQ_EAGAIN);
    block_retention_start(block, -1, -1, later);
    assert_int_equal(block->segment_count, 1); /* its end would wait for the worker */
    assert_int_equal(cuts, 0);
    rig_settle(&rig);
    block_retention_start(block, -1, -1, later);
    assert_int_equal(block->segment_count, 2);
    assert_int_equal(cuts, 1);
    assert_int_equal(rig_append(block, 1, BATCH, 2), CLYMQ_EAGAIN);
    rig_settle(&rig);
    assert_int_equal(rig_append(block, 1, BATCH, 2), 0);
    end(&rig);
}

static void room_without_memory_is_made_at_once(void **state)
{
    struct rig rig;
    struct block *block = begin_with_worker(&rig);
    rig.store->config.room_by_worker = 1;
    struct buf *batch = rig_batch(0, 0, 1, BATCH, 1, 1);
    int error = CLYMQ_ENOMEM;
    for (uint64_t nth = 1; error == CLYMQ_ENOMEM; nth++) { /* opening the file takes some, too */
        mem_fail_nth(nth);
        error = rig_append_buf(block, batch);
        assert_true(mem_failed());
        mem_fail_nth(0);
    }
    buf_unref(batch);
    assert_int_equal(error, 0);
    assert_int_equal(allocations, 1);
    end(&rig);
}

static void a_block_may_go_while_room_is_made(void **state)
{
    struct rig rig;
    struct block *block = begin_with_worker(&rig);
    rig.store->config.room_by_worker = 1;
    assert_int_equal(rig_append(block, 1, BATCH, 1), CLYMQ_EAGAIN);
    block_close(block);
    assert_int_equal(allocations, 0);
    assert_int_equal(rig_stop(&rig), 0); /* waits for the worker */
    assert_int_equal(allocations, 1);
    assert_int_equal(rooms_told, 0);
    end(&rig);
}

static void a_crash_may_come_while_room_is_made(void **state)
{
    struct rig rig;
    struct block *block = begin_with_worker(&rig);
    struct block_recovery recovery = {0};
    struct block_key key = rig_key(0);
    rig.store->config.room_by_worker = 1;
    assert_int_equal(rig_append(block, 1, BATCH, 1), CLYMQ_EAGAIN);
    rig_crash(&rig, true);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
    assert_int_equal(rig_append(block, 1, BATCH, 1), 0);
    end(&rig);
}

/* ---- zeros ---- */

static uint64_t file_size(struct rig *rig)
{
    struct io_file *file;
    uint64_t size;
    assert_int_equal(io_fs_open(rig->fs, FIRST_LOG, IO_OPEN_READ, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    io_file_close(file);
    return size;
}

static void overwrite(struct rig *rig, uint64_t position, const void *data, size_t len)
{
    struct io_file *file;
    assert_int_equal(io_fs_open(rig->fs, FIRST_LOG, IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_pwrite(file, data, len, position), (int)len);
    assert_int_equal(io_file_sync(file), 0);
    io_file_close(file);
}

/* Each append is synced before the next one. */
static void append_synced(struct rig *rig, struct block *block, int count, size_t len)
{
    for (int i = 0; i < count; i++) {
        assert_int_equal(rig_append(block, 1, len, (uint64_t)i), 0);
        rig_settle(rig);
        assert_int_equal(block_durable_end(block), block_end(block));
    }
}

static struct block *open_again(struct rig *rig, struct block_recovery *ret_recovery)
{
    struct block *block;
    struct block_key key = rig_key(0);
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_open(rig->store, &key, NULL, &block, ret_recovery), 0);
    return block;
}

static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    *(int *)ctx += strncmp(finding->path, "data/", 5) == 0; /* a power loss may tear the state file */
}

static int count_findings(struct rig *rig)
{
    int found = 0;
    struct fsck_totals totals = {0};
    struct fsck_options options = {.on_finding = on_finding, .ctx = &found};
    assert_int_equal(fsck_run(rig->fs, &options, &totals), 0);
    return found;
}

static void assert_readable(struct block *block)
{
    struct strbuf text = {0};
    assert_int_equal(rig_read_all(block, 0, block_end(block), 1 << 20, &text), 0);
    assert_int_equal(text.len, block_size(block));
    strbuf_free(&text);
}

static void small_syncs_have_zeros_ahead(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    append_synced(&rig, block, 5, SMALL);
    assert_int_equal(zero_writes, 0);
    assert_int_equal(file_size(&rig), block_size(block));
    append_synced(&rig, block, 5, SMALL);
    assert_in_range(zero_writes, 1, 2);
    int longer = 0;
    for (int i = 0; i < 200; i++) {
        append_synced(&rig, block, 1, SMALL);
        assert_true(file_size(&rig) <=
                    block_size(block) * 2 + 4096); /* not much for what has hardly anything */
        longer += file_size(&rig) > block_size(block);
    }
    assert_int_equal(longer, 200);
    assert_in_range(zero_writes, 3, 20); /* many syncs go by between them */
    assert_readable(block);
    end(&rig);
}

static void large_syncs_have_none(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    append_synced(&rig, block, 16, BATCH);
    assert_int_equal(zero_writes, 0);
    assert_int_equal(file_size(&rig), block_size(block));
    append_synced(&rig, block, 9, SMALL); /* and a large one begins the count anew */
    append_synced(&rig, block, 1, BATCH);
    int before = zero_writes;
    append_synced(&rig, block, 8, SMALL);
    assert_int_equal(zero_writes, before);
    end(&rig);
}

static void what_was_killed_goes_on_in_its_zeros(void **state)
{
    for (int power_loss = 0; power_loss < 2; power_loss++) {
        struct rig rig;
        struct block *block = begin(&rig);
        append_synced(&rig, block, 20, SMALL);
        uint64_t size = block_size(block), length = file_size(&rig);
        assert_true(length > size);
        rig_crash(&rig, power_loss != 0);
        assert_int_equal(count_findings(&rig), 0);
        struct block_recovery recovery;
        block = open_again(&rig, &recovery);
        assert_int_equal(recovery.bytes_cut, 0);
        assert_int_equal(block_end(block), 20);
        assert_int_equal(block_size(block), size);
        if (!power_loss) { /* after one the mark may be older, and what follows it is written anew */
            assert_int_equal(file_size(&rig), length);
            zero_writes = 0;
            append_synced(&rig, block, 1, SMALL);
            assert_int_equal(file_size(&rig), length);
            assert_int_equal(zero_writes, 0);
        }
        zero_writes = 0;
        append_synced(&rig, block, 100, SMALL);
        assert_in_range(zero_writes, 1, 20);
        assert_readable(block);
        end(&rig);
    }
}

/* The sync that would have made the zeros, and the size that they gave the file, durable fails; the broker is
 * killed, and the next one finds the size in the page cache, clean. What it writes below that must not be
 * lost with it. Which pages the failed sync lost is the simulated disk's choice. */
static void a_size_that_a_failed_sync_lost_is_made_anew(void **state)
{
    static const struct sim_disk_faults fail = {.eio_sync_ppm = 1000000}, well = {0};
    unsigned begun_among_zeros = 0;
    for (uint64_t seed = 1; seed <= 200; seed++) {
        struct rig rig;
        struct block *block;
        struct block_key key = rig_key(0);
        rig_init(&rig, seed);
        assert_int_equal(rig_start(&rig), 0);
        assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
        append_synced(&rig, block, 8, 500); /* zeros come with the next one */
        uint64_t before = file_size(&rig);
        sim_process_set_disk_faults(rig.process, &fail);
        assert_int_equal(rig_append(block, 1, 500, 9), 0);
        rig_settle(&rig);
        assert_true(block_error(block) != 0);
        assert_true(file_size(&rig) > before + 500);
        sim_process_set_disk_faults(rig.process, &well);
        rig_crash(&rig, false);

        struct block_recovery recovery;
        block = open_again(&rig, &recovery);
        rig_settle(&rig);
        begun_among_zeros += file_size(&rig) > block_size(block);
        append_synced(&rig, block, 3, 400); /* among the zeros */
        int64_t end = block_end(block);
        sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.lose_all_unsynced = true});
        rig_crash(&rig, true);
        block = open_again(&rig, &recovery);
        if (block_error(block) || block_end(block) < end)
            fail_msg("seed %d: %d is the end, and %d was durable", (int)seed, (int)block_end(block),
                     (int)end);
        assert_readable(block);
        rig_free(&rig);
    }
    assert_true(begun_among_zeros > 0);
}

static void an_unfinished_write_among_zeros_is_cut(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    append_synced(&rig, block, 20, SMALL);
    uint64_t size = block_size(block), length = file_size(&rig);
    struct buf *batch = rig_batch(block_end(block), 0, 1, 300, 9, 5000);
    rig_crash(&rig, false);
    overwrite(&rig, size + 100, batch->data, batch->len); /* whole, but behind one that was lost */
    buf_unref(batch);
    assert_int_equal(count_findings(&rig), 1);
    struct block_recovery recovery;
    block = open_again(&rig, &recovery);
    assert_int_equal(recovery.bytes_cut, length - size);
    assert_false(recovery.damaged);
    assert_int_equal(file_size(&rig), size);
    append_synced(&rig, block, 3, SMALL);
    assert_readable(block);
    end(&rig);
}

static void zeros_below_the_durable_end_are_damage(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    append_synced(&rig, block, 20, SMALL);
    uint64_t size = block_size(block);
    assert_true(file_size(&rig) > size);
    rig_crash(&rig, false);
    uint8_t zeros[SMALL] = {0};
    overwrite(&rig, size - SMALL - 61, zeros, sizeof(zeros)); /* the last batch is more than that */
    assert_true(count_findings(&rig) > 0);
    struct block_recovery recovery;
    open_again(&rig, &recovery);
    assert_true(recovery.damaged);
    assert_int_equal(recovery.damaged_offset, 19);
    assert_false(recovery.damaged_short); /* zeros ahead are nothing that anybody can have seen */
    end(&rig);
}

static void zeros_go_when_the_segment_takes_no_more(void **state)
{
    for (int round = 0; round < 6; round++) {
        int which = round % 3;
        struct rig rig;
        struct block *block = begin(&rig);
        append_synced(&rig, block, 20, SMALL);
        uint64_t size = block_size(block);
        if (round >= 3) { /* those that an earlier run left go, too */
            rig_crash(&rig, false);
            block = open_again(&rig, NULL);
        }
        assert_true(file_size(&rig) > size);
        if (which == 0)
            block_retention_start(block, -1, -1, io_loop_wall_ms(rig.loop) + rig.config.segment_ms + 1000);
        else if (which == 1)
            block_seal(block, NULL, NULL);
        else
            block_close(block);
        rig_settle(&rig);
        assert_int_equal(file_size(&rig), size);
        rig_crash(&rig, true);
        assert_int_equal(count_findings(&rig), 0);
        block = open_again(&rig, NULL);
        assert_int_equal(block_size(block), size);
        assert_readable(block);
        end(&rig);
    }
}

static void a_full_segment_is_not_made_longer(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    for (int i = 0; i < SEGMENT / SMALL + 5; i++) {
        append_synced(&rig, block, 1, SMALL);
        assert_true(file_size(&rig) <= SEGMENT);
    }
    assert_true(file_size(&rig) < block_size(block)); /* a second one was begun */
    assert_readable(block);
    end(&rig);
}

static void a_full_disk_is_left_without_zeros(void **state)
{
    struct rig rig;
    struct block *block = begin(&rig);
    full = true;
    append_synced(&rig, block, 40, SMALL);
    assert_in_range(zero_writes, 2, 5); /* it is tried again, but not each time */
    assert_int_equal(file_size(&rig), block_size(block));
    full = false;
    append_synced(&rig, block, 10, SMALL);
    assert_true(file_size(&rig) > block_size(block));
    assert_readable(block);
    end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_segments_ask_once_and_are_not_cut),
        cmocka_unit_test(a_segment_that_ends_early_gives_back),
        cmocka_unit_test(much_room_is_made_by_a_worker),
        cmocka_unit_test(room_that_cannot_be_made_is_told),
        cmocka_unit_test(a_segment_does_not_end_while_room_is_made),
        cmocka_unit_test(room_without_memory_is_made_at_once),
        cmocka_unit_test(a_block_may_go_while_room_is_made),
        cmocka_unit_test(a_crash_may_come_while_room_is_made),
        cmocka_unit_test(small_syncs_have_zeros_ahead),
        cmocka_unit_test(large_syncs_have_none),
        cmocka_unit_test(what_was_killed_goes_on_in_its_zeros),
        cmocka_unit_test(a_size_that_a_failed_sync_lost_is_made_anew),
        cmocka_unit_test(an_unfinished_write_among_zeros_is_cut),
        cmocka_unit_test(zeros_below_the_durable_end_are_damage),
        cmocka_unit_test(zeros_go_when_the_segment_takes_no_more),
        cmocka_unit_test(a_full_segment_is_not_made_longer),
        cmocka_unit_test(a_full_disk_is_left_without_zeros),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
