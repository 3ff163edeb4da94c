/* The contract of io/file.h, run over the operating system's files and over the simulated disk; and random
 * operations on both side by side, which must answer the same. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/file.h"
#include "io/sim.h"
#include "scratch.h"

struct pair {
    struct scratch scratch;
    struct sim_disk *disk;
};

static int setup(void **state)
{
    static struct pair pair;
    pair.scratch = scratch_new();
    pair.disk = sim_disk_new(1);
    assert_non_null(pair.disk);
    *state = &pair;
    return 0;
}

static int teardown(void **state)
{
    struct pair *pair = *state;
    scratch_free(&pair->scratch);
    sim_disk_free(pair->disk);
    return 0;
}

static void on_both(void **state, void (*check)(struct io_fs *fs))
{
    struct pair *pair = *state;
    check(pair->scratch.fs);
    check(sim_disk_fs(pair->disk));
}

static void check_content(struct io_fs *fs)
{
    struct io_file *file;
    assert_int_equal(io_fs_open(fs, "a", IO_OPEN_READ, &file), CLYMQ_ENOENT);
    assert_int_equal(io_fs_open(fs, "a", IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE, &file), 0);
    char one[] = "hello ", two[] = "world", empty[1];
    struct iovec parts[] = {{one, 6}, {empty, 0}, {two, 5}};
    assert_int_equal(io_file_pwritev(file, parts, 3, 0), 11);
    char read[32];
    assert_int_equal(io_file_pread(file, read, sizeof(read), 0), 11);
    assert_memory_equal(read, "hello world", 11);
    assert_int_equal(io_file_pread(file, read, 3, 6), 3);
    assert_memory_equal(read, "wor", 3);
    assert_int_equal(io_file_pread(file, read, 3, 11), 0);
    assert_int_equal(io_file_pread(file, read, 3, 1000), 0);
    assert_int_equal(io_file_pwrite(file, "end", 3, 5000), 3); /* a hole before it */
    uint64_t size;
    assert_int_equal(io_file_size(file, &size), 0);
    assert_int_equal(size, 5003);
    assert_int_equal(io_file_pread(file, read, 4, 4999), 4);
    assert_memory_equal(read, "\0end", 4);
    assert_int_equal(io_file_truncate(file, 5), 0);
    assert_int_equal(io_file_truncate(file, 8), 0);
    assert_int_equal(io_file_pread(file, read, sizeof(read), 0), 8);
    assert_memory_equal(read, "hello\0\0\0", 8);
    assert_int_equal(io_file_allocate(file, 0, 1 << 20), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    assert_int_equal(size, 8);
    assert_int_equal(io_file_sync(file), 0);
    io_file_close(file);
    assert_int_equal(io_fs_open(fs, "a", IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_EXCLUSIVE, &file),
                     CLYMQ_EEXIST);
    assert_int_equal(io_fs_open(fs, "a", IO_OPEN_WRITE | IO_OPEN_TRUNCATE, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    assert_int_equal(size, 0);
    io_file_close(file);
    assert_int_equal(io_fs_open(fs, "a", IO_OPEN_READ, &file), 0);
    assert_true(io_file_pwrite(file, "x", 1, 0) < 0);
    io_file_close(file);
    io_file_close(NULL);
}

static void test_content(void **state)
{
    on_both(state, check_content);
}

static void touch(struct io_fs *fs, const char *path)
{
    struct io_file *file;
    assert_int_equal(io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file), 0);
    io_file_close(file);
}

static void check_folders(struct io_fs *fs)
{
    assert_int_equal(io_fs_make_dir(fs, "x/y"), CLYMQ_ENOENT);
    assert_int_equal(io_fs_make_path(fs, "x/y/z"), 0);
    assert_int_equal(io_fs_make_path(fs, "x/y/z"), 0);
    assert_int_equal(io_fs_make_dir(fs, "x"), CLYMQ_EEXIST);
    struct io_file *file;
    assert_int_equal(io_fs_open(fs, "x", IO_OPEN_READ, &file), CLYMQ_EINVAL);
    touch(fs, "x/2");
    touch(fs, "x/10");
    touch(fs, "x/\xe5\x8c\x97");
    char **names;
    size_t count;
    assert_int_equal(io_fs_list(fs, "x", &names, &count), 0);
    assert_int_equal(count, 4);
    assert_string_equal(names[0], "10");
    assert_string_equal(names[1], "2");
    assert_string_equal(names[2], "y");
    assert_string_equal(names[3], "\xe5\x8c\x97");
    io_fs_free_names(names, count);
    assert_int_equal(io_fs_list(fs, "x/y/z", &names, &count), 0);
    assert_int_equal(count, 0);
    io_fs_free_names(names, count);
    assert_int_equal(io_fs_list(fs, "x/2", &names, &count), CLYMQ_ENOENT);
    assert_int_equal(io_fs_list(fs, "none", &names, &count), CLYMQ_ENOENT);
    assert_int_equal(io_fs_remove_dir(fs, "x"), CLYMQ_EEXIST);
    assert_int_equal(io_fs_unlink(fs, "x"), CLYMQ_EINVAL);
    assert_int_equal(io_fs_rename(fs, "x/2", "x/10"), 0);
    assert_int_equal(io_fs_rename(fs, "x/2", "x/10"), CLYMQ_ENOENT);
    assert_int_equal(io_fs_rename(fs, "x/y", "moved"), 0);
    assert_int_equal(io_fs_rename(fs, "moved", "moved/z/deep"), CLYMQ_EINVAL);
    assert_int_equal(io_fs_sync_dir(fs, "x"), 0);
    assert_int_equal(io_fs_sync_dir(fs, ""), 0);
    assert_int_equal(io_fs_sync_dir(fs, "x/y"), CLYMQ_ENOENT);
    struct io_file *any;
    assert_int_equal(io_fs_open(fs, "any", IO_OPEN_WRITE | IO_OPEN_CREATE, &any), 0);
    assert_int_equal(io_file_sync_all(any), 0);
    io_file_close(any);
    assert_int_equal(io_fs_remove_tree(fs, "x"), 0);
    assert_int_equal(io_fs_remove_tree(fs, "x"), CLYMQ_ENOENT);
    assert_int_equal(io_fs_remove_tree(fs, ""), CLYMQ_EINVAL);
    assert_int_equal(io_fs_remove_dir(fs, "moved/z"), 0);
    assert_int_equal(io_fs_remove_dir(fs, "moved"), 0);
}

static void test_folders(void **state)
{
    on_both(state, check_folders);
}

static void check_small_files(struct io_fs *fs)
{
    uint8_t *data;
    size_t len;
    assert_int_equal(io_fs_read_file(fs, "s", 10, &data, &len), CLYMQ_ENOENT);
    assert_int_equal(io_fs_replace_file(fs, "s", "first", 5), 0);
    assert_int_equal(io_fs_replace_file(fs, "s", "second", 6), 0);
    assert_int_equal(io_fs_read_file(fs, "s", 5, &data, &len), CLYMQ_ETOOBIG);
    assert_int_equal(io_fs_read_file(fs, "s", 6, &data, &len), 0);
    assert_int_equal(len, 6);
    assert_string_equal((char *)data, "second");
    mem_free(data);
    assert_int_equal(io_fs_replace_file(fs, "none/s", "x", 1), CLYMQ_ENOENT);
    uint64_t free_bytes, total;
    assert_int_equal(io_fs_space(fs, &free_bytes, &total), 0);
    assert_true(free_bytes > 0 && free_bytes <= total);
}

static void test_small_files(void **state)
{
    on_both(state, check_small_files);
}

static void check_lock(struct io_fs *fs)
{
    struct io_file *lock, *other;
    assert_int_equal(io_fs_lock(fs, "lock", &lock), 0);
    assert_int_equal(io_fs_lock(fs, "lock", &other), CLYMQ_ELOCKED);
    io_file_close(lock);
    assert_int_equal(io_fs_lock(fs, "lock", &other), 0);
    io_file_close(other);
}

static void test_lock(void **state)
{
    on_both(state, check_lock);
}

/* Every allocation of a call fails in turn: an error, nothing leaked (the sanitizer sees), and the next call
 * works. */
static void check_allocation_failures(struct io_fs *fs)
{
    for (uint64_t nth = 1;; nth++) {
        mem_fail_nth(nth);
        int error = io_fs_replace_file(fs, "m", "content", 7);
        if (!error)
            error = io_fs_make_path(fs, "p/q");
        char **names;
        size_t count;
        if (!error && (error = io_fs_list(fs, "", &names, &count)) == 0)
            io_fs_free_names(names, count);
        if (!error)
            error = io_fs_remove_tree(fs, "p");
        bool failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
        if (!failed)
            break;
        assert_int_equal(io_fs_replace_file(fs, "m", "content", 7), 0);
        assert_true(nth < 1000);
    }
}

static void test_allocation_failures(void **state)
{
    on_both(state, check_allocation_failures);
}

static void test_root(void **state)
{
    struct pair *pair = *state;
    char path[512];
    snprintf(path, sizeof(path), "%s/made/with/parents", pair->scratch.path);
    struct io_fs *fs;
    assert_int_equal(io_os_fs_new("", &fs), CLYMQ_EINVAL);
    assert_int_equal(io_os_fs_new(path, &fs), 0);
    touch(fs, "f");
    io_os_fs_free(fs);
    struct io_file *file;
    assert_int_equal(io_fs_open(pair->scratch.fs, "made/with/parents/f", IO_OPEN_READ, &file), 0);
    io_file_close(file);
    /* There already, and with a slash at the end, of one that is there and of one that is not. */
    assert_int_equal(io_os_fs_new(path, &fs), 0);
    io_os_fs_free(fs);
    snprintf(path, sizeof(path), "%s/made/with//", pair->scratch.path);
    assert_int_equal(io_os_fs_new(path, &fs), 0);
    io_os_fs_free(fs);
    snprintf(path, sizeof(path), "%s/made/by/slash//", pair->scratch.path);
    assert_int_equal(io_os_fs_new(path, &fs), 0);
    touch(fs, "f");
    io_os_fs_free(fs);
    assert_int_equal(io_fs_open(pair->scratch.fs, "made/by/slash/f", IO_OPEN_READ, &file), 0);
    io_file_close(file);
    snprintf(path, sizeof(path), "%s/made/by/slash/f/below", pair->scratch.path);
    assert_int_equal(io_os_fs_new(path, &fs), CLYMQ_ENOENT);
}

/* Random operations on both, compared answer by answer and byte by byte. */
enum { MODEL_OPS = 20000, MODEL_FILE_MAX = 40000 };

static const char *const model_paths[] = {"a",   "b",   "d",   "e",     "d/a",  "d/b",
                                          "d/f", "e/a", "e/f", "d/f/x", "e/f/x"};

static const char *model_path(struct rng *rng)
{
    return model_paths[rng_below(rng, sizeof(model_paths) / sizeof(model_paths[0]))];
}

static void compare_files(struct io_file *a, struct io_file *b)
{
    static uint8_t one[MODEL_FILE_MAX + 1], two[MODEL_FILE_MAX + 1];
    ssize_t len = io_file_pread(a, one, sizeof(one), 0);
    assert_int_equal(io_file_pread(b, two, sizeof(two), 0), len);
    assert_true(len >= 0 && len <= MODEL_FILE_MAX);
    assert_memory_equal(one, two, len);
}

static void model_file_op(struct rng *rng, struct io_fs *a, struct io_fs *b)
{
    static uint8_t data[5000];
    const char *path = model_path(rng);
    unsigned flags = (unsigned)rng_below(rng, 16);
    struct io_file *one, *two;
    if (!(flags & IO_OPEN_WRITE))
        flags &= ~(unsigned)IO_OPEN_TRUNCATE; /* unspecified by POSIX */
    int error = io_fs_open(a, path, flags, &one);
    assert_int_equal(io_fs_open(b, path, flags, &two), error);
    if (error)
        return;
    for (unsigned steps = (unsigned)rng_below(rng, 6); steps > 0; steps--) {
        uint64_t offset = rng_below(rng, MODEL_FILE_MAX - sizeof(data));
        size_t len = (size_t)rng_below(rng, sizeof(data));
        switch (rng_below(rng, 4)) {
        case 0:
            if (flags & IO_OPEN_WRITE) {
                assert_int_equal(io_file_truncate(one, offset), 0);
                assert_int_equal(io_file_truncate(two, offset), 0);
            }
            break;
        case 1:
            assert_int_equal(io_file_sync(two), 0);
            break;
        default:
            if (flags & IO_OPEN_WRITE) {
                rng_fill(rng, data, len);
                struct iovec parts[2] = {{data, len / 3}, {data + len / 3, len - len / 3}};
                assert_int_equal(io_file_pwritev(one, parts, 2, offset), len);
                assert_int_equal(io_file_pwritev(two, parts, 2, offset), len);
            }
        }
    }
    compare_files(one, two);
    io_file_close(one);
    io_file_close(two);
}

static void compare_lists(struct io_fs *a, struct io_fs *b, const char *path)
{
    char **one, **two;
    size_t one_count, two_count;
    int error = io_fs_list(a, path, &one, &one_count);
    assert_int_equal(io_fs_list(b, path, &two, &two_count), error);
    if (error)
        return;
    assert_int_equal(one_count, two_count);
    for (size_t i = 0; i < one_count; i++)
        assert_string_equal(one[i], two[i]);
    io_fs_free_names(one, one_count);
    io_fs_free_names(two, two_count);
}

static void test_same_answers(void **state)
{
    struct pair *pair = *state;
    struct io_fs *a = pair->scratch.fs, *b = sim_disk_fs(pair->disk);
    struct rng rng;
    rng_seed(&rng, 42);
    int error;
    for (unsigned i = 0; i < MODEL_OPS; i++) {
        const char *path = model_path(&rng), *other = model_path(&rng);
        switch (rng_below(&rng, 10)) {
        case 0:
        case 1:
            assert_int_equal(io_fs_make_dir(a, path), io_fs_make_dir(b, path));
            break;
        case 2:
            assert_int_equal(io_fs_remove_dir(a, path), io_fs_remove_dir(b, path));
            break;
        case 3:
            assert_int_equal(io_fs_unlink(a, path), io_fs_unlink(b, path));
            break;
        case 4:
        case 5:
            error = io_fs_rename(a, path, other);
            if (io_fs_rename(b, path, other) != error)
                fail_msg("rename %s to %s: %d on the real disk", path, other, error);
            break;
        case 6:
            compare_lists(a, b, rng_chance(&rng, 1, 3) ? "" : path);
            break;
        case 7:
            if (rng_chance(&rng, 1, 50))
                sim_disk_crash(pair->disk, false); /* a kill keeps all */
            assert_int_equal(io_fs_sync_dir(b, ""), 0);
            break;
        default:
            model_file_op(&rng, a, b);
        }
    }
}

int main(void)
{
#define BOTH(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        BOTH(test_content), BOTH(test_folders),      BOTH(test_small_files),         BOTH(test_lock),
        BOTH(test_root),    BOTH(test_same_answers), BOTH(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
