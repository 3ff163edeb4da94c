/* Group commit: when a pass begins, and when what it needs is missing, descriptors for a time, a file for
 * good. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store_impl.h"
#include "store_rig.h"

enum { BLOCKS = 40 }; /* more than the cache of open files holds */

/* Opening of existing files fails with this, where set. */
static int open_error;
static const struct io_fs_ops *real_ops;

static int open_or_fail(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    return open_error ? open_error : real_ops->open(fs, path, flags, ret_file);
}

struct outcome {
    int error, times;
};

static void on_sealed(void *ctx, struct block *block, int error)
{
    struct outcome *outcome = ctx;
    outcome->error = error;
    outcome->times++;
}

/* Blocks with something unsynced in files that were closed meanwhile, the first of them being sealed. */
static void begin(struct rig *rig, struct block *blocks[BLOCKS], struct outcome *sealed)
{
    static struct io_fs_ops ops;
    rig_init(rig, 1);
    rig->config.fsync = STORE_FSYNC_NEVER; /* nothing keeps the files open until their sync */
    rig->config.max_open_files = 16;
    real_ops = rig->fs->ops;
    ops = *real_ops;
    ops.open = open_or_fail;
    rig->fs->ops = &ops;
    assert_int_equal(rig_start(rig), 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_create(rig->store, &key, 0, NULL, &blocks[i]), 0);
        assert_int_equal(rig_append(blocks[i], 1, 10, i), 0);
    }
    *sealed = (struct outcome){0};
    block_seal(blocks[0], on_sealed, sealed);
}

static void end(struct rig *rig)
{
    open_error = 0;
    rig->fs->ops = real_ops;
    rig_free(rig);
}

static void missing_descriptors_are_waited_out(void **state)
{
    struct rig rig;
    struct block *blocks[BLOCKS];
    struct outcome sealed;
    begin(&rig, blocks, &sealed);
    open_error = CLYMQ_ELIMIT;
    rig_settle(&rig);
    assert_int_equal(sealed.times, 0);
    assert_int_equal(block_error(blocks[0]), 0);
    open_error = 0;
    for (int i = 0; i < 100 && sealed.times == 0; i++)
        rig_settle(&rig);
    assert_int_equal(sealed.times, 1);
    assert_int_equal(sealed.error, 0);
    end(&rig);
}

/* A stop does not wait for ever: what cannot be synced is left to the next start. */
static void a_stop_ends_without_descriptors(void **state)
{
    struct rig rig;
    struct block *blocks[BLOCKS];
    struct outcome sealed;
    begin(&rig, blocks, &sealed);
    open_error = CLYMQ_ELIMIT;
    assert_int_equal(rig_stop(&rig), CLYMQ_ELIMIT);
    open_error = 0;
    assert_int_equal(rig_start(&rig), 0);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_open(rig.store, &key, NULL, &blocks[i], NULL), 0);
        assert_int_equal(block_end(blocks[i]), 1);
    }
    end(&rig);
}

/* Otherwise whoever waits for the sync would wait for ever. */
static void a_file_that_cannot_be_opened_fails_its_block(void **state)
{
    struct rig rig;
    struct block *blocks[BLOCKS];
    struct outcome sealed;
    begin(&rig, blocks, &sealed);
    open_error = CLYMQ_EIO;
    rig_settle(&rig);
    open_error = 0;
    rig_settle(&rig);
    assert_int_equal(sealed.times, 1);
    assert_int_equal(sealed.error, CLYMQ_EIO);
    assert_int_equal(block_error(blocks[0]), CLYMQ_EIO);
    end(&rig);
}

