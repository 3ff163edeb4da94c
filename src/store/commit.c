/* Group commit. A pass: the dirty blocks' files are synced by the disk workers in parallel; when all have
 * reported, the owners are told and the durable ends are written to the state file in one write. What is
 * appended meanwhile waits for the next pass.
 *
 * Where syncs are small the disk is idle for most of the time that one takes (threads are woken, the write is
 * waited for, then the disk's cache is emptied): then the next pass begins at once, beside those that run,
 * and what was just appended does not wait for two syncs. They end in their order, so that nothing is told
 * before all that came before it. Each file is synced by them through open files of their own
 * (segment->again), since an error is told once to each of those: through the same one a later sync might
 * take it from an earlier, whose success would then be believed. */
#include "store/commit.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/ahead.h"
#include "store/checkpoint.h"
#include "store/store_impl.h"

enum { RETRY_MS = 10 };
/* Each needs an open file of its own. */
enum { PASSES_MAX = SEGMENT_OPENINGS };
/* Another pass may begin beside those that sync no more than this each. */
enum { SMALL_PASS_BYTES = 32 << 10, SMALL_PASS_BLOCKS = 4 };

struct commit_pass {
    struct list link; /* store->passes */
    struct list entries;
    unsigned pending; /* jobs of all entries, and one for the beginning itself */
    uint64_t began_ns;
    bool is_small;
};

struct commit_job {
    struct list link; /* entry->jobs */
    struct commit_entry *entry;
    struct store *store;
    struct io_op op;
    struct io_work work;
    struct segment_ref *ref; /* NULL: syncs the folder dir */
    bool retried;            /* control runs only */
    int error;
    char dir[BLOCK_DIR_MAX];
};

static void finish(struct store *store);

static struct commit_pass *first_pass(const struct store *store)
{
    return list_empty(&store->passes) ? NULL : CONTAINER_OF(store->passes.next, struct commit_pass, link);
}

static struct commit_entry *last_commit(const struct block *block)
{
    return list_empty(&block->commits) ? NULL
                                       : CONTAINER_OF(block->commits.prev, struct commit_entry, running);
}

/* ---- telling owners ---- */

void block_want_commit(struct block *block)
{
    struct store *store = block->store;
    store->commit_wanted = true;
    if (!list_empty(&store->dirty))
        shard_at_tail(store->shard, &store->tail);
}

void commit_announce(struct store *store, struct block *block)
{
    if (list_empty(&block->announce_link))
        list_push_back(&store->announce, &block->announce_link);
    shard_at_tail(store->shard, &store->tail);
}

static void announce(struct store *store)
{
    struct list now;
    list_init(&now);
    list_move_all(&store->announce, &now);
    while (!list_empty(&now)) {
        struct block *block = CONTAINER_OF(list_pop_front(&now), struct block, announce_link);
        if (block->error && block->seal_done && !block->checkpointing) {
            void (*done)(void *ctx, struct block *block_, int error_) = block->seal_done;
            block->seal_done = NULL;
            commit_announce(store, block); /* the rest of it, unless done closes the block */
            done(block->seal_ctx, block, block->error);
            continue;
        }
        if (block->error && block->error_told)
            continue;
        if (block->error)
            block->error_told = true;
        else if (store->config.fsync != STORE_FSYNC_COMMIT)
            block->durable = block->end;
        if (block->events.on_durable)
            block->events.on_durable(block->events.ctx, block, block->durable.offset, block->error);
    }
}

/* ---- a pass ---- */

/* The first opening of the active segment's log that no running pass of the block uses. Passes that run
 * beside each other sync nothing else of it. */
static unsigned free_opening(const struct block *block)
{
    unsigned used = 0, opening = 0;
    LIST_FOR_EACH(item, &block->commits)
        used |= 1u << CONTAINER_OF(item, struct commit_entry, running)->opening;
    while (used & 1u << opening)
        opening++;
    return opening;
}

static void job_free(struct commit_job *job)
{
    list_remove(&job->link);
    segment_ref_release(job->ref);
    mem_free(job);
}

