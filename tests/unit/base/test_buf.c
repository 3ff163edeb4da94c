/* buf.h: byte order, references (also from several threads), growing text. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/buf.h"
#include "base/mem.h"

static void test_bytes(void **state)
{
    assert_true(bytes_compare(BYTES_LITERAL("a"), BYTES_LITERAL("b")) < 0);
    assert_true(bytes_compare(BYTES_LITERAL("ab"), BYTES_LITERAL("a")) > 0);
    assert_true(bytes_compare(BYTES_LITERAL("\xff"), BYTES_LITERAL("a")) > 0);
    assert_int_equal(bytes_compare(BYTES_LITERAL("ab"), BYTES_LITERAL("ab")), 0);
    assert_int_equal(bytes_compare(bytes_of(NULL, 0), BYTES_LITERAL("")), 0);
    assert_true(bytes_compare(bytes_of(NULL, 0), BYTES_LITERAL("a")) < 0);
    assert_true(bytes_equal(bytes_of(NULL, 0), BYTES_LITERAL("")));
    assert_false(bytes_equal(BYTES_LITERAL("a"), BYTES_LITERAL("b")));
}

static void test_references(void **state)
{
    uint64_t live = mem_live_bytes();
    struct buf *buf = buf_new(16);
    assert_true(buf_exclusive(buf));
    memcpy(buf->data, "hello", 5);
    struct slice slice = slice_of(buf, buf->data + 1, 3), copy = slice_ref(slice);
    assert_false(buf_exclusive(buf));
    buf_unref(buf);
    slice_unref(&slice);
    assert_null(slice.owner);
    slice_unref(&slice); /* of nothing: harmless */
    assert_true(bytes_equal(slice_bytes(copy), BYTES_LITERAL("ell")));
    slice_unref(&copy);
    assert_int_equal(mem_live_bytes(), live);
    struct slice constant = slice_of(NULL, "x", 1);
    slice_unref(&constant);
    buf_unref(NULL);
    assert_null(buf_new(SIZE_MAX));
    mem_fail_nth(1);
    assert_null(buf_new(1));
    mem_fail_nth(0);
}

static void *thread_references(void *arg)
{
    struct buf *buf = arg;
    for (int i = 0; i < 20000; i++) {
        struct slice slice = slice_of(buf, buf->data, 1);
        slice_unref(&slice);
    }
    buf_unref(buf);
    return NULL;
}

static void test_references_across_threads(void **state)
{
    uint64_t live = mem_live_bytes();
    struct buf *buf = buf_new(1);
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_references, buf_ref(buf)), 0);
    buf_unref(buf);
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(mem_live_bytes(), live);
}

static void test_strbuf(void **state)
{
    struct strbuf text = {0};
    for (int i = 0; i < 1000; i++) {
        strbuf_printf(&text, "%d,", i % 10);
        assert_int_equal(text.data[text.len], 0);
    }
    assert_int_equal(text.len, 2000);
    assert_memory_equal(text.data + 1990, "5,6,7,8,9,", 11);
    strbuf_append(&text, NULL, 0);
    strbuf_append(&text, "\0", 1);
    assert_int_equal(text.len, 2001);
    strbuf_free(&text);
    strbuf_append(&text, NULL, 0);
    assert_string_equal(text.data, "");
    strbuf_free(&text);
}

static void test_strbuf_without_memory(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct strbuf text = {0};
        mem_fail_nth(nth);
        for (int i = 0; i < 100; i++) {
            strbuf_append_text(&text, "some words ");
            strbuf_printf(&text, "%d", i);
        }
        int failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(text.failed, failed);
        assert_true(failed ? text.len < 1290 : text.len == 1290);
        size_t len = text.len;
        if (failed)
            strbuf_append_text(&text, "more");
        assert_int_equal(text.len, len);
        strbuf_free(&text);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_references),
        cmocka_unit_test(test_references_across_threads),
        cmocka_unit_test(test_strbuf),
        cmocka_unit_test(test_strbuf_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
