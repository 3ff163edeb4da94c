/* Connections that move to the shard where their work is done.
 *
 * A call for a partition of another shard is handed over twice, there and back, and each time a thread has to
 * be woken. So a connection whose calls have all been for one other shard for a while moves there: between
 * two messages, with no call unanswered, nothing of it is left behind but its place in shard 0's list.
 *
 * Only where latency counts: a connection with many calls under way, or with large ones, is bound by what its
 * shard can do, and all that use one partition would meet on one shard.
 *
 * The way goes through shard 0, which tells the shards to stop: so a connection arrives on a shard before the
 * word to stop does, or is ended by shard 0. And what the connection sent to its new shard before (pushes
 * answered ahead) arrives there before it does: it was sent first. */
#include <assert.h>

#include "base/mem.h"
#include "net/conn.h"

enum {
    CALLS_FIRST = 64, /* so many in a row for one other shard, then it moves; next time after */
    CALLS_GROWTH = 8, /* times as many */
    CALLS_MOST = 1 << 30,
    UNDER_WAY_MOST = 8,          /* calls at a time */
    CALL_BYTES_MOST = 16 * 1024, /* moved for a call, both ways, on the average */
};

void net_moving_init(struct net_conn *conn)
{
    conn->patience = CALLS_FIRST;
}

void net_call_is_for(struct net_call *call, const struct shard *shard)
{
    struct net_conn *conn = call->conn;
    struct net_part *part = conn->server->parts[shard->id];
    if (part != conn->toward || conn->calls > UNDER_WAY_MOST) {
        conn->toward = part;
        conn->calls_toward = 0;
        conn->traffic = 0;
    }
    if (conn->calls_toward < CALLS_MOST)
        conn->calls_toward++;
}

static bool is_small_talk(const struct net_conn *conn)
{
    return conn->traffic / CALL_BYTES_MOST <= conn->calls_toward;
}

static bool may_leave(const struct net_conn *conn)
{
    return conn->state == NET_CONN_OPEN && net_conn_between_messages(conn) && !conn->paused &&
           !conn->blocked && !conn->oversized && !conn->failed && !conn->part->draining && conn->toward &&
           conn->toward != conn->part && conn->calls_toward >= conn->patience && is_small_talk(conn);
}

void net_moving_consider(struct net_conn *conn)
{
    conn->leaving = may_leave(conn);
    if (conn->calls_toward >= conn->patience && !is_small_talk(conn)) {
        conn->calls_toward = 0;
        conn->traffic = 0;
    }
}

bool net_moving_leave(struct net_conn *conn)
{
    struct net_part *part = conn->part;
    assert(conn->busy == 0);
    conn->leaving = false;
    if (!may_leave(conn) || io_stream_detach(conn->stream, &conn->socket) != 0)
        return false;
    conn->stream = NULL;
    conn->watched = 0;
    conn->state = NET_CONN_ARRIVING;
    conn->calls_toward = 0;
    conn->patience = conn->patience < CALLS_MOST / CALLS_GROWTH ? conn->patience * CALLS_GROWTH : CALLS_MOST;
    list_remove(&conn->active);
    list_remove(&conn->flushing);
    assert(list_empty(&conn->receiving) && list_empty(&conn->sending) && list_empty(&conn->waiting));
    net_limits_hold(conn);
    part->open--;
    metric_set(part->metrics.connections, part->open);
    metric_add(part->metrics.moved, 1);
    conn->message.run = net_server_forward;
    shard_send(net_server_home(conn->server), &conn->message);
    return true;
}
