/* Starting, stopping, crashing and starting again. */
#include "broker/broker.h"
#include "coord/coordinator.h"
#include "meta/sim.h"
#include "store/block.h"
#include "unit/refused_timer.h"
#include "world.h"

static void expect_messages(struct world *world, const char *topic, const char *partition, int least,
                            int most)
{
    int64_t offset = 0;
    int count = 0;

    for (;;) {
        struct answer answer;

        pull_from(world, topic, partition, offset, 127, &answer);
        if (answer.error)
            fail_msg("%s", answer.text);
        if (!answer.r.pull.size) {
            answer_free(&answer);
            break;
        }
        count += answer.r.pull.size;
        offset = answer.r.pull.end_index + 1;
        answer_free(&answer);
    }
    if (count < least || count > most)
        fail_msg("%d messages, not %d to %d", count, least, most);
}

static void test_a_restart_keeps_everything(void **state)
{
    struct world *world = *state;

    make_topic(world, "北京", 5);
    make_topic(world, "u", 1);
    set_partition(world, "u", "0", 1);
    for (int i = 0; i < 20; i++)
        push_text(world, "北京", (const char *[]){"0", "1", "2", "3", "4"}[i % 5], "m", -1);
    push_text(world, "u", "0", "m", 1);
    for (int life = 0; life < 3; life++) {
        world_stop(world);
        world_start(world);
        world_connect(world);
        for (int i = 0; i < 5; i++)
            expect_messages(world, "北京", (const char *[]){"0", "1", "2", "3", "4"}[i], 4, 4);
        expect_messages(world, "u", "0", 1, 1);
    }
    push_text(world, "北京", "3", "one more", -1);
    expect_messages(world, "北京", "3", 5, 5);
}

/* The number of shards may change between runs: partitions move to other threads. */
static void test_another_number_of_shards(void **state)
{
    struct world *world = *state;

    make_topic(world, "t", 6);
    for (int i = 0; i < 6; i++)
        push_text(world, "t", (const char *[]){"0", "1", "2", "3", "4", "5"}[i], "m", -1);
    for (unsigned shards = 1; shards <= 4; shards++) {
        if (shards % 2)
            world_stop(world);
        else
            world_crash(world, true);
        world->shard_count = shards;
        world_start(world);
        world_connect(world);
        for (int i = 0; i < 6; i++) {
            expect_messages(world, "t", (const char *[]){"0", "1", "2", "3", "4", "5"}[i], (int)shards,
                            (int)shards);
            push_text(world, "t", (const char *[]){"0", "1", "2", "3", "4", "5"}[i], "m", -1);
        }
    }
}

/* Crashes at arbitrary moments under load: acknowledged pushes are there, and nothing leaks. */
static void test_crashes_keep_what_was_acknowledged(void **state)
{
    enum { COUNT = 40 };
    struct world *world = *state;
    int acknowledged = 0, sent = 0;

    make_topic(world, "t", 1);
    for (int life = 0; life < 12; life++) {
        struct answer *answers = mem_calloc(COUNT, sizeof(*answers));
        struct answer waiting;
        struct rpc_pull_batch_request pull = {.topic = text("t"), .partition = text("0"), .wait_ms = 30000};
        struct net_link *other = world_link(world, broker_node_broker_address(world->node));

        pull.offset = acknowledged;
        pull.min_bytes = 1 << 19;
        call_begin(other, RPC_METHOD_PULL_BATCH, &pull, &waiting);
        for (int i = 0; i < COUNT; i++) {
            struct rpc_push_request request = {.topic = text("t"),
                                               .partition = text("0"),
                                               .message = text("m"),
                                               .ack = (int8_t)(i % 5 ? -1 : 0)};

            call_begin(world->broker, RPC_METHOD_PUSH, &request, &answers[i]);
            sim_world_run_for(world->sim, 30000 + (uint64_t)life * 50000);
        }
        sent += COUNT;
        world_crash(world, life % 3 != 0);
        net_link_free(other);
        for (int i = 0; i < COUNT; i++) {
            acknowledged += answers[i].done && !answers[i].error && answers[i].r.push.ret && i % 5;
            answer_free(&answers[i]);
        }
        answer_free(&waiting);
        mem_free(answers);
        world_start(world);
        world_connect(world);
        expect_messages(world, "t", "0", acknowledged, sent);
    }
    assert_true(acknowledged > 0);
}

