/* The sockets of connections that end at once: closed over several rounds, all of them, and none too late. */
#include "fixture.h"

#include "net/conn.h"
#include "unit/refused_timer.h"

/* A round closes sockets for 200 µs, and of a look at the simulated clock to the next one are 50. */
enum { CLIENTS = 100, ROUND_CLOSES = 4, IDLE_MS = 500 };

static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};

static int64_t open_connections(struct env *env)
{
    return env_metric(env, "clymq_net_connections{server=\"broker\",shard=\"0\"}");
}

static bool all_accepted(void *ctx)
{
    return env_metric(ctx, "clymq_net_accepted_total{server=\"broker\"}") == CLIENTS;
}

static bool none_open(void *ctx)
{
    return open_connections(ctx) == 0;
}

static bool all_closed(void *ctx)
{
    return ((struct env *)ctx)->closed == CLIENTS;
}

/* A server, and clients that it closes all at once when they have been idle for so long; 0: for the usual
 * time. */
static void begin(struct env *env, struct raw *raws, int64_t idle_ms)
{
    struct net_limits limits = env_limits();
    if (idle_ms)
        limits.idle_ms = idle_ms;
    env_start(env, 1, &limits);
    for (int i = 0; i < CLIENTS; i++)
        raw_connect(&raws[i], env);
    env_run_until(env, all_accepted, env, 20000);
    env_run_for(env, 5); /* on their way to their shard */
}

static void expect_all_closed(struct env *env, struct raw *raws)
{
    env_run_until(env, none_open, env, 20000);
    assert_int_equal(env->closed, CLIENTS);
    for (int i = 0; i < CLIENTS; i++) {
        raw_wait_closed(&raws[i], 20000);
        raw_close(&raws[i]);
    }
}

/* The most connections whose sockets one of the next events, each a round of the simulated loop, closed. */
static int64_t most_closed_by_event(struct env *env, int ms)
{
    int64_t most = 0, before = open_connections(env);
    uint64_t end = sim_world_now_ns(env->world) + IO_MS(ms);
    while (before > 0 && sim_world_now_ns(env->world) < end && sim_world_step(env->world)) {
        int64_t now = open_connections(env);
        most = before - now > most ? before - now : most;
        before = now;
    }
    assert_int_equal(before, 0);
    return most;
}

static void test_at_once(void **state)
{
    struct env *env = *state;
    struct raw raws[CLIENTS];
    begin(env, raws, IDLE_MS);
    if (env->simulated)
        assert_in_range(most_closed_by_event(env, 1000), 2, ROUND_CLOSES);
    expect_all_closed(env, raws);
}

static void ignore(void *ctx, unsigned events)
{
}

/* The more there are the more a round closes. */
static void test_very_many(void **state)
{
    enum { MANY = 3000, PART = MANY / 256 };
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.idle_ms = IDLE_MS;
    env_start(env, 1, &limits);
    struct io_stream **streams = mem_calloc(MANY, sizeof(*streams));
    struct io_stream_handler handler = {ignore, NULL};
    assert_non_null(streams);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(io_loop_connect(env->client_loop, env->address, handler, &streams[i]), 0);
    env_run_for(env, 100);
    assert_int_equal(open_connections(env), MANY);
    assert_in_range(most_closed_by_event(env, 1000), PART - 3, PART);
    for (int i = 0; i < MANY; i++)
        io_stream_close(streams[i]);
    mem_free(streams);
}

/* A connection that ends in good order is closed while nothing more has come in, or its peer might lose the
 * last answers: all of them in one round. */
static void test_in_good_order(void **state)
{
    struct env *env = *state;
    struct raw raws[CLIENTS];
    begin(env, raws, 0);
    env_begin_stop(env, 1000);
    if (env->simulated)
        assert_int_equal(most_closed_by_event(env, 1000), CLIENTS);
    env_wait_stopped(env, 20000);
    expect_all_closed(env, raws);
}

/* Not in good order: refused in the middle of a message, of which the rest does not come. */
static void test_lingering(void **state)
{
    struct env *env = *state;
    struct raw raws[CLIENTS];
    begin(env, raws, 0);
    for (int i = 0; i < CLIENTS; i++) {
        message_add_push(&raws[i].out, &framed, 1, "quiet", BYTES_LITERAL("x"));
        raws[i].out.data[1] = 0x20; /* of its length: 2 MiB more */
        raw_send(&raws[i]);
        raw_expect_exception(&raws[i], 1, THRIFT_PROTOCOL_ERROR, "larger than the limit");
    }
    if (env->simulated)
        assert_in_range(most_closed_by_event(env, 5000), 2, ROUND_CLOSES);
    expect_all_closed(env, raws);
}

static bool halves_received(void *ctx)
{
    return env_metric(ctx, "clymq_net_received_bytes_total{server=\"broker\",shard=\"0\"}") == CLIENTS;
}

static void send_halves(struct env *env, struct raw *raws)
{
    for (int i = 0; i < CLIENTS; i++) {
        strbuf_append(&raws[i].out, "", 1);
        raw_send(&raws[i]);
    }
    env_run_until(env, halves_received, env, 20000);
}

/* The server's stop waits for those that are closed when its patience ends. */
static void test_patience(void **state)
{
    struct env *env = *state;
    struct raw raws[CLIENTS];
    begin(env, raws, 0);
    send_halves(env, raws);
    env_begin_stop(env, 10);
    if (env->simulated)
        assert_in_range(most_closed_by_event(env, 1000), 2, ROUND_CLOSES);
    env_wait_stopped(env, 20000);
    assert_int_equal(open_connections(env), 0);
    assert_int_equal(env_metric(env, "clymq_net_closed_total{server=\"broker\",shard=\"0\",reason=\"stop\"}"),
                     CLIENTS);
    expect_all_closed(env, raws);
}

/* All connections are closed, and most sockets not yet. */
static void idle_out(struct env *env)
{
    env_run_until(env, all_closed, env, 2000);
    assert_in_range(open_connections(env), 2, CLIENTS);
}

/* The server dies, or stops, with sockets that wait to be closed. */
static void test_crash(void **state)
{
    struct env *env = *state;
    struct raw raws[CLIENTS];
    begin(env, raws, IDLE_MS);
    idle_out(env);
    sim_process_crash(env->server_process, true);
    env_run_for(env, 10);
    for (int i = 0; i < CLIENTS; i++)
        raw_close(&raws[i]);
}

static void test_stop(void **state)
{
    struct env *env = *state;
    struct raw raws[CLIENTS];
    begin(env, raws, IDLE_MS);
    idle_out(env);
    env_stop(env, 0);
    expect_all_closed(env, raws);
}

/* Without memory for the timer, the first time or later, all are closed at once. */
static void without_timer(struct env *env, bool later)
{
    struct raw raws[CLIENTS];
    begin(env, raws, IDLE_MS);
    if (later)
        idle_out(env);
    refused_timer_begin(env->loops[0], &env->server->parts[0]->next_closing);
    env_run_until(env, none_open, env, 2000);
    refused_timer_end(env->loops[0]);
    assert_in_range(refused_timer.count, 1, CLIENTS);
    expect_all_closed(env, raws);
}

static void test_without_timer(void **state)
{
    without_timer(*state, false);
}

static void test_without_timer_later(void **state)
{
    without_timer(*state, true);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_at_once),   TEST_SIM(test_very_many),     TEST_BOTH(test_in_good_order),
        TEST_BOTH(test_lingering), TEST_BOTH(test_patience),     TEST_SIM(test_crash),
        TEST_SIM(test_stop),       TEST_SIM(test_without_timer), TEST_SIM(test_without_timer_later),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
