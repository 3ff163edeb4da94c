/* How connections end: a client that sends no more and still reads, one that vanishes, and malformed
 * messages. */
#include "fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};

/* A client that can close one direction only, which io's streams cannot. */
struct plain {
    struct env *env;
    int fd;
    struct strbuf in;
    size_t in_at;
    bool ended; /* the server closed in order */
    bool broken;
};

static void plain_connect(struct plain *plain, struct env *env)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    *plain = (struct plain){.env = env, .fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)};
    assert_true(plain->fd >= 0);
    address.sin_port = htons((uint16_t)atoi(strrchr(env->address, ':') + 1));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(plain->fd, (struct sockaddr *)&address, sizeof(address)))
        assert_int_equal(errno, EINPROGRESS);
}

static void plain_send(struct plain *plain, struct strbuf *out)
{
    assert_int_equal(send(plain->fd, out->data, out->len, MSG_NOSIGNAL), out->len);
    strbuf_free(out);
    *out = (struct strbuf){0};
}

static bool plain_look(void *ctx)
{
    struct plain *plain = ctx;
    char data[65536];
    ssize_t count;
    while ((count = recv(plain->fd, data, sizeof(data), 0)) > 0)
        strbuf_append(&plain->in, data, (size_t)count);
    plain->ended |= count == 0;
    plain->broken |= count < 0 && errno != EAGAIN;
    return plain->ended || plain->broken;
}

static void plain_expect_push(struct plain *plain, int32_t sequence, struct bytes err)
{
    struct thrift_scan scan;
    struct thrift_extent extent;
    struct thrift_message message;
    struct rpc_push_response response;
    size_t need;
    struct bytes in = bytes_of(plain->in.data + plain->in_at, plain->in.len - plain->in_at);
    thrift_scan_reset(&scan);
    assert_int_equal(thrift_find_message(&scan, in, 64 << 20, &extent, &need), 0);
    assert_int_equal(
        thrift_read_message(extent.form.protocol, bytes_of(in.ptr + extent.body, extent.body_len), &message),
        0);
    assert_int_equal(message.sequence, sequence);
    assert_int_equal(thrift_decode(extent.form.protocol, message.args, 0,
                                   rpc_methods[RPC_METHOD_PUSH].response, &response),
                     0);
    assert_true(bytes_equal(response.err, err));
    plain->in_at += extent.size;
}

static void plain_close(struct plain *plain)
{
    close(plain->fd);
    strbuf_free(&plain->in);
}

static bool held_five(void *ctx)
{
    return ((struct env *)ctx)->held_count == 5;
}

static bool conn_closed(void *ctx)
{
    return ((struct env *)ctx)->closed > 0;
}

static bool one_is_gone(void *ctx)
{
    return env_metric(ctx, "clymq_net_connections{server=\"broker\",shard=\"0\"}") == 0;
}

/* What a client asked for before it said that it sends no more is answered, however late; then the server
 * ends the connection in order. A message of which only a part came is nothing. */
static void test_half_closed(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct plain plain;
    plain_connect(&plain, env);
    env_run_for(env, 5);
    struct strbuf out = {0};
    for (int i = 0; i < 5; i++)
        message_add_push(&out, &framed, i, "hold", BYTES_LITERAL("late"));
    message_add_push(&out, &framed, 5, "echo", BYTES_LITERAL("early"));
    size_t whole = out.len;
    message_add_push(&out, &framed, 6, "echo", BYTES_LITERAL("cut off"));
    out.len -= (out.len - whole) / 2;
    plain_send(&plain, &out);
    assert_int_equal(shutdown(plain.fd, SHUT_WR), 0);
    env_run_until(env, held_five, env, 1000);
    env_run_for(env, 20);
    assert_false(plain_look(&plain));
    assert_int_equal(env->closed, 0);
    assert_int_equal(env->input_ends, 1);
    assert_int_equal(plain.in.len, 0);
    for (int i = 4; i >= 0; i--) {
        assert_false(net_call_is_abandoned(env->held[i]));
        env_answer_held(env, i);
    }
    env_run_until(env, plain_look, &plain, 1000);
    assert_true(plain.ended);
    for (int i = 0; i < 5; i++)
        plain_expect_push(&plain, i, BYTES_LITERAL("late"));
    plain_expect_push(&plain, 5, BYTES_LITERAL("early"));
    assert_int_equal(plain.in_at, plain.in.len);
    assert_int_equal(env->calls, 6);
    env_run_until(env, one_is_gone, env, 1000);
    assert_int_equal(env_metric(env, "clymq_net_closed_total{server=\"broker\",shard=\"0\",reason=\"peer\"}"),
                     1);
    assert_int_equal(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}"), 0);
    plain_close(&plain);
}

