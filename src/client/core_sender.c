/* A partition's sender: batches go out in order, up to max_in_flight at once, and each gets one outcome.
 *
 * How nothing is lost, doubled or reordered: the server stores a batch only if its sequence follows the one
 * before, and answers a repeat with where it was stored. So a batch whose outcome is unknown (connection
 * broken, time-out, an error after the append) is sent again with the same sequence until the server says
 * what became of it. After the first refusal nothing is sent until all outstanding answers are in
 * (recovering); then sender_verdict.c judges the refused ones.
 *
 * A time-out of a sent batch leaves a hole in the sequences: what follows it needs a new epoch. Without
 * idempotence batches are simply sent again. */
#include <assert.h>

#include "base/crc32c.h"
#include "base/mem.h"
#include "client/sender_verdict.h"
#include "wire/byte_order.h"

enum {
    SEQUENCE_RENEW = 1 << 30, /* a new epoch long before the sequence wraps */
    STAMP_CRC = 17,
    STAMP_CHECKED = 21,
    STAMP_PRODUCER_ID = 43,
    STAMP_EPOCH = 51,
    STAMP_SEQUENCE = 53,
};

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
    if (core_error_is_own_limit(answer))
        error = CLYMQ_EPROTO; /* the batch is not what was too big, and no answer to one is that long */
    /* A call that was not understood was not acted on. */
    bool definite = sender_error_is_definite(error) || answer->exception_type == THRIFT_UNKNOWN_METHOD ||
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

/* Makes sure that there is a server to send to. */
static bool sender_choose_leader(struct core_sender *sender)
{
    if (sender->outstanding > 0)
        return true;
    struct core *core = sender->producer->core;
    const struct core_partition *known =
        core_topic_find_near(sender->topic->topic, sender->intake->name, &sender->place);
    const char *address = known ? known->leader : NULL;
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
