/* UTF-8 checks and the rule for names of topics, partitions and consumers. Pure; any thread. */
#ifndef CLYMQ_BASE_UTF8_H
#define CLYMQ_BASE_UTF8_H

#include <stdbool.h>

#include "base/buf.h"

/* The character at the start of text (not empty): its length and code point, or 0 where it is not
 * well-formed. */
size_t utf8_decode(struct bytes text, uint32_t *ret_code);
/* Valid UTF-8 per RFC 3629 (no surrogates, no overlong forms, at most U+10FFFF). */
bool utf8_valid(struct bytes text);
/* 0, or CLYMQ_ENAME: 1–249 bytes of UTF-8, no '/', no control characters (U+0000–U+001F, U+007F–U+009F), not
 * "." or
 * "..". */
int name_check(struct bytes name);

#endif
