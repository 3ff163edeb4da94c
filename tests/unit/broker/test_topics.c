/* The coordinator's methods. */
#include <jansson.h>

#include "world.h"

static struct answer coordinator(struct world *world, enum rpc_method_id method, const void *request)
{
    struct answer answer;

    call(world, world->coordinator, method, request, &answer);
    return answer;
}

static void test_create_topic(void **state)
{
    struct world *world = *state;
    struct rpc_create_topic_request request = {.topic = text("t")};
    struct answer answer = coordinator(world, RPC_METHOD_CREATE_TOPIC, &request);

    assert_int_equal(answer.error, 0);
    assert_true(answer.r.create_topic.ret);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_CREATE_TOPIC, &request);
    assert_int_equal(answer.error, 0);
    assert_false(answer.r.create_topic.ret);
    assert_true(contains(answer.r.create_topic.err, "exists"));
    answer_free(&answer);
    request.topic = text("a/b");
    answer = coordinator(world, RPC_METHOD_CREATE_TOPIC, &request);
    expect_exception(&answer, "invalid name");
    request.topic = text("neg");
    request.partitions = -1;
    rpc_set_present(rpc_methods[RPC_METHOD_CREATE_TOPIC].request, &request,
                    offsetof(struct rpc_create_topic_request, partitions));
    answer = coordinator(world, RPC_METHOD_CREATE_TOPIC, &request);
    expect_exception(&answer, "negative");
    request.partitions = 0;
    request.config = text("{\"retention_ms\":true}");
    rpc_set_present(rpc_methods[RPC_METHOD_CREATE_TOPIC].request, &request,
                    offsetof(struct rpc_create_topic_request, config));
    answer = coordinator(world, RPC_METHOD_CREATE_TOPIC, &request);
    expect_exception(&answer, "retention_ms");
}

static void test_create_partition(void **state)
{
    struct world *world = *state;
    struct rpc_create_part_request request = {.topic = text("t"), .partition = text("西安")};
    struct answer answer = coordinator(world, RPC_METHOD_CREATE_PART, &request);

    expect_exception(&answer, "unknown topic");
    make_topic(world, "t", 0);
    make_partition(world, "t", "西安");
    push_text(world, "t", "西安", "m", -1);
    answer = coordinator(world, RPC_METHOD_CREATE_PART, &request);
    assert_false(answer.r.create_part.ret);
    assert_true(contains(answer.r.create_part.err, "exists"));
    answer_free(&answer);
    request.partition = text("");
    answer = coordinator(world, RPC_METHOD_CREATE_PART, &request);
    expect_exception(&answer, "invalid name");
}

static void test_set_partition_state(void **state)
{
    struct world *world = *state;
    struct rpc_set_partition_state_request request = {
        .topic = text("t"), .partition = text("0"), .option = 5, .dupnum = 3};
    struct answer answer;

    make_topic(world, "t", 1);
    answer = coordinator(world, RPC_METHOD_SET_PARTITION_STATE, &request);
    expect_exception(&answer, "ack level");
    request.option = 1; /* three replicas, one broker: accepted */
    answer = coordinator(world, RPC_METHOD_SET_PARTITION_STATE, &request);
    assert_int_equal(answer.error, 0);
    assert_true(answer.r.set_partition_state.ret);
    answer_free(&answer);
    request.dupnum = -3;
    answer = coordinator(world, RPC_METHOD_SET_PARTITION_STATE, &request);
    expect_exception(&answer, "negative");
    request.dupnum = 1;
    request.partition = text("nothing");
    answer = coordinator(world, RPC_METHOD_SET_PARTITION_STATE, &request);
    expect_exception(&answer, "unknown partition");
}

