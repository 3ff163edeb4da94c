/* The operating system's loop: the shared cases, and what only it has: threads, names, descriptors that run
 * out. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <dlfcn.h>
#include <netdb.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "io/loop.h"
#include "loop_cases.h"
#include "scratch.h"

struct os_place {
    struct loop_place base;
    struct scratch scratch;
};

static void run_place(struct loop_place *place)
{
    alarm(60); /* a case that never ends */
    assert_int_equal(io_loop_run(place->server), 0);
    alarm(0);
    assert_true(place->done);
    place->done = false;
}

static int setup(void **state)
{
    static struct os_place place;
    place = (struct os_place){.scratch = scratch_new()};
    place.base.run = run_place;
    place.base.fs = place.scratch.fs;
    assert_int_equal(io_os_loop_new(3, &place.base.server), 0);
    place.base.client = place.base.second = place.base.server;
    *state = &place.base;
    return 0;
}

static int teardown(void **state)
{
    struct os_place *place = CONTAINER_OF(*state, struct os_place, base);
    io_loop_free(place->base.server);
    scratch_free(&place->scratch);
    return 0;
}

#define SHARED(name)                                                                                         \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        case_##name(*state);                                                                                 \
    }
SHARED(timers)
SHARED(wake_and_tail)
SHARED(disk)
SHARED(echo)
SHARED(echo_many)
SHARED(send_file)
SHARED(connect_refused)
SHARED(close_in_callback)
SHARED(peer_closes)
SHARED(detach_in_callback)
SHARED(detach_outside)
SHARED(detach_broken)
SHARED(addresses)

static void test_bad_arguments(void **state)
{
    struct io_loop *loop;
    assert_int_equal(io_os_loop_new(0, &loop), CLYMQ_EINVAL);
    assert_int_equal(io_os_loop_new(65, &loop), CLYMQ_EINVAL);
}

/* Wakes from several threads: none is lost, however they coalesce. */
enum { WAKERS = 4, WAKES_EACH = 5000 };

struct wakers {
    struct loop_place *place;
    _Atomic unsigned posted;
    unsigned seen;
};

static void *waker(void *ctx)
{
    struct wakers *wakers = ctx;
    for (unsigned i = 0; i < WAKES_EACH; i++) {
        atomic_fetch_add(&wakers->posted, 1);
        io_loop_wake(wakers->place->server);
    }
    return NULL;
}

static void on_wake(void *ctx)
{
    struct wakers *wakers = ctx;
    wakers->seen = atomic_load(&wakers->posted);
    if (wakers->seen == WAKERS * WAKES_EACH)
        loop_case_done(wakers->place);
}

static void test_wakes_from_threads(void **state)
{
    struct wakers wakers = {.place = *state};
    io_loop_on_wake(wakers.place->server, on_wake, &wakers);
    pthread_t threads[WAKERS];
    for (unsigned i = 0; i < WAKERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, waker, &wakers), 0);
    run_place(wakers.place);
    for (unsigned i = 0; i < WAKERS; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(wakers.seen, WAKERS * WAKES_EACH);
}

/* A stop that comes before run is not lost; work submitted before free is waited for. */
static void count_run(struct io_work *work)
{
    atomic_fetch_add((_Atomic unsigned *)work->ctx, 1);
}

static void never_done(struct io_work *work)
{
    fail_msg("done after free");
}

static void test_stop_and_free(void **state)
{
    struct io_loop *loop;
    assert_int_equal(io_os_loop_new(1, &loop), 0);
    io_loop_stop(loop);
    assert_int_equal(io_loop_run(loop), 0);
    _Atomic unsigned ran = 0;
    struct io_work works[20];
    for (unsigned i = 0; i < 20; i++) {
        works[i] = (struct io_work){.run = count_run, .done = never_done, .ctx = &ran};
        io_loop_work(loop, &works[i]);
    }
    io_loop_free(loop);
    assert_int_equal(ran, 20);
}

/* Names are resolved off the loop; a name that does not exist is a failed stream; closing meanwhile is fine.
 */
