/* The cache of open files: bounded, except for files that somebody else holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <stdio.h>

#include "base/error.h"
#include "io/sim.h"
#include "store/files.h"

enum { FILES = 6, MAX = 3 };

static struct segment_ref *get(struct file_cache *cache, struct segment_ref **slots, int number)
{
    char path[16];
    struct segment_ref *ref;
    snprintf(path, sizeof(path), "f%d", number);
    assert_int_equal(file_cache_get(cache, &slots[number], path, IO_OPEN_WRITE | IO_OPEN_CREATE, &ref), 0);
    return ref;
}

static void least_recently_used_goes_first(void **state)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct file_cache cache;
    struct segment_ref *slots[FILES] = {0};
    file_cache_init(&cache, sim_disk_fs(disk), MAX);
    get(&cache, slots, 0);
    get(&cache, slots, 1);
    get(&cache, slots, 2);
    get(&cache, slots, 0);
    get(&cache, slots, 3);
    assert_null(slots[1]);
    assert_non_null(slots[0]);
    assert_int_equal(cache.count, MAX);
    for (int i = 0; i < FILES; i++)
        file_cache_drop(&cache, &slots[i]);
    assert_int_equal(cache.count, 0);
    sim_disk_free(disk);
}

static void a_referenced_file_stays_open(void **state)
{
    struct sim_disk *disk = sim_disk_new(1);
    struct file_cache cache;
    struct segment_ref *slots[FILES] = {0};
    file_cache_init(&cache, sim_disk_fs(disk), MAX);
    struct segment_ref *held[FILES];
    for (int i = 0; i < FILES; i++)
        held[i] = segment_ref_take(get(&cache, slots, i));
    assert_int_equal(cache.count, FILES);
    for (int i = 0; i < FILES; i++)
        assert_int_equal(io_file_pwrite(held[i]->file, "x", 1, 0), 1);
    file_cache_drop(&cache, &slots[0]);
    assert_int_equal(io_file_pwrite(held[0]->file, "y", 1, 0), 1);
    for (int i = 0; i < FILES; i++)
        segment_ref_release(held[i]);
    get(&cache, slots, 0); /* now there may be room made again */
    assert_int_equal(cache.count, MAX);
    for (int i = 0; i < FILES; i++)
        file_cache_drop(&cache, &slots[i]);
    sim_disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(least_recently_used_goes_first),
        cmocka_unit_test(a_referenced_file_stays_open),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
