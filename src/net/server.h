/* Incoming connections: framing, answer order, limits. One struct net_server serves one port over all shards.
 *
 * A connection belongs to one shard (on accept: that which has the fewest) and everything of it happens
 * there, until it moves to the shard that its calls are for (net_call_is_for).
 * Each complete message becomes a struct net_call, given to on_call on the connection's shard; the handler
 * answers it at once or later, on the same shard, in any order: the answers go out in the order of the calls.
 * A call stays valid until it is answered, also when its connection is gone (the answer is then dropped). A
 * client that has closed its sending direction still gets the answers of the calls it made, then the
 * connection ends; that it is gone altogether is only noticed by sending (or after idle_ms).
 *
 * The reader stops when a connection has too many unanswered calls or too much unsent output, and when the
 * server's calls hold too much memory, so that a flooding or never-reading client costs bounded memory and
 * stops nobody else. Each shard has an equal share of max_inflight_bytes. Beyond its share a connection is
 * read only while it has no call outstanding, and one large message (64 KiB) of a shard at a time is let in,
 * so that all go on, one call at a time.
 *
 * A begun message must make progress within receive_ms and come in at 16 KiB/s in the long run. A call's
 * message buffer belongs to the call alone until the handler shares it: what is in it may be changed in
 * place. */
#ifndef CLYMQ_NET_SERVER_H
#define CLYMQ_NET_SERVER_H

#include "base/metrics.h"
#include "net/principal.h"
#include "shard/shard.h"
#include "wire/rpc.h"
#include "wire/thrift.h"

/* A number of connections that several servers share, where descriptors are scarce. Shard 0's. */
struct net_quota {
    int64_t open, max;
};

struct net_limits {
    int64_t max_message_bytes;             /* 16 MiB */
    struct net_quota *quota;               /* beside max_connections; outlives the server; NULL = none */
    int64_t max_connections;               /* 20,000, over all shards */
    int64_t max_connections_per_address;   /* 0 = no limit */
    int64_t max_pipelined_calls;           /* per connection, 1024 */
    int64_t max_inflight_bytes;            /* of messages and answers held, over all connections; 256 MiB */
    int64_t max_connection_inflight_bytes; /* 32 MiB; never less than one message */
    int64_t call_bytes;                    /* counted for each unanswered call: what its handler holds; 0 */
    /* Without traffic and without an unanswered call, or with one of a client that sends no more: closed;
     * 15 min. */
    int64_t idle_ms;
    int64_t receive_ms; /* a begun message must make progress within; 30 s */
    int64_t send_ms;    /* unsent output must make progress within; 30 s */
};
void net_limits_defaults(struct net_limits *limits);

struct net_server;
struct net_conn;

struct net_call {
    struct net_server *server;
    struct shard *shard; /* where it came in and must be answered */
    const struct rpc_method *method;
    struct thrift_form form;
    int32_t sequence;
    struct principal principal;
    struct buf *message; /* the call's own reference: views of the decoded request point into it. Given back
                            when the call is answered */
    struct bytes args;
    void *ctx;             /* the handler's */
    struct net_conn *conn; /* net's own from here; kept until its last call is answered */
    struct list link;
    struct net_output *answer; /* NULL = not answered yet */
};

/* What follows an answer's head: memory, or a range of a file sent without copying. release is called (on the
 * call's shard) once it is sent or dropped: from inside net_call_answer, at the end of a round, or while the
 * connection is being closed (see on_conn_closed for what it may do). Zeroed = none. */
struct net_payload {
    struct slice slice;   /* memory; its reference is taken over */
    struct io_file *file; /* or a file's range */
    uint64_t position;
    size_t len;                 /* of the range; memory has slice.len */
    void (*release)(void *ctx); /* for the file; may be NULL */
    void *ctx;
};

struct net_server_config {
    const char *address; /* HOST:PORT */
    const char *name;    /* for logs and metrics: "broker", "coordinator" */
    unsigned services;   /* mask of enum rpc_service that this port answers */
    struct net_limits limits;
    /* A complete message with a known method. The handler decodes call->args with thrift_decode. */
    void (*on_call)(void *ctx, struct net_call *call);
    /* The client sends no more, and calls of it are unanswered: they are still to be answered, but it may
     * well be gone, so nothing should be waited for on its behalf. May be NULL. It may answer calls. */
    void (*on_conn_input_end)(void *ctx, struct shard *shard, uint64_t conn_id);
    /* The connection of this id is gone (handlers that keep state per connection). May be NULL. Called from
     * inside the closing, which may be in the middle of a round over many connections or of writing answers:
     * it may answer calls, of this connection (which drops the answers) and of others (which are marked for
     * the round's end), since neither closes a connection. It must not wait for the connection's other calls
     * to be ended, nor stop or free the server. */
    void (*on_conn_closed)(void *ctx, struct shard *shard, uint64_t conn_id);
    void *ctx;
};

/* Listens, on shard 0; call it there. Unknown methods are answered with exception 1; malformed and oversized
 * messages with exception 7, and then the connection is closed; what is not of a known form, closes it. */
int net_server_start(struct shards *shards, const struct net_server_config *config, struct metrics *metrics,
                     struct net_server **ret_server);
int net_server_address(const struct net_server *server, char *out, size_t cap);
/* Why one cannot listen somewhere, in words; error is net_server_start's. */
const char *net_listen_problem(int error);
/* Stops accepting; connections without unanswered calls are closed, the others when their last answer is
 * sent, all after grace_ms. done is called on shard 0. */
void net_server_stop(struct net_server *server, int64_t grace_ms, void (*done)(void *ctx), void *ctx);
/* After stop's done, also from inside it (or, in the simulator, after the loops died). Frees unanswered calls
 * too: they must not be answered any more, nor, by another shard, at the same time. Payloads that were not
 * sent are released, so free the server before what their release functions use. NULL is allowed. */
void net_server_free(struct net_server *server);

/* The call's work is done on that shard. A connection whose calls have for a while been small, few at a time
 * and all for one other shard moves there between two calls: what the handler keeps for a connection on its
 * shard must not outlive the connection's calls. To be said on the call's shard, before it is answered. */
void net_call_is_for(struct net_call *call, const struct shard *shard);
/* The id of a call's connection: unique in the process, never 0. */
uint64_t net_call_conn_id(const struct net_call *call);
/* Whether the connection is gone, so that nobody waits for the answer any more (the call must be answered all
 * the same). */
bool net_call_is_abandoned(const struct net_call *call);

/* Answers: response is the method's response struct; payload goes in the place of the STRING field whose ptr
 * is NULL and len is payload->len. Takes over the call and the payload. ONEWAY calls drop the answer. */
void net_call_answer(struct net_call *call, const void *response, struct net_payload *payload);
/* error: the number that goes with the sentence, for programs; 0 = none. */
void net_call_fail(struct net_call *call, enum thrift_exception type, int error, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

#endif
