/* The operating system's loop over libuv: its life, its rounds, its clock, and wakes from other threads. */
#include "io/os_loop.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/thread.h"

enum { EVENTS_PER_ROUND = 128 };

static uint64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Read once a round, when first asked for. */
uint64_t os_loop_now_ns(struct io_loop *base)
{
    struct os_loop *loop = os_loop_of(base);
    if (!loop->now_known) {
        loop->now_ns = clock_ns(CLOCK_MONOTONIC);
        loop->now_known = true;
    }
    return loop->now_ns;
}

static uint64_t os_clock_ns(struct io_loop *base)
{
    return clock_ns(CLOCK_MONOTONIC);
}

static int64_t os_wall_ms(struct io_loop *base)
{
    return (int64_t)(clock_ns(CLOCK_REALTIME) / 1000000u);
}

static void os_random(struct io_loop *base, void *out, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t got = getrandom((char *)out + done, len - done, 0);
        assert(got > 0 || errno == EINTR); /* fails in no other way on a kernel that has it */
        if (got > 0)
            done += (size_t)got;
    }
}

static void on_idle(uv_idle_t *idle)
{
    struct os_loop *loop = CONTAINER_OF(idle, struct os_loop, idle);
    uv_idle_stop(idle);
    if (loop->woken_here) {
        loop->woken_here = false;
        if (loop->base.on_wake)
            loop->base.on_wake(loop->base.wake_ctx);
    }
    os_streams_tell_ready(loop);
}

void os_loop_do_not_wait(struct os_loop *loop)
{
    uv_idle_start(&loop->idle, on_idle);
}

static void end_round(struct os_loop *loop)
{
    os_timers_fire_due(loop);
    if (loop->base.on_tail)
        loop->base.on_tail(loop->base.tail_ctx);
    os_streams_apply(loop);
    os_timers_arm(loop);
    if (loop->now_known) /* since the round's begin, or nearly */
        io_thread_worked(clock_ns(CLOCK_MONOTONIC) - loop->now_ns);
    loop->now_known = false;
    loop->events = 0;
}

void os_loop_event_told(struct os_loop *loop)
{
    if (++loop->events >= EVENTS_PER_ROUND)
        end_round(loop);
}

static void on_prepare(uv_prepare_t *prepare)
{
    end_round(CONTAINER_OF(prepare, struct os_loop, prepare));
}

void os_loop_signal(struct os_loop *loop)
{
    if (atomic_exchange(&loop->signaled, true))
        return;
    uint64_t one = 1;
    ssize_t wrote = write(loop->signal_fd, &one, sizeof(one));
    assert(wrote == sizeof(one)); /* never full: it is read before the next write */
}

static void on_signal(uv_poll_t *poll, int status, int events)
{
    struct os_loop *loop = CONTAINER_OF(poll, struct os_loop, signal);
    uint64_t count;
    ssize_t got = read(loop->signal_fd, &count, sizeof(count));
    assert(got == sizeof(count) || errno == EAGAIN);
    atomic_exchange(&loop->signaled, false);
    if (atomic_exchange(&loop->woken, false) && loop->base.on_wake)
        loop->base.on_wake(loop->base.wake_ctx);
    os_disk_deliver(&loop->disk);
    if (atomic_load(&loop->stopped))
        uv_stop(&loop->uv);
}

static void os_wake(struct io_loop *base)
{
    struct os_loop *loop = os_loop_of(base);
    if (io_loop_current() == base) {
        loop->woken_here = true;
        os_loop_do_not_wait(loop);
    } else if (!atomic_exchange(&loop->woken, true)) {
        os_loop_signal(loop);
    }
}

static void os_stop(struct io_loop *base)
{
    struct os_loop *loop = os_loop_of(base);
    atomic_store(&loop->stopped, true);
    os_loop_signal(loop);
}

