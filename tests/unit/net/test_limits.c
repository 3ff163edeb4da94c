/* Every limit of a server: who is refused, when reading stops and goes on again, what is closed in the end,
 * and that the others are served meanwhile. On the real and the simulated loop. */
#include "fixture.h"

#include "net/conn.h"

static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};

static void expect_alive(struct raw *raw, int32_t sequence)
{
    message_add_push(&raw->out, &framed, sequence, "echo", BYTES_LITERAL("alive"));
    raw_send(raw);
    raw_expect_push(raw, &framed, sequence, BYTES_LITERAL("alive"));
}

static int64_t closed_by(struct env *env, const char *reason)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < env->shard_count; i++) {
        char name[128];
        snprintf(name, sizeof(name), "clymq_net_closed_total{server=\"broker\",shard=\"%u\",reason=\"%s\"}",
                 i, reason);
        sum += env_metric(env, name);
    }
    return sum;
}

static bool one_closed(void *ctx)
{
    return ((struct env *)ctx)->closed >= 1;
}

static void test_connections(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_connections = 3;
    env_start(env, 2, &limits);
    struct raw raws[4];
    for (int i = 0; i < 4; i++) {
        raw_connect(&raws[i], env);
        if (i < 3)
            expect_alive(&raws[i], i);
    }
    raw_wait_closed(&raws[3], 5000);
    assert_int_equal(env_metric(env, "clymq_net_refused_total{server=\"broker\"}"), 1);
    raw_close(&raws[0]);
    env_run_until(env, one_closed, env, 1000);
    env_run_for(env, 5);
    raw_close(&raws[3]);
    raw_connect(&raws[3], env);
    expect_alive(&raws[3], 9);
    for (int i = 1; i < 4; i++)
        raw_close(&raws[i]);
}

static void test_connections_per_address(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_connections_per_address = 2;
    env_start(env, 3, &limits);
    for (int round = 0; round < 3; round++) {
        struct raw raws[3];
        for (int i = 0; i < 3; i++) {
            raw_connect(&raws[i], env);
            if (i < 2)
                expect_alive(&raws[i], i);
        }
        raw_wait_closed(&raws[2], 5000);
        assert_int_equal(closed_by(env, "address_limit"), round + 1);
        for (int i = 0; i < 3; i++)
            raw_close(&raws[i]);
        env_run_for(env, 10);
    }
}

static bool held_one(void *ctx)
{
    return ((struct env *)ctx)->held_count == 1;
}

static bool held_all(void *ctx)
{
    return ((struct env *)ctx)->held_count >= 20;
}

static void test_pipelined_calls(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_pipelined_calls = 8;
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    for (int i = 0; i < 20; i++)
        message_add_push(&raw.out, &framed, i, "hold", BYTES_LITERAL("x"));
    raw_send(&raw);
    env_run_for(env, 20);
    assert_int_equal(env->held_count, 8);
    /* One answer is not enough to go on: it would be call by call. */
    env_answer_held(env, 0);
    env_run_for(env, 5);
    assert_int_equal(env->held_count, 8);
    env_answer_held(env, 1);
    env_run_for(env, 5);
    assert_int_equal(env->held_count, 10);
    for (int next = 2; next < 20; next++)
        for (env_answer_held(env, next); next + 1 >= env->held_count && next < 19;)
            env_run_for(env, 1);
    for (int i = 0; i < 20; i++)
        raw_expect_push(&raw, &framed, i, BYTES_LITERAL("x"));
    raw_close(&raw);
}

static void add_holds(struct raw *raw, int count, size_t size)
{
    uint8_t *text = message_text(1, size);
    for (int i = 0; i < count; i++)
        message_add_push(&raw->out, &framed, i, "hold", bytes_of(text, size));
    mem_free(text);
}

static void test_connection_bytes(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_connection_inflight_bytes = 100000;
    env_start(env, 1, &limits);
    struct raw raw, other;
    raw_connect(&raw, env);
    raw_connect(&other, env);
    add_holds(&raw, 20, 20000);
    raw_flush(&raw);
    env_run_for(env, 20);
    assert_in_range(env->held_count, 5, 6);
    expect_alive(&other, 1);
    int answered = 0;
    while (!held_all(env)) {
        while (answered < env->held_count)
            env_answer_held(env, answered++);
        env_run_for(env, 1);
        assert_true(env->held_count - answered <= 6);
    }
    raw_close(&raw);
    raw_close(&other);
}

