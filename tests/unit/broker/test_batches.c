/* pushBatch, pullBatch and listOffset. */
#include "world.h"

static struct rpc_push_batch_request push_of(const char *topic, const char *partition,
                                             const struct buf *batch, int ack)
{
    return (struct rpc_push_batch_request){.topic = text(topic),
                                           .partition = text(partition),
                                           .ack = (int8_t)ack,
                                           .batch = bytes_of(batch->data, batch->len)};
}

static struct rpc_pull_batch_request pull_of(const char *topic, const char *partition, int64_t offset)
{
    return (struct rpc_pull_batch_request){
        .topic = text(topic), .partition = text(partition), .offset = offset};
}

/* Counts the records from offset on in pulled batches, whose values are "m<n>" or whatever the caller's
 * batches hold. */
static int count_records(struct bytes batches, int64_t from, int64_t *ret_next)
{
    int count = 0;

    while (batches.len) {
        struct batch_header header;
        struct batch_reader reader;
        struct batch_record record;

        if (batch_check(batches, UINT32_MAX, &header))
            fail_msg("a damaged batch");
        assert_int_equal(batch_reader_begin(&reader, bytes_of(batches.ptr, header.size), 1 << 24), 0);
        while (!batch_is_control(&header) && batch_reader_next(&reader, &record) == 0)
            count += record.offset >= from;
        batch_reader_end(&reader);
        *ret_next = batch_last_offset(&header) + 1;
        batches = bytes_of(batches.ptr + header.size, batches.len - header.size);
    }
    return count;
}

static void test_batches_come_back_as_stored(void **state)
{
    struct world *world = *state;
    int total = 0, pulled = 0;
    int64_t offset = 0;
    struct answer answer;

    make_topic(world, "t", 1);
    for (int i = 0; i < 5; i++) {
        struct buf *batch = make_batch("a message that can be compressed ", 10 + i, i, -1, -1);

        assert_int_equal(push_batch(world, "t", "0", batch), total);
        total += 10 + i;
        buf_unref(batch);
    }
    while (offset < total) {
        struct rpc_pull_batch_request request = pull_of("t", "0", offset);

        request.max_bytes = 1; /* one batch at a time */
        call(world, world->broker, RPC_METHOD_PULL_BATCH, &request, &answer);
        assert_int_equal(answer.r.pull_batch.error, 0);
        assert_int_equal(answer.r.pull_batch.log_start, 0);
        assert_int_equal(answer.r.pull_batch.high_watermark, total);
        pulled += count_records(answer.r.pull_batch.batches, offset, &offset);
        answer_free(&answer);
    }
    assert_int_equal(pulled, total);
    struct rpc_pull_batch_request request = pull_of("t", "0", 3);
    call(world, world->broker, RPC_METHOD_PULL_BATCH, &request, &answer);
    assert_int_equal(count_records(answer.r.pull_batch.batches, 3, &offset), total - 3);
    answer_free(&answer);
}

static void expect_push_error(struct world *world, const struct rpc_push_batch_request *request, int error)
{
    struct answer answer;

    call(world, world->broker, RPC_METHOD_PUSH_BATCH, request, &answer);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.r.push_batch.error, error);
    assert_true(bytes_are(answer.r.push_batch.err, error_sentence(error)));
    assert_int_equal(answer.r.push_batch.base_offset, -1);
    answer_free(&answer);
}

static void test_push_refusals(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("m", 3, BATCH_NONE, -1, -1), *big;
    struct rpc_push_batch_request request = push_of("u", "0", batch, -1);

    make_topic(world, "t", 1);
    make_partition(world, "t", "one");
    set_partition(world, "t", "one", 1);
    expect_push_error(world, &request, CLYMQ_ETOPIC_UNKNOWN);
    request = push_of("t", "nothing", batch, -1);
    expect_push_error(world, &request, CLYMQ_EPARTITION_UNKNOWN);
    request = push_of("t", "", batch, -1);
    expect_push_error(world, &request, CLYMQ_ENAME);
    request = push_of("t", "one", batch, -1);
    expect_push_error(world, &request, CLYMQ_EACK_LEVEL);
    request = push_of("t", "0", batch, 9);
    expect_push_error(world, &request, CLYMQ_EACK_LEVEL);
    request = push_of("t", "0", batch, -1);
    request.batch.len--;
    expect_push_error(world, &request, CLYMQ_EBATCH);
    request.batch = bytes_of("", 0);
    expect_push_error(world, &request, CLYMQ_EBATCH);
    batch->data[batch->len - 1] ^= 1;
    request = push_of("t", "0", batch, -1);
    expect_push_error(world, &request, CLYMQ_EBATCH);
    big = buf_new((size_t)world->config.max_batch_bytes - 100);
    memset(big->data, 0, big->cap);
    big->len = big->cap;
    request = push_of("t", "0", big, -1);
    expect_push_error(world, &request, CLYMQ_EBATCH);
    buf_unref(big);
    buf_unref(batch);
}

