/* What becomes of a sender's batches: outcomes are told in order, and once all outstanding answers are in
 * those that were refused are judged, in order too:
 *
 * - an error that passes: again, after a pause, and all behind it too;
 * - a sequence error behind such a batch: only its consequence; again;
 * - a sequence error of the first unsettled batch: the server does not know our earlier batches (any more). A
 * batch that was never in doubt is certainly not stored, and so is none behind it, since the server refuses
 * gaps: they all begin a new epoch at sequence 0, which also shuts out late copies of the old epoch. A batch
 * in doubt cannot be told from a stored one that the server forgot: CLYMQ_EUNCERTAIN;
 * - too big, and more than one message: nothing was stored, so its two halves take its place and its sequence
 * numbers, and go out as batches of their own, down to single messages;
 * - a definite error: told, unless an earlier attempt is in doubt (then CLYMQ_EUNCERTAIN). Its sequence stays
 * unused, so what follows needs a new epoch once nothing of the old one is in doubt. */
#define LOG_MODULE "client"
#include "client/sender_verdict.h"

#include <assert.h>

#include "base/log.h"

bool sender_error_is_definite(int error)
{
    switch (error) {
    case CLYMQ_EINVAL:
    case CLYMQ_ENOSPC:
    case CLYMQ_EDENIED:
    case CLYMQ_ELIMIT:
    case CLYMQ_ETOOBIG:
    case CLYMQ_EFORMAT:
    case CLYMQ_EUNSUPPORTED:
    case CLYMQ_ETOPIC_UNKNOWN:
    case CLYMQ_EPARTITION_UNKNOWN:
    case CLYMQ_ENAME:
    case CLYMQ_EACK_LEVEL:
    case CLYMQ_ESEQUENCE:
    case CLYMQ_EFENCED:
    case CLYMQ_ELOG_FAILED:
    case CLYMQ_EBATCH:
    case CLYMQ_EPARTITION_REMOVED:
    case CLYMQ_ECOMPRESSION:
        return true;
    default:
        return false;
    }
}

/* Errors after which the same batch is sent again. "Unknown" may mean that the server has not heard yet:
 * metadata decides. An uncertain outcome becomes certain by asking again. */
static bool error_passes(const struct core_sender *sender, int error)
{
    return error_retriable(error) || error == CLYMQ_ETOPIC_UNKNOWN || error == CLYMQ_EPARTITION_UNKNOWN ||
           error == CLYMQ_ECANCELED || (error == CLYMQ_EUNCERTAIN && sender_is_idempotent(sender));
}

/* ---- outcomes ---- */

void sender_settle(struct core_sender *sender, struct accumulator_batch *batch, int error,
                   int64_t base_offset)
{
    list_remove(&batch->link);
    producer_settle(sender->producer, batch, error, base_offset);
}

void sender_settle_in_flight(struct core_sender *sender, struct accumulator_batch *batch, int error,
                             int64_t base_offset)
{
    assert(sender->in_flight_count > 0);
    sender->in_flight_count--;
    if (error && sender_is_idempotent(sender))
        sender->hole = true;
    sender_settle(sender, batch, error, base_offset);
}

void sender_drain(struct core_sender *sender)
{
    struct accumulator_batch *head;
    while ((head = sender_head(sender)) != NULL) {
        if (head->outcome == OUTCOME_STORED)
            sender_settle_in_flight(sender, head, 0, head->base_offset);
        else if (head->outcome == OUTCOME_FAILED)
            sender_settle_in_flight(sender, head, head->error, -1);
        else
            return;
    }
}

void sender_new_epoch(struct core_sender *sender)
{
    assert(list_empty(&sender->in_flight));
    if (sender->epoch == INT16_MAX || sender->is_stale) {
        sender->producer_id = producer_random_id(sender->producer);
        sender->epoch = 0;
    } else {
        sender->epoch++;
    }
    log_debug("partition %s/%s: sequences begin anew, epoch %d", sender->topic->intake->name,
              sender->intake->name, sender->epoch);
    sender->is_stale = false;
    sender->hole = false;
    sender->next_sequence = 0;
}

void sender_requeue(struct core_sender *sender)
{
    assert(sender->outstanding == 0);
    while (!list_empty(&sender->in_flight)) {
        struct accumulator_batch *last = batch_at(sender->in_flight.prev);
        if (last->outcome ==
            OUTCOME_STORED) { /* only a server that takes gaps does that: at least not twice */
            sender_settle_in_flight(sender, last, 0, last->base_offset);
            continue;
        }
        list_remove(&last->link);
        sender->in_flight_count--;
        last->outcome = OUTCOME_NONE;
        last->uncertain = last->unsure = false;
        list_push_front(&sender->queue, &last->link);
    }
    sender_new_epoch(sender);
}

