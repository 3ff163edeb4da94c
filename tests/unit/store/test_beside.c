/* Group commit with several small passes at a time: what is gained, what is too much for it, and that no
 * error of one is taken for another's success. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store_impl.h"
#include "store_rig.h"

enum { SYNC_MS = 10 };

struct told {
    int64_t durable;
    int error;
};

static void on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct told *told = ctx;
    if (error)
        told->error = error;
    else
        told->durable = durable_end;
}

static void set_sync(struct rig *rig, uint64_t min_ns, uint64_t max_ns, uint32_t eio_ppm)
{
    const struct sim_disk_faults faults = {.sync_min_ns = min_ns,
                                           .sync_max_ns = max_ns,
                                           .eio_sync_ppm = eio_ppm,
                                           .lose_all_unsynced = eio_ppm > 0};
    sim_process_set_disk_faults(rig->process, &faults);
}

static void run_for(struct rig *rig, uint64_t ns)
{
    io_loop_wake(rig->loop);
    sim_world_run_for(rig->world, ns);
}

/* Appends one message that somebody waits for. 0 or the error of appending. */
static int push(struct block *block, size_t len)
{
    int error = rig_append(block, 1, len, (uint64_t)block_end(block));
    if (!error)
        block_want_commit(block);
    return error;
}

/* A block with six messages, all durable. */
static struct block *begin_here(struct rig *rig, struct told *told)
{
    struct block_events events = {.on_durable = on_durable, .ctx = told};
    struct block *block;
    *told = (struct told){0};
    struct block_key key = rig_key(1);
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_create(rig->store, &key, 0, &events, &block), 0);
    rig_settle(rig);
    set_sync(rig, IO_MS(SYNC_MS), IO_MS(SYNC_MS), 0);
    for (int i = 0; i < 6; i++)
        assert_int_equal(push(block, 10), 0);
    rig_settle(rig);
    assert_int_equal(told->durable, 6);
    return block;
}

static struct block *begin(struct rig *rig, uint64_t seed, struct told *told)
{
    rig_init(rig, seed);
    return begin_here(rig, told);
}

/* One begins each millisecond and takes ten: four run, and what is pushed after goes together with the next.
 */
static void a_small_pass_does_not_wait_for_others(void **state)
{
    struct rig rig;
    struct told told;
    struct block *block = begin(&rig, 1, &told);
    for (unsigned i = 1; i <= SEGMENT_OPENINGS; i++) {
        assert_int_equal(push(block, 10), 0);
        run_for(&rig, IO_MS(1));
        assert_int_equal(rig.store->pass_count, i);
    }
    for (int i = 0; i < 3; i++) {
        assert_int_equal(push(block, 10), 0);
        run_for(&rig, IO_MS(1));
        assert_int_equal(rig.store->pass_count, SEGMENT_OPENINGS);
    }
    assert_int_equal(told.durable, 6);
    for (int i = 1; i <= SEGMENT_OPENINGS; i++) {
        run_for(&rig, i == 1 ? IO_MS(SYNC_MS - SEGMENT_OPENINGS - 3) + IO_MS(1) / 2 : IO_MS(1));
        assert_int_equal(told.durable, 6 + i);
    }
    assert_int_equal(rig.store->pass_count, 1);
    run_for(&rig, IO_MS(SYNC_MS - SEGMENT_OPENINGS + 1));
    assert_int_equal(told.durable, 13);
    assert_int_equal(rig.store->pass_count, 0);
    rig_free(&rig);
}

/* A sync that takes longer than those begun after it: they are told when it is over. */
static void passes_end_in_their_order(void **state)
{
    struct rig rig;
    struct told told;
    struct block *block = begin(&rig, 6, &told);
    assert_int_equal(push(block, 10), 0);
    run_for(&rig, IO_MS(1));
    set_sync(&rig, IO_MS(1), IO_MS(1), 0);
    for (int i = 1; i < SEGMENT_OPENINGS; i++) {
        assert_int_equal(push(block, 10), 0);
        run_for(&rig, IO_MS(1) + IO_MS(1) / 2);
        assert_int_equal(rig.store->pass_count, i + 1);
    }
    assert_int_equal(told.durable, 6);
    run_for(&rig, IO_MS(SYNC_MS));
    assert_int_equal(told.durable, 6 + SEGMENT_OPENINGS);
    assert_int_equal(rig.store->pass_count, 0);
    rig_free(&rig);
}

/* Large passes use the disk well, and nobody shall hurry where nobody waits. */
static void no_pass_begins_beside(void **state)
{
    for (int which = 0; which < 4; which++) {
        struct rig rig;
        struct told told;
        struct block *block = begin(&rig, 2, &told);
        rig.config.commit_linger_ms = 0;
        assert_int_equal(push(block, which == 0 ? 40000 : 10), 0);
        run_for(&rig, IO_MS(1));
        assert_true(rig.store->pass_count > 0);
        if (which == 1)
            assert_int_equal(push(block, 40000), 0);
        else if (which == 2)
            assert_int_equal(rig_append(block, 1, 10, 1), 0);
        else
            assert_int_equal(push(block, 10), 0);
        if (which == 3)
            commit_force(rig.store); /* what a seal or a stop wants is a whole pass */
        run_for(&rig, IO_MS(1));
        assert_true(rig.store->pass_count < 2);
        rig_settle(&rig);
        assert_int_equal(block_durable_end(block), 8);
        rig_free(&rig);
    }
}