/* A partition whose log failed cannot be changed, says so, and stays readable and found. */
static void test_set_failed_partition(void **state)
{
    struct world *world = *state;
    struct rpc_set_partition_state_request request = {
        .topic = text("t"), .partition = text("0"), .option = 1};
    struct rpc_pro_get_brok_request find = {.topic = text("t"), .partition = text("0")};
    struct rpc_push_request push = {
        .topic = text("t"), .partition = text("0"), .message = text("lost"), .ack = -1};
    struct answer answer;

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "kept", -1);
    world_run_for(world, 1000);
    sim_process_set_disk_faults(world->server, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
    call(world, world->broker, RPC_METHOD_PUSH, &push, &answer);
    assert_false(answer.r.push.ret);
    answer_free(&answer);
    sim_process_set_disk_faults(world->server, &(struct sim_disk_faults){0});
    answer = coordinator(world, RPC_METHOD_SET_PARTITION_STATE, &request);
    expect_exception(&answer, "was not changed");
    answer = coordinator(world, RPC_METHOD_PRO_GET_BROK, &find);
    assert_true(answer.r.pro_get_brok.ret);
    answer_free(&answer);
    pull_from(world, "t", "0", 0, 10, &answer);
    assert_int_equal(answer.r.pull.size, 1);
    answer_free(&answer);
    world_crash(world, false);
    world_start(world);
    world_connect(world);
    answer = coordinator(world, RPC_METHOD_SET_PARTITION_STATE, &request);
    assert_true(answer.r.set_partition_state.ret);
    answer_free(&answer);
}

/* Pushing goes on over changes of the ack level: what waits during the seal is stored in the next block. */
static void test_pushing_over_seals(void **state)
{
    enum { COUNT = 120 };
    struct world *world = *state;
    struct answer *answers = mem_calloc(COUNT, sizeof(*answers));
    struct answer set[4];
    int sets = 0;

    make_topic(world, "t", 1);
    for (int i = 0; i < COUNT; i++) {
        char message[16];
        struct rpc_push_request request = {.topic = text("t"), .partition = text("0"), .ack = 1};

        snprintf(message, sizeof(message), "%d", i);
        request.message = text(message);
        call_begin(world->broker, RPC_METHOD_PUSH, &request, &answers[i]);
        sim_world_run_for(world->sim, 200000);
        if (i % 30 == 15) {
            struct rpc_set_partition_state_request change = {
                .topic = text("t"), .partition = text("0"), .option = (int8_t)(sets % 2), .dupnum = 1};

            call_begin(world->coordinator, RPC_METHOD_SET_PARTITION_STATE, &change, &set[sets++]);
        }
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        assert_int_equal(answers[i].error, 0);
        assert_true(answers[i].r.push.ret);
        answer_free(&answers[i]);
    }
    for (int i = 0; i < sets; i++) {
        assert_true(world_run_until(world, &set[i].done, WORLD_LIMIT_MS));
        assert_true(set[i].r.set_partition_state.ret);
        answer_free(&set[i]);
    }
    world_run_for(world, 1000); /* what was answered at level 1 is committed by then */
    int64_t offset = 0;
    int count = 0;
    for (;;) {
        struct answer answer;

        pull_from(world, "t", "0", offset, 127, &answer);
        assert_int_equal(answer.error, 0);
        if (!answer.r.pull.size) {
            answer_free(&answer);
            break;
        }
        count += answer.r.pull.size;
        offset = answer.r.pull.end_index + 1;
        answer_free(&answer);
    }
    assert_int_equal(count, COUNT);
    mem_free(answers);
}

static void test_where_to_push(void **state)
{
    struct world *world = *state;
    struct rpc_pro_get_brok_request request = {.topic = text("t"), .partition = text("0")};
    struct rpc_get_new_leader_request leader = {
        .topic = text("t"), .partition = text("0"), .block = text("x")};
    struct answer answer = coordinator(world, RPC_METHOD_PRO_GET_BROK, &request);

    expect_exception(&answer, "unknown topic");
    make_topic(world, "t", 1);
    answer = coordinator(world, RPC_METHOD_PRO_GET_BROK, &request);
    assert_true(answer.r.pro_get_brok.ret);
    assert_true(bytes_are(answer.r.pro_get_brok.broker_host_port, "server:8888"));
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_GET_NEW_LEADER, &leader);
    assert_true(answer.r.get_new_leader.ret);
    assert_true(bytes_are(answer.r.get_new_leader.host_port, "server:8888"));
    assert_true(bytes_are(answer.r.get_new_leader.leader_broker, "b1@server:8888"));
    answer_free(&answer);
    request.partition = leader.partition = text("nothing");
    answer = coordinator(world, RPC_METHOD_PRO_GET_BROK, &request);
    expect_exception(&answer, "unknown partition");
    answer = coordinator(world, RPC_METHOD_GET_NEW_LEADER, &leader);
    expect_exception(&answer, "unknown partition");
}

