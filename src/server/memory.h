/* What this process holds of the machine's memory, and when it gives back what it has no use for. */
#ifndef CLYMQ_SERVER_MEMORY_H
#define CLYMQ_SERVER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/metrics.h"

/* The metrics of it. 0 or CLYMQ_ENOMEM. */
int memory_add_metrics(struct metrics *metrics);

/* What the last look has seen. Zeroed at the beginning; one thread. */
struct memory_use {
    uint64_t allocations; /* ever made */
    uint64_t kept;        /* bytes resident beyond those allocated, the least since it was given back */
    bool given_back;      /* since the last look */
};
/* To be called every few seconds: whether there was a time of work that has left memory, and now there is
 * little, so that all threads should give back what they keep. */
bool memory_is_left(struct memory_use *use);

#endif
