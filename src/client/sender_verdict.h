/* Between a sender's two files: sending and time (core_sender.c), and what becomes of what was sent
 * (sender_verdict.c). Loop's thread. */
#ifndef CLYMQ_CLIENT_SENDER_VERDICT_H
#define CLYMQ_CLIENT_SENDER_VERDICT_H

#include "client/producer_state.h"

static inline struct accumulator_batch *batch_at(struct list *link)
{
    return CONTAINER_OF(link, struct accumulator_batch, link);
}

/* The first unsettled batch of those in flight, or NULL. */
static inline struct accumulator_batch *sender_head(struct core_sender *sender)
{
    return list_empty(&sender->in_flight) ? NULL : batch_at(sender->in_flight.next);
}

static inline bool sender_is_idempotent(const struct core_sender *sender)
{
    return sender->producer->config.idempotence;
}

/* Whether the error says: this attempt did not store the batch and never will. */
bool sender_error_is_definite(int error);
/* Tells the outcome of a batch and lets go of it: one of the queue, or one in flight. */
void sender_settle(struct core_sender *sender, struct accumulator_batch *batch, int error,
                   int64_t base_offset);
void sender_settle_in_flight(struct core_sender *sender, struct accumulator_batch *batch, int error,
                             int64_t base_offset);
/* Tells what is decided, in order, up to the first batch that is not. */
void sender_drain(struct core_sender *sender);
/* Sequences begin anew. Nothing is in flight. */
void sender_new_epoch(struct core_sender *sender);
/* What is in flight is certainly not stored: it goes back to the head of the queue, for a new epoch. No calls
 * are outstanding. */
void sender_requeue(struct core_sender *sender);
/* Something was refused and all answers are in: decides about each refused batch, and arms the retry. */
void sender_resolve(struct core_sender *sender);

#endif
