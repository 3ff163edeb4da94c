/* A simulated loop: timers, wakes and disk workers as events of the world. Wakes, and what workers do, take a
 * random while, so that seeds differ in the order of things that are not ordered. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim_world.h"

/* Milliseconds since 1970 at which simulated time begins: in November 2023. */
#define WALL_START_MS ((int64_t)1700000000000)
/* How long things take, in nanoseconds. */
enum {
    WAKE_MAX_NS = 2000,
    TRANSFER_MIN_NS = 5000,
    TRANSFER_MAX_NS = 100000,
    SYNC_MIN_NS = 50000,
    SYNC_MAX_NS = 5000000,
    WORK_MIN_NS = 10000,
    WORK_MAX_NS = 1000000,
    TELL_MIN_NS = 1000,
    TELL_MAX_NS = 50000,
    LOOK_NS = 50000,
};
/* timer, wake and the workers' */
enum { LOOP_EVENTS = 2 + SIM_WORKERS };

struct io_loop *sim_loop_enter(struct sim_loop *loop)
{
    return io_loop_set_current(&loop->base);
}

void sim_loop_leave(struct sim_loop *loop, struct io_loop *outer)
{
    if (!loop->dead && loop->base.on_tail)
        loop->base.on_tail(loop->base.tail_ctx);
    io_loop_set_current(outer);
}

static uint64_t sim_now_ns(struct io_loop *base)
{
    return sim_loop_of(base)->world->now_ns;
}

static uint64_t sim_clock_ns(struct io_loop *base)
{
    return LOOK_NS * ++sim_loop_of(base)->looks;
}

static int64_t sim_wall_ms(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    return WALL_START_MS + (int64_t)(loop->world->now_ns / 1000000u) +
           (loop->dead ? 0 : loop->process->skew_ms);
}

static void sim_random(struct io_loop *base, void *out, size_t len)
{
    rng_fill(&sim_loop_of(base)->world->rng, out, len);
}

static int sim_run(struct io_loop *base)
{
    return CLYMQ_EUNSUPPORTED;
}

static void sim_stop(struct io_loop *base)
{
}

static void on_wake(struct sim_event *event)
{
    struct sim_loop *loop = CONTAINER_OF(event, struct sim_loop, wake);
    sim_trace(loop->world, SIM_WAKE, loop->id, 0);
    struct io_loop *outer = sim_loop_enter(loop);
    if (loop->base.on_wake)
        loop->base.on_wake(loop->base.wake_ctx);
    sim_loop_leave(loop, outer);
}

static void sim_wake(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (!loop->dead && !sim_scheduled(&loop->wake))
        sim_schedule(loop->world, &loop->wake, sim_draw(loop->world, 0, WAKE_MAX_NS));
}

static void arm_timer(struct sim_loop *loop)
{
    struct heap_node *first = heap_first(&loop->timers);
    if (!first || first->key == UINT64_MAX)
        sim_cancel(loop->world, &loop->timer);
    else if (!sim_scheduled(&loop->timer) || loop->timer.node.key != first->key)
        sim_schedule_at(loop->world, &loop->timer, first->key);
}

static void on_timer(struct sim_event *event)
{
    struct sim_loop *loop = CONTAINER_OF(event, struct sim_loop, timer);
    struct heap_node *first = heap_first(&loop->timers);
    heap_remove(&loop->timers, first);
    arm_timer(loop);
    sim_trace(loop->world, SIM_TIMER, loop->id, loop->timers.count);
    struct io_timer *timer = CONTAINER_OF(first, struct io_timer, node);
    struct io_loop *outer = sim_loop_enter(loop);
    timer->fire(timer);
    sim_loop_leave(loop, outer);
}

