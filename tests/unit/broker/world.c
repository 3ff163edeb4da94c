#include "world.h"

#include <stdlib.h>

#include "base/log.h"

/* ---- the server's machine ---- */

static int open_meta(void *ctx, struct shard *shard, struct strbuf *error, struct meta **ret_meta)
{
    struct world *world = ctx;

    return sim_meta_open(world->meta_store, shard, 1000, 2000000, ret_meta);
}

static void close_meta(void *ctx, struct meta *meta)
{
    struct world *world = ctx;

    if (world->crashed)
        sim_meta_expire(world->meta_store, meta);
    else
        meta_close(meta);
}

static void on_log(void *ctx, enum log_level level, const char *line)
{
    struct world *world = ctx;

    strbuf_append_text(&world->log, line);
    strbuf_append_text(&world->log, "\n");
}

struct world *world_new(unsigned shards, uint64_t seed)
{
    struct world *world = mem_zalloc(sizeof(*world));
    struct sim_net_faults faults = {.delay_min_ns = 1000, .delay_max_ns = 500000};

    assert_non_null(world);
    world->shard_count = shards;
    world->sim = sim_world_new(seed);
    sim_world_set_net_faults(world->sim, &faults);
    world->server = sim_process_new(world->sim, "server");
    world->client = sim_process_new(world->sim, "client");
    world->meta_store = sim_meta_store_new(seed);
    assert_int_equal(sim_process_loop(world->client, &world->client_loop), 0);
    broker_node_config_defaults(&world->config);
    world->config.broker_id = "b1";
    world->config.broker_listen = "server:8888";
    world->config.coordinator_listen = "server:7878";
    world->config.open_meta = open_meta;
    world->config.close_meta = close_meta;
    world->config.ctx = world;
    world->config.store.segment_bytes = 1 << 20;
    log_set_sink(on_log, world);
    return world;
}

static void on_done(void *ctx, int error, const char *sentence)
{
    struct world *world = ctx;

    world->done = true;
    world->done_error = error;
    snprintf(world->done_sentence, sizeof(world->done_sentence), "%s", sentence);
}

bool world_run_until(struct world *world, const bool *flag, int64_t limit_ms)
{
    uint64_t until = sim_world_now_ns(world->sim) + IO_MS(limit_ms);

    while (!*flag && sim_world_now_ns(world->sim) < until)
        if (!sim_world_step(world->sim))
            return *flag;
    return *flag;
}

void world_run_for(struct world *world, int64_t ms)
{
    sim_world_run_for(world->sim, IO_MS(ms));
}

void world_begin_start(struct world *world)
{
    struct strbuf error = {0};
    uint8_t random[16] = {1, 2, 3};

    world->crashed = false;
    for (unsigned i = 0; i < world->shard_count; i++)
        assert_int_equal(sim_process_loop(world->server, &world->loops[i]), 0);
    world->metrics = metrics_new();
    assert_int_equal(shards_new_on_loops(world->loops, world->shard_count, world->metrics, &world->shards),
                     0);
    assert_int_equal(store_folder_open(sim_process_fs(world->server), random, &error, &world->folder), 0);
    strbuf_free(&error);
    assert_int_equal(
        broker_node_new(&world->config, world->shards, world->folder, world->metrics, &world->node), 0);
    world->done = false;
    broker_node_start(world->node, on_done, world);
}

int world_try_start(struct world *world)
{
    world_begin_start(world);
    assert_true(world_run_until(world, &world->done, WORLD_LIMIT_MS));
    return world->done_error;
}

void world_start(struct world *world)
{
    if (world_try_start(world))
        fail_msg("start: %s", world->done_sentence);
}

static void free_links(struct world *world)
{
    net_link_free(world->coordinator);
    net_link_free(world->broker);
    world->coordinator = world->broker = NULL;
}

static void free_life(struct world *world)
{
    broker_node_free(world->node);
    shards_free(world->shards);
    if (!world->crashed)
        for (unsigned i = 0; i < world->shard_count; i++)
            io_loop_free(world->loops[i]);
    store_folder_close(world->folder);
    metrics_free(world->metrics);
    world->node = NULL;
    world->folder = NULL;
}

void world_stop(struct world *world)
{
    world->done = false;
    broker_node_stop(world->node, 5000, on_done, world);
    assert_true(world_run_until(world, &world->done, WORLD_LIMIT_MS));
    if (world->done_error)
        fail_msg("stop: %s", world->done_sentence);
    free_life(world);
    free_links(world);
}

