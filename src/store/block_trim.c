/* Removing from disk: retention and deletion; and sealing.
 *
 * Retention: dropping whole segments from a block's beginning, and which ones size and age would drop;
 * sealing.
 *
 * The new log start is written to the state file; only once that is durable are files removed, by a disk
 * worker. A power loss in between leaves either the old start with all its files, or the new one with files
 * to be removed at the next opening. */
#include <assert.h>
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/ahead.h"
#include "store/checkpoint.h"
#include "store/folder_impl.h"
#include "store/index.h"
#include "store/store_impl.h"

struct trash_job {
    struct list link; /* store->trash */
    struct store *store;
    char dir[BLOCK_DIR_MAX];
    struct uuid id;
    bool keeps_entry; /* a block of the same id was made meanwhile: the state files' record is that one's */
    int error;
    char tree[BLOCK_DIR_MAX];             /* of a deleted block: where its folder is now */
    void (*synced)(void *ctx, int error); /* of a sync of deletions */
    void *synced_ctx;
    struct state_waiter waiter;
    struct io_work work;
    uint32_t count;
    int64_t bases[];
};

static void trash_free(struct trash_job *job)
{
    list_remove(&job->link);
    list_remove(&job->waiter.link);
    mem_free(job);
}

/* On a disk worker. */
static void remove_files(struct io_work *work)
{
    struct trash_job *job = CONTAINER_OF(work, struct trash_job, work);
    static const char *const suffixes[] = {".log", ".index", ".timeindex", ".summary"};
    for (uint32_t i = 0; i < job->count; i++) {
        for (size_t k = 0; k < sizeof(suffixes) / sizeof(suffixes[0]); k++) {
            char path[SEGMENT_PATH_MAX];
            segment_path(path, job->dir, job->bases[i], suffixes[k]);
            io_fs_unlink(job->store->fs, path); /* what stays goes at the next opening */
        }
    }
    io_fs_sync_dir(job->store->fs,
                   job->dir); /* so that the space is free at once, not with some later commit */
}

static void files_removed(struct io_work *work)
{
    struct trash_job *job = CONTAINER_OF(work, struct trash_job, work);
    struct store *store = job->store;
    /* Not before: the block may be back after a power loss, and its marks count. */
    if (job->tree[0] && !job->error && !job->keeps_entry)
        store_drop_entry(store, job->id);
    trash_free(job);
    store_stop_step(store);
}

/* On a disk worker. Nothing of the tree goes before its new name is durable: half a block would look like a
 * damaged one. */
static void remove_tree(struct io_work *work)
{
    struct trash_job *job = CONTAINER_OF(work, struct trash_job, work);
    struct io_fs *fs = job->store->fs;
    *strrchr(job->dir, '/') = '\0';
    int error = io_fs_sync_dir(fs, job->dir);
    if (!error)
        error = io_fs_sync_dir(fs, "data");
    job->error = error;
    if (!error)
        io_fs_remove_tree(fs, job->tree); /* what stays goes when the folder is opened the next time */
    if (!error)
        io_fs_remove_dir(fs, job->dir); /* the partition's, if it is empty now */
}

/* Moves the block's folder aside; the job does the rest once it is begun. */
static int move_aside(struct store *store, const struct block_key *key, struct trash_job **ret_job)
{
    struct trash_job *job = mem_zalloc(sizeof(*job));
    if (!job)
        return CLYMQ_ENOMEM;
    list_init(&job->waiter.link);
    job->store = store;
    block_dir(key, job->dir);
    job->id = key->id;
    char id[33];
    uuid_format(key->id, id);
    snprintf(job->tree, sizeof(job->tree), "data/%s%s", BLOCK_DELETED_PREFIX, id);
    int error = io_fs_rename(store->fs, job->dir, job->tree);
    if (error) {
        mem_free(job);
        return error;
    }
    *ret_job = job;
    return 0;
}

static void begin_removal(struct trash_job *job)
{
    list_push_back(&job->store->trash, &job->link);
    job->work = (struct io_work){.run = remove_tree, .done = files_removed};
    io_loop_work(job->store->loop, &job->work);
}

int block_delete(struct block *block)
{
    struct store *store = block->store;
    struct trash_job *job;
    int error = move_aside(store, &block->key, &job);
    if (error)
        return error;
    store_remember_closed(store,
                          block); /* without memory its record may be lost too early, which only fsck minds */
    block_free(block);
    begin_removal(job);
    return 0;
}

int block_delete_unopened(struct store *store, const struct block_key *key)
{
    struct trash_job *job;
    if (store_find_open(store, key->id))
        return CLYMQ_EBUSY;
    int error = move_aside(store, key, &job);
    if (error)
        return error;
    begin_removal(job);
    return 0;
}

/* On a disk worker. */
static void sync_deletions(struct io_work *work)
{
    struct trash_job *job = CONTAINER_OF(work, struct trash_job, work);
    int error = io_fs_sync_dir(job->store->fs, job->dir);
    if (error == CLYMQ_ENOENT) /* it went empty, and only once that was durable */
        error = 0;
    job->error = error ? error : io_fs_sync_dir(job->store->fs, "data");
}

static void deletions_synced(struct io_work *work)
{
    struct trash_job *job = CONTAINER_OF(work, struct trash_job, work);
    struct store *store = job->store;
    void (*synced)(void *ctx, int error) = job->synced;
    void *ctx = job->synced_ctx;
    int error = job->error;
    trash_free(job);
    synced(ctx, error);
    store_stop_step(store);
}

