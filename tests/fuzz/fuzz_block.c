/* A block's recovery, reading, scrub and search by time over any content of its folder (folder.h): it opens,
 * or says why not; what it gives out are whole batches in order. Where the offline check, which reads all,
 * finds no damage, none is found either, all can be read, and opened again after a kill it is the same.
 * (Otherwise what is given out may depend on what recovery had no reason to read.)
 *
 * First byte: bit 0 a producer table is kept and snapshots are loaded, bits 1–2 when syncs happen, bit 3 the
 * second life begins after a power loss, bits 4–7 how much is read at once. */
#include "folder.h"
#include "partition/producers.h"
#include "store/fsck.h"
#include "unit/store/store_rig.h"

enum { INDEX_INTERVAL = 100, RECOVERY_OWN = 2 << 20 };

struct owner {
    struct producers *producers;
    int64_t durable_end;
};

static void on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct owner *owner = ctx;
    FUZZ_CHECK(durable_end >= owner->durable_end && durable_end <= block_end(block));
    owner->durable_end = durable_end;
}

static int on_recover(void *ctx, const struct batch_header *header, struct bytes batch)
{
    struct owner *owner = ctx;
    int error = producers_note_batch(owner->producers, header, batch, 0);
    return error == CLYMQ_ENOMEM ? error : 0;
}

static void on_save(void *ctx, struct strbuf *state)
{
    struct owner *owner = ctx;
    if (producers_count(owner->producers))
        producers_save(owner->producers, state);
}

static int on_load(void *ctx, struct bytes state)
{
    struct owner *owner = ctx;
    return producers_load(owner->producers, state);
}

/* What the block gives out from its start to its end, with an error in its place. False where it met garbage,
 * or an error. */
static bool read_all(struct block *block, size_t max_bytes, struct strbuf *out)
{
    int64_t offset = block_start(block), end = block_end(block);
    while (offset < end) {
        struct block_range range;
        int error = block_read(block, offset, end, max_bytes, &range);
        if (error) {
            strbuf_printf(out, "error %d at %lld", error, (long long)offset);
            return false;
        }
        if (range.len == 0) {
            block_range_release(&range);
            return true;
        }
        uint8_t *data = malloc(range.len);
        FUZZ_CHECK(io_file_pread(range.file, data, range.len, range.position) == (ssize_t)range.len);
        int64_t before = offset;
        for (size_t at = 0; at < range.len;) {
            struct batch_header header;
            /* Ranges are found without reading the batches in them, so that only the first one's header is
             * known to be good. */
            int bad = batch_read_header(bytes_of(data + at, range.len - at), UINT32_MAX, &header);
            FUZZ_CHECK(!bad || at > 0);
            if (bad || (at > 0 && header.base_offset != offset) || batch_last_offset(&header) >= end) {
                free(data);
                block_range_release(&range);
                return false;
            }
            FUZZ_CHECK(at > 0 || header.base_offset == range.first_offset);
            offset = batch_last_offset(&header) + 1;
            at += header.size;
        }
        FUZZ_CHECK(offset > before);
        strbuf_append(out, data, range.len);
        free(data);
        block_range_release(&range);
    }
    return true;
}

static void search_times(struct block *block)
{
    static const int64_t times[] = {INT64_MIN, -1, 0, 1, 1000, 1001, 1700000000000, INT64_MAX};
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        int64_t offset, timestamp_ms;
        if (block_find_time(block, times[i], block_end(block), &offset, &timestamp_ms) == 0)
            FUZZ_CHECK(offset >= block_start(block) && offset < block_end(block));
    }
}

static void verify_all(struct block *block, size_t size)
{
    struct block_verify verify = {0};
    for (size_t steps = 0;; steps++) {
        int64_t damaged;
        int error = block_verify_step(block, &verify, 1000, &damaged);
        if (error == CLYMQ_ENOENT)
            return;
        FUZZ_CHECK(error == 0 || error == CLYMQ_ECORRUPT);
        FUZZ_CHECK(steps <= size);
    }
}

