/* See loop_cases.h. */
#include "loop_cases.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"

void loop_case_done(struct loop_place *place)
{
    place->done = true;
    io_loop_stop(place->server);
    if (place->client != place->server)
        io_loop_stop(place->client);
}

/* Timers: in order of their time, never early; a stopped one is silent, a re-armed one fires once; one that
 * re-arms itself with no delay does not starve the loop. */
enum { TIMERS = 50, SPINS = 1000 };

struct timers {
    struct loop_place *place;
    struct io_timer timers[TIMERS], stopped, spinner;
    uint64_t due[TIMERS];
    unsigned fired, spins;
    uint64_t last_due;
};

static void on_timer(struct io_timer *timer)
{
    struct timers *all = timer->ctx;
    size_t which = (size_t)(timer - all->timers);
    uint64_t now = io_loop_now_ns(all->place->server);
    assert_true(now >= all->due[which]);
    assert_true(all->due[which] >= all->last_due);
    assert_false(io_timer_armed(timer));
    all->last_due = all->due[which];
    if (++all->fired == TIMERS)
        loop_case_done(all->place);
}

static void on_stopped_timer(struct io_timer *timer)
{
    fail_msg("a stopped timer fired");
}

static void on_spinner(struct io_timer *timer)
{
    struct timers *all = timer->ctx;
    if (++all->spins < SPINS)
        assert_int_equal(io_timer_start(all->place->server, timer, 0), 0);
}

void case_timers(struct loop_place *place)
{
    struct timers *all = mem_zalloc(sizeof(*all));
    struct io_loop *loop = place->server;
    struct rng rng;
    rng_seed(&rng, 9);
    all->place = place;
    for (size_t i = 0; i < TIMERS; i++) {
        all->timers[i] = (struct io_timer){.fire = on_timer, .ctx = all};
        uint64_t delay = rng_below(&rng, IO_MS(20));
        assert_int_equal(io_timer_start(loop, &all->timers[i], IO_MS(5000)), 0);
        assert_int_equal(io_timer_start(loop, &all->timers[i], delay), 0); /* re-armed: fires once */
        all->due[i] = io_loop_now_ns(loop) + delay;
        assert_true(io_timer_armed(&all->timers[i]));
    }
    all->stopped = (struct io_timer){.fire = on_stopped_timer};
    io_timer_stop(loop, &all->stopped);
    assert_int_equal(io_timer_start(loop, &all->stopped, IO_MS(1)), 0);
    io_timer_stop(loop, &all->stopped);
    all->spinner = (struct io_timer){.fire = on_spinner, .ctx = all};
    assert_int_equal(io_timer_start(loop, &all->spinner, 0), 0);
    place->run(place);
    assert_int_equal(all->fired, TIMERS);
    io_timer_stop(loop, &all->spinner);
    mem_free(all);
}

/* A wake from the loop itself is told in a later round, many make one, and the tail runs after each round's
 * callbacks. */
struct wakes {
    struct loop_place *place;
    unsigned wakes, tails;
    bool pending; /* a callback since the last tail */
    struct io_timer timer;
};

static void on_wake(void *ctx)
{
    struct wakes *wakes = ctx;
    assert_ptr_equal(io_loop_current(), wakes->place->server);
    wakes->pending = true;
    if (++wakes->wakes == 5)
        loop_case_done(wakes->place);
}

static void on_tail(void *ctx)
{
    struct wakes *wakes = ctx;
    if (!wakes->pending)
        return;
    wakes->pending = false;
    wakes->tails++;
    for (unsigned i = 0; i < 10; i++)
        io_loop_wake(wakes->place->server); /* must not be slept over */
}

static void on_first(struct io_timer *timer)
{
    struct wakes *wakes = timer->ctx;
    io_loop_wake(wakes->place->server);
    assert_int_equal(wakes->wakes, 0);
}

