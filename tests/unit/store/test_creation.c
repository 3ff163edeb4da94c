/* Making many blocks at once: what was told is there after a power loss, what failed leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store_rig.h"

enum { MANY = 40 };

struct made {
    struct block_creation base;
    int result; /* 1 = not told */
};

static struct made made[MANY];
static bool reset; /* set when a callback has come that must not */

static void on_made(struct block_creation *base, int error)
{
    struct made *one = CONTAINER_OF(base, struct made, base);
    assert_int_equal(one->result, 1);
    assert_false(reset);
    one->result = error;
}

static void begin(struct rig *rig, int count)
{
    for (int i = 0; i < count; i++) {
        made[i] = (struct made){.base = {.key = rig_key((uint32_t)i), .start_offset = i, .done = on_made},
                                .result = 1};
        block_create_later(rig->store, &made[i].base);
        assert_int_equal(made[i].result, 1); /* never from inside the call */
        assert_true(block_is_being_created(rig->store, made[i].base.key.topic, (uint32_t)i));
    }
    assert_false(block_is_being_created(rig->store, made[0].base.key.topic, MANY));
}

static void wait_for(struct rig *rig, int count)
{
    for (int i = 0; i < count; i++)
        rig_wait(rig, &made[i].result);
}

static void expect_there(struct rig *rig, int count)
{
    for (int i = 0; i < count; i++) {
        struct block_recovery recovery = {0};
        struct block *block;
        assert_int_equal(block_open(rig->store, &made[i].base.key, NULL, &block, &recovery), 0);
        assert_false(recovery.damaged);
        assert_int_equal(block_start(block), i);
        assert_int_equal(block_end(block), i);
        assert_int_equal(rig_append(block, 1, 100, (uint64_t)i), 0);
    }
}

/* A block is deleted, and one of the same id made in its place before the old one's files are gone. */
static void again_in_the_place_of_a_deleted_one(void **state)
{
    struct rig rig;
    rig_init(&rig, 5);
    assert_int_equal(rig_start(&rig), 0);
    struct block_key key = rig_key(1);
    struct block_recovery recovery;
    struct block *block;
    assert_int_equal(block_create(rig.store, &key, 7, NULL, &block), 0);
    assert_int_equal(block_delete(block), 0);
    assert_int_equal(block_create(rig.store, &key, 9, NULL, &block), 0);
    assert_int_equal(rig_append(block, 1, 100, 1), 0);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 10);
    rig_settle(&rig);
    /* The unfinished write of a later push is cut, as with every block whose marks are known. */
    assert_int_equal(rig_append(block, 1, 100, 2), 0);
    char dir[120], path[200];
    snprintf(dir, sizeof(dir), "data/aabb0000000000000000000000000000/1/0");
    snprintf(path, sizeof(path), "%s/%020d.log", dir, 9);
    struct io_file *file;
    uint64_t size;
    assert_int_equal(io_fs_open(rig.fs, path, IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    assert_int_equal(io_file_truncate(file, size - 1), 0);
    io_file_close(file);
    rig_crash(&rig, false);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
    assert_false(recovery.damaged);
    assert_true(recovery.bytes_cut > 0);
    assert_int_equal(block_start(block), 9);
    assert_int_equal(block_end(block), 10);
    rig_free(&rig);
}

static void all_survive_a_power_loss(void **state)
{
    for (unsigned all_from = 1; all_from <= 1000; all_from += 999) {
        struct rig rig;
        rig_init(&rig, 5);
        rig.config.sync_all_from = all_from;
        assert_int_equal(rig_start(&rig), 0);
        uint64_t ops = sim_process_disk_ops(rig.process);
        begin(&rig, MANY);
        wait_for(&rig, MANY);
        for (int i = 0; i < MANY; i++) {
            assert_int_equal(made[i].result, 0);
            assert_false(block_is_being_created(rig.store, made[i].base.key.topic, (uint32_t)i));
        }
        ops = sim_process_disk_ops(rig.process) - ops;
        print_message("%d blocks in %u operations\n", MANY, (unsigned)ops);
        if (all_from == 1) /* two folders, two files and a write each; the topic's; two syncs and a record */
            assert_in_range(ops, 5 * MANY, 5 * MANY + 4);
        rig_crash(&rig, true);
        assert_int_equal(rig_start(&rig), 0);
        expect_there(&rig, MANY);
        rig_settle(&rig);
        rig_free(&rig);
    }
}

/* A power loss at every operation: what was told is there, the rest can be made. */
static void a_crash_leaves_none_half_made(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct rig rig;
        rig_init(&rig, nth);
        rig.config.sync_all_from = nth % 2 ? 1 : 1000;
        assert_int_equal(rig_start(&rig), 0);
        sim_process_crash_at_op(rig.process, nth, NULL, NULL);
        begin(&rig, 5);
        wait_for(&rig, 5);
        bool crashed = !sim_process_alive(rig.process);
        if (crashed) {
            rig_drop(&rig);
            sim_process_restart(rig.process);
        } else {
            rig_crash(&rig, true);
        }
        sim_process_crash_at_op(rig.process, 0, NULL, NULL);
        assert_int_equal(rig_start(&rig), 0);
        for (int i = 0; i < 5; i++) {
            struct block *block;
            int error = block_create(rig.store, &made[i].base.key, i, NULL, &block);
            assert_int_equal(error, made[i].result == 0 || error ? CLYMQ_EEXIST : 0);
            if (!error)
                block_close(block);
        }
        expect_there(&rig, 5);
        rig_free(&rig);
        if (!crashed)
            return;
    }
}

