/* Writing a line of the log to a descriptor whose reader may have stopped: a pipe, a socket, a terminal.
 *
 * The descriptor's flags stay as they are, since other processes share it: O_NONBLOCK set here would fail a
 * shell's or a neighbour's writes. Plain files are written to as always. Any thread; the caller sees to it
 * that there is one at a time. */
#ifndef CLYMQ_BASE_LOG_OUTPUT_H
#define CLYMQ_BASE_LOG_OUTPUT_H

#include <limits.h>
#include <stddef.h>

/* What a pipe takes whole or not at all. */
enum { LOG_OUTPUT_MAX = PIPE_BUF < 4096 ? PIPE_BUF : 4096 };

/* Writes up to LOG_OUTPUT_MAX bytes without waiting for a reader, and answers how many were written: all,
 * none, or, where a terminal, a network connection or a disk had room for no more, part of them. */
size_t log_output_write(int fd, const char *text, size_t len);
/* Waits for up to timeout_ms until something can be written (or never will be). */
void log_output_await(int fd, int timeout_ms);

#endif
