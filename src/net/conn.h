/* The parts of an incoming connection that net/'s own files share: the connection, its calls and their queued
 * answers, and the server's part on each shard. Internal to net/.
 *
 * Life of a connection. Shard 0 accepts, counts and allocates it, keeps it in the server's list `all`, and
 * sends it (as a message) to its shard, where everything else happens. It is closed, and soon after its
 * socket is (closing.c). When that is done it is reported to shard 0, which uncounts it; when its last call
 * is answered, too, it is sent to shard 0 once more and freed there. Between two messages it may move to
 * another shard, through shard 0 (moving.c). Messages of one shard arrive in order,
 * so no report is under way any more when a part tells shard 0 that it has stopped. Whatever happens, every
 * connection is in `all`, which is how net_server_free finds all memory, also that of a crashed simulated
 * process.
 *
 * Nothing here closes a connection from inside a handler's call: answering only marks it for the end of the
 * round (net_part_tail), where answers are written, reading resumes and connections end. */
#ifndef CLYMQ_NET_CONN_H
#define CLYMQ_NET_CONN_H

#include "base/map.h"
#include "net/input.h"
#include "net/server.h"

enum net_close_reason {
    NET_CLOSE_PEER,  /* the other side closed */
    NET_CLOSE_ERROR, /* the network's error */
    NET_CLOSE_IDLE,
    NET_CLOSE_RECEIVE_TIMEOUT,
    NET_CLOSE_SEND_TIMEOUT,
    NET_CLOSE_PROTOCOL, /* bytes that are no message, or a malformed one */
    NET_CLOSE_TOO_BIG,
    NET_CLOSE_NO_MEMORY,
    NET_CLOSE_ADDRESS_LIMIT,
    NET_CLOSE_FILE, /* a file could not be read, or ended within the range promised */
    NET_CLOSE_STOP,
    NET_CLOSE_REASONS
};
const char *net_close_reason_name(enum net_close_reason reason);

/* A queued answer: head, payload, tail. */
struct net_output {
    struct thrift_encoded encoded;
    struct net_payload payload;
    size_t size, sent; /* bytes in all; already written */
};

/* A call together with its answer: one allocation. Its place in conn->slots is the answer's place in the
 * order. */
struct net_slot {
    struct net_call call;
    struct net_output output;
    size_t cost; /* bytes counted as in flight */
    bool oneway; /* no answer: in conn->oneways instead */
};

enum net_conn_state {
    NET_CONN_ARRIVING, /* until its address is admitted, or on its way to another shard; shard 0 has it */
    NET_CONN_OPEN,
    NET_CONN_FINISHING, /* takes no more messages; its answers are still made and sent */
    NET_CONN_LINGERING, /* all is sent; input is discarded for a while, so that closing does not reset what
                           was sent */
    NET_CONN_CLOSED,
};

struct net_conn {
    /* Shard 0's. */
    struct list all;
    struct shard_message message; /* there, to admission and back, to another shard */
    struct shard_message closed_message, free_message;
    struct net_peer *peer;
    bool admitted;

    /* Fixed. */
    struct net_server *server;
    uint64_t id;

    /* Its shard's, while it moves shard 0's. */
    struct net_part *part;
    struct io_socket *socket; /* until opened, and while it moves */
    struct io_stream *stream;
    char *address;
    enum net_conn_state state;
    enum net_close_reason finish_reason; /* FINISHING, LINGERING: what the close will be counted as */
    unsigned watched;
    unsigned busy;      /* callbacks of it under way: not handed back to shard 0 before they end */
    bool paused;        /* reading has stopped for a limit */
    bool blocked;       /* the socket takes no more output for now */
    bool oversized;     /* the message in input is too big: only its header is waited for */
    bool failed;        /* an answer could not be made: close at the end of the round */
    struct list active; /* part->conns; closed, while its socket is open: part->closing */
    struct list receiving, sending, flushing, waiting;
    struct net_input input;
    size_t input_held; /* of input and stash, as counted in part->inflight */
    struct buf *stash; /* what was read and not looked at when reading stopped; from stash_at */
    size_t stash_at;
    struct list slots, oneways;
    int64_t calls;                  /* in both: unanswered, or answered and not sent */
    int64_t inflight;               /* bytes of calls and answers */
    uint64_t active_ns;             /* last traffic */
    uint64_t begun_ns, progress_ns; /* of the begun message */
    uint64_t begun_bytes;
    uint64_t sent_ns;        /* last progress of blocked output */
    uint64_t linger_ns;      /* when lingering began */
    int64_t refused_left;    /* bytes of the refused message that are still to come, as far as it tells */
    struct net_part *toward; /* what its last calls_toward calls were for; NULL = not known */
    uint32_t calls_toward;
    uint32_t patience; /* it moves after so many */
    uint64_t traffic;  /* bytes read and sent since then */
    bool leaving;      /* at the end of the last callback under way */
};

