/* Taking "HOST:PORT" apart: see address.h. */
#include "io/address.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"

static int parse_port(const char *text, uint16_t *ret_port)
{
    size_t len = strlen(text);
    if (len < 1 || len > 5 || strspn(text, "0123456789") != len)
        return CLYMQ_EINVAL;
    long port = strtol(text, NULL, 10);
    if (port > UINT16_MAX)
        return CLYMQ_EINVAL;
    *ret_port = (uint16_t)port;
    return 0;
}

int io_address_split(const char *text, char *host, size_t host_cap, uint16_t *ret_port)
{
    const char *colon = strrchr(text, ':');
    if (!colon)
        return CLYMQ_EINVAL;
    const char *start = text, *end = colon;
    if (*start == '[') {
        if (end == start || end[-1] != ']' || end - start < 3)
            return CLYMQ_EINVAL;
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start))) {
        return CLYMQ_EINVAL; /* a v6 address without brackets */
    }
    size_t len = (size_t)(end - start);
    if (len >= host_cap)
        return CLYMQ_EINVAL;
    uint16_t port;
    int error = parse_port(colon + 1, &port);
    if (error)
        return error;
    memcpy(host, start, len);
    host[len] = '\0';
    *ret_port = port;
    return 0;
}
