/* The client against a server that answers anything: a consumer, a producer and a plain call over the
 * simulated net. Each of the client's calls gets its outcome, what is consumed grows in offset, and nothing
 * is held beyond what came.
 *
 * The input is a row of answers, each a byte of kind, two bytes of length and the content: */
#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "client/core.h"
#include "folder.h"
#include "io/sim.h"
#include "net/input.h"
#include "rpc_input.h"

enum answer_kind {
    ANSWER_GOOD,      /* as a server that has the topic; a pull gets the content as batches, made right */
    ANSWER_FIELDS,    /* the method's response struct filled from the content */
    ANSWER_EXCEPTION, /* the content as its text */
    ANSWER_STRUCT,    /* the content as the encoded response */
    ANSWER_BYTES,     /* the content instead of a message */
    ANSWER_TOPIC,     /* the content as the JSON that describes a topic */
    ANSWER_CLOSE,
    ANSWER_SILENCE,
    ANSWER_KINDS
};

enum { CALLS_MAX = 40, SECONDS = 12, CLIENT_OWN = 6 << 20, MAX_MESSAGE = 1 << 20 };

struct peer {
    struct server *server;
    struct io_stream *stream;
    struct net_input input;
    struct peer *next;
};

struct server {
    struct bytes answers;
    struct io_loop *loop;
    struct io_listener *listener;
    struct peer *peers; /* freed at the end */
    unsigned calls;
    int64_t end; /* of the log that good answers show */
};

/* ---- the server ---- */

static void peer_close(struct peer *peer)
{
    io_stream_close(peer->stream);
    peer->stream = NULL;
    net_input_clear(&peer->input);
}

static void peer_send(struct peer *peer, const void *data, size_t len)
{
    struct iovec part = {(void *)(uintptr_t)data, len};
    if (len > 0)
        (void)io_stream_writev(peer->stream, &part, 1); /* what does not fit is lost */
}

static void send_response(struct peer *peer, const struct thrift_extent *extent,
                          const struct thrift_message *message, const struct rpc_method *method,
                          const void *response)
{
    struct thrift_encoded encoded;
    if (thrift_encode(&extent->form, THRIFT_REPLY, message->method, message->sequence, 0, method->response,
                      response, &encoded) == 0) {
        peer_send(peer, encoded.buf->data, encoded.buf->len);
        buf_unref(encoded.buf);
    }
}

static const char topic_json[] =
    "{\"name\":\"t\",\"partitions\":[{\"name\":\"0\",\"number\":0,\"leader\":{\"id\":\"b1\","
    "\"address\":\"server:7878\"}}]}";

static void send_good(struct peer *peer, const struct thrift_extent *extent,
                      const struct thrift_message *message, const struct rpc_method *method,
                      struct bytes content)
{
    struct server *server = peer->server;
    union rpc_value value = {0};
    struct bytes batches = fuzz_copy(content.ptr, content.len);
    struct rpc_pull_batch_request pull;
    switch (method->id) {
    case RPC_METHOD_DESCRIBE_TOPIC:
        ((struct rpc_describe_topic_response *)(void *)&value)->topic = BYTES_LITERAL(topic_json);
        break;
    case RPC_METHOD_LIST_TOPICS:
        ((struct rpc_list_topics_response *)(void *)&value)->topics = BYTES_LITERAL("{\"topics\":[]}");
        break;
    case RPC_METHOD_PULL_BATCH:
        if (thrift_decode(extent->form.protocol, message->args, 1, method->request, &pull) == 0) {
            struct rpc_pull_batch_response *response = (void *)&value;
            folder_repair(FOLDER_LOG, false, pull.offset, (uint8_t *)(uintptr_t)batches.ptr, batches.len);
            response->batches = batches;
            response->high_watermark = server->end;
        }
        break;
    default:
        break;
    }
    send_response(peer, extent, message, method, &value);
    fuzz_free(batches);
}

/* The header of a reply to the call, and any bytes as its result struct. */
static void send_struct(struct peer *peer, const struct thrift_message *message, struct bytes content)
{
    struct strbuf body = {0};
    uint8_t number[4];
    for (int i = 0; i < 4; i++)
        number[i] = (uint8_t)((uint32_t)message->sequence >> (24 - 8 * i));
    size_t len = 12 + message->method.len + content.len;
    const uint8_t head[12] = {
        0, (uint8_t)(len >> 16),        (uint8_t)(len >> 8), (uint8_t)len, 0x80, 1, 0, THRIFT_REPLY, 0, 0,
        0, (uint8_t)message->method.len};
    strbuf_append(&body, head, sizeof(head));
    strbuf_append(&body, message->method.ptr, message->method.len);
    strbuf_append(&body, number, 4);
    strbuf_append(&body, content.ptr, content.len);
    peer_send(peer, body.data, body.len);
    strbuf_free(&body);
}

