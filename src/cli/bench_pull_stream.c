/* A small state machine: head of the answer, then batches, then the tail. See bench_pull_stream.h. */
#include "cli/bench_pull_stream.h"

#include <stdio.h>

#include "base/error.h"
#include "wire/byte_order.h"
#include "wire/rpc.h"

enum {
    TAIL = 2, /* the two stops behind the batches */
    ERROR_SENTENCE_MAX = 200,
};

static int fail(struct pull_stream *stream, int error, struct bytes sentence)
{
    int len = (int)(sentence.len < ERROR_SENTENCE_MAX ? sentence.len : ERROR_SENTENCE_MAX);
    snprintf(stream->sentence, sizeof(stream->sentence), "%.*s", len,
             sentence.len ? (const char *)sentence.ptr : "");
    return error;
}

static int malformed(struct pull_stream *stream)
{
    return fail(stream, CLYMQ_EPROTO, BYTES_LITERAL("an answer to pullBatch cannot be read"));
}

/* Bytes from the frame's length up to the batches, in an answer without error. */
static size_t head_size(void)
{
    static size_t size;
    if (size == 0) {
        static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};
        const struct rpc_method *method = &rpc_methods[RPC_METHOD_PULL_BATCH];
        struct rpc_pull_batch_response response = {.err = BYTES_LITERAL(""), .batches = {NULL, 1}};
        struct thrift_encoded encoded;
        if (thrift_encode(&framed, THRIFT_REPLY, method->name, 1, 0, method->response, &response, &encoded))
            return 0;
        size = encoded.head_len;
        buf_unref(encoded.buf);
    }
    return size;
}

/* The answer's message, whole. */
static int decode(struct pull_stream *stream, struct bytes body)
{
    struct thrift_message message;
    struct rpc_pull_batch_response response;
    struct thrift_exception_fields exception;
    if (thrift_read_message(THRIFT_BINARY, body, &message))
        return malformed(stream);
    if (message.kind == THRIFT_EXCEPTION) {
        if (thrift_decode_exception(THRIFT_BINARY, message.args, &exception))
            return malformed(stream);
        return fail(stream, CLYMQ_EUNSUPPORTED, exception.text);
    }
    if (thrift_decode(THRIFT_BINARY, message.args, 0, rpc_methods[RPC_METHOD_PULL_BATCH].response, &response))
        return malformed(stream);
    if (response.error > 0)
        return malformed(stream); /* errors are negative */
    return response.error ? fail(stream, response.error, response.err) : 0;
}

/* An answer without error ends in the batches: what stands before them is decoded as if there were none. */
static bool begin_batches(struct pull_stream *stream, size_t frame)
{
    uint8_t body[PULL_STREAM_HEAD];
    size_t head = head_size(), before = head - 4; /* before the batches in the frame */
    if (head == 0 || stream->head_len < head || frame < before + TAIL)
        return false;
    size_t len = load_be32(stream->head + head - 4);
    memcpy(body, stream->head + 4, before - 4);
    memset(body + before - 4, 0, 4 + TAIL);
    if (len != frame - before - TAIL || decode(stream, bytes_of(body, before + TAIL)) != 0)
        return false;
    stream->left = len;
    stream->frame_left = len + TAIL;
    stream->skip = 0;
    stream->header_len = 0;
    return true;
}

static size_t take(struct bytes *data, size_t len, uint8_t *copy)
{
    if (len > data->len)
        len = data->len;
    if (copy && len)
        memcpy(copy, data->ptr, len);
    data->ptr += len;
    data->len -= len;
    return len;
}

static bool gather_head(struct pull_stream *stream, struct bytes *data, size_t wanted)
{
    if (wanted > sizeof(stream->head))
        wanted = sizeof(stream->head);
    if (wanted > stream->head_len)
        stream->head_len += take(data, wanted - stream->head_len, stream->head + stream->head_len);
    return stream->head_len >= wanted;
}

/* PULL_BATCH where batches follow; nothing behind the head is taken then. */
static int read_head(struct pull_stream *stream, struct bytes *data)
{
    if (!gather_head(stream, data, 4))
        return PULL_MORE;
    size_t frame = load_be32(stream->head), head = head_size();
    if (!stream->failed) {
        if (!gather_head(stream, data, frame + 4 < head ? frame + 4 : head))
            return PULL_MORE;
        if (begin_batches(stream, frame))
            return PULL_BATCH;
        stream->failed = true;
    }
    /* It tells an error; its sentence may still be to come. */
    if (!gather_head(stream, data, frame + 4))
        return PULL_MORE;
    int error = stream->head_len < frame + 4 ? 0 : decode(stream, bytes_of(stream->head + 4, frame));
    return error ? error : malformed(stream);
}

static int next_header(struct pull_stream *stream, struct bytes *data, struct batch_header *ret_header)
{
    size_t wanted = sizeof(stream->header) - stream->header_len;
    if (stream->left < BATCH_HEADER_SIZE)
        return malformed(stream);
    size_t took = take(data, wanted, stream->header + stream->header_len);
    stream->header_len += took;
    if (took < wanted)
        return PULL_MORE;
    int error = batch_read_header(bytes_of(stream->header, sizeof(stream->header)), INT32_MAX, ret_header);
    if ((error && error != CLYMQ_EAGAIN) ||
        ret_header->size - BATCH_HEADER_SIZE > stream->left - BATCH_HEADER_SIZE)
        return malformed(stream);
    stream->left -= BATCH_HEADER_SIZE;
    stream->frame_left -= BATCH_HEADER_SIZE;
    stream->skip = ret_header->size - BATCH_HEADER_SIZE;
    stream->header_len = 0;
    return PULL_BATCH;
}

int pull_stream_next(struct pull_stream *stream, struct bytes *data, struct batch_header *ret_header)
{
    if (!stream->in_batches) {
        int event = read_head(stream, data);
        if (event != PULL_BATCH)
            return event;
        stream->in_batches = true;
    }
    if (stream->skip) {
        size_t took = take(data, stream->skip, NULL);
        stream->skip -= took;
        stream->left -= took;
        stream->frame_left -= took;
    }
    if (stream->skip == 0 && stream->left > 0 && data->len > 0)
        return next_header(stream, data, ret_header);
    if (stream->left == 0) {
        stream->frame_left -= take(data, stream->frame_left, NULL);
        if (stream->frame_left == 0) {
            stream->in_batches = false;
            stream->head_len = 0;
            return PULL_ANSWERED;
        }
    }
    return PULL_MORE;
}
