/* The simulated world's parts, for io/sim_*.c only.
 *
 * Everything that happens is a struct sim_event in one heap, embedded in what it happens to. Room in the heap
 * is reserved when the owner is made (sim_reserve), so that scheduling cannot fail. What a crash takes away
 * stays allocated as "dead" until its owner closes it or the world is freed, because code of the crashed
 * process may still hold pointers to it. */
#ifndef CLYMQ_IO_SIM_WORLD_H
#define CLYMQ_IO_SIM_WORLD_H

#include "io/sim_disk.h"

struct sim_event {
    struct heap_node node;
    void (*fire)(struct sim_event *event);
};

struct sim_world {
    struct rng rng;
    uint64_t now_ns;
    struct heap events;
    size_t reserved; /* room in events that somebody counts on */
    uint64_t trace;
    struct sim_net_faults net;
    struct list processes;
    struct list driver_events; /* of sim_world_at */
    struct list dead_loops, dead_ends, dead_listeners;
    unsigned next_id;
};

struct sim_process {
    struct sim_world *world;
    struct list link;
    char *name;
    struct sim_disk *disk;
    struct list loops, ends, listeners;
    int64_t skew_ms;
    uint16_t next_port;
    bool alive;
    void (*on_crash)(void *ctx);
    void *crash_ctx;
};

enum { SIM_WORKERS = 4 };

/* A disk worker of a loop: waits, does its operation at some instant, tells it at a later one. */
struct sim_worker {
    struct sim_event event;
    struct sim_loop *loop;
    struct io_op *op; /* or */
    struct io_work *work;
    bool ran;
};

struct sim_loop {
    struct io_loop base;
    struct sim_process *process;
    struct sim_world *world;
    struct list link; /* in process->loops or world->dead_loops */
    unsigned id;
    bool dead;
    uint64_t looks; /* at the running clock */
    struct heap timers;
    struct sim_event timer, wake;
    struct list ops, works; /* waiting for a worker */
    bool op_first;
    struct sim_worker workers[SIM_WORKERS];
};
static inline struct sim_loop *sim_loop_of(struct io_loop *loop)
{
    return CONTAINER_OF(loop, struct sim_loop, base);
}

extern const struct io_loop_ops sim_loop_ops;

enum sim_trace_kind {
    SIM_TIMER,
    SIM_WAKE,
    SIM_DISK,
    SIM_DONE,
    SIM_READY,
    SIM_DELIVER,
    SIM_HANDSHAKE,
    SIM_CRASH
};

/* sim_world.c */
int sim_reserve(struct sim_world *world, size_t events); /* 0 or CLYMQ_ENOMEM */
void sim_unreserve(struct sim_world *world, size_t events);
/* Schedules (again) at now + delay_ns. */
void sim_schedule(struct sim_world *world, struct sim_event *event, uint64_t delay_ns);
void sim_schedule_at(struct sim_world *world, struct sim_event *event, uint64_t at_ns);
void sim_cancel(struct sim_world *world, struct sim_event *event);
static inline bool sim_scheduled(const struct sim_event *event)
{
    return heap_contains(&event->node);
}
/* Uniform in [low, high]. */
uint64_t sim_draw(struct sim_world *world, uint64_t low, uint64_t high);
void sim_trace(struct sim_world *world, enum sim_trace_kind kind, uint64_t who, uint64_t what);

/* sim_loop.c */
/* Between these the loop's callbacks run; leaving runs its tail unless it has died meanwhile. */
struct io_loop *sim_loop_enter(struct sim_loop *loop);
void sim_loop_leave(struct sim_loop *loop, struct io_loop *outer);
int sim_loop_new(struct sim_process *process, struct io_loop **ret_loop);
void sim_loop_kill(struct sim_loop *loop);
void sim_loop_release(struct sim_loop *loop); /* frees the memory of a dead one */

/* sim_net.c: listening and connecting. */
int sim_listen(struct io_loop *loop, const char *address,
               void (*on_accept)(void *ctx, struct io_socket *socket), void *ctx,
               struct io_listener **ret_listener);
