/* Queued answers and how they leave: in the order of the calls, many small ones in one write, memory by
 * reference, and ranges of files without copying. Small pieces are put together in a buffer of the part's, so
 * that a thousand answers of 40 bytes are one part of one writev and not a thousand. */
#include <assert.h>

#include "base/error.h"
#include "net/conn.h"

enum {
    PARTS_MAX = 64,
    GATHERED_BYTES = 1024,         /* pieces up to this size are copied together */
    SMALL_RANGE_BYTES = 16 * 1024, /* of a file: read, rather than sent from there */
    ROUND_BYTES = 4 * 1024 * 1024, /* per connection and round, so that others get their turn */
    ROUND_LEAST = 64 * 1024,       /* likewise, where many have much to get */
};

void net_payload_drop(struct net_payload *payload)
{
    void (*release)(void *ctx) = payload->release;
    void *ctx = payload->ctx;
    slice_unref(&payload->slice);
    *payload = (struct net_payload){0};
    if (release)
        release(ctx);
}

size_t net_output_cost(const struct net_output *output)
{
    return sizeof(struct buf) + output->encoded.buf->cap + output->payload.slice.len;
}

/* The pieces of one writev, and whether a file's range comes after them. */
struct batch {
    struct iovec parts[PARTS_MAX];
    int count;
    size_t bytes, gathered;
    struct net_output *file; /* its range is next */
};

/* Where bytes that are put together go next; NULL where len bytes have no room. */
static uint8_t *gather_place(struct net_part *part, const struct batch *batch, size_t len)
{
    return len <= NET_GATHER_BYTES - batch->gathered ? part->gather + batch->gathered : NULL;
}

/* Adds bytes: as a part of their own, or to the last one where they lie behind it. false: no part is left. */
static bool batch_add_part(struct batch *batch, const uint8_t *data, size_t len)
{
    struct iovec *last = batch->count ? &batch->parts[batch->count - 1] : NULL;
    if (last && (uint8_t *)last->iov_base + last->iov_len == data)
        last->iov_len += len;
    else if (batch->count < PARTS_MAX)
        batch->parts[batch->count++] = (struct iovec){(void *)data, len};
    else
        return false;
    batch->bytes += len;
    return true;
}

static bool batch_add(struct net_part *part, struct batch *batch, const uint8_t *data, size_t len)
{
    uint8_t *place = len <= GATHERED_BYTES ? gather_place(part, batch, len) : NULL;
    if (!place)
        return batch_add_part(batch, data, len);
    memcpy(place, data, len);
    batch->gathered += len;
    return batch_add_part(batch, place, len);
}

/* A small range costs less put together with what is around it than sent by a call of its own. false: it is
 * for send_range, which also finds an error or the file's early end again and deals with it. */
static bool batch_add_range(struct net_part *part, struct batch *batch, const struct net_payload *payload,
                            size_t skip)
{
    size_t len = payload->len - skip;
    uint8_t *place = len <= SMALL_RANGE_BYTES ? gather_place(part, batch, len) : NULL;
    if (!place || io_file_pread(payload->file, place, len, payload->position + skip) != (ssize_t)len)
        return false;
    batch->gathered += len;
    return batch_add_part(batch, place, len);
}

/* Adds what is left of one answer. false: the batch ends here. */
static bool batch_add_output(struct net_part *part, struct batch *batch, struct net_output *output)
{
    const struct thrift_encoded *encoded = &output->encoded;
    size_t at = output->sent;
    if (at < encoded->head_len) {
        if (!batch_add(part, batch, encoded->buf->data + at, encoded->head_len - at))
            return false;
        at = encoded->head_len;
    }
    size_t tail_at = encoded->head_len + encoded->payload_len;
    if (at < tail_at) {
        const struct net_payload *payload = &output->payload;
        size_t skip = at - encoded->head_len;
        if (payload->file && !batch_add_range(part, batch, payload, skip)) {
            batch->file = output;
            return false;
        }
        if (!payload->file && !batch_add(part, batch, payload->slice.ptr + skip, encoded->payload_len - skip))
            return false;
        at = tail_at;
    }
    if (at == output->size)
        return true;
    size_t skip = at - tail_at;
    return batch_add(part, batch, encoded->buf->data + encoded->head_len + skip, encoded->tail_len - skip);
}

