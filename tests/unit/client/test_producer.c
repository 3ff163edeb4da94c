/* The producer core against the fake cluster: first the quiet cases one by one, then random faults by seed,
 * where a checker compares what was told with what is in the logs: nothing acknowledged lost, nothing twice,
 * order kept, every message told exactly once, definite failures not stored, memory bounded. */
#include "client/core_state.h"
#include "fake_cluster.h"

#include <stdlib.h>

#include "client/core.h"

enum { MESSAGES_MAX = 6000, NOT_TOLD = 1 };

struct run {
    struct fake_cluster cluster;
    struct core *core;
    struct core_producer *producer;
    struct core_producer_config config;
    int outcome[MESSAGES_MAX]; /* NOT_TOLD, 0 or an error */
    int64_t offset[MESSAGES_MAX];
    char partition[MESSAGES_MAX][32];
    bool refused[MESSAGES_MAX]; /* not accepted */
    uint32_t count, told;
    size_t most_bytes;
    bool is_control; /* a run that must be found faulty: problems are counted instead of failing */
    unsigned problems;
    size_t many_headers;       /* of the message sent last, instead of the usual few */
    bool may_repeat;           /* the producer table is lost at times: the same send may be stored again */
    int64_t max_message_bytes; /* of the client; 0 = as usual */
    int retries_left;          /* what fails is sent again from inside the delivery callback, so many times */
};

static int run_send(struct run *run, const char *partition, const char *key, size_t len);

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct run *run = ctx;
    uint32_t id = (uint32_t)(uintptr_t)message->opaque;
    assert_true(id < run->count);
    assert_int_equal(run->outcome[id], NOT_TOLD);
    assert_true(error <= 0);
    run->outcome[id] = error;
    run->offset[id] = message->offset;
    snprintf(run->partition[id], sizeof(run->partition[id]), "%s",
             message->partition ? message->partition : "");
    run->told++;
    if (message->value && run->many_headers) {
        char key[32];
        assert_int_equal(message->header_count, run->many_headers);
        for (size_t i = 0; i < run->many_headers; i++) {
            snprintf(key, sizeof(key), "key %zu", i);
            assert_string_equal(message->headers[i].key, key);
            assert_int_equal(message->headers[i].value_len, i % 3);
        }
    } else if (message->value) {
        assert_int_equal(message->header_count, id % 4);
        if (id % 4 == 3) {
            assert_string_equal(message->headers[0].key, "number");
            assert_string_equal(message->headers[1].key, "nothing");
            assert_null(message->headers[1].value);
            assert_non_null(message->headers[2].value);
        }
        uint32_t stored;
        memcpy(&stored, message->value, 4);
        assert_int_equal(stored, id);
    }
    if (error && run->retries_left > 0) {
        run->retries_left--;
        int refused = run_send(run, message->partition, NULL, 10);
        assert_true(refused == 0 || refused == CLYMQ_ESHUTDOWN);
    }
}

static void run_start(struct run *run, uint64_t seed, size_t partitions)
{
    fake_cluster_init(&run->cluster, seed, partitions);
    struct core_config config;
    core_config_defaults(&config);
    config.coordinators = "server0:7878, server1";
    config.request_timeout_ms = 5000;
    config.retry_backoff_ms = 20;
    config.retry_backoff_max_ms = 300;
    if (run->max_message_bytes)
        config.max_message_bytes = run->max_message_bytes;
    assert_int_equal(core_new(run->cluster.loop, &config, &run->core), 0);
    if (!run->config.batch_bytes)
        core_producer_config_defaults(&run->config);
    run->config.on_delivery = on_delivery;
    run->config.delivery_ctx = run;
    assert_int_equal(core_producer_new(run->core, &run->config, &run->producer), 0);
}

static void run_end(struct run *run)
{
    core_producer_free(run->producer);
    core_free(run->core);
    for (uint32_t id = 0; id < run->count; id++)
        assert_true(run->refused[id] || run->outcome[id] != NOT_TOLD);
    fake_cluster_end(&run->cluster);
    mem_free(run);
}

static struct run *run_new(void)
{
    struct run *run = mem_zalloc(sizeof(*run));
    assert_non_null(run);
    return run;
}