static int os_run(struct io_loop *base)
{
    struct os_loop *loop = os_loop_of(base);
    struct io_loop *outer = io_loop_set_current(base);
    sigset_t pipe_signal, before;
    sigemptyset(&pipe_signal);
    sigaddset(&pipe_signal, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_signal, &before);

    uv_run(&loop->uv, UV_RUN_DEFAULT);
    end_round(loop);
    atomic_store(&loop->stopped, false);

    if (!sigismember(&before, SIGPIPE)) {
        /* One raised by sendfile would be delivered on unblocking. */
        while (sigtimedwait(&pipe_signal, NULL, &(struct timespec){0}) == -1 && errno == EINTR)
            ;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    io_loop_set_current(outer);
    return 0;
}

static void close_handles(struct os_loop *loop)
{
    uv_close((uv_handle_t *)&loop->signal, NULL);
    uv_close((uv_handle_t *)&loop->prepare, NULL);
    uv_close((uv_handle_t *)&loop->timer, NULL);
    uv_close((uv_handle_t *)&loop->idle, NULL);
    uv_run(&loop->uv, UV_RUN_DEFAULT);
    int left = uv_loop_close(&loop->uv);
    assert(left == 0); /* otherwise a stream or listener was not closed before its loop was freed */
    close(loop->signal_fd);
}

static void os_free(struct io_loop *base)
{
    struct os_loop *loop = os_loop_of(base);
    os_disk_stop(&loop->disk);
    close_handles(loop);
    heap_free(&loop->timers);
    mem_free(loop);
}

const struct io_loop_ops os_loop_ops = {
    .free = os_free,
    .run = os_run,
    .stop = os_stop,
    .wake = os_wake,
    .now_ns = os_loop_now_ns,
    .clock_ns = os_clock_ns,
    .wall_ms = os_wall_ms,
    .random = os_random,
    .timer_start = os_timer_start,
    .timer_stop = os_timer_stop,
    .submit = os_disk_submit,
    .work = os_disk_work,
    .listen = os_listen,
    .listener_close = os_listener_close,
    .listener_address = os_listener_address,
    .socket_close = os_socket_close,
    .stream_open = os_stream_open,
    .stream_detach = os_stream_detach,
    .connect = os_connect,
    .stream_close = os_stream_close,
    .stream_watch = os_stream_watch,
    .stream_read = os_stream_read,
    .stream_writev = os_stream_writev,
    .stream_writev_more = os_stream_writev_more,
    .stream_send_file = os_stream_send_file,
    .stream_status = os_stream_status,
    .stream_peer = os_stream_peer,
};

static int init_signal(struct os_loop *loop)
{
    loop->signal_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (loop->signal_fd < 0)
        return error_from_errno(errno);
    int failed = uv_poll_init(&loop->uv, &loop->signal, loop->signal_fd);
    if (failed) {
        close(loop->signal_fd);
        return error_from_errno(-failed);
    }
    uv_poll_start(&loop->signal, UV_READABLE, on_signal);
    return 0;
}

int io_os_loop_new(unsigned disk_workers, struct io_loop **ret_loop)
{
    if (disk_workers < 1 || disk_workers > 64)
        return CLYMQ_EINVAL;
    struct os_loop *loop = mem_zalloc(sizeof(*loop));
    if (!loop)
        return CLYMQ_ENOMEM;
    loop->base.ops = &os_loop_ops;
    list_init(&loop->changed);
    list_init(&loop->ready);
    int failed = uv_loop_init(&loop->uv);
    if (failed) {
        mem_free(loop);
        return error_from_errno(-failed);
    }
    int error = init_signal(loop);
    if (error) {
        uv_loop_close(&loop->uv);
        mem_free(loop);
        return error;
    }
    uv_prepare_init(&loop->uv, &loop->prepare);
    uv_timer_init(&loop->uv, &loop->timer);
    uv_idle_init(&loop->uv, &loop->idle);
    uv_prepare_start(&loop->prepare, on_prepare);
    error = os_disk_init(loop, disk_workers);
    if (error) {
        close_handles(loop);
        mem_free(loop);
        return error;
    }
    *ret_loop = &loop->base;
    return 0;
}
