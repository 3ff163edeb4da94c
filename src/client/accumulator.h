/* Where messages wait: one open batch per partition, filled in place, and the closed ones behind it.
 *
 * A message is encoded straight into its partition's batch: no allocation of its own. Messages without a
 * partition for a topic whose partitions are not known yet wait in the topic's limbo and are dealt out when
 * they are. Memory is counted as allocated and bounded by buffer_bytes; refused messages leave no trace.
 *
 * No thread of its own and no lock: its user holds one around every call where there are several threads.
 * Batches that were taken belong to the sender (core_sender.c) until given back. */
#ifndef CLYMQ_CLIENT_ACCUMULATOR_H
#define CLYMQ_CLIENT_ACCUMULATOR_H

#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"
#include "client/core.h"

struct accumulator_topic;

struct accumulator_batch {
    struct list link;      /* in the partition's closed list, then the sender's queue */
    struct list live;      /* in accumulator.live, in order of serial */
    struct list lingering; /* in accumulator.fresh, then the producer's lingering list, while open */
    uint64_t serial;
    struct accumulator_partition *partition;
    struct batch_builder builder; /* until finished */
    struct buf *data;             /* the finished batch */
    int count;
    int dealt;      /* of a limbo batch: messages that moved to their partitions */
    size_t charged; /* bytes counted against buffer_bytes */
    void **opaques; /* of each message, where deliveries are told */
    int opaque_cap;
    struct accumulator_partition **targets; /* of each message in limbo; NULL = by its key */
    int target_cap;
    struct list waiters; /* struct accumulator_waiter */
    /* The sender's. */
    uint64_t opened_ns; /* when the loop's thread noticed it; 0 = not yet */
    struct core_sender *sender;
    int32_t sequence;
    bool calling; /* a call with it has no answer yet */
    bool closed;
    bool settled;     /* told; freed when the call comes back */
    bool uncertain;   /* an earlier attempt may have stored it */
    bool asked_again; /* refused as out of order although in doubt: sent once more, alone */
    bool unsure;      /* so may the last one */
    uint8_t outcome;  /* enum sender_outcome */
    int error;
    int64_t base_offset;
};

struct accumulator_partition {
    struct accumulator_topic *topic;
    char *name;                     /* NULL: limbo */
    struct accumulator_batch *open; /* NULL = none */
    struct list closed;             /* struct accumulator_batch */
    size_t last_size;               /* of its last closed batch: the next one's first guess */
    bool is_due;                    /* its open batch waits for a free place only */
    struct list ready;              /* in accumulator.ready while something is closed and not noticed */
    void *sender;                   /* the loop's side */
};

struct accumulator_topic {
    char *name;
    struct map *by_name;                      /* struct accumulator_partition */
    struct accumulator_partition **by_number; /* count of them; NULL until known */
    size_t count;
    struct accumulator_partition limbo;
    size_t sticky;     /* where messages without a key go until the batch is full */
    struct list link;  /* in accumulator.topics */
    struct list fresh; /* in accumulator.fresh_topics until noticed */
    void *ctx;         /* the loop's side */
};

struct accumulator {
    size_t batch_bytes, buffer_bytes, max_message_bytes;
    bool keep_opaques;
    size_t used;
    uint64_t messages; /* accepted and not given back */
    uint64_t next_serial;
    struct list live;  /* every batch */
    struct list fresh; /* opened, not noticed by the loop's side */
    struct list ready; /* partitions with closed batches not noticed */
    struct list fresh_topics;
    struct list topics;
    struct map *by_topic;
    struct rng rng;
    size_t refused; /* bytes that the last refused message wanted */
    size_t closed;  /* live batches that are closed: their memory will come back */
    bool hurry;     /* all memory is in open batches, or they shall be flushed: close them */
    struct accumulator_topic *last_topic; /* most messages go where the one before went */
};

int accumulator_init(struct accumulator *accumulator, uint64_t seed);
/* No batch is live any more. */
void accumulator_end(struct accumulator *accumulator);
/* As core_producer_add. *ret_notice: the loop's side has something new to notice. */
int accumulator_add(struct accumulator *accumulator, const clymq_message *message,
                    struct accumulator_waiter *waiter, bool *ret_notice);
/* Closes the partition's open batch, if any. */
void accumulator_close(struct accumulator *accumulator, struct accumulator_partition *partition);
/* Closes every open batch. */
void accumulator_close_all(struct accumulator *accumulator);
/* The partition's oldest closed batch, now the caller's; NULL if there is none. */
struct accumulator_batch *accumulator_take(struct accumulator_partition *partition);
/* After its content was changed (finished, compressed): counts its memory anew. */
void accumulator_recount(struct accumulator *accumulator, struct accumulator_batch *batch);
/* The batch has its outcome: gives its memory back and frees it. Its waiters were told. */
void accumulator_release(struct accumulator *accumulator, struct accumulator_batch *batch);
/* Marks the batch's messages as settled while its memory is still in use by the network. */
void accumulator_settle(struct accumulator *accumulator, struct accumulator_batch *batch);
/* The topic's partitions by number; new ones are made. 0 or CLYMQ_ENOMEM (what was known stays). */
int accumulator_set_partitions(struct accumulator *accumulator, struct accumulator_topic *topic,
                               const char *const *names, size_t count);
/* Deals the limbo out to the partitions. 0 or CLYMQ_ENOMEM: the rest waits in limbo, call again. */
int accumulator_deal(struct accumulator *accumulator, struct accumulator_topic *topic);
/* Splits a taken batch of several messages that is finished and not being sent: it keeps the first half, the
 * others go to a new one of the caller's, whose sequence follows. Batches opened later have at most half of
 * its bytes. 0 or an error (nothing is changed). */
int accumulator_split(struct accumulator *accumulator, struct accumulator_batch *batch,
                      struct accumulator_batch **ret_second);
/* A record's headers as the builder takes them; the caller frees them (NULL: none). 0 or CLYMQ_ENOMEM. */
int accumulator_read_headers(struct batch_record *record, struct batch_header_input **ret_headers);
/* Turns the batch's records into a finished, uncompressed batch where it is not finished, for reading. */
int accumulator_finish_plain(struct accumulator_batch *batch);
/* Bytes that one more message of this size would take, at most. */
bool accumulator_has_room(const struct accumulator *accumulator, size_t bytes);

#endif
