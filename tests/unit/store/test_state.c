/* State files: what is put comes back, damage costs only the record it hits, shards may change in number. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include <string.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "store/index.h"
#include "store/state.h"

static struct state_entry entry_of(uint32_t number, int64_t mark)
{
    struct state_entry entry = {
        .key = {.topic = {{1}}, .partition = number, .seq = 2},
        .start = 5,
        .mark = {.offset = mark, .base = 5, .position = (uint32_t)mark * 100, .epoch = 3},
        .checkpoint = {.offset = 6, .base = 5, .position = 600, .epoch = 2},
        .index = index_mark_empty(),
        .active_since_ms = 77,
        .sealed = number % 2,
        .empty_snapshot = true,
    };
    entry.key.id.byte[0] = (uint8_t)(number + 1);
    entry.index.index_count = 9;
    return entry;
}

static struct io_fs *new_fs(struct sim_disk **ret_disk)
{
    *ret_disk = sim_disk_new(1);
    struct io_fs *fs = sim_disk_fs(*ret_disk);
    assert_int_equal(io_fs_make_path(fs, "state"), 0);
    return fs;
}

static struct state_table load(struct io_fs *fs)
{
    struct state_table table;
    assert_int_equal(state_table_load(fs, true, &table), 0);
    return table;
}

/* One shard's file of a run: blocks [first, end) with marks. */
static void write_run(struct io_fs *fs, unsigned shard, uint64_t generation, uint32_t first, uint32_t end,
                      int64_t mark)
{
    struct state_file state;
    assert_int_equal(state_file_create(&state, fs, shard, generation), 0);
    for (uint32_t i = first; i < end; i++) {
        struct state_entry entry = entry_of(i, 10);
        state_put_block(&state, i - first, &entry);
        assert_int_equal(state_file_write(&state), 0);
    }
    for (uint32_t i = first; i < end; i++) {
        struct state_entry entry = entry_of(i, mark);
        state_put_mark(&state, i - first, &entry.mark);
    }
    assert_int_equal(state_file_write(&state), 0);
    state_file_close(&state);
}

static void entries_come_back(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    struct state_table table = load(fs);
    write_run(fs, 0, table.generation, 0, 3, 20);
    state_table_free(&table);
    for (int round = 0; round < 3; round++) { /* folded again and again */
        table = load(fs);
        assert_int_equal(map_count(table.entries), 3);
        assert_int_equal(table.damaged, 0);
        for (uint32_t i = 0; i < 3; i++) {
            struct state_entry want = entry_of(i, 20);
            const struct state_entry *got = state_table_find(&table, want.key.id);
            assert_non_null(got);
            assert_int_equal(got->key.partition, i);
            assert_int_equal(got->start, 5);
            assert_memory_equal(&got->mark, &want.mark, sizeof(want.mark));
            assert_memory_equal(&got->checkpoint, &want.checkpoint, sizeof(want.checkpoint));
            assert_int_equal(got->index.index_count, 9);
            assert_int_equal(got->index.last_time_ms, INT64_MIN);
            assert_int_equal(got->active_since_ms, 77);
            assert_int_equal(got->sealed, i % 2);
            assert_true(got->empty_snapshot);
        }
        state_table_free(&table);
    }
    sim_disk_free(disk);
}

static void a_dropped_block_is_forgotten(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    struct state_table table = load(fs);
    write_run(fs, 0, table.generation, 0, 2, 20);
    state_table_free(&table);
    table = load(fs);
    struct state_file file;
    assert_int_equal(state_file_create(&file, fs, 1, table.generation), 0);
    struct state_entry entry = entry_of(0, 1);
    state_put_drop(&file, entry.key.id);
    assert_int_equal(state_file_write(&file), 0);
    state_file_close(&file);
    state_table_free(&table);
    table = load(fs);
    assert_int_equal(map_count(table.entries), 1);
    assert_null(state_table_find(&table, entry.key.id));
    state_table_free(&table);
    sim_disk_free(disk);
}

/* A file of an earlier run that could not be removed says nothing any more. */
/* A block that was closed and opened again has another slot; marks in the old one are not its any more. */
static void a_block_has_one_slot(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    struct state_file file;
    struct state_entry entry = entry_of(0, 10), other = entry_of(1, 10);
    struct log_point far = entry_of(0, 99).mark, near = entry_of(0, 20).mark;
    assert_int_equal(state_file_create(&file, fs, 0, 3), 0);
    state_put_block(&file, 0, &entry);
    state_put_block(&file, 1, &other);
    state_put_block(&file, 2, &entry);
    state_put_mark(&file, 0, &far);
    state_put_mark(&file, 2, &near);
    state_put_drop(&file, other.key.id);
    state_put_mark(&file, 1, &far);
    assert_int_equal(state_file_write(&file), 0);
    struct state_table table;
    assert_int_equal(state_table_load(fs, false, &table), 0);
    assert_int_equal(map_count(table.entries), 1);
    assert_memory_equal(&state_table_find(&table, entry.key.id)->mark, &near, sizeof(near));
    state_table_free(&table);
    /* Dropped under the second slot: the first one leads nowhere. */
    state_put_drop(&file, entry.key.id);
    state_put_mark(&file, 0, &far);
    state_put_mark(&file, 2, &far);
    assert_int_equal(state_file_write(&file), 0);
    assert_int_equal(state_table_load(fs, true, &table), 0);
    assert_int_equal(map_count(table.entries), 0);
    state_table_free(&table);
    state_file_close(&file);
    sim_disk_free(disk);
}

