/* crc32c.h: published values, and both forms against each other and against one bit at a time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/rng.h"

static uint32_t crc32c_bitwise(uint32_t crc, const uint8_t *data, size_t len)
{
    crc = ~crc;
    for (size_t i = 0; i < len; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return ~crc;
}

/* RFC 3720, appendix B.4, and the usual check value. */
static void test_published_values(void **state)
{
    uint8_t data[32];
    uint32_t (*const forms[])(uint32_t, const void *, size_t) = {crc32c, crc32c_portable};
    for (int form = 0; form < 2; form++) {
        assert_int_equal(forms[form](0, "123456789", 9), 0xe3069283u);
        assert_int_equal(forms[form](0, "", 0), 0);
        assert_int_equal(forms[form](0, NULL, 0), 0);
        memset(data, 0, sizeof(data));
        assert_int_equal(forms[form](0, data, sizeof(data)), 0x8a9136aau);
        memset(data, 0xff, sizeof(data));
        assert_int_equal(forms[form](0, data, sizeof(data)), 0x62a8ab43u);
        for (int i = 0; i < 32; i++)
            data[i] = (uint8_t)i;
        assert_int_equal(forms[form](0, data, sizeof(data)), 0x46dd794eu);
        for (int i = 0; i < 32; i++)
            data[i] = (uint8_t)(31 - i);
        assert_int_equal(forms[form](0, data, sizeof(data)), 0x113fdb5cu);
    }
}

static void test_forms_agree(void **state)
{
    struct rng rng;
    rng_seed(&rng, 3);
    static uint8_t data[70000];
    rng_fill(&rng, data, sizeof(data));
    for (size_t len = 0; len < 300; len++) {
        size_t start = rng_below(&rng, 64);
        uint32_t want = crc32c_bitwise(0, data + start, len);
        assert_int_equal(crc32c(0, data + start, len), want);
        assert_int_equal(crc32c_portable(0, data + start, len), want);
    }
    for (int i = 0; i < 300; i++) {
        size_t start = rng_below(&rng, sizeof(data)), len = rng_below(&rng, sizeof(data) - start + 1);
        size_t cut = rng_below(&rng, len + 1);
        uint32_t whole = crc32c(0, data + start, len);
        assert_int_equal(crc32c_portable(0, data + start, len), whole);
        assert_int_equal(crc32c(crc32c(0, data + start, cut), data + start + cut, len - cut), whole);
        assert_int_equal(crc32c_portable(crc32c(0, data + start, cut), data + start + cut, len - cut), whole);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_published_values),
        cmocka_unit_test(test_forms_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
