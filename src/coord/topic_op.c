/* What all operations on one topic share: names, finding what they name, waiting for its changes. */
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "coord/coordinator.h"

struct registry_topic *topic_op_topic(const struct topic_op *op)
{
    const struct coord *coord = op->op.task.coord;
    return coord->registry_there && !uuid_is_none(op->topic_id)
               ? registry_find_topic_id(&coord->registry, op->topic_id)
               : NULL;
}

struct registry_partition *topic_op_partition(const struct topic_op *op)
{
    const struct registry_topic *topic = topic_op_topic(op);
    return topic ? registry_partition_by_number(topic, op->number) : NULL;
}

static void topic_op_free(struct op *base)
{
    struct topic_op *op = (struct topic_op *)base;
    mem_free(op->topic);
    mem_free(op->partition);
}

void topic_op_stop_waiting(struct topic_op *op)
{
    struct registry_topic *topic = topic_op_topic(op);
    if (topic && topic->waiter == &op->op.task)
        topic->waiter = NULL;
}

static void topic_op_on_end(struct op *base)
{
    topic_op_stop_waiting((struct topic_op *)base);
}

void *topic_op_new(size_t size, void (*begin)(struct op *op), const char *topic, const char *partition,
                   coord_done done, void *ctx)
{
    struct topic_op *op = op_new(size, begin, done, ctx);
    if (!op)
        return NULL;
    op->op.free_parts = topic_op_free;
    op->op.on_end = topic_op_on_end;
    op->topic = mem_strdup(topic);
    op->partition = partition ? mem_strdup(partition) : NULL;
    if (op->topic && (op->partition || !partition))
        return op;
    op->op.answer(&op->op, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM));
    topic_op_free(&op->op);
    mem_free(op);
    return NULL;
}

void topic_op_submit(struct coord *coord, struct topic_op *op)
{
    op_submit(coord, &op->op, "topic %s", op->topic);
}

static struct registry_topic *find_topic(struct topic_op *op, const char *advice)
{
    const struct coord *coord = op->op.task.coord;
    if (name_check(bytes_of_text(op->topic)) || (op->partition && name_check(bytes_of_text(op->partition)))) {
        op_finish_plain(&op->op, CLYMQ_ENAME);
        return NULL;
    }
    struct registry_topic *topic = coord_topic(coord, op->topic);
    if (!topic) {
        op_finish(&op->op, CLYMQ_ETOPIC_UNKNOWN, "unknown topic %s: %s", op->topic, advice);
        return NULL;
    }
    op->topic_id = topic->id;
    return topic;
}

struct registry_topic *topic_op_find_topic(struct topic_op *op)
{
    return find_topic(op, "see the names that there are (clymq topic list)");
}

struct registry_topic *topic_op_find_topic_for_more(struct topic_op *op)
{
    return find_topic(op, "create it first (clymq topic create)");
}

struct registry_partition *topic_op_find_partition(struct topic_op *op)
{
    const struct registry_topic *topic = topic_op_find_topic(op);
    if (!topic)
        return NULL;
    struct registry_partition *partition = registry_find_partition(topic, op->partition);
    if (!partition || partition->state != STATE_READY) {
        op_finish(&op->op, CLYMQ_EPARTITION_UNKNOWN,
                  "unknown partition %s of topic %s: see the names that it has (clymq topic describe)",
                  op->partition, op->topic);
        return NULL;
    }
    op->number = partition->number;
    return partition;
}

void topic_op_wait(struct topic_op *op, struct registry_topic *topic)
{
    topic->waiter = &op->op.task;
}

bool topic_op_wait_removal(struct topic_op *op, struct registry_topic *topic)
{
    struct coord *coord = op->op.task.coord;
    uint64_t now_ns = io_loop_now_ns(coord->shard->loop);
    if (!op->deadline_ns)
        op->deadline_ns = now_ns + IO_MS((uint64_t)coord->config.removal_wait_ms);
    if (now_ns >= op->deadline_ns)
        return false;
    topic_op_wait(op, topic);
    task_pause(&op->op.task, (uint32_t)((op->deadline_ns - now_ns + 999999) / 1000000));
    return true;
}
