/* map.h: random operations against a list, iteration order, failing allocation, memory. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/map.h"
#include "base/mem.h"
#include "base/rng.h"

enum { KEYS = 400 };

/* What the map must hold, in insertion order. */
struct model {
    int keys[KEYS];
    void *values[KEYS];
    int count;
};

static struct bytes key_text(int key, char *text)
{
    /* Lengths from 0 up; keys that share long prefixes. */
    if (key == 0)
        return bytes_of(NULL, 0);
    if (key % 3 == 0)
        return bytes_of(text, (size_t)sprintf(text, "a-rather-long-and-common-prefix/%d", key));
    return bytes_of(text, (size_t)sprintf(text, "%d", key));
}

static int model_find(const struct model *model, int key)
{
    for (int i = 0; i < model->count; i++)
        if (model->keys[i] == key)
            return i;
    return -1;
}

static void model_remove(struct model *model, int at)
{
    memmove(&model->keys[at], &model->keys[at + 1], (size_t)(model->count - at - 1) * sizeof(int));
    memmove(&model->values[at], &model->values[at + 1], (size_t)(model->count - at - 1) * sizeof(void *));
    model->count--;
}

static void check_same(const struct map *map, const struct model *model)
{
    assert_int_equal(map_count(map), model->count);
    size_t at = 0;
    int i = 0;
    struct map_entry *entry;
    char text[64];
    while ((entry = map_next(map, &at))) {
        assert_true(i < model->count);
        assert_true(bytes_equal(entry->key, key_text(model->keys[i], text)));
        assert_int_equal(entry->key.ptr[entry->key.len], 0);
        assert_ptr_equal(entry->value, model->values[i]);
        i++;
    }
    assert_int_equal(i, model->count);
    for (int key = 0; key < KEYS; key++) {
        int found = model_find(model, key);
        assert_ptr_equal(map_get(map, key_text(key, text)), found < 0 ? NULL : model->values[found]);
    }
}

static void test_random_operations(void **state)
{
    static char values[1000];
    for (uint64_t seed = 1; seed <= 40; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        map_set_seed(seed);
        struct map *map = map_new();
        assert_non_null(map);
        map_set_seed(~seed); /* does not reach maps that exist */
        struct model model = {.count = 0};
        int range = seed % 4 == 0 ? KEYS : seed % 4 == 1 ? 12 : seed % 4 == 2 ? 60 : 9;
        for (int step = 0; step < 2000; step++) {
            int key = (int)rng_below(&rng, (uint64_t)range);
            char text[64];
            int found = model_find(&model, key);
            /* Growing and shrinking times, so that the array is squeezed and refilled. */
            if (rng_chance(&rng, step / 400 % 2 ? 1 : 3, 4)) {
                void *value = &values[rng_below(&rng, sizeof(values))];
                assert_int_equal(map_put(map, key_text(key, text), value), 0);
                if (found < 0) {
                    found = model.count++;
                    model.keys[found] = key;
                }
                model.values[found] = value;
            } else {
                void *removed = map_remove(map, key_text(key, text));
                assert_ptr_equal(removed, found < 0 ? NULL : model.values[found]);
                if (found >= 0)
                    model_remove(&model, found);
            }
            if (step % 37 == 0)
                check_same(map, &model);
        }
        check_same(map, &model);
        map_free(map);
    }
    assert_int_equal(mem_live_bytes(), 0);
}

static void test_remove_while_iterating(void **state)
{
    struct map *map = map_new();
    char text[32];
    for (int i = 0; i < 1000; i++)
        assert_int_equal(map_put(map, bytes_of(text, (size_t)sprintf(text, "%d", i)), map), 0);
    size_t at = 0;
    int seen = 0;
    struct map_entry *entry;
    while ((entry = map_next(map, &at))) {
        int number;
        assert_int_equal(sscanf((const char *)entry->key.ptr, "%d", &number), 1);
        assert_int_equal(number, seen);
        if (seen % 3 != 0)
            assert_ptr_equal(map_remove(map, entry->key), map); /* the map's own key as the argument */
        seen++;
    }
    assert_int_equal(seen, 1000);
    assert_int_equal(map_count(map), 334);
    at = 0;
    for (int i = 0; (entry = map_next(map, &at)); i += 3) {
        sprintf(text, "%d", i);
        assert_string_equal((const char *)entry->key.ptr, text);
    }
    at = 0;
    while ((entry = map_next(map, &at)))
        map_remove(map, entry->key);
    assert_int_equal(map_count(map), 0);
    map_free(map);
}

