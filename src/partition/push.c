/* Pushes: the queue in front of the log, gathering, idempotence, and the answers at each ack level.
 *
 * Every push first hangs in the queue; at the end of the round the queue is written in order: a whole batch
 * as it is, a run of single messages as one batch. Where that cannot be done now (disk full, room being made,
 * block being sealed, producer table not yet committed) the queue stays, in order, and a timer tries again
 * and gives up on what has waited too long. */
#define LOG_MODULE "partition"
#include <assert.h>
#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "partition/state.h"

enum {
    GATHER_MAX_BYTES = 256 << 10, /* single messages written as one batch */
    GATHER_MAX_COUNT = 4096,
    PUMP_BYTES = 64 << 10, /* written in one round, so that other partitions of the shard get their turn */
    RETRY_MS = 250,
    WAITING_BYTES = 512, /* what a waiting push holds besides its content, at least */
};

static size_t push_bytes(const struct partition_push *push)
{
    return push->batch.ptr ? push->batch.len : push->key.len + push->value.len + push->producer.len;
}

static void push_release(struct partition_push *push)
{
    buf_unref(push->message);
    push->message = NULL;
}

static void push_finish(struct partition_push *push, int error)
{
    list_remove(&push->link);
    push_release(push);
    push->error = error;
    push->done(push);
}

static struct partition_push *push_at(struct list *link)
{
    return CONTAINER_OF(link, struct partition_push, link);
}

static void queue_take(struct partition *partition, struct partition_push *push)
{
    list_remove(&push->link);
    partition->queue_bytes -= push_bytes(push);
    partition->queue_count--;
}

static bool queue_has_room(const struct partition *partition, const struct partition_push *push)
{
    size_t held = partition->queue_bytes + partition->queue_count * WAITING_BYTES;
    return held + push_bytes(push) + WAITING_BYTES <= (size_t)partition->config.max_waiting_bytes;
}

static void queue_return(struct partition *partition, struct partition_push *push)
{
    list_push_front(&partition->queue, &push->link);
    partition->queue_bytes += push_bytes(push);
    partition->queue_count++;
}

void partition_push(struct partition *partition, struct partition_push *push)
{
    assert(push->done && push->message);
    list_init(&push->link);
    push->error = 0;
    push->base_offset = -1;
    push->duplicate = false;
    push->appended = false;
    push->end_offset = -1;
    if (partition->blocked && !queue_has_room(partition, push)) {
        push->error = CLYMQ_ELIMIT;
        list_push_back(&partition->refused, &push->link);
    } else {
        push->deadline_ns = io_loop_now_ns(partition->shard->loop) + IO_MS(partition->config.push_wait_ms);
        list_push_back(&partition->queue, &push->link);
        partition->queue_bytes += push_bytes(push);
        partition->queue_count++;
    }
    partition_wake(partition);
}

/* Answers a push that is in the log up to end_offset: at once, or when the watermark has passed it. */
static void push_stored(struct partition *partition, struct partition_push *push, int64_t base_offset,
                        int64_t end_offset, bool duplicate)
{
    push->base_offset = base_offset;
    push->end_offset = end_offset;
    push->duplicate = duplicate;
    push->appended = true;
    if (push->ack != ACK_COMMITTED || end_offset <= partition->watermark) {
        push_finish(push, 0);
        return;
    }
    push_release(push);
    list_push_back(&partition->committing, &push->link);
    block_want_commit(partition_last(partition)->block);
}

void partition_finish_commits(struct partition *partition)
{
    while (!list_empty(&partition->committing)) {
        struct partition_push *push = push_at(partition->committing.next);
        if (push->end_offset > partition->watermark)
            return;
        push_finish(push, 0);
    }
}

/* Whether the table knows it as stored, and where. */
static bool push_is_repeat(const struct partition *partition, const struct partition_push *push,
                           int64_t *ret_base_offset, int64_t *ret_end_offset)
{
    struct batch_header header;
    const struct producers *producers = partition->producers;
    if (!producers)
        return false;
    if (push->batch.ptr)
        return batch_read_header(push->batch, UINT32_MAX, &header) == 0 &&
               producers_check(producers, &header, ret_base_offset, ret_end_offset) == CLYMQ_EEXIST;
    if (push->session == 0 || !producers_find_session(producers, push->producer, push->session,
                                                      push->command_index, ret_base_offset))
        return false;
    *ret_end_offset = *ret_base_offset + 1;
    return true;
}

/* Refuses a push for certain, in no list of the partition. A repeat of what is in the log cannot be: it
 * shares that one's outcome. */
static void push_refuse(struct partition *partition, struct partition_push *push, int error)
{
    int64_t base_offset, end_offset;
    if (push_is_repeat(partition, push, &base_offset, &end_offset))
        push_stored(partition, push, base_offset, end_offset, true);
    else
        push_finish(push, error);
}