/* A pass put off while nobody waits comes by itself, and at once for who waits. */
static void a_pass_lingers_until_it_is_wanted(void **state)
{
    struct rig rig;
    struct block *block;
    struct block_key key = rig_key(1);
    rig_init(&rig, 2);
    rig.config.commit_linger_ms = 1000;
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    sim_world_run_for(rig.world, IO_MS(5000));
    assert_int_equal(rig_append(block, 1, 10, 1), 0);
    rig_settle(&rig); /* the last pass was long ago */
    assert_int_equal(block_durable_end(block), 1);
    assert_int_equal(rig_append(block, 1, 10, 2), 0);
    rig_settle(&rig);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 1);
    sim_world_run_for(rig.world, IO_MS(1000));
    assert_int_equal(block_durable_end(block), 2);
    assert_int_equal(rig_append(block, 1, 10, 3), 0);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 2);
    block_want_commit(block);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 3);
    block_want_commit(block); /* of what is not there yet */
    assert_int_equal(rig_append(block, 1, 10, 4), 0);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), 4);
    assert_int_equal(rig_append(block, 1, 10, 5), 0);
    assert_int_equal(rig_stop(&rig), 0); /* a stop does not linger either */
    rig_free(&rig);
}

/* What recovery reads after many blocks were appended to without a pause does not grow with what was
 * appended. */
static void checkpoints_keep_up_with_many_blocks(void **state)
{
    enum { MANY = 200, ROUNDS = 100, LEN = 1000 };
    static struct block *blocks[MANY];
    struct rig rig;
    uint64_t read = 0;
    rig_init(&rig, 3);
    rig.config.checkpoint_bytes = 256 << 10;
    assert_int_equal(rig_start(&rig), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_create(rig.store, &key, 0, NULL, &blocks[i]), 0);
    }
    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < MANY; i++)
            assert_int_equal(rig_append(blocks[i], 1, LEN, i), 0);
        rig_settle(&rig);
    }
    rig_crash(&rig, false);
    assert_int_equal(rig_start(&rig), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        struct block_key key = rig_key(i);
        struct block_recovery recovery;
        assert_int_equal(block_open(rig.store, &key, NULL, &blocks[i], &recovery), 0);
        read += recovery.bytes_read;
    }
    /* Two passes' worth, beside the bound; all of it is 20 MB. */
    assert_in_range(read, 1, (256 << 10) + 2 * MANY * (LEN + 100));
    rig_free(&rig);
}

/* A block that was closed while its sync ran, and opened again before that failed, has the same files: its
 * next sync would succeed and tell nothing. */
static void a_failed_sync_reaches_a_block_opened_again(void **state)
{
    static const struct sim_disk_faults fail = {
        .eio_sync_ppm = 1000000, .sync_min_ns = IO_MS(50), .sync_max_ns = IO_MS(50)};
    struct rig rig;
    struct block *block;
    struct block_key key = rig_key(1);
    rig_init(&rig, 5);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    rig_settle(&rig);
    assert_int_equal(rig_append(block, 1, 10, 1), 0);
    sim_process_set_disk_faults(rig.process, &fail);
    block_want_commit(block);
    io_loop_wake(rig.loop);
    sim_world_run_for(rig.world, IO_MS(10));
    block_close(block);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
    assert_int_equal(block_error(block), 0);
    sim_world_run_for(rig.world, IO_MS(60)); /* less than a second sync takes until then */
    sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){0});
    rig_settle(&rig);
    assert_int_equal(block_error(block), CLYMQ_EIO);
    assert_int_equal(block_durable_end(block), 0);
    rig_free(&rig);
}

/* A block that is sealed while a checkpoint of it is being written is sealed by the next one. */
static void a_seal_waits_for_a_running_checkpoint(void **state)
{
    static const struct sim_disk_faults slow = {.sync_min_ns = IO_MS(50), .sync_max_ns = IO_MS(50)};
    struct rig rig;
    struct block *block;
    struct block_key key = rig_key(1);
    struct outcome sealed = {0};
    rig_init(&rig, 6);
    rig.config.checkpoint_bytes = 64 << 10;
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    rig_settle(&rig);
    sim_process_set_disk_faults(rig.process, &slow);
    assert_int_equal(rig_append(block, 1, 100000, 1), 0);
    io_loop_wake(rig.loop);
    for (int step = 0; !block->checkpointing; step++) {
        assert_in_range(step, 0, 10000);
        assert_true(sim_world_step(rig.world));
    }
    block_seal(block, on_sealed, &sealed);
    for (int i = 0; i < 20 && sealed.times == 0; i++)
        rig_settle(&rig);
    assert_int_equal(sealed.times, 1);
    assert_int_equal(sealed.error, 0);
    assert_int_equal(block_durable_end(block), 1);
    rig_free(&rig);
}