/* The process dies while topics are made, changed and deleted. */
static void test_crashes_during_changes(void **state)
{
    struct world *world = *state;

    for (int life = 0; life < 25; life++) {
        struct rpc_create_topic_request create = {.topic = text("t"), .partitions = 4};
        struct rpc_set_partition_state_request set = {
            .topic = text("t"), .partition = text("1"), .option = (int8_t)(life % 3 - 1), .dupnum = 1};
        struct rpc_delete_topic_request gone = {.topic = text("t")};
        struct answer answers[3];

        rpc_set_present(rpc_methods[RPC_METHOD_CREATE_TOPIC].request, &create,
                        offsetof(struct rpc_create_topic_request, partitions));
        call_begin(world->coordinator, RPC_METHOD_CREATE_TOPIC, &create, &answers[0]);
        sim_world_run_for(world->sim, (uint64_t)life * 700000);
        call_begin(world->coordinator, RPC_METHOD_SET_PARTITION_STATE, &set, &answers[1]);
        sim_world_run_for(world->sim, (uint64_t)(life % 5) * 900000);
        if (life % 4 == 3)
            call_begin(world->coordinator, RPC_METHOD_DELETE_TOPIC, &gone, &answers[2]);
        else
            answers[2] = (struct answer){0};
        sim_world_run_for(world->sim, (uint64_t)(life % 7) * 500000);
        world_crash(world, life % 2);
        for (int i = 0; i < 3; i++)
            answer_free(&answers[i]);
        world_start(world);
        world_connect(world);
    }
    make_topic(world, "after", 1);
    push_text(world, "after", "0", "m", -1);
}

/* Calls that come while partitions are recovered wait and are answered. */
static void test_early_calls_wait(void **state)
{
    enum { COUNT = 20 };
    struct world *world = *state;
    struct answer answers[COUNT];
    struct net_link *links[COUNT];
    int early = 0;

    make_topic(world, "t", 3);
    push_text(world, "t", "0", "m", -1);
    world_crash(world, true);
    world_begin_start(world);
    for (int i = 0; i < COUNT; i++) {
        struct rpc_pull_request request = {.topic = text("t"), .partition = text("0"), .option = 4};

        sim_world_run_for(world->sim, 500000);
        early += !world->done;
        links[i] = world_link(world, "server:8888");
        call_begin(links[i], RPC_METHOD_PULL, &request, &answers[i]);
    }
    assert_true(early > 2);
    int answered = 0;
    for (int i = 0; i < COUNT; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        if (!answers[i].error) { /* the port was open already */
            assert_int_equal(answers[i].r.pull.size, 1);
            answered++;
        }
        answer_free(&answers[i]);
        net_link_free(links[i]);
    }
    assert_true(answered > COUNT - early);
    assert_int_equal(world->done_error, 0);
    world_connect(world);
}

static struct net_link *ask_early(struct world *world, enum rpc_method_id method, const void *request,
                                  struct answer *answer)
{
    bool coordinator = rpc_methods[method].service == RPC_COORDINATOR;
    struct net_link *link = world_link(world, coordinator ? "server:7878" : "server:8888");

    call_begin(link, method, request, answer);
    return link;
}

static void push_to_all(struct world *world, int count)
{
    struct answer *answers = mem_calloc((size_t)count, sizeof(*answers));

    for (int i = 0; i < count; i++) {
        char name[16];
        struct rpc_push_request push = {.topic = text("t"), .message = text("m"), .ack = 1};

        snprintf(name, sizeof(name), "%d", i);
        push.partition = text(name);
        call_begin(world->broker, RPC_METHOD_PUSH, &push, &answers[i]);
    }
    for (int i = 0; i < count; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        assert_int_equal(answers[i].error, 0);
        answer_free(&answers[i]);
    }
    mem_free(answers);
}

/* With many partitions to be recovered the first are served while the others are still being read. What would
 * change the metadata, and names that may yet come into service, wait for the end. */
