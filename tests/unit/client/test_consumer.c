/* The consumer core against the fake cluster: places, order, control batches, damage, bounds, and faults by
 * seed. */
#include "fake_cluster.h"

#include <stdlib.h>

#include "client/core_state.h"
#include "unit/refused_timer.h"

struct run {
    struct fake_cluster cluster;
    struct core *core;
    struct core_consumer *consumer;
    struct core_consumer_config config;
    uint32_t next[FAKE_PARTITIONS_MAX]; /* number of the message expected next */
    uint32_t total, wanted;
    int assigned, assign_error;
    int64_t assign_position;
    int last_error;
    char last_partition[32];
    size_t most_bytes;
};

static struct run *run_new(uint64_t seed, size_t partitions)
{
    struct run *run = mem_zalloc(sizeof(*run));
    assert_non_null(run);
    fake_cluster_init(&run->cluster, seed, partitions);
    struct core_config config;
    core_config_defaults(&config);
    config.coordinators = "server0,server1:7878";
    config.request_timeout_ms = 4000;
    config.retry_backoff_ms = 20;
    config.retry_backoff_max_ms = 300;
    config.metadata_max_age_ms = 3000;
    assert_int_equal(core_new(run->cluster.loop, &config, &run->core), 0);
    core_consumer_config_defaults(&run->config);
    return run;
}

static void run_start(struct run *run)
{
    assert_int_equal(core_consumer_new(run->core, &run->config, &run->consumer), 0);
}

static void run_end(struct run *run)
{
    core_consumer_free(run->consumer);
    core_free(run->core);
    fake_cluster_end(&run->cluster);
    mem_free(run);
}

/* Fills a partition with batches of numbered messages; returns how many. */
static uint32_t fill(struct fake_partition *partition, struct rng *rng, int batches)
{
    uint32_t number = 0;
    for (int i = 0; i < batches; i++) {
        struct batch_builder builder;
        struct buf *data;
        assert_int_equal(batch_builder_init(&builder, 0), 0);
        bool control = rng_chance(rng, 1, 6);
        if (control)
            builder.attributes = BATCH_CONTROL;
        for (int left = control ? 1 : 1 + (int)rng_below(rng, 40); left > 0; left--) {
            struct batch_header_input headers[2] = {{BYTES_LITERAL("h"), bytes_of(&number, 4)},
                                                    {BYTES_LITERAL("none"), bytes_of(NULL, 0)}};
            uint8_t value[300] = {0};
            memcpy(value, &number, 4);
            struct bytes key = number % 2 ? BYTES_LITERAL("key") : bytes_of(NULL, 0);
            assert_int_equal(batch_builder_add(&builder, 5000 + number, key,
                                               bytes_of(value, 4 + rng_below(rng, 290)), headers,
                                               (int)(number % 3)),
                             0);
            if (!control)
                number++;
        }
        enum batch_compression codec = control ? BATCH_NONE : (enum batch_compression)rng_below(rng, 5);
        assert_int_equal(batch_builder_finish(&builder, codec, 0, &data), 0);
        if (rng_chance(rng, 1, 10)) /* compaction leaves gaps */
            partition->end += (int64_t)rng_below(rng, 1000);
        fake_append(partition, data->data, data->len);
        buf_unref(data);
    }
    return number;
}

static void on_assigned(void *ctx, int error, int64_t position, const char *sentence)
{
    struct run *run = ctx;
    assert_non_null(sentence);
    run->assigned++;
    run->assign_error = error;
    run->assign_position = position;
}

static bool is_assigned(void *ctx)
{
    return ((struct run *)ctx)->assigned > 0;
}

static int assign(struct run *run, const char *partition, int64_t at)
{
    run->assigned = 0;
    assert_int_equal(core_consumer_assign(run->consumer, "t", partition, at, false, on_assigned, run), 0);
    assert_true(fake_cluster_run_until(&run->cluster, is_assigned, run, 60000));
    assert_int_equal(run->assigned, 1);
    return run->assign_error;
}

