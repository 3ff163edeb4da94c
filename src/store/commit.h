/* Group commit: one pass syncs every block that was appended to since the last one began, tells the owners,
 * records the durable ends in one write. Belongs to one store; on its shard's thread. */
#ifndef CLYMQ_STORE_COMMIT_H
#define CLYMQ_STORE_COMMIT_H

#include "io/loop.h"
#include "store/state.h"

struct store;
struct block;
struct checkpoint_job;
struct commit_pass;

/* One block's part of a pass. */
struct commit_entry {
    struct list link;    /* pass->entries */
    struct list running; /* block->commits, in the order in which they began */
    struct commit_pass *pass;
    struct block *block; /* NULL: closed meanwhile */
    struct uuid id;
    struct log_point target; /* durable when its jobs are done */
    unsigned pending;        /* jobs under way */
    int error;
    struct list jobs;
    unsigned opening; /* of the active segment: what it is synced through (segment_open_again) */
    struct checkpoint_job *checkpoint; /* captured at target; owned until queued */
};

/* The block has something unsynced: it will be in the next pass. */
void commit_add(struct store *store, struct block *block);
/* The owner is to be told of the block's durable end, or its failure, at the end of the round. */
void commit_announce(struct store *store, struct block *block);
/* Asks for a pass soon whatever the fsync policy (seal, stop, checkpoint). */
void commit_force(struct store *store);
/* The end of a round of events. */
void commit_tail(struct shard_tail *tail);
void commit_timer(struct io_timer *timer);
/* The block is going away. */
void commit_detach(struct store *store, struct block *block);
/* Frees passes whose operations will never report (the loop is dead). */
void commit_abandon(struct store *store);

#endif
