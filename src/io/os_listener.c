/* Listening sockets. Accepting is bounded per round, so that a storm of connections leaves time for those
 * there are, and pauses when the process is out of descriptors. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/os_loop.h"
#define LOG_MODULE "io"
#include "base/log.h"

enum { BACKLOG = 4096, ACCEPTS_PER_ROUND = 64, PAUSE_MS = 100 };

struct os_listener {
    struct io_listener base;
    struct os_loop *loop;
    void (*on_accept)(void *ctx, struct io_socket *socket);
    void *ctx;
    int fd;
    bool closed;
    uv_poll_t poll;
    struct io_timer pause;
};

static struct os_listener *listener_of(struct io_listener *listener)
{
    return CONTAINER_OF(listener, struct os_listener, base);
}

void os_socket_set_options(int fd)
{
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on,
               sizeof(on)); /* answers are put together by us, not by the kernel */
}

void os_socket_close(struct io_socket *base)
{
    struct os_socket *socket = CONTAINER_OF(base, struct os_socket, base);
    close(socket->fd);
    mem_free(socket);
}

static void on_readable(uv_poll_t *poll, int status, int events);

static void on_pause_over(struct io_timer *timer)
{
    struct os_listener *listener = timer->ctx;
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
}

static void pause_accepting(struct os_listener *listener, const char *reason)
{
    log_limited(LOG_WARN, "cannot accept connections for now, trying again in %d ms: %s", PAUSE_MS, reason);
    if (io_timer_start(&listener->loop->base, &listener->pause, IO_MS(PAUSE_MS)) == 0)
        uv_poll_stop(&listener->poll);
}

/* false: nothing more to accept now. */
static bool accept_one(struct os_listener *listener)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    int fd = accept4(listener->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            pause_accepting(listener, strerror(errno));
            return false;
        }
        return errno != EAGAIN; /* the others concern one connection: accept(2), "Error handling" */
    }
    struct os_socket *socket = mem_alloc(sizeof(*socket));
    if (!socket) {
        close(fd);
        pause_accepting(listener, "out of memory");
        return false;
    }
    os_socket_set_options(fd);
    socket->base.ops = &os_loop_ops;
    socket->fd = fd;
    os_address_print(&address, socket->peer, sizeof(socket->peer));
    listener->on_accept(listener->ctx, &socket->base);
    return !listener->closed;
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct os_listener *listener = CONTAINER_OF(poll, struct os_listener, poll);
    for (unsigned i = 0; i < ACCEPTS_PER_ROUND && accept_one(listener); i++)
        ;
}

/* An address for all hosts takes v4 and v6 where the system has both. */
static int open_socket(const struct addrinfo *address, int *ret_fd)
{
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return error_from_errno(errno);
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (address->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    if (bind(fd, address->ai_addr, address->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int error = error_from_errno(errno);
        close(fd);
        return error;
    }
    *ret_fd = fd;
    return 0;
}

static int bind_first(const char *address, int *ret_fd)
{
    struct addrinfo *list;
    int error = os_address_resolve(address, false, true, &list);
    if (error)
        return error == CLYMQ_ENOENT ? CLYMQ_EINVAL : error;
    error = CLYMQ_EINVAL;
    /* v6 first: for ":PORT" it serves both kinds. */
    for (int pass = 0; pass < 2 && error; pass++)
        for (struct addrinfo *at = list; at && error && error != CLYMQ_EBUSY; at = at->ai_next)
            if ((at->ai_family == AF_INET6) == (pass == (*address == ':' ? 0 : 1)))
                error = open_socket(at, ret_fd);
    freeaddrinfo(list);
    return error;
}

int os_listen(struct io_loop *base, const char *address,
              void (*on_accept)(void *ctx, struct io_socket *socket), void *ctx,
              struct io_listener **ret_listener)
{
    struct os_loop *loop = os_loop_of(base);
    struct os_listener *listener = mem_zalloc(sizeof(*listener));
    if (!listener)
        return CLYMQ_ENOMEM;
    int error = bind_first(address, &listener->fd);
    if (error) {
        mem_free(listener);
        return error;
    }
    listener->base.ops = &os_loop_ops;
    listener->loop = loop;
    listener->on_accept = on_accept;
    listener->ctx = ctx;
    listener->pause = (struct io_timer){.fire = on_pause_over, .ctx = listener};
    int failed = uv_poll_init(&loop->uv, &listener->poll, listener->fd);
    if (failed) {
        close(listener->fd);
        mem_free(listener);
        return error_from_errno(-failed);
    }
    uv_poll_start(&listener->poll, UV_READABLE, on_readable);
    *ret_listener = &listener->base;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    mem_free(CONTAINER_OF(handle, struct os_listener, poll));
}

void os_listener_close(struct io_listener *base)
{
    struct os_listener *listener = listener_of(base);
    listener->closed = true;
    io_timer_stop(&listener->loop->base, &listener->pause);
    uv_close((uv_handle_t *)&listener->poll, on_closed);
    close(listener->fd);
}

int os_listener_address(struct io_listener *base, char *out, size_t cap)
{
    struct sockaddr_storage address;
    socklen_t len = sizeof(address);
    if (getsockname(listener_of(base)->fd, (struct sockaddr *)&address, &len) != 0)
        return error_from_errno(errno);
    os_address_print(&address, out, cap);
    return 0;
}