void world_crash(struct world *world, bool power_loss)
{
    sim_process_crash(world->server, power_loss);
    world->crashed = true;
    free_life(world);
    free_links(world);
    sim_process_restart(world->server);
}

struct net_link *world_link(struct world *world, const char *address)
{
    struct net_link_config config = {.address = address, .connect_ms = 10000, .max_message_bytes = 64 << 20};
    struct net_link *link;

    assert_int_equal(net_link_new(world->client_loop, &config, &link), 0);
    return link;
}

void world_connect(struct world *world)
{
    free_links(world);
    world->coordinator = world_link(world, broker_node_coordinator_address(world->node));
    world->broker = world_link(world, broker_node_broker_address(world->node));
}

void world_free(struct world *world)
{
    if (world->node)
        world_crash(world, false);
    free_links(world);
    log_set_sink(NULL, NULL);
    sim_world_free(world->sim);
    sim_meta_store_free(world->meta_store);
    strbuf_free(&world->log);
    mem_free(world);
}

static int setup(void **state, unsigned shards)
{
    struct world *world = world_new(shards, 11 + shards);

    *state = world;
    world_start(world);
    world_connect(world);
    return 0;
}

int world_setup_1(void **state)
{
    return setup(state, 1);
}

int world_setup_2(void **state)
{
    return setup(state, 2);
}

int world_setup_4(void **state)
{
    return setup(state, 4);
}

int world_teardown(void **state)
{
    struct world *world = *state;

    if (world->node)
        world_stop(world);
    world_free(world);
    return 0;
}

int64_t world_metric_sum(struct world *world, const char *name)
{
    struct strbuf text = {0};
    size_t len = strlen(name);
    int64_t sum = 0;

    metrics_print(world->metrics, &text);
    for (char *line = text.data, *next; line && *line; line = next) {
        next = strchr(line, '\n');
        if (next)
            *next++ = 0;
        if (!strncmp(line, name, len) && (line[len] == ' ' || line[len] == '{'))
            sum += strtoll(strrchr(line, ' '), NULL, 10);
    }
    strbuf_free(&text);
    return sum;
}

/* ---- calls ---- */

void answer_take(void *ctx, const struct net_answer *got)
{
    struct answer *answer = ctx;

    answer->done = true;
    answer->error = got->error;
    answer->exception = got->exception_type;
    snprintf(answer->text, sizeof(answer->text), "%.*s", (int)got->text.len, got->text.ptr);
    if (!got->error) {
        memcpy(&answer->r, got->response, rpc_methods[answer->method].response->size);
        answer->message = buf_ref(got->message);
    }
}

void call_begin(struct net_link *link, enum rpc_method_id method, const void *request, struct answer *answer)
{
    *answer = (struct answer){.method = method};
    assert_int_equal(net_link_call(link, method, request, NULL, 0, answer_take, answer), 0);
}

void call(struct world *world, struct net_link *link, enum rpc_method_id method, const void *request,
          struct answer *answer)
{
    call_begin(link, method, request, answer);
    assert_true(world_run_until(world, &answer->done, WORLD_LIMIT_MS));
}

void answer_free(struct answer *answer)
{
    buf_unref(answer->message);
    *answer = (struct answer){0};
}

struct bytes text(const char *text)
{
    return bytes_of_text(text);
}

bool bytes_are(struct bytes bytes, const char *text)
{
    return bytes_equal(bytes, bytes_of_text(text));
}

bool contains(struct bytes bytes, const char *part)
{
    return memmem(bytes.ptr, bytes.len, part, strlen(part)) != NULL;
}

static void expect_ret(const struct answer *answer, bool ret, struct bytes err)
{
    if (answer->error || !ret)
        fail_msg("error %d exception %d \"%s\" err \"%.*s\"", answer->error, answer->exception, answer->text,
                 (int)err.len, err.ptr);
}

