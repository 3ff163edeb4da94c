/* A server's part on one shard: what happens at the end of a round of events, the coarse clock, and stopping.
 */
#include <assert.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/conn.h"

enum { TICK_MAX_MS = 1000, TICK_MIN_MS = 10 };

static int64_t tick_ms(const struct net_limits *limits)
{
    int64_t least = limits->idle_ms < limits->receive_ms ? limits->idle_ms : limits->receive_ms;
    least = limits->send_ms < least ? limits->send_ms : least;
    least /= 4;
    return least < TICK_MIN_MS ? TICK_MIN_MS : least > TICK_MAX_MS ? TICK_MAX_MS : least;
}

int net_part_keep_time(struct net_part *part)
{
    if (io_timer_armed(&part->tick) || part->stopped)
        return 0;
    return io_timer_start(part->shard->loop, &part->tick, IO_MS(tick_ms(&part->server->config.limits)));
}

static void on_tick(struct io_timer *timer)
{
    struct net_part *part = CONTAINER_OF(timer, struct net_part, tick);
    (void)net_part_keep_time(part); /* in the place just left: what follows might take it */
    net_limits_tick(part);
    if (part->open == 0)
        io_timer_stop(part->shard->loop, &part->tick);
}

enum { ROUND_BYTES = 64 * 1024 };

void net_part_see_round(struct net_part *part)
{
    uint64_t now = net_part_now(part);
    if (now == part->round_ns)
        return;
    part->round_ns = now;
    part->round_read = part->round_sent = 0;
    part->round_closing_ns = 0;
}

size_t net_part_allowance(struct net_part *part, const size_t *moved, size_t most, size_t least)
{
    net_part_see_round(part);
    return *moved < ROUND_BYTES ? most : least;
}

void net_part_tail_later(struct net_part *part)
{
    if (part->tail_armed || part->stopped)
        return;
    part->tail_armed = true;
    shard_at_tail(part->shard, &part->tail);
}

void net_part_flush_later(struct net_conn *conn)
{
    if (conn->state == NET_CONN_CLOSED || !list_empty(&conn->flushing))
        return;
    list_push_back(&conn->part->flushing, &conn->flushing);
    net_part_tail_later(conn->part);
}

/* Nothing of the part is left on its shard: no connection, no timer, nothing in the tail. */
static void stop_if_done(struct net_part *part)
{
    if (!part->draining || part->stopped || part->open > 0)
        return;
    io_timer_stop(part->shard->loop, &part->tick);
    io_timer_stop(part->shard->loop, &part->grace);
    assert(list_empty(&part->closing) && part->closing_count == 0 && !io_timer_armed(&part->next_closing));
    part->stopped = true;
    part->stopped_message.run = net_server_part_stopped;
    shard_send(net_server_home(part->server), &part->stopped_message);
}

static void net_part_tail(struct shard_tail *tail)
{
    struct net_part *part = tail->ctx;
    do {
        struct list *item;
        while ((item = list_pop_front(&part->flushing))) {
            struct net_conn *conn = CONTAINER_OF(item, struct net_conn, flushing);
            net_conn_hold(conn);
            if (conn->failed)
                net_conn_close(conn, NET_CLOSE_NO_MEMORY);
            else
                net_output_flush(conn);
            net_conn_settle(conn);
            net_conn_release(conn);
        }
        net_limits_resume(part);
    } while (!list_empty(&part->flushing));
    part->tail_armed = false;
    metric_set(part->metrics.inflight, part->inflight);
    stop_if_done(part);
}

static void close_all(struct net_part *part)
{
    while (!list_empty(&part->conns))
        net_conn_close(CONTAINER_OF(part->conns.next, struct net_conn, active), NET_CLOSE_STOP);
}

static void on_grace(struct io_timer *timer)
{
    close_all(CONTAINER_OF(timer, struct net_part, grace));
}

