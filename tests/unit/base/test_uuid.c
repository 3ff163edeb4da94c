/* uuid.h: text there and back, and texts that are no id. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/rng.h"
#include "base/uuid.h"

static void test_there_and_back(void **state)
{
    struct rng rng;
    rng_seed(&rng, 1);
    for (int i = 0; i < 1000; i++) {
        struct uuid id, back;
        char text[33];
        rng_fill(&rng, id.byte, sizeof(id.byte));
        uuid_format(id, text);
        assert_int_equal(strlen(text), 32);
        assert_int_equal(uuid_parse(bytes_of_text(text), &back), 0);
        assert_true(uuid_equal(id, back));
        assert_false(uuid_is_none(id));
    }
    assert_true(uuid_is_none((struct uuid){{0}}));
}

static void test_bad_text(void **state)
{
    static const char *const bad[] = {"",
                                      "0",
                                      "0123456789abcdef0123456789abcde",
                                      "0123456789abcdef0123456789abcdef0",
                                      "0123456789abcdef0123456789abcdeg",
                                      "0123456789ABCDEF0123456789abcdef"};
    struct uuid id = {{7}};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(uuid_parse(bytes_of_text(bad[i]), &id), CLYMQ_EINVAL);
    assert_int_equal(id.byte[0], 7);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_there_and_back),
        cmocka_unit_test(test_bad_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
