/* Random clients, limits, faults and ends, in the simulator, by seed: every call is told once and in order,
 * memory in flight comes back to nothing, connections are counted right, and whatever way the server ends
 * nothing leaks. test_random [first seed [count]] */
#include "fixture.h"

#include <stdlib.h>

#include "base/rng.h"
#include "net/conn.h"

enum { CLIENTS = 8, STEPS = 400 };

struct client {
    struct env *env;
    struct net_link *link;
    uint32_t next_sent, next_told;
};

struct run {
    struct env *env;
    struct rng rng;
    struct client clients[CLIENTS];
    struct raw noisy;
    bool noisy_open;
    uint8_t *text;
    int told, failed, links;
    int64_t share_worst; /* of a shard's memory in flight */
};

static uint64_t first_seed = 1, seeds = 40;

static void on_closed(void *ctx, int error)
{
    struct client *client = ctx;
    assert_int_equal(net_link_outstanding(client->link), 0);
    net_link_free(client->link);
    client->link = NULL;
}

struct token {
    struct run *run;
    struct client *client;
    uint32_t number;
    size_t len; /* of the text expected; SIZE_MAX = an exception */
};

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct token token = *(struct token *)ctx;
    mem_free(ctx);
    assert_int_equal(token.number, token.client->next_told);
    token.client->next_told++;
    token.run->told++;
    if (answer->error == CLYMQ_EUNSUPPORTED) {
        assert_true(token.len == SIZE_MAX);
    } else if (answer->error) {
        token.run->failed++;
    } else {
        /* Both structs of answers begin with a string or a boolean and one; the method is known by the
         * length. */
        const struct rpc_push_response *response = answer->response;
        assert_true(response->ret);
        assert_int_equal(response->err.len, token.len);
        assert_memory_equal(response->err.ptr, token.run->text, token.len);
    }
}

static void on_pulled(void *ctx, const struct net_answer *answer)
{
    struct token token = *(struct token *)ctx;
    mem_free(ctx);
    assert_int_equal(token.number, token.client->next_told);
    token.client->next_told++;
    token.run->told++;
    if (answer->error) {
        token.run->failed++;
        return;
    }
    const struct rpc_pull_response *response = answer->response;
    assert_int_equal(response->msgs.len, token.run->env->payload_size);
    assert_memory_equal(response->msgs.ptr, token.run->env->payload->data, response->msgs.len);
}

static void connect_client(struct run *run, struct client *client)
{
    struct net_link_config config = {.address = run->env->address,
                                     .connect_ms = 2000,
                                     .max_message_bytes = 4 << 20,
                                     .on_closed = on_closed,
                                     .ctx = client};
    client->next_sent = client->next_told = 0;
    assert_int_equal(net_link_new(run->env->client_loop, &config, &client->link), 0);
    run->links++;
}

static void call(struct run *run, struct client *client)
{
    struct token *token = mem_zalloc(sizeof(*token));
    assert_non_null(token);
    *token = (struct token){run, client, client->next_sent++, 0};
    int64_t timeout_ms = rng_chance(&run->rng, 1, 50) ? rng_between(&run->rng, 1, 200) : 0;
    int error;
    if (rng_chance(&run->rng, 1, 6)) {
        struct rpc_pull_request pull = {.option = rng_chance(&run->rng, 1, 2) ? 1 : 2,
                                        .consumer = BYTES_LITERAL("c"),
                                        .topic = BYTES_LITERAL("t"),
                                        .partition = BYTES_LITERAL("p")};
        error = net_link_call(client->link, RPC_METHOD_PULL, &pull, NULL, timeout_ms, on_pulled, token);
    } else {
        static const char *const commands[] = {"echo", "hold", "fail"};
        const char *command = commands[rng_below(&run->rng, 3)];
        size_t len = rng_chance(&run->rng, 1, 5) ? rng_below(&run->rng, 150000) : rng_below(&run->rng, 500);
        bool too_big = rng_chance(&run->rng, 1, 400);
        if (too_big)
            len = 250000;
        token->len = too_big || !strcmp(command, "fail") ? SIZE_MAX : len;
        struct rpc_push_request push = {.producer = bytes_of_text(command),
                                        .topic = BYTES_LITERAL("topic"),
                                        .partition = BYTES_LITERAL("0"),
                                        .message = bytes_of(run->text, len)};
        error = net_link_call(client->link, RPC_METHOD_PUSH, &push, NULL, timeout_ms, on_answer, token);
    }
    assert_int_equal(error, 0);
}