static void test_partitions_are_served_as_they_open(void **state)
{
    enum { PARTITIONS = 300, FIRST = 0, LIST, FIND, MISSING, CREATE, CALLS };
    struct world *world = *state;
    struct answer answers[CALLS];
    struct net_link *links[CALLS];
    struct rpc_list_offset_request end_of = {.topic = text("t"), .partition = text("0"), .timestamp_ms = -1};
    struct rpc_list_offset_request nowhere = {.topic = text("t"), .partition = text("x"), .timestamp_ms = -1};
    struct rpc_pro_get_brok_request find = {.topic = text("t"), .partition = text("0")};
    struct rpc_list_topics_request list = {.prefix = text("t")};
    struct rpc_create_topic_request create = {.topic = text("new")};

    make_topic(world, "t", PARTITIONS);
    push_to_all(world, PARTITIONS);
    world_crash(world, false);
    world_begin_start(world);
    while (!broker_node_broker_address(world->node)[0])
        sim_world_run_for(world->sim, 10000);
    links[FIRST] = ask_early(world, RPC_METHOD_LIST_OFFSET, &end_of, &answers[FIRST]);
    links[LIST] = ask_early(world, RPC_METHOD_LIST_TOPICS, &list, &answers[LIST]);
    links[FIND] = ask_early(world, RPC_METHOD_PRO_GET_BROK, &find, &answers[FIND]);
    links[MISSING] = ask_early(world, RPC_METHOD_LIST_OFFSET, &nowhere, &answers[MISSING]);
    links[CREATE] = ask_early(world, RPC_METHOD_CREATE_TOPIC, &create, &answers[CREATE]);
    for (int i = 0; i < MISSING; i++) {
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
        assert_int_equal(answers[i].error, 0);
        assert_false(world->done); /* while others are still being opened */
    }
    assert_int_equal(answers[FIRST].r.list_offset.offset, 1);
    assert_true(contains(answers[LIST].r.list_topics.topics, "\"t\""));
    assert_true(answers[FIND].r.pro_get_brok.ret);
    assert_false(answers[MISSING].done || answers[CREATE].done);
    assert_true(world_run_until(world, &world->done, WORLD_LIMIT_MS));
    assert_int_equal(world->done_error, 0);
    for (int i = MISSING; i < CALLS; i++)
        assert_true(world_run_until(world, &answers[i].done, WORLD_LIMIT_MS));
    assert_int_not_equal(answers[MISSING].r.list_offset.error, 0);
    assert_true(answers[CREATE].r.create_topic.ret);
    for (int i = 0; i < CALLS; i++) {
        answer_free(&answers[i]);
        net_link_free(links[i]);
    }
    world_connect(world);
    expect_messages(world, "t", "0", 1, 1);
    expect_messages(world, "t", "299", 1, 1);
}

/* A start that is given up: everything is freed, calls that wait included. */
static void test_crashes_during_the_start(void **state)
{
    struct world *world = *state;

    make_topic(world, "t", 3);
    push_text(world, "t", "0", "m", -1);
    world_crash(world, true);
    for (int i = 0; i < 30; i++) {
        struct rpc_pull_request request = {.topic = text("t"), .partition = text("0"), .option = 4};
        struct answer answer;

        world_begin_start(world);
        sim_world_run_for(world->sim, (uint64_t)i * 250000);
        struct net_link *link = world_link(world, "server:8888");
        call_begin(link, RPC_METHOD_PULL, &request, &answer);
        sim_world_run_for(world->sim, 1000000);
        world_crash(world, i % 2);
        net_link_free(link);
        answer_free(&answer);
    }
    world_start(world);
    world_connect(world);
    expect_messages(world, "t", "0", 1, 1);
}

/* A stop answers what waits and what is pushed. */
static void test_a_stop_answers(void **state)
{
    struct world *world = *state;
    struct rpc_pull_batch_request pull = {.topic = text("t"), .partition = text("1"), .wait_ms = 60000};
    struct rpc_push_request push = {
        .topic = text("t"), .partition = text("0"), .message = text("m"), .ack = -1};
    struct answer pulled, pushed[10];
    struct net_link *links[2];

    make_topic(world, "t", 2);
    links[0] = world_link(world, "server:8888");
    links[1] = world_link(world, "server:8888");
    call_begin(links[0], RPC_METHOD_PULL_BATCH, &pull, &pulled);
    world_run_for(world, 100);
    for (int i = 0; i < 10; i++)
        call_begin(links[1], RPC_METHOD_PUSH, &push, &pushed[i]);
    sim_world_run_for(world->sim, 1200000);
    world_stop(world);
    assert_true(pulled.done);
    assert_int_equal(pulled.error, 0);
    assert_int_equal(pulled.r.pull_batch.error, CLYMQ_ESHUTDOWN);
    answer_free(&pulled);
    int stored = 0;
    for (int i = 0; i < 10; i++) {
        world_run_until(world, &pushed[i].done, 5000);
        stored += pushed[i].done && !pushed[i].error && pushed[i].r.push.ret;
        answer_free(&pushed[i]);
    }
    net_link_free(links[0]);
    net_link_free(links[1]);
    world_start(world);
    world_connect(world);
    expect_messages(world, "t", "0", stored, 10);
}

static size_t count_blocks(struct world *world)
{
    struct block_key *keys;
    size_t count;

    assert_int_equal(block_list(sim_process_fs(world->server), &keys, &count), 0);
    mem_free(keys);
    return count;
}

