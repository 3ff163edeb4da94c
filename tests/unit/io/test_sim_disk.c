/* What the simulated disk does to unsynced data: synced data always survives a power loss, unsynced data
 * sometimes, and both outcomes of each choice happen over seeds; faults are drawn as asked for. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/sim.h"

enum { SEEDS = 400 };

static struct io_file *must_open(struct io_fs *fs, const char *path, unsigned flags)
{
    struct io_file *file;
    assert_int_equal(io_fs_open(fs, path, flags, &file), 0);
    return file;
}

static bool exists(struct io_fs *fs, const char *path)
{
    struct io_file *file;
    if (io_fs_open(fs, path, IO_OPEN_READ, &file) != 0)
        return false;
    io_file_close(file);
    return true;
}

static uint64_t size_of(struct io_file *file)
{
    uint64_t size;
    assert_int_equal(io_file_size(file, &size), 0);
    return size;
}

enum { OLD_LEN = 10000, NEW_LEN = 6000 };

/* A synced part, an unsynced append and an unsynced overwrite; power loss. */
static void test_power_loss(void **state)
{
    unsigned kept_all = 0, kept_none = 0, torn = 0, overwrite_kept = 0, overwrite_lost = 0, zeros = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        struct io_file *file = must_open(fs, "f", IO_OPEN_WRITE | IO_OPEN_CREATE);
        static uint8_t data[OLD_LEN + NEW_LEN], after[OLD_LEN + NEW_LEN + 1];
        memset(data, 'o', OLD_LEN);
        memset(data + OLD_LEN, 'n', NEW_LEN);
        assert_int_equal(io_file_pwrite(file, data, OLD_LEN, 0), OLD_LEN);
        assert_int_equal(io_file_sync(file), 0);
        assert_int_equal(io_fs_sync_dir(fs, ""), 0);
        assert_int_equal(io_file_pwrite(file, data + OLD_LEN, NEW_LEN, OLD_LEN), NEW_LEN);
        assert_int_equal(io_file_pwrite(file, "XXXX", 4, 1000), 4);
        sim_disk_crash(disk, true);
        assert_int_equal(io_file_pwrite(file, "x", 1, 0), CLYMQ_EIO); /* a file of the earlier life */
        io_file_close(file);
        file = must_open(fs, "f", IO_OPEN_READ);
        uint64_t size = size_of(file);
        assert_in_range(size, OLD_LEN, OLD_LEN + NEW_LEN);
        assert_int_equal(io_file_pread(file, after, sizeof(after), 0), size);
        bool overwritten = memcmp(after + 1000, "XXXX", 4) == 0;
        assert_true(overwritten || memcmp(after + 1000, "oooo", 4) == 0);
        memset(after + 1000, 'o', 4);
        assert_memory_equal(after, data, OLD_LEN);
        size_t fresh = 0;
        for (size_t i = OLD_LEN; i < size; i++)
            fresh += after[i] == 'n';
        kept_all += fresh == NEW_LEN;
        kept_none += size == OLD_LEN;
        torn += fresh > 0 && fresh < size - OLD_LEN;
        zeros += size > OLD_LEN && after[size - 1] == 0;
        overwrite_kept += overwritten;
        overwrite_lost += !overwritten;
        io_file_close(file);
        /* What the crash left is durable: a second one changes nothing. */
        sim_disk_crash(disk, true);
        file = must_open(fs, "f", IO_OPEN_READ);
        static uint8_t again[sizeof(after)];
        memset(again, 0, sizeof(again));
        memcpy(after + 1000, overwritten ? "XXXX" : "oooo", 4);
        assert_int_equal(io_file_pread(file, again, sizeof(again), 0), size);
        assert_memory_equal(again, after, size);
        io_file_close(file);
        sim_disk_free(disk);
    }
    print_message("of %d: all %u, none %u, torn %u, zeros %u, overwrite kept %u, lost %u\n", SEEDS, kept_all,
                  kept_none, torn, zeros, overwrite_kept, overwrite_lost);
    assert_true(kept_all > 10 && kept_none > 10 && torn > 10 && zeros > 10);
    assert_true(overwrite_kept > 10 && overwrite_lost > 10);
}

