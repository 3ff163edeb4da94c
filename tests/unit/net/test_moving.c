/* Connections that move to the shard that their calls are for: when they do and when not, that nothing is
 * lost on the way, whatever happens to them or to the server meanwhile, and that all is counted. */
#include "fixture.h"

#include <stdlib.h>

#include "base/rng.h"
#include "net/conn.h"

static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};

enum { PATIENCE = 64, GROWTH = 8, UNDER_WAY = 8 };

/* A client whose calls carry the number of the shard that they are for. */
struct talker {
    struct env *env;
    struct raw raw;
    int32_t said, heard;
};

static void start_with(struct env *env, unsigned shards, const struct net_limits *limits)
{
    env->routed = true;
    env_start(env, shards, limits);
}

static void start(struct env *env, unsigned shards)
{
    struct net_limits limits = env_limits();
    start_with(env, shards, &limits);
}

static void add_call(struct talker *talker, unsigned shard, const char *command, struct bytes message)
{
    char partition[] = {(char)('0' + shard)};
    struct rpc_push_request request = {
        .producer = bytes_of_text(command),
        .topic = BYTES_LITERAL("topic"),
        .partition = bytes_of(partition, 1),
        .message = message,
    };
    message_add_call(&talker->raw.out, &framed, THRIFT_CALL, RPC_METHOD_PUSH, ++talker->said, &request);
}

static void expect_answers(struct talker *talker, struct bytes message)
{
    while (talker->heard < talker->said)
        raw_expect_push(&talker->raw, &framed, ++talker->heard, message);
}

/* One call, and its answer. The shard that it came to. */
static unsigned call(struct talker *talker, unsigned shard)
{
    add_call(talker, shard, "echo", BYTES_LITERAL("hello"));
    raw_send(&talker->raw);
    expect_answers(talker, BYTES_LITERAL("hello"));
    return talker->env->last_shard;
}

/* One after the other, all of which come to `at`. */
static void call_often(struct talker *talker, unsigned shard, int count, unsigned at)
{
    for (int i = 0; i < count; i++)
        assert_int_equal(call(talker, shard), at);
}

static struct net_conn *conn_of(struct env *env, uint64_t id)
{
    LIST_FOR_EACH(item, &env->server->all) {
        struct net_conn *conn = CONTAINER_OF(item, struct net_conn, all);
        if (conn->id == id)
            return conn;
    }
    return NULL;
}

/* Connects, makes a first call and leaves the other counts as they were for a new connection. */
static struct net_conn *connect_talker(struct talker *talker, struct env *env)
{
    *talker = (struct talker){.env = env};
    raw_connect(&talker->raw, env);
    add_call(talker, 0, "echo", BYTES_LITERAL("hello"));
    raw_send(&talker->raw);
    expect_answers(talker, BYTES_LITERAL("hello"));
    struct net_conn *conn = conn_of(env, env->last_conn_id);
    assert_non_null(conn);
    conn->toward = NULL;
    return conn;
}

/* The same, until it is one of that shard. */
static struct net_conn *connect_at(struct talker *talker, struct env *env, unsigned shard)
{
    struct net_conn *conn = connect_talker(talker, env);
    for (int i = 0; i < 4 && conn->part->shard->id != shard; i++) {
        raw_close(&talker->raw);
        env_run_for(env, 5);
        conn = connect_talker(talker, env);
    }
    assert_int_equal(conn->part->shard->id, shard);
    return conn;
}

static int64_t of_shard(struct env *env, const char *metric, unsigned shard)
{
    char name[100];
    snprintf(name, sizeof(name), "clymq_net_%s{server=\"broker\",shard=\"%u\"}", metric, shard);
    return env_metric(env, name);
}

static int64_t closed_as(struct env *env, unsigned shard, const char *reason)
{
    char name[120];
    snprintf(name, sizeof(name), "clymq_net_closed_total{server=\"broker\",shard=\"%u\",reason=\"%s\"}",
             shard, reason);
    return env_metric(env, name);
}

static int64_t moved(struct env *env)
{
    int64_t sum = 0;
    for (unsigned i = 0; i < env->shard_count; i++)
        sum += of_shard(env, "moved_total", i);
    return sum;
}

