/* log.h: filters, both line formats, control characters, files, rate limit, VERBOSE, sinks, threads. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#define LOG_MODULE "store"
#include "base/log.h"
#include "base/mem.h"

static char last_line[20000];
static enum log_level last_level;
static int lines;
static int64_t now_us;

static int64_t clock_test(void *ctx)
{
    return *(int64_t *)ctx;
}

static void sink_test(void *ctx, enum log_level level, const char *line)
{
    snprintf(last_line, sizeof(last_line), "%s", line);
    last_level = level;
    lines++;
    log_error("from inside the sink"); /* must neither hang nor come back */
}

static int setup(void **state)
{
    unsetenv("VERBOSE");
    now_us = 1795379221123456; /* 2026-11-22T20:27:01.123456Z */
    lines = 0;
    last_line[0] = '\0';
    log_set_clock(clock_test, &now_us);
    log_set_sink(sink_test, NULL);
    return log_configure(&(struct log_settings){.filter = "info"});
}

static int teardown(void **state)
{
    unsetenv("VERBOSE");
    log_set_sink(NULL, NULL);
    log_set_clock(NULL, NULL);
    return log_configure(&(struct log_settings){.filter = "warn"});
}

static int configure(const char *filter, bool json)
{
    return log_configure(&(struct log_settings){.filter = filter, .json = json});
}

static void test_text_line(void **state)
{
    log_info("recovered partition=%s end=%d", "orders/0", 1234);
    assert_string_equal(last_line,
                        "2026-11-22T20:27:01.123456Z INFO  store  recovered partition=orders/0 end=1234");
    assert_int_equal(last_level, LOG_INFO);
    assert_int_equal(lines, 1);
    now_us = -1;
    log_warn("before 1970");
    assert_string_equal(last_line, "1969-12-31T23:59:59.999999Z WARN  store  before 1970");
    now_us = INT64_MAX;
    log_warn("far away");
    now_us = INT64_MIN;
    log_warn("far away");
    assert_int_equal(lines, 4);
}

static void test_json_line(void **state)
{
    assert_int_equal(configure("info", true), 0);
    log_error("a \"quoted\\ name\"\n\t\x01 \x7f 北京 \xff \xc2\x85");
    assert_string_equal(
        last_line,
        "{\"time\":\"2026-11-22T20:27:01.123456Z\",\"level\":\"error\",\"module\":\"store\","
        "\"message\":\"a \\\"quoted\\\\ name\\\"\\n\\t\\u0001 \\u007f 北京 \\u00ff \\u00c2\\u0085\"}");
}

static void test_control_characters_are_neutralised(void **state)
{
    log_info("%s", "evil\x1b[2J\r\nINFO forged\x7f\xc2\x9b ok 北京 \xe4\xbd");
    const char *message = strstr(last_line, "evil");
    assert_non_null(message);
    assert_string_equal(message, "evil\\x1b[2J\\r\\nINFO forged\\x7f\\xc2\\x9b ok 北京 \\xe4\\xbd");
    for (const char *c = last_line; *c; c++)
        assert_true((unsigned char)*c >= 0x20 && *c != 0x7f);
}

