/* rng.h: fixed sequences, ranges, rough uniformity. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"

static void test_known_sequence(void **state)
{
    /* State 1, 2, 3, 4: the first outputs of xoshiro256**; the first two are easily worked out by hand. */
    struct rng rng = {{1, 2, 3, 4}};
    assert_int_equal(rng_next(&rng), 11520);
    assert_int_equal(rng_next(&rng), 0);
    assert_int_equal(rng_next(&rng), 1509978240);
    assert_int_equal(rng_next(&rng), 1215971899390074240);
    /* splitmix64 of seed 0 begins so. */
    rng_seed(&rng, 0);
    assert_true(rng.state[0] == 0xe220a8397b1dcdafu && rng.state[1] == 0x6e789e6aa1b965f4u);
}

static void test_ranges(void **state)
{
    struct rng rng;
    rng_seed(&rng, 5);
    int seen[7] = {0};
    for (int i = 0; i < 70000; i++) {
        uint64_t value = rng_below(&rng, 7);
        assert_true(value < 7);
        seen[value]++;
    }
    for (int i = 0; i < 7; i++)
        assert_true(seen[i] > 9500 && seen[i] < 10500);
    bool low = false, high = false;
    for (int i = 0; i < 1000; i++) {
        int64_t value = rng_between(&rng, -2, 2);
        assert_true(value >= -2 && value <= 2);
        low |= value == -2;
        high |= value == 2;
        assert_int_equal(rng_below(&rng, 1), 0);
        assert_int_equal(rng_between(&rng, INT64_MAX, INT64_MAX), INT64_MAX);
        assert_true(rng_between(&rng, INT64_MIN, 0) <= 0);
        rng_between(&rng, INT64_MIN, INT64_MAX);
        /* Nearly half of all draws are rejected for this bound. */
        assert_true(rng_below(&rng, ((uint64_t)1 << 63) + 1) <= (uint64_t)1 << 63);
        assert_false(rng_chance(&rng, 0, 5));
        assert_true(rng_chance(&rng, 5, 5));
    }
    assert_true(low && high);
    int hits = 0;
    for (int i = 0; i < 40000; i++)
        hits += rng_chance(&rng, 1, 4);
    assert_true(hits > 9500 && hits < 10500);
}

static void test_fill(void **state)
{
    struct rng a, b;
    for (size_t len = 0; len < 40; len++) {
        uint8_t first[41], second[41];
        memset(first, 0xee, sizeof(first));
        memset(second, 0xee, sizeof(second));
        rng_seed(&a, len);
        rng_seed(&b, len);
        rng_fill(&a, first, len);
        rng_fill(&b, second, len);
        assert_memory_equal(first, second, sizeof(first));
        assert_int_equal(first[len], 0xee);
    }
    rng_seed(&a, 9);
    rng_seed(&b, 9);
    uint8_t bytes[8];
    rng_fill(&a, bytes, sizeof(bytes));
    uint64_t word = rng_next(&b);
    for (int i = 0; i < 8; i++)
        assert_int_equal(bytes[i], (uint8_t)(word >> (8 * i)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_known_sequence),
        cmocka_unit_test(test_ranges),
        cmocka_unit_test(test_fill),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
