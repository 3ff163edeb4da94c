/* Lines from a descriptor: in any pieces, of any bytes, within the limit. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "cli/lines.h"

/* A pipe that holds text and is closed behind it. */
static int pipe_of(const void *data, size_t len)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    assert_int_equal(write(ends[1], data, len), (ssize_t)len);
    close(ends[1]);
    return ends[0];
}

static void test_lines(void **state)
{
    static const char text[] = "one\n\nthr\0ee\r\nlast";
    int fd = pipe_of(text, sizeof(text) - 1);
    struct lines lines;
    struct bytes line;
    lines_init(&lines, fd, 100);
    const struct bytes expected[] = {BYTES_LITERAL("one"), BYTES_LITERAL(""), BYTES_LITERAL("thr\0ee\r"),
                                     BYTES_LITERAL("last")};
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(lines_next(&lines, &line), 0);
        assert_non_null(line.ptr);
        assert_true(bytes_equal(line, expected[i]));
    }
    assert_int_equal(lines_next(&lines, &line), CLYMQ_ENOENT);
    assert_int_equal(lines_next(&lines, &line), CLYMQ_ENOENT);
    lines_free(&lines);
    close(fd);
}

static void test_rest(void **state)
{
    int fd = pipe_of("a\nb\n", 4);
    struct lines lines;
    struct bytes all;
    lines_init(&lines, fd, 100);
    assert_int_equal(lines_rest(&lines, &all), 0);
    assert_true(bytes_equal(all, BYTES_LITERAL("a\nb\n")));
    lines_free(&lines);
    close(fd);
    fd = pipe_of("", 0);
    lines_init(&lines, fd, 100);
    assert_int_equal(lines_rest(&lines, &all), 0);
    assert_non_null(all.ptr);
    assert_int_equal(all.len, 0);
    lines_free(&lines);
    close(fd);
}

static void test_limits(void **state)
{
    char long_line[2000];
    memset(long_line, 'x', sizeof(long_line));
    long_line[1999] = '\n';
    int fd = pipe_of(long_line, sizeof(long_line));
    struct lines lines;
    struct bytes line;
    lines_init(&lines, fd, 1000);
    assert_int_equal(lines_next(&lines, &line), CLYMQ_ETOOBIG);
    lines_free(&lines);
    close(fd);
    lines_init(&lines, -1, 1000);
    assert_int_equal(lines_next(&lines, &line), CLYMQ_EIO);
    assert_true(lines.os_error != 0);
    lines_free(&lines);
    fd = pipe_of("x\n", 2);
    lines_init(&lines, fd, 1000);
    mem_fail_nth(1);
    assert_int_equal(lines_next(&lines, &line), CLYMQ_ENOMEM);
    mem_fail_nth(0);
    assert_int_equal(lines_next(&lines, &line), 0);
    lines_free(&lines);
    close(fd);
}

/* Far more than the first buffer, through a pipe that gives pieces. */
static void test_much(void **state)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        close(ends[0]);
        FILE *out = fdopen(ends[1], "w");
        for (int i = 0; i < 100000; i++)
            fprintf(out, "%d%*s\n", i, i % 50, "");
        fclose(out);
        _exit(0);
    }
    close(ends[1]);
    struct lines lines;
    struct bytes line;
    lines_init(&lines, ends[0], 1000);
    int count = 0;
    while (lines_next(&lines, &line) == 0) {
        char text[80];
        int len = snprintf(text, sizeof(text), "%d%*s", count, count % 50, "");
        assert_true(bytes_equal(line, bytes_of(text, (size_t)len)));
        count++;
    }
    assert_int_equal(count, 100000);
    lines_free(&lines);
    close(ends[0]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_lines), cmocka_unit_test(test_rest),
                                       cmocka_unit_test(test_limits), cmocka_unit_test(test_much)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
