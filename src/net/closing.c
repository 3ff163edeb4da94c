/* Sockets of connections that have been closed. The kernel frees what waits in a socket while it is closed,
 * up to a millisecond for one that holds megabytes, and hundreds may end at once: a round closes sockets for
 * so long and leaves the others, in order, to the next ones. */
#include "net/conn.h"

enum { ROUND_NS = 200 * 1000 };

/* conn may be gone afterwards. */
static void close_socket(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    uint64_t begun_ns = io_loop_clock_ns(part->shard->loop);
    io_stream_close(conn->stream);
    conn->stream = NULL;
    if (conn->socket)
        io_socket_close(conn->socket);
    conn->socket = NULL;
    part->round_closing_ns += io_loop_clock_ns(part->shard->loop) - begun_ns;
    part->open--;
    metric_set(part->metrics.connections, part->open);
    conn->closed_message.run = net_server_conn_closed;
    shard_send(shards_get(conn->server->shards, 0), &conn->closed_message);
    if (part->draining && part->open == 0)
        net_part_tail_later(part);
    net_conn_release(conn);
}

static bool may_close(struct net_part *part)
{
    net_part_see_round(part);
    return part->round_closing_ns < ROUND_NS;
}

static void on_next_closing(struct io_timer *timer)
{
    struct net_part *part = CONTAINER_OF(timer, struct net_part, next_closing);
    net_part_see_round(part);
    part->round_closing_ns = 0; /* another round, also where the simulated clock stands still */
    while (!list_empty(&part->closing) && may_close(part))
        close_socket(CONTAINER_OF(list_pop_front(&part->closing), struct net_conn, active));
    if (!list_empty(&part->closing)) /* in the place just left, since closing arms no timer: cannot fail */
        (void)io_timer_start(part->shard->loop, timer, 0);
}

void net_closing_add(struct net_conn *conn, bool now)
{
    struct net_part *part = conn->part;
    bool waits = !now && !(list_empty(&part->closing) && may_close(part));
    /* Without memory for the timer nobody would close it later. */
    if (waits && !io_timer_armed(&part->next_closing) &&
        io_timer_start(part->shard->loop, &part->next_closing, 0))
        waits = false;
    if (!waits) {
        close_socket(conn);
        return;
    }
    io_stream_watch(conn->stream, 0);
    list_push_back(&part->closing, &conn->active);
}

void net_closing_init(struct net_part *part)
{
    list_init(&part->closing);
    part->next_closing.fire = on_next_closing;
}
