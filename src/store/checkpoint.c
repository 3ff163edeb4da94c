/* Checkpoints: choosing blocks, capturing the owner's state, writing snapshots one after the other on a disk
 * worker, so that a long row of them never keeps the syncs of the group commit waiting. */
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
    return !store->checkpoint_running && list_empty(&store->checkpoint_queue);
}

void checkpoint_select(struct store *store)
{
    if (store->backlog_bytes < store->checkpoint_at || !checkpoint_idle(store))
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
    if (block && seal) {
        block->sealed_durable = !error;
        if (block->seal_done) {
            void (*done)(void *ctx, struct block *block_, int error_) = block->seal_done;
            block->seal_done = NULL;
            done(block->seal_ctx, block, error);
        }
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

/* On a disk worker. */
static void run(struct io_work *work)
{
    struct checkpoint_job *job = CONTAINER_OF(work, struct checkpoint_job, work);
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

static void note_snapshot(struct block *block, const struct checkpoint_job *job)
{
    if (job->with_file) {
        block->snapshots[1] = block->snapshots[0];
        block->snapshots[0] = job->point.offset;
    }
}

static void done(struct io_work *work)
{
    struct checkpoint_job *job = CONTAINER_OF(work, struct checkpoint_job, work);
    struct store *store = job->store;
    struct block *block = job->block;
    assert(store->checkpoint_running == job);
    store->checkpoint_running = NULL;
    int error = job->error;
    if (error) {
        log_limited(LOG_WARN, "checkpoint of %s not written: %s", job->dir, error_sentence(error));
        store->checkpoint_at = store->backlog_bytes + (uint64_t)store->config.checkpoint_bytes / 4;
    } else if (block && !block->error) {
        note_snapshot(block, job);
        if (log_point_compare(&job->point, &block->checkpoint) >=
            0) { /* retention may have moved it beyond */
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
        commit_put_state(store, block);
        error = commit_write_state(store);
        if (!error)
            block_drop_segments(block); /* without memory the next trim does it */
    }
    if (job->seal && !error) {
        job->waiter.done = on_state_synced;
        commit_sync_state(store, &job->waiter);
    } else {
        if (list_empty(&store->checkpoint_queue))
            commit_sync_state(store, NULL);
        finish(job, error);
    }
    run_next(store);
    if (checkpoint_idle(store) && store->backlog_bytes >= store->checkpoint_at)
        commit_force(store);
}

static void run_next(struct store *store)
{
    if (store->checkpoint_running || list_empty(&store->checkpoint_queue))
        return;
    struct list *item = list_pop_front(&store->checkpoint_queue);
    struct checkpoint_job *job = CONTAINER_OF(item, struct checkpoint_job, link);
    store->checkpoint_running = job;
    job->work = (struct io_work){.run = run, .done = done};
    io_loop_work(store->loop, &job->work);
}

void checkpoint_submit(struct checkpoint_job *job)
{
    list_push_back(&job->store->checkpoint_queue, &job->link);
    run_next(job->store);
}

void checkpoint_detach(struct store *store, struct block *block)
{
    if (block->checkpointing)
        block->checkpointing->block = NULL;
    block->checkpointing = NULL;
}

void checkpoint_abandon(struct store *store)
{
    if (store->checkpoint_running)
        free_job(store->checkpoint_running);
    store->checkpoint_running = NULL;
    while (!list_empty(&store->checkpoint_queue))
        free_job(CONTAINER_OF(store->checkpoint_queue.next, struct checkpoint_job, link));
}
