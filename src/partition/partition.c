/* A partition's life: its chain of blocks, opening, sealing, retention. Pushes are in push.c, pulls in
 * pull.c. */
#define LOG_MODULE "partition"
#include "partition/partition.h"

#include <assert.h>
#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "partition/state.h"

/* ---- what the last block tells ---- */

static void partition_on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct partition *partition = ctx;
    if (block != partition_last(partition)->block)
        return;
    if (error) {
        log_error("partition %" PRIu32 ": its log failed (%s); it takes no more pushes",
                  partition->config.number, error_sentence(error));
        partition_fail_pushes(partition, CLYMQ_ELOG_FAILED, CLYMQ_EUNCERTAIN);
        partition_answer_waiting_pulls(partition);
        return;
    }
    assert(durable_end >= partition->watermark && durable_end <= block_end(block));
    partition->watermark = durable_end;
    partition_finish_commits(partition);
    partition_answer_waiting_pulls(partition);
    if (!list_empty(&partition->queue))
        partition_wake(partition);
}

static bool partition_forgets(const struct partition *partition)
{
    const struct partition_faults *faults = partition->config.faults;
    return faults && faults->forget_producers;
}

static int partition_on_recover(void *ctx, const struct batch_header *header, struct bytes batch)
{
    struct partition *partition = ctx;
    if (partition_forgets(partition))
        return 0;
    struct producers *producers = partition_producers(partition);
    int64_t now_ms = io_loop_wall_ms(partition->shard->loop);
    return producers ? producers_note_batch(producers, header, batch, now_ms) : CLYMQ_ENOMEM;
}

static void partition_on_snapshot_save(void *ctx, struct strbuf *state)
{
    const struct partition *partition = ctx;
    /* An empty state is not loaded, and so would not replace the table of the block before. */
    if (partition->producers && (producers_count(partition->producers) > 0 || partition->chain_count > 1))
        producers_save(partition->producers, state);
}

static void partition_on_room(void *ctx, struct block *block)
{
    struct partition *partition = ctx;
    if (block == partition_last(partition)->block)
        partition_wake(partition);
}

static int partition_on_snapshot_load(void *ctx, struct bytes state)
{
    struct partition *partition = ctx;
    if (partition_forgets(partition))
        return 0;
    struct producers *producers = partition_producers(partition);
    return producers ? producers_load(producers, state) : CLYMQ_ENOMEM;
}

static struct block_events partition_events(struct partition *partition)
{
    return (struct block_events){
        .on_durable = partition_on_durable,
        .on_room = partition_on_room,
        .on_recover = partition_on_recover,
        .on_snapshot_save = partition_on_snapshot_save,
        .on_snapshot_load = partition_on_snapshot_load,
        .ctx = partition,
    };
}

struct producers *partition_producers(struct partition *partition)
{
    if (!partition->producers)
        partition->producers = producers_new(partition->place);
    return partition->producers;
}

/* ---- opening and closing ---- */

static void partition_at_tail(struct shard_tail *tail)
{
    struct partition *partition = tail->ctx;
    partition_pump_pushes(partition);
    partition_answer_new_pulls(partition);
}

void partition_wake(struct partition *partition)
{
    if (!partition->closing)
        shard_at_tail(partition->shard, &partition->tail);
}

static void recovery_add(struct block_recovery *sum, const struct block_recovery *one)
{
    sum->bytes_read += one->bytes_read;
    sum->bytes_cut += one->bytes_cut;
    sum->indexes_rebuilt += one->indexes_rebuilt;
    if (one->damaged && (!sum->damaged || one->damaged_offset < sum->damaged_offset)) {
        sum->damaged = true;
        sum->damaged_offset = one->damaged_offset;
    }
    sum->damaged_short = one->damaged_short; /* the last one's */
}

/* Opens one block of the chain. The last two rebuild the producer table: the last one's own, or, where the
 * last one is still empty, the one that it goes on from. */
static int partition_open_block(struct partition *partition, const struct partition_block *info,
                                bool with_table, struct chain_link *ret_link, struct block_recovery *recovery)
{
    struct block_events events = partition_events(partition);
    struct block_recovery one = {0};
    if (!with_table)
        events = (struct block_events){0};
    events.epoch_end = (int64_t)info->base_epoch + 1;
    struct block *block;
    int error = block_open(partition->store, &info->key, &events, &block, &one);
    if (error)
        return error;
    recovery_add(recovery, &one);
    block_set_segment_limits(block, partition->config.segment_bytes, partition->config.segment_ms);
    *ret_link = (struct chain_link){*info, block};
    return 0;
}

/* A last block that continues another and is still empty gets the producer table first; a sealed one takes
 * nothing. */
