/* Connected sockets: read, written and fed from files directly, watched by libuv. Changed watch sets reach
 * the kernel once, at the end of the round. A socket with an error is no longer watched by libuv; its owner
 * is told again each round until it has read the error or looks away. */
#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/sendfile.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/os_loop.h"

struct os_stream *os_stream_new(struct os_loop *loop, struct io_stream_handler handler, const char *peer)
{
    struct os_stream *stream = mem_zalloc(sizeof(*stream));
    if (!stream)
        return NULL;
    stream->peer = mem_strdup(peer);
    if (!stream->peer) {
        mem_free(stream);
        return NULL;
    }
    stream->base.ops = &os_loop_ops;
    stream->loop = loop;
    stream->handler = handler;
    stream->fd = -1;
    list_init(&stream->link);
    return stream;
}

void os_stream_free(struct os_stream *stream)
{
    list_remove(&stream->link);
    mem_free(stream->peer);
    mem_free(stream);
}

static void tell(struct os_stream *stream, unsigned events)
{
    if (stream->wanted & events)
        stream->handler.on_ready(stream->handler.ctx, stream->wanted & events);
}

static void on_poll(uv_poll_t *poll, int status, int events)
{
    struct os_stream *stream = CONTAINER_OF(poll, struct os_stream, poll);
    unsigned ready = (events & UV_READABLE ? IO_READABLE : 0u) | (events & UV_WRITABLE ? IO_WRITABLE : 0u);
    if (status < 0) { /* the socket has an error, and libuv has stopped the watching */
        stream->watched = 0;
        ready = IO_READABLE | IO_WRITABLE;
    }
    if (stream->state == OS_STREAM_CONNECTING) {
        if (!os_connect_ready(stream))
            return;
        if (stream->state == OS_STREAM_FAILED)
            ready = IO_READABLE | IO_WRITABLE;
    } else if (status < 0) {
        stream->broken = true;
    }
    struct os_loop *loop = stream->loop;
    os_stream_update(stream);
    tell(stream, ready); /* may free it */
    os_loop_event_told(loop);
}

int os_stream_start_poll(struct os_stream *stream)
{
    int failed = uv_poll_init(&stream->loop->uv, &stream->poll, stream->fd);
    if (failed)
        return error_from_errno(-failed);
    stream->poll_open = true;
    stream->watched = 0;
    return 0;
}

static void on_poll_closed(uv_handle_t *handle)
{
    struct os_stream *stream = CONTAINER_OF((uv_poll_t *)handle, struct os_stream, poll);
    stream->poll_closing = false;
    if (stream->closed)
        os_stream_free(stream);
    else
        os_connect_poll_closed(stream);
}

static void close_poll(struct os_stream *stream)
{
    assert(stream->poll_open);
    list_remove(&stream->link); /* what is closing takes no watch set any more */
    uv_close((uv_handle_t *)&stream->poll, on_poll_closed);
    stream->poll_open = false;
    stream->poll_closing = true;
    stream->watched = 0;
}

void os_stream_stop_poll(struct os_stream *stream)
{
    close_poll(stream);
    close(stream->fd);
    stream->fd = -1;
}

static unsigned to_watch(const struct os_stream *stream)
{
    return stream->state == OS_STREAM_CONNECTING ? stream->wanted | IO_WRITABLE : stream->wanted;
}

void os_stream_update(struct os_stream *stream)
{
    list_remove(&stream->link);
    if (stream->broken || stream->state == OS_STREAM_FAILED) {
        if (!stream->wanted)
            return;
        list_push_back(&stream->loop->ready, &stream->link);
        os_loop_do_not_wait(stream->loop);
    } else if (stream->poll_open && to_watch(stream) != stream->watched) {
        list_push_back(&stream->loop->changed, &stream->link);
    }
}

void os_streams_apply(struct os_loop *loop)
{
    struct list *link;
    while ((link = list_pop_front(&loop->changed))) {
        struct os_stream *stream = CONTAINER_OF(link, struct os_stream, link);
        unsigned events = to_watch(stream);
        stream->watched = (unsigned char)events;
        int uv_events = (events & IO_READABLE ? UV_READABLE : 0) | (events & IO_WRITABLE ? UV_WRITABLE : 0);
        if (events)
            uv_poll_start(&stream->poll, uv_events, on_poll);
        else
            uv_poll_stop(&stream->poll);
    }
}

