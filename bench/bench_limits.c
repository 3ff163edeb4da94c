/* What this machine can do at best, by the simplest means, so that bench/run can tell how far from it ClyMQ
 * is. One measure a call:
 *
 *   bench_limits loopback   DIR BYTES SECONDS          bytes one way through a loopback connection
 *   bench_limits sendfile   DIR BYTES SECONDS          the same out of the page cache, by sendfile
 *   bench_limits page-cache DIR BYTES SECONDS          bytes into new pages of a file
 *   bench_limits sync       DIR BYTES SECONDS CHUNK    CHUNK bytes written, fdatasync, and again
 *   bench_limits paced      DIR BYTES SECONDS CHUNK RATE  RATE chunks a second, each due at its time, and a
 * sync for all that are due, one after the other: how long a chunk takes from when it was due until it is
 * durable bench_limits touch      DIR BYTES                  writes a file and deletes it: memory that the
 * machine's host has never given it before is slow the first time
 *
 * Each ends after BYTES or SECONDS, whichever is first, and prints one JSON object; rates are in 10^6 bytes a
 * second. Files have no name, so nothing stays behind however the program ends. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    WRITE_BYTES = 64 << 10, /* a batch, as the broker writes it */
    READ_BYTES = 256 << 10,
    SENT_FILE_BYTES = 256 << 20,
    LATENCIES_MAX = 1 << 20,
};

static const char *dir;
static uint64_t wanted;
static double seconds_max;
static uint8_t chunk[WRITE_BYTES];
static double latencies_ms[LATENCIES_MAX];

static void die(const char *what)
{
    fprintf(stderr, "bench_limits: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static int open_file(void)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/bench_limits.%ld", dir, (long)getpid());
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    unlink(path);
    return fd;
}

static void write_all(int fd, size_t len)
{
    while (len > 0) {
        size_t piece = len < sizeof(chunk) ? len : sizeof(chunk);
        ssize_t wrote = write(fd, chunk, piece);

        if (wrote < 0 && errno != EINTR)
            die("write");
        if (wrote > 0)
            len -= (size_t)wrote;
    }
}

static void print_rate(uint64_t bytes, double seconds)
{
    printf("{\"mb_per_s\":%.1f,\"bytes\":%llu,\"seconds\":%.3f", (double)bytes / 1e6 / seconds,
           (unsigned long long)bytes, seconds);
}

/* ---- the network ---- */

static void *drain(void *arg)
{
    int fd = *(const int *)arg;
    uint8_t *buffer = malloc(READ_BYTES);

    while (buffer && read(fd, buffer, READ_BYTES) > 0)
        ;
    free(buffer);
    return NULL;
}

static void connect_pair(int ret_fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &len))
        die("listen");
    ret_fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (ret_fds[0] < 0 || connect(ret_fds[0], (struct sockaddr *)&address, len))
        die("connect");
    ret_fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (ret_fds[1] < 0)
        die("accept");
    close(listener);
}

static size_t send_file(int to, int from, uint64_t at)
{
    off_t offset = (off_t)(at % SENT_FILE_BYTES);
    ssize_t sent = sendfile(to, from, &offset, READ_BYTES);

    if (sent <= 0)
        die("sendfile");
    return (size_t)sent;
}

/* One thread sends, one reads. from < 0: out of memory; else out of that file, over and over. */
static void measure_network(int from)
{
    pthread_t thread;
    int fds[2];
    uint64_t bytes = 0;
    double began;

    connect_pair(fds);
    if (pthread_create(&thread, NULL, drain, &fds[1]))
        die("pthread_create");
    began = now_s();
    while (bytes < wanted && now_s() < began + seconds_max) {
        if (from < 0)
            write_all(fds[0], WRITE_BYTES);
        bytes += from < 0 ? WRITE_BYTES : send_file(fds[0], from, bytes);
    }
    shutdown(fds[0], SHUT_WR);
    pthread_join(thread, NULL);
    print_rate(bytes, now_s() - began);
    printf("}\n");
    close(fds[0]);
    close(fds[1]);
}

/* ---- the disk ---- */

