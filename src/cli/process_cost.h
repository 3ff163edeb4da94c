/* CPU time and memory of a process so far, from /proc. Any thread. */
#ifndef CLYMQ_CLI_PROCESS_COST_H
#define CLYMQ_CLI_PROCESS_COST_H

#include <stdint.h>

struct process_cost {
    double cpu_s; /* user and system, in the kernel's steps of 10 ms */
    uint64_t rss_bytes, rss_max_bytes;
};
/* 0, or CLYMQ_ENOENT where there is no such process. */
int process_cost_read(int64_t pid, struct process_cost *ret_cost);

#endif
