/* What loops of all kinds share: which one this thread is running, and what a disk worker does. */
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

void io_op_run(struct io_op *op)
{
    switch (op->kind) {
    case IO_OP_READ:
        op->result = io_file_pread(op->file, op->parts[0].iov_base, op->parts[0].iov_len, op->offset);
        break;
    case IO_OP_WRITE:
        op->result = io_file_pwritev(op->file, op->parts, op->count, op->offset);
        break;
    case IO_OP_SYNC:
        op->result = io_file_sync(op->file);
        break;
    }
}