void make_topic(struct world *world, const char *topic, int partitions)
{
    struct rpc_create_topic_request request = {.topic = text(topic), .partitions = partitions};
    struct answer answer;

    rpc_set_present(rpc_methods[RPC_METHOD_CREATE_TOPIC].request, &request,
                    offsetof(struct rpc_create_topic_request, partitions));
    call(world, world->coordinator, RPC_METHOD_CREATE_TOPIC, &request, &answer);
    expect_ret(&answer, answer.r.create_topic.ret, answer.r.create_topic.err);
    answer_free(&answer);
    for (int i = 0; i < partitions; i++) {
        char name[12];

        snprintf(name, sizeof(name), "%d", i);
        struct rpc_pro_get_brok_request get = {.topic = text(topic), .partition = text(name)};
        call(world, world->coordinator, RPC_METHOD_PRO_GET_BROK, &get, &answer);
        expect_ret(&answer, answer.r.pro_get_brok.ret, answer.r.pro_get_brok.err);
        answer_free(&answer);
    }
}

void make_partition(struct world *world, const char *topic, const char *partition)
{
    struct rpc_create_part_request request = {.topic = text(topic), .partition = text(partition)};
    struct answer answer;

    call(world, world->coordinator, RPC_METHOD_CREATE_PART, &request, &answer);
    expect_ret(&answer, answer.r.create_part.ret, answer.r.create_part.err);
    answer_free(&answer);
    struct rpc_pro_get_brok_request get = {.topic = text(topic), .partition = text(partition)};
    call(world, world->coordinator, RPC_METHOD_PRO_GET_BROK, &get, &answer);
    expect_ret(&answer, answer.r.pro_get_brok.ret, answer.r.pro_get_brok.err);
    answer_free(&answer);
}

void set_partition(struct world *world, const char *topic, const char *partition, int ack)
{
    struct rpc_set_partition_state_request request = {
        .topic = text(topic), .partition = text(partition), .option = (int8_t)ack, .dupnum = 1};
    struct answer answer;

    call(world, world->coordinator, RPC_METHOD_SET_PARTITION_STATE, &request, &answer);
    expect_ret(&answer, answer.r.set_partition_state.ret, answer.r.set_partition_state.err);
    answer_free(&answer);
}

void push_text(struct world *world, const char *topic, const char *partition, const char *message, int ack)
{
    struct rpc_push_request request = {.producer = text("p"),
                                       .topic = text(topic),
                                       .partition = text(partition),
                                       .message = text(message),
                                       .ack = (int8_t)ack};
    struct answer answer;

    call(world, world->broker, RPC_METHOD_PUSH, &request, &answer);
    expect_ret(&answer, answer.r.push.ret, answer.r.push.err);
    answer_free(&answer);
}

void pull_from(struct world *world, const char *topic, const char *partition, int64_t offset, int size,
               struct answer *answer)
{
    struct rpc_pull_request request = {.consumer = text("c"),
                                       .topic = text(topic),
                                       .partition = text(partition),
                                       .offset = offset,
                                       .size = (int8_t)size,
                                       .option = 4};

    call(world, world->broker, RPC_METHOD_PULL, &request, answer);
}

void expect_exception(const struct answer *answer, const char *part)
{
    assert_int_equal(answer->error, CLYMQ_EUNSUPPORTED);
    assert_int_equal(answer->exception, THRIFT_INTERNAL_ERROR);
    if (!strstr(answer->text, part))
        fail_msg("\"%s\" does not contain \"%s\"", answer->text, part);
}

struct buf *make_batch(const char *prefix, int count, enum batch_compression compression, int64_t producer_id,
                       int32_t sequence)
{
    struct batch_builder builder;
    struct buf *batch;

    assert_int_equal(batch_builder_init(&builder, 1024), 0);
    builder.producer_id = producer_id;
    builder.producer_epoch = producer_id < 0 ? -1 : 0;
    builder.base_sequence = sequence;
    for (int i = 0; i < count; i++) {
        char value[64];

        snprintf(value, sizeof(value), "%s%d", prefix, i);
        assert_int_equal(
            batch_builder_add(&builder, 1700000000000 + i, bytes_of(NULL, 0), text(value), NULL, 0), 0);
    }
    assert_int_equal(batch_builder_finish(&builder, compression, 0, &batch), 0);
    batch_builder_free(&builder);
    return batch;
}

int64_t push_batch(struct world *world, const char *topic, const char *partition, const struct buf *batch)
{
    struct rpc_push_batch_request request = {.topic = text(topic),
                                             .partition = text(partition),
                                             .ack = -1,
                                             .batch = bytes_of(batch->data, batch->len)};
    struct answer answer;
    int64_t offset;

    call(world, world->broker, RPC_METHOD_PUSH_BATCH, &request, &answer);
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.r.push_batch.error, 0);
    offset = answer.r.push_batch.base_offset;
    answer_free(&answer);
    return offset;
}
