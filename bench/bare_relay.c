/* The least that a broker can do for a message that must be durable before anybody sees it: one thread
 * receives what has come, writes it, syncs it and sends it on. What bench/run holds the end-to-end latency
 * against: it has the same threads to wake, one after the other, at each end, and no protocol, no second
 * partition, nothing that goes on beside the disk.
 *
 * Messages are due at a steady rate, each timed from then until the receiver has it, whatever became of those
 * before. The relay is a process of its own; sender and receiver are threads of this one, so one clock.
 *
 * usage: bare_relay DIR MESSAGES BYTES RATE
 *
 * Prints one JSON object. The file has no name: nothing stays behind. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGES_MAX = 1 << 24, BYTES_MAX = 1 << 20, ROOM = 1 << 20 };

struct arrivals {
    int fd;
    size_t count, bytes; /* messages to come, bytes of each */
    int64_t *at_ns;      /* of each */
};

static void die(const char *what)
{
    fprintf(stderr, "bare_relay: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void write_all(int fd, const uint8_t *data, size_t len)
{
    for (size_t done = 0; done < len;) {
        ssize_t wrote = write(fd, data + done, len - done);

        if (wrote < 0 && errno != EINTR)
            die("write");
        if (wrote > 0)
            done += (size_t)wrote;
    }
}

/* What has come, at least a byte; 0: the other side has ended. */
static size_t receive(int fd, uint8_t *data, size_t cap)
{
    ssize_t got;

    do
        got = read(fd, data, cap);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        die("read");
    return (size_t)got;
}

static int open_file(const char *dir)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/bare_relay.%ld", dir, (long)getpid());
    fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        die(path);
    unlink(path);
    return fd;
}

static int open_connection(const struct sockaddr_in *address)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    if (fd < 0 || connect(fd, (const struct sockaddr *)address, sizeof(*address)) ||
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
        die("connect");
    return fd;
}

static int accept_connection(int listener)
{
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC), on = 1;

    if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)))
        die("accept");
    return fd;
}

/* The child's life. */
static void relay(int listener, int file)
{
    static uint8_t data[ROOM];
    int from = accept_connection(listener), to = accept_connection(listener);
    size_t len;

    while ((len = receive(from, data, sizeof(data))) > 0) {
        write_all(file, data, len);
        if (fdatasync(file))
            die("fdatasync");
        write_all(to, data, len);
    }
    _exit(0);
}

static void *take(void *ctx)
{
    static uint8_t data[ROOM];
    struct arrivals *arrivals = ctx;
    size_t bytes = 0, count = 0, len;

    while (count < arrivals->count && (len = receive(arrivals->fd, data, sizeof(data))) > 0) {
        int64_t now = now_ns();

        bytes += len;
        for (; count < arrivals->count && (count + 1) * arrivals->bytes <= bytes; count++)
            arrivals->at_ns[count] = now;
    }
    arrivals->count = count;
    return NULL;
}

static int compare(const void *a, const void *b)
{
    int64_t left = *(const int64_t *)a, right = *(const int64_t *)b;

    return (left > right) - (left < right);
}

static double quantile_ms(const int64_t *sorted, size_t count, double q)
{
    return (double)sorted[(size_t)(q * (double)(count - 1))] / 1e6;
}

static double cpu_s(int who)
{
    struct rusage usage;

    getrusage(who, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

/* Message i is due at began_ns + i * 1e9 / rate. */
static void send_all(int fd, size_t count, size_t bytes, double rate, int64_t began_ns)
{
    static uint8_t message[BYTES_MAX];

    prctl(PR_SET_TIMERSLACK, 1);
    for (size_t i = 0; i < sizeof(message); i++)
        message[i] = (uint8_t)(i * 2654435761U >> 13);
    for (size_t i = 0; i < count; i++) {
        int64_t due_ns = began_ns + (int64_t)((double)i * 1e9 / rate);
        struct timespec due = {due_ns / 1000000000, due_ns % 1000000000};

        while (now_ns() < due_ns)
            clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
        write_all(fd, message, bytes);
    }
}

int main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    size_t messages = argc > 2 ? strtoull(argv[2], NULL, 10) : 0;
    size_t bytes = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    double rate = argc > 4 ? strtod(argv[4], NULL) : 0;
    struct arrivals arrivals = {.count = messages, .bytes = bytes};
    int64_t began_ns;
    pthread_t taker;
    int listener, to_relay, file;
    pid_t child;

    if (argc != 5 || messages < 1 || messages > MESSAGES_MAX || bytes < 1 || bytes > BYTES_MAX || rate <= 0) {
        fprintf(stderr, "usage: bare_relay DIR MESSAGES BYTES RATE     (at most 16 Mi messages of 1 MiB)\n");
        return 2;
    }
    arrivals.at_ns = calloc(messages, sizeof(*arrivals.at_ns));
    if (!arrivals.at_ns)
        die("memory");
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (listener < 0 || bind(listener, (struct sockaddr *)&address, len) || listen(listener, 2) ||
        getsockname(listener, (struct sockaddr *)&address, &len))
        die("listen");
    file = open_file(argv[1]);
    signal(SIGPIPE, SIG_IGN);
    child = fork();
    if (child < 0)
        die("fork");
    if (child == 0)
        relay(listener, file);
    to_relay = open_connection(&address);
    arrivals.fd = open_connection(&address);
    if (pthread_create(&taker, NULL, take, &arrivals))
        die("thread");
    began_ns = now_ns() + 1000000;
    send_all(to_relay, messages, bytes, rate, began_ns);
    pthread_join(taker, NULL);
    close(to_relay);
    waitpid(child, NULL, 0);
    if (arrivals.count < messages) {
        fprintf(stderr, "bare_relay: only %zu of %zu messages came through\n", arrivals.count, messages);
        return 1;
    }
    for (size_t i = 0; i < messages; i++)
        arrivals.at_ns[i] -= began_ns + (int64_t)((double)i * 1e9 / rate);
    qsort(arrivals.at_ns, messages, sizeof(*arrivals.at_ns), compare);
    printf("{\"messages\":%zu,\"cpu_s\":%.3f,\"latency_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"max\":%.3f}}\n",
           messages, cpu_s(RUSAGE_SELF) + cpu_s(RUSAGE_CHILDREN), quantile_ms(arrivals.at_ns, messages, 0.5),
           quantile_ms(arrivals.at_ns, messages, 0.99), quantile_ms(arrivals.at_ns, messages, 1));
    free(arrivals.at_ns);
    return 0;
}
