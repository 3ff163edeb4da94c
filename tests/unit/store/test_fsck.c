/* The offline check: a whole folder has no findings, and each kind of wrong has one that names its place;
 * what is damaged is never changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "store/fsck.h"
#include "store_rig.h"

#define DIR "data/07000000000000000000000000000000/0/0"

struct found {
    unsigned count[FSCK_WRONG_STATE + 1];
    char path[128];
    uint64_t position;
    int64_t offset;
    bool repaired;
};

static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    struct found *found = ctx;
    found->count[finding->kind]++;
    snprintf(found->path, sizeof(found->path), "%s", finding->path);
    found->position = finding->position;
    found->offset = finding->offset;
    found->repaired = finding->repaired;
    assert_true(finding->sentence[0] != '\0');
}

static struct fsck_totals check(struct rig *rig, bool repair, struct found *ret_found)
{
    struct fsck_totals totals = {0};
    struct fsck_options options = {.repair_indexes = repair, .on_finding = on_finding, .ctx = ret_found};
    *ret_found = (struct found){0};
    assert_int_equal(fsck_run(rig->fs, &options, &totals), 0);
    return totals;
}

/* A stopped folder with one block of several segments, 1,000-byte batches of one record. */
static void make_folder(struct rig *rig)
{
    struct block_key key = {.topic = {{7}}, .id = {{8}}};
    struct block *block;
    rig_init(rig, 1);
    rig->config.segment_bytes = 1 << 20;
    assert_int_equal(rig_start(rig), 0);
    assert_int_equal(block_create(rig->store, &key, 0, NULL, &block), 0);
    for (int64_t offset = 0; offset < 2500; offset++) {
        struct batch_builder builder;
        struct buf *batch;
        struct batch_header header;
        uint8_t value[1000];
        memset(value, (int)offset, sizeof(value));
        assert_int_equal(batch_builder_init(&builder, 1100), 0);
        assert_int_equal(
            batch_builder_add(&builder, offset, (struct bytes){0}, bytes_of(value, sizeof(value)), NULL, 0),
            0);
        assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
        batch_builder_free(&builder);
        batch_assign(batch->data, offset, 0);
        assert_int_equal(batch_read_header(bytes_of(batch->data, batch->len), UINT32_MAX, &header), 0);
        struct iovec part = {batch->data, batch->len};
        assert_int_equal(block_append(block, &header, &part, 1), 0);
        buf_unref(batch);
    }
    assert_int_equal(rig_stop(rig), 0);
}

static void overwrite(struct rig *rig, const char *path, uint64_t position, const char *text)
{
    struct io_file *file;
    assert_int_equal(io_fs_open(rig->fs, path, IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_pwrite(file, text, strlen(text), position), (ssize_t)strlen(text));
    io_file_close(file);
}

static char *first_of(struct rig *rig, const char *suffix, size_t nth)
{
    static char path[256];
    char **names;
    size_t count, seen = 0;
    path[0] = '\0';
    assert_int_equal(io_fs_list(rig->fs, DIR, &names, &count), 0);
    for (size_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]);
        if (len > strlen(suffix) && strcmp(names[i] + len - strlen(suffix), suffix) == 0 && seen++ == nth)
            snprintf(path, sizeof(path), DIR "/%s", names[i]);
    }
    io_fs_free_names(names, count);
    assert_true(path[0] != '\0');
    return path;
}

static void test_whole_folder(void **state)
{
    struct rig rig;
    struct found found;
    make_folder(&rig);
    struct fsck_totals totals = check(&rig, false, &found);
    assert_int_equal(totals.blocks, 1);
    assert_int_equal(totals.segments, 3);
    assert_int_equal(totals.batches, 2500);
    assert_int_equal(totals.records, 2500);
    assert_int_equal(totals.damages + totals.harmless, 0);
    rig_free(&rig);
}

static void test_damaged_log(void **state)
{
    struct rig rig;
    struct found found;
    make_folder(&rig);
    overwrite(&rig, first_of(&rig, ".log", 1), 50000, "!");
    struct fsck_totals totals = check(&rig, true, &found);
    assert_int_equal(totals.damages, 1);
    assert_int_equal(found.count[FSCK_DAMAGED_LOG], 1);
    assert_string_equal(found.path, first_of(&rig, ".log", 1));
    assert_in_range(found.position, 50000 - 1100, 50000);
    assert_false(found.repaired);
    /* It is as it was: the same finding again. */
    assert_int_equal(check(&rig, true, &found).damages, 1);
    rig_free(&rig);
}

