/* log.h: filters, both line formats, control characters, files, rate limit, VERBOSE, sinks, threads,
 * readers that stall. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
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

/* ---- readers that stall ---- */

static const char stalled_line[] = "2026-11-22T20:27:01.123456Z INFO  store  nobody reads this line";

static const char notice[] = "2026-11-22T20:27:01.123456Z WARN  base   ";

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Standard error is `out` until the handle comes back; a log that blocks ends the test. */
static int stderr_take(int out)
{
    int kept = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
    assert_true(kept >= 0 && dup2(out, STDERR_FILENO) == STDERR_FILENO);
    log_set_sink(NULL, NULL);
    alarm(20);
    return kept;
}

static void stderr_give_back(int kept)
{
    alarm(0);
    log_set_sink(sink_test, NULL);
    assert_int_equal(dup2(kept, STDERR_FILENO), STDERR_FILENO);
    close(kept);
}

/* Everything that is there; a terminal needs a moment to hand it on. */
static size_t drain(int in, char *text, size_t cap)
{
    size_t len = 0;
    ssize_t got = 1;
    while (got > 0 && poll(&(struct pollfd){.fd = in, .events = POLLIN}, 1, 100) > 0) {
        got = read(in, text + len, cap - 1 - len);
        len += got > 0 ? (size_t)got : 0;
    }
    text[len] = '\0';
    return len;
}

static void log_while_nobody_reads(int count)
{
    for (int i = 0; i < count; i++)
        log_info("nobody reads this line");
}

/* Logs to `out` with nobody reading `in`, then reads and logs once more: every line is there or was told as
 * dropped. What can tear a line takes some more now and then, though nobody reads. */
static void check_stalled(int out, int in, bool may_tear)
{
    enum { LINES = 5000, CAP = 1 << 20 };
    char *text = malloc(CAP), after[1000], expected[1000];
    int whole = 0, torn = 0;
    int64_t told = 0;
    assert_non_null(text);
    int kept = stderr_take(out);
    int64_t dropped = log_dropped_lines();
    log_while_nobody_reads(LINES);
    dropped = log_dropped_lines() - dropped;
    size_t len = drain(in, text, CAP);
    log_info("read again");
    log_info("and again");
    drain(in, after, sizeof(after));
    stderr_give_back(kept);
    bool is_torn = len > 0 && text[len - 1] != '\n';
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (strcmp(line, stalled_line) == 0)
            whole++;
        else if (strncmp(line, notice, strlen(notice)) == 0 && strstr(line, "could not be written"))
            told += strtol(line + strlen(notice), NULL, 10);
        else
            torn++;
    }
    free(text);
    assert_true(whole > 0 && whole < LINES);
    assert_true(torn == 0 || may_tear);
    assert_int_equal(dropped, LINES - whole);
    snprintf(expected, sizeof(expected),
             "%s%s%d lines were dropped: the log was not read fast "
             "enough, or could not be written\n"
             "2026-11-22T20:27:01.123456Z INFO  store  read again\n"
             "2026-11-22T20:27:01.123456Z INFO  store  and again\n",
             is_torn ? "\n" : "", notice, (int)(dropped - told));
    assert_string_equal(after, expected);
}

static void test_pipe_that_nobody_reads(void **state)
{
    int fds[2];
    assert_int_equal(pipe(fds), 0);
    check_stalled(fds[1], fds[0], false);
    assert_false(fcntl(fds[1], F_GETFL) & O_NONBLOCK); /* others may share it */
    close(fds[0]);
    close(fds[1]);
}

static void test_sockets_that_nobody_reads(void **state)
{
    static const int types[] = {SOCK_STREAM, SOCK_DGRAM};
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        int fds[2];
        assert_int_equal(socketpair(AF_UNIX, types[i], 0, fds), 0);
        check_stalled(fds[1], fds[0], types[i] == SOCK_STREAM);
        close(fds[0]);
        close(fds[1]);
    }
}

static void test_terminal_that_nobody_reads(void **state)
{
    int in = posix_openpt(O_RDWR | O_NOCTTY);
    if (in < 0 || grantpt(in) || unlockpt(in))
        skip();
    int out = open(ptsname(in), O_WRONLY | O_NOCTTY);
    if (out < 0)
        skip();
    struct termios raw;
    assert_int_equal(tcgetattr(out, &raw), 0);
    cfmakeraw(&raw);
    assert_int_equal(tcsetattr(out, TCSANOW, &raw), 0);
    check_stalled(out, in, true);
    assert_false(fcntl(out, F_GETFL) & O_NONBLOCK);
    close(out);
    close(in);
}

