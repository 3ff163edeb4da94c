/* See folder.h. */
#include "folder.h"

#include <inttypes.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { SPOILED = 0x80 }; /* in the upper byte of the attributes */
enum { HEAD = 4, STATE_HEADER = 24, STATE_FRAME = 8, ID_BYTES = 56, SNAPSHOT_HEAD = 40 };

struct block_key folder_key(void)
{
    struct block_key key = {.topic = {{0xaa, 0xbb}}, .partition = 0, .seq = 0};
    key.id.byte[0] = 1;
    return key;
}

int64_t folder_number(uint8_t which)
{
    if (which < 128)
        return which;
    return which < 192 ? (int64_t)(which - 127) << 24 : INT64_MAX - (255 - which);
}

void folder_put(struct io_fs *fs, const char *path, const void *data, size_t len)
{
    struct io_file *file;
    FUZZ_CHECK(io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file) == 0);
    if (len)
        FUZZ_CHECK(io_file_pwrite(file, data, len, 0) == (ssize_t)len);
    FUZZ_CHECK(io_file_sync(file) == 0);
    io_file_close(file);
}

/* ---- what is made right ---- */

/* Batches back to back, each as long as it says where that is possible; uncompressed, because the codecs have
 * a fuzzer of their own. One with SPOILED among its attributes keeps the checksum that it has. */
static void repair_log(bool keep_offsets, int64_t base, uint8_t *data, size_t len)
{
    int64_t expected = base;
    for (size_t at = 0; len - at >= BATCH_HEADER_SIZE;) {
        uint8_t *batch = data + at;
        if (bytes_are_zero(bytes_of(batch, len - at)))
            return; /* written ahead */
        uint32_t length = load_be32(batch + 8), most = (uint32_t)(len - at) - BATCH_LENGTH_END;
        if (length > most || length < BATCH_HEADER_SIZE - BATCH_LENGTH_END)
            length = most;
        store_be32(batch + 8, length);
        batch[16] = BATCH_MAGIC;
        batch[22] &= (uint8_t)~BATCH_COMPRESSION_MASK;
        if (!keep_offsets) {
            store_be64(batch, (uint64_t)expected);
            batch[12] = batch[13] = 0;
            batch[23] = batch[24] = 0;
            batch[57] = batch[58] = 0;
        }
        expected = (int64_t)((uint64_t)expected + load_be32(batch + 23) + 1);
        if (!(batch[21] & SPOILED))
            store_be32(batch + 17, crc32c(0, batch + 21, length + BATCH_LENGTH_END - 21));
        at += length + BATCH_LENGTH_END;
    }
}

static void put_key(uint8_t *at)
{
    struct block_key key = folder_key();
    memcpy(at, key.topic.byte, 16);
    store_be32(at + 16, key.partition);
    store_be32(at + 20, key.seq);
    memcpy(at + 24, key.id.byte, 16);
}

/* The first segment among the files so far: recovery never finds it gone, because only what lies before the
 * checkpoint is removed. */
static uint64_t first_base;
static uint8_t last_checkpoint[24]; /* of the block's records so far the one furthest on */

static void raise_point(uint8_t *point)
{
    point[0] &= 0x7f;
    if (first_base == INT64_MAX)
        return;
    if (load_be64(point) < first_base)
        store_be64(point, first_base);
    if (load_be64(point + 8) > load_be64(point))
        memcpy(point + 8, point, 8);
    if (load_be64(point + 8) < first_base)
        store_be64(point + 8, first_base);
    if (load_be32(point + 16) == 0)
        memcpy(point, point + 8, 8);
}

/* Whether the point lies behind where it must not lie behind. */
static bool is_behind(const uint8_t *limit, const uint8_t *point)
{
    uint64_t base = load_be64(limit + 8), own = load_be64(point + 8);
    return own > base || (own == base && load_be32(point + 16) > load_be32(limit + 16)) ||
           load_be64(point) > load_be64(limit);
}

static void order_mark(uint8_t *record)
{
    uint8_t *mark = record + STATE_FRAME + 4;
    raise_point(mark);
    if (is_behind(mark, last_checkpoint))
        memcpy(mark, last_checkpoint, 24);
    store_be32(mark + 20, 0);
}

/* Puts log start, checkpoint and durable end into the order that every run keeps, since others are refused as
 * damage. Epochs are those of most logs. */
