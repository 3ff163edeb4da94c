/* Activation: a fresh tree, crashes at every step, two coordinators, lost sessions, damaged nodes, failing
 * allocation, closing. */
#include "unit/coord/harness.h"

static struct harness h;
static struct reply r;

#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        if (call)                                                                                            \
            fail_msg("%s: %s", #call, r.sentence);                                                           \
    } while (0)

static int setup(void **state)
{
    harness_init(&h, 5);
    return 0;
}
static int teardown(void **state)
{
    reply_free(&r);
    harness_free(&h);
    return 0;
}

static void test_fresh_tree(void **state)
{
    harness_start(&h);
    assert_true(coord_is_active(h.coord));
    assert_int_equal(coord_epoch(h.coord), 1);
    char *cluster = harness_read_node(&h, "/test/ClyMQ/Cluster");
    assert_non_null(strstr(cluster, "\"format\":1}"));
    char *who = harness_read_node(&h, "/test/ClyMQ/Coordinator");
    assert_string_equal(who, "{\"name\":\"one\",\"address\":\"127.0.0.1:7878\",\"epoch\":1}");
    mem_free(who);
    char *broker = harness_read_node(&h, "/test/ClyMQ/Brokers/1");
    assert_non_null(strstr(broker, "\"address\":\"127.0.0.1:8888\""));
    mem_free(broker);
    harness_stop(&h);
    assert_null(harness_read_node(&h, "/test/ClyMQ/Coordinator"));
    assert_null(harness_read_node(&h, "/test/ClyMQ/Brokers/1/State"));
    harness_start(&h);
    assert_int_equal(coord_epoch(h.coord), 2);
    char *same = harness_read_node(&h, "/test/ClyMQ/Cluster");
    assert_string_equal(same, cluster);
    mem_free(same);
    mem_free(cluster);
    assert_int_equal(do_activate(&h, &r), CLYMQ_EBUSY);
}

static void test_crash_while_activating(void **state)
{
    for (int steps = 1; steps < 40; steps++) {
        harness_open(&h);
        struct reply activated = {0};
        coord_activate(h.coord, reply_done, &activated);
        io_loop_wake(h.loop);
        for (int i = 0; i < steps && !activated.done; i++)
            assert_true(sim_world_step(h.world));
        harness_crash(&h);
        assert_true(activated.done);
    }
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 2, 1, NULL, &r));
}

/* Before the role is there everything waits. */
static void test_operations_wait(void **state)
{
    harness_open(&h);
    struct reply created = {0}, found = {0}, listed = {0}, activated = {0}, registered = {0};
    struct coord_broker broker = harness_broker(&h);
    coord_register_broker(h.coord, &broker, reply_done, &registered);
    harness_run_for(&h, IO_MS(100));
    assert_false(registered.done);
    coord_list_topics(h.coord, "", reply_text, &listed);
    coord_find_leaders(h.coord, "t", "0", 50, reply_found, &found);
    coord_activate(h.coord, reply_done, &activated);
    harness_wait(&h, &registered);
    assert_int_equal(activated.error, 0);
    assert_string_equal(listed.json, "{\"topics\":[]}");
    assert_int_equal(found.error, CLYMQ_ETOPIC_UNKNOWN);
    struct coord_topic_request request = {.name = "t", .partitions = 1, .ack = 1};
    coord_create_topic(h.coord, &request, reply_done, &created);
    harness_wait(&h, &created);
    assert_int_equal(created.error, 0);
    reply_free(&listed);
}

static void test_no_broker(void **state)
{
    harness_open(&h);
    assert_ok(do_activate(&h, &r));
    assert_int_equal(do_create_topic(&h, "t", 1, 1, NULL, &r), CLYMQ_EAGAIN);
    assert_non_null(strstr(r.sentence, "no broker"));
    assert_ok(do_create_topic(&h, "empty", 0, 1, NULL, &r));
    assert_int_equal(do_create_partition(&h, "empty", "p", &r), CLYMQ_EAGAIN);
    assert_ok(do_register(&h, &r));
    assert_ok(do_create_partition(&h, "empty", "p", &r));
    harness_crash(&h);
    /* The next coordinator has no broker yet. */
    harness_open(&h);
    assert_ok(do_activate(&h, &r));
    assert_int_equal(do_find(&h, "empty", "p", 100, &r), CLYMQ_ETIMEDOUT);
    assert_non_null(strstr(r.sentence, "broker 1 is not connected"));
    assert_int_equal(do_set_state(&h, "empty", "p", 0, 0, &r), CLYMQ_EAGAIN);
    assert_ok(do_register(&h, &r));
    assert_ok(do_find(&h, "empty", "p", 100, &r));
    struct coord_broker bad = harness_broker(&h);
    bad.id = "a@b";
    struct reply registered = {0};
    coord_register_broker(h.coord, &bad, reply_done, &registered);
    harness_wait(&h, &registered);
    assert_int_equal(registered.error, CLYMQ_ENAME);
}