void case_wake_and_tail(struct loop_place *place)
{
    struct wakes wakes = {.place = place};
    assert_null(io_loop_current());
    io_loop_on_wake(place->server, on_wake, &wakes);
    io_loop_on_tail(place->server, on_tail, &wakes);
    wakes.timer = (struct io_timer){.fire = on_first, .ctx = &wakes};
    assert_int_equal(io_timer_start(place->server, &wakes.timer, 0), 0);
    place->run(place);
    assert_int_equal(wakes.wakes, 5);
    assert_in_range(wakes.tails, 4, 5);
    io_loop_on_wake(place->server, NULL, NULL);
    io_loop_on_tail(place->server, NULL, NULL);
    assert_null(io_loop_current());
}

/* File operations and work go to the disk workers and come back on the loop. */
enum { DISK_OPS = 64, DISK_BLOCK = 1000 };

struct disk_case {
    struct loop_place *place;
    struct io_file *file;
    struct io_op ops[DISK_OPS];
    struct iovec parts[DISK_OPS];
    uint8_t data[DISK_OPS][DISK_BLOCK];
    struct io_work work;
    struct io_timer timer;
    unsigned done;
    bool ran;
};

static void submit_all(struct disk_case *disk, enum io_op_kind kind, void (*done)(struct io_op *op))
{
    disk->done = 0;
    for (unsigned i = 0; i < DISK_OPS; i++) {
        disk->parts[i] = (struct iovec){disk->data[i], DISK_BLOCK};
        disk->ops[i] = (struct io_op){.kind = kind,
                                      .file = disk->file,
                                      .parts = &disk->parts[i],
                                      .count = 1,
                                      .offset = i * DISK_BLOCK,
                                      .done = done,
                                      .ctx = disk};
        io_loop_submit(disk->place->server, &disk->ops[i]);
    }
}

static void on_worked(struct io_work *work)
{
    struct disk_case *disk = work->ctx;
    assert_true(disk->ran);
    loop_case_done(disk->place);
}

static void run_work(struct io_work *work)
{
    struct disk_case *disk = work->ctx;
    disk->ran = true;
}

static void on_read(struct io_op *op)
{
    struct disk_case *disk = op->ctx;
    assert_int_equal(op->result, DISK_BLOCK);
    uint8_t *data = op->parts[0].iov_base;
    for (unsigned i = 0; i < DISK_BLOCK; i++)
        assert_int_equal(data[i], op->offset / DISK_BLOCK + 1);
    if (++disk->done < DISK_OPS)
        return;
    disk->work = (struct io_work){.run = run_work, .done = on_worked, .ctx = disk};
    io_loop_work(disk->place->server, &disk->work);
}

static void on_synced(struct io_op *op)
{
    struct disk_case *disk = op->ctx;
    assert_int_equal(op->result, 0);
    memset(disk->data, 0, sizeof(disk->data));
    submit_all(disk, IO_OP_READ, on_read);
}

static void on_written(struct io_op *op)
{
    struct disk_case *disk = op->ctx;
    assert_int_equal(op->result, DISK_BLOCK);
    if (++disk->done < DISK_OPS)
        return;
    disk->ops[0] = (struct io_op){.kind = IO_OP_SYNC, .file = disk->file, .done = on_synced, .ctx = disk};
    io_loop_submit(disk->place->server, &disk->ops[0]);
}

void case_disk(struct loop_place *place)
{
    struct disk_case *disk = mem_zalloc(sizeof(*disk));
    disk->place = place;
    assert_int_equal(io_fs_open(place->fs, "ops", IO_OPEN_WRITE | IO_OPEN_CREATE, &disk->file), 0);
    for (unsigned i = 0; i < DISK_OPS; i++)
        memset(disk->data[i], (int)i + 1, DISK_BLOCK);
    submit_all(disk, IO_OP_WRITE, on_written);
    place->run(place);
    assert_true(disk->ran);
    io_file_close(disk->file);
    mem_free(disk);
}

/* Echo: each client sends a stream of random bytes and compares what comes back. Both sides read and write in
 * odd portions, pause reading while they have a backlog, and close at the end. */
enum { ECHO_BUFFER = 8192 };

