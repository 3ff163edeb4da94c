/* utf8.h: every code point, every pair of bytes, known bad forms; the rule for names. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/utf8.h"

static size_t encode(uint32_t code, uint8_t *out)
{
    if (code < 0x80) {
        out[0] = (uint8_t)code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (uint8_t)(0xc0 | code >> 6);
        out[1] = (uint8_t)(0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (uint8_t)(0xe0 | code >> 12);
        out[1] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
        out[2] = (uint8_t)(0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (uint8_t)(0xf0 | code >> 18);
    out[1] = (uint8_t)(0x80 | (code >> 12 & 0x3f));
    out[2] = (uint8_t)(0x80 | (code >> 6 & 0x3f));
    out[3] = (uint8_t)(0x80 | (code & 0x3f));
    return 4;
}

static void test_every_code_point(void **state)
{
    for (uint32_t code = 0; code < 0x120000; code++) {
        uint8_t text[16] = "abcdefghijkl";
        size_t len = encode(code, text);
        bool valid = code <= 0x10ffff && !(code >= 0xd800 && code <= 0xdfff);
        if (utf8_valid(bytes_of(text, len)) != valid || utf8_valid(bytes_of(text, 12)) != valid)
            fail_msg("U+%04X: valid should be %d", code, valid);
        if (len > 1 && utf8_valid(bytes_of(text, len - 1)))
            fail_msg("U+%04X cut short is accepted", code);
        bool name = valid && code >= 0x20 && !(code >= 0x7f && code <= 0x9f) && code != '/' && code != '.';
        if ((name_check(bytes_of(text, len)) == 0) != name)
            fail_msg("U+%04X: name should be %d", code, name);
    }
}

static void test_overlong_forms(void **state)
{
    static const char *const bad[] = {"\xc0\x80",
                                      "\xc1\xbf",
                                      "\xe0\x80\x80",
                                      "\xe0\x9f\xbf",
                                      "\xf0\x80\x80\x80",
                                      "\xf0\x8f\xbf\xbf",
                                      "\xf5\x80\x80\x80",
                                      "\xff",
                                      "\x80",
                                      "\xe4\xbd",
                                      "a\xbf",
                                      "abcdefgh\xc3",
                                      "\xf4\x90\x80\x80",
                                      "\xed\xa0\x80",
                                      "\xe4\x41\x80",
                                      "\xe4\xbd\x41"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_false(utf8_valid(bytes_of_text(bad[i])));
    assert_true(utf8_valid(bytes_of(NULL, 0)));
    assert_true(utf8_valid(bytes_of("\0", 1)));
    assert_true(utf8_valid(bytes_of_text("北京 é 🚀 plain text behind it")));
}

static void test_names(void **state)
{
    char text[251];
    memset(text, 'x', sizeof(text));
    assert_int_equal(name_check(bytes_of(text, 249)), 0);
    assert_int_equal(name_check(bytes_of(text, 250)), CLYMQ_ENAME);
    assert_int_equal(name_check(bytes_of(text, 0)), CLYMQ_ENAME);
    static const char *const good[] = {"北京", "a",          "...", ".a", "a b",
                                       "xian", "a\xc2\xa0z", "-1",  "\\", "orders.v2"};
    static const char *const bad[] = {".",         "..",        "/",    "a/b", "a\n",  "\x7f",
                                      "a\xc2\x80", "a\xc2\x9f", "\xff", "\t",  "a\xe5"};
    for (size_t i = 0; i < sizeof(good) / sizeof(good[0]); i++)
        assert_int_equal(name_check(bytes_of_text(good[i])), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(name_check(bytes_of_text(bad[i])), CLYMQ_ENAME);
    assert_int_equal(name_check(bytes_of("a\0b", 3)), CLYMQ_ENAME);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_code_point),
        cmocka_unit_test(test_overlong_forms),
        cmocka_unit_test(test_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