/* A deletion that a stop or a crash came upon is finished in the next run. */
static void test_deletions_end_in_the_next_run(void **state)
{
    struct world *world = *state;

    for (int i = 0; i < 24; i++) {
        struct rpc_delete_topic_request request = {.topic = text("t")};
        struct answer answer;

        make_topic(world, "t", 4);
        push_text(world, "t", "1", "m", -1);
        assert_int_equal(count_blocks(world), 4);
        call_begin(world->coordinator, RPC_METHOD_DELETE_TOPIC, &request, &answer);
        sim_world_run_for(world->sim, (uint64_t)(i / 3) * 700000);
        if (i % 3 == 0)
            world_stop(world);
        else
            world_crash(world, i % 3 == 1);
        bool begun = !answer.done || answer.r.delete_topic.error == 0;
        answer_free(&answer);
        world_start(world);
        world_connect(world);
        world_run_for(world, 3000);
        assert_true(begun);
        call(world, world->coordinator, RPC_METHOD_DELETE_TOPIC, &request, &answer);
        assert_true(answer.r.delete_topic.error == 0 || answer.r.delete_topic.error == CLYMQ_ETOPIC_UNKNOWN);
        answer_free(&answer);
        assert_int_equal(count_blocks(world), 0);
    }
}

/* A deletion is over, and the metadata forget it, when no power loss can undo it. */
static void test_deletions_are_durable(void **state)
{
    struct world *world = *state;
    struct sim_disk_faults failing = {.eio_sync_ppm = 1000000, .lose_all_unsynced = true};
    struct sim_disk_faults losing = {.lose_all_unsynced = true};

    for (int i = 0; i < 20; i++) {
        struct rpc_delete_part_request request = {.topic = text("t"), .partition = text("1")};
        bool fails = i % 2 == 0;
        struct answer answer;

        if (i == 0)
            make_topic(world, "t", 1);
        make_partition(world, "t", "1");
        set_partition(world, "t", "1", -1);
        push_text(world, "t", "1", "m", -1);
        sim_process_set_disk_faults(world->server, fails ? &failing : &losing);
        call_begin(world->coordinator, RPC_METHOD_DELETE_PART, &request, &answer);
        if (fails)
            world_run_for(world, 1000);
        else
            assert_true(world_run_until(world, &answer.done, WORLD_LIMIT_MS));
        sim_process_set_disk_faults(world->server, &losing);
        world_crash(world, true);
        answer_free(&answer);
        world_start(world);
        world_connect(world);
        world_run_for(world, 3000);
        assert_int_equal(count_blocks(world), 1);
    }
}

/* Pushes that wait for space do not hold up a stop, and are told that they are in no log. */
static void test_a_stop_does_not_wait_for_space(void **state)
{
    struct world *world = *state;
    struct sim_disk_faults full = {.capacity = 4096}, none = {0};
    struct rpc_push_request push = {.topic = text("t"), .partition = text("0"), .ack = -1};
    char *large = mem_zalloc(100000);
    struct answer pushed;

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "before", -1);
    sim_process_set_disk_faults(world->server, &full);
    push.message = bytes_of(large, 100000);
    call_begin(world->broker, RPC_METHOD_PUSH, &push, &pushed);
    world_run_for(world, 1000);
    assert_false(pushed.done);
    uint64_t began_ns = sim_world_now_ns(world->sim);
    sim_process_set_disk_faults(world->server, &none);
    world_stop(world);
    assert_true(sim_world_now_ns(world->sim) - began_ns < IO_MS(1500));
    assert_true(pushed.done);
    assert_int_equal(pushed.error, 0);
    assert_false(pushed.r.push.ret);
    assert_true(bytes_are(pushed.r.push.err, "partition remove"));
    answer_free(&pushed);
    world_start(world);
    world_connect(world);
    expect_messages(world, "t", "0", 1, 1);
    mem_free(large);
}

static void log_of(struct world *world, char *out, size_t cap)
{
    char **names;
    size_t count;

    assert_int_equal(io_fs_list(sim_process_fs(world->server), "data", &names, &count), 0);
    assert_int_equal(count, 1);
    snprintf(out, cap, "data/%s/0/0/%020d.log", names[0], 0);
    io_fs_free_names(names, count);
}

