/* Calls that find their server: other coordinators, leaders that move, what is told when nobody answers. */
#include "fake_cluster.h"

#include "client/core.h"

struct run {
    struct fake_cluster cluster;
    struct core *core;
    struct core_call call;
    int done, error;
    int64_t offset;
    char sentence[512];
};

static void run_init(struct run *run, const char *coordinators)
{
    *run = (struct run){.error = 1};
    fake_cluster_init(&run->cluster, 1, 3);
    struct core_config config;
    core_config_defaults(&config);
    config.coordinators = coordinators;
    config.request_timeout_ms = 3000;
    config.retry_backoff_ms = 10;
    config.max_message_bytes = 100000;
    assert_int_equal(core_new(run->cluster.loop, &config, &run->core), 0);
}

static void run_end(struct run *run)
{
    core_free(run->core);
    fake_cluster_end(&run->cluster);
}

static void on_done(struct core_call *call, int error, const void *answer, const char *sentence)
{
    struct run *run = call->ctx;
    run->done++;
    run->error = error;
    snprintf(run->sentence, sizeof(run->sentence), "%s", sentence);
    if (!error && call->method == RPC_METHOD_LIST_OFFSET)
        run->offset = ((const struct rpc_list_offset_response *)answer)->offset;
}

static bool is_done(void *ctx)
{
    return ((struct run *)ctx)->done > 0;
}

/* Makes the call and waits for it. */
static int call(struct run *run, enum rpc_method_id method, const void *request, const char *partition)
{
    run->call = (struct core_call){
        .method = method,
        .request = request,
        .topic = partition ? "t" : NULL,
        .partition = partition,
        .unreachable_ms = 1000,
        .done = on_done,
        .ctx = run,
    };
    run->done = 0;
    assert_int_equal(core_call_start(run->core, &run->call), 0);
    assert_int_equal(run->done, 0);
    assert_true(fake_cluster_run_until(&run->cluster, is_done, run, 20000));
    fake_cluster_run(&run->cluster, 100);
    assert_int_equal(run->done, 1);
    return run->error;
}

static const struct rpc_describe_topic_request describe = {.topic = {(const uint8_t *)"t", 1}};

static void test_coordinators(void **state)
{
    assert_int_equal(core_check_coordinators("a"), 0);
    assert_int_equal(core_check_coordinators("a:1,b:65535 , [::1]:7, [::1]"), 0);
    const char *const bad[] = {"",    ",",  "a,",  "a:",         "a:0",     "a:65536",
                               "a:x", ":1", "a b", "http://a:1", "a:123456"};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(core_check_coordinators(bad[i]), CLYMQ_EINVAL);
}

/* One of two is down: the other one is asked. */
static void test_failover(void **state)
{
    for (unsigned down = 0; down < 2; down++) {
        struct run run;
        run_init(&run, "server0,server1");
        fake_server_crash(&run.cluster.servers[down]);
        for (int i = 0; i < 5; i++)
            assert_int_equal(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL), 0);
        run_end(&run);
    }
}

static void test_nobody(void **state)
{
    struct run run;
    run_init(&run, "server0,elsewhere:99");
    fake_server_crash(&run.cluster.servers[0]);
    uint64_t begin_ns = sim_world_now_ns(run.cluster.world);
    assert_true(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL) < 0);
    assert_non_null(strstr(run.sentence, "server0:7878"));
    assert_non_null(strstr(run.sentence, "elsewhere:99"));
    assert_non_null(strstr(run.sentence, "that clymqd runs there"));
    uint64_t took_ms = (sim_world_now_ns(run.cluster.world) - begin_ns) / 1000000;
    assert_true(took_ms >= 1000 && took_ms < 4000);
    /* It comes back: the next call gets through. */
    fake_server_start(&run.cluster.servers[0]);
    assert_int_equal(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL), 0);
    run_end(&run);
}

static void test_passing_errors(void **state)
{
    struct run run;
    run_init(&run, "server0");
    run.cluster.faults.fail_describe = 5000; /* CLYMQ_EAGAIN half the time */
    for (int i = 0; i < 10; i++)
        assert_int_equal(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL), 0);
    run.cluster.faults.fail_describe = 10000;
    assert_int_equal(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL), CLYMQ_EAGAIN);
    run_end(&run);
}