static void partition_begin_block(struct partition *partition, bool damaged_short)
{
    const struct chain_link *last = partition_last(partition);
    /* A seal may be durable that the metadata do not know as done yet: the coordinator asks for it again. */
    partition->sealed = last->info.end >= 0 || block_is_sealed(last->block);
    partition->watermark = block_durable_end(last->block);
    partition->recovered_end = damaged_short ? INT64_MAX : block_end(last->block);
    partition->ready_offset = partition->watermark;
    partition->table_needed =
        !partition->sealed && partition->chain_count > 1 && block_end(last->block) == last->info.start;
    if (partition->table_needed)
        partition_wake(partition);
}

/* Removes the block; where that fails it is closed, so that removing it can be asked for again. */
static int delete_block(struct block *block)
{
    int error = block_delete(block);
    if (error)
        block_close(block);
    return error;
}

/* There is one: the same, made before; or an empty one, which is made anew. */
static int use_existing_block(struct store *store, const struct partition_block *block)
{
    struct block *made;
    struct block_recovery recovery = {0};
    int error = block_open(store, &block->key, NULL, &made, &recovery);
    if (error)
        return error == CLYMQ_ENOENT ? CLYMQ_EEXIST : error;
    if (block_start(made) == block->start && block_end(made) == block->start) {
        block_close(made);
        return 0;
    }
    if (block_start(made) != block_end(made)) {
        block_close(made);
        return CLYMQ_EEXIST;
    }
    error = delete_block(made);
    if (!error)
        error = block_create(store, &block->key, block->start, NULL, &made);
    if (!error)
        block_close(made);
    return error;
}

int partition_create_block(struct store *store, const struct partition_block *block)
{
    struct block *made;
    int error = block_create(store, &block->key, block->start, NULL, &made);
    if (!error)
        block_close(made);
    return error == CLYMQ_EEXIST ? use_existing_block(store, block) : error;
}

static void on_block_created(struct block_creation *base, int error)
{
    struct partition_creation *creation = CONTAINER_OF(base, struct partition_creation, base);
    if (error == CLYMQ_EEXIST)
        error = use_existing_block(creation->store, &creation->block);
    creation->done(creation, error);
}

void partition_create_block_later(struct store *store, struct partition_creation *creation)
{
    creation->store = store;
    creation->base = (struct block_creation){
        .key = creation->block.key, .start_offset = creation->block.start, .done = on_block_created};
    block_create_later(store, &creation->base);
}

int partition_open(struct store *store, struct shard *shard, const struct partition_config *config,
                   const struct partition_block *blocks, size_t count, struct partition **ret_partition,
                   struct block_recovery *ret_recovery)
{
    if (count == 0 || count > UINT32_MAX)
        return CLYMQ_EINVAL;
    struct partition *partition = mem_zalloc(sizeof(*partition));
    if (!partition)
        return CLYMQ_ENOMEM;
    partition->store = store;
    partition->shard = shard;
    partition->config = *config;
    partition->place = producers_place(blocks[0].key.topic, blocks[0].key.partition);
    list_init(&partition->queue);
    list_init(&partition->committing);
    list_init(&partition->refused);
    list_init(&partition->pulls_new);
    list_init(&partition->pulls_waiting);
    list_init(&partition->tail.link);
    partition->tail.run = partition_at_tail;
    partition->tail.ctx = partition;
    partition->retry.fire = partition_retry_pushes;
    partition->retry.ctx = partition;
    partition->chain = mem_calloc(count, sizeof(*partition->chain));
    int error = partition->chain ? 0 : CLYMQ_ENOMEM;
    struct block_recovery recovery = {0};
    for (size_t i = 0; i < count && !error; i++) {
        error = partition_open_block(partition, &blocks[i], i + 2 >= count, &partition->chain[i], &recovery);
        if (!error)
            partition->chain_count++;
    }
    if (error) {
        partition_close(partition);
        return error;
    }
    partition_begin_block(partition, recovery.damaged_short);
    *ret_partition = partition;
    *ret_recovery = recovery;
    return 0;
}

static void partition_tell_sealed(struct partition *partition, int error, int64_t end)
{
    void (*on_sealed)(void *, int, int64_t) = partition->on_sealed;
    partition->on_sealed = NULL;
    if (on_sealed)
        on_sealed(partition->sealed_ctx, error, end);
}

static void partition_stop(struct partition *partition)
{
    partition->closing = true;
    io_timer_stop(partition->shard->loop, &partition->retry);
    list_remove(&partition->tail.link);
    partition_fail_pushes(partition, CLYMQ_ESHUTDOWN, CLYMQ_EUNCERTAIN);
    partition_fail_pulls(partition, CLYMQ_ESHUTDOWN);
    partition_tell_sealed(partition, CLYMQ_ESHUTDOWN, -1);
}

