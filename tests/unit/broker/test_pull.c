/* pull: the JSON array, its bounds, gaps, refusals. */
#include <jansson.h>

#include "world.h"

static json_t *array_of(const struct answer *answer)
{
    json_t *array = json_loadb((const char *)answer->r.pull.msgs.ptr, answer->r.pull.msgs.len, 0, NULL);

    assert_true(json_is_array(array));
    assert_int_equal(json_array_size(array), answer->r.pull.size);
    return array;
}

static int64_t index_at(const json_t *array, size_t i)
{
    return json_integer_value(json_object_get(json_array_get(array, i), "index"));
}

static const char *text_at(const json_t *array, size_t i, const char *field)
{
    return json_string_value(json_object_get(json_array_get(array, i), field));
}

static void test_the_array(void **state)
{
    struct world *world = *state;
    struct answer answer;
    json_t *array;

    make_topic(world, "北京", 0);
    make_partition(world, "北京", "a \"b\"");
    push_text(world, "北京", "a \"b\"", "foobar", -1);
    push_text(world, "北京", "a \"b\"", "", -1);
    pull_from(world, "北京", "a \"b\"", 0, 10, &answer);
    assert_int_equal(answer.error, 0);
    assert_true(answer.r.pull.ret);
    assert_true(bytes_are(answer.r.pull.err, "ok"));
    assert_int_equal(answer.r.pull.start_index, 0);
    assert_int_equal(answer.r.pull.end_index, 1);
    array = array_of(&answer);
    assert_int_equal(index_at(array, 0), 0);
    assert_int_equal(index_at(array, 1), 1);
    assert_int_equal(json_integer_value(json_object_get(json_array_get(array, 0), "size")), 0);
    assert_string_equal(text_at(array, 0, "topic_name"), "北京");
    assert_string_equal(text_at(array, 0, "part_name"), "a \"b\"");
    assert_string_equal(text_at(array, 0, "msg"), "Zm9vYmFy");
    assert_string_equal(text_at(array, 1, "msg"), "");
    json_decref(array);
    answer_free(&answer);
}

static void test_sizes(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("m", 300, BATCH_NONE, -1, -1);
    struct answer answer;
    static const struct {
        int asked, got;
    } cases[] = {{0, 10}, {-5, 10}, {1, 1}, {127, 127}, {50, 50}};

    make_topic(world, "t", 1);
    push_batch(world, "t", "0", batch);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        pull_from(world, "t", "0", 100, cases[i].asked, &answer);
        assert_int_equal(answer.r.pull.size, cases[i].got);
        assert_int_equal(answer.r.pull.start_index, 100);
        assert_int_equal(answer.r.pull.end_index, 100 + cases[i].got - 1);
        answer_free(&answer);
    }
    pull_from(world, "t", "0", 295, 100, &answer);
    assert_int_equal(answer.r.pull.size, 5);
    answer_free(&answer);
    buf_unref(batch);
}

static void test_many_batches_in_one_array(void **state)
{
    struct world *world = *state;
    struct answer answer;

    make_topic(world, "t", 1);
    for (int i = 0; i < 40; i++) {
        struct buf *batch = make_batch("m", 3, i % 5, -1, -1);

        push_batch(world, "t", "0", batch);
        buf_unref(batch);
    }
    pull_from(world, "t", "0", 1, 118, &answer);
    assert_int_equal(answer.r.pull.size, 118);
    assert_int_equal(answer.r.pull.end_index, 118);
    json_t *array = array_of(&answer);
    for (size_t i = 0; i < 118; i++)
        assert_int_equal(index_at(array, i), i + 1);
    json_decref(array);
    answer_free(&answer);
}