static int push_check_ack(const struct partition *partition, const struct partition_push *push)
{
    if (push->ack < -1 || push->ack > 1)
        return CLYMQ_EACK_LEVEL;
    if (push->ack == ACK_COMMITTED && partition->config.ack_level != ACK_COMMITTED)
        return CLYMQ_EACK_LEVEL;
    return 0;
}

/* ---- whole batches ---- */

static int append(struct partition *partition, struct batch_header *header, uint8_t *batch)
{
    struct chain_link *last = partition_last(partition);
    header->base_offset = block_end(last->block);
    header->leader_epoch = last->info.base_epoch;
    batch_assign(batch, header->base_offset, header->leader_epoch);
    struct iovec part = {batch, header->size};
    if (!list_empty(&partition->pulls_waiting))
        block_want_commit(last->block);
    return block_append(last->block, header, &part, 1);
}

/* What could not be appended and can be later: the disk is full, or room is being made. */
static bool stays_queued(int error)
{
    return error == CLYMQ_ENOSPC || error == CLYMQ_EAGAIN;
}

/* Writes the batch push at the queue's head. CLYMQ_ENOSPC, CLYMQ_EAGAIN: it stays there. */
static int write_batch(struct partition *partition, struct partition_push *push)
{
    struct batch_header header;
    int64_t base_offset = 0, end_offset = 0;
    int error = push_check_ack(partition, push);
    if (!error && push->batch.len > (size_t)partition->config.max_batch_bytes)
        error = CLYMQ_ETOOBIG;
    if (!error && batch_read_header(push->batch, (uint32_t)partition->config.max_batch_bytes, &header) != 0)
        error = CLYMQ_EBATCH;
    if (!error && header.size != push->batch.len)
        error = CLYMQ_EBATCH;
    struct producers *producers = partition_producers(partition);
    if (!error && !producers)
        error = CLYMQ_ENOMEM;
    if (!error)
        error = producers_check(producers, &header, &base_offset, &end_offset);
    if (error == CLYMQ_EEXIST) {
        queue_take(partition, push);
        push_stored(partition, push, base_offset, end_offset, true);
        return 0;
    }
    if (!error)
        error = producers_reserve(producers, &header);
    if (!error) {
        error = append(partition, &header, (uint8_t *)push->batch.ptr);
        if (stays_queued(error))
            return error;
    }
    queue_take(partition, push);
    if (error == CLYMQ_ELOG_FAILED) {
        push_finish(push, CLYMQ_EUNCERTAIN);
        return 0;
    }
    if (error) {
        push_refuse(partition, push, error);
        return 0;
    }
    error = producers_note_header(producers, &header, io_loop_wall_ms(partition->shard->loop));
    assert(error == 0); /* room was reserved */
    push_stored(partition, push, header.base_offset, batch_last_offset(&header) + 1, false);
    return 0;
}

/* ---- single messages ---- */

/* One run of single pushes becoming one batch. */
struct gather {
    struct partition *partition;
    struct batch_builder builder;
    struct list added,
        repeated; /* pushes in the batch, in order; repeats that wait for the batch or an earlier one */
    int64_t base_offset;
    int64_t now_ms;
    int32_t count;
    size_t bytes;
};

static int gather_add_record(struct gather *gather, struct partition_push *push)
{
    uint8_t identity[PRODUCERS_SESSION_VALUE + 256];
    struct batch_header_input header = {BYTES_LITERAL(PRODUCERS_SESSION_HEADER), {identity, 0}};
    int header_count = 0;
    if (push->session != 0) {
        if (push->producer.len > 249)
            return CLYMQ_ENAME;
        header.value.len =
            producers_session_value(gather->partition->place, gather->base_offset + gather->count,
                                    push->producer, push->session, push->command_index, identity);
        header_count = 1;
    }
    size_t size = BATCH_HEADER_SIZE + batch_record_size(push->key, push->value, &header, header_count);
    if (size > (size_t)gather->partition->config.max_batch_bytes)
        return CLYMQ_ETOOBIG;
    int error =
        batch_builder_add(&gather->builder, gather->now_ms, push->key, push->value, &header, header_count);
    if (!error)
        gather->bytes += size;
    return error;
}

