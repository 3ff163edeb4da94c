/* The routing table. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "broker/catalog.h"

static const struct uuid id_a = {{1, 2, 3, 4}}, id_b = {{9, 9}};

static struct catalog_route *find(const struct catalog *catalog, const char *topic, const char *partition)
{
    struct bytes t = bytes_of_text(topic), p = bytes_of_text(partition);

    return catalog_find(catalog, t, p, catalog_hash(t, p));
}

static int add(struct catalog *catalog, const char *topic, struct uuid id, const char *partition,
               uint32_t number)
{
    struct catalog_route *route;

    return catalog_add(catalog, bytes_of_text(topic), id, bytes_of_text(partition), number, number % 4,
                       &route);
}

static void test_names_are_found_by_both_parts(void **state)
{
    struct catalog catalog;

    assert_int_equal(catalog_init(&catalog), 0);
    assert_int_equal(add(&catalog, "ab", id_a, "c", 0), 0);
    assert_int_equal(add(&catalog, "a", id_b, "bc", 5), 0);
    assert_int_equal(find(&catalog, "ab", "c")->number, 0);
    assert_int_equal(find(&catalog, "a", "bc")->number, 5);
    assert_int_equal(find(&catalog, "a", "bc")->owner, 1);
    assert_null(find(&catalog, "a", "c"));
    assert_null(find(&catalog, "abc", ""));
    assert_non_null(catalog_find_topic(&catalog, bytes_of_text("ab")));
    assert_null(catalog_find_topic(&catalog, bytes_of_text("b")));
    catalog_free(&catalog);
}

static void test_the_same_again_is_the_same(void **state)
{
    struct catalog catalog;
    struct catalog_route *first;

    assert_int_equal(catalog_init(&catalog), 0);
    assert_int_equal(add(&catalog, "t", id_a, "p", 1), 0);
    first = find(&catalog, "t", "p");
    assert_int_equal(add(&catalog, "t", id_a, "p", 1), 0);
    assert_ptr_equal(find(&catalog, "t", "p"), first);
    assert_int_equal(catalog.count, 1);
    assert_int_equal(add(&catalog, "t", id_b, "p", 1), CLYMQ_EEXIST);
    assert_int_equal(add(&catalog, "t", id_b, "q", 1), CLYMQ_EEXIST);
    assert_int_equal(add(&catalog, "t", id_a, "p", 2), CLYMQ_EEXIST);
    catalog_remove(&catalog, first);
    assert_int_equal(add(&catalog, "t", id_b, "p", 7), 0);
    assert_int_equal(find(&catalog, "t", "p")->number, 7);
    catalog_free(&catalog);
}

static void test_ten_thousand_partitions_are_small(void **state)
{
    struct catalog catalog;
    uint64_t before = mem_live_bytes();
    char name[16];

    assert_int_equal(catalog_init(&catalog), 0);
    for (uint32_t i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(add(&catalog, "orders", id_a, name, i), 0);
    }
    assert_true(mem_live_bytes() - before < 10000 * 150);
    for (uint32_t i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(find(&catalog, "orders", name)->number, i);
    }
    for (uint32_t i = 0; i < 10000; i += 2) {
        snprintf(name, sizeof(name), "%u", i);
        catalog_remove(&catalog, find(&catalog, "orders", name));
    }
    for (uint32_t i = 0; i < 10000; i++) {
        snprintf(name, sizeof(name), "%u", i);
        assert_true((find(&catalog, "orders", name) != NULL) == (i % 2 == 1));
    }
    catalog_free(&catalog);
    assert_true(mem_live_bytes() == before);
}

static void test_owners_are_spread(void **state)
{
    unsigned counts[4] = {0};

    for (uint32_t i = 0; i < 400; i++)
        counts[catalog_owner(id_a, i, 4)]++;
    for (unsigned i = 0; i < 4; i++)
        assert_int_equal(counts[i], 100);
    assert_int_equal(catalog_owner(id_a, UINT32_MAX, 1), 0);
}

static void test_out_of_memory_changes_nothing(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct catalog catalog;
        int error;

        assert_int_equal(catalog_init(&catalog), 0);
        assert_int_equal(add(&catalog, "t", id_a, "0", 0), 0);
        mem_fail_nth(nth);
        error = add(&catalog, "u", id_b, "0", 0);
        mem_fail_nth(0);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
        assert_true((find(&catalog, "u", "0") != NULL) == (error == 0));
        assert_true((catalog_find_topic(&catalog, bytes_of_text("u")) != NULL) == (error == 0));
        assert_non_null(find(&catalog, "t", "0"));
        catalog_free(&catalog);
        if (!error)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_names_are_found_by_both_parts),
        cmocka_unit_test(test_the_same_again_is_the_same),
        cmocka_unit_test(test_ten_thousand_partitions_are_small),
        cmocka_unit_test(test_owners_are_spread),
        cmocka_unit_test(test_out_of_memory_changes_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