static void test_idempotent_producers(void **state)
{
    struct world *world = *state;
    struct buf *first = make_batch("m", 3, BATCH_NONE, 1234, 0),
               *second = make_batch("m", 3, BATCH_NONE, 1234, 3),
               *later = make_batch("m", 3, BATCH_NONE, 1234, 9);
    struct rpc_push_batch_request request = push_of("t", "0", first, -1);
    struct answer answer;

    make_topic(world, "t", 1);
    assert_int_equal(push_batch(world, "t", "0", first), 0);
    call(world, world->broker, RPC_METHOD_PUSH_BATCH, &request, &answer);
    assert_int_equal(answer.r.push_batch.error, 0);
    assert_true(answer.r.push_batch.duplicate);
    assert_int_equal(answer.r.push_batch.base_offset, 0);
    answer_free(&answer);
    request = push_of("t", "0", later, -1);
    expect_push_error(world, &request, CLYMQ_ESEQUENCE);
    assert_int_equal(push_batch(world, "t", "0", second), 3);
    buf_unref(first);
    buf_unref(second);
    buf_unref(later);
}

static void test_ack_0_batches(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("m", 3, BATCH_NONE, -1, -1);
    struct rpc_push_batch_request request = push_of("t", "0", batch, 0);
    struct answer answer;

    make_topic(world, "t", 1);
    call(world, world->broker, RPC_METHOD_PUSH_BATCH, &request, &answer);
    assert_int_equal(answer.r.push_batch.error, 0);
    assert_int_equal(answer.r.push_batch.base_offset, -1);
    answer_free(&answer);
    assert_int_equal(push_batch(world, "t", "0", batch), 3);
    buf_unref(batch);
}

static void test_pull_errors(void **state)
{
    struct world *world = *state;
    static const struct {
        const char *topic, *partition;
        int64_t offset;
        int error;
    } cases[] = {
        {"u", "0", 0, CLYMQ_ETOPIC_UNKNOWN}, {"t", "x", 0, CLYMQ_EPARTITION_UNKNOWN},
        {"t", "", 0, CLYMQ_ENAME},           {"t", "0", -1, CLYMQ_EOFFSET_RANGE},
        {"t", "0", 2, CLYMQ_EOFFSET_RANGE},
    };

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rpc_pull_batch_request request = pull_of(cases[i].topic, cases[i].partition, cases[i].offset);
        struct answer answer;

        request.wait_ms = 1000;
        call(world, world->broker, RPC_METHOD_PULL_BATCH, &request, &answer);
        assert_int_equal(answer.r.pull_batch.error, cases[i].error);
        assert_int_equal(answer.r.pull_batch.batches.len, 0);
        if (cases[i].error == CLYMQ_EOFFSET_RANGE) {
            assert_int_equal(answer.r.pull_batch.log_start, 0);
            assert_int_equal(answer.r.pull_batch.high_watermark, 1);
        }
        answer_free(&answer);
    }
}

static void test_a_pull_waits_for_data(void **state)
{
    struct world *world = *state;
    struct rpc_pull_batch_request request = pull_of("t", "0", 0);
    struct answer answer;
    int64_t next;

    make_topic(world, "t", 1);
    request.wait_ms = 20000;
    call_begin(world->broker, RPC_METHOD_PULL_BATCH, &request, &answer);
    world_run_for(world, 500);
    assert_false(answer.done);
    struct net_link *other = world->broker;
    world->broker = world_link(world, broker_node_broker_address(world->node));
    push_text(world, "t", "0", "m", -1);
    assert_true(world_run_until(world, &answer.done, 1000));
    assert_int_equal(answer.r.pull_batch.error, 0);
    assert_int_equal(count_records(answer.r.pull_batch.batches, 0, &next), 1);
    answer_free(&answer);
    net_link_free(other);

    request = pull_of("t", "0", 1); /* the time passes */
    request.wait_ms = 3000;
    uint64_t began = sim_world_now_ns(world->sim);
    call(world, world->broker, RPC_METHOD_PULL_BATCH, &request, &answer);
    assert_int_equal(answer.r.pull_batch.error, 0);
    assert_int_equal(answer.r.pull_batch.batches.len, 0);
    assert_int_equal(answer.r.pull_batch.high_watermark, 1);
    assert_true(sim_world_now_ns(world->sim) - began >= IO_MS(3000));
    answer_free(&answer);
}