/* Takes one push off the queue into the run, or answers it. */
static void gather_push(struct gather *gather, struct partition_push *push)
{
    struct partition *partition = gather->partition;
    struct producers *producers = partition->producers;
    int error = push_check_ack(partition, push);
    queue_take(partition, push);
    int64_t offset;
    if (!error && push->session != 0 &&
        producers_find_session(producers, push->producer, push->session, push->command_index, &offset)) {
        push->base_offset = offset;
        list_push_back(&gather->repeated, &push->link);
        return;
    }
    offset = gather->base_offset + gather->count;
    /* Noted before it is written, so that a repeat in the same run is seen; undone if the run cannot be
     * written. */
    if (!error && push->session != 0)
        error = producers_note_session(producers, push->producer, push->session, push->command_index, offset,
                                       gather->now_ms);
    bool noted = !error && push->session != 0;
    if (!error)
        error = gather_add_record(gather, push);
    if (error) {
        if (noted)
            producers_forget_session(producers, push->producer, push->session, push->command_index);
        push_refuse(partition, push, error);
        return;
    }
    push->base_offset = offset;
    gather->count++;
    list_push_back(&gather->added, &push->link);
}

/* A push that was not written: at the queue's head again, or failed. */
static void put_back(struct partition *partition, struct partition_push *push, int error)
{
    if (stays_queued(error))
        queue_return(partition, push);
    else
        push_finish(push, error);
}

/* Takes the notes back, newest first, and puts what is to be tried again at the queue's head; or fails it. */
static void gather_undo(struct gather *gather, int error)
{
    struct partition *partition = gather->partition;
    while (!list_empty(&gather->repeated)) {
        struct partition_push *push = push_at(gather->repeated.prev);
        list_remove(&push->link);
        if (push->base_offset < gather->base_offset)
            push_stored(partition, push, push->base_offset, push->base_offset + 1, true);
        else
            put_back(partition, push, error);
    }
    while (!list_empty(&gather->added)) {
        struct partition_push *push = push_at(gather->added.prev);
        if (push->session != 0)
            producers_forget_session(partition->producers, push->producer, push->session,
                                     push->command_index);
        list_remove(&push->link);
        put_back(partition, push, error);
    }
}

static void gather_finish(struct gather *gather)
{
    struct partition *partition = gather->partition;
    struct list *at;
    int64_t end = gather->base_offset + gather->count;
    while ((at = list_pop_front(&gather->added)) != NULL)
        push_stored(partition, push_at(at), push_at(at)->base_offset, end, false);
    while ((at = list_pop_front(&gather->repeated)) != NULL)
        push_stored(partition, push_at(at), push_at(at)->base_offset, push_at(at)->base_offset + 1, true);
}

static int gather_write(struct gather *gather)
{
    struct buf *batch;
    int error = batch_builder_finish(&gather->builder, BATCH_NONE, 0, &batch);
    if (error)
        return error;
    struct batch_header header;
    error = batch_read_header(bytes_of(batch->data, batch->len), UINT32_MAX, &header);
    assert(error == 0); /* it was just built */
    error = append(gather->partition, &header, batch->data);
    buf_unref(batch);
    return error;
}

/* Writes the run of single pushes at the queue's head as one batch. CLYMQ_ENOSPC, CLYMQ_EAGAIN: they stay
 * there. */
static int write_singles(struct partition *partition)
{
    struct gather gather = {
        .partition = partition,
        .base_offset = partition_end(partition),
        .now_ms = io_loop_wall_ms(partition->shard->loop),
    };
    list_init(&gather.added);
    list_init(&gather.repeated);
    size_t hint = partition->queue_bytes < GATHER_MAX_BYTES ? partition->queue_bytes : GATHER_MAX_BYTES;
    int error =
        partition_producers(partition) ? batch_builder_init(&gather.builder, hint + 256) : CLYMQ_ENOMEM;
    if (error) {
        struct partition_push *push = push_at(partition->queue.next);
        queue_take(partition, push);
        push_refuse(partition, push, error);
        return 0;
    }
    while (!list_empty(&partition->queue) && gather.bytes < GATHER_MAX_BYTES &&
           gather.count < GATHER_MAX_COUNT) {
        struct partition_push *push = push_at(partition->queue.next);
        if (push->batch.ptr)
            break;
        size_t room = (size_t)partition->config.max_batch_bytes;
        if (gather.count > 0 && gather.bytes + push_bytes(push) + 512 > room)
            break;
        gather_push(&gather, push);
    }
    error = gather.count > 0 ? gather_write(&gather) : 0;
    batch_builder_free(&gather.builder);
    if (error)
        gather_undo(&gather, error == CLYMQ_ELOG_FAILED ? CLYMQ_EUNCERTAIN : error);
    else
        gather_finish(&gather);
    return stays_queued(error) ? error : 0;
}

/* ---- the queue ---- */