/* Takes what is there. */
static void read_some(struct run *run)
{
    const clymq_message *message;
    int got;
    while ((got = core_consumer_next(run->consumer, &message)) != 0) {
        if (got < 0) {
            run->last_error = got;
            snprintf(run->last_partition, sizeof(run->last_partition), "%s", message->partition);
            return;
        }
        assert_string_equal(message->topic, "t");
        uint32_t number, partition = (uint32_t)atoi(message->partition);
        assert_true(message->value_len >= 4);
        memcpy(&number, message->value, 4);
        assert_int_equal(number, run->next[partition]);
        run->next[partition]++;
        run->total++;
        assert_int_equal(message->timestamp_ms, 5000 + number);
        assert_int_equal(message->key_len, number % 2 ? 3 : 0);
        assert_int_equal(message->header_count, number % 3);
        if (message->header_count == 2) {
            assert_string_equal(message->headers[0].key, "h");
            assert_string_equal(message->headers[1].key, "none");
            assert_null(message->headers[1].value);
        }
    }
    size_t bytes = core_consumer_buffered_bytes(run->consumer);
    if (bytes > run->most_bytes)
        run->most_bytes = bytes;
}

static bool all_read(void *ctx)
{
    struct run *run = ctx;
    read_some(run);
    return run->total >= run->wanted && core_consumer_at_end(run->consumer);
}

static void test_all(void **state)
{
    struct run *run = run_new(1, 4);
    struct rng rng;
    rng_seed(&rng, 1);
    for (size_t i = 0; i < 4; i++)
        run->wanted += fill(&run->cluster.partitions[i], &rng, 60);
    run->config.fetch_max_bytes = 20000;
    run->config.buffer_bytes = 100000;
    run_start(run);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(assign(run, run->cluster.partitions[i].name, CLYMQ_OFFSET_BEGINNING), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
    assert_int_equal(run->total, run->wanted);
    assert_true(run->most_bytes <= 100000 + 60000);
    run_end(run);
}

/* A header's key that holds a NUL ends early, and leaves the keys behind it alone. */
static void test_header_keys(void **state)
{
    struct run *run = run_new(7, 1);
    struct batch_builder builder;
    struct buf *data;
    struct batch_header_input headers[] = {{bytes_of((const uint8_t *)"a\0b", 3), BYTES_LITERAL("1")},
                                           {BYTES_LITERAL(""), BYTES_LITERAL("2")},
                                           {BYTES_LITERAL("c"), BYTES_LITERAL("3")}};
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    assert_int_equal(batch_builder_add(&builder, 5000, bytes_of(NULL, 0), BYTES_LITERAL("v"), headers, 3), 0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &data), 0);
    fake_append(&run->cluster.partitions[0], data->data, data->len);
    buf_unref(data);
    run_start(run);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    fake_cluster_run(&run->cluster, 2000);
    const clymq_message *message;
    assert_int_equal(core_consumer_next(run->consumer, &message), 1);
    assert_int_equal(message->header_count, 3);
    static const char *const keys[] = {"a", "", "c"};
    for (size_t i = 0; i < 3; i++) {
        assert_string_equal(message->headers[i].key, keys[i]);
        assert_memory_equal(message->headers[i].value, "123" + i, 1);
    }
    run_end(run);
}

static void test_places(void **state)
{
    struct run *run = run_new(2, 1);
    struct rng rng;
    rng_seed(&rng, 2);
    uint32_t count = fill(&run->cluster.partitions[0], &rng, 30);
    run_start(run);
    /* From the middle of a batch: what is before it is skipped. */
    struct fake_batch *batch = &run->cluster.partitions[0].batches[20];
    while (batch_is_control(&batch->header) || batch->header.record_count < 3)
        batch++;
    struct batch_reader reader;
    struct batch_record record;
    assert_int_equal(batch_reader_begin(&reader, bytes_of(batch->data->data, batch->data->len), 1 << 20), 0);
    assert_int_equal(batch_reader_next(&reader, &record), 0);
    uint32_t number;
    memcpy(&number, record.value.ptr, 4);
    batch_reader_end(&reader);
    assert_int_equal(assign(run, "0", batch->header.base_offset + 1), 0);
    run->next[0] = number + 1;
    run->wanted = count - number - 1;
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
    assert_int_equal(run->total, run->wanted);
    /* Again from the beginning, in the same consumer. */
    run->next[0] = run->total = 0;
    run->wanted = count;
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
    assert_int_equal(run->total, count);
    /* From the end: nothing, until more comes. */
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_END), 0);
    assert_int_equal(run->assign_position, run->cluster.partitions[0].end);
    run->total = run->wanted = run->next[0] = 0;
    fake_cluster_run(&run->cluster, 2000);
    assert_true(all_read(run));
    assert_int_equal(run->total, 0);
    run->wanted = fill(&run->cluster.partitions[0], &rng, 3);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 5000));
    assert_int_equal(run->total, run->wanted);
    run_end(run);
}

