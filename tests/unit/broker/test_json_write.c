/* JSON strings and base64, against jansson and RFC 4648's own examples. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>
#include <jansson.h>

#include "base/rng.h"
#include "broker/json_write.h"

static void expect_base64(const char *data, const char *wanted)
{
    struct strbuf json = {0};

    json_write_base64(&json, bytes_of_text(data));
    assert_string_equal(json.data, wanted);
    assert_int_equal(json.len, json_base64_size(strlen(data)));
    strbuf_free(&json);
}

static void test_rfc_4648_examples(void **state)
{
    expect_base64("", "\"\"");
    expect_base64("f", "\"Zg==\"");
    expect_base64("fo", "\"Zm8=\"");
    expect_base64("foo", "\"Zm9v\"");
    expect_base64("foob", "\"Zm9vYg==\"");
    expect_base64("fooba", "\"Zm9vYmE=\"");
    expect_base64("foobar", "\"Zm9vYmFy\"");
}

static unsigned value_of(char digit)
{
    return (unsigned)(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/", digit) -
                      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/");
}

static void test_random_bytes_come_back(void **state)
{
    struct rng rng;

    rng_seed(&rng, 5);
    for (size_t len = 0; len < 5000; len += 1 + len / 9) {
        uint8_t data[5000];
        struct strbuf json = {0};

        rng_fill(&rng, data, len);
        json_write_base64(&json, bytes_of(data, len));
        assert_int_equal(json.len, json_base64_size(len));
        for (size_t i = 0; i < len; i++) {
            const char *four = json.data + 1 + i / 3 * 4;
            unsigned bits = value_of(four[i % 3]) << 6 | value_of(four[i % 3 + 1]);

            assert_int_equal(bits >> (4 - 2 * (i % 3)) & 0xff, data[i]);
        }
        strbuf_free(&json);
    }
}

static void test_strings_are_read_back(void **state)
{
    static const char *const texts[] = {"", "plain", "北京", "a\"b\\c", "tab\tline\n\x01\x1f\x7f end", "€ /"};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct strbuf json = {0};
        json_t *read;

        json_write_string(&json, bytes_of_text(texts[i]));
        read = json_loads(json.data, JSON_DECODE_ANY, NULL);
        assert_non_null(read);
        assert_string_equal(json_string_value(read), texts[i]);
        json_decref(read);
        strbuf_free(&json);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rfc_4648_examples),
        cmocka_unit_test(test_random_bytes_come_back),
        cmocka_unit_test(test_strings_are_read_back),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