static void answer_some(struct run *run, bool all)
{
    struct env *env = run->env;
    for (int i = env->held_count - 1; i >= 0; i--)
        if (env->held[i] && (all || rng_chance(&run->rng, 1, 4)))
            env_answer_held(env, i);
    while (env->held_count > 0 && !env->held[env->held_count - 1])
        env->held_count--;
}

/* Bytes of no sense, half messages, floods without reading. */
static void make_noise(struct run *run)
{
    struct env *env = run->env;
    if (run->noisy_open && rng_chance(&run->rng, 1, 3)) {
        raw_close(&run->noisy);
        run->noisy_open = false;
        return;
    }
    if (!run->noisy_open) {
        raw_connect(&run->noisy, env);
        run->noisy.deaf = rng_chance(&run->rng, 1, 2);
        run->noisy_open = true;
    }
    if (run->noisy.closed)
        return;
    for (uint64_t i = rng_below(&run->rng, 50); i > 0; i--) {
        size_t before = run->noisy.out.len;
        message_add_push(&run->noisy.out, &message_forms[rng_below(&run->rng, MESSAGE_FORMS)], 1,
                         rng_chance(&run->rng, 1, 5) ? "hold" : "echo",
                         bytes_of(run->text, rng_below(&run->rng, 3000)));
        if (rng_chance(&run->rng, 1, 30))
            run->noisy.out.data[before + rng_below(&run->rng, run->noisy.out.len - before)] ^= 64;
    }
    if (rng_chance(&run->rng, 1, 3))
        run->noisy.out.len -= rng_below(&run->rng, run->noisy.out.len - run->noisy.out_at + 1);
    raw_flush(&run->noisy);
}

static void check_share(struct run *run)
{
    struct env *env = run->env;
    for (unsigned i = 0; i < env->shard_count; i++) {
        const struct net_part *part = env->server->parts[i];
        assert_true(part->inflight >= 0);
        if (part->inflight - part->inflight_max > run->share_worst)
            run->share_worst = part->inflight - part->inflight_max;
    }
}

static void step(struct run *run)
{
    struct client *client = &run->clients[rng_below(&run->rng, CLIENTS)];
    switch (rng_below(&run->rng, 8)) {
    case 0:
        if (client->link && rng_chance(&run->rng, 1, 6)) {
            net_link_free(client->link);
            client->link = NULL;
        } else if (!client->link) {
            connect_client(run, client);
        }
        break;
    case 1:
        make_noise(run);
        break;
    case 2:
        answer_some(run, false);
        break;
    case 3:
        sim_world_run_for(run->env->world, IO_MS(rng_below(&run->rng, 40)));
        break;
    default:
        if (!client->link)
            connect_client(run, client);
        for (uint64_t i = rng_below(&run->rng, 12); i > 0 && client->link; i--)
            call(run, client);
        sim_world_run_for(run->env->world, rng_below(&run->rng, 2000000));
    }
    check_share(run);
}

static struct net_limits random_limits(struct rng *rng)
{
    struct net_limits limits = env_limits();
    limits.max_message_bytes = 200000;
    limits.max_inflight_bytes = rng_between(rng, 1, 8) * 100000;
    limits.max_connection_inflight_bytes = rng_between(rng, 1, 4) * 100000;
    limits.max_pipelined_calls = rng_between(rng, 1, 40);
    limits.max_connections = rng_between(rng, 6, 12);
    limits.max_connections_per_address = rng_chance(rng, 1, 2) ? rng_between(rng, 4, 10) : 0;
    limits.receive_ms = rng_between(rng, 50, 500);
    limits.send_ms = rng_between(rng, 50, 500);
    limits.idle_ms = rng_between(rng, 100, 1000);
    return limits;
}