/* A seal that waits while the sync of another one's entry fails is not told as done by a second sync, which
 * would make nothing of what the first one lost durable. */
static void a_seal_that_was_told_survives_failed_syncs(void **state)
{
    enum { SEALED = 8 };
    static const struct sim_disk_faults fail = {
        .eio_sync_ppm = 100000, .sync_min_ns = IO_MS(2), .sync_max_ns = IO_MS(8)};
    static const struct sim_disk_faults slow = {.sync_min_ns = IO_MS(2), .sync_max_ns = IO_MS(8)};
    int told = 0, failed = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct rig rig;
        struct block *blocks[SEALED];
        struct outcome sealed[SEALED] = {0};
        rig_init(&rig, seed);
        assert_int_equal(rig_start(&rig), 0);
        for (uint32_t i = 0; i < SEALED; i++) {
            struct block_key key = rig_key(i);
            assert_int_equal(block_create(rig.store, &key, 0, NULL, &blocks[i]), 0);
            assert_int_equal(rig_append(blocks[i], 1, 10, i), 0);
        }
        rig_settle(&rig);
        sim_process_set_disk_faults(rig.process, &slow);
        for (uint32_t i = 0; i < SEALED; i++) {
            if (i == SEALED / 2)
                sim_process_set_disk_faults(rig.process, &fail);
            block_seal(blocks[i], on_sealed, &sealed[i]);
            io_loop_wake(rig.loop);
            sim_world_run_for(rig.world, IO_MS(1));
        }
        rig_settle(&rig);
        sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){0});
        rig_settle(&rig);
        rig_crash(&rig, true);
        assert_int_equal(rig_start(&rig), 0);
        for (uint32_t i = 0; i < SEALED; i++) {
            struct block_key key = rig_key(i);
            assert_int_equal(sealed[i].times, 1);
            assert_int_equal(block_open(rig.store, &key, NULL, &blocks[i], NULL), 0);
            assert_true(sealed[i].error || block_is_sealed(blocks[i]));
            told += !sealed[i].error;
            failed += sealed[i].error != 0;
        }
        rig_free(&rig);
    }
    assert_true(told > 0 && failed > 0);
}

static unsigned renames;

static int count_rename(struct io_fs *fs, const char *from, const char *to)
{
    renames += strstr(to, "state") != NULL;
    return real_ops->rename(fs, from, to);
}

/* That blocks of earlier runs are gone has to be kept, however much that is: the state file is made anew when
 * it has grown, not with each of them. */
static void many_deletions_rewrite_the_state_seldom(void **state)
{
    enum { MANY = 300 };
    static struct io_fs_ops ops;
    struct rig rig;
    struct block *block;
    struct block_recovery recovery;
    rig_init(&rig, 4);
    assert_int_equal(rig_start(&rig), 0);
    for (uint32_t i = 0; i < MANY; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    }
    assert_int_equal(rig_stop(&rig), 0);
    real_ops = rig.fs->ops;
    ops = *real_ops;
    ops.rename = count_rename;
    rig.fs->ops = &ops;
    rig.config.state_bytes = 1024;
    assert_int_equal(rig_start(&rig), 0);
    renames = 0;
    for (uint32_t i = 0; i < MANY; i++) {
        struct block_key key = rig_key(i);
        assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
        assert_int_equal(block_delete(block), 0);
        rig_settle(&rig);
    }
    assert_in_range(renames, 1, 5);
    end(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(missing_descriptors_are_waited_out),
        cmocka_unit_test(a_stop_ends_without_descriptors),
        cmocka_unit_test(a_pass_lingers_until_it_is_wanted),
        cmocka_unit_test(checkpoints_keep_up_with_many_blocks),
        cmocka_unit_test(a_file_that_cannot_be_opened_fails_its_block),
        cmocka_unit_test(a_failed_sync_reaches_a_block_opened_again),
        cmocka_unit_test(a_seal_waits_for_a_running_checkpoint),
        cmocka_unit_test(a_seal_that_was_told_survives_failed_syncs),
        cmocka_unit_test(many_deletions_rewrite_the_state_seldom),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