static void a_stale_file_does_no_harm(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    struct state_table table = load(fs);
    uint64_t old = table.generation;
    write_run(fs, 0, old, 0, 2, 20);
    state_table_free(&table);
    table = load(fs);
    write_run(fs, 1, table.generation, 0, 2, 50); /* the blocks belong to shard 1 now */
    write_run(fs, 0, old, 0, 2, 20);              /* shard 0's file of before is back */
    state_table_free(&table);
    table = load(fs);
    struct state_entry want = entry_of(1, 50);
    assert_int_equal(state_table_find(&table, want.key.id)->mark.offset, 50);
    state_table_free(&table);
    sim_disk_free(disk);
}

static void damage_costs_only_what_it_hits(void **state)
{
    for (uint64_t seed = 0; seed < 60; seed++) {
        struct sim_disk *disk;
        struct io_fs *fs = new_fs(&disk);
        struct state_table table = load(fs);
        write_run(fs, 0, table.generation, 0, 8, 20);
        state_table_free(&table);
        uint64_t at = 24 + seed * 24;
        int error = sim_disk_flip_bits(disk, "state/0.state", at, 8, 1);
        table = load(fs);
        assert_true(error || table.damaged == 1);
        assert_true(map_count(table.entries) >= 7);
        for (uint32_t i = 0; i < 8; i++) {
            struct state_entry want = entry_of(i, 20);
            const struct state_entry *got = state_table_find(&table, want.key.id);
            if (got) /* its mark may be the older one */
                assert_true(got->mark.offset == 20 || got->mark.offset == 10);
        }
        state_table_free(&table);
        sim_disk_free(disk);
    }
}

/* Records with right checksums that say what no run can have noted: as if they were not there. */
static void what_cannot_be_is_damage(void **state)
{
    enum { CASES = 20 };
    for (int i = 0; i < CASES; i++) {
        struct state_entry bad = entry_of(0, 20);
        struct log_point *mark = &bad.mark, *checkpoint = &bad.checkpoint;
        switch (i) {
        case 0:
            mark->offset = -1;
            break;
        case 1:
            mark->offset = 5;
            break; /* bytes, but no offset */
        case 2:
            mark->base = -5;
            break;
        case 3:
            mark->base = 21;
            break;
        case 4:
            mark->position = 0;
            break; /* offsets, but no bytes */
        case 5:
            mark->position = 60;
            break;
        case 6:
            mark->position = UINT32_MAX;
            break;
        case 7:
            mark->epoch = -2;
            break;
        case 8:
            mark->epoch = 1;
            break; /* the checkpoint's is 2 */
        case 9:
            mark->position = 599;
            break; /* before the checkpoint */
        case 10:
            mark->position = 600;
            break; /* the same place at another offset */
        case 11:
            mark->offset = 6;
            break;
        case 12:
            *mark = (struct log_point){.offset = 4, .base = 4, .epoch = 3};
            break;
        case 13:
            bad.start = -1;
            break;
        case 14:
            bad.start = 21;
            break;
        case 15:
            bad.index.index_count = 10;
            break; /* 600 bytes have no room for ten batches */
        case 16:
            bad.index.max_time_ms = 1000;
            bad.index.max_time_offset = 6; /* the checkpoint's, and so that of no batch before it */
            break;
        case 17:
            bad.index.max_time_ms = 1000;
            bad.index.max_time_offset = 4;
            break;
        case 18:
            bad.active_since_ms = INT64_MIN;
            break;
        default:
            checkpoint->position = 60;
            bad.index.index_count = 0;
        }
        for (int with_mark = 0; with_mark <= (i < 13); with_mark++) {
            struct sim_disk *disk;
            struct io_fs *fs = new_fs(&disk);
            struct state_table table = load(fs);
            write_run(fs, 0, table.generation, 0, 2, 15);
            state_table_free(&table);
            table = load(fs);
            struct state_file file;
            struct state_entry good = entry_of(0, 15);
            assert_int_equal(state_file_create(&file, fs, 0, table.generation), 0);
            state_put_block(&file, 0, with_mark ? &good : &bad);
            if (with_mark)
                state_put_mark(&file, 0, &bad.mark);
            assert_int_equal(state_file_write(&file), 0);
            state_file_close(&file);
            state_table_free(&table);
            table = load(fs);
            assert_int_equal(table.damaged, 1);
            assert_int_equal(map_count(table.entries), 2);
            assert_memory_equal(&state_table_find(&table, good.key.id)->mark, &good.mark, sizeof(good.mark));
            state_table_free(&table);
            table = load(fs);
            assert_int_equal(table.damaged, 0); /* it was not taken over */
            state_table_free(&table);
            sim_disk_free(disk);
        }
    }
}

