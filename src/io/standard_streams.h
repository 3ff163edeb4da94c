/* Descriptors 0, 1 and 2. A program may be started with some of them closed; the next file or socket that it
 * opens would then get that number, and what is meant for standard output or error would go into it. */
#ifndef CLYMQ_IO_STANDARD_STREAMS_H
#define CLYMQ_IO_STANDARD_STREAMS_H

/* Fills the closed ones among them with something that can be neither read nor written, so that using it
 * still fails with EBADF. Before anything is opened. 0 or a negative error. */
int io_fill_standard_streams(void);

#endif