static bool has_error(void *ctx)
{
    struct run *run = ctx;
    read_some(run);
    return run->last_error != 0;
}

static bool three_read(void *ctx)
{
    struct run *run = ctx;
    read_some(run);
    return run->next[0] && run->next[1] && run->next[2] && run->total >= run->wanted;
}

/* Partitions that come into being are read from their beginning; those assigned before stay where they are.
 */
static void test_follow(void **state)
{
    struct run *run = run_new(5, 3);
    struct rng rng;
    rng_seed(&rng, 5);
    uint32_t counts[3];
    for (int i = 0; i < 3; i++)
        counts[i] = fill(&run->cluster.partitions[i], &rng, 5);
    run->cluster.partition_count = 1;
    run_start(run);
    run->next[0] = counts[0];
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_END), 0);
    assert_int_equal(core_consumer_follow(run->consumer, "t"), 0);
    assert_int_equal(core_consumer_follow(run->consumer, "t"), 0);
    fake_cluster_run(&run->cluster, 5000);
    read_some(run);
    assert_int_equal(run->total, 0);
    /* Metadata that fails, and a coordinator that is away, are no reason to give it up. */
    run->cluster.faults.fail_describe = 7000;
    run->cluster.partition_count = 3;
    run->wanted = counts[1] + counts[2];
    fake_server_crash(&run->cluster.servers[0]);
    fake_cluster_run(&run->cluster, 3000);
    fake_server_start(&run->cluster.servers[0]);
    assert_true(fake_cluster_run_until(&run->cluster, three_read, run, 120000));
    assert_int_equal(run->next[1], counts[1]);
    assert_int_equal(run->next[2], counts[2]);
    assert_int_equal(run->total, run->wanted);
    assert_int_equal(run->last_error, 0);
    run_end(run);
}

/* Without memory for the timer of the topic's metadata, new partitions are found all the same. */
static void test_follow_without_a_timer(void **state)
{
    struct run *run = run_new(6, 3);
    struct rng rng;
    rng_seed(&rng, 6);
    for (int i = 0; i < 3; i++)
        run->wanted += fill(&run->cluster.partitions[i], &rng, 5);
    run->cluster.partition_count = 1;
    run_start(run);
    struct core_topic *topic = core_topic_get(run->core, "t");
    refused_timer_begin(run->cluster.loop, &topic->timer);
    assert_int_equal(core_consumer_follow(run->consumer, "t"), 0);
    fake_cluster_run(&run->cluster, 5000);
    assert_true(refused_timer.count > 0);
    run->cluster.partition_count = 3;
    assert_true(fake_cluster_run_until(&run->cluster, three_read, run, 120000));
    refused_timer_end(run->cluster.loop);
    run_end(run);
}

static void test_errors(void **state)
{
    struct run *run = run_new(3, 2);
    struct rng rng;
    rng_seed(&rng, 3);
    run->wanted = fill(&run->cluster.partitions[0], &rng, 10);
    run_start(run);
    assert_int_equal(assign(run, "nowhere", 0), CLYMQ_EPARTITION_UNKNOWN);
    assert_int_equal(core_consumer_assign(run->consumer, "t", "0", -7, false, on_assigned, run),
                     CLYMQ_EINVAL);
    assert_int_equal(assign(run, "0", 1000000), 0);
    assert_true(fake_cluster_run_until(&run->cluster, has_error, run, 5000));
    assert_int_equal(run->last_error, CLYMQ_EOFFSET_RANGE);
    /* An assignment that is right goes on from there. */
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    run->last_error = 0;
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 5000));
    assert_int_equal(run->total, run->wanted);
    /* The topic goes away. */
    run->cluster.topic_exists = false;
    run->last_error = 0;
    assert_true(fake_cluster_run_until(&run->cluster, has_error, run, 60000));
    assert_int_equal(run->last_error, CLYMQ_ETOPIC_UNKNOWN);
    run_end(run);
}

static void read_one(struct run *run)
{
    const clymq_message *message;
    fake_cluster_run(&run->cluster, 1000);
    assert_int_equal(core_consumer_next(run->consumer, &message), 1);
    uint32_t number;
    memcpy(&number, message->value, 4);
    assert_int_equal(number, run->next[0]);
    run->next[0]++;
}

