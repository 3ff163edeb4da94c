/* Segments: names, their open files, headers read at a place, and the summary that a closed one leaves. */
#include "store/segment.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/index.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { SUMMARY_VERSION = 1, SUMMARY_FILE_MAX = 4096 };
static const char summary_magic[8] = "clymqsum";

const char *segment_suffix(enum segment_file kind)
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex"};
    return suffixes[kind];
}

void segment_path(char path[SEGMENT_PATH_MAX], const char *dir, int64_t base, const char *suffix)
{
    int len = snprintf(path, SEGMENT_PATH_MAX, "%s/%020" PRId64 "%s", dir, base, suffix);
    assert(len > 0 && len < SEGMENT_PATH_MAX);
}

bool segment_parse_name(const char *name, const char *suffix, int64_t *ret_number)
{
    if (strlen(name) != 20 + strlen(suffix) || strcmp(name + 20, suffix) != 0)
        return false;
    uint64_t number = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9' || number > (uint64_t)INT64_MAX / 10)
            return false;
        number = number * 10 + (uint64_t)(name[i] - '0');
    }
    if (number > INT64_MAX)
        return false;
    *ret_number = (int64_t)number;
    return true;
}

struct segment *segment_new(int64_t base, uint32_t size)
{
    struct segment *segment = mem_zalloc(sizeof(*segment));
    if (!segment)
        return NULL;
    segment->base = base;
    segment->size = segment->reserved = size;
    segment->index = index_mark_empty();
    return segment;
}

void segment_free(struct store *store, struct segment *segment)
{
    if (!segment)
        return;
    segment_ref_release(segment->pinned);
    for (int kind = 0; kind < SEGMENT_FILE_COUNT; kind++)
        file_cache_drop(&store->files, &segment->files[kind]);
    for (unsigned i = 0; i < SEGMENT_OPENINGS - 1; i++)
        file_cache_drop(&store->files, &segment->again[i]);
    mem_free(segment->pending);
    mem_free(segment);
}

void segment_note_change(struct store *store, struct segment *segment, struct segment_ref *ref)
{
    segment->unsynced = true;
    if (!segment->pinned && store->config.fsync != STORE_FSYNC_NEVER)
        segment->pinned = segment_ref_take(ref);
}

static int open_file(struct block *block, struct segment *segment, enum segment_file kind,
                     struct segment_ref **slot, struct segment_ref **ret_ref)
{
    struct file_cache *cache = &block->store->files;
    if (*slot) {
        file_cache_touch(cache, *slot);
        *ret_ref = *slot;
        return 0;
    }
    char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
    block_dir(&block->key, dir);
    segment_path(path, dir, segment->base, segment_suffix(kind));
    unsigned flags = IO_OPEN_WRITE | (kind == SEGMENT_LOG ? 0 : IO_OPEN_CREATE);
    return file_cache_get(cache, slot, path, flags, ret_ref);
}

int segment_file(struct block *block, struct segment *segment, enum segment_file kind,
                 struct segment_ref **ret_ref)
{
    return open_file(block, segment, kind, &segment->files[kind], ret_ref);
}

int segment_open_again(struct block *block, struct segment *segment, unsigned opening)
{
    struct segment_ref *ref;
    struct segment_ref **slot = opening ? &segment->again[opening - 1] : &segment->files[SEGMENT_LOG];
    return open_file(block, segment, SEGMENT_LOG, slot, &ref);
}

int segment_read_header(struct block *block, struct segment *segment, uint32_t position, uint32_t limit,
                        struct batch_header *ret_header)
{
    struct segment_ref *ref;
    int error = segment_file(block, segment, SEGMENT_LOG, &ref);
    if (error)
        return error == CLYMQ_ENOENT ? CLYMQ_ECORRUPT : error;
    uint8_t bytes[BATCH_HEADER_SIZE];
    if (position > limit || limit - position < sizeof(bytes))
        return CLYMQ_ECORRUPT;
    ssize_t got = io_file_pread(ref->file, bytes, sizeof(bytes), position);
    if (got < 0)
        return (int)got;
    struct batch_header header;
    error = batch_read_header(bytes_of(bytes, (size_t)got), limit - position, &header);
    if (got < (ssize_t)sizeof(bytes) || (error && error != CLYMQ_EAGAIN))
        return CLYMQ_ECORRUPT;
    if (!segment_can_hold(segment->base, &header))
        return CLYMQ_ECORRUPT;
    *ret_header = header;
    return 0;
}

