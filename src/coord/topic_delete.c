/* Deleting a topic: marked in one transaction, from which on nobody knows it; the rest is its removal
 * (removal.c). */
#define LOG_MODULE "coord"

#include "base/error.h"
#include "base/log.h"
#include "coord/coordinator.h"

struct topic_delete {
    struct topic_op base;
    bool marked;
};

static void delete_wait(struct topic_delete *delete, struct registry_topic *topic)
{
    struct coord *coord = delete->base.op.task.coord;
    (void)topic_op_wait_removal(&delete->base, topic);
    if (removal_start(coord, topic))
        op_finish(&delete->base.op, CLYMQ_ENOMEM,
                  "topic %s is deleted, but not all of it is removed yet: %s; this goes on by itself",
                  delete->base.topic, error_sentence(CLYMQ_ENOMEM));
}

static void delete_step(struct task *task, int error)
{
    struct topic_delete *delete = (struct topic_delete *)task;
    struct registry_topic *topic = topic_op_topic(&delete->base);
    if (error && !delete->marked) {
        op_finish(&delete->base.op, error, "topic %s was not deleted: %s", delete->base.topic,
                  error_sentence(error));
        return;
    }
    if (!delete->marked) {
        delete->marked = true;
        topic->state = STATE_DELETING;
        topic->version++;
        log_info("topic %s is marked as deleted", topic->name);
        for (uint32_t i = 0; i < topic->partition_count; i++)
            find_notify(topic->partitions[i]);
        delete_wait(delete, topic);
        return;
    }
    if (!topic)
        op_finish_plain(&delete->base.op, 0);
    else if (removal_error(topic))
        op_finish(&delete->base.op, removal_error(topic),
                  "topic %s is deleted, but not all of it is removed yet: %s; this goes on by itself",
                  delete->base.topic, error_sentence(removal_error(topic)));
    else if (!topic_op_wait_removal(&delete->base, topic))
        op_finish_plain(&delete->base.op, 0); /* it is gone for everybody; the rest is long */
}

static void delete_begin(struct op *op)
{
    struct topic_delete *delete = (struct topic_delete *)op;
    struct coord *coord = op->task.coord;
    op->task.step = delete_step;
    struct registry_topic *topic = registry_find_topic(&coord->registry, delete->base.topic);
    if (topic && topic->state == STATE_DELETING) { /* once more, to hear how it ends */
        delete->base.topic_id = topic->id;
        delete->marked = true;
        delete_wait(delete, topic);
        return;
    }
    topic = topic_op_find_topic(&delete->base);
    if (!topic)
        return;
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_topic(&value, topic->id, STATE_DELETING, topic->next_number, &topic->config);
    txn_set(&txn, path_topic(coord, topic->name), &value, topic->version);
    task_transact(&op->task, &txn);
}

void coord_delete_topic(struct coord *coord, const char *topic, coord_done done, void *ctx)
{
    struct topic_delete *delete = topic_op_new(sizeof(*delete), delete_begin, topic, NULL, done, ctx);
    if (delete)
        topic_op_submit(coord, &delete->base);
}
