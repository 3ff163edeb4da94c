/* Checkpoints: choosing blocks, capturing the owner's state, writing snapshots on a few disk workers
 * ("lanes") at a time, so that a long row of them never keeps the syncs of the group commit waiting. A lane
 * takes its whole share of what is queued as one piece of work: job by job each would stand behind all syncs
 * of a pass, and with many partitions checkpoints would fall behind the pushes. */
#include "store/checkpoint.h"

#include <assert.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/index.h"

static void run_next(struct store *store);

bool checkpoint_idle(const struct store *store)
{
    return store->lanes_running == 0 && list_empty(&store->checkpoint_queue);
}

bool checkpoint_due(const struct store *store)
{
    return store->backlog_bytes >= store->checkpoint_at && checkpoint_idle(store);
}

void checkpoint_select(struct store *store)
{
    if (!checkpoint_due(store))
        return;
    uint64_t enough = store->backlog_bytes - (uint64_t)store->config.checkpoint_bytes / 2, sum = 0;
    LIST_FOR_EACH_SAFE(item, &store->backlog) {
        struct block *block = CONTAINER_OF(item, struct block, backlog_link);
        if (block->error || block->checkpointing)
            continue;
        block->want_checkpoint = true;
        if (list_empty(&block->dirty_link))
            list_push_back(&store->dirty, &block->dirty_link);
        sum += block->backlog;
        if (sum >= enough)
            break;
    }
}

int checkpoint_capture(struct block *block, struct checkpoint_job **ret_job)
{
    struct checkpoint_job *job = mem_zalloc(sizeof(*job));
    if (!job)
        return CLYMQ_ENOMEM;
    list_init(&job->link);
    list_init(&job->waiter.link);
    job->store = block->store;
    job->block = block;
    job->point = block->end;
    job->backlog = block->backlog;
    job->seal = block->sealed;
    job->empty = true;
    job->replaced = -1;
    block_dir(&block->key, job->dir);
    struct segment *segment = block_segment_named(block, block->end.base);
    assert(segment && segment->index_known);
    if (job->seal && segment == block_active(block)) {
        segment->closed = true;
        index_finish(block, segment);
        segment_summary_write(block, segment, block->end.offset, block->end.epoch);
    } else {
        index_flush(block, segment);
    }
    job->index = segment->index;
    if (job->seal) {
        if (segment->index.index_count > 0 &&
            segment_file(block, segment, SEGMENT_INDEX, &job->indexes[0]) == 0)
            segment_ref_take(job->indexes[0]);
        if (segment->index.time_count > 0 &&
            segment_file(block, segment, SEGMENT_TIMEINDEX, &job->indexes[1]) == 0)
            segment_ref_take(job->indexes[1]);
    }
    if (block->events.on_snapshot_save) {
        block->events.on_snapshot_save(block->events.ctx, &job->state);
        if (job->state.failed) {
            checkpoint_drop(job, 0);
            return CLYMQ_ENOMEM;
        }
        job->empty = job->state.len == 0;
        job->with_file = !job->empty && block->snapshots[0] != job->point.offset;
        if (job->with_file)
            job->replaced = block->snapshots[1];
    }
    block->checkpointing = job;
    *ret_job = job;
    return 0;
}

static void free_job(struct checkpoint_job *job)
{
    list_remove(&job->link);
    list_remove(&job->waiter.link);
    segment_ref_release(job->indexes[0]);
    segment_ref_release(job->indexes[1]);
    strbuf_free(&job->state);
    mem_free(job);
}

/* Tells who waits for the seal, and frees the job. */
static void finish(struct checkpoint_job *job, int error)
{
    struct store *store = job->store;
    struct block *block = job->block;
    bool seal = job->seal;
    if (block)
        block->checkpointing = NULL;
    free_job(job);
    if (block && block->want_checkpoint && !block->error) { /* asked for meanwhile, by a seal or a stop */
        if (list_empty(&block->dirty_link))
            list_push_back(&store->dirty, &block->dirty_link);
        commit_force(store);
    }
    if (block && seal && block->seal_done) {
        void (*done)(void *ctx, struct block *block_, int error_) = block->seal_done;
        block->seal_done = NULL;
        done(block->seal_ctx, block, error);
    }
    store_stop_step(store);
}

void checkpoint_drop(struct checkpoint_job *job, int error)
{
    if (error && job->block && job->block->checkpointing == job) {
        finish(job, error);
        return;
    }
    free_job(job);
}

static void on_state_synced(struct state_waiter *waiter, int error)
{
    finish(CONTAINER_OF(waiter, struct checkpoint_job, waiter), error);
}

static void write_files(struct checkpoint_job *job)
{
    struct io_fs *fs = job->store->fs;
    for (int i = 0; i < 2 && !job->error; i++) {
        if (job->indexes[i])
            job->error = io_file_sync(job->indexes[i]->file);
    }
    if (job->error || !job->with_file)
        return;
    job->error = snapshot_write(fs, job->dir, &job->point, bytes_of(job->state.data, job->state.len));
    if (!job->error && job->replaced >= 0) {
        char path[SEGMENT_PATH_MAX];
        segment_path(path, job->dir, job->replaced, ".snapshot");
        io_fs_unlink(fs, path); /* what stays is found again when the block is opened */
    }
}

