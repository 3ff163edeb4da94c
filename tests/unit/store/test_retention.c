/* Retention: which segments size and age let go, and that they go only when they may. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/fsck.h"
#include "store_rig.h"

#define DIR "data/aabb0000000000000000000000000000/0/0"

/* Nine batches, three a segment; timestamps 1000, 1001 … */
static struct block *fill(struct rig *rig)
{
    rig_init(rig, 3);
    rig->config.segment_bytes = 4096;
    assert_int_equal(rig_start(rig), 0);
    struct block *block;
    struct block_key key = rig_key(0);
    assert_int_equal(block_create(rig->store, &key, 0, NULL, &block), 0);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
    rig_settle(rig);
    return block;
}

static size_t count_logs(struct rig *rig)
{
    char **names;
    size_t count, logs = 0;
    assert_int_equal(io_fs_list(rig->fs, DIR, &names, &count), 0);
    for (size_t i = 0; i < count; i++)
        logs += strlen(names[i]) == 24 && strcmp(names[i] + 20, ".log") == 0;
    io_fs_free_names(names, count);
    return logs;
}

static void size_lets_whole_segments_go(void **state)
{
    struct rig rig;
    struct block *block = fill(&rig);
    int64_t size = (int64_t)block_size(block);
    assert_int_equal(block_retention_start(block, -1, -1, 0), 0);
    assert_int_equal(block_retention_start(block, size, -1, 0), 0);
    assert_int_equal(block_retention_start(block, size * 2 / 3, -1, 0), 3);
    assert_int_equal(block_retention_start(block, 0, -1, 0), 6); /* the active one stays */
    assert_int_equal(block_trim(block, 3), 0);
    struct block_range range;
    assert_int_equal(block_read(block, 2, 9, 100, &range), CLYMQ_EOFFSET_RANGE);
    assert_int_equal(block_read(block, 3, 9, 100, &range), 0);
    /* What is being sent stays readable although its segment goes. */
    assert_int_equal(block_trim(block, 6), 0);
    rig_settle(&rig);
    assert_int_equal(block_start(block), 6);
    assert_int_equal(count_logs(&rig), 1);
    uint8_t *data = malloc(range.len);
    assert_int_equal(io_file_pread(range.file, data, range.len, range.position), (int)range.len);
    struct batch_header header;
    assert_int_equal(batch_check(bytes_of(data, range.len), UINT32_MAX, &header), 0);
    assert_int_equal(header.base_offset, 3);
    free(data);
    block_range_release(&range);
    assert_int_equal(block_trim(block, 10), CLYMQ_EINVAL);
    rig_crash(&rig, true);
    assert_int_equal(rig_start(&rig), 0);
    struct block_key key = rig_key(0);
    struct block_recovery recovery;
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
    assert_false(recovery.damaged);
    assert_int_equal(block_start(block), 6);
    assert_int_equal(block_end(block), 9);
    rig_free(&rig);
}

static void age_goes_by_the_newest_message(void **state)
{
    struct rig rig;
    struct block *block = fill(&rig);
    assert_int_equal(block_retention_start(block, -1, 100, 1102), 0);
    assert_int_equal(block_retention_start(block, -1, 100, 1103), 3);
    assert_int_equal(block_retention_start(block, -1, 100, 1105), 3);
    assert_int_equal(block_retention_start(block, -1, 100, 1106), 6);
    assert_int_equal(rig_stop(&rig), 0);
    assert_int_equal(rig_start(&rig), 0);
    /* The same from the summaries, and with one lost from the log. */
    assert_int_equal(io_fs_unlink(rig.fs, DIR "/00000000000000000000.summary"), 0);
    struct block_key key = rig_key(0);
    assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
    assert_int_equal(block_retention_start(block, -1, 100, 1102), 0);
    assert_int_equal(block_retention_start(block, -1, 100, 1103), 3);
    assert_int_equal(block_retention_start(block, -1, 100, 1106), 6);
    rig_free(&rig);
}

static void an_old_active_segment_is_closed(void **state)
{
    struct rig rig;
    struct block *block = fill(&rig);
    int64_t now = io_loop_wall_ms(rig.loop);
    assert_int_equal(block_retention_start(block, 0, -1, now + rig.config.segment_ms + 1000), 9);
    assert_int_equal(rig_append(block, 1, 100, 1), 0);
    rig_settle(&rig);
    assert_int_equal(block_trim(block, 9), 0);
    rig_settle(&rig);
    assert_int_equal(count_logs(&rig), 1);
    rig_free(&rig);
}

