/* Dropping a partition's oldest blocks, for retention: marked as deleted in one transaction; the driver then
 * gives the leader the shorter chain, has the files removed, and removes the nodes. */
#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

struct block_drop {
    struct op op;
    struct uuid topic_id;
    uint32_t partition, seq;
    uint32_t count; /* blocks from the chain's head */
    bool queued;    /* together with the other operations on its topic */
};

static struct registry_partition *drop_partition(const struct block_drop *drop)
{
    const struct registry_topic *topic =
        registry_find_topic_id(&drop->op.task.coord->registry, drop->topic_id);
    return topic ? registry_partition_by_number(topic, drop->partition) : NULL;
}

static int drop_reserve(struct registry_partition *partition, uint32_t count)
{
    if (partition->dropped_cap - partition->dropped_count >= count)
        return 0;
    uint32_t cap = partition->dropped_count + count;
    struct coord_block *grown = mem_realloc(partition->dropped, cap * sizeof(*grown));
    if (!grown)
        return CLYMQ_ENOMEM;
    partition->dropped = grown;
    partition->dropped_cap = cap;
    return 0;
}

static void drop_step(struct task *task, int error)
{
    struct block_drop *drop = (struct block_drop *)task;
    struct registry_partition *partition = drop_partition(drop);
    if (error) {
        op_finish_plain(&drop->op, error);
        return;
    }
    for (uint32_t i = 0; i < drop->count; i++) {
        partition->blocks[0].version++;
        if (registry_drop_block(partition, 0))
            break; /* cannot be: there is room */
    }
    partition_serve_again(partition);
    partition_drive(task->coord, partition);
    op_finish_plain(&drop->op, 0);
}

static void drop_begin(struct op *op)
{
    struct block_drop *drop = (struct block_drop *)op;
    struct coord *coord = op->task.coord;
    struct registry_partition *partition = drop_partition(drop);
    if (!partition || partition->state != STATE_READY || partition->topic->state != STATE_READY) {
        op_finish_plain(op, CLYMQ_EPARTITION_UNKNOWN);
        return;
    }
    if (!drop->queued || !partition_is_open(partition)) {
        op_finish_plain(op, CLYMQ_EAGAIN);
        return;
    }
    while (drop->count < partition->block_count && partition->blocks[drop->count].seq <= drop->seq &&
           partition->blocks[drop->count].state == COORD_BLOCK_SEALED)
        drop->count++;
    if (drop->count < partition->block_count && partition->blocks[drop->count].seq <= drop->seq) {
        op_finish(op, CLYMQ_EINVAL, "block %u is not sealed: it cannot be dropped", drop->seq);
        return;
    }
    if (drop->count == 0) {
        op_finish_plain(op, 0);
        return;
    }
    int error = drop_reserve(partition, drop->count);
    if (error) {
        op_finish_plain(op, error);
        return;
    }
    struct txn txn = coord_txn(coord);
    for (uint32_t i = 0; i < drop->count; i++) {
        struct coord_block block = partition->blocks[i];
        block.state = COORD_BLOCK_DELETED;
        txn_set_block(coord, &txn, partition, &block);
    }
    op->task.step = drop_step;
    task_transact(&op->task, &txn);
}

void coord_drop_blocks(struct coord *coord, struct uuid topic_id, uint32_t partition, uint32_t seq,
                       coord_done done, void *ctx)
{
    struct block_drop *drop = op_new(sizeof(*drop), drop_begin, done, ctx);
    if (!drop)
        return;
    drop->topic_id = topic_id;
    drop->partition = partition;
    drop->seq = seq;
    /* One queue with the other operations on the topic; where it is not known yet the caller comes again. */
    const struct registry_topic *topic =
        coord->registry_there ? registry_find_topic_id(&coord->registry, topic_id) : NULL;
    drop->queued = topic != NULL;
    char id[33];
    uuid_format(topic_id, id);
    op_submit(coord, &drop->op, topic ? "topic %s" : "id %s", topic ? topic->name : id);
}
