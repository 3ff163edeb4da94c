/* What the drivers of the systems beside ClyMQ share: the clock, and what their server has cost so far. */
#ifndef BENCH_RIVAL_H
#define BENCH_RIVAL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/process_cost.h"

static inline double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* User and system time of a process; 0 for one that is not there. */
static inline double cpu_s(const char *pid)
{
    struct process_cost cost = {0};

    (void)process_cost_read(strtoll(pid, NULL, 10), &cost);
    return cost.cpu_s;
}

#endif