static void time_is_found_across_segments(void **state)
{
    struct rig rig;
    struct block *block = fill(&rig);
    int64_t offset, time_ms;
    for (int64_t want = 0; want < 9; want++) {
        assert_int_equal(block_find_time(block, 1000 + want, 9, &offset, &time_ms), 0);
        assert_int_equal(offset, want);
        assert_int_equal(time_ms, 1000 + want);
    }
    assert_int_equal(block_find_time(block, 0, 9, &offset, &time_ms), 0);
    assert_int_equal(offset, 0);
    assert_int_equal(block_find_time(block, 1009, 9, &offset, &time_ms), CLYMQ_ENOENT);
    assert_int_equal(block_find_time(block, 1005, 5, &offset, &time_ms), CLYMQ_ENOENT);
    assert_int_equal(block_trim(block, 4), 0);
    assert_int_equal(block_find_time(block, 0, 9, &offset, &time_ms), 0);
    assert_int_equal(offset, 4);
    rig_free(&rig);
}

/* The log start had moved on, and the state file that says so cannot be read: the older one, which it was put
 * on top of, names files that are gone. Also where the first start after that comes to nothing. */
static void a_log_start_that_was_lost_is_read_from_the_files(void **state)
{
    static const int64_t starts[] = {3, 6};
    for (int which = 0; which < 4; which++) {
        struct rig rig;
        (void)fill(&rig);
        assert_int_equal(rig_stop(&rig), 0);
        assert_int_equal(rig_start(&rig), 0); /* the marks of the first run are in base.state */
        struct block *block;
        struct block_key key = rig_key(0);
        assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
        for (int i = 9; i < 12; i++)
            assert_int_equal(rig_append(block, 1, 1200, (uint64_t)i), 0);
        rig_settle(&rig);
        int64_t start = starts[which / 2];
        assert_int_equal(block_trim(block, start), 0);
        rig_settle(&rig);
        assert_int_equal(count_logs(&rig), 4 - start / 3);
        rig_crash(&rig, false);
        assert_int_equal(sim_process_flip_bits(rig.process, "state/0.state", 0, 8, 1), 0);
        struct fsck_totals totals;
        assert_int_equal(fsck_run(rig.fs, &(struct fsck_options){0}, &totals), 0);
        assert_int_equal(totals.damages, 0);
        assert_true(totals.harmless > 0);
        assert_int_equal(rig_start(&rig), 0);
        if (which % 2) {
            rig_crash(&rig, false);
            assert_int_equal(rig_start(&rig), 0);
        }
        for (int run = 0; run < 2; run++) {
            struct block_recovery recovery;
            assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
            assert_false(recovery.damaged);
            assert_int_equal(block_start(block), start);
            assert_int_equal(block_end(block), 12 + run);
            struct strbuf text = {0};
            assert_int_equal(rig_read_all(block, start, 12, 1 << 20, &text), 0);
            strbuf_free(&text);
            assert_int_equal(rig_append(block, 1, 100, 1), 0);
            rig_settle(&rig);
            rig_crash(&rig, true);
            assert_int_equal(rig_start(&rig), 0);
        }
        rig_free(&rig);
    }
}

/* Whole state files are believed: a log that begins behind their log start has lost something. */
static void a_missing_first_file_is_damage(void **state)
{
    struct rig rig;
    (void)fill(&rig);
    rig_crash(&rig, false);
    assert_int_equal(io_fs_unlink(rig.fs, DIR "/00000000000000000000.log"), 0);
    assert_int_equal(rig_start(&rig), 0);
    struct block *block;
    struct block_key key = rig_key(0);
    struct block_recovery recovery;
    assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
    assert_true(recovery.damaged);
    assert_int_equal(recovery.damaged_offset, 0);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(size_lets_whole_segments_go),
        cmocka_unit_test(age_goes_by_the_newest_message),
        cmocka_unit_test(an_old_active_segment_is_closed),
        cmocka_unit_test(time_is_found_across_segments),
        cmocka_unit_test(a_log_start_that_was_lost_is_read_from_the_files),
        cmocka_unit_test(a_missing_first_file_is_damage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
