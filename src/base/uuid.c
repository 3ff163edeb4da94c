/* Text form of random ids: see uuid.h. */
#include "base/uuid.h"

#include "base/error.h"

void uuid_format(struct uuid id, char out[33])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof(id.byte); i++) {
        out[2 * i] = digits[id.byte[i] >> 4];
        out[2 * i + 1] = digits[id.byte[i] & 15];
    }
    out[32] = '\0';
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int uuid_parse(struct bytes text, struct uuid *ret_id)
{
    if (text.len != 32)
        return CLYMQ_EINVAL;
    struct uuid id;
    for (size_t i = 0; i < sizeof(id.byte); i++) {
        int high = hex_value(text.ptr[2 * i]), low = hex_value(text.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return CLYMQ_EINVAL;
        id.byte[i] = (uint8_t)(high << 4 | low);
    }
    *ret_id = id;
    return 0;
}

bool uuid_equal(struct uuid a, struct uuid b)
{
    return memcmp(a.byte, b.byte, sizeof(a.byte)) == 0;
}

bool uuid_is_none(struct uuid id)
{
    return uuid_equal(id, (struct uuid){{0}});
}
