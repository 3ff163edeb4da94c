/* An event loop: clock, timers, streams, and hand-over to disk workers, behind one vtable.
 *
 * Two implementations: libuv with non-blocking sockets (io/os_loop.c), and the simulated world
 * (io/sim_world.c), where all loops of all simulated processes share one virtual clock and one queue of
 * events.
 *
 * A loop belongs to one thread; all calls are made there, except io_loop_wake and io_loop_stop. Callbacks run
 * on that thread, from inside io_loop_run, never from inside a call that asks for them. Times are nanoseconds
 * of the loop's own monotonic clock, or milliseconds since 1970 where "wall" is said. */
#ifndef CLYMQ_IO_LOOP_H
#define CLYMQ_IO_LOOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/heap.h"
#include "base/list.h"
#include "io/file.h"

struct io_loop;
struct io_stream;
struct io_listener;
struct io_socket; /* a connected socket that no loop watches: may be handed to another loop's thread */

#define IO_MS(ms) ((uint64_t)(ms)*1000000u)

/* A one-shot timer, embedded in its owner's struct. Zeroed = not armed. */
struct io_timer {
    struct heap_node node;
    void (*fire)(struct io_timer *timer);
    void *ctx;
};

/* A file operation handed to a disk worker. Owned by the submitter, untouched until done() is called on the
 * loop. Operations on one file may complete in any order. */
enum io_op_kind { IO_OP_READ, IO_OP_WRITE, IO_OP_SYNC };
struct io_op {
    enum io_op_kind kind;
    struct io_file *file;
    struct iovec *parts; /* READ uses parts[0] */
    int count;
    uint64_t offset;
    ssize_t result; /* bytes, 0 for SYNC, or a negative error */
    void (*done)(struct io_op *op);
    void *ctx;
    struct list link; /* the loop's */
};

/* Any blocking piece of work for a disk worker: run() on the worker, then done() on the loop. In the
 * simulator run() is called at a simulated instant between the two. run() may use io_fs calls and nothing
 * that belongs to the shard. */
struct io_work {
    void (*run)(struct io_work *work);
    void (*done)(struct io_work *work);
    void *ctx;
    struct list link; /* the loop's */
};

enum io_events { IO_READABLE = 1, IO_WRITABLE = 2 };

/* What a stream's owner gets told. on_ready: the watched events that may be acted on now (level-triggered:
 * told again until acted on or no longer watched). Errors show as IO_READABLE; the next read returns them. */
struct io_stream_handler {
    void (*on_ready)(void *ctx, unsigned events);
    void *ctx;
};

struct io_loop_ops {
    void (*free)(struct io_loop *loop);
    int (*run)(struct io_loop *loop);
    void (*stop)(struct io_loop *loop);
    void (*wake)(struct io_loop *loop);
    uint64_t (*now_ns)(struct io_loop *loop);
    uint64_t (*clock_ns)(struct io_loop *loop);
    int64_t (*wall_ms)(struct io_loop *loop);
    void (*random)(struct io_loop *loop, void *out, size_t len);
    int (*timer_start)(struct io_loop *loop, struct io_timer *timer, uint64_t delay_ns);
    void (*timer_stop)(struct io_loop *loop, struct io_timer *timer);
    void (*submit)(struct io_loop *loop, struct io_op *op);
    void (*work)(struct io_loop *loop, struct io_work *work);
    int (*listen)(struct io_loop *loop, const char *address,
                  void (*on_accept)(void *ctx, struct io_socket *socket), void *ctx,
                  struct io_listener **ret_listener);
    void (*listener_close)(struct io_listener *listener);
    int (*listener_address)(struct io_listener *listener, char *out, size_t cap);
    void (*socket_close)(struct io_socket *socket);
    int (*stream_open)(struct io_loop *loop, struct io_socket *socket, struct io_stream_handler handler,
                       struct io_stream **ret_stream);
    int (*stream_detach)(struct io_stream *stream, struct io_socket **ret_socket);
    int (*connect)(struct io_loop *loop, const char *address, struct io_stream_handler handler,
                   struct io_stream **ret_stream);
    void (*stream_close)(struct io_stream *stream);
    void (*stream_watch)(struct io_stream *stream, unsigned events);
    ssize_t (*stream_read)(struct io_stream *stream, void *data, size_t cap);
    ssize_t (*stream_writev)(struct io_stream *stream, const struct iovec *parts, int count);
    ssize_t (*stream_writev_more)(struct io_stream *stream, const struct iovec *parts,
                                  int count); /* or NULL */
    ssize_t (*stream_send_file)(struct io_stream *stream, struct io_file *file, uint64_t offset, size_t len);
    int (*stream_status)(struct io_stream *stream);
    const char *(*stream_peer)(struct io_stream *stream);
};

