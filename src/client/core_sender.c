/* A partition's sender: batches go out in order, up to max_in_flight at once, and each gets one outcome.
 *
 * How nothing is lost, doubled or reordered: the server stores a batch only if its sequence follows the one
 * before, and answers a repeat with where it was stored. So a batch whose outcome is unknown (connection
 * broken, time-out, an error after the append) is sent again with the same sequence until the server says
 * what became of it. After the first refusal nothing is sent until all outstanding answers are in
 * (recovering); then the refused ones are judged in order:
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
 * unused, so what follows needs a new epoch once nothing of the old one is in doubt.
 *
 * A time-out of a sent batch leaves such a hole, too. Without idempotence batches are simply sent again. */
#define LOG_MODULE "client"
#include <assert.h>

#include "base/crc32c.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/producer_state.h"
#include "wire/byte_order.h"

enum {
    SEQUENCE_RENEW = 1 << 30, /* a new epoch long before the sequence wraps */
    STAMP_CRC = 17,
    STAMP_CHECKED = 21,
    STAMP_PRODUCER_ID = 43,
    STAMP_EPOCH = 51,
    STAMP_SEQUENCE = 53,
};

static struct accumulator_batch *batch_at(struct list *link)
{
    return CONTAINER_OF(link, struct accumulator_batch, link);
}

static struct accumulator_batch *sender_head(struct core_sender *sender)
{
    return list_empty(&sender->in_flight) ? NULL : batch_at(sender->in_flight.next);
}

static bool sender_is_idempotent(const struct core_sender *sender)
{
    return sender->producer->config.idempotence;
}

/* Errors that say: this attempt did not store the batch and never will. */
static bool error_is_definite(int error)
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

static void sender_settle(struct core_sender *sender, struct accumulator_batch *batch, int error,
                          int64_t base_offset)
{
    list_remove(&batch->link);
    producer_settle(sender->producer, batch, error, base_offset);
}

static void sender_settle_in_flight(struct core_sender *sender, struct accumulator_batch *batch, int error,
                                    int64_t base_offset)
{
    assert(sender->in_flight_count > 0);
    sender->in_flight_count--;
    if (error && sender_is_idempotent(sender))
        sender->hole = true;
    sender_settle(sender, batch, error, base_offset);
}

/* Tells what is decided, in order. */
static void sender_drain(struct core_sender *sender)
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

static void sender_new_epoch(struct core_sender *sender)
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

/* What is in flight is certainly not stored: it goes back to the head of the queue, for a new epoch. */
static void sender_requeue(struct core_sender *sender)
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

/* All answers are in: decides about each refused batch, in order. */
static void sender_resolve(struct core_sender *sender)
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

static void sender_answered(void *ctx, const struct net_answer *answer)
{
    struct accumulator_batch *batch = ctx;
    struct core_sender *sender = batch->sender;
    struct core_producer *producer = sender->producer;
    assert(sender->outstanding > 0 && batch->calling);
    sender->outstanding--;
    batch->calling = false;
    struct bytes sentence;
    int error = core_answer_error(RPC_METHOD_PUSH_BATCH, answer, &sentence);
    /* A call that was not understood was not acted on. */
    bool definite = error_is_definite(error) || answer->exception_type == THRIFT_UNKNOWN_METHOD ||
                    answer->exception_type == THRIFT_PROTOCOL_ERROR || !answer->sent;
    if (producer->freeing) {
        batch->unsure |= error && !definite;
        if (batch->settled)
            producer_settle(producer, batch, 0, -1);
        return;
    }
    if (batch->settled) {
        producer_settle(producer, batch, 0, -1);
        if (error)
            sender->recovering = true;
    } else if (error) {
        batch->outcome = OUTCOME_REFUSED;
        batch->error = error;
        batch->unsure = !definite;
        sender->last_error = error;
        sender->recovering = true;
    } else {
        const struct rpc_push_batch_response *response = answer->response;
        batch->outcome = OUTCOME_STORED;
        batch->base_offset = response->base_offset;
        sender->attempts = 0;
        sender->last_error = 0;
        sender_drain(sender);
    }
    if (sender->recovering && sender->outstanding == 0)
        sender_resolve(sender);
    sender_arm_deadline(sender);
    sender_pump(sender);
}