/* Sends message number run->count. */
static int run_send(struct run *run, const char *partition, const char *key, size_t len)
{
    static uint8_t value[65536];
    uint32_t id = run->count++;
    assert_true(id < MESSAGES_MAX);
    memcpy(value, &id, 4);
    clymq_header headers[] = {{"number", value, 4}, {"nothing", NULL, 0}, {"empty", "", 0}};
    clymq_message message = {
        .topic = run->cluster.topic,
        .partition = partition,
        .timestamp_ms = 1000 + id,
        .key = key,
        .key_len = key ? strlen(key) : 0,
        .value = value,
        .value_len = len < 4 ? 4 : len,
        .headers = headers,
        .header_count = id % 4,
        .opaque = (void *)(uintptr_t)id,
    };
    run->outcome[id] = NOT_TOLD;
    int error = core_producer_add(run->producer, &message, NULL);
    run->refused[id] = error != 0;
    return error;
}

static bool all_told(void *ctx)
{
    struct run *run = ctx;
    if (core_producer_pending_bytes(run->producer) > run->most_bytes)
        run->most_bytes = core_producer_pending_bytes(run->producer);
    return core_producer_pending(run->producer) == 0;
}

static void problem(struct run *run, const char *what, uint32_t id)
{
    if (!run->is_control)
        fail_msg("message %u %s", id, what);
    run->problems++;
}

/* What a stored message was sent as. */
struct stamp {
    bool stored;
    int64_t producer_id;
    int16_t epoch;
    int32_t sequence;
};

static bool stamp_equal(const struct stamp *a, const struct stamp *b)
{
    return a->producer_id == b->producer_id && a->epoch == b->epoch && a->sequence == b->sequence;
}

/* Compares the logs with what was told. */
static void run_check(struct run *run)
{
    struct stamp *seen = mem_calloc(MESSAGES_MAX, sizeof(*seen));
    for (size_t p = 0; p < run->cluster.partition_count; p++) {
        struct fake_partition *partition = &run->cluster.partitions[p];
        int64_t last = -1;
        for (size_t b = 0; b < partition->count; b++) {
            struct batch_reader reader;
            struct batch_record record;
            struct fake_batch *batch = &partition->batches[b];
            if (batch_is_control(&batch->header))
                continue;
            assert_int_equal(
                batch_reader_begin(&reader, bytes_of(batch->data->data, batch->data->len), 1 << 24), 0);
            while (batch_reader_next(&reader, &record) == 0) {
                uint32_t id;
                memcpy(&id, record.value.ptr, 4);
                assert_true(id < run->count && !run->refused[id]);
                assert_int_equal(record.timestamp_ms, 1000 + id);
                assert_int_equal(record.header_count, id % 4);
                struct stamp stamp = {true, batch->header.producer_id, batch->header.producer_epoch,
                                      batch->header.base_sequence +
                                          (int32_t)(record.offset - batch->header.base_offset)};
                bool repeat = run->may_repeat && seen[id].stored && stamp_equal(&seen[id], &stamp);
                if (seen[id].stored && !repeat)
                    problem(run, "is stored twice", id);
                if (!run->may_repeat && (int64_t)id <= last)
                    problem(run, "is stored behind a later one", id);
                last = (int64_t)id;
                int outcome = run->outcome[id];
                if (outcome == 0 && run->offset[id] >= 0 && !run->may_repeat && !run->is_control)
                    assert_int_equal(run->offset[id], record.offset);
                if (outcome < 0 && outcome != CLYMQ_EUNCERTAIN && outcome != CLYMQ_ETIMEDOUT)
                    problem(run, "is stored and was told as failed", id);
                seen[id] = stamp;
            }
            batch_reader_end(&reader);
        }
    }
    for (uint32_t id = 0; id < run->count; id++) {
        if (run->refused[id])
            continue;
        if (run->outcome[id] == NOT_TOLD)
            problem(run, "has no outcome", id);
        if (run->outcome[id] == 0 && !seen[id].stored)
            problem(run, "was acknowledged and is lost", id);
    }
    mem_free(seen);
}

static unsigned run_failures(const struct run *run)
{
    unsigned failures = 0;
    for (uint32_t id = 0; id < run->count; id++)
        failures += !run->refused[id] && run->outcome[id] != 0;
    return failures;
}

/* ---- one by one ---- */

