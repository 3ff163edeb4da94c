/* State files: encoding of records, the append-only file of a shard, and the fold of all files into one at
 * start.
 *
 * Every record says an absolute fact that was true when it was written ("block b is durable up to x"), so
 * losing later records, or some in the middle, leaves older facts, which are safe: recovery then reads more.
 * Each record's checksum covers its place and the file's generation, so bytes of another file or of an
 * abandoned write are never taken for one. A record that says what no run can have written counts as damaged,
 * though its checksum is right: recovery trusts what it says. */
#include "store/state.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "wire/batch.h"
#include "wire/byte_order.h"

enum { STATE_VERSION = 1 };
enum { HEADER_SIZE = 24, FRAME_SIZE = 8 };
enum { RECORD_BLOCK = 1, RECORD_MARK = 2, RECORD_DROP = 3 };
enum {
    KEY_SIZE = 40,
    POINT_SIZE = 24,
    INDEX_SIZE = 44,
    BLOCK_SIZE = 4 + KEY_SIZE + 8 + 2 * POINT_SIZE + INDEX_SIZE + 8 + 8 + 4 + 4,
    MARK_SIZE = 4 + POINT_SIZE,
    DROP_SIZE = 16,
};
/* Far above what the limits on partitions allow; larger files are not ours. */
#define STATE_FILE_MAX ((size_t)1 << 30)
static const char magic[8] = "clymqst\n";

/* ---- encoding ---- */

static uint8_t *put32(uint8_t *at, uint32_t value)
{
    store_be32(at, value);
    return at + 4;
}

static uint8_t *put64(uint8_t *at, int64_t value)
{
    store_be64(at, (uint64_t)value);
    return at + 8;
}

static uint8_t *put_point(uint8_t *at, const struct log_point *point)
{
    at = put64(at, point->offset);
    at = put64(at, point->base);
    at = put32(at, point->position);
    return put32(at, (uint32_t)point->epoch);
}

static uint8_t *put_index(uint8_t *at, const struct index_mark *index)
{
    at = put32(at, index->index_count);
    at = put32(at, index->time_count);
    at = put32(at, index->index_crc);
    at = put32(at, index->time_crc);
    at = put32(at, index->since_entry);
    at = put64(at, index->last_time_ms);
    at = put64(at, index->max_time_ms);
    return put64(at, index->max_time_offset);
}

static uint8_t *put_key(uint8_t *at, const struct block_key *key)
{
    memcpy(at, key->topic.byte, 16);
    at = put32(at + 16, key->partition);
    at = put32(at, key->seq);
    memcpy(at, key->id.byte, 16);
    return at + 16;
}

static int64_t get64(const uint8_t **at)
{
    int64_t value = (int64_t)load_be64(*at);
    *at += 8;
    return value;
}

static uint32_t get32(const uint8_t **at)
{
    uint32_t value = load_be32(*at);
    *at += 4;
    return value;
}

static struct log_point get_point(const uint8_t **at)
{
    struct log_point point;
    point.offset = get64(at);
    point.base = get64(at);
    point.position = get32(at);
    point.epoch = (int32_t)get32(at);
    return point;
}

static struct index_mark get_index(const uint8_t **at)
{
    struct index_mark index;
    index.index_count = get32(at);
    index.time_count = get32(at);
    index.index_crc = get32(at);
    index.time_crc = get32(at);
    index.since_entry = get32(at);
    index.last_time_ms = get64(at);
    index.max_time_ms = get64(at);
    index.max_time_offset = get64(at);
    return index;
}

static struct block_key get_key(const uint8_t **at)
{
    struct block_key key;
    memcpy(key.topic.byte, *at, 16);
    *at += 16;
    key.partition = get32(at);
    key.seq = get32(at);
    memcpy(key.id.byte, *at, 16);
    *at += 16;
    return key;
}

static uint32_t record_crc(uint64_t generation, uint64_t place, const uint8_t *record, size_t len)
{
    uint8_t where[16];
    store_be64(where, generation);
    store_be64(where + 8, place);
    return crc32c(crc32c(0, where, sizeof(where)), record + 4, len - 4);
}

/* A record of body_len bytes at the end of text, whose first byte lies at `text_place` of the file. */
static void put_record(struct strbuf *text, uint64_t text_place, uint64_t generation, uint8_t kind,
                       const uint8_t *body, size_t body_len)
{
    uint8_t record[FRAME_SIZE + BLOCK_SIZE];
    size_t len = FRAME_SIZE + body_len;
    assert(len <= sizeof(record) && len % 4 == 0);
    store_be16(record + 4, (uint16_t)len);
    record[6] = kind;
    record[7] = 0;
    memcpy(record + FRAME_SIZE, body, body_len);
    store_be32(record, record_crc(generation, text_place + text->len, record, len));
    strbuf_append(text, record, len);
}

