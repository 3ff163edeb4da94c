/* Simulated streams: one end of a connection as its owner uses it. Readiness is level-triggered, as on a real
 * loop: told again, a little later each time, until acted on or no longer watched. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim_world.h"

/* Bytes on their way or unread in one direction, as socket buffers bound them. */
enum { WINDOW = 65536 };
enum { READY_MIN_NS = 100, READY_MAX_NS = 2000 };

static struct sim_end *end_of(struct io_stream *stream)
{
    return CONTAINER_OF(stream, struct sim_end, stream);
}

static void on_end_ready(struct sim_event *event);

struct sim_end *sim_end_new(struct sim_process *process, const char *peer)
{
    struct sim_end *end = mem_zalloc(sizeof(*end));
    if (!end)
        return NULL;
    end->peer = mem_strdup(peer);
    if (!end->peer || sim_reserve(process->world, 1) != 0) {
        mem_free(end->peer);
        mem_free(end);
        return NULL;
    }
    end->socket.ops = &sim_loop_ops;
    end->stream.ops = &sim_loop_ops;
    end->process = process;
    end->ready.fire = on_end_ready;
    list_init(&end->received);
    list_push_back(&process->ends, &end->link);
    return end;
}

/* Also for a dead end, whose world still lives. */
void sim_end_free(struct sim_end *end)
{
    assert(!end->conn);
    list_remove(&end->link);
    if (!end->dead) {
        sim_cancel(end->process->world, &end->ready);
        sim_unreserve(end->process->world, 1);
    }
    mem_free(end->peer);
    mem_free(end);
}

void sim_end_kill(struct sim_end *end)
{
    struct sim_world *world = end->process->world;
    sim_conn_leave(end, rng_chance(&world->rng, 1, 2) ? SIM_SEGMENT_RESET : SIM_SEGMENT_FIN);
    sim_cancel(world, &end->ready);
    sim_unreserve(world, 1);
    end->dead = true;
    list_remove(&end->link);
    list_push_back(&world->dead_ends, &end->link);
}

static size_t room(const struct sim_end *end)
{
    return WINDOW - end->conn->window_used[!end->side];
}

static unsigned readiness(const struct sim_end *end)
{
    switch (end->state) {
    case SIM_END_OPEN:
        if (end->reset)
            return IO_READABLE | IO_WRITABLE;
        return (end->received_bytes > 0 || end->ended ? IO_READABLE : 0u) |
               (room(end) > 0 ? IO_WRITABLE : 0u);
    case SIM_END_FAILED:
        return IO_READABLE | IO_WRITABLE;
    default:
        return 0;
    }
}

void sim_end_update(struct sim_end *end)
{
    struct sim_world *world = end->process->world;
    if (!end->loop || !(readiness(end) & end->wanted))
        sim_cancel(world, &end->ready);
    else if (!sim_scheduled(&end->ready))
        sim_schedule(world, &end->ready, sim_draw(world, READY_MIN_NS, READY_MAX_NS));
}

static void on_end_ready(struct sim_event *event)
{
    struct sim_end *end = CONTAINER_OF(event, struct sim_end, ready);
    struct sim_loop *loop = end->loop;
    unsigned events = readiness(end) & end->wanted;
    sim_trace(loop->world, SIM_READY, loop->id, events);
    sim_end_update(end); /* the callback may close it */
    struct io_loop *outer = sim_loop_enter(loop);
    end->handler.on_ready(end->handler.ctx, events);
    sim_loop_leave(loop, outer);
}

int sim_stream_open(struct io_loop *base, struct io_socket *socket, struct io_stream_handler handler,
                    struct io_stream **ret_stream)
{
    struct sim_loop *loop = sim_loop_of(base);
    struct sim_end *end = CONTAINER_OF(socket, struct sim_end, socket);
    if (loop->dead || end->dead)
        return CLYMQ_EIO;
    assert(loop->process == end->process);
    end->loop = loop;
    end->handler = handler;
    *ret_stream = &end->stream;
    return 0;
}

static void close_end(struct sim_end *end)
{
    if (!end->dead) /* unread bytes make it a reset, as in TCP */
        sim_conn_leave(end, end->received_bytes > 0 ? SIM_SEGMENT_RESET : SIM_SEGMENT_FIN);
    sim_end_free(end);
}

void sim_socket_close(struct io_socket *socket)
{
    close_end(CONTAINER_OF(socket, struct sim_end, socket));
}

void sim_stream_close(struct io_stream *stream)
{
    close_end(end_of(stream));
}