static void a_failed_sync_leaves_nothing(void **state)
{
    for (unsigned all_from = 1; all_from <= 1000; all_from += 999) {
        struct rig rig;
        rig_init(&rig, 6);
        rig.config.sync_all_from = all_from;
        assert_int_equal(rig_start(&rig), 0);
        sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
        begin(&rig, MANY);
        wait_for(&rig, MANY);
        sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){0});
        struct block_key *keys;
        size_t count;
        for (int i = 0; i < MANY; i++)
            assert_int_equal(made[i].result, CLYMQ_EIO);
        assert_int_equal(block_list(rig.fs, &keys, &count), 0);
        assert_int_equal(count, 0);
        mem_free(keys);
        begin(&rig, MANY);
        wait_for(&rig, MANY);
        expect_there(&rig, MANY);
        rig_free(&rig);
    }
}

static void refusals_are_told(void **state)
{
    struct rig rig;
    rig_init(&rig, 7);
    assert_int_equal(rig_start(&rig), 0);
    begin(&rig, 3);
    struct made twice = made[0], negative = made[1];
    negative.base.start_offset = -1;
    wait_for(&rig, 3);
    block_create_later(rig.store, &twice.base);
    block_create_later(rig.store, &negative.base);
    rig_wait(&rig, &twice.result);
    rig_wait(&rig, &negative.result);
    assert_int_equal(twice.result, CLYMQ_EEXIST);
    assert_int_equal(negative.result, CLYMQ_EINVAL);
    expect_there(&rig, 3);
    twice.result = 1;
    block_create_later(rig.store, &twice.base);
    rig_wait(&rig, &twice.result);
    assert_int_equal(twice.result, CLYMQ_EEXIST); /* open */
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.capacity = 4096});
    struct made full = {.base = {.key = rig_key(9), .done = on_made}, .result = 1};
    block_create_later(rig.store, &full.base);
    rig_wait(&rig, &full.result);
    assert_int_equal(full.result, CLYMQ_ENOSPC);
    assert_true(store_is_full(rig.store));
    rig_free(&rig);
}

static void allocations_may_fail(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct rig rig;
        rig_init(&rig, 8);
        rig.config.sync_all_from = nth % 2 ? 1 : 1000;
        assert_int_equal(rig_start(&rig), 0);
        mem_fail_nth(nth);
        begin(&rig, 4);
        wait_for(&rig, 4);
        bool failed = mem_failed();
        mem_fail_nth(0);
        for (int i = 0; i < 4; i++) {
            assert_true(made[i].result != 1);
            if (!made[i].result)
                continue;
            struct block *block;
            assert_int_equal(block_create(rig.store, &made[i].base.key, i, NULL, &block), 0);
            block_close(block);
        }
        expect_there(&rig, 4);
        rig_free(&rig);
        if (!failed)
            return;
    }
}

static void a_stop_waits_and_a_close_forgets(void **state)
{
    for (int wait = 0; wait < 2; wait++) {
        struct rig rig;
        rig_init(&rig, 9);
        assert_int_equal(rig_start(&rig), 0);
        begin(&rig, MANY / 2);
        if (wait)
            assert_int_equal(rig_stop(&rig), 0);
        reset = true;
        if (!wait)
            rig_crash(&rig, false);
        for (int i = 0; i < MANY / 2; i++)
            assert_int_equal(made[i].result, wait ? CLYMQ_ESHUTDOWN : 1);
        reset = false;
        rig_free(&rig);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(all_survive_a_power_loss),
        cmocka_unit_test(a_crash_leaves_none_half_made),
        cmocka_unit_test(again_in_the_place_of_a_deleted_one),
        cmocka_unit_test(a_failed_sync_leaves_nothing),
        cmocka_unit_test(refusals_are_told),
        cmocka_unit_test(allocations_may_fail),
        cmocka_unit_test(a_stop_waits_and_a_close_forgets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