static void test_log_file_that_is_a_pipe_nobody_reads(void **state)
{
    char path[] = "/tmp/clymq-log-XXXXXX", text[100000];
    int fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
    unlink(path);
    assert_int_equal(mkfifo(path, 0600), 0);
    int in = open(path, O_RDONLY | O_NONBLOCK);
    log_set_sink(NULL, NULL);
    assert_int_equal(log_configure(&(struct log_settings){.filter = "info", .path = path}), 0);
    alarm(20);
    log_while_nobody_reads(5000);
    assert_true(drain(in, text, sizeof(text)) > 0);
    log_info("read again");
    drain(in, text, sizeof(text));
    alarm(0);
    assert_non_null(strstr(text, " lines were dropped: "));
    assert_non_null(strstr(text, "INFO  store  read again\n"));
    assert_int_equal(configure("info", false), 0);
    close(in);
    unlink(path);
}

/* What is longer than PIPE_BUF could block although the pipe takes something, or be mixed with others. */
static void test_no_line_is_longer_than_a_pipe_takes_at_once(void **state)
{
    char message[3000], text[PIPE_BUF + 100];
    for (int variant = 0; variant < 4; variant++) {
        const bool as_json = variant & 1;
        memset(message, variant & 2 ? '\x01' : '"', sizeof(message) - 1);
        message[sizeof(message) - 1] = '\0';
        assert_int_equal(configure("info", as_json), 0);
        int fds[2];
        assert_int_equal(pipe2(fds, O_NONBLOCK), 0);
        int kept = stderr_take(fds[1]);
        while (poll(&(struct pollfd){.fd = fds[1], .events = POLLOUT}, 1, 0) > 0)
            log_info("%s", message);
        size_t count = 0, len;
        while ((len = (size_t)read(fds[0], text, sizeof(text) - 1)) != (size_t)-1) {
            text[len] = '\0';
            for (const char *end = text; (end = strchr(end, '\n')); end++) {
                assert_memory_equal(end - (as_json ? 8 : 6), as_json ? " (cut)\"}" : " (cut)",
                                    as_json ? 8 : 6);
                count++;
            }
        }
        assert_true(count > 1);
        log_info("dropped? %s", message); /* a whole pipe is free: everything fits */
        log_info("%s", message);
        len = (size_t)read(fds[0], text, sizeof(text) - 1);
        stderr_give_back(kept);
        assert_true(len > 2000 && len < sizeof(text));
        close(fds[0]);
        close(fds[1]);
    }
}

static void *thread_read_late(void *arg)
{
    static char text[1 << 18];
    nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
    drain(*(const int *)arg, text, sizeof(text));
    return text;
}

/* An error may be the last that a program says: it gives a slow reader some time, but not a dead one, twice.
 */
static void test_errors_wait_for_a_moment(void **state)
{
    int fds[2];
    pthread_t reader;
    void *text;
    assert_int_equal(pipe(fds), 0);
    int kept = stderr_take(fds[1]);
    log_while_nobody_reads(5000);
    assert_int_equal(pthread_create(&reader, NULL, thread_read_late, &fds[0]), 0);
    log_error("last words");
    assert_int_equal(pthread_join(reader, &text), 0);
    assert_non_null(strstr(text, "lines were dropped"));
    assert_non_null(strstr(text, "ERROR store  last words\n"));
    log_while_nobody_reads(5000);
    int64_t begun_ms = monotonic_ms();
    for (int i = 0; i < 1000; i++)
        log_error("nobody reads this either");
    int64_t took_ms = monotonic_ms() - begun_ms;
    drain(fds[0], text, 1 << 18);
    log_info("nothing is left to be told");
    stderr_give_back(kept);
    assert_true(took_ms < 5000);
    close(fds[0]);
    close(fds[1]);
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
        TEST(test_pipe_that_nobody_reads),
        TEST(test_sockets_that_nobody_reads),
        TEST(test_terminal_that_nobody_reads),
        TEST(test_log_file_that_is_a_pipe_nobody_reads),
        TEST(test_no_line_is_longer_than_a_pipe_takes_at_once),
        TEST(test_errors_wait_for_a_moment),
        TEST(test_needs_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