/* The older of two coordinators can change nothing any more and says why. */
static void test_fencing(void **state)
{
    harness_start(&h);
    assert_ok(do_create_topic(&h, "before", 1, 1, NULL, &r));
    assert_ok(do_find(&h, "before", "0", 1000, &r));
    struct harness newer = h;
    harness_open(&newer);
    assert_ok(do_activate(&newer, &r));
    assert_int_equal(coord_epoch(newer.coord), 2);
    struct reply waiting = {0};
    coord_find_leaders(h.coord, "before", "0", 60000, reply_found, &waiting);
    harness_wait(&h, &waiting); /* a question needs no transaction */
    assert_int_equal(waiting.error, 0);
    assert_int_equal(do_create_topic(&h, "after", 1, 1, NULL, &r), CLYMQ_EFENCED);
    assert_non_null(strstr(r.sentence, "another coordinator has taken over"));
    assert_false(coord_is_active(h.coord));
    harness_run_for(&h, IO_MS(10));
    assert_int_equal(h.lost, CLYMQ_EFENCED);
    assert_int_equal(do_list(&h, "", &r), CLYMQ_EFENCED);
    assert_int_equal(do_delete_topic(&h, "before", &r), CLYMQ_EFENCED);
    assert_ok(do_list(&newer, "", &r));
    assert_null(strstr(r.json, "after"));
    assert_non_null(strstr(r.json, "before"));
    /* It may take over again. */
    assert_ok(do_activate(&h, &r));
    assert_int_equal(coord_epoch(h.coord), 3);
    assert_ok(do_register(&h, &r));
    assert_ok(do_delete_topic(&h, "before", &r));
    assert_int_equal(do_set_config(&newer, "before", "{}", &r), CLYMQ_EFENCED);
    meta_close(newer.meta);
    coord_close(newer.coord);
}

static void test_both_activate_at_once(void **state)
{
    struct harness other = h;
    harness_open(&h);
    harness_open(&other);
    struct reply one = {0}, two = {0};
    coord_activate(h.coord, reply_done, &one);
    coord_activate(other.coord, reply_done, &two);
    harness_wait(&h, &one);
    harness_wait(&h, &two);
    assert_int_equal(one.error, 0);
    assert_int_equal(two.error, 0);
    assert_int_equal(coord_epoch(h.coord) + coord_epoch(other.coord), 3);
    meta_close(other.meta);
    coord_close(other.coord);
}

static void test_session_lost(void **state)
{
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    struct reply created = {0}, found = {0};
    struct coord_topic_request request = {.name = "u", .partitions = 1, .ack = 1};
    h.broker.fail_open_block = CLYMQ_EIO;
    assert_ok(do_create_topic(&h, "v", 1, 1, NULL, &r));
    coord_find_leaders(h.coord, "v", "0", 60000, reply_found, &found);
    harness_run_for(&h, IO_MS(20));
    coord_create_topic(h.coord, &request, reply_done, &created);
    io_loop_wake(h.loop);
    assert_true(sim_world_step(h.world));
    sim_meta_lose_session(h.store, h.meta);
    harness_wait(&h, &created);
    harness_wait(&h, &found);
    assert_int_equal(created.error, CLYMQ_ESESSION);
    assert_int_equal(found.error, CLYMQ_ESESSION);
    assert_int_equal(h.lost, CLYMQ_ESESSION);
    harness_stop(&h);
    h.broker.fail_open_block = 0;
    harness_start(&h);
    assert_ok(do_find(&h, "t", "0", 1000, &r));
    assert_ok(do_find(&h, "v", "0", 1000, &r));
}

