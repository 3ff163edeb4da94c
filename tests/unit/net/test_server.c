/* Calls and answers over a server: forms, order, pieces, payloads, refusals, ends. On the real and the
 * simulated loop. */
#include "fixture.h"

#include "base/rng.h"
#include "base/utf8.h"

static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};

/* Every form on one connection each, and all of them mixed on one. */
static void test_forms(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    struct raw mixed;
    raw_connect(&mixed, env);
    for (int i = 0; i < MESSAGE_FORMS; i++) {
        struct raw raw;
        raw_connect(&raw, env);
        message_add_push(&raw.out, &message_forms[i], 7 + i, "echo", BYTES_LITERAL("hello"));
        message_add_push(&mixed.out, &message_forms[i], 70 + i, "echo", BYTES_LITERAL("hi"));
        raw_send(&raw);
        raw_send(&mixed);
        raw_expect_push(&raw, &message_forms[i], 7 + i, BYTES_LITERAL("hello"));
        raw_expect_push(&mixed, &message_forms[i], 70 + i, BYTES_LITERAL("hi"));
        raw_close(&raw);
    }
    raw_close(&mixed);
}

static void test_pipelined(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    char text[32];
    for (int i = 0; i < 3000; i++)
        message_add_push(&raw.out, &message_forms[i % MESSAGE_FORMS], i, "echo",
                         bytes_of(text, (size_t)snprintf(text, sizeof(text), "text %d", i)));
    raw_send(&raw);
    for (int i = 0; i < 3000; i++)
        raw_expect_push(&raw, &message_forms[i % MESSAGE_FORMS], i,
                        bytes_of(text, (size_t)snprintf(text, sizeof(text), "text %d", i)));
    assert_int_equal(env->calls, 3000);
    raw_close(&raw);
}

static bool held_1000(void *ctx)
{
    return ((struct env *)ctx)->held_count == 1000;
}

/* Answers made late and in another order leave in the calls' order. */
static void test_reordered(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    char text[32];
    for (int i = 0; i < 1000; i++)
        message_add_push(&raw.out, &framed, i, "hold",
                         bytes_of(text, (size_t)snprintf(text, sizeof(text), "text %d", i)));
    raw_send(&raw);
    env_run_until(env, held_1000, env, 10000);
    struct rng rng;
    rng_seed(&rng, 3);
    int order[1000];
    for (int i = 0; i < 1000; i++) {
        int j = (int)rng_below(&rng, (uint64_t)i + 1);
        order[i] = order[j];
        order[j] = i;
    }
    for (int i = 0; i < 1000; i++) {
        env_answer_held(env, order[i]);
        if (i % 100 == 0)
            env_run_for(env, 2);
    }
    for (int i = 0; i < 1000; i++)
        raw_expect_push(&raw, &framed, i, bytes_of(text, (size_t)snprintf(text, sizeof(text), "text %d", i)));
    raw_close(&raw);
}

static void test_byte_by_byte(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    raw.chunk = 1;
    for (int i = 0; i < MESSAGE_FORMS; i++)
        message_add_push(&raw.out, &message_forms[i], i, "echo", BYTES_LITERAL("drop by drop"));
    raw_send(&raw);
    for (int i = 0; i < MESSAGE_FORMS; i++)
        raw_expect_push(&raw, &message_forms[i], i, BYTES_LITERAL("drop by drop"));
    raw_close(&raw);
}

static void test_large(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    size_t sizes[] = {4000, 16000, 65000, 66000, 200000, 1000000};
    struct raw raw;
    raw_connect(&raw, env);
    for (int round = 0; round < 4; round++) {
        const struct thrift_form *form = &message_forms[round * 2 % MESSAGE_FORMS];
        for (size_t i = 0; i < 6; i++) {
            uint8_t *text = message_text((uint32_t)i, sizes[i]);
            message_add_push(&raw.out, form, (int32_t)i, "echo", bytes_of(text, sizes[i]));
            mem_free(text);
        }
        raw_send(&raw);
        for (size_t i = 0; i < 6; i++) {
            uint8_t *text = message_text((uint32_t)i, sizes[i]);
            raw_expect_push(&raw, form, (int32_t)i, bytes_of(text, sizes[i]));
            mem_free(text);
        }
    }
    raw_close(&raw);
}

