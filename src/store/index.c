/* Sparse offset and time indexes: adding, writing, checking, making again, looking up. */
#include "store/index.h"

#include <assert.h>

#define LOG_MODULE "store"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/ahead.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { INDEX_ENTRY = 8, TIME_ENTRY = 12, CHECK_CHUNK = 16384, SCAN_CHUNK = 1 << 18 };

struct index_mark index_mark_empty(void)
{
    return (struct index_mark){.last_time_ms = INT64_MIN, .max_time_ms = INT64_MIN};
}

static void empty_index(struct segment *segment)
{
    struct index_mark *mark = &segment->index;
    mark->index_count = mark->time_count = 0;
    mark->index_crc = mark->time_crc = 0;
    mark->last_time_ms = INT64_MIN;
    if (segment->pending)
        segment->pending->index_first = segment->pending->time_first = 0;
    segment->index_checked = true;
}

static bool need_pending(struct segment *segment)
{
    if (segment->pending)
        return true;
    segment->pending = mem_alloc(sizeof(*segment->pending));
    if (!segment->pending)
        return false;
    segment->pending->index_first = segment->index.index_count;
    segment->pending->time_first = segment->index.time_count;
    return true;
}

static void add_time_entry(struct segment *segment)
{
    struct index_mark *mark = &segment->index;
    if (mark->max_time_ms < 0 || mark->max_time_ms <= mark->last_time_ms)
        return;
    uint8_t *entry =
        segment->pending->time + (size_t)(mark->time_count - segment->pending->time_first) * TIME_ENTRY;
    store_be64(entry, (uint64_t)mark->max_time_ms);
    store_be32(entry + 8, (uint32_t)(mark->max_time_offset - segment->base));
    mark->time_crc = crc32c(mark->time_crc, entry, TIME_ENTRY);
    mark->last_time_ms = mark->max_time_ms;
    mark->time_count++;
}

static bool pending_full(const struct segment *segment)
{
    return segment->index.index_count - segment->pending->index_first == INDEX_PENDING_MAX ||
           segment->index.time_count - segment->pending->time_first == INDEX_PENDING_MAX;
}

void index_add(struct block *block, struct segment *segment, const struct batch_header *header,
               uint32_t position)
{
    struct index_mark *mark = &segment->index;
    int64_t last_offset = batch_last_offset(header);
    if (header->max_timestamp_ms > mark->max_time_ms) {
        mark->max_time_ms = header->max_timestamp_ms;
        mark->max_time_offset = last_offset;
    }
    /* As Kafka does, an entry is for the batch that comes after the interval is full. Without memory it comes
     * later. */
    if (mark->since_entry > block->store->config.index_interval_bytes && need_pending(segment)) {
        if (pending_full(segment))
            index_flush(block, segment);
        uint8_t *entry = segment->pending->index +
                         (size_t)(mark->index_count - segment->pending->index_first) * INDEX_ENTRY;
        store_be32(entry, (uint32_t)(last_offset - segment->base));
        store_be32(entry + 4, position);
        mark->index_crc = crc32c(mark->index_crc, entry, INDEX_ENTRY);
        mark->index_count++;
        add_time_entry(segment);
        mark->since_entry = 0;
    }
    mark->since_entry =
        mark->since_entry > UINT32_MAX - header->size ? UINT32_MAX : mark->since_entry + header->size;
}

void index_finish(struct block *block, struct segment *segment)
{
    if (segment->index.max_time_ms > segment->index.last_time_ms && need_pending(segment)) {
        if (pending_full(segment))
            index_flush(block, segment);
        add_time_entry(segment);
    }
    index_flush(block, segment);
    mem_free(segment->pending);
    segment->pending = NULL;
    /* Entries of an earlier life may lie behind the last. */
    static const size_t entry_sizes[] = {[SEGMENT_INDEX] = INDEX_ENTRY, [SEGMENT_TIMEINDEX] = TIME_ENTRY};
    for (int kind = SEGMENT_INDEX; kind <= SEGMENT_TIMEINDEX; kind++) {
        uint32_t count = kind == SEGMENT_INDEX ? segment->index.index_count : segment->index.time_count;
        struct segment_ref *ref;
        uint64_t size;
        if (count > 0 && segment_file(block, segment, (enum segment_file)kind, &ref) == 0 &&
            io_file_size(ref->file, &size) == 0 && size > (uint64_t)count * entry_sizes[kind])
            io_file_truncate(ref->file, (uint64_t)count * entry_sizes[kind]);
    }
}