/* What shard 0 and the shards themselves count, here where no connection is under way. */
static void expect_open(struct env *env, const int64_t *open)
{
    int64_t all = 0;
    for (unsigned i = 0; i < env->shard_count; i++) {
        const struct net_part *part = env->server->parts[i];
        assert_int_equal(part->open, open[i]);
        assert_int_equal(part->assigned, open[i]);
        assert_int_equal(part->inflight, 0);
        assert_int_equal(of_shard(env, "connections", i), open[i]);
        all += open[i];
    }
    assert_int_equal(env->server->open, all);
}

/* ---- when it moves ---- */

static void test_moves_after_so_many_calls(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    struct net_conn *conn = connect_at(&talker, env, 0);
    uint64_t id = conn->id;
    expect_open(env, (int64_t[]){1, 0});
    call_often(&talker, 1, PATIENCE, 0);
    call_often(&talker, 1, 3, 1);
    assert_int_equal(env->last_conn_id, id);
    assert_int_equal(of_shard(env, "moved_total", 0), 1);
    assert_int_equal(of_shard(env, "moved_total", 1), 0);
    expect_open(env, (int64_t[]){0, 1});
    assert_int_equal(env->closed, 0);
    raw_close(&talker.raw);
    env_run_for(env, 5);
    expect_open(env, (int64_t[]){0, 0});
    assert_int_equal(closed_as(env, 1, "peer"), 1);
    assert_int_equal(env->last_closed_shard, 1);
}

static void test_stays_where_its_calls_are_for(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    connect_at(&talker, env, 0);
    call_often(&talker, 0, 2 * PATIENCE, 0);
    assert_int_equal(moved(env), 0);
    raw_close(&talker.raw);
}

static void test_stays_where_its_calls_alternate(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 3);
    connect_at(&talker, env, 0);
    for (int i = 0; i < 3 * PATIENCE; i++)
        assert_int_equal(call(&talker, 1 + (unsigned)i % 2), 0);
    call_often(&talker, 1, PATIENCE - 1, 0); /* in a row, but one less than so many */
    call_often(&talker, 2, 1, 0);
    assert_int_equal(moved(env), 0);
    raw_close(&talker.raw);
}

/* `count` calls under way at a time, which are then answered. */
static void call_together(struct talker *talker, unsigned shard, int count)
{
    struct env *env = talker->env;
    for (int i = 0; i < count; i++)
        add_call(talker, shard, "hold", BYTES_LITERAL("x"));
    raw_send(&talker->raw);
    env_run_for(env, 1);
    assert_int_equal(env->held_count, count);
    for (int i = 0; i < count; i++)
        env_answer_held(env, i);
    env->held_count = 0;
    expect_answers(talker, BYTES_LITERAL("x"));
}

static void test_stays_with_many_calls_under_way(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    connect_at(&talker, env, 0);
    for (int i = 0; i < 3 * PATIENCE / UNDER_WAY; i++)
        call_together(&talker, 1, UNDER_WAY + 1);
    assert_int_equal(moved(env), 0);
    for (int i = 0; i < PATIENCE / UNDER_WAY; i++)
        call_together(&talker, 1, UNDER_WAY);
    env_run_for(env, 1);
    assert_int_equal(moved(env), 1);
    raw_close(&talker.raw);
}

static void call_large(struct talker *talker, unsigned shard, int count, struct bytes message, unsigned at)
{
    for (int i = 0; i < count; i++) {
        add_call(talker, shard, "echo", message);
        raw_send(&talker->raw);
        expect_answers(talker, message);
        assert_int_equal(talker->env->last_shard, at);
    }
}

/* Both ways count, here 10,000 bytes each; some such among small ones do not matter. */
static void test_stays_with_large_calls(void **state)
{
    struct env *env = *state;
    struct talker talker;
    uint8_t *text = message_text(1, 10000);
    start(env, 2);
    connect_at(&talker, env, 0);
    call_large(&talker, 1, 3 * PATIENCE, bytes_of(text, 10000), 0);
    assert_int_equal(moved(env), 0);
    raw_close(&talker.raw);
    connect_at(&talker, env, 0);
    call_large(&talker, 1, 10, bytes_of(text, 10000), 0);
    call_often(&talker, 1, PATIENCE - 10, 0);
    assert_int_equal(call(&talker, 1), 1);
    raw_close(&talker.raw);
    mem_free(text);
}

/* What large calls came to is forgotten with them. */
static void test_moves_once_its_calls_are_small(void **state)
{
    struct env *env = *state;
    struct talker talker;
    uint8_t *text = message_text(1, 200000);
    start(env, 2);
    connect_at(&talker, env, 0);
    call_large(&talker, 1, PATIENCE, bytes_of(text, 200000), 0);
    call_often(&talker, 1, PATIENCE, 0);
    call_often(&talker, 1, 1, 1);
    raw_close(&talker.raw);
    mem_free(text);
}