static void test_where_to_pull(void **state)
{
    struct world *world = *state;
    struct rpc_con_start_get_brok_request request = {
        .cli_name = text("c"), .topic = text("北京"), .partition = text("0"), .option = 4, .index = 42};
    struct rpc_sub_request sub = {
        .consumer = text("c"), .topic = text("北京"), .partition = text("0"), .option = 4};
    struct answer answer;
    json_t *json, *part;

    make_topic(world, "北京", 2);
    answer = coordinator(world, RPC_METHOD_SUB, &sub);
    assert_true(answer.r.sub.ret);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_CON_START_GET_BROK, &request);
    assert_true(answer.r.con_start_get_brok.ret);
    assert_int_equal(answer.r.con_start_get_brok.size, 1);
    json = json_loadb((const char *)answer.r.con_start_get_brok.parts.ptr,
                      answer.r.con_start_get_brok.parts.len, 0, NULL);
    part = json_array_get(json_object_get(json, "partkeys"), 0);
    assert_string_equal(json_string_value(json_object_get(part, "name")), "0");
    assert_string_equal(json_string_value(json_object_get(part, "brokername")), "b1@server:8888");
    assert_string_equal(json_string_value(json_object_get(part, "brokerhp")), "server:8888");
    assert_int_equal(json_integer_value(json_object_get(part, "offset")), 42);
    assert_string_equal(json_string_value(json_object_get(part, "err")), "ok");
    json_decref(json);
    answer_free(&answer);
    for (int option = 1; option <= 3; option++) {
        request.option = sub.option = (int8_t)option;
        answer = coordinator(world, RPC_METHOD_CON_START_GET_BROK, &request);
        expect_exception(&answer, "subscriptions");
        answer = coordinator(world, RPC_METHOD_SUB, &sub);
        expect_exception(&answer, "subscriptions");
    }
    request.option = sub.option = 4;
    request.partition = sub.partition = text("9");
    answer = coordinator(world, RPC_METHOD_CON_START_GET_BROK, &request);
    expect_exception(&answer, "unknown partition");
    answer = coordinator(world, RPC_METHOD_SUB, &sub);
    expect_exception(&answer, "unknown partition");
}

static void test_list_and_describe(void **state)
{
    struct world *world = *state;
    struct rpc_list_topics_request list = {.prefix = text("")};
    struct rpc_describe_topic_request describe = {.topic = text("orders")};
    struct answer answer;
    json_t *json;

    make_topic(world, "orders", 3);
    make_topic(world, "other", 1);
    make_topic(world, "北京", 1);
    answer = coordinator(world, RPC_METHOD_LIST_TOPICS, &list);
    assert_int_equal(answer.r.list_topics.error, 0);
    json =
        json_loadb((const char *)answer.r.list_topics.topics.ptr, answer.r.list_topics.topics.len, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "topics")), 3);
    json_decref(json);
    answer_free(&answer);
    list.prefix = text("o");
    answer = coordinator(world, RPC_METHOD_LIST_TOPICS, &list);
    json =
        json_loadb((const char *)answer.r.list_topics.topics.ptr, answer.r.list_topics.topics.len, 0, NULL);
    assert_int_equal(json_array_size(json_object_get(json, "topics")), 2);
    json_decref(json);
    answer_free(&answer);
    make_topic(world, ".hidden", 1);
    list.prefix = text("."); /* which is no name itself */
    answer = coordinator(world, RPC_METHOD_LIST_TOPICS, &list);
    assert_int_equal(answer.r.list_topics.error, 0);
    assert_true(contains(answer.r.list_topics.topics, "\".hidden\""));
    assert_false(contains(answer.r.list_topics.topics, "orders"));
    answer_free(&answer);
    list.prefix = text("a/");
    answer = coordinator(world, RPC_METHOD_LIST_TOPICS, &list);
    assert_int_equal(answer.r.list_topics.error, CLYMQ_ENAME);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_DESCRIBE_TOPIC, &describe);
    json = json_loadb((const char *)answer.r.describe_topic.topic.ptr, answer.r.describe_topic.topic.len, 0,
                      NULL);
    assert_int_equal(json_array_size(json_object_get(json, "partitions")), 3);
    json_decref(json);
    answer_free(&answer);
    describe.topic = text("nothing");
    answer = coordinator(world, RPC_METHOD_DESCRIBE_TOPIC, &describe);
    assert_int_equal(answer.r.describe_topic.error, CLYMQ_ETOPIC_UNKNOWN);
    assert_true(contains(answer.r.describe_topic.err, "topic"));
    answer_free(&answer);
}