/* One damaged partition: reported, readable below the damage, closed for pushes; the others serve. */
static void test_a_damaged_partition(void **state)
{
    struct world *world = *state;
    struct rpc_push_request push = {
        .topic = text("t"), .partition = text("0"), .message = text("m"), .ack = -1};
    struct answer answer;
    char path[200];
    uint64_t size;
    struct io_file *file;

    make_topic(world, "t", 2);
    for (int i = 0; i < 50; i++)
        push_text(world, "t", "0", "a message that fills some bytes of the log", -1);
    push_text(world, "t", "1", "m", -1);
    log_of(world, path, sizeof(path));
    world_crash(world, false);
    struct io_fs *fs = sim_process_fs(world->server);
    assert_int_equal(io_fs_open(fs, path, IO_OPEN_READ, &file), 0);
    assert_int_equal(io_file_size(file, &size), 0);
    io_file_close(file);
    assert_int_equal(sim_process_flip_bits(world->server, path, size / 2, 40, 16), 0);
    world_start(world);
    world_connect(world);
    if (!strstr(world->log.data, "damaged"))
        fail_msg("the log does not tell: %s", world->log.data);
    push_text(world, "t", "1", "the others serve", -1);
    call(world, world->broker, RPC_METHOD_PUSH, &push, &answer);
    assert_int_equal(answer.error, 0);
    assert_false(answer.r.push.ret);
    assert_true(contains(answer.r.push.err, "failed on disk"));
    answer_free(&answer);
    pull_from(world, "t", "0", 0, 10, &answer);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.r.pull.size, 10);
    answer_free(&answer);
    struct broker_node_state node_state;
    world_run_for(world, 2000);
    broker_node_get_state(world->node, &node_state);
    assert_int_equal(node_state.failed_partitions, 1);
    assert_int_equal(node_state.partitions, 2);
}

static void test_missing_files(void **state)
{
    struct world *world = *state;
    struct rpc_push_request push = {
        .topic = text("t"), .partition = text("0"), .message = text("m"), .ack = -1};
    struct answer answer;
    char path[200];

    make_topic(world, "t", 2);
    push_text(world, "t", "0", "m", -1);
    log_of(world, path, sizeof(path));
    world_stop(world);
    *strrchr(path, '/') = 0;
    assert_int_equal(io_fs_remove_tree(sim_process_fs(world->server), path), 0);
    world_start(world);
    world_connect(world);
    push_text(world, "t", "1", "the others serve", -1);
    call(world, world->broker, RPC_METHOD_PUSH, &push, &answer);
    assert_int_equal(answer.error, 0);
    assert_false(answer.r.push.ret);
    answer_free(&answer);
    assert_non_null(strstr(world->log.data, "cannot be opened"));
}

/* A partition that cannot even be opened can be deleted. */
static void test_unreadable_files_are_deleted(void **state)
{
    struct world *world = *state;
    struct io_fs *fs = sim_process_fs(world->server);
    struct rpc_delete_topic_request gone = {.topic = text("t")};
    struct answer answer;
    char path[200], **names;
    size_t count;

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    log_of(world, path, sizeof(path));
    world_stop(world);
    assert_int_equal(io_fs_unlink(fs, path), 0); /* in its place stands what no file can be opened of */
    assert_int_equal(io_fs_make_dir(fs, path), 0);
    world_start(world);
    world_connect(world);
    call(world, world->coordinator, RPC_METHOD_DELETE_TOPIC, &gone, &answer);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.r.delete_topic.error, 0);
    answer_free(&answer);
    world_run_for(world, 5000);
    assert_int_equal(io_fs_list(fs, "data", &names, &count), 0);
    io_fs_free_names(names, count);
    assert_int_equal(count, 0);
    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
}

static void test_orphans_are_reported_and_kept(void **state)
{
    struct world *world = *state;
    char path[200];

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    log_of(world, path, sizeof(path));
    world_stop(world);
    sim_meta_store_free(world->meta_store); /* the metadata is lost */
    world->meta_store = sim_meta_store_new(3);
    world_start(world);
    world_connect(world);
    assert_non_null(strstr(world->log.data, "belongs to no partition"));
    struct io_file *file;
    assert_int_equal(io_fs_open(sim_process_fs(world->server), path, IO_OPEN_READ, &file), 0);
    io_file_close(file);
}

/* What a deletion left that was killed before its end: folders without anything in them. */
static void test_empty_folders_are_removed(void **state)
{
    struct world *world = *state;
    struct io_fs *fs = sim_process_fs(world->server);
    char **names;
    size_t count;

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    world_stop(world);
    assert_int_equal(io_fs_make_dir(fs, "data/0123456789abcdef0123456789abcdef"), 0);
    assert_int_equal(io_fs_make_dir(fs, "data/0123456789abcdef0123456789abcdef/7"), 0);
    assert_int_equal(io_fs_make_path(fs, "data/fedcba9876543210fedcba9876543210/3/0"), 0);
    world_start(world);
    world_connect(world);
    assert_int_equal(io_fs_list(fs, "data", &names, &count), 0);
    assert_int_equal(count, 2);
    io_fs_free_names(names, count);
    assert_non_null(
        strstr(world->log.data, "data/fedcba9876543210fedcba9876543210/3/0 belongs to no partition"));
    assert_null(strstr(world->log.data, "data/0123456789abcdef0123456789abcdef"));
    expect_messages(world, "t", "0", 1, 1);
}

