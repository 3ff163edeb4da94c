/* An outgoing connection: see link.h. Calls made in one round of the loop are written together, by a timer of
 * zero delay (cheaper than asking the kernel when the socket is writable, and nothing happens from inside a
 * caller's call). One more timer watches the earliest deadline; calls that are answered in time never touch
 * it. */
#include "net/link.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/input.h"

enum {
    PARTS_MAX = 64,
    GATHER_BYTES = 16 * 1024,
    GATHERED_BYTES = 512,      /* pieces up to this size are copied together */
    ROUND_BYTES = 1024 * 1024, /* read in one round */
    RESPONSE_BYTES = 512,      /* more than any response struct takes */
};

struct net_link_call {
    struct list link;
    const struct rpc_method *method;
    int32_t sequence;
    struct thrift_encoded encoded;
    struct slice payload;
    size_t sent, size;
    uint64_t deadline_ns; /* 0 = none */
    net_answer_callback done;
    void *ctx;
};

struct net_link {
    struct io_loop *loop;
    struct io_stream *stream; /* NULL = closed */
    struct net_link_config config;
    struct net_input input;
    struct list calls;   /* in order; those from `unsent` on are not sent in full */
    struct list *unsent; /* a call's link, or &calls */
    size_t outstanding;
    int32_t next_sequence;
    bool connected, blocked;
    bool freed; /* net_link_free was called from inside a callback */
    unsigned busy, watched;
    uint64_t connect_deadline_ns;
    uint64_t wake_ns; /* of the deadline timer, while armed */
    struct io_timer flush, deadline;
    uint8_t *scratch, *gather;
};

static struct net_link_call *call_of(struct list *link)
{
    return CONTAINER_OF(link, struct net_link_call, link);
}

static void hold(struct net_link *link)
{
    link->busy++;
}

static void release(struct net_link *link)
{
    if (--link->busy > 0 || !link->freed)
        return;
    mem_free(link->scratch);
    mem_free(link->gather);
    mem_free(link);
}

/* Takes the oldest call off and tells its user. */
static void end_first(struct net_link *link, struct net_answer *answer)
{
    struct net_link_call *call = call_of(link->calls.next);
    if (link->unsent == &call->link)
        link->unsent = call->link.next;
    list_remove(&call->link);
    link->outstanding--;
    answer->sent = call->sent > 0;
    buf_unref(call->encoded.buf);
    slice_unref(&call->payload);
    net_answer_callback done = call->done;
    void *ctx = call->ctx;
    mem_free(call);
    done(ctx, answer);
}

static void disconnect(struct net_link *link)
{
    io_stream_close(link->stream);
    link->stream = NULL;
    io_timer_stop(link->loop, &link->flush);
    io_timer_stop(link->loop, &link->deadline);
    net_input_clear(&link->input);
}

/* The link is held. */
static void end_all(struct net_link *link, int error)
{
    while (!list_empty(&link->calls)) {
        struct net_answer answer = {.error = error};
        end_first(link, &answer);
    }
}

static void fail(struct net_link *link, int error)
{
    if (!link->stream)
        return;
    hold(link);
    disconnect(link);
    if (error == CLYMQ_ETOOBIG && !list_empty(&link->calls)) {
        /* That answer is the oldest call's. Those behind it can be made again. */
        end_first(link, &(struct net_answer){.error = error});
        end_all(link, CLYMQ_ECLOSED);
    }
    end_all(link, error);
    if (!link->freed && link->config.on_closed)
        link->config.on_closed(link->config.ctx, error);
    release(link);
}

void net_link_free(struct net_link *link)
{
    if (!link || link->freed)
        return;
    hold(link);
    link->freed = true;
    disconnect(link);
    end_all(link, CLYMQ_ECANCELED);
    release(link);
}

static void watch(struct net_link *link)
{
    if (!link->stream)
        return;
    unsigned wanted = IO_READABLE | (link->blocked || !link->connected ? IO_WRITABLE : 0);
    if (wanted == link->watched)
        return;
    link->watched = wanted;
    io_stream_watch(link->stream, wanted);
}