static void test_plain(void **state)
{
    struct run *run = run_new();
    run_start(run, 1, 4);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(run_send(run, i % 3 == 0 ? "2" : NULL, i % 3 == 1 ? "key" : NULL, 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
    run_check(run);
    assert_int_equal(run_failures(run), 0);
    /* Messages without a key are spread over all partitions, those with one are where its hash says. */
    for (uint32_t id = 0; id < run->count; id++)
        if (id % 3 == 1)
            assert_string_equal(run->partition[id], run->partition[1]);
    run_end(run);
}

/* A delivery shows the message as it was given, with all its headers. */
static void test_many_headers(void **state)
{
    for (size_t count = 15; count <= 300; count += 19) {
        struct run *run = run_new();
        char keys[300][16];
        clymq_header headers[300];
        run_start(run, 1, 1);
        run->many_headers = count;
        for (size_t i = 0; i < count; i++) {
            snprintf(keys[i], sizeof(keys[i]), "key %zu", i);
            headers[i] = (clymq_header){keys[i], "ab", i % 3};
        }
        clymq_message message = {.topic = run->cluster.topic,
                                 .value = "x",
                                 .value_len = 1,
                                 .headers = headers,
                                 .header_count = count};
        run->count = 1;
        run->outcome[0] = NOT_TOLD;
        assert_int_equal(core_producer_add(run->producer, &message, NULL), 0);
        assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
        assert_int_equal(run->outcome[0], 0);
        run_end(run);
    }
}

static void test_compressions(void **state)
{
    for (int codec = BATCH_NONE; codec <= BATCH_ZSTD; codec++) {
        struct run *run = run_new();
        core_producer_config_defaults(&run->config);
        run->config.compression = codec;
        run_start(run, 2, 1);
        for (int i = 0; i < 500; i++)
            assert_int_equal(run_send(run, "0", NULL, 500), 0);
        assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
        run_check(run);
        assert_int_equal(run_failures(run), 0);
        struct fake_batch *first = &run->cluster.partitions[0].batches[0];
        assert_int_equal(first->header.attributes & BATCH_COMPRESSION_MASK, codec);
        run_end(run);
    }
}

static void test_linger(void **state)
{
    struct run *run = run_new();
    core_producer_config_defaults(&run->config);
    run->config.linger_ms = 1000;
    run_start(run, 3, 1);
    assert_int_equal(run_send(run, "0", NULL, 10), 0);
    fake_cluster_run(&run->cluster, 500);
    assert_int_equal(run_send(run, "0", NULL, 10), 0);
    fake_cluster_run(&run->cluster, 400);
    assert_int_equal(run->cluster.pushes, 0);
    fake_cluster_run(&run->cluster, 200);
    assert_int_equal(run->cluster.pushes, 1);
    assert_int_equal(run->told, 2);
    /* A flush does not wait for the time. */
    assert_int_equal(run_send(run, "0", NULL, 10), 0);
    uint64_t mark = core_producer_flush(run->producer);
    assert_false(core_producer_is_flushed(run->producer, mark));
    fake_cluster_run(&run->cluster, 100);
    assert_true(core_producer_is_flushed(run->producer, mark));
    assert_int_equal(run->told, 3);
    run_end(run);
}

static bool topic_known(void *ctx)
{
    const struct core_topic *topic = ctx;
    return topic->known;
}

/* Somebody else of the client, such as a consumer, has just asked for the topic: nothing is waited for. */
static void test_topic_of_others(void **state)
{
    struct run *run = run_new();
    core_producer_config_defaults(&run->config);
    run->config.linger_ms = 0; /* whose end would notice them, too */
    run_start(run, 5, 3);
    run->core->config.retry_backoff_ms = 5000;
    struct core_topic *topic = core_topic_get(run->core, run->cluster.topic);
    core_topic_refresh(topic);
    assert_true(fake_cluster_run_until(&run->cluster, topic_known, topic, 1000));
    run_send(run, NULL, NULL, 10);
    run_send(run, "2", NULL, 10);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 500));
    assert_int_equal(run_failures(run), 0);
    run_check(run);
    run_end(run);
}

static void test_unknown_topic(void **state)
{
    struct run *run = run_new();
    run_start(run, 4, 2);
    run->cluster.topic_exists = false;
    run_send(run, NULL, NULL, 10);
    run_send(run, "1", NULL, 10);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 5000));
    assert_int_equal(run->outcome[0], CLYMQ_ETOPIC_UNKNOWN);
    assert_int_equal(run->outcome[1], CLYMQ_ETOPIC_UNKNOWN);
    /* Made later, it works. */
    run->cluster.topic_exists = true;
    run_send(run, NULL, NULL, 10);
    run_send(run, "1", NULL, 10);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 5000));
    assert_int_equal(run->outcome[2], 0);
    assert_int_equal(run->outcome[3], 0);
    /* A partition that does not exist. */
    run_send(run, "north", NULL, 10);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 5000));
    assert_int_equal(run->outcome[4], CLYMQ_EPARTITION_UNKNOWN);
    run_check(run);
    run_end(run);
}