struct echo_server_stream {
    struct echo *echo;
    struct io_stream *stream;
    uint8_t buffer[ECHO_BUFFER];
    size_t len, sent;
    bool ended;
};

struct echo_client {
    struct echo *echo;
    struct io_stream *stream;
    struct rng out, in;
    uint64_t sent, received;
    uint8_t pending[3000];
    size_t pending_len, pending_sent;
};

struct echo {
    struct loop_place *place;
    struct io_listener *listener;
    char address[64];
    unsigned clients, finished;
    uint64_t bytes; /* each client sends */
    unsigned server_streams;
    struct echo_client *client;
};

static void echo_check_done(struct echo *echo)
{
    if (echo->finished == echo->clients && echo->server_streams == 0)
        loop_case_done(echo->place);
}

static void server_ready(void *ctx, unsigned events)
{
    struct echo_server_stream *server = ctx;
    if (events & IO_READABLE && server->len == 0) {
        ssize_t got = io_stream_read(server->stream, server->buffer, sizeof(server->buffer));
        if (got == 0) {
            struct echo *echo = server->echo;
            io_stream_close(server->stream);
            mem_free(server);
            echo->server_streams--;
            echo_check_done(echo);
            return;
        }
        assert_true(got > 0 || got == CLYMQ_EAGAIN);
        server->len = got > 0 ? (size_t)got : 0;
    }
    if (server->sent < server->len) {
        size_t half = (server->len - server->sent) / 2;
        struct iovec parts[2] = {{server->buffer + server->sent, half},
                                 {server->buffer + server->sent + half, server->len - server->sent - half}};
        ssize_t wrote = io_stream_writev(server->stream, parts, 2);
        assert_true(wrote > 0 || wrote == CLYMQ_EAGAIN);
        server->sent += wrote > 0 ? (size_t)wrote : 0;
        if (server->sent == server->len)
            server->sent = server->len = 0;
    }
    io_stream_watch(server->stream, server->len ? IO_WRITABLE : IO_READABLE);
}

static void on_accept(void *ctx, struct io_socket *socket)
{
    struct echo *echo = ctx;
    struct echo_server_stream *server = mem_zalloc(sizeof(*server));
    server->echo = echo;
    assert_int_equal(io_stream_open(echo->place->server, socket,
                                    (struct io_stream_handler){server_ready, server}, &server->stream),
                     0);
    assert_non_null(strchr(io_stream_peer(server->stream), ':'));
    assert_int_equal(io_stream_status(server->stream), 0);
    io_stream_watch(server->stream, IO_READABLE);
    echo->server_streams++;
}

static void client_send(struct echo_client *client)
{
    if (client->pending_sent == client->pending_len) {
        uint64_t rest = client->echo->bytes - client->sent;
        client->pending_len = rest < sizeof(client->pending) ? (size_t)rest : sizeof(client->pending);
        client->pending_sent = 0;
        for (size_t i = 0; i < client->pending_len; i++)
            client->pending[i] = (uint8_t)rng_next(&client->out);
    }
    if (client->pending_len == 0)
        return;
    struct iovec part = {client->pending + client->pending_sent, client->pending_len - client->pending_sent};
    ssize_t wrote = io_stream_writev(client->stream, &part, 1);
    assert_true(wrote > 0 || wrote == CLYMQ_EAGAIN);
    if (wrote > 0) {
        client->pending_sent += (size_t)wrote;
        client->sent += (size_t)wrote;
    }
}

static void client_ready(void *ctx, unsigned events)
{
    struct echo_client *client = ctx;
    struct echo *echo = client->echo;
    assert_int_equal(io_stream_status(client->stream), 0);
    if (events & IO_READABLE) {
        uint8_t buffer[5000];
        ssize_t got = io_stream_read(client->stream, buffer, sizeof(buffer));
        assert_true(got > 0 || got == CLYMQ_EAGAIN);
        for (ssize_t i = 0; i < got; i++)
            assert_int_equal(buffer[i], (uint8_t)rng_next(&client->in));
        client->received += got > 0 ? (uint64_t)got : 0;
    }
    if (events & IO_WRITABLE)
        client_send(client);
    if (client->received == echo->bytes) {
        io_stream_close(client->stream);
        client->stream = NULL;
        echo->finished++;
        echo_check_done(echo);
        return;
    }
    io_stream_watch(client->stream, client->sent < echo->bytes ? IO_READABLE | IO_WRITABLE : IO_READABLE);
}