static void test_moves_back_later(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    struct net_conn *conn = connect_at(&talker, env, 0);
    call_often(&talker, 1, PATIENCE, 0);
    call_often(&talker, 0, PATIENCE * GROWTH, 1);
    call_often(&talker, 0, 1, 0);
    assert_int_equal(moved(env), 2);
    expect_open(env, (int64_t[]){1, 0});
    assert_int_equal(conn->patience, PATIENCE * GROWTH * GROWTH);
    call_often(&talker, 1, PATIENCE * GROWTH + 1, 0);
    raw_close(&talker.raw);
}

/* However often it has moved, its patience stays a number. */
static void test_patience_has_an_end(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    struct net_conn *conn = connect_at(&talker, env, 0);
    for (unsigned i = 0; i < 12; i++) {
        conn->toward = NULL;
        call_often(&talker, (i + 1) % 2, 1, i % 2);
        conn->calls_toward = conn->patience - 1;
        call_often(&talker, (i + 1) % 2, 1, i % 2);
        env_run_for(env, 1);
        assert_int_equal(moved(env), i + 1);
    }
    assert_int_equal(conn->patience, 1 << 30);
    raw_close(&talker.raw);
}

/* The answer to the call that would have moved it comes while the next one is half there. */
static void test_half_a_message_delays_it(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    struct net_conn *conn = connect_at(&talker, env, 0);
    call_often(&talker, 1, PATIENCE - 1, 0);
    add_call(&talker, 1, "echo", BYTES_LITERAL("hello"));
    size_t one = talker.raw.out.len;
    add_call(&talker, 1, "echo", BYTES_LITERAL("hello"));
    size_t both = talker.raw.out.len;
    talker.raw.out.len = one + 10;
    raw_flush(&talker.raw);
    raw_expect_push(&talker.raw, &framed, ++talker.heard, BYTES_LITERAL("hello"));
    env_run_for(env, 5);
    assert_int_equal(moved(env), 0);
    assert_int_equal(conn->part->shard->id, 0);
    talker.raw.out.len = both;
    raw_send(&talker.raw);
    expect_answers(&talker, BYTES_LITERAL("hello"));
    assert_int_equal(env->last_shard, 0);
    call_often(&talker, 1, 1, 1);
    raw_close(&talker.raw);
}

static int left_behind;

/* How many of the lists of shard 0's part still hold a connection that leaves, before their own turn. */
static void look_behind(struct shard_tail *tail)
{
    struct env *env = CONTAINER_OF(tail, struct env, tail);
    struct net_conn *conn = conn_of(env, env->last_conn_id);
    if (conn->state != NET_CONN_ARRIVING)
        return;
    const struct list *lists[] = {&conn->active, &conn->receiving, &conn->sending, &conn->flushing,
                                  &conn->waiting};
    left_behind = 0;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        left_behind += !list_empty(lists[i]);
}

/* Nobody waits for its answer, so it goes before the round has ended in which that call came. */
static void test_moves_after_a_oneway_call(void **state)
{
    struct env *env = *state;
    struct talker talker;
    struct rpc_push_request request = {.producer = BYTES_LITERAL("echo"),
                                       .topic = BYTES_LITERAL("topic"),
                                       .partition = BYTES_LITERAL("1"),
                                       .message = BYTES_LITERAL("")};
    start(env, 2);
    connect_at(&talker, env, 0);
    call_often(&talker, 1, PATIENCE - 1, 0);
    left_behind = -1;
    env->tail.run = look_behind;
    message_add_call(&talker.raw.out, &framed, THRIFT_ONEWAY, RPC_METHOD_PUSH, 0, &request);
    raw_send(&talker.raw);
    env_run_for(env, 1);
    assert_int_equal(moved(env), 1);
    assert_int_equal(left_behind, 0);
    env->tail.run = NULL;
    call_often(&talker, 1, 1, 1);
    raw_close(&talker.raw);
}

