/* The admin port on libmicrohttpd, with its own polling thread. */
#define LOG_MODULE "admin"
#include "admin/admin.h"

#include <errno.h>
#include <microhttpd.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

enum { MAX_CONNECTIONS = 64, IDLE_S = 30, CONNECTION_BYTES = 16 << 10 };

struct admin {
    struct admin_config config;
    struct MHD_Daemon *daemon;
    char address[300];
};

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type,
                              struct strbuf *text)
{
    struct MHD_Response *response;
    enum MHD_Result result;

    if (text->failed) {
        strbuf_free(text);
        return MHD_NO; /* closes the connection */
    }
    response = MHD_create_response_from_buffer(text->len, text->data ? text->data : (char[]){0},
                                               MHD_RESPMEM_MUST_COPY);
    strbuf_free(text);
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    MHD_add_response_header(response, MHD_HTTP_HEADER_CACHE_CONTROL, "no-store");
    result = MHD_queue_response(connection, status, response);
    MHD_destroy_response(response);
    return result;
}

static enum MHD_Result on_request(void *ctx, struct MHD_Connection *connection, const char *url,
                                  const char *method, const char *version, const char *upload,
                                  size_t *upload_size, void **state)
{
    struct admin *admin = ctx;
    struct strbuf text = {0};
    bool get = strcmp(method, MHD_HTTP_METHOD_GET) == 0 || strcmp(method, MHD_HTTP_METHOD_HEAD) == 0;

    if (!*state) { /* headers only: the answer comes with the next call, the body's end */
        *state = admin;
        return MHD_YES;
    }
    if (*upload_size) {
        *upload_size = 0;
        return MHD_YES;
    }
    if (!get) {
        strbuf_append_text(&text, "only GET is allowed\n");
        return answer(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "text/plain", &text);
    }
    if (strcmp(url, "/metrics") == 0) {
        metrics_print(admin->config.metrics, &text);
        return answer(connection, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8", &text);
    }
    if (strcmp(url, "/health") == 0) {
        bool well = admin->config.health(admin->config.ctx, &text);

        return answer(connection, well ? MHD_HTTP_OK : MHD_HTTP_SERVICE_UNAVAILABLE, "application/json",
                      &text);
    }
    strbuf_append_text(&text, strcmp(url, "/") == 0 ? "ClyMQ: /metrics /health\n"
                                                    : "not found: try /metrics or /health\n");
    return answer(connection, strcmp(url, "/") == 0 ? MHD_HTTP_OK : MHD_HTTP_NOT_FOUND, "text/plain", &text);
}

__attribute__((format(printf, 2, 0))) static void on_log(void *ctx, const char *format, va_list list)
{
    char line[512];

    vsnprintf(line, sizeof(line), format, list);
    line[strcspn(line, "\n")] = 0;
    log_limited(LOG_DEBUG, "%s", line);
}

/* "HOST:PORT", "[v6]:PORT" or ":PORT" (all addresses). */
static int resolve(const char *address, struct addrinfo **ret_list)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE, .ai_socktype = SOCK_STREAM};
    char host[256];
    const char *colon = strrchr(address, ':');
    size_t len = colon ? (size_t)(colon - address) : 0;

    if (!colon || len >= sizeof(host))
        return CLYMQ_EINVAL;
    memcpy(host, address, len);
    host[len] = 0;
    if (len > 2 && host[0] == '[' && host[len - 1] == ']') {
        memmove(host, host + 1, len - 2);
        host[len - 2] = 0;
    }
    return getaddrinfo(*host ? host : NULL, colon + 1, &hints, ret_list) ? CLYMQ_EINVAL : 0;
}

static void note_address(struct admin *admin, const char *asked)
{
    const union MHD_DaemonInfo *info = MHD_get_daemon_info(admin->daemon, MHD_DAEMON_INFO_BIND_PORT);
    const char *colon = strrchr(asked, ':');

    snprintf(admin->address, sizeof(admin->address), "%.*s:%u", (int)(colon - asked), asked,
             info ? (unsigned)info->port : 0U);
}

/* The library does not say why it could not listen: trying the same tells. */
static int listen_error(const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1, error;

    if (fd < 0)
        return error_from_errno(errno);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    error = bind(fd, address->ai_addr, address->ai_addrlen) || listen(fd, 1) ? error_from_errno(errno)
                                                                             : CLYMQ_EBUSY;
    close(fd);
    return error;
}

static int start_on(struct admin *admin, const struct addrinfo *address)
{
    unsigned flags = MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL | MHD_USE_ERROR_LOG;

    if (address->ai_family == AF_INET6)
        flags |= MHD_USE_DUAL_STACK;
    admin->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, admin, MHD_OPTION_SOCK_ADDR, address->ai_addr,
                         MHD_OPTION_EXTERNAL_LOGGER, on_log, NULL, MHD_OPTION_CONNECTION_LIMIT,
                         (unsigned)MAX_CONNECTIONS, MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)IDLE_S,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)CONNECTION_BYTES, MHD_OPTION_END);
    return admin->daemon ? 0 : listen_error(address);
}

/* In the order of the other ports (io/os_listener.c): v6 first for ":PORT", where it serves both kinds. */
static int start_on_first(struct admin *admin, const char *address)
{
    struct addrinfo *list;
    int error = resolve(address, &list);

    if (error)
        return error;
    error = CLYMQ_EINVAL;
    for (int pass = 0; pass < 2 && error; pass++)
        for (const struct addrinfo *at = list; at && error && error != CLYMQ_EBUSY; at = at->ai_next)
            if ((at->ai_family == AF_INET6) == (pass == (*address == ':' ? 0 : 1)))
                error = start_on(admin, at);
    freeaddrinfo(list);
    return error;
}

int admin_start(const struct admin_config *config, struct admin **ret_admin)
{
    struct admin *admin = mem_zalloc(sizeof(*admin));
    int error;

    if (!admin)
        return CLYMQ_ENOMEM;
    admin->config = *config;
    error = start_on_first(admin, config->address);
    if (error) {
        mem_free(admin);
        return error;
    }
    note_address(admin, config->address);
    admin->config.address = admin->address;
    *ret_admin = admin;
    return 0;
}

const char *admin_address(const struct admin *admin)
{
    return admin->address;
}

void admin_stop(struct admin *admin)
{
    if (!admin)
        return;
    MHD_stop_daemon(admin->daemon);
    mem_free(admin);
}