struct named {
    struct loop_place *place;
    struct io_stream *stream;
    int status;
};

static void on_named(void *ctx, unsigned events)
{
    struct named *named = ctx;
    named->status = io_stream_status(named->stream);
    io_stream_close(named->stream);
    loop_case_done(named->place);
}

static void close_socket(void *ctx, struct io_socket *socket)
{
    io_socket_close(socket);
}

static int connect_by_name(struct loop_place *place, const char *address)
{
    struct named named = {.place = place};
    assert_int_equal(
        io_loop_connect(place->client, address, (struct io_stream_handler){on_named, &named}, &named.stream),
        0);
    io_stream_watch(named.stream, IO_WRITABLE);
    run_place(place);
    return named.status;
}

static void test_names(void **state)
{
    struct loop_place *place = *state;
    struct io_listener *listener;
    char address[64], name[80];
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", close_socket, NULL, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    /* Where localhost is ::1 first, the second address of the name is tried. */
    snprintf(name, sizeof(name), "localhost%s", strrchr(address, ':'));
    assert_int_equal(connect_by_name(place, name), 0);
    /* No host can have such a name, so that no server is asked for it. */
    char unknown[80];
    memset(unknown, 'x', sizeof(unknown));
    strcpy(unknown + 70, ":1");
    assert_int_equal(connect_by_name(place, unknown), CLYMQ_EUNREACH);
    io_listener_close(listener);
    struct io_stream *stream;
    struct io_stream_handler handler = {on_named, NULL};
    assert_int_equal(io_loop_connect(place->client, name, handler, &stream), 0);
    io_stream_close(stream);
}

/* "two.test" is 127.0.0.1 and 127.0.0.2, in this order; other names are asked of the system. What is answered
 * has the form that glibc's freeaddrinfo takes. */
__attribute__((visibility("default"))) int getaddrinfo(const char *node, const char *service,
                                                       const struct addrinfo *hints, struct addrinfo **ret)
{
    static int (*next)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    if (!next)
        *(void **)&next = dlsym(RTLD_NEXT, "getaddrinfo");
    if (!node || strcmp(node, "two.test") != 0)
        return next(node, service, hints, ret);
    struct addrinfo numeric = *hints;
    numeric.ai_flags |= AI_NUMERICHOST;
    if (hints->ai_flags & AI_NUMERICHOST)
        return EAI_NONAME;
    assert_int_equal(next("127.0.0.1", service, &numeric, ret), 0);
    assert_int_equal(next("127.0.0.2", service, &numeric, &(*ret)->ai_next), 0);
    return 0;
}

/* An address of a name that does not answer does not keep the next one from being tried. */
static void test_name_with_a_silent_address(void **state)
{
    enum { KNOCKS = 3 };
    struct loop_place *place = *state;
    struct sockaddr_in silent = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(silent);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), knocks[KNOCKS];
    assert_int_equal(bind(fd, (struct sockaddr *)&silent, len), 0);
    assert_int_equal(listen(fd, 0), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&silent, &len), 0);
    for (int i = 0; i < KNOCKS; i++) { /* who comes when a listener's queue is full gets no answer at all */
        knocks[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        (void)connect(knocks[i], (struct sockaddr *)&silent, sizeof(silent));
    }
    struct io_listener *listener;
    char address[64];
    snprintf(address, sizeof(address), "127.0.0.2:%u", ntohs(silent.sin_port));
    assert_int_equal(io_loop_listen(place->server, address, close_socket, NULL, &listener), 0);
    snprintf(address, sizeof(address), "two.test:%u", ntohs(silent.sin_port));
    uint64_t begun_ns = io_loop_clock_ns(place->client);
    assert_int_equal(connect_by_name(place, address), 0);
    uint64_t took_ns = io_loop_clock_ns(place->client) - begun_ns;
    assert_true(took_ns > IO_MS(1000) && took_ns < IO_MS(9000)); /* it was silent, and given up in time */
    io_listener_close(listener);
    for (int i = 0; i < KNOCKS; i++)
        close(knocks[i]);
    close(fd);
}