/* Implementations begin their struct with this. */
struct io_loop {
    const struct io_loop_ops *ops;
    void (*on_wake)(void *ctx);
    void *wake_ctx;
    void (*on_tail)(void *ctx);
    void *tail_ctx;
};

/* The loop whose callbacks run on this thread now; NULL outside. */
struct io_loop *io_loop_current(void);
/* For implementations: makes loop the current one and returns the one before. */
struct io_loop *io_loop_set_current(struct io_loop *loop);
/* For implementations, on a disk worker: does the operation and sets its result. */
void io_op_run(struct io_op *op);

/* An operating-system loop with its own pool of disk_workers threads (1–64). 0 or an error. */
int io_os_loop_new(unsigned disk_workers, struct io_loop **ret_loop);
/* Frees a loop that is not running. Its streams, listeners and timers must have been closed; submitted work
 * is waited for, its done() is not called. */
static inline void io_loop_free(struct io_loop *loop)
{
    if (loop)
        loop->ops->free(loop);
}
/* Runs until io_loop_stop. SIGPIPE is blocked on the thread meanwhile, because sendfile(2) cannot be told to
 * raise none; a process need not ignore it. (The simulated loop is run by its world instead and answers
 * CLYMQ_EUNSUPPORTED.) */
static inline int io_loop_run(struct io_loop *loop)
{
    return loop->ops->run(loop);
}
/* Any thread. run() returns after the current round of events. */
static inline void io_loop_stop(struct io_loop *loop)
{
    loop->ops->stop(loop);
}
/* Any thread: on_wake is called soon on the loop's thread; many wakes before that make one call. */
static inline void io_loop_wake(struct io_loop *loop)
{
    loop->ops->wake(loop);
}
static inline void io_loop_on_wake(struct io_loop *loop, void (*on_wake)(void *ctx), void *ctx)
{
    loop->on_wake = on_wake;
    loop->wake_ctx = ctx;
}
/* Called at the end of each round of events, before the loop waits: the place where what arrived together is
 * written together. */
static inline void io_loop_on_tail(struct io_loop *loop, void (*on_tail)(void *ctx), void *ctx)
{
    loop->on_tail = on_tail;
    loop->tail_ctx = ctx;
}
/* Monotonic; constant within one round of events. */
static inline uint64_t io_loop_now_ns(struct io_loop *loop)
{
    return loop->ops->now_ns(loop);
}
/* A clock that also runs within a round, for telling how long a piece of work took: only differences within
 * one callback mean anything. In the simulator, where work takes no time, it goes on by 50 µs from look to
 * look. */
static inline uint64_t io_loop_clock_ns(struct io_loop *loop)
{
    return loop->ops->clock_ns(loop);
}
/* Milliseconds since 1970. May jump. */
static inline int64_t io_loop_wall_ms(struct io_loop *loop)
{
    return loop->ops->wall_ms(loop);
}
/* Random bytes: the system's (fit for secrets), or the simulator's seeded ones. */
static inline void io_loop_random(struct io_loop *loop, void *out, size_t len)
{
    loop->ops->random(loop, out, len);
}
/* (Re)arms: fire() is called once, delay_ns from now or later. 0 or CLYMQ_ENOMEM (never when re-arming an
 * armed one).*/
static inline int io_timer_start(struct io_loop *loop, struct io_timer *timer, uint64_t delay_ns)
{
    return loop->ops->timer_start(loop, timer, delay_ns);
}
/* Disarms; harmless when not armed. */
static inline void io_timer_stop(struct io_loop *loop, struct io_timer *timer)
{
    loop->ops->timer_stop(loop, timer);
}
static inline bool io_timer_armed(const struct io_timer *timer)
{
    return heap_contains(&timer->node);
}
static inline void io_loop_submit(struct io_loop *loop, struct io_op *op)
{
    loop->ops->submit(loop, op);
}
static inline void io_loop_work(struct io_loop *loop, struct io_work *work)
{
    loop->ops->work(loop, work);
}
/* Listens on "HOST:PORT", "[v6]:PORT" or ":PORT" (all addresses); port 0 = any free one. Each accepted socket
 * is given to on_accept, which owns it. CLYMQ_EBUSY when the port is taken, CLYMQ_EINVAL for a bad address.
 * Out of descriptors: accepting pauses and resumes by itself. */