/* ---- sending ---- */

/* Fills in id, epoch and sequence of a finished batch. 0 or CLYMQ_ENOMEM. */
static int batch_stamp(struct accumulator_batch *batch, int64_t id, int16_t epoch, int32_t sequence)
{
    struct buf *data = batch->data;
    if ((int64_t)load_be64(data->data + STAMP_PRODUCER_ID) == id &&
        (int16_t)load_be16(data->data + STAMP_EPOCH) == epoch &&
        (int32_t)load_be32(data->data + STAMP_SEQUENCE) == sequence)
        return 0;
    if (!buf_exclusive(data)) {
        struct buf *copy = buf_new(data->len);
        if (!copy)
            return CLYMQ_ENOMEM;
        memcpy(copy->data, data->data, data->len);
        copy->len = data->len;
        buf_unref(data);
        batch->data = data = copy;
    }
    store_be64(data->data + STAMP_PRODUCER_ID, (uint64_t)id);
    store_be16(data->data + STAMP_EPOCH, (uint16_t)epoch);
    store_be32(data->data + STAMP_SEQUENCE, (uint32_t)sequence);
    store_be32(data->data + STAMP_CRC, crc32c(0, data->data + STAMP_CHECKED, data->len - STAMP_CHECKED));
    return 0;
}

/* Finishes the batch where it is not, and stamps it with its place in the sender's sequence. */
static int sender_prepare(struct core_sender *sender, struct accumulator_batch *batch)
{
    const struct core_producer_config *config = &sender->producer->config;
    int64_t id = sender_is_idempotent(sender) ? sender->producer_id : -1;
    int16_t epoch = sender_is_idempotent(sender) ? sender->epoch : -1;
    int32_t sequence = sender_is_idempotent(sender) ? batch->sequence : -1;
    if (batch->data)
        return batch_stamp(batch, id, epoch, sequence);
    batch->builder.producer_id = id;
    batch->builder.producer_epoch = epoch;
    batch->builder.base_sequence = sequence;
    int error = batch_builder_finish(&batch->builder, (enum batch_compression)config->compression,
                                     config->compression_level, &batch->data);
    if (error)
        return error;
    producer_lock(sender->producer);
    accumulator_recount(&sender->producer->accumulator, batch);
    producer_unlock(sender->producer);
    return 0;
}

/* Sends a batch that is in in_flight. Where that fails it counts as refused by this machine, for sure. */
static bool sender_send(struct core_sender *sender, struct accumulator_batch *batch)
{
    struct core *core = sender->producer->core;
    int error = sender_prepare(sender, batch);
    if (!error) {
        struct rpc_push_batch_request request = {
            .topic = bytes_of_text(sender->topic->intake->name),
            .partition = bytes_of_text(sender->intake->name),
            .ack = sender->producer->config.ack,
            .batch = bytes_of(NULL, batch->data->len),
        };
        struct slice payload = {batch->data->data, batch->data->len, batch->data};
        batch->sender = sender;
        batch->outcome = OUTCOME_NONE;
        error = core_link_call(sender->leader, RPC_METHOD_PUSH_BATCH, &request, &payload,
                               core->config.request_timeout_ms, sender_answered, batch);
    }
    if (error) {
        batch->outcome = OUTCOME_REFUSED;
        batch->error = error;
        batch->unsure = false;
        sender->last_error = error;
        sender->recovering = true;
        return false;
    }
    batch->calling = true;
    sender->outstanding++;
    return true;
}

bool sender_has_place(const struct core_sender *sender)
{
    return sender->in_flight_count < sender->producer->config.max_in_flight;
}

static const char *sender_find_leader(struct core_sender *sender)
{
    const struct core_topic *topic = sender->topic->topic;
    const struct core_partition *partition = NULL;
    if (sender->place < topic->count &&
        strcmp(topic->partitions[sender->place].name, sender->intake->name) == 0)
        partition = &topic->partitions[sender->place];
    else if ((partition = core_topic_find(topic, sender->intake->name)) != NULL)
        sender->place = (size_t)(partition - topic->partitions);
    return partition ? partition->leader : NULL;
}