static void test_offset_outside_of_the_checksum(void **state)
{
    struct rig rig;
    struct found found;
    make_folder(&rig);
    overwrite(&rig, first_of(&rig, ".log", 0), 7, "\x05"); /* the first batch's base offset */
    check(&rig, false, &found);
    assert_int_equal(found.count[FSCK_DAMAGED_LOG], 1);
    rig_free(&rig);
}

static void test_torn_tail_is_harmless(void **state)
{
    struct rig rig;
    struct found found;
    struct io_file *file;
    uint64_t size;
    make_folder(&rig);
    const char *last = first_of(&rig, ".log", 2);
    assert_int_equal(io_fs_open(rig.fs, last, IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    io_file_close(file);
    overwrite(&rig, last, size, "the beginning of something");
    struct fsck_totals totals = check(&rig, false, &found);
    assert_int_equal(totals.damages, 0);
    assert_int_equal(found.count[FSCK_TORN_TAIL], 1);
    assert_int_equal(found.position, size);
    rig_free(&rig);
}

static void test_cut_log_is_damage(void **state)
{
    struct rig rig;
    struct found found;
    struct io_file *file;
    make_folder(&rig);
    assert_int_equal(io_fs_open(rig.fs, first_of(&rig, ".log", 2), IO_OPEN_WRITE, &file), 0);
    assert_int_equal(io_file_truncate(file, 0), 0);
    io_file_close(file);
    check(&rig, false, &found);
    assert_int_equal(found.count[FSCK_MISSING_LOG], 1);
    rig_free(&rig);
}

static void test_missing_segment(void **state)
{
    for (size_t nth = 0; nth < 3; nth++) {
        struct rig rig;
        struct found found;
        make_folder(&rig);
        assert_int_equal(io_fs_unlink(rig.fs, first_of(&rig, ".log", nth)), 0);
        struct fsck_totals totals = check(&rig, false, &found);
        assert_true(totals.damages >= 1);
        assert_int_equal(found.count[FSCK_MISSING_LOG], totals.damages);
        rig_free(&rig);
    }
}

static void test_missing_block(void **state)
{
    struct rig rig;
    struct found found;
    make_folder(&rig);
    assert_int_equal(io_fs_remove_tree(rig.fs, DIR), 0);
    check(&rig, false, &found);
    assert_int_equal(found.count[FSCK_MISSING_LOG], 1);
    rig_free(&rig);
}

static void test_wrong_indexes_are_repaired(void **state)
{
    static const char *const suffixes[] = {".index", ".timeindex"};
    for (int i = 0; i < 2; i++) {
        struct rig rig;
        struct found found;
        make_folder(&rig);
        overwrite(&rig, first_of(&rig, suffixes[i], 0), 9, "\x77\x77");
        struct fsck_totals totals = check(&rig, false, &found);
        assert_int_equal(totals.damages, 0);
        assert_int_equal(found.count[FSCK_WRONG_INDEX], 1);
        assert_false(found.repaired);
        totals = check(&rig, true, &found);
        assert_int_equal(totals.repaired, 1);
        assert_true(found.repaired);
        totals = check(&rig, false, &found);
        assert_int_equal(totals.harmless, 0);
        rig_free(&rig);
    }
}

static void test_refusals(void **state)
{
    struct rig rig;
    struct found found = {0};
    struct fsck_totals totals = {0};
    struct fsck_options options = {.on_finding = on_finding, .ctx = &found};
    rig_init(&rig, 1);
    assert_int_equal(fsck_run(rig.fs, &options, &totals), CLYMQ_ENOENT);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(fsck_run(rig.fs, &options, &totals), CLYMQ_ELOCKED);
    assert_int_equal(rig_stop(&rig), 0);
    assert_int_equal(fsck_run(rig.fs, &options, &totals), 0);
    overwrite(&rig, "FORMAT", 11, "7");
    assert_int_equal(fsck_run(rig.fs, &options, &totals), CLYMQ_EFORMAT);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_folder),
        cmocka_unit_test(test_damaged_log),
        cmocka_unit_test(test_offset_outside_of_the_checksum),
        cmocka_unit_test(test_torn_tail_is_harmless),
        cmocka_unit_test(test_cut_log_is_damage),
        cmocka_unit_test(test_missing_segment),
        cmocka_unit_test(test_missing_block),
        cmocka_unit_test(test_wrong_indexes_are_repaired),
        cmocka_unit_test(test_refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
