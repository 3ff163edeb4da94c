/* See harness.h. */
#include "unit/coord/harness.h"

void harness_init(struct harness *h, uint64_t seed)
{
    *h = (struct harness){.max_delay_ns = IO_MS(4)};
    h->world = sim_world_new(seed);
    struct sim_process *process = sim_process_new(h->world, "coordinator");
    assert_int_equal(sim_process_loop(process, &h->loop), 0);
    assert_int_equal(shards_new_on_loops(&h->loop, 1, NULL, &h->shards), 0);
    h->store = sim_meta_store_new(seed + 1);
    fake_broker_init(&h->broker, h->loop, seed + 2);
}

void harness_free(struct harness *h)
{
    if (h->coord)
        harness_stop(h);
    fake_broker_free(&h->broker);
    sim_meta_store_free(h->store);
    shards_free(h->shards);
    io_loop_free(h->loop);
    sim_world_free(h->world);
}

static void harness_lost(void *ctx, int error, const char *sentence)
{
    struct harness *h = ctx;
    h->lost = error;
    assert_true(sentence[0] != '\0');
}

void harness_open(struct harness *h)
{
    h->lost = 0;
    assert_int_equal(sim_meta_open(h->store, shards_get(h->shards, 0), 0, h->max_delay_ns, &h->meta), 0);
    struct coord_config config = {.shard = shards_get(h->shards, 0),
                                  .meta = h->meta,
                                  .root = "/test/ClyMQ",
                                  .name = "one",
                                  .address = "127.0.0.1:7878",
                                  .max_topics = h->max_topics,
                                  .max_topic_partitions = h->max_topic_partitions,
                                  .retry_ms = 50,
                                  .on_lost = harness_lost,
                                  .ctx = h};
    assert_int_equal(coord_open(&config, &h->coord), 0);
}

void harness_start(struct harness *h)
{
    harness_open(h);
    struct reply activated = {0}, registered = {0};
    struct coord_broker broker = harness_broker(h);
    coord_activate(h->coord, reply_done, &activated);
    coord_register_broker(h->coord, &broker, reply_done, &registered);
    harness_wait(h, &activated);
    if (activated.error)
        fail_msg("activation: %s", activated.sentence);
    harness_wait(h, &registered);
    if (registered.error)
        fail_msg("registration: %s", registered.sentence);
}

void harness_crash(struct harness *h)
{
    sim_meta_expire(h->store, h->meta);
    fake_broker_forget_calls(&h->broker);
    coord_close(h->coord);
    h->meta = NULL;
    h->coord = NULL;
}

void harness_stop(struct harness *h)
{
    meta_close(h->meta);
    fake_broker_forget_calls(&h->broker);
    coord_close(h->coord);
    h->meta = NULL;
    h->coord = NULL;
}

void harness_wait(struct harness *h, const struct reply *reply)
{
    uint64_t steps = 0;
    io_loop_wake(h->loop); /* what was asked from outside an event begins at the end of one */
    while (!reply->done) {
        assert_true(sim_world_step(h->world));
        assert_true(++steps < 50000000);
    }
}

void harness_run_for(struct harness *h, uint64_t ns)
{
    io_loop_wake(h->loop);
    sim_world_run_for(h->world, ns);
}

void reply_done(void *ctx, int error, const char *sentence)
{
    struct reply *reply = ctx;
    assert_false(reply->done);
    reply->done = true;
    reply->error = error;
    assert_int_equal(sentence[0] == '\0', error == 0);
    snprintf(reply->sentence, sizeof(reply->sentence), "%s", sentence);
}

void reply_found(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                 size_t count)
{
    struct reply *reply = ctx;
    reply_done(ctx, error, sentence);
    reply->count = count;
    for (size_t i = 0; i < count && i < REPLY_LOCATIONS; i++) {
        snprintf(reply->locations[i].name, sizeof(reply->locations[i].name), "%s", locations[i].partition);
        snprintf(reply->locations[i].address, sizeof(reply->locations[i].address), "%s",
                 locations[i].leader.address);
        snprintf(reply->locations[i].broker_name, sizeof(reply->locations[i].broker_name), "%s",
                 locations[i].leader.broker_name);
        reply->locations[i].number = locations[i].number;
        reply->locations[i].block_seq = locations[i].block_seq;
        reply->locations[i].error = locations[i].error;
        reply->locations[i].ack = locations[i].ack;
        reply->locations[i].topic_id = locations[i].topic_id;
    }
}

void reply_text(void *ctx, int error, const char *sentence, struct bytes json)
{
    struct reply *reply = ctx;
    reply_done(ctx, error, sentence);
    mem_free(reply->json);
    reply->json = error ? NULL : mem_strndup(json.ptr, json.len);
}

void reply_free(struct reply *reply)
{
    mem_free(reply->json);
    *reply = (struct reply){0};
}

struct coord_broker harness_broker(struct harness *h)
{
    return (struct coord_broker){.id = "1",
                                 .address = "127.0.0.1:8888",
                                 .rack = "",
                                 .disk_id = {{7}},
                                 .ops = &fake_broker_ops,
                                 .broker = &h->broker};
}

/* Each: clear the reply, ask, wait. */
#define DO(call)                                                                                             \
    do {                                                                                                     \
        struct reply local = {0};                                                                            \
        reply = reply ? reply : &local;                                                                      \
        reply_free(reply);                                                                                   \
        call;                                                                                                \
        harness_wait(h, reply);                                                                              \
        int error = reply->error;                                                                            \
        reply_free(&local);                                                                                  \
        return error;                                                                                        \
    } while (0)

