/* What a connection may use: counting bytes in flight, when reading stops and goes on again, and the coarse
 * clock that closes idle, slow and never-reading connections. One timer of a part looks at lists that are
 * ordered by time, so a call costs no timer. */
#include "base/error.h"
#include "net/conn.h"

enum {
    RECEIVE_BYTES_PER_S = 16 * 1024, /* a message must come in as fast as this in the long run */
    LINGER_MS = 10000,               /* at most, and so long without input: */
    LINGER_SILENCE_MS = 2000,
    LINGER_STOP_MS = 1000, /* when the server stops */
};

void net_limits_defaults(struct net_limits *limits)
{
    *limits = (struct net_limits){
        .max_message_bytes = 16 << 20,
        .max_connections = 20000,
        .max_connections_per_address = 0,
        .max_pipelined_calls = 1024,
        .max_inflight_bytes = 256 << 20,
        .max_connection_inflight_bytes = 32 << 20,
        .idle_ms = 15 * 60 * 1000,
        .receive_ms = 30 * 1000,
        .send_ms = 30 * 1000,
    };
}

static const struct net_limits *limits_of(const struct net_conn *conn)
{
    return &conn->server->config.limits;
}

/* Three quarters: reading goes on well below where it stopped, not call by call. */
static int64_t low_mark(int64_t limit)
{
    return limit - (limit + 3) / 4;
}

static void part_count(struct net_part *part, int64_t bytes)
{
    part->inflight += bytes;
    if (bytes < 0 && part->inflight <= low_mark(part->inflight_max) &&
        (!list_empty(&part->waiting) || !list_empty(&part->large_waiting)))
        net_part_tail_later(part);
}

void net_limits_count(struct net_conn *conn, int64_t bytes)
{
    conn->inflight += bytes;
    part_count(conn->part, bytes);
}

void net_limits_hold(struct net_conn *conn)
{
    size_t held = net_input_held(&conn->input) + (conn->stash ? sizeof(struct buf) + conn->stash->cap : 0);
    part_count(conn->part, (int64_t)held - (int64_t)conn->input_held);
    conn->input_held = held;
}

static bool conn_may_take(const struct net_conn *conn)
{
    return conn->calls < limits_of(conn)->max_pipelined_calls &&
           conn->inflight < limits_of(conn)->max_connection_inflight_bytes;
}

static bool conn_may_resume(const struct net_conn *conn)
{
    return conn->calls <= low_mark(limits_of(conn)->max_pipelined_calls) &&
           conn->inflight <= low_mark(limits_of(conn)->max_connection_inflight_bytes);
}

/* Always at least one message of a connection, so that nothing waits for ever. */
bool net_limits_may_take(const struct net_conn *conn)
{
    if (conn->calls == 0)
        return true;
    return conn_may_take(conn) && conn->part->inflight < conn->part->inflight_max;
}

/* A message's first bytes (4 KiB where memory is short) are never refused: no more than those is held per
 * connection beyond the limit. */
static bool may_grow(const struct net_conn *conn)
{
    const struct net_part *part = conn->part;
    size_t growth = net_input_growth(&conn->input);
    return growth == 0 || part->large == conn || part->inflight + (int64_t)growth <= part->inflight_max;
}

bool net_limits_may_resume(const struct net_conn *conn)
{
    if (conn->calls > 0)
        return conn_may_resume(conn) && conn->part->inflight <= low_mark(conn->part->inflight_max);
    return may_grow(conn) || !conn->part->large;
}

bool net_limits_may_grow(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    if (may_grow(conn))
        return true;
    if (part->large)
        return false;
    part->large = conn;
    part->large_came = false;
    return true;
}

bool net_limits_pressed(const struct net_part *part)
{
    return part->inflight >= part->inflight_max / 2;
}

void net_limits_pause(struct net_conn *conn, bool large)
{
    struct net_part *part = conn->part;
    if (!conn->paused)
        metric_add(part->metrics.paused, 1);
    conn->paused = true;
    list_remove(&conn->waiting);
    if (large)
        list_push_back(&part->large_waiting, &conn->waiting);
    else if (conn_may_resume(conn))
        list_push_back(&part->waiting, &conn->waiting);
    /* Otherwise it is its own calls that it waits for: each of them that ends looks at it again. */
    net_limits_receiving(conn, 0);
}

void net_limits_unpause(struct net_conn *conn)
{
    conn->paused = false;
    conn->begun_ns = 0;
    list_remove(&conn->waiting);
}

