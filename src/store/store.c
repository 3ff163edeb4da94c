/* A shard's store: opening and stopping it, and the state of the disk being full. */
#include "store/store.h"

#include <assert.h>
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/ahead.h"
#include "store/checkpoint.h"
#include "store/folder_impl.h"
#include "store/store_impl.h"

enum { SPACE_PROBE_MS = 1000, SPACE_MARGIN = 4 << 20 };
/* Disks give space by so much: an append below it may need as much as one of it. */
enum { SPACE_UNIT = 4096 };
/* How long a stop waits for memory and descriptors. */
enum { STOP_PATIENCE_MS = 5000 };
enum { OPEN_FILES_MIN = 16, SEGMENT_BYTES_MIN = 4096, INDEX_INTERVAL_MIN = 1 };

void store_config_defaults(struct store_config *config)
{
    *config = (struct store_config){
        .fsync = STORE_FSYNC_COMMIT,
        .fsync_interval_ms = 1000,
        .segment_bytes = 256 << 20,
        .segment_ms = (int64_t)7 * 24 * 3600 * 1000,
        .index_interval_bytes = 4096,
        .checkpoint_bytes = 32 << 20,
        .max_open_files = 1024,
        .max_batch_bytes = 16 << 20,
        .zeros_ahead = STORE_ZEROS_AHEAD_MAX / 4,
        .small_syncs = 8,
        .room_by_worker = 1 << 20,
        .state_bytes = 1 << 20,
        .sync_all_from = 8,
    };
}