static void job_done(struct commit_job *job, int error)
{
    struct commit_entry *entry = job->entry;
    struct commit_pass *pass = entry->pass;
    struct store *store = job->store;
    if (error && !entry->error)
        entry->error = error;
    entry->pending--;
    job_free(job);
    assert(pass->pending > 0);
    if (--pass->pending == 0 && pass == first_pass(store))
        finish(store);
}

static void file_synced(struct io_op *op)
{
    struct commit_job *job = op->ctx;
    int error = op->result < 0 ? (int)op->result : 0;
    const struct store_faults *faults = job->store->config.faults;
    if (error && faults && faults->retry_failed_sync && !job->retried) {
        job->retried = true;
        io_loop_submit(job->store->loop, op);
        return;
    }
    job_done(job, error);
}

static void sync_folder(struct io_work *work)
{
    struct commit_job *job = work->ctx;
    job->error = io_fs_sync_dir(job->store->fs, job->dir);
}

static void folder_synced(struct io_work *work)
{
    struct commit_job *job = work->ctx;
    job_done(job, job->error);
}

static struct commit_job *add_job(struct store *store, struct commit_entry *entry)
{
    struct commit_job *job = mem_zalloc(sizeof(*job));
    if (!job)
        return NULL;
    job->store = store;
    job->entry = entry;
    list_push_back(&entry->jobs, &job->link);
    entry->pending++;
    return job;
}

/* Makes the jobs that sync all of the block. On failure some may have been made. CLYMQ_ENOMEM, CLYMQ_ELIMIT:
 * to be tried again; other errors are final. */
static int make_jobs(struct store *store, struct commit_entry *entry, struct block *block)
{
    if (block->dir_unsynced) {
        struct commit_job *job = add_job(store, entry);
        if (!job)
            return CLYMQ_ENOMEM;
        block_dir(&block->key, job->dir);
        job->work = (struct io_work){.run = sync_folder, .done = folder_synced, .ctx = job};
    }
    for (uint32_t i = block->segment_count; i-- > 0;) {
        struct segment *segment = block->segments[i];
        if (!segment->unsynced) {
            if (segment->size > 0)
                break; /* all before it were synced when this one was begun, or after */
            continue;
        }
        struct segment_ref *ref = entry->opening ? segment->again[entry->opening - 1] : segment->pinned;
        if (!ref && entry->opening)
            return CLYMQ_ELIMIT; /* the cache has just closed it */
        if (!ref) {
            int error = segment_file(block, segment, SEGMENT_LOG, &ref);
            if (error)
                return error;
        }
        struct commit_job *job = add_job(store, entry);
        if (!job)
            return CLYMQ_ENOMEM;
        job->ref = segment_ref_take(ref);
        job->op = (struct io_op){.kind = IO_OP_SYNC, .file = ref->file, .done = file_synced, .ctx = job};
    }
    return 0;
}

/* What the jobs sync counts as synced from here on: appends set it again. */
static void clear_unsynced(struct block *block)
{
    block->dir_unsynced = false;
    for (uint32_t i = block->segment_count; i-- > 0;) {
        struct segment *segment = block->segments[i];
        if (!segment->unsynced && segment->size > 0)
            break;
        segment->unsynced = false;
        segment_ref_release(segment->pinned);
        segment->pinned = NULL;
    }
}

/* The block's part of a pass, with its jobs made and not yet submitted. */
static int make_entry(struct store *store, struct commit_pass *pass, struct block *block,
                      struct commit_entry **ret_entry)
{
    struct commit_entry *entry = mem_zalloc(sizeof(*entry));
    if (!entry)
        return CLYMQ_ENOMEM;
    bool beside = pass != first_pass(store);
    list_init(&entry->link);
    list_init(&entry->running);
    list_init(&entry->jobs);
    entry->pass = pass;
    entry->target = block->end;
    entry->opening = free_opening(block);
    ahead_before_sync(block);
    int error = make_jobs(store, entry, block);
    bool capture = block->want_checkpoint && !block->checkpointing && !beside;
    if (!error && capture)
        error = checkpoint_capture(block, &entry->checkpoint);
    if (error) {
        while (!list_empty(&entry->jobs))
            job_free(CONTAINER_OF(entry->jobs.next, struct commit_job, link));
        mem_free(entry);
        return error;
    }
    if (capture)
        block->want_checkpoint = false;
    clear_unsynced(block);
    entry->block = block;
    entry->id = block->key.id;
    list_push_back(&block->commits, &entry->running);
    *ret_entry = entry;
    return 0;
}

