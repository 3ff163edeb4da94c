/* net_input: the same messages whether they arrive at once or in pieces, memory bounded by what has arrived.
 * The first two bytes say how large the pieces are and how much is read at once. */
#include "base/error.h"
#include "fuzz.h"
#include "net/input.h"

enum { MAX_MESSAGE = 1 << 20 };

struct pieces {
    struct io_stream base;
    struct bytes rest;
    size_t piece;
};

static ssize_t read_piece(struct io_stream *base, void *data, size_t cap)
{
    struct pieces *pieces = (struct pieces *)base;
    size_t len = pieces->rest.len < cap ? pieces->rest.len : cap;
    len = len < pieces->piece ? len : pieces->piece;
    if (len == 0)
        return CLYMQ_EAGAIN;
    memcpy(data, pieces->rest.ptr, len);
    pieces->rest = bytes_of(pieces->rest.ptr + len, pieces->rest.len - len);
    return (ssize_t)len;
}

/* What came out: how many bytes of messages, a sum over them, and how it ended. */
struct outcome {
    size_t count, bytes;
    uint64_t sum;
    int error;
};

static void run(struct bytes data, size_t piece, size_t cap, struct outcome *outcome)
{
    static const struct io_loop_ops ops = {.stream_read = read_piece};
    static uint8_t scratch[NET_SCRATCH_BYTES];
    struct pieces pieces = {.base = {&ops}, .rest = data, .piece = piece};
    struct net_input input = {.frugal = cap < 100};
    *outcome = (struct outcome){.error = CLYMQ_EAGAIN};
    while (pieces.rest.len > 0 && outcome->error == CLYMQ_EAGAIN) {
        struct bytes span;
        bool full;
        FUZZ_CHECK(net_input_read(&input, &pieces.base, scratch, cap, &span, &full) > 0);
        struct net_message message;
        while ((outcome->error = net_input_take(&input, &span, MAX_MESSAGE, &message)) == 0) {
            FUZZ_CHECK(message.buf->len == message.extent.size && buf_exclusive(message.buf));
            FUZZ_CHECK(message.extent.body + message.extent.body_len <= message.buf->len);
            outcome->count++;
            for (size_t i = 0; i < message.buf->len; i++)
                outcome->sum = outcome->sum * 31 + message.buf->data[i];
            outcome->bytes += message.buf->len;
            buf_unref(message.buf);
        }
        FUZZ_CHECK(net_input_held(&input) <= NET_FIRST_BYTES + 2 * data.len + 8192);
    }
    net_input_clear(&input);
}

/* What is told of the beginning of a message: the same as of the whole one, or nothing yet. */
static void peek(struct bytes whole)
{
    struct thrift_scan scan = {0};
    struct thrift_extent extent;
    struct thrift_message message, early;
    struct thrift_form form;
    size_t need;
    bool found = thrift_find_message(&scan, whole, MAX_MESSAGE, &extent, &need) == 0 &&
                 thrift_read_message(extent.form.protocol, bytes_of(whole.ptr + extent.body, extent.body_len),
                                     &message) == 0;
    for (size_t len = 0; len <= whole.len && len < 300; len++) {
        struct bytes start = fuzz_copy(whole.ptr, len);
        int error = net_input_peek(start, &form, &early);
        FUZZ_CHECK(error == 0 || error == CLYMQ_EAGAIN || error == CLYMQ_EPROTO);
        if (error == 0 && found && len <= extent.size) {
            FUZZ_CHECK(form.protocol == extent.form.protocol && form.envelope == extent.form.envelope);
            FUZZ_CHECK(early.sequence == message.sequence && bytes_equal(early.method, message.method));
        }
        FUZZ_CHECK(net_input_declared(start) <= (size_t)INT32_MAX + 4);
        fuzz_free(start);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    size_t piece = 1 + data[0], cap = 1 + (size_t)data[1] * 16;
    struct bytes whole = fuzz_copy(data + 2, size - 2);
    struct outcome once, many;
    fuzz_begin();
    run(whole, SIZE_MAX, NET_SCRATCH_BYTES, &once);
    run(whole, piece, cap, &many);
    FUZZ_CHECK(once.count == many.count && once.bytes == many.bytes && once.sum == many.sum);
    FUZZ_CHECK(once.error == many.error);
    fuzz_check_memory(2 * NET_FIRST_BYTES + 4 * whole.len + 16384);
    peek(whole);
    fuzz_check_time(whole.len);
    fuzz_free(whole);
    return 0;
}
