/* Outgoing connections: names are resolved on libuv's threads, literal addresses at once; the addresses of a
 * name are tried in turn, the next one also where one does not answer: a host may be reachable by one of its
 * addresses only, and the kernel would wait for two minutes, longer than whoever asked. Failures are told
 * like readiness, never from inside io_loop_connect. */
#include <errno.h>
#include <stdio.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/address.h"
#include "io/os_loop.h"

enum { PATIENCE_MS = 2500 }; /* the first packet is repeated after a second */

struct os_connect {
    uv_getaddrinfo_t request;
    struct os_loop *loop;
    struct io_timer patience; /* armed while there is a next address */
    struct os_stream *stream; /* NULL: closed while resolving */
    struct addrinfo *list;    /* ours while resolving is over */
    struct addrinfo *next;    /* to be tried */
};

static void connect_free(struct os_connect *connect)
{
    io_timer_stop(&connect->loop->base, &connect->patience);
    if (connect->list)
        freeaddrinfo(connect->list);
    mem_free(connect);
}

/* Connected or failed: the rest of the addresses is of no use. */
static void finish(struct os_stream *stream, int error)
{
    if (stream->connect) {
        connect_free(stream->connect);
        stream->connect = NULL;
    }
    stream->error = error;
    stream->state = error ? OS_STREAM_FAILED : OS_STREAM_OPEN;
    if (error && stream->poll_open) {
        uv_poll_stop(&stream->poll);
        stream->watched = 0;
    }
    os_stream_update(stream);
}

/* A socket that connects to one address, watched. */
static int try_address(struct os_stream *stream, const struct addrinfo *address)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_from_errno(errno);
    os_socket_set_options(fd);
    if (connect(fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
        int error = error_from_errno(errno);
        close(fd);
        return error;
    }
    stream->fd = fd;
    int error = os_stream_start_poll(stream);
    if (error) {
        close(fd);
        stream->fd = -1;
    }
    return error;
}

static void try_next(struct os_stream *stream, int error)
{
    struct os_connect *connect = stream->connect;
    stream->state = OS_STREAM_CONNECTING;
    while (connect->next) {
        struct addrinfo *address = connect->next;
        connect->next = address->ai_next;
        error = try_address(stream, address);
        if (!error) {
            if (connect->next) /* without memory for it the kernel's time holds */
                (void)io_timer_start(&stream->loop->base, &connect->patience, IO_MS(PATIENCE_MS));
            os_stream_update(stream);
            return;
        }
    }
    finish(stream, error);
}

/* This address is given up; it goes on in os_connect_poll_closed. */
static void give_up(struct os_stream *stream, int error)
{
    io_timer_stop(&stream->loop->base, &stream->connect->patience);
    stream->error = error;
    os_stream_stop_poll(stream);
}

static void on_patience_over(struct io_timer *timer)
{
    give_up(CONTAINER_OF(timer, struct os_connect, patience)->stream, CLYMQ_ETIMEDOUT);
}

bool os_connect_ready(struct os_stream *stream)
{
    int failure = 0;
    socklen_t len = sizeof(failure);
    if (getsockopt(stream->fd, SOL_SOCKET, SO_ERROR, &failure, &len) != 0)
        failure = errno;
    if (failure && stream->connect->next) {
        give_up(stream, error_from_errno(failure));
        return false;
    }
    finish(stream, failure ? error_from_errno(failure) : 0);
    return true;
}

void os_connect_poll_closed(struct os_stream *stream)
{
    if (stream->connect)
        try_next(stream, stream->error);
}

static void on_resolved(uv_getaddrinfo_t *request, int status, struct addrinfo *list)
{
    struct os_connect *connect = CONTAINER_OF(request, struct os_connect, request);
    connect->list = connect->next = list;
    if (!connect->stream) {
        connect_free(connect);
        return;
    }
    int error = status == UV_ENOMEM || status == UV_EAI_MEMORY ? CLYMQ_ENOMEM : CLYMQ_EUNREACH;
    try_next(connect->stream, error);
}

void os_connect_abandon(struct os_stream *stream)
{
    struct os_connect *connect = stream->connect;
    stream->connect = NULL;
    if (stream->state != OS_STREAM_RESOLVING) {
        connect_free(connect);
        return;
    }
    connect->stream = NULL;
    uv_cancel((uv_req_t *)&connect->request); /* may be too late: on_resolved frees either way */
}

static int start_resolving(struct os_loop *loop, struct os_stream *stream, const char *address)
{
    char host[256], port[8];
    uint16_t number;
    int error = io_address_split(address, host, sizeof(host), &number);
    if (error)
        return error;
    snprintf(port, sizeof(port), "%u", number);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    int failed = uv_getaddrinfo(&loop->uv, &stream->connect->request, on_resolved, host, port, &hints);
    return failed ? CLYMQ_ENOMEM : 0;
}

int os_connect(struct io_loop *base, const char *address, struct io_stream_handler handler,
               struct io_stream **ret_stream)
{
    struct os_loop *loop = os_loop_of(base);
    struct addrinfo *list = NULL;
    int error = os_address_resolve(address, true, false, &list);
    if (error && error != CLYMQ_ENOENT)
        return error;
    struct os_stream *stream = os_stream_new(loop, handler, address);
    struct os_connect *connect = mem_zalloc(sizeof(*connect));
    if (!stream || !connect) {
        if (list)
            freeaddrinfo(list);
        mem_free(connect);
        if (stream)
            os_stream_free(stream);
        return CLYMQ_ENOMEM;
    }
    stream->connect = connect;
    connect->loop = loop;
    connect->patience.fire = on_patience_over;
    connect->stream = stream;
    connect->list = connect->next = list;
    stream->state = OS_STREAM_RESOLVING;
    if (list) {
        try_next(stream, CLYMQ_EUNREACH);
    } else if ((error = start_resolving(loop, stream, address)) != 0) {
        mem_free(connect);
        os_stream_free(stream);
        return error;
    }
    *ret_stream = &stream->base;
    return 0;
}