static void add_pull(struct raw *raw, const struct thrift_form *form, int32_t sequence, int8_t option)
{
    struct rpc_pull_request request = {.option = option,
                                       .consumer = BYTES_LITERAL(""),
                                       .topic = BYTES_LITERAL("t"),
                                       .partition = BYTES_LITERAL("p")};
    message_add_call(&raw->out, form, THRIFT_CALL, RPC_METHOD_PULL, sequence, &request);
}

static void expect_pull(struct raw *raw, struct env *env, int32_t sequence)
{
    struct thrift_form form;
    struct thrift_message message = raw_receive(raw, &form);
    assert_int_equal(message.kind, THRIFT_REPLY);
    assert_int_equal(message.sequence, sequence);
    struct rpc_pull_response response;
    assert_int_equal(
        thrift_decode(form.protocol, message.args, 0, rpc_methods[RPC_METHOD_PULL].response, &response), 0);
    assert_int_equal(response.msgs.len, env->payload_size);
    assert_memory_equal(response.msgs.ptr, env->payload->data, env->payload_size);
    assert_true(response.ret);
    assert_int_equal(response.end_index, 5);
    assert_true(bytes_equal(response.err, BYTES_LITERAL("ok")));
}

/* Memory and ranges of files, between small answers, in every form. */
static void test_payloads(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    env_make_payload(env, 300000);
    struct raw raw;
    raw_connect(&raw, env);
    int32_t sequence = 0;
    for (int i = 0; i < MESSAGE_FORMS; i++) {
        add_pull(&raw, &message_forms[i], sequence++, 1);
        message_add_push(&raw.out, &framed, sequence++, "echo", BYTES_LITERAL("between"));
        add_pull(&raw, &message_forms[i], sequence++, 2);
    }
    raw_send(&raw);
    sequence = 0;
    for (int i = 0; i < MESSAGE_FORMS; i++) {
        expect_pull(&raw, env, sequence++);
        raw_expect_push(&raw, &framed, sequence++, BYTES_LITERAL("between"));
        expect_pull(&raw, env, sequence++);
    }
    assert_int_equal(env->released, 2 * MESSAGE_FORMS);
    env->payload_size = 0; /* an empty range is no payload */
    add_pull(&raw, &framed, 900, 2);
    add_pull(&raw, &framed, 901, 1);
    raw_send(&raw);
    expect_pull(&raw, env, 900);
    expect_pull(&raw, env, 901);
    assert_int_equal(env->released, 2 * MESSAGE_FORMS + 2);
    raw_close(&raw);
}

/* The file is shorter than promised: the connection ends rather than to lie. */
static void test_short_file(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    env_make_payload(env, 5000);
    struct raw raw;
    raw_connect(&raw, env);
    add_pull(&raw, &framed, 1, 3);
    raw_send(&raw);
    raw_wait_closed(&raw, 5000);
    assert_int_equal(env->released, 1);
    raw_close(&raw);
}

/* The disk cannot read it: not to be taken for an error of the network. */
static void test_unreadable_file(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    env_make_payload(env, 5000);
    sim_process_set_disk_faults(env->server_process, &(struct sim_disk_faults){.eio_read_ppm = 1000000});
    struct raw raw;
    raw_connect(&raw, env);
    add_pull(&raw, &framed, 1, 2);
    raw_send(&raw);
    raw_wait_closed(&raw, 5000);
    assert_int_equal(env->released, 1);
    assert_int_equal(env_metric(env, "clymq_net_closed_total{server=\"broker\",shard=\"0\",reason=\"file\"}"),
                     1);
    raw_close(&raw);
}