static void order_record(uint8_t *record)
{
    uint8_t *start = record + STATE_FRAME + 44, *mark = start + 8, *checkpoint = mark + 24;
    raise_point(mark);
    raise_point(checkpoint);
    start[0] &= 0x7f;
    /* It lies between two batches: at the durable end, or where the log begins. */
    if (is_behind(mark, checkpoint)) {
        memcpy(checkpoint, mark, 24);
    } else if (memcmp(checkpoint, mark, 20) != 0 && first_base < INT64_MAX) {
        store_be64(checkpoint, first_base);
        store_be64(checkpoint + 8, first_base);
        store_be32(checkpoint + 16, 0);
    }
    if (is_behind(checkpoint, last_checkpoint))
        memcpy(last_checkpoint, checkpoint, 24);
    if (load_be64(start) > load_be64(mark))
        memcpy(start, mark, 8);
    store_be32(mark + 20, 0);
    store_be32(checkpoint + 20, 0);
    uint8_t *counts = checkpoint + 24; /* of index entries: no more than a log may have */
    memset(counts, 0, 2);
    memset(counts + 4, 0, 2);
}

static void repair_state(bool keep_fields, uint8_t *data, size_t len)
{
    static const uint16_t sizes[] = {0, 168, 28, 16}; /* of a block's, a mark's and a drop's record */
    if (len < STATE_HEADER)
        return;
    memcpy(data, "clymqst\n", 8);
    store_be32(data + 8, 1);
    if (!keep_fields)
        memset(data + 12, 0, 7); /* generations that meet */
    store_be32(data + 20, crc32c(0, data, 20));
    for (size_t at = STATE_HEADER; len - at >= STATE_FRAME;) {
        uint8_t *record = data + at, where[16];
        uint8_t kind = (uint8_t)(1 + record[6] % 3);
        size_t size = STATE_FRAME + sizes[kind];
        if (size > len - at)
            break;
        record[6] = kind;
        store_be16(record + 4, (uint16_t)size);
        if (!keep_fields && kind == 1) {
            put_key(record + STATE_FRAME + 4);
            order_record(record);
        }
        if (!keep_fields && kind == 2)
            order_mark(record);
        if (!keep_fields && kind == 3)
            memcpy(record + STATE_FRAME, folder_key().id.byte, 16);
        if (!keep_fields && kind != 3)
            memset(record + STATE_FRAME, 0, 4); /* the slot */
        memcpy(where, data + 12, 8);
        store_be64(where + 8, at);
        store_be32(record, crc32c(crc32c(0, where, sizeof(where)), record + 4, size - 4));
        at += size;
    }
}

void folder_repair(enum folder_kind kind, bool keep_fields, int64_t number, uint8_t *data, size_t len)
{
    switch (kind) {
    case FOLDER_LOG:
        repair_log(keep_fields, number, data, len);
        break;
    case FOLDER_SUMMARY:
        if (len < SUMMARY_SIZE)
            break;
        memcpy(data, "clymqsum", 8);
        store_be32(data + 8, 1);
        store_be64(data + 12, (uint64_t)number);
        store_be32(data + SUMMARY_SIZE - 4, crc32c(0, data, SUMMARY_SIZE - 4));
        break;
    case FOLDER_SNAPSHOT:
        if (len < SNAPSHOT_HEAD + 4)
            break;
        memcpy(data, "clymqsnp", 8);
        store_be32(data + 8, 1);
        store_be64(data + 12, (uint64_t)number);
        store_be32(data + 36, (uint32_t)(len - SNAPSHOT_HEAD - 4));
        store_be32(data + len - 4, crc32c(0, data, len - 4));
        break;
    case FOLDER_STATE:
        repair_state(keep_fields, data, len);
        break;
    case FOLDER_ID:
        if (len < ID_BYTES)
            break;
        memcpy(data, "clymqblk", 8);
        store_be32(data + 8, 1);
        if (!keep_fields)
            put_key(data + 12);
        store_be32(data + 52, crc32c(0, data, 52));
        break;
    default:
        break;
    }
}

/* ---- the files ---- */

struct folder_file {
    enum folder_kind kind;
    bool keep_fields, raw;
    uint8_t which;
    uint8_t *data;
    size_t len;
};

