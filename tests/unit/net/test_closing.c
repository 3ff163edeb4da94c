/* The sockets of connections that end at once: closed over several rounds, all of them, and none too late. */
#include "fixture.h"

#include "net/conn.h"

enum { CLIENTS = 100, ROUND_CLOSES = 4 /* each is a look at the simulated clock, 50 of 200 µs */ };

static int64_t open_connections(struct env *env)
{
    return env_metric(env, "clymq_net_connections{server=\"broker\",shard=\"0\"}");
}

static bool all_open(void *ctx)
{
    return open_connections(ctx) == CLIENTS;
}

static bool none_open(void *ctx)
{
    return open_connections(ctx) == 0;
}

static bool stopped(void *ctx)
{
    return ((struct env *)ctx)->server_stopped;
}

static void connect_all(struct env *env, struct raw *raws)
{
    for (int i = 0; i < CLIENTS; i++)
        raw_connect(&raws[i], env);
    env_run_until(env, all_open, env, 20000);
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

/* The most connections that one of the next events, each a round of the simulated loop, ended. */
static int64_t most_closed_by_event(struct env *env, int ms)
{
    int64_t most = 0, before = open_connections(env);
    uint64_t end = sim_world_now_ns(env->world) + IO_MS(ms);
    while (before > 0 && sim_world_now_ns(env->world) < end && sim_world_step(env->world)) {
        int64_t now = open_connections(env);
        most = before - now > most ? before - now : most;
        before = now;
    }
    return most;
}

static void test_at_once(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.idle_ms = 500;
    env_start(env, 1, &limits);
    struct raw raws[CLIENTS];
    connect_all(env, raws);
    if (env->simulated)
        assert_in_range(most_closed_by_event(env, 1000), 2, ROUND_CLOSES);
    expect_all_closed(env, raws);
}

/* A connection that ends in good order is closed while nothing more has come in, or its peer might lose the
 * last answers: all of them in one round. */
static void test_orderly(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raws[CLIENTS];
    connect_all(env, raws);
    env_begin_stop(env, 1000);
    if (env->simulated)
        assert_int_equal(most_closed_by_event(env, 1000), CLIENTS);
    env_run_until(env, stopped, env, 20000);
    expect_all_closed(env, raws);
}

/* The server's stop waits for those that are closed when its patience ends. */
static void test_grace(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    struct raw raws[CLIENTS];
    connect_all(env, raws);
    for (int i = 0; i < CLIENTS; i++) {
        char half[] = {0, 0};
        strbuf_append(&raws[i].out, half, 1 + (size_t)i % 2);
        raw_send(&raws[i]);
    }
    env_run_for(env, 5);
    env_stop(env, 10);
    assert_int_equal(open_connections(env), 0);
    expect_all_closed(env, raws);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_at_once),
        TEST_BOTH(test_orderly),
        TEST_BOTH(test_grace),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
