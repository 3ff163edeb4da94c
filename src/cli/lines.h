/* Reads a descriptor line by line, or as a whole, in memory that grows with the longest line and no further
 * than a limit. Bytes are bytes: a line may hold NULs. One thread. */
#ifndef CLYMQ_CLI_LINES_H
#define CLYMQ_CLI_LINES_H

#include "base/buf.h"

struct lines {
    int fd;
    size_t max_len; /* of a line */
    uint8_t *data;
    size_t cap, start, end;
    size_t searched; /* bytes from start that hold no newline */
    bool at_end;
    int os_error; /* errno of a failed read */
};

void lines_init(struct lines *lines, int fd, size_t max_len);
/* The next line without its newline; valid until the next call. 0; CLYMQ_ENOENT at the end; CLYMQ_EAGAIN when
 * a signal came; CLYMQ_ETOOBIG; CLYMQ_EIO (os_error); CLYMQ_ENOMEM. The last line may lack its newline. */
int lines_next(struct lines *lines, struct bytes *ret_line);
/* Everything to the end. */
int lines_rest(struct lines *lines, struct bytes *ret_data);
void lines_free(struct lines *lines);

#endif