/* A listener for all addresses serves v4 clients, and shows them as such. */
struct peer_case {
    struct loop_place *place;
    char peer[64];
};

static void on_accept_peer(void *ctx, struct io_socket *socket)
{
    struct peer_case *peer = ctx;
    struct io_stream *stream;
    assert_int_equal(
        io_stream_open(peer->place->server, socket, (struct io_stream_handler){on_named, NULL}, &stream), 0);
    snprintf(peer->peer, sizeof(peer->peer), "%s", io_stream_peer(stream));
    io_stream_close(stream);
    loop_case_done(peer->place);
}

static void reach(struct loop_place *place, const char *listen_on, const char *host, const char *peer)
{
    struct peer_case seen = {.place = place};
    struct io_listener *listener;
    struct io_stream *stream;
    char address[64], to[80];
    if (io_loop_listen(place->server, listen_on, on_accept_peer, &seen, &listener) != 0) {
        print_message("no %s on this machine\n", listen_on);
        return;
    }
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    snprintf(to, sizeof(to), "%s%s", host, strrchr(address, ':'));
    assert_int_equal(io_loop_connect(place->client, to, (struct io_stream_handler){on_named, NULL}, &stream),
                     0);
    run_place(place);
    assert_memory_equal(seen.peer, peer, strlen(peer));
    io_stream_close(stream);
    io_listener_close(listener);
}

static void test_address_families(void **state)
{
    reach(*state, ":0", "127.0.0.1", "127.0.0.1:");
    reach(*state, "0.0.0.0:0", "127.0.0.1", "127.0.0.1:");
    reach(*state, "[::1]:0", "[::1]", "[::1]:");
}

/* Out of descriptors: accepting pauses, and goes on once there are some. */
enum { CROWD = 40 };

struct crowd {
    struct loop_place *place;
    struct io_stream *streams[CROWD];
    unsigned accepted;
    int spare[256];
    unsigned spares;
    struct io_timer relief;
};

static void on_crowd_accept(void *ctx, struct io_socket *socket)
{
    struct crowd *crowd = ctx;
    io_socket_close(socket);
    if (++crowd->accepted == CROWD)
        loop_case_done(crowd->place);
}

static void on_relief(struct io_timer *timer)
{
    struct crowd *crowd = timer->ctx;
    assert_int_equal(crowd->accepted, 0);
    while (crowd->spares > 0)
        close(crowd->spare[--crowd->spares]);
}

static void ignore(void *ctx, unsigned events)
{
}

static void test_out_of_descriptors(void **state)
{
    struct crowd *crowd = mem_zalloc(sizeof(*crowd));
    crowd->place = *state;
    struct io_loop *loop = crowd->place->server;
    log_configure(&(struct log_settings){.filter = "off"});
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(loop, "127.0.0.1:0", on_crowd_accept, crowd, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    for (unsigned i = 0; i < CROWD; i++)
        assert_int_equal(
            io_loop_connect(loop, address, (struct io_stream_handler){ignore, NULL}, &crowd->streams[i]), 0);
    struct rlimit before, tight;
    getrlimit(RLIMIT_NOFILE, &before);
    tight = before;
    tight.rlim_cur = 200;
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &tight), 0);
    int fd;
    while ((fd = dup(0)) >= 0)
        crowd->spare[crowd->spares++] = fd;
    crowd->relief = (struct io_timer){.fire = on_relief, .ctx = crowd};
    assert_int_equal(io_timer_start(loop, &crowd->relief, IO_MS(30)), 0);
    run_place(crowd->place);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(crowd->accepted, CROWD);
    for (unsigned i = 0; i < CROWD; i++)
        io_stream_close(crowd->streams[i]);
    io_listener_close(listener);
    mem_free(crowd);
    log_configure(&(struct log_settings){.filter = "info"});
}

/* Many events at once are told in several rounds, each with its end, so that what one of them asked for at
 * the end does not wait for all the others. */