static void test_at_most_one_mebibyte(void **state)
{
    struct world *world = *state;
    size_t len = 200000;
    char *message = mem_zalloc(2 << 20);
    struct answer answer;

    make_topic(world, "t", 1);
    memset(message, 'x', len);
    for (int i = 0; i < 8; i++)
        push_text(world, "t", "0", message, 1);
    memset(message, 'y', (2 << 20) - 1); /* alone longer than the bound: given all the same */
    push_text(world, "t", "0", message, -1);
    pull_from(world, "t", "0", 0, 100, &answer);
    assert_int_equal(answer.r.pull.size, 3);
    assert_true(answer.r.pull.msgs.len <= 1 << 20);
    answer_free(&answer);
    pull_from(world, "t", "0", 8, 100, &answer);
    assert_int_equal(answer.r.pull.size, 1);
    assert_true(answer.r.pull.msgs.len > 2 << 20);
    answer_free(&answer);
    mem_free(message);
}

static void expect_empty(const struct answer *answer, int64_t asked)
{
    assert_int_equal(answer->error, 0);
    assert_true(answer->r.pull.ret);
    assert_true(bytes_are(answer->r.pull.msgs, "[]"));
    assert_true(bytes_are(answer->r.pull.err, "ok"));
    assert_int_equal(answer->r.pull.start_index, asked - 1);
    assert_int_equal(answer->r.pull.end_index, asked - 1);
    assert_int_equal(answer->r.pull.size, 0);
}

static void test_empty(void **state)
{
    struct world *world = *state;
    struct answer answer;

    make_topic(world, "t", 1);
    pull_from(world, "t", "0", 0, 10, &answer);
    expect_empty(&answer, 0);
    answer_free(&answer);
    push_text(world, "t", "0", "m", -1);
    pull_from(world, "t", "0", 1, 10, &answer);
    expect_empty(&answer, 1);
    answer_free(&answer);
}

/* Nothing is stored below the log's start: the answer comes from the next message that is. */
static void test_below_the_start(void **state)
{
    struct world *world = *state;
    struct answer answer;

    make_topic(world, "t", 1);
    pull_from(world, "t", "0", -7, 10, &answer);
    expect_empty(&answer, -7);
    answer_free(&answer);
    pull_from(world, "t", "0", INT64_MIN, 10, &answer);
    expect_empty(&answer, INT64_MIN + 1); /* there is none before it */
    answer_free(&answer);
    push_text(world, "t", "0", "m", -1);
    push_text(world, "t", "0", "n", -1);
    pull_from(world, "t", "0", INT64_MIN, 10, &answer);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.r.pull.size, 2);
    assert_int_equal(answer.r.pull.start_index, 0);
    assert_int_equal(answer.r.pull.end_index, 1);
    answer_free(&answer);
}

/* The control batches that begin a block make gaps. */
static void test_gaps(void **state)
{
    struct world *world = *state;
    struct answer answer;
    json_t *array;
    int64_t last = -1;

    make_topic(world, "t", 1);
    for (int i = 0; i < 4; i++) {
        push_text(world, "t", "0", "m", 1);
        set_partition(world, "t", "0", i % 2 ? -1 : 1);
    }
    push_text(world, "t", "0", "m", -1);
    pull_from(world, "t", "0", 0, 100, &answer);
    assert_int_equal(answer.r.pull.size, 5);
    array = array_of(&answer);
    for (size_t i = 0; i < 5; i++) {
        assert_true(index_at(array, i) > last);
        last = index_at(array, i);
    }
    assert_int_equal(answer.r.pull.start_index, 0);
    assert_int_equal(answer.r.pull.end_index, last);
    assert_true(last > 4); /* there are gaps */
    answer_free(&answer);
    pull_from(world, "t", "0", 1, 1, &answer); /* in a gap: the next message */
    assert_int_equal(answer.r.pull.start_index, index_at(array, 1));
    answer_free(&answer);
    json_decref(array);
}