static void batch_fail(struct accumulator_batch *batch, int error)
{
    batch->outcome = OUTCOME_FAILED;
    /* A verdict on this attempt says nothing about an earlier one. */
    batch->error = batch->uncertain || batch->unsure ? CLYMQ_EUNCERTAIN : error;
}

/* Puts the two halves of a batch where it was. false: no memory for that now. */
static bool sender_split(struct core_sender *sender, struct accumulator_batch *batch)
{
    struct accumulator_batch *second;
    producer_lock(sender->producer);
    int error = accumulator_split(&sender->producer->accumulator, batch, &second);
    producer_unlock(sender->producer);
    if (error)
        return false;
    list_insert_before(batch->link.next, &second->link);
    sender->in_flight_count++;
    batch->outcome = second->outcome = OUTCOME_NONE;
    log_debug("partition %s/%s: a batch was too big: %d and %d messages of it go separately",
              sender->topic->intake->name, sender->intake->name, batch->count, second->count);
    return true;
}

/* Judges one refused batch; waiting: some batch before it must be sent again. Returns whether it is to be
 * sent again. *ret_lost: what is behind it, and it too where it is to be sent again, is certainly not stored.
 */
static bool sender_judge(struct core_sender *sender, struct accumulator_batch *batch, bool waiting,
                         bool *ret_lost)
{
    int error = batch->error;
    if (error == CLYMQ_ESEQUENCE || error == CLYMQ_EFENCED) {
        if (waiting || !sender_is_idempotent(sender)) {
            batch->outcome = waiting ? OUTCOME_NONE : OUTCOME_FAILED;
            return waiting;
        }
        sender->is_stale |= error == CLYMQ_EFENCED;
        if (batch->uncertain && !batch->asked_again) {
            /* It may have come before the one in front of it: the answer counts when it is sent as the first.
             */
            batch->asked_again = true;
            batch->outcome = OUTCOME_NONE;
            return true;
        }
        if (batch->uncertain) {
            batch_fail(batch, CLYMQ_EUNCERTAIN);
            return false;
        }
        *ret_lost = true;
        batch->outcome = OUTCOME_NONE;
        return true;
    }
    if (error == CLYMQ_ETOOBIG && batch->count > 1) {
        batch->outcome = OUTCOME_NONE;
        sender->split |= sender_split(sender, batch);
        return true;
    }
    if (error_passes(sender, error)) {
        batch->outcome = OUTCOME_NONE;
        return true;
    }
    batch_fail(batch, error);
    *ret_lost = !waiting && batch->error != CLYMQ_EUNCERTAIN && sender_is_idempotent(sender);
    return false;
}

void sender_resolve(struct core_sender *sender)
{
    assert(sender->recovering && sender->outstanding == 0);
    bool waiting = false, lost = false;
    LIST_FOR_EACH(at, &sender->in_flight) {
        struct accumulator_batch *batch = batch_at(at);
        if (batch->outcome == OUTCOME_REFUSED)
            waiting |= sender_judge(sender, batch, waiting, &lost);
        else
            waiting |= batch->outcome == OUTCOME_NONE;
        if (lost)
            break;
    }
    if (lost) {
        /* That one is not stored: neither is any behind it, whatever their answers were. Those before it are
         * decided. */
        sender_drain(sender);
        sender_requeue(sender);
    } else {
        LIST_FOR_EACH(at, &sender->in_flight) {
            struct accumulator_batch *batch = batch_at(at);
            batch->uncertain |= batch->unsure;
            batch->unsure = false;
        }
        sender_drain(sender);
    }
    if (list_empty(&sender->in_flight) && list_empty(&sender->queue)) {
        sender->recovering = false;
        return;
    }
    uint64_t pause_ns = 0; /* what was split need not wait: each time there is less of it */
    if (!sender->split) {
        sender->attempts++;
        log_debug("partition %s/%s: attempt %u to go on after: %s", sender->topic->intake->name,
                  sender->intake->name, sender->attempts, error_sentence(sender->last_error));
        core_topic_refresh(sender->topic->topic);
        pause_ns = core_backoff_ns(sender->producer->core, sender->attempts);
    }
    sender->split = false;
    if (io_timer_start(sender->producer->core->loop, &sender->retry, pause_ns) != 0)
        sender->recovering = false; /* no memory for a pause: the next tick goes on */
}