int sim_stream_detach(struct io_stream *stream, struct io_socket **ret_socket)
{
    struct sim_end *end = end_of(stream);
    assert(end->state == SIM_END_OPEN);
    if (end->dead) /* by what its own callback did */
        return CLYMQ_EIO;
    end->wanted = 0;
    end->loop = NULL;
    sim_end_update(end);
    *ret_socket = &end->socket;
    return 0;
}

void sim_stream_watch(struct io_stream *stream, unsigned events)
{
    struct sim_end *end = end_of(stream);
    end->wanted = events;
    if (!end->dead)
        sim_end_update(end);
}

int sim_stream_status(struct io_stream *stream)
{
    struct sim_end *end = end_of(stream);
    if (end->dead)
        return CLYMQ_EIO;
    switch (end->state) {
    case SIM_END_OPEN:
        return 0;
    case SIM_END_FAILED:
        return end->error;
    default:
        return CLYMQ_EAGAIN;
    }
}

/* What one call moves at most. */
static size_t limit(struct sim_world *world, size_t len)
{
    uint32_t most = world->net.short_read;
    if (!most || len == 0)
        return len;
    size_t drawn = (size_t)sim_draw(world, 1, most);
    return drawn < len ? drawn : len;
}

ssize_t sim_stream_read(struct io_stream *stream, void *data, size_t cap)
{
    struct sim_end *end = end_of(stream);
    int status = sim_stream_status(stream);
    if (status)
        return status;
    if (end->received_bytes == 0)
        return end->reset ? CLYMQ_ECLOSED : end->ended ? 0 : CLYMQ_EAGAIN;
    struct sim_conn *conn = end->conn;
    size_t len = limit(conn->world, cap < end->received_bytes ? cap : end->received_bytes);
    for (size_t done = 0; done < len;) {
        struct sim_segment *segment = CONTAINER_OF(end->received.next, struct sim_segment, link);
        size_t part = segment->len - segment->read < len - done ? segment->len - segment->read : len - done;
        memcpy((char *)data + done, segment->data + segment->read, part);
        segment->read += part;
        done += part;
        if (segment->read == segment->len) {
            list_remove(&segment->link);
            sim_segment_free(segment);
        }
    }
    end->received_bytes -= len;
    conn->window_used[end->side] -= len;
    sim_end_update(end);
    if (conn->ends[!end->side])
        sim_end_update(conn->ends[!end->side]);
    return (ssize_t)len;
}

/* How much of len may be sent now: > 0, or why none. */
static ssize_t sendable(struct sim_end *end, size_t len)
{
    int status = sim_stream_status(&end->stream);
    if (status)
        return status;
    if (end->reset)
        return CLYMQ_ECLOSED;
    size_t most = limit(end->process->world, len < room(end) ? len : room(end));
    return most > 0 ? (ssize_t)most : CLYMQ_EAGAIN;
}

static void send_segment(struct sim_end *end, struct sim_segment *segment)
{
    end->conn->window_used[segment->to] += segment->len;
    sim_segment_send(segment);
    sim_end_update(end);
}

ssize_t sim_stream_writev(struct io_stream *stream, const struct iovec *parts, int count)
{
    struct sim_end *end = end_of(stream);
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    if (total == 0)
        return 0;
    ssize_t len = sendable(end, total);
    if (len < 0)
        return len;
    struct sim_segment *segment = sim_segment_new(end->conn, !end->side, (size_t)len);
    if (!segment)
        return CLYMQ_ENOMEM;
    size_t done = 0;
    for (int i = 0; done < (size_t)len; i++) {
        size_t part = parts[i].iov_len < (size_t)len - done ? parts[i].iov_len : (size_t)len - done;
        memcpy(segment->data + done, parts[i].iov_base, part);
        done += part;
    }
    send_segment(end, segment);
    return len;
}

ssize_t sim_stream_send_file(struct io_stream *stream, struct io_file *file, uint64_t offset, size_t len)
{
    struct sim_end *end = end_of(stream);
    ssize_t most = len > 0 ? sendable(end, len) : 0;
    if (most <= 0)
        return most;
    struct sim_segment *segment = sim_segment_new(end->conn, !end->side, (size_t)most);
    if (!segment)
        return CLYMQ_ENOMEM;
    ssize_t got = io_file_pread(file, segment->data, (size_t)most, offset);
    if (got <= 0) {
        sim_segment_free(segment);
        return got;
    }
    segment->len = (size_t)got;
    send_segment(end, segment);
    return got;
}

const char *sim_stream_peer(struct io_stream *stream)
{
    return end_of(stream)->peer;
}