static void run_echo(struct loop_place *place, unsigned clients, uint64_t bytes)
{
    struct echo echo = {.place = place, .clients = clients, .bytes = bytes};
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", on_accept, &echo, &echo.listener), 0);
    assert_int_equal(io_listener_address(echo.listener, echo.address, sizeof(echo.address)), 0);
    echo.client = mem_calloc(clients, sizeof(*echo.client));
    for (unsigned i = 0; i < clients; i++) {
        struct echo_client *client = &echo.client[i];
        client->echo = &echo;
        rng_seed(&client->out, i);
        rng_seed(&client->in, i);
        assert_int_equal(io_loop_connect(place->client, echo.address,
                                         (struct io_stream_handler){client_ready, client}, &client->stream),
                         0);
        assert_int_equal(io_stream_status(client->stream), CLYMQ_EAGAIN);
        assert_int_equal(io_stream_read(client->stream, &(char){0}, 1), CLYMQ_EAGAIN);
        assert_string_equal(io_stream_peer(client->stream), echo.address);
        io_stream_watch(client->stream, IO_WRITABLE);
    }
    place->run(place);
    assert_int_equal(echo.finished, clients);
    io_listener_close(echo.listener);
    mem_free(echo.client);
}

void case_echo(struct loop_place *place)
{
    run_echo(place, 3, 3000000);
}

void case_echo_many(struct loop_place *place)
{
    run_echo(place, 300, 5000);
}

/* A file sent to a slow reader arrives whole; sending at its end answers 0. */
enum { FILE_LEN = 2000000 };

struct file_case {
    struct loop_place *place;
    struct io_file *file;
    struct io_stream *sender, *receiver;
    uint64_t sent, received;
    struct rng expected;
};

static void file_sender_ready(void *ctx, unsigned events)
{
    struct file_case *file = ctx;
    ssize_t sent = io_stream_send_file(file->sender, file->file, file->sent, FILE_LEN);
    assert_true(sent >= 0 || sent == CLYMQ_EAGAIN);
    file->sent += sent > 0 ? (uint64_t)sent : 0;
    if (sent == 0) {
        assert_int_equal(file->sent, FILE_LEN);
        io_stream_close(file->sender);
    }
}

static void on_accept_file(void *ctx, struct io_socket *socket)
{
    struct file_case *file = ctx;
    assert_int_equal(io_stream_open(file->place->server, socket,
                                    (struct io_stream_handler){file_sender_ready, file}, &file->sender),
                     0);
    io_stream_watch(file->sender, IO_WRITABLE);
}

static void file_receiver_ready(void *ctx, unsigned events)
{
    struct file_case *file = ctx;
    uint8_t buffer[30000];
    ssize_t got = io_stream_read(file->receiver, buffer, sizeof(buffer));
    assert_true(got >= 0 || got == CLYMQ_EAGAIN);
    for (ssize_t i = 0; i < got; i++)
        assert_int_equal(buffer[i], (uint8_t)rng_next(&file->expected));
    file->received += got > 0 ? (uint64_t)got : 0;
    if (got == 0) {
        io_stream_close(file->receiver);
        loop_case_done(file->place);
    }
}