/* Files and folders that nobody synced by themselves. */
static void test_sync_all(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        struct io_file *any = must_open(fs, "any", IO_OPEN_WRITE | IO_OPEN_CREATE);
        bool fails = seed % 2;
        assert_int_equal(io_fs_make_dir(fs, "a"), 0);
        assert_int_equal(io_fs_make_dir(fs, "a/b"), 0);
        struct io_file *file = must_open(fs, "a/b/f", IO_OPEN_WRITE | IO_OPEN_CREATE);
        assert_int_equal(io_file_pwrite(file, "abc", 3, 0), 3);
        sim_disk_set_faults(disk, &(struct sim_disk_faults){.eio_sync_ppm = fails ? 1000000 : 0});
        assert_int_equal(io_file_sync_all(any), fails ? CLYMQ_EIO : 0);
        sim_disk_set_faults(disk, &(struct sim_disk_faults){0});
        if (fails) /* what was left out is not given up */
            assert_int_equal(io_file_sync_all(any), 0);
        sim_disk_crash(disk, true);
        io_file_close(file);
        file = must_open(fs, "a/b/f", IO_OPEN_READ);
        char read[4];
        assert_int_equal(io_file_pread(file, read, 4, 0), 3);
        assert_memory_equal(read, "abc", 3);
        assert_int_equal(io_file_sync_all(any), CLYMQ_EIO); /* a file of the earlier life */
        io_file_close(any);
        io_file_close(file);
        sim_disk_free(disk);
    }
}

static void test_kill_keeps_all(void **state)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct io_fs *fs = sim_disk_fs(disk);
    assert_int_equal(io_fs_make_dir(fs, "d"), 0);
    struct io_file *file = must_open(fs, "d/f", IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_int_equal(io_file_pwrite(file, "abc", 3, 0), 3);
    struct io_file *lock;
    assert_int_equal(io_fs_lock(fs, "lock", &lock), 0);
    sim_disk_crash(disk, false);
    io_file_close(file);
    file = must_open(fs, "d/f", IO_OPEN_READ);
    char read[4];
    assert_int_equal(io_file_pread(file, read, 4, 0), 3);
    assert_memory_equal(read, "abc", 3);
    io_file_close(file);
    struct io_file *again;
    assert_int_equal(io_fs_lock(fs, "lock", &again), 0); /* the crash released it */
    /* `lock` is left to the disk to free. */
    io_file_close(again);
    sim_disk_free(disk);
}

/* Creation, rename and removal without sync_dir: each undone sometimes, never half. */
static void test_folder_changes(void **state)
{
    unsigned created = 0, renamed = 0, removed = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        assert_int_equal(io_fs_make_path(fs, "d/e"), 0);
        assert_int_equal(io_fs_replace_file(fs, "d/current", "old", 3), 0);
        assert_int_equal(io_fs_replace_file(fs, "d/gone", "x", 1), 0);
        struct io_file *file = must_open(fs, "d/tmp", IO_OPEN_WRITE | IO_OPEN_CREATE);
        assert_int_equal(io_file_pwrite(file, "new", 3, 0), 3);
        assert_int_equal(io_file_sync(file), 0);
        io_file_close(file);
        assert_int_equal(io_fs_rename(fs, "d/tmp", "d/current"), 0);
        assert_int_equal(io_fs_unlink(fs, "d/gone"), 0);
        file = must_open(fs, "d/e/made", IO_OPEN_WRITE | IO_OPEN_CREATE);
        io_file_close(file);
        sim_disk_crash(disk, true);
        uint8_t *data;
        size_t len;
        assert_int_equal(io_fs_read_file(fs, "d/current", 10, &data, &len), 0);
        bool is_new = strcmp((char *)data, "new") == 0;
        assert_true(is_new || strcmp((char *)data, "old") == 0);
        assert_false(is_new && exists(fs, "d/tmp"));
        mem_free(data);
        renamed += is_new;
        created += exists(fs, "d/e/made");
        removed += !exists(fs, "d/gone");
        sim_disk_free(disk);
    }
    print_message("of %d: renamed %u, created %u, removed %u\n", SEEDS, renamed, created, removed);
    assert_in_range(renamed, 10, SEEDS - 10);
    assert_in_range(created, 10, SEEDS - 10);
    assert_in_range(removed, 10, SEEDS - 10);
}