static void answer(struct peer *peer, const struct net_message *call)
{
    struct server *server = peer->server;
    const struct thrift_extent *extent = &call->extent;
    struct thrift_message message;
    FUZZ_CHECK(thrift_read_message(extent->form.protocol,
                                   bytes_of(call->buf->data + extent->body, extent->body_len),
                                   &message) == 0);
    const struct rpc_method *method = rpc_find_method(~0u, message.method);
    FUZZ_CHECK(method && message.kind == THRIFT_CALL);
    union rpc_value value;
    FUZZ_CHECK(thrift_decode(extent->form.protocol, message.args, 1, method->request, &value) == 0);
    bool ended = server->answers.len == 0;
    enum answer_kind kind = (enum answer_kind)(take_number(&server->answers, 1) % ANSWER_KINDS);
    struct bytes content = take_content(&server->answers, (size_t)take_number(&server->answers, 2));
    if (++server->calls > CALLS_MAX || (ended && method->id == RPC_METHOD_PULL_BATCH))
        kind = ANSWER_SILENCE;
    switch (kind) {
    case ANSWER_FIELDS:
        take_struct(&content, method->response, &value);
        send_response(peer, extent, &message, method, &value);
        break;
    case ANSWER_TOPIC:
        if (method->id == RPC_METHOD_DESCRIBE_TOPIC) {
            struct rpc_describe_topic_response response = {.topic = content};
            send_response(peer, extent, &message, method, &response);
            break;
        }
        send_good(peer, extent, &message, method, content);
        break;
    case ANSWER_EXCEPTION: {
        struct thrift_encoded encoded;
        char *text = mem_strndup(content.len ? (const void *)content.ptr : "", content.len);
        FUZZ_CHECK(text && thrift_encode_exception(&extent->form, message.method, message.sequence,
                                                   THRIFT_INTERNAL_ERROR, -(int32_t)(content.len % 64), text,
                                                   &encoded) == 0);
        peer_send(peer, encoded.buf->data, encoded.buf->len);
        buf_unref(encoded.buf);
        mem_free(text);
        break;
    }
    case ANSWER_STRUCT:
        send_struct(peer, &message, content);
        break;
    case ANSWER_BYTES:
        peer_send(peer, content.ptr, content.len);
        break;
    case ANSWER_CLOSE:
        peer_close(peer);
        break;
    case ANSWER_SILENCE:
        break;
    default:
        send_good(peer, extent, &message, method, content);
    }
}

static void on_ready(void *ctx, unsigned events)
{
    static uint8_t scratch[NET_SCRATCH_BYTES];
    struct peer *peer = ctx;
    struct bytes span;
    bool full;
    ssize_t count = net_input_read(&peer->input, peer->stream, scratch, sizeof(scratch), &span, &full);
    if (count == CLYMQ_EAGAIN)
        return;
    if (count <= 0) {
        peer_close(peer);
        return;
    }
    struct net_message message;
    int error = 0;
    while (peer->stream && (error = net_input_take(&peer->input, &span, MAX_MESSAGE, &message)) == 0) {
        answer(peer, &message);
        buf_unref(message.buf);
    }
    FUZZ_CHECK(error == 0 || error == CLYMQ_EAGAIN); /* what the client sends is good */
}

static void on_accept(void *ctx, struct io_socket *socket)
{
    struct server *server = ctx;
    struct peer *peer = calloc(1, sizeof(*peer));
    FUZZ_CHECK(peer);
    peer->server = server;
    struct io_stream_handler handler = {on_ready, peer};
    FUZZ_CHECK(io_stream_open(server->loop, socket, handler, &peer->stream) == 0);
    io_stream_watch(peer->stream, IO_READABLE);
    peer->next = server->peers;
    server->peers = peer;
}

static void server_free(struct server *server)
{
    while (server->peers) {
        struct peer *peer = server->peers;
        server->peers = peer->next;
        peer_close(peer);
        free(peer);
    }
    io_listener_close(server->listener);
}

/* ---- the client ---- */