/* The first batch of a block that continues another: the producer table. */
static int write_table(struct partition *partition)
{
    struct producers *producers = partition_producers(partition);
    struct buf *batch;
    int error = producers ? producers_control_batch(producers, &batch) : CLYMQ_ENOMEM;
    if (error)
        return error;
    struct batch_header header;
    error = batch_read_header(bytes_of(batch->data, batch->len), UINT32_MAX, &header);
    assert(error == 0); /* it was just built */
    error = append(partition, &header, batch->data);
    buf_unref(batch);
    if (error)
        return error;
    partition->table_needed = false;
    partition->ready_offset = batch_last_offset(&header) + 1;
    block_want_commit(partition_last(partition)->block);
    return 0;
}

static bool partition_can_write(struct partition *partition)
{
    if (partition->sealed)
        return false;
    if (partition->table_needed && write_table(partition) != 0)
        return false;
    return partition->watermark >= partition->ready_offset;
}

static void queue_refuse(struct partition *partition, int error)
{
    while (!list_empty(&partition->queue)) {
        struct partition_push *push = push_at(partition->queue.next);
        queue_take(partition, push);
        push_refuse(partition, push, error);
    }
}

static int arm_retry(struct partition *partition)
{
    if (io_timer_armed(&partition->retry))
        return 0;
    return io_timer_start(partition->shard->loop, &partition->retry, IO_MS(RETRY_MS));
}

static void queue_block(struct partition *partition)
{
    if (partition->draining)
        queue_refuse(partition, CLYMQ_ESHUTDOWN);
    partition->blocked = true;
    if (arm_retry(partition))
        partition_fail_pushes(partition, CLYMQ_ENOMEM, CLYMQ_EUNCERTAIN);
}

/* Once, not at every attempt. */
static void tell_blocked(const struct partition *partition, int error)
{
    char topic[33];

    if (partition->blocked)
        return;
    uuid_format(partition->config.topic, topic);
    log_limited(LOG_WARN, "topic %s, partition %" PRIu32 ": pushes wait: %s", topic, partition->config.number,
                error_sentence(error));
}

static void queue_unblock(struct partition *partition)
{
    if (!partition->blocked)
        return;
    partition->blocked = false;
    io_timer_stop(partition->shard->loop, &partition->retry);
}

void partition_pump_pushes(struct partition *partition)
{
    while (!list_empty(&partition->refused)) {
        struct partition_push *push = push_at(partition->refused.next);
        list_remove(&push->link);
        push_refuse(partition, push, push->error);
    }
    if (partition_error(partition)) {
        partition_fail_pushes(partition, CLYMQ_ELOG_FAILED, CLYMQ_EUNCERTAIN);
        return;
    }
    size_t before = partition->queue_bytes;
    while (!list_empty(&partition->queue) || partition->table_needed) {
        /* The rest in the next round (without memory for the timer: now). */
        if (before - partition->queue_bytes >= PUMP_BYTES && !partition->blocked &&
            io_timer_start(partition->shard->loop, &partition->retry, 0) == 0)
            return;
        if (block_makes_room(partition_last(partition)->block)) {
            /* Mostly for a moment, and its end is told; the timer is for those who wait too long. Without
             * memory for it they wait until that end. */
            (void)arm_retry(partition);
            return;
        }
        if (!partition_can_write(partition)) {
            queue_block(partition);
            return;
        }
        if (list_empty(&partition->queue))
            break;
        struct partition_push *push = push_at(partition->queue.next);
        int error = push->batch.ptr ? write_batch(partition, push) : write_singles(partition);
        if (error == CLYMQ_EAGAIN)
            continue;
        if (error) {
            tell_blocked(partition, error);
            queue_block(partition);
            return;
        }
    }
    queue_unblock(partition);
}

void partition_retry_pushes(struct io_timer *timer)
{
    struct partition *partition = timer->ctx;
    uint64_t now_ns = io_loop_now_ns(partition->shard->loop);
    int error = store_is_full(partition->store)                      ? CLYMQ_ENOSPC
                : block_makes_room(partition_last(partition)->block) ? CLYMQ_ELIMIT
                                                                     : CLYMQ_EPARTITION_REMOVED;
    while (!list_empty(&partition->queue)) {
        struct partition_push *push = push_at(partition->queue.next);
        if (push->deadline_ns > now_ns)
            break;
        queue_take(partition, push);
        push_refuse(partition, push, error);
    }
    partition_wake(partition);
}

static void fail_committing(struct partition *partition, int error)
{
    while (!list_empty(&partition->committing))
        push_finish(push_at(partition->committing.next), error);
}

void partition_fail_pushes(struct partition *partition, int queued_error, int written_error)
{
    fail_committing(partition, written_error);
    while (!list_empty(&partition->refused)) {
        struct partition_push *push = push_at(partition->refused.next);
        list_remove(&push->link);
        push_refuse(partition, push, push->error);
    }
    queue_refuse(partition, queued_error);
    fail_committing(partition, written_error); /* repeats of what was written */
    queue_unblock(partition);
}
