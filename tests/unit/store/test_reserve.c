/* Disk space reserved ahead of a segment's end: how often it is asked for, and when it is given back. Both
 * may wait for a busy disk, and everybody of the shard with them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store_rig.h"

enum { SEGMENT = 1 << 20, BATCH = 60000 };

static struct io_fs_ops ops;
static const struct io_fs_ops *real_ops;
static int allocations, cuts;

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
    return real_ops->allocate(file, offset, len);
}

static int count_truncate(struct io_file *file, uint64_t size)
{
    cuts++;
    return real_ops->truncate(file, size);
}

static struct block *begin(struct rig *rig)
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
    rig->fs->ops = &ops;
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_create(rig->store, &key, 0, NULL, &block), 0);
    allocations = cuts = 0;
    return block;
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(full_segments_ask_once_and_are_not_cut),
        cmocka_unit_test(a_segment_that_ends_early_gives_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
