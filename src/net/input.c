/* Reading messages off a stream: see input.h. What is worth knowing: the end of an unframed message is only
 * known once it is there, so more may be appended to the begun message than belongs to it; the excess is
 * given back to the span, which it came from in the same call. */
#include "net/input.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"

enum {
    FRUGAL_BYTES = 4 * 1024, /* instead of NET_FIRST_BYTES, where memory is short */
    SMALL_BYTES = 512,       /* least size of a begun message's buffer */
    TAIL_BYTES = 64,         /* an unframed message goes on a little after its last long string */
    DIRECT_BYTES = 4 * 1024, /* less than this missing: read into the scratch, with what follows */
    HEADER_BYTES = 14,       /* of TTHeader, up to its variable part */
};

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

static size_t max_size_of(size_t a, size_t b)
{
    return a > b ? a : b;
}

static size_t at_most(const struct net_input *input, size_t cap)
{
    return input->most && input->most < cap ? input->most : cap;
}

static size_t first_bytes(const struct net_input *input)
{
    return input->frugal ? FRUGAL_BYTES : NET_FIRST_BYTES;
}

/* The room that a begun message gets that has `have` bytes and needs `need`. */
static size_t room_for(const struct net_input *input, size_t have, size_t need)
{
    size_t wanted = need > SIZE_MAX - TAIL_BYTES ? need : need + TAIL_BYTES;
    return max_size_of(min_size(wanted, max_size_of(first_bytes(input), 2 * have)), SMALL_BYTES);
}

/* Changes the capacity of a buffer that nobody else holds. */
static int resize(struct buf **buf, size_t cap)
{
    assert(buf_exclusive(*buf) && cap >= (*buf)->len);
    struct buf *moved = mem_realloc(*buf, sizeof(**buf) + cap);
    if (!moved)
        return CLYMQ_ENOMEM;
    moved->cap = cap;
    *buf = moved;
    return 0;
}

void net_input_clear(struct net_input *input)
{
    buf_unref(input->partial);
    input->partial = NULL;
}

static bool reads_directly(const struct net_input *input)
{
    return input->partial && input->need >= input->partial->len + DIRECT_BYTES;
}

size_t net_input_growth(const struct net_input *input)
{
    const struct buf *partial = input->partial;
    if (!reads_directly(input) || partial->cap < first_bytes(input) || partial->len < partial->cap)
        return 0;
    return room_for(input, partial->len, input->need) - partial->cap;
}

ssize_t net_input_read(struct net_input *input, struct io_stream *stream, uint8_t *scratch,
                       size_t scratch_cap, struct bytes *ret_span, bool *ret_full)
{
    if (!reads_directly(input)) {
        /* Where large messages follow each other, their own buffers shall get most of them. */
        size_t size = input->partial ? input->partial->len : input->last_size;
        size_t cap =
            at_most(input, size >= NET_LARGE_BYTES ? min_size(scratch_cap, NET_PEEK_BYTES) : scratch_cap);
        ssize_t count = io_stream_read(stream, scratch, cap);
        *ret_span = bytes_of(scratch, count > 0 ? (size_t)count : 0);
        *ret_full = count > 0 && (size_t)count == cap;
        return count;
    }
    struct buf *partial = input->partial;
    if (partial->len == partial->cap) {
        int error = resize(&input->partial,
                           max_size_of(room_for(input, partial->len, input->need), partial->len + 1));
        if (error)
            return error;
        partial = input->partial;
    }
    /* Not beyond need: what follows belongs to the next message. */
    size_t cap = at_most(input, min_size(partial->cap, input->need) - partial->len);
    ssize_t count = io_stream_read(stream, partial->data + partial->len, cap);
    if (count > 0)
        partial->len += (size_t)count;
    *ret_span = bytes_of(scratch, 0);
    *ret_full = count > 0 && (size_t)count == cap;
    return count;
}

static int take_whole(struct net_input *input, struct bytes *span, size_t max_size,
                      struct net_message *ret_message)
{
    struct thrift_extent extent;
    size_t need = 0;
    thrift_scan_reset(&input->scan);
    int error = thrift_find_message(&input->scan, *span, max_size, &extent, &need);
    if (error == CLYMQ_EAGAIN) {
        need = max_size_of(need, span->len + 1);
        struct buf *partial = buf_new(max_size_of(room_for(input, span->len, need), span->len));
        if (!partial)
            return CLYMQ_ENOMEM;
        memcpy(partial->data, span->ptr, span->len);
        partial->len = span->len;
        *span = bytes_of(span->ptr + span->len, 0);
        input->partial = partial;
        input->need = need;
        return CLYMQ_EAGAIN;
    }
    if (error)
        return error;
    assert(extent.size > 0 && extent.size <= span->len && extent.body + extent.body_len <= extent.size);
    struct buf *buf = buf_new(extent.size);
    if (!buf)
        return CLYMQ_ENOMEM;
    memcpy(buf->data, span->ptr, extent.size);
    buf->len = extent.size;
    *span = bytes_of(span->ptr + extent.size, span->len - extent.size);
    input->last_size = extent.size;
    *ret_message = (struct net_message){buf, extent};
    return 0;
}

/* Moves bytes from the span to the begun message: those it needs, or a little more where its end is not
 * known. */
