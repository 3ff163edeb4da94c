/* A server: one listener on shard 0, which counts the connections and hands them to the shards. */
#include <assert.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/conn.h"

#define LOG_MODULE "net"
#include "base/log.h"

enum { SEQUENCE_BITS = 40 };

static void count_open(struct net_server *server, int64_t connections)
{
    server->open += connections;
    if (server->config.limits.quota)
        server->config.limits.quota->open += connections;
}

static void assign(struct net_conn *conn, struct net_part *part)
{
    conn->part = part;
    part->assigned++;
}

/* The part that has the fewest; of several, each in its turn. */
static struct net_part *next_part(struct net_server *server)
{
    struct net_part *least = server->parts[server->next++ % server->count];
    for (unsigned i = 0; i < server->count; i++)
        if (server->parts[i]->assigned < least->assigned)
            least = server->parts[i];
    return least;
}

static void on_accept(void *ctx, struct io_socket *socket)
{
    struct net_server *server = ctx;
    const struct net_limits *limits = &server->config.limits;
    struct net_quota *quota = limits->quota;
    bool full = quota && quota->open >= quota->max;
    bool room = !full && server->open < limits->max_connections;
    struct net_conn *conn = room ? mem_zalloc(sizeof(*conn)) : NULL;
    if (!conn) {
        metric_add(server->refused, 1);
        log_limited(LOG_WARN,
                    "%s: refused a connection: %s; %lld are open%s, at most %lld may be (max_connections, "
                    "limit of open files)",
                    server->name, room ? "out of memory" : "too many",
                    (long long)(full ? quota->open : server->open), full ? " on all ports" : "",
                    (long long)(full ? quota->max : limits->max_connections));
        io_socket_close(socket);
        return;
    }
    metric_add(server->accepted, 1);
    conn->server = server;
    conn->id = server->next_id++;
    assign(conn, next_part(server));
    net_moving_init(conn);
    conn->socket = socket;
    conn->state = NET_CONN_ARRIVING;
    struct list *lists[] = {&conn->active,  &conn->receiving, &conn->sending, &conn->flushing,
                            &conn->waiting, &conn->slots,     &conn->oneways};
    for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++)
        list_init(lists[i]);
    list_push_back(&server->all, &conn->all);
    count_open(server, 1);
    conn->message.run = net_conn_arrive;
    shard_send(conn->part->shard, &conn->message);
}

void net_server_conn_closed(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, closed_message);
    struct net_server *server = conn->server;
    count_open(server, -1);
    conn->part->assigned--;
    if (!conn->peer || --conn->peer->count > 0)
        return;
    /* The host's last connection. Its address is fixed, so it may be read here. */
    const char *colon = strrchr(conn->address, ':');
    struct bytes host =
        bytes_of(conn->address, colon ? (size_t)(colon - conn->address) : strlen(conn->address));
    mem_free(map_remove(server->peers, host));
    conn->peer = NULL;
}

void net_server_conn_free(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, free_message);
    assert(conn->state == NET_CONN_CLOSED && conn->calls == 0 && !conn->stream);
    list_remove(&conn->all);
    mem_free(conn->address);
    mem_free(conn);
}

void net_server_forward(struct shard *shard, struct shard_message *message)
{
    struct net_conn *conn = CONTAINER_OF(message, struct net_conn, message);
    struct net_server *server = conn->server;
    if (!server->stopping) {
        conn->part->assigned--;
        assign(conn, conn->toward);
        conn->message.run = net_conn_arrive_again;
        shard_send(conn->part->shard, &conn->message);
        return;
    }
    /* Its new shard may have stopped, and its old one, which it left without a call, has nothing to end. */
    conn->state = NET_CONN_CLOSED;
    io_socket_close(conn->socket);
    conn->socket = NULL;
    metric_add(conn->part->metrics.closed[NET_CLOSE_STOP], 1);
    net_server_conn_closed(shard, &conn->closed_message);
    net_server_conn_free(shard, &conn->free_message);
}

void net_server_part_stopped(struct shard *shard, struct shard_message *message)
{
    struct net_part *part = CONTAINER_OF(message, struct net_part, stopped_message);
    struct net_server *server = part->server;
    assert(server->running > 0);
    if (--server->running > 0)
        return;
    log_info("%s: stopped", server->name);
    if (server->done)
        server->done(server->done_ctx); /* may free server */
}

