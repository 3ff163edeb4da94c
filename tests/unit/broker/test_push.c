/* push: ack levels, refusals, idempotence, order. */
#include <stdlib.h>

#include "broker/json_write.h"
#include "world.h"

static struct rpc_push_request push_of(const char *topic, const char *partition, const char *message, int ack)
{
    return (struct rpc_push_request){.producer = text("p"),
                                     .topic = text(topic),
                                     .partition = text(partition),
                                     .message = text(message),
                                     .ack = (int8_t)ack};
}

static void push(struct world *world, const struct rpc_push_request *request, struct answer *answer)
{
    call(world, world->broker, RPC_METHOD_PUSH, request, answer);
}

static int64_t count_messages(struct world *world, const char *topic, const char *partition)
{
    struct rpc_list_offset_request request = {
        .topic = text(topic), .partition = text(partition), .timestamp_ms = -1};
    struct answer answer;
    int64_t end;

    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &request, &answer);
    assert_int_equal(answer.r.list_offset.error, 0);
    end = answer.r.list_offset.offset;
    answer_free(&answer);
    return end;
}

static void test_each_ack_level_stores(void **state)
{
    struct world *world = *state;

    make_topic(world, "t", 0);
    make_partition(world, "t", "never-set");
    make_partition(world, "t", "one");
    set_partition(world, "t", "one", 1);
    push_text(world, "t", "never-set", "a", -1);
    push_text(world, "t", "never-set", "b", 1);
    push_text(world, "t", "never-set", "c", 0);
    push_text(world, "t", "one", "d", 1);
    push_text(world, "t", "one", "e", 0);
    world_run_for(world, 1000);
    assert_int_equal(count_messages(world, "t", "never-set"), 3);
    assert_true(count_messages(world, "t", "one") >= 2);
    assert_int_equal(world_metric_sum(world, "clymq_push_messages_total"), 5);
}

static void expect_refusal(struct world *world, const struct rpc_push_request *request, const char *part)
{
    struct answer answer;

    push(world, request, &answer);
    assert_int_equal(answer.error, 0);
    assert_false(answer.r.push.ret);
    if (!contains(answer.r.push.err, part))
        fail_msg("\"%.*s\" does not contain \"%s\"", (int)answer.r.push.err.len, answer.r.push.err.ptr, part);
    assert_false(bytes_are(answer.r.push.err, "partition remove"));
    answer_free(&answer);
}

static void test_what_can_never_succeed_is_refused(void **state)
{
    struct world *world = *state;
    struct rpc_push_request request;
    char *long_name = mem_zalloc(301);

    memset(long_name, 'x', 300);
    make_topic(world, "t", 1);
    make_partition(world, "t", "one");
    set_partition(world, "t", "one", 1);
    request = push_of("t", "one", "m", -1);
    expect_refusal(world, &request, "ack level");
    request = push_of("t", "0", "m", 2);
    expect_refusal(world, &request, "ack level");
    request = push_of("t", "0", "m", -2);
    expect_refusal(world, &request, "ack level");
    request = push_of("nothing", "0", "m", -1);
    expect_refusal(world, &request, "unknown topic");
    request = push_of("t", "nothing", "m", -1);
    expect_refusal(world, &request, "unknown partition");
    request = push_of("t", "nothing", "m", 0);
    expect_refusal(world, &request, "unknown partition");
    request = push_of("", "0", "m", -1);
    expect_refusal(world, &request, "invalid name");
    request = push_of("t", "a/b", "m", -1);
    expect_refusal(world, &request, "invalid name");
    request = push_of("t", long_name, "m", -1);
    expect_refusal(world, &request, "invalid name");
    assert_int_equal(count_messages(world, "t", "0"), 0);
    mem_free(long_name);
}

static void test_too_large_is_refused(void **state)
{
    struct world *world = *state;
    struct rpc_push_request request = push_of("t", "0", "", -1);
    size_t len = 1 << 20;
    char *big = mem_zalloc(len);

    make_topic(world, "t", 1);
    world->config.max_batch_bytes = (int64_t)len;
    assert_int_equal(broker_node_reload(world->node, &world->config), 0);
    world_run_for(world, 10);
    request.message = bytes_of(big, len);
    expect_refusal(world, &request, "too big");
    request.message = bytes_of(big, len - 20); /* too big with what a batch adds */
    expect_refusal(world, &request, "too big");
    struct answer answer;
    request.message = bytes_of(big, len - 200);
    push(world, &request, &answer);
    assert_true(answer.r.push.ret);
    answer_free(&answer);
    assert_int_equal(count_messages(world, "t", "0"), 1);
    mem_free(big);
}

