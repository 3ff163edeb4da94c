/* Timers of an operating system's loop: a heap of ours and one timer of libuv for its first. libuv counts
 * milliseconds; rounding is up, so that a timer is never early. */
#include "io/os_loop.h"

int os_timer_start(struct io_loop *base, struct io_timer *timer, uint64_t delay_ns)
{
    struct os_loop *loop = os_loop_of(base);
    uint64_t now = os_loop_now_ns(base);
    uint64_t due = delay_ns < UINT64_MAX - now ? now + delay_ns : UINT64_MAX;
    if (heap_contains(&timer->node))
        heap_remove(&loop->timers, &timer->node); /* its room stays: adding it again cannot fail */
    return heap_add(&loop->timers, &timer->node, due);
}

void os_timer_stop(struct io_loop *base, struct io_timer *timer)
{
    if (heap_contains(&timer->node))
        heap_remove(&os_loop_of(base)->timers, &timer->node);
}

/* Fires what is due at now and was armed before. */
static void fire(struct os_loop *loop, uint64_t now)
{
    uint64_t end = loop->timers.next_order; /* those armed by the callbacks wait for the next round */
    for (;;) {
        struct heap_node *first = heap_first(&loop->timers);
        if (!first || first->key > now || first->order >= end)
            return;
        heap_remove(&loop->timers, first);
        struct io_timer *timer = CONTAINER_OF(first, struct io_timer, node);
        timer->fire(timer);
    }
}

static void on_timer(uv_timer_t *uv_timer)
{
    struct os_loop *loop = CONTAINER_OF(uv_timer, struct os_loop, timer);
    loop->timer_due_ns = 0;
    loop->now_known = false; /* sockets may have been served for long since the round began */
    fire(loop, os_loop_now_ns(&loop->base));
}

void os_timers_fire_due(struct os_loop *loop)
{
    if (heap_first(&loop->timers))
        fire(loop, os_loop_now_ns(&loop->base));
}

void os_timers_arm(struct os_loop *loop)
{
    struct heap_node *first = heap_first(&loop->timers);
    uint64_t due_ns = first ? first->key : 0;
    if (due_ns == loop->timer_due_ns && first)
        return;
    loop->timer_due_ns = due_ns;
    if (!first) {
        uv_timer_stop(&loop->timer);
        return;
    }
    uint64_t due_ms = due_ns / 1000000u + (due_ns % 1000000u != 0);
    uint64_t now_ms = uv_now(&loop->uv);
    bool due = due_ns <= os_loop_now_ns(&loop->base) || due_ms <= now_ms;
    uv_timer_start(&loop->timer, on_timer, due ? 0 : due_ms - now_ms, 0);
}