/* Makes sure that there is a server to send to. */
static bool sender_choose_leader(struct core_sender *sender)
{
    if (sender->outstanding > 0)
        return true;
    struct core *core = sender->producer->core;
    const char *address = sender_find_leader(sender);
    sender->leader = address ? core_link_get(core, address, sender->producer->slot) : NULL;
    if (sender->leader)
        return true;
    if (!address) {
        core_topic_refresh(sender->topic->topic);
        if (sender->topic->topic->error)
            sender->last_error = sender->topic->topic->error;
    }
    /* The topic's watch tells when there is news; the timer is for when it could not be asked. */
    (void)io_timer_start(core->loop, &sender->retry, core_backoff_ns(core, 8));
    return false;
}

/* Sends again what waits in flight. Returns whether all of it is on its way. */
static bool sender_resend(struct core_sender *sender)
{
    LIST_FOR_EACH(at, &sender->in_flight) {
        struct accumulator_batch *batch = batch_at(at);
        if (batch->outcome == OUTCOME_FAILED)
            return false; /* what is behind a hole cannot be stored in this epoch */
        if (batch->outcome != OUTCOME_NONE || batch->calling)
            continue;
        /* Halves of split batches may be more than may be under way; the server remembers five. */
        if (sender->outstanding >= sender->producer->config.max_in_flight || !sender_send(sender, batch))
            return false;
    }
    return true;
}

/* Closes and takes the open batch where it has only waited for a place. */
static void sender_take_due(struct core_sender *sender)
{
    struct core_producer *producer = sender->producer;
    producer_lock(producer);
    if (sender->intake->is_due) {
        accumulator_close(&producer->accumulator, sender->intake);
        list_remove(&sender->intake->ready);
        struct accumulator_batch *batch;
        while ((batch = accumulator_take(sender->intake)) != NULL) {
            list_remove(&batch->lingering);
            list_push_back(&sender->queue, &batch->link);
        }
    }
    producer_unlock(producer);
}

/* The next batch for the wire; NULL: none, or none yet. */
static struct accumulator_batch *sender_next(struct core_sender *sender)
{
    if (!sender_has_place(sender))
        return NULL;
    if (list_empty(&sender->queue))
        sender_take_due(sender);
    if (list_empty(&sender->queue))
        return NULL;
    if (sender_is_idempotent(sender) && (sender->hole || sender->next_sequence > SEQUENCE_RENEW)) {
        if (!list_empty(&sender->in_flight) || sender->outstanding > 0)
            return NULL;
        sender_new_epoch(sender);
    }
    return batch_at(list_pop_front(&sender->queue));
}

void sender_pump(struct core_sender *sender)
{
    struct core_producer *producer = sender->producer;
    if (producer->freeing || sender->recovering)
        return;
    struct accumulator_batch *head = sender_head(sender);
    if (!head && list_empty(&sender->queue))
        sender_take_due(sender);
    if (!head && list_empty(&sender->queue))
        return;
    sender_arm_deadline(sender);
    if (!sender_choose_leader(sender))
        return;
    if (sender->hole && head && sender->outstanding == 0 && head->outcome == OUTCOME_NONE && !head->uncertain)
        sender_requeue(sender);
    if (sender_resend(sender)) {
        struct accumulator_batch *batch;
        while (!sender->recovering && (batch = sender_next(sender)) != NULL) {
            batch->sequence = sender->next_sequence;
            sender->next_sequence += batch->count;
            list_push_back(&sender->in_flight, &batch->link);
            sender->in_flight_count++;
            if (!sender_send(sender, batch))
                break;
        }
    }
    if (sender->recovering && sender->outstanding == 0)
        sender_resolve(sender);
    sender_arm_deadline(sender);
}

/* ---- time ---- */

static void sender_retry(struct io_timer *timer)
{
    struct core_sender *sender = timer->ctx;
    if (sender->outstanding == 0)
        sender->recovering = false;
    sender_pump(sender);
}

static uint64_t batch_deadline_ns(const struct core_producer *producer, const struct accumulator_batch *batch)
{
    return batch->opened_ns + IO_MS(producer->config.delivery_timeout_ms);
}