static void test_a_wait_is_capped(void **state)
{
    struct world *world = *state;
    struct rpc_pull_batch_request request = pull_of("t", "0", 0);
    struct answer answer;

    make_topic(world, "t", 1);
    request.wait_ms = INT32_MAX;
    uint64_t began = sim_world_now_ns(world->sim);
    call(world, world->broker, RPC_METHOD_PULL_BATCH, &request, &answer);
    assert_true(sim_world_now_ns(world->sim) - began <= IO_MS(61000));
    assert_int_equal(answer.r.pull_batch.error, 0);
    answer_free(&answer);
}

/* Waits end with their connection and hold no memory after it. */
static void test_waits_end_with_the_connection(void **state)
{
    enum { COUNT = 50 };
    struct world *world = *state;
    struct answer answers[COUNT];
    uint64_t before;

    make_topic(world, "t", 3);
    for (int round = 0; round < 3; round++) {
        struct net_link *links[COUNT];

        before = round == 1 ? mem_live_bytes() : 0;
        for (int i = 0; i < COUNT; i++) {
            char partition[16];
            struct rpc_pull_batch_request request;

            snprintf(partition, sizeof(partition), "%d", i % 3);
            request = pull_of("t", partition, 0);
            request.wait_ms = 60000;
            links[i] = world_link(world, broker_node_broker_address(world->node));
            call_begin(links[i], RPC_METHOD_PULL_BATCH, &request, &answers[i]);
        }
        world_run_for(world, 200);
        for (int i = 0; i < COUNT; i++) {
            assert_false(answers[i].done);
            net_link_free(links[i]);
            assert_int_equal(answers[i].error, CLYMQ_ECANCELED);
        }
        world_run_for(world, 2000);
        if (before)
            assert_true(mem_live_bytes() < before + 65536);
    }
}

/* Connections that break at any moment of a pull, the answer's sending included. */
static void test_connections_break_during_pulls(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("some bytes to be sent from the file ", 2000, BATCH_NONE, -1, -1);

    make_topic(world, "t", 2);
    for (int i = 0; i < 10; i++)
        push_batch(world, "t", "0", batch);
    for (int i = 0; i < 300; i++) {
        struct rpc_pull_batch_request request = pull_of("t", i % 3 ? "0" : "1", 0);
        struct net_link *link = world_link(world, broker_node_broker_address(world->node));
        struct answer answer;

        request.wait_ms = i % 2 ? 100 : 0;
        call_begin(link, RPC_METHOD_PULL_BATCH, &request, &answer);
        sim_world_run_for(world->sim, (uint64_t)i * 17000);
        net_link_free(link);
        answer_free(&answer);
    }
    world_run_for(world, 3000);
    buf_unref(batch);
}

static void test_list_offset(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("m", 10, BATCH_NONE, -1, -1);
    struct rpc_list_offset_request request = {.topic = text("t"), .partition = text("0")};
    struct answer answer;
    static const struct {
        int64_t asked, offset;
    } cases[] = {{-2, 0}, {-1, 10}, {1700000000004, 4}, {0, 0}, {1800000000000, 10}};

    make_topic(world, "t", 1);
    push_batch(world, "t", "0", batch);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        request.timestamp_ms = cases[i].asked;
        call(world, world->broker, RPC_METHOD_LIST_OFFSET, &request, &answer);
        assert_int_equal(answer.r.list_offset.error, 0);
        assert_int_equal(answer.r.list_offset.offset, cases[i].offset);
        answer_free(&answer);
    }
    request.timestamp_ms = -3;
    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &request, &answer);
    assert_int_equal(answer.r.list_offset.error, CLYMQ_EINVAL);
    answer_free(&answer);
    request.topic = text("u");
    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &request, &answer);
    assert_int_equal(answer.r.list_offset.error, CLYMQ_ETOPIC_UNKNOWN);
    answer_free(&answer);
    buf_unref(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SHARDS(test_batches_come_back_as_stored),
        TEST_SHARDS(test_push_refusals),
        TEST_SHARDS(test_idempotent_producers),
        TEST_SHARDS(test_ack_0_batches),
        TEST_SHARDS(test_pull_errors),
        TEST_SHARDS(test_a_pull_waits_for_data),
        TEST_SHARDS(test_a_wait_is_capped),
        TEST_SHARDS(test_waits_end_with_the_connection),
        TEST_SHARDS(test_connections_break_during_pulls),
        TEST_SHARDS(test_list_offset),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
