/* See log_output.h. */
#include "base/log_output.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

static bool is_writable(int fd, int timeout_ms)
{
    struct pollfd ready = {.fd = fd, .events = POLLOUT};
    int count;

    while ((count = poll(&ready, 1, timeout_ms)) < 0 && errno == EINTR)
        ;
    return count > 0;
}

void log_output_await(int fd, int timeout_ms)
{
    (void)is_writable(fd, timeout_ms);
}

/* A pipe that polls writable has room for PIPE_BUF bytes, unless another process has taken it since: where
 * the kernel can (Linux 6.4 on), it is told not to wait then. */
static ssize_t pipe_write(int fd, const char *text, size_t len)
{
    const struct iovec part = {(char *)text, len};

    if (!is_writable(fd, 0)) {
        errno = EAGAIN;
        return -1;
    }
    ssize_t written = pwritev2(fd, &part, 1, -1, RWF_NOWAIT);
    return written < 0 && (errno == EOPNOTSUPP || errno == ENOSYS) ? write(fd, text, len) : written;
}

/* A terminal that polls writable may have room for one byte, and would wait for the others. Opened again it
 * has flags of its own. */
static ssize_t terminal_write(int fd, const char *text, size_t len)
{
    char path[32];

    if (!is_writable(fd, 0)) {
        errno = EAGAIN;
        return -1;
    }
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    int own = open(path, O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (own < 0) /* another user's: the best that can be done */
        return write(fd, text, len);
    ssize_t written = write(own, text, len);
    int error = errno;
    close(own);
    errno = error;
    return written;
}

static ssize_t write_at_once(int fd, const struct stat *what, const char *text, size_t len)
{
    if (S_ISSOCK(what->st_mode))
        return send(fd, text, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (S_ISFIFO(what->st_mode))
        return pipe_write(fd, text, len);
    if (S_ISCHR(what->st_mode) && isatty(fd))
        return terminal_write(fd, text, len);
    return write(fd, text, len);
}

size_t log_output_write(int fd, const char *text, size_t len)
{
    struct stat what;
    size_t done = 0;

    if (fstat(fd, &what))
        return 0;
    while (done < len) {
        ssize_t written = write_at_once(fd, &what, text + done, len - done);
        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            break;
        done += (size_t)written;
    }
    return done;
}