void partition_drain(struct partition *partition)
{
    partition->draining = true;
    partition_wake(partition);
}

static void partition_free(struct partition *partition)
{
    producers_free(partition->producers);
    mem_free(partition->chain);
    mem_free(partition);
}

void partition_close(struct partition *partition)
{
    partition_stop(partition);
    for (uint32_t i = 0; i < partition->chain_count; i++)
        block_close(partition->chain[i].block);
    partition_free(partition);
}

int partition_delete(struct partition *partition)
{
    int first_error = 0;
    partition_stop(partition);
    for (uint32_t i = 0; i < partition->chain_count; i++) {
        int error = delete_block(partition->chain[i].block);
        if (error && !first_error)
            first_error = error;
    }
    partition_free(partition);
    return first_error;
}

/* ---- the chain ---- */

static const struct partition_block *find_block(const struct partition_block *blocks, size_t count,
                                                struct uuid id)
{
    for (size_t i = 0; i < count; i++)
        if (uuid_equal(blocks[i].key.id, id))
            return &blocks[i];
    return NULL;
}

/* Removes blocks that metadata no longer names, keeping the order of the rest. */
static int partition_drop_unnamed(struct partition *partition, const struct partition_block *blocks,
                                  size_t count)
{
    uint32_t kept = 0;
    int first_error = 0;
    for (uint32_t i = 0; i < partition->chain_count; i++) {
        struct chain_link link = partition->chain[i];
        if (find_block(blocks, count, link.info.key.id)) {
            partition->chain[kept++] = link;
            continue;
        }
        int error = delete_block(link.block);
        if (error && !first_error)
            first_error = error;
    }
    partition->chain_count = kept;
    return first_error;
}

int partition_adopt_chain(struct partition *partition, const struct partition_block *blocks, size_t count)
{
    if (count == 0)
        return CLYMQ_EINVAL;
    const struct partition_block *next = &blocks[count - 1];
    uint32_t added = 0;
    struct chain_link opened = {0};
    /* The new block is empty, so opening it folds nothing into the table, which is in memory already. */
    if (!uuid_equal(partition_last(partition)->info.key.id, next->key.id)) {
        struct chain_link *grown =
            mem_realloc(partition->chain, (partition->chain_count + 1u) * sizeof(*grown));
        if (!grown)
            return CLYMQ_ENOMEM;
        partition->chain = grown;
        struct block_recovery recovery = {0};
        int error = partition_open_block(partition, next, true, &opened, &recovery);
        if (error)
            return error;
        if (opened.info.start < partition_end(partition)) {
            block_close(opened.block);
            return CLYMQ_EINVAL;
        }
        added = 1;
    }
    for (uint32_t i = 0; i < partition->chain_count; i++) {
        const struct partition_block *named = find_block(blocks, count, partition->chain[i].info.key.id);
        if (named)
            partition->chain[i].info = *named;
    }
    if (added)
        partition->chain[partition->chain_count++] = opened;
    int error = partition_drop_unnamed(partition, blocks, count);
    if (added) {
        partition_begin_block(partition, false);
        partition_wake(partition);
    }
    return error;
}

static void partition_on_block_sealed(void *ctx, struct block *block, int error)
{
    if (error && block_error(block) && block_error(block) != CLYMQ_ECORRUPT)
        error = CLYMQ_ELOG_FAILED; /* for good, whatever the disk's word for it was */
    partition_tell_sealed(ctx, error, block_end(block));
}

void partition_seal(struct partition *partition, void (*done)(void *ctx, int error, int64_t end), void *ctx)
{
    struct chain_link *last = partition_last(partition);
    partition_tell_sealed(partition, CLYMQ_EAGAIN, -1); /* to a coordinator whose role is over */
    partition->sealed = true;
    partition->on_sealed = done;
    partition->sealed_ctx = ctx;
    block_seal(last->block, partition_on_block_sealed, partition);
}