/* On a disk worker. */
static void run_lane(struct io_work *work)
{
    struct checkpoint_lane *lane = work->ctx;
    LIST_FOR_EACH(item, &lane->jobs)
        write_files(CONTAINER_OF(item, struct checkpoint_job, link));
}

static void note_snapshot(struct block *block, const struct checkpoint_job *job)
{
    if (job->with_file) {
        block->snapshots[1] = block->snapshots[0];
        block->snapshots[0] = job->point.offset;
    }
}

/* What its files say is told to the block, and put among the pending records of the state file. */
static void settle(struct checkpoint_job *job)
{
    struct store *store = job->store;
    struct block *block = job->block;
    if (job->error) {
        log_limited(LOG_WARN, "checkpoint of %s not written: %s", job->dir, error_sentence(job->error));
        store->checkpoint_at = store->backlog_bytes + (uint64_t)store->config.checkpoint_bytes / 4;
        return;
    }
    if (!block || block->error)
        return;
    note_snapshot(block, job);
    if (log_point_compare(&job->point, &block->checkpoint) >= 0) { /* retention may have moved it beyond */
        block->checkpoint = job->point;
        block->checkpoint_index = job->index;
        block->empty_snapshot = job->empty;
    }
    assert(block->backlog >= job->backlog && store->backlog_bytes >= job->backlog);
    block->backlog -= job->backlog;
    store->backlog_bytes -= job->backlog;
    list_remove(&block->backlog_link);
    if (block->backlog > 0)
        list_push_back(&store->backlog, &block->backlog_link);
    store->checkpoint_at = (uint64_t)store->config.checkpoint_bytes;
    block->state_full = true;
    store_state_put(store, block);
}

/* After the state file was written. */
static void conclude(struct checkpoint_job *job, int state_error)
{
    struct block *block = job->block;
    int error = job->error ? job->error : state_error;
    if (!error && block && !block->error)
        block_drop_segments(block); /* without memory the next trim does it */
    if (!job->seal || error) {
        finish(job, error);
        return;
    }
    job->waiter.done = on_state_synced;
    store_state_sync(job->store, &job->waiter);
}

static void lane_done(struct io_work *work)
{
    struct checkpoint_lane *lane = work->ctx;
    struct store *store = lane->store;
    LIST_FOR_EACH(item, &lane->jobs)
        settle(CONTAINER_OF(item, struct checkpoint_job, link));
    int error = store_state_write(store);
    struct list *item;
    while ((item = list_pop_front(&lane->jobs)) != NULL)
        conclude(CONTAINER_OF(item, struct checkpoint_job, link), error);
    assert(store->lanes_running > 0);
    store->lanes_running--;
    run_next(store);
    if (!checkpoint_idle(store))
        return;
    store_state_sync(store, NULL);
    if (checkpoint_due(store))
        commit_force(store);
    store_stop_step(store);
}

static void run_next(struct store *store)
{
    if (store->lanes_running > 0)
        return;
    struct list *item;
    for (unsigned i = 0; (item = list_pop_front(&store->checkpoint_queue)) != NULL; i++)
        list_push_back(&store->lanes[i % CHECKPOINT_LANES].jobs, item);
    for (unsigned i = 0; i < CHECKPOINT_LANES; i++) {
        struct checkpoint_lane *lane = &store->lanes[i];
        if (list_empty(&lane->jobs))
            continue;
        lane->store = store;
        lane->work = (struct io_work){.run = run_lane, .done = lane_done, .ctx = lane};
        store->lanes_running++;
        io_loop_work(store->loop, &lane->work);
    }
}

void checkpoint_init(struct store *store)
{
    for (unsigned i = 0; i < CHECKPOINT_LANES; i++)
        list_init(&store->lanes[i].jobs);
}

void checkpoint_submit(struct checkpoint_job *job)
{
    list_push_back(&job->store->checkpoint_queue, &job->link);
    shard_at_tail(job->store->shard, &job->store->tail);
}

void checkpoint_tail(struct store *store)
{
    run_next(store);
}

void checkpoint_detach(struct store *store, struct block *block)
{
    if (block->checkpointing)
        block->checkpointing->block = NULL;
    block->checkpointing = NULL;
}

static void free_all(struct list *jobs)
{
    while (!list_empty(jobs))
        free_job(CONTAINER_OF(jobs->next, struct checkpoint_job, link));
}

void checkpoint_abandon(struct store *store)
{
    for (unsigned i = 0; i < CHECKPOINT_LANES; i++)
        free_all(&store->lanes[i].jobs);
    store->lanes_running = 0;
    free_all(&store->checkpoint_queue);
}