void case_send_file(struct loop_place *place)
{
    struct file_case file = {.place = place};
    rng_seed(&file.expected, 5);
    struct rng rng = file.expected;
    uint8_t *data = mem_alloc(FILE_LEN);
    for (size_t i = 0; i < FILE_LEN; i++)
        data[i] = (uint8_t)rng_next(&rng);
    assert_int_equal(io_fs_replace_file(place->fs, "sent", data, FILE_LEN), 0);
    mem_free(data);
    assert_int_equal(io_fs_open(place->fs, "sent", IO_OPEN_READ, &file.file), 0);
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", on_accept_file, &file, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    assert_int_equal(io_loop_connect(place->client, address,
                                     (struct io_stream_handler){file_receiver_ready, &file}, &file.receiver),
                     0);
    io_stream_watch(file.receiver, IO_READABLE);
    place->run(place);
    assert_int_equal(file.received, FILE_LEN);
    io_listener_close(listener);
    io_file_close(file.file);
}

/* Nobody listens: told through on_ready, once for each of two streams, the second only watched for writing.
 */
struct refused {
    struct loop_place *place;
    struct io_stream *streams[2];
    unsigned told;
};

static void on_refused(struct refused *refused, unsigned which, unsigned events, unsigned expected)
{
    assert_int_equal(events, expected);
    assert_int_equal(io_stream_status(refused->streams[which]), CLYMQ_EUNREACH);
    assert_int_equal(io_stream_read(refused->streams[which], &(char){0}, 1), CLYMQ_EUNREACH);
    io_stream_close(refused->streams[which]);
    if (++refused->told == 2)
        loop_case_done(refused->place);
}

static void refused_0(void *ctx, unsigned events)
{
    on_refused(ctx, 0, events, IO_READABLE | IO_WRITABLE);
}

static void refused_1(void *ctx, unsigned events)
{
    on_refused(ctx, 1, events, IO_WRITABLE);
}

static void accept_none(void *ctx, struct io_socket *socket)
{
    io_socket_close(socket);
}

void case_connect_refused(struct loop_place *place)
{
    struct refused refused = {.place = place};
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", accept_none, NULL, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    io_listener_close(listener); /* its port is free now */
    struct io_stream_handler zero = {refused_0, &refused}, one = {refused_1, &refused};
    assert_int_equal(io_loop_connect(place->client, address, zero, &refused.streams[0]), 0);
    assert_int_equal(io_loop_connect(place->client, address, one, &refused.streams[1]), 0);
    io_stream_watch(refused.streams[0], IO_READABLE | IO_WRITABLE);
    io_stream_watch(refused.streams[1], IO_WRITABLE);
    place->run(place);
    assert_int_equal(refused.told, 2);
}

/* Of two streams that become readable together the first one told closes both: the other is told nothing. */
struct closing {
    struct loop_place *place;
    struct io_stream *accepted[2], *connected[2];
    unsigned accepts, told;
    struct io_timer linger;
};

static void on_linger(struct io_timer *timer)
{
    struct closing *closing = timer->ctx;
    loop_case_done(closing->place);
}

static void closing_ready(void *ctx, unsigned events)
{
    struct closing *closing = ctx;
    closing->told++;
    io_stream_close(closing->connected[0]);
    io_stream_close(closing->connected[1]);
    assert_int_equal(io_timer_start(closing->place->client, &closing->linger, IO_MS(20)), 0);
}

static void ignore_ready(void *ctx, unsigned events)
{
}

static void on_accept_closing(void *ctx, struct io_socket *socket)
{
    struct closing *closing = ctx;
    struct io_stream_handler handler = {ignore_ready, closing};
    assert_int_equal(
        io_stream_open(closing->place->server, socket, handler, &closing->accepted[closing->accepts++]), 0);
    if (closing->accepts < 2)
        return;
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(io_stream_writev(closing->accepted[i], &(struct iovec){"x", 1}, 1), 1);
}

void case_close_in_callback(struct loop_place *place)
{
    struct closing closing = {.place = place};
    closing.linger = (struct io_timer){.fire = on_linger, .ctx = &closing};
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", on_accept_closing, &closing, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    for (unsigned i = 0; i < 2; i++) {
        struct io_stream_handler handler = {closing_ready, &closing};
        assert_int_equal(io_loop_connect(place->client, address, handler, &closing.connected[i]), 0);
        io_stream_watch(closing.connected[i], IO_READABLE);
    }
    place->run(place);
    assert_int_equal(closing.told, 1);
    io_stream_close(closing.accepted[0]);
    io_stream_close(closing.accepted[1]);
    io_stream_close(NULL);
    io_listener_close(listener);
}

