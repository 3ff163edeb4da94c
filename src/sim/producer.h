/* A producer of libclymq's core: batches, compression, several batches on their way, retries with
 * idempotence. */
#ifndef CLYMQ_SIM_PRODUCER_H
#define CLYMQ_SIM_PRODUCER_H

#include "sim/run.h"

struct producer;

/* pause_ms: between bursts, at most. Everything else is drawn. */
struct producer *producer_new(struct run *run, uint16_t client, bool idempotence, unsigned pause_ms);
void producer_stop(struct producer *producer);
bool producer_is_idle(const struct producer *producer);
/* What is under way gets the outcome that the core tells when it is freed. */
void producer_free(struct producer *producer);

#endif