static void put_block(struct strbuf *text, uint64_t place, uint64_t generation, uint32_t slot,
                      const struct state_entry *entry)
{
    uint8_t body[BLOCK_SIZE];
    uint8_t *at = put32(body, slot);
    at = put_key(at, &entry->key);
    at = put64(at, entry->start);
    at = put_point(at, &entry->mark);
    at = put_point(at, &entry->checkpoint);
    at = put_index(at, &entry->index);
    at = put64(at, entry->active_since_ms);
    at = put64(at, entry->damaged_offset);
    at = put32(at, (uint32_t)entry->error);
    at = put32(at,
               (entry->sealed ? 1u : 0u) | (entry->empty_snapshot ? 2u : 0u) | (entry->outdated ? 4u : 0u));
    assert(at == body + sizeof(body));
    put_record(text, place, generation, RECORD_BLOCK, body, sizeof(body));
}

static void put_header(uint8_t header[HEADER_SIZE], uint64_t generation)
{
    memcpy(header, magic, 8);
    store_be32(header + 8, STATE_VERSION);
    store_be64(header + 12, generation);
    store_be32(header + 20, crc32c(0, header, 20));
}

/* ---- one shard's file ---- */

static int open_file(struct state_file *state)
{
    struct io_file *file;
    int error = io_fs_open(state->fs, state->path, IO_OPEN_WRITE, &file);
    if (error)
        return error;
    struct segment_ref *ref = segment_ref_new(file);
    if (!ref) {
        io_file_close(file);
        return CLYMQ_ENOMEM;
    }
    segment_ref_release(state->ref);
    state->ref = ref;
    return 0;
}

int state_file_create(struct state_file *state, struct io_fs *fs, unsigned shard, uint64_t generation)
{
    *state = (struct state_file){.fs = fs, .generation = generation, .size = HEADER_SIZE};
    snprintf(state->path, sizeof(state->path), "state/%u.state", shard);
    uint8_t header[HEADER_SIZE];
    put_header(header, generation);
    int error = io_fs_replace_file(fs, state->path, header, sizeof(header));
    return error ? error : open_file(state);
}

void state_file_close(struct state_file *state)
{
    segment_ref_release(state->ref);
    state->ref = NULL;
    strbuf_free(&state->pending);
}

void state_put_block(struct state_file *state, uint32_t slot, const struct state_entry *entry)
{
    put_block(&state->pending, state->size, state->generation, slot, entry);
}

void state_put_mark(struct state_file *state, uint32_t slot, const struct log_point *mark)
{
    uint8_t body[MARK_SIZE];
    put_point(put32(body, slot), mark);
    put_record(&state->pending, state->size, state->generation, RECORD_MARK, body, sizeof(body));
}

void state_put_drop(struct state_file *state, struct uuid id)
{
    put_record(&state->pending, state->size, state->generation, RECORD_DROP, id.byte, sizeof(id.byte));
}

void state_file_clear_pending(struct state_file *state)
{
    state->pending.len = 0;
    state->pending.failed = false;
}

int state_file_write(struct state_file *state)
{
    if (state->pending.failed)
        return CLYMQ_ENOMEM;
    if (state->pending.len == 0)
        return 0;
    if (state->broken)
        return CLYMQ_EIO;
    ssize_t written = io_file_pwrite(state->ref->file, state->pending.data, state->pending.len, state->size);
    if (written < 0)
        return (int)written;
    state->size += (uint64_t)written;
    state_file_clear_pending(state);
    return 0;
}

void state_rewrite_begin(struct state_file *state)
{
    state_file_clear_pending(state);
    state->old_size = state->size;
    state->size = HEADER_SIZE; /* checksums cover the place of a record */
}

int state_rewrite_end(struct state_file *state)
{
    struct strbuf text = {0};
    uint8_t header[HEADER_SIZE];
    put_header(header, state->generation);
    strbuf_append(&text, header, sizeof(header));
    strbuf_append(&text, state->pending.data, state->pending.len);
    int error = text.failed || state->pending.failed ? CLYMQ_ENOMEM : 0;
    if (!error)
        error = io_fs_replace_file(state->fs, state->path, text.data, text.len);
    if (!error)
        error = open_file(state);
    if (!error)
        state->broken = false;
    state->size = error ? state->old_size : text.len;
    state->rewritten = error ? state->rewritten : text.len;
    state_file_clear_pending(state);
    strbuf_free(&text);
    return error;
}

