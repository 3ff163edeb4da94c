/* The operating system's event loop, inside: for io/os_*.c only.
 *
 * One round of a loop is: sockets and hand-overs (libuv's poll), due timers, what is told without the kernel
 * (own wakes, failed streams), then the end of the round: the tail hook, changed watch sets, the next timer.
 * Only then it waits. */
#ifndef CLYMQ_IO_OS_LOOP_H
#define CLYMQ_IO_OS_LOOP_H

#include <netdb.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/socket.h>
#include <uv.h>

#include "io/loop.h"

/* The disk workers of one loop: threads, what waits for them and what they have done. */
struct os_loop;
struct os_disk;
struct os_disk_worker {
    struct os_disk *disk;
    struct list idle; /* in disk->idle while it waits and is not called */
    sem_t call;
    pthread_t thread;
};
struct os_disk {
    pthread_mutex_t lock;
    struct list idle;                 /* workers, the last one to become so first */
    struct list ops, works;           /* waiting */
    struct list ops_done, works_done; /* to be told to the loop */
    bool stop;
    struct os_disk_worker *workers;
    unsigned worker_count;
    struct os_loop *loop;
};

struct os_loop {
    struct io_loop base;
    uv_loop_t uv;
    uv_poll_t signal; /* of signal_fd: wakes from other threads, finished disk work, stop */
    int signal_fd;
    uv_prepare_t prepare; /* the end of a round */
    uv_timer_t timer;     /* for the first of timers */
    uv_idle_t idle; /* active while something is to be told without the kernel: keeps the loop from waiting */
    struct heap timers;
    uint64_t timer_due_ns; /* what timer is set for; 0 = not set */
    uint64_t now_ns;
    bool now_known;
    unsigned events;     /* told in this round */
    bool woken_here;     /* a wake from this thread */
    struct list changed; /* os_stream: watch set to be given to the kernel */
    struct list ready;   /* os_stream: broken, told again each round */
    _Atomic bool signaled, woken, stopped;
    struct os_disk disk;
};

static inline struct os_loop *os_loop_of(struct io_loop *loop)
{
    return CONTAINER_OF(loop, struct os_loop, base);
}

extern const struct io_loop_ops os_loop_ops;

/* os_loop.c */
uint64_t os_loop_now_ns(struct io_loop *loop);
/* Any thread: the loop looks soon at what other threads have left for it. Not uv_async_send, whose receiver
 * spins until the sender is back from its system call: five times the latency where both share a core. */
void os_loop_signal(struct os_loop *loop);
/* An event was told. libuv may tell tens of thousands without a pause: the round ends earlier, so that what
 * was answered does not wait for all of them. */
void os_loop_event_told(struct os_loop *loop);
/* The next round begins without waiting and tells what is in `ready` and woken_here. */
void os_loop_do_not_wait(struct os_loop *loop);

/* os_timer.c */
int os_timer_start(struct io_loop *loop, struct io_timer *timer, uint64_t delay_ns);
void os_timer_stop(struct io_loop *loop, struct io_timer *timer);
/* Fires what is due: above all what this round armed for now, without another look at the sockets first. */
void os_timers_fire_due(struct os_loop *loop);
/* Sets libuv's timer for the first of ours. */
void os_timers_arm(struct os_loop *loop);

/* os_disk.c */
int os_disk_init(struct os_loop *loop, unsigned threads);
void os_disk_stop(struct os_disk *disk);
void os_disk_submit(struct io_loop *loop, struct io_op *op);
void os_disk_work(struct io_loop *loop, struct io_work *work);
/* Calls done() of what is finished. */
void os_disk_deliver(struct os_disk *disk);

/* os_address.c */
enum { OS_ADDRESS_TEXT_MAX = 64 };
/* "HOST:PORT" into addresses, in the order to try. numeric: only literal addresses (never blocks); passive:
 * for listening, where the host may be missing. The caller frees with freeaddrinfo. CLYMQ_EINVAL,
 * CLYMQ_ENOENT for an unknown name. */
