/* The consumer's inside. Partitions belong to the loop's thread; what is said to be under the lock is shared
 * with the reader, which is one thread at a time. */
#ifndef CLYMQ_CLIENT_CONSUMER_STATE_H
#define CLYMQ_CLIENT_CONSUMER_STATE_H

#include <stdatomic.h>

#include "client/core_state.h"

struct consumer_partition {
    struct list link; /* in core_consumer.partitions, under the lock for the reader */
    struct core_consumer *consumer;
    struct core_topic *topic;
    struct core_topic_watch watch;
    char *name;
    size_t index, place;
    struct io_timer timer; /* armed: it waits for another attempt */
    bool placed, calling, waited, stuck;
    bool from_beginning;  /* and nothing fetched yet */
    int64_t asked_offset; /* of the fetch under way */
    unsigned asked_generation;
    unsigned attempts, idle, unknown;
    uint64_t seen_version;
    uint64_t failing_since_ns; /* 0 = it works */
    struct core_call find;
    struct rpc_list_offset_request request;
    int64_t at_offset; /* what assign asked for, where that was an offset */
    void (*done)(void *ctx, int error, int64_t position, const char *sentence);
    void *done_ctx;
    /* Under the lock. */
    int64_t position;       /* the next fetch's offset */
    int64_t high_watermark; /* as the last fetch saw it; -1 = none yet */
    unsigned generation;    /* of the assignment: older chunks are dropped */
    size_t queued;          /* bytes of its chunks not consumed */
    size_t reserved;        /* for the fetch under way */
    bool assigned;          /* a place was found: it counts for the end */
    bool halted;            /* an error waits to be read */
    bool resumed;           /* it was read: go on after a pause */
    bool full;              /* its own chunks hold enough: goes on when one is consumed */
    struct list woken;      /* in core_consumer.woken: may go on */
    struct list starving;   /* in core_consumer.starving: waits for room */
};

/* One answer's batches, or an error. */
struct consumer_chunk {
    struct list link;
    struct consumer_partition *partition;
    unsigned generation;
    int error;
    const char *sentence; /* of the error; constant; NULL: its own */
    int64_t wanted;       /* records below it are skipped */
    struct bytes batches; /* whole ones */
    struct buf *message;  /* they point into it */
    size_t charged;
};

/* What the reader is at. */
struct consumer_reader {
    struct consumer_chunk *chunk; /* NULL = none */
    unsigned placements;          /* of core_consumer, when it was found to be of a current assignment */
    struct bytes rest;            /* its batches not begun */
    struct batch_reader batch;
    bool in_batch;
    clymq_message message;
    clymq_header *headers;
    size_t header_cap;
    struct strbuf keys;   /* of the headers, NUL-terminated */
    const char *sentence; /* of the last error */
};

struct core_consumer {
    struct core *core;
    struct core_consumer_config config;
    struct list partitions; /* changed under the lock */
    struct map *by_name;    /* "topic/partition" */
    struct list follows;    /* struct consumer_follow */
    size_t partition_count;
    struct io_timer tick;
    unsigned slot;
    bool freeing;
    struct consumer_reader reader;
    _Atomic unsigned placements; /* how often an assignment began; changed under the lock */
    /* Under the lock. */
    struct list chunks;   /* struct consumer_chunk, in order of arrival */
    struct list starving; /* struct consumer_partition, in the order in which they ran out of room */
    struct list woken;
    size_t used;
    bool signalled;
};

static inline void consumer_lock(struct core_consumer *consumer)
{
    if (consumer->config.lock)
        consumer->config.lock(consumer->config.ctx);
}
static inline void consumer_unlock(struct core_consumer *consumer)
{
    if (consumer->config.unlock)
        consumer->config.unlock(consumer->config.ctx);
}

/* ---- consumer_fetch.c ---- */

enum { CONSUMER_LINKS = 16 }; /* connections of a consumer to one server */

void consumer_fetch_init(struct consumer_partition *partition);
/* Asks for more, where that may be done now. */
void consumer_fetch(struct consumer_partition *partition);
/* The same after a pause, which grows. */
void consumer_again(struct consumer_partition *partition);
/* Gives room that came free to those that wait for it, in order. */
void consumer_feed(struct core_consumer *consumer);

/* ---- core_consumer.c, consumer_reader.c, core_follow.c ---- */

/* Under the lock: the partition may go on, the loop's side sees to it. */
void consumer_wake_partition(struct consumer_partition *partition);
void consumer_signal(struct core_consumer *consumer); /* under the lock */
void consumer_chunk_free(struct consumer_chunk *chunk);
void consumer_reader_end(struct core_consumer *consumer);
void consumer_follows_end(struct core_consumer *consumer);
/* Once a second: goes on where there was no memory for a timer. */
void consumer_follows_tick(struct core_consumer *consumer);

#endif
