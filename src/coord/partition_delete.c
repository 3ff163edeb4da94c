/* Deleting one partition: marked in one transaction, from which on nobody knows it; its driver removes data
 * and nodes. */
#define LOG_MODULE "coord"

#include "base/error.h"
#include "base/log.h"
#include "coord/coordinator.h"

struct partition_delete {
    struct topic_op base;
    bool marked;
};

static void delete_step(struct task *task, int error)
{
    struct partition_delete *delete = (struct partition_delete *)task;
    struct coord *coord = task->coord;
    struct topic_op *op = &delete->base;
    struct registry_partition *partition = topic_op_partition(op);
    if (!delete->marked) {
        if (error) {
            op_finish(&op->op, error, "partition %s of topic %s was not deleted: %s", op->partition,
                      op->topic, error_sentence(error));
            return;
        }
        delete->marked = true;
        partition->state = STATE_DELETING;
        partition->version++;
        partition->error = 0;
        log_info("partition %s/%s is marked as deleted", partition->topic->name, partition->name);
        find_notify(partition);
        topic_op_wait(op, partition->topic);
        partition_drive(coord, partition);
    }
    if (!partition)
        op_finish_plain(&op->op, 0);
    else if (partition->error)
        op_finish(&op->op, partition->error,
                  "partition %s of topic %s is deleted, but not all of it is removed yet: %s; this goes on "
                  "by itself",
                  op->partition, op->topic, error_sentence(partition->error));
}

/* One that is being deleted already: to hear how it ends. */
static bool delete_again(struct partition_delete *delete)
{
    struct coord *coord = delete->base.op.task.coord;
    struct registry_topic *topic = coord_topic(coord, delete->base.topic);
    struct registry_partition *partition =
        topic ? registry_find_partition(topic, delete->base.partition) : NULL;
    if (!partition || partition->state != STATE_DELETING)
        return false;
    delete->base.topic_id = topic->id;
    delete->base.number = partition->number;
    delete->marked = true;
    partition->error = 0;
    topic_op_wait(&delete->base, topic);
    partition_drive(coord, partition);
    return true;
}

static void delete_begin(struct op *op)
{
    struct partition_delete *delete = (struct partition_delete *)op;
    const struct coord *coord = op->task.coord;
    op->task.step = delete_step;
    if (delete_again(delete))
        return;
    const struct registry_partition *partition = topic_op_find_partition(&delete->base);
    if (!partition)
        return;
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_partition(&value, &(struct codec_partition){.number = partition->number,
                                                            .state = STATE_DELETING,
                                                            .ack = partition->ack,
                                                            .replicas = partition->replicas});
    txn_set(&txn, path_partition(coord, partition), &value, partition->version);
    task_transact(&op->task, &txn);
}

void coord_delete_partition(struct coord *coord, const char *topic, const char *partition, coord_done done,
                            void *ctx)
{
    struct partition_delete *delete =
        topic_op_new(sizeof(*delete), delete_begin, topic, partition, done, ctx);
    if (delete)
        topic_op_submit(coord, &delete->base);
}