static void test_stays_while_draining(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 2);
    connect_at(&talker, env, 0);
    call_often(&talker, 1, PATIENCE - 1, 0);
    add_call(&talker, 1, "hold", BYTES_LITERAL("last"));
    raw_send(&talker.raw);
    env_run_for(env, 1);
    env_begin_stop(env, 1000);
    env_run_for(env, 1);
    env_answer_held(env, 0);
    expect_answers(&talker, BYTES_LITERAL("last"));
    raw_wait_closed(&talker.raw, 2000);
    env_wait_stopped(env, 5000);
    assert_int_equal(moved(env), 0);
    assert_int_equal(closed_as(env, 0, "stop"), 1);
    expect_open(env, (int64_t[]){0, 0});
    raw_close(&talker.raw);
}

/* ---- on the way ---- */

/* Between its old shard and shard 0, and between that and the new one. */
enum instant { LEFT, FORWARDED };

struct way {
    unsigned from, to;
    enum instant at;
};

/* Shard 0 finds what it sends to itself in the same turn: nothing can come between. */
static const struct way ways[] = {
    {0, 1, LEFT}, {0, 1, FORWARDED}, {1, 0, LEFT}, {1, 2, LEFT}, {1, 2, FORWARDED},
};
enum { WAYS = sizeof(ways) / sizeof(ways[0]) };

static bool is_there(const struct net_conn *conn, enum instant at)
{
    return conn->state == NET_CONN_ARRIVING &&
           conn->message.run == (at == LEFT ? net_server_forward : net_conn_arrive_again);
}

/* A connection that is moving, and where. The server has three shards. */
static struct net_conn *set_out(struct env *env, struct talker *talker, const struct way *way)
{
    struct net_conn *conn = connect_at(talker, env, way->from);
    call_often(talker, way->to, PATIENCE - 1, way->from);
    add_call(talker, way->to, "hold", BYTES_LITERAL("held"));
    raw_send(&talker->raw);
    env_run_for(env, 1);
    assert_int_equal(env->held_count, 1);
    env_answer_held(env, 0);
    env->held_count = 0;
    for (int i = 0; !is_there(conn, way->at); i++) {
        assert_true(i < 1000);
        sim_world_step(env->world);
    }
    return conn;
}

/* Each way in a world of its own. */
static void on_every_way(void (*run)(struct env *env, const struct way *way, struct net_quota *quota))
{
    for (int i = 0; i < WAYS; i++) {
        void *state;
        struct net_quota quota = {.max = 100};
        assert_int_equal(env_setup_sim(&state), 0);
        struct net_limits limits = env_limits();
        limits.max_connections_per_address = 10;
        limits.quota = &quota;
        start_with(state, 3, &limits);
        run(state, &ways[i], &quota);
        assert_int_equal(env_teardown(&state), 0);
        assert_int_equal(quota.open, 0);
    }
}

static void set_delay(struct env *env, uint64_t ns)
{
    struct sim_net_faults faults = {.delay_min_ns = ns, .delay_max_ns = ns};
    sim_world_set_net_faults(env->world, &faults);
}

/* Calls that come to its socket while nobody watches it. */
static void arrive_with_unread(struct env *env, const struct way *way, struct net_quota *quota)
{
    struct talker talker;
    struct net_conn *conn = set_out(env, &talker, way);
    set_delay(env, 1);
    for (int i = 0; i < 5; i++)
        add_call(&talker, way->to, "echo", BYTES_LITERAL("held"));
    struct iovec part = {talker.raw.out.data, talker.raw.out.len};
    assert_int_equal(io_stream_writev(talker.raw.stream, &part, 1), part.iov_len);
    talker.raw.out.len = talker.raw.out_at = 0;
    expect_answers(&talker, BYTES_LITERAL("held"));
    assert_int_equal(env->last_shard, way->to);
    assert_ptr_equal(conn->part, env->server->parts[way->to]);
    call_often(&talker, way->to, 3, way->to);
    raw_close(&talker.raw);
}

static void test_unread_bytes_are_served_after_it(void **state)
{
    on_every_way(arrive_with_unread);
}

static void expect_nothing_open(struct env *env, const struct net_quota *quota)
{
    expect_open(env, (int64_t[]){0, 0, 0});
    assert_int_equal(quota->open, 0);
    assert_int_equal(map_count(env->server->peers), 0);
    assert_true(list_empty(&env->server->all));
}

static int64_t closed_by_client(struct env *env, unsigned shard)
{
    return closed_as(env, shard, "peer") + closed_as(env, shard, "error");
}

