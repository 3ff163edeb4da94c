/* What this machine can do at best, by the simplest means, so that bench/run can tell how far from it ClyMQ
 * is: bytes through a loopback connection (from memory, and by sendfile from the page cache), bytes into the
 * page cache, and bytes onto the disk (each write followed by fdatasync, and one long write).
 *
 * usage: bench_limits DIR [SECONDS]     DIR: where the files are made, on the disk to be measured
 *
 * Prints one JSON object; rates are in 10^6 bytes a second. */
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

enum { CHUNK = 256 << 10, FILE_BYTES = 256 << 20, CACHE_BYTES = 1 << 30 };

static char path[4096];
static uint8_t chunk[1 << 20];

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

/* A file without a name: nothing stays behind, however the program ends. */
static int open_file(void)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    if (fd < 0)
        die(path);
    unlink(path);
    return fd;
}

static void write_all(int fd, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t wrote = write(fd, chunk, len - done);

        if (wrote < 0 && errno != EINTR)
            die("write");
        if (wrote > 0)
            done += (size_t)wrote;
    }
}

/* ---- the network ---- */

static void *drain(void *arg)
{
    int fd = *(const int *)arg;
    uint8_t *buffer = malloc(CHUNK);

    while (buffer && read(fd, buffer, CHUNK) > 0)
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

/* One thread sends, one reads. from < 0: out of memory; else by sendfile out of that file, over and over. */
static double measure_loopback(double seconds, int from)
{
    pthread_t thread;
    int fds[2];
    uint64_t bytes = 0;
    double began, ends;

    connect_pair(fds);
    if (pthread_create(&thread, NULL, drain, &fds[1]))
        die("pthread_create");
    began = now_s();
    ends = began + seconds;
    while (now_s() < ends) {
        if (from < 0) {
            write_all(fds[0], CHUNK);
        } else {
            off_t at = (off_t)(bytes % FILE_BYTES);
            ssize_t sent = sendfile(fds[0], from, &at, CHUNK);

            if (sent <= 0)
                die("sendfile");
            bytes += (uint64_t)sent;
            continue;
        }
        bytes += CHUNK;
    }
    shutdown(fds[0], SHUT_WR);
    pthread_join(thread, NULL);
    seconds = now_s() - began;
    close(fds[0]);
    close(fds[1]);
    return (double)bytes / 1e6 / seconds;
}

/* ---- the disk ---- */

/* New pages only, as a log takes them: writing over pages that are there is faster. */
static double measure_page_cache(double seconds)
{
    int fd = open_file();
    uint64_t bytes = 0;
    double began = now_s(), took;

    while (bytes < CACHE_BYTES && now_s() < began + seconds) {
        write_all(fd, CHUNK);
        bytes += CHUNK;
    }
    took = now_s() - began;
    close(fd);
    return (double)bytes / 1e6 / took;
}

/* Writes of len, each made durable before the next. */
static double measure_synced(double seconds, size_t len, double *ret_syncs_per_s)
{
    int fd = open_file();
    uint64_t bytes = 0, syncs = 0;
    double began = now_s(), took;

    while (bytes < CACHE_BYTES && now_s() < began + seconds) {
        write_all(fd, len);
        if (fdatasync(fd))
            die("fdatasync");
        bytes += len;
        syncs++;
    }
    took = now_s() - began;
    close(fd);
    *ret_syncs_per_s = (double)syncs / took;
    return (double)bytes / 1e6 / took;
}

static double measure_streamed(void)
{
    int fd = open_file();
    double began = now_s(), took;

    for (int i = 0; i < FILE_BYTES / CHUNK; i++)
        write_all(fd, CHUNK);
    if (fdatasync(fd))
        die("fdatasync");
    took = now_s() - began;
    close(fd);
    return FILE_BYTES / 1e6 / took;
}

int main(int argc, char **argv)
{
    double seconds = argc > 2 ? atof(argv[2]) : 2, small_syncs, large_syncs;
    double loopback, cached, sent, small, large, streamed;
    int file;

    if (argc < 2 || seconds <= 0) {
        fprintf(stderr, "usage: bench_limits DIR [SECONDS]\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    snprintf(path, sizeof(path), "%s/bench_limits.%ld", argv[1], (long)getpid());
    for (size_t i = 0; i < sizeof(chunk); i++)
        chunk[i] = (uint8_t)(i * 2654435761U >> 13);

    loopback = measure_loopback(seconds, -1);
    file = open_file();
    for (int i = 0; i < FILE_BYTES / CHUNK; i++)
        write_all(file, CHUNK);
    sent = measure_loopback(seconds, file);
    close(file);
    cached = measure_page_cache(seconds);
    small = measure_synced(seconds, 4096, &small_syncs);
    large = measure_synced(seconds, sizeof(chunk), &large_syncs);
    streamed = measure_streamed();
    printf("{\"loopback\":%.0f,\"sendfile\":%.0f,\"page_cache\":%.0f,\"sync_4k\":%.1f,\"sync_4k_per_s\":%.0f,"
           "\"sync_1m\":%.0f,\"sync_1m_per_s\":%.0f,\"stream_sync\":%.0f}\n",
           loopback, sent, cached, small, small_syncs, large, large_syncs, streamed);
    return 0;
}