/* What may have been stored before its topic was deleted does not count as certainly not stored. */
static void test_deleted_while_in_doubt(void **state)
{
    struct run *run = run_new();
    run_start(run, 16, 1);
    run->cluster.faults.unsure = 10000;
    run_send(run, NULL, NULL, 10);
    fake_cluster_run(&run->cluster, 1000);
    assert_int_equal(run->told, 0);
    assert_int_equal(run->cluster.partitions[0].end, 1);
    run->cluster.topic_exists = false;
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 20000));
    assert_int_equal(run->outcome[0], CLYMQ_EUNCERTAIN);
    run->cluster.faults.unsure = 0;
    run_send(run, NULL, NULL, 10);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 20000));
    assert_int_equal(run->outcome[1], CLYMQ_ETOPIC_UNKNOWN); /* never sent */
    run_check(run);
    run_end(run);
}

/* A callback that sends again what failed does not hold the loop up: what it adds while messages are failed
 * is failed by a later answer. */
static void test_unknown_topic_and_retries(void **state)
{
    struct run *run = run_new();
    run_start(run, 13, 2);
    run->cluster.topic_exists = false;
    run->retries_left = 1000;
    for (int i = 0; i < 3; i++)
        run_send(run, NULL, NULL, 10);
    fake_cluster_run(&run->cluster, 1000);
    assert_in_range(run->retries_left, 700, 999);
    run->cluster.topic_exists = true;
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 5000));
    for (uint32_t id = 0; id < run->count; id++)
        assert_int_equal(run->outcome[id], id + 3 < run->count ? CLYMQ_ETOPIC_UNKNOWN : 0);
    run_check(run);
    run_end(run);
}

static void test_nobody_there(void **state)
{
    struct run *run = run_new();
    core_producer_config_defaults(&run->config);
    run->config.delivery_timeout_ms = 3000;
    run_start(run, 5, 2);
    for (unsigned i = 0; i < FAKE_SERVERS; i++)
        fake_server_crash(&run->cluster.servers[i]);
    run_send(run, NULL, NULL, 10);
    run_send(run, "1", NULL, 10);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
    /* Never sent: certainly not stored. */
    for (int i = 0; i < 2; i++) {
        assert_true(run->outcome[i] < 0);
        assert_int_not_equal(run->outcome[i], CLYMQ_ETIMEDOUT);
        assert_int_not_equal(run->outcome[i], CLYMQ_EUNCERTAIN);
    }
    run_end(run);
}

/* The server is gone while batches are on their way, and comes back. */
static void test_restart(void **state)
{
    struct run *run = run_new();
    run_start(run, 6, 2);
    for (int round = 0; round < 20; round++) {
        for (int i = 0; i < 50; i++)
            assert_int_equal(run_send(run, NULL, NULL, 300), 0);
        fake_cluster_run(&run->cluster, 7);
        fake_server_crash(&run->cluster.servers[round % 2]);
        fake_cluster_run(&run->cluster, 40);
        fake_server_start(&run->cluster.servers[round % 2]);
    }
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 30000));
    run_check(run);
    assert_int_equal(run_failures(run), 0);
    run_end(run);
}

static void test_delivery_timeout(void **state)
{
    struct run *run = run_new();
    core_producer_config_defaults(&run->config);
    run->config.delivery_timeout_ms = 2000;
    run_start(run, 7, 1);
    run->cluster.faults.delay = 10000;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(run_send(run, "0", NULL, 100), 0);
        fake_cluster_run(&run->cluster, 200);
    }
    run->cluster.faults.delay = 0;
    for (int i = 0; i < 30; i++) {
        assert_int_equal(run_send(run, "0", NULL, 100), 0);
        fake_cluster_run(&run->cluster, 200);
    }
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 30000));
    run_check(run);
    /* Once all is well again, so is the producer. */
    for (uint32_t id = 50; id < run->count; id++)
        assert_int_equal(run->outcome[id], 0);
    run_end(run);
}