static int write_entries(struct block *block, struct segment *segment, enum segment_file kind,
                         const uint8_t *entries, uint32_t first, uint32_t end, size_t entry_size)
{
    if (first == end)
        return 0;
    struct segment_ref *ref;
    int error = segment_file(block, segment, kind, &ref);
    if (error)
        return error;
    if (first == 0) { /* a file of the same name may be left from an earlier life */
        error = io_file_truncate(ref->file, 0);
        if (error)
            return error;
    }
    ssize_t written =
        io_file_pwrite(ref->file, entries, (end - first) * entry_size, (uint64_t)first * entry_size);
    return written < 0 ? (int)written : 0;
}

void index_flush(struct block *block, struct segment *segment)
{
    struct index_pending *pending = segment->pending;
    if (!pending)
        return;
    const struct index_mark *mark = &segment->index;
    int error = write_entries(block, segment, SEGMENT_INDEX, pending->index, pending->index_first,
                              mark->index_count, INDEX_ENTRY);
    if (!error)
        error = write_entries(block, segment, SEGMENT_TIMEINDEX, pending->time, pending->time_first,
                              mark->time_count, TIME_ENTRY);
    if (error) {
        log_limited(LOG_WARN, "index of segment %lld not written: %s", (long long)segment->base,
                    error_sentence(error));
        empty_index(segment);
        return;
    }
    pending->index_first = mark->index_count;
    pending->time_first = mark->time_count;
}

/* CLYMQ_ECORRUPT when the first `count` entries of the file are not there or have another checksum. */
static int check_file(struct block *block, struct segment *segment, enum segment_file kind, uint32_t count,
                      size_t entry_size, const uint8_t *pending, uint32_t pending_first, uint32_t want_crc)
{
    uint32_t in_file = pending ? pending_first : count;
    uint32_t crc = 0;
    if (in_file > 0) {
        struct segment_ref *ref;
        int error = segment_file(block, segment, kind, &ref);
        if (error)
            return error;
        uint8_t *chunk MEM_CLEANUP = mem_alloc(CHECK_CHUNK);
        if (!chunk)
            return CLYMQ_ENOMEM;
        uint64_t at = 0, len = (uint64_t)in_file * entry_size;
        while (at < len) {
            size_t part = len - at < CHECK_CHUNK ? (size_t)(len - at) : CHECK_CHUNK;
            ssize_t got = io_file_pread(ref->file, chunk, part, at);
            if (got < 0)
                return (int)got;
            if ((size_t)got < part)
                return CLYMQ_ECORRUPT;
            crc = crc32c(crc, chunk, part);
            at += part;
        }
    }
    if (pending)
        crc = crc32c(crc, pending, (count - pending_first) * entry_size);
    return crc == want_crc ? 0 : CLYMQ_ECORRUPT;
}

int index_check(struct block *block, struct segment *segment)
{
    if (segment->index_known && segment->index_checked)
        return 0;
    if (!segment->index_known) {
        char dir[BLOCK_DIR_MAX];
        struct segment_summary summary;
        block_dir(&block->key, dir);
        int error = segment_summary_read(block->store->fs, dir, segment, &summary);
        if (error == CLYMQ_ENOMEM || error == CLYMQ_ELIMIT)
            return error;
        if (error)
            return index_rebuild(block, segment);
        segment->index = summary.index;
        segment->index_known = true;
    }
    const struct index_mark *mark = &segment->index;
    const struct index_pending *pending = segment->pending;
    int error =
        check_file(block, segment, SEGMENT_INDEX, mark->index_count, INDEX_ENTRY,
                   pending ? pending->index : NULL, pending ? pending->index_first : 0, mark->index_crc);
    if (!error)
        error = check_file(block, segment, SEGMENT_TIMEINDEX, mark->time_count, TIME_ENTRY,
                           pending ? pending->time : NULL, pending ? pending->time_first : 0, mark->time_crc);
    if (error == CLYMQ_ENOMEM || error == CLYMQ_ELIMIT)
        return error;
    if (error) {
        log_info("index of segment %lld does not fit: making it again from the log",
                 (long long)segment->base);
        return index_rebuild(block, segment);
    }
    segment->index_checked = true;
    return 0;
}

/* The next segment is named by the offset behind this one's last batch: whatever lies behind that batch is
 * left of a cut that a power loss undid, and is cut again. */
static void cut_excess(struct block *block, struct segment *segment, uint32_t position)
{
    struct segment_ref *ref;
    block->size -= segment->size - position;
    segment->size = position;
    ahead_forget(segment);
    if (segment_file(block, segment, SEGMENT_LOG, &ref) == 0)
        io_file_truncate(ref->file, position); /* or else it is found again in the next run */
}