static int sim_timer_start(struct io_loop *base, struct io_timer *timer, uint64_t delay_ns)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead)
        return CLYMQ_EIO;
    uint64_t now = loop->world->now_ns;
    uint64_t due = delay_ns < UINT64_MAX - now ? now + delay_ns : UINT64_MAX;
    if (heap_contains(&timer->node))
        heap_remove(&loop->timers, &timer->node);
    int error = heap_add(&loop->timers, &timer->node, due);
    arm_timer(loop);
    return error;
}

static void sim_timer_stop(struct io_loop *base, struct io_timer *timer)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead || !heap_contains(&timer->node))
        return;
    heap_remove(&loop->timers, &timer->node);
    arm_timer(loop);
}

static uint64_t op_latency(struct sim_loop *loop, const struct io_op *op)
{
    if (op->kind != IO_OP_SYNC)
        return sim_draw(loop->world, TRANSFER_MIN_NS, TRANSFER_MAX_NS);
    const struct sim_disk_faults *faults = &loop->process->disk->faults;
    if (faults->sync_max_ns == 0)
        return sim_draw(loop->world, SYNC_MIN_NS, SYNC_MAX_NS);
    return sim_draw(loop->world, faults->sync_min_ns, faults->sync_max_ns);
}

static bool take_next(struct sim_loop *loop, struct sim_worker *worker)
{
    struct list *link;
    loop->op_first = !loop->op_first;
    if ((loop->op_first || list_empty(&loop->works)) && (link = list_pop_front(&loop->ops)))
        worker->op = CONTAINER_OF(link, struct io_op, link);
    else if ((link = list_pop_front(&loop->works)))
        worker->work = CONTAINER_OF(link, struct io_work, link);
    else if ((link = list_pop_front(&loop->ops)))
        worker->op = CONTAINER_OF(link, struct io_op, link);
    return link != NULL;
}

static bool is_idle(const struct sim_worker *worker)
{
    return !worker->op && !worker->work;
}

static void start_workers(struct sim_loop *loop)
{
    for (unsigned i = 0; i < SIM_WORKERS; i++) {
        struct sim_worker *worker = &loop->workers[i];
        if (!is_idle(worker))
            continue;
        if (!take_next(loop, worker))
            return;
        worker->ran = false;
        uint64_t latency =
            worker->op ? op_latency(loop, worker->op) : sim_draw(loop->world, WORK_MIN_NS, WORK_MAX_NS);
        sim_schedule(loop->world, &worker->event, latency);
    }
}

/* The instant at which the operation takes effect. The process may crash in it. */
static void run_worker(struct sim_worker *worker)
{
    struct io_op *op = worker->op;
    if (!op) {
        worker->work->run(worker->work);
        return;
    }
    io_op_run(op);
}

static void on_worker(struct sim_event *event)
{
    struct sim_worker *worker = CONTAINER_OF(event, struct sim_worker, event);
    struct sim_loop *loop = worker->loop;
    struct sim_world *world = loop->world;
    if (!worker->ran) {
        run_worker(worker);
        if (loop->dead)
            return;
        sim_trace(world, SIM_DISK, loop->id, worker->op ? (uint64_t)(worker->op->result & 0xffffff) : 0);
        worker->ran = true;
        sim_schedule(world, &worker->event, sim_draw(world, TELL_MIN_NS, TELL_MAX_NS));
        return;
    }
    struct io_op *op = worker->op;
    struct io_work *work = worker->work;
    worker->op = NULL;
    worker->work = NULL;
    start_workers(loop);
    sim_trace(world, SIM_DONE, loop->id, op ? op->kind : 100);
    struct io_loop *outer = sim_loop_enter(loop);
    if (op)
        op->done(op);
    else
        work->done(work);
    sim_loop_leave(loop, outer);
}

static void sim_submit(struct io_loop *base, struct io_op *op)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead)
        return;
    list_push_back(&loop->ops, &op->link);
    start_workers(loop);
}

static void sim_work(struct io_loop *base, struct io_work *work)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead)
        return;
    list_push_back(&loop->works, &work->link);
    start_workers(loop);
}

