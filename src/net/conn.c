/* An incoming connection on its shard: arrival, reading, and its end. conn.h tells its life. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/conn.h"

#define LOG_MODULE "net"
#include "base/log.h"

enum {
    ROUND_BYTES = 64 * 1024, /* read per connection and round, so that others get their turn */
    ROUND_LEAST = 2 * 1024,  /* likewise, where many have much to say */
    CALL_COST = 256,         /* a call takes as long as reading so many bytes, at least */
    READ_LEAST = 256,
    SIZE_GUESSED = 128,       /* of the first message */
    PRESSED_BYTES = 4 * 1024, /* read at once where memory is short: it may have to be kept */
    REFUSAL_BYTES = 1024,     /* the header of a message that is too big must end within */
};

const char *net_close_reason_name(enum net_close_reason reason)
{
    static const char *const names[] = {
        [NET_CLOSE_PEER] = "peer",
        [NET_CLOSE_ERROR] = "error",
        [NET_CLOSE_IDLE] = "idle",
        [NET_CLOSE_RECEIVE_TIMEOUT] = "receive_timeout",
        [NET_CLOSE_SEND_TIMEOUT] = "send_timeout",
        [NET_CLOSE_PROTOCOL] = "protocol",
        [NET_CLOSE_TOO_BIG] = "too_big",
        [NET_CLOSE_NO_MEMORY] = "no_memory",
        [NET_CLOSE_ADDRESS_LIMIT] = "address_limit",
        [NET_CLOSE_FILE] = "file",
        [NET_CLOSE_STOP] = "stop",
    };
    return names[reason];
}

void net_conn_release(struct net_conn *conn)
{
    assert(conn->busy > 0);
    if (--conn->busy > 0 || (conn->leaving && net_moving_leave(conn)))
        return;
    if (conn->state != NET_CONN_CLOSED || conn->calls > 0)
        return;
    if (conn->part->stopped)
        return; /* net_server_free has it */
    conn->free_message.run = net_server_conn_free;
    shard_send(net_server_home(conn->server), &conn->free_message);
}

void net_conn_touch(struct net_conn *conn)
{
    assert(conn->state != NET_CONN_CLOSED);
    conn->active_ns = net_part_now(conn->part);
    list_remove(&conn->active);
    list_push_back(&conn->part->conns, &conn->active);
}

static void log_close(const struct net_conn *conn, enum net_close_reason reason)
{
    const char *address = conn->address ? conn->address : "?";
    const char *name = net_close_reason_name(reason);
    switch (reason) {
    case NET_CLOSE_PEER:
    case NET_CLOSE_ERROR:
    case NET_CLOSE_IDLE:
    case NET_CLOSE_STOP:
        log_debug("%s: connection of %s closed: %s", conn->server->name, address, name);
        break;
    case NET_CLOSE_PROTOCOL:
        log_limited(LOG_WARN, "%s: closed the connection of %s, which does not speak the RPC protocol",
                    conn->server->name, address);
        break;
    case NET_CLOSE_FILE:
        log_limited(
            LOG_ERROR,
            "%s: closed the connection of %s: the log that it was being sent cannot be read; the disk "
            "has an error, or the file was cut",
            conn->server->name, address);
        break;
    default:
        log_limited(LOG_WARN, "%s: closed the connection of %s: %s", conn->server->name, address, name);
    }
}

static void drop_input(struct net_conn *conn)
{
    net_input_clear(&conn->input);
    buf_unref(conn->stash);
    conn->stash = NULL;
    net_limits_hold(conn);
}

/* Answers that will not be sent; unanswered calls stay. Giving back a payload may end other calls of the
 * connection, so all are taken out before the first is ended. */
static void drop_answers(struct net_conn *conn)
{
    struct list dropped;
    list_init(&dropped);
    LIST_FOR_EACH_SAFE(item, &conn->slots)
        if (net_slot_of(item)->call.answer) {
            list_remove(item);
            list_push_back(&dropped, item);
        }
    while (!list_empty(&dropped))
        net_slot_end(net_slot_of(dropped.next));
}

