/* What this process holds of the machine's memory, and when it gives back what it has no use for. */
#ifndef CLYMQ_SERVER_MEMORY_H
#define CLYMQ_SERVER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/metrics.h"

/* The metrics of it. 0 or CLYMQ_ENOMEM. */
int memory_add_metrics(struct metrics *metrics);

/* Bytes resident beyond those allocated: code, libraries, and what is kept of what was freed. */
uint64_t memory_kept_bytes(void);

/* What earlier looks have seen. Zeroed at the beginning; one thread. */
struct memory_use {
    uint64_t allocations; /* ever made */
    uint64_t kept;        /* bytes that do not go back, as far as is known */
    unsigned looks;       /* since memory was given back */
    unsigned tries;       /* of giving back that left much, in a row */
};
/* To be called every 5 seconds with how many allocations were ever made and what is kept: whether all should
 * be given back that can be. Where little is done, from 4 MiB on, at once; where work goes on, from 64 MiB
 * on, once a minute. */
bool memory_is_left(struct memory_use *use, uint64_t allocations, uint64_t kept);

#endif