/* A start with nothing in data/ yet, and with numbers that are written otherwise than ours. */
static void test_an_empty_data_folder(void **state)
{
    struct world *world = *state;
    struct io_fs *fs = sim_process_fs(world->server);
    char path[200], *slash;

    world_stop(world);
    world_start(world);
    world_connect(world);
    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    log_of(world, path, sizeof(path));
    world_stop(world);
    for (int depth = 0; depth < 3; depth++) { /* the topic's folder */
        slash = strrchr(path, '/');
        *slash = 0;
    }
    snprintf(slash, sizeof(path) - (size_t)(slash - path), "/00/0");
    assert_int_equal(io_fs_make_path(fs, path), 0);
    world_start(world);
    world_connect(world);
    assert_non_null(strstr(world->log.data, "/00/0 belongs to no partition"));
    expect_messages(world, "t", "0", 1, 1);
}

static void on_fenced(void *ctx, const struct meta_result *result)
{
    assert_int_equal(result->error, 0);
    *(bool *)ctx = true;
}

/* Another coordinator takes the role and is gone again at once. */
static void fence(struct world *world)
{
    const struct meta_op op = {.kind = META_SET,
                               .path = "/ClyMQ/CoordinatorEpoch",
                               .value = BYTES_LITERAL("{\"epoch\": 50}"),
                               .version = META_ANY_VERSION};
    struct meta *other;
    bool fenced = false;

    assert_int_equal(sim_meta_open(world->meta_store, shards_get(world->shards, 0), 1000, 1000, &other), 0);
    meta_transact(other, &op, 1, on_fenced, &fenced);
    assert_true(world_run_until(world, &fenced, 1000));
    meta_close(other);
}

static bool says(struct world *world, const char *sentence, int64_t limit_ms)
{
    for (int64_t at = 0; at < limit_ms && !strstr(world->log.data, sentence); at += 2)
        world_run_for(world, 2);
    return strstr(world->log.data, sentence);
}

/* The role is lost, and when it is taken again the metadata cannot be written for a while: the broker is
 * registered as soon as they can be. */
static void test_the_role_comes_back(void **state)
{
    struct world *world = *state;
    const struct sim_meta_faults full = {.transact_error = CLYMQ_ENOSPC, .transact_error_ppm = 1000000};
    struct rpc_create_topic_request create = {.topic = text("u"), .partitions = 1};
    struct answer answer;

    make_topic(world, "t", 1);
    push_text(world, "t", "0", "m", -1);
    fence(world);
    call(world, world->coordinator, RPC_METHOD_CREATE_TOPIC, &create, &answer);
    answer_free(&answer);
    assert_true(says(world, "the coordinator's role is lost", 1000));
    uint64_t claimed = sim_meta_store_transactions(world->meta_store) + 1;
    while (sim_meta_store_transactions(world->meta_store) < claimed)
        assert_true(sim_world_step(world->sim));
    sim_meta_store_set_faults(world->meta_store, &full);
    assert_true(says(world, "the broker cannot register again", 3000));
    sim_meta_store_set_faults(world->meta_store, &(struct sim_meta_faults){0});
    world_run_for(world, 3000);
    make_topic(world, "v", 1);
    push_text(world, "v", "0", "m", -1);
    expect_messages(world, "t", "0", 1, 1);
}

/* Lost between registering and serving, when it is nobody's to take it again yet. */
static void test_the_role_is_lost_at_the_end_of_the_start(void **state)
{
    struct world *world = *state;
    const struct broker_node *node;

    make_topic(world, "t", 1);
    world_stop(world);
    world_begin_start(world);
    node = world->node;
    while (node->shard[0].phase != BROKER_OPENING || node->stage_left > 0)
        assert_true(sim_world_step(world->sim));
    while (node->stage_left == 0) /* until it is registered */
        assert_true(sim_world_step(world->sim));
    coord_lose(node->coord, CLYMQ_EFENCED, "somebody else has it");
    assert_true(world_run_until(world, &world->done, WORLD_LIMIT_MS));
    assert_int_equal(world->done_error, 0);
    assert_false(coord_is_active(node->coord));
    world_run_for(world, 5000);
    assert_true(coord_is_active(node->coord));
    world_connect(world);
    make_topic(world, "v", 1);
    push_text(world, "v", "0", "m", -1);
}

/* The same where there is no memory for the timer that tries again. */
static void test_the_role_comes_back_without_a_timer(void **state)
{
    struct world *world = *state;
    struct rpc_create_topic_request create = {.topic = text("u"), .partitions = 1};
    struct answer answer;

    make_topic(world, "t", 1);
    refused_timer_begin(world->loops[0], &world->node->timer);
    fence(world);
    call(world, world->coordinator, RPC_METHOD_CREATE_TOPIC, &create, &answer);
    answer_free(&answer);
    assert_true(says(world, "the coordinator's role is lost", 1000));
    world_run_for(world, 5000);
    assert_true(refused_timer.count > 0);
    refused_timer_end(world->loops[0]);
    make_topic(world, "v", 1);
    push_text(world, "v", "0", "m", -1);
}

