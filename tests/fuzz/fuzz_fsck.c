/* The offline check over any content of a data folder (folder.h): it ends, changes no log, finds no more to
 * repair the second time, and misses no damage that opening the block finds.
 *
 * First byte: bit 0 wrong indexes are removed. */
#include "folder.h"
#include "store/fsck.h"
#include "unit/store/store_rig.h"

enum { CHECK_OWN = 2 << 20 };

struct seen {
    unsigned of_kind[FSCK_WRONG_STATE + 1];
    size_t names;
};

static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    struct seen *seen = ctx;
    seen->of_kind[finding->kind]++;
    seen->names += strlen(finding->path) + strlen(finding->sentence);
}

static int check(struct rig *rig, bool repair, struct seen *seen, struct fsck_totals *ret_totals)
{
    struct fsck_options options = {.repair_indexes = repair, .on_finding = on_finding, .ctx = seen};
    *seen = (struct seen){0};
    int error = fsck_run(rig->fs, &options, ret_totals);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EFORMAT || error == CLYMQ_ECORRUPT || error == CLYMQ_ENOENT);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    bool repair = data[0] & 1;
    struct rig rig;
    struct seen seen;
    struct fsck_totals totals, second;
    struct strbuf before = {0}, after = {0};
    folder_log();
    fuzz_begin();
    rig_init(&rig, 1);
    folder_write(rig.fs, bytes_of(data + 1, size - 1));
    folder_read_logs(rig.fs, &before);
    int error = check(&rig, repair, &seen, &totals);
    folder_read_logs(rig.fs, &after);
    FUZZ_CHECK(bytes_equal(bytes_of(before.data, before.len), bytes_of(after.data, after.len)));
    if (!error && repair) {
        FUZZ_CHECK(totals.repaired == seen.of_kind[FSCK_WRONG_INDEX]);
        FUZZ_CHECK(check(&rig, repair, &seen, &second) == 0);
        FUZZ_CHECK(second.damages == totals.damages && seen.of_kind[FSCK_WRONG_INDEX] == 0);
    }
    if (!error && rig_start(&rig) == 0) {
        struct block *block;
        struct block_recovery recovery = {0};
        struct block_key key = folder_key();
        if (block_open(rig.store, &key, NULL, &block, &recovery) == 0 && recovery.damaged)
            FUZZ_CHECK(totals.damages > 0);
    }
    fuzz_check_memory(CHECK_OWN + 64 * size);
    fuzz_check_time(size);
    strbuf_free(&before);
    strbuf_free(&after);
    rig_free(&rig);
    return 0;
}
