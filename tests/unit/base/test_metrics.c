/* metrics.h: the text format, histograms, registration twice, threads, failing allocation. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/metrics.h"

static void test_text_format(void **state)
{
    struct metrics *metrics = metrics_new();
    struct metric *first =
        metrics_register(metrics, METRIC_COUNTER, "clymq_pushes_total", "shard=\"0\"", "Pushes.");
    struct metric *latency =
        metrics_register(metrics, METRIC_HISTOGRAM, "clymq_push_us", NULL, "Time\nof a \\push.");
    /* Registered last, printed with its family. */
    struct metric *second =
        metrics_register(metrics, METRIC_COUNTER, "clymq_pushes_total", "shard=\"1\"", "Pushes.");
    struct metric *open =
        metrics_register(metrics, METRIC_GAUGE, "clymq_connections", NULL, "Open connections.");
    metric_add(first, 2);
    metric_add(first, 3);
    metric_add(second, 1);
    metric_set(open, 9);
    metric_observe(latency, 0);
    metric_observe(latency, 1);
    metric_observe(latency, 3);
    metric_observe(latency, 4);
    struct strbuf text = {0};
    metrics_print(metrics, &text);
    assert_string_equal(text.data, "# HELP clymq_pushes_total Pushes.\n"
                                   "# TYPE clymq_pushes_total counter\n"
                                   "clymq_pushes_total{shard=\"0\"} 5\n"
                                   "clymq_pushes_total{shard=\"1\"} 1\n"
                                   "# HELP clymq_push_us Time\\nof a \\\\push.\n"
                                   "# TYPE clymq_push_us histogram\n"
                                   "clymq_push_us_bucket{le=\"0\"} 1\n"
                                   "clymq_push_us_bucket{le=\"1\"} 2\n"
                                   "clymq_push_us_bucket{le=\"3\"} 3\n"
                                   "clymq_push_us_bucket{le=\"7\"} 4\n"
                                   "clymq_push_us_bucket{le=\"+Inf\"} 4\n"
                                   "clymq_push_us_sum 8\n"
                                   "clymq_push_us_count 4\n"
                                   "# HELP clymq_connections Open connections.\n"
                                   "# TYPE clymq_connections gauge\n"
                                   "clymq_connections 9\n");
    strbuf_free(&text);
    metrics_free(metrics);
    metrics_free(NULL);
}

static int64_t read_answer(void)
{
    return 42;
}

static void test_read_when_printed(void **state)
{
    struct metrics *metrics = metrics_new();
    assert_int_equal(metrics_register_read(metrics, METRIC_GAUGE, "clymq_answer", "The answer.", read_answer),
                     0);
    struct strbuf text = {0};
    metrics_print(metrics, &text);
    assert_string_equal(text.data, "# HELP clymq_answer The answer.\n"
                                   "# TYPE clymq_answer gauge\n"
                                   "clymq_answer 42\n");
    strbuf_free(&text);
    metrics_free(metrics);
}

static void test_same_name_is_same_metric(void **state)
{
    struct metrics *metrics = metrics_new();
    char labels[] = "a=\"1\"";
    struct metric *first = metrics_register(metrics, METRIC_COUNTER, "clymq_x_total", labels, "X.");
    labels[3] = '2'; /* the registry has its own copy */
    struct metric *second = metrics_register(metrics, METRIC_COUNTER, "clymq_x_total", labels, "X.");
    struct metric *bare = metrics_register(metrics, METRIC_COUNTER, "clymq_x_total", NULL, "X.");
    assert_true(first != second && first != bare);
    assert_ptr_equal(metrics_register(metrics, METRIC_COUNTER, "clymq_x_total", "a=\"1\"", "X."), first);
    assert_ptr_equal(metrics_register(metrics, METRIC_COUNTER, "clymq_x_total", "", "X."), bare);
    assert_int_equal((uintptr_t)first % 64, 0);
    assert_int_equal((uintptr_t)second % 64, 0);
    metrics_free(metrics);
}

static void test_histogram(void **state)
{
    struct metrics *metrics = metrics_new();
    struct metric *metric = metrics_register(metrics, METRIC_HISTOGRAM, "clymq_h", NULL, "H.");
    for (int i = 0; i < 90; i++)
        metric_observe(metric, 100);
    for (int i = 0; i < 9; i++)
        metric_observe(metric, 1000);
    metric_observe(metric, UINT64_MAX);
    struct strbuf text = {0};
    metrics_print(metrics, &text);
    assert_non_null(strstr(text.data, "clymq_h_bucket{le=\"+Inf\"} 100\n"));
    assert_non_null(strstr(text.data, "clymq_h_count 100\n"));
    strbuf_free(&text);
    metrics_free(metrics);
}

static void *thread_update(void *arg)
{
    struct metrics *metrics = arg;
    struct metric *counter = metrics_register(metrics, METRIC_COUNTER, "clymq_t_total", NULL, "T.");
    struct metric *histogram = metrics_register(metrics, METRIC_HISTOGRAM, "clymq_t_us", NULL, "T.");
    for (uint64_t i = 0; i < 10000; i++) {
        metric_add(counter, 1);
        metric_observe(histogram, i);
    }
    return NULL;
}

static void test_threads(void **state)
{
    struct metrics *metrics = metrics_new();
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_update, metrics), 0);
    struct strbuf text = {0};
    metrics_print(metrics, &text); /* while they write */
    strbuf_free(&text);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    metrics_print(metrics, &text);
    assert_non_null(strstr(text.data, "clymq_t_total 40000\n"));
    assert_non_null(strstr(text.data, "clymq_t_us_count 40000\n"));
    strbuf_free(&text);
    metrics_free(metrics);
}

static void test_failing_allocation(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        uint64_t live = mem_live_bytes();
        mem_fail_nth(nth);
        struct metrics *metrics = metrics_new();
        int failures = !metrics;
        struct strbuf text = {0};
        if (metrics) {
            failures += !metrics_register(metrics, METRIC_COUNTER, "clymq_a_total", "x=\"1\"", "A.");
            failures += !metrics_register(metrics, METRIC_HISTOGRAM, "clymq_b", "x=\"1\"", "B.");
            failures += !metrics_register(metrics, METRIC_GAUGE, "clymq_c", NULL, "C.");
            failures +=
                metrics_register_read(metrics, METRIC_GAUGE, "clymq_d", "D.", read_answer) == CLYMQ_ENOMEM;
            metrics_print(metrics, &text);
            failures += text.failed;
        }
        int failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(failures, failed);
        strbuf_free(&text);
        if (metrics) {
            /* What failed works when tried again. */
            assert_non_null(metrics_register(metrics, METRIC_COUNTER, "clymq_a_total", "x=\"1\"", "A."));
            assert_non_null(metrics_register(metrics, METRIC_HISTOGRAM, "clymq_b", "x=\"1\"", "B."));
        }
        metrics_free(metrics);
        assert_int_equal(mem_live_bytes(), live);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_format),
        cmocka_unit_test(test_read_when_printed),
        cmocka_unit_test(test_same_name_is_same_metric),
        cmocka_unit_test(test_histogram),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
