/* Listening and connecting on the simulated net. A host is a process's name; 127.0.0.1, localhost and the
 * like are the process itself. Ports are each process's own. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/address.h"
#include "io/sim_world.h"

struct sim_listener {
    struct io_listener base;
    struct sim_loop *loop;
    struct sim_process *process;
    struct list link; /* in process->listeners or world->dead_listeners */
    uint16_t port;
    bool dead;
    void (*on_accept)(void *ctx, struct io_socket *socket);
    void *ctx;
};

enum { HOST_MAX = 256, PEER_MAX = HOST_MAX + 8 };

static bool is_own_host(const struct sim_process *process, const char *host)
{
    static const char *const names[] = {"127.0.0.1", "localhost", "::1", "0.0.0.0", "::", ""};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (strcmp(host, names[i]) == 0)
            return true;
    return strcmp(host, process->name) == 0;
}

static struct sim_listener *find_listener(const struct sim_process *process, uint16_t port)
{
    LIST_FOR_EACH(item, &process->listeners) {
        struct sim_listener *listener = CONTAINER_OF(item, struct sim_listener, link);
        if (listener->port == port)
            return listener;
    }
    return NULL;
}

static uint16_t free_port(struct sim_process *process)
{
    do {
        if (++process->next_port < 1024)
            process->next_port = 32768;
    } while (find_listener(process, process->next_port));
    return process->next_port;
}

int sim_listen(struct io_loop *base, const char *address,
               void (*on_accept)(void *ctx, struct io_socket *socket), void *ctx,
               struct io_listener **ret_listener)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead)
        return CLYMQ_EIO;
    struct sim_process *process = loop->process;
    char host[HOST_MAX];
    uint16_t port;
    int error = io_address_split(address, host, sizeof(host), &port);
    if (error || !is_own_host(process, host))
        return CLYMQ_EINVAL;
    if (port == 0)
        port = free_port(process);
    else if (find_listener(process, port))
        return CLYMQ_EBUSY;
    struct sim_listener *listener = mem_zalloc(sizeof(*listener));
    if (!listener)
        return CLYMQ_ENOMEM;
    *listener = (struct sim_listener){.base = {.ops = &sim_loop_ops},
                                      .loop = loop,
                                      .process = process,
                                      .port = port,
                                      .on_accept = on_accept,
                                      .ctx = ctx};
    list_push_back(&process->listeners, &listener->link);
    *ret_listener = &listener->base;
    return 0;
}

void sim_listener_close(struct io_listener *base)
{
    struct sim_listener *listener = CONTAINER_OF(base, struct sim_listener, base);
    list_remove(&listener->link);
    mem_free(listener);
}

int sim_listener_address(struct io_listener *base, char *out, size_t cap)
{
    struct sim_listener *listener = CONTAINER_OF(base, struct sim_listener, base);
    if (listener->dead)
        return CLYMQ_EIO;
    snprintf(out, cap, "%s:%u", listener->process->name, listener->port);
    return 0;
}

static struct sim_process *find_process(struct sim_world *world, const char *name)
{
    LIST_FOR_EACH(item, &world->processes) {
        struct sim_process *process = CONTAINER_OF(item, struct sim_process, link);
        if (strcmp(process->name, name) == 0)
            return process;
    }
    return NULL;
}

static void next_stage(struct sim_conn *conn, enum sim_handshake stage)
{
    conn->stage = stage;
    conn->refs++;
    uint64_t at = conn->world->now_ns + sim_net_delay(conn->world);
    conn->last_arrival_ns[0] = at; /* what the accepting side sends comes later */
    sim_schedule_at(conn->world, &conn->handshake, at);
}

/* The connection reached its listener: the accepted socket is handed over, and the answer is on its way. */
static void accept_conn(struct sim_conn *conn, struct sim_listener *listener)
{
    struct sim_process *caller = conn->ends[0]->process;
    char peer[PEER_MAX];
    snprintf(peer, sizeof(peer), "%s:%u", caller->name, free_port(caller));
    struct sim_end *end = sim_end_new(listener->process, peer);
    if (!end) {
        next_stage(conn, SIM_REFUSED);
        return;
    }
    end->conn = conn;
    end->side = 1;
    end->state = SIM_END_OPEN;
    conn->ends[1] = end;
    conn->refs++;
    next_stage(conn, SIM_ESTABLISHED);
    struct sim_loop *loop = listener->loop;
    struct io_loop *outer = sim_loop_enter(loop);
    listener->on_accept(listener->ctx, &end->socket);
    sim_loop_leave(loop, outer);
}

static void on_handshake(struct sim_event *event)
{
    struct sim_conn *conn = CONTAINER_OF(event, struct sim_conn, handshake);
    struct sim_end *end = conn->ends[0];
    sim_trace(conn->world, SIM_HANDSHAKE, conn->port, (uint64_t)conn->stage);
    if (!end) {
        sim_conn_unref(conn); /* closed meanwhile */
        return;
    }
    if (conn->stage == SIM_SYN) {
        struct sim_process *process = find_process(conn->world, conn->host);
        struct sim_listener *listener = process ? find_listener(process, conn->port) : NULL;
        if (listener)
            accept_conn(conn, listener);
        else
            next_stage(conn, SIM_REFUSED);
    } else {
        end->state = conn->stage == SIM_ESTABLISHED ? SIM_END_OPEN : SIM_END_FAILED;
        end->error = CLYMQ_EUNREACH;
        sim_end_update(end);
    }
    sim_conn_unref(conn);
}

int sim_connect(struct io_loop *base, const char *address, struct io_stream_handler handler,
                struct io_stream **ret_stream)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead)
        return CLYMQ_EIO;
    char host[HOST_MAX];
    uint16_t port;
    int error = io_address_split(address, host, sizeof(host), &port);
    if (error || !*host)
        return CLYMQ_EINVAL;
    struct sim_end *end = sim_end_new(loop->process, address);
    if (!end)
        return CLYMQ_ENOMEM;
    struct sim_conn *conn =
        sim_conn_new(end, is_own_host(loop->process, host) ? loop->process->name : host, port);
    if (!conn) {
        sim_end_free(end);
        return CLYMQ_ENOMEM;
    }
    end->loop = loop;
    end->handler = handler;
    conn->handshake.fire = on_handshake;
    next_stage(conn, SIM_SYN);
    *ret_stream = &end->stream;
    return 0;
}

void sim_net_kill(struct sim_process *process)
{
    while (!list_empty(&process->ends))
        sim_end_kill(CONTAINER_OF(process->ends.next, struct sim_end, link));
    struct list *link;
    while ((link = list_pop_front(&process->listeners))) {
        CONTAINER_OF(link, struct sim_listener, link)->dead = true;
        list_push_back(&process->world->dead_listeners, link);
    }
}

void sim_net_release(struct sim_world *world)
{
    while (!list_empty(&world->dead_ends))
        sim_end_free(CONTAINER_OF(world->dead_ends.next, struct sim_end, link));
    struct list *link;
    while ((link = list_pop_front(&world->dead_listeners)))
        mem_free(CONTAINER_OF(link, struct sim_listener, link));
}