static int register_metrics(struct net_server *server, struct metrics *metrics)
{
    char labels[160];
    snprintf(labels, sizeof(labels), "server=\"%s\"", server->name);
    server->accepted = server->refused = &server->unused;
    if (!metrics)
        return 0;
    server->accepted = metrics_register(metrics, METRIC_COUNTER, "clymq_net_accepted_total", labels,
                                        "Connections accepted.");
    server->refused = metrics_register(metrics, METRIC_COUNTER, "clymq_net_refused_total", labels,
                                       "Connections closed on accept, because of max_connections.");
    return server->accepted && server->refused ? 0 : CLYMQ_ENOMEM;
}

static bool limits_valid(const struct net_limits *limits)
{
    return limits->max_message_bytes > 0 && limits->max_message_bytes < 1 << 30 &&
           limits->max_connections > 0 && limits->max_connections_per_address >= 0 &&
           limits->max_pipelined_calls > 0 && limits->max_inflight_bytes > 0 &&
           limits->max_connection_inflight_bytes > 0 && limits->call_bytes >= 0 && limits->idle_ms > 0 &&
           limits->receive_ms > 0 && limits->send_ms > 0;
}

static int server_init(struct net_server *server, struct shards *shards,
                       const struct net_server_config *config, struct metrics *metrics)
{
    server->config = *config;
    server->shards = shards;
    server->count = shards_count(shards);
    list_init(&server->all);
    server->address = mem_strdup(config->address);
    server->name = mem_strdup(config->name);
    server->peers = map_new();
    server->parts = mem_calloc(server->count, sizeof(*server->parts));
    if (!server->address || !server->name || !server->peers || !server->parts)
        return CLYMQ_ENOMEM;
    server->config.address = server->address;
    server->config.name = server->name;
    /* Ids of different servers differ by random high bits. */
    struct shard *home = net_server_home(server);
    server->next_id = (rng_next(&home->rng) << SEQUENCE_BITS) + 1;
    int error = register_metrics(server, metrics);
    for (unsigned i = 0; !error && i < server->count; i++)
        error = net_part_new(server, shards_get(shards, i), metrics, &server->parts[i]);
    if (error)
        return error;
    return io_loop_listen(home->loop, server->address, on_accept, server, &server->listener);
}

int net_server_start(struct shards *shards, const struct net_server_config *config, struct metrics *metrics,
                     struct net_server **ret_server)
{
    if (!limits_valid(&config->limits))
        return CLYMQ_EINVAL;
    struct net_server *server = mem_zalloc(sizeof(*server));
    if (!server)
        return CLYMQ_ENOMEM;
    int error = server_init(server, shards, config, metrics);
    if (error) {
        net_server_free(server);
        return error;
    }
    *ret_server = server;
    return 0;
}

int net_server_address(const struct net_server *server, char *out, size_t cap)
{
    return io_listener_address(server->listener, out, cap);
}

/* The error table's sentences are for those who connect. */
const char *net_listen_problem(int error)
{
    switch (error) {
    case CLYMQ_EBUSY:
        return "it is in use by another process";
    case CLYMQ_EUNREACH:
        return "this machine has no such address";
    case CLYMQ_EINVAL:
        return "the host's name is unknown here";
    case CLYMQ_EDENIED:
        return "this user may not: ports below 1024 need a right of their own";
    default:
        return error_sentence(error);
    }
}

void net_server_stop(struct net_server *server, int64_t grace_ms, void (*done)(void *ctx), void *ctx)
{
    assert(!server->stopping && grace_ms >= 0);
    server->stopping = true;
    server->grace_ms = grace_ms;
    server->done = done;
    server->done_ctx = ctx;
    io_listener_close(server->listener);
    server->listener = NULL;
    server->running = server->count;
    for (unsigned i = 0; i < server->count; i++)
        shard_send(server->parts[i]->shard, &server->parts[i]->stop_message);
}

void net_server_free(struct net_server *server)
{
    if (!server)
        return;
    io_listener_close(server->listener);
    for (unsigned i = 0; server->parts && i < server->count; i++)
        if (server->parts[i])
            server->parts[i]->stopped = true; /* a crashed part sends nothing any more */
    count_open(server, -server->open);
    struct list *item;
    while ((item = list_pop_front(&server->all)))
        net_conn_free(CONTAINER_OF(item, struct net_conn, all));
    for (unsigned i = 0; server->parts && i < server->count; i++)
        net_part_free(server->parts[i]);
    size_t at = 0;
    struct map_entry *entry;
    while (server->peers && (entry = map_next(server->peers, &at)))
        mem_free(entry->value);
    map_free(server->peers);
    mem_free(server->parts);
    mem_free(server->address);
    mem_free(server->name);
    mem_free(server);
}
