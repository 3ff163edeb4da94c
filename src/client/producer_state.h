/* The producer's inside: one sender per partition, one intake per topic. Loop's thread, but for the
 * accumulator, which is under the lock. */
#ifndef CLYMQ_CLIENT_PRODUCER_STATE_H
#define CLYMQ_CLIENT_PRODUCER_STATE_H

#include "client/accumulator.h"
#include "client/core_state.h"

enum sender_outcome {
    OUTCOME_NONE,   /* no answer yet, or one that asks to send it again */
    OUTCOME_STORED, /* waits for those before it, to be told in order */
    OUTCOME_FAILED, /* likewise; for good */
    OUTCOME_REFUSED /* answered with `error`, not yet judged */
};

struct core_producer {
    struct core *core;
    struct core_producer_config config;
    struct accumulator accumulator; /* under the lock */
    bool signalled;                 /* under the lock: a kick is on its way */
    struct list lingering;          /* under the lock: open batches that were noticed, oldest first */
    struct list topics;             /* struct producer_topic */
    struct io_timer linger_timer, tick;
    unsigned slot;
    int64_t producer_id;
    bool freeing; /* changed under the lock */
};

/* What the loop's side knows of a topic that is produced to. */
struct producer_topic {
    struct list link;
    struct core_producer *producer;
    struct accumulator_topic *intake;
    struct core_topic *topic;
    struct core_topic_watch watch;
    struct list senders;
    struct io_timer timer; /* the limbo's oldest batch runs out of time */
    bool has_limbo;
    unsigned empty; /* answers in a row without partitions */
};

struct core_sender {
    struct list link; /* in producer_topic.senders */
    struct list work; /* in a kick's list of those that got something */
    struct core_producer *producer;
    struct producer_topic *topic;
    struct accumulator_partition *intake;
    size_t place;          /* where in the topic's partitions it was last */
    struct list queue;     /* batches never sent in this epoch, oldest first */
    struct list in_flight; /* sent, not settled, in order of sequence */
    unsigned in_flight_count;
    unsigned outstanding; /* calls without answer, those of settled batches too */
    struct core_link
        *leader; /* kept while calls are outstanding, so that one server judges a run of sequences */
    int64_t producer_id;
    int16_t epoch;
    int32_t next_sequence;
    bool recovering; /* some batch was refused: nothing is sent until all answers are in, and a pause is over
                      */
    bool hole;       /* a sequence of this epoch was given up: what follows it needs a new epoch */
    bool split;      /* a batch was, since answers were judged last */
    bool is_stale;   /* the server refused the epoch itself: a new id is needed */
    unsigned attempts;
    unsigned missing; /* answers in a row that did not name the partition */
    int last_error;
    struct io_timer retry, deadline;
};

static inline void producer_lock(struct core_producer *producer)
{
    if (producer->config.lock)
        producer->config.lock(producer->config.ctx);
}
static inline void producer_unlock(struct core_producer *producer)
{
    if (producer->config.unlock)
        producer->config.unlock(producer->config.ctx);
}

int64_t producer_random_id(struct core_producer *producer);
/* Tells the outcome of a batch that is in no list any more, and frees it (or leaves that to its call's
 * answer). base_offset -1 = not known. */
void producer_settle(struct core_producer *producer, struct accumulator_batch *batch, int error,
                     int64_t base_offset);

/* ---- core_sender.c ---- */

int sender_new(struct producer_topic *topic, struct accumulator_partition *intake,
               struct core_sender **ret_sender);
void sender_free(
    struct core_sender *sender); /* settles what it has as canceled or uncertain; no calls outstanding */
/* Sends what may be sent. */
void sender_pump(struct core_sender *sender);
/* Gives up everything it has, with a definite error (or uncertain where it was sent). */
void sender_fail(struct core_sender *sender, int error);
/* (Re)arms the timer of the oldest batch's delivery time-out. */
void sender_arm_deadline(struct core_sender *sender);
/* Once a second: what could not be arranged before, for lack of memory. */
void sender_tick(struct core_sender *sender);
bool sender_has_place(const struct core_sender *sender);

/* ---- producer_topic.c ---- */

int producer_topic_new(struct core_producer *producer, struct accumulator_topic *intake);
void producer_topic_free(struct producer_topic *topic);
/* Something is in limbo: see to it that it ends. */
void producer_topic_tend(struct producer_topic *topic);

#endif
