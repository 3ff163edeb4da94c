/* mem.h: counting, also across threads, and injected failures. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"

static void test_counts(void **state)
{
    uint64_t live = mem_live_bytes(), count = mem_allocation_count();
    char *memory = mem_zalloc(1000);
    assert_non_null(memory);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(memory[i], 0);
    assert_true(mem_live_bytes() >= live + 1000);
    memory = mem_realloc(memory, 5000);
    assert_true(mem_live_bytes() >= live + 5000);
    assert_int_equal(mem_allocation_count(), count + 2);
    mem_free(memory);
    mem_free(NULL);
    assert_int_equal(mem_live_bytes(), live);
    assert_null(mem_calloc(SIZE_MAX / 2, 4));
    void *empty = mem_alloc(0);
    assert_non_null(empty);
    mem_free(empty);
    char *text MEM_CLEANUP = mem_strdup("text");
    assert_string_equal(text, "text");
    char *part MEM_CLEANUP = mem_strndup("text", 2);
    assert_string_equal(part, "te");
}

static void *thread_allocate(void *arg)
{
    for (int i = 0; i < 1000; i++) {
        void *memory = mem_alloc(100);
        if (!memory)
            return NULL;
        if (i % 2)
            mem_free(memory);
        else
            ((void **)arg)[i / 2] = memory;
    }
    return arg;
}

static void test_threads(void **state)
{
    /* More threads than counter slots, and memory freed by another thread than made it. */
    enum { THREADS = 80 };
    static void *kept[THREADS][500];
    pthread_t threads[THREADS];
    uint64_t live = mem_live_bytes();
    for (int i = 0; i < THREADS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, thread_allocate, kept[i]), 0);
    for (int i = 0; i < THREADS; i++) {
        void *result;
        assert_int_equal(pthread_join(threads[i], &result), 0);
        assert_non_null(result);
    }
    assert_true(mem_live_bytes() >= live + (uint64_t)THREADS * 500 * 100);
    for (int i = 0; i < THREADS; i++)
        for (int j = 0; j < 500; j++)
            mem_free(kept[i][j]);
    assert_int_equal(mem_live_bytes(), live);
}

static void test_injected_failure(void **state)
{
    mem_fail_nth(3);
    void *first = mem_alloc(1), *second = mem_calloc(1, 1);
    assert_true(first && second && !mem_failed());
    assert_null(mem_realloc(first, 100)); /* the third; first stays valid */
    assert_true(mem_failed());
    void *fourth = mem_alloc(1);
    assert_non_null(fourth);
    mem_free(first);
    mem_free(second);
    mem_free(fourth);
    mem_fail_nth(1);
    assert_null(mem_strdup("x"));
    mem_fail_nth(0);
    assert_false(mem_failed());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_injected_failure),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
