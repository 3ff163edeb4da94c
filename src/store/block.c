/* An open block: the struct, appending, rolling. Making one is in block_create.c, opening in block_recover.c,
 * reading in block_read.c, retention and deletion in block_trim.c. */
#include "store/block.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/ahead.h"
#include "store/checkpoint.h"
#include "store/index.h"
#include "store/store_impl.h"

void block_dir(const struct block_key *key, char dir[BLOCK_DIR_MAX])
{
    char topic[33];
    uuid_format(key->topic, topic);
    int len = snprintf(dir, BLOCK_DIR_MAX, "data/%s/%" PRIu32 "/%" PRIu32, topic, key->partition, key->seq);
    assert(len > 0 && len < BLOCK_DIR_MAX);
}

/* ---- the struct ---- */

struct block *block_new(struct store *store, const struct block_key *key, const struct block_events *events)
{
    struct block *block = mem_zalloc(sizeof(*block));
    if (!block || map_put(store->open, bytes_of(key->id.byte, sizeof(key->id.byte)), block)) {
        mem_free(block);
        return NULL;
    }
    block->store = store;
    block->key = *key;
    if (events)
        block->events = *events;
    block_set_segment_limits(block, 0, 0);
    block->slot = SLOT_NONE;
    block->limit.base = -1;
    block->snapshots[0] = block->snapshots[1] = -1;
    for (int i = 0; i < BLOCK_HINTS; i++)
        block->hints[i].offset = -1;
    list_init(&block->dirty_link);
    list_init(&block->commits);
    list_init(&block->announce_link);
    list_init(&block->backlog_link);
    list_push_back(&store->blocks, &block->link);
    store->block_count++;
    return block;
}

void block_free(struct block *block)
{
    struct store *store = block->store;
    commit_detach(store, block);
    checkpoint_detach(store, block);
    ahead_detach(block);
    list_remove(&block->dirty_link);
    list_remove(&block->announce_link);
    list_remove(&block->backlog_link);
    assert(store->backlog_bytes >= block->backlog);
    store->backlog_bytes -= block->backlog;
    list_remove(&block->link);
    map_remove(store->open, bytes_of(block->key.id.byte, sizeof(block->key.id.byte)));
    store->block_count--;
    for (uint32_t i = 0; i < block->segment_count; i++)
        segment_free(store, block->segments[i]);
    mem_free(block->segments);
    mem_free(block);
}

int block_add_segment(struct block *block, struct segment *segment)
{
    if (block->segment_count == block->segment_cap) {
        uint32_t cap = block->segment_cap ? block->segment_cap * 2 : 1;
        struct segment **segments = mem_realloc(block->segments, cap * sizeof(*segments));
        if (!segments)
            return CLYMQ_ENOMEM;
        block->segments = segments;
        block->segment_cap = cap;
    }
    assert(block->segment_count == 0 || block_active(block)->base < segment->base);
    block->segments[block->segment_count++] = segment;
    block->size += segment->size;
    return 0;
}

uint32_t block_segment_at(const struct block *block, int64_t offset)
{
    uint32_t low = 0, high = block->segment_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (block->segments[middle]->base <= offset)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : 0;
}

struct segment *block_segment_named(const struct block *block, int64_t base)
{
    struct segment *segment = block->segments[block_segment_at(block, base)];
    return segment->base == base ? segment : NULL;
}

void block_entry(const struct block *block, struct state_entry *ret_entry)
{
    *ret_entry = (struct state_entry){
        .key = block->key,
        .start = block->start,
        .mark = block->synced,
        .checkpoint = block->checkpoint,
        .index = block->checkpoint_index,
        .active_since_ms = block_active(block)->since_ms,
        .damaged_offset = block->damaged_offset,
        .error = block->error,
        .sealed = block->sealed,
        .empty_snapshot = block->empty_snapshot,
    };
}

int64_t block_start(const struct block *block)
{
    return block->start;
}

int64_t block_end(const struct block *block)
{
    return block->end.offset;
}

int64_t block_durable_end(const struct block *block)
{
    return block->durable.offset;
}

uint64_t block_size(const struct block *block)
{
    return block->size;
}

int block_error(const struct block *block)
{
    return block->error;
}

bool block_is_sealed(const struct block *block)
{
    return block->sealed;
}

void block_fail(struct block *block, int error)
{
    if (block->error)
        return;
    block->error = error;
    block->state_full = true;
    log_error("block %" PRIu32 "/%" PRIu32 " failed at offset %" PRId64 ": %s", block->key.partition,
              block->key.seq, block->durable.offset, error_sentence(error));
    struct store *store = block->store;
    list_remove(&block->dirty_link);
    list_remove(&block->backlog_link);
    store->backlog_bytes -= block->backlog;
    block->backlog = 0;
    store_state_put(store, block);
    store_state_write(store);
    commit_announce(store, block);
}

void block_add_backlog(struct block *block, uint64_t bytes)
{
    struct store *store = block->store;
    if (list_empty(&block->backlog_link))
        list_push_back(&store->backlog, &block->backlog_link);
    block->backlog += bytes;
    store->backlog_bytes += bytes;
}

void block_close(struct block *block)
{
    if (!block)
        return;
    if (!block->error)
        ahead_end_block(block);
    if (store_remember_closed(block->store, block)) {
        /* Without memory for it the state file, which says the same but for the last marks, has to do. */
        log_warn("out of memory: a closed block's marks are not kept");
    }
    block_free(block);
}

void block_set_segment_limits(struct block *block, int64_t segment_bytes, int64_t segment_ms)
{
    const struct store_config *config = &block->store->config;
    block->segment_bytes =
        segment_bytes > 0 ? store_clamp_segment_bytes(segment_bytes) : config->segment_bytes;
    block->segment_ms = segment_ms > 0 ? segment_ms : config->segment_ms;
}