static void test_synced_folders_survive(void **state)
{
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        assert_int_equal(io_fs_make_path(fs, "a/b"), 0);
        assert_int_equal(io_fs_make_path(fs, "c"), 0);
        assert_int_equal(io_fs_replace_file(fs, "a/b/f", "1", 1), 0);
        assert_int_equal(io_fs_rename(fs, "a/b/f", "c/g"), 0);
        assert_int_equal(io_fs_sync_dir(fs, "c"), 0);
        assert_int_equal(io_fs_sync_dir(fs, "a/b"), 0);
        assert_int_equal(io_fs_rename(fs, "a", "c/a"), 0);
        assert_int_equal(io_fs_unlink(fs, "c/g"), 0);
        assert_int_equal(io_fs_sync_dir(fs, "c"), 0); /* the unlink is durable, the move waits for the root */
        sim_disk_crash(disk, true);
        assert_false(exists(fs, "c/g"));
        assert_false(exists(fs, "a/b/f"));
        char **names;
        size_t count;
        bool moved = io_fs_list(fs, "c/a/b", &names, &count) == 0;
        if (moved)
            io_fs_free_names(names, count);
        bool stayed = io_fs_list(fs, "a/b", &names, &count) == 0;
        if (stayed)
            io_fs_free_names(names, count);
        assert_true(moved != stayed);
        sim_disk_free(disk);
    }
}

