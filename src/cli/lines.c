/* Lines from a descriptor. */
#include "cli/lines.h"

#include <errno.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

enum { FIRST_CAPACITY = 256 << 10 };

void lines_init(struct lines *lines, int fd, size_t max_len)
{
    *lines = (struct lines){.fd = fd, .max_len = max_len};
}

/* Makes room behind what is there, then reads once. */
static int lines_read(struct lines *lines)
{
    size_t have = lines->end - lines->start;
    if (lines->start > 0 && (have == 0 || lines->end == lines->cap)) {
        memmove(lines->data, lines->data + lines->start, have);
        lines->start = 0;
        lines->end = have;
    }
    if (lines->end == lines->cap) {
        if (have > lines->max_len)
            return CLYMQ_ETOOBIG;
        size_t cap = lines->cap ? lines->cap * 2 : FIRST_CAPACITY;
        uint8_t *grown = mem_realloc(lines->data, cap);
        if (!grown)
            return CLYMQ_ENOMEM;
        lines->data = grown;
        lines->cap = cap;
    }
    ssize_t got = read(lines->fd, lines->data + lines->end, lines->cap - lines->end);
    if (got < 0) {
        lines->os_error = errno;
        return errno == EINTR || errno == EAGAIN ? CLYMQ_EAGAIN : CLYMQ_EIO;
    }
    lines->at_end = got == 0;
    lines->end += (size_t)got;
    return 0;
}

static bool lines_take(struct lines *lines, struct bytes *ret_line)
{
    size_t have = lines->end - lines->start;
    if (have == 0)
        return false;
    const uint8_t *line = lines->data + lines->start;
    const uint8_t *newline = memchr(line + lines->searched, '\n', have - lines->searched);
    if (newline) {
        *ret_line = bytes_of(line, (size_t)(newline - line));
        lines->start += ret_line->len + 1;
    } else if (lines->at_end) {
        *ret_line = bytes_of(line, have);
        lines->start = lines->end;
    } else {
        lines->searched = have;
        return false;
    }
    lines->searched = 0;
    return true;
}

int lines_next(struct lines *lines, struct bytes *ret_line)
{
    while (!lines_take(lines, ret_line)) {
        if (lines->at_end)
            return CLYMQ_ENOENT;
        int error = lines_read(lines);
        if (error)
            return error;
    }
    return ret_line->len > lines->max_len ? CLYMQ_ETOOBIG : 0;
}

int lines_rest(struct lines *lines, struct bytes *ret_data)
{
    while (!lines->at_end) {
        int error = lines_read(lines);
        if (error)
            return error;
    }
    if (lines->end - lines->start > lines->max_len)
        return CLYMQ_ETOOBIG;
    static const uint8_t nothing[1];
    *ret_data = bytes_of(lines->data ? lines->data + lines->start : nothing, lines->end - lines->start);
    lines->start = lines->end;
    return 0;
}

void lines_free(struct lines *lines)
{
    mem_free(lines->data);
    lines->data = NULL;
}