static void leave_on_the_way(struct env *env, const struct way *way, struct net_quota *quota)
{
    struct talker talker;
    set_out(env, &talker, way);
    int closed = env->closed;
    int64_t counted = closed_by_client(env, way->to);
    raw_close(&talker.raw); /* in order, or, where the last answer has come and is not read, by a reset */
    env_run_for(env, 5);
    assert_int_equal(env->closed, closed + 1);
    assert_int_equal(env->last_closed_shard, way->to);
    assert_int_equal(closed_by_client(env, way->to), counted + 1);
    expect_nothing_open(env, quota);
}

static void test_client_leaves_meanwhile(void **state)
{
    on_every_way(leave_on_the_way);
}

static void stop_on_the_way(struct env *env, const struct way *way, struct net_quota *quota)
{
    struct talker talker;
    set_out(env, &talker, way);
    env_stop(env, 1000);
    expect_nothing_open(env, quota);
    assert_int_equal(closed_as(env, way->at == LEFT ? way->from : way->to, "stop"), 1);
    expect_answers(&talker, BYTES_LITERAL("held")); /* sent before it left */
    raw_wait_closed(&talker.raw, 1000);
    raw_close(&talker.raw);
}

static void test_server_stops_meanwhile(void **state)
{
    on_every_way(stop_on_the_way);
}

/* The other shards have all reported that they have stopped, and nothing of it is left when the server is
 * freed from inside done. */
static void free_server(void *ctx)
{
    struct env *env = ctx;
    net_server_free(env->server);
    env->server = NULL;
    env->server_stopped = true;
}

static void free_on_the_way(struct env *env, const struct way *way, struct net_quota *quota)
{
    struct talker talker;
    set_out(env, &talker, way);
    net_server_stop(env->server, 0, free_server, env);
    env_wait_stopped(env, 1000);
    assert_int_equal(quota->open, 0);
    raw_wait_closed(&talker.raw, 1000);
    raw_close(&talker.raw);
}

static void test_server_is_freed_by_done_meanwhile(void **state)
{
    on_every_way(free_on_the_way);
}

static void crash_on_the_way(struct env *env, const struct way *way, struct net_quota *quota)
{
    struct talker talker;
    set_out(env, &talker, way);
    sim_process_crash(env->server_process, true);
    raw_wait_closed(&talker.raw, 1000);
    raw_close(&talker.raw);
}

static void test_process_crashes_meanwhile(void **state)
{
    on_every_way(crash_on_the_way);
}

/* ---- afterwards ---- */

static struct net_limits short_times(void)
{
    struct net_limits limits = env_limits();
    limits.idle_ms = 2000;
    limits.receive_ms = 400;
    limits.send_ms = 400;
    return limits;
}

static void move(struct talker *talker, struct env *env)
{
    struct net_limits limits = short_times();
    start_with(env, 2, &limits);
    connect_at(talker, env, 0);
    call_often(talker, 1, PATIENCE, 0);
    call_often(talker, 1, 1, 1);
}

static void expect_closed_in_time(struct talker *talker, const char *reason, int least_ms, int most_ms)
{
    struct env *env = talker->env;
    env_run_for(env, least_ms);
    expect_open(env, (int64_t[]){0, 1});
    raw_wait_closed(&talker->raw, most_ms - least_ms);
    env_run_for(env, 5);
    assert_int_equal(closed_as(env, 1, reason), 1);
    expect_open(env, (int64_t[]){0, 0});
    raw_close(&talker->raw);
}

static void test_idle_time_holds_afterwards(void **state)
{
    struct talker talker;
    move(&talker, *state);
    expect_closed_in_time(&talker, "idle", 1900, 2300);
}

static void test_idle_time_begins_with_the_arrival(void **state)
{
    struct env *env = *state;
    struct talker talker;
    struct net_limits limits = short_times();
    start_with(env, 2, &limits);
    connect_at(&talker, env, 0);
    call_often(&talker, 1, PATIENCE, 0);
    env_run_for(env, 1);
    assert_int_equal(moved(env), 1);
    expect_closed_in_time(&talker, "idle", 1900, 2300);
}

static void test_receive_time_holds_afterwards(void **state)
{
    struct env *env = *state;
    struct talker talker;
    move(&talker, env);
    add_call(&talker, 1, "echo", BYTES_LITERAL("hello"));
    talker.raw.out.len -= 3;
    raw_send(&talker.raw);
    env_run_for(env, 350);
    assert_int_equal(env->server->parts[1]->open, 1);
    raw_wait_closed(&talker.raw, 350);
    assert_int_equal(closed_as(env, 1, "receive_timeout"), 1);
    raw_close(&talker.raw);
}

