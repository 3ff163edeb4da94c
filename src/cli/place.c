/* Where to begin to read, as people write it: a word, an offset, or a time. */
#include <ctype.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"

/* Takes a run of digits, at least least and at most most. NULL: not there. */
static const char *take_digits(const char *at, int least, int most, int64_t *ret_value)
{
    int64_t value = 0;
    int count = 0;
    while (count < most && isdigit((unsigned char)at[count]))
        value = value * 10 + (at[count++] - '0');
    if (count < least)
        return NULL;
    *ret_value = value;
    return at + count;
}

/* "Z", "+hh:mm", "+hhmm", "-hh", or nothing: local time. Returns seconds east of UTC in *ret_seconds. */
static const char *take_zone(const char *at, bool *ret_given, int64_t *ret_seconds)
{
    *ret_given = *at != '\0';
    *ret_seconds = 0;
    if (*at == 'Z' || *at == 'z')
        return at + 1;
    if (*at != '+' && *at != '-')
        return at;
    int64_t sign = *at == '-' ? -1 : 1, hours, minutes = 0;
    at = take_digits(at + 1, 2, 2, &hours);
    if (!at)
        return NULL;
    if (*at == ':')
        at++;
    if (*at && !(at = take_digits(at, 2, 2, &minutes)))
        return NULL;
    *ret_seconds = sign * (hours * 3600 + minutes * 60);
    return at;
}

/* yyyy-mm-dd[Thh:mm[:ss[.fff]]][zone] */
static int parse_iso(const char *text, int64_t *ret_ms)
{
    int64_t year, month, day, hour = 0, minute = 0, second = 0, ms = 0, east;
    bool zoned;
    const char *at = take_digits(text, 4, 4, &year);
    if (!at || *at++ != '-' || !(at = take_digits(at, 2, 2, &month)) || *at++ != '-' ||
        !(at = take_digits(at, 2, 2, &day)))
        return CLYMQ_EINVAL;
    if (*at == 'T' || *at == ' ') {
        if (!(at = take_digits(at + 1, 2, 2, &hour)) || *at++ != ':' ||
            !(at = take_digits(at, 2, 2, &minute)))
            return CLYMQ_EINVAL;
        if (*at == ':' && !(at = take_digits(at + 1, 2, 2, &second)))
            return CLYMQ_EINVAL;
        if (*at == '.') {
            const char *begin = at + 1;
            if (!(at = take_digits(begin, 1, 9, &ms)))
                return CLYMQ_EINVAL;
            for (long digits = at - begin; digits != 3; digits += digits < 3 ? 1 : -1)
                ms = digits < 3 ? ms * 10 : ms / 10;
        }
    }
    at = take_zone(at, &zoned, &east);
    if (!at || *at || month < 1 || month > 12 || day < 1 || day > 31 || hour > 23 || minute > 59 ||
        second > 60)
        return CLYMQ_EINVAL;
    struct tm tm = {
        .tm_year = (int)year - 1900,
        .tm_mon = (int)month - 1,
        .tm_mday = (int)day,
        .tm_hour = (int)hour,
        .tm_min = (int)minute,
        .tm_sec = (int)second,
        .tm_isdst = -1,
    };
    int64_t seconds = zoned ? (int64_t)timegm(&tm) - east : (int64_t)mktime(&tm);
    if (tm.tm_mday != (int)day) /* 31 February and the like are moved on */
        return CLYMQ_EINVAL;
    *ret_ms = seconds * 1000 + ms;
    return *ret_ms >= 0 ? 0 : CLYMQ_EINVAL;
}

int cli_parse_place(const char *text, int64_t now_ms, struct cli_place *ret_place)
{
    struct cli_place place = {0};
    int64_t ms;
    const char *end;
    if (strcmp(text, "beginning") == 0) {
        place.at = CLYMQ_OFFSET_BEGINNING;
    } else if (strcmp(text, "end") == 0) {
        place.at = CLYMQ_OFFSET_END;
    } else if ((end = take_digits(text, 1, 18, &place.at)) != NULL && *end == '\0') {
        place.by_time = false;
    } else if (text[0] == '@' && (end = take_digits(text + 1, 1, 18, &place.at)) != NULL && *end == '\0') {
        place.by_time = true;
    } else if (text[0] == '-' && options_parse_duration(text + 1, &ms) == 0 && ms <= now_ms) {
        place.by_time = true;
        place.at = now_ms - ms;
    } else if (parse_iso(text, &place.at) == 0) {
        place.by_time = true;
    } else {
        return CLYMQ_EINVAL;
    }
    *ret_place = place;
    return 0;
}
