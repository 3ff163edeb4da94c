/* A loop that has no memory for one timer of its: starting that one fails, unless it is armed, which never
 * does. One at a time. */
#ifndef CLYMQ_TESTS_REFUSED_TIMER_H
#define CLYMQ_TESTS_REFUSED_TIMER_H

#include "base/error.h"
#include "io/loop.h"

static struct {
    struct io_loop_ops ops;
    const struct io_loop_ops *real;
    const struct io_timer *timer;
    unsigned count; /* how often it was refused */
} refused_timer;

static inline int refused_timer_start(struct io_loop *loop, struct io_timer *timer, uint64_t delay_ns)
{
    if (timer == refused_timer.timer && !io_timer_armed(timer)) {
        refused_timer.count++;
        return CLYMQ_ENOMEM;
    }
    return refused_timer.real->timer_start(loop, timer, delay_ns);
}

static inline void refused_timer_begin(struct io_loop *loop, const struct io_timer *timer)
{
    refused_timer.real = loop->ops;
    refused_timer.ops = *loop->ops;
    refused_timer.ops.timer_start = refused_timer_start;
    refused_timer.timer = timer;
    refused_timer.count = 0;
    loop->ops = &refused_timer.ops;
}

static inline void refused_timer_end(struct io_loop *loop)
{
    loop->ops = refused_timer.real;
}

#endif