/* The peer goes away: what it had sent is read, then the end; writing on fails after a while and raises no
 * signal. */
struct leaving {
    struct loop_place *place;
    struct io_stream *accepted, *connected;
    struct io_file *file;
    size_t received;
    bool ended, failed;
    bool by_file;
};

static void leaving_ready(void *ctx, unsigned events)
{
    struct leaving *leaving = ctx;
    if (!leaving->ended) {
        char buffer[16];
        ssize_t got = io_stream_read(leaving->connected, buffer, sizeof(buffer));
        if (got == CLYMQ_EAGAIN)
            return;
        assert_true(got >= 0);
        leaving->received += (size_t)got;
        leaving->ended = got == 0;
        if (leaving->ended)
            io_stream_watch(leaving->connected, IO_WRITABLE);
        return;
    }
    static char data[10000];
    ssize_t wrote = leaving->by_file
                        ? io_stream_send_file(leaving->connected, leaving->file, 0, sizeof(data))
                        : io_stream_writev(leaving->connected, &(struct iovec){data, sizeof(data)}, 1);
    if (wrote >= 0 || wrote == CLYMQ_EAGAIN)
        return;
    assert_int_equal(wrote, CLYMQ_ECLOSED);
    if (leaving->by_file) {
        leaving->failed = true;
        io_stream_close(leaving->connected);
        loop_case_done(leaving->place);
    }
    leaving->by_file = true; /* once more, by sendfile: no signal either */
}

static void on_accept_leaving(void *ctx, struct io_socket *socket)
{
    struct leaving *leaving = ctx;
    struct io_stream_handler handler = {ignore_ready, leaving};
    assert_int_equal(io_stream_open(leaving->place->server, socket, handler, &leaving->accepted), 0);
    assert_int_equal(io_stream_writev(leaving->accepted, &(struct iovec){"good bye", 8}, 1), 8);
    io_stream_close(leaving->accepted);
}

void case_peer_closes(struct loop_place *place)
{
    struct leaving leaving = {.place = place};
    static uint8_t data[10000];
    assert_int_equal(io_fs_replace_file(place->fs, "file", data, sizeof(data)), 0);
    assert_int_equal(io_fs_open(place->fs, "file", IO_OPEN_READ, &leaving.file), 0);
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", on_accept_leaving, &leaving, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    struct io_stream_handler handler = {leaving_ready, &leaving};
    assert_int_equal(io_loop_connect(place->client, address, handler, &leaving.connected), 0);
    io_stream_watch(leaving.connected, IO_READABLE);
    place->run(place);
    assert_int_equal(leaving.received, 8);
    assert_true(leaving.failed);
    io_listener_close(listener);
    io_file_close(leaving.file);
}

/* A socket is taken from its loop and opened on a second one, which is told of what was not read and of what
 * came meanwhile; the first loop tells nothing more. */
struct detaching {
    struct loop_place *place;
    struct io_listener *listener;
    struct io_stream *connected, *stream;
    struct io_socket *socket;
    struct io_timer timer;
    const char *first; /* what the client sends when it is connected */
    char got[16], peer[64];
    size_t len;
    unsigned told; /* by the first loop */
    bool detached;
};

static void detach(struct detaching *detaching)
{
    assert_false(detaching->detached);
    snprintf(detaching->peer, sizeof(detaching->peer), "%s", io_stream_peer(detaching->stream));
    assert_int_equal(io_stream_detach(detaching->stream, &detaching->socket), 0);
    detaching->detached = true;
}

static void reopen(struct detaching *detaching, void (*on_ready)(void *ctx, unsigned events))
{
    struct io_stream_handler handler = {on_ready, detaching};
    assert_int_equal(io_stream_open(detaching->place->second, detaching->socket, handler, &detaching->stream),
                     0);
    assert_string_equal(io_stream_peer(detaching->stream), detaching->peer);
    assert_int_equal(io_stream_status(detaching->stream), 0);
    io_stream_watch(detaching->stream, IO_READABLE);
}

