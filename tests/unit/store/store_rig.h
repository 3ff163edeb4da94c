/* A store on a simulated process, for tests: one shard, one loop, one disk; batches with content that follows
 * from a number; waiting for things that come asynchronously. */
#ifndef CLYMQ_TEST_STORE_RIG_H
#define CLYMQ_TEST_STORE_RIG_H

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "store/block.h"
#include "store/state.h"

struct rig {
    struct sim_world *world;
    struct sim_process *process;
    struct io_fs *fs; /* the process's, or one around it */
    struct io_loop *loop;
    struct shards *shards;
    struct shard *shard;
    struct store_folder *folder;
    struct store *store;
    struct store_config config;
};

static inline void rig_init(struct rig *rig, uint64_t seed)
{
    memset(rig, 0, sizeof(*rig));
    rig->world = sim_world_new(seed);
    assert(rig->world);
    rig->process = sim_process_new(rig->world, "disk");
    assert(rig->process);
    rig->fs = sim_process_fs(rig->process);
    store_config_defaults(&rig->config);
}

/* Loop, shard, folder and store on the disk as it is. 0 or the error of the folder or the store. */
static inline int rig_start(struct rig *rig)
{
    static const uint8_t random[16] = {1, 2, 3};
    struct strbuf text = {0};
    int error = sim_process_loop(rig->process, &rig->loop);
    if (!error)
        error = shards_new_on_loops(&rig->loop, 1, NULL, &rig->shards);
    if (error)
        return error;
    rig->shard = shards_get(rig->shards, 0);
    error = store_folder_open(rig->fs, random, &text, &rig->folder);
    if (!error)
        error = store_open(&rig->config, rig->folder, rig->shard, NULL, &rig->store);
    strbuf_free(&text);
    return error;
}

/* Frees what runs; nothing reaches the disk. */
static inline void rig_drop(struct rig *rig)
{
    store_close(rig->store);
    store_folder_close(rig->folder);
    if (rig->shards) {
        shards_stop(rig->shards);
        shards_free(rig->shards);
    }
    io_loop_free(rig->loop);
    rig->store = NULL;
    rig->folder = NULL;
    rig->shards = NULL;
    rig->loop = NULL;
}

static inline void rig_crash(struct rig *rig, bool power_loss)
{
    sim_process_crash(rig->process, power_loss);
    rig_drop(rig);
    sim_process_restart(rig->process);
}

static inline void rig_free(struct rig *rig)
{
    if (rig->loop) {
        sim_process_crash(rig->process, false);
        rig_drop(rig);
    }
    sim_world_free(rig->world);
}

static inline void rig_stopped(void *ctx, int error)
{
    *(int *)ctx = error;
}

/* Runs the world until *value is no longer 1; at most 100 simulated seconds. */
static inline int rig_wait(struct rig *rig, int *value)
{
    uint64_t end = sim_world_now_ns(rig->world) + 100000000000u;
    io_loop_wake(rig->loop);
    while (*value == 1 && sim_process_alive(rig->process) && sim_world_now_ns(rig->world) < end &&
           sim_world_step(rig->world))
        ;
    return *value;
}

/* A clean stop. 0, an error, or 1 when it did not end. */
static inline int rig_stop(struct rig *rig)
{
    int result = 1;
    store_stop(rig->store, rig_stopped, &result);
    rig_wait(rig, &result);
    if (sim_process_alive(rig->process)) {
        sim_process_crash(rig->process, false);
        rig_drop(rig);
        sim_process_restart(rig->process);
    } else {
        rig_drop(rig);
    }
    return result;
}

/* Lets passes run. */
static inline void rig_settle(struct rig *rig)
{
    io_loop_wake(rig->loop);
    sim_world_run_for(rig->world, IO_MS(100));
}