/* fsync fails, is called again and succeeds: the data is not on disk for that. */
static void test_failed_sync_is_final(void **state)
{
    unsigned survived = 0, dropped = 0, later = 0;
    for (uint64_t seed = 1; seed <= SEEDS; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        assert_int_equal(io_fs_replace_file(fs, "f", "", 0), 0);
        struct io_file *file = must_open(fs, "f", IO_OPEN_WRITE);
        static uint8_t data[4096], after[3 * 4096];
        memset(data, 'a', sizeof(data));
        assert_int_equal(io_file_pwrite(file, data, sizeof(data), 0), sizeof(data));
        sim_disk_set_faults(disk, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
        assert_int_equal(io_file_sync(file), CLYMQ_EIO);
        sim_disk_set_faults(disk, &(struct sim_disk_faults){0});
        memset(data, 'b', sizeof(data));
        assert_int_equal(io_file_pwrite(file, data, sizeof(data), sizeof(data)), sizeof(data));
        assert_int_equal(io_file_sync(file), 0);
        sim_disk_crash(disk, true);
        io_file_close(file);
        file = must_open(fs, "f", IO_OPEN_READ);
        assert_int_equal(io_file_pread(file, after, sizeof(after), 0), 2 * sizeof(data));
        later += after[2 * sizeof(data) - 1] == 'b';
        survived += after[0] == 'a';
        dropped += after[0] == 0;
        io_file_close(file);
        sim_disk_free(disk);
    }
    assert_int_equal(later, SEEDS);
    assert_int_equal(survived + dropped, SEEDS);
    assert_true(survived > 10 && dropped > 10);
}

static void test_control_switches(void **state)
{
    for (uint64_t seed = 1; seed <= 50; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        sim_disk_set_faults(disk, &(struct sim_disk_faults){.lose_all_unsynced = true});
        assert_int_equal(io_fs_replace_file(fs, "f", "durable", 7), 0);
        struct io_file *file = must_open(fs, "f", IO_OPEN_WRITE);
        assert_int_equal(io_file_pwrite(file, "DURABLE and more", 16, 0), 16);
        io_file_close(file);
        io_file_close(must_open(fs, "g", IO_OPEN_WRITE | IO_OPEN_CREATE));
        sim_disk_crash(disk, true);
        uint8_t *data;
        size_t len;
        assert_int_equal(io_fs_read_file(fs, "f", 100, &data, &len), 0);
        assert_string_equal((char *)data, "durable");
        mem_free(data);
        assert_false(exists(fs, "g"));
        sim_disk_set_faults(disk, &(struct sim_disk_faults){.lose_all_unsynced = true, .ignore_sync = true});
        assert_int_equal(io_fs_replace_file(fs, "f", "promised", 8), 0);
        sim_disk_crash(disk, true);
        assert_int_equal(io_fs_read_file(fs, "f", 100, &data, &len), 0);
        assert_string_equal((char *)data, "durable"); /* the lie came out */
        mem_free(data);
        sim_disk_free(disk);
    }
}

static void test_capacity(void **state)
{
    struct sim_disk *disk = sim_disk_new(7);
    struct io_fs *fs = sim_disk_fs(disk);
    sim_disk_set_faults(disk, &(struct sim_disk_faults){.capacity = 64 * 1024});
    struct io_file *file = must_open(fs, "f", IO_OPEN_WRITE | IO_OPEN_CREATE);
    static uint8_t data[40 * 1024];
    assert_int_equal(io_file_pwrite(file, data, sizeof(data), 0), sizeof(data));
    assert_int_equal(io_file_pwrite(file, data, sizeof(data), sizeof(data)), CLYMQ_ENOSPC);
    assert_int_equal(size_of(file), 64 * 1024); /* a prefix was written */
    uint64_t free_bytes, total;
    assert_int_equal(io_fs_space(fs, &free_bytes, &total), 0);
    assert_int_equal(free_bytes, 0);
    assert_int_equal(io_file_pwrite(file, data, sizeof(data), 0), sizeof(data)); /* in place */
    assert_int_equal(io_file_truncate(file, 8192), 0);
    assert_int_equal(io_file_allocate(file, 8192, 56 * 1024), 0);
    struct io_file *other = must_open(fs, "g", IO_OPEN_WRITE | IO_OPEN_CREATE);
    assert_int_equal(io_file_pwrite(other, "x", 1, 0), CLYMQ_ENOSPC); /* the space is reserved */
    assert_int_equal(io_file_pwrite(file, data, sizeof(data), 8192), sizeof(data));
    io_file_close(file);
    assert_int_equal(io_fs_unlink(fs, "f"), 0);
    assert_int_equal(io_fs_sync_dir(fs, ""), 0);
    assert_int_equal(io_file_pwrite(other, data, sizeof(data), 0), sizeof(data));
    io_file_close(other);
    sim_disk_free(disk);
}

static void test_drawn_faults(void **state)
{
    struct sim_disk *disk = sim_disk_new(3);
    struct io_fs *fs = sim_disk_fs(disk);
    struct io_file *file = must_open(fs, "f", IO_OPEN_WRITE | IO_OPEN_CREATE);
    sim_disk_set_faults(disk, &(struct sim_disk_faults){.eio_read_ppm = 300000,
                                                        .eio_write_ppm = 100000,
                                                        .enospc_write_ppm = 100000,
                                                        .short_write_ppm = 100000});
    unsigned read_errors = 0, write_errors = 0, full = 0, fine = 0;
    for (unsigned i = 0; i < 1000; i++) {
        char data[100] = {0};
        ssize_t wrote = io_file_pwrite(file, data, sizeof(data), i * sizeof(data));
        write_errors += wrote == CLYMQ_EIO;
        full += wrote == CLYMQ_ENOSPC;
        fine += wrote == (ssize_t)sizeof(data);
        read_errors += io_file_pread(file, data, 1, 0) == CLYMQ_EIO;
    }
    assert_in_range(read_errors, 200, 400);
    assert_in_range(write_errors, 100, 200);
    assert_in_range(full, 100, 200);
    assert_int_equal(write_errors + full + fine, 1000);
    io_file_close(file);
    sim_disk_free(disk);
}

/* From the nth operation on nothing works; before it everything did. */
static void test_fail_from_op(void **state)
{
    for (uint64_t nth = 1; nth <= 8; nth++) {
        struct sim_disk *disk = sim_disk_new(nth);
        struct io_fs *fs = sim_disk_fs(disk);
        sim_disk_fail_from_op(disk, nth);
        int error = io_fs_make_path(fs, "a"); /* 2 operations */
        if (!error)
            error = io_fs_replace_file(fs, "a/f", "x", 1); /* 5 */
        assert_int_equal(error, nth <= 7 ? CLYMQ_EIO : 0);
        assert_int_equal(sim_disk_has_failed(disk), nth <= 7);
        assert_int_equal(sim_disk_ops(disk), nth <= 7 ? nth : 7);
        if (sim_disk_has_failed(disk))
            assert_int_equal(io_fs_make_dir(fs, "z"), CLYMQ_EIO);
        sim_disk_crash(disk, true);
        assert_false(sim_disk_has_failed(disk));
        assert_int_equal(io_fs_make_dir(fs, "z"), 0);
        sim_disk_free(disk);
    }
}

static void test_flip_bits(void **state)
{
    struct sim_disk *disk = sim_disk_new(5);
    struct io_fs *fs = sim_disk_fs(disk);
    static uint8_t data[9000], *after;
    assert_int_equal(io_fs_replace_file(fs, "f", data, sizeof(data)), 0);
    assert_int_equal(sim_disk_flip_bits(disk, "none", 0, 1, 1), CLYMQ_ENOENT);
    assert_int_equal(sim_disk_flip_bits(disk, "f", sizeof(data), 1, 1), CLYMQ_EINVAL);
    assert_int_equal(sim_disk_flip_bits(disk, "f", 5000, 10, 1), 0);
    for (unsigned round = 0; round < 2; round++) {
        size_t len;
        assert_int_equal(io_fs_read_file(fs, "f", sizeof(data), &after, &len), 0);
        unsigned bits = 0;
        for (size_t i = 0; i < len; i++) {
            bits += (unsigned)__builtin_popcount(after[i]);
            assert_true(after[i] == 0 || (i >= 5000 && i < 5010));
        }
        assert_int_equal(bits, 1);
        mem_free(after);
        sim_disk_crash(disk, true); /* the durable copy has it too */
    }
    sim_disk_free(disk);
}

/* Each open file is told of a failed sync, whoever it failed for, and told once; one opened later is not. */
static void test_each_open_file_hears_of_a_failed_sync(void **state)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct io_fs *fs = sim_disk_fs(disk);
    assert_int_equal(io_fs_replace_file(fs, "f", "", 0), 0);
    struct io_file *first = must_open(fs, "f", IO_OPEN_WRITE), *second = must_open(fs, "f", IO_OPEN_WRITE);
    assert_int_equal(io_file_pwrite(first, "a", 1, 0), 1);
    sim_disk_set_faults(disk, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
    assert_int_equal(io_file_sync(first), CLYMQ_EIO);
    sim_disk_set_faults(disk, &(struct sim_disk_faults){0});
    struct io_file *later = must_open(fs, "f", IO_OPEN_WRITE);
    assert_int_equal(io_file_sync(first), 0);
    assert_int_equal(io_file_sync(second), CLYMQ_EIO);
    assert_int_equal(io_file_sync(second), 0);
    assert_int_equal(io_file_sync(later), 0);
    io_file_close(first);
    io_file_close(second);
    io_file_close(later);
    sim_disk_free(disk);
}

/* Random changes, syncs and crashes against a model of what must be there. */
static void test_synced_always_survives(void **state)
{
    enum { LEN = 30000 };
    static uint8_t synced[LEN], now[LEN], read[LEN];
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct sim_disk *disk = sim_disk_new(seed);
        struct io_fs *fs = sim_disk_fs(disk);
        struct rng rng;
        rng_seed(&rng, seed);
        memset(now, 0, LEN);
        assert_int_equal(io_fs_replace_file(fs, "f", now, LEN), 0);
        static bool dirty[LEN]; /* written since the last sync: either value may survive, or for zeros none */
        memset(dirty, 0, sizeof(dirty));
        memset(synced, 0, LEN);
        struct io_file *file = must_open(fs, "f", IO_OPEN_WRITE);
        for (unsigned i = 0; i < 200; i++) {
            uint64_t offset = rng_below(&rng, LEN - 3000);
            size_t len = (size_t)rng_below(&rng, 3000);
            switch (rng_below(&rng, 10)) {
            case 0:
                assert_int_equal(io_file_sync(file), 0);
                memcpy(synced, now, LEN);
                memset(dirty, 0, sizeof(dirty));
                break;
            case 1:
                sim_disk_crash(disk, true);
                io_file_close(file);
                file = must_open(fs, "f", IO_OPEN_WRITE);
                assert_int_equal(io_file_pread(file, read, LEN, 0), LEN);
                for (size_t at = 0; at < LEN; at++)
                    if (!dirty[at])
                        assert_int_equal(read[at], synced[at]);
                memcpy(now, read, LEN);
                memcpy(synced, read, LEN);
                memset(dirty, 0, sizeof(dirty));
                break;
            default:
                rng_fill(&rng, now + offset, len);
                memset(dirty + offset, 1, len);
                assert_int_equal(io_file_pwrite(file, now + offset, len, offset), len);
            }
        }
        io_file_close(file);
        sim_disk_free(disk);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_loss),
        cmocka_unit_test(test_sync_all),
        cmocka_unit_test(test_kill_keeps_all),
        cmocka_unit_test(test_folder_changes),
        cmocka_unit_test(test_synced_folders_survive),
        cmocka_unit_test(test_failed_sync_is_final),
        cmocka_unit_test(test_each_open_file_hears_of_a_failed_sync),
        cmocka_unit_test(test_control_switches),
        cmocka_unit_test(test_capacity),
        cmocka_unit_test(test_drawn_faults),
        cmocka_unit_test(test_fail_from_op),
        cmocka_unit_test(test_flip_bits),
        cmocka_unit_test(test_synced_always_survives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