static void read_some(struct detaching *detaching, size_t most)
{
    ssize_t got = io_stream_read(detaching->stream, detaching->got + detaching->len, most);
    assert_true(got > 0);
    detaching->len += (size_t)got;
}

static void answer_all(void *ctx, unsigned events)
{
    struct detaching *detaching = ctx;
    assert_int_equal(events, IO_READABLE);
    read_some(detaching, sizeof(detaching->got) - detaching->len);
    if (detaching->len < 10)
        return;
    assert_int_equal(io_stream_writev(detaching->stream, &(struct iovec){"!", 1}, 1), 1);
    io_stream_watch(detaching->stream, 0);
}

static void reopen_to_answer(struct io_timer *timer)
{
    reopen(timer->ctx, answer_all);
}

static void read_and_detach(void *ctx, unsigned events)
{
    struct detaching *detaching = ctx;
    detaching->told++;
    read_some(detaching, 1);
    detach(detaching);
    assert_int_equal(io_timer_start(detaching->place->second, &detaching->timer, IO_MS(5)), 0);
}

static void only_count(void *ctx, unsigned events)
{
    ((struct detaching *)ctx)->told++;
}

static void hear_answer(void *ctx, unsigned events)
{
    struct detaching *detaching = ctx;
    char byte;
    if (events & IO_WRITABLE) {
        struct iovec part = {(void *)detaching->first, strlen(detaching->first)};
        assert_int_equal(io_stream_writev(detaching->connected, &part, 1), part.iov_len);
        io_stream_watch(detaching->connected, IO_READABLE);
        return;
    }
    assert_int_equal(io_stream_read(detaching->connected, &byte, 1), 1);
    loop_case_done(detaching->place);
}

static void accept_to_detach(void *ctx, struct io_socket *socket)
{
    struct detaching *detaching = ctx;
    struct io_stream_handler handler = {read_and_detach, detaching};
    assert_int_equal(io_stream_open(detaching->place->server, socket, handler, &detaching->stream), 0);
    io_stream_watch(detaching->stream, IO_READABLE);
}

static void detach_begin(struct detaching *detaching, void (*accepted)(void *ctx, struct io_socket *socket),
                         void (*on_answer)(void *ctx, unsigned events))
{
    struct loop_place *place = detaching->place;
    char address[64];
    assert_int_equal(io_loop_listen(place->server, "127.0.0.1:0", accepted, detaching, &detaching->listener),
                     0);
    assert_int_equal(io_listener_address(detaching->listener, address, sizeof(address)), 0);
    struct io_stream_handler handler = {on_answer, detaching};
    assert_int_equal(io_loop_connect(place->client, address, handler, &detaching->connected), 0);
    detaching->timer.ctx = detaching;
}

static void detach_end(struct detaching *detaching)
{
    io_stream_close(detaching->stream);
    io_stream_close(detaching->connected);
    io_listener_close(detaching->listener);
}

void case_detach_in_callback(struct loop_place *place)
{
    struct detaching detaching = {.place = place, .timer = {.fire = reopen_to_answer}, .first = "0123456789"};
    detach_begin(&detaching, accept_to_detach, hear_answer);
    io_stream_watch(detaching.connected, IO_WRITABLE);
    place->run(place);
    assert_int_equal(detaching.told, 1);
    assert_memory_equal(detaching.got, "0123456789", 10);
    detach_end(&detaching);
}

/* Both directions are watched, and there is something to be told, when another callback takes it away; what
 * comes while no loop has it waits. */
static void reopen_after_more(struct io_timer *timer)
{
    struct detaching *detaching = timer->ctx;
    if (!detaching->detached) {
        io_stream_watch(detaching->stream, IO_READABLE | IO_WRITABLE);
        detach(detaching);
        assert_int_equal(io_stream_writev(detaching->connected, &(struct iovec){"56789", 5}, 1), 5);
        assert_int_equal(io_timer_start(detaching->place->second, timer, IO_MS(5)), 0);
        return;
    }
    reopen(detaching, answer_all);
}