void net_part_stop(struct shard *shard, struct shard_message *message)
{
    struct net_part *part = CONTAINER_OF(message, struct net_part, stop_message);
    part->draining = true;
    struct list turn;
    list_init(&turn);
    while (!list_empty(&part->conns)) { /* settling may move it */
        struct list *item = list_pop_front(&part->conns);
        struct net_conn *conn = CONTAINER_OF(item, struct net_conn, active);
        list_push_back(&turn, item);
        net_conn_hold(conn);
        net_conn_settle(conn);
        net_conn_release(conn);
    }
    list_move_all(&turn, &part->conns);
    if (part->open > 0 && io_timer_start(shard->loop, &part->grace, IO_MS(part->server->grace_ms)))
        close_all(part);
    net_part_tail_later(part);
}

static int register_metrics(struct net_part *part, struct metrics *metrics)
{
    struct net_part_metrics *m = &part->metrics;
    struct metric **plain[] = {&m->connections, &m->calls,  &m->received, &m->sent,
                               &m->inflight,    &m->paused, &m->moved};
    static const struct {
        enum metric_type type;
        const char *name, *help;
    } rows[] = {
        {METRIC_GAUGE, "clymq_net_connections", "Incoming connections whose socket is open."},
        {METRIC_COUNTER, "clymq_net_calls_total", "Calls received."},
        {METRIC_COUNTER, "clymq_net_received_bytes_total", "Bytes received from clients."},
        {METRIC_COUNTER, "clymq_net_sent_bytes_total", "Bytes sent to clients."},
        {METRIC_GAUGE, "clymq_net_inflight_bytes", "Bytes of messages and answers held in memory."},
        {METRIC_COUNTER, "clymq_net_paused_total", "Times that reading a connection stopped for a limit."},
        {METRIC_COUNTER, "clymq_net_moved_total",
         "Connections that left for the shard whose partitions they use."},
    };
    char labels[160];
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        *plain[i] = &part->unused;
        snprintf(labels, sizeof(labels), "server=\"%s\",shard=\"%u\"", part->server->name, part->shard->id);
        if (metrics &&
            !(*plain[i] = metrics_register(metrics, rows[i].type, rows[i].name, labels, rows[i].help)))
            return CLYMQ_ENOMEM;
    }
    for (int i = 0; i < NET_CLOSE_REASONS; i++) {
        m->closed[i] = &part->unused;
        snprintf(labels, sizeof(labels), "server=\"%s\",shard=\"%u\",reason=\"%s\"", part->server->name,
                 part->shard->id, net_close_reason_name(i));
        if (metrics && !(m->closed[i] = metrics_register(metrics, METRIC_COUNTER, "clymq_net_closed_total",
                                                         labels, "Connections closed, by reason.")))
            return CLYMQ_ENOMEM;
    }
    return 0;
}

int net_part_new(struct net_server *server, struct shard *shard, struct metrics *metrics,
                 struct net_part **ret_part)
{
    struct net_part *part = mem_zalloc(sizeof(*part));
    if (!part)
        return CLYMQ_ENOMEM;
    part->server = server;
    part->shard = shard;
    part->inflight_max = server->config.limits.max_inflight_bytes / server->count;
    struct list *lists[] = {&part->conns,   &part->receiving,     &part->sending,    &part->flushing,
                            &part->waiting, &part->large_waiting, &part->spare_slots};
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
        list_init(lists[i]);
    net_closing_init(part);
    list_init(&part->tail.link);
    part->tail.run = net_part_tail;
    part->tail.ctx = part;
    part->tick.fire = on_tick;
    part->grace.fire = on_grace;
    part->stop_message.run = net_part_stop;
    part->scratch = mem_alloc(NET_SCRATCH_BYTES);
    part->gather = mem_alloc(NET_GATHER_BYTES);
    if (!part->scratch || !part->gather || register_metrics(part, metrics)) {
        net_part_free(part);
        return CLYMQ_ENOMEM;
    }
    *ret_part = part;
    return 0;
}

void net_part_free(struct net_part *part)
{
    if (!part)
        return;
    list_remove(&part->tail.link); /* armed still, where the process crashed */
    struct list *item;
    while ((item = list_pop_front(&part->spare_slots)))
        mem_free(net_slot_of(item));
    mem_free(part->scratch);
    mem_free(part->gather);
    mem_free(part);
}
