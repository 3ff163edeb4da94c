/* When memory is given back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "server/memory.h"

enum { MIB = 1 << 20, BUSY = 100000 };

/* A look after `allocations` more with so much kept. */
static bool look(struct memory_use *use, uint64_t allocations, uint64_t kept_mib)
{
    return memory_is_left(use, use->allocations + allocations, kept_mib * MIB);
}

static void test_quiet(void **state)
{
    struct memory_use use = {0};

    assert_true(look(&use, 100, 9)); /* what the start has left */
    assert_true(look(&use, 100, 8));
    assert_true(look(&use, 100, 8));
    assert_false(look(&use, 100, 8)); /* code and libraries: that is never had back */
    assert_false(look(&use, 100, 11));
    assert_true(look(&use, 100, 60));
    assert_false(look(&use, 100, 9));
}

static void test_burst_before_the_next_look(void **state)
{
    struct memory_use use = {.kept = 8 * MIB};

    assert_true(look(&use, 100, 60));
    assert_false(look(&use, BUSY, 70)); /* a burst: not yet, and not what remains for ever either */
    assert_true(look(&use, 100, 70));
    assert_false(look(&use, 100, 8));
    assert_true(look(&use, 100, 150)); /* large pushes, of which few allocations tell */
    assert_true(look(&use, 100, 150));
    assert_false(look(&use, 100, 8));
}

static void test_work_that_goes_on(void **state)
{
    struct memory_use use = {.kept = 8 * MIB};
    int given = 0;

    for (int i = 0; i < 12; i++)
        given += look(&use, BUSY, 90);
    assert_int_equal(given, 1);
    for (int i = 0; i < 11; i++)
        assert_false(look(&use, BUSY, 90));
    assert_true(look(&use, BUSY, 90));
    for (int i = 0; i < 24; i++)
        assert_false(look(&use, BUSY, 60));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quiet),
        cmocka_unit_test(test_burst_before_the_next_look),
        cmocka_unit_test(test_work_that_goes_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