/* drained: with all read that had come. */
static void close_conn(struct net_conn *conn, enum net_close_reason reason, bool drained)
{
    if (conn->state == NET_CONN_CLOSED)
        return;
    struct net_part *part = conn->part;
    net_conn_hold(conn);
    log_close(conn, reason);
    /* Who is not admitted takes nobody's place meanwhile. */
    bool now = drained || conn->state == NET_CONN_ARRIVING;
    conn->state = NET_CONN_CLOSED;
    net_limits_unpause(conn);
    list_remove(&conn->active);
    list_remove(&conn->receiving);
    list_remove(&conn->sending);
    list_remove(&conn->flushing);
    drop_input(conn);
    drop_answers(conn);
    net_limits_yield(conn);
    metric_set(part->metrics.inflight, part->inflight);
    metric_add(part->metrics.closed[reason], 1);
    const struct net_server_config *config = &conn->server->config;
    if (config->on_conn_closed)
        config->on_conn_closed(config->ctx, part->shard, conn->id);
    net_closing_add(conn, now);
}

void net_conn_close(struct net_conn *conn, enum net_close_reason reason)
{
    close_conn(conn, reason, false);
}

void net_conn_close_socket(struct net_conn *conn)
{
    io_stream_close(conn->stream);
    conn->stream = NULL;
    if (conn->socket)
        io_socket_close(conn->socket);
    conn->socket = NULL;
}

void net_conn_free(struct net_conn *conn)
{
    net_conn_close_socket(conn);
    conn->state = NET_CONN_CLOSED;
    conn->part->stopped = true; /* also in a crashed process: nothing is sent any more */
    drop_input(conn);
    while (!list_empty(&conn->slots))
        net_slot_end(net_slot_of(conn->slots.next));
    while (!list_empty(&conn->oneways))
        net_slot_end(net_slot_of(conn->oneways.next));
    mem_free(conn->address);
    mem_free(conn);
}

/* Keeps what was read and must not be looked at before reading goes on. */
static int keep(struct net_conn *conn, struct bytes span)
{
    if (conn->stash) {
        conn->stash_at = (size_t)(span.ptr - conn->stash->data);
        return 0;
    }
    if (span.len == 0)
        return 0;
    conn->stash = buf_new(span.len);
    if (!conn->stash)
        return CLYMQ_ENOMEM;
    memcpy(conn->stash->data, span.ptr, span.len);
    conn->stash->len = span.len;
    conn->stash_at = 0;
    return 0;
}

/* The first bytes of the message that input and span begin with, at most REFUSAL_BYTES. */
static size_t collect_start(const struct net_conn *conn, struct bytes span, uint8_t *out)
{
    const struct buf *partial = conn->input.partial;
    size_t len = partial ? (partial->len < REFUSAL_BYTES ? partial->len : REFUSAL_BYTES) : 0;
    if (len)
        memcpy(out, partial->data, len);
    size_t more = span.len < REFUSAL_BYTES - len ? span.len : REFUSAL_BYTES - len;
    memcpy(out + len, span.ptr, more);
    return len + more;
}

/* The message is too big. Answers it as soon as its header is there; until then its start is collected in
 * input. */
