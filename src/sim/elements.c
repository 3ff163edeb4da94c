/* The JSON of `pull`: see elements.h. */
#include "sim/elements.h"

#include <string.h>

#include "base/utf8.h"

enum { KEY_MAX = 32, DIGITS_MAX = 18 };

static void skip_space(struct elements *elements)
{
    while (elements->at < elements->end && *elements->at && strchr(" \t\r\n", *elements->at))
        elements->at++;
}

/* Takes the character if it is the next one. */
static bool take(struct elements *elements, char wanted)
{
    skip_space(elements);
    if (elements->at == elements->end || *elements->at != wanted)
        return false;
    elements->at++;
    return true;
}

/* The text between the quotes, as it stands. */
static bool take_raw_string(struct elements *elements, struct bytes *ret_raw)
{
    if (!take(elements, '"'))
        return false;
    const char *start = elements->at, *at = start;
    while (at < elements->end && *at != '"') {
        if ((unsigned char)*at < 0x20)
            return false;
        at += *at == '\\' && elements->end - at > 1 ? 2 : 1;
    }
    elements->at = at;
    if (elements->at >= elements->end)
        return false;
    *ret_raw = bytes_of(start, (size_t)(elements->at - start));
    elements->at++;
    return true;
}

/* Names of the simulator need no escapes but that of a quote or a backslash. */
static bool take_string(struct elements *elements, char *out, size_t cap)
{
    struct bytes raw;
    size_t len = 0;

    if (!take_raw_string(elements, &raw) || !utf8_valid(raw))
        return false;
    for (size_t i = 0; i < raw.len; i++) {
        if (raw.ptr[i] == '\\' && (++i == raw.len || !strchr("\"\\/", raw.ptr[i])))
            return false;
        if (len + 1 >= cap)
            return false;
        out[len++] = (char)raw.ptr[i];
    }
    out[len] = '\0';
    return true;
}

static bool take_integer(struct elements *elements, int64_t *ret_value)
{
    bool negative = take(elements, '-');
    const char *start = elements->at;
    int64_t value = 0;

    while (elements->at < elements->end && *elements->at >= '0' && *elements->at <= '9') {
        if (elements->at - start >= DIGITS_MAX)
            return false;
        value = value * 10 + (*elements->at++ - '0');
    }
    if (elements->at == start || (*start == '0' && elements->at - start > 1))
        return false;
    *ret_value = negative ? -value : value;
    return true;
}

/* Which of the fields was read; 0: it is wrong. */
static unsigned take_field(struct elements *elements, struct element *element)
{
    char key[KEY_MAX];

    if (!take_string(elements, key, sizeof(key)) || !take(elements, ':'))
        return 0;
    skip_space(elements);
    if (strcmp(key, "index") == 0)
        return take_integer(elements, &element->index) ? 1 : 0;
    if (strcmp(key, "size") == 0)
        return take_integer(elements, &element->size) ? 2 : 0;
    if (strcmp(key, "topic_name") == 0)
        return take_string(elements, element->topic, sizeof(element->topic)) ? 4 : 0;
    if (strcmp(key, "part_name") == 0)
        return take_string(elements, element->partition, sizeof(element->partition)) ? 8 : 0;
    if (strcmp(key, "msg") == 0)
        return take_raw_string(elements, &element->msg) ? 16 : 0;
    return 0;
}

bool elements_begin(struct elements *elements, struct bytes text)
{
    *elements = (struct elements){.at = (const char *)text.ptr, .end = (const char *)text.ptr + text.len};
    return text.len > 0 && take(elements, '[');
}

int elements_next(struct elements *elements, struct element *ret_element)
{
    unsigned fields = 0;

    if (take(elements, ']')) {
        skip_space(elements);
        return elements->at == elements->end ? 0 : -1;
    }
    if ((elements->count > 0 && !take(elements, ',')) || !take(elements, '{'))
        return -1;
    do {
        unsigned field = take_field(elements, ret_element);

        if (field == 0 || (fields & field))
            return -1;
        fields |= field;
    } while (take(elements, ','));
    if (fields != 31 || !take(elements, '}'))
        return -1;
    elements->count++;
    return 1;
}

/* 1 + the value of each digit; 0: no digit. */
static const uint8_t *digit_values(void)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    static uint8_t values[256];

    if (!values['A'])
        for (uint8_t i = 0; digits[i]; i++)
            values[(uint8_t)digits[i]] = i + 1;
    return values;
}

int elements_decode_base64(struct bytes text, uint8_t *out, size_t cap)
{
    const uint8_t *values = digit_values();
    uint32_t bits = 0;
    unsigned have = 0;
    size_t count = 0, len = text.len;

    if (len % 4)
        return -1;
    for (unsigned padding = 0; padding < 2 && len && text.ptr[len - 1] == '='; padding++)
        len--;
    for (size_t i = 0; i < len; i++) {
        uint32_t digit = values[text.ptr[i]];

        if (digit == 0)
            return -1;
        bits = bits << 6 | (digit - 1);
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (count == cap)
            return -1;
        out[count++] = (uint8_t)(bits >> have);
    }
    return (int)count;
}
