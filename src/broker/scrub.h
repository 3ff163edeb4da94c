/* The scrub of a shard: reads all that its partitions have committed, at a low rate, and checks every batch,
 * so that what rots on the disk is known while there may still be another copy. A disk worker reads; damage
 * is logged and counted, nothing else follows from it. Belongs to its shard. */
#ifndef CLYMQ_BROKER_SCRUB_H
#define CLYMQ_BROKER_SCRUB_H

#include "store/block.h"

struct broker_shard;
struct hosted;

struct scrub {
    struct io_timer timer;
    struct io_work work;
    struct list *at; /* in the shard's hosted: whose turn it is; NULL: the pass is over */
    struct block_verify verify;
    struct block_range range; /* being read */
    int64_t bytes_per_s;      /* 0 = off */
    int64_t every_ms;
    uint64_t next_pass_ns;
    int error; /* of the reading */
    bool reading;
    bool waits; /* there was no memory for the timer */
    bool moved; /* the partition that is being read is gone */
    void (*on_idle)(struct broker_shard *bs);
};

void scrub_init(struct scrub *scrub, struct broker_shard *bs);
/* Begins, or goes on with these values. bytes_per_s 0: off. every_ms: from one pass's beginning to the next
 * one's, at least. */
void scrub_set(struct broker_shard *bs, int64_t bytes_per_s, int64_t every_ms);
/* Once a second: goes on where there was no memory for a timer. */
void scrub_tick(struct broker_shard *bs);
/* Ends; on_idle is called once nothing is being read any more, perhaps from inside. */
void scrub_stop(struct broker_shard *bs, void (*on_idle)(struct broker_shard *bs));
/* The loop is dead: gives back what it holds. */
void scrub_free(struct scrub *scrub);
/* That partition is about to be forgotten. */
void scrub_forget(struct broker_shard *bs, const struct hosted *hosted);

#endif