/* Much is owed, and the socket takes it only bit by bit. */
static void test_half_closed_large(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    env_make_payload(env, 1000000);
    struct plain plain;
    plain_connect(&plain, env);
    env_run_for(env, 5);
    struct strbuf out = {0};
    struct rpc_pull_request request = {.option = 2,
                                       .consumer = BYTES_LITERAL(""),
                                       .topic = BYTES_LITERAL("t"),
                                       .partition = BYTES_LITERAL("p")};
    for (int i = 0; i < 20; i++)
        message_add_call(&out, &framed, THRIFT_CALL, RPC_METHOD_PULL, i, &request);
    plain_send(&plain, &out);
    assert_int_equal(shutdown(plain.fd, SHUT_WR), 0);
    env_run_until(env, plain_look, &plain, 20000);
    assert_true(plain.ended);
    assert_true(plain.in.len > 20 * 1000000);
    assert_int_equal(env->released, 20);
    plain_close(&plain);
}

/* It may as well be gone: its calls do not keep the connection for ever. */
static void test_half_closed_and_idle(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.idle_ms = 100;
    env_start(env, 1, &limits);
    struct plain plain;
    plain_connect(&plain, env);
    env_run_for(env, 5);
    struct strbuf out = {0};
    for (int i = 0; i < 5; i++)
        message_add_push(&out, &framed, i, "hold", BYTES_LITERAL("text"));
    plain_send(&plain, &out);
    env_run_until(env, held_five, env, 1000);
    env_run_for(env, 300);
    assert_int_equal(env->closed, 0); /* waiting for answers is not idleness */
    assert_int_equal(shutdown(plain.fd, SHUT_WR), 0);
    env_run_until(env, conn_closed, env, 1000);
    assert_int_equal(env_metric(env, "clymq_net_closed_total{server=\"broker\",shard=\"0\",reason=\"idle\"}"),
                     1);
    assert_true(net_call_is_abandoned(env->held[0]));
    plain_close(&plain);
}

/* A stop waits for what a half-closed connection is owed, too. */
static void test_half_closed_and_stop(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    struct plain plain;
    plain_connect(&plain, env);
    env_run_for(env, 5);
    struct strbuf out = {0};
    for (int i = 0; i < 5; i++)
        message_add_push(&out, &framed, i, "hold", BYTES_LITERAL("text"));
    plain_send(&plain, &out);
    assert_int_equal(shutdown(plain.fd, SHUT_WR), 0);
    env_run_until(env, held_five, env, 1000);
    net_server_stop(env->server, 5000, NULL, NULL);
    env_run_for(env, 20);
    assert_false(plain_look(&plain));
    for (int i = 0; i < 5; i++)
        env_answer_held(env, i);
    env_run_until(env, plain_look, &plain, 1000);
    assert_true(plain.ended);
    for (int i = 0; i < 5; i++)
        plain_expect_push(&plain, i, BYTES_LITERAL("text"));
    env_run_for(env, 20);
    env->server_stopped = true;
    plain_close(&plain);
}

/* Malformed messages whose form is known are answered, after what came before them, and then the connection
 * ends; what comes behind is not looked at. */
static void expect_rejected(struct env *env, const struct strbuf *message, size_t chunk, int32_t sequence,
                            const char *text)
{
    struct raw raw;
    raw_connect(&raw, env);
    raw.chunk = chunk;
    int calls = env->calls;
    message_add_push(&raw.out, &framed, 100, "echo", BYTES_LITERAL("before"));
    strbuf_append(&raw.out, message->data, message->len);
    message_add_push(&raw.out, &framed, 101, "echo", BYTES_LITERAL("behind"));
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 100, BYTES_LITERAL("before"));
    raw_expect_exception(&raw, sequence, THRIFT_PROTOCOL_ERROR, text);
    if (env->simulated) /* as long as the client may still be sending */
        raw_wait_closed(&raw, 20000);
    assert_int_equal(raw.in.len, raw.in_at);
    assert_int_equal(env->calls, calls + 1);
    raw_close(&raw);
}

