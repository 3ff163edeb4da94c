/* Changing a topic's options: recorded first, then told to every connected broker. One that cannot be told
 * now hears them with its partitions' chains, which are then given to it again until it takes them. */
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

struct topic_config {
    struct topic_op base;
    struct coord_topic_config change;
    struct coord_topic_config config; /* with the change */
    int bad;
    char bad_text[512];
    bool recorded;
    uint32_t broker; /* being told */
};

static void config_issue(struct task *task, coord_broker_done done, void *ctx)
{
    struct topic_config *change = (struct topic_config *)task;
    const struct registry_broker *broker = task->coord->registry.brokers[change->broker];
    const struct registry_topic *topic = topic_op_topic(&change->base);
    if (broker->live && topic)
        broker->ops->update_config(broker->broker, topic->name, topic->id, &topic->config, done, ctx);
    else
        done(ctx, 0, 0);
}

/* The chains of that broker are given to it again, with the options. */
static void config_serve_again(struct coord *coord, struct registry_topic *topic, uint32_t broker)
{
    for (uint32_t i = 0; i < topic->partition_count; i++) {
        struct registry_partition *partition = topic->partitions[i];
        const struct coord_block *block = partition_serving_block(partition);
        if (!block || block->leader != broker)
            continue;
        partition_serve_again(partition);
        partition_drive(coord, partition);
    }
}

static void config_tell_next(struct topic_config *change)
{
    struct coord *coord = change->base.op.task.coord;
    while (change->broker < coord->registry.broker_count && !coord->registry.brokers[change->broker]->live)
        change->broker++;
    if (change->broker < coord->registry.broker_count)
        task_call_broker(&change->base.op.task, config_issue);
    else
        op_finish_plain(&change->base.op, 0);
}

static void config_step(struct task *task, int error)
{
    struct topic_config *change = (struct topic_config *)task;
    struct registry_topic *topic = topic_op_topic(&change->base);
    if (!change->recorded) {
        if (error) {
            op_finish(&change->base.op, error, "the options of topic %s were not changed: %s",
                      change->base.topic, error_sentence(error));
            return;
        }
        change->recorded = true;
        topic->version++;
        topic->config = change->config;
    } else {
        if (error && topic)
            config_serve_again(task->coord, topic, change->broker);
        change->broker++;
    }
    config_tell_next(change);
}

static void config_begin(struct op *op)
{
    struct topic_config *change = (struct topic_config *)op;
    const struct coord *coord = op->task.coord;
    if (change->bad) {
        op_finish(op, change->bad, "%s", change->bad_text);
        return;
    }
    const struct registry_topic *topic = topic_op_find_topic(&change->base);
    if (!topic)
        return;
    change->config = topic->config;
    codec_apply_config_change(&change->change, &change->config);
    op->task.step = config_step;
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_topic(&value, topic->id, STATE_READY, topic->next_number, &change->config);
    txn_set(&txn, path_topic(coord, topic->name), &value, topic->version);
    task_transact(&op->task, &txn);
}

void coord_set_topic_config(struct coord *coord, const char *topic, struct bytes config, coord_done done,
                            void *ctx)
{
    struct topic_config *change = topic_op_new(sizeof(*change), config_begin, topic, NULL, done, ctx);
    if (!change)
        return;
    struct strbuf why = {0};
    change->bad = codec_read_config_change(config, &change->change, &why);
    if (change->bad)
        snprintf(change->bad_text, sizeof(change->bad_text), "%s",
                 why.data ? why.data : error_sentence(change->bad));
    strbuf_free(&why);
    topic_op_submit(coord, &change->base);
}