static void submit_jobs(struct store *store, struct commit_entry *entry)
{
    LIST_FOR_EACH_SAFE(item, &entry->jobs) {
        struct commit_job *job = CONTAINER_OF(item, struct commit_job, link);
        if (job->ref)
            io_loop_submit(store->loop, &job->op);
        else
            io_loop_work(store->loop, &job->work);
    }
}

/* Memory or descriptors were short. The next pass must not begin from inside this one's end: it would fail
 * alike. */
static void retry_later(struct store *store)
{
    store->retrying = true;
    if (!io_timer_armed(&store->commit_timer) &&
        io_timer_start(store->loop, &store->commit_timer, IO_MS(RETRY_MS)) != 0)
        commit_force(store); /* in the next round, then */
}

/* Whether a stop has waited long enough for memory and descriptors. */
static bool stop_gives_up(const struct store *store)
{
    return store->stopping && io_loop_now_ns(store->loop) >= store->stop_deadline_ns;
}

/* ---- several at a time ---- */

/* What a pass would sync of the block, if it is no more than the end of the active segment; otherwise
 * INT64_MAX. */
static int64_t small_part(const struct block *block)
{
    const struct commit_entry *last = last_commit(block);
    const struct log_point *from = last ? &last->target : &block->synced;
    if (block->error || block->dir_unsynced || from->base != block->end.base)
        return INT64_MAX;
    return (int64_t)block->end.position - from->position;
}

/* Whether a pass of what is dirty is small. */
static bool is_small(const struct store *store)
{
    int64_t left = SMALL_PASS_BYTES;
    unsigned blocks = 0;
    LIST_FOR_EACH(item, &store->dirty) {
        int64_t part = small_part(CONTAINER_OF(item, struct block, dirty_link));
        if (++blocks > SMALL_PASS_BLOCKS || part > left)
            return false;
        left -= part;
    }
    return true;
}

/* Whether there is a file to sync the active segment through that no sync under way uses. It may well be
 * opened only now: what the sync under way has met of errors it tells itself, and first. */
static bool has_file_beside(struct block *block)
{
    return list_empty(&block->commits) ||
           segment_open_again(block, block_active(block), free_opening(block)) == 0;
}

static bool may_begin_beside(struct store *store)
{
    if (store->pass_count >= PASSES_MAX || !first_pass(store)->is_small || !store->commit_wanted ||
        store->force_pass || store->retrying || checkpoint_due(store) ||
        store->config.fsync != STORE_FSYNC_COMMIT || list_empty(&store->dirty) || !is_small(store))
        return false;
    bool may = true;
    LIST_FOR_EACH(item, &store->dirty)
        may &= has_file_beside(CONTAINER_OF(item, struct block, dirty_link));
    return may;
}

/* ---- beginning ---- */

/* No memory for a pass. */
static void cannot_begin(struct store *store)
{
    if (!stop_gives_up(store)) {
        store->force_pass = true;
        retry_later(store);
        return;
    }
    while (!list_empty(&store->dirty))
        list_pop_front(&store->dirty);
    store->stop_error = store->stop_error ? store->stop_error : CLYMQ_ENOMEM;
    store_stop_step(store);
}