static void test_send_time_holds_afterwards(void **state)
{
    struct env *env = *state;
    struct talker talker;
    uint8_t *text = message_text(1, 300000);
    move(&talker, env);
    talker.raw.deaf = true;
    for (int i = 0; i < 3; i++)
        add_call(&talker, 1, "echo", bytes_of(text, 300000));
    raw_send(&talker.raw);
    env_run_for(env, 300);
    assert_int_equal(env->server->parts[1]->open, 1);
    env_run_for(env, 400);
    assert_int_equal(closed_as(env, 1, "send_timeout"), 1);
    assert_int_equal(env->server->parts[1]->open, 0);
    raw_close(&talker.raw);
    mem_free(text);
}

/* ---- accepting ---- */

/* Whoever closes leaves a place that the next one takes; whoever moved is counted where it is now. */
static void test_new_ones_go_where_the_fewest_are(void **state)
{
    struct env *env = *state;
    struct talker talkers[6], later[3];
    start(env, 2);
    for (int i = 0; i < 6; i++)
        connect_talker(&talkers[i], env);
    expect_open(env, (int64_t[]){3, 3});
    unsigned left = call(&talkers[1], 0);
    for (int i = 1; i < 6; i += 2) { /* all of one shard */
        assert_int_equal(call(&talkers[i], 0), left);
        raw_close(&talkers[i].raw);
    }
    env_run_for(env, 5);
    for (int i = 0; i < 3; i++)
        assert_int_equal(connect_talker(&later[i], env)->part->shard->id, left);
    for (int i = 0; i < 6; i += 2) { /* the others move to it */
        call_often(&talkers[i], left, PATIENCE, !left);
        call_often(&talkers[i], left, 1, left);
    }
    assert_int_equal(env->server->parts[left]->assigned, 6);
    for (int i = 1; i < 6; i += 2)
        assert_int_equal(connect_talker(&talkers[i], env)->part->shard->id, !left);
    expect_open(env, (int64_t[]){left ? 3 : 6, left ? 6 : 3});
    for (int i = 0; i < 6; i++)
        raw_close(&talkers[i].raw);
    for (int i = 0; i < 3; i++)
        raw_close(&later[i].raw);
}

/* ---- out of memory ---- */

/* Whichever allocation fails, from the answer before the move to the next call's answer: the connection goes
 * on, or it is closed and the client sees it. */
static bool move_without(struct env *env, uint64_t nth)
{
    struct talker talker;
    struct net_conn *conn = connect_at(&talker, env, 0);
    call_often(&talker, 1, PATIENCE - 1, 0);
    add_call(&talker, 1, "hold", BYTES_LITERAL("hello"));
    raw_send(&talker.raw);
    env_run_for(env, 1);
    env->held_count = 0;
    talker.raw.deaf = true; /* the client allocates nothing meanwhile */
    raw_flush(&talker.raw);
    mem_fail_nth(nth);
    env_answer_held(env, 0);
    env_run_for(env, 2);
    bool failed = mem_failed();
    mem_fail_nth(0);
    talker.raw.deaf = false;
    raw_flush(&talker.raw);
    env_run_for(env, 2);
    if (talker.raw.closed) {
        assert_true(failed);
    } else {
        assert_int_equal(conn->part->shard->id, 1);
        expect_answers(&talker, BYTES_LITERAL("hello"));
        call_often(&talker, 1, 3, 1);
    }
    raw_close(&talker.raw);
    env_run_for(env, 5);
    expect_open(env, (int64_t[]){0, 0});
    return failed;
}

static void test_out_of_memory(void **state)
{
    struct env *env = *state;
    start(env, 2);
    uint64_t nth = 1;
    while (move_without(env, nth))
        nth++;
    assert_true(nth > 2);
}

/* The new shard has no memory for its clock, which it needs from its first connection on. */
static void test_no_memory_for_the_new_shards_clock(void **state)
{
    struct env *env = *state;
    struct talker talker;
    start(env, 3);
    set_out(env, &talker, &(struct way){0, 1, FORWARDED});
    mem_fail_nth(1);
    for (int i = 0; i < 1000 && !mem_failed(); i++)
        sim_world_step(env->world);
    assert_true(mem_failed());
    mem_fail_nth(0);
    env_run_for(env, 5);
    assert_true(talker.raw.closed);
    assert_int_equal(closed_as(env, 1, "no_memory"), 1);
    expect_open(env, (int64_t[]){0, 0, 0});
    raw_close(&talker.raw);
}