static void test_a_deleted_partition_is_removed(void **state)
{
    struct world *world = *state;
    struct rpc_delete_part_request gone = {.topic = text("t"), .partition = text("0")};
    struct rpc_push_request request = push_of("t", "0", "m", -1);
    struct answer answer;

    make_topic(world, "t", 2);
    push_text(world, "t", "0", "m", -1);
    call(world, world->coordinator, RPC_METHOD_DELETE_PART, &gone, &answer);
    assert_int_equal(answer.r.delete_part.error, 0);
    answer_free(&answer);
    expect_refusal(world, &request, "unknown partition");
    push_text(world, "t", "1", "m", -1);
}

/* Pushes that are under way while their partition is deleted get one of the two answers that clients
 * understand. */
static void test_pushes_race_with_deletion(void **state)
{
    enum { COUNT = 60 };
    struct world *world = *state;
    struct rpc_delete_part_request gone = {.topic = text("t"), .partition = text("0")};
    struct rpc_push_request request = push_of("t", "0", "m", -1);
    struct answer answers[COUNT], deleted;
    int stored = 0, removed = 0, unknown = 0;

    make_topic(world, "t", 1);
    for (int i = 0; i < COUNT; i++) {
        call_begin(world->broker, RPC_METHOD_PUSH, &request, &answers[i]);
        if (i == COUNT / 3)
            call_begin(world->coordinator, RPC_METHOD_DELETE_PART, &gone, &deleted);
        sim_world_run_for(world->sim, 600000);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        assert_int_equal(answers[i].error, 0);
        stored += answers[i].r.push.ret;
        removed += bytes_are(answers[i].r.push.err, "partition remove");
        unknown += contains(answers[i].r.push.err, "unknown partition");
        answer_free(&answers[i]);
    }
    assert_int_equal(stored + removed + unknown, COUNT);
    assert_true(stored > 0);
    assert_true(world_run_until(world, &deleted.done, WORLD_LIMIT_MS));
    assert_int_equal(deleted.r.delete_part.error, 0);
    answer_free(&deleted);
}

static void test_sessions_make_repeats_harmless(void **state)
{
    struct world *world = *state;
    struct rpc_push_request request = push_of("t", "0", "m", -1);

    make_topic(world, "t", 1);
    for (int i = 0; i < 3; i++) { /* Cmdindex alone is no identity */
        struct answer answer;

        push(world, &request, &answer);
        assert_true(answer.r.push.ret);
        answer_free(&answer);
    }
    assert_int_equal(count_messages(world, "t", "0"), 3);
    request.session = 77;
    rpc_set_present(rpc_methods[RPC_METHOD_PUSH].request, &request,
                    offsetof(struct rpc_push_request, session));
    for (int i = 0; i < 3; i++) {
        struct answer answer;

        push(world, &request, &answer);
        assert_true(answer.r.push.ret);
        answer_free(&answer);
    }
    assert_int_equal(count_messages(world, "t", "0"), 4);
    request.command_index = 1;
    for (int i = 0; i < 2; i++) {
        struct answer answer;

        push(world, &request, &answer);
        assert_true(answer.r.push.ret);
        answer_free(&answer);
    }
    assert_int_equal(count_messages(world, "t", "0"), 5);
}

/* Pipelined pushes of one connection keep their order within each partition, whichever shards they cross. */
static void test_order_per_connection_and_partition(void **state)
{
    enum { PARTITIONS = 5, COUNT = 200 };
    struct world *world = *state;
    struct answer *answers = mem_calloc(COUNT, sizeof(*answers));
    struct net_link *link = world_link(world, broker_node_broker_address(world->node));

    make_topic(world, "北京", PARTITIONS);
    for (int i = 0; i < COUNT; i++) {
        char partition[16], message[16];
        struct rpc_push_request request;

        snprintf(partition, sizeof(partition), "%d", i % PARTITIONS);
        snprintf(message, sizeof(message), "%d", i);
        request = push_of("北京", partition, message, i % 3 == 0 ? -1 : i % 3 - 1);
        call_begin(link, RPC_METHOD_PUSH, &request, &answers[i]);
        if (i % 7 == 0)
            sim_world_run_for(world->sim, 50000);
    }
    for (int i = 0; i < COUNT; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        assert_true(answers[i].r.push.ret);
        answer_free(&answers[i]);
    }
    world_run_for(world, 100);
    for (int p = 0; p < PARTITIONS; p++) {
        char partition[16], wanted[32];
        struct answer answer;

        snprintf(partition, sizeof(partition), "%d", p);
        pull_from(world, "北京", partition, 0, 127, &answer);
        assert_int_equal(answer.r.pull.size, COUNT / PARTITIONS);
        const char *at = strndup((const char *)answer.r.pull.msgs.ptr, answer.r.pull.msgs.len), *begin = at;
        for (int i = p; i < COUNT; i += PARTITIONS) {
            struct strbuf encoded = {0};

            snprintf(wanted, sizeof(wanted), "%d", i);
            json_write_base64(&encoded, text(wanted));
            at = strstr(at, encoded.data);
            assert_non_null(at);
            at += encoded.len;
            strbuf_free(&encoded);
        }
        free((void *)begin);
        answer_free(&answer);
    }
    net_link_free(link);
    mem_free(answers);
}