struct net_part_metrics {
    struct metric *connections, *calls, *received, *sent, *inflight, *paused, *moved;
    struct metric *closed[NET_CLOSE_REASONS];
};

/* A server's part on one shard. */
struct net_part {
    struct net_server *server;
    struct shard *shard;
    uint8_t *scratch;          /* NET_SCRATCH_BYTES, for reading */
    uint8_t *gather;           /* NET_GATHER_BYTES, where small answers are put together */
    struct list conns;         /* by last traffic, oldest first */
    struct list receiving;     /* with a begun message, by progress */
    struct list sending;       /* with blocked output, by progress */
    struct list flushing;      /* to look at in the tail */
    struct list waiting;       /* paused by the shard's share of memory */
    struct list large_waiting; /* likewise, in the middle of a large message */
    struct list closing;       /* closed, and their sockets not yet; next_closing is armed just then */
    int64_t closing_count;
    struct net_conn *large;  /* the one connection that may go on in that case */
    bool large_came;         /* its message is there: the next connection's turn once it is answered */
    struct list spare_slots; /* memory of ended calls, for the next ones */
    int64_t spare_count;
    int64_t inflight, inflight_max;
    uint64_t round_ns;             /* the round of events that these are of: */
    size_t round_read, round_sent; /* by all connections: bytes, and what calls cost as bytes; bytes */
    uint64_t round_closing_ns;     /* spent on closing sockets */
    int64_t open;                  /* connections with a socket */
    bool draining, stopped, tail_armed;
    struct shard_tail tail;
    struct io_timer tick, grace, next_closing;
    struct shard_message stop_message, stopped_message;
    struct net_part_metrics metrics;
    struct metric unused; /* stands in where there is no registry */

    int64_t assigned; /* shard 0's: connections that were given to it */
};

enum { NET_GATHER_BYTES = 64 * 1024 };

/* Connections from one host. Shard 0's. */
struct net_peer {
    int64_t count;
};

struct net_server {
    struct net_server_config config;
    char *address, *name;
    struct shards *shards;
    unsigned count;
    struct net_part **parts;

    /* Shard 0's. */
    struct io_listener *listener;
    struct list all; /* every connection that has memory */
    int64_t open;    /* connections accepted and not reported closed */
    unsigned next;   /* the part to look at first for the next connection */
    uint64_t next_id;
    struct map *peers;
    unsigned running; /* parts that have not stopped */
    bool stopping;
    int64_t grace_ms;
    void (*done)(void *ctx);
    void *done_ctx;
    struct metric *accepted, *refused;
    struct metric unused;
};

/* Shard 0. */
static inline struct shard *net_server_home(const struct net_server *server)
{
    return shards_get(server->shards, 0);
}

/* conn.c */
void net_conn_arrive(struct shard *shard, struct shard_message *message);
void net_conn_arrive_again(struct shard *shard, struct shard_message *message);
void net_conn_close(struct net_conn *conn, enum net_close_reason reason);
/* Between these two conn stays allocated whatever is called. */
static inline void net_conn_hold(struct net_conn *conn)
{
    conn->busy++;
}
void net_conn_release(struct net_conn *conn);
/* All that was read of it is answered, and the answers are sent. */
static inline bool net_conn_between_messages(const struct net_conn *conn)
{
    return conn->calls == 0 && !conn->input.partial && !conn->stash;
}
/* Traffic: it is the last one in its part's list. */
void net_conn_touch(struct net_conn *conn);
/* Watches what should be watched and ends what has come to its end; after anything has changed. conn is held.
 */