/* Makes the dirty blocks' entries. Those that memory or descriptors are short for stay dirty. */
static void make_entries(struct store *store, struct commit_pass *pass)
{
    struct list later;
    int later_error = 0;
    list_init(&later);
    while (!list_empty(&store->dirty)) {
        struct list *item = list_pop_front(&store->dirty);
        struct block *block = CONTAINER_OF(item, struct block, dirty_link);
        struct commit_entry *entry;
        if (block->error)
            continue;
        int error = make_entry(store, pass, block, &entry);
        if (error == CLYMQ_ENOMEM || error == CLYMQ_ELIMIT) {
            list_push_back(&later, item);
            later_error = error;
            continue;
        }
        if (error) {
            block_fail(block, error);
            continue;
        }
        list_push_back(&pass->entries, &entry->link);
        pass->pending += entry->pending;
    }
    if (!list_empty(&later) && stop_gives_up(store)) {
        while (!list_empty(&later)) {
            struct block *block = CONTAINER_OF(list_pop_front(&later), struct block, dirty_link);
            block->want_checkpoint = false;
        }
        store->stop_error = store->stop_error ? store->stop_error : later_error;
    } else if (!list_empty(&later)) {
        list_move_all(&later, &store->dirty);
        store->force_pass = true;
        retry_later(store);
    }
}

static void begin_pass(struct store *store, bool small)
{
    store->commit_wanted = false;
    store->pass_began_ns = io_loop_now_ns(store->loop);
    struct commit_pass *pass = mem_zalloc(sizeof(*pass));
    if (!pass) {
        cannot_begin(store);
        return;
    }
    list_init(&pass->entries);
    pass->pending = 1;
    pass->began_ns = store->pass_began_ns;
    pass->is_small = small;
    list_push_back(&store->passes, &pass->link);
    store->pass_count++;
    make_entries(store, pass);
    LIST_FOR_EACH(item, &pass->entries) {
        struct commit_entry *entry = CONTAINER_OF(item, struct commit_entry, link);
        if (store->metric_synced_files)
            metric_add(store->metric_synced_files, entry->pending);
        submit_jobs(store, entry);
    }
    if (--pass->pending == 0 && pass == first_pass(store))
        finish(store);
}

static void begin_first(struct store *store)
{
    assert(list_empty(&store->passes));
    checkpoint_select(store);
    store->force_pass = false;
    store->retrying = false;
    if (list_empty(&store->dirty))
        return;
    begin_pass(store, is_small(store));
}

static void begin_beside(struct store *store)
{
    if (store->metric_beside)
        metric_add(store->metric_beside, 1);
    begin_pass(store, true);
}

/* When a pass begins though nobody waits for it. */
static uint64_t linger_end_ns(const struct store *store)
{
    return store->pass_began_ns + IO_MS(store->config.commit_linger_ms);
}

/* Whether the policy wants a pass now. */
static bool is_due(const struct store *store)
{
    if (store->force_pass || checkpoint_due(store))
        return true;
    if (store->config.fsync != STORE_FSYNC_COMMIT || list_empty(&store->dirty))
        return false;
    return store->commit_wanted || io_loop_now_ns(store->loop) >= linger_end_ns(store);
}

/* Begins what is due; what may linger gets its timer. */
static void begin_when_due(struct store *store)
{
    if (!list_empty(&store->passes)) {
        if (may_begin_beside(store))
            begin_beside(store);
        return;
    }
    if (is_due(store)) {
        begin_first(store);
        return;
    }
    if (store->config.fsync != STORE_FSYNC_COMMIT || list_empty(&store->dirty) ||
        io_timer_armed(&store->commit_timer))
        return;
    if (io_timer_start(store->loop, &store->commit_timer,
                       linger_end_ns(store) - io_loop_now_ns(store->loop)) != 0)
        begin_first(store);
}

static void settle(struct store *store, struct commit_entry *entry)
{
    struct block *block = entry->block;
    if (!block || block->error || entry->error)
        return;
    if (log_point_compare(&entry->target, &block->synced) > 0)
        block->synced = entry->target;
    if (log_point_compare(&block->synced, &block->durable) > 0)
        block->durable = block->synced;
    store_state_put(store, block);
}

/* What the pass meant for one block, which is told of it later. */
static void finish_entry(struct store *store, struct commit_entry *entry)
{
    settle(store, entry);
    struct block *block = entry->block;
    list_remove(&entry->running);
    int error = entry->error;
    if (!block && error) /* closed, and perhaps opened again: the same files, whose next sync may not tell */
        block = store_find_open(store, entry->id);
    struct checkpoint_job *checkpoint = entry->checkpoint;
    mem_free(entry);
    if (block && error)
        block_fail(block, error);
    if (checkpoint && (error || !block || block->error))
        checkpoint_drop(checkpoint, error ? error : CLYMQ_ELOG_FAILED);
    else if (checkpoint)
        checkpoint_submit(checkpoint);
    if (block && !error && !block->error && store->config.fsync == STORE_FSYNC_COMMIT)
        commit_announce(store, block);
}