/* A full disk: pushes wait and are then told so, pulls go on, and pushing goes on by itself when there is
 * room. */
static void test_full_disk(void **state)
{
    struct world *world = *state;
    struct sim_disk_faults full = {.capacity = 4096}, none = {0};
    char *large = mem_zalloc(100001);
    struct answer answer, pulled;

    memset(large, 'x', 100000);
    struct rpc_push_request request = push_of("t", "0", large, -1);

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "before", -1);
    sim_process_set_disk_faults(world->server, &full);
    call_begin(world->broker, RPC_METHOD_PUSH, &request, &answer);
    struct rpc_push_request of_level_1 = push_of("t", "0", large, 1);
    struct answer written;
    struct net_link *second = world_link(world, broker_node_broker_address(world->node));
    world_run_for(world, 1000);
    call_begin(second, RPC_METHOD_PUSH, &of_level_1, &written);
    world_run_for(world, 3000);
    assert_false(answer.done);
    assert_false(written.done); /* level 1 is answered once it is written */
    struct net_link *other = world_link(world, broker_node_broker_address(world->node));
    struct rpc_pull_request pull = {.topic = text("t"), .partition = text("0"), .option = 4};
    call(world, other, RPC_METHOD_PULL, &pull, &pulled);
    assert_int_equal(pulled.r.pull.size, 1);
    answer_free(&pulled);
    net_link_free(other);
    assert_true(world_run_until(world, &answer.done, 40000));
    expect_exception(&answer, "disk is full");
    answer_free(&answer);
    assert_true(world_run_until(world, &written.done, 40000));
    expect_exception(&written, "disk is full");
    answer_free(&written);
    net_link_free(second);
    call_begin(world->broker, RPC_METHOD_PUSH, &request, &answer);
    world_run_for(world, 5000);
    assert_false(answer.done);
    sim_process_set_disk_faults(world->server, &none);
    assert_true(world_run_until(world, &answer.done, 10000));
    assert_true(answer.r.push.ret);
    answer_free(&answer);
    assert_int_equal(count_messages(world, "t", "0"), 2);
    mem_free(large);
}

/* When the disk fails under a push nobody knows whether it is stored: "partition remove" would be a promise
 * that it is not. What comes later is refused for certain. */
static void test_a_failed_sync_is_told_as_unknown(void **state)
{
    struct world *world = *state;
    struct sim_disk_faults failing = {.eio_sync_ppm = 1000000}, none = {0};
    struct rpc_push_request request = push_of("t", "0", "m", -1);
    struct buf *batch = make_batch("b", 1, BATCH_NONE, -1, -1);
    struct rpc_push_batch_request of_batch = {
        .topic = text("t"), .partition = text("1"), .ack = -1, .batch = bytes_of(batch->data, batch->len)};
    struct answer answer;

    make_topic(world, "t", 2);
    push_text(world, "t", "0", "before", -1);
    sim_process_set_disk_faults(world->server, &failing);
    push(world, &request, &answer);
    expect_exception(&answer, "outcome is unknown");
    answer_free(&answer);
    call(world, world->broker, RPC_METHOD_PUSH_BATCH, &of_batch, &answer);
    assert_int_equal(answer.r.push_batch.error, CLYMQ_EUNCERTAIN);
    answer_free(&answer);
    sim_process_set_disk_faults(world->server, &none);
    push(world, &request, &answer);
    assert_false(answer.r.push.ret);
    assert_true(contains(answer.r.push.err, "log failed"));
    answer_free(&answer);
    call(world, world->broker, RPC_METHOD_PUSH_BATCH, &of_batch, &answer);
    assert_int_equal(answer.r.push_batch.error, CLYMQ_ELOG_FAILED);
    answer_free(&answer);
    buf_unref(batch);
}

