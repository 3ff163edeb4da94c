/* Creating, finding, describing and deleting topics and partitions. */
#include "unit/coord/harness.h"

static struct harness h;
static struct reply r;

static int setup(void **state)
{
    harness_init(&h, 1);
    harness_start(&h);
    return 0;
}
static int teardown(void **state)
{
    reply_free(&r);
    harness_free(&h);
    return 0;
}

#define assert_error(call, expected, words)                                                                  \
    do {                                                                                                     \
        assert_int_equal(call, expected);                                                                    \
        if (!strstr(r.sentence, words))                                                                      \
            fail_msg("the sentence \"%s\" lacks \"%s\"", r.sentence, words);                                 \
    } while (0)
#define assert_ok(call)                                                                                      \
    do {                                                                                                     \
        if (call)                                                                                            \
            fail_msg("%s: %s", #call, r.sentence);                                                           \
    } while (0)

static void test_create_and_find(void **state)
{
    assert_ok(do_create_topic(&h, "orders", 3, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_find(&h, "orders", "1", 5000, &r));
    assert_int_equal(r.count, 1);
    assert_string_equal(r.locations[0].name, "1");
    assert_int_equal(r.locations[0].number, 1);
    assert_string_equal(r.locations[0].address, "127.0.0.1:8888");
    assert_string_equal(r.locations[0].broker_name, "1@127.0.0.1:8888");
    assert_int_equal(r.locations[0].ack, -1);
    assert_ok(do_find(&h, "orders", NULL, 5000, &r));
    assert_int_equal(r.count, 3);
    for (uint32_t i = 0; i < 3; i++) {
        assert_int_equal(r.locations[i].number, i);
        assert_int_equal(r.locations[i].error, 0);
        assert_true(fake_broker_push(&h.broker, r.locations[i].topic_id, i));
    }
    assert_error(do_create_topic(&h, "orders", 1, COORD_ACK_UNSET, NULL, &r), CLYMQ_EEXIST, "orders");
    assert_error(do_find(&h, "none", NULL, 5000, &r), CLYMQ_ETOPIC_UNKNOWN, "none");
    assert_error(do_find(&h, "orders", "x", 5000, &r), CLYMQ_EPARTITION_UNKNOWN, "x");
    assert_int_equal(h.broker.opens, 3);
}

static void test_refusals(void **state)
{
    size_t before = harness_count_nodes(&h, "/test");
    assert_error(do_create_topic(&h, "", 1, -1, NULL, &r), CLYMQ_ENAME, "name");
    assert_error(do_create_topic(&h, "a/b", 1, -1, NULL, &r), CLYMQ_ENAME, "name");
    assert_error(do_create_topic(&h, "..", 1, -1, NULL, &r), CLYMQ_ENAME, "name");
    assert_error(do_create_topic(&h, "t", 1, 2, NULL, &r), CLYMQ_EACK_LEVEL, "2");
    assert_error(do_create_topic(&h, "t", 1, -1, "{\"x\":1}", &r), CLYMQ_EINVAL, "x");
    assert_error(do_create_topic(&h, "t", 20001, -1, NULL, &r), CLYMQ_ELIMIT, "20000");
    assert_error(do_create_partition(&h, "t", "p", &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    assert_error(do_delete_topic(&h, "t", &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    assert_error(do_describe(&h, "t", &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    assert_error(do_set_config(&h, "t", "{}", &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    char name[2000];
    memset(name, 'n', sizeof(name) - 1);
    name[sizeof(name) - 1] = '\0';
    assert_error(do_create_topic(&h, name, 1, -1, NULL, &r), CLYMQ_ENAME, "249");
    assert_error(do_find(&h, name, name, 1, &r), CLYMQ_ENAME, "249");
    assert_int_equal(harness_count_nodes(&h, "/test"), before);
    /* The longest name, of more than one byte a character. */
    name[0] = '\0';
    for (int i = 0; i < 83; i++)
        strcat(name, "京");
    assert_ok(do_create_topic(&h, name, 1, -1, NULL, &r));
    assert_ok(do_create_partition(&h, name, name, &r));
    assert_ok(do_find(&h, name, name, 5000, &r));
}

/* Topics without partitions take memory, too. */
static void test_too_many_topics(void **state)
{
    harness_stop(&h);
    h.max_topics = 3;
    harness_start(&h);
    size_t before = harness_count_nodes(&h, "/test");
    assert_ok(do_create_topic(&h, "a", 0, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_create_topic(&h, "b", 2, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_create_topic(&h, "c", 0, COORD_ACK_UNSET, NULL, &r));
    size_t full = harness_count_nodes(&h, "/test");
    assert_error(do_create_topic(&h, "d", 0, COORD_ACK_UNSET, NULL, &r), CLYMQ_ELIMIT, "3 topics");
    assert_error(do_create_topic(&h, "c", 0, COORD_ACK_UNSET, NULL, &r), CLYMQ_EEXIST, "c");
    assert_int_equal(harness_count_nodes(&h, "/test"), full);
    assert_ok(do_create_partition(&h, "a", "p", &r)); /* which has a limit of its own */
    assert_ok(do_delete_topic(&h, "b", &r));
    assert_ok(do_create_topic(&h, "d", 1, COORD_ACK_UNSET, NULL, &r));
    assert_error(do_create_topic(&h, "b", 0, COORD_ACK_UNSET, NULL, &r), CLYMQ_ELIMIT, "3 topics");
    /* What a limit that was higher let in is not lost. */
    harness_stop(&h);
    h.max_topics = 1;
    harness_start(&h);
    assert_ok(do_find(&h, "a", "p", 5000, &r));
    assert_ok(do_find(&h, "d", "0", 5000, &r));
    assert_ok(do_delete_topic(&h, "d", &r));
    assert_error(do_create_topic(&h, "d", 0, COORD_ACK_UNSET, NULL, &r), CLYMQ_ELIMIT, "2 topics");
    assert_ok(do_delete_topic(&h, "a", &r));
    assert_ok(do_delete_topic(&h, "c", &r));
    assert_int_equal(harness_count_nodes(&h, "/test"), before);
}

static void test_partitions(void **state)
{
    assert_ok(do_create_topic(&h, "北京", 0, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_find(&h, "北京", NULL, 1000, &r));
    assert_int_equal(r.count, 0);
    assert_ok(do_create_partition(&h, "北京", "xian", &r));
    assert_ok(do_create_partition(&h, "北京", "上海", &r));
    assert_error(do_create_partition(&h, "北京", "xian", &r), CLYMQ_EEXIST, "xian");
    assert_ok(do_find(&h, "北京", "上海", 5000, &r));
    assert_int_equal(r.locations[0].number, 1);
    struct uuid id = r.locations[0].topic_id;
    assert_true(fake_broker_push(&h.broker, id, 1));
    assert_ok(do_delete_partition(&h, "北京", "上海", &r));
    assert_int_equal(fake_broker_partition(&h.broker, id, 1)->block_count, 0);
    assert_error(do_find(&h, "北京", "上海", 5000, &r), CLYMQ_EPARTITION_UNKNOWN, "上海");
    assert_error(do_delete_partition(&h, "北京", "上海", &r), CLYMQ_EPARTITION_UNKNOWN,
                 "unknown partition 上海 of topic 北京: see the names that it has (clymq topic describe)");
    assert_error(do_delete_partition(&h, "南京", "上海", &r), CLYMQ_ETOPIC_UNKNOWN,
                 "unknown topic 南京: see the names that there are (clymq topic list)");
    assert_error(do_create_partition(&h, "南京", "上海", &r), CLYMQ_ETOPIC_UNKNOWN, "create it first");
    /* The name is free again, the number is not. */
    assert_ok(do_create_partition(&h, "北京", "上海", &r));
    assert_ok(do_find(&h, "北京", "上海", 5000, &r));
    assert_int_equal(r.locations[0].number, 2);
}

static void test_delete_topic(void **state)
{
    size_t before = harness_count_nodes(&h, "/test");
    assert_ok(do_create_topic(&h, "t", 5, 1, NULL, &r));
    assert_ok(do_find(&h, "t", NULL, 5000, &r));
    struct uuid id = r.locations[0].topic_id;
    assert_int_equal(fake_broker_partition_count(&h.broker), 5);
    assert_ok(do_delete_topic(&h, "t", &r));
    assert_int_equal(fake_broker_partition_count(&h.broker), 0);
    assert_int_equal(harness_count_nodes(&h, "/test"), before);
    assert_error(do_find(&h, "t", "0", 5000, &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    assert_ok(do_find(&h, "t", "0", 5000, &r));
    assert_false(uuid_equal(r.locations[0].topic_id, id));
}

static void test_delete_while_opening(void **state)
{
    struct reply created = {0}, deleted = {0}, again = {0}, found = {0};
    struct coord_topic_request request = {.name = "t", .partitions = 4, .ack = COORD_ACK_UNSET};
    coord_create_topic(h.coord, &request, reply_done, &created);
    coord_delete_topic(h.coord, "t", reply_done, &deleted);
    coord_create_topic(h.coord, &request, reply_done, &again);
    harness_wait(&h, &again);
    coord_find_leaders(h.coord, "t", NULL, 5000, reply_found, &found);
    harness_wait(&h, &found);
    assert_true(created.done && deleted.done);
    assert_int_equal(created.error, 0);
    assert_int_equal(deleted.error, 0);
    assert_int_equal(again.error, 0);
    assert_int_equal(found.count, 4);
    assert_int_equal(found.locations[3].error, 0);
    assert_int_equal(fake_broker_partition_count(&h.broker), 4);
}

static void test_delete_fails_and_goes_on(void **state)
{
    assert_ok(do_create_topic(&h, "t", 2, 1, NULL, &r));
    assert_ok(do_create_topic(&h, "u", 2, 1, NULL, &r));
    assert_ok(do_find(&h, "t", NULL, 5000, &r));
    assert_ok(do_find(&h, "u", NULL, 5000, &r));
    h.broker.fail_delete = CLYMQ_EIO;
    assert_error(do_delete_topic(&h, "t", &r), CLYMQ_EIO, "goes on by itself");
    assert_error(do_delete_partition(&h, "u", "1", &r), CLYMQ_EIO, "goes on by itself");
    assert_error(do_find(&h, "t", "0", 5000, &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    assert_error(do_find(&h, "u", "1", 5000, &r), CLYMQ_EPARTITION_UNKNOWN, "1");
    assert_error(do_create_topic(&h, "t", 2, 1, NULL, &r), CLYMQ_EBUSY, "being deleted");
    assert_error(do_create_partition(&h, "u", "1", &r), CLYMQ_EBUSY, "being deleted");
    assert_error(do_delete_topic(&h, "t", &r), CLYMQ_EIO, "goes on by itself");
    h.broker.fail_delete = 0;
    harness_run_for(&h, IO_MS(500));
    assert_int_equal(fake_broker_partition_count(&h.broker), 1);
    assert_ok(do_create_topic(&h, "t", 2, 1, NULL, &r));
    assert_ok(do_create_partition(&h, "u", "1", &r));
}

static void test_slow_broker(void **state)
{
    h.broker.fail_open_block = CLYMQ_ENOSPC;
    assert_ok(do_create_topic(&h, "t", 2, 1, NULL, &r));
    uint64_t before = sim_world_now_ns(h.world);
    assert_error(do_find(&h, "t", "1", 300, &r), CLYMQ_ETIMEDOUT, "disk is full");
    assert_in_range(sim_world_now_ns(h.world) - before, IO_MS(300), IO_MS(310));
    assert_ok(do_find(&h, "t", NULL, 300, &r));
    assert_int_equal(r.count, 2);
    assert_int_equal(r.locations[0].error, CLYMQ_ETIMEDOUT);
    assert_int_equal(r.locations[1].error, CLYMQ_ETIMEDOUT);
    struct reply waiting = {0};
    coord_find_leaders(h.coord, "t", "0", 60000, reply_found, &waiting);
    harness_run_for(&h, IO_MS(200));
    assert_false(waiting.done);
    h.broker.fail_open_block = 0;
    harness_run_for(&h, IO_MS(200));
    assert_true(waiting.done);
    assert_int_equal(waiting.error, 0);
}

enum { REFUSED_MAX = 10000 };
static const struct io_loop_ops *honest_ops;
static unsigned refused;

/* No timer for anybody, for so long that a shard that does nothing but ask would stand still. */
static int refuse_timer(struct io_loop *loop, struct io_timer *timer, uint64_t delay_ns)
{
    if (++refused < REFUSED_MAX)
        return CLYMQ_ENOMEM;
    loop->ops = honest_ops;
    return honest_ops->timer_start(loop, timer, delay_ns);
}

/* Where memory for a timer is short the shard goes on meanwhile with other events. */
static void test_wait_without_timer(void **state)
{
    h.broker.fail_open_block = CLYMQ_EIO;
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    struct reply found = {0};
    honest_ops = h.loop->ops;
    struct io_loop_ops refusing = *honest_ops;
    refusing.timer_start = refuse_timer;
    h.loop->ops = &refusing;
    refused = 0;
    coord_find_leaders(h.coord, "t", "0", 300, reply_found, &found);
    io_loop_wake(h.loop);
    for (int i = 0; i < 100; i++)
        assert_true(sim_world_step(h.world));
    assert_in_range(refused, 1, REFUSED_MAX - 1);
    assert_false(found.done);
    h.loop->ops = honest_ops;
    harness_wait(&h, &found);
    assert_int_equal(found.error, CLYMQ_ETIMEDOUT);
}

static void test_find_meets_deletion(void **state)
{
    h.broker.fail_open_block = CLYMQ_EIO;
    assert_ok(do_create_topic(&h, "t", 2, 1, NULL, &r));
    struct reply one = {0}, all = {0};
    coord_find_leaders(h.coord, "t", "0", 60000, reply_found, &one);
    coord_find_leaders(h.coord, "t", NULL, 60000, reply_found, &all);
    harness_run_for(&h, IO_MS(100));
    assert_ok(do_delete_partition(&h, "t", "0", &r));
    assert_true(one.done);
    assert_int_equal(one.error, CLYMQ_EPARTITION_UNKNOWN);
    assert_false(all.done);
    assert_ok(do_delete_topic(&h, "t", &r));
    assert_true(all.done);
    assert_int_equal(all.error, CLYMQ_ETOPIC_UNKNOWN);
}

static void test_texts(void **state)
{
    assert_ok(do_list(&h, "", &r));
    assert_string_equal(r.json, "{\"topics\":[]}");
    assert_ok(do_create_topic(&h, "b", 1, 0, "{\"retention_ms\":5000}", &r));
    assert_ok(do_create_topic(&h, "a\"2", 2, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_find(&h, "b", NULL, 5000, &r));
    char id[33];
    uuid_format(r.locations[0].topic_id, id);
    assert_ok(do_list(&h, "", &r));
    assert_non_null(strstr(r.json, "{\"topics\":[{\"name\":\"a\\\"2\",\"id\":\""));
    assert_non_null(strstr(r.json, "\"partitions\":2},{\"name\":\"b\","));
    assert_ok(do_list(&h, "b", &r));
    char expected[512];
    snprintf(expected, sizeof(expected), "{\"topics\":[{\"name\":\"b\",\"id\":\"%s\",\"partitions\":1}]}",
             id);
    assert_string_equal(r.json, expected);
    assert_ok(do_describe(&h, "b", &r));
    const char *block = strstr(r.json, "\"blocks\":[{\"seq\":0,\"id\":\"");
    assert_non_null(block);
    snprintf(expected, sizeof(expected),
             "{\"name\":\"b\",\"id\":\"%s\",\"config\":{\"retention_ms\":5000},\"partitions\":[{\"name\":"
             "\"0\",\"number\":0,"
             "\"ack\":0,\"replicas\":1,\"leader\":{\"id\":\"1\",\"address\":\"127.0.0.1:8888\"},\"blocks\":[{"
             "\"seq\":0,\"id\":\"%.32s\","
             "\"state\":\"open\",\"round\":0,\"start\":0,\"end\":null,\"base_epoch\":0,\"ack\":0,\"leader\":"
             "\"1\"}]}]}",
             id, block + strlen("\"blocks\":[{\"seq\":0,\"id\":\""));
    assert_string_equal(r.json, expected);
}

static void test_config(void **state)
{
    assert_ok(do_create_topic(&h, "t", 2, 1, "{\"retention_ms\":5000,\"segment_ms\":60000}", &r));
    assert_ok(do_find(&h, "t", NULL, 5000, &r));
    struct uuid id = r.locations[0].topic_id;
    assert_int_equal(fake_broker_partition(&h.broker, id, 1)->config.retention_ms, 5000);
    assert_ok(do_set_config(&h, "t", "{\"retention_ms\":7000}", &r));
    assert_int_equal(fake_broker_partition(&h.broker, id, 1)->config.retention_ms, 7000);
    assert_int_equal(fake_broker_partition(&h.broker, id, 1)->config.segment_ms, 60000); /* not named */
    assert_ok(do_set_config(&h, "t", "{\"segment_ms\":null,\"segment_bytes\":2097152}", &r));
    assert_true(fake_broker_partition(&h.broker, id, 1)->config.segment_ms == COORD_OPTION_UNSET);
    assert_int_equal(fake_broker_partition(&h.broker, id, 1)->config.segment_bytes, 2097152);
    assert_ok(do_set_config(&h, "t", "", &r));
    assert_error(do_set_config(&h, "none", "{\"segment_ms\":null}", &r), CLYMQ_ETOPIC_UNKNOWN, "none");
    assert_error(do_set_config(&h, "t", "{\"retention_ms\":\"x\"}", &r), CLYMQ_EINVAL, "retention_ms");
    harness_crash(&h);
    fake_broker_restart(&h.broker);
    harness_start(&h);
    assert_int_equal(fake_broker_partition(&h.broker, id, 0)->config.retention_ms, 7000);
    assert_true(fake_broker_partition(&h.broker, id, 0)->config.segment_ms == COORD_OPTION_UNSET);
    assert_int_equal(fake_broker_partition(&h.broker, id, 0)->config.segment_bytes, 2097152);
}

/* A removal that takes long is not waited for to its end, neither by who deletes nor by who creates again. */
static void test_long_removal(void **state)
{
    assert_ok(do_create_topic(&h, "t", 2000, 1, NULL, &r));
    assert_ok(do_find(&h, "t", NULL, 60000, &r));
    h.broker.max_delay_ns = IO_MS(4500); /* 512 calls at a time: some ten seconds */
    uint64_t before = sim_world_now_ns(h.world);
    assert_ok(do_delete_topic(&h, "t", &r));
    assert_in_range(sim_world_now_ns(h.world) - before, IO_MS(3000), IO_MS(3100));
    assert_error(do_find(&h, "t", "0", 10, &r), CLYMQ_ETOPIC_UNKNOWN, "t");
    before = sim_world_now_ns(h.world);
    assert_error(do_create_topic(&h, "t", 1, 1, NULL, &r), CLYMQ_EBUSY, "still being deleted");
    assert_in_range(sim_world_now_ns(h.world) - before, IO_MS(3000), IO_MS(3100));
    harness_run_for(&h, IO_MS(4000));
    assert_ok(do_create_topic(&h, "t", 1, 1, NULL, &r));
    assert_ok(do_find(&h, "t", "0", 5000, &r));
    assert_int_equal(fake_broker_partition_count(&h.broker), 1);
}

/* New options while a broker is being told the chain with the old ones, and cannot be told otherwise: it is
 * told again. */
static void test_config_meets_serving(void **state)
{
    assert_ok(do_create_topic(&h, "t", 1, 1, "{\"retention_ms\":5000}", &r));
    assert_ok(do_find(&h, "t", NULL, 5000, &r));
    struct uuid id = r.locations[0].topic_id;
    harness_crash(&h);
    fake_broker_restart(&h.broker);
    harness_open(&h);
    assert_ok(do_activate(&h, &r));
    h.broker.max_delay_ns = IO_MS(2000);
    h.broker.fail_config = CLYMQ_EIO;
    uint64_t serves = h.broker.serves;
    struct reply registered = {0}, changed = {0};
    struct coord_broker broker = harness_broker(&h);
    coord_register_broker(h.coord, &broker, reply_done, &registered);
    io_loop_wake(h.loop);
    while (h.broker.serves == serves)
        assert_true(sim_world_step(h.world));
    h.broker.max_delay_ns = IO_MS(1);
    coord_set_topic_config(h.coord, "t", BYTES_LITERAL("{\"retention_ms\":7000}"), reply_done, &changed);
    harness_wait(&h, &changed);
    assert_int_equal(changed.error, 0);
    assert_false(registered.done); /* the chain is still on its way */
    harness_wait(&h, &registered);
    harness_run_for(&h, IO_MS(200));
    assert_int_equal(fake_broker_partition(&h.broker, id, 0)->config.retention_ms, 7000);
}

static void test_many_partitions(void **state)
{
    enum { COUNT = 10000 };
    size_t before = harness_count_nodes(&h, "/test");
    assert_ok(do_create_topic(&h, "big", COUNT, COORD_ACK_UNSET, NULL, &r));
    assert_ok(do_find(&h, "big", NULL, 600000, &r));
    assert_int_equal(r.count, COUNT);
    assert_ok(do_find(&h, "big", "9999", 1000, &r));
    assert_int_equal(fake_broker_partition_count(&h.broker), COUNT);
    harness_crash(&h);
    harness_start(&h);
    assert_ok(do_find(&h, "big", NULL, 600000, &r));
    assert_int_equal(r.count, COUNT);
    assert_ok(do_describe(&h, "big", &r));
    assert_ok(do_delete_topic(&h, "big", &r));
    assert_int_equal(fake_broker_partition_count(&h.broker), 0);
    assert_int_equal(harness_count_nodes(&h, "/test"), before);
}

/* A full metadata store in the middle of a creation of several transactions. */
static void test_creation_is_undone(void **state)
{
    size_t before = harness_count_nodes(&h, "/test");
    for (int round = 0; round < 8; round++) {
        struct coord_topic_request request = {.name = "big", .partitions = 2000, .ack = COORD_ACK_UNSET};
        struct reply created = {0};
        uint64_t transactions = sim_meta_store_transactions(h.store);
        coord_create_topic(h.coord, &request, reply_done, &created);
        io_loop_wake(h.loop);
        while (sim_meta_store_transactions(h.store) - transactions < (uint64_t)round)
            assert_true(sim_world_step(h.world));
        sim_meta_store_set_faults(h.store, &(struct sim_meta_faults){.transact_error = CLYMQ_ENOSPC,
                                                                     .transact_error_ppm = 1000000});
        harness_wait(&h, &created);
        if (created.error == 0)
            break;
        assert_int_equal(created.error, CLYMQ_ENOSPC);
        assert_non_null(strstr(created.sentence, "was not created"));
        assert_error(do_find(&h, "big", "0", 100, &r), CLYMQ_ETOPIC_UNKNOWN, "big");
        assert_ok(do_list(&h, "", &r));
        assert_string_equal(r.json, "{\"topics\":[]}");
        sim_meta_store_set_faults(h.store, &(struct sim_meta_faults){0});
        harness_run_for(&h, IO_MS(1000));
        assert_int_equal(harness_count_nodes(&h, "/test"), before);
        assert_true(round < 7);
    }
    assert_int_equal(fake_broker_partition_count(&h.broker), 0);
}

/* A crash after each of its transactions: without an answer it may be there whole or not at all, and can be
 * made then. */
static void test_crash_in_creation(void **state)
{
    size_t before = harness_count_nodes(&h, "/test");
    bool whole = false;
    for (uint64_t count = 0; !whole; count++) {
        struct coord_topic_request request = {.name = "big", .partitions = 2000, .ack = COORD_ACK_UNSET};
        struct reply created = {0};
        uint64_t transactions = sim_meta_store_transactions(h.store);
        coord_create_topic(h.coord, &request, reply_done, &created);
        io_loop_wake(h.loop);
        while (sim_meta_store_transactions(h.store) - transactions < count)
            assert_true(sim_world_step(h.world));
        whole = created.done && !created.error;
        harness_crash(&h);
        harness_start(&h);
        harness_run_for(&h, IO_MS(1000));
        int error = do_find(&h, "big", NULL, 10000, &r);
        assert_int_equal(error, whole ? 0 : r.count ? 0 : CLYMQ_ETOPIC_UNKNOWN);
        if (!error) {
            assert_int_equal(r.count, 2000);
            assert_ok(do_delete_topic(&h, "big", &r));
        }
        assert_int_equal(harness_count_nodes(&h, "/test"), before);
        assert_true(count < 50);
    }
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_create_and_find),
        T(test_refusals),
        T(test_too_many_topics),
        T(test_partitions),
        T(test_delete_topic),
        T(test_delete_while_opening),
        T(test_delete_fails_and_goes_on),
        T(test_slow_broker),
        T(test_wait_without_timer),
        T(test_find_meets_deletion),
        T(test_texts),
        T(test_config),
        T(test_long_removal),
        T(test_config_meets_serving),
        T(test_many_partitions),
        T(test_creation_is_undone),
        T(test_crash_in_creation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