static void test_bounds(void **state)
{
    struct run *run = run_new();
    core_producer_config_defaults(&run->config);
    run->config.buffer_bytes = 100000;
    run_start(run, 8, 1);
    fake_server_crash(&run->cluster.servers[0]);
    int full = 0;
    for (int i = 0; i < 3000; i++) {
        int error = run_send(run, "0", NULL, 100);
        assert_true(error == 0 || error == CLYMQ_EQUEUE_FULL);
        full += error != 0;
        assert_true(core_producer_pending_bytes(run->producer) <= 100000 + 4096);
        if (i % 100 == 0)
            fake_cluster_run(&run->cluster, 1);
    }
    assert_true(full > 1000);
    assert_false(core_producer_has_room(run->producer));
    fake_server_start(&run->cluster.servers[0]);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 30000));
    assert_true(core_producer_has_room(run->producer));
    assert_int_equal(core_producer_pending_bytes(run->producer), 0);
    run_check(run);
    assert_int_equal(run_failures(run), 0);
    run_end(run);
}

static void test_refusals(void **state)
{
    struct run *run = run_new();
    run_start(run, 9, 1);
    clymq_message message = {.topic = "a/b", .timestamp_ms = 1};
    assert_int_equal(core_producer_add(run->producer, &message, NULL), CLYMQ_ENAME);
    message.topic = NULL;
    assert_int_equal(core_producer_add(run->producer, &message, NULL), CLYMQ_EINVAL);
    message.topic = "t";
    message.partition = "..";
    assert_int_equal(core_producer_add(run->producer, &message, NULL), CLYMQ_ENAME);
    message.partition = NULL;
    message.value = "x";
    message.value_len = 17 << 20;
    assert_int_equal(core_producer_add(run->producer, &message, NULL), CLYMQ_ETOOBIG);
    message.value_len = 1;
    message.header_count = 1;
    assert_int_equal(core_producer_add(run->producer, &message, NULL), CLYMQ_EINVAL);
    assert_int_equal(core_producer_pending(run->producer), 0);
    struct core_producer_config config;
    struct core_producer *other;
    core_producer_config_defaults(&config);
    config.ack = 2;
    assert_int_equal(core_producer_new(run->core, &config, &other), CLYMQ_EACK_LEVEL);
    config.ack = 1;
    config.max_in_flight = 6;
    assert_int_equal(core_producer_new(run->core, &config, &other), CLYMQ_EINVAL);
    run_end(run);
}

/* What is behind a refused batch is not sent before what is in front of it is stored and a new epoch begins:
 * the server could only refuse it. */