int block_sync_deletions(struct store *store, struct uuid topic, uint32_t partition,
                         void (*done)(void *ctx, int error), void *ctx)
{
    struct trash_job *job = mem_zalloc(sizeof(*job));
    if (!job)
        return CLYMQ_ENOMEM;
    list_init(&job->waiter.link);
    job->store = store;
    job->synced = done;
    job->synced_ctx = ctx;
    block_dir(&(struct block_key){.topic = topic, .partition = partition}, job->dir);
    *strrchr(job->dir, '/') = '\0';
    list_push_back(&store->trash, &job->link);
    job->work = (struct io_work){.run = sync_deletions, .done = deletions_synced};
    io_loop_work(store->loop, &job->work);
    return 0;
}

static void start_durable(struct state_waiter *waiter, int error)
{
    struct trash_job *job = CONTAINER_OF(waiter, struct trash_job, waiter);
    if (error) {
        struct store *store = job->store;
        trash_free(job); /* the files stay until the next opening */
        store_stop_step(store);
        return;
    }
    job->work = (struct io_work){.run = remove_files, .done = files_removed};
    io_loop_work(job->store->loop, &job->work);
}

void block_trim_abandon(struct store *store)
{
    while (!list_empty(&store->trash))
        trash_free(CONTAINER_OF(store->trash.next, struct trash_job, link));
}

void block_trim_keep_entry(struct store *store, struct uuid id)
{
    LIST_FOR_EACH(item, &store->trash) {
        struct trash_job *job = CONTAINER_OF(item, struct trash_job, link);
        job->keeps_entry = job->keeps_entry || uuid_equal(job->id, id);
    }
}

/* Segments wholly below the log start that recovery has no use for: what follows the checkpoint is read again
 * for the owner's state, so it stays until a later checkpoint. */
static uint32_t count_useless(const struct block *block)
{
    uint32_t count = 0;
    while (count + 1 < block->segment_count && block->segments[count + 1]->base <= block->start &&
           block->segments[count]->base < block->checkpoint.base)
        count++;
    return count;
}

int block_drop_segments(struct block *block)
{
    struct store *store = block->store;
    uint32_t count = count_useless(block);
    if (count == 0)
        return 0;
    struct trash_job *job = mem_zalloc(sizeof(*job) + count * sizeof(job->bases[0]));
    if (!job)
        return CLYMQ_ENOMEM;
    list_init(&job->waiter.link);
    job->store = store;
    job->count = count;
    block_dir(&block->key, job->dir);
    for (uint32_t i = 0; i < count; i++) {
        job->bases[i] = block->segments[i]->base;
        block->size -= block->segments[i]->size;
        segment_free(store, block->segments[i]);
    }
    block->segment_count -= count;
    memmove(block->segments, block->segments + count, block->segment_count * sizeof(block->segments[0]));
    for (int i = 0; i < BLOCK_HINTS; i++)
        block->hints[i].offset = -1;
    block->limit.base = -1;
    list_push_back(&store->trash, &job->link);
    job->waiter.done = start_durable;
    store_state_sync(store, &job->waiter);
    return 0;
}

int block_trim(struct block *block, int64_t new_start)
{
    struct store *store = block->store;
    if (new_start > block->synced.offset)
        return CLYMQ_EINVAL;
    if (new_start > block->start) {
        int64_t old_start = block->start;
        block->start = new_start;
        block->state_full = true;
        store_state_put(store, block);
        int error = store_state_write(store);
        if (error) {
            block->start = old_start;
            return error;
        }
    }
    bool wait = block->segment_count > 1 && block->segments[1]->base <= block->start &&
                block->segments[0]->base >= block->checkpoint.base;
    if (wait && !block->error) { /* a checkpoint lets the segments go */
        block->want_checkpoint = true;
        if (list_empty(&block->dirty_link))
            list_push_back(&store->dirty, &block->dirty_link);
        commit_force(store);
    }
    return block_drop_segments(block);
}

int64_t block_retention_start(struct block *block, int64_t keep_bytes, int64_t keep_ms, int64_t now_ms)
{
    struct segment *active = block_active(block);
    int64_t segment_ms = block->segment_ms;
    if (!block->error && !block->sealed && !block->room && active->size > 0 && active->since_ms != 0 &&
        segment_ms > 0 && now_ms - active->since_ms >= segment_ms)
        block_roll(block); /* if it fails, the next time will do */
    int64_t start = block->start;
    uint64_t size = block->size;
    for (uint32_t i = 0; i + 1 < block->segment_count; i++) {
        struct segment *segment = block->segments[i];
        int64_t next = block->segments[i + 1]->base;
        if (next > block->synced.offset)
            break;
        bool by_size = keep_bytes >= 0 && size - segment->size >= (uint64_t)keep_bytes;
        bool by_age = false;
        if (!by_size && keep_ms >= 0 && segment->size > 0 && index_check(block, segment) == 0)
            by_age = segment->index.max_time_ms >= 0 && segment->index.max_time_ms < now_ms - keep_ms;
        if (segment->size > 0 && !by_size && !by_age)
            break;
        size -= segment->size;
        if (next > start)
            start = next;
    }
    return start;
}

void block_seal(struct block *block, void (*done)(void *ctx, struct block *block, int error), void *ctx)
{
    struct store *store = block->store;
    block->sealed = true;
    block->seal_done = done;
    block->seal_ctx = ctx;
    if (block->error) {
        commit_announce(store, block);
        return;
    }
    ahead_end_block(block);
    block->want_checkpoint = true;
    if (list_empty(&block->dirty_link))
        list_push_back(&store->dirty, &block->dirty_link);
    commit_force(store);
}
