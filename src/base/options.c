/* Values of options: names, text to value and back. Files, flags and the environment are in options_parse.c,
 * help and the reference page in options_print.c. See options.h. */
#include "base/options.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <strings.h>

#include "base/error.h"
#include "base/mem.h"

/* Longest name that is compared for suggestions. */
enum { NAME_BYTES = 64 };

static void *option_place(const struct option *option, const void *values)
{
    return (char *)(uintptr_t)values + option->offset;
}

const struct option *options_find(const struct option *table, struct bytes name)
{
    for (const struct option *option = table; option->name; option++)
        if (bytes_equal(name, bytes_of_text(option->name)))
            return option;
    return NULL;
}

/* Edit distance with exchanged neighbours counted once (optimal string alignment); a dash equals an
 * underscore. */
static unsigned name_distance(struct bytes a, struct bytes b)
{
    unsigned rows[3][NAME_BYTES + 1];
    unsigned *before = rows[0], *last = rows[1], *row = rows[2];
    for (unsigned j = 0; j <= b.len; j++)
        last[j] = j;
    for (unsigned i = 1; i <= a.len; i++) {
        row[0] = i;
        for (unsigned j = 1; j <= b.len; j++) {
            uint8_t x = a.ptr[i - 1] == '-' ? '_' : a.ptr[i - 1], y = b.ptr[j - 1];
            unsigned least = last[j - 1] + (tolower(x) != y);
            if (last[j] + 1 < least)
                least = last[j] + 1;
            if (row[j - 1] + 1 < least)
                least = row[j - 1] + 1;
            if (i > 1 && j > 1 && a.ptr[i - 1] == b.ptr[j - 2] && a.ptr[i - 2] == b.ptr[j - 1] &&
                before[j - 2] + 1 < least)
                least = before[j - 2] + 1;
            row[j] = least;
        }
        unsigned *reuse = before;
        before = last;
        last = row;
        row = reuse;
    }
    return last[b.len];
}

const struct option *options_suggest(const struct option *table, struct bytes name)
{
    const struct option *nearest = NULL;
    unsigned least = name.len < 6 ? 2 : (unsigned)name.len / 3;
    if (name.len == 0 || name.len > NAME_BYTES)
        return NULL;
    for (const struct option *option = table; option->name; option++) {
        struct bytes known = bytes_of_text(option->name);
        if (known.len > NAME_BYTES)
            continue;
        unsigned distance = name_distance(name, known);
        if (distance < known.len && (distance < least || (distance == least && !nearest))) {
            nearest = option;
            least = distance;
        }
    }
    return nearest;
}

/* Reads digits at *text; false where there are none or they overflow. */
static bool parse_digits(const char **text, int64_t *ret_number)
{
    int64_t number = 0;
    if (!isdigit((unsigned char)**text))
        return false;
    for (; isdigit((unsigned char)**text); ++*text)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_add_overflow(number, **text - '0', &number))
            return false;
    *ret_number = number;
    return true;
}

int options_parse_size(const char *text, int64_t *ret_bytes)
{
    static const char units[] = "KMGT";
    int64_t number;
    if (!parse_digits(&text, &number))
        return CLYMQ_EINVAL;
    if (*text) {
        const char *unit = strchr(units, toupper((unsigned char)*text));
        if (!unit || text[1])
            return CLYMQ_EINVAL;
        if (__builtin_mul_overflow(number, (int64_t)1 << (10 * (unit - units + 1)), &number))
            return CLYMQ_EINVAL;
    }
    *ret_bytes = number;
    return 0;
}