int sim_loop_new(struct sim_process *process, struct io_loop **ret_loop)
{
    struct sim_world *world = process->world;
    struct sim_loop *loop = mem_zalloc(sizeof(*loop));
    if (!loop || sim_reserve(world, LOOP_EVENTS) != 0) {
        mem_free(loop);
        return CLYMQ_ENOMEM;
    }
    loop->base.ops = &sim_loop_ops;
    loop->process = process;
    loop->world = world;
    loop->id = world->next_id++;
    loop->timer.fire = on_timer;
    loop->wake.fire = on_wake;
    list_init(&loop->ops);
    list_init(&loop->works);
    for (unsigned i = 0; i < SIM_WORKERS; i++)
        loop->workers[i] = (struct sim_worker){.event = {.fire = on_worker}, .loop = loop};
    list_push_back(&process->loops, &loop->link);
    *ret_loop = &loop->base;
    return 0;
}

/* Timers are disarmed, because their owners outlive the loop for a moment; operations are forgotten. */
void sim_loop_kill(struct sim_loop *loop)
{
    struct sim_world *world = loop->world;
    loop->dead = true;
    for (size_t i = 0; i < loop->timers.count; i++)
        loop->timers.nodes[i]->index = 0;
    heap_free(&loop->timers);
    loop->timers = (struct heap){0};
    sim_cancel(world, &loop->timer);
    sim_cancel(world, &loop->wake);
    for (unsigned i = 0; i < SIM_WORKERS; i++)
        sim_cancel(world, &loop->workers[i].event);
    sim_unreserve(world, LOOP_EVENTS);
    loop->base.on_wake = NULL;
    loop->base.on_tail = NULL;
    list_remove(&loop->link);
    list_push_back(&world->dead_loops, &loop->link);
}

void sim_loop_release(struct sim_loop *loop)
{
    list_remove(&loop->link);
    mem_free(loop);
}

/* What was submitted still happens, as on a real loop, but is not told. A dead loop is freed with its world.
 */
static void sim_free(struct io_loop *base)
{
    struct sim_loop *loop = sim_loop_of(base);
    if (loop->dead)
        return;
    assert(io_loop_current() != base);
    for (unsigned i = 0; i < SIM_WORKERS && !loop->dead; i++) {
        struct sim_worker *worker = &loop->workers[i];
        for (bool busy = !is_idle(worker); busy && !loop->dead; busy = take_next(loop, worker)) {
            if (!worker->ran)
                run_worker(worker);
            *worker = (struct sim_worker){.event = worker->event, .loop = loop};
        }
    }
    if (loop->dead) /* crashed in the last operation */
        return;
    LIST_FOR_EACH(item, &loop->process->ends) {
        assert(CONTAINER_OF(item, struct sim_end, link)->loop !=
               loop); /* streams are closed before their loop */
    }
    sim_loop_kill(loop);
    sim_loop_release(loop);
}

const struct io_loop_ops sim_loop_ops = {
    .free = sim_free,
    .run = sim_run,
    .stop = sim_stop,
    .wake = sim_wake,
    .now_ns = sim_now_ns,
    .clock_ns = sim_clock_ns,
    .wall_ms = sim_wall_ms,
    .random = sim_random,
    .timer_start = sim_timer_start,
    .timer_stop = sim_timer_stop,
    .submit = sim_submit,
    .work = sim_work,
    .listen = sim_listen,
    .listener_close = sim_listener_close,
    .listener_address = sim_listener_address,
    .socket_close = sim_socket_close,
    .stream_open = sim_stream_open,
    .stream_detach = sim_stream_detach,
    .connect = sim_connect,
    .stream_close = sim_stream_close,
    .stream_watch = sim_stream_watch,
    .stream_read = sim_stream_read,
    .stream_writev = sim_stream_writev,
    .stream_send_file = sim_stream_send_file,
    .stream_status = sim_stream_status,
    .stream_peer = sim_stream_peer,
};
