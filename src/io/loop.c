/* Which loop this thread is running: the one thing that loops of all kinds share. */
#include "io/loop.h"

static _Thread_local struct io_loop *current;

struct io_loop *io_loop_current(void)
{
    return current;
}

struct io_loop *io_loop_set_current(struct io_loop *loop)
{
    struct io_loop *before = current;
    current = loop;
    return before;
}