/* The offset of the protocol's message in a whole one. */
static size_t body_of(const struct strbuf *message)
{
    struct thrift_scan scan;
    struct thrift_extent extent;
    size_t need;
    thrift_scan_reset(&scan);
    assert_int_equal(
        thrift_find_message(&scan, bytes_of(message->data, message->len), 1 << 20, &extent, &need), 0);
    return extent.body;
}

static void test_malformed(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    for (int i = 0; i < MESSAGE_FORMS * 2; i++) {
        const struct thrift_form *form = &message_forms[i / 2];
        size_t chunk = i % 2; /* also byte by byte */
        struct strbuf message = {0};
        message_add_push(&message, form, 7, "echo", BYTES_LITERAL("hello"));
        size_t body = body_of(&message);
        bool ttheader = form->envelope >= THRIFT_TTHEADER;
        /* In a frame whole messages with bad arguments are the handler's to answer; where the end is found by
         * skipping, a field of no known type ends it. The argument struct begins behind name and sequence. */
        if (form->envelope == THRIFT_UNFRAMED) {
            message.data[body + (form->protocol == THRIFT_BINARY ? 16 : 8)] = 0x1f;
            expect_rejected(env, &message, chunk, 7, "arguments");
        } else {
            /* The name's length points out of the frame. */
            message.data[body + (form->protocol == THRIFT_BINARY ? 4 : 3)] = 0x7f;
            expect_rejected(env, &message, chunk, ttheader ? form->ttheader_sequence : 0, "header");
        }
        strbuf_free(&message);
    }
}

/* TTHeader around what is no message, or said to be packed in a way that is not known. */
static void test_malformed_ttheader(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    for (int i = 2; i < MESSAGE_FORMS; i++) {
        const struct thrift_form *form = &message_forms[i];
        if (form->envelope < THRIFT_TTHEADER)
            continue;
        struct strbuf message = {0};
        message_add_push(&message, form, 7, "echo", BYTES_LITERAL("hello"));
        size_t body = body_of(&message);
        message.data[body] = 'x'; /* neither protocol */
        expect_rejected(env, &message, 0, form->ttheader_sequence, "header");
        strbuf_free(&message);
        message_add_push(&message, form, 7, "echo", BYTES_LITERAL("hello"));
        message.data[15] = 1; /* a transform */
        expect_rejected(env, &message, 0, 7, "arguments");
        if (form->envelope == THRIFT_TTHEADER_FRAMED) {
            message.data[15] = 0;
            message.data[body - 1]++; /* the inner frame's length */
            expect_rejected(env, &message, 0, 7, "arguments");
        }
        strbuf_free(&message);
    }
}

/* An answer is no call: nothing is said to it. Nor to a malformed oneway call. */
static void test_malformed_and_silent(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    static const enum thrift_message_kind kinds[] = {THRIFT_REPLY, THRIFT_EXCEPTION, THRIFT_ONEWAY};
    for (int i = 0; i < 6; i++) {
        struct raw raw;
        struct rpc_push_request push = {.producer = BYTES_LITERAL("echo"),
                                        .topic = BYTES_LITERAL(""),
                                        .partition = BYTES_LITERAL(""),
                                        .message = BYTES_LITERAL("x")};
        raw_connect(&raw, env);
        message_add_call(&raw.out, &message_forms[0], kinds[i / 2], RPC_METHOD_PUSH, 1, &push);
        if (i % 2 || kinds[i / 2] == THRIFT_ONEWAY)
            raw.out.data[16] = 0x1f;
        raw_send(&raw);
        if (env->simulated || kinds[i / 2] != THRIFT_ONEWAY)
            raw_wait_closed(&raw, 20000);
        assert_int_equal(raw.in.len, 0);
        raw_close(&raw);
    }
    assert_int_equal(env->calls, 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        {"test_half_closed", test_half_closed, env_setup_real, env_teardown, NULL},
        {"test_half_closed_large", test_half_closed_large, env_setup_real, env_teardown, NULL},
        {"test_half_closed_and_idle", test_half_closed_and_idle, env_setup_real, env_teardown, NULL},
        {"test_half_closed_and_stop", test_half_closed_and_stop, env_setup_real, env_teardown, NULL},
        TEST_BOTH(test_malformed),
        TEST_BOTH(test_malformed_ttheader),
        TEST_BOTH(test_malformed_and_silent),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
