/* Threads of our own, for shards, disk workers and the client library. */
#ifndef CLYMQ_IO_THREAD_H
#define CLYMQ_IO_THREAD_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

/* Starts a thread that runs run(ctx). Signals are for the program's own threads, so all are blocked on it but
 * those of faults, which debuggers and sanitizers want to see. name: at most 15 bytes, for tools; the thread
 * may run before it has it. 0 or CLYMQ_ELIMIT. */
int io_thread_start(const char *name, void *(*run)(void *ctx), void *ctx, pthread_t *ret_thread);

/* For a thread that works in short rounds and that others wait for: asks the scheduler to give the calling
 * thread slices of 0.1 ms. It then comes soon after it wakes, and by io_thread_worked neither takes a whole
 * tick of the scheduler (4 ms, mostly) nor makes its like wait for one. Needs no privilege and leaves
 * niceness and policies other than the usual one as they are. Whether it was granted: Linux does from 6.12
 * on. */
bool io_thread_short_turns(void);
/* The slice that the scheduler gives the calling thread, in ns; 0: it does not tell. */
uint64_t io_thread_slice_ns(void);
/* The thread worked for so long and a round of it ends: once that makes up a slice, those that wait for this
 * processor go first. A yield gives up the rest of a slice, so on a thread without short ones nothing
 * happens. */
void io_thread_worked(uint64_t ns);

#endif