/* What handlers hold counts, too: small calls may be large ones inside. */
static void test_calls_cost_more_than_their_bytes(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_connection_inflight_bytes = 100000;
    limits.call_bytes = 10000;
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    add_holds(&raw, 20, 10);
    raw_flush(&raw);
    env_run_for(env, 20);
    assert_in_range(env->held_count, 9, 10);
    int answered = 0;
    while (!held_all(env)) {
        while (answered < env->held_count)
            env_answer_held(env, answered++);
        env_run_for(env, 1);
    }
    while (answered < env->held_count)
        env_answer_held(env, answered++);
    env_run_for(env, 10);
    assert_true(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}") < 10000);
    raw_close(&raw);
}

/* The server's memory is full of calls: no connection gets more than one, and all are served in the end. */
static void test_server_bytes(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_inflight_bytes = 200000;
    env_start(env, 1, &limits);
    struct raw raws[4], late;
    for (int i = 0; i < 4; i++) {
        raw_connect(&raws[i], env);
        add_holds(&raws[i], 10, 20000);
        raw_flush(&raws[i]);
    }
    env_run_for(env, 50);
    assert_in_range(env->held_count, 8, 13);
    int64_t inflight = env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}");
    assert_true(inflight < 200000 + 5 * (20000 + 65536));
    raw_connect(&late, env);
    expect_alive(&late, 1);
    expect_alive(&late, 2);
    int answered = 0;
    for (int round = 0; round < 2000 && answered < 40; round++) {
        if (answered < env->held_count)
            env_answer_held(env, answered++);
        env_run_for(env, 1);
        assert_true(env->held_count - answered <= 14);
    }
    assert_int_equal(answered, 40);
    env_run_for(env, 20);
    assert_int_equal(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}"), 0);
    for (int i = 0; i < 4; i++) {
        for (int j = 0; j < 10; j++) {
            struct thrift_message message = raw_receive(&raws[i], NULL);
            assert_int_equal(message.sequence, j);
        }
        raw_close(&raws[i]);
    }
    raw_close(&late);
}

/* Large messages beyond the share come in one at a time; a stuck one costs the others its time, no more. */
static void test_large_messages(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_inflight_bytes = 150000;
    limits.receive_ms = 500;
    env_start(env, 1, &limits);
    struct raw stuck, raws[4], other;
    raw_connect(&other, env);
    raw_connect(&stuck, env);
    add_holds(&stuck, 1, 900000);
    stuck.out.len = 200000;
    raw_flush(&stuck);
    env_run_for(env, 20);
    for (int i = 0; i < 4; i++) {
        raw_connect(&raws[i], env);
        add_holds(&raws[i], 2, 300000);
        raw_flush(&raws[i]);
    }
    env_run_for(env, 100);
    assert_true(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}") < 1400000);
    expect_alive(&other, 99); /* small ones go on */
    int answered = 0;
    for (int round = 0; round < 5000 && answered < 8; round++) {
        if (answered < env->held_count)
            env_answer_held(env, answered++);
        env_run_for(env, 1);
        assert_true(env->held_count - answered <= 1);
    }
    assert_int_equal(answered, 8);
    assert_int_equal(closed_by(env, "receive_timeout"), 1);
    raw_close(&stuck);
    raw_close(&other);
    for (int i = 0; i < 4; i++)
        raw_close(&raws[i]);
}

static bool large_chosen(void *ctx)
{
    return ((struct env *)ctx)->server->parts[0]->large != NULL;
}

static bool large_waits(void *ctx)
{
    return !list_empty(&((struct env *)ctx)->server->parts[0]->large_waiting);
}

static bool held_another(void *ctx)
{
    struct env *env = ctx;
    return env->held_count > 1 && env->held[env->held_count - 1];
}

/* Who has sent a large message gives up its place once that is answered, also where the next one has begun:
 * the one that waits comes first. */