static int no_stream(struct io_loop *loop, struct io_socket *socket, struct io_stream_handler handler,
                     struct io_stream **ret_stream)
{
    return CLYMQ_ENOMEM;
}

/* Where a socket comes, moved or new, that cannot be opened, its client sees the end of the connection. */
static void test_no_memory_for_a_stream(void **state)
{
    struct env *env = *state;
    struct talker talker;
    struct raw raws[3];
    start(env, 3);
    set_out(env, &talker, &(struct way){0, 1, FORWARDED});
    const struct io_loop_ops *ops = env->loops[1]->ops;
    static struct io_loop_ops without;
    without = *ops;
    without.stream_open = no_stream;
    env->loops[1]->ops = &without;
    env_run_for(env, 5);
    assert_true(talker.raw.closed);
    assert_int_equal(closed_as(env, 1, "no_memory"), 1);
    expect_open(env, (int64_t[]){0, 0, 0});
    for (int i = 0; i < 3; i++)
        raw_connect(&raws[i], env);
    env_run_for(env, 5);
    env->loops[1]->ops = ops;
    assert_int_equal(raws[0].closed + raws[1].closed + raws[2].closed, 1);
    assert_int_equal(closed_as(env, 1, "no_memory"), 2);
    expect_open(env, (int64_t[]){1, 0, 1});
    for (int i = 0; i < 3; i++)
        raw_close(&raws[i]);
    raw_close(&talker.raw);
}

/* ---- random ---- */

enum { WALKERS = 6, STEPS = 300 };

/* A talker whose calls are for one shard for a while. What each call says is told by its number. */
struct walker {
    struct talker talker;
    unsigned goal;
};

struct run {
    struct env *env;
    struct rng rng;
    struct walker walkers[WALKERS];
    uint8_t *text;
};

static uint64_t first_seed = 1, seeds = 40;

static struct bytes text_of(const struct run *run, int32_t number)
{
    size_t len = number % 11 == 0 ? 3000 : (size_t)number % 97;
    return bytes_of(run->text + number % 89, len);
}

static void reconnect(struct run *run, struct walker *walker)
{
    if (walker->talker.env)
        raw_close(&walker->talker.raw);
    walker->talker = (struct talker){.env = run->env};
    raw_connect(&walker->talker.raw, run->env);
    walker->talker.raw.chunk = rng_chance(&run->rng, 1, 2) ? (size_t)rng_between(&run->rng, 20, 4000) : 0;
}

static void say_some(struct run *run, struct walker *walker)
{
    struct talker *talker = &walker->talker;
    int32_t most = rng_chance(&run->rng, 1, 20) ? 3 * UNDER_WAY : (int32_t)rng_between(&run->rng, 1, 4);
    if (rng_chance(&run->rng, 1, 12))
        walker->goal = (unsigned)rng_below(&run->rng, run->env->shard_count);
    while (talker->said - talker->heard < most)
        add_call(talker, walker->goal, rng_chance(&run->rng, 1, 6) ? "hold" : "echo",
                 text_of(run, talker->said + 1));
    raw_flush(&talker->raw);
}

static void answer_some(struct run *run, bool all)
{
    struct env *env = run->env;
    for (int i = env->held_count - 1; i >= 0; i--)
        if (env->held[i] && (all || rng_chance(&run->rng, 1, 3)))
            env_answer_held(env, i);
    while (env->held_count > 0 && !env->held[env->held_count - 1])
        env->held_count--;
}

/* All that it has said is answered: with what it said, in that order. */
static void hear_all(struct run *run, struct walker *walker)
{
    struct talker *talker = &walker->talker;
    while (talker->heard < talker->said) {
        talker->heard++;
        for (int i = 0; i < 1000 && talker->raw.in_at == talker->raw.in.len; i++) {
            answer_some(run, true);
            sim_world_run_for(run->env->world, 100000);
        }
        raw_expect_push(&talker->raw, &framed, talker->heard, text_of(run, talker->heard));
    }
}

static void make_impatient(struct run *run)
{
    LIST_FOR_EACH(item, &run->env->server->all)
        CONTAINER_OF(item, struct net_conn, all)->patience = (uint32_t)rng_between(&run->rng, 2, 5);
}