/* ---- what a record may say ---- */

bool log_point_is_possible(const struct log_point *point)
{
    if (point->base < 0 || point->epoch < -1 || point->position > INT32_MAX)
        return false;
    return point->position == 0 ? point->offset == point->base
                                : point->position >= BATCH_HEADER_SIZE && point->offset > point->base;
}

/* Whether the log may have both places, checkpoint not behind mark. Every batch has at least one offset, and
 * a segment's name is the offset behind the one before. */
static bool are_in_order(const struct log_point *checkpoint, const struct log_point *mark)
{
    int order = log_point_compare(checkpoint, mark);
    if (order == 0)
        return checkpoint->offset == mark->offset && checkpoint->epoch == mark->epoch;
    return order < 0 && checkpoint->epoch <= mark->epoch &&
           (checkpoint->base == mark->base ? checkpoint->offset < mark->offset
                                           : checkpoint->offset <= mark->base);
}

bool index_mark_is_possible(const struct index_mark *index, const struct log_point *point)
{
    /* One entry for each batch, and one more time when the segment is closed. */
    uint32_t batches = point->position / BATCH_HEADER_SIZE;
    if (index->index_count > batches || index->time_count > batches + 1)
        return false;
    return index->max_time_ms == INT64_MIN ||
           (index->max_time_offset >= point->base && index->max_time_offset < point->offset);
}

static bool entry_is_possible(const struct state_entry *entry)
{
    return log_point_is_possible(&entry->mark) && log_point_is_possible(&entry->checkpoint) &&
           entry->start >= 0 && entry->start <= entry->mark.offset && entry->active_since_ms >= 0 &&
           are_in_order(&entry->checkpoint, &entry->mark) &&
           index_mark_is_possible(&entry->index, &entry->checkpoint);
}

/* ---- reading and folding ---- */

/* An entry of the table while files are read. */
struct read_entry {
    struct state_entry entry; /* first: the table's values are these */
    uint32_t slot;            /* that it has in the file being read, if that slot is its */
};

struct state_reader {
    struct state_table *table;
    struct read_entry **slots; /* by the file's slot numbers, borrowed from the table */
    size_t slot_count;
};

/* The entry is in no slot any more. */
static void reader_clear_slot(struct state_reader *reader, const struct read_entry *known)
{
    if (known->slot < reader->slot_count && reader->slots[known->slot] == known)
        reader->slots[known->slot] = NULL;
}

static int reader_set_slot(struct state_reader *reader, uint32_t slot, struct read_entry *known,
                           size_t records_max)
{
    reader_clear_slot(reader, known);
    if (slot >= records_max) /* a slot number beyond the blocks that the file has room for is not ours */
        return 0;
    if (slot >= reader->slot_count) {
        size_t wider = reader->slot_count ? reader->slot_count * 2 : 64;
        if (wider <= slot)
            wider = (size_t)slot + 1;
        struct read_entry **slots = mem_realloc(reader->slots, wider * sizeof(*slots));
        if (!slots)
            return CLYMQ_ENOMEM;
        for (size_t i = reader->slot_count; i < wider; i++)
            slots[i] = NULL;
        reader->slots = slots;
        reader->slot_count = wider;
    }
    reader->slots[slot] = known;
    known->slot = slot;
    return 0;
}

static int apply_block(struct state_reader *reader, const uint8_t *body, size_t records_max)
{
    const uint8_t *at = body;
    uint32_t slot = get32(&at);
    struct state_entry entry = {.key = get_key(&at)};
    entry.start = get64(&at);
    entry.mark = get_point(&at);
    entry.checkpoint = get_point(&at);
    entry.index = get_index(&at);
    entry.active_since_ms = get64(&at);
    entry.damaged_offset = get64(&at);
    entry.error = (int32_t)get32(&at);
    uint32_t flags = get32(&at);
    entry.sealed = flags & 1;
    entry.empty_snapshot = flags & 2;
    entry.outdated = flags & 4;
    if (!entry_is_possible(&entry)) {
        reader->table->damaged++;
        return 0;
    }
    struct bytes id = bytes_of(entry.key.id.byte, 16);
    struct read_entry *known = map_get(reader->table->entries, id);
    if (!known) {
        known = mem_alloc(sizeof(*known));
        if (!known)
            return CLYMQ_ENOMEM;
        known->slot = UINT32_MAX;
        if (map_put(reader->table->entries, id, known)) {
            mem_free(known);
            return CLYMQ_ENOMEM;
        }
    }
    known->entry = entry;
    return reader_set_slot(reader, slot, known, records_max);
}