/* Takes the next file off the input; its content is a copy. */
static bool take_file(struct bytes *input, struct folder_file *ret_file)
{
    if (input->len < HEAD)
        return false;
    const uint8_t *at = input->ptr;
    size_t len = load_be16(at + 2);
    if (len > input->len - HEAD)
        len = input->len - HEAD;
    struct bytes copy = fuzz_copy(at + HEAD, len);
    *ret_file = (struct folder_file){.kind = (enum folder_kind)(at[0] & FOLDER_KIND_MASK),
                                     .keep_fields = at[0] & FOLDER_FREE,
                                     .raw = at[0] & FOLDER_RAW,
                                     .which = at[1],
                                     .data = (uint8_t *)(uintptr_t)copy.ptr,
                                     .len = len};
    *input = bytes_of(at + HEAD + len, input->len - HEAD - len);
    return true;
}

static void file_path(const struct folder_file *file, const char *dir, char path[SEGMENT_PATH_MAX])
{
    static const char *const suffixes[] = {".log", ".index", ".timeindex", ".summary", ".snapshot"};
    static const char *const states[] = {"base", "0", "1", "7"};
    static const char *const small[] = {"FORMAT", "disk.json", "reserve", "data/x", "state/x"};
    if (file->kind <= FOLDER_SNAPSHOT)
        segment_path(path, dir, folder_number(file->which), suffixes[file->kind]);
    else if (file->kind == FOLDER_STATE)
        snprintf(path, SEGMENT_PATH_MAX, "state/%s.state", states[file->which % 4]);
    else if (file->kind == FOLDER_ID)
        snprintf(path, SEGMENT_PATH_MAX, "%s/id", dir);
    else if (file->which % 8 < 5)
        snprintf(path, SEGMENT_PATH_MAX, "%s", small[file->which % 8]);
    else
        snprintf(path, SEGMENT_PATH_MAX, "%s/%s", dir, file->which % 8 == 5 ? "x.tmp" : "id");
}

void folder_write(struct io_fs *fs, struct bytes input)
{
    first_base = INT64_MAX;
    memset(last_checkpoint, 0, sizeof(last_checkpoint));
    static const char format[] = "clymq-data 1\n",
                      disk[] = "{\"disk_id\": \"0123456789abcdef0123456789abcdef\"}\n";
    struct block_key key = folder_key();
    char dir[BLOCK_DIR_MAX];
    block_dir(&key, dir);
    FUZZ_CHECK(io_fs_make_path(fs, "state") == 0 && io_fs_make_path(fs, dir) == 0);
    folder_put(fs, "FORMAT", format, sizeof(format) - 1);
    folder_put(fs, "disk.json", disk, sizeof(disk) - 1);
    FUZZ_CHECK(block_write_id(fs, dir, &key) == 0);
    struct folder_file file;
    while (take_file(&input, &file)) {
        char path[SEGMENT_PATH_MAX];
        file_path(&file, dir, path);
        if (file.kind == FOLDER_LOG && (uint64_t)folder_number(file.which) < first_base)
            first_base = (uint64_t)folder_number(file.which);
        if (!file.raw)
            folder_repair(file.kind, file.keep_fields, folder_number(file.which), file.data, file.len);
        if (file.kind == FOLDER_SMALL && file.which & FOLDER_GONE)
            (void)io_fs_unlink(fs, path);
        else
            folder_put(fs, path, file.data, file.len);
        free(file.data);
    }
    FUZZ_CHECK(io_fs_sync_dir(fs, "") == 0 && io_fs_sync_dir(fs, "data") == 0);
    FUZZ_CHECK(io_fs_sync_dir(fs, "state") == 0 && io_fs_sync_dir(fs, dir) == 0);
}

void folder_read_logs(struct io_fs *fs, struct strbuf *out)
{
    struct block_key key = folder_key();
    char dir[BLOCK_DIR_MAX], **names;
    size_t count;
    block_dir(&key, dir);
    if (io_fs_list(fs, dir, &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        char path[SEGMENT_PATH_MAX];
        int64_t number;
        uint8_t *data;
        size_t len;
        if (!segment_parse_name(names[i], ".log", &number))
            continue;
        segment_path(path, dir, number, ".log");
        FUZZ_CHECK(io_fs_read_file(fs, path, SIZE_MAX, &data, &len) == 0);
        strbuf_printf(out, "%s %zu ", names[i], len);
        strbuf_append(out, data, len);
        mem_free(data);
    }
    io_fs_free_names(names, count);
}