/* ---- appending ---- */

static bool must_roll(struct block *block, const struct segment *segment, const struct batch_header *header)
{
    if (segment->size == 0)
        return false;
    if (header->base_offset != block->end.offset)
        return true; /* a gap may come only before the first batch of a segment */
    if ((int64_t)segment->size + header->size > block->segment_bytes)
        return true;
    if (batch_last_offset(header) - segment->base > INT32_MAX)
        return true;
    return segment->since_ms != 0 && block->segment_ms > 0 &&
           io_loop_wall_ms(block->store->loop) - segment->since_ms >= block->segment_ms;
}

static int create_segment_file(struct block *block, const char *dir, int64_t base)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, dir, base, ".log");
    struct io_file *file;
    int error = io_fs_open(block->store->fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file);
    if (error)
        return error;
    io_file_close(file);
    block->dir_unsynced = true;
    return 0;
}

int block_roll(struct block *block)
{
    int64_t base = block->end.offset;
    if (block_active(block)->size == 0)
        return 0;
    struct segment *old = block_active(block);
    struct segment_ref *ref; /* stays open until its last sync: see below */
    int error = segment_file(block, old, SEGMENT_LOG, &ref);
    if (error)
        return error;
    struct segment *segment = segment_new(base, 0);
    if (!segment)
        return CLYMQ_ENOMEM;
    segment_ref_take(ref);
    segment->index_known = segment->index_checked = true;
    char dir[BLOCK_DIR_MAX];
    block_dir(&block->key, dir);
    error = create_segment_file(block, dir, base);
    if (!error)
        error = block_add_segment(block, segment);
    if (error) {
        segment_ref_release(ref);
        segment_free(block->store, segment);
        return error;
    }
    old->closed = true;
    ahead_end(old, ref->file);
    /* Its size, if nothing else: recovery may have cut it in a run that was killed. */
    segment_note_change(block->store, old, ref);
    segment_ref_release(ref);
    if (old->index_known) {
        index_finish(block, old);
        segment_summary_write(block, old, block->end.offset, block->end.epoch);
    }
    /* block->end stays behind the last batch: nothing may refer to a file whose name is not durable yet. */
    commit_add(block->store, block);
    return 0;
}

/* A write failed after any part of it may have been done: cuts it off again, durably, so that the batch can
 * be refused for certain. A cut that is not durable could be undone by a power loss, and the refused batch
 * would be back. */
static int undo_write(struct block *block, struct segment *segment, struct io_file *file, int error)
{
    int undone = io_file_truncate(file, segment->size);
    ahead_forget(segment);
    if (!undone)
        undone = io_file_sync(file);
    if (!undone)
        return error;
    block_fail(block, error);
    return CLYMQ_ELOG_FAILED;
}

static int refuse(struct block *block, uint32_t size, int error)
{
    if (error == CLYMQ_ENOSPC)
        store_set_full(block->store, size);
    /* The system's own "try again", which nobody will tell the time for. */
    if (error == CLYMQ_EAGAIN && !block->room)
        return CLYMQ_EIO;
    return error;
}

static int check_append(const struct block *block, const struct batch_header *header,
                        const struct iovec *parts, int count)
{
    if (block->error)
        return CLYMQ_ELOG_FAILED;
    if (block->store->stopping)
        return CLYMQ_ESHUTDOWN;
    if (block->sealed || header->base_offset < block->end.offset || header->leader_epoch < block->end.epoch)
        return CLYMQ_EINVAL;
    if (header->base_offset - block->end.offset > INT32_MAX) /* no index could lead there */
        return CLYMQ_EINVAL;
    size_t size = 0;
    for (int i = 0; i < count; i++)
        size += parts[i].iov_len;
    if (size != header->size || header->last_offset_delta < 0 ||
        header->base_offset > INT64_MAX - 1 - header->last_offset_delta)
        return CLYMQ_EINVAL;
    return (int64_t)header->size > block->store->config.max_batch_bytes ? CLYMQ_ETOOBIG : 0;
}

int block_append(struct block *block, const struct batch_header *header, const struct iovec *parts, int count)
{
    struct store *store = block->store;
    int error = check_append(block, header, parts, count);
    if (error)
        return error;
    if (block->room)
        return CLYMQ_EAGAIN;
    if (store_refuses(store, header->size))
        return refuse(block, header->size, CLYMQ_ENOSPC);
    struct segment *segment = block_active(block);
    if (must_roll(block, segment, header)) {
        error = block_roll(block);
        if (error)
            return refuse(block, header->size, error);
        segment = block_active(block);
    }
    struct segment_ref *ref;
    error = segment_file(block, segment, SEGMENT_LOG, &ref);
    if (!error)
        error = ahead_reserve(block, segment, ref, header->size);
    if (error)
        return refuse(block, header->size, error);
    ssize_t written = io_file_pwritev(ref->file, parts, count, segment->size);
    if (written < 0)
        return refuse(block, header->size, undo_write(block, segment, ref->file, (int)written));
    index_add(block, segment, header, segment->size);
    if (segment->size == 0)
        segment->since_ms = io_loop_wall_ms(store->loop);
    segment->size += header->size;
    segment_note_change(store, segment, ref);
    block->size += header->size;
    block->end = (struct log_point){.offset = batch_last_offset(header) + 1,
                                    .base = segment->base,
                                    .position = segment->size,
                                    .epoch = header->leader_epoch};
    block_add_backlog(block, header->size);
    commit_add(store, block);
    if (store->metric_appended)
        metric_add(store->metric_appended, header->size);
    return 0;
}