static void test_a_port_in_use(void **state)
{
    struct world *world = *state;

    world_stop(world);
    world->config.broker_listen = world->config.coordinator_listen;
    assert_int_equal(world_try_start(world), CLYMQ_EBUSY);
    assert_non_null(strstr(world->done_sentence, "--broker-listen"));
    world_stop(world);
}

static void test_retention_and_reload(void **state)
{
    struct world *world = *state;
    struct buf *batch =
        make_batch("a message of some length, to fill segments with ", 5000, BATCH_NONE, -1, -1);
    struct rpc_list_offset_request list = {.topic = text("t"), .partition = text("0"), .timestamp_ms = -2};
    struct answer answer;

    make_topic(world, "t", 1);
    for (int i = 0; i < 20; i++)
        push_batch(world, "t", "0", batch);
    world_run_for(world, 70000);
    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &list, &answer);
    assert_int_equal(answer.r.list_offset.offset, 0);
    answer_free(&answer);
    world->config.retention_check_ms = 24 * 3600 * 1000;
    assert_int_equal(broker_node_reload(world->node, &world->config), 0);
    world_run_for(world, 130000); /* the next look is a day away */
    world->config.retention_bytes = 2 << 20;
    world->config.retention_check_ms = 60000;
    assert_int_equal(broker_node_reload(world->node, &world->config), 0);
    world_run_for(world, 130000);
    world_connect(world);
    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &list, &answer);
    int64_t start = answer.r.list_offset.offset;
    assert_true(start > 0);
    answer_free(&answer);
    /* What is deleted is passed over: from the log's start on. */
    pull_from(world, "t", "0", 0, 10, &answer);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.r.pull.size, 10);
    assert_int_equal(answer.r.pull.start_index, start);
    assert_int_equal(answer.r.pull.end_index, start + 9);
    answer_free(&answer);
    buf_unref(batch);
}

/* Whole blocks that retention emptied leave the metadata and the disk. */
static void test_retention_drops_blocks(void **state)
{
    struct world *world = *state;
    struct buf *batch =
        make_batch("a message of some length, to fill segments with ", 5000, BATCH_NONE, -1, -1);
    struct block_key *keys;
    size_t count;

    world->config.retention_bytes = 1 << 20;
    world->config.retention_check_ms = 5000;
    assert_int_equal(broker_node_reload(world->node, &world->config), 0);
    make_topic(world, "t", 1);
    for (int i = 0; i < 6; i++) {
        for (int k = 0; k < 6; k++)
            push_batch(world, "t", "0", batch);
        set_partition(world, "t", "0", i % 2 ? -1 : 1);
        if (i % 2 == 0)
            set_partition(world, "t", "0", -1);
    }
    world_run_for(world, 200000);
    assert_int_equal(block_list(sim_process_fs(world->server), &keys, &count), 0);
    mem_free(keys);
    assert_true(count <= 3);
    world_stop(world);
    world_start(world);
    world_connect(world);
    push_text(world, "t", "0", "m", -1);
    buf_unref(batch);
}

static void set_scrub(struct world *world, int64_t bytes_per_s)
{
    world->config.scrub_bytes_per_s = bytes_per_s;
    world->config.scrub_every_ms = 10000;
    assert_int_equal(broker_node_reload(world->node, &world->config), 0);
}

/* Everything is read again and again at its rate, partitions may come and go meanwhile, and what rots on the
 * disk is found. */