static int open_block(struct rig *rig, struct owner *owner, bool keeps_table, struct block **ret_block,
                      struct block_recovery *ret_recovery)
{
    struct block_events events = {.on_durable = on_durable, .ctx = owner};
    struct block_key key = folder_key();
    owner->durable_end = INT64_MIN;
    producers_clear(owner->producers);
    if (keeps_table) {
        events.on_recover = on_recover;
        events.on_snapshot_save = on_save;
        events.on_snapshot_load = on_load;
    }
    int error = block_open(rig->store, &key, &events, ret_block, ret_recovery);
    if (error)
        return error;
    struct block *block = *ret_block;
    FUZZ_CHECK(block_durable_end(block) <= block_end(block));
    return 0;
}

/* Opens what the first life left and compares. */
static void second_life(struct rig *rig, struct owner *owner, bool keeps_table, size_t max_bytes, int64_t end,
                        const struct strbuf *content)
{
    struct block *block;
    struct block_recovery recovery;
    struct strbuf again = {0};
    FUZZ_CHECK(rig_start(rig) == 0);
    FUZZ_CHECK(open_block(rig, owner, keeps_table, &block, &recovery) == 0);
    FUZZ_CHECK(!recovery.damaged && block_end(block) == end);
    FUZZ_CHECK(read_all(block, max_bytes, &again));
    FUZZ_CHECK(bytes_equal(bytes_of(content->data, content->len), bytes_of(again.data, again.len)));
    strbuf_free(&again);
}

/* A summary that counts in what is behind the last batch is believed by readers; no other wrong index is. */
static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    if (finding->kind == FSCK_WRONG_INDEX && finding->position > 0 && strstr(finding->path, ".summary"))
        *(bool *)ctx = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    bool keeps_table = data[0] & 1, power_loss = data[0] & 8;
    size_t max_bytes = 1 + (size_t)(data[0] >> 4) * 200;
    struct rig rig;
    struct owner owner = {0};
    struct strbuf content = {0};
    folder_log();
    fuzz_begin();
    rig_init(&rig, 1);
    rig.config.fsync = (enum store_fsync)((data[0] >> 1 & 3) % 3);
    rig.config.index_interval_bytes = INDEX_INTERVAL;
    rig.config.small_syncs = 0;
    owner.producers = producers_new(0);
    FUZZ_CHECK(owner.producers);
    folder_write(rig.fs, bytes_of(data + 1, size - 1));
    struct fsck_totals totals;
    bool misled = false;
    struct fsck_options options = {.on_finding = on_finding, .ctx = &misled};
    bool sound = fsck_run(rig.fs, &options, &totals) == 0 && totals.damages == 0 && !misled;
    struct block *block;
    struct block_recovery recovery;
    int error = rig_start(&rig);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EFORMAT || error == CLYMQ_ECORRUPT);
    if (!error)
        error = open_block(&rig, &owner, keeps_table, &block, &recovery);
    FUZZ_CHECK(error != CLYMQ_ENOMEM && error != CLYMQ_EIO && error != CLYMQ_ENOSPC);
    if (error == 0) {
        FUZZ_CHECK(!sound || !recovery.damaged);
        search_times(block);
        verify_all(block, size);
        if (block_error(block) == 0 && !block_is_sealed(block) && block_end(block) < INT64_MAX / 2)
            FUZZ_CHECK(rig_append(block, 2, 10, 3) != CLYMQ_EIO);
        rig_settle(&rig);
        FUZZ_CHECK(block_error(block) == (recovery.damaged ? CLYMQ_ECORRUPT : 0));
        bool clean = read_all(block, max_bytes, &content);
        int64_t end = block_end(block);
        bool synced = rig.config.fsync == STORE_FSYNC_COMMIT;
        rig_crash(&rig, power_loss && synced);
        if (sound) {
            FUZZ_CHECK(clean);
            second_life(&rig, &owner, keeps_table, max_bytes, end, &content);
        }
    }
    fuzz_check_memory(RECOVERY_OWN + 64 * size);
    fuzz_check_time(size);
    strbuf_free(&content);
    producers_free(owner.producers);
    rig_free(&rig);
    return 0;
}