static int64_t clamp(int64_t value, int64_t low, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

int64_t store_clamp_segment_bytes(int64_t segment_bytes)
{
    return clamp(segment_bytes, SEGMENT_BYTES_MIN, INT32_MAX);
}

static void register_metrics(struct store *store, struct metrics *metrics)
{
    if (!metrics)
        return;
    char labels[32];
    snprintf(labels, sizeof(labels), "shard=\"%u\"", store->shard->id);
    store->metric_appended = metrics_register(metrics, METRIC_COUNTER, "clymq_store_appended_bytes_total",
                                              labels, "Bytes of batches appended to logs.");
    store->metric_passes = metrics_register(metrics, METRIC_COUNTER, "clymq_store_commit_passes_total",
                                            labels, "Passes of group commit.");
    store->metric_beside =
        metrics_register(metrics, METRIC_COUNTER, "clymq_store_commit_passes_beside_total", labels,
                         "Passes of group commit that began before the one before had ended.");
    store->metric_synced_files = metrics_register(metrics, METRIC_COUNTER, "clymq_store_syncs_total", labels,
                                                  "Files and folders synced by group commit.");
    store->metric_pass_ns =
        metrics_register(metrics, METRIC_HISTOGRAM, "clymq_store_commit_pass_nanoseconds", labels,
                         "Nanoseconds that a pass of group commit took; the disk's fsync time shows here.");
}

static void probe_space(struct io_timer *timer);

int store_open(const struct store_config *config, struct store_folder *folder, struct shard *shard,
               struct metrics *metrics, struct store **ret_store)
{
    struct store *store = mem_zalloc(sizeof(*store));
    if (!store)
        return CLYMQ_ENOMEM;
    store->config = *config;
    store->config.segment_bytes = store_clamp_segment_bytes(config->segment_bytes);
    store->config.index_interval_bytes = clamp(config->index_interval_bytes, INDEX_INTERVAL_MIN, INT32_MAX);
    store->config.max_open_files = clamp(config->max_open_files, OPEN_FILES_MIN, INT32_MAX);
    store->config.max_batch_bytes = clamp(config->max_batch_bytes, BATCH_HEADER_SIZE, INT32_MAX);
    store->config.zeros_ahead = clamp(config->zeros_ahead, 0, STORE_ZEROS_AHEAD_MAX);
    store->folder = folder;
    store->fs = store_folder_fs(folder);
    store->shard = shard;
    store->loop = shard->loop;
    store->checkpoint_at = (uint64_t)store->config.checkpoint_bytes;
    file_cache_init(&store->files, store->fs, (unsigned)store->config.max_open_files);
    struct list *lists[] = {&store->passes,        &store->blocks,           &store->dirty,
                            &store->announce,      &store->backlog,          &store->state_waiting,
                            &store->state_syncing, &store->checkpoint_queue, &store->trash,
                            &store->tail.link,     &store->stop_waiter.link, &store->rooms};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        list_init(lists[i]);
    store->tail.run = commit_tail;
    store->tail.ctx = store;
    store->commit_timer = (struct io_timer){.fire = commit_timer, .ctx = store};
    store->space_timer = (struct io_timer){.fire = probe_space, .ctx = store};
    creation_init(store);
    checkpoint_init(store);
    register_metrics(store, metrics);
    store->closed = map_new();
    store->open = map_new();
    int error = store->closed && store->open ? state_file_create(&store->state, store->fs, shard->id,
                                                                 store_folder_table(folder)->generation)
                                             : CLYMQ_ENOMEM;
    if (error) {
        state_file_close(&store->state);
        map_free(store->closed);
        map_free(store->open);
        mem_free(store);
        return error;
    }
    *ret_store = store;
    return 0;
}

/* ---- entries of blocks that are not open ---- */

struct block *store_find_open(struct store *store, struct uuid id)
{
    return map_get(store->open, bytes_of(id.byte, sizeof(id.byte)));
}

const struct state_entry *store_find_entry(struct store *store, struct uuid id)
{
    const struct state_entry *entry = map_get(store->closed, bytes_of(id.byte, sizeof(id.byte)));
    if (entry)
        return entry;
    for (size_t i = 0; i + 16 <= store->dropped.len; i += 16) {
        if (memcmp(store->dropped.data + i, id.byte, 16) == 0)
            return NULL;
    }
    return state_table_find(store_folder_table(store->folder), id);
}

int store_remember_closed(struct store *store, const struct block *block)
{
    struct state_entry *entry = mem_alloc(sizeof(*entry));
    if (!entry)
        return CLYMQ_ENOMEM;
    block_entry(block, entry);
    int error = store_put_closed(store, entry);
    if (error)
        mem_free(entry);
    return error;
}

int store_put_closed(struct store *store, struct state_entry *entry)
{
    struct bytes id = bytes_of(entry->key.id.byte, sizeof(entry->key.id.byte));
    struct state_entry *old = map_get(store->closed, id);
    int error = map_put(store->closed, id, entry);
    if (!error)
        mem_free(old);
    return error;
}

void store_forget_closed(struct store *store, struct uuid id)
{
    mem_free(map_remove(store->closed, bytes_of(id.byte, sizeof(id.byte))));
}

void store_renew_entry(struct store *store, struct uuid id)
{
    struct strbuf *dropped = &store->dropped;
    struct state_entry *old = map_remove(store->closed, bytes_of(id.byte, sizeof(id.byte)));
    if (old) /* whatever is being deleted has one */
        block_trim_keep_entry(store, id);
    mem_free(old);
    for (size_t i = 0; i + 16 <= dropped->len; i += 16) {
        if (memcmp(dropped->data + i, id.byte, 16) == 0) {
            memmove(dropped->data + i, dropped->data + i + 16, dropped->len - i - 16);
            dropped->len -= 16;
            return;
        }
    }
}

void store_drop_entry(struct store *store, struct uuid id)
{
    store_forget_closed(store, id);
    if (state_table_find(store_folder_table(store->folder), id)) {
        strbuf_append(&store->dropped, id.byte, sizeof(id.byte));
        store->dropped.failed =
            false; /* without memory a stale entry stays in the files, which harms nobody */
    }
    state_put_drop(&store->state, id);
    store_state_write(store);
}

/* ---- stopping ---- */

static void on_stopped(struct state_waiter *waiter, int error)
{
    struct store *store = CONTAINER_OF(waiter, struct store, stop_waiter);
    void (*done)(void *ctx, int error_) = store->stop_done;
    store->stop_done = NULL;
    if (done)
        done(store->stop_ctx, error ? error : store->stop_error);
}

void store_stop_step(struct store *store)
{
    if (!store->stopping || !list_empty(&store->passes) || !list_empty(&store->dirty) ||
        !checkpoint_idle(store) || !creation_idle(store) || !list_empty(&store->trash) ||
        !list_empty(&store->rooms) || store->stop_waiter.done)
        return;
    LIST_FOR_EACH(item, &store->blocks) {
        struct block *block = CONTAINER_OF(item, struct block, link);
        if (block->checkpointing)
            return;
        if (block->error && !store->stop_error)
            store->stop_error = CLYMQ_ELOG_FAILED;
    }
    store->stop_waiter.done = on_stopped;
    store_state_sync(store, &store->stop_waiter);
}

void store_stop(struct store *store, void (*done)(void *ctx, int error), void *ctx)
{
    assert(!store->stopping);
    store->stopping = true;
    store->stop_done = done;
    store->stop_ctx = ctx;
    store->stop_deadline_ns = io_loop_now_ns(store->loop) + IO_MS(STOP_PATIENCE_MS);
    LIST_FOR_EACH(item, &store->blocks) {
        struct block *block = CONTAINER_OF(item, struct block, link);
        if (!block->error)
            ahead_end_block(block);
        if (block->error || (block->backlog == 0 && list_empty(&block->dirty_link)))
            continue;
        block->want_checkpoint = true;
        if (list_empty(&block->dirty_link))
            list_push_back(&store->dirty, &block->dirty_link);
    }
    commit_force(store);
    store_stop_step(store);
}

static void abandon_waiters(struct list *waiters)
{
    while (!list_empty(waiters)) {
        struct state_waiter *waiter = CONTAINER_OF(list_pop_front(waiters), struct state_waiter, link);
        waiter->done(waiter, CLYMQ_ESHUTDOWN);
    }
}

void store_close(struct store *store)
{
    if (!store)
        return;
    store->stopping = false;
    commit_abandon(store);
    while (!list_empty(&store->blocks))
        block_free(CONTAINER_OF(store->blocks.next, struct block, link));
    checkpoint_abandon(store);
    creation_abandon(store);
    ahead_abandon(store);
    list_remove(&store->stop_waiter.link);
    abandon_waiters(&store->state_waiting);
    abandon_waiters(&store->state_syncing);
    block_trim_abandon(store);
    io_timer_stop(store->loop, &store->commit_timer);
    io_timer_stop(store->loop, &store->space_timer);
    list_remove(&store->tail.link);
    state_file_close(&store->state);
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(store->closed, &at)))
        mem_free(entry->value);
    map_free(store->closed);
    map_free(store->open);
    strbuf_free(&store->dropped);
    mem_free(store);
}