enum { MANY = 600, ROUND_MOST = 128 };

struct many {
    struct loop_place *place;
    struct io_stream *clients[MANY], *servers[MANY];
    unsigned accepted, told, in_round, most;
    struct io_timer start;
};

struct one_of_many {
    struct many *many;
    unsigned index;
};
static struct one_of_many ones[MANY];

static void on_one_readable(void *ctx, unsigned events)
{
    struct one_of_many *one = ctx;
    struct many *many = one->many;
    char data[8];
    assert_int_equal(io_stream_read(many->servers[one->index], data, sizeof(data)), 1);
    /* Some leave in the middle of it. */
    if (one->index % 3 == 0) {
        io_stream_close(many->servers[one->index]);
        many->servers[one->index] = NULL;
    } else {
        io_stream_watch(many->servers[one->index], 0);
    }
    many->told++;
    if (++many->in_round > many->most)
        many->most = many->in_round;
    if (many->told == MANY)
        loop_case_done(many->place);
}

static void on_many_tail(void *ctx)
{
    ((struct many *)ctx)->in_round = 0;
}

static void on_many_start(struct io_timer *timer)
{
    struct many *many = timer->ctx;
    struct iovec part = {"x", 1};
    for (unsigned i = 0; i < MANY; i++) {
        assert_int_equal(io_stream_writev(many->clients[i], &part, 1), 1);
        io_stream_watch(many->servers[i], IO_READABLE);
    }
}

static void on_many_accept(void *ctx, struct io_socket *socket)
{
    struct many *many = ctx;
    unsigned index = many->accepted++;
    ones[index] = (struct one_of_many){many, index};
    struct io_stream_handler handler = {on_one_readable, &ones[index]};
    assert_int_equal(io_stream_open(many->place->server, socket, handler, &many->servers[index]), 0);
    if (many->accepted == MANY)
        assert_int_equal(io_timer_start(many->place->server, &many->start, IO_MS(50)), 0);
}