int do_activate(struct harness *h, struct reply *reply)
{
    DO(coord_activate(h->coord, reply_done, reply));
}
int do_register(struct harness *h, struct reply *reply)
{
    struct coord_broker broker = harness_broker(h);
    DO(coord_register_broker(h->coord, &broker, reply_done, reply));
}
int do_create_topic(struct harness *h, const char *name, uint32_t partitions, int ack, const char *config,
                    struct reply *reply)
{
    struct coord_topic_request request = {.name = name,
                                          .partitions = partitions,
                                          .ack = ack,
                                          .config = config ? bytes_of_text(config) : (struct bytes){0}};
    DO(coord_create_topic(h->coord, &request, reply_done, reply));
}
int do_create_partition(struct harness *h, const char *topic, const char *name, struct reply *reply)
{
    DO(coord_create_partition(h->coord, topic, name, reply_done, reply));
}
int do_set_state(struct harness *h, const char *topic, const char *name, int ack, uint32_t replicas,
                 struct reply *reply)
{
    DO(coord_set_partition_state(h->coord, topic, name, ack, replicas, reply_done, reply));
}
int do_set_config(struct harness *h, const char *topic, const char *config, struct reply *reply)
{
    DO(coord_set_topic_config(h->coord, topic, bytes_of_text(config), reply_done, reply));
}
int do_delete_topic(struct harness *h, const char *topic, struct reply *reply)
{
    DO(coord_delete_topic(h->coord, topic, reply_done, reply));
}
int do_delete_partition(struct harness *h, const char *topic, const char *name, struct reply *reply)
{
    DO(coord_delete_partition(h->coord, topic, name, reply_done, reply));
}
int do_drop_blocks(struct harness *h, struct uuid topic_id, uint32_t number, uint32_t seq,
                   struct reply *reply)
{
    DO(coord_drop_blocks(h->coord, topic_id, number, seq, reply_done, reply));
}
int do_find(struct harness *h, const char *topic, const char *name, uint32_t timeout_ms, struct reply *reply)
{
    DO(coord_find_leaders(h->coord, topic, name, timeout_ms, reply_found, reply));
}
int do_describe(struct harness *h, const char *topic, struct reply *reply)
{
    DO(coord_describe_topic(h->coord, topic, reply_text, reply));
}
int do_list(struct harness *h, const char *prefix, struct reply *reply)
{
    DO(coord_list_topics(h->coord, prefix, reply_text, reply));
}

/* ---- the tree, seen from outside ---- */

struct seen {
    bool done;
    int error;
    char *value;
    char **children;
    size_t count;
};

static void see(void *ctx, const struct meta_result *result)
{
    struct seen *seen = ctx;
    seen->done = true;
    seen->error = result->error;
    if (result->error)
        return;
    seen->value = mem_strndup(result->node.value.len ? (const void *)result->node.value.ptr : "",
                              result->node.value.len);
    seen->children = mem_calloc(result->child_count, sizeof(char *));
    for (size_t i = 0; i < result->child_count; i++)
        seen->children[i] = mem_strndup(result->children[i].ptr, result->children[i].len);
    seen->count = result->child_count;
}

static void unsee(struct seen *seen)
{
    for (size_t i = 0; i < seen->count; i++)
        mem_free(seen->children[i]);
    mem_free(seen->children);
    mem_free(seen->value);
}

static void wait_seen(struct harness *h, struct seen *seen)
{
    while (!seen->done)
        assert_true(sim_world_step(h->world));
}

static struct meta *outside(struct harness *h)
{
    struct meta *meta = NULL;
    assert_int_equal(sim_meta_open(h->store, shards_get(h->shards, 0), 0, 0, &meta), 0);
    return meta;
}

static size_t count_below(struct harness *h, struct meta *meta, const char *path)
{
    struct seen seen = {0};
    meta_list(meta, path, false, see, &seen);
    wait_seen(h, &seen);
    size_t count = seen.error ? 0 : 1;
    for (size_t i = 0; i < seen.count; i++) {
        char child[META_PATH_MAX];
        snprintf(child, sizeof(child), "%s/%s", path, seen.children[i]);
        count += count_below(h, meta, child);
    }
    unsee(&seen);
    return count;
}

size_t harness_count_nodes(struct harness *h, const char *path)
{
    struct meta *meta = outside(h);
    size_t count = count_below(h, meta, path);
    meta_close(meta);
    return count;
}

char *harness_read_node(struct harness *h, const char *path)
{
    struct meta *meta = outside(h);
    struct seen seen = {0};
    meta_get(meta, path, false, see, &seen);
    wait_seen(h, &seen);
    char *value = seen.value;
    seen.value = NULL;
    unsee(&seen);
    meta_close(meta);
    return value;
}

int harness_write_node(struct harness *h, const char *path, const char *value)
{
    struct meta *meta = outside(h);
    struct seen seen = {0};
    struct meta_op op = {
        .kind = META_SET, .path = path, .value = bytes_of_text(value), .version = META_ANY_VERSION};
    meta_transact(meta, &op, 1, see, &seen);
    wait_seen(h, &seen);
    unsee(&seen);
    meta_close(meta);
    return seen.error;
}