static void refuse(struct net_conn *conn, struct bytes span)
{
    uint8_t start[REFUSAL_BYTES];
    struct buf *partial = conn->input.partial;
    size_t len = collect_start(conn, span, start);
    if (!conn->oversized)
        conn->refused_left =
            (int64_t)net_input_declared(bytes_of(start, len)) - (partial ? (int64_t)partial->len : 0);
    conn->refused_left -= (int64_t)span.len;
    conn->oversized = true;
    net_input_clear(&conn->input);
    int error = net_call_refuse(conn, bytes_of(start, len));
    if (error == CLYMQ_EAGAIN && len < sizeof(start)) {
        conn->input.partial = buf_new(sizeof(start));
        if (!conn->input.partial) {
            net_conn_close(conn, NET_CLOSE_NO_MEMORY);
            return;
        }
        memcpy(conn->input.partial->data, start, len);
        conn->input.partial->len = len;
        conn->input.need = len + 1;
    } else if (error) {
        net_conn_close(conn, error == CLYMQ_ENOMEM ? NET_CLOSE_NO_MEMORY : NET_CLOSE_TOO_BIG);
    }
}

/* The message is malformed. Answers it where enough of it can be read for that; nothing more is taken from
 * conn, since where the next message begins is not known. */
static void reject(struct net_conn *conn, struct bytes span)
{
    uint8_t start[REFUSAL_BYTES];
    size_t len = collect_start(conn, span, start);
    net_input_clear(&conn->input);
    conn->refused_left = INT32_MAX;
    int error = net_call_reject(conn, bytes_of(start, len));
    if (error)
        net_conn_close(conn, error == CLYMQ_ENOMEM ? NET_CLOSE_NO_MEMORY : NET_CLOSE_PROTOCOL);
}

/* Hands over the messages in span until none is complete or a limit is reached. */
static void take_messages(struct net_conn *conn, struct bytes span)
{
    const struct net_limits *limits = &conn->server->config.limits;
    while (conn->state == NET_CONN_OPEN) {
        if (conn->oversized) {
            refuse(conn, span);
            break;
        }
        if (!net_limits_may_take(conn)) {
            if (keep(conn, span))
                net_conn_close(conn, NET_CLOSE_NO_MEMORY);
            else
                net_limits_pause(conn, false);
            break;
        }
        struct net_message message;
        int error = net_input_take(&conn->input, &span, (size_t)limits->max_message_bytes, &message);
        if (error == CLYMQ_EAGAIN)
            break;
        if (error == CLYMQ_ETOOBIG) {
            refuse(conn, span);
            break;
        }
        if (error == CLYMQ_EPROTO) {
            reject(conn, span);
            break;
        }
        if (error) {
            net_conn_close(conn, NET_CLOSE_NO_MEMORY);
            break;
        }
        if (conn->part->large == conn)
            conn->part->large_came = true;
        conn->part->round_read += CALL_COST;
        conn->begun_ns = 0; /* the next message's time begins when it begins */
        net_call_receive(conn, &message);
    }
}

/* The client sends no more. It may well go on reading (shutdown(2) of one direction), and whether it does
 * cannot be told: what it asked for is answered before the connection ends. */
static void hear_end(struct net_conn *conn)
{
    if (conn->calls == 0) {
        close_conn(conn, NET_CLOSE_PEER, true);
        return;
    }
    conn->state = NET_CONN_FINISHING;
    conn->finish_reason = NET_CLOSE_PEER;
    drop_input(conn);
    net_limits_receiving(conn, 0);
    const struct net_server_config *config = &conn->server->config;
    if (config->on_conn_input_end)
        config->on_conn_input_end(config->ctx, conn->part->shard, conn->id);
}

/* What may be read at once so that the calls in it, if they are as small as the last one, cost `left`: short
 * calls take the time, not their bytes. */
static size_t read_most(const struct net_input *input, size_t left)
{
    size_t size = input->last_size ? input->last_size : SIZE_GUESSED;
    size_t most = (size_t)((uint64_t)left * size / (size + CALL_COST));
    return most < READ_LEAST ? READ_LEAST : most;
}