static void test_many_events(void **state)
{
    struct many *many = mem_zalloc(sizeof(*many));
    struct io_listener *listener;
    char address[64];
    many->place = *state;
    struct io_loop *loop = many->place->server;
    many->start = (struct io_timer){.fire = on_many_start, .ctx = many};
    assert_int_equal(io_loop_listen(loop, "127.0.0.1:0", on_many_accept, many, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    for (unsigned i = 0; i < MANY; i++)
        assert_int_equal(
            io_loop_connect(loop, address, (struct io_stream_handler){ignore, NULL}, &many->clients[i]), 0);
    io_loop_on_tail(loop, on_many_tail, many);
    run_place(many->place);
    io_loop_on_tail(loop, NULL, NULL);
    assert_int_equal(many->told, MANY);
    assert_int_equal(many->most, ROUND_MOST);
    for (unsigned i = 0; i < MANY; i++) {
        io_stream_close(many->clients[i]);
        io_stream_close(many->servers[i]);
    }
    io_listener_close(listener);
    mem_free(many);
}

/* What an event arms for now fires at the end of its round, before sockets are looked at again. */
struct at_once {
    struct loop_place *place;
    struct io_stream *client, *server;
    struct io_timer timer;
    unsigned told;
};

static void on_still_readable(void *ctx, unsigned events)
{
    struct at_once *at_once = ctx;
    if (++at_once->told == 1) /* not read: told again in each round */
        assert_int_equal(io_timer_start(at_once->place->server, &at_once->timer, 0), 0);
}

static void on_armed_for_now(struct io_timer *timer)
{
    struct at_once *at_once = timer->ctx;
    assert_int_equal(at_once->told, 1);
    loop_case_done(at_once->place);
}

static void on_at_once_accept(void *ctx, struct io_socket *socket)
{
    struct at_once *at_once = ctx;
    struct io_stream_handler handler = {on_still_readable, at_once};
    assert_int_equal(io_stream_open(at_once->place->server, socket, handler, &at_once->server), 0);
    io_stream_watch(at_once->server, IO_READABLE);
}

static void on_connected_at_once(void *ctx, unsigned events)
{
    struct at_once *at_once = ctx;
    struct iovec part = {"x", 1};
    assert_int_equal(io_stream_writev(at_once->client, &part, 1), 1);
    io_stream_watch(at_once->client, 0);
}

static void test_timer_for_now(void **state)
{
    struct at_once at_once = {.place = *state, .timer = {.fire = on_armed_for_now, .ctx = &at_once}};
    struct io_loop *loop = at_once.place->server;
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(loop, "127.0.0.1:0", on_at_once_accept, &at_once, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    struct io_stream_handler handler = {on_connected_at_once, &at_once};
    assert_int_equal(io_loop_connect(loop, address, handler, &at_once.client), 0);
    io_stream_watch(at_once.client, IO_WRITABLE);
    run_place(at_once.place);
    io_stream_close(at_once.client);
    io_stream_close(at_once.server);
    io_listener_close(listener);
}

/* The nth allocation of listening, connecting and starting a timer fails: an error, and nothing is left
 * behind. */
static void test_allocation_failures(void **state)
{
    struct loop_place *place = *state;
    for (uint64_t nth = 1; nth < 50; nth++) {
        struct io_listener *listener = NULL;
        struct io_stream *stream = NULL;
        struct io_timer timer = {0};
        struct io_loop *loop;
        mem_fail_nth(nth);
        int error = io_loop_listen(place->server, "127.0.0.1:0", close_socket, NULL, &listener);
        if (!error)
            error = io_loop_connect(place->server, "127.0.0.1:1", (struct io_stream_handler){ignore, NULL},
                                    &stream);
        if (!error)
            error = io_timer_start(place->server, &timer, IO_MS(1));
        if (!error && (error = io_os_loop_new(2, &loop)) == 0)
            io_loop_free(loop);
        bool failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
        io_timer_stop(place->server, &timer);
        io_stream_close(stream);
        io_listener_close(listener);
        if (!failed)
            return;
    }
    fail();
}

/* A connection goes from this thread's loop to that of another, which answers on it; meanwhile the first loop
 * goes on, and the client is there. */
struct journey {
    struct loop_place *place;
    struct io_stream *connected, *stream;
    struct io_socket *socket;
    struct io_loop *other;
    pthread_t thread;
    unsigned told, refused;
};

static void journey_answer(void *ctx, unsigned events)
{
    struct journey *journey = ctx;
    char bytes[8];
    assert_int_equal(io_stream_read(journey->stream, bytes, sizeof(bytes)), 3);
    assert_memory_equal(bytes, "abc", 3);
    assert_int_equal(io_stream_writev(journey->stream, &(struct iovec){"!", 1}, 1), 1);
    io_stream_close(journey->stream);
    io_loop_stop(journey->other);
}

static void *run_other(void *ctx)
{
    struct journey *journey = ctx;
    struct io_stream_handler handler = {journey_answer, journey};
    assert_int_equal(io_stream_open(journey->other, journey->socket, handler, &journey->stream), 0);
    io_stream_watch(journey->stream, IO_READABLE);
    assert_int_equal(io_loop_run(journey->other), 0);
    return NULL;
}

static void journey_begin(void *ctx, unsigned events)
{
    struct journey *journey = ctx;
    journey->told++;
    assert_int_equal(io_stream_detach(journey->stream, &journey->socket), 0);
    assert_int_equal(pthread_create(&journey->thread, NULL, run_other, journey), 0);
}

static void journey_accept(void *ctx, struct io_socket *socket)
{
    struct journey *journey = ctx;
    struct io_stream_handler handler = {journey_begin, journey};
    assert_int_equal(io_stream_open(journey->place->server, socket, handler, &journey->stream), 0);
    io_stream_watch(journey->stream, IO_READABLE);
}

static void journey_heard(void *ctx, unsigned events)
{
    struct journey *journey = ctx;
    char byte;
    if (events & IO_WRITABLE) {
        assert_int_equal(io_stream_writev(journey->connected, &(struct iovec){"abc", 3}, 1), 3);
        io_stream_watch(journey->connected, IO_READABLE);
        return;
    }
    assert_int_equal(io_stream_read(journey->connected, &byte, 1), 1);
    io_stream_watch(journey->connected, 0);
    loop_case_done(journey->place);
}

static struct io_listener *journey_connect(struct journey *journey,
                                           void (*on_accept)(void *ctx, struct io_socket *socket))
{
    struct io_listener *listener;
    struct io_stream_handler handler = {journey_heard, journey};
    char address[64];
    struct io_loop *loop = journey->place->server;
    assert_int_equal(io_loop_listen(loop, "127.0.0.1:0", on_accept, journey, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    assert_int_equal(io_loop_connect(loop, address, handler, &journey->connected), 0);
    io_stream_watch(journey->connected, IO_WRITABLE);
    return listener;
}

static void test_detach_to_a_thread(void **state)
{
    for (int i = 0; i < 50; i++) {
        struct journey journey = {.place = *state};
        assert_int_equal(io_os_loop_new(1, &journey.other), 0);
        struct io_listener *listener = journey_connect(&journey, journey_accept);
        run_place(journey.place);
        pthread_join(journey.thread, NULL);
        assert_int_equal(journey.told, 1);
        io_stream_close(journey.connected);
        io_listener_close(listener);
        io_loop_free(journey.other);
    }
}

/* Nothing has changed then. */
static void stay_without_memory(void *ctx, unsigned events)
{
    struct journey *journey = ctx;
    char bytes[8];
    mem_fail_nth(1);
    assert_int_equal(io_stream_detach(journey->stream, &journey->socket), CLYMQ_ENOMEM);
    mem_fail_nth(0);
    if (++journey->refused < 3)
        return; /* told again */
    assert_int_equal(io_stream_read(journey->stream, bytes, sizeof(bytes)), 3);
    assert_int_equal(io_stream_writev(journey->stream, &(struct iovec){"!", 1}, 1), 1);
}

static void accept_without_memory(void *ctx, struct io_socket *socket)
{
    struct journey *journey = ctx;
    struct io_stream_handler handler = {stay_without_memory, journey};
    assert_int_equal(io_stream_open(journey->place->server, socket, handler, &journey->stream), 0);
    io_stream_watch(journey->stream, IO_READABLE);
}

static void test_detach_without_memory(void **state)
{
    struct journey journey = {.place = *state};
    struct io_listener *listener = journey_connect(&journey, accept_without_memory);
    run_place(journey.place);
    assert_int_equal(journey.refused, 3);
    io_stream_close(journey.connected);
    io_stream_close(journey.stream);
    io_listener_close(listener);
}

int main(void)
{
#define IN_PLACE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        IN_PLACE(test_timers),
        IN_PLACE(test_wake_and_tail),
        IN_PLACE(test_disk),
        IN_PLACE(test_echo),
        IN_PLACE(test_echo_many),
        IN_PLACE(test_send_file),
        IN_PLACE(test_connect_refused),
        IN_PLACE(test_close_in_callback),
        IN_PLACE(test_peer_closes),
        IN_PLACE(test_detach_in_callback),
        IN_PLACE(test_detach_outside),
        IN_PLACE(test_detach_broken),
        IN_PLACE(test_detach_to_a_thread),
        IN_PLACE(test_detach_without_memory),
        IN_PLACE(test_addresses),
        cmocka_unit_test(test_bad_arguments),
        IN_PLACE(test_wakes_from_threads),
        cmocka_unit_test(test_stop_and_free),
        IN_PLACE(test_names),
        IN_PLACE(test_name_with_a_silent_address),
        IN_PLACE(test_address_families),
        IN_PLACE(test_out_of_descriptors),
        IN_PLACE(test_many_events),
        IN_PLACE(test_timer_for_now),
        IN_PLACE(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