void segment_summary_encode(const struct segment_summary *summary, uint8_t out[SUMMARY_SIZE])
{
    uint8_t *at = out;
    memcpy(at, summary_magic, 8);
    store_be32(at + 8, SUMMARY_VERSION);
    store_be64(at + 12, (uint64_t)summary->base);
    store_be64(at + 20, (uint64_t)summary->end);
    store_be64(at + 28, (uint64_t)summary->next_base);
    store_be32(at + 36, summary->size);
    store_be32(at + 40, (uint32_t)summary->epoch);
    at += 44;
    const struct index_mark *index = &summary->index;
    store_be32(at, index->index_count);
    store_be32(at + 4, index->time_count);
    store_be32(at + 8, index->index_crc);
    store_be32(at + 12, index->time_crc);
    store_be32(at + 16, index->since_entry);
    store_be64(at + 20, (uint64_t)index->last_time_ms);
    store_be64(at + 28, (uint64_t)index->max_time_ms);
    store_be64(at + 36, (uint64_t)index->max_time_offset);
    at += 44;
    store_be32(at, crc32c(0, out, (size_t)(at - out)));
    assert(at + 4 == out + SUMMARY_SIZE);
}

int segment_summary_decode(struct bytes data, struct segment_summary *ret_summary)
{
    if (data.len < 16 || memcmp(data.ptr, summary_magic, 8) != 0 ||
        load_be32(data.ptr + data.len - 4) != crc32c(0, data.ptr, data.len - 4))
        return CLYMQ_ECORRUPT;
    if (load_be32(data.ptr + 8) > SUMMARY_VERSION)
        return CLYMQ_EFORMAT;
    if (data.len != SUMMARY_SIZE)
        return CLYMQ_ECORRUPT;
    const uint8_t *at = data.ptr;
    *ret_summary = (struct segment_summary){
        .base = (int64_t)load_be64(at + 12),
        .end = (int64_t)load_be64(at + 20),
        .next_base = (int64_t)load_be64(at + 28),
        .size = load_be32(at + 36),
        .epoch = (int32_t)load_be32(at + 40),
        .index = {.index_count = load_be32(at + 44),
                  .time_count = load_be32(at + 48),
                  .index_crc = load_be32(at + 52),
                  .time_crc = load_be32(at + 56),
                  .since_entry = load_be32(at + 60),
                  .last_time_ms = (int64_t)load_be64(at + 64),
                  .max_time_ms = (int64_t)load_be64(at + 72),
                  .max_time_offset = (int64_t)load_be64(at + 80)},
    };
    return 0;
}

int segment_summary_read(struct io_fs *fs, const char *dir, const struct segment *segment,
                         struct segment_summary *ret_summary)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, dir, segment->base, ".summary");
    uint8_t *data;
    size_t len;
    int error = io_fs_read_file(fs, path, SUMMARY_FILE_MAX, &data, &len);
    if (error)
        return error == CLYMQ_ETOOBIG ? CLYMQ_ECORRUPT : error;
    struct segment_summary summary = {0};
    error = segment_summary_decode(bytes_of(data, len), &summary);
    mem_free(data);
    const struct log_point end = {.offset = summary.end, .base = summary.base, .position = summary.size};
    if (!error && (summary.base != segment->base || summary.size != segment->size ||
                   !index_mark_is_possible(&summary.index, &end)))
        error = CLYMQ_ECORRUPT;
    if (!error)
        *ret_summary = summary;
    return error;
}

void segment_summary_write(struct block *block, struct segment *segment, int64_t end, int32_t epoch)
{
    uint32_t next = block_segment_at(block, segment->base) + 1;
    struct segment_summary summary = {
        .base = segment->base,
        .end = end,
        .next_base = next < block->segment_count ? block->segments[next]->base : end,
        .size = segment->size,
        .epoch = epoch,
        .index = segment->index,
    };
    uint8_t data[SUMMARY_SIZE];
    segment_summary_encode(&summary, data);
    char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
    block_dir(&block->key, dir);
    segment_path(path, dir, segment->base, ".summary");
    struct io_file *file;
    int error = io_fs_open(block->store->fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file);
    if (!error) {
        ssize_t written = io_file_pwrite(file, data, sizeof(data), 0);
        error = written < 0 ? (int)written : 0;
        io_file_close(file);
    }
    if (error)
        log_limited(LOG_WARN, "%s not written: %s", path, error_sentence(error));
}