static void read_round(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    size_t most = net_part_allowance(part, &part->round_read, ROUND_BYTES, ROUND_LEAST);
    size_t before = part->round_read, bytes = 0;
    while (conn->state == NET_CONN_OPEN && !conn->paused && part->round_read - before < most) {
        bool may_take = net_limits_may_take(conn);
        if (!may_take || !net_limits_may_grow(conn)) {
            net_limits_pause(conn, may_take && conn->calls == 0);
            break;
        }
        struct bytes span;
        bool full;
        conn->input.frugal = net_limits_pressed(part);
        conn->input.most = read_most(&conn->input, most - (part->round_read - before));
        ssize_t count = net_input_read(&conn->input, conn->stream, part->scratch,
                                       conn->input.frugal ? PRESSED_BYTES : NET_SCRATCH_BYTES, &span, &full);
        if (count == CLYMQ_EAGAIN)
            break;
        if (count == 0) {
            hear_end(conn);
            break;
        }
        if (count < 0) {
            net_conn_close(conn, count == CLYMQ_ENOMEM ? NET_CLOSE_NO_MEMORY : NET_CLOSE_ERROR);
            return;
        }
        bytes += (size_t)count;
        part->round_read += (size_t)count;
        take_messages(conn, span);
        if (conn->state == NET_CONN_CLOSED)
            break;
        net_limits_hold(conn);
        net_limits_receiving(conn, (size_t)count);
        if (!full)
            break;
    }
    if (bytes > 0) {
        metric_add(part->metrics.received, (int64_t)bytes);
        conn->traffic += bytes;
        if (conn->state != NET_CONN_CLOSED)
            net_conn_touch(conn);
    }
}

/* Reads and drops, so that closing the socket does not reset the connection before the client has read our
 * last answer. */
static void discard_round(struct net_conn *conn)
{
    for (size_t round = 0; round < ROUND_BYTES;) {
        ssize_t count = io_stream_read(conn->stream, conn->part->scratch, NET_SCRATCH_BYTES);
        if (count == CLYMQ_EAGAIN) {
            /* A stopping server waits for nobody who is silent; after a refusal the rest of the message is
             * awaited. */
            if (conn->finish_reason == NET_CLOSE_STOP || conn->refused_left <= 0)
                close_conn(conn, conn->finish_reason, true);
            return;
        }
        if (count <= 0) {
            close_conn(conn, conn->finish_reason, count == 0);
            return;
        }
        round += (size_t)count;
        conn->refused_left -= count;
        metric_add(conn->part->metrics.received, count);
        net_conn_touch(conn);
    }
}

static void linger(struct net_conn *conn)
{
    conn->state = NET_CONN_LINGERING;
    conn->linger_ns = conn->active_ns = net_part_now(conn->part);
    net_limits_unpause(conn);
    drop_input(conn);
    list_remove(&conn->receiving);
    list_push_back(&conn->part->receiving, &conn->receiving);
    discard_round(conn);
}

void net_conn_resume(struct net_conn *conn)
{
    if (conn->state != NET_CONN_OPEN || !conn->paused)
        return;
    net_limits_unpause(conn);
    struct buf *stash = conn->stash;
    if (!stash) {
        net_limits_receiving(conn, 0);
        return;
    }
    take_messages(conn, bytes_of(stash->data + conn->stash_at, stash->len - conn->stash_at));
    if (conn->state == NET_CONN_CLOSED)
        return;
    if (!conn->paused) { /* used up, or its rest is in input by now */
        buf_unref(conn->stash);
        conn->stash = NULL;
    }
    net_limits_hold(conn);
    net_limits_receiving(conn, conn->input.partial ? conn->input.partial->len : 0);
}

static void watch(struct net_conn *conn)
{
    unsigned wanted = conn->blocked ? IO_WRITABLE : 0;
    if (conn->state == NET_CONN_LINGERING)
        wanted |= IO_READABLE;
    else if (conn->state == NET_CONN_OPEN && !conn->paused && (!conn->part->draining || conn->input.partial))
        wanted |= IO_READABLE;
    if (wanted == conn->watched)
        return;
    conn->watched = wanted;
    io_stream_watch(conn->stream, wanted);
}

