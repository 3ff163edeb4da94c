/* Runs many seeds in several processes, so that a seed whose broker aborts, or hangs, fails alone. */
#ifndef CLYMQ_SIM_RUNNER_H
#define CLYMQ_SIM_RUNNER_H

#include "sim/run.h"

struct runner_plan {
    struct run_options options; /* but for the seed */
    uint64_t first, last;
    unsigned jobs;
    const char *replay; /* the command, without the seed, that replays one */
    bool json;
    bool want_violation; /* a control run: ends well as soon as one seed fails */
};

/* Prints one line for each seed that failed and the totals. Returns how many failed. */
uint64_t runner_run(const struct runner_plan *plan);
/* Runs the seed twice, each time in a process of its own, and compares traces, logs and results. Whether they
 * are equal. */
bool runner_run_twice(const struct run_options *options);

#endif