static void test_behind_a_hole(void **state)
{
    enum { MESSAGES = 5 };
    static const int outcomes[MESSAGES] = {0, CLYMQ_EDENIED, 0, 0, 0};
    struct run *run = run_new();
    core_producer_config_defaults(&run->config);
    run->config.batch_bytes = 1000;
    run->config.max_in_flight = 3;
    run_start(run, 18, 1);
    assert_int_equal(run_send(run, "0", NULL, 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
    run->cluster.pushes = 0;
    run->cluster.push_errors = (const int[]){CLYMQ_EAGAIN, CLYMQ_EDENIED};
    run->cluster.push_error_count = 2;
    for (int i = 0; i < MESSAGES; i++)
        assert_int_equal(run_send(run, "0", NULL, 1000), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
    for (int i = 0; i < MESSAGES; i++)
        assert_int_equal(run->outcome[1 + i], outcomes[i]);
    assert_int_equal(run->cluster.pushes, 3 + 1 + 3);
    run_check(run);
    run_end(run);
}

/* A batch that a server finds too big goes in parts; only what is too big alone is refused. */
static void test_too_big(void **state)
{
    static const bool idempotent[] = {true, false};
    for (int i = 0; i < 2 * 5; i++) {
        struct run *run = run_new();
        core_producer_config_defaults(&run->config);
        run->config.idempotence = idempotent[i % 2];
        run->config.max_in_flight = idempotent[i % 2] ? 5 : 1; /* several would be reordered */
        run->config.compression = i / 2;
        run->config.linger_ms = 50;
        run_start(run, 11, 1);
        run->cluster.faults.size_max = 2000;
        for (int k = 0; k < 600; k++)
            assert_int_equal(run_send(run, "0", NULL, k == 100 || k == 599 ? 60000 : 300), 0);
        struct accumulator_waiter waiter = {0};
        uint32_t id = run->count;
        clymq_message message = {.topic = run->cluster.topic,
                                 .partition = "0",
                                 .timestamp_ms = 1000 + id,
                                 .value = &id,
                                 .value_len = 4,
                                 .opaque = (void *)(uintptr_t)id};
        assert_int_equal(id % 4, 0); /* without headers */
        run->outcome[run->count++] = NOT_TOLD;
        assert_int_equal(core_producer_add(run->producer, &message, &waiter), 0);
        assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 60000));
        run_check(run);
        for (uint32_t k = 0; k < 600; k++) {
            /* Zeros compress well, but not by snappy. */
            bool refused = (i / 2 == BATCH_NONE || i / 2 == BATCH_SNAPPY) && (k == 100 || k == 599);
            assert_int_equal(run->outcome[k], refused ? CLYMQ_ETOOBIG : 0);
            if (k && !refused && run->offset[k - 1] >= 0)
                assert_true(run->offset[k] > run->offset[k - 1]);
        }
        assert_true(waiter.done);
        assert_int_equal(waiter.error, 0);
        assert_int_equal(waiter.offset, run->offset[id]);
        /* The lesson is learnt: nothing that is sent later is refused. */
        uint64_t pushes = run->cluster.pushes;
        for (int k = 0; k < 60; k++)
            assert_int_equal(run_send(run, "0", NULL, 100), 0);
        assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
        assert_true(i / 2 != BATCH_NONE || run->cluster.pushes - pushes < 60);
        assert_int_equal(core_producer_pending_bytes(run->producer), 0);
        run_end(run);
    }
}

/* One message that is too big by itself makes no small batches of what is sent later. */
static void test_one_too_big(void **state)
{
    struct run *run = run_new();
    run_start(run, 14, 1);
    run->cluster.faults.size_max = 40000;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(run_send(run, "0", NULL, i == 700 ? 60000 : 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 60000));
    assert_int_equal(run_failures(run), 1);
    assert_int_equal(run->outcome[700], CLYMQ_ETOOBIG);
    uint64_t pushes = run->cluster.pushes;
    for (int i = 0; i < 1000; i++)
        assert_int_equal(run_send(run, "0", NULL, 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 60000));
    assert_in_range(run->cluster.pushes - pushes, 4, 10); /* of 130,000 bytes */
    assert_int_equal(run_failures(run), 1);
    run_check(run);
    run_end(run);
}

/* That an answer is longer than this client takes says nothing about the batch, which was stored: it is not
 * sent in parts. */
static void test_long_answer(void **state)
{
    struct run *run = run_new();
    run->max_message_bytes = 100000;
    run_start(run, 15, 1);
    run->cluster.faults.long_push = 10000;
    for (int i = 0; i < 10; i++)
        assert_int_equal(run_send(run, "0", NULL, 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 60000));
    for (uint32_t id = 0; id < 10; id++)
        assert_int_equal(run->outcome[id], CLYMQ_EUNCERTAIN);
    assert_int_equal(run->cluster.pushes, 1);
    run->cluster.faults.long_push = 0;
    for (int i = 0; i < 10; i++)
        assert_int_equal(run_send(run, "0", NULL, 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 60000));
    assert_int_equal(run_failures(run), 10);
    run_check(run);
    run_end(run);
}

/* Nor is a message too big because what the coordinator says of the topic is. */
static void test_long_metadata(void **state)
{
    struct run *run = run_new();
    run->max_message_bytes = 100000;
    run_start(run, 17, 1);
    run->cluster.faults.long_describe = 10000;
    assert_int_equal(run_send(run, "0", NULL, 100), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 60000));
    assert_int_equal(run->outcome[0], CLYMQ_ELIMIT);
    run_end(run);
}

/* The end of a producer tells every message. */
static void test_free_tells(void **state)
{
    struct run *run = run_new();
    run_start(run, 10, 2);
    run->cluster.faults.delay = 10000;
    for (int i = 0; i < 100; i++)
        run_send(run, NULL, NULL, 100);
    fake_cluster_run(&run->cluster, 50);
    for (int i = 0; i < 100; i++)
        run_send(run, i % 2 ? "0" : NULL, NULL, 100);
    core_producer_free(run->producer);
    run->producer = NULL;
    assert_int_equal(run->told, 200);
    for (uint32_t id = 100; id < 200; id++)
        assert_int_equal(run->outcome[id], CLYMQ_ECANCELED);
    run_end(run);
}

