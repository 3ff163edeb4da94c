/* The data folder: made, locked, refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "store/folder.h"

static const uint8_t random_id[16] = {9, 8, 7};

static int open_folder(struct io_fs *fs, struct store_folder **ret_folder, const char *want)
{
    struct strbuf text = {0};
    int error = store_folder_open(fs, random_id, &text, ret_folder);
    if (want && (!text.data || !strstr(text.data, want)))
        fail_msg("sentence '%s' does not say '%s'", text.data ? text.data : "", want);
    assert_true((error != 0) == (text.len > 0) || error == CLYMQ_ENOMEM);
    strbuf_free(&text);
    return error;
}

static void made_once_and_locked(void **state)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct io_fs *fs = sim_disk_fs(disk);
    struct store_folder *folder, *second;
    assert_int_equal(open_folder(fs, &folder, NULL), 0);
    struct uuid id = store_folder_disk_id(folder);
    assert_memory_equal(id.byte, random_id, 16);
    assert_int_equal(open_folder(fs, &second, "in use"), CLYMQ_ELOCKED);
    store_folder_close(folder);
    assert_int_equal(open_folder(fs, &folder, NULL), 0);
    assert_true(uuid_equal(store_folder_disk_id(folder), id));
    store_folder_close(folder);
    sim_disk_free(disk);
}

static void refused_with_a_reason(void **state)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct io_fs *fs = sim_disk_fs(disk);
    struct store_folder *folder;
    assert_int_equal(io_fs_replace_file(fs, "letters.txt", "x", 1), 0);
    assert_int_equal(open_folder(fs, &folder, "letters.txt"), CLYMQ_ECORRUPT);
    assert_int_equal(io_fs_unlink(fs, "letters.txt"), 0);
    assert_int_equal(open_folder(fs, &folder, NULL), 0);
    store_folder_close(folder);
    assert_int_equal(io_fs_replace_file(fs, "FORMAT", "clymq-data 2\n", 13), 0);
    assert_int_equal(open_folder(fs, &folder, "newer release"), CLYMQ_EFORMAT);
    assert_int_equal(io_fs_replace_file(fs, "FORMAT", "clymq-data", 10), 0);
    assert_int_equal(open_folder(fs, &folder, "FORMAT"), CLYMQ_ECORRUPT);
    assert_int_equal(io_fs_replace_file(fs, "FORMAT", "clymq-data 1\n", 13), 0);
    assert_int_equal(io_fs_replace_file(fs, "disk.json", "{}", 2), 0);
    assert_int_equal(open_folder(fs, &folder, "disk.json"), CLYMQ_ECORRUPT);
    sim_disk_free(disk);
}

/* Whatever a crash leaves of making a folder, it can be made, and the disk id does not change once it was
 * told. */
static void making_may_be_cut_short(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct sim_disk *disk = sim_disk_new(nth);
        struct io_fs *fs = sim_disk_fs(disk);
        struct store_folder *folder;
        sim_disk_fail_from_op(disk, nth);
        struct strbuf text = {0};
        int error = store_folder_open(fs, random_id, &text, &folder);
        strbuf_free(&text);
        if (!error)
            store_folder_close(folder);
        bool failed = sim_disk_has_failed(disk);
        sim_disk_crash(disk, true);
        assert_int_equal(open_folder(fs, &folder, NULL), 0);
        store_folder_close(folder);
        sim_disk_free(disk);
        if (!failed)
            break;
        assert_true(nth < 200);
    }
}

static void memory_may_fail_anywhere(void **state)
{
    int error;
    uint64_t nth = 0;
    do {
        struct sim_disk *disk = sim_disk_new(1);
        struct store_folder *folder;
        struct strbuf text = {0};
        mem_fail_nth(++nth);
        error = store_folder_open(sim_disk_fs(disk), random_id, &text, &folder);
        int failed = mem_failed();
        mem_fail_nth(0);
        strbuf_free(&text);
        if (!error)
            store_folder_close(folder);
        sim_disk_free(disk);
        if (!failed)
            break;
    } while (nth < 1000);
    assert_int_equal(error, 0);
    assert_true(nth > 10);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(made_once_and_locked),
        cmocka_unit_test(refused_with_a_reason),
        cmocka_unit_test(making_may_be_cut_short),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
