/* The least that a broker can do with what it is sent: receive, checksum, write, and nothing else. What it
 * costs is what bench/run holds the broker's CPU time against. A child process sends; receiving is one thread
 * on one connection, in batches of 64 KiB, into new pages of a file.
 *
 * usage: bare_loop DIR BYTES
 *
 * Prints one JSON object. The file has no name: nothing stays behind. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/crc32c.h"

enum { BATCH_BYTES = 64 << 10 };

static uint8_t batch[BATCH_BYTES];

static void die(const char *what)
{
    fprintf(stderr, "bare_loop: %s: %s\n", what, strerror(errno));
    exit(1);
}

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void write_all(int fd, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t wrote = write(fd, batch + done, len - done);

        if (wrote < 0 && errno != EINTR)
            die("write");
        if (wrote > 0)
            done += (size_t)wrote;
    }
}

/* The child's life. */
static void send_all(const struct sockaddr_in *address, uint64_t bytes)
{
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)))
        die("connect");
    for (size_t i = 0; i < sizeof(batch); i++)
        batch[i] = (uint8_t)(i * 2654435761U >> 13);
    for (uint64_t sent = 0; sent < bytes; sent += BATCH_BYTES)
        write_all(fd, BATCH_BYTES);
    close(fd);
    _exit(0);
}

static int fill(int fd)
{
    for (size_t have = 0; have < BATCH_BYTES;) {
        ssize_t got = read(fd, batch + have, BATCH_BYTES - have);

        if (got < 0 && errno != EINTR)
            die("read");
        if (got == 0)
            return 0;
        if (got > 0)
            have += (size_t)got;
    }
    return 1;
}

static double cpu_s(void)
{
    struct rusage usage;

    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

static int open_file(const char *dir)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/bare_loop.%ld", dir, (long)getpid());
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    unlink(path);
    return fd;
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    uint64_t wanted, bytes = 0;
    uint32_t sum = 0;
    double began, took, cpu_before;
    int listener, fd, file;
    pid_t child;

    if (argc != 3) {
        fprintf(stderr, "usage: bare_loop DIR BYTES\n");
        return 2;
    }
    wanted = strtoull(argv[2], NULL, 10);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) || listen(listener, 1) ||
        getsockname(listener, (struct sockaddr *)&address, &len))
        die("listen");
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        send_all(&address, wanted);
    fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        die("accept");
    file = open_file(argv[1]);
    cpu_before = cpu_s();
    began = now_s();
    while (fill(fd)) {
        sum ^= crc32c(0, batch, BATCH_BYTES);
        write_all(file, BATCH_BYTES);
        bytes += BATCH_BYTES;
    }
    took = now_s() - began;
    printf("{\"mb_per_s\":%.1f,\"bytes\":%llu,\"seconds\":%.3f,\"cpu_s_per_gb\":%.4f,\"sum\":%u}\n",
           (double)bytes / 1e6 / took, (unsigned long long)bytes, took,
           (cpu_s() - cpu_before) / ((double)bytes / 1e9), sum);
    close(file);
    waitpid(child, NULL, 0);
    return 0;
}
