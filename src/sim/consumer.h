/* A consumer of libclymq's core that follows every steady slot from its beginning. */
#ifndef CLYMQ_SIM_CONSUMER_H
#define CLYMQ_SIM_CONSUMER_H

#include "sim/run.h"

struct consumer;

struct consumer *consumer_new(struct run *run, const char *name);
void consumer_stop(struct consumer *consumer);
void consumer_free(struct consumer *consumer);

#endif
