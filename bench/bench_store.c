/* Figures of the store, on a real disk in a folder given as argument (default: ./bench-store-data, removed
 * afterwards): appending against a raw loop of pwrite, opening many blocks after a kill, memory per block. */
#include <inttypes.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/block.h"

enum { BATCH = 64 << 10, APPENDS = 16384 };

struct bench {
    struct io_fs *fs;
    struct io_loop *loop;
    struct shards *shards;
    struct store_folder *folder;
    struct store *store;
};

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void must(int error, const char *what)
{
    if (!error)
        return;
    fprintf(stderr, "bench_store: %s: %s\n", what, error_sentence(error));
    exit(1);
}

static double start(struct bench *bench, const char *root)
{
    static const uint8_t random[16] = {1};
    struct store_config config;
    struct strbuf text = {0};
    store_config_defaults(&config);
    must(io_os_fs_new(root, &bench->fs), root);
    must(io_os_loop_new(4, &bench->loop), "loop");
    must(shards_new_on_loops(&bench->loop, 1, NULL, &bench->shards), "shards");
    double before = now();
    must(store_folder_open(bench->fs, random, &text, &bench->folder), "data folder");
    must(store_open(&config, bench->folder, shards_get(bench->shards, 0), NULL, &bench->store), "store");
    strbuf_free(&text);
    return now() - before;
}

static void stop_loop(struct io_timer *timer)
{
    io_loop_stop(timer->ctx);
}

/* As a kill would: nothing more is synced or said goodbye to, but for what workers have under way. */
static void drop(struct bench *bench)
{
    struct io_timer timer = {.fire = stop_loop, .ctx = bench->loop};
    must(io_timer_start(bench->loop, &timer, IO_MS(500)), "timer");
    io_loop_run(bench->loop);
    store_close(bench->store);
    store_folder_close(bench->folder);
    shards_stop(bench->shards);
    shards_free(bench->shards);
    io_loop_free(bench->loop);
    io_os_fs_free(bench->fs);
}

static struct block_key key_of(uint32_t number)
{
    struct block_key key = {.topic = {{7}}, .partition = number};
    memcpy(key.id.byte, &number, 4);
    key.id.byte[15] = 1;
    return key;
}

static struct buf *make_batch(size_t len)
{
    struct batch_builder builder;
    struct buf *batch;
    uint8_t *value = calloc(1, len);
    must(batch_builder_init(&builder, len), "batch");
    must(batch_builder_add(&builder, 1, (struct bytes){0}, bytes_of(value, len), NULL, 0), "batch");
    must(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), "batch");
    free(value);
    return batch;
}

static void append(struct block *block, struct buf *batch)
{
    struct batch_header header;
    batch_assign(batch->data, block_end(block), 0);
    must(batch_read_header(bytes_of(batch->data, batch->len), UINT32_MAX, &header), "header");
    struct iovec part = {batch->data, batch->len};
    must(block_append(block, &header, &part, 1), "append");
}

static int64_t wanted;

static void on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct bench *bench = ctx;
    must(error, "commit");
    if (durable_end >= wanted)
        io_loop_stop(bench->loop);
}

static void remove_folder(const char *root)
{
    struct io_fs *fs;
    must(io_os_fs_new(root, &fs), root);
    static const char *const names[] = {"data", "state", "FORMAT", "disk.json", "LOCK"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        io_fs_remove_tree(fs, names[i]);
    io_os_fs_free(fs);
}

static double raw_append(const char *root, const struct buf *batch)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/raw", root);
    struct io_fs *fs;
    struct io_file *file;
    must(io_os_fs_new(root, &fs), root);
    must(io_fs_open(fs, "raw", IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file), path);
    double before = now();
    for (int i = 0; i < APPENDS; i++) {
        if (io_file_pwrite(file, batch->data, batch->len, (uint64_t)i * batch->len) < 0)
            must(CLYMQ_EIO, "write");
    }
    double took = now() - before;
    must(io_file_sync(file), "sync");
    double synced = now() - before;
    io_file_close(file);
    io_fs_unlink(fs, "raw");
    io_os_fs_free(fs);
    printf("raw pwrite        %8.1f MiB/s written, %8.1f MiB/s with the sync at the end\n",
           (double)APPENDS * BATCH / took / (1 << 20), (double)APPENDS * BATCH / synced / (1 << 20));
    return synced;
}