static inline int io_loop_listen(struct io_loop *loop, const char *address,
                                 void (*on_accept)(void *ctx, struct io_socket *socket), void *ctx,
                                 struct io_listener **ret_listener)
{
    return loop->ops->listen(loop, address, on_accept, ctx, ret_listener);
}
/* A listener remembers its loop's ops. */
struct io_listener {
    const struct io_loop_ops *ops;
};
struct io_socket {
    const struct io_loop_ops *ops;
};
struct io_stream {
    const struct io_loop_ops *ops;
};
static inline void io_listener_close(struct io_listener *listener)
{
    if (listener)
        listener->ops->listener_close(listener);
}
/* The address it really listens on, as "HOST:PORT". cap >= 64. */
static inline int io_listener_address(struct io_listener *listener, char *out, size_t cap)
{
    return listener->ops->listener_address(listener, out, cap);
}
static inline void io_socket_close(struct io_socket *socket)
{
    socket->ops->socket_close(socket);
}
/* Attaches an accepted or detached socket to a loop. Takes ownership of socket on success. Nothing is watched
 * at first.
 */
static inline int io_stream_open(struct io_loop *loop, struct io_socket *socket,
                                 struct io_stream_handler handler, struct io_stream **ret_stream)
{
    return loop->ops->stream_open(loop, socket, handler, ret_stream);
}
/* Takes an open stream's socket from its loop: the stream is gone, without another callback; what has come
 * and was not read stays in the socket. 0, CLYMQ_ENOMEM or CLYMQ_EIO (a simulated process that is dead): the
 * stream stays as it is. Also from inside on_ready. */
static inline int io_stream_detach(struct io_stream *stream, struct io_socket **ret_socket)
{
    return stream->ops->stream_detach(stream, ret_socket);
}
/* Begins to connect to "HOST:PORT" (names are resolved without blocking the loop). The stream can be watched
 * at once; it becomes IO_WRITABLE when connected, or IO_READABLE|IO_WRITABLE when it failed: io_stream_status
 * tells. */
static inline int io_loop_connect(struct io_loop *loop, const char *address, struct io_stream_handler handler,
                                  struct io_stream **ret_stream)
{
    return loop->ops->connect(loop, address, handler, ret_stream);
}
/* Closes at once; no more callbacks for it, also when called from inside on_ready. NULL is allowed. */
static inline void io_stream_close(struct io_stream *stream)
{
    if (stream)
        stream->ops->stream_close(stream);
}
/* Sets the events that on_ready is told of (replaces the earlier set; 0 = none). */
static inline void io_stream_watch(struct io_stream *stream, unsigned events)
{
    stream->ops->stream_watch(stream, events);
}
/* > 0 bytes read, 0 = the other side closed, CLYMQ_EAGAIN = nothing now, or an error. */
static inline ssize_t io_stream_read(struct io_stream *stream, void *data, size_t cap)
{
    return stream->ops->stream_read(stream, data, cap);
}
/* > 0 bytes written (may be fewer than given), CLYMQ_EAGAIN = no room now, or an error. count <= 64. */
static inline ssize_t io_stream_writev(struct io_stream *stream, const struct iovec *parts, int count)
{
    return stream->ops->stream_writev(stream, parts, count);
}
/* The same where more is written right after: a hint that these bytes need no packet of their own. */
static inline ssize_t io_stream_writev_more(struct io_stream *stream, const struct iovec *parts, int count)
{
    const struct io_loop_ops *ops = stream->ops;
    return ops->stream_writev_more ? ops->stream_writev_more(stream, parts, count)
                                   : ops->stream_writev(stream, parts, count);
}
/* Sends from a file without copying through user space. Returns as io_stream_writev; 0 when the file ends at
 * offset. */
static inline ssize_t io_stream_send_file(struct io_stream *stream, struct io_file *file, uint64_t offset,
                                          size_t len)
{
    return stream->ops->stream_send_file(stream, file, offset, len);
}
/* 0 = connected, CLYMQ_EAGAIN = still connecting, otherwise why it failed. */
static inline int io_stream_status(struct io_stream *stream)
{
    return stream->ops->stream_status(stream);
}
/* "HOST:PORT" of the other side; valid as long as the stream. */
static inline const char *io_stream_peer(struct io_stream *stream)
{
    return stream->ops->stream_peer(stream);
}

#endif
