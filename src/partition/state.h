/* The inside of a partition, shared by the .c files of this folder only. */
#ifndef CLYMQ_PARTITION_STATE_H
#define CLYMQ_PARTITION_STATE_H

#include "partition/partition.h"
#include "partition/producers.h"

struct chain_link {
    struct partition_block info;
    struct block *block;
};

struct partition {
    struct store *store;
    struct shard *shard;
    struct partition_config config;
    struct chain_link *chain; /* in order; the last one is open unless sealed */
    uint32_t chain_count;
    bool sealed; /* the last block takes no more pushes, or is being sealed */
    bool closing;
    bool draining; /* nothing waits to be stored any more */
    int64_t watermark;
    int64_t recovered_end; /* where the log ended when it was opened: the watermark of the run before was at
                              most this; INT64_MAX: nobody knows, it is damaged */
    bool table_needed;    /* the last block continues another and lacks its first batch, the producer table */
    int64_t ready_offset; /* pushes wait until the watermark is here: the commit of that batch */
    uint32_t place;       /* producers_place */
    struct producers *producers; /* made on first need */

    /* Pushes: queue (not yet written), committing (written at level -1, in order), refused (only to be told
     * so). */
    struct list queue, committing, refused;
    size_t queue_bytes, queue_count;
    struct io_timer retry; /* armed while the queue is blocked, or longer than one round may write */
    bool blocked;

    /* Pulls: arrived in this round, and waiting for data. */
    struct list pulls_new, pulls_waiting;
    struct shard_tail tail;

    void (*on_sealed)(void *ctx, int error, int64_t end);
    void *sealed_ctx;
};

static inline struct chain_link *partition_last(const struct partition *partition)
{
    return &partition->chain[partition->chain_count - 1];
}

/* An earlier run may have shown more than the watermark says. */
static inline bool partition_is_behind(const struct partition *partition)
{
    return partition->watermark < partition->recovered_end;
}

/* partition.c: the producer table, made on first need. NULL: out of memory. */
struct producers *partition_producers(struct partition *partition);
/* Work to do at the end of the round. */
void partition_wake(struct partition *partition);

/* push.c */
void partition_pump_pushes(struct partition *partition);
void partition_finish_commits(struct partition *partition);
void partition_fail_pushes(struct partition *partition, int queued_error, int written_error);
void partition_retry_pushes(struct io_timer *timer);
/* pull.c */
void partition_answer_new_pulls(struct partition *partition);
void partition_answer_waiting_pulls(struct partition *partition);
void partition_fail_pulls(struct partition *partition, int error);

#endif