int partition_apply_retention(struct partition *partition, int64_t now_ms, size_t *ret_empty_blocks)
{
    const struct partition_config *config = &partition->config;
    uint64_t later = 0; /* bytes in the blocks after the one looked at */
    int64_t dropped_below = -1;
    size_t empty = 0;
    int first_error = 0;
    for (uint32_t i = partition->chain_count; i-- > 0;) {
        struct block *block = partition->chain[i].block;
        uint64_t size = block_size(block);
        bool last = i + 1 == partition->chain_count;
        bool too_much = config->retention_bytes >= 0 && later >= (uint64_t)config->retention_bytes;
        int64_t offset, timestamp_ms;
        bool too_old = config->retention_ms >= 0 && !last &&
                       block_find_time(block, now_ms - config->retention_ms, block_durable_end(block),
                                       &offset, &timestamp_ms) == CLYMQ_ENOENT;
        if (!last && (too_much || too_old)) {
            dropped_below = block_end(block);
            empty = i + 1;
            break;
        }
        int64_t keep_bytes = config->retention_bytes < 0 ? -1 : config->retention_bytes - (int64_t)later;
        int64_t start = block_retention_start(block, keep_bytes, config->retention_ms, now_ms);
        if (start > block_durable_end(block))
            start = block_durable_end(block);
        if (start > block_start(block)) {
            int error = block_trim(block, start);
            if (error && !first_error)
                first_error = error;
            dropped_below = start;
            empty = i;
            break;
        }
        later += size;
    }
    /* Blocks before the first kept offset hold nothing that may be read any more. */
    for (size_t i = 0; dropped_below >= 0 && i < empty; i++) {
        struct block *block = partition->chain[i].block;
        int error = block_start(block) < block_end(block) ? block_trim(block, block_end(block)) : 0;
        if (error && !first_error)
            first_error = error;
    }
    if (partition->producers && config->producer_expiry_ms > 0)
        producers_expire(partition->producers, now_ms - config->producer_expiry_ms);
    *ret_empty_blocks = empty;
    return first_error;
}

int partition_verify_find(struct partition *partition, struct block_verify *verify, size_t max_bytes,
                          struct block_range *ret_range, int64_t *ret_damaged_offset)
{
    int error = CLYMQ_ENOENT;
    for (uint32_t i = 0; i < partition->chain_count && error == CLYMQ_ENOENT; i++)
        error =
            block_verify_find(partition->chain[i].block, verify, max_bytes, ret_range, ret_damaged_offset);
    return error;
}

void partition_verify_skip(const struct partition *partition, struct block_verify *verify,
                           int64_t *ret_damaged_offset)
{
    for (uint32_t i = 0; i < partition->chain_count; i++) {
        const struct block *block = partition->chain[i].block;
        if (verify->offset < block_durable_end(block)) {
            block_verify_skip(block, verify, ret_damaged_offset);
            return;
        }
    }
    *ret_damaged_offset = verify->offset; /* retention has dropped it since */
}

/* ---- questions ---- */

void partition_set_config(struct partition *partition, const struct partition_config *config)
{
    partition->config = *config;
    for (uint32_t i = 0; i < partition->chain_count; i++)
        block_set_segment_limits(partition->chain[i].block, config->segment_bytes, config->segment_ms);
}

int64_t partition_start(const struct partition *partition)
{
    for (uint32_t i = 0; i + 1 < partition->chain_count; i++) {
        const struct block *block = partition->chain[i].block;
        if (block_start(block) < block_end(block))
            return block_start(block);
    }
    return block_start(partition_last(partition)->block);
}

int64_t partition_watermark(const struct partition *partition)
{
    return partition->watermark;
}

int64_t partition_end(const struct partition *partition)
{
    return block_end(partition_last(partition)->block);
}

uint64_t partition_size(const struct partition *partition)
{
    uint64_t size = 0;
    for (uint32_t i = 0; i < partition->chain_count; i++)
        size += block_size(partition->chain[i].block);
    return size;
}

int partition_error(const struct partition *partition)
{
    return block_error(partition_last(partition)->block);
}

int32_t partition_epoch(const struct partition *partition)
{
    return partition_last(partition)->info.base_epoch;
}

int partition_find_offset(struct partition *partition, int64_t timestamp_ms, int64_t *ret_offset,
                          int64_t *ret_timestamp_ms)
{
    if (timestamp_ms == -2) {
        *ret_offset = partition_start(partition);
        *ret_timestamp_ms = -1;
        return 0;
    }
    for (uint32_t i = 0; timestamp_ms >= 0 && i < partition->chain_count; i++) {
        int error = block_find_time(partition->chain[i].block, timestamp_ms, partition->watermark, ret_offset,
                                    ret_timestamp_ms);
        if (error != CLYMQ_ENOENT)
            return error;
    }
    if (timestamp_ms < -2)
        return CLYMQ_EINVAL;
    /* After a restart the watermark may still lie below what an earlier run has shown: what recovery kept is
     * being synced, or could not be. */
    if (partition_is_behind(partition))
        return partition_error(partition) ? CLYMQ_ELOG_FAILED : CLYMQ_EAGAIN;
    *ret_offset = partition->watermark;
    *ret_timestamp_ms = -1;
    return 0;
}