static void test_long_messages_are_cut(void **state)
{
    char text[9000];
    memset(text, '\x02', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    log_info("%s", text);
    size_t len = strlen(last_line);
    assert_true(len > 2000 && len < 15000);
    assert_string_equal(last_line + len - 6, " (cut)");
    assert_int_equal(configure("info", true), 0);
    log_info("%s", text);
    len = strlen(last_line);
    assert_string_equal(last_line + len - 8, " (cut)\"}");
}

static void test_filters(void **state)
{
    assert_true(log_enabled(LOG_INFO, "store"));
    assert_false(log_enabled(LOG_DEBUG, "store"));
    assert_int_equal(configure("warn,store=debug, net = ERROR ,io=off", false), 0);
    assert_true(log_enabled(LOG_DEBUG, "store"));
    assert_false(log_enabled(LOG_TRACE, "store"));
    assert_false(log_enabled(LOG_WARN, "net"));
    assert_true(log_enabled(LOG_ERROR, "net"));
    assert_false(log_enabled(LOG_ERROR, "io"));
    assert_true(log_enabled(LOG_WARN, "broker"));
    assert_false(log_enabled(LOG_INFO, "broker"));
    assert_int_equal(configure("store=trace", false), 0); /* the rest: info */
    assert_true(log_enabled(LOG_TRACE, "store"));
    assert_true(log_enabled(LOG_INFO, "net"));
    assert_false(log_enabled(LOG_DEBUG, "net"));
    assert_int_equal(configure("store=trace,store=error", false), 0);
    assert_false(log_enabled(LOG_INFO, "store"));
    assert_int_equal(configure(NULL, false), 0);
    assert_true(log_enabled(LOG_INFO, "net"));
    assert_int_equal(configure("off", false), 0);
    log_error("not shown");
    assert_int_equal(lines, 0);
    static const char *const bad[] = {"",           "loud",     "info,",
                                      ",info",      "store=",   "=info",
                                      "store=loud", "a b=info", "a-module-name-that-is-far-too-long=info"};
    assert_int_equal(configure("debug", false), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(configure(bad[i], false), CLYMQ_EINVAL);
    char many[600] = "info";
    for (int i = 0; i < 33; i++)
        sprintf(many + strlen(many), ",m%d=info", i);
    assert_int_equal(configure(many, false), CLYMQ_EINVAL);
    assert_true(log_enabled(LOG_DEBUG, "x")); /* bad settings change nothing */
}

static void test_verbose(void **state)
{
    setenv("VERBOSE", "1", 1);
    assert_int_equal(configure("warn,net=off,store=trace", false), 0);
    assert_true(log_enabled(LOG_DEBUG, "broker") && log_enabled(LOG_DEBUG, "net"));
    assert_false(log_enabled(LOG_TRACE, "broker"));
    assert_true(log_enabled(LOG_TRACE, "store"));
    setenv("VERBOSE", "2", 1);
    assert_int_equal(configure("warn", false), 0);
    assert_true(log_enabled(LOG_TRACE, "broker"));
    setenv("VERBOSE", "0", 1);
    assert_int_equal(configure("warn", false), 0);
    assert_false(log_enabled(LOG_INFO, "broker"));
}

static void test_rate_limit(void **state)
{
    struct log_limit limit = {0};
    uint32_t suppressed = 99;
    for (int i = 0; i < 3; i++) {
        assert_true(log_limit_allows(&limit, 3, 1000, &suppressed));
        assert_int_equal(suppressed, 0);
    }
    suppressed = 99;
    for (int i = 0; i < 5; i++)
        assert_false(log_limit_allows(&limit, 3, 1000, &suppressed));
    assert_int_equal(suppressed, 99);
    now_us += 999999;
    assert_false(log_limit_allows(&limit, 3, 1000, &suppressed));
    now_us += 1;
    assert_true(log_limit_allows(&limit, 3, 1000, &suppressed));
    assert_int_equal(suppressed, 6);
    assert_true(log_limit_allows(&limit, 3, 1000, &suppressed));
    assert_int_equal(suppressed, 0);
    assert_true(log_limit_allows(&limit, 3, 1000, &suppressed));
    assert_false(log_limit_allows(&limit, 3, 1000, &suppressed));
    now_us -= 3600000000; /* the clock was set back */
    assert_true(log_limit_allows(&limit, 3, 1000, &suppressed));
    assert_int_equal(suppressed, 1);
    struct log_limit fresh = {0};
    now_us = 0; /* a simulated clock may begin at 0 */
    assert_true(log_limit_allows(&fresh, 1, 1000, &suppressed));
    assert_false(log_limit_allows(&fresh, 1, 1000, &suppressed));
}

static void test_limited_lines(void **state)
{
    for (int i = 0; i < 50; i++) {
        if (i == 40)
            now_us += 10000000;
        log_limited(LOG_WARN, "bad frame %d", i);
    }
    assert_int_equal(lines, 20);
    assert_non_null(strstr(last_line, "bad frame 49"));
    lines = 0;
    for (int i = 0; i < 41; i++) {
        if (i == 40)
            now_us += 10000000;
        log_limited(LOG_WARN, "again");
    }
    assert_int_equal(lines, 11);
    assert_non_null(strstr(last_line, "again (30 like it not shown)"));
}

static void test_file(void **state)
{
    char path[] = "/tmp/clymq-log-XXXXXX", moved[64];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    snprintf(moved, sizeof(moved), "%s.1", path);
    log_set_sink(NULL, NULL);
    const struct log_settings settings = {.filter = "info", .path = path};
    assert_int_equal(log_configure(&settings), 0);
    errno = EBADF;
    log_info("one");
    assert_int_equal(errno, EBADF); /* logging leaves errno alone */
    assert_int_equal(rename(path, moved), 0);
    log_info("two");
    assert_int_equal(log_configure(&settings), 0); /* opens the path again */
    log_info("three");
    assert_int_equal(log_configure(&(struct log_settings){.path = "/nonexistent/log"}), CLYMQ_ENOENT);
    log_info("four");
    assert_int_equal(configure("warn", false), 0);
    char text[1000];
    FILE *file = fopen(moved, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(
        text, "2026-11-22T20:27:01.123456Z INFO  store  one\n2026-11-22T20:27:01.123456Z INFO  store  two\n");
    file = fopen(path, "r");
    assert_non_null(file);
    text[fread(text, 1, sizeof(text) - 1, file)] = '\0';
    fclose(file);
    assert_string_equal(
        text,
        "2026-11-22T20:27:01.123456Z INFO  store  three\n2026-11-22T20:27:01.123456Z INFO  store  four\n");
    unlink(path);
    unlink(moved);
}

/* Opened again while nobody reads it: an error, not a wait that no signal ends. */
static void test_pipe_without_a_reader(void **state)
{
    char path[] = "/tmp/clymq-log-XXXXXX", text[200];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    log_set_sink(NULL, NULL);
    const struct log_settings settings = {.filter = "info", .path = path};
    alarm(20);
    assert_int_not_equal(log_configure(&settings), 0);
    int reader = open(path, O_RDONLY | O_NONBLOCK);
    assert_int_equal(log_configure(&settings), 0);
    log_info("read by somebody");
    ssize_t len = read(reader, text, sizeof(text) - 1);
    assert_true(len > 0);
    text[len] = '\0';
    assert_non_null(strstr(text, "read by somebody"));
    assert_int_equal(log_configure(&(struct log_settings){.filter = "info"}), 0);
    alarm(0);
    close(reader);
    unlink(path);
}

static void *thread_log(void *arg)
{
    for (int i = 0; i < 500; i++)
        log_info("from a thread, a line long enough to be torn if two writers met");
    return NULL;
}

static void test_threads_do_not_mix_lines(void **state)
{
    char path[] = "/tmp/clymq-log-XXXXXX";
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    log_set_sink(NULL, NULL);
    assert_int_equal(log_configure(&(struct log_settings){.filter = "info", .path = path}), 0);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_log, NULL), 0);
    for (int i = 0; i < 50; i++) /* settings change meanwhile */
        assert_int_equal(log_configure(&(struct log_settings){.filter = "info,net=debug", .path = path}), 0);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    char line[300];
    int count = 0;
    while (fgets(line, sizeof(line), file)) {
        assert_string_equal(
            line, "2026-11-22T20:27:01.123456Z INFO  store  from a thread, a line long enough to be torn "
                  "if two writers met\n");
        count++;
    }
    fclose(file);
    unlink(path);
    assert_int_equal(count, 2000);
}

static void test_needs_no_memory(void **state)
{
    mem_fail_nth(1);
    log_error("out of %s", "memory");
    assert_false(mem_failed());
    mem_fail_nth(0);
    assert_int_equal(lines, 1);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_text_line),
        TEST(test_json_line),
        TEST(test_control_characters_are_neutralised),
        TEST(test_long_messages_are_cut),
        TEST(test_filters),
        TEST(test_verbose),
        TEST(test_rate_limit),
        TEST(test_limited_lines),
        TEST(test_file),
        TEST(test_pipe_without_a_reader),
        TEST(test_threads_do_not_mix_lines),
        TEST(test_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
