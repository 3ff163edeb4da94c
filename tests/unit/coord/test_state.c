/* Setting a partition's state: sealing, the next block, empty blocks, dropping blocks, failures on the way.
 */
#include "unit/coord/harness.h"

static struct harness h;
static struct reply r;
static struct uuid topic;

#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        if (call)                                                                                            \
            fail_msg("%s: %s", #call, r.sentence);                                                           \
    } while (0)

static int setup(void **state)
{
    harness_init(&h, 3);
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 2, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_find(&h, "t", NULL, 5000, &r));
    topic = r.locations[0].topic_id;
    return 0;
}
static int teardown(void **state)
{
    reply_free(&r);
    harness_free(&h);
    return 0;
}

static void push(int count)
{
    while (count-- > 0)
        assert_true(fake_broker_push(&h.broker, topic, 0));
}

static void expect_blocks(const char *expected)
{
    assert_ok(do_describe(&h, "t", &r));
    const char *at = strstr(r.json, "\"blocks\":[");
    assert_non_null(at);
    /* "seq state start-end epoch ack" of each block of partition 0. */
    char found[512] = "";
    const char *stop = strstr(at, "]");
    while ((at = strstr(at, "{\"seq\":")) && at < stop) {
        unsigned seq, epoch;
        int ack;
        char state[16];
        sscanf(at, "{\"seq\":%u", &seq);
        sscanf(strstr(at, "\"state\":"), "\"state\":\"%15[a-z]", state);
        sscanf(strstr(at, "\"base_epoch\":"), "\"base_epoch\":%u,\"ack\":%d", &epoch, &ack);
        long long start = -1, end = -1;
        sscanf(strstr(at, "\"start\":"), "\"start\":%lld", &start);
        sscanf(strstr(at, "\"end\":"), "\"end\":%lld", &end);
        snprintf(found + strlen(found), sizeof(found) - strlen(found), "%u %s %lld-%lld %u %d;", seq, state,
                 start, end, epoch, ack);
        at++;
    }
    assert_string_equal(found, expected);
}

static void test_with_data(void **state)
{
    push(5);
    assert_ok(do_set_state(&h, "t", "0", 1, 3, &r));
    expect_blocks("0 sealed 0-5 0 -1;1 open 5--1 1 1;");
    assert_ok(do_find(&h, "t", "0", 1000, &r));
    assert_int_equal(r.locations[0].ack, 1);
    assert_int_equal(r.locations[0].block_seq, 1);
    assert_int_equal(fake_broker_partition(&h.broker, topic, 0)->ack, 1);
    assert_int_equal(fake_broker_partition(&h.broker, topic, 1)->ack, -1);
    push(2);
    assert_ok(do_set_state(&h, "t", "0", 0, 0, &r));
    expect_blocks("0 sealed 0-5 0 -1;1 sealed 5-7 1 1;2 open 7--1 2 0;");
    assert_ok(do_describe(&h, "t", &r));
    assert_non_null(strstr(r.json, "\"ack\":0,\"replicas\":3,"));
    /* Nothing changes: nothing is sealed. */
    assert_ok(do_set_state(&h, "t", "0", 0, 3, &r));
    assert_ok(do_set_state(&h, "t", "0", COORD_ACK_UNSET, 0, &r));
    expect_blocks("0 sealed 0-5 0 -1;1 sealed 5-7 1 1;2 open 7--1 2 0;");
    assert_int_equal(h.broker.seals, 2);
}

static void test_without_data(void **state)
{
    assert_ok(do_set_state(&h, "t", "0", -1, 1, &r));
    expect_blocks("0 open 0--1 0 -1;");
    assert_ok(do_set_state(&h, "t", "0", 1, 1, &r));
    expect_blocks("1 open 0--1 1 1;");
    harness_run_for(&h, IO_MS(100));
    /* The empty block has left broker and tree. */
    assert_int_equal(fake_broker_partition(&h.broker, topic, 0)->block_count, 1);
    assert_int_equal(harness_count_nodes(&h, "/test/ClyMQ/Topics/t/Partitions/0/Blocks"), 3);
    push(1);
    assert_ok(do_set_state(&h, "t", "0", 0, 1, &r));
    assert_ok(do_set_state(&h, "t", "0", 1, 1, &r));
    expect_blocks("1 sealed 0-1 1 1;3 open 1--1 3 1;");
}