static void test_exceptions(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    message_add_push(&raw.out, &framed, 1, "fail", BYTES_LITERAL(""));
    struct rpc_create_topic_request create = {.topic = BYTES_LITERAL("t")};
    message_add_call(&raw.out, &framed, THRIFT_CALL, RPC_METHOD_CREATE_TOPIC, 2,
                     &create); /* not this port's */
    struct rpc_ping_pong_request ping = {.ping = true};
    message_add_call(&raw.out, &message_forms[4], THRIFT_ONEWAY, RPC_METHOD_PING_PONG, 3, &ping);
    message_add_call(&raw.out, &message_forms[0], THRIFT_CALL, RPC_METHOD_PUSH, 4,
                     &(struct rpc_push_request){.producer = BYTES_LITERAL("echo"),
                                                .topic = BYTES_LITERAL(""),
                                                .partition = BYTES_LITERAL(""),
                                                .message = BYTES_LITERAL("still here")});
    raw_send(&raw);
    raw_expect_exception(&raw, 1, THRIFT_INTERNAL_ERROR, "the handler says no to topic");
    raw_expect_exception(&raw, 2, THRIFT_UNKNOWN_METHOD, "CreateTopic");
    raw_expect_push(&raw, &message_forms[0], 4, BYTES_LITERAL("still here"));
    raw_close(&raw);
}

/* A sentence that is too long is cut between characters: clients decode it as UTF-8. */
static void test_long_sentence(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    for (int shift = 0; shift < 3; shift++) {
        struct raw raw;
        raw_connect(&raw, env);
        char topic[1000] = "ab";
        for (size_t i = (size_t)shift; i + 3 < sizeof(topic); i += 3)
            memcpy(topic + i, "\xe5\x8c\x97", 4);
        struct rpc_push_request push = {.producer = BYTES_LITERAL("fail"),
                                        .topic = bytes_of_text(topic),
                                        .partition = BYTES_LITERAL(""),
                                        .message = BYTES_LITERAL("")};
        message_add_call(&raw.out, &framed, THRIFT_CALL, RPC_METHOD_PUSH, 1, &push);
        raw_send(&raw);
        struct thrift_form form;
        struct thrift_message message = raw_receive(&raw, &form);
        struct thrift_exception_fields exception;
        assert_int_equal(thrift_decode_exception(form.protocol, message.args, &exception), 0);
        assert_in_range(exception.text.len, 500, 511);
        assert_true(utf8_valid(exception.text));
        raw_close(&raw);
    }
}

static bool called_twice(void *ctx)
{
    return ((struct env *)ctx)->calls == 2;
}

/* A oneway call has no place in the order, answered early, late or never. */
static void test_oneway(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    struct rpc_push_request push = {.producer = BYTES_LITERAL("hold"),
                                    .topic = BYTES_LITERAL(""),
                                    .partition = BYTES_LITERAL(""),
                                    .message = BYTES_LITERAL("x")};
    message_add_call(&raw.out, &framed, THRIFT_ONEWAY, RPC_METHOD_PUSH, 1, &push);
    message_add_push(&raw.out, &framed, 2, "echo", BYTES_LITERAL("a"));
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 2, BYTES_LITERAL("a"));
    env_run_until(env, called_twice, env, 1000);
    env_answer_held(env, 0);
    message_add_push(&raw.out, &framed, 3, "echo", BYTES_LITERAL("b"));
    message_add_call(&raw.out, &framed, THRIFT_ONEWAY, RPC_METHOD_PUSH, 4, &push);
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 3, BYTES_LITERAL("b"));
    raw_close(&raw); /* with the last one held: freed with the server */
}

static void test_garbage(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    const char *garbage[] = {"GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
                             "\x7f\xff\xff\xff\x80\x01\x00", "\x80\x01\x00\x02\x00\x00\x00\x04pushxxxx\x00"};
    size_t lengths[] = {18, 11, 8, 17};
    for (int i = 0; i < 4; i++) {
        struct raw raw;
        raw_connect(&raw, env);
        strbuf_append(&raw.out, garbage[i], lengths[i]);
        raw_send(&raw);
        raw_wait_closed(&raw, 5000);
        assert_int_equal(raw.in.len, 0);
        raw_close(&raw);
    }
    assert_int_equal(env->calls, 0);
}