static void test_delete(void **state)
{
    struct world *world = *state;
    struct rpc_delete_topic_request gone = {.topic = text("t")};
    struct rpc_delete_part_request part = {.topic = text("t"), .partition = text("1")};
    struct answer answer;

    make_topic(world, "t", 3);
    for (int i = 0; i < 3; i++)
        push_text(world, "t", (const char *[]){"0", "1", "2"}[i], "first life", -1);
    answer = coordinator(world, RPC_METHOD_DELETE_PART, &part);
    assert_int_equal(answer.r.delete_part.error, 0);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_DELETE_PART, &part);
    assert_int_equal(answer.r.delete_part.error, CLYMQ_EPARTITION_UNKNOWN);
    answer_free(&answer);
    pull_from(world, "t", "0", 0, 10, &answer);
    assert_int_equal(answer.r.pull.size, 1);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_DELETE_TOPIC, &gone);
    assert_int_equal(answer.r.delete_topic.error, 0);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_DELETE_TOPIC, &gone);
    assert_int_equal(answer.r.delete_topic.error, CLYMQ_ETOPIC_UNKNOWN);
    answer_free(&answer);
    pull_from(world, "t", "0", 0, 10, &answer);
    expect_exception(&answer, "unknown topic");
    make_topic(world, "t", 1); /* another topic of the same name */
    pull_from(world, "t", "0", 0, 10, &answer);
    assert_int_equal(answer.r.pull.size, 0);
    answer_free(&answer);
    push_text(world, "t", "0", "second life", -1);
    world_run_for(world, 10000); /* disk worker and housekeeping remove files and folders a little later */
    char **names;
    size_t count;
    assert_int_equal(io_fs_list(sim_process_fs(world->server), "data", &names, &count), 0);
    assert_int_equal(count, 1); /* nothing of the first one is left */
    io_fs_free_names(names, count);
}

/* What was changed counts for partitions in service, and is described. */
static void test_set_topic_config(void **state)
{
    struct world *world = *state;
    struct rpc_set_topic_config_request request = {
        .topic = text("t"), .config = text("{\"retention_bytes\":0,\"segment_ms\":1000}")};
    struct rpc_describe_topic_request describe = {.topic = text("t")};
    struct rpc_list_offset_request start = {.topic = text("t"), .partition = text("0"), .timestamp_ms = -2};
    struct answer answer = coordinator(world, RPC_METHOD_SET_TOPIC_CONFIG, &request);

    assert_int_equal(answer.r.set_topic_config.error, CLYMQ_ETOPIC_UNKNOWN);
    answer_free(&answer);
    make_topic(world, "t", 1);
    push_text(world, "t", "0", "old", -1);
    answer = coordinator(world, RPC_METHOD_SET_TOPIC_CONFIG, &request);
    assert_int_equal(answer.r.set_topic_config.error, 0);
    answer_free(&answer);
    answer = coordinator(world, RPC_METHOD_DESCRIBE_TOPIC, &describe);
    assert_true(contains(answer.r.describe_topic.topic, "{\"retention_bytes\":0,\"segment_ms\":1000}"));
    answer_free(&answer);
    world_run_for(world, 130000); /* two rounds of retention: one ends the segment, one removes it */
    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &start, &answer);
    assert_int_equal(answer.r.list_offset.error, 0);
    assert_int_equal(answer.r.list_offset.offset, 1);
    answer_free(&answer);
    request.config = text("{\"colour\":1}");
    answer = coordinator(world, RPC_METHOD_SET_TOPIC_CONFIG, &request);
    assert_int_equal(answer.r.set_topic_config.error, CLYMQ_EINVAL);
    assert_true(contains(answer.r.set_topic_config.err, "colour"));
    answer_free(&answer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SHARDS(test_create_topic),        TEST_SHARDS(test_create_partition),
        TEST_SHARDS(test_set_partition_state), TEST_SHARDS(test_pushing_over_seals),
        TEST_SHARDS(test_where_to_push),       TEST_SHARDS(test_where_to_pull),
        TEST_SHARDS(test_list_and_describe),   TEST_SHARDS(test_delete),
        TEST_SHARDS(test_set_topic_config),    TEST_SHARDS(test_set_failed_partition),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