static void test_damaged_tree(void **state)
{
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    assert_ok(do_find(&h, "t", "0", 1000, &r));
    harness_stop(&h);
    static const struct {
        const char *path, *value;
        int error;
    } damages[] = {
        {"/test/ClyMQ/Topics/t/Partitions/0/Blocks/0", "{\"id\":1}", CLYMQ_ECORRUPT},
        {"/test/ClyMQ/Topics/t/Partitions/0", "", CLYMQ_ECORRUPT},
        {"/test/ClyMQ/Topics/t", "[]", CLYMQ_ECORRUPT},
        {"/test/ClyMQ/Brokers/1", "x", CLYMQ_ECORRUPT},
        {"/test/ClyMQ/CoordinatorEpoch", "{\"epoch\":\"1\"}", CLYMQ_ECORRUPT},
        {"/test/ClyMQ/Cluster", "{\"id\":\"01020300000000000000000000000000\",\"format\":2}", CLYMQ_EFORMAT},
    };
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        char *good = harness_read_node(&h, damages[i].path);
        assert_non_null(good);
        assert_int_equal(harness_write_node(&h, damages[i].path, damages[i].value), 0);
        harness_open(&h);
        assert_int_equal(do_activate(&h, &r), damages[i].error);
        if (i < 4 && !strstr(r.sentence, damages[i].path))
            fail_msg("the sentence \"%s\" lacks the path", r.sentence);
        assert_int_equal(harness_write_node(&h, damages[i].path, good), 0);
        mem_free(good);
        assert_ok(do_activate(&h, &r)); /* once it is repaired */
        harness_stop(&h);
    }
}

/* By somebody else than the coordinator, under it: its next write finds another version, and the role is
 * lost. */
static void change_topic_elsewhere(void)
{
    char *value = harness_read_node(&h, "/test/ClyMQ/Topics/t");
    assert_int_equal(harness_write_node(&h, "/test/ClyMQ/Topics/t", value), 0);
    mem_free(value);
}

static void test_foreign_change(void **state)
{
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    change_topic_elsewhere();
    assert_int_equal(do_set_config(&h, "t", "{\"retention_ms\":1}", &r), CLYMQ_EVERSION);
    assert_non_null(strstr(r.sentence, "changed by something else"));
    assert_ok(do_activate(&h, &r));
    assert_ok(do_set_config(&h, "t", "{\"retention_ms\":1}", &r));
}

/* Asked while the role is lost, in the very round in which it is taken again. */
static void test_asked_as_the_role_returns(void **state)
{
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    change_topic_elsewhere();
    assert_int_equal(do_set_config(&h, "t", "{}", &r), CLYMQ_EVERSION);
    struct reply listed = {0}, created = {0};
    struct coord_topic_request request = {.name = "u", .ack = 1};
    coord_list_topics(h.coord, "", reply_text, &listed);
    coord_create_topic(h.coord, &request, reply_done, &created);
    assert_ok(do_activate(&h, &r));
    harness_wait(&h, &listed);
    harness_wait(&h, &created);
    assert_int_equal(listed.error, 0);
    assert_non_null(strstr(listed.json, "\"t\""));
    assert_int_equal(created.error, 0);
    reply_free(&listed);
}

/* The role cannot be taken again: what waits for that is told so, and what is asked from then on. */
static void test_role_does_not_return(void **state)
{
    harness_start(&h);
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    assert_int_equal(harness_write_node(&h, "/test/ClyMQ/Topics/t", "[]"), 0);
    assert_int_equal(do_set_config(&h, "t", "{}", &r), CLYMQ_EVERSION);
    struct reply activated = {0}, found = {0};
    coord_activate(h.coord, reply_done, &activated);
    coord_find_leaders(h.coord, "t", "0", 50, reply_found, &found);
    harness_wait(&h, &activated);
    assert_int_equal(activated.error, CLYMQ_ECORRUPT);
    harness_wait(&h, &found);
    assert_int_equal(found.error, CLYMQ_ECORRUPT);
    assert_non_null(strstr(found.sentence, "/Topics/t"));
    assert_int_equal(do_create_topic(&h, "u", 1, 1, NULL, &r), CLYMQ_ECORRUPT);
}

struct closing {
    struct harness *harness;
    bool done;
};
static void close_inside(void *ctx, int error, const char *sentence)
{
    struct closing *closing = ctx;
    harness_stop(closing->harness);
    closing->done = true;
}

