/* Setting a partition's ack level and replica count. An open block's never change, so where the change
 * matters to it one transaction records the new values, marks the open block as sealing and the next one as
 * creating; the driver does the rest. */
#define LOG_MODULE "coord"

#include "base/error.h"
#include "base/log.h"
#include "coord/coordinator.h"

enum state_stage { STATE_SETTLE, STATE_CHECK, STATE_RECORD, STATE_SEAL };

struct partition_state {
    struct topic_op base;
    int ack;
    uint32_t replicas;
    enum state_stage stage;
    bool seals;
    struct coord_block sealing, next; /* as they will be */
};

static void state_fail(struct partition_state *change, int error, const char *why)
{
    op_finish(&change->base.op, error, "the state of partition %s of topic %s was not changed: %s",
              change->base.partition, change->base.topic, why);
}

static int state_ack(const struct partition_state *change, const struct registry_partition *partition)
{
    return change->ack == COORD_ACK_UNSET ? partition_ack(partition) : change->ack;
}

static void state_record(struct partition_state *change, struct registry_partition *partition)
{
    struct coord *coord = change->base.op.task.coord;
    struct coord_block *last = partition_last_block(partition);
    int ack = state_ack(change, partition);
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_partition(&value, &(struct codec_partition){
                                      .number = partition->number,
                                      .state = STATE_READY,
                                      .ack = change->ack == COORD_ACK_UNSET ? partition->ack : change->ack,
                                      .replicas = change->replicas ? change->replicas : partition->replicas,
                                  });
    txn_set(&txn, path_partition(coord, partition), &value, partition->version);
    if (change->seals) {
        int error = last->base_epoch == INT32_MAX ? CLYMQ_ELIMIT : registry_reserve_block(partition);
        last = partition_last_block(partition); /* making room may have moved it */
        if (!error)
            error = placement_new_block(coord, &partition->topic->id, partition->number, last->seq + 1, ack,
                                        &change->next);
        if (error) {
            txn_free(&txn);
            state_fail(change, error, error_sentence(error));
            return;
        }
        change->next.base_epoch = last->base_epoch + 1;
        change->sealing = *last;
        change->sealing.state = COORD_BLOCK_SEALING;
        change->sealing.round++;
        txn_set_block(coord, &txn, partition, &change->sealing);
        txn_create_block(coord, &txn, partition, &change->next);
    }
    change->stage = STATE_RECORD;
    topic_op_stop_waiting(&change->base); /* from here on only the transaction steps this */
    task_transact(&change->base.op.task, &txn);
}

static void state_enter(struct partition_state *change, struct registry_partition *partition)
{
    partition->version++;
    if (change->ack != COORD_ACK_UNSET)
        partition->ack = (int8_t)change->ack;
    if (change->replicas)
        partition->replicas = change->replicas;
    if (!change->seals)
        return;
    change->sealing.version++;
    *partition_last_block(partition) = change->sealing;
    (void)registry_add_block(partition, &change->next); /* there is room: registry_reserve_block */
    partition->round_tried = false;
    partition->error = 0;
}

static void state_issue_check(struct task *task, coord_broker_done done, void *ctx)
{
    struct coord *coord = task->coord;
    const struct registry_partition *partition = topic_op_partition((struct topic_op *)task);
    const struct registry_broker *broker = coord->registry.brokers[partition_last_block(partition)->leader];
    struct coord_partition_spec spec = partition_spec(coord, partition);
    if (broker->live)
        broker->ops->check_partition(broker->broker, &spec, done, ctx);
    else
        done(ctx, CLYMQ_EAGAIN, 0);
}

/* Once the change is recorded there is no way back, and a block that cannot be sealed would keep the
 * partition out of service: that is asked first. */
static void state_check(struct partition_state *change)
{
    change->stage = STATE_CHECK;
    topic_op_stop_waiting(&change->base); /* only the answer steps this */
    task_call_broker(&change->base.op.task, state_issue_check);
}

/* Before anything is recorded the partition must be in service as it is. */
static void state_settle(struct partition_state *change, struct registry_partition *partition)
{
    struct coord *coord = change->base.op.task.coord;
    change->stage = STATE_SETTLE;
    if (partition_is_open(partition)) {
        /* While blocks live on one broker each, the number of replicas wanted counts for later blocks only.
         */
        change->seals = state_ack(change, partition) != partition_last_block(partition)->ack;
        if (change->seals)
            state_check(change);
        else
            state_record(change, partition);
    } else if (partition->error) {
        state_fail(change, CLYMQ_EAGAIN, partition_trouble(coord, partition));
    } /* else: a change of the partition steps this again */
}

static void state_step(struct task *task, int error)
{
    struct partition_state *change = (struct partition_state *)task;
    struct coord *coord = task->coord;
    struct registry_partition *partition = topic_op_partition(&change->base);
    switch (change->stage) {
    case STATE_SETTLE:
        state_settle(change, partition);
        return;
    case STATE_CHECK:
        if (error) {
            state_fail(change, error, error_sentence(error));
        } else if (partition_is_open(partition)) {
            state_record(change, partition);
        } else { /* its broker came again meanwhile */
            topic_op_wait(&change->base, partition->topic);
            state_settle(change, partition);
        }
        return;
    case STATE_RECORD:
        if (error) {
            state_fail(change, error, error_sentence(error));
            return;
        }
        state_enter(change, partition);
        log_info("partition %s/%s: ack level %d, %u replicas wanted", partition->topic->name, partition->name,
                 partition_ack(partition), partition->replicas);
        change->stage = STATE_SEAL;
        topic_op_wait(&change->base, partition->topic);
        partition_drive(coord, partition);
        break;
    case STATE_SEAL:
        break;
    }
    if (!change->seals || partition_is_open(partition))
        op_finish_plain(&change->base.op, 0);
    else if (partition->error)
        op_finish(&change->base.op, partition->error,
                  "the new state of partition %s of topic %s is recorded, but its next block is not open "
                  "yet: %s; this goes "
                  "on %s",
                  change->base.partition, change->base.topic, partition_trouble(coord, partition),
                  partition->driver ? "by itself" : "when its broker is started again");
}

static void state_begin(struct op *op)
{
    struct partition_state *change = (struct partition_state *)op;
    struct coord *coord = op->task.coord;
    if (change->ack != COORD_ACK_UNSET && (change->ack < -1 || change->ack > 1)) {
        op_finish(op, CLYMQ_EACK_LEVEL, "the ack level %d does not exist: use -1, 0 or 1", change->ack);
        return;
    }
    if (change->replicas > COORD_REPLICAS_MAX) {
        op_finish(op, CLYMQ_EINVAL, "%u replicas are too many: there may be %d", change->replicas,
                  COORD_REPLICAS_MAX);
        return;
    }
    struct registry_partition *partition = topic_op_find_partition(&change->base);
    if (!partition)
        return;
    op->task.step = state_step;
    topic_op_wait(&change->base, partition->topic);
    if (!partition_is_open(partition)) {
        partition->error = 0;
        partition_drive(coord, partition);
    }
    state_settle(change, partition);
}

void coord_set_partition_state(struct coord *coord, const char *topic, const char *partition, int ack,
                               uint32_t replicas, coord_done done, void *ctx)
{
    struct partition_state *change = topic_op_new(sizeof(*change), state_begin, topic, partition, done, ctx);
    if (!change)
        return;
    change->ack = ack;
    change->replicas = replicas;
    topic_op_submit(coord, &change->base);
}
