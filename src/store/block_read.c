/* Reading a block: finding where an offset or a time lies, and giving out whole batches as a range of a file.
 *
 * A range is found without reading the batches in it: its begin from a remembered place (where the range
 * before ended) or the index, its end from the limit's remembered place or the index. Only the first batch's
 * header, and that of the batch behind the range where the index told the end, are read: both must fit, so
 * that a damaged index never leads anywhere. */
#include <assert.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/index.h"
#include "store/store_impl.h"

/* Records of one batch are inflated up to this when a time is looked for inside it. */
#define RECORDS_SIZE_MAX ((size_t)256 << 20)

/* A batch found in a segment. */
struct place {
    uint32_t segment; /* number */
    uint32_t position;
    struct batch_header header;
};

/* How far batches of the segment are good to read: of a damaged block's log less may be there than its end
 * says. */
static uint32_t readable_size(const struct block *block, const struct segment *segment)
{
    bool ends_here = segment->base == block->end.base && block->end.position < segment->size;
    return ends_here ? block->end.position : segment->size;
}

static int read_checked(struct block *block, uint32_t number, uint32_t position,
                        struct batch_header *ret_header)
{
    struct segment *segment = block->segments[number];
    return segment_read_header(block, segment, position, readable_size(block, segment), ret_header);
}

/* From position, where a batch begins, on to the first batch whose last offset is >= offset. CLYMQ_ENOENT:
 * none in this segment. */
static int scan_to(struct block *block, uint32_t number, uint32_t position, int64_t offset,
                   struct place *ret_place)
{
    struct segment *segment = block->segments[number];
    uint32_t size = readable_size(block, segment);
    int64_t expected = -1;
    while (position < size) {
        struct batch_header header;
        int error = read_checked(block, number, position, &header);
        if (error)
            return error;
        if (expected >= 0 ? header.base_offset != expected : header.base_offset > offset && position > 0)
            return CLYMQ_ECORRUPT;
        if (batch_last_offset(&header) >= offset) {
            *ret_place = (struct place){.segment = number, .position = position, .header = header};
            return 0;
        }
        position += header.size;
        expected = batch_last_offset(&header) + 1;
    }
    return CLYMQ_ENOENT;
}

/* Finds it in one segment by its index, making the index again once if it leads astray. */
static int find_in_segment(struct block *block, uint32_t number, int64_t offset, struct place *ret_place)
{
    struct segment *segment = block->segments[number];
    if (offset <= segment->base)
        return scan_to(block, number, 0, offset, ret_place);
    for (int attempt = 0;; attempt++) {
        uint32_t position;
        int error = index_find_offset(block, segment, offset, &position);
        if (!error && position > 0 && position >= readable_size(block, segment))
            error = CLYMQ_ECORRUPT; /* no batch begins there: the index was damaged since it was checked */
        if (!error)
            error = scan_to(block, number, position, offset, ret_place);
        if (error != CLYMQ_ECORRUPT || attempt > 0)
            return error;
        index_rebuild(block, segment); /* if the log itself is damaged, the second attempt says so */
    }
}

static bool find_hint(struct block *block, int64_t offset, struct place *ret_place)
{
    for (int i = 0; i < BLOCK_HINTS; i++) {
        const struct block_hint *hint = &block->hints[i];
        if (hint->offset != offset)
            continue;
        struct place place = {.segment = block_segment_at(block, hint->base), .position = hint->position};
        const struct segment *segment = block->segments[place.segment];
        if (segment->base != hint->base || (segment->closed && !segment->index_checked))
            continue;
        if (read_checked(block, place.segment, place.position, &place.header) == 0 &&
            place.header.base_offset == offset) {
            *ret_place = place;
            return true;
        }
    }
    return false;
}

static void add_hint(struct block *block, int64_t offset, int64_t base, uint32_t position)
{
    for (int i = 0; i < BLOCK_HINTS; i++) {
        if (block->hints[i].offset == offset)
            return;
    }
    block->hints[block->next_hint] =
        (struct block_hint){.offset = offset, .base = base, .position = position};
    block->next_hint = (uint8_t)((block->next_hint + 1) % BLOCK_HINTS);
}

/* The batch that holds offset, or the next one behind a gap. start <= offset < end, so there is one, and it
 * lies in the segment named last at or below offset; CLYMQ_ECORRUPT when not. */