static struct accumulator_batch *sender_oldest(struct core_sender *sender)
{
    struct accumulator_batch *head = sender_head(sender);
    return head ? head : list_empty(&sender->queue) ? NULL : batch_at(sender->queue.next);
}

void sender_arm_deadline(struct core_sender *sender)
{
    struct io_loop *loop = sender->producer->core->loop;
    struct accumulator_batch *oldest = sender_oldest(sender);
    if (!oldest) {
        io_timer_stop(loop, &sender->deadline);
        return;
    }
    /* While armed for an older batch it may stay so: it is set right when it fires. */
    if (io_timer_armed(&sender->deadline))
        return;
    uint64_t now_ns = io_loop_now_ns(loop), deadline_ns = batch_deadline_ns(sender->producer, oldest);
    (void)io_timer_start(loop, &sender->deadline, deadline_ns > now_ns ? deadline_ns - now_ns : 0);
}

static void sender_expire(struct io_timer *timer)
{
    struct core_sender *sender = timer->ctx;
    struct core_producer *producer = sender->producer;
    uint64_t now_ns = io_loop_now_ns(producer->core->loop);
    struct accumulator_batch *oldest;
    while ((oldest = sender_oldest(sender)) != NULL && batch_deadline_ns(producer, oldest) <= now_ns) {
        int why = sender->last_error &&
                          !(sender->last_error == CLYMQ_ETIMEDOUT || sender->last_error == CLYMQ_EUNCERTAIN)
                      ? sender->last_error
                      : CLYMQ_EAGAIN;
        if (oldest == sender_head(sender)) {
            bool doubt = oldest->calling || oldest->uncertain || oldest->unsure;
            sender_settle_in_flight(sender, oldest, doubt ? CLYMQ_ETIMEDOUT : why, -1);
            sender_drain(sender);
        } else {
            sender_settle(sender, oldest, why, -1);
        }
    }
    sender_arm_deadline(sender);
    sender_pump(sender);
}

void sender_fail(struct core_sender *sender, int error)
{
    struct accumulator_batch *batch;
    while ((batch = sender_head(sender)) != NULL) {
        if (batch->outcome == OUTCOME_STORED) {
            sender_settle_in_flight(sender, batch, 0, batch->base_offset);
            continue;
        }
        bool doubt = batch->calling || batch->uncertain || batch->unsure;
        sender_settle_in_flight(sender, batch, doubt ? CLYMQ_EUNCERTAIN : error, -1);
    }
    while (!list_empty(&sender->queue))
        sender_settle(sender, batch_at(sender->queue.next), error, -1);
    if (sender->outstanding == 0) {
        sender->recovering = false;
        io_timer_stop(sender->producer->core->loop, &sender->retry);
    }
    sender_arm_deadline(sender);
}

void sender_tick(struct core_sender *sender)
{
    sender_arm_deadline(sender);
    if (!io_timer_armed(&sender->retry))
        sender_retry(&sender->retry);
}

/* ---- life ---- */

int sender_new(struct producer_topic *topic, struct accumulator_partition *intake,
               struct core_sender **ret_sender)
{
    struct core_sender *sender = mem_zalloc(sizeof(*sender));
    if (!sender)
        return CLYMQ_ENOMEM;
    sender->producer = topic->producer;
    sender->topic = topic;
    sender->intake = intake;
    sender->producer_id = topic->producer->producer_id;
    sender->retry = (struct io_timer){.fire = sender_retry, .ctx = sender};
    sender->deadline = (struct io_timer){.fire = sender_expire, .ctx = sender};
    list_init(&sender->queue);
    list_init(&sender->in_flight);
    list_init(&sender->work);
    list_push_back(&topic->senders, &sender->link);
    intake->sender = sender;
    *ret_sender = sender;
    return 0;
}

void sender_free(struct core_sender *sender)
{
    assert(sender->producer->freeing && sender->outstanding == 0);
    sender_fail(sender, CLYMQ_ECANCELED);
    io_timer_stop(sender->producer->core->loop, &sender->retry);
    io_timer_stop(sender->producer->core->loop, &sender->deadline);
    list_remove(&sender->link);
    sender->intake->sender = NULL;
    mem_free(sender);
}