static void test_refusals(void **state)
{
    assert_int_equal(do_set_state(&h, "t", "0", 2, 1, &r), CLYMQ_EACK_LEVEL);
    assert_int_equal(do_set_state(&h, "t", "0", -2, 1, &r), CLYMQ_EACK_LEVEL);
    assert_int_equal(do_set_state(&h, "t", "0", 1, 128, &r), CLYMQ_EINVAL);
    assert_int_equal(do_set_state(&h, "t", "9", 1, 1, &r), CLYMQ_EPARTITION_UNKNOWN);
    assert_non_null(strstr(r.sentence, "clymq topic describe"));
    assert_int_equal(do_set_state(&h, "x", "0", 1, 1, &r), CLYMQ_ETOPIC_UNKNOWN);
    assert_non_null(strstr(r.sentence, "clymq topic list"));
    expect_blocks("0 open 0--1 0 -1;");
}

static void test_seal_fails(void **state)
{
    push(3);
    h.broker.fail_seal = CLYMQ_EIO;
    assert_int_equal(do_set_state(&h, "t", "0", 1, 1, &r), CLYMQ_EIO);
    assert_non_null(strstr(r.sentence, "goes on by itself"));
    expect_blocks("0 sealing 0--1 0 -1;1 creating -1--1 1 1;");
    assert_int_equal(do_find(&h, "t", "0", 200, &r), CLYMQ_ETIMEDOUT);
    /* Another change waits for this one and tells why it cannot begin. */
    assert_int_equal(do_set_state(&h, "t", "0", 0, 1, &r), CLYMQ_EAGAIN);
    h.broker.fail_seal = 0;
    assert_ok(do_find(&h, "t", "0", 5000, &r));
    expect_blocks("0 sealed 0-3 0 -1;1 open 3--1 1 1;");
    assert_ok(do_set_state(&h, "t", "0", 0, 1, &r));
}

/* A log that failed between the question and the seal: no further try before its broker is started again. */
static void test_seal_fails_for_good(void **state)
{
    static const int errors[] = {CLYMQ_ELOG_FAILED, CLYMQ_ECORRUPT};
    int tries = 0;
    push(3);
    for (size_t i = 0; i < 2; i++) {
        h.broker.fail_seal = errors[i];
        if (i == 0) {
            assert_int_equal(do_set_state(&h, "t", "0", 1, 1, &r), errors[i]);
            assert_non_null(strstr(r.sentence, "when its broker is started again"));
        } else {
            assert_ok(do_register(&h, &r));
        }
        expect_blocks("0 sealing 0--1 0 -1;1 creating -1--1 1 1;");
        assert_int_equal(h.broker.seals, tries + 1);
        harness_run_for(&h, IO_MS(20000));
        assert_int_equal(h.broker.seals, tries + 1);
        assert_int_equal(do_find(&h, "t", "0", 200, &r), CLYMQ_ETIMEDOUT);
        assert_int_equal(do_set_state(&h, "t", "0", 0, 1, &r), CLYMQ_EAGAIN); /* asks once more */
        tries = h.broker.seals;
    }
    h.broker.fail_seal = 0;
    assert_ok(do_register(&h, &r));
    assert_ok(do_find(&h, "t", "0", 5000, &r));
    expect_blocks("0 sealed 0-3 0 -1;1 open 3--1 1 1;");
}

/* What cannot be sealed is left as it is, in service. */
static void test_log_failed(void **state)
{
    push(3);
    h.broker.fail_check = CLYMQ_ELOG_FAILED;
    assert_int_equal(do_set_state(&h, "t", "0", 1, 1, &r), CLYMQ_ELOG_FAILED);
    assert_non_null(strstr(r.sentence, "was not changed"));
    expect_blocks("0 open 0--1 0 -1;");
    assert_int_equal(h.broker.seals, 0);
    assert_ok(do_find(&h, "t", "0", 200, &r));
    assert_ok(do_set_state(&h, "t", "0", COORD_ACK_UNSET, 3, &r)); /* seals nothing */
    h.broker.fail_check = 0;
    assert_ok(do_set_state(&h, "t", "0", 1, 1, &r));
    expect_blocks("0 sealed 0-3 0 -1;1 open 3--1 1 1;");
}

