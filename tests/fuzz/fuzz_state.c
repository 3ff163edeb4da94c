/* State files of any content, folded: what one reading finds the next one finds too, and what was folded into
 * base.state is whole. Files as in folder.h; others than state files count for nothing. */
#include "base/error.h"
#include "base/mem.h"
#include "folder.h"
#include "io/sim.h"
#include "store/state.h"

enum { LOADING_OWN = 1 << 18 };

static bool same_point(const struct log_point *a, const struct log_point *b)
{
    return a->offset == b->offset && log_point_compare(a, b) == 0 && a->epoch == b->epoch;
}

static void compare(const struct state_table *a, const struct state_table *b)
{
    size_t at = 0;
    struct map_entry *item;
    FUZZ_CHECK(map_count(a->entries) == map_count(b->entries));
    while ((item = map_next(a->entries, &at))) {
        const struct state_entry *left = item->value, *right = state_table_find(b, left->key.id);
        FUZZ_CHECK(right && left->start == right->start && left->sealed == right->sealed);
        FUZZ_CHECK(same_point(&left->mark, &right->mark) && left->error == right->error);
        FUZZ_CHECK(same_point(&left->checkpoint, &right->checkpoint));
        FUZZ_CHECK(left->index.index_crc == right->index.index_crc &&
                   left->damaged_offset == right->damaged_offset &&
                   left->empty_snapshot == right->empty_snapshot);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    folder_log();
    fuzz_begin();
    struct sim_disk *disk = sim_disk_new(1);
    FUZZ_CHECK(disk);
    struct io_fs *fs = sim_disk_fs(disk);
    folder_write(fs, bytes_of(data, size));
    struct state_table read, folded, again;
    int error = state_table_load(fs, false, &read);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EFORMAT);
    if (!error) {
        FUZZ_CHECK(state_table_load(fs, true, &folded) == 0);
        FUZZ_CHECK(state_table_load(fs, true, &again) == 0);
        FUZZ_CHECK(read.damaged == folded.damaged && again.damaged == 0);
        /* Nothing is folded, and so written, where there was nothing. */
        bool nothing = map_count(folded.entries) == 0 && folded.damaged == 0;
        bool stays = nothing || folded.generation == STATE_GENERATION_MAX;
        FUZZ_CHECK(again.generation > folded.generation || (stays && again.generation == folded.generation));
        compare(&read, &folded);
        compare(&folded, &again);
        state_table_free(&again);
        state_table_free(&folded);
        state_table_free(&read);
    }
    fuzz_check_memory(LOADING_OWN + 64 * size);
    fuzz_check_time(size);
    sim_disk_free(disk);
    return 0;
}