void net_limits_yield(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    bool needed =
        conn->state != NET_CONN_CLOSED && (conn->calls > 0 || (conn->input.partial && !part->large_came));
    if (part->large != conn || needed)
        return;
    part->large = NULL;
    if (!list_empty(&part->large_waiting))
        net_part_tail_later(part);
}

static void resume_first(struct list *waiting)
{
    struct net_conn *conn = CONTAINER_OF(waiting->next, struct net_conn, waiting);
    net_conn_hold(conn);
    list_remove(&conn->waiting);
    if (conn->calls == 0 || conn_may_resume(conn))
        net_conn_resume(conn);
    net_conn_settle(conn);
    net_conn_release(conn);
}

void net_limits_resume(struct net_part *part)
{
    /* Those that stop again go to the list's end: each is looked at once. */
    struct list *lists[] = {&part->waiting, &part->large_waiting};
    for (int i = 0; i < 2; i++) {
        struct list turn;
        list_init(&turn);
        if (part->inflight > low_mark(part->inflight_max) || list_empty(lists[i]))
            continue;
        turn = *lists[i];
        turn.next->prev = turn.prev->next = &turn;
        list_init(lists[i]);
        while (!list_empty(&turn) && part->inflight <= low_mark(part->inflight_max))
            resume_first(&turn);
        while (!list_empty(&turn)) {
            struct list *last = turn.prev;
            list_remove(last);
            list_push_front(lists[i], last);
        }
    }
    while (!part->large && !list_empty(&part->large_waiting)) {
        part->large = CONTAINER_OF(part->large_waiting.next, struct net_conn, waiting);
        part->large_came = false;
        resume_first(&part->large_waiting);
    }
}

void net_limits_receiving(struct net_conn *conn, size_t bytes)
{
    list_remove(&conn->receiving);
    if (!conn->input.partial || conn->paused || conn->state != NET_CONN_OPEN) {
        conn->begun_ns = 0;
        return;
    }
    uint64_t now = net_part_now(conn->part);
    if (conn->begun_ns == 0) {
        conn->begun_ns = now;
        conn->begun_bytes = 0;
    }
    conn->begun_bytes += bytes;
    conn->progress_ns = now;
    list_push_back(&conn->part->receiving, &conn->receiving);
}

static bool lingered(const struct net_conn *conn, uint64_t now)
{
    if (conn->finish_reason == NET_CLOSE_STOP)
        return now >= conn->linger_ns + IO_MS(LINGER_STOP_MS);
    return now >= conn->linger_ns + IO_MS(LINGER_MS) || now >= conn->active_ns + IO_MS(LINGER_SILENCE_MS);
}

static bool received_too_slowly(const struct net_conn *conn, uint64_t now, uint64_t receive_ns)
{
    uint64_t earned_ns = conn->begun_bytes * 1000000u / RECEIVE_BYTES_PER_S * 1000u;
    return now >= conn->progress_ns + receive_ns || now >= conn->begun_ns + receive_ns + earned_ns;
}

void net_limits_tick(struct net_part *part)
{
    const struct net_limits *limits = &part->server->config.limits;
    uint64_t now = net_part_now(part);
    metric_set(part->metrics.inflight, part->inflight);
    LIST_FOR_EACH_SAFE(item, &part->receiving) {
        struct net_conn *conn = CONTAINER_OF(item, struct net_conn, receiving);
        if (conn->state == NET_CONN_LINGERING) {
            if (lingered(conn, now))
                net_conn_close(conn, conn->finish_reason);
        } else if (received_too_slowly(conn, now, IO_MS(limits->receive_ms))) {
            net_conn_close(conn, conn->oversized ? NET_CLOSE_TOO_BIG : NET_CLOSE_RECEIVE_TIMEOUT);
        }
    }
    while (!list_empty(&part->sending)) {
        struct net_conn *conn = CONTAINER_OF(part->sending.next, struct net_conn, sending);
        if (now < conn->sent_ns + IO_MS(limits->send_ms))
            break;
        net_conn_close(conn, NET_CLOSE_SEND_TIMEOUT);
    }
    while (!list_empty(&part->conns)) {
        struct net_conn *conn = CONTAINER_OF(part->conns.next, struct net_conn, active);
        if (now < conn->active_ns + IO_MS(limits->idle_ms))
            break;
        bool deserted = conn->state == NET_CONN_FINISHING && conn->finish_reason == NET_CLOSE_PEER;
        if (conn->calls > 0 && !deserted)
            net_conn_touch(conn); /* waiting for an answer is not idleness */
        else
            net_conn_close(conn, NET_CLOSE_IDLE);
    }
}