/* A producer that ends takes nothing more, also from a callback that sends again what failed. */
static void test_free_refuses(void **state)
{
    for (int known = 0; known < 2; known++) { /* unless the topic is known, its messages are in limbo */
        struct run *run = run_new();
        run_start(run, 12, 2);
        if (known) {
            run_send(run, "0", NULL, 100);
            run_send(run, "1", NULL, 100);
            assert_true(fake_cluster_run_until(&run->cluster, all_told, run, 10000));
        }
        uint32_t first = run->count, refused = 0;
        for (int i = 0; i < 20; i++)
            assert_int_equal(run_send(run, i % 2 ? "0" : "1", NULL, 100), 0);
        run->retries_left = 100;
        core_producer_free(run->producer);
        run->producer = NULL;
        assert_int_equal(run->count, first + 40);
        for (uint32_t id = first; id < run->count; id++) {
            refused += run->refused[id];
            assert_int_equal(run->outcome[id], run->refused[id] ? NOT_TOLD : CLYMQ_ECANCELED);
        }
        assert_int_equal(refused, 20);
        run_end(run);
    }
}

/* The n-th allocation of adding and sending fails, for every n: messages are refused or delivered, never
 * half. */
static void test_no_memory(void **state)
{
    for (uint64_t nth = 1; nth < 60; nth++) {
        struct run *run = run_new();
        run_start(run, 11, 2);
        mem_fail_nth(nth);
        for (int i = 0; i < 40; i++) {
            int error = run_send(run, i % 2 ? "1" : NULL, NULL, 100);
            assert_true(error == 0 || error == CLYMQ_ENOMEM);
        }
        mem_fail_nth(0);
        if (!fake_cluster_run_until(&run->cluster, all_told, run, 30000))
            fail_msg("allocation %llu: %llu messages are never told", (unsigned long long)nth,
                     (unsigned long long)core_producer_pending(run->producer));
        run_check(run);
        assert_int_equal(run_failures(run), 0);
        run_end(run);
    }
}

/* ---- random faults ---- */

struct storm {
    struct run *run;
    struct rng rng;
    int left;
};

static void storm_crash(void *ctx)
{
    struct fake_server *server = ctx;
    fake_server_crash(server);
}

static void storm_start(void *ctx)
{
    struct fake_server *server = ctx;
    if (!server->loop)
        fake_server_start(server);
}

static void storm_step(struct storm *storm)
{
    struct run *run = storm->run;
    struct rng *rng = &storm->rng;
    int burst = (int)rng_below(rng, 30);
    for (int i = 0; i < burst && storm->left > 0; i++, storm->left--) {
        char name[16];
        snprintf(name, sizeof(name), "%u", (unsigned)rng_below(rng, run->cluster.partition_count));
        const char *keys[] = {NULL, "red", "green", "blue"};
        bool named = rng_chance(rng, 1, 3);
        int error =
            run_send(run, named ? name : NULL, named ? NULL : keys[rng_below(rng, 4)], rng_below(rng, 2000));
        assert_true(error == 0 || error == CLYMQ_EQUEUE_FULL);
    }
    if (rng_chance(rng, 1, 40)) {
        struct fake_server *server = &run->cluster.servers[rng_below(rng, FAKE_SERVERS)];
        storm_crash(server);
        assert_int_equal(
            sim_world_at(run->cluster.world, IO_MS(1 + rng_below(rng, 1500)), storm_start, server), 0);
    }
    uint64_t until_ns = sim_world_now_ns(run->cluster.world) + IO_MS(rng_below(rng, 60));
    while (sim_world_now_ns(run->cluster.world) < until_ns && sim_world_step(run->cluster.world))
        all_told(run);
}

enum storm_kind { STORM_PLAIN, STORM_FORGETFUL, STORM_WITHOUT_IDEMPOTENCE };

