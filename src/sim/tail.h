/* A consumer that follows one slot with `pullBatch` while it grows, verifies every batch and value, and asks
 * for offsets with `listOffset` now and then. It remembers its place across everything that happens to the
 * broker. The final drain is the same reader, without waiting. */
#ifndef CLYMQ_SIM_TAIL_H
#define CLYMQ_SIM_TAIL_H

#include "sim/history.h"

struct tail;

/* pause_ms: between pulls, at most. */
struct tail *tail_new(struct run *run, struct slot *slot, const char *name, unsigned pause_ms);
/* Reads from the beginning to the watermark, marking messages as drained, then asks for offsets by time and
 * compares the answers with what was read. */
struct tail *tail_new_drain(struct run *run, struct slot *slot);
bool tail_is_done(const struct tail *tail); /* a drain's */
void tail_stop(struct tail *tail);
void tail_free(struct tail *tail);

#endif