/* All that was held is given back, though connections are still open. */
static void settle(struct run *run)
{
    struct env *env = run->env;
    if (run->noisy_open)
        raw_close(&run->noisy);
    for (int round = 0; round < 100; round++) {
        answer_some(run, true);
        sim_world_run_for(env->world, IO_MS(20));
    }
    for (int i = 0; i < CLIENTS; i++)
        if (run->clients[i].link)
            assert_int_equal(net_link_outstanding(run->clients[i].link), 0);
    int64_t open = 0;
    for (unsigned i = 0; i < env->shard_count; i++) {
        assert_int_equal(env->server->parts[i]->inflight, 0);
        assert_true(list_empty(&env->server->parts[i]->waiting));
        assert_null(env->server->parts[i]->large);
        open += env->server->parts[i]->open;
    }
    assert_int_equal(env->server->open, open);
}

/* The trace of what happened. */
static uint64_t run_seed(uint64_t seed)
{
    void *state;
    assert_int_equal(env_setup_sim(&state), 0);
    struct env *env = state;
    struct run run = {.env = env, .text = message_text(1, 300000)};
    rng_seed(&run.rng, seed);
    struct net_limits limits = random_limits(&run.rng);
    env_start(env, (unsigned)rng_between(&run.rng, 1, 4), &limits);
    env_make_payload(env, (size_t)rng_between(&run.rng, 1, 200000));
    struct sim_net_faults faults = {.delay_min_ns = 1000,
                                    .delay_max_ns = (uint64_t)rng_between(&run.rng, 1000, 3000000)};
    if (rng_chance(&run.rng, 1, 2))
        faults.reset_ppm = (uint32_t)rng_below(&run.rng, 5000);
    if (rng_chance(&run.rng, 1, 2))
        faults.short_read = (uint32_t)rng_between(&run.rng, 100, 40000);
    sim_world_set_net_faults(env->world, &faults);
    for (int i = 0; i < CLIENTS; i++)
        run.clients[i].env = env;
    for (int i = 0; i < STEPS; i++)
        step(&run);
    uint64_t end = rng_below(&run.rng, 3);
    if (end == 0) {
        settle(&run);
    } else if (end == 1) { /* in the middle of all that */
        env_stop(env, (int64_t)rng_below(&run.rng, 100));
        answer_some(&run, false);
    } else {
        sim_process_crash(env->server_process, rng_chance(&run.rng, 1, 2));
    }
    if (run.noisy_open)
        raw_close(&run.noisy);
    for (int i = 0; i < CLIENTS; i++)
        net_link_free(run.clients[i].link);
    /* Beyond its share a shard holds one message of each connection at the most. */
    assert_true(run.share_worst <= limits.max_connections * (limits.max_message_bytes + 20000));
    mem_free(run.text);
    uint64_t trace = sim_world_trace(env->world);
    assert_int_equal(env_teardown(&state), 0);
    if (seeds == 1)
        printf("seed %llu: %d links, %d told, %d failed, %lld bytes beyond the share\n",
               (unsigned long long)seed, run.links, run.told, run.failed, (long long)run.share_worst);
    return trace;
}

static void test_random(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        if (seeds > 1)
            printf("\rseed %llu", (unsigned long long)seed);
        fflush(stdout);
        run_seed(seed);
    }
    printf("\n");
}

static void test_same_seed_same_run(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + 3; seed++)
        assert_true(run_seed(seed) == run_seed(seed));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10), seeds = 1;
    if (argc > 2)
        seeds = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random),
                                       cmocka_unit_test(test_same_seed_same_run)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
