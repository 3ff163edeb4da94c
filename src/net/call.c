/* Calls: from a whole message to the handler, and from the handler's answer to the place of the call in the
 * order of answers. See conn.h for the life of what is used here. */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "net/conn.h"

#define LOG_MODULE "net"
#include "base/log.h"

enum { TEXT_BYTES = 512, SPARE_SLOTS = 1024 };

static struct net_slot *slot_of(struct net_call *call)
{
    return CONTAINER_OF(call, struct net_slot, call);
}

/* Calls come and go by the hundred thousand a second: their memory is kept for the next ones. */
static struct net_slot *slot_alloc(struct net_part *part)
{
    if (list_empty(&part->spare_slots))
        return mem_alloc(sizeof(struct net_slot));
    part->spare_count--;
    return net_slot_of(list_pop_front(&part->spare_slots));
}

static void slot_free(struct net_part *part, struct net_slot *slot)
{
    if (part->spare_count >= SPARE_SLOTS) {
        mem_free(slot);
        return;
    }
    part->spare_count++;
    list_push_front(&part->spare_slots, &slot->call.link);
}

/* Takes over buf (NULL for a refused message). NULL: out of memory, buf is freed. */
static struct net_slot *slot_new(struct net_conn *conn, struct buf *buf, const struct thrift_form *form,
                                 const struct thrift_message *message)
{
    struct net_slot *slot = slot_alloc(conn->part);
    if (!slot) {
        buf_unref(buf);
        return NULL;
    }
    slot->call = (struct net_call){
        .server = conn->server,
        .shard = conn->part->shard,
        .form = *form,
        .sequence = message->sequence,
        .principal = {"anonymous", conn->address},
        .message = buf,
        .args = message->args,
        .conn = conn,
    };
    slot->cost =
        sizeof(*slot) + (buf ? sizeof(*buf) + buf->cap : 0) + (size_t)conn->server->config.limits.call_bytes;
    slot->oneway = message->kind == THRIFT_ONEWAY;
    list_push_back(slot->oneway ? &conn->oneways : &conn->slots, &slot->call.link);
    conn->calls++;
    net_limits_count(conn, (int64_t)slot->cost);
    return slot;
}

void net_slot_end(struct net_slot *slot)
{
    struct net_conn *conn = slot->call.conn;
    net_conn_hold(conn);
    list_remove(&slot->call.link);
    conn->calls--;
    net_limits_count(conn, -(int64_t)slot->cost);
    buf_unref(slot->call.message);
    if (slot->call.answer) {
        buf_unref(slot->output.encoded.buf);
        net_payload_drop(&slot->output.payload);
    }
    slot_free(conn->part, slot);
    net_conn_release(conn);
}

/* The answer is made: it waits for its turn. encoded and payload are taken over. */
static void slot_answer(struct net_slot *slot, struct thrift_encoded *encoded, struct net_payload *payload)
{
    struct net_conn *conn = slot->call.conn;
    struct net_output *output = &slot->output;
    output->encoded = *encoded;
    output->payload = payload ? *payload : (struct net_payload){0};
    output->size = encoded->head_len + encoded->payload_len + encoded->tail_len;
    output->sent = 0;
    slot->call.answer = output;
    buf_unref(slot->call.message);
    slot->call.message = NULL;
    slot->call.args = (struct bytes){0};
    size_t cost = sizeof(*slot) + net_output_cost(output);
    net_limits_count(conn, (int64_t)cost - (int64_t)slot->cost);
    slot->cost = cost;
    if (conn->slots.next == &slot->call.link)
        net_part_flush_later(conn);
}

/* Nobody waits for this answer. */
static void slot_forget(struct net_slot *slot)
{
    struct net_conn *conn = slot->call.conn;
    bool closed = conn->state == NET_CONN_CLOSED;
    net_conn_hold(conn);
    net_slot_end(slot);
    if (!closed)
        net_part_flush_later(conn); /* it may be paused for this call */
    else
        net_part_tail_later(conn->part); /* where the gauge of bytes in flight is set */
    net_conn_release(conn);
}

/* No memory for the answer: the client learns that the outcome is unknown from the connection's end. */
static void slot_fail(struct net_slot *slot)
{
    slot->call.conn->failed = true;
    net_part_flush_later(slot->call.conn);
    slot_forget(slot);
}

static void slot_except(struct net_slot *slot, struct bytes method, enum thrift_exception type, int error,
                        const char *text)
{
    struct thrift_encoded encoded;
    if (thrift_encode_exception(&slot->call.form, method, slot->call.sequence, type, error, text, &encoded))
        slot_fail(slot);
    else
        slot_answer(slot, &encoded, NULL);
}

/* The connection's last answer: nothing more is read from it. */
static int answer_last(struct net_conn *conn, enum net_close_reason reason, const struct thrift_form *form,
                       const struct thrift_message *header, const char *text)
{
    conn->state = NET_CONN_FINISHING;
    conn->finish_reason = reason;
    if (header->kind != THRIFT_CALL)
        return 0;
    struct net_slot *slot = slot_new(conn, NULL, form, header);
    if (!slot)
        return CLYMQ_ENOMEM;
    slot->call.method = NULL;
    int error = reason == NET_CLOSE_TOO_BIG ? CLYMQ_ETOOBIG : CLYMQ_EPROTO;
    slot_except(slot, header->method, THRIFT_PROTOCOL_ERROR, error, text);
    return 0;
}

/* A malformed message of a known form whose header cannot be read: the answer has no method's name, and its
 * sequence id is TTHeader's or 0. */
