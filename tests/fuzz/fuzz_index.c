/* Index files of any content beside a good log: an offset is found in its own batch whatever they say, and a
 * time where their checksums do not fit them.
 *
 * The log is made here: two segments, the first one closed, with an entry for nearly each batch. First byte:
 * bit 0 the summary's checksums fit the files, bit 1 reading comes first, bit 2 the summary's own checksum is
 * wrong. Then three contents, each after two bytes of length: the
 * offset index, the time index, the summary (whose checksum and size are made right). */
#include "base/crc32c.h"
#include "folder.h"
#include "store/store_impl.h"
#include "unit/store/store_rig.h"
#include "wire/byte_order.h"

enum { BATCHES = 40, FIRST_SEGMENT = 25, INDEX_OWN = 2 << 20, SUMMARY_SIZE_AT = 36, SUMMARY_MARK_AT = 44 };

/* Each batch has two records; times are in disorder. */
static int64_t time_of(int64_t offset)
{
    return 1000 + (offset / 2 * 7919) % 500;
}

static struct strbuf make_log(int64_t first, int count)
{
    struct strbuf log = {0};
    for (int i = 0; i < count; i++) {
        int64_t offset = first + 2 * (int64_t)i;
        struct buf *batch = rig_batch(offset, 0, 2, 30, (uint64_t)offset, time_of(offset));
        strbuf_append(&log, batch->data, batch->len);
        buf_unref(batch);
    }
    return log;
}

static struct bytes take(struct bytes *input)
{
    size_t len = input->len >= 2 ? load_be16(input->ptr) : 0;
    if (input->len >= 2)
        *input = bytes_of(input->ptr + 2, input->len - 2);
    struct bytes taken = bytes_of(input->ptr, len < input->len ? len : input->len);
    *input = bytes_of(input->ptr + taken.len, input->len - taken.len);
    return taken;
}

/* What the summary says of the indexes is made to fit them: as many entries as there are, their checksums. */
static void fit_marks(uint8_t *summary, struct bytes index, struct bytes times)
{
    uint32_t counts[] = {(uint32_t)(index.len / 8), (uint32_t)(times.len / 12)};
    uint8_t *at = summary + SUMMARY_MARK_AT;
    store_be32(at, counts[0]);
    store_be32(at + 4, counts[1]);
    store_be32(at + 8, crc32c(0, index.ptr, counts[0] * (size_t)8));
    store_be32(at + 12, crc32c(0, times.ptr, counts[1] * (size_t)12));
}

static void write_block(struct io_fs *fs, struct bytes input, bool fit, bool spoil)
{
    struct block_key key = folder_key();
    char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
    struct strbuf first = make_log(0, FIRST_SEGMENT),
                  second = make_log((int64_t)2 * FIRST_SEGMENT, BATCHES - FIRST_SEGMENT);
    folder_write(fs, (struct bytes){0});
    block_dir(&key, dir);
    segment_path(path, dir, 0, ".log");
    folder_put(fs, path, first.data, first.len);
    segment_path(path, dir, (int64_t)2 * FIRST_SEGMENT, ".log");
    folder_put(fs, path, second.data, second.len);

    struct bytes index = take(&input), times = take(&input), rest = take(&input);
    uint8_t summary[SUMMARY_SIZE] = {0};
    if (rest.len)
        memcpy(summary, rest.ptr, rest.len < sizeof(summary) ? rest.len : sizeof(summary));
    store_be32(summary + SUMMARY_SIZE_AT, (uint32_t)first.len);
    if (fit)
        fit_marks(summary, index, times);
    folder_repair(FOLDER_SUMMARY, false, 0, summary, sizeof(summary));
    summary[SUMMARY_SIZE - 1] ^= spoil;
    segment_path(path, dir, 0, ".index");
    folder_put(fs, path, index.ptr, index.len);
    segment_path(path, dir, 0, ".timeindex");
    folder_put(fs, path, times.ptr, times.len);
    segment_path(path, dir, 0, ".summary");
    folder_put(fs, path, summary, sizeof(summary));
    strbuf_free(&first);
    strbuf_free(&second);

    /* The mark and the checkpoint lie in the second segment, so that the first one is not read at once. */
    struct state_file state;
    struct log_point at = {.offset = (int64_t)2 * FIRST_SEGMENT, .base = (int64_t)2 * FIRST_SEGMENT};
    struct state_entry entry = {.key = key,
                                .mark = at,
                                .checkpoint = at,
                                .index = {.max_time_ms = INT64_MIN, .last_time_ms = INT64_MIN}};
    FUZZ_CHECK(state_file_create(&state, fs, 0, 1) == 0);
    state_put_block(&state, 0, &entry);
    FUZZ_CHECK(state_file_write(&state) == 0 && io_file_sync(state.ref->file) == 0);
    state_file_close(&state);
}

static void read_all(struct block *block)
{
    /* Back and forth, so that no remembered place helps. */
    for (int i = 0; i < 2 * BATCHES; i++) {
        int64_t offset = (int64_t)i * 37 % (2 * BATCHES);
        struct block_range range;
        FUZZ_CHECK(block_read(block, offset, block_end(block), 1 + (size_t)i * 60, &range) == 0);
        FUZZ_CHECK(range.len > 0 && range.first_offset == offset / 2 * 2);
        block_range_release(&range);
    }
}

static void search(struct block *block, bool exact)
{
    for (int64_t wanted = 990; wanted < 1510; wanted += 9) {
        int64_t offset, found_ms, expected = -1;
        for (int64_t at = 0; at < (int64_t)2 * BATCHES && expected < 0; at++) {
            if (time_of(at) + at % 2 >= wanted)
                expected = at;
        }
        int error = block_find_time(block, wanted, block_end(block), &offset, &found_ms);
        FUZZ_CHECK(error == 0 || error == CLYMQ_ENOENT || (!exact && error == CLYMQ_ECORRUPT));
        if (error == 0)
            FUZZ_CHECK(found_ms >= wanted && offset >= 0 && offset < (int64_t)2 * BATCHES);
        if (exact)
            FUZZ_CHECK((error == 0) == (expected >= 0) && (error || offset == expected));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct rig rig;
    struct block *block;
    struct block_recovery recovery;
    struct block_key key = folder_key();
    bool fit = data[0] & 1, spoil = data[0] & 4;
    struct bytes input = bytes_of(data + 1, size - 1);
    folder_log();
    fuzz_begin();
    rig_init(&rig, 1);
    rig.config.index_interval_bytes = 100;
    write_block(rig.fs, input, fit, spoil);
    FUZZ_CHECK(rig_start(&rig) == 0);
    FUZZ_CHECK(block_open(rig.store, &key, NULL, &block, &recovery) == 0);
    FUZZ_CHECK(!recovery.damaged && block_end(block) == (int64_t)2 * BATCHES);
    if (data[0] & 2)
        read_all(block);
    search(block, spoil);
    read_all(block);
    fuzz_check_memory(INDEX_OWN + 32 * size);
    fuzz_check_time(size);
    rig_free(&rig);
    return 0;
}
