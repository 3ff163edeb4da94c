/* Threads of our own, for shards, disk workers and the client library. */
#ifndef CLYMQ_IO_THREAD_H
#define CLYMQ_IO_THREAD_H

#include <pthread.h>

/* Starts a thread that runs run(ctx). Signals are for the program's own threads, so all are blocked on it but
 * those of faults, which debuggers and sanitizers want to see. name: at most 15 bytes. 0 or CLYMQ_ELIMIT. */
int io_thread_start(const char *name, void *(*run)(void *ctx), void *ctx, pthread_t *ret_thread);

#endif