static inline struct block_key rig_key(uint32_t partition)
{
    struct block_key key = {.topic = {{0xaa, 0xbb}}, .partition = partition, .seq = 0};
    key.id.byte[0] = 1;
    key.id.byte[1] = (uint8_t)partition;
    key.id.byte[2] = (uint8_t)(partition >> 8);
    return key;
}

/* One batch of `count` records whose values have `len` bytes that follow from seed. The caller unrefs. */
static inline struct buf *rig_batch(int64_t offset, int32_t epoch, int count, size_t len, uint64_t seed,
                                    int64_t timestamp_ms)
{
    struct batch_builder builder;
    struct buf *batch;
    uint8_t *value = malloc(len + 1);
    struct rng rng;
    rng_seed(&rng, seed);
    int error = batch_builder_init(&builder, len);
    for (int i = 0; i < count && !error; i++) {
        rng_fill(&rng, value, len);
        error =
            batch_builder_add(&builder, timestamp_ms + i, (struct bytes){0}, bytes_of(value, len), NULL, 0);
    }
    if (!error)
        error = batch_builder_finish(&builder, BATCH_NONE, 0, &batch);
    assert(!error);
    batch_builder_free(&builder);
    free(value);
    batch_assign(batch->data, offset, epoch);
    return batch;
}

static inline int rig_append_buf(struct block *block, struct buf *batch)
{
    struct batch_header header;
    int error = batch_check(bytes_of(batch->data, batch->len), UINT32_MAX, &header);
    assert(!error);
    struct iovec part = {batch->data, batch->len};
    return block_append(block, &header, &part, 1);
}

/* Appends a batch at the block's end. */
static inline int rig_append(struct block *block, int count, size_t len, uint64_t seed)
{
    struct buf *batch = rig_batch(block_end(block), 0, count, len, seed, 1000 + block_end(block));
    int error = rig_append_buf(block, batch);
    buf_unref(batch);
    return error;
}

/* Reads everything in [offset, limit) into one string, checking every batch. 0 or an error of reading. */
static inline int rig_read_all(struct block *block, int64_t offset, int64_t limit, size_t max_bytes,
                               struct strbuf *out)
{
    while (offset < limit) {
        struct block_range range;
        int error = block_read(block, offset, limit, max_bytes, &range);
        if (error)
            return error;
        if (range.len == 0)
            return CLYMQ_ENOENT;
        uint8_t *data = malloc(range.len);
        ssize_t got = io_file_pread(range.file, data, range.len, range.position);
        int64_t first = range.first_offset;
        size_t at = 0;
        error = got < 0 ? (int)got : (size_t)got < range.len ? CLYMQ_ECORRUPT : 0;
        while (!error && at < range.len) {
            struct batch_header header;
            error = batch_check(bytes_of(data + at, range.len - at), UINT32_MAX, &header);
            if (error)
                break;
            if ((at == 0 && header.base_offset != first) || batch_last_offset(&header) < offset ||
                header.base_offset >= limit)
                error = CLYMQ_ECORRUPT;
            offset = batch_last_offset(&header) + 1;
            at += header.size;
        }
        if (!error)
            strbuf_append(out, data, range.len);
        free(data);
        block_range_release(&range);
        if (error)
            return error == CLYMQ_EAGAIN ? CLYMQ_EBATCH : error;
    }
    return 0;
}

/* What the state files say of the rig's block 0 is changed by hand, with right checksums, between two lives.
 */
static inline void rig_change_entry(struct rig *rig, void (*change)(struct state_entry *entry, int which),
                                    int which)
{
    struct state_table table;
    struct state_file file;
    int error = state_table_load(rig->fs, false, &table);
    const struct state_entry *found = error ? NULL : state_table_find(&table, rig_key(0).id);
    assert(found);
    struct state_entry entry = *found;
    change(&entry, which);
    error = state_file_create(&file, rig->fs, 9, table.generation);
    state_put_block(&file, 0, &entry);
    if (!error)
        error = state_file_write(&file);
    assert(!error);
    state_file_close(&file);
    state_table_free(&table);
}

#endif
