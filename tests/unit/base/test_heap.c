/* heap.h: random operations against a sorted model; failing allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/heap.h"
#include "base/mem.h"
#include "base/rng.h"

enum { NODES = 300 };

/* The node that must come first: least key, then the longest there. */
static struct heap_node *model_first(struct heap_node *nodes, const uint64_t *since)
{
    struct heap_node *first = NULL;
    for (int i = 0; i < NODES; i++) {
        if (!heap_contains(&nodes[i]))
            continue;
        if (!first || nodes[i].key < first->key ||
            (nodes[i].key == first->key && since[i] < since[first - nodes]))
            first = &nodes[i];
    }
    return first;
}

static void test_random_operations(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct heap heap = {0};
        static struct heap_node nodes[NODES];
        uint64_t since[NODES] = {0}, clock = 0;
        size_t count = 0;
        memset(nodes, 0, sizeof(nodes));
        for (int step = 0; step < 3000; step++) {
            struct heap_node *node = &nodes[rng_below(&rng, NODES)];
            uint64_t key = rng_below(&rng, 40); /* few keys: many ties */
            if (!heap_contains(node)) {
                assert_int_equal(heap_add(&heap, node, key), 0);
                since[node - nodes] = clock++;
                count++;
            } else {
                heap_remove(&heap, node);
                count--;
            }
            assert_int_equal(heap.count, count);
            assert_ptr_equal(heap_first(&heap), model_first(nodes, since));
        }
        while (heap_first(&heap)) {
            struct heap_node *first = model_first(nodes, since);
            assert_ptr_equal(heap_first(&heap), first);
            heap_remove(&heap, first);
            assert_false(heap_contains(first));
        }
        heap_free(&heap);
    }
}

static void test_ties_leave_in_insertion_order(void **state)
{
    struct heap heap = {0};
    struct heap_node nodes[100] = {0};
    for (int i = 0; i < 100; i++)
        assert_int_equal(heap_add(&heap, &nodes[i], 7), 0);
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(heap_first(&heap), &nodes[i]);
        heap_remove(&heap, &nodes[i]);
    }
    heap_free(&heap);
}

static void test_failing_allocation(void **state)
{
    struct heap heap = {0};
    struct heap_node nodes[40] = {0};
    mem_fail_nth(1);
    assert_int_equal(heap_add(&heap, &nodes[0], 1), CLYMQ_ENOMEM);
    assert_false(heap_contains(&nodes[0]));
    assert_null(heap_first(&heap));
    assert_int_equal(heap_reserve(&heap, 40), 0);
    mem_fail_nth(1);
    for (int i = 0; i < 40; i++)
        assert_int_equal(heap_add(&heap, &nodes[i], (uint64_t)(40 - i)), 0); /* reserved: cannot fail */
    assert_false(mem_failed());
    struct heap_node more = {0};
    assert_int_equal(heap_add(&heap, &more, 0), CLYMQ_ENOMEM);
    assert_int_equal(heap_add(&heap, &more, 0), 0);
    assert_ptr_equal(heap_first(&heap), &more);
    assert_int_equal(heap_reserve(&heap, SIZE_MAX / 2), CLYMQ_ENOMEM);
    assert_int_equal(heap_reserve(&heap, 1), 0);
    heap_free(&heap);
    assert_false(heap_contains(&more));
    mem_fail_nth(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_ties_leave_in_insertion_order),
        cmocka_unit_test(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
