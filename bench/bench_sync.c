/* What a small synced append costs, by how the space behind the file's end was made: why the store writes
 * zeros ahead (store/ahead.h), and up to which size of a sync.
 *
 *   bench_sync [DIR [SYNCS]]      default: the current folder, 1000 syncs a run
 *
 * For each size and each way a new file is appended to and synced after each append, in ROUNDS rounds in
 * which the ways take turns. Printed are the medians over the rounds of the median, the 99th percentile and
 * the mean of a run, in ms; the mean holds what making the space takes, too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "io/file.h"

enum { ROUNDS = 7, SYNCS_MAX = 100000, AHEAD = 256 << 10, RESERVED = 8 << 20, APPEND_MAX = 128 << 10 };
enum way { GROWS, RESERVES, ZEROS, WAYS };

static const char *const way_names[WAYS] = {"the file grows", "fallocate ahead, 8 MiB",
                                            "zeros ahead, 256 KiB"};
static double latencies_ms[SYNCS_MAX];
static uint8_t zeros[AHEAD], data[APPEND_MAX];

struct figures {
    double p50, p99, mean;
};

static double now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec * 1e3 + (double)now.tv_nsec / 1e6;
}

static void check(int error, const char *what)
{
    if (error >= 0)
        return;
    fprintf(stderr, "bench_sync: %s: %s\n", what, error_sentence(error));
    exit(1);
}

static int compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* The space for an append that ends at `end`, as the store makes it. Returns up to where there is some. */
static uint64_t make_space(struct io_file *file, enum way way, uint64_t space, uint64_t end)
{
    if (way == RESERVES && end > space) {
        check(io_file_allocate(file, space, RESERVED), "allocate");
        return space + RESERVED;
    }
    if (way == ZEROS && end + AHEAD / 4 > space) {
        uint64_t from = end > space ? end : space;
        check((int)io_file_pwrite(file, zeros, AHEAD, from), "write");
        return from + AHEAD;
    }
    return space;
}

static struct figures run(struct io_fs *fs, enum way way, size_t size, int syncs)
{
    static const char path[] = "bench_sync.tmp";
    struct io_file *file;
    uint64_t space = 0, end = 0;
    check(io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file), path);
    double begin = now_ms();
    for (int i = 0; i < syncs; i++) {
        double before = now_ms();
        space = make_space(file, way, space, end + size);
        check((int)io_file_pwrite(file, data, size, end), "write");
        check(io_file_sync(file), "sync");
        latencies_ms[i] = now_ms() - before;
        end += size;
    }
    double took = now_ms() - begin;
    io_file_close(file);
    check(io_fs_unlink(fs, path), "unlink");
    qsort(latencies_ms, (size_t)syncs, sizeof(latencies_ms[0]), compare);
    return (struct figures){latencies_ms[syncs / 2], latencies_ms[(int64_t)syncs * 99 / 100], took / syncs};
}

static double median(const struct figures figures[ROUNDS], size_t field)
{
    double values[ROUNDS];
    for (int i = 0; i < ROUNDS; i++)
        memcpy(&values[i], (const char *)&figures[i] + field, sizeof(values[i]));
    qsort(values, ROUNDS, sizeof(values[0]), compare);
    return values[ROUNDS / 2];
}

int main(int argc, char **argv)
{
    static const size_t sizes[] = {200, 1500, 10000, 32768, 65536, APPEND_MAX};
    int syncs = argc > 2 ? (int)strtol(argv[2], NULL, 10) : 1000;
    if (argc > 3 || (argc > 1 && argv[1][0] == '-') || syncs < 1 || syncs > SYNCS_MAX) {
        fprintf(stderr, "usage: bench_sync [DIR [SYNCS]]\n");
        return 2;
    }
    struct io_fs *fs;
    check(io_os_fs_new(argc > 1 ? argv[1] : ".", &fs), "folder");
    memset(data, 7, sizeof(data));
    printf("%8s  %-24s %8s %8s %8s\n", "bytes", "", "p50 ms", "p99 ms", "mean ms");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        static struct figures figures[WAYS][ROUNDS];
        for (int round = 0; round < ROUNDS; round++)
            for (int way = 0; way < WAYS; way++)
                figures[way][round] = run(fs, (enum way)way, sizes[i], syncs);
        for (int way = 0; way < WAYS; way++)
            printf("%8zu  %-24s %8.3f %8.3f %8.3f\n", sizes[i], way_names[way],
                   median(figures[way], offsetof(struct figures, p50)),
                   median(figures[way], offsetof(struct figures, p99)),
                   median(figures[way], offsetof(struct figures, mean)));
        fflush(stdout);
    }
    io_os_fs_free(fs);
    return 0;
}
