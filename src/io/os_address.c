/* Addresses between text and the system's form. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>

#include "base/error.h"
#include "io/address.h"
#include "io/os_loop.h"

int os_address_error(int eai)
{
    switch (eai) {
    case EAI_MEMORY:
        return CLYMQ_ENOMEM;
    case EAI_AGAIN:
    case EAI_FAIL:
    case EAI_SYSTEM:
        return CLYMQ_EUNREACH;
    default:
        return CLYMQ_ENOENT;
    }
}

int os_address_resolve(const char *text, bool numeric, bool passive, struct addrinfo **ret_list)
{
    char host[256], port[8];
    uint16_t number;
    int error = io_address_split(text, host, sizeof(host), &number);
    if (error)
        return error;
    snprintf(port, sizeof(port), "%u", number);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    hints.ai_flags |= (numeric ? AI_NUMERICHOST : 0) | (passive ? AI_PASSIVE : 0);
    const char *node = host;
    if (!*host) {
        if (!passive)
            return CLYMQ_EINVAL;
        node = NULL;
    }
    int eai = getaddrinfo(node, port, &hints, ret_list);
    return eai ? os_address_error(eai) : 0;
}

void os_address_print(const struct sockaddr_storage *address, char *out, size_t cap)
{
    char host[INET6_ADDRSTRLEN];
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
        inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host));
        snprintf(out, cap, "%s:%u", host, ntohs(v4->sin_port));
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
        bool mapped = IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr); /* a v4 peer of a socket for both */
        if (mapped)
            inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, host, sizeof(host));
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host));
        snprintf(out, cap, mapped ? "%s:%u" : "[%s]:%u", host, ntohs(v6->sin6_port));
    } else {
        snprintf(out, cap, "?:0");
    }
}