static void test_close(void **state)
{
    for (int round = 0; round < 2; round++) {
        harness_start(&h);
        struct reply replies[6] = {0};
        struct coord_topic_request request = {.name = "t", .partitions = 2, .ack = 1};
        struct closing closing = {&h, false};
        if (round == 1)
            coord_set_topic_config(h.coord, "none", (struct bytes){0}, close_inside, &closing);
        coord_create_topic(h.coord, &request, reply_done, &replies[0]);
        coord_delete_topic(h.coord, "t", reply_done, &replies[1]);
        coord_find_leaders(h.coord, "t", NULL, 60000, reply_found, &replies[2]);
        coord_describe_topic(h.coord, "t", reply_text, &replies[3]);
        coord_list_topics(h.coord, "", reply_text, &replies[4]);
        coord_create_partition(h.coord, "t", "p", reply_done, &replies[5]);
        if (round == 0) {
            harness_stop(&h);
        } else {
            io_loop_wake(h.loop);
            while (!closing.done)
                assert_true(sim_world_step(h.world));
        }
        for (int i = 0; i < 6; i++) {
            assert_true(replies[i].done);
            reply_free(&replies[i]);
        }
    }
}

/* The nth allocation fails, for every n, through a life of every operation: everything is answered, nothing
 * leaks or breaks, and what was acknowledged is there afterwards. */
static void test_failing_allocation(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        harness_open(&h);
        struct reply replies[9] = {0};
        struct coord_broker broker = harness_broker(&h);
        struct coord_topic_request request = {.name = "t", .partitions = 2, .ack = 1};
        h.broker.max_delay_ns = 0; /* the broker itself does not meet the failure */
        mem_fail_nth(0);
        fake_broker_forget_calls(&h.broker);
        mem_fail_nth(nth);
        coord_activate(h.coord, reply_done, &replies[0]);
        coord_register_broker(h.coord, &broker, reply_done, &replies[1]);
        if (replies[0].done && replies[0].error == CLYMQ_ENOMEM) { /* it stays idle: ask again */
            reply_free(&replies[0]);
            coord_activate(h.coord, reply_done, &replies[0]);
        }
        harness_wait(&h, &replies[0]);
        if (replies[0].error) {
            assert_int_equal(replies[0].error, CLYMQ_ENOMEM);
            reply_free(&replies[0]);
            coord_activate(h.coord, reply_done, &replies[0]);
            harness_wait(&h, &replies[0]);
        }
        assert_int_equal(replies[0].error, 0);
        harness_wait(&h, &replies[1]);
        if (replies[1].error)
            assert_ok(do_register(&h, &replies[1]));
        coord_create_topic(h.coord, &request, reply_done, &replies[2]);
        harness_wait(&h, &replies[2]);
        coord_find_leaders(h.coord, "t", NULL, 3000, reply_found, &replies[3]);
        harness_wait(&h, &replies[3]);
        coord_create_partition(h.coord, "t", "p", reply_done, &replies[4]);
        harness_wait(&h, &replies[4]);
        coord_set_partition_state(h.coord, "t", "0", 0, 2, reply_done, &replies[5]);
        harness_wait(&h, &replies[5]);
        coord_describe_topic(h.coord, "t", reply_text, &replies[6]);
        harness_wait(&h, &replies[6]);
        coord_delete_partition(h.coord, "t", "1", reply_done, &replies[7]);
        harness_wait(&h, &replies[7]);
        coord_delete_topic(h.coord, "t", reply_done, &replies[8]);
        harness_wait(&h, &replies[8]);
        bool failed = mem_failed();
        mem_fail_nth(0);
        /* Only the step that met the failure may have failed, and what builds on it. */
        for (int i = 0; !failed && i < 9; i++)
            assert_int_equal(replies[i].error, 0);
        for (int i = 0; i < 9; i++)
            reply_free(&replies[i]);
        assert_int_equal(h.lost, 0);
        /* The same life again, without a failure, over what is left. */
        harness_crash(&h);
        harness_start(&h);
        harness_run_for(&h, IO_MS(500));
        int error = do_create_topic(&h, "t", 2, 1, NULL, &r);
        assert_true(error == 0 || error == CLYMQ_EEXIST);
        assert_ok(do_find(&h, "t", "0", 3000, &r));
        assert_ok(do_delete_topic(&h, "t", &r));
        assert_int_equal(fake_broker_partition_count(&h.broker), 0);
        harness_crash(&h);
        if (!failed) {
            print_message("%llu allocations\n", (unsigned long long)nth);
            break;
        }
    }
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_fresh_tree),
        T(test_crash_while_activating),
        T(test_operations_wait),
        T(test_no_broker),
        T(test_fencing),
        T(test_both_activate_at_once),
        T(test_session_lost),
        T(test_damaged_tree),
        T(test_foreign_change),
        T(test_asked_as_the_role_returns),
        T(test_role_does_not_return),
        T(test_close),
        T(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