/* Who assigns it again while the reader is in the middle of what was fetched gets nothing more of that. */
static void test_another_place_in_between(void **state)
{
    struct run *run = run_new(18, 1);
    struct rng rng;
    rng_seed(&rng, 18);
    run->wanted = fill(&run->cluster.partitions[0], &rng, 10);
    run_start(run);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    read_one(run);
    read_one(run);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    run->next[0] = 0;
    read_one(run);
    run->next[0] = 0;
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_END), 0);
    fake_cluster_run(&run->cluster, 1000);
    read_some(run);
    assert_int_equal(run->total, 0);
    assert_true(core_consumer_at_end(run->consumer));
    run->wanted = fill(&run->cluster.partitions[0], &rng, 3);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 5000));
    assert_int_equal(run->total, run->wanted);
    assert_int_equal(core_consumer_buffered_bytes(run->consumer), run->config.fetch_max_bytes); /* reserved */
    run_end(run);
}

static void set_delay(struct run *run, int64_t ms)
{
    struct sim_net_faults net = {.delay_min_ns = IO_MS(ms), .delay_max_ns = IO_MS(ms)};
    sim_world_set_net_faults(run->cluster.world, &net);
}

/* What is answered to a fetch of the place before is nobody's business any more. */
static void test_error_of_an_old_place(void **state)
{
    struct run *run = run_new(16, 1);
    struct rng rng;
    rng_seed(&rng, 16);
    run->wanted = fill(&run->cluster.partitions[0], &rng, 10);
    run_start(run);
    set_delay(run, 100);
    assert_int_equal(assign(run, "0", 1000000), 0); /* and its fetch has just been sent */
    set_delay(run, 1);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    assert_int_equal(run->cluster.pulls, 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 5000));
    assert_int_equal(run->last_error, 0);
    assert_int_equal(run->total, run->wanted);
    run_end(run);
}

/* Retention removes what is being asked for: who wanted the beginning gets the new one, who wanted an offset
 * is told. */
static void test_retention_meanwhile(void **state)
{
    struct run *run = run_new(8, 1);
    struct fake_partition *partition = &run->cluster.partitions[0];
    struct rng rng;
    rng_seed(&rng, 8);
    run->wanted = fill(partition, &rng, 20);
    for (size_t i = 0; i < 10; i++)
        if (!batch_is_control(&partition->batches[i].header))
            run->next[0] += (uint32_t)partition->batches[i].header.record_count;
    run->wanted -= run->next[0];
    partition->start = partition->batches[10].header.base_offset;
    run_start(run);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 5000));
    assert_int_equal(run->last_error, 0);
    assert_int_equal(assign(run, "0", 0), 0);
    assert_true(fake_cluster_run_until(&run->cluster, has_error, run, 5000));
    assert_int_equal(run->last_error, CLYMQ_EOFFSET_RANGE);
    run_end(run);
}

/* A flipped bit is noticed, told with the place, and read again: what is before and behind is not lost. */
static void test_damage(void **state)
{
    struct run *run = run_new(4, 1);
    struct rng rng;
    rng_seed(&rng, 4);
    run->wanted = fill(&run->cluster.partitions[0], &rng, 20);
    struct fake_batch *batch = &run->cluster.partitions[0].batches[10];
    batch->data->data[batch->data->len - 1] ^= 0x10;
    run_start(run);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    for (int i = 0; i < 3; i++) {
        run->last_error = 0;
        assert_true(fake_cluster_run_until(&run->cluster, has_error, run, 60000));
        assert_int_equal(run->last_error, CLYMQ_ECORRUPT);
    }
    assert_true(run->total < run->wanted);
    batch->data->data[batch->data->len - 1] ^= 0x10; /* another replica has it whole */
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
    assert_int_equal(run->total, run->wanted);
    run_end(run);
}

/* The reader's thread, whose turn comes just before the loop's takes the lock for the nth time. */
struct turn {
    struct run *run;
    unsigned nth;
    bool inside;
};

static void take_turn(void *ctx)
{
    struct turn *turn = ctx;
    if (turn->inside || turn->nth == 0 || --turn->nth > 0)
        return;
    turn->inside = true;
    read_some(turn->run);
    turn->inside = false;
}

static void give_turn(void *ctx)
{
}

/* Whenever the reader finds damage and goes back, what is fetched meanwhile is not taken for what it waits
 * for. */
