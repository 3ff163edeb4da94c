/* The histogram keeps quantiles within its resolution, and the open loop charges a stall to all that waited.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "cli/latency.h"
#include "cli/schedule.h"

static struct latency *latency_new(void)
{
    struct latency *latency = calloc(1, sizeof(*latency));
    assert_non_null(latency);
    return latency;
}

static void test_uniform(void **state)
{
    struct latency *latency = latency_new();
    assert_int_equal(latency_quantile(latency, 0.5), 0);
    for (int64_t us = 1; us <= 100000; us++)
        latency_add(latency, us);
    const double quantiles[] = {0.01, 0.5, 0.9, 0.99, 0.999};
    for (size_t i = 0; i < 5; i++) {
        double got = (double)latency_quantile(latency, quantiles[i]), exact = quantiles[i] * 100000;
        assert_true(got >= exact && got <= exact * 65 / 64 + 1);
    }
    assert_int_equal(latency_quantile(latency, 1.0), 100000);
    free(latency);
}

/* Small values exactly, any value of 64 bits to within 1/64. */
static void test_resolution(void **state)
{
    struct rng rng;
    rng_seed(&rng, 5);
    for (int i = 0; i < 20000; i++) {
        uint64_t us = i < 1000 ? (uint64_t)i : rng_next(&rng) >> (1 + rng_below(&rng, 62));
        struct latency latency;
        memset(&latency, 0, sizeof(latency));
        latency_add(&latency, (int64_t)us);
        latency.max_us = UINT64_MAX; /* so that the bucket's end is seen */
        uint64_t got = latency_quantile(&latency, 0.5);
        assert_true(got >= us);
        assert_true(got - us <= us / 64);
        if (us < 128)
            assert_int_equal(got, us);
    }
}

static void test_extremes(void **state)
{
    struct latency *latency = latency_new();
    latency_add(latency, -5);
    assert_int_equal(latency_quantile(latency, 0.5), 0);
    latency_add(latency, INT64_MAX);
    assert_int_equal(latency->max_us, INT64_MAX);
    assert_int_equal(latency_quantile(latency, 1.0), INT64_MAX);
    assert_int_equal(latency->count, 2);
    free(latency);
}

static void test_merge(void **state)
{
    struct latency *parts[2] = {latency_new(), latency_new()}, *whole = latency_new();
    for (int64_t us = 0; us < 3000; us++) {
        latency_add(parts[us % 3 == 0], us * us);
        latency_add(whole, us * us);
    }
    latency_merge(parts[0], parts[1]);
    assert_memory_equal(parts[0], whole, sizeof(*whole));
    free(parts[0]);
    free(parts[1]);
    free(whole);
}

static void test_due(void **state)
{
    const int64_t rates[] = {1, 3, 7, 1000, 30000, 999983, 1000000, 3000000, 1000000000};
    for (size_t r = 0; r < sizeof(rates) / sizeof(rates[0]); r++) {
        struct schedule schedule = {.start_us = 5000000000, .rate = rates[r]};
        assert_int_equal(schedule_due_us(&schedule, 0, 1), schedule.start_us);
        assert_int_equal(schedule_due_count(&schedule, schedule.start_us - 1), 0);
        assert_int_equal(schedule_due_count(&schedule, schedule.start_us), 1);
        /* After a day, and exactly. */
        uint64_t day = (uint64_t)rates[r] * 86400;
        assert_int_equal(schedule_due_us(&schedule, day, 1), schedule.start_us + 86400LL * 1000000);
        for (uint64_t i = day; i < day + 2000; i++) {
            int64_t due_us = schedule_due_us(&schedule, i, 1);
            assert_true(schedule_due_count(&schedule, due_us) > i);
            assert_true(schedule_due_count(&schedule, due_us - 1) <= i);
        }
    }
    struct schedule closed = {.start_us = 5, .rate = 0};
    assert_int_equal(schedule_due_us(&closed, 100, 77), 77);
    assert_true(schedule_due_count(&closed, 0) == UINT64_MAX);
}

/* Messages that are sent many at once keep their rate, also where it is below one sending a second. */
static void test_due_together(void **state)
{
    static const struct {
        int64_t rate, each;
        uint64_t i;
        int64_t due_us;
    } cases[] = {
        {1000, 2400, 1, 2400000}, {1000, 2400, 100, 240000000},
        {10000, 2400, 1, 240000}, {10000, 2400, 7, 1680000},
        {7, 3, 2, 857143},        {1, 1000000, 86400, 86400000000000000},
        {1000000000, 1000, 5, 5}, {1000, 1, 3, 3000},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct schedule schedule = {.start_us = 70, .rate = cases[c].rate, .each = cases[c].each};
        int64_t due_us = schedule_due_us(&schedule, cases[c].i, 1);
        assert_int_equal(due_us, 70 + cases[c].due_us);
        assert_int_equal(schedule_due_count(&schedule, due_us), cases[c].i + 1);
        assert_int_equal(schedule_due_count(&schedule, due_us - 1), cases[c].i);
    }
}

/* A server that answers in 100 us, but stands still for a second in the middle of ten: a tenth of all
 * messages wait, on average half a second. A closed loop would see one slow answer. */
static void test_stall_is_charged(void **state)
{
    enum { RATE = 1000, MESSAGES = 10 * RATE, STALL_US = 1000000 };
    struct latency *latency = latency_new();
    struct schedule schedule = {.start_us = 0, .rate = RATE};
    int64_t now_us = 0;
    for (uint64_t i = 0; i < MESSAGES; i++) {
        int64_t due_us = schedule_due_us(&schedule, i, now_us);
        if (now_us < due_us)
            now_us = due_us;
        now_us += i == MESSAGES / 2 ? STALL_US : 100;
        latency_add(latency, now_us - due_us);
    }
    assert_true(latency_quantile(latency, 0.5) == 100);
    assert_true(latency_quantile(latency, 0.88) < 1000);
    assert_true(latency_quantile(latency, 0.99) > 800000);
    assert_true(latency->max_us >= STALL_US);
    free(latency);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_uniform),
        cmocka_unit_test(test_resolution),
        cmocka_unit_test(test_extremes),
        cmocka_unit_test(test_merge),
        cmocka_unit_test(test_due),
        cmocka_unit_test(test_due_together),
        cmocka_unit_test(test_stall_is_charged),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
