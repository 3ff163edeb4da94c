/* error.h: the table is whole, and every errno has an answer. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"

static void test_table(void **state)
{
    static const int numbers[] = {
#define X(name, number, retriable, sentence) CLYMQ_E##name,
        ERROR_TABLE(X)
#undef X
    };
    int count = (int)(sizeof(numbers) / sizeof(numbers[0]));
    for (int i = 0; i < count; i++) {
        assert_int_equal(numbers[i], -(i + 1)); /* no number is skipped or used twice */
        assert_true(strlen(error_sentence(numbers[i])) > 5);
        assert_int_equal(error_name(numbers[i])[0], 'E');
        assert_string_not_equal(error_name(numbers[i]), "E?");
        for (int j = 0; j < i; j++)
            assert_string_not_equal(error_name(numbers[i]), error_name(numbers[j]));
    }
    assert_string_equal(error_name(CLYMQ_ENOSPC), "ENOSPC");
    assert_true(error_retriable(CLYMQ_ENOSPC));
    assert_false(error_retriable(CLYMQ_EINVAL));
}

static void test_outside_the_table(void **state)
{
    assert_string_equal(error_name(0), "OK");
    assert_string_equal(error_sentence(0), "success");
    assert_false(error_retriable(0));
    static const int strange[] = {1, INT32_MAX, INT32_MIN, -1000};
    for (int i = 0; i < 4; i++) {
        assert_string_equal(error_name(strange[i]), "E?");
        assert_non_null(error_sentence(strange[i]));
        assert_false(error_retriable(strange[i]));
    }
}

static void test_errno(void **state)
{
    for (int number = 1; number < 200; number++)
        assert_string_not_equal(error_name(error_from_errno(number)), "E?");
    assert_int_equal(error_from_errno(ENOSPC), CLYMQ_ENOSPC);
    assert_int_equal(error_from_errno(EDQUOT), CLYMQ_ENOSPC);
    assert_int_equal(error_from_errno(EIO), CLYMQ_EIO);
    assert_int_equal(error_from_errno(ECONNREFUSED), CLYMQ_EUNREACH);
    assert_int_equal(error_from_errno(EHOSTDOWN), CLYMQ_EUNREACH);
    assert_int_equal(error_from_errno(EAFNOSUPPORT), CLYMQ_EUNREACH);
    assert_int_equal(error_from_errno(EMFILE), CLYMQ_ELIMIT);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_outside_the_table),
        cmocka_unit_test(test_errno),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
