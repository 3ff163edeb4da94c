/* Self-describing values: what clients of the simulator push, so that whoever reads one knows which message
 * it is, where it was sent to and that no byte of it was changed. Pure functions. */
#ifndef CLYMQ_SIM_VALUE_H
#define CLYMQ_SIM_VALUE_H

#include <stdbool.h>

#include "base/buf.h"

enum { VALUE_SIZE_MIN = 24, VALUE_SIZE_MAX = 64 << 10 };

struct value {
    uint32_t message; /* number in the run's history */
    uint16_t client, slot;
    uint32_t size; /* of the whole value */
};

/* Fills out[0 … value->size). */
void value_write(const struct value *value, uint8_t *out);
/* false: not a value, cut, or damaged. */
bool value_read(struct bytes data, struct value *ret_value);

/* What libclymq's producers send with a value: follows from the message's number, too. */
enum { VALUE_KEY_MAX = 16 };
struct value_extras {
    char key[VALUE_KEY_MAX]; /* NUL-terminated */
    bool has_key;
    bool has_header; /* one, named "n", whose value is that of key */
};
struct value_extras value_extras_of(uint32_t message);

#endif