static void batch_fill(struct net_conn *conn, struct batch *batch, size_t most)
{
    batch->count = 0;
    batch->bytes = batch->gathered = 0;
    batch->file = NULL;
    LIST_FOR_EACH(item, &conn->slots) {
        struct net_slot *slot = net_slot_of(item);
        if (!slot->call.answer || !batch_add_output(conn->part, batch, &slot->output))
            break;
        if (batch->bytes >= most)
            break;
    }
}

static void output_sent(struct net_conn *conn, size_t bytes)
{
    while (bytes > 0) {
        assert(!list_empty(&conn->slots));
        struct net_slot *slot = net_slot_of(conn->slots.next);
        struct net_output *output = &slot->output;
        size_t left = output->size - output->sent;
        size_t now = bytes < left ? bytes : left;
        output->sent += now;
        bytes -= now;
        if (output->sent == output->size)
            net_slot_end(slot);
    }
}

static ssize_t send_range(struct net_conn *conn, struct net_output *output, size_t most)
{
    const struct net_payload *payload = &output->payload;
    size_t skip = output->sent - output->encoded.head_len;
    size_t len = payload->len - skip < most ? payload->len - skip : most;
    ssize_t count = io_stream_send_file(conn->stream, payload->file, payload->position + skip, len);
    /* Sockets have errors of their own; this one is the disk's. */
    return count == 0 || count == CLYMQ_EIO ? CLYMQ_ECORRUPT : count;
}

static void set_blocked(struct net_conn *conn, bool blocked, bool progress)
{
    if (blocked && (!conn->blocked || progress)) {
        conn->sent_ns = net_part_now(conn->part);
        list_remove(&conn->sending);
        list_push_back(&conn->part->sending, &conn->sending);
    } else if (!blocked) {
        list_remove(&conn->sending);
    }
    conn->blocked = blocked;
}

void net_output_flush(struct net_conn *conn)
{
    struct batch batch;
    struct net_part *part = conn->part;
    size_t round = 0, most = net_part_allowance(part, &part->round_sent, ROUND_BYTES, ROUND_LEAST);
    while (conn->state != NET_CONN_CLOSED) {
        size_t left = most > round ? most - round : 0;
        batch_fill(conn, &batch, left);
        if (batch.count == 0 && !batch.file) {
            set_blocked(conn, false, false);
            break;
        }
        if (round >= most) { /* the loop tells when it is this connection's turn again */
            set_blocked(conn, true, true);
            break;
        }
        ssize_t count = !batch.count ? send_range(conn, batch.file, left)
                        : batch.file ? io_stream_writev_more(conn->stream, batch.parts, batch.count)
                                     : io_stream_writev(conn->stream, batch.parts, batch.count);
        if (count == CLYMQ_EAGAIN) {
            set_blocked(conn, true, round > 0);
            break;
        }
        if (count <= 0) {
            net_conn_close(conn, count == CLYMQ_ECORRUPT ? NET_CLOSE_FILE : NET_CLOSE_ERROR);
            return;
        }
        round += (size_t)count;
        output_sent(conn, (size_t)count);
        if (batch.count && (size_t)count < batch.bytes) {
            set_blocked(conn, true, true);
            break;
        }
    }
    part->round_sent += round;
    if (round > 0 && conn->state != NET_CONN_CLOSED) {
        metric_add(part->metrics.sent, (int64_t)round);
        conn->traffic += round;
        net_conn_touch(conn);
    }
}