static void test_scrub(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("a message of some length to be read ", 2000, BATCH_NONE, -1, -1);
    struct rpc_delete_part_request gone = {.topic = text("t"), .partition = text("0")};
    struct block_key *keys;
    struct answer answer;
    size_t count;
    char path[128], topic[33];

    make_topic(world, "t", 3);
    for (int i = 0; i < 3; i++)
        for (int k = 0; k < 10; k++)
            push_batch(world, "t", (const char *[]){"0", "1", "2"}[i], batch);
    int64_t size = 0;
    world_run_for(world, 2000);
    size = world_metric_sum(world, "clymq_log_bytes");
    assert_int_equal(world_metric_sum(world, "clymq_scrub_bytes_total"), 0); /* off */
    set_scrub(world, 1 << 20);
    world_run_for(world, 9000);
    assert_int_equal(world_metric_sum(world, "clymq_scrub_bytes_total"), size);
    world_run_for(world, 10000);
    assert_int_equal(world_metric_sum(world, "clymq_scrub_bytes_total"), 2 * size);
    assert_int_equal(world_metric_sum(world, "clymq_scrub_damaged_total"), 0);
    /* Slow now, so that one that goes is being read. */
    set_scrub(world, 100000);
    world_run_for(world, 1500);
    call(world, world->coordinator, RPC_METHOD_DELETE_PART, &gone, &answer);
    assert_int_equal(answer.r.delete_part.error, 0);
    answer_free(&answer);
    world_run_for(world, 10000);
    assert_int_equal(block_list(sim_process_fs(world->server), &keys, &count), 0);
    assert_int_equal(count, 2);
    uuid_format(keys[0].topic, topic);
    snprintf(path, sizeof(path), "data/%s/%u/0/00000000000000000000.log", topic, keys[0].partition);
    mem_free(keys);
    assert_int_equal(sim_process_flip_bits(world->server, path, batch->len * 5 + 200, 100, 3), 0);
    set_scrub(world, 1 << 20);
    world_run_for(world, 60000);
    assert_in_range(world_metric_sum(world, "clymq_scrub_damaged_total"), 1, 7); /* once a pass */
    assert_true(strstr(world->log.data, "the scrub found damage at offset 10000"));
    set_scrub(world, 0);
    int64_t before = world_metric_sum(world, "clymq_scrub_bytes_total");
    world_run_for(world, 60000);
    assert_true(world_metric_sum(world, "clymq_scrub_bytes_total") - before <= 256 << 10);
    /* A stop while it reads. */
    set_scrub(world, 1 << 30);
    world_run_for(world, 1);
    world_stop(world);
    buf_unref(batch);
}

/* The n-th allocation fails, for many n: the node either starts or says that memory ran out; it never leaks
 * or crashes. */
static void test_out_of_memory_at_start(void **state)
{
    struct world *world = *state;

    make_topic(world, "t", 2);
    push_text(world, "t", "0", "m", -1);
    world_stop(world);
    for (uint64_t nth = 1; nth < 4000; nth += 1 + nth / 7) {
        struct strbuf error = {0};
        uint8_t random[16] = {1};

        world->crashed = false;
        for (unsigned i = 0; i < world->shard_count; i++)
            assert_int_equal(sim_process_loop(world->server, &world->loops[i]), 0);
        world->metrics = metrics_new();
        assert_int_equal(
            shards_new_on_loops(world->loops, world->shard_count, world->metrics, &world->shards), 0);
        assert_int_equal(store_folder_open(sim_process_fs(world->server), random, &error, &world->folder), 0);
        mem_fail_nth(nth);
        int made =
            broker_node_new(&world->config, world->shards, world->folder, world->metrics, &world->node);
        if (made == 0) {
            world->done = false;
            broker_node_start(world->node, NULL, NULL);
            world_run_for(world, 3000);
        } else {
            assert_int_equal(made, CLYMQ_ENOMEM);
            world->node = NULL;
        }
        mem_fail_nth(0);
        world_crash(world, false);
    }
    world_start(world);
    world_connect(world);
    expect_messages(world, "t", "0", 1, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST_SHARDS(test_a_restart_keeps_everything),
        TEST_SHARDS(test_another_number_of_shards),
        TEST_SHARDS(test_crashes_keep_what_was_acknowledged),
        TEST_SHARDS(test_crashes_during_changes),
        TEST_SHARDS(test_early_calls_wait),
        TEST_SHARDS(test_partitions_are_served_as_they_open),
        TEST_SHARDS(test_crashes_during_the_start),
        TEST_SHARDS(test_a_stop_answers),
        TEST_SHARDS(test_deletions_end_in_the_next_run),
        TEST_SHARDS(test_deletions_are_durable),
        TEST_SHARDS(test_a_stop_does_not_wait_for_space),
        TEST_SHARDS(test_a_damaged_partition),
        TEST_SHARDS(test_missing_files),
        TEST_SHARDS(test_unreadable_files_are_deleted),
        TEST_SHARDS(test_orphans_are_reported_and_kept),
        TEST_SHARDS(test_empty_folders_are_removed),
        TEST_SHARDS(test_an_empty_data_folder),
        TEST_SHARDS(test_the_role_comes_back),
        TEST_SHARDS(test_the_role_comes_back_without_a_timer),
        TEST_SHARDS(test_the_role_is_lost_at_the_end_of_the_start),
        TEST_SHARDS(test_a_port_in_use),
        TEST_SHARDS(test_retention_and_reload),
        TEST_SHARDS(test_retention_drops_blocks),
        TEST_SHARDS(test_scrub),
        TEST_SHARDS(test_out_of_memory_at_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