static void step(struct run *run)
{
    struct walker *walker = &run->walkers[rng_below(&run->rng, WALKERS)];
    make_impatient(run);
    switch (rng_below(&run->rng, 12)) {
    case 0:
        if (rng_chance(&run->rng, 1, 4))
            reconnect(run, walker);
        break;
    case 1:
    case 2:
        answer_some(run, false);
        break;
    case 3:
    case 4:
    case 5:
        hear_all(run, walker);
        break;
    default:
        for (int i = 0; i < WALKERS; i++)
            if (rng_chance(&run->rng, 1, 2))
                say_some(run, &run->walkers[i]);
        sim_world_run_for(run->env->world, rng_below(&run->rng, 1000000));
    }
}

static void end_in_order(struct run *run)
{
    static const int64_t none[4];
    for (int i = 0; i < WALKERS; i++)
        hear_all(run, &run->walkers[i]);
    for (int i = 0; i < WALKERS; i++)
        raw_close(&run->walkers[i].talker.raw);
    answer_some(run, true);
    env_run_for(run->env, 50);
    expect_open(run->env, none);
}

static void end_at_once(struct run *run)
{
    if (rng_chance(&run->rng, 1, 2))
        env_stop(run->env, (int64_t)rng_below(&run->rng, 20));
    else
        sim_process_crash(run->env->server_process, rng_chance(&run->rng, 1, 2));
    for (int i = 0; i < WALKERS; i++)
        raw_close(&run->walkers[i].talker.raw);
}

/* How many moves there were. */
static int64_t run_seed(uint64_t seed)
{
    void *state;
    assert_int_equal(env_setup_sim(&state), 0);
    struct run run = {.env = state, .text = message_text(1, 4000)};
    rng_seed(&run.rng, seed);
    struct sim_net_faults faults = {.delay_min_ns = 1,
                                    .delay_max_ns = (uint64_t)rng_between(&run.rng, 10, 300000)};
    if (rng_chance(&run.rng, 1, 3))
        faults.short_read = (uint32_t)rng_between(&run.rng, 10, 2000);
    sim_world_set_net_faults(run.env->world, &faults);
    start(run.env, (unsigned)rng_between(&run.rng, 2, 4));
    for (int i = 0; i < WALKERS; i++)
        reconnect(&run, &run.walkers[i]);
    for (int i = 0; i < STEPS; i++)
        step(&run);
    int64_t moves = moved(run.env);
    if (rng_chance(&run.rng, 2, 3))
        end_in_order(&run);
    else
        end_at_once(&run);
    mem_free(run.text);
    assert_int_equal(env_teardown(&state), 0);
    return moves;
}

static void test_random_load(void **state)
{
    int64_t moves = 0;
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        printf("\rseed %llu", (unsigned long long)seed);
        fflush(stdout);
        moves += run_seed(seed);
    }
    printf(": %lld moves\n", (long long)moves);
    assert_true(moves > (int64_t)seeds * 10);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10), seeds = 1;
    if (argc > 2)
        seeds = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        TEST_SIM(test_moves_after_so_many_calls),
        TEST_SIM(test_stays_where_its_calls_are_for),
        TEST_SIM(test_stays_where_its_calls_alternate),
        TEST_SIM(test_stays_with_many_calls_under_way),
        TEST_SIM(test_stays_with_large_calls),
        TEST_SIM(test_moves_once_its_calls_are_small),
        TEST_SIM(test_moves_back_later),
        TEST_SIM(test_patience_has_an_end),
        TEST_SIM(test_half_a_message_delays_it),
        TEST_SIM(test_moves_after_a_oneway_call),
        TEST_SIM(test_stays_while_draining),
        TEST_SIM(test_idle_time_holds_afterwards),
        TEST_SIM(test_idle_time_begins_with_the_arrival),
        TEST_SIM(test_receive_time_holds_afterwards),
        TEST_SIM(test_send_time_holds_afterwards),
        TEST_SIM(test_new_ones_go_where_the_fewest_are),
        TEST_SIM(test_out_of_memory),
        TEST_SIM(test_no_memory_for_the_new_shards_clock),
        TEST_SIM(test_no_memory_for_a_stream),
        cmocka_unit_test(test_unread_bytes_are_served_after_it),
        cmocka_unit_test(test_client_leaves_meanwhile),
        cmocka_unit_test(test_server_stops_meanwhile),
        cmocka_unit_test(test_server_is_freed_by_done_meanwhile),
        cmocka_unit_test(test_process_crashes_meanwhile),
        cmocka_unit_test(test_random_load),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