/* Many large answers asked for at once: they take turns, in order, and none is lost. */
static void test_pipelined_pulls(void **state)
{
    enum { COUNT = 300 };
    struct world *world = *state;
    char *message = mem_zalloc(60001);
    struct answer *answers = mem_calloc(COUNT, sizeof(*answers));

    make_topic(world, "t", 2);
    memset(message, 'x', 60000);
    for (int i = 0; i < 20; i++)
        push_text(world, "t", i % 2 ? "1" : "0", message, -1);
    for (int round = 0; round < 2; round++) {
        struct net_link *link = world_link(world, broker_node_broker_address(world->node));

        for (int i = 0; i < COUNT; i++) {
            struct rpc_pull_request request = {.topic = text("t"),
                                               .partition = text(i % 3 ? "0" : "1"),
                                               .offset = i % 10,
                                               .size = 100,
                                               .option = 4};

            call_begin(link, RPC_METHOD_PULL, &request, &answers[i]);
        }
        if (round == 1) { /* the connection breaks on the way */
            sim_world_run_for(world->sim, 20000000);
            net_link_free(link);
            for (int i = 0; i < COUNT; i++)
                answer_free(&answers[i]);
            break;
        }
        for (int i = 0; i < COUNT; i++) {
            assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
            assert_int_equal(answers[i].error, 0);
            assert_int_equal(answers[i].r.pull.start_index, i % 10);
            assert_int_equal(answers[i].r.pull.size, 10 - i % 10);
            answer_free(&answers[i]);
        }
        net_link_free(link);
    }
    world_run_for(world, 2000);
    pull_from(world, "t", "0", 0, 1, answers);
    assert_int_equal(answers[0].r.pull.size, 1);
    answer_free(answers);
    mem_free(answers);
    mem_free(message);
}

static void test_refusals(void **state)
{
    struct world *world = *state;
    struct answer answer;
    static const char *const sentences[] = {"unknown option", "point-to-point", "point-to-point",
                                            "push mode"};

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    pull_from(world, "t", "0", 2, 10, &answer);
    expect_exception(&answer,
                     "offset 2 is out of range: the partition begins at 0 and its next message gets 1");
    pull_from(world, "u", "0", 0, 10, &answer);
    expect_exception(&answer, "unknown topic");
    pull_from(world, "t", "1", 0, 10, &answer);
    expect_exception(&answer, "unknown partition");
    pull_from(world, "t", "..", 0, 10, &answer);
    expect_exception(&answer, "invalid name");
    for (int option = 0; option < 4; option++) {
        struct rpc_pull_request request = {
            .topic = text("t"), .partition = text("0"), .option = (int8_t)option};

        call(world, world->broker, RPC_METHOD_PULL, &request, &answer);
        expect_exception(&answer, sentences[option]);
    }
}

static void test_push_mode_is_refused(void **state)
{
    struct world *world = *state;
    struct rpc_info_request info = {.ip_port = text("10.0.0.1:7881")};
    struct rpc_info_get_request get = {.cli_name = text("c"), .topic = text("t"), .partition = text("0")};
    struct answer answer;

    make_topic(world, "t", 1);
    call(world, world->broker, RPC_METHOD_INFO, &info, &answer);
    expect_exception(&answer, "push mode");
    for (int option = 1; option <= 3; option++) {
        get.option = (int8_t)option;
        call(world, world->broker, RPC_METHOD_INFO_GET, &get, &answer);
        expect_exception(&answer, "subscriptions");
    }
    get.option = 4;
    call(world, world->broker, RPC_METHOD_INFO_GET, &get, &answer);
    assert_int_equal(answer.error, 0);
    assert_true(answer.r.info_get.ret);
    answer_free(&answer);
    get.partition = text("nothing");
    call(world, world->broker, RPC_METHOD_INFO_GET, &get, &answer);
    expect_exception(&answer, "unknown partition");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SHARDS(test_the_array),
        TEST_SHARDS(test_sizes),
        TEST_SHARDS(test_many_batches_in_one_array),
        TEST_SHARDS(test_at_most_one_mebibyte),
        TEST_SHARDS(test_empty),
        TEST_SHARDS(test_below_the_start),
        TEST_SHARDS(test_gaps),
        TEST_SHARDS(test_pipelined_pulls),
        TEST_SHARDS(test_refusals),
        TEST_SHARDS(test_push_mode_is_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
