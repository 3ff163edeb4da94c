/* Sockets of connections that have been closed. The kernel frees what waits in a socket while it is closed,
 * up to a millisecond for one that holds megabytes, and hundreds may end at once: a round closes sockets for
 * about so long and leaves the others, in order, to the next ones. The more there are the more of them a
 * round closes, so that they never become many more than come in 256 rounds.
 *
 * Where all has been read that had come there is little to free, and what the peer still sends would turn a
 * late close into a reset, which takes the last answers from it: that socket is closed at once. */
#include "net/conn.h"

enum { ROUND_NS = 200 * 1000, ROUND_PART = 256 };

/* conn may be gone afterwards. */
static void close_and_report(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    net_conn_close_socket(conn);
    part->open--;
    metric_set(part->metrics.connections, part->open);
    conn->closed_message.run = net_server_conn_closed;
    shard_send(net_server_home(conn->server), &conn->closed_message);
    if (part->draining && part->open == 0)
        net_part_tail_later(part);
    net_conn_release(conn);
}

static void close_in_round(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    uint64_t begun_ns = io_loop_clock_ns(part->shard->loop);
    close_and_report(conn);
    part->round_closing_ns += io_loop_clock_ns(part->shard->loop) - begun_ns;
}

static void close_first(struct net_part *part)
{
    part->closing_count--;
    close_in_round(CONTAINER_OF(list_pop_front(&part->closing), struct net_conn, active));
}

static void on_next_closing(struct io_timer *timer)
{
    struct net_part *part = CONTAINER_OF(timer, struct net_part, next_closing);
    int64_t least = part->closing_count / ROUND_PART;
    net_part_see_round(part);
    part->round_closing_ns = 0; /* also where the simulated clock stands still */
    while (!list_empty(&part->closing) && (least-- > 0 || part->round_closing_ns < ROUND_NS))
        close_first(part);
    if (!list_empty(&part->closing) && io_timer_start(part->shard->loop, timer, 0))
        while (!list_empty(&part->closing))
            close_first(part);
}

void net_closing_add(struct net_conn *conn, bool now)
{
    struct net_part *part = conn->part;
    net_part_see_round(part);
    if (now) {
        close_and_report(conn);
    } else if (list_empty(&part->closing) && (part->round_closing_ns < ROUND_NS ||
                                              io_timer_start(part->shard->loop, &part->next_closing, 0))) {
        close_in_round(conn); /* also without memory for the timer */
    } else {
        io_stream_watch(conn->stream, 0);
        list_push_back(&part->closing, &conn->active);
        part->closing_count++;
    }
}

void net_closing_init(struct net_part *part)
{
    list_init(&part->closing);
    part->next_closing.fire = on_next_closing;
}