static void apply_mark(struct state_reader *reader, const uint8_t *body)
{
    uint32_t slot = get32(&body);
    if (slot >= reader->slot_count || !reader->slots[slot])
        return;
    struct state_entry entry = reader->slots[slot]->entry;
    entry.mark = get_point(&body);
    if (entry_is_possible(&entry))
        reader->slots[slot]->entry.mark = entry.mark;
    else
        reader->table->damaged++;
}

static void apply_drop(struct state_reader *reader, const uint8_t *body)
{
    struct read_entry *known = map_remove(reader->table->entries, bytes_of(body, 16));
    if (known)
        reader_clear_slot(reader, known);
    mem_free(known);
}

/* The length of the valid record at data[at], or 0. */
static size_t check_record(const uint8_t *data, size_t len, size_t at, uint64_t generation)
{
    if (len - at < FRAME_SIZE)
        return 0;
    const uint8_t *record = data + at;
    size_t size = load_be16(record + 4);
    if (size < FRAME_SIZE || size > len - at || size % 4 != 0)
        return 0;
    size_t body = size - FRAME_SIZE;
    bool known = (record[6] == RECORD_BLOCK && body == BLOCK_SIZE) ||
                 (record[6] == RECORD_MARK && body == MARK_SIZE) ||
                 (record[6] == RECORD_DROP && body == DROP_SIZE);
    return known && load_be32(record) == record_crc(generation, at, record, size) ? size : 0;
}

/* Applies all valid records; damaged places are skipped in steps of 4, which all lengths are multiples of. */
static int read_records(struct state_table *table, const uint8_t *data, size_t len, uint64_t generation)
{
    struct state_reader reader = {.table = table};
    size_t records_max = len / BLOCK_SIZE + 1;
    bool skipping = false;
    int error = 0;
    for (size_t at = HEADER_SIZE; at < len && !error;) {
        size_t size = check_record(data, len, at, generation);
        if (size == 0) {
            if (!skipping)
                table->damaged++;
            skipping = true;
            at += 4;
            continue;
        }
        skipping = false;
        const uint8_t *body = data + at + FRAME_SIZE;
        switch (data[at + 6]) {
        case RECORD_BLOCK:
            error = apply_block(&reader, body, records_max);
            break;
        case RECORD_MARK:
            apply_mark(&reader, body);
            break;
        default:
            apply_drop(&reader, body);
        }
        at += size;
    }
    mem_free(reader.slots);
    return error;
}

/* 0; CLYMQ_ECORRUPT when the header is unreadable; CLYMQ_EFORMAT. */
static int read_header(const uint8_t *data, size_t len, uint64_t *ret_generation)
{
    if (len < HEADER_SIZE || memcmp(data, magic, 8) != 0)
        return CLYMQ_ECORRUPT;
    if (load_be32(data + 20) != crc32c(0, data, 20))
        return CLYMQ_ECORRUPT;
    if (load_be32(data + 8) > STATE_VERSION)
        return CLYMQ_EFORMAT;
    uint64_t generation = load_be64(data + 12);
    if (generation == 0 || generation > STATE_GENERATION_MAX)
        return CLYMQ_ECORRUPT;
    *ret_generation = generation;
    return 0;
}

struct loaded_file {
    uint8_t *data;
    size_t len;
    uint64_t generation;
    int error;
};

static bool is_state_name(const char *name)
{
    size_t len = strlen(name);
    return len > 6 && strcmp(name + len - 6, ".state") == 0;
}

static void load_file(struct io_fs *fs, const char *name, struct loaded_file *file)
{
    char path[64];
    *file = (struct loaded_file){0};
    if (snprintf(path, sizeof(path), "state/%s", name) >= (int)sizeof(path)) {
        file->error = CLYMQ_ECORRUPT;
        return;
    }
    file->error = io_fs_read_file(fs, path, STATE_FILE_MAX, &file->data, &file->len);
    if (!file->error)
        file->error = read_header(file->data, file->len, &file->generation);
}

/* Writes the table as base.state of generation. */
static int write_base(struct io_fs *fs, const struct state_table *table)
{
    struct strbuf text = {0};
    uint8_t header[HEADER_SIZE];
    put_header(header, table->generation);
    strbuf_append(&text, header, sizeof(header));
    uint32_t slot = 0;
    size_t at = 0;
    struct map_entry *item;
    while ((item = map_next(table->entries, &at)))
        put_block(&text, 0, table->generation, slot++, item->value);
    int error = text.failed ? CLYMQ_ENOMEM : io_fs_replace_file(fs, "state/base.state", text.data, text.len);
    strbuf_free(&text);
    return error;
}

