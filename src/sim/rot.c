/* Bit rot: see rot.h. Files are found by walking data/<topic>/<partition>/<block>; whose log one is tells the
 * first value in it. */
#define LOG_MODULE "sim"
#include "sim/rot.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "base/mem.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/value.h"
#include "wire/batch.h"

enum { PATHS_MAX = 512, PATH_SIZE = 200, DEPTH = 3, BITS_MAX = 4, LOG_MAX = 1 << 20 };

struct paths {
    char (*path)[PATH_SIZE];
    unsigned count;
};

static bool has_suffix(const char *name, const char *const *suffixes)
{
    for (; *suffixes; suffixes++) {
        size_t len = strlen(name), suffix = strlen(*suffixes);

        if (len > suffix && strcmp(name + len - suffix, *suffixes) == 0)
            return true;
    }
    return false;
}

static void walk(struct io_fs *fs, const char *dir, int depth, const char *const *suffixes,
                 struct paths *paths)
{
    char **names;
    size_t count;

    if (io_fs_list(fs, dir, &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        char path[PATH_SIZE];

        if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= (int)sizeof(path))
            continue;
        if (depth > 0)
            walk(fs, path, depth - 1, suffixes, paths);
        else if (has_suffix(names[i], suffixes) && paths->count < PATHS_MAX)
            memcpy(paths->path[paths->count++], path, sizeof(path));
    }
    io_fs_free_names(names, count);
}

static void flip(struct run *run, const char *path, uint64_t size)
{
    unsigned bits = 1 + (unsigned)rng_below(&run->rng, BITS_MAX);

    log_info("%u bits flipped in %s", bits, path);
    (void)sim_process_flip_bits(machine_process(run->machine), path, 0, size, bits);
}

static bool size_of(struct io_fs *fs, const char *path, uint64_t *ret_size)
{
    struct io_file *file;

    if (io_fs_open(fs, path, IO_OPEN_READ, &file))
        return false;
    int error = io_file_size(file, ret_size);
    io_file_close(file);
    return !error && *ret_size > 0;
}

/* Chooses a file with such a suffix. */
static bool choose(struct run *run, const char *dir, int depth, const char *const *suffixes,
                   char path[PATH_SIZE], uint64_t *ret_size)
{
    struct io_fs *fs = sim_process_fs(machine_process(run->machine));
    struct paths paths = {.path = run_alloc(PATHS_MAX * sizeof(*paths.path))};
    bool found = false;

    walk(fs, dir, depth, suffixes, &paths);
    if (paths.count) {
        memcpy(path, paths.path[rng_below(&run->rng, paths.count)], PATH_SIZE);
        found = size_of(fs, path, ret_size);
    }
    mem_free(paths.path);
    return found;
}

void rot_flip_index(struct run *run)
{
    static const char *const suffixes[] = {".index", ".timeindex", ".summary", ".snapshot", NULL};
    char path[PATH_SIZE];
    uint64_t size;

    if (choose(run, "data", DEPTH, suffixes, path, &size))
        flip(run, path, size);
}

void rot_flip_state(struct run *run)
{
    static const char *const suffixes[] = {".state", NULL};
    char path[PATH_SIZE];
    uint64_t size;

    if (!choose(run, "state", 0, suffixes, path, &size))
        return;
    run->history->rotten = true;
    for (unsigned i = 0; i < run->history->slot_count; i++)
        if (run->history->slots[i].current)
            run->history->slots[i].current->marks_damaged = true;
    flip(run, path, size);
}

/* The slot that the first value in these batches was pushed to; NULL: none can be read. */
static struct slot *slot_of(struct run *run, struct bytes log)
{
    struct slot *slot = NULL;

    while (!slot) {
        struct batch_header header;
        struct batch_reader reader;
        struct batch_record record;
        struct value value;

        if (batch_check(log, UINT32_MAX, &header) ||
            batch_reader_begin(&reader, bytes_of(log.ptr, header.size), LOG_MAX))
            return NULL;
        if (!batch_is_control(&header) && !batch_reader_next(&reader, &record) &&
            value_read(record.value, &value) && value.slot < run->history->slot_count)
            slot = &run->history->slots[value.slot];
        batch_reader_end(&reader);
        log = bytes_of(log.ptr + header.size, log.len - header.size);
    }
    return slot;
}

void rot_flip_log(struct run *run)
{
    static const char *const suffixes[] = {".log", NULL};
    char path[PATH_SIZE];
    uint64_t size;
    uint8_t *data;
    size_t len;

    if (!choose(run, "data", DEPTH, suffixes, path, &size) ||
        io_fs_read_file(sim_process_fs(machine_process(run->machine)), path, LOG_MAX, &data, &len))
        return;
    struct slot *slot = slot_of(run, bytes_of(data, len));
    mem_free(data);
    if (!slot || !slot->steady || !slot->current)
        return;
    run->history->rotten = true;
    slot->current->damaged = true;
    slot->current->damaged_hazard = ++run->history->hazard;
    flip(run, path, size);
}
