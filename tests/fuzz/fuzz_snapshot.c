/* A snapshot file, the producer table inside it, and a segment's summary. What was loaded is written and
 * loaded again: the same.
 *
 * First byte: bit 0 a summary, else a snapshot; bit 7 checksums stay as they are. Second byte: the number in
 * the file's name. */
#include "base/error.h"
#include "base/mem.h"
#include "folder.h"
#include "io/sim.h"
#include "partition/producers.h"
#include "store/checkpoint.h"

enum { TABLE_OWN = 1 << 18 };

static void check_table(struct bytes state)
{
    struct producers *producers = producers_new(0), *again = producers_new(0);
    struct strbuf saved = {0}, twice = {0};
    FUZZ_CHECK(producers && again);
    int error = producers_load(producers, state);
    FUZZ_CHECK(error == 0 || error == CLYMQ_ECORRUPT || error == CLYMQ_EFORMAT);
    if (error)
        FUZZ_CHECK(producers_count(producers) == 0);
    producers_save(producers, &saved);
    FUZZ_CHECK(producers_load(again, bytes_of(saved.data, saved.len)) == 0);
    FUZZ_CHECK(producers_count(again) == producers_count(producers));
    producers_save(again, &twice);
    FUZZ_CHECK(bytes_equal(bytes_of(saved.data, saved.len), bytes_of(twice.data, twice.len)));
    strbuf_free(&saved);
    strbuf_free(&twice);
    producers_free(producers);
    producers_free(again);
}

static void check_snapshot(struct bytes file, int64_t number)
{
    struct sim_disk *disk = sim_disk_new(1);
    FUZZ_CHECK(disk);
    struct io_fs *fs = sim_disk_fs(disk);
    char path[SEGMENT_PATH_MAX];
    FUZZ_CHECK(io_fs_make_path(fs, "d") == 0);
    segment_path(path, "d", number, ".snapshot");
    folder_put(fs, path, file.ptr, file.len);
    struct snapshot snapshot, again;
    int error = snapshot_read(fs, "d", number, &snapshot);
    FUZZ_CHECK(error == 0 || error == CLYMQ_ECORRUPT || error == CLYMQ_EFORMAT);
    if (error == 0) {
        check_table(snapshot.state);
        FUZZ_CHECK(snapshot_write(fs, "d", &snapshot.point, snapshot.state) == 0);
        FUZZ_CHECK(snapshot_read(fs, "d", number, &again) == 0);
        FUZZ_CHECK(bytes_equal(snapshot.state, again.state));
        FUZZ_CHECK(log_point_compare(&snapshot.point, &again.point) == 0);
        mem_free(again.data);
        mem_free(snapshot.data);
    }
    sim_disk_free(disk);
}

static void check_summary(struct bytes file)
{
    struct segment_summary summary;
    uint8_t encoded[SUMMARY_SIZE];
    int error = segment_summary_decode(file, &summary);
    FUZZ_CHECK(error == 0 || error == CLYMQ_ECORRUPT || error == CLYMQ_EFORMAT);
    if (error)
        return;
    segment_summary_encode(&summary, encoded);
    /* The version is the only field that is not kept. */
    FUZZ_CHECK(memcmp(encoded + 12, file.ptr + 12, SUMMARY_SIZE - 16) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    int64_t number = folder_number(data[1]);
    enum folder_kind kind = data[0] & 1 ? FOLDER_SUMMARY : FOLDER_SNAPSHOT;
    struct bytes file = fuzz_copy(data + 2, size - 2);
    if (!(data[0] & FOLDER_RAW))
        folder_repair(kind, false, number, (uint8_t *)(uintptr_t)file.ptr, file.len);
    fuzz_begin();
    if (kind == FOLDER_SUMMARY)
        check_summary(file);
    else
        check_snapshot(file, number);
    /* A session of 40 bytes keeps room for the pushes to come. */
    fuzz_check_memory(TABLE_OWN + 64 * size);
    fuzz_check_time(size);
    fuzz_free(file);
    return 0;
}