/* A crash at every step between the operation's beginning and its end; then the next coordinator completes
 * it. */
static void test_crash_at_every_step(void **state)
{
    bool finished = false;
    for (int steps = 1; !finished; steps++) {
        int before = 0, ack = steps % 2;
        struct fake_partition *partition = fake_broker_partition(&h.broker, topic, 0);
        push(1);
        before = (int)partition->blocks[partition->block_count - 1].end;
        struct reply set = {0};
        coord_set_partition_state(h.coord, "t", "0", ack, 0, reply_done, &set);
        io_loop_wake(h.loop);
        for (int i = 0; i < steps && !set.done; i++)
            assert_true(sim_world_step(h.world));
        finished = set.done;
        if (finished)
            assert_int_equal(set.error, 0);
        harness_crash(&h);
        if (steps % 3 == 0)
            fake_broker_restart(&h.broker);
        harness_start(&h);
        assert_ok(do_find(&h, "t", "0", 5000, &r));
        bool changed = r.locations[0].ack == ack;
        assert_true(changed || !finished);
        /* No message moved or was lost, whatever happened. */
        assert_int_equal(partition->blocks[partition->block_count - 1].end, before);
        assert_true(fake_broker_push(&h.broker, topic, 0));
        if (!changed)
            assert_ok(do_set_state(&h, "t", "0", ack, 0, &r));
        harness_run_for(&h, IO_MS(200));
        if (partition->block_count > 20) { /* as retention does */
            uint32_t seq = partition->blocks[partition->block_count - 2].seq;
            assert_ok(do_drop_blocks(&h, topic, 0, seq, &r));
            harness_run_for(&h, IO_MS(200));
            assert_int_equal(partition->block_count, 1);
        }
        assert_true(steps < 500);
    }
}

static void test_drop_blocks(void **state)
{
    for (int i = 0; i < 4; i++) {
        push(2);
        assert_ok(do_set_state(&h, "t", "0", i % 2, 0, &r));
    }
    expect_blocks("0 sealed 0-2 0 -1;1 sealed 2-4 1 0;2 sealed 4-6 2 1;3 sealed 6-8 3 0;4 open 8--1 4 1;");
    assert_int_equal(do_drop_blocks(&h, topic, 0, 4, &r), CLYMQ_EINVAL);
    assert_ok(do_drop_blocks(&h, topic, 0, 1, &r));
    expect_blocks("2 sealed 4-6 2 1;3 sealed 6-8 3 0;4 open 8--1 4 1;");
    harness_run_for(&h, IO_MS(200));
    assert_int_equal(fake_broker_partition(&h.broker, topic, 0)->block_count, 3);
    assert_ok(do_drop_blocks(&h, topic, 0, 1, &r));
    assert_int_equal(do_drop_blocks(&h, topic, 7, 1, &r), CLYMQ_EPARTITION_UNKNOWN);
    assert_int_equal(do_drop_blocks(&h, (struct uuid){{5}}, 0, 1, &r), CLYMQ_EPARTITION_UNKNOWN);
    harness_crash(&h);
    harness_start(&h);
    expect_blocks("2 sealed 4-6 2 1;3 sealed 6-8 3 0;4 open 8--1 4 1;");
    assert_ok(do_find(&h, "t", "0", 1000, &r));
}

static void test_broker_comes_again(void **state)
{
    push(1);
    fake_broker_restart(&h.broker);
    assert_false(fake_broker_push(&h.broker, topic, 0));
    assert_ok(do_register(&h, &r));
    assert_true(fake_broker_push(&h.broker, topic, 0));
    assert_true(fake_broker_push(&h.broker, topic, 1));
    /* One whose block is missing stays out of service, and says so. */
    fake_broker_partition(&h.broker, topic, 1)->block_count = 0;
    fake_broker_restart(&h.broker);
    assert_ok(do_register(&h, &r));
    assert_ok(do_find(&h, "t", "0", 100, &r));
    assert_int_equal(do_find(&h, "t", "1", 100, &r), CLYMQ_ETIMEDOUT);
    assert_non_null(strstr(r.sentence, "not found"));
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_with_data),           T(test_without_data),        T(test_refusals),
        T(test_seal_fails),          T(test_seal_fails_for_good), T(test_log_failed),
        T(test_crash_at_every_step), T(test_drop_blocks),         T(test_broker_comes_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