void net_conn_settle(struct net_conn *conn)
{
    if (conn->state == NET_CONN_CLOSED || conn->state == NET_CONN_ARRIVING)
        return;
    if (conn->paused) {
        if (net_limits_may_resume(conn))
            net_conn_resume(conn);
        else if (list_empty(&conn->waiting))
            net_limits_pause(conn, conn->calls == 0);
    }
    if (conn->state == NET_CONN_OPEN && conn->part->draining && net_conn_between_messages(conn)) {
        conn->state = NET_CONN_FINISHING;
        conn->finish_reason = NET_CLOSE_STOP;
    }
    if (conn->state == NET_CONN_FINISHING && conn->calls == 0)
        linger(conn);
    if (conn->state == NET_CONN_CLOSED)
        return;
    net_limits_yield(conn);
    watch(conn);
    net_moving_consider(conn);
}

static void on_ready(void *ctx, unsigned events)
{
    struct net_conn *conn = ctx;
    net_conn_hold(conn);
    /* An error is told as IO_READABLE, also where only room to write is waited for: writing finds it, too. */
    if (events & IO_WRITABLE || !(conn->watched & IO_READABLE))
        net_output_flush(conn);
    if (events & IO_READABLE && conn->state == NET_CONN_OPEN)
        read_round(conn);
    else if (events & IO_READABLE && conn->state == NET_CONN_LINGERING)
        discard_round(conn);
    net_conn_settle(conn);
    if (!io_timer_armed(&conn->part->tick))
        net_part_keep_time(conn->part);
    net_conn_release(conn);
}

static void conn_open(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    net_conn_hold(conn);
    conn->state = NET_CONN_OPEN;
    net_conn_touch(conn);
    if (net_part_keep_time(part))
        net_conn_close(conn, NET_CLOSE_NO_MEMORY);
    net_conn_settle(conn);
    net_conn_release(conn);
}

static void net_conn_admitted(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, message);
    if (conn->admitted)
        conn_open(conn);
    else
        net_conn_close(conn, NET_CLOSE_ADDRESS_LIMIT);
}

/* false: conn was closed. */
static bool open_socket(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    part->open++;
    metric_set(part->metrics.connections, part->open);
    struct io_stream_handler handler = {on_ready, conn};
    if (io_stream_open(part->shard->loop, conn->socket, handler, &conn->stream)) {
        net_conn_close(conn, NET_CLOSE_NO_MEMORY);
        return false;
    }
    conn->socket = NULL;
    return true;
}

void net_conn_arrive_again(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, message);
    if (open_socket(conn))
        conn_open(conn);
}

void net_conn_arrive(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, message);
    if (!open_socket(conn))
        return;
    conn->address = mem_strdup(io_stream_peer(conn->stream));
    if (!conn->address) {
        net_conn_close(conn, NET_CLOSE_NO_MEMORY);
        return;
    }
    if (conn->server->config.limits.max_connections_per_address > 0) {
        conn->message.run = net_server_admit;
        shard_send(net_server_home(conn->server), &conn->message);
        return;
    }
    conn_open(conn);
}

/* Shard 0 decides, then the connection comes back. */
void net_server_admit(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, message);
    struct net_server *server = conn->server;
    const char *colon = strrchr(conn->address, ':');
    struct bytes host =
        bytes_of(conn->address, colon ? (size_t)(colon - conn->address) : strlen(conn->address));
    struct net_peer *peer = map_get(server->peers, host);
    if (!peer) {
        peer = mem_zalloc(sizeof(*peer));
        if (peer && map_put(server->peers, host, peer)) {
            mem_free(peer);
            peer = NULL;
        }
    }
    if (peer && peer->count < server->config.limits.max_connections_per_address) {
        peer->count++;
        conn->peer = peer;
        conn->admitted = true;
    }
    conn->message.run = net_conn_admitted;
    shard_send(conn->part->shard, &conn->message);
}
