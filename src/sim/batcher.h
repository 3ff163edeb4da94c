/* A client that sends whole record batches with `pushBatch`, without idempotence: each batch once. */
#ifndef CLYMQ_SIM_BATCHER_H
#define CLYMQ_SIM_BATCHER_H

#include "sim/run.h"

struct batcher;

struct batcher *batcher_new(struct run *run, uint16_t client, unsigned pause_ms);
void batcher_stop(struct batcher *batcher);
bool batcher_is_idle(const struct batcher *batcher);
/* A batch under way has an unknown outcome. */
void batcher_free(struct batcher *batcher);

#endif
