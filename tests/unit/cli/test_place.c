/* Places as people write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include <cmocka.h>

#include "cli/cli.h"

enum { NOW_MS = 2000000000 };

static void expect(const char *text, bool by_time, int64_t at)
{
    struct cli_place place = {0};
    if (cli_parse_place(text, NOW_MS, &place) != 0)
        fail_msg("\"%s\" is refused", text);
    assert_int_equal(place.by_time, by_time);
    assert_int_equal(place.at, at);
}

static void test_good(void **state)
{
    expect("beginning", false, CLYMQ_OFFSET_BEGINNING);
    expect("end", false, CLYMQ_OFFSET_END);
    expect("0", false, 0);
    expect("123456789012345678", false, 123456789012345678);
    expect("@0", true, 0);
    expect("@1795377600000", true, 1795377600000);
    expect("-5m", true, NOW_MS - 300000);
    expect("-2h", true, NOW_MS - 7200000);
    expect("1970-01-01T00:00:00Z", true, 0);
    expect("2026-11-22T20:00:00Z", true, 1795377600000);
    expect("2026-11-22 20:00Z", true, 1795377600000);
    expect("2026-11-22T20:00:00.5Z", true, 1795377600500);
    expect("2026-11-22T20:00:00.123456789Z", true, 1795377600123);
    expect("2026-11-22T22:00:00+02:00", true, 1795377600000);
    expect("2026-11-22T12:30:00-0730", true, 1795377600000);
    expect("2024-02-29T00:00:00Z", true, 1709164800000);
    /* Without a zone it is local time. */
    setenv("TZ", "UTC-3", 1);
    tzset();
    expect("2026-11-22T23:00:00", true, 1795377600000);
    expect("1970-01-02", true, 21 * 3600 * 1000);
}

static void test_bad(void **state)
{
    const char *const texts[] = {"",
                                 "start",
                                 "12x",
                                 "1234567890123456789",
                                 "@",
                                 "@12x",
                                 "-",
                                 "-5x",
                                 "-1000d",
                                 "2026-13-01T00:00:00Z",
                                 "2026-02-30T00:00:00Z",
                                 "2026-11-22T24:00:00Z",
                                 "2026-11-22T20:00:00Zx",
                                 "2026-11-22T20",
                                 "2026-11-22T20:00:00.Z",
                                 "2026-11-22T20:00:00+2",
                                 "26-11-22"};
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct cli_place place;
        if (cli_parse_place(texts[i], NOW_MS, &place) == 0)
            fail_msg("\"%s\" is taken", texts[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_good), cmocka_unit_test(test_bad)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