/* ---- a full disk ---- */

bool store_is_full(const struct store *store)
{
    return store->full;
}

void store_set_full(struct store *store, uint64_t refused_bytes)
{
    if (refused_bytes <= SPACE_UNIT)
        refused_bytes = 0;
    if (!store->full) {
        log_warn("the disk is full: appends are refused until there is space");
        store->refused_bytes = refused_bytes;
    }
    store->full = true;
    if (refused_bytes < store->refused_bytes)
        store->refused_bytes = refused_bytes;
    /* Without memory for the timer nothing is refused beforehand: see store_refuses. */
    if (!io_timer_armed(&store->space_timer))
        (void)io_timer_start(store->loop, &store->space_timer, IO_MS(SPACE_PROBE_MS));
}

bool store_refuses(struct store *store, uint64_t bytes)
{
    if (!store->full || bytes < store->refused_bytes)
        return false;
    /* Nobody would find out that there is space again. */
    return io_timer_armed(&store->space_timer) ||
           io_timer_start(store->loop, &store->space_timer, IO_MS(SPACE_PROBE_MS)) == 0;
}

static void probe_space(struct io_timer *timer)
{
    struct store *store = timer->ctx;
    uint64_t free_bytes, total_bytes;
    if (io_fs_space(store->fs, &free_bytes, &total_bytes) == 0) {
        uint64_t margin = total_bytes / 64 < SPACE_MARGIN ? total_bytes / 64 : SPACE_MARGIN;
        if (free_bytes >= store->refused_bytes + SPACE_UNIT + margin) {
            store->full = false;
            log_info("there is space on the disk again");
            return;
        }
    }
    (void)io_timer_start(store->loop, &store->space_timer,
                         IO_MS(SPACE_PROBE_MS)); /* in the place just left */
}