static int reject_unread(struct net_conn *conn, const struct thrift_form *form)
{
    struct thrift_message header = {
        .kind = THRIFT_CALL, .method = BYTES_LITERAL(""), .sequence = form->ttheader_sequence};
    return answer_last(conn, NET_CLOSE_PROTOCOL, form, &header,
                       "malformed message: its header is unreadable");
}

bool net_call_receive(struct net_conn *conn, struct net_message *message)
{
    const struct thrift_extent *extent = &message->extent;
    struct thrift_message header;
    int error = thrift_read_message(extent->form.protocol,
                                    bytes_of(message->buf->data + extent->body, extent->body_len), &header);
    if (error) {
        struct thrift_form form = extent->form;
        buf_unref(message->buf);
        error = reject_unread(conn, &form);
        if (error)
            net_conn_close(conn, NET_CLOSE_NO_MEMORY);
        return !error;
    }
    if (header.kind != THRIFT_CALL && header.kind != THRIFT_ONEWAY) {
        buf_unref(message->buf);
        net_conn_close(conn, NET_CLOSE_PROTOCOL);
        return false;
    }
    struct net_slot *slot = slot_new(conn, message->buf, &extent->form, &header);
    if (!slot) {
        net_conn_close(conn, NET_CLOSE_NO_MEMORY);
        return false;
    }
    metric_add(conn->part->metrics.calls, 1);
    const struct net_server_config *config = &conn->server->config;
    slot->call.method = rpc_find_method(config->services, header.method);
    if (slot->call.method) {
        config->on_call(config->ctx, &slot->call);
    } else if (slot->oneway) {
        slot_forget(slot);
    } else {
        char text[TEXT_BYTES];
        bool printable = header.method.len <= 100 && utf8_valid(header.method);
        snprintf(text, sizeof(text), "unknown method '%.*s'", printable ? (int)header.method.len : 0,
                 (const char *)header.method.ptr);
        slot_except(slot, header.method, THRIFT_UNKNOWN_METHOD, CLYMQ_EUNSUPPORTED, text);
    }
    return conn->state != NET_CONN_CLOSED;
}

int net_call_refuse(struct net_conn *conn, struct bytes start)
{
    struct thrift_form form;
    struct thrift_message header;
    int error = net_input_peek(start, &form, &header);
    if (error)
        return error;
    char text[TEXT_BYTES];
    snprintf(text, sizeof(text),
             "the message is larger than the limit of %lld bytes (max_message_bytes): send less at once or "
             "raise the limit on the server",
             (long long)conn->server->config.limits.max_message_bytes);
    return answer_last(conn, NET_CLOSE_TOO_BIG, &form, &header, text);
}

int net_call_reject(struct net_conn *conn, struct bytes start)
{
    struct thrift_form form = {0};
    struct thrift_message header;
    if (net_input_peek(start, &form, &header) == 0) {
        if (header.kind != THRIFT_CALL && header.kind != THRIFT_ONEWAY)
            return CLYMQ_EPROTO;
        return answer_last(conn, NET_CLOSE_PROTOCOL, &form, &header,
                           "malformed message: its arguments are unreadable");
    }
    if (!net_input_peek_ttheader(start, &form.ttheader_sequence))
        return CLYMQ_EPROTO;
    form.envelope = THRIFT_TTHEADER;
    return reject_unread(conn, &form);
}

uint64_t net_call_conn_id(const struct net_call *call)
{
    return call->conn->id;
}

bool net_call_is_abandoned(const struct net_call *call)
{
    return call->conn->state == NET_CONN_CLOSED;
}

void net_call_answer(struct net_call *call, const void *response, struct net_payload *payload)
{
    struct net_slot *slot = slot_of(call);
    assert(!call->answer && call->method);
    if (slot->oneway || net_call_is_abandoned(call)) {
        if (payload)
            net_payload_drop(payload);
        slot_forget(slot);
        return;
    }
    struct thrift_encoded encoded;
    int error = thrift_encode(&call->form, THRIFT_REPLY, call->method->name, call->sequence, 0,
                              call->method->response, response, &encoded);
    if (error) {
        if (payload)
            net_payload_drop(payload);
        if (error == CLYMQ_ETOOBIG)
            slot_except(slot, call->method->name, THRIFT_INTERNAL_ERROR, CLYMQ_ETOOBIG,
                        "the answer is too big: ask for less at once");
        else
            slot_fail(slot);
        return;
    }
    size_t payload_len = !payload ? 0 : payload->file ? payload->len : payload->slice.len;
    assert(encoded.payload_len == payload_len);
    if (payload && payload_len == 0) {
        net_payload_drop(payload);
        payload = NULL;
    }
    slot_answer(slot, &encoded, payload);
}

/* Takes off what a cut may have left of a UTF-8 character. */
static void cut_character(char *text)
{
    size_t len = strlen(text);
    for (int i = 0; i < 4 && len > 0 && !utf8_valid(bytes_of(text, len)); i++)
        text[--len] = '\0';
}

void net_call_fail(struct net_call *call, enum thrift_exception type, int error, const char *format, ...)
{
    struct net_slot *slot = slot_of(call);
    assert(!call->answer && call->method);
    if (slot->oneway || net_call_is_abandoned(call)) {
        slot_forget(slot);
        return;
    }
    char text[TEXT_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (len >= (int)sizeof(text))
        cut_character(text);
    slot_except(slot, call->method->name, type, error, text);
}