static void finish_first(struct store *store)
{
    struct commit_pass *pass = first_pass(store);
    while (!list_empty(&pass->entries))
        finish_entry(store, CONTAINER_OF(list_pop_front(&pass->entries), struct commit_entry, link));
    if (store->metric_passes)
        metric_add(store->metric_passes, 1);
    if (store->metric_pass_ns)
        metric_observe(store->metric_pass_ns, io_loop_now_ns(store->loop) - pass->began_ns);
    list_remove(&pass->link);
    store->pass_count--;
    mem_free(pass);
}

/* After small passes the disk comes first: the next one begins before the owners are told, and what they
 * append meanwhile goes with the one beside it. After large ones it goes with the next one. The marks, which
 * nobody waits for, are written last. */
static void finish(struct store *store)
{
    bool disk_first = true;
    struct commit_pass *pass;
    while ((pass = first_pass(store)) != NULL && pass->pending == 0) {
        disk_first &= pass->is_small;
        finish_first(store);
    }
    if (!disk_first)
        announce(store); /* owners may append, close and delete */
    if (!store->retrying)
        begin_when_due(store);
    announce(store);
    store_state_write(store);
    store_stop_step(store);
}

void commit_add(struct store *store, struct block *block)
{
    if (block->error)
        return;
    if (list_empty(&block->dirty_link))
        list_push_back(&store->dirty, &block->dirty_link);
    if (store->config.fsync == STORE_FSYNC_COMMIT) {
        shard_at_tail(store->shard, &store->tail);
        return;
    }
    commit_announce(store, block);
    if (store->config.fsync == STORE_FSYNC_INTERVAL && !io_timer_armed(&store->commit_timer) &&
        io_timer_start(store->loop, &store->commit_timer, IO_MS(store->config.fsync_interval_ms)) != 0)
        commit_force(store); /* without memory for the timer: now */
}

void commit_force(struct store *store)
{
    store->force_pass = true;
    shard_at_tail(store->shard, &store->tail);
}

void commit_tail(struct shard_tail *tail)
{
    struct store *store = tail->ctx;
    announce(store);
    creation_start(store);
    checkpoint_tail(store);
    begin_when_due(store);
}

void commit_timer(struct io_timer *timer)
{
    struct store *store = timer->ctx;
    /* Otherwise a pass was put off, and may have run since. */
    if (store->retrying || store->config.fsync != STORE_FSYNC_COMMIT)
        store->force_pass = true;
    store->retrying = false; /* a pass that still runs goes on with it */
    begin_when_due(store);
}

void commit_detach(struct store *store, struct block *block)
{
    struct list *at;
    while ((at = list_pop_front(&block->commits)) != NULL)
        CONTAINER_OF(at, struct commit_entry, running)->block = NULL;
}

static void abandon(struct store *store, struct commit_pass *pass)
{
    while (!list_empty(&pass->entries)) {
        struct commit_entry *entry = CONTAINER_OF(list_pop_front(&pass->entries), struct commit_entry, link);
        while (!list_empty(&entry->jobs))
            job_free(CONTAINER_OF(entry->jobs.next, struct commit_job, link));
        if (entry->checkpoint) {
            if (entry->checkpoint->block)
                checkpoint_detach(store, entry->checkpoint->block);
            checkpoint_drop(entry->checkpoint, 0);
        }
        if (entry->block)
            commit_detach(store, entry->block);
        mem_free(entry);
    }
    mem_free(pass);
}

void commit_abandon(struct store *store)
{
    struct list *at;
    while ((at = list_pop_front(&store->passes)) != NULL)
        abandon(store, CONTAINER_OF(at, struct commit_pass, link));
    store->pass_count = 0;
    segment_ref_release(store->state_ref);
    store->state_ref = NULL;
}