static int find_offset(struct block *block, int64_t offset, struct place *ret_place)
{
    if (find_hint(block, offset, ret_place))
        return 0;
    uint32_t number = block_segment_at(block, offset);
    if (block->segments[number]->base > offset)
        return CLYMQ_ECORRUPT;
    /* The first use of a closed segment in a run: its file's size is checked too, without which more than its
     * batches would be given out. Where the log is damaged, what follows says so. */
    if (block->segments[number]->closed) {
        int unchecked = index_check(block, block->segments[number]);
        if (index_was_not_read(unchecked))
            return unchecked;
    }
    int error = find_in_segment(block, number, offset, ret_place);
    return error == CLYMQ_ENOENT ? CLYMQ_ECORRUPT : error;
}

/* The place of a batch boundary in the log. */
static int find_limit(struct block *block, int64_t limit_offset, struct log_point *ret_limit)
{
    const struct log_point *known[] = {&block->durable, &block->synced, &block->end, &block->limit};
    for (size_t i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        if (known[i]->offset == limit_offset && known[i]->base >= 0) {
            *ret_limit = *known[i];
            return 0;
        }
    }
    struct place place;
    int error = find_offset(block, limit_offset, &place);
    if (error)
        return error;
    block->limit = (struct log_point){.offset = limit_offset,
                                      .base = block->segments[place.segment]->base,
                                      .position = place.position,
                                      .epoch = -1};
    *ret_limit = block->limit;
    return 0;
}

/* Ends the range that begins at place: as many whole batches as fit into max_bytes, at least one, up to
 * position end. */
static int align_end(struct block *block, const struct place *place, uint32_t end, size_t max_bytes,
                     uint32_t *ret_end)
{
    struct segment *segment = block->segments[place->segment];
    uint32_t most = place->position + (uint32_t)max_bytes;
    uint32_t at = 0;
    struct batch_header header;
    int error = index_find_position(block, segment, most, &at);
    if (error && error != CLYMQ_ECORRUPT)
        return error;
    if (error || at <= place->position || at >= end ||
        read_checked(block, place->segment, at, &header) != 0 ||
        header.base_offset <= batch_last_offset(&place->header)) {
        at = place->position + place->header.size;
        if (at > end)
            return CLYMQ_ECORRUPT;
        if (at == end) {
            *ret_end = at;
            return 0;
        }
        error = read_checked(block, place->segment, at, &header);
        if (error) { /* a damaged batch ends what can be read before it */
            *ret_end = at;
            return error == CLYMQ_ECORRUPT ? 0 : error;
        }
    }
    while (at + header.size <= most && at + header.size < end) {
        struct batch_header next;
        uint32_t after = at + header.size;
        if (read_checked(block, place->segment, after, &next) != 0)
            break;
        at = after;
        header = next;
    }
    add_hint(block, header.base_offset, segment->base, at);
    *ret_end = at;
    return 0;
}

/* Whether batches lie between position end of the segment and the limit. */
static bool has_more(const struct block *block, uint32_t number, uint32_t end, const struct log_point *limit)
{
    const struct segment *segment = block->segments[number];
    if (segment->base == limit->base)
        return end < limit->position;
    if (end < readable_size(block, segment) || limit->position > 0)
        return true;
    /* In a damaged block the limit's segment may be missing. */
    return number + 1 >= block->segment_count || block->segments[number + 1]->base != limit->base;
}

int block_read(struct block *block, int64_t offset, int64_t limit_offset, size_t max_bytes,
               struct block_range *ret_range)
{
    if (offset < block->start || offset > block->end.offset)
        return CLYMQ_EOFFSET_RANGE;
    if (limit_offset > block->end.offset)
        limit_offset = block->end.offset;
    struct block_range nothing = {.first_offset = offset};
    if (offset >= limit_offset) {
        *ret_range = nothing;
        return 0;
    }
    struct place place;
    struct log_point limit;
    int error = find_offset(block, offset, &place);
    if (!error)
        error = find_limit(block, limit_offset, &limit);
    if (error)
        return error;
    struct segment *segment = block->segments[place.segment];
    struct log_point here = {.base = segment->base, .position = place.position};
    if (log_point_compare(&here, &limit) >= 0) {
        *ret_range = nothing;
        return 0;
    }
    uint32_t end = readable_size(block, segment);
    bool to_limit = segment->base == limit.base && limit.position <= end;
    if (to_limit)
        end = limit.position;
    if (end - place.position <= max_bytes) {
        if (to_limit)
            add_hint(block, limit_offset, limit.base, limit.position);
        else if (place.segment + 1 < block->segment_count) /* or the limit's segment is missing */
            add_hint(block, block->segments[place.segment + 1]->base,
                     block->segments[place.segment + 1]->base, 0);
    } else {
        error = align_end(block, &place, end, max_bytes, &end);
        if (error)
            return error;
    }
    if (place.position + place.header.size > end)
        return CLYMQ_ECORRUPT;
    struct segment_ref *ref;
    error = segment_file(block, segment, SEGMENT_LOG, &ref);
    if (error)
        return error;
    *ret_range = (struct block_range){.ref = segment_ref_take(ref),
                                      .file = ref->file,
                                      .position = place.position,
                                      .len = end - place.position,
                                      .first_offset = place.header.base_offset,
                                      .more = has_more(block, place.segment, end, &limit)};
    return 0;
}