/* The pieces of one writev. */
struct batch {
    struct iovec parts[PARTS_MAX];
    int count;
    size_t bytes, gathered;
};

static bool batch_add(struct net_link *link, struct batch *batch, const uint8_t *data, size_t len)
{
    if (len == 0)
        return true;
    struct iovec *last = batch->count ? &batch->parts[batch->count - 1] : NULL;
    if (len <= GATHERED_BYTES && len <= GATHER_BYTES - batch->gathered) {
        uint8_t *place = link->gather + batch->gathered;
        memcpy(place, data, len);
        batch->gathered += len;
        data = place;
    }
    if (last && (uint8_t *)last->iov_base + last->iov_len == data) {
        last->iov_len += len;
    } else if (batch->count < PARTS_MAX) {
        batch->parts[batch->count++] = (struct iovec){(void *)data, len};
    } else {
        return false;
    }
    batch->bytes += len;
    return true;
}

static bool batch_add_call(struct net_link *link, struct batch *batch, const struct net_link_call *call)
{
    const struct thrift_encoded *encoded = &call->encoded;
    const struct {
        const uint8_t *data;
        size_t len;
    } pieces[] = {{encoded->buf->data, encoded->head_len},
                  {call->payload.ptr, encoded->payload_len},
                  {encoded->buf->data + encoded->head_len, encoded->tail_len}};
    size_t skip = call->sent;
    for (int i = 0; i < 3; i++) {
        size_t now = skip < pieces[i].len ? skip : pieces[i].len;
        skip -= now;
        if (pieces[i].len > now && !batch_add(link, batch, pieces[i].data + now, pieces[i].len - now))
            return false;
    }
    return true;
}

static void count_sent(struct net_link *link, size_t bytes)
{
    while (bytes > 0) {
        struct net_link_call *call = call_of(link->unsent);
        size_t left = call->size - call->sent, now = bytes < left ? bytes : left;
        call->sent += now;
        bytes -= now;
        if (call->sent < call->size)
            break;
        link->unsent = call->link.next;
        /* Sent: only the answer is waited for. */
        buf_unref(call->encoded.buf);
        call->encoded.buf = NULL;
        slice_unref(&call->payload);
    }
    assert(bytes == 0);
}

/* The link is held. */
static void write_calls(struct net_link *link)
{
    link->blocked = false;
    while (link->stream && link->connected && link->unsent != &link->calls) {
        struct batch batch;
        batch.count = 0;
        batch.bytes = batch.gathered = 0;
        for (struct list *item = link->unsent; item != &link->calls; item = item->next)
            if (!batch_add_call(link, &batch, call_of(item)))
                break;
        ssize_t count = io_stream_writev(link->stream, batch.parts, batch.count);
        if (count == CLYMQ_EAGAIN) {
            link->blocked = true;
            break;
        }
        if (count <= 0) {
            fail(link, CLYMQ_ECLOSED);
            return;
        }
        count_sent(link, (size_t)count);
        if ((size_t)count < batch.bytes) {
            link->blocked = true;
            break;
        }
    }
    watch(link);
}

static void on_flush(struct io_timer *timer)
{
    struct net_link *link = CONTAINER_OF(timer, struct net_link, flush);
    hold(link);
    write_calls(link);
    release(link);
}

/* Arms the deadline timer for at, unless it fires before that anyway. */
static int wake_at(struct net_link *link, uint64_t at)
{
    if (at == 0 || (io_timer_armed(&link->deadline) && link->wake_ns <= at))
        return 0;
    uint64_t now = io_loop_now_ns(link->loop);
    int error = io_timer_start(link->loop, &link->deadline, at > now ? at - now : 0);
    if (!error)
        link->wake_ns = at;
    return error;
}

static void on_deadline(struct io_timer *timer)
{
    struct net_link *link = CONTAINER_OF(timer, struct net_link, deadline);
    uint64_t now = io_loop_now_ns(link->loop), next = link->connected ? 0 : link->connect_deadline_ns;
    if (next != 0 && now >= next) {
        fail(link, CLYMQ_ETIMEDOUT);
        return;
    }
    LIST_FOR_EACH(item, &link->calls) {
        uint64_t deadline = call_of(item)->deadline_ns;
        if (deadline != 0 && now >= deadline) {
            /* Answers are in order, so the calls before and after it cannot be told apart from it any more.
             */
            fail(link, CLYMQ_ETIMEDOUT);
            return;
        }
        if (deadline != 0 && (next == 0 || deadline < next))
            next = deadline;
    }
    if (wake_at(link, next))
        fail(link, CLYMQ_ENOMEM);
}

