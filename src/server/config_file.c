/* See config_file.h. Nothing here blocks but the waiting for what a pipe is going to give. */
#include "server/config_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"

enum { LENGTH_MAX = 1 << 20, CHUNK = 4096 };
/* How long a pipe may stay without a writer, and how long its writer may be silent: it may have to ask for a
 * password somewhere first. */
enum { WRITER_WAIT_MS = 2000, SILENCE_MS = 30000 };

static int refuse(struct strbuf *error, const char *path, const char *why)
{
    strbuf_printf(error, "cannot read the config file %s: %s", path, why);
    return CLYMQ_EINVAL;
}

static int refuse_folder(struct strbuf *error, const char *path)
{
    size_t len = strlen(path);

    refuse(error, path, "it is a folder, and a file is wanted, such as ");
    strbuf_printf(error, "%s%sclymq.conf", path, path[len - 1] == '/' ? "" : "/");
    return CLYMQ_EINVAL;
}

/* The next bytes, 0 at the end; or -1, with what is wrong in *ret_why. begun: some were read before. */
static ssize_t read_some(int fd, bool is_pipe, bool begun, char chunk[CHUNK], const char **ret_why)
{
    for (;;) {
        ssize_t got = read(fd, chunk, CHUNK);

        if (got > 0 || (got == 0 && (begun || !is_pipe)))
            return got;
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno != EAGAIN) {
            *ret_why = strerror(errno);
            return -1;
        }
        /* A pipe that has no writer yet, or no longer; or anything whose next bytes are not there yet. */
        struct pollfd event = {.fd = fd, .events = POLLIN};
        int ready = poll(&event, 1, got == 0 ? WRITER_WAIT_MS : SILENCE_MS);
        if (got == 0 && ready >= 0 && !(event.revents & POLLIN))
            *ret_why = "it is a pipe that gave nothing: nobody writes to it, or it was read before";
        else if (got < 0 && ready == 0)
            *ret_why = "nothing came from it for 30 s, and not its end";
        else
            continue;
        return -1;
    }
}

static int read_all(int fd, const char *path, bool is_pipe, struct strbuf *text, struct strbuf *error)
{
    char chunk[CHUNK];
    size_t len = 0;

    for (;;) {
        const char *why = NULL;
        ssize_t got = read_some(fd, is_pipe, len > 0, chunk, &why);

        if (got < 0)
            return refuse(error, path, why);
        if (got == 0)
            return text->failed ? CLYMQ_ENOMEM : 0;
        len += (size_t)got;
        if (len > LENGTH_MAX)
            return refuse(error, path, "it is longer than 1 MiB");
        strbuf_append(text, chunk, (size_t)got);
    }
}

int config_file_read(const char *path, struct strbuf *text, struct strbuf *error)
{
    /* Opening a pipe must not wait for its writer. */
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    struct stat status;
    int result;

    if (fd < 0)
        return refuse(error, path, strerror(errno));
    if (fstat(fd, &status))
        result = refuse(error, path, strerror(errno));
    else if (S_ISDIR(status.st_mode))
        result = refuse_folder(error, path);
    else
        result = read_all(fd, path, S_ISFIFO(status.st_mode), text, error);
    close(fd);
    return result;
}