static void test_damage_at_any_moment(void **state)
{
    unsigned found = 0;
    bool came = true;
    for (unsigned nth = 1; came; nth++) {
        struct run *run = run_new(17, 1);
        struct turn turn = {.run = run};
        struct rng rng;
        rng_seed(&rng, 17);
        run->wanted = fill(&run->cluster.partitions[0], &rng, 20);
        run->config.lock = take_turn;
        run->config.unlock = give_turn;
        run->config.ctx = &turn;
        run->config.fetch_max_bytes = 10000;
        struct fake_batch *batch = &run->cluster.partitions[0].batches[1];
        batch->data->data[batch->data->len - 1] ^= 0x10;
        run_start(run);
        turn.nth = nth;
        assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
        fake_cluster_run(&run->cluster, 1000);
        came = turn.nth == 0;
        turn.nth = 0; /* what follows is the reader's own */
        found += run->last_error == CLYMQ_ECORRUPT;
        batch->data->data[batch->data->len - 1] ^= 0x10;
        assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
        assert_int_equal(run->total, run->wanted);
        run_end(run);
    }
    assert_true(found >= 5);
}

/* More partitions than links and than the buffer holds at once. */
static void test_many(void **state)
{
    struct run *run = run_new(5, FAKE_PARTITIONS_MAX);
    struct rng rng;
    rng_seed(&rng, 5);
    for (size_t i = 0; i < FAKE_PARTITIONS_MAX; i++)
        run->wanted += fill(&run->cluster.partitions[i], &rng, (int)rng_below(&rng, 30));
    run->config.fetch_max_bytes = 16384;
    run->config.buffer_bytes = 65536;
    run_start(run);
    for (size_t i = 0; i < FAKE_PARTITIONS_MAX; i++)
        assert_int_equal(assign(run, run->cluster.partitions[i].name, CLYMQ_OFFSET_BEGINNING), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
    assert_int_equal(run->total, run->wanted);
    run_end(run);
}

/* Partitions share the buffer: each asks for its part of half of it. */
static void test_fetches_share_the_buffer(void **state)
{
    enum { PARTITIONS = 8 };
    struct run *run = run_new(15, PARTITIONS);
    run->config.buffer_bytes = 1 << 20;
    run_start(run);
    for (size_t i = 0; i < PARTITIONS; i++)
        assert_int_equal(assign(run, run->cluster.partitions[i].name, CLYMQ_OFFSET_BEGINNING), 0);
    fake_cluster_run(&run->cluster, 10000); /* what was asked for before all were assigned is answered */
    run->cluster.pull_max_bytes = 0;
    fake_cluster_run(&run->cluster, 10000);
    assert_int_equal(run->cluster.pull_max_bytes, run->config.buffer_bytes / 2 / PARTITIONS);
    run_end(run);
}

/* A batch longer than this client takes is told of its own partition, with what to do; those that share the
 * connection are read. */
static void test_long_answer(void **state)
{
    static const uint8_t value[2 << 20];
    struct run *run = run_new(9, 20);
    struct rng rng;
    struct batch_builder builder;
    struct buf *data;
    rng_seed(&rng, 9);
    for (size_t i = 1; i < 20; i++)
        run->wanted += fill(&run->cluster.partitions[i], &rng, 100);
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    assert_int_equal(
        batch_builder_add(&builder, 5000, bytes_of(NULL, 0), bytes_of(value, sizeof(value)), NULL, 0), 0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &data), 0);
    fake_append(&run->cluster.partitions[0], data->data, data->len);
    buf_unref(data);
    run->core->config.max_message_bytes = 100000;
    run->config.fetch_max_bytes = 5000;
    run_start(run);
    for (size_t i = 0; i < 20; i++)
        assert_int_equal(assign(run, run->cluster.partitions[i].name, CLYMQ_OFFSET_BEGINNING), 0);
    int told = 0;
    for (int ms = 0; ms < 20000 && (run->total < run->wanted || told < 3); ms++) {
        fake_cluster_run(&run->cluster, 1);
        run->last_error = 0;
        read_some(run);
        if (!run->last_error)
            continue;
        told++;
        assert_int_equal(run->last_error, CLYMQ_ETOOBIG);
        assert_string_equal(run->last_partition, "0");
        assert_non_null(strstr(core_consumer_sentence(run->consumer), "max_message_bytes"));
    }
    assert_int_equal(run->total, run->wanted);
    assert_true(told >= 3);
    run_end(run);
}

/* Who fetches more at once than an answer may hold gets as much as it may hold. */
static void test_long_fetches(void **state)
{
    struct run *run = run_new(10, 1);
    struct rng rng;
    rng_seed(&rng, 10);
    run->wanted = fill(&run->cluster.partitions[0], &rng, 3000);
    run->core->config.max_message_bytes = 100000;
    run->config.fetch_max_bytes = 4 << 20;
    run_start(run);
    assert_int_equal(assign(run, "0", CLYMQ_OFFSET_BEGINNING), 0);
    assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
    assert_int_equal(run->total, run->wanted);
    assert_int_equal(run->last_error, 0);
    assert_true(run->cluster.pulls > 10);
    run_end(run);
}