/* Whether the answer belongs to the oldest call. */
static bool answers(const struct net_link_call *call, const struct thrift_message *header)
{
    return header->sequence == call->sequence && bytes_equal(header->method, call->method->name);
}

/* A server that was sent too much at once says so, looks at nothing behind it and closes
 * (docs/protocol-rpc.md): what was sent since is as good as not sent. */
static bool ends_connection(const struct net_answer *answer)
{
    return answer->exception_type == THRIFT_PROTOCOL_ERROR && answer->exception_error == CLYMQ_ETOOBIG;
}

static void unsend_all(struct net_link *link)
{
    LIST_FOR_EACH(item, &link->calls)
        call_of(item)->sent = 0;
}

/* Gives an answer to the oldest call. 0, or why the link must be closed. The link is held. */
static int deliver(struct net_link *link, struct net_message *message)
{
    _Alignas(16) uint8_t response[RESPONSE_BYTES];
    const struct thrift_extent *extent = &message->extent;
    struct thrift_message header;
    if (list_empty(&link->calls) ||
        thrift_read_message(extent->form.protocol,
                            bytes_of(message->buf->data + extent->body, extent->body_len), &header))
        return CLYMQ_EPROTO;
    struct net_link_call *call = call_of(link->calls.next);
    const struct thrift_struct *type = call->method->response;
    if (!answers(call, &header) || call->sent == 0)
        return CLYMQ_EPROTO;
    struct net_answer answer = {.message = message->buf};
    if (header.kind == THRIFT_REPLY) {
        assert(type->size <= sizeof(response));
        answer.error = thrift_decode(extent->form.protocol, header.args, 0, type, response);
        answer.response = answer.error ? NULL : response;
    } else if (header.kind == THRIFT_EXCEPTION) {
        struct thrift_exception_fields exception;
        answer.error = thrift_decode_exception(extent->form.protocol, header.args, &exception);
        if (answer.error == 0) {
            answer.error = CLYMQ_EUNSUPPORTED;
            answer.text = exception.text;
            answer.exception_type = exception.type;
            answer.exception_error = exception.error;
        }
    } else {
        return CLYMQ_EPROTO;
    }
    if (answer.error && answer.error != CLYMQ_EUNSUPPORTED)
        answer.error = CLYMQ_EPROTO;
    /* Answered before it was sent in full (too big for the server): what is left to send makes no sense any
     * more. */
    int error = call->sent < call->size ? CLYMQ_ECLOSED : answer.error == CLYMQ_EPROTO ? CLYMQ_EPROTO : 0;
    bool ends = ends_connection(&answer);
    end_first(link, &answer);
    if (!ends)
        return error;
    /* To close it ourselves spares waiting for the server, which waits for us to read its answer. */
    if (link->stream) /* the callback may have freed the link */
        unsend_all(link);
    return CLYMQ_ECLOSED;
}

/* The link is held. */
static void read_answers(struct net_link *link)
{
    size_t round = 0;
    bool full = true;
    while (link->stream && full && round < ROUND_BYTES) {
        struct bytes span;
        ssize_t count =
            net_input_read(&link->input, link->stream, link->scratch, NET_SCRATCH_BYTES, &span, &full);
        if (count == CLYMQ_EAGAIN)
            return;
        if (count <= 0) {
            fail(link, count == CLYMQ_ENOMEM ? CLYMQ_ENOMEM : CLYMQ_ECLOSED);
            return;
        }
        round += (size_t)count;
        while (link->stream) {
            struct net_message message;
            int error = net_input_take(&link->input, &span, (size_t)link->config.max_message_bytes, &message);
            if (error == CLYMQ_EAGAIN)
                break;
            if (!error) {
                error = deliver(link, &message);
                buf_unref(message.buf);
            }
            if (error)
                fail(link, error);
        }
    }
}

