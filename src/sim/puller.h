/* A consumer of the original form: `pull` with option PSB_PULL, whose answer is a JSON array, going from slot
 * to slot. It checks the rules that original clients rest on: indexes, gaps, sizes. */
#ifndef CLYMQ_SIM_PULLER_H
#define CLYMQ_SIM_PULLER_H

#include "sim/run.h"

struct puller;

struct puller *puller_new(struct run *run, const char *name, unsigned pause_ms);
void puller_stop(struct puller *puller);
void puller_free(struct puller *puller);

#endif