/* One sync may hear of another's failure and the other not: nothing is told durable that is not. */
static void errors_are_not_mistaken_for_each_others(void **state)
{
    unsigned failed = 0, beside = 0;
    for (uint64_t seed = 1; seed <= 500; seed++) {
        struct rig rig;
        struct told told;
        struct block *block = begin(&rig, seed, &told);
        /* They overtake each other, and are told of in any order; each message has pages of its own, which no
         * later one makes whole again. */
        set_sync(&rig, IO_MS(1) / 100, IO_MS(1) / 5, 20000);
        for (int i = 0; i < 500 && push(block, 5000) == 0; i++) {
            run_for(&rig, IO_MS(1) / 50);
            beside += rig.store->pass_count == SEGMENT_OPENINGS;
        }
        rig_settle(&rig);
        failed += told.error == CLYMQ_EIO;
        rig_crash(&rig, true);
        set_sync(&rig, 0, IO_MS(1), 0);
        assert_int_equal(rig_start(&rig), 0);
        struct block_key key = rig_key(1);
        struct block_recovery recovery;
        assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
        assert_false(recovery.damaged);
        assert_true(block_end(block) >= told.durable);
        rig_free(&rig);
    }
    assert_true(failed > 450 && beside > 10000);
}

/* A block that was closed under its sync and opened again has the same files, of whose errors only that sync
 * may hear: the next one, which is quicker here, is not believed before. */
static void a_block_opened_again_waits_for_the_old_pass(void **state)
{
    struct rig rig;
    struct told told;
    struct block *block = begin(&rig, 5, &told);
    assert_int_equal(push(block, 10), 0);
    run_for(&rig, IO_MS(1));
    block_close(block);
    struct block_key key = rig_key(1);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
    set_sync(&rig, IO_MS(1), IO_MS(1), 0);
    assert_int_equal(push(block, 10), 0);
    run_for(&rig, IO_MS(1) / 2);
    assert_true(rig.store->pass_count > 1);
    int64_t durable = block_durable_end(block);
    run_for(&rig, IO_MS(SYNC_MS - 4));
    assert_int_equal(block_durable_end(block), durable);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 8);
    rig_free(&rig);
}

/* Closed, or stopped, while passes run. */
static void a_block_may_close_under_them(void **state)
{
    for (int stops = 0; stops < 2; stops++) {
        struct rig rig;
        struct told told;
        struct block *block = begin(&rig, 3, &told);
        assert_int_equal(push(block, 10), 0);
        run_for(&rig, IO_MS(1));
        assert_int_equal(push(block, 10), 0);
        run_for(&rig, IO_MS(1));
        assert_true(rig.store->pass_count > 1);
        if (!stops)
            block_close(block);
        assert_int_equal(rig_stop(&rig), 0);
        assert_int_equal(rig_start(&rig), 0);
        struct block_key key = rig_key(1);
        assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
        assert_int_equal(block_end(block), 8);
        rig_free(&rig);
    }
}

/* A checkpoint is captured when a pass begins alone: those that would overlap without end let it. */
static void passes_without_end_let_checkpoints_be_taken(void **state)
{
    struct rig rig;
    struct told told;
    rig_init(&rig, 7);
    rig.config.checkpoint_bytes = 64 << 10;
    struct block *block = begin_here(&rig, &told);
    uint64_t most = 0;
    for (int i = 0; i < 500; i++) {
        assert_int_equal(push(block, 1000), 0);
        run_for(&rig, IO_MS(SYNC_MS / 3));
        if (rig.store->backlog_bytes > most)
            most = rig.store->backlog_bytes;
    }
    assert_true(most >= 64 << 10 && most < 128 << 10);
    rig_settle(&rig);
    rig_free(&rig);
}

/* The file's further openings are a convenience: without descriptors all goes on, one pass at a time. */
static int refuse_open(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    return CLYMQ_ELIMIT;
}

static void without_descriptors_passes_take_turns(void **state)
{
    struct rig rig;
    struct told told;
    struct block *block = begin(&rig, 4, &told);
    const struct io_fs_ops *real = rig.fs->ops;
    struct io_fs_ops ops = *real;
    ops.open = refuse_open;
    rig.fs->ops = &ops;
    for (int i = 0; i < 50; i++) {
        assert_int_equal(push(block, 10), 0);
        run_for(&rig, IO_MS(1));
        assert_true(rig.store->pass_count < 2);
    }
    rig_settle(&rig);
    assert_int_equal(told.durable, 56);
    rig.fs->ops = real;
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_small_pass_does_not_wait_for_others),
        cmocka_unit_test(passes_end_in_their_order),
        cmocka_unit_test(no_pass_begins_beside),
        cmocka_unit_test(errors_are_not_mistaken_for_each_others),
        cmocka_unit_test(a_block_opened_again_waits_for_the_old_pass),
        cmocka_unit_test(a_block_may_close_under_them),
        cmocka_unit_test(passes_without_end_let_checkpoints_be_taken),
        cmocka_unit_test(without_descriptors_passes_take_turns),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
