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
    unsigned looks;       /* since then */
    bool given_back;      /* at the last look */
};
/* To be called every 5 seconds: whether a time of work has left memory that all threads should give back now.
 * Where little is done that is so at once; where work goes on, once a minute, and if it is much. */
bool memory_is_left(struct memory_use *use);

#endif