static void bench_append(const char *root)
{
    struct bench bench;
    struct buf *batch = make_batch(BATCH - 80);
    double raw = raw_append(root, batch);
    start(&bench, root);
    struct block_events events = {.on_durable = on_durable, .ctx = &bench};
    struct block_key key = key_of(0);
    struct block *block;
    must(block_create(bench.store, &key, 0, &events, &block), "create");
    double before = now(), writing = 0;
    /* In rounds of 1 MiB, as a loop would bring them, with the group commit running beside. */
    for (int i = 0; i < APPENDS;) {
        double begin = now();
        for (int k = 0; k < 16; k++, i++)
            append(block, batch);
        writing += now() - begin;
        wanted = i == APPENDS ? i : i - 64;
        if (block_durable_end(block) < wanted || i == 16) {
            io_loop_wake(bench.loop);
            io_loop_run(bench.loop);
        }
    }
    double took = now() - before;
    printf("block_append      %8.1f MiB/s written, %8.1f MiB/s durable: %.0f %% of raw\n",
           (double)APPENDS * BATCH / writing / (1 << 20), (double)APPENDS * BATCH / took / (1 << 20),
           100 * raw / took);
    drop(&bench);
    buf_unref(batch);
    remove_folder(root);
}

static void bench_open(const char *root, uint32_t count, int batches, size_t len)
{
    struct bench bench;
    struct buf *batch = make_batch(len);
    start(&bench, root);
    double before = now();
    struct block_events events = {.on_durable = on_durable, .ctx = &bench};
    struct block **blocks = calloc(count, sizeof(*blocks));
    wanted = INT64_MAX;
    for (uint32_t i = 0; i < count; i++) {
        struct block_key key = key_of(i);
        must(block_create(bench.store, &key, 0, &events, &blocks[i]), "create");
    }
    double created = now() - before;
    for (int k = 0; k < batches; k++) {
        for (uint32_t i = 0; i < count; i++)
            append(blocks[i], batch);
        if (k % 8 == 7 || k == batches - 1) {
            wanted = k + 1;
            io_loop_wake(bench.loop);
            io_loop_run(bench.loop);
        }
    }
    drop(&bench);
    uint64_t live = mem_live_bytes();
    size_t used = mallinfo2().uordblks;
    double folder = start(&bench, root);
    before = now();
    uint64_t read = 0;
    for (uint32_t i = 0; i < count; i++) {
        struct block_key key = key_of(i);
        struct block_recovery recovery;
        must(block_open(bench.store, &key, &events, &blocks[i], &recovery), "open");
        read += recovery.bytes_read;
        if (block_end(blocks[i]) != batches)
            must(CLYMQ_ECORRUPT, "content");
    }
    double opened = now() - before;
    printf(
        "%6" PRIu32
        " blocks of %8.1f KiB: made in %6.2f s; after a kill opened in %6.1f ms (+ %.1f ms for the folder), "
        "%.1f MiB read, %" PRIu64 " B a block (malloc %zu B)\n",
        count, (double)batches * (double)batch->len / 1024, created, opened * 1e3, folder * 1e3,
        (double)read / (1 << 20), (mem_live_bytes() - live) / count, (mallinfo2().uordblks - used) / count);
    drop(&bench);
    buf_unref(batch);
    free(blocks);
    remove_folder(root);
}

int main(int argc, char **argv)
{
    char root[480];
    snprintf(root, sizeof(root), "%s/bench-store-XXXXXX", argc > 1 ? argv[1] : ".");
    if (!mkdtemp(root)) {
        perror(root);
        return 1;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    bench_append(root);
    bench_open(root, 1000, 16, 64 << 10);
    bench_open(root, 10000, 1, 1000);
    rmdir(root);
    return 0;
}
