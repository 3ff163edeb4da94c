/* Answers to pullBatch as they stream in: the batches' headers are read, all else is counted and forgotten,
 * so that receiving costs little beside the kernel's copy. One per connection; zeroed at first. */
#ifndef CLYMQ_CLI_BENCH_PULL_STREAM_H
#define CLYMQ_CLI_BENCH_PULL_STREAM_H

#include <stdbool.h>

#include "base/buf.h"
#include "wire/batch.h"

enum { PULL_STREAM_HEAD = 1024 };

struct pull_stream {
    uint8_t head[PULL_STREAM_HEAD]; /* of the answer under way, its frame's length first */
    size_t head_len;
    bool in_batches, failed;
    size_t frame_left; /* bytes of the answer still to come, once in the batches */
    size_t left;       /* bytes of batches still to come */
    size_t skip;       /* of them up to the next header */
    uint8_t header[BATCH_HEADER_SIZE];
    size_t header_len;
    char sentence[256]; /* why it failed */
};

enum pull_event { PULL_MORE, PULL_BATCH, PULL_ANSWERED };
/* Takes bytes off the front of *data. PULL_BATCH: *ret_header is the next one's. PULL_ANSWERED: an answer's
 * end. PULL_MORE: all bytes are taken. Negative: CLYMQ_EPROTO, or the server's error; sentence says more. */
int pull_stream_next(struct pull_stream *stream, struct bytes *data, struct batch_header *ret_header);

#endif
