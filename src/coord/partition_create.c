/* Creating one partition by name: one transaction for its nodes and the topic's next number; its block is
 * opened right after. */
#define LOG_MODULE "coord"

#include "base/error.h"
#include "base/log.h"
#include "coord/coordinator.h"

struct partition_create {
    struct topic_op base;
};

static void create_fail(struct topic_op *op, int error)
{
    op_finish(&op->op, error, "partition %s of topic %s was not created: %s", op->partition, op->topic,
              error_sentence(error));
}

static void create_step(struct task *task, int error)
{
    struct topic_op *op = (struct topic_op *)task;
    struct coord *coord = task->coord;
    struct registry_partition *partition = topic_op_partition(op);
    if (error) {
        registry_remove_partition(&coord->registry, partition);
        create_fail(op, error);
        return;
    }
    struct registry_topic *topic = partition->topic;
    topic->version++;
    topic->next_number++;
    partition->state = STATE_READY;
    log_info("partition %s/%s is created, number %u", topic->name, partition->name, partition->number);
    partition_drive(coord, partition);
    op_finish_plain(&op->op, 0);
}

/* The partition is in memory before it is recorded, in a state in which nobody sees it. */
static int create_in_memory(struct topic_op *op, struct registry_topic *topic,
                            struct registry_partition **ret_partition)
{
    struct coord *coord = op->op.task.coord;
    struct coord_block block;
    int error = placement_new_block(coord, &topic->id, topic->next_number, 0, -1, &block);
    if (error)
        return error;
    struct registry_partition *partition;
    error = registry_add_partition(&coord->registry, topic, op->partition, topic->next_number, &partition);
    if (error)
        return error;
    block.start = 0;
    error = registry_add_block(partition, &block);
    if (error) {
        registry_remove_partition(&coord->registry, partition);
        return error;
    }
    partition->state = STATE_CREATING;
    *ret_partition = partition;
    return 0;
}

static bool create_refused(struct topic_op *op, const struct registry_topic *topic)
{
    const struct coord *coord = op->op.task.coord;
    const struct registry_partition *there = registry_find_partition(topic, op->partition);
    if (there && there->state == STATE_READY)
        op_finish(&op->op, CLYMQ_EEXIST, "partition %s of topic %s already exists", op->partition, op->topic);
    else if (there)
        op_finish(&op->op, CLYMQ_EBUSY, "partition %s of topic %s is being deleted: try again", op->partition,
                  op->topic);
    else if (topic->partition_count >= coord->config.max_topic_partitions ||
             coord->registry.partition_count >= coord->config.max_partitions ||
             topic->next_number >= UINT32_MAX - 1)
        op_finish(&op->op, CLYMQ_ELIMIT,
                  "topic %s has %u partitions, and there are %u in all: no more may be added", op->topic,
                  topic->partition_count, coord->registry.partition_count);
    else
        return false;
    return true;
}

static void create_begin(struct op *base)
{
    struct topic_op *op = (struct topic_op *)base;
    struct coord *coord = base->task.coord;
    struct registry_topic *topic = topic_op_find_topic_for_more(op);
    if (!topic || create_refused(op, topic))
        return;
    struct registry_partition *partition;
    int error = create_in_memory(op, topic, &partition);
    if (error == CLYMQ_EAGAIN) {
        op_finish(base, error,
                  "no broker is connected that could hold the partition: start one, then try again");
        return;
    }
    if (error) {
        create_fail(op, error);
        return;
    }
    op->number = partition->number;
    base->task.step = create_step;
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_topic(&value, topic->id, STATE_READY, topic->next_number + 1, &topic->config);
    txn_set(&txn, path_topic(coord, topic->name), &value, topic->version);
    txn_create_partition(coord, &txn, partition);
    task_transact(&base->task, &txn);
}

void coord_create_partition(struct coord *coord, const char *topic, const char *partition, coord_done done,
                            void *ctx)
{
    struct topic_op *create =
        topic_op_new(sizeof(struct partition_create), create_begin, topic, partition, done, ctx);
    if (create)
        topic_op_submit(coord, create);
}