int index_rebuild(struct block *block, struct segment *segment)
{
    uint32_t next = block_segment_at(block, segment->base) + 1;
    int64_t end = next < block->segment_count ? block->segments[next]->base : INT64_MAX;
    struct index_mark old = segment->index;
    bool known = segment->index_known;
    segment->index = index_mark_empty();
    empty_index(segment);
    segment->index_known = true;
    uint32_t position = 0;
    int64_t expected = segment->base;
    int32_t epoch = -1;
    int error = 0;
    while (position < segment->size && !error) {
        struct batch_header header;
        if (expected == end) {
            cut_excess(block, segment, position);
            break;
        }
        error = segment_read_header(block, segment, position, segment->size, &header);
        if (!error && header.base_offset != expected && position > 0)
            error = CLYMQ_ECORRUPT;
        if (error)
            break;
        index_add(block, segment, &header, position);
        position += header.size;
        expected = batch_last_offset(&header) + 1;
        epoch = header.leader_epoch;
    }
    if (index_was_not_read(error)) {
        /* What was known of the times still holds: without entries the index is right, and the active
         * segment's, which a checkpoint needs, stays known. */
        segment->index = old;
        empty_index(segment);
        segment->index_known = segment->index_checked = known;
        return error;
    }
    if (segment->closed) {
        index_finish(block, segment);
        if (!error)
            segment_summary_write(block, segment, expected, epoch);
    }
    return error;
}

/* ---- looking up ---- */

static int read_entry(struct block *block, struct segment *segment, enum segment_file kind, uint32_t number,
                      uint8_t *entry, size_t entry_size)
{
    const struct index_pending *pending = segment->pending;
    if (pending) {
        uint32_t first = kind == SEGMENT_INDEX ? pending->index_first : pending->time_first;
        const uint8_t *entries = kind == SEGMENT_INDEX ? pending->index : pending->time;
        if (number >= first) {
            memcpy(entry, entries + (size_t)(number - first) * entry_size, entry_size);
            return 0;
        }
    }
    struct segment_ref *ref;
    int error = segment_file(block, segment, kind, &ref);
    if (error)
        return error;
    ssize_t got = io_file_pread(ref->file, entry, entry_size, (uint64_t)number * entry_size);
    if (got < 0)
        return (int)got;
    return (size_t)got < entry_size ? CLYMQ_ECORRUPT : 0;
}

/* Number of entries whose key (the 32 bits at key_at; the 64-bit timestamp for the time index) is <= key; the
 * last of them in entry. */
static int find_last(struct block *block, struct segment *segment, enum segment_file kind, uint64_t key,
                     size_t key_at, uint8_t *entry, uint32_t *ret_count)
{
    size_t entry_size = kind == SEGMENT_INDEX ? INDEX_ENTRY : TIME_ENTRY;
    uint32_t low = 0, high = kind == SEGMENT_INDEX ? segment->index.index_count : segment->index.time_count;
    uint8_t probe[TIME_ENTRY];
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int error = read_entry(block, segment, kind, middle, probe, entry_size);
        if (error)
            return error;
        uint64_t value = kind == SEGMENT_INDEX ? load_be32(probe + key_at) : load_be64(probe);
        if (value <= key) {
            memcpy(entry, probe, entry_size);
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *ret_count = low;
    return 0;
}

static int find_position(struct block *block, struct segment *segment, uint64_t key, size_t key_at,
                         uint32_t *ret_position)
{
    int error = index_check(block, segment);
    if (error)
        return error;
    uint8_t entry[TIME_ENTRY];
    uint32_t count;
    error = find_last(block, segment, SEGMENT_INDEX, key, key_at, entry, &count);
    if (error)
        return error;
    *ret_position = count > 0 ? load_be32(entry + 4) : 0;
    return 0;
}

int index_find_offset(struct block *block, struct segment *segment, int64_t offset, uint32_t *ret_position)
{
    assert(offset >= segment->base);
    return find_position(block, segment, (uint64_t)(offset - segment->base), 0, ret_position);
}

int index_find_position(struct block *block, struct segment *segment, uint32_t position,
                        uint32_t *ret_position)
{
    return find_position(block, segment, position, 4, ret_position);
}

int index_find_time(struct block *block, struct segment *segment, int64_t timestamp_ms, int64_t *ret_offset)
{
    int error = index_check(block, segment);
    if (error)
        return error;
    *ret_offset = segment->base;
    if (timestamp_ms <= 0)
        return 0;
    uint8_t entry[TIME_ENTRY];
    uint32_t count;
    error = find_last(block, segment, SEGMENT_TIMEINDEX, (uint64_t)timestamp_ms - 1, 0, entry, &count);
    if (!error && count > 0) /* everything up to that offset is older than timestamp_ms */
        *ret_offset = segment->base + load_be32(entry + 8);
    return error;
}