static int merge_files(struct state_table *table, char **names, struct loaded_file *files, size_t count)
{
    uint64_t base_generation = 0, last = 0;
    int error = 0;
    for (size_t i = 0; i < count && !error; i++) {
        if (files[i].error == CLYMQ_ECORRUPT) {
            log_error("state/%s is unreadable: blocks are recovered from their logs alone", names[i]);
            table->damaged++;
        } else if (files[i].error) {
            error = files[i].error;
        } else {
            last = files[i].generation > last ? files[i].generation : last;
            if (strcmp(names[i], "base.state") == 0) {
                base_generation = files[i].generation;
                error = read_records(table, files[i].data, files[i].len, files[i].generation);
            }
        }
    }
    /* Files older than base.state were folded into it already. If base.state itself is unreadable, all help,
     * oldest first.
     */
    uint64_t done = base_generation ? base_generation : 1;
    while (!error && done <= last) {
        uint64_t next = UINT64_MAX;
        for (size_t i = 0; i < count && !error; i++) {
            if (files[i].error || strcmp(names[i], "base.state") == 0)
                continue;
            if (files[i].generation == done)
                error = read_records(table, files[i].data, files[i].len, files[i].generation);
            else if (files[i].generation > done && files[i].generation < next)
                next = files[i].generation;
        }
        done = next;
    }
    /* No run comes that far, but a header may say so; then generations no longer tell which file is older
     * than base.state. Its records are absolute: reading those once more that were folded into it changes
     * nothing. */
    table->generation = last < STATE_GENERATION_MAX ? last + 1 : last;
    return error;
}

/* What could not be read may have been the last word on any block. Kept until the block's own run says more.
 */
static void doubt_all(struct state_table *table)
{
    size_t at = 0;
    struct map_entry *item;
    while ((item = map_next(table->entries, &at)))
        ((struct state_entry *)item->value)->outdated = true;
}

static void remove_folded(struct io_fs *fs, char **names, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char path[64];
        if (strcmp(names[i], "base.state") != 0 &&
            snprintf(path, sizeof(path), "state/%s", names[i]) < (int)sizeof(path))
            io_fs_unlink(fs, path); /* what stays is older than base.state, and so ignored */
    }
}

int state_table_load(struct io_fs *fs, bool fold, struct state_table *ret_table)
{
    char **names;
    size_t count;
    int error = io_fs_list(fs, "state", &names, &count);
    if (error)
        return error;
    struct state_table table = {.entries = map_new()};
    bool nothing = false; /* the first start: there is nothing to fold */
    struct loaded_file *files = mem_calloc(count + 1, sizeof(*files));
    if (!table.entries || !files) {
        error = CLYMQ_ENOMEM;
    } else {
        for (size_t i = 0; i < count; i++) {
            if (is_state_name(names[i]))
                load_file(fs, names[i], &files[i]);
            else
                files[i].error = CLYMQ_ENOENT;
        }
        /* Drop other names (temporary files of an interrupted replacement) from what is merged. */
        size_t kept = 0;
        for (size_t i = 0; i < count; i++) {
            if (files[i].error == CLYMQ_ENOENT)
                continue;
            char *name = names[i];
            names[i] = names[kept];
            names[kept] = name;
            struct loaded_file file = files[i];
            files[i] = files[kept];
            files[kept++] = file;
        }
        error = merge_files(&table, names, files, kept);
        if (table.damaged)
            doubt_all(&table);
        nothing = kept == 0;
    }
    if (!error && fold && !nothing) {
        error = write_base(fs, &table);
        if (!error)
            remove_folded(fs, names, count);
    }
    for (size_t i = 0; files && i < count; i++)
        mem_free(files[i].data);
    mem_free(files);
    io_fs_free_names(names, count);
    if (error) {
        state_table_free(&table);
        return error;
    }
    *ret_table = table;
    return 0;
}

const struct state_entry *state_table_find(const struct state_table *table, struct uuid id)
{
    return map_get(table->entries, bytes_of(id.byte, 16));
}

void state_table_free(struct state_table *table)
{
    size_t at = 0;
    struct map_entry *item;
    while (table->entries && (item = map_next(table->entries, &at)))
        mem_free(item->value);
    map_free(table->entries);
    *table = (struct state_table){0};
}
