/* Addresses as text: "HOST:PORT", "[v6]:PORT", ":PORT", to and from the system's form. */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "io/os_loop.h"

static bool is_port(const char *text)
{
    size_t len = strlen(text);
    return len >= 1 && len <= 5 && strspn(text, "0123456789") == len && atoi(text) <= 65535;
}

int os_address_split(const char *text, char *host, size_t host_cap, char *port, size_t port_cap)
{
    const char *colon = strrchr(text, ':');
    if (!colon || !is_port(colon + 1) || strlen(colon + 1) >= port_cap)
        return CLYMQ_EINVAL;
    const char *start = text, *end = colon;
    if (*start == '[') {
        if (end == start || end[-1] != ']')
            return CLYMQ_EINVAL;
        start++;
        end--;
    } else if (memchr(start, ':', (size_t)(end - start))) {
        return CLYMQ_EINVAL; /* a v6 address without brackets */
    }
    size_t len = (size_t)(end - start);
    if (len >= host_cap || (len == 0 && start != text))
        return CLYMQ_EINVAL;
    memcpy(host, start, len);
    host[len] = '\0';
    strcpy(port, colon + 1);
    return 0;
}

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
    int error = os_address_split(text, host, sizeof(host), port, sizeof(port));
    if (error)
        return error;
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