/* A header that is whole, but of no run. */
static void generations_that_no_run_had_are_damage(void **state)
{
    static const uint64_t generations[] = {0, STATE_GENERATION_MAX + 1, UINT64_MAX};
    for (size_t i = 0; i < sizeof(generations) / sizeof(generations[0]); i++) {
        struct sim_disk *disk;
        struct io_fs *fs = new_fs(&disk);
        write_run(fs, 0, generations[i], 0, 2, 20);
        write_run(fs, 1, 3, 2, 3, 20);
        struct state_table table = load(fs);
        assert_int_equal(map_count(table.entries), 1);
        assert_int_equal(table.damaged, 1);
        assert_int_equal(table.generation, 4);
        state_table_free(&table);
        sim_disk_free(disk);
    }
}

/* The last generation that a header may have stays the generation: what is folded can be read again. */
static void the_last_generation_lasts(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    uint64_t generation = STATE_GENERATION_MAX - 1;
    for (uint32_t run = 0; run < 3; run++) {
        write_run(fs, 0, generation, run, run + 1, 20);
        struct state_table table = load(fs);
        assert_int_equal(map_count(table.entries), run + 1);
        assert_int_equal(table.damaged, 0);
        assert_int_equal(table.generation, STATE_GENERATION_MAX);
        generation = table.generation;
        state_table_free(&table);
    }
    sim_disk_free(disk);
}

static void a_newer_version_is_refused(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    uint8_t header[24] = "clymqst\n";
    header[11] = 2;
    header[19] = 1;
    uint32_t crc = crc32c(0, header, 20);
    header[20] = (uint8_t)(crc >> 24);
    header[21] = (uint8_t)(crc >> 16);
    header[22] = (uint8_t)(crc >> 8);
    header[23] = (uint8_t)crc;
    assert_int_equal(io_fs_replace_file(fs, "state/0.state", header, sizeof(header)), 0);
    struct state_table table;
    assert_int_equal(state_table_load(fs, true, &table), CLYMQ_EFORMAT);
    header[23] ^= 1; /* not newer: damaged */
    assert_int_equal(io_fs_replace_file(fs, "state/0.state", header, sizeof(header)), 0);
    table = load(fs);
    assert_int_equal(table.damaged, 1);
    state_table_free(&table);
    sim_disk_free(disk);
}

static void rewriting_keeps_only_what_is_put(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    struct state_table table = load(fs);
    struct state_file file;
    assert_int_equal(state_file_create(&file, fs, 0, table.generation), 0);
    state_table_free(&table);
    struct state_entry entry = entry_of(0, 10);
    for (int i = 0; i < 100; i++)
        state_put_block(&file, 0, &entry);
    assert_int_equal(state_file_write(&file), 0);
    uint64_t before = file.size;
    state_rewrite_begin(&file);
    entry = entry_of(1, 30);
    state_put_block(&file, 0, &entry);
    assert_int_equal(state_rewrite_end(&file), 0);
    assert_true(file.size < before / 10);
    entry.mark.offset = 31;
    state_put_mark(&file, 0, &entry.mark);
    assert_int_equal(state_file_write(&file), 0);
    state_file_close(&file);
    table = load(fs);
    assert_int_equal(map_count(table.entries), 1);
    assert_int_equal(state_table_find(&table, entry.key.id)->mark.offset, 31);
    state_table_free(&table);
    sim_disk_free(disk);
}

static void memory_may_fail_anywhere(void **state)
{
    struct sim_disk *disk;
    struct io_fs *fs = new_fs(&disk);
    struct state_table table = load(fs);
    write_run(fs, 0, table.generation, 0, 3, 20);
    state_table_free(&table);
    int error;
    uint64_t nth = 0;
    do {
        mem_fail_nth(++nth);
        error = state_table_load(fs, false, &table);
        mem_fail_nth(0);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
        if (!error) {
            assert_int_equal(map_count(table.entries), 3);
            state_table_free(&table);
        }
    } while (error);
    assert_true(nth > 5);
    sim_disk_free(disk);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_come_back),
        cmocka_unit_test(a_dropped_block_is_forgotten),
        cmocka_unit_test(a_block_has_one_slot),
        cmocka_unit_test(a_stale_file_does_no_harm),
        cmocka_unit_test(damage_costs_only_what_it_hits),
        cmocka_unit_test(what_cannot_be_is_damage),
        cmocka_unit_test(generations_that_no_run_had_are_damage),
        cmocka_unit_test(the_last_generation_lasts),
        cmocka_unit_test(a_newer_version_is_refused),
        cmocka_unit_test(rewriting_keeps_only_what_is_put),
        cmocka_unit_test(memory_may_fail_anywhere),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