struct client {
    struct core *core;
    struct core_consumer *consumer;
    struct core_producer *producer;
    struct core_call list;
    unsigned listed, assigned, delivered;
    int64_t last_offset;
    bool reassigned;
};

static void on_listed(struct core_call *call, int error, const void *response, const char *sentence)
{
    struct client *client = call->ctx;
    FUZZ_CHECK(++client->listed == 1);
    FUZZ_CHECK((error == 0) == (sentence[0] == '\0') && (error != 0 || response));
}

static void on_assigned(void *ctx, int error, int64_t position, const char *sentence)
{
    struct client *client = ctx;
    FUZZ_CHECK(++client->assigned == 1 && sentence && error <= 0);
    client->last_offset = INT64_MIN;
}

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct client *client = ctx;
    client->delivered++;
    FUZZ_CHECK(error <= 0 && message->value_len == 5);
}

static void consume(struct client *client)
{
    const clymq_message *message;
    int result;
    for (int errors = 0; errors < 8 && (result = core_consumer_next(client->consumer, &message)) != 0;) {
        errors += result < 0;
        if (result < 0)
            continue;
        FUZZ_CHECK(strcmp(message->topic, "t") == 0 && strcmp(message->partition, "0") == 0);
        FUZZ_CHECK(message->offset > client->last_offset);
        client->last_offset = message->offset;
        for (size_t i = 0; i < message->header_count; i++)
            FUZZ_CHECK(strlen(message->headers[i].key) <= MAX_MESSAGE);
    }
    (void)core_consumer_at_end(client->consumer);
}

static void client_start(struct client *client, struct io_loop *loop)
{
    static const struct rpc_list_topics_request request;
    struct core_config config;
    struct core_producer_config producing;
    struct core_consumer_config consuming;
    core_config_defaults(&config);
    config.coordinators = "server:7878";
    config.request_timeout_ms = 4000;
    config.max_message_bytes = MAX_MESSAGE;
    FUZZ_CHECK(core_new(loop, &config, &client->core) == 0);
    core_producer_config_defaults(&producing);
    producing.delivery_timeout_ms = 6000;
    producing.on_delivery = on_delivery;
    producing.delivery_ctx = client;
    FUZZ_CHECK(core_producer_new(client->core, &producing, &client->producer) == 0);
    core_consumer_config_defaults(&consuming);
    FUZZ_CHECK(core_consumer_new(client->core, &consuming, &client->consumer) == 0);
    client->list = (struct core_call){
        .method = RPC_METHOD_LIST_TOPICS, .request = &request, .done = on_listed, .ctx = client};
    FUZZ_CHECK(core_call_start(client->core, &client->list) == 0);
    FUZZ_CHECK(core_consumer_assign(client->consumer, "t", "0", CLYMQ_OFFSET_BEGINNING, false, on_assigned,
                                    client) == 0);
    clymq_message message = {
        .topic = "t", .partition = "0", .timestamp_ms = 5, .value = "value", .value_len = 5};
    for (int i = 0; i < 2; i++)
        FUZZ_CHECK(core_producer_add(client->producer, &message, NULL) == 0);
    (void)core_producer_flush(client->producer);
    core_producer_kick(client->producer);
    core_consumer_kick(client->consumer);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct client client = {.last_offset = INT64_MIN};
    struct io_loop *loop;
    folder_log();
    fuzz_begin();
    struct sim_world *world = sim_world_new(1);
    struct sim_process *far = sim_process_new(world, "server"), *near = sim_process_new(world, "client");
    struct server server = {.answers = bytes_of(data, size), .end = 1000};
    FUZZ_CHECK(far && near && sim_process_loop(far, &server.loop) == 0 && sim_process_loop(near, &loop) == 0);
    FUZZ_CHECK(io_loop_listen(server.loop, "server:7878", on_accept, &server, &server.listener) == 0);
    client_start(&client, loop);
    for (int i = 0; i < SECONDS * 10; i++) {
        sim_world_run_for(world, IO_MS(100));
        consume(&client);
    }
    FUZZ_CHECK(client.listed == 1 && client.delivered == 2);
    fuzz_check_memory(CLIENT_OWN + 64 * size);
    core_consumer_free(client.consumer);
    core_producer_free(client.producer);
    core_call_cancel(&client.list);
    core_free(client.core);
    server_free(&server);
    io_loop_free(loop);
    io_loop_free(server.loop);
    sim_world_free(world);
    fuzz_check_time(size);
    return 0;
}