void block_range_release(struct block_range *range)
{
    segment_ref_release(range->ref);
    *range = (struct block_range){.first_offset = range->first_offset};
}

/* ---- by time ---- */

/* The first record of the batch with a timestamp >= timestamp_ms. Where records cannot be read, the batch's
 * first one. */
static int find_time_in_batch(struct block *block, const struct place *place, int64_t timestamp_ms,
                              int64_t *ret_offset, int64_t *ret_timestamp_ms)
{
    const struct batch_header *header = &place->header;
    *ret_offset = header->base_offset > block->start ? header->base_offset : block->start;
    *ret_timestamp_ms = header->max_timestamp_ms;
    if (header->attributes & BATCH_TIMESTAMP_LOG_APPEND)
        return 0;
    uint8_t *data MEM_CLEANUP = mem_alloc(header->size);
    if (!data)
        return CLYMQ_ENOMEM;
    struct segment_ref *ref;
    int error = segment_file(block, block->segments[place->segment], SEGMENT_LOG, &ref);
    if (error)
        return error;
    ssize_t got = io_file_pread(ref->file, data, header->size, place->position);
    if (got < 0)
        return (int)got;
    struct batch_header checked;
    if (batch_check(bytes_of(data, (size_t)got), header->size, &checked) != 0)
        return CLYMQ_ECORRUPT;
    struct batch_reader reader;
    error = batch_reader_begin(&reader, bytes_of(data, (size_t)got), RECORDS_SIZE_MAX);
    if (error)
        return error == CLYMQ_ENOMEM ? error : 0;
    struct batch_record record;
    bool found = false;
    while ((error = batch_reader_next(&reader, &record)) == 0) {
        if (record.timestamp_ms >= timestamp_ms && record.offset >= block->start) {
            found = true;
            *ret_offset = record.offset;
            *ret_timestamp_ms = record.timestamp_ms;
            break;
        }
    }
    batch_reader_end(&reader);
    return found || error != CLYMQ_ENOENT ? 0 : CLYMQ_ENOENT;
}

static int find_time_in_segment(struct block *block, uint32_t number, int64_t timestamp_ms,
                                int64_t limit_offset, int64_t *ret_offset, int64_t *ret_timestamp_ms)
{
    struct segment *segment = block->segments[number];
    int error = index_check(block, segment);
    if (error && error != CLYMQ_ECORRUPT)
        return error;
    if (!error && segment->index.max_time_ms < timestamp_ms)
        return CLYMQ_ENOENT;
    int64_t from = segment->base;
    if (!error)
        (void)index_find_time(block, segment, timestamp_ms, &from);
    if (from < block->start)
        from = block->start;
    struct place place;
    error = find_in_segment(block, number, from, &place);
    while (!error && place.header.base_offset < limit_offset) {
        if (place.header.max_timestamp_ms >= timestamp_ms) {
            int64_t offset, found_ms;
            error = find_time_in_batch(block, &place, timestamp_ms, &offset, &found_ms);
            if (!error && offset >= limit_offset) /* the limit is between batches: this one is damaged */
                return CLYMQ_ECORRUPT;
            if (!error) {
                *ret_offset = offset;
                *ret_timestamp_ms = found_ms;
            }
            if (error != CLYMQ_ENOENT)
                return error;
        }
        error = scan_to(block, number, place.position + place.header.size,
                        batch_last_offset(&place.header) + 1, &place);
    }
    return error ? error : CLYMQ_ENOENT;
}

int block_find_time(struct block *block, int64_t timestamp_ms, int64_t limit_offset, int64_t *ret_offset,
                    int64_t *ret_timestamp_ms)
{
    if (limit_offset > block->end.offset)
        limit_offset = block->end.offset;
    for (uint32_t i = block_segment_at(block, block->start); i < block->segment_count; i++) {
        if (block->segments[i]->base >= limit_offset)
            break;
        int error = find_time_in_segment(block, i, timestamp_ms, limit_offset, ret_offset, ret_timestamp_ms);
        if (error != CLYMQ_ENOENT)
            return error;
    }
    return CLYMQ_ENOENT;
}
