/* All clients of a run, drawn from the seed. */
#ifndef CLYMQ_SIM_WORKLOAD_H
#define CLYMQ_SIM_WORKLOAD_H

#include "sim/run.h"

struct workload *workload_new(struct run *run); /* the administrator alone: it makes the topics */
bool workload_is_ready(const struct workload *workload);
void workload_begin(struct workload *workload);
/* Nothing new is pushed or changed; what is under way goes on. */
void workload_stop(struct workload *workload);
bool workload_is_idle(const struct workload *workload);
/* Ends all clients; what is still under way has an unknown outcome. */
void workload_end(struct workload *workload);
/* Reads every slot from its beginning to its end. */
void workload_drain(struct workload *workload);
bool workload_is_drained(const struct workload *workload);
/* What is not drained, for a message. */
const char *workload_undrained(const struct workload *workload);
void workload_free(struct workload *workload);

#endif