/* Returns the problems found, in a control run. */
static unsigned storm_run(uint64_t seed, enum storm_kind kind)
{
    bool forget = kind == STORM_FORGETFUL;
    struct run *run = run_new();
    struct storm storm = {.run = run, .left = 2500};
    rng_seed(&storm.rng, seed);
    core_producer_config_defaults(&run->config);
    run->config.max_in_flight = 1 + (unsigned)rng_below(&storm.rng, 5);
    run->config.batch_bytes = 200 + (int64_t)rng_below(&storm.rng, 6000);
    run->config.buffer_bytes = 100000;
    run->config.linger_ms = (int64_t)rng_below(&storm.rng, 20);
    run->config.compression = (int)rng_below(&storm.rng, 5);
    run->config.idempotence = kind != STORM_WITHOUT_IDEMPOTENCE;
    run->is_control = kind == STORM_WITHOUT_IDEMPOTENCE;
    bool short_timeout = rng_chance(&storm.rng, 1, 3);
    run->config.delivery_timeout_ms = short_timeout ? 1500 : 120000;
    run_start(run, seed, 1 + rng_below(&storm.rng, 5));
    struct sim_net_faults net = {.delay_min_ns = 10000,
                                 .delay_max_ns = 1000000 + rng_below(&storm.rng, 20000000),
                                 .reset_ppm = (uint32_t)rng_below(&storm.rng, 8000),
                                 .short_read = rng_chance(&storm.rng, 1, 4) ? 700 : 0};
    sim_world_set_net_faults(run->cluster.world, &net);
    run->may_repeat = forget;
    run->cluster.faults = (struct fake_faults){
        .refuse = (unsigned)rng_below(&storm.rng, 800),
        .unsure = (unsigned)rng_below(&storm.rng, 800),
        .delay = (unsigned)rng_below(&storm.rng, 500),
        .reject = rng_chance(&storm.rng, 1, 3) ? (unsigned)rng_below(&storm.rng, 300) : 0,
        .size_max = rng_chance(&storm.rng, 1, 3) ? 2200 + (size_t)rng_below(&storm.rng, 4000) : 0,
        .forget = forget ? 200 : 0,
        .move = (unsigned)rng_below(&storm.rng, 200),
        .control = (unsigned)rng_below(&storm.rng, 300),
        .fail_describe = (unsigned)rng_below(&storm.rng, 2000),
    };
    bool rejects = run->cluster.faults.reject > 0;
    while (storm.left > 0)
        storm_step(&storm);
    /* All is well again: what is left gets through. */
    run->cluster.faults = (struct fake_faults){0};
    net = (struct sim_net_faults){.delay_min_ns = 10000, .delay_max_ns = 1000000};
    sim_world_set_net_faults(run->cluster.world, &net);
    for (unsigned i = 0; i < FAKE_SERVERS; i++)
        storm_start(&run->cluster.servers[i]);
    if (!fake_cluster_run_until(&run->cluster, all_told, run, 60000))
        fail_msg("seed %llu: %llu messages are never told", (unsigned long long)seed,
                 (unsigned long long)core_producer_pending(run->producer));
    run_check(run);
    assert_true(run->most_bytes <= (size_t)run->config.buffer_bytes * 2);
    /* With time enough and nothing refused for good, everything is delivered. */
    if (!short_timeout && !rejects && kind == STORM_PLAIN)
        for (uint32_t id = 0; id < run->count; id++)
            if (!run->refused[id] && run->outcome[id] != 0)
                fail_msg("seed %llu: message %u of partition %s: %s", (unsigned long long)seed, id,
                         run->partition[id], error_name(run->outcome[id]));
    unsigned problems = run->problems;
    run_end(run);
    return problems;
}

static uint64_t first_seed = 1, seeds = 60;

static void test_storm(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        storm_run(seed, STORM_PLAIN);
    }
}

static void test_storm_forgetful(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seeds / 3; seed++) {
        print_message("seed %llu, forgetful\n", (unsigned long long)seed);
        storm_run(seed, STORM_FORGETFUL);
    }
}

/* The checker itself: without idempotence the same storms must show doubled or reordered messages. */
static void test_control(void **state)
{
    unsigned problems = 0;
    for (uint64_t seed = first_seed; seed < first_seed + 5; seed++)
        problems += storm_run(seed, STORM_WITHOUT_IDEMPOTENCE);
    assert_true(problems > 0);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seeds = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_many_headers),
        cmocka_unit_test(test_compressions),
        cmocka_unit_test(test_linger),
        cmocka_unit_test(test_topic_of_others),
        cmocka_unit_test(test_unknown_topic),
        cmocka_unit_test(test_deleted_while_in_doubt),
        cmocka_unit_test(test_unknown_topic_and_retries),
        cmocka_unit_test(test_nobody_there),
        cmocka_unit_test(test_restart),
        cmocka_unit_test(test_delivery_timeout),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_behind_a_hole),
        cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_one_too_big),
        cmocka_unit_test(test_long_answer),
        cmocka_unit_test(test_long_metadata),
        cmocka_unit_test(test_free_tells),
        cmocka_unit_test(test_free_refuses),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_storm),
        cmocka_unit_test(test_storm_forgetful),
        cmocka_unit_test(test_control),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
