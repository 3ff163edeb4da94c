/* The reading side of a connection, incoming or outgoing: bytes from a stream in, whole messages out.
 *
 * Bytes are first read into a scratch buffer that connections of a thread share, so an idle connection holds
 * none. A message that is complete there is copied into a buffer of exactly its size. One that is not
 * complete moves into a buffer of its own (partial), which grows with the bytes received (to 72 KiB at first,
 * then at most doubling), never to the length that the peer declared; while much of it is missing the stream
 * is read straight into it.
 *
 * A message's buffer belongs to that message alone, so its receiver may change it in place as long as it
 * shares it with nobody. One thread; internal to net/. */
#ifndef CLYMQ_NET_INPUT_H
#define CLYMQ_NET_INPUT_H

#include "base/buf.h"
#include "io/loop.h"
#include "wire/thrift.h"

enum {
    NET_SCRATCH_BYTES = 64 * 1024, /* of a scratch buffer */
    NET_FIRST_BYTES =
        72 * 1024, /* what a declared length is believed at first: a batch of 64 KiB and its call */
    NET_LARGE_BYTES = 16 * 1024, /* from here on a message counts as large */
    NET_PEEK_BYTES = 4 * 1024,   /* read first where a large message is expected */
};

struct net_input {
    struct buf *partial;     /* the begun message, from its first byte; NULL = none */
    size_t need;             /* looking again makes sense once partial holds so many bytes */
    size_t last_size;        /* of the last message: large ones tend to follow each other */
    size_t most;             /* bytes that one read may take; 0 = as many as there is room for */
    bool frugal;             /* memory is short: begin with 4 KiB, not 64 */
    struct thrift_scan scan; /* of partial */
};

struct net_message {
    struct buf *buf; /* the taker's; len is the message's size */
    struct thrift_extent extent;
};

/* Zero-initialise. Drops what is held. */
void net_input_clear(struct net_input *input);
/* Bytes of memory held. */
static inline size_t net_input_held(const struct net_input *input)
{
    return input->partial ? sizeof(struct buf) + input->partial->cap : 0;
}
/* By how many bytes the next read will make a large message's buffer grow; mostly 0. */
size_t net_input_growth(const struct net_input *input);
/* Reads once: at most scratch_cap bytes into scratch, which ret_span then tells, or straight into the begun
 * message (ret_span is then empty). Returns as io_stream_read, or CLYMQ_ENOMEM. *ret_full: as many bytes came
 * as were asked for, so more may be waiting. Call net_input_take until it answers CLYMQ_EAGAIN before reading
 * again. */
ssize_t net_input_read(struct net_input *input, struct io_stream *stream, uint8_t *scratch,
                       size_t scratch_cap, struct bytes *ret_span, bool *ret_full);
/* The next message out of what was begun and span, whose front is taken off. 0; CLYMQ_EAGAIN: span is used up
 * and more is needed; CLYMQ_EPROTO, CLYMQ_ETOOBIG, CLYMQ_ENOMEM: nothing more can come of this stream (the
 * bytes of the message's start stay where they are). */
int net_input_take(struct net_input *input, struct bytes *span, size_t max_size,
                   struct net_message *ret_message);
/* What can be told of a message from its first bytes, before it is complete (to refuse it politely). 0 with
 * form and message (views into start; args is not meaningful), CLYMQ_EAGAIN: more bytes are needed,
 * CLYMQ_EPROTO. */
int net_input_peek(struct bytes start, struct thrift_form *ret_form, struct thrift_message *ret_message);
/* Whether it is in TTHeader, whatever its payload is: then its sequence id. */
bool net_input_peek_ttheader(struct bytes start, int32_t *ret_sequence);
/* The size that a message's first 4 bytes declare; for an unframed one, which declares none, INT32_MAX. */
size_t net_input_declared(struct bytes start);

#endif