void net_conn_settle(struct net_conn *conn);
void net_conn_resume(struct net_conn *conn);
/* The socket alone, of a closed one or one that is freed. */
void net_conn_close_socket(struct net_conn *conn);
/* Frees all memory of a connection whose loop is dead or which is closed. Payloads are released. */
void net_conn_free(struct net_conn *conn);

/* moving.c */
void net_moving_init(struct net_conn *conn);
/* Between messages: whether conn, which is held, leaves for another shard when it is released. */
void net_moving_consider(struct net_conn *conn);
/* Does so, if that is still possible. true: conn is not this shard's any more. */
bool net_moving_leave(struct net_conn *conn);

/* closing.c */
/* conn has just been closed: closes its socket and reports it, now or in one of the next rounds, and then
 * releases conn. Now: also where the round has done its share of that. */
void net_closing_add(struct net_conn *conn, bool now);
void net_closing_init(struct net_part *part);

/* call.c */
/* Makes calls of a message, which it takes over. false: conn was closed. */
bool net_call_receive(struct net_conn *conn, struct net_message *message);
/* Answers a message that is too big, of which only the start is there; nothing more is read from conn.
 * CLYMQ_EAGAIN: start is too short. */
int net_call_refuse(struct net_conn *conn, struct bytes start);
/* Answers a malformed one, likewise; as far as it can be told whose answer that is. CLYMQ_EPROTO: it cannot.
 */
int net_call_reject(struct net_conn *conn, struct bytes start);
/* Frees a slot with all it holds, after its answer is sent or when it never will be. */
void net_slot_end(struct net_slot *slot);
static inline struct net_slot *net_slot_of(struct list *link)
{
    return CONTAINER_OF(CONTAINER_OF(link, struct net_call, link), struct net_slot, call);
}

/* output.c */
void net_payload_drop(struct net_payload *payload);
/* Bytes of memory that a queued answer holds. */
size_t net_output_cost(const struct net_output *output);
/* Writes answers, in order, until none is ready or the socket is full. conn is held and may be closed by it.
 */
void net_output_flush(struct net_conn *conn);

/* limits.c */
void net_limits_count(struct net_conn *conn, int64_t bytes); /* of calls and answers */
void net_limits_hold(struct net_conn *conn);                 /* counts what input and stash hold now */
bool net_limits_may_take(const struct net_conn *conn);       /* another message */
bool net_limits_may_resume(const struct net_conn *conn);
bool net_limits_may_grow(struct net_conn *conn); /* the begun message */
bool net_limits_pressed(const struct net_part *part);
void net_limits_pause(struct net_conn *conn, bool large);
/* Reading conn ends, for a time or for ever: others may have its place. */
void net_limits_unpause(struct net_conn *conn);
void net_limits_yield(struct net_conn *conn);
void net_limits_resume(struct net_part *part);
/* Begins, goes on or ends counting the time that the begun message takes. */
void net_limits_receiving(struct net_conn *conn, size_t bytes);
/* Closes what has used up its time. */
void net_limits_tick(struct net_part *part);

/* part.c */
int net_part_new(struct net_server *server, struct shard *shard, struct metrics *metrics,
                 struct net_part **ret_part);
void net_part_free(struct net_part *part);
/* Where another round has begun, counts what is counted by the round anew. */
void net_part_see_round(struct net_part *part);
/* How much one connection may move in this round: most, but only least once all of them together have had
 * their share of it (so that who has little to say waits for little). */
size_t net_part_allowance(struct net_part *part, const size_t *moved, size_t most, size_t least);
/* conn will be looked at in the tail of the round. */
void net_part_flush_later(struct net_conn *conn);
void net_part_tail_later(struct net_part *part);
int net_part_keep_time(struct net_part *part);
void net_part_stop(struct shard *shard, struct shard_message *message);
static inline uint64_t net_part_now(const struct net_part *part)
{
    return io_loop_now_ns(part->shard->loop);
}

/* server.c: messages to shard 0. */
void net_server_admit(struct shard *shard, struct shard_message *message);
void net_server_forward(struct shard *shard, struct shard_message *message);
void net_server_conn_closed(struct shard *shard, struct shard_message *message);
void net_server_conn_free(struct shard *shard, struct shard_message *message);
void net_server_part_stopped(struct shard *shard, struct shard_message *message);

#endif