/* Those that join meanwhile wait for the next round. */
void os_streams_tell_ready(struct os_loop *loop)
{
    struct list now, *link;
    list_init(&now);
    list_move_all(&loop->ready, &now);
    while ((link = list_pop_front(&now))) {
        struct os_stream *stream = CONTAINER_OF(link, struct os_stream, link);
        os_stream_update(stream);
        tell(stream, IO_READABLE | IO_WRITABLE);
    }
}

int os_stream_open(struct io_loop *loop, struct io_socket *base, struct io_stream_handler handler,
                   struct io_stream **ret_stream)
{
    struct os_socket *socket = CONTAINER_OF(base, struct os_socket, base);
    struct os_stream *stream = os_stream_new(os_loop_of(loop), handler, socket->peer);
    if (!stream)
        return CLYMQ_ENOMEM;
    stream->fd = socket->fd;
    stream->state = OS_STREAM_OPEN;
    int error = os_stream_start_poll(stream);
    if (error) {
        os_stream_free(stream);
        return error;
    }
    mem_free(socket);
    *ret_stream = &stream->base;
    return 0;
}

/* uv_close takes the socket out of the loop's epoll set at once; only its callback comes later. */
int os_stream_detach(struct io_stream *base, struct io_socket **ret_socket)
{
    struct os_stream *stream = os_stream_of(base);
    assert(stream->state == OS_STREAM_OPEN && !stream->closed);
    struct os_socket *socket = mem_zalloc(sizeof(*socket));
    if (!socket)
        return CLYMQ_ENOMEM;
    socket->base.ops = &os_loop_ops;
    socket->fd = stream->fd;
    snprintf(socket->peer, sizeof(socket->peer), "%s", stream->peer);
    stream->wanted = 0;
    stream->closed = true;
    close_poll(stream);
    stream->fd = -1;
    *ret_socket = &socket->base;
    return 0;
}

void os_stream_close(struct io_stream *base)
{
    struct os_stream *stream = os_stream_of(base);
    list_remove(&stream->link);
    stream->closed = true;
    stream->wanted = 0;
    if (stream->connect)
        os_connect_abandon(stream);
    if (stream->poll_open)
        os_stream_stop_poll(stream);
    else if (!stream->poll_closing)
        os_stream_free(stream);
}

void os_stream_watch(struct io_stream *base, unsigned events)
{
    struct os_stream *stream = os_stream_of(base);
    if (stream->wanted == events)
        return;
    stream->wanted = (unsigned char)events;
    os_stream_update(stream);
}

int os_stream_status(struct io_stream *base)
{
    struct os_stream *stream = os_stream_of(base);
    switch (stream->state) {
    case OS_STREAM_OPEN:
        return 0;
    case OS_STREAM_FAILED:
        return stream->error;
    default:
        return CLYMQ_EAGAIN;
    }
}

ssize_t os_stream_read(struct io_stream *base, void *data, size_t cap)
{
    struct os_stream *stream = os_stream_of(base);
    if (stream->state != OS_STREAM_OPEN)
        return os_stream_status(base);
    ssize_t got;
    do
        got = recv(stream->fd, data, cap, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? error_from_errno(errno) : got;
}

static ssize_t send_parts(struct io_stream *base, const struct iovec *parts, int count, int flags)
{
    struct os_stream *stream = os_stream_of(base);
    if (stream->state != OS_STREAM_OPEN)
        return os_stream_status(base);
    struct msghdr message = {.msg_iov = (struct iovec *)parts, .msg_iovlen = (size_t)count};
    ssize_t wrote;
    do
        wrote = sendmsg(stream->fd, &message, MSG_NOSIGNAL | flags);
    while (wrote < 0 && errno == EINTR);
    return wrote < 0 ? error_from_errno(errno) : wrote;
}

ssize_t os_stream_writev(struct io_stream *base, const struct iovec *parts, int count)
{
    return send_parts(base, parts, count, 0);
}

ssize_t os_stream_writev_more(struct io_stream *base, const struct iovec *parts, int count)
{
    return send_parts(base, parts, count, MSG_MORE);
}

ssize_t os_stream_send_file(struct io_stream *base, struct io_file *file, uint64_t offset, size_t len)
{
    struct os_stream *stream = os_stream_of(base);
    if (stream->state != OS_STREAM_OPEN)
        return os_stream_status(base);
    if (file->fd < 0)
        return CLYMQ_EUNSUPPORTED;
    off_t at = (off_t)offset;
    ssize_t sent;
    do
        sent = sendfile(stream->fd, file->fd, &at, len);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? error_from_errno(errno) : sent;
}

const char *os_stream_peer(struct io_stream *base)
{
    return os_stream_of(base)->peer;
}