/* Finishes connecting. false: not connected. The link is held. */
static bool finish_connect(struct net_link *link)
{
    int status = io_stream_status(link->stream);
    if (status == CLYMQ_EAGAIN)
        return false;
    if (status) {
        fail(link, status == CLYMQ_ENOMEM || status == CLYMQ_ETIMEDOUT ? status : CLYMQ_EUNREACH);
        return false;
    }
    link->connected = true;
    if (link->config.on_connected)
        link->config.on_connected(link->config.ctx);
    return link->stream != NULL;
}

static void on_ready(void *ctx, unsigned events)
{
    struct net_link *link = ctx;
    hold(link);
    if (link->connected || finish_connect(link)) {
        if (events & IO_READABLE)
            read_answers(link);
        if (link->stream && events & IO_WRITABLE)
            write_calls(link);
    }
    release(link);
}

int net_link_new(struct io_loop *loop, const struct net_link_config *config, struct net_link **ret_link)
{
    if (config->max_message_bytes <= 0 || config->connect_ms <= 0)
        return CLYMQ_EINVAL;
    struct net_link *link = mem_zalloc(sizeof(*link));
    if (!link)
        return CLYMQ_ENOMEM;
    link->loop = loop;
    link->config = *config;
    link->config.address = NULL; /* the caller's; not needed any more */
    list_init(&link->calls);
    link->unsent = &link->calls;
    link->next_sequence = 1;
    link->flush.fire = on_flush;
    link->deadline.fire = on_deadline;
    link->scratch = mem_alloc(NET_SCRATCH_BYTES);
    link->gather = mem_alloc(GATHER_BYTES);
    struct io_stream_handler handler = {on_ready, link};
    int error = link->scratch && link->gather ? 0 : CLYMQ_ENOMEM;
    link->connect_deadline_ns = io_loop_now_ns(loop) + IO_MS(config->connect_ms);
    if (!error)
        error = wake_at(link, link->connect_deadline_ns);
    if (!error)
        error = io_loop_connect(loop, config->address, handler, &link->stream);
    if (error) {
        net_link_free(link);
        return error;
    }
    watch(link);
    *ret_link = link;
    return 0;
}

int net_link_call(struct net_link *link, enum rpc_method_id method, const void *request,
                  const struct slice *payload, int64_t timeout_ms, net_answer_callback done, void *ctx)
{
    static const struct thrift_form form = {THRIFT_BINARY, THRIFT_FRAMED, 0};
    if (!link->stream || link->freed)
        return CLYMQ_ECLOSED;
    struct net_link_call *call = mem_zalloc(sizeof(*call));
    if (!call)
        return CLYMQ_ENOMEM;
    call->method = &rpc_methods[method];
    call->sequence = link->next_sequence;
    call->done = done;
    call->ctx = ctx;
    int error = thrift_encode(&form, THRIFT_CALL, call->method->name, call->sequence, 1,
                              call->method->request, request, &call->encoded);
    if (!error && timeout_ms > 0) {
        call->deadline_ns = io_loop_now_ns(link->loop) + IO_MS(timeout_ms);
        error = wake_at(link, call->deadline_ns);
    }
    if (!error && link->connected && !link->blocked && !io_timer_armed(&link->flush))
        error = io_timer_start(link->loop, &link->flush, 0);
    if (error) {
        buf_unref(call->encoded.buf);
        mem_free(call);
        return error;
    }
    assert(call->encoded.payload_len == (payload ? payload->len : 0));
    if (payload && payload->len)
        call->payload = slice_ref(*payload);
    call->size = call->encoded.head_len + call->encoded.payload_len + call->encoded.tail_len;
    link->next_sequence = link->next_sequence == INT32_MAX ? 1 : link->next_sequence + 1;
    list_push_back(&link->calls, &call->link);
    link->outstanding++;
    if (link->unsent == &link->calls)
        link->unsent = &call->link;
    return 0;
}

size_t net_link_outstanding(const struct net_link *link)
{
    return link->outstanding;
}
