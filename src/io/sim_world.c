/* The simulated world's clock and queue of events, its trace, and the driver's own events. */
#include "io/sim_world.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"

/* Not 0, so that a time of zero is never right by chance. */
#define START_NS ((uint64_t)1000000000)

struct driver_event {
    struct sim_event event;
    struct sim_world *world;
    struct list link;
    void (*fn)(void *ctx);
    void *ctx;
};

struct sim_world *sim_world_new(uint64_t seed)
{
    struct sim_world *world = mem_zalloc(sizeof(*world));
    if (!world)
        return NULL;
    rng_seed(&world->rng, seed);
    world->now_ns = START_NS;
    world->trace = seed;
    world->net = (struct sim_net_faults){.delay_min_ns = 20000, .delay_max_ns = 500000};
    list_init(&world->processes);
    list_init(&world->driver_events);
    list_init(&world->dead_loops);
    list_init(&world->dead_ends);
    list_init(&world->dead_listeners);
    return world;
}

static void driver_event_free(struct driver_event *event)
{
    sim_cancel(event->world, &event->event);
    sim_unreserve(event->world, 1);
    list_remove(&event->link);
    mem_free(event);
}

static void process_free(struct sim_process *process)
{
    sim_process_crash(process, false);
    list_remove(&process->link);
    sim_disk_free(process->disk);
    mem_free(process->name);
    mem_free(process);
}

void sim_world_free(struct sim_world *world)
{
    if (!world)
        return;
    while (!list_empty(&world->processes))
        process_free(CONTAINER_OF(world->processes.next, struct sim_process, link));
    sim_net_release(world);
    while (!list_empty(&world->dead_loops))
        sim_loop_release(CONTAINER_OF(world->dead_loops.next, struct sim_loop, link));
    while (!list_empty(&world->driver_events))
        driver_event_free(CONTAINER_OF(world->driver_events.next, struct driver_event, link));
    /* What is left are segments and handshakes between ends that are gone. */
    while (heap_first(&world->events))
        sim_world_step(world);
    assert(world->reserved == 0);
    heap_free(&world->events);
    mem_free(world);
}

uint64_t sim_world_now_ns(const struct sim_world *world)
{
    return world->now_ns;
}

uint64_t sim_world_trace(const struct sim_world *world)
{
    return world->trace;
}

void sim_world_trace_add(struct sim_world *world, uint64_t value)
{
    uint64_t mixed = (world->trace ^ value) * 0x9e3779b97f4a7c15u;
    world->trace = mixed ^ mixed >> 29;
}

void sim_trace(struct sim_world *world, enum sim_trace_kind kind, uint64_t who, uint64_t what)
{
    sim_world_trace_add(world, world->now_ns);
    sim_world_trace_add(world, (uint64_t)kind << 56 ^ who << 32 ^ what);
}

void sim_world_set_net_faults(struct sim_world *world, const struct sim_net_faults *faults)
{
    world->net = *faults;
}

uint64_t sim_draw(struct sim_world *world, uint64_t low, uint64_t high)
{
    return high > low ? low + rng_below(&world->rng, high - low + 1) : low;
}

int sim_reserve(struct sim_world *world, size_t events)
{
    size_t wanted = world->reserved + events;
    if (wanted > world->events.cap) {
        int error = heap_reserve(&world->events, wanted * 2);
        if (error)
            return error;
    }
    world->reserved = wanted;
    return 0;
}

void sim_unreserve(struct sim_world *world, size_t events)
{
    assert(world->reserved >= events);
    world->reserved -= events;
}

void sim_schedule_at(struct sim_world *world, struct sim_event *event, uint64_t at_ns)
{
    sim_cancel(world, event);
    int error = heap_add(&world->events, &event->node, at_ns);
    assert(!error); /* reserved */
}

void sim_schedule(struct sim_world *world, struct sim_event *event, uint64_t delay_ns)
{
    sim_schedule_at(world, event, world->now_ns + delay_ns);
}

void sim_cancel(struct sim_world *world, struct sim_event *event)
{
    if (heap_contains(&event->node))
        heap_remove(&world->events, &event->node);
}

bool sim_world_step(struct sim_world *world)
{
    struct heap_node *first = heap_first(&world->events);
    if (!first)
        return false;
    assert(first->key >= world->now_ns);
    world->now_ns = first->key;
    heap_remove(&world->events, first);
    struct sim_event *event = CONTAINER_OF(first, struct sim_event, node);
    event->fire(event);
    return true;
}

void sim_world_run_for(struct sim_world *world, uint64_t ns)
{
    uint64_t end = world->now_ns + ns;
    for (struct heap_node *first; (first = heap_first(&world->events)) && first->key <= end;)
        sim_world_step(world);
    world->now_ns = end;
}

static void on_driver_event(struct sim_event *base)
{
    struct driver_event *event = CONTAINER_OF(base, struct driver_event, event);
    void (*fn)(void *ctx) = event->fn;
    void *ctx = event->ctx;
    driver_event_free(event);
    fn(ctx);
}

int sim_world_at(struct sim_world *world, uint64_t delay_ns, void (*fn)(void *ctx), void *ctx)
{
    struct driver_event *event = mem_zalloc(sizeof(*event));
    if (!event || sim_reserve(world, 1) != 0) {
        mem_free(event);
        return CLYMQ_ENOMEM;
    }
    event->event.fire = on_driver_event;
    event->world = world;
    event->fn = fn;
    event->ctx = ctx;
    list_push_back(&world->driver_events, &event->link);
    sim_schedule(world, &event->event, delay_ns);
    return 0;
}