static void test_mutated(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.receive_ms = 200;
    env_start(env, 1, &limits);
    for (uint64_t seed = 1; seed <= 150; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct raw raw;
        raw_connect(&raw, env);
        for (int i = 0; i < 3; i++)
            message_add_push(&raw.out, &message_forms[rng_below(&rng, MESSAGE_FORMS)], i, "echo",
                             BYTES_LITERAL("some text"));
        for (uint64_t i = rng_below(&rng, 4); i < 4; i++)
            raw.out.data[rng_below(&rng, raw.out.len)] ^= (char)(1 << rng_below(&rng, 8));
        raw_send(&raw);
        raw_close(&raw);
    }
    /* It still serves. */
    struct raw raw;
    raw_connect(&raw, env);
    message_add_push(&raw.out, &framed, 1, "echo", BYTES_LITERAL("alive"));
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 1, BYTES_LITERAL("alive"));
    raw_close(&raw);
}

/* Too big: told in the caller's form, in order, and then closed, however the header comes. */
static void test_oversized(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_message_bytes = 100000;
    env_start(env, 1, &limits);
    uint8_t *text = message_text(1, 3000000);
    for (int i = 0; i < MESSAGE_FORMS; i++) {
        for (int pieces = 0; pieces < 2; pieces++) {
            struct raw raw;
            raw_connect(&raw, env);
            message_add_push(&raw.out, &framed, 5, "echo", BYTES_LITERAL("before"));
            size_t before = raw.out.len;
            message_add_push(&raw.out, &message_forms[i], 6, "echo", bytes_of(text, 3000000));
            if (pieces) { /* only the start, byte by byte */
                raw.out.len = before + 100;
                raw.chunk = 1;
            }
            raw_send(&raw);
            assert_false(raw.cut); /* it was heard out */
            raw_expect_push(&raw, &framed, 5, BYTES_LITERAL("before"));
            raw_expect_exception(&raw, 6, THRIFT_PROTOCOL_ERROR, "100000 bytes");
            /* At once when all that was declared has come; otherwise the rest is waited for, which only
             * simulated time makes short. */
            if (env->simulated || (!pieces && message_forms[i].envelope != THRIFT_UNFRAMED))
                raw_wait_closed(&raw, 20000);
            assert_int_equal(raw.in.len, raw.in_at);
            raw_close(&raw);
        }
    }
    mem_free(text);
}

static bool conn_closed(void *ctx)
{
    struct env *env = ctx;
    return env->closed > 0;
}

static bool held_five(void *ctx)
{
    return ((struct env *)ctx)->held_count == 5;
}

/* The client goes away: its calls stay valid until they are answered. */
static void test_closed_with_calls(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    raw.deaf = true; /* closing with an answer unread is told to the server as a reset, not as an end */
    message_add_push(&raw.out, &framed, 9, "echo", BYTES_LITERAL("unread"));
    for (int i = 0; i < 5; i++)
        message_add_push(&raw.out, &framed, i, "hold", BYTES_LITERAL("text"));
    raw_send(&raw);
    env_run_until(env, held_five, env, 1000);
    env_answer_held(env, 4); /* answered, but not its turn */
    env_run_for(env, 20);
    raw_close(&raw);
    env_run_until(env, conn_closed, env, 1000);
    assert_int_equal(env->last_closed_id, env->last_conn_id);
    for (int i = 0; i < 4; i++) {
        assert_true(net_call_is_abandoned(env->held[i]));
        assert_memory_equal(env->held[i]->principal.name, "anonymous", 9);
        assert_non_null(strchr(env->held[i]->principal.address, ':'));
    }
    env_answer_held(env, 2);
    env_answer_held(env, 0);
    net_call_fail(env->held[1], THRIFT_INTERNAL_ERROR, 0, "too late");
    env_run_for(env, 5);
    /* held[3] is never answered: freed with the server */
}