struct duration_unit {
    const char *name;
    int64_t ms;
};
static const struct duration_unit duration_units[] = {
    {"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};
enum { DURATION_UNITS = sizeof(duration_units) / sizeof(duration_units[0]) };

int options_parse_duration(const char *text, int64_t *ret_ms)
{
    int64_t number;
    if (!parse_digits(&text, &number))
        return CLYMQ_EINVAL;
    if (*text) {
        int unit = 0;
        while (unit < DURATION_UNITS && strcmp(text, duration_units[unit].name) != 0)
            unit++;
        if (unit == DURATION_UNITS || __builtin_mul_overflow(number, duration_units[unit].ms, &number))
            return CLYMQ_EINVAL;
    }
    *ret_ms = number;
    return 0;
}

static int parse_integer(const char *text, int64_t *ret_number)
{
    bool negative = *text == '-';
    text += negative;
    int64_t number = 0;
    if (!isdigit((unsigned char)*text))
        return CLYMQ_EINVAL;
    /* Built downwards, because the least number has no positive counterpart. */
    for (; isdigit((unsigned char)*text); text++)
        if (__builtin_mul_overflow(number, 10, &number) ||
            __builtin_sub_overflow(number, *text - '0', &number))
            return CLYMQ_EINVAL;
    if (*text || (!negative && number == INT64_MIN))
        return CLYMQ_EINVAL;
    *ret_number = negative ? number : -number;
    return 0;
}

static int parse_bool(const char *text, bool *ret_value)
{
    static const char *const words[] = {"false", "true", "no", "yes", "off", "on", "0", "1"};
    for (unsigned i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcasecmp(text, words[i]) == 0) {
            *ret_value = i % 2;
            return 0;
        }
    }
    return CLYMQ_EINVAL;
}

/* The number-th of choices "a|b|c"; empty where there are no more. */
static struct bytes choice_at(const char *choices, int number)
{
    for (; number > 0 && *choices; number--) {
        choices += strcspn(choices, "|");
        choices += *choices == '|';
    }
    return bytes_of(choices, strcspn(choices, "|"));
}

static int parse_choice(const char *choices, const char *text, int *ret_index)
{
    for (int i = 0;; i++) {
        struct bytes choice = choice_at(choices, i);
        if (choice.len == 0)
            return CLYMQ_EINVAL;
        if (bytes_equal(choice, bytes_of_text(text))) {
            *ret_index = i;
            return 0;
        }
    }
}

static void append_size(struct strbuf *text, int64_t bytes)
{
    static const char units[] = "KMGT";
    int unit = -1;
    while (bytes != 0 && bytes % 1024 == 0 && unit < 3) {
        bytes /= 1024;
        unit++;
    }
    strbuf_printf(text, "%" PRId64 "%.1s", bytes, unit < 0 ? "" : &units[unit]);
}

static void append_duration(struct strbuf *text, int64_t ms)
{
    int unit = 0;
    while (ms % duration_units[unit].ms != 0)
        unit++;
    if (ms == 0 || ms < 0)
        unit = DURATION_UNITS - 1;
    strbuf_printf(text, "%" PRId64 "%s", ms / duration_units[unit].ms,
                  ms < 0 ? "" : duration_units[unit].name);
}

static void append_number(struct strbuf *text, const struct option *option, int64_t number)
{
    if (option->type == OPTION_SIZE)
        append_size(text, number);
    else if (option->type == OPTION_DURATION_MS)
        append_duration(text, number);
    else
        strbuf_printf(text, "%" PRId64, number);
}

/* A value as an error shows it: short, and without control characters. */
static void append_shown(struct strbuf *error, const char *value)
{
    strbuf_append(error, "\"", 1);
    for (size_t i = 0; value[i]; i++) {
        if (i == 80) {
            strbuf_append_text(error, "...");
            break;
        }
        char c = (unsigned char)value[i] < 0x20 || value[i] == 0x7f ? '?' : value[i];
        strbuf_append(error, &c, 1);
    }
    strbuf_append(error, "\"", 1);
}

static int refuse(struct strbuf *error, const char *value, const char *what)
{
    append_shown(error, value);
    strbuf_printf(error, " is not %s", what);
    return CLYMQ_EINVAL;
}

static int set_number(const struct option *option, void *place, const char *text, struct strbuf *error)
{
    int64_t number;
    int bad;
    const char *what;
    if (option->type == OPTION_SIZE) {
        bad = options_parse_size(text, &number);
        what = "a size: use a number of bytes, or a number with K, M, G or T";
    } else if (option->type == OPTION_DURATION_MS) {
        bad = options_parse_duration(text, &number);
        what = "a duration: use a number of milliseconds, or a number with ms, s, m, h or d";
    } else {
        bad = parse_integer(text, &number);
        what = "a whole number";
    }
    /* Where the range goes below zero a plain negative number is a size or duration too (-1 for "no limit").
     */
    if (bad && option->min < 0)
        bad = parse_integer(text, &number);
    if (bad)
        return refuse(error, text, what);
    if ((option->min || option->max) && (number < option->min || number > option->max)) {
        append_shown(error, text);
        strbuf_append_text(error, " is out of range: use ");
        append_number(error, option, option->min);
        strbuf_append_text(error, " to ");
        append_number(error, option, option->max);
        return CLYMQ_EINVAL;
    }
    *(int64_t *)place = number;
    return 0;
}

/* Sets option from text; on CLYMQ_EINVAL error says what is wrong, without naming the option. */
static int option_set(const struct option *option, void *values, const char *text, struct strbuf *error)
{
    void *place = option_place(option, values);
    switch (option->type) {
    case OPTION_BOOL:
        return parse_bool(text, place) ? refuse(error, text, "a switch: use true or false") : 0;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION_MS:
        return set_number(option, place, text, error);
    case OPTION_TEXT: {
        char *copy = mem_strdup(text);
        if (!copy)
            return CLYMQ_ENOMEM;
        mem_free(*(char **)place);
        *(char **)place = copy;
        return 0;
    }
    case OPTION_CHOICE:
        if (!parse_choice(option->choices, text, place))
            return 0;
        refuse(error, text, "a choice here: use one of ");
        for (int i = 0; choice_at(option->choices, i).len; i++) {
            struct bytes choice = choice_at(option->choices, i);
            strbuf_printf(error, "%s%.*s", i ? ", " : "", (int)choice.len, (const char *)choice.ptr);
        }
        return CLYMQ_EINVAL;
    }
    return CLYMQ_EINVAL;
}

int options_set(const struct option *table, void *values, const char *name, const char *value,
                struct strbuf *error)
{
    const struct option *option = options_find(table, bytes_of_text(name));
    if (option)
        return option_set(option, values, value, error);
    strbuf_append_text(error, "unknown option ");
    append_shown(error, name);
    const struct option *near = options_suggest(table, bytes_of_text(name));
    if (near)
        strbuf_printf(error, "; did you mean \"%s\"?", near->name);
    return CLYMQ_ENOENT;
}

int options_defaults(const struct option *table, void *values)
{
    for (const struct option *option = table; option->name; option++) {
        void *place = option_place(option, values);
        if (option->fallback) {
            struct strbuf error = {0};
            int result = option_set(option, values, option->fallback, &error);
            strbuf_free(&error);
            if (result)
                return result;
            continue;
        }
        switch (option->type) {
        case OPTION_BOOL:
            *(bool *)place = false;
            break;
        case OPTION_INT:
        case OPTION_SIZE:
        case OPTION_DURATION_MS:
            *(int64_t *)place = 0;
            break;
        case OPTION_TEXT:
            mem_free(*(char **)place);
            *(char **)place = NULL;
            break;
        case OPTION_CHOICE:
            *(int *)place = 0;
            break;
        }
    }
    return 0;
}

/* Text as the config file takes it: in quotes where spaces, quotes or a '#' would be lost or misread. */
static void append_text(struct strbuf *text, const char *value)
{
    size_t len = strlen(value);
    bool plain = len == 0 || (!isspace((unsigned char)value[0]) && !isspace((unsigned char)value[len - 1]));
    if (plain && !strpbrk(value, "\"#")) {
        strbuf_append_text(text, value);
        return;
    }
    strbuf_append(text, "\"", 1);
    for (; *value; value++) {
        if (*value == '"' || *value == '\\')
            strbuf_append(text, "\\", 1);
        strbuf_append(text, value, 1);
    }
    strbuf_append(text, "\"", 1);
}

int options_get(const struct option *table, const void *values, const char *name, struct strbuf *text)
{
    const struct option *option = options_find(table, bytes_of_text(name));
    if (!option)
        return CLYMQ_ENOENT;
    const void *place = option_place(option, values);
    switch (option->type) {
    case OPTION_BOOL:
        strbuf_append_text(text, *(const bool *)place ? "true" : "false");
        break;
    case OPTION_INT:
    case OPTION_SIZE:
    case OPTION_DURATION_MS:
        append_number(text, option, *(const int64_t *)place);
        break;
    case OPTION_TEXT:
        append_text(text, *(char *const *)place ? *(char *const *)place : "");
        break;
    case OPTION_CHOICE: {
        struct bytes choice = choice_at(option->choices, *(const int *)place);
        strbuf_append(text, choice.ptr, choice.len);
        break;
    }
    }
    return text->failed ? CLYMQ_ENOMEM : 0;
}

void options_free(const struct option *table, void *values)
{
    for (const struct option *option = table; option->name; option++) {
        if (option->type != OPTION_TEXT)
            continue;
        char **place = option_place(option, values);
        mem_free(*place);
        *place = NULL;
    }
}
