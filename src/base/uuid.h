/* Random 128-bit ids; as text 32 lower-case hexadecimal digits. All zero = none. Pure; any thread. */
#ifndef CLYMQ_BASE_UUID_H
#define CLYMQ_BASE_UUID_H

#include <stdbool.h>

#include "base/buf.h"

struct uuid {
    uint8_t byte[16];
};

void uuid_format(struct uuid id, char out[33]);
int uuid_parse(struct bytes text, struct uuid *ret_id); /* 0 or CLYMQ_EINVAL */
bool uuid_equal(struct uuid a, struct uuid b);
bool uuid_is_none(struct uuid id);

#endif
