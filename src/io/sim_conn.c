/* Simulated connections: two ends and the segments between them, which arrive in order after a random delay
 * each. */
#include <assert.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "io/sim_world.h"

uint64_t sim_net_delay(struct sim_world *world)
{
    return sim_draw(world, world->net.delay_min_ns, world->net.delay_max_ns);
}

static void on_arrival(struct sim_event *event);

struct sim_segment *sim_segment_new(struct sim_conn *conn, unsigned to, size_t len)
{
    struct sim_segment *segment = mem_alloc(sizeof(*segment) + len);
    if (!segment || sim_reserve(conn->world, 1) != 0) {
        mem_free(segment);
        return NULL;
    }
    *segment = (struct sim_segment){.event = {.fire = on_arrival}, .conn = conn, .to = to, .len = len};
    return segment;
}

void sim_segment_free(struct sim_segment *segment)
{
    sim_unreserve(segment->conn->world, 1);
    mem_free(segment);
}

struct sim_conn *sim_conn_new(struct sim_end *end, const char *host, uint16_t port)
{
    struct sim_world *world = end->process->world;
    struct sim_conn *conn = mem_zalloc(sizeof(*conn));
    if (!conn || sim_reserve(world, 1) != 0) {
        mem_free(conn);
        return NULL;
    }
    conn->world = world;
    conn->port = port;
    conn->refs = 1;
    conn->host = mem_strdup(host);
    conn->farewell[0] = sim_segment_new(conn, 0, 0);
    conn->farewell[1] = sim_segment_new(conn, 1, 0);
    if (!conn->host || !conn->farewell[0] || !conn->farewell[1]) {
        sim_conn_unref(conn);
        return NULL;
    }
    conn->ends[0] = end;
    end->conn = conn;
    return conn;
}

void sim_conn_unref(struct sim_conn *conn)
{
    if (--conn->refs > 0)
        return;
    for (unsigned side = 0; side < 2; side++)
        if (conn->farewell[side])
            sim_segment_free(conn->farewell[side]);
    sim_unreserve(conn->world, 1);
    mem_free(conn->host);
    mem_free(conn);
}

void sim_segment_send(struct sim_segment *segment)
{
    struct sim_conn *conn = segment->conn;
    uint64_t at = conn->world->now_ns + sim_net_delay(conn->world);
    uint64_t *last = &conn->last_arrival_ns[segment->to];
    if (at <= *last)
        at = *last + 1;
    *last = at;
    conn->refs++;
    sim_schedule_at(conn->world, &segment->event, at);
}

/* Nothing more is read or written on either side. */
static void break_conn(struct sim_conn *conn)
{
    for (unsigned side = 0; side < 2; side++) {
        if (!conn->ends[side])
            continue;
        conn->ends[side]->reset = true;
        sim_end_update(conn->ends[side]);
    }
}

static void say_farewell(struct sim_conn *conn, unsigned to, enum sim_segment_kind kind)
{
    struct sim_segment *segment = conn->farewell[to];
    if (!segment)
        return;
    conn->farewell[to] = NULL;
    segment->kind = kind;
    sim_segment_send(segment);
}

/* Data for an end that is gone is answered with a reset, as a kernel does for a socket that is gone. */
static void bounce(struct sim_segment *segment)
{
    segment->conn->window_used[segment->to] -= segment->len;
    segment->len = 0;
    segment->kind = SIM_SEGMENT_RESET;
    segment->to = !segment->to;
    sim_segment_send(segment);
}

/* Whether the segment is still of use. */
static bool receive(struct sim_conn *conn, struct sim_segment *segment)
{
    struct sim_end *end = conn->ends[segment->to];
    if (!end) {
        bool answered = segment->kind == SIM_SEGMENT_DATA && conn->ends[!segment->to];
        if (answered)
            bounce(segment);
        return answered;
    }
    if (end->reset || end->state == SIM_END_FAILED)
        return false;
    switch (segment->kind) {
    case SIM_SEGMENT_DATA:
        if (conn->world->net.reset_ppm &&
            rng_chance(&conn->world->rng, conn->world->net.reset_ppm, 1000000)) {
            break_conn(conn);
            return false;
        }
        list_push_back(&end->received, &segment->link);
        end->received_bytes += segment->len;
        break;
    case SIM_SEGMENT_FIN:
        end->ended = true;
        break;
    case SIM_SEGMENT_RESET:
        end->reset = true;
        break;
    }
    sim_end_update(end);
    return segment->kind == SIM_SEGMENT_DATA;
}

static void on_arrival(struct sim_event *event)
{
    struct sim_segment *segment = CONTAINER_OF(event, struct sim_segment, event);
    struct sim_conn *conn = segment->conn;
    sim_trace(conn->world, SIM_DELIVER, (uint64_t)segment->kind, crc32c(0, segment->data, segment->len));
    if (!receive(conn, segment)) {
        if (segment->kind == SIM_SEGMENT_DATA)
            conn->window_used[segment->to] -= segment->len;
        sim_segment_free(segment);
    }
    sim_conn_unref(conn);
}

void sim_conn_leave(struct sim_end *end, enum sim_segment_kind how)
{
    struct sim_conn *conn = end->conn;
    if (!conn)
        return;
    end->conn = NULL;
    conn->ends[end->side] = NULL;
    struct list *link;
    while ((link = list_pop_front(&end->received))) {
        struct sim_segment *segment = CONTAINER_OF(link, struct sim_segment, link);
        conn->window_used[end->side] -= segment->len - segment->read;
        sim_segment_free(segment);
    }
    end->received_bytes = 0;
    if (conn->ends[!end->side])
        say_farewell(conn, !end->side, how);
    sim_conn_unref(conn);
}