void sim_listener_close(struct io_listener *listener);
int sim_listener_address(struct io_listener *listener, char *out, size_t cap);
int sim_connect(struct io_loop *loop, const char *address, struct io_stream_handler handler,
                struct io_stream **ret_stream);
/* A crash: listeners and ends die, their peers hear of it. */
void sim_net_kill(struct sim_process *process);
void sim_net_release(struct sim_world *world); /* frees what is dead */

/* A message of a connection on its way. */
enum sim_segment_kind { SIM_SEGMENT_DATA, SIM_SEGMENT_FIN, SIM_SEGMENT_RESET };
struct sim_segment {
    struct sim_event event;
    struct list link; /* once received: in end->received */
    struct sim_conn *conn;
    unsigned to; /* side */
    enum sim_segment_kind kind;
    size_t len, read;
    uint8_t data[];
};

/* One side of a connection: an accepted socket first, or a stream. */
enum sim_end_state { SIM_END_CONNECTING, SIM_END_OPEN, SIM_END_FAILED };
struct sim_end {
    struct io_socket socket;
    struct io_stream stream;
    struct sim_process *process;
    struct sim_loop *loop; /* NULL: an accepted socket that no loop watches yet */
    struct sim_conn *conn;
    unsigned side;
    struct list link; /* in process->ends or world->dead_ends */
    struct io_stream_handler handler;
    struct sim_event ready;
    unsigned wanted;
    enum sim_end_state state;
    int error;
    bool dead, ended, reset;
    struct list received; /* struct sim_segment */
    size_t received_bytes;
    char *peer;
};

enum sim_handshake { SIM_SYN, SIM_REFUSED, SIM_ESTABLISHED };

struct sim_conn {
    struct sim_world *world;
    struct sim_end *ends[2]; /* 0 connects, 1 accepts; NULL: not yet, or gone */
    size_t window_used[2];   /* bytes to that side that it has not read */
    uint64_t last_arrival_ns[2];
    struct sim_event handshake;
    enum sim_handshake stage;
    char *host; /* to connect to */
    uint16_t port;
    unsigned refs;                   /* ends, the handshake, segments on their way */
    struct sim_segment *farewell[2]; /* the last segment to each side, made beforehand: closing cannot fail */
};

/* sim_conn.c: connections and what is on its way in them. */
uint64_t sim_net_delay(struct sim_world *world);
/* A connection that end begins. NULL: out of memory. */
struct sim_conn *sim_conn_new(struct sim_end *end, const char *host, uint16_t port);
void sim_conn_unref(struct sim_conn *conn);
struct sim_segment *sim_segment_new(struct sim_conn *conn, unsigned to, size_t len); /* NULL: out of memory */
void sim_segment_free(struct sim_segment *segment);
/* Puts a segment on its way, behind the earlier ones to that side. */
void sim_segment_send(struct sim_segment *segment);
/* The end leaves the connection; the other side hears of it, after what was sent. */
void sim_conn_leave(struct sim_end *end, enum sim_segment_kind how);

/* sim_stream.c: ends of connections. */
struct sim_end *sim_end_new(struct sim_process *process, const char *peer); /* NULL: out of memory */
/* Out of its connection already. */
void sim_end_free(struct sim_end *end);
void sim_end_kill(struct sim_end *end);
/* Tells the owner soon if there is something to tell. */
void sim_end_update(struct sim_end *end);
int sim_stream_open(struct io_loop *loop, struct io_socket *socket, struct io_stream_handler handler,
                    struct io_stream **ret_stream);
int sim_stream_detach(struct io_stream *stream, struct io_socket **ret_socket);
void sim_socket_close(struct io_socket *socket);
void sim_stream_close(struct io_stream *stream);
void sim_stream_watch(struct io_stream *stream, unsigned events);
ssize_t sim_stream_read(struct io_stream *stream, void *data, size_t cap);
ssize_t sim_stream_writev(struct io_stream *stream, const struct iovec *parts, int count);
ssize_t sim_stream_send_file(struct io_stream *stream, struct io_file *file, uint64_t offset, size_t len);
int sim_stream_status(struct io_stream *stream);
const char *sim_stream_peer(struct io_stream *stream);

#endif