static int append(struct net_input *input, struct bytes *span)
{
    struct buf *partial = input->partial;
    size_t chunk = min_size(span->len, max_size_of(input->need - partial->len, DIRECT_BYTES));
    if (chunk > partial->cap - partial->len) {
        int error = resize(&input->partial,
                           max_size_of(partial->len + chunk, room_for(input, partial->len, input->need)));
        if (error)
            return error;
        partial = input->partial;
    }
    memcpy(partial->data + partial->len, span->ptr, chunk);
    partial->len += chunk;
    *span = bytes_of(span->ptr + chunk, span->len - chunk);
    return 0;
}

static void finish(struct net_input *input, struct bytes *span, const struct thrift_extent *extent,
                   struct net_message *ret_message)
{
    struct buf *buf = input->partial;
    size_t excess = buf->len - extent->size;
    *span = bytes_of(span->ptr - excess, span->len + excess);
    buf->len = extent->size;
    size_t waste = buf->cap - buf->len;
    if (waste > DIRECT_BYTES && waste > buf->len / 8)
        (void)resize(&buf, buf->len); /* without memory the waste stays */
    input->partial = NULL;
    input->last_size = extent->size;
    *ret_message = (struct net_message){buf, *extent};
}

int net_input_take(struct net_input *input, struct bytes *span, size_t max_size,
                   struct net_message *ret_message)
{
    if (!input->partial)
        return span->len ? take_whole(input, span, max_size, ret_message) : CLYMQ_EAGAIN;
    for (;;) {
        if (input->partial->len < input->need) {
            if (span->len == 0)
                return CLYMQ_EAGAIN;
            int error = append(input, span);
            if (error)
                return error;
            if (input->partial->len < input->need)
                return CLYMQ_EAGAIN;
        }
        struct thrift_extent extent;
        size_t need = 0, have = input->partial->len;
        int error =
            thrift_find_message(&input->scan, bytes_of(input->partial->data, have), max_size, &extent, &need);
        if (error == 0) {
            assert(extent.size > 0 && extent.size <= have && extent.body + extent.body_len <= extent.size);
            finish(input, span, &extent, ret_message);
            return 0;
        }
        if (error != CLYMQ_EAGAIN)
            return error;
        input->need = max_size_of(need, have + 1);
    }
}

static bool is_ttheader(struct bytes start)
{
    return start.len >= 8 && start.ptr[0] < 0x80 && start.ptr[4] == 0x10 && start.ptr[5] == 0x00;
}

static int32_t ttheader_sequence(struct bytes start)
{
    return (int32_t)((uint32_t)start.ptr[8] << 24 | (uint32_t)start.ptr[9] << 16 |
                     (uint32_t)start.ptr[10] << 8 | start.ptr[11]);
}

bool net_input_peek_ttheader(struct bytes start, int32_t *ret_sequence)
{
    if (!is_ttheader(start) || start.len < HEADER_BYTES)
        return false;
    *ret_sequence = ttheader_sequence(start);
    return true;
}

int net_input_peek(struct bytes start, struct thrift_form *ret_form, struct thrift_message *ret_message)
{
    if (start.len < 8)
        return CLYMQ_EAGAIN;
    struct thrift_form form = {0};
    struct bytes body = start;
    if (start.ptr[0] == 0x80 || start.ptr[0] == 0x82) {
        form.envelope = THRIFT_UNFRAMED;
    } else if (start.ptr[4] == 0x80 || start.ptr[4] == 0x82) {
        form.envelope = THRIFT_FRAMED;
        body = bytes_of(start.ptr + 4, start.len - 4);
    } else if (is_ttheader(start)) {
        /* CloudWeGo, "TTHeader": length 4, magic 2, flags 2, sequence 4, header size in words 2, header,
         * payload. */
        if (start.len < HEADER_BYTES)
            return CLYMQ_EAGAIN;
        size_t header = HEADER_BYTES + 4 * (size_t)(start.ptr[12] << 8 | start.ptr[13]);
        if (start.len < header + 8)
            return CLYMQ_EAGAIN;
        form.envelope = THRIFT_TTHEADER;
        form.ttheader_sequence = ttheader_sequence(start);
        body = bytes_of(start.ptr + header, start.len - header);
        if (body.ptr[0] != 0x80 && body.ptr[0] != 0x82) {
            form.envelope = THRIFT_TTHEADER_FRAMED;
            body = bytes_of(body.ptr + 4, body.len - 4);
        }
    } else {
        return CLYMQ_EPROTO;
    }
    form.protocol = body.ptr[0] == 0x82 ? THRIFT_COMPACT : THRIFT_BINARY;
    if (body.ptr[0] != 0x80 && body.ptr[0] != 0x82)
        return CLYMQ_EPROTO;
    struct thrift_message message;
    /* A header cut short reads as malformed; the caller bounds how long it waits for the rest. */
    if (thrift_read_message(form.protocol, body, &message))
        return CLYMQ_EAGAIN;
    *ret_form = form;
    *ret_message = message;
    return 0;
}

size_t net_input_declared(struct bytes start)
{
    if (start.len < 4 || start.ptr[0] >= 0x80)
        return INT32_MAX;
    return 4 + ((size_t)start.ptr[0] << 24 | (size_t)start.ptr[1] << 16 | (size_t)start.ptr[2] << 8 |
                start.ptr[3]);
}