static void test_no_memory(void **state)
{
    for (uint64_t nth = 1; nth < 80; nth++) {
        struct run *run = run_new(6, 2);
        struct rng rng;
        rng_seed(&rng, 6);
        for (size_t i = 0; i < 2; i++)
            run->wanted += fill(&run->cluster.partitions[i], &rng, 10);
        run_start(run);
        for (size_t i = 0; i < 2; i++)
            assert_int_equal(assign(run, run->cluster.partitions[i].name, CLYMQ_OFFSET_BEGINNING), 0);
        mem_fail_nth(nth);
        assert_true(fake_cluster_run_until(&run->cluster, all_read, run, 60000));
        mem_fail_nth(0);
        assert_int_equal(run->total, run->wanted);
        run_end(run);
    }
}

static void storm_start(void *ctx)
{
    struct fake_server *server = ctx;
    if (!server->loop)
        fake_server_start(server);
}

static void storm_run(uint64_t seed)
{
    struct rng rng;
    rng_seed(&rng, seed);
    struct run *run = run_new(seed, 1 + rng_below(&rng, 20));
    for (size_t i = 0; i < run->cluster.partition_count; i++)
        run->wanted += fill(&run->cluster.partitions[i], &rng, (int)rng_below(&rng, 60));
    run->config.fetch_max_bytes = 1000 + (int64_t)rng_below(&rng, 50000);
    run->config.buffer_bytes = 20000 + (int64_t)rng_below(&rng, 200000);
    struct sim_net_faults net = {.delay_min_ns = 10000,
                                 .delay_max_ns = 1000000 + rng_below(&rng, 20000000),
                                 .reset_ppm = (uint32_t)rng_below(&rng, 8000),
                                 .short_read = rng_chance(&rng, 1, 4) ? 700 : 0};
    sim_world_set_net_faults(run->cluster.world, &net);
    run->cluster.faults = (struct fake_faults){.refuse = 500, .fail_describe = 1000};
    run_start(run);
    for (size_t i = 0; i < run->cluster.partition_count; i++)
        while (assign(run, run->cluster.partitions[i].name, CLYMQ_OFFSET_BEGINNING) != 0)
            assert_true(error_retriable(run->assign_error));
    for (int i = 0; i < 100 && run->total < run->wanted; i++) {
        fake_cluster_run(&run->cluster, (int64_t)rng_below(&rng, 100));
        if (rng_chance(&rng, 2, 3))
            read_some(run);
        size_t moved = rng_below(&rng, run->cluster.partition_count);
        run->cluster.partitions[moved].leader = (unsigned)rng_below(&rng, FAKE_SERVERS);
        if (rng_chance(&rng, 1, 30)) {
            struct fake_server *server = &run->cluster.servers[rng_below(&rng, FAKE_SERVERS)];
            fake_server_crash(server);
            assert_int_equal(
                sim_world_at(run->cluster.world, IO_MS(rng_below(&rng, 1000)), storm_start, server), 0);
        }
    }
    /* All is well again. */
    net = (struct sim_net_faults){.delay_min_ns = 10000, .delay_max_ns = 1000000};
    sim_world_set_net_faults(run->cluster.world, &net);
    fake_cluster_run(&run->cluster, 1500);
    if (!fake_cluster_run_until(&run->cluster, all_read, run, 120000))
        fail_msg("seed %llu: %u of %u messages came", (unsigned long long)seed, run->total, run->wanted);
    assert_int_equal(run->total, run->wanted);
    run_end(run);
}

static uint64_t first_seed = 1, seeds = 60;

static void test_storm(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        storm_run(seed);
    }
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seeds = strtoull(argv[2], NULL, 10);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all),
        cmocka_unit_test(test_header_keys),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_another_place_in_between),
        cmocka_unit_test(test_error_of_an_old_place),
        cmocka_unit_test(test_follow),
        cmocka_unit_test(test_follow_without_a_timer),
        cmocka_unit_test(test_errors),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_damage_at_any_moment),
        cmocka_unit_test(test_retention_meanwhile),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_fetches_share_the_buffer),
        cmocka_unit_test(test_long_answer),
        cmocka_unit_test(test_long_fetches),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_storm),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
