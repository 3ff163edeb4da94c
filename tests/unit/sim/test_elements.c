/* The JSON of `pull`, as the simulator's puller reads it: what is right is read, what is not is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "sim/elements.h"

#define ONE(index, msg)                                                                                      \
    "{\"index\":" index ",\"size\":0,\"topic_name\":\"t\\\"\",\"part_name\":\"北京\",\"msg\":\"" msg "\"}"

/* The number of elements; -1: wrong. */
static int count_of(const char *text)
{
    struct elements elements;
    struct element element;
    int more, count = 0;

    if (!elements_begin(&elements, bytes_of_text(text)))
        return -1;
    while ((more = elements_next(&elements, &element)) > 0)
        count++;
    return more < 0 ? -1 : count;
}

static void test_right(void **state)
{
    const char *text = "[" ONE("7", "YWJj") "," ONE("-8", "") "]";
    struct elements elements;
    struct element element;

    assert_int_equal(count_of("[]"), 0);
    assert_int_equal(count_of(" [ ] \n"), 0);
    assert_int_equal(count_of(text), 2);
    assert_true(elements_begin(&elements, bytes_of_text(text)));
    assert_int_equal(elements_next(&elements, &element), 1);
    assert_int_equal(element.index, 7);
    assert_int_equal(element.size, 0);
    assert_string_equal(element.topic, "t\"");
    assert_string_equal(element.partition, "北京");
    assert_true(bytes_equal(element.msg, bytes_of_text("YWJj")));
    assert_int_equal(elements_next(&elements, &element), 1);
    assert_int_equal(element.index, -8);
    assert_int_equal(element.msg.len, 0);
}

static void test_wrong(void **state)
{
    static const char *const texts[] = {
        "",
        "{}",
        "[",
        "[]]",
        "[,]",
        "[{}]",
        "[" ONE("7", "") ",]",
        "[" ONE("7", "") ONE("8", "") "]",
        "[" ONE("7", "") "",
        "[" ONE("07", "") "]",
        "[" ONE("", "") "]",
        "[" ONE("1234567890123456789012", "") "]",
        "[{\"index\":1,\"index\":1,\"size\":0,\"topic_name\":\"t\",\"part_name\":\"p\",\"msg\":\"\"}]",
        "[{\"index\":1,\"size\":0,\"topic_name\":\"t\",\"part_name\":\"p\"}]",
        "[{\"index\":1,\"size\":0,\"topic_name\":\"t\n\",\"part_name\":\"p\",\"msg\":\"\"}]",
        "[{\"index\":1,\"size\":0,\"topic_name\":\"\xff\",\"part_name\":\"p\",\"msg\":\"\"}]",
        "[{\"index\":1,\"size\":0,\"topic_name\":\"t\",\"part_name\":\"p\",\"msg\":\"}]",
        "[{\"index\":1,\"size\":0,\"topic_name\":\"t\",\"part_name\":\"p\",\"msg\":\"\\",
    };

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        if (count_of(texts[i]) != -1)
            fail_msg("taken for right: %s", texts[i]);
}

static void assert_base64(const char *text, const char *expected)
{
    uint8_t out[8];
    int len = elements_decode_base64(bytes_of_text(text), out, sizeof(out));

    if (!expected) {
        assert_int_equal(len, -1);
        return;
    }
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(out, expected, strlen(expected));
}

static void test_base64(void **state)
{
    assert_base64("", "");
    assert_base64("YQ==", "a");
    assert_base64("YWI=", "ab");
    assert_base64("YWJj", "abc");
    assert_base64("+/+/", "\xfb\xff\xbf");
    assert_base64("YWJ", NULL);
    assert_base64("YW=j", NULL);
    assert_base64("YW j", NULL);
    assert_base64("YWJjYWJjYWJj", NULL); /* longer than there is room */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_right),
        cmocka_unit_test(test_wrong),
        cmocka_unit_test(test_base64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