static void test_large_messages_take_turns(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_inflight_bytes = 150000;
    env_start(env, 1, &limits);
    struct raw keeper, greedy, other;
    raw_connect(&keeper, env);
    add_holds(&keeper, 1, 120000); /* more than the low mark: memory stays short */
    raw_send(&keeper);
    env_run_until(env, held_one, env, 1000);
    raw_connect(&greedy, env);
    expect_alive(&greedy, 99);
    uint64_t greedy_id = env->last_conn_id;
    raw_connect(&other, env);
    add_holds(&greedy, 1, 300000);
    size_t first = greedy.out.len;
    add_holds(&greedy, 2, 300000);
    size_t all = greedy.out.len;
    greedy.out.len = first - 1000; /* so little is read together with what follows */
    raw_send(&greedy);
    env_run_until(env, large_chosen, env, 1000);
    add_holds(&other, 1, 300000);
    raw_flush(&other);
    env_run_until(env, large_waits, env, 1000);
    greedy.out_at = first - 1000;
    greedy.out.len = all;
    raw_flush(&greedy);
    for (int i = 1; i <= 4; i++) {
        env_run_until(env, held_another, env, 5000);
        assert_int_equal(env->held_count, i + 1);
        assert_int_equal(net_call_conn_id(env->held[i]) == greedy_id, i != 2);
        env_answer_held(env, i);
    }
    env_answer_held(env, 0);
    raw_close(&keeper);
    raw_close(&greedy);
    raw_close(&other);
}

static void add_pulls(struct raw *raw, int count, int8_t option)
{
    struct rpc_pull_request request = {.option = option,
                                       .consumer = BYTES_LITERAL(""),
                                       .topic = BYTES_LITERAL("t"),
                                       .partition = BYTES_LITERAL("p")};
    for (int i = 0; i < count; i++)
        message_add_call(&raw->out, &framed, THRIFT_CALL, RPC_METHOD_PULL, i, &request);
}

/* A client that asks and never reads: bounded memory, then closed; the files' holders are told. */
static void test_never_reading(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_connection_inflight_bytes = 4 << 20;
    limits.send_ms = 300;
    env_start(env, 1, &limits);
    env_make_payload(env, 1000000);
    for (int8_t option = 1; option <= 2; option++) {
        struct raw deaf, other;
        raw_connect(&deaf, env);
        raw_connect(&other, env);
        deaf.deaf = true;
        add_pulls(&deaf, 2000, option);
        env->closed = 0;
        raw_flush(&deaf);
        env_run_for(env, 100);
        assert_true(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}") < 6000000);
        assert_true(env->calls <= (option == 1 ? 20 : 3000));
        expect_alive(&other, 1);
        env_run_until(env, one_closed, env, 3000);
        assert_int_equal(closed_by(env, "send_timeout"), option);
        raw_close(&deaf);
        raw_close(&other);
        env_run_for(env, 10);
        assert_int_equal(env->payload->refs, 1);
    }
}

/* A slow reader that does read is not closed. */
static void test_slow_reader(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.send_ms = 400;
    env_start(env, 1, &limits);
    env_make_payload(env, 3000000);
    struct raw raw;
    raw_connect(&raw, env);
    add_pulls(&raw, 4, 2);
    raw_send(&raw);
    for (int i = 0; i < 4; i++) {
        raw.deaf = true;
        raw_flush(&raw);
        env_run_for(env, 200);
        raw.deaf = false;
        raw_flush(&raw);
        raw_receive(&raw, NULL);
    }
    assert_false(raw.closed);
    raw_close(&raw);
}

static void test_idle(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.idle_ms = 200;
    env_start(env, 1, &limits);
    struct raw idle, waiting;
    raw_connect(&idle, env);
    raw_connect(&waiting, env);
    expect_alive(&idle, 1);
    message_add_push(&waiting.out, &framed, 1, "hold", BYTES_LITERAL("x"));
    raw_send(&waiting);
    env_run_until(env, held_one, env, 1000);
    for (int i = 0; i < 8; i++) { /* traffic keeps it */
        env_run_for(env, 50);
        expect_alive(&idle, 2 + i);
    }
    raw_wait_closed(&idle, 1000);
    assert_int_equal(closed_by(env, "idle"), 1);
    assert_false(waiting.closed);
    env_answer_held(env, 0);
    raw_expect_push(&waiting, &framed, 1, BYTES_LITERAL("x"));
    raw_wait_closed(&waiting, 1000);
    assert_int_equal(closed_by(env, "idle"), 2);
    raw_close(&idle);
    raw_close(&waiting);
}

