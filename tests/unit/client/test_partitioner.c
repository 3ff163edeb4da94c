/* The partitioner against the numbers that Kafka's own tests of murmur2 expect (UtilsTest.testMurmur2). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "client/partitioner.h"

static void test_vectors(void **state)
{
    const struct {
        const char *key;
        int32_t hash;
    } rows[] = {
        {"21", -973932308},
        {"foobar", -790332482},
        {"a-little-bit-long-string", -985981536},
        {"a-little-bit-longer-string", -1486304829},
        {"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971},
        {"abc", 479470107},
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        assert_int_equal(partitioner_murmur2(bytes_of_text(rows[i].key)), rows[i].hash);
}

static void test_choice(void **state)
{
    /* -973932308 & 0x7fffffff = 1173551340 */
    assert_int_equal(partitioner_choose(BYTES_LITERAL("21"), 1), 0);
    assert_int_equal(partitioner_choose(BYTES_LITERAL("21"), 7), 1173551340 % 7);
    assert_int_equal(partitioner_choose(BYTES_LITERAL("abc"), 1000), 107);
    (void)partitioner_choose(bytes_of("", 0), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_vectors), cmocka_unit_test(test_choice)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
