/* Pulls: reading across the chain, and waiting for data. A pull that arrives is looked at at the end of the
 * round, so that its answer never comes from inside the call; one that must wait hangs in a list until the
 * watermark moves or its timer fires. */
#include <assert.h>

#include "base/error.h"
#include "partition/state.h"

/* Below this offset messages are shown. */
static int64_t partition_shown(const struct partition *partition)
{
    const struct partition_faults *faults = partition->config.faults;
    return faults && faults->ignore_watermark ? partition_end(partition) : partition->watermark;
}

static void pull_finish(struct partition_pull *pull, int error)
{
    struct partition *partition = pull->partition;
    list_remove(&pull->link);
    io_timer_stop(partition->shard->loop, &pull->timer);
    pull->error = error;
    pull->log_start = partition_start(partition);
    pull->watermark = partition_shown(partition);
    pull->done(pull);
}

/* Reads from the block that holds offset, or, after a gap at a block's end, from the next one. */
static int partition_read(struct partition *partition, int64_t offset, size_t max_bytes,
                          struct block_range *ret_range)
{
    *ret_range = (struct block_range){0};
    int64_t shown = partition_shown(partition);
    if (offset >= shown && partition_is_behind(partition) && partition_error(partition))
        return CLYMQ_ELOG_FAILED;
    if (offset < partition_start(partition) || offset > partition_end(partition))
        return CLYMQ_EOFFSET_RANGE;
    if (offset >= shown)
        return 0;
    for (uint32_t i = 0; i < partition->chain_count; i++) {
        struct block *block = partition->chain[i].block;
        if (offset >= block_end(block))
            continue;
        int64_t from = offset > block_start(block) ? offset : block_start(block);
        int64_t limit = shown < block_end(block) ? shown : block_end(block);
        if (from >= limit)
            continue;
        int error = block_read(block, from, limit, max_bytes, ret_range);
        if (error || ret_range->len > 0) {
            ret_range->more = ret_range->more || limit < shown;
            return error;
        }
    }
    return 0;
}

/* Answers it if it can be answered now. */
static bool pull_try(struct partition_pull *pull)
{
    struct partition *partition = pull->partition;
    int error = partition_read(partition, pull->offset, pull->max_bytes, &pull->range);
    if (error) {
        pull_finish(pull, error);
        return true;
    }
    /* A range ends with its segment, and before a batch that does not fit: waiting adds nothing to it then.
     */
    bool enough = pull->range.len > 0 && (pull->range.len >= pull->min_bytes || pull->range.more ||
                                          pull->range.len >= pull->max_bytes);
    if (!enough && partition_end(partition) > partition_shown(partition))
        block_want_commit(partition_last(partition)->block);
    if (enough || pull->wait_ms <= 0) {
        pull_finish(pull, 0);
        return true;
    }
    if (pull->range.len > 0)
        block_range_release(&pull->range);
    pull->range = (struct block_range){0};
    return false;
}

static void pull_timed_out(struct io_timer *timer)
{
    struct partition_pull *pull = timer->ctx;
    pull->wait_ms = 0;
    pull_try(pull);
}

void partition_pull(struct partition *partition, struct partition_pull *pull)
{
    assert(pull->done);
    pull->partition = partition;
    pull->range = (struct block_range){0};
    pull->timer = (struct io_timer){.fire = pull_timed_out, .ctx = pull};
    list_init(&pull->link);
    list_push_back(&partition->pulls_new, &pull->link);
    partition_wake(partition);
}

void partition_pull_cancel(struct partition_pull *pull)
{
    list_remove(&pull->link);
    io_timer_stop(pull->partition->shard->loop, &pull->timer);
}

void partition_answer_new_pulls(struct partition *partition)
{
    struct list *at;
    while ((at = list_pop_front(&partition->pulls_new)) != NULL) {
        struct partition_pull *pull = CONTAINER_OF(at, struct partition_pull, link);
        if (pull_try(pull))
            continue;
        list_push_back(&partition->pulls_waiting, &pull->link);
        if (io_timer_start(partition->shard->loop, &pull->timer, IO_MS(pull->wait_ms)) != 0)
            pull_finish(pull, CLYMQ_ENOMEM);
    }
}

void partition_answer_waiting_pulls(struct partition *partition)
{
    /* A done callback may ask for the next pull (into pulls_new) or cancel others, so the list is walked by
     * moving it aside first. */
    struct list waiting;
    list_init(&waiting);
    struct list *at;
    list_move_all(&partition->pulls_waiting, &waiting);
    while ((at = list_pop_front(&waiting)) != NULL) {
        struct partition_pull *pull = CONTAINER_OF(at, struct partition_pull, link);
        list_push_back(&partition->pulls_waiting, at);
        pull_try(pull);
    }
}

void partition_fail_pulls(struct partition *partition, int error)
{
    struct list *lists[2] = {&partition->pulls_new, &partition->pulls_waiting};
    for (unsigned i = 0; i < 2; i++)
        while (!list_empty(lists[i]))
            pull_finish(CONTAINER_OF(lists[i]->next, struct partition_pull, link), error);
}
