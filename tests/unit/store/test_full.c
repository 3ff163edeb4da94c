/* A full disk: appends are refused with nothing stored, reads go on, and it ends by itself. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store_impl.h"
#include "store_rig.h"
#include "unit/refused_timer.h"

static void refused_until_there_is_space(void **state)
{
    struct rig rig;
    rig_init(&rig, 3);
    rig.config.segment_bytes = 200000;
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.capacity = 1 << 20});
    assert_int_equal(rig_start(&rig), 0);
    struct block *filler, *block;
    struct block_key key = rig_key(0);
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &filler), 0);
    key = rig_key(1);
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    assert_int_equal(rig_append(block, 1, 5000, 1), 0);
    int error;
    while ((error = rig_append(filler, 1, 20000, 1)) == 0)
        rig_settle(&rig);
    assert_int_equal(error, CLYMQ_ENOSPC);
    assert_true(store_is_full(rig.store));
    assert_int_equal(rig_append(block, 1, 20000, 2), CLYMQ_ENOSPC);
    assert_int_equal(block_error(block), 0);
    assert_int_equal(block_error(filler), 0);
    struct strbuf all = {0};
    assert_int_equal(rig_read_all(block, 0, 1, 100, &all), 0);
    strbuf_free(&all);
    io_loop_wake(rig.loop);
    sim_world_run_for(rig.world, IO_MS(5000));
    assert_true(store_is_full(rig.store));
    int64_t kept = block_retention_start(filler, 0, -1, 0);
    assert_true(kept > 0);
    assert_int_equal(block_trim(filler, kept), 0);
    io_loop_wake(rig.loop);
    sim_world_run_for(rig.world, IO_MS(3000));
    assert_false(store_is_full(rig.store));
    assert_int_equal(rig_append(block, 1, 20000, 2), 0);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 2);
    rig_crash(&rig, true);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
    assert_int_equal(block_end(block), 2);
    rig_free(&rig);
}

/* One append that is too large for what is left does not hold up the small ones. */
static void small_appends_go_on(void **state)
{
    struct rig rig;
    rig_init(&rig, 4);
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.capacity = 1 << 20});
    assert_int_equal(rig_start(&rig), 0);
    struct block *blocks[2];
    for (uint32_t i = 0; i < 2; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_create(rig.store, &key, 0, NULL, &blocks[i]), 0);
    }
    assert_int_equal(rig_append(blocks[0], 1, 2 << 20, 1), CLYMQ_ENOSPC);
    assert_true(store_is_full(rig.store));
    int small = 0, error;
    while ((error = rig_append(blocks[1], 1, 10000, 1)) == 0) {
        small++;
        if (small == 10) { /* the large one stays refused, and is not tried: what is left is not used up */
            assert_int_equal(rig_append(blocks[0], 1, 2 << 20, 1), CLYMQ_ENOSPC);
            io_loop_wake(rig.loop);
            sim_world_run_for(rig.world, IO_MS(5000));
            assert_true(store_is_full(rig.store));
        }
        rig_settle(&rig);
    }
    assert_int_equal(error, CLYMQ_ENOSPC);
    print_message("%d small ones\n", small);
    assert_true(small > 50);
    while ((error = rig_append(blocks[1], 1, 10, 1)) == 0)
        rig_settle(&rig);
    assert_int_equal(error, CLYMQ_ENOSPC);
    struct block_key key = rig_key(7);
    struct block *more;
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &more), CLYMQ_ENOSPC);
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.capacity = 8 << 20});
    io_loop_wake(rig.loop);
    sim_world_run_for(rig.world, IO_MS(3000));
    assert_false(store_is_full(rig.store));
    assert_int_equal(rig_append(blocks[0], 1, 2 << 20, 1), 0);
    rig_free(&rig);
}

/* Without memory for the timer that looks for space, it is found all the same. */
static void found_without_a_timer(void **state)
{
    struct rig rig;
    rig_init(&rig, 5);
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.capacity = 1 << 20});
    assert_int_equal(rig_start(&rig), 0);
    struct block_key key = rig_key(0);
    struct block *block;
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    refused_timer_begin(rig.loop, &rig.store->space_timer);
    assert_int_equal(rig_append(block, 1, 2 << 20, 1), CLYMQ_ENOSPC);
    assert_true(refused_timer.count > 0);
    assert_true(store_is_full(rig.store));
    assert_int_equal(rig_append(block, 1, 2 << 20, 1), CLYMQ_ENOSPC);
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.capacity = 16 << 20});
    assert_int_equal(rig_append(block, 1, 2 << 20, 1), 0); /* still no memory for the timer */
    refused_timer_end(rig.loop);
    (void)rig_append(block, 1, 2 << 20, 1);
    io_loop_wake(rig.loop);
    sim_world_run_for(rig.world, IO_MS(3000));
    assert_false(store_is_full(rig.store));
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(refused_until_there_is_space),
        cmocka_unit_test(small_appends_go_on),
        cmocka_unit_test(found_without_a_timer),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
