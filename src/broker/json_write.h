/* The two things that answers' JSON is made of on the hot path: quoted strings and base64. Pure; any thread.
 */
#ifndef CLYMQ_BROKER_JSON_WRITE_H
#define CLYMQ_BROKER_JSON_WRITE_H

#include "base/buf.h"

/* text in double quotes, escaped as RFC 8259 asks: quote, backslash, and control characters. text is UTF-8.
 */
void json_write_string(struct strbuf *json, struct bytes text);
/* data in standard base64 (RFC 4648, section 4), padded, in double quotes. */
void json_write_base64(struct strbuf *json, struct bytes data);
/* Bytes that json_write_base64 adds for len bytes of data. */
size_t json_base64_size(size_t len);

#endif