static void test_stop_drains(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 3, &limits);
    struct raw idle, busy, slow;
    raw_connect(&idle, env);
    raw_connect(&busy, env);
    raw_connect(&slow, env);
    message_add_push(&idle.out, &framed, 1, "echo", BYTES_LITERAL("x"));
    raw_send(&idle);
    raw_expect_push(&idle, &framed, 1, BYTES_LITERAL("x"));
    for (int i = 0; i < 5; i++)
        message_add_push(&busy.out, &framed, i, "hold", BYTES_LITERAL("text"));
    raw_send(&busy);
    env_run_until(env, held_five, env, 1000);
    struct strbuf half = {0};
    message_add_push(&half, &framed, 9, "echo", BYTES_LITERAL("begun before the stop"));
    strbuf_append(&slow.out, half.data, half.len / 2);
    raw_send(&slow);
    env_run_for(env, 5);

    net_server_stop(env->server, 5000, NULL, NULL);
    raw_wait_closed(&idle, 1000);
    env_run_for(env, 20);
    assert_false(busy.closed);
    assert_false(slow.closed);
    strbuf_append(&slow.out, half.data + half.len / 2, half.len - half.len / 2);
    raw_send(&slow);
    raw_expect_push(&slow, &framed, 9, BYTES_LITERAL("begun before the stop"));
    raw_wait_closed(&slow, 3000);
    for (int i = 4; i >= 0; i--)
        env_answer_held(env, i);
    for (int i = 0; i < 5; i++)
        raw_expect_push(&busy, &framed, i, BYTES_LITERAL("text"));
    raw_wait_closed(&busy, 3000);
    env_run_for(env, 10);
    env->server_stopped = true;
    struct raw late;
    raw_connect(&late, env);
    raw_wait_closed(&late, 20000);
    strbuf_free(&half);
    raw_close(&idle);
    raw_close(&busy);
    raw_close(&slow);
    raw_close(&late);
}

/* After the grace everything is closed, also what waits for an answer. */
static void test_stop_grace(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    for (int i = 0; i < 5; i++)
        message_add_push(&raw.out, &framed, i, "hold", BYTES_LITERAL("text"));
    raw_send(&raw);
    env_run_until(env, held_five, env, 1000);
    env_stop(env, 50);
    raw_wait_closed(&raw, 1000);
    env_answer_held(env, 0); /* still allowed before the server is freed */
    raw_close(&raw);
}

static void test_counters(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    message_add_push(&raw.out, &framed, 1, "echo", BYTES_LITERAL("text"));
    size_t sent = raw.out.len;
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 1, BYTES_LITERAL("text"));
    assert_int_equal(env_metric(env, "clymq_net_connections{server=\"broker\",shard=\"0\"}"), 1);
    assert_int_equal(env_metric(env, "clymq_net_accepted_total{server=\"broker\"}"), 1);
    assert_int_equal(env_metric(env, "clymq_net_calls_total{server=\"broker\",shard=\"0\"}"), 1);
    assert_int_equal(env_metric(env, "clymq_net_received_bytes_total{server=\"broker\",shard=\"0\"}"), sent);
    assert_int_equal(env_metric(env, "clymq_net_sent_bytes_total{server=\"broker\",shard=\"0\"}"),
                     raw.in.len);
    assert_int_equal(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}"), 0);
    raw_close(&raw);
    env_run_until(env, conn_closed, env, 1000);
    assert_int_equal(env_metric(env, "clymq_net_connections{server=\"broker\",shard=\"0\"}"), 0);
    assert_int_equal(env_metric(env, "clymq_net_closed_total{server=\"broker\",shard=\"0\",reason=\"peer\"}"),
                     1);
}

