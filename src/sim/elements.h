/* The JSON form in which `pull` serves messages: an array of flat objects. Strict: what is not JSON, lacks a
 * field or has one twice is wrong. A reader of its own, because runs spent more than half of their time in a
 * general one. */
#ifndef CLYMQ_SIM_ELEMENTS_H
#define CLYMQ_SIM_ELEMENTS_H

#include <stdbool.h>

#include "base/buf.h"

enum { ELEMENT_NAME_MAX = 64 };

struct element {
    int64_t index, size;
    char topic[ELEMENT_NAME_MAX], partition[ELEMENT_NAME_MAX]; /* UTF-8 */
    struct bytes msg;                                          /* base64, in the array's text */
};

struct elements {
    const char *at, *end;
    unsigned count; /* read so far */
};

/* False: no array begins here. */
bool elements_begin(struct elements *elements, struct bytes text);
/* 1: the next one; 0: the array is over and nothing follows it; -1: it is wrong. */
int elements_next(struct elements *elements, struct element *ret_element);
/* The bytes written to out[0 … cap), or -1: not base64, or longer. */
int elements_decode_base64(struct bytes text, uint8_t *out, size_t cap);

#endif