/* An answer that is longer than this client takes would be so again: told at once, with what to do. */
static void test_long_answer(void **state)
{
    struct run run;
    run_init(&run, "server0,server1");
    run.cluster.faults.long_describe = 10000;
    assert_int_equal(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL), CLYMQ_ETOOBIG);
    assert_non_null(strstr(run.sentence, "max_message_bytes"));
    assert_int_equal(run.cluster.describes, 1);
    struct rpc_list_offset_request list = {
        .topic = BYTES_LITERAL("t"), .partition = BYTES_LITERAL("1"), .timestamp_ms = -1};
    assert_int_equal(call(&run, RPC_METHOD_LIST_OFFSET, &list, "1"), CLYMQ_ETOOBIG);
    assert_non_null(strstr(run.sentence, "max_message_bytes"));
    run.cluster.faults.long_describe = 0;
    assert_int_equal(call(&run, RPC_METHOD_DESCRIBE_TOPIC, &describe, NULL), 0);
    run_end(&run);
}

/* A failure of the original methods is an exception with a sentence for people and a number for us. The
 * sentence alone decides nothing. */
static void test_exception(void **state)
{
    struct run run;
    run_init(&run, "server0");
    struct rpc_create_part_request create = {.topic = BYTES_LITERAL("t"), .partition = BYTES_LITERAL("p")};
    assert_int_equal(call(&run, RPC_METHOD_CREATE_PART, &create, NULL), CLYMQ_EEXIST);
    assert_string_equal(run.sentence, "there is such a thing, or we are shutting down: try again");
    struct rpc_create_topic_request topic = {.topic = BYTES_LITERAL("t"), .config = BYTES_LITERAL("")};
    assert_int_equal(call(&run, RPC_METHOD_CREATE_TOPIC, &topic, NULL), CLYMQ_EUNCERTAIN);
    assert_string_equal(run.sentence, "already exists");
    run_end(&run);
}

static void test_leader(void **state)
{
    struct run run;
    run_init(&run, "server0");
    struct rpc_list_offset_request request = {
        .topic = BYTES_LITERAL("t"), .partition = BYTES_LITERAL("1"), .timestamp_ms = -1};
    run.cluster.partitions[1].end = 77;
    for (unsigned i = 0; i < 4; i++) { /* it moves, and the cached leader is wrong */
        run.cluster.partitions[1].leader = i % FAKE_SERVERS;
        run.offset = -1;
        assert_int_equal(call(&run, RPC_METHOD_LIST_OFFSET, &request, "1"), 0);
        assert_int_equal(run.offset, 77);
    }
    assert_int_equal(call(&run, RPC_METHOD_LIST_OFFSET, &request, "nowhere"), CLYMQ_EPARTITION_UNKNOWN);
    run.cluster.topic_exists = false;
    assert_int_equal(call(&run, RPC_METHOD_LIST_OFFSET, &request, "nowhere"), CLYMQ_ETOPIC_UNKNOWN);
    run_end(&run);
}

static void test_cancel(void **state)
{
    struct run run;
    run_init(&run, "server0");
    run.call = (struct core_call){
        .method = RPC_METHOD_DESCRIBE_TOPIC, .request = &describe, .done = on_done, .ctx = &run};
    core_call_cancel(&run.call); /* never started: harmless */
    for (int ms = 0; ms < 10; ms++) {
        assert_int_equal(core_call_start(run.core, &run.call), 0);
        fake_cluster_run(&run.cluster, ms);
        bool finished = run.done > 0;
        core_call_cancel(&run.call);
        fake_cluster_run(&run.cluster, 100);
        assert_int_equal(run.done > 0, finished);
        run.done = 0;
    }
    /* The end of the core ends calls. */
    assert_int_equal(core_call_start(run.core, &run.call), 0);
    fake_cluster_run(&run.cluster, 1);
    core_free(run.core);
    run.core = NULL;
    assert_int_equal(run.done, 1);
    assert_int_equal(run.error, CLYMQ_ECANCELED);
    run_end(&run);
}

static void test_no_memory(void **state)
{
    for (uint64_t nth = 1; nth < 60; nth++) {
        struct run run;
        run_init(&run, "server0");
        run.call = (struct core_call){
            .method = RPC_METHOD_DESCRIBE_TOPIC, .request = &describe, .done = on_done, .ctx = &run};
        mem_fail_nth(nth);
        int error = core_call_start(run.core, &run.call);
        if (!error)
            assert_true(fake_cluster_run_until(&run.cluster, is_done, &run, 20000));
        mem_fail_nth(0);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
        run_end(&run);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_coordinators), cmocka_unit_test(test_failover),
        cmocka_unit_test(test_nobody),       cmocka_unit_test(test_passing_errors),
        cmocka_unit_test(test_long_answer),  cmocka_unit_test(test_exception),
        cmocka_unit_test(test_leader),       cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