/* New pages only, as a log takes them: writing over pages that are there is faster. */
static void measure_page_cache(void)
{
    int fd = open_file();
    uint64_t bytes = 0;
    double began = now_s();

    while (bytes < wanted && now_s() < began + seconds_max) {
        write_all(fd, WRITE_BYTES);
        bytes += WRITE_BYTES;
    }
    print_rate(bytes, now_s() - began);
    printf("}\n");
    close(fd);
}

static int compare(const void *a, const void *b)
{
    double left = *(const double *)a, right = *(const double *)b;

    return (left > right) - (left < right);
}

static double quantile(size_t count, double q)
{
    return count ? latencies_ms[(size_t)(q * (double)(count - 1))] : 0;
}

static void measure_synced(size_t len)
{
    int fd = open_file();
    uint64_t bytes = 0;
    size_t syncs = 0;
    double began = now_s();

    while (bytes < wanted && syncs < LATENCIES_MAX && now_s() < began + seconds_max) {
        double before;

        write_all(fd, len);
        before = now_s();
        if (fdatasync(fd))
            die("fdatasync");
        latencies_ms[syncs++] = (now_s() - before) * 1e3;
        bytes += len;
    }
    print_rate(bytes, now_s() - began);
    qsort(latencies_ms, syncs, sizeof(latencies_ms[0]), compare);
    printf(",\"chunk\":%zu,\"syncs_per_s\":%.0f,\"sync_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}}\n", len,
           (double)syncs / (now_s() - began), quantile(syncs, 0.5), quantile(syncs, 0.99),
           quantile(syncs, 1));
    close(fd);
}

/* A sync of 10 ms among a thousand short ones does not show in their p99, but every message that comes during
 * those 10 ms waits for it. So what a load's latency is held against is the same load, and nothing but the
 * disk. */
static void measure_paced(size_t len, double rate)
{
    int fd = open_file();
    uint64_t bytes = 0;
    size_t durable = 0, planned = (size_t)(seconds_max * rate);
    double began = now_s();

    if (planned > LATENCIES_MAX)
        planned = LATENCIES_MAX;
    while (durable < planned && bytes < wanted) {
        double next_s = began + (double)durable / rate, now = now_s();
        size_t written = durable;

        if (now < next_s) {
            struct timespec left = {0, (long)((next_s - now) * 1e9)};

            nanosleep(&left, NULL);
            continue;
        }
        for (; written < planned && began + (double)written / rate <= now; written++)
            write_all(fd, len);
        if (fdatasync(fd))
            die("fdatasync");
        now = now_s();
        bytes += (written - durable) * len;
        for (; durable < written; durable++)
            latencies_ms[durable] = (now - (began + (double)durable / rate)) * 1e3;
    }
    print_rate(bytes, now_s() - began);
    qsort(latencies_ms, durable, sizeof(latencies_ms[0]), compare);
    printf(",\"chunks\":%zu,\"durable_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}}\n", durable,
           quantile(durable, 0.5), quantile(durable, 0.99), quantile(durable, 1));
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr,
                "usage: bench_limits loopback|sendfile|page-cache|sync|paced|touch DIR BYTES [SECONDS] "
                "[CHUNK] [RATE]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    dir = argv[2];
    wanted = strtoull(argv[3], NULL, 10);
    seconds_max = argc > 4 ? strtod(argv[4], NULL) : 1e9;
    for (size_t i = 0; i < sizeof(chunk); i++)
        chunk[i] = (uint8_t)(i * 2654435761U >> 13);

    if (strcmp(argv[1], "loopback") == 0) {
        measure_network(-1);
    } else if (strcmp(argv[1], "sendfile") == 0) {
        int file = open_file();

        write_all(file, SENT_FILE_BYTES);
        measure_network(file);
    } else if (strcmp(argv[1], "page-cache") == 0 || strcmp(argv[1], "touch") == 0) {
        measure_page_cache();
    } else if (strcmp(argv[1], "sync") == 0) {
        measure_synced(argc > 5 ? strtoull(argv[5], NULL, 10) : WRITE_BYTES);
    } else if (strcmp(argv[1], "paced") == 0 && argc > 6) {
        measure_paced(strtoull(argv[5], NULL, 10), strtod(argv[6], NULL));
    } else {
        fprintf(stderr, "bench_limits: unknown measure %s\n", argv[1]);
        return 2;
    }
    return 0;
}