static void test_queue_use_stays_small(void **state)
{
    /* Always 10 keys, always new ones: holes must not pile up. */
    struct map *map = map_new();
    char text[32];
    uint64_t most = 0;
    for (int i = 0; i < 100000; i++) {
        assert_int_equal(map_put(map, bytes_of(text, (size_t)sprintf(text, "%d", i)), map), 0);
        if (i >= 10)
            assert_ptr_equal(map_remove(map, bytes_of(text, (size_t)sprintf(text, "%d", i - 10))), map);
        if (mem_live_bytes() > most)
            most = mem_live_bytes();
    }
    assert_int_equal(map_count(map), 10);
    assert_true(most < 4096);
    map_free(map);
}

static void test_ten_thousand_keys_are_compact(void **state)
{
    struct map *map = map_new();
    char text[32];
    for (int i = 0; i < 10000; i++)
        assert_int_equal(map_put(map, bytes_of(text, (size_t)sprintf(text, "orders/%d", i)), map), 0);
    /* 24 bytes of entry, at most 22 of index, at most 40 of key with the allocator's rounding, and slack. */
    assert_true(mem_live_bytes() / 10000 < 110);
    for (int i = 0; i < 10000; i++)
        assert_ptr_equal(map_get(map, bytes_of(text, (size_t)sprintf(text, "orders/%d", i))), map);
    assert_null(map_get(map, BYTES_LITERAL("orders/10000")));
    map_free(map);
}

static void test_failing_allocation(void **state)
{
    /* Each put is tried with each of its allocations failing, and must change nothing until it succeeds. */
    struct map *map = map_new();
    struct model model = {.count = 0};
    char text[64];
    for (int key = 0; key < 200; key++) {
        for (uint64_t nth = 1;; nth++) {
            mem_fail_nth(nth);
            int error = map_put(map, key_text(key, text), map);
            int failed = mem_failed();
            mem_fail_nth(0);
            if (!failed) {
                assert_int_equal(error, 0);
                break;
            }
            assert_int_equal(error, CLYMQ_ENOMEM);
            check_same(map, &model);
        }
        model.keys[model.count] = key;
        model.values[model.count++] = map;
        if (key % 2) {
            mem_fail_nth(1);
            assert_ptr_equal(map_remove(map, key_text(key - 1, text)), map);
            assert_int_equal(map_put(map, key_text(key, text), map), 0); /* a replacement allocates nothing */
            assert_false(mem_failed());
            mem_fail_nth(0);
            model_remove(&model, model_find(&model, key - 1));
        }
        check_same(map, &model);
    }
    map_free(map);
    mem_fail_nth(1);
    assert_null(map_new());
    mem_fail_nth(0);
    map_free(NULL);
}

static void test_hash_depends_on_seed(void **state)
{
    struct bytes key = BYTES_LITERAL("orders/0");
    map_set_seed(1);
    uint64_t first = map_hash(key);
    assert_int_equal(map_hash(key), first);
    assert_true(map_hash(BYTES_LITERAL("orders/1")) != first);
    map_set_seed(2);
    assert_true(map_hash(key) != first);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),     cmocka_unit_test(test_remove_while_iterating),
        cmocka_unit_test(test_queue_use_stays_small), cmocka_unit_test(test_ten_thousand_keys_are_compact),
        cmocka_unit_test(test_failing_allocation),    cmocka_unit_test(test_hash_depends_on_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