int os_address_resolve(const char *text, bool numeric, bool passive, struct addrinfo **ret_list);
void os_address_print(const struct sockaddr_storage *address, char *out, size_t cap);
int os_address_error(int eai); /* for a result of getaddrinfo */

/* A connected socket: os_listener.c makes it, os_stream.c takes it over and may make it again. */
struct os_socket {
    struct io_socket base;
    int fd;
    char peer[OS_ADDRESS_TEXT_MAX];
};
void os_socket_set_options(int fd);

/* os_listener.c */
int os_listen(struct io_loop *loop, const char *address,
              void (*on_accept)(void *ctx, struct io_socket *socket), void *ctx,
              struct io_listener **ret_listener);
void os_listener_close(struct io_listener *listener);
int os_listener_address(struct io_listener *listener, char *out, size_t cap);
void os_socket_close(struct io_socket *socket);

enum os_stream_state { OS_STREAM_RESOLVING, OS_STREAM_CONNECTING, OS_STREAM_OPEN, OS_STREAM_FAILED };

struct os_connect;
struct os_stream {
    struct io_stream base;
    struct os_loop *loop;
    struct io_stream_handler handler;
    struct list link;           /* in loop->changed or loop->ready */
    struct os_connect *connect; /* until connected or failed */
    char *peer;
    int fd;    /* -1: none */
    int error; /* why it failed */
    enum os_stream_state state : 8;
    bool closed : 1;    /* by its owner; freed when libuv lets go of poll */
    bool poll_open : 1; /* poll is initialised and not closing */
    bool poll_closing : 1;
    bool broken : 1;       /* an error is to be read: libuv no longer watches it */
    unsigned char wanted;  /* io_events */
    unsigned char watched; /* what libuv was told */
    uv_poll_t poll;
};
static inline struct os_stream *os_stream_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct os_stream, base);
}

/* os_stream.c */
int os_stream_open(struct io_loop *loop, struct io_socket *socket, struct io_stream_handler handler,
                   struct io_stream **ret_stream);
int os_stream_detach(struct io_stream *stream, struct io_socket **ret_socket);
void os_stream_close(struct io_stream *stream);
void os_stream_watch(struct io_stream *stream, unsigned events);
ssize_t os_stream_read(struct io_stream *stream, void *data, size_t cap);
ssize_t os_stream_writev(struct io_stream *stream, const struct iovec *parts, int count);
ssize_t os_stream_writev_more(struct io_stream *stream, const struct iovec *parts, int count);
ssize_t os_stream_send_file(struct io_stream *stream, struct io_file *file, uint64_t offset, size_t len);
int os_stream_status(struct io_stream *stream);
const char *os_stream_peer(struct io_stream *stream);
/* A stream without a socket. NULL: out of memory. */
struct os_stream *os_stream_new(struct os_loop *loop, struct io_stream_handler handler, const char *peer);
void os_stream_free(struct os_stream *stream);
/* Lets libuv watch stream->fd. */
int os_stream_start_poll(struct os_stream *stream);
/* Ends the watching and the socket; os_connect_poll_closed follows if the stream still lives. */
void os_stream_stop_poll(struct os_stream *stream);
/* Puts the stream on the list that its state and watch set ask for. */
void os_stream_update(struct os_stream *stream);
/* Gives the changed watch sets to libuv. */
void os_streams_apply(struct os_loop *loop);
/* Tells the broken streams. */
void os_streams_tell_ready(struct os_loop *loop);

/* os_connect.c */
int os_connect(struct io_loop *loop, const char *address, struct io_stream_handler handler,
               struct io_stream **ret_stream);
/* The socket became writable or failed: sets the state. false: nothing to tell yet (the next address is
 * tried). */
bool os_connect_ready(struct os_stream *stream);
void os_connect_poll_closed(struct os_stream *stream);
/* The stream is closed while connecting. */
void os_connect_abandon(struct os_stream *stream);

#endif