static void test_receive_timeout(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.receive_ms = 200;
    env_start(env, 1, &limits);
    struct raw stuck, drip, steady;
    struct strbuf message = {0};
    uint8_t *text = message_text(1, 60000);
    message_add_push(&message, &framed, 1, "echo", bytes_of(text, 60000));
    raw_connect(&stuck, env);
    raw_connect(&drip, env);
    raw_connect(&steady, env);
    strbuf_append(&stuck.out, message.data, 30000);
    raw_send(&stuck);
    /* One drips a byte at a time, always within receive_ms; the other sends at 40 KB/s, longer than
     * receive_ms in all. */
    for (size_t i = 0; i < 60000 / 2000; i++) {
        if (!drip.closed)
            strbuf_append(&drip.out, message.data + i, 1);
        strbuf_append(&steady.out, message.data + i * 2000, 2000);
        if (!drip.closed)
            raw_send(&drip);
        raw_send(&steady);
        env_run_for(env, 50);
    }
    assert_true(stuck.closed);
    assert_true(drip.closed);
    assert_false(steady.closed);
    strbuf_append(&steady.out, message.data + 60000, message.len - 60000);
    raw_send(&steady);
    raw_expect_push(&steady, &framed, 1, bytes_of(text, 60000));
    assert_int_equal(closed_by(env, "receive_timeout"), 2);
    mem_free(text);
    strbuf_free(&message);
    raw_close(&stuck);
    raw_close(&drip);
    raw_close(&steady);
}

/* Reading that the server itself has stopped is not the client's slowness. */
static void test_paused_is_not_slow(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_pipelined_calls = 2;
    limits.receive_ms = 150;
    limits.idle_ms = 300;
    env_start(env, 1, &limits);
    struct raw raw;
    raw_connect(&raw, env);
    add_holds(&raw, 6, 30000);
    raw_flush(&raw);
    env_run_for(env, 600);
    assert_int_equal(env->held_count, 2);
    assert_false(raw.closed);
    for (int i = 0; i < 6; i++) {
        env_answer_held(env, i);
        raw_receive(&raw, NULL);
        env_run_for(env, 5);
    }
    raw_close(&raw);
}

static void ignore(void *ctx, unsigned events)
{
}

static void test_idle_memory(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    assert_true(sizeof(struct net_conn) + 64 <= 1024);
    struct raw raw;
    raw_connect(&raw, env);
    uint8_t *text = message_text(1, 200000);
    message_add_push(&raw.out, &framed, 1, "quiet", bytes_of(text, 200000));
    raw_send(&raw);
    raw_expect_push(&raw, &framed, 1, BYTES_LITERAL(""));
    env_run_for(env, 5);
    uint64_t before = mem_live_bytes();
    struct raw raws[100];
    for (int i = 0; i < 100; i++) {
        raw_connect(&raws[i], env);
        message_add_push(&raws[i].out, &framed, 1, "quiet", bytes_of(text, (size_t)(i % 3) * 40000));
        raw_send(&raws[i]);
        raw_expect_push(&raws[i], &framed, 1, BYTES_LITERAL(""));
        strbuf_free(&raws[i].out);
        strbuf_free(&raws[i].in);
        raws[i].in_at = 0;
    }
    env_run_for(env, 5);
    /* Both ends' streams are in it, too. */
    assert_true(mem_live_bytes() - before < 100 * 4096);
    for (int i = 0; i < 100; i++)
        raw_close(&raws[i]);
    raw_close(&raw);
    mem_free(text);
}

/* A call that ends after its connection counts no more, and the gauge says so although nothing else happens.
 */
