/* The offline check: finds what is wrong, calls harmless what is harmless, changes no log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store/fsck.h"
#include "store/store_impl.h"
#include "store_rig.h"

#define DIR "data/aabb0000000000000000000000000000/0/0"

struct found {
    struct fsck_finding last;
    char path[256], sentence[256];
    int count;
};

static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    struct found *found = ctx;
    found->last = *finding;
    snprintf(found->path, sizeof(found->path), "%s", finding->path);
    snprintf(found->sentence, sizeof(found->sentence), "%s", finding->sentence);
    found->count++;
}

static struct found check(struct rig *rig, bool repair, struct fsck_totals *ret_totals)
{
    struct found found = {0};
    struct fsck_options options = {.repair_indexes = repair, .on_finding = on_finding, .ctx = &found};
    assert_int_equal(fsck_run(rig->fs, &options, ret_totals), 0);
    return found;
}

/* Nine batches in three segments, stopped cleanly. */
static void fill(struct rig *rig)
{
    rig_init(rig, 3);
    rig->config.segment_bytes = 4096;
    rig->config.index_interval_bytes = 1000;
    assert_int_equal(rig_start(rig), 0);
    struct block *block;
    struct block_key key = rig_key(0);
    assert_int_equal(block_create(rig->store, &key, 0, NULL, &block), 0);
    for (int i = 0; i < 9; i++)
        assert_int_equal(rig_append(block, 2, 600, (uint64_t)i), 0);
    assert_int_equal(rig_stop(rig), 0);
}

static void a_good_folder_is_good(void **state)
{
    struct rig rig;
    fill(&rig);
    struct fsck_totals totals;
    assert_int_equal(check(&rig, false, &totals).count, 0);
    assert_int_equal(totals.blocks, 1);
    assert_int_equal(totals.segments, 3);
    assert_int_equal(totals.batches, 9);
    assert_int_equal(totals.records, 18);
    assert_int_equal(rig_start(&rig), 0);
    struct fsck_options options = {0};
    assert_int_equal(fsck_run(rig.fs, &options, &totals), CLYMQ_ELOCKED);
    rig_free(&rig);
}

static void no_folder_is_none(void **state)
{
    struct rig rig;
    rig_init(&rig, 1);
    struct fsck_options options = {0};
    struct fsck_totals totals;
    assert_int_equal(fsck_run(rig.fs, &options, &totals), CLYMQ_ENOENT);
    rig_free(&rig);
}

static void finds_flipped_bits_in_any_batch(void **state)
{
    for (int64_t batch = 0; batch < 9; batch++) {
        struct rig rig;
        fill(&rig);
        char path[128];
        snprintf(path, sizeof(path), "%s/%020d.log", DIR, (int)(batch / 3 * 6));
        assert_int_equal(
            sim_process_flip_bits(rig.process, path, (uint64_t)(batch % 3) * 1296 + 100, 1000, 1), 0);
        struct fsck_totals totals;
        struct found found = check(&rig, true, &totals);
        assert_int_equal(totals.damages, 1);
        assert_int_equal(found.last.kind, FSCK_DAMAGED_LOG);
        assert_int_equal(found.last.offset, batch * 2);
        assert_string_equal(found.path, path);
        rig_free(&rig);
    }
}

static void finds_a_missing_segment(void **state)
{
    static const char *const paths[] = {DIR "/00000000000000000000.log", DIR "/00000000000000000006.log",
                                        DIR "/00000000000000000012.log"};
    for (int i = 0; i < 3; i++) {
        struct rig rig;
        fill(&rig);
        assert_int_equal(io_fs_unlink(rig.fs, paths[i]), 0);
        struct fsck_totals totals;
        struct found found = check(&rig, false, &totals);
        assert_int_equal(totals.damages, 1);
        assert_int_equal(found.last.kind, FSCK_MISSING_LOG);
        assert_int_equal(found.last.offset, i * 6);
        rig_free(&rig);
    }
}

/* The state files know the block of that place; the folder says that it is another one, of another place. */
static void finds_a_foreign_id(void **state)
{
    struct rig rig;
    fill(&rig);
    struct block_key other = rig_key(7);
    assert_int_equal(block_write_id(rig.fs, DIR, &other), 0);
    struct fsck_totals totals;
    struct found found = check(&rig, false, &totals);
    assert_int_equal(totals.damages, 1);
    assert_int_equal(found.last.kind, FSCK_MISSING_LOG);
    assert_string_equal(found.path, DIR "/id");
    rig_free(&rig);
}

