/* Bytes written as hexadecimal text in tests. */
#ifndef CLYMQ_TEST_WIRE_HEX_H
#define CLYMQ_TEST_WIRE_HEX_H

#include <assert.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"

static inline int hex_digit(char c)
{
    const char *digits = "0123456789abcdef", *at = c ? strchr(digits, c) : NULL;
    assert(at);
    return (int)(at - digits);
}

/* The bytes, in exactly as much memory (so that ASan sees a byte too far); blanks are skipped. Freed with
 * free. */
static inline struct bytes hex_decode(const char *text)
{
    uint8_t *data = malloc(strlen(text) / 2 + 1);
    size_t len = 0;
    for (; *text; text++) {
        if (*text == ' ')
            continue;
        data[len++] = (uint8_t)(hex_digit(text[0]) << 4 | hex_digit(text[1]));
        text++;
    }
    uint8_t *exact = malloc(len ? len : 1);
    memcpy(exact, data, len);
    free(data);
    return bytes_of(exact, len);
}

/* A copy in exactly as much memory. */
static inline struct bytes exact_copy(const void *data, size_t len)
{
    uint8_t *copy = malloc(len ? len : 1);
    if (len)
        memcpy(copy, data, len);
    return bytes_of(copy, len);
}

static inline void bytes_free(struct bytes bytes)
{
    free((void *)(uintptr_t)bytes.ptr);
}

#endif