static void test_calls_of_the_gone(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.send_ms = 100;
    env_start(env, 1, &limits);
    env_make_payload(env, 200000);
    struct raw raw;
    raw_connect(&raw, env);
    raw.deaf = true;
    add_pulls(&raw, 100, 1);
    message_add_push(&raw.out, &framed, 100, "hold", BYTES_LITERAL("x"));
    raw_flush(&raw);
    env_run_until(env, one_closed, env, 5000);
    assert_int_equal(closed_by(env, "send_timeout"), 1);
    assert_int_equal(env->held_count, 1);
    env_answer_held(env, 0);
    env_run_for(env, 20);
    assert_int_equal(env_metric(env, "clymq_net_inflight_bytes{server=\"broker\",shard=\"0\"}"), 0);
    raw_close(&raw);
}

/* Short calls take the time of a round, not their bytes: of connections with thousands of them each, a few
 * hundred are handled at a time, and others get their turn. The simulated loop runs an event a round. */
static void test_calls_of_a_round(void **state)
{
    enum { CLIENTS = 20, CALLS = 1000 };
    struct env *env = *state;
    struct net_limits limits = env_limits();
    if (!env->simulated)
        return;
    limits.max_pipelined_calls = 100000;
    env_start(env, 1, &limits);
    struct raw raws[CLIENTS];
    for (int i = 0; i < CLIENTS; i++) {
        raw_connect(&raws[i], env);
        for (int k = 0; k < CALLS; k++)
            message_add_push(&raws[i].out, &framed, k, "quiet", BYTES_LITERAL("x"));
        raw_flush(&raws[i]);
    }
    int most = 0;
    uint64_t end = sim_world_now_ns(env->world) + IO_MS(60000);
    while (env->calls < CLIENTS * CALLS && sim_world_now_ns(env->world) < end) {
        int before = env->calls;
        if (!sim_world_step(env->world))
            break;
        most = env->calls - before > most ? env->calls - before : most;
    }
    assert_int_equal(env->calls, CLIENTS * CALLS);
    assert_in_range(most, 100, 300);
    for (int i = 0; i < CLIENTS; i++)
        raw_close(&raws[i]);
}

/* Many connections, most of them idle, cost little each and do not slow the others down. */
static void test_many(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 4, &limits);
    int count = env->simulated ? 2000 : 200;
    struct io_stream **streams = mem_calloc((size_t)count, sizeof(*streams));
    struct io_stream_handler handler = {ignore, NULL};
    assert_non_null(streams);
    for (int i = 0; i < count; i++)
        assert_int_equal(io_loop_connect(env->client_loop, env->address, handler, &streams[i]), 0);
    env_run_for(env, 100);
    struct raw raw;
    raw_connect(&raw, env);
    for (int i = 0; i < 100; i++)
        expect_alive(&raw, i);
    int64_t open = 0;
    for (unsigned i = 0; i < env->shard_count; i++) {
        char name[64];
        snprintf(name, sizeof(name), "clymq_net_connections{server=\"broker\",shard=\"%u\"}", i);
        open += env_metric(env, name);
    }
    assert_int_equal(open, count + 1);
    raw_close(&raw);
    for (int i = 0; i < count; i++)
        io_stream_close(streams[i]);
    mem_free(streams);
    env_run_for(env, 100);
    assert_int_equal(env->closed, count + 1);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_connections),
        TEST_BOTH(test_connections_per_address),
        TEST_BOTH(test_pipelined_calls),
        TEST_BOTH(test_connection_bytes),
        TEST_BOTH(test_calls_cost_more_than_their_bytes),
        TEST_BOTH(test_server_bytes),
        TEST_BOTH(test_large_messages),
        TEST_BOTH(test_large_messages_take_turns),
        TEST_BOTH(test_never_reading),
        TEST_BOTH(test_slow_reader),
        TEST_BOTH(test_idle),
        TEST_BOTH(test_receive_timeout),
        TEST_BOTH(test_paused_is_not_slow),
        TEST_BOTH(test_idle_memory),
        TEST_BOTH(test_calls_of_the_gone),
        TEST_BOTH(test_calls_of_a_round),
        TEST_BOTH(test_many),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