/* Pushes of level 0 have their answer and no call any more; those that wait while their partition is deleted
 * are told to the log only. */
static void test_deletion_of_pushes_answered_on_receipt(void **state)
{
    struct world *world = *state;
    struct sim_disk_faults full = {.capacity = 4096}, none = {0};
    struct rpc_delete_part_request gone = {.topic = text("t"), .partition = text("0")};
    char *large = mem_zalloc(100001);
    struct buf *batch = make_batch(memset(large, 'x', 100000), 1, BATCH_NONE, -1, -1);
    struct rpc_push_batch_request of_batch = {
        .topic = text("t"), .partition = text("0"), .ack = 0, .batch = bytes_of(batch->data, batch->len)};
    struct answer answer;

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "before", -1);
    sim_process_set_disk_faults(world->server, &full);
    push_text(world, "t", "0", large, 0);
    call(world, world->broker, RPC_METHOD_PUSH_BATCH, &of_batch, &answer);
    assert_int_equal(answer.r.push_batch.error, 0);
    answer_free(&answer);
    world_run_for(world, 1000);
    sim_process_set_disk_faults(world->server, &none);
    call(world, world->coordinator, RPC_METHOD_DELETE_PART, &gone, &answer);
    assert_int_equal(answer.r.delete_part.error, 0);
    answer_free(&answer);
    assert_non_null(strstr(world->log.data, "a message pushed with ack 0 was lost"));
    assert_non_null(strstr(world->log.data, "a batch pushed with ack 0 was lost"));
    buf_unref(batch);
    mem_free(large);
}

/* What is answered on receipt is held all the same: beyond a limit the answer waits for the push's end, as at
 * level 1. */
static void test_receipts_are_bounded(void **state)
{
    enum { COUNT = 300, SIZE = 10000 };
    struct world *world = *state;
    struct sim_disk_faults full = {.capacity = 4096}, none = {0};
    struct rpc_push_request request = push_of("t", "0", "", 0);
    char *large = mem_zalloc(SIZE);
    struct answer *answers = mem_calloc(COUNT, sizeof(*answers)), answer;
    int early = 0, refused = 0;

    request.message = bytes_of(large, SIZE);
    make_topic(world, "t", 2);
    push_text(world, "t", "0", "before", -1);
    push_text(world, "t", "1", "before", -1);
    world->config.max_waiting_bytes = 1 << 20;
    assert_int_equal(broker_node_reload(world->node, &world->config), 0);
    sim_process_set_disk_faults(world->server, &full);
    for (int i = 0; i < COUNT; i++) {
        request.partition = text(i % 2 ? "0" : "1");
        call_begin(world->broker, RPC_METHOD_PUSH, &request, &answers[i]);
    }
    world_run_for(world, 5000);
    for (int i = 0; i < COUNT; i++)
        early += answers[i].done && answers[i].r.push.ret;
    assert_in_range(early, 50, (1 << 20) / SIZE);
    for (int i = 0; i < COUNT; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        refused += answers[i].exception != 0;
        answer_free(&answers[i]);
    }
    assert_int_equal(early + refused, COUNT);
    sim_process_set_disk_faults(world->server, &none);
    world_run_for(world, 5000);
    call(world, world->broker, RPC_METHOD_PUSH, &request, &answer); /* nothing is held any more */
    assert_true(answer.r.push.ret);
    answer_free(&answer);
    mem_free(answers);
    mem_free(large);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SHARDS(test_each_ack_level_stores),
        TEST_SHARDS(test_what_can_never_succeed_is_refused),
        TEST_SHARDS(test_too_large_is_refused),
        TEST_SHARDS(test_a_deleted_partition_is_removed),
        TEST_SHARDS(test_pushes_race_with_deletion),
        TEST_SHARDS(test_sessions_make_repeats_harmless),
        TEST_SHARDS(test_order_per_connection_and_partition),
        TEST_SHARDS(test_full_disk),
        TEST_SHARDS(test_a_failed_sync_is_told_as_unknown),
        TEST_SHARDS(test_deletion_of_pushes_answered_on_receipt),
        TEST_SHARDS(test_receipts_are_bounded),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
