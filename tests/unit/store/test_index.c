/* Indexes that fail while they are in use: damaged after they were checked, or unreadable while they are made
 * again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/store_impl.h"
#include "store_rig.h"

enum { BATCHES = 200, VALUE = 200, TRIES = 40 };

static const char index_path[] = "data/aabb0000000000000000000000000000/0/0/00000000000000000000.index";

static void save(void *ctx, struct strbuf *state)
{
    strbuf_append_text(state, "state");
}

static int load(void *ctx, struct bytes state)
{
    return 0;
}

static int recover(void *ctx, const struct batch_header *header, struct bytes batch)
{
    return 0;
}

static const struct block_events events = {
    .on_recover = recover, .on_snapshot_save = save, .on_snapshot_load = load};

static void start(struct rig *rig, uint64_t seed, struct block **ret_block)
{
    struct block_key key = rig_key(0);
    rig_init(rig, seed);
    rig->config.index_interval_bytes = 512;
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_create(rig->store, &key, 0, &events, ret_block), 0);
    for (int i = 0; i < BATCHES; i++)
        assert_int_equal(rig_append(*ret_block, 1, VALUE, (uint64_t)i), 0);
    rig_settle(rig);
}

static void restart(struct rig *rig, struct block **ret_block)
{
    struct block_key key = rig_key(0);
    struct block_recovery recovery;
    assert_int_equal(rig_stop(rig), 0);
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_open(rig->store, &key, &events, ret_block, &recovery), 0);
}

/* Found by clymq-sim: an entry whose position lay behind the log made a good offset look damaged. */
static void bits_flipped_in_use_do_no_harm(void **state)
{
    for (uint64_t seed = 1; seed <= TRIES; seed++) {
        struct rig rig;
        struct block *block;
        struct block_range range;
        start(&rig, seed, &block);
        restart(&rig, &block);
        assert_int_equal(block_read(block, BATCHES / 2, BATCHES, 1, &range), 0); /* checks the index */
        block_range_release(&range);
        assert_int_equal(sim_process_flip_bits(rig.process, index_path, 0, 1 << 20, 8), 0);
        for (int64_t offset = 0; offset < BATCHES; offset++) {
            /* From the far end to the near one, so that no place is remembered. */
            int64_t asked = BATCHES - 1 - offset;
            assert_int_equal(block_read(block, asked, BATCHES, 1, &range), 0);
            assert_int_equal(range.first_offset, asked);
            block_range_release(&range);
        }
        rig_free(&rig);
    }
}

/* Found by clymq-sim: the next checkpoint ended the program. */
static void a_rebuild_that_fails_leaves_checkpoints_possible(void **state)
{
    for (uint64_t seed = 1; seed <= TRIES; seed++) {
        struct rig rig;
        struct block *block;
        struct block_range range;
        start(&rig, seed, &block);
        restart(&rig, &block);
        assert_int_equal(sim_process_flip_bits(rig.process, index_path, 0, 1 << 20, 8), 0);
        struct sim_disk_faults faults = {.eio_read_ppm = 200000};
        sim_process_set_disk_faults(rig.process, &faults);
        for (int i = 0; i < 5; i++)
            if (block_read(block, BATCHES / 2, BATCHES, 1, &range) == 0)
                block_range_release(&range);
        faults.eio_read_ppm = 0;
        sim_process_set_disk_faults(rig.process, &faults);
        assert_int_equal(rig_append(block, 1, VALUE, 1000), 0);
        rig_settle(&rig);
        assert_int_equal(block_durable_end(block), BATCHES + 1);
        restart(&rig, &block); /* checkpoints */
        int64_t offset, timestamp_ms;
        assert_int_equal(block_find_time(block, 1000 + BATCHES / 2, BATCHES, &offset, &timestamp_ms), 0);
        assert_int_equal(offset, BATCHES / 2);
        rig_free(&rig);
    }
}

/* Found by clymq-sim, seed 4540: zeros ahead that were left behind a closed segment's last batch were given
 * out with it, since the index that would have shown them could not be made. */
static void an_unreadable_rebuild_shows_nothing_behind_the_last_batch(void **state)
{
    static const char closed[] = "data/aabb0000000000000000000000000000/0/0/00000000000000000000";
    char path[100];
    bool read = false, refused = false;
    for (uint64_t seed = 1; seed <= TRIES; seed++) {
        struct rig rig;
        struct block *block;
        struct block_range range;
        struct block_key key = rig_key(0);
        rig_init(&rig, seed);
        rig.config.index_interval_bytes = 512;
        rig.config.segment_bytes = BATCHES * VALUE;
        assert_int_equal(rig_start(&rig), 0);
        assert_int_equal(block_create(rig.store, &key, 0, &events, &block), 0);
        while (block->segment_count < 2)
            assert_int_equal(rig_append(block, 1, VALUE, 1), 0);
        rig_settle(&rig);
        uint32_t size = block->segments[0]->size;
        assert_int_equal(rig_stop(&rig), 0);
        snprintf(path, sizeof(path), "%s.summary", closed);
        assert_int_equal(io_fs_unlink(rig.fs, path), 0);
        struct io_file *log;
        snprintf(path, sizeof(path), "%s.log", closed);
        assert_int_equal(io_fs_open(rig.fs, path, IO_OPEN_WRITE, &log), 0);
        assert_int_equal(io_file_pwrite(log, "\0\0\0", 3, size), 3);
        io_file_close(log);
        assert_int_equal(rig_start(&rig), 0);
        assert_int_equal(block_open(rig.store, &key, &events, &block, NULL), 0);
        sim_process_set_disk_faults(rig.process, &(struct sim_disk_faults){.eio_read_ppm = 20000});
        int error = block_read(block, 0, block_end(block), 1 << 20, &range);
        if (error) {
            assert_int_equal(error, CLYMQ_EIO);
            refused = true;
        } else {
            assert_int_equal(range.len, size);
            block_range_release(&range);
            read = true;
        }
        rig_free(&rig);
    }
    assert_true(read && refused);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bits_flipped_in_use_do_no_harm),
        cmocka_unit_test(a_rebuild_that_fails_leaves_checkpoints_possible),
        cmocka_unit_test(an_unreadable_rebuild_shows_nothing_behind_the_last_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