static void accept_to_take_away(void *ctx, struct io_socket *socket)
{
    struct detaching *detaching = ctx;
    struct io_stream_handler handler = {only_count, detaching};
    assert_int_equal(io_stream_open(detaching->place->server, socket, handler, &detaching->stream), 0);
    assert_int_equal(io_timer_start(detaching->place->server, &detaching->timer, IO_MS(5)), 0);
}

void case_detach_outside(struct loop_place *place)
{
    struct detaching detaching = {.place = place, .timer = {.fire = reopen_after_more}, .first = "01234"};
    detach_begin(&detaching, accept_to_take_away, hear_answer);
    io_stream_watch(detaching.connected, IO_WRITABLE);
    place->run(place);
    assert_int_equal(detaching.told, 0);
    assert_memory_equal(detaching.got, "0123456789", 10);
    detach_end(&detaching);
}

/* A socket with an error: the first loop has told of it, the second one tells again. */
static void hear_error(void *ctx, unsigned events)
{
    struct detaching *detaching = ctx;
    char byte;
    assert_true(events & IO_READABLE);
    assert_int_equal(io_stream_read(detaching->stream, &byte, 1), CLYMQ_ECLOSED);
    io_stream_watch(detaching->stream, 0);
    loop_case_done(detaching->place);
}

static void reopen_broken(struct io_timer *timer)
{
    reopen(timer->ctx, hear_error);
}

static void detach_at_error(void *ctx, unsigned events)
{
    struct detaching *detaching = ctx;
    detaching->told++;
    detach(detaching);
    assert_int_equal(io_timer_start(detaching->place->second, &detaching->timer, IO_MS(5)), 0);
}

static void close_unread(void *ctx, unsigned events)
{
    struct detaching *detaching = ctx;
    io_stream_close(detaching->connected); /* with a byte that it has not read: a reset */
    detaching->connected = NULL;
}

static void accept_to_break(void *ctx, struct io_socket *socket)
{
    struct detaching *detaching = ctx;
    struct io_stream_handler handler = {detach_at_error, detaching};
    assert_int_equal(io_stream_open(detaching->place->server, socket, handler, &detaching->stream), 0);
    io_stream_watch(detaching->stream, IO_READABLE);
    assert_int_equal(io_stream_writev(detaching->stream, &(struct iovec){"x", 1}, 1), 1);
}

void case_detach_broken(struct loop_place *place)
{
    struct detaching detaching = {.place = place, .timer = {.fire = reopen_broken}};
    detach_begin(&detaching, accept_to_break, close_unread);
    io_stream_watch(detaching.connected, IO_READABLE);
    place->run(place);
    assert_int_equal(detaching.told, 1);
    detach_end(&detaching);
}

void case_addresses(struct loop_place *place)
{
    struct io_listener *listener, *other;
    struct io_stream *stream;
    struct io_stream_handler handler = {ignore_ready, NULL};
    static const char *const bad[] = {
        "", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x", "127.0.0.1:70000", "127.0.0.1:-1", "[::1:80", "::1:80"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(io_loop_listen(place->server, bad[i], accept_none, NULL, &listener), CLYMQ_EINVAL);
        assert_int_equal(io_loop_connect(place->server, bad[i], handler, &stream), CLYMQ_EINVAL);
    }
    assert_int_equal(io_loop_connect(place->server, ":80", handler, &stream), CLYMQ_EINVAL);
    char address[64];
    assert_int_equal(io_loop_listen(place->server, ":0", accept_none, NULL, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    const char *port = strrchr(address, ':');
    assert_int_equal(io_loop_listen(place->server, port, accept_none, NULL, &other), CLYMQ_EBUSY);
    io_listener_close(listener);
    io_listener_close(NULL);
    assert_int_equal(io_loop_listen(place->server, port, accept_none, NULL, &other), 0);
    io_listener_close(other);
}