/* Wherever memory runs out, connections may end, but nothing else breaks and nothing leaks. */
static void test_out_of_memory(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    env_make_payload(env, 100);
    uint8_t *text = message_text(1, 70000);
    int answered = 0;
    for (uint64_t nth = 1; nth <= 60; nth++) {
        struct raw raw;
        raw_connect(&raw, env);
        env_run_for(env, 2);
        message_add_push(&raw.out, &framed, 1, "echo", bytes_of(text, 70000));
        message_add_push(&raw.out, &message_forms[0], 2, "echo", bytes_of(text, 10));
        add_pull(&raw, &framed, 3, 1);
        mem_fail_nth(nth);
        raw_send(&raw);
        env_run_for(env, 5);
        mem_fail_nth(0);
        answered += raw.in.len > 0;
        raw_close(&raw);
    }
    assert_true(answered > 10);
    mem_free(text);
    struct raw raw;
    raw_connect(&raw, env);
    message_add_push(&raw.out, &framed, 1, "echo", BYTES_LITERAL("alive"));
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 1, BYTES_LITERAL("alive"));
    raw_close(&raw);
}

/* A crash of the server's process with calls and answers under way. */
static void test_crash(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 3, &limits);
    env_make_payload(env, 300000);
    struct raw raws[6];
    for (int i = 0; i < 6; i++) {
        raw_connect(&raws[i], env);
        raws[i].deaf = i % 2;
        message_add_push(&raws[i].out, &framed, 1, "hold", BYTES_LITERAL("x"));
        add_pull(&raws[i], &framed, 2, 2);
        if (i < 4) {
            raw_send(&raws[i]);
            env_run_for(env, 1);
        } else {
            raw_flush(&raws[i]); /* connecting, or between shards */
            sim_world_step(env->world);
        }
    }
    sim_process_crash(env->server_process, true);
    env_run_for(env, 10);
    for (int i = 0; i < 6; i++)
        raw_close(&raws[i]);
}

/* Starting fails cleanly: a taken port, a bad address or limit, no memory. */
static void test_start_failures(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    struct net_server_config config = {
        .address = env->address, .name = "second", .services = RPC_BROKER, .limits = limits};
    struct net_server *server = NULL;
    assert_int_equal(net_server_start(env->shards, &config, env->metrics, &server), CLYMQ_EBUSY);
    config.address = "nonsense";
    assert_int_equal(net_server_start(env->shards, &config, env->metrics, &server), CLYMQ_EINVAL);
    config.address = env->simulated ? "server:7009" : "127.0.0.1:0";
    config.limits.max_pipelined_calls = 0;
    assert_int_equal(net_server_start(env->shards, &config, env->metrics, &server), CLYMQ_EINVAL);
    config.limits = limits;
    int error;
    uint64_t nth = 0;
    do {
        mem_fail_nth(++nth);
        error = net_server_start(env->shards, &config, NULL, &server);
        mem_fail_nth(0);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
    } while (error);
    assert_true(nth > 8);
    net_server_stop(server, 0, NULL, NULL);
    env_run_for(env, 20);
    net_server_free(server);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_forms),          TEST_BOTH(test_pipelined),
        TEST_BOTH(test_reordered),      TEST_BOTH(test_byte_by_byte),
        TEST_BOTH(test_large),          TEST_BOTH(test_payloads),
        TEST_BOTH(test_short_file),     TEST_BOTH(test_exceptions),
        TEST_BOTH(test_long_sentence),  TEST_BOTH(test_oneway),
        TEST_BOTH(test_garbage),        TEST_BOTH(test_mutated),
        TEST_BOTH(test_oversized),      TEST_BOTH(test_closed_with_calls),
        TEST_BOTH(test_stop_drains),    TEST_BOTH(test_stop_grace),
        TEST_BOTH(test_counters),       TEST_BOTH(test_start_failures),
        TEST_BOTH(test_out_of_memory),  TEST_SIM(test_crash),
        TEST_SIM(test_unreadable_file),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