static void foreign_files_are_left_alone(void **state)
{
    struct rig rig;
    fill(&rig);
    assert_int_equal(io_fs_replace_file(rig.fs, "data/aabb0000000000000000000000000000/0/note", "x", 1), 0);
    struct fsck_totals totals;
    assert_int_equal(check(&rig, false, &totals).count, 0);
    rig_free(&rig);
}

static void a_torn_tail_is_harmless(void **state)
{
    struct rig rig;
    fill(&rig);
    struct io_file *file;
    uint64_t size;
    assert_int_equal(io_fs_open(rig.fs, DIR "/00000000000000000012.log", IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    assert_int_equal(io_file_pwrite(file, "garbage", 7, size), 7);
    io_file_close(file);
    struct fsck_totals totals;
    struct found found = check(&rig, true, &totals);
    assert_int_equal(totals.damages, 0);
    assert_int_equal(found.count, 1);
    assert_int_equal(found.last.kind, FSCK_TORN_TAIL);
    assert_int_equal(found.last.offset, 18);
    assert_int_equal(check(&rig, false, &totals).count, 1); /* it is still there */
    rig_free(&rig);
}

/* What lies behind the last batch of a segment that another follows is cut where it is met; unless the
 * summary counts it in, so that nobody looks. */
static void bytes_at_a_segments_end(void **state)
{
    static const uint8_t junk[40] = {1};
    for (int round = 0; round < 4; round++) {
        bool summarized = round & 1, repair = round & 2;
        struct rig rig;
        fill(&rig);
        struct fsck_totals totals;
        struct io_file *file;
        uint64_t size;
        assert_int_equal(io_fs_open(rig.fs, DIR "/00000000000000000006.log", IO_OPEN_WRITE, &file), 0);
        assert_int_equal(io_file_size(file, &size), 0);
        assert_int_equal(io_file_pwrite(file, junk, sizeof(junk), size), sizeof(junk));
        io_file_close(file);
        if (summarized) {
            uint8_t *data, renewed[SUMMARY_SIZE];
            size_t len;
            struct segment_summary summary;
            assert_int_equal(io_fs_read_file(rig.fs, DIR "/00000000000000000006.summary", 1000, &data, &len),
                             0);
            assert_int_equal(segment_summary_decode(bytes_of(data, len), &summary), 0);
            mem_free(data);
            assert_int_equal(summary.size, size);
            summary.size += sizeof(junk);
            segment_summary_encode(&summary, renewed);
            assert_int_equal(
                io_fs_replace_file(rig.fs, DIR "/00000000000000000006.summary", renewed, sizeof(renewed)), 0);
        }
        struct found found = check(&rig, repair, &totals);
        assert_int_equal(totals.damages, 0);
        assert_int_equal(totals.harmless, 2);
        assert_int_equal(totals.repaired, repair);
        assert_int_equal(totals.batches, 9);
        assert_int_equal(found.last.offset, 12);
        assert_int_equal(found.last.kind, FSCK_TORN_TAIL);
        assert_int_equal(rig_start(&rig), 0);
        struct block *block;
        struct block_key key = rig_key(0);
        struct block_recovery recovery;
        struct strbuf content = {0};
        assert_int_equal(block_open(rig.store, &key, NULL, &block, &recovery), 0);
        assert_false(recovery.damaged);
        assert_int_equal(rig_read_all(block, 0, 18, 1 << 20, &content),
                         summarized && !repair ? CLYMQ_EBATCH : 0);
        strbuf_free(&content);
        rig_free(&rig);
    }
}

static void wrong_indexes_are_removed_if_asked(void **state)
{
    static const char *const names[] = {".index", ".timeindex", ".summary"};
    for (int i = 0; i < 3; i++) {
        struct rig rig;
        fill(&rig);
        char path[128];
        snprintf(path, sizeof(path), "%s/%020d%s", DIR, 6, names[i]);
        assert_int_equal(sim_process_flip_bits(rig.process, path, 0, 1000, 1), 0);
        struct fsck_totals totals;
        struct found found = check(&rig, false, &totals);
        assert_int_equal(found.count, 1);
        assert_int_equal(totals.damages, 0);
        assert_int_equal(found.last.kind, FSCK_WRONG_INDEX);
        assert_false(found.last.repaired);
        assert_true(check(&rig, true, &totals).last.repaired);
        assert_int_equal(check(&rig, false, &totals).count, 0);
        assert_int_equal(rig_start(&rig), 0);
        struct block *block;
        struct block_key key = rig_key(0);
        assert_int_equal(block_open(rig.store, &key, NULL, &block, NULL), 0);
        struct strbuf all = {0};
        assert_int_equal(rig_read_all(block, 7, 18, 1, &all), 0);
        strbuf_free(&all);
        rig_free(&rig);
    }
}

/* All wrong entries of an index are counted, and both indexes told. */
static void wrong_index_entries_are_counted(void **state)
{
    struct rig rig;
    fill(&rig);
    char path[128];
    uint8_t *data;
    size_t len;
    snprintf(path, sizeof(path), "%s/%020d.index", DIR, 0);
    assert_int_equal(io_fs_read_file(rig.fs, path, 4096, &data, &len), 0);
    size_t entries = len / 8;
    assert_true(entries >= 2);
    data[3] ^= 1;          /* an offset */
    data[len - 4] ^= 0x40; /* a position far beyond the log */
    assert_int_equal(io_fs_replace_file(rig.fs, path, data, len), 0);
    mem_free(data);
    struct fsck_totals totals;
    struct found found = check(&rig, false, &totals);
    char wanted[64];
    snprintf(wanted, sizeof(wanted), "2 of %zu entries do not match the log:", entries);
    assert_int_equal(found.count, 1);
    assert_non_null(strstr(found.sentence, wanted));
    snprintf(path, sizeof(path), "%s/%020d.timeindex", DIR, 0);
    assert_int_equal(sim_process_flip_bits(rig.process, path, 0, 8, 1), 0);
    assert_int_equal(check(&rig, false, &totals).count, 2);
    assert_int_equal(check(&rig, true, &totals).count, 2);
    assert_int_equal(totals.repaired, 2);
    assert_int_equal(check(&rig, true, &totals).count, 0);
    rig_free(&rig);
}

/* Nothing but the state file speaks of the active segment's indexes: once removed they are not missed again.
 */
static void the_active_index_is_removed_once(void **state)
{
    static const char *const suffixes[] = {"index", "timeindex"};
    for (int i = 0; i < 2; i++) {
        struct rig rig;
        struct block *block;
        struct block_key key = rig_key(0);
        rig_init(&rig, 3);
        rig.config.index_interval_bytes = 1000;
        assert_int_equal(rig_start(&rig), 0);
        assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
        for (int n = 0; n < 6; n++)
            assert_int_equal(rig_append(block, 2, 600, (uint64_t)n), 0);
        assert_int_equal(rig_stop(&rig), 0);
        char path[128];
        snprintf(path, sizeof(path), "data/aabb0000000000000000000000000000/0/0/%020d.%s", 0, suffixes[i]);
        assert_int_equal(sim_process_flip_bits(rig.process, path, 0, 8, 1), 0);
        struct fsck_totals totals;
        struct found found = check(&rig, true, &totals);
        assert_int_equal(found.count, 1);
        assert_true(found.last.kind == FSCK_WRONG_INDEX && found.last.repaired);
        assert_int_equal(check(&rig, true, &totals).count, 0);
        rig_free(&rig);
    }
}

static void memory_may_fail_anywhere(void **state)
{
    struct rig rig;
    fill(&rig);
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        struct found found = {0};
        struct fsck_options options = {.on_finding = on_finding, .ctx = &found};
        struct fsck_totals totals;
        mem_fail_nth(nth);
        int error = fsck_run(rig.fs, &options, &totals);
        failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
        assert_int_equal(found.count, 0);
        assert_true(nth < 1000);
    }
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_good_folder_is_good),
        cmocka_unit_test(no_folder_is_none),
        cmocka_unit_test(finds_flipped_bits_in_any_batch),
        cmocka_unit_test(finds_a_missing_segment),
        cmocka_unit_test(finds_a_foreign_id),
        cmocka_unit_test(foreign_files_are_left_alone),
        cmocka_unit_test(a_torn_tail_is_harmless),
        cmocka_unit_test(bytes_at_a_segments_end),
        cmocka_unit_test(wrong_indexes_are_removed_if_asked),
        cmocka_unit_test(wrong_index_entries_are_counted),
        cmocka_unit_test(the_active_index_is_removed_once),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
