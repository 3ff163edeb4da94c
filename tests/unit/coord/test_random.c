/* Random operations on topics and partitions, with failing broker calls, a full metadata store and crashes at
 * any instant, against a model. Checked: what was acknowledged is there after the next activation, what was
 * refused is not; an operation whose answer was lost happened or did not; numbers and ids are never used
 * again; no message moves; nothing of what was deleted stays in tree or broker; in the end everything is in
 * service.
 *
 *   unit.coord.random [first seed] [count] */
#include "unit/coord/harness.h"

#include <stdlib.h>

#include "base/log.h"

enum { TOPICS = 3, NAMES = 4, OPS = 3, IDS = 512 };

struct model_partition {
    bool exists;
    uint32_t number;
    int ack;
    uint32_t messages; /* pushed into this incarnation */
};
struct model_topic {
    bool exists;
    bool id_known;
    struct uuid id;
    uint32_t next_number; /* of this incarnation */
    struct model_partition partitions[NAMES];
};

enum kind { CREATE_TOPIC, DELETE_TOPIC, CREATE_PARTITION, DELETE_PARTITION, SET_STATE, SET_CONFIG, KINDS };

struct operation {
    enum kind kind;
    int topic, name, ack;
    uint32_t count;
    struct reply reply;
    struct model_topic before, after;
    int refusal; /* the answer that is due where it cannot be done; 0: it can */
};

static struct harness h;
static struct rng rng;
static struct model_topic model[TOPICS];
static struct uuid ids[IDS];
static int id_count;
static uint64_t done_ok, done_refused, done_failed, done_lost, crashes;

static const char *topic_name(int topic)
{
    static const char *const names[TOPICS] = {"orders", "北京", "a"};
    return names[topic];
}
/* Names of partitions: those that topics get by count, and others. */
static const char *partition_name(int name)
{
    static const char *const names[NAMES] = {"0", "1", "xian", "p.q"};
    return names[name];
}

/* ---- what an operation does to the model ---- */

static void plan_create_topic(struct operation *op)
{
    op->count = (uint32_t)rng_below(&rng, 3);
    if (op->before.exists) {
        op->refusal = CLYMQ_EEXIST;
        return;
    }
    op->after = (struct model_topic){.exists = true, .next_number = op->count};
    for (uint32_t i = 0; i < op->count; i++)
        op->after.partitions[i] = (struct model_partition){.exists = true, .number = i, .ack = op->ack};
}

static void plan_partition(struct operation *op)
{
    struct model_partition *partition = &op->after.partitions[op->name];
    if (!op->before.exists) {
        op->refusal = CLYMQ_ETOPIC_UNKNOWN;
    } else if (op->kind == CREATE_PARTITION) {
        if (partition->exists)
            op->refusal = CLYMQ_EEXIST;
        else
            *partition =
                (struct model_partition){.exists = true, .number = op->after.next_number++, .ack = -1};
    } else if (!partition->exists) {
        op->refusal = CLYMQ_EPARTITION_UNKNOWN;
    } else if (op->kind == DELETE_PARTITION) {
        *partition = (struct model_partition){0};
    } else {
        partition->ack = op->ack;
    }
}

static void plan(struct operation *op)
{
    op->before = op->after = model[op->topic];
    op->refusal = 0;
    switch (op->kind) {
    case CREATE_TOPIC:
        plan_create_topic(op);
        break;
    case DELETE_TOPIC:
        op->refusal = op->before.exists ? 0 : CLYMQ_ETOPIC_UNKNOWN;
        op->after = (struct model_topic){0};
        break;
    case SET_CONFIG:
        op->refusal = op->before.exists ? 0 : CLYMQ_ETOPIC_UNKNOWN;
        break;
    case CREATE_PARTITION:
    case DELETE_PARTITION:
    case SET_STATE:
    case KINDS:
        plan_partition(op);
        break;
    }
    if (op->refusal)
        op->after = op->before;
}

static void ask(struct operation *op)
{
    const char *topic = topic_name(op->topic), *name = partition_name(op->name);
    struct coord_topic_request request = {.name = topic, .partitions = op->count, .ack = op->ack};
    switch (op->kind) {
    case CREATE_TOPIC:
        coord_create_topic(h.coord, &request, reply_done, &op->reply);
        break;
    case DELETE_TOPIC:
        coord_delete_topic(h.coord, topic, reply_done, &op->reply);
        break;
    case CREATE_PARTITION:
        coord_create_partition(h.coord, topic, name, reply_done, &op->reply);
        break;
    case DELETE_PARTITION:
        coord_delete_partition(h.coord, topic, name, reply_done, &op->reply);
        break;
    case SET_STATE:
        coord_set_partition_state(h.coord, topic, name, op->ack, 0, reply_done, &op->reply);
        break;
    case SET_CONFIG:
    case KINDS:
        coord_set_topic_config(h.coord, topic, BYTES_LITERAL("{\"retention_ms\":60000}"), reply_done,
                               &op->reply);
        break;
    }
}

/* ---- looking ---- */

/* What the coordinator says of the topic, against the model; learns numbers and ids. false: they differ. */
static bool looks_like(int at, struct model_topic *expected)
{
    struct reply reply = {0};
    int error = do_find(&h, topic_name(at), NULL, 20000, &reply);
    if (error == CLYMQ_ETOPIC_UNKNOWN)
        return !expected->exists;
    assert_int_equal(error, 0);
    if (!expected->exists)
        return false;
    size_t count = 0;
    for (int name = 0; name < NAMES; name++)
        count += expected->partitions[name].exists;
    if (count != reply.count)
        return false;
    for (size_t i = 0; i < reply.count; i++) {
        if (reply.locations[i].error)
            fail_msg("partition %s is not in service", reply.locations[i].name);
        int name = 0;
        while (name < NAMES && strcmp(partition_name(name), reply.locations[i].name) != 0)
            name++;
        assert_true(name < NAMES);
        const struct model_partition *partition = &expected->partitions[name];
        if (!partition->exists || partition->number != reply.locations[i].number ||
            partition->ack != reply.locations[i].ack)
            return false;
        if (expected->id_known && !uuid_equal(expected->id, reply.locations[i].topic_id))
            return false;
        expected->id = reply.locations[i].topic_id;
        expected->id_known = true;
    }
    return true;
}

static void note_id(const struct model_topic *topic)
{
    for (int i = 0; i < id_count; i++)
        if (uuid_equal(ids[i], topic->id))
            return;
    assert_true(id_count < IDS);
    ids[id_count++] = topic->id;
}

static void push_some(void)
{
    for (int t = 0; t < TOPICS; t++)
        for (int name = 0; model[t].id_known && name < NAMES; name++) {
            struct model_partition *partition = &model[t].partitions[name];
            for (uint64_t i = rng_below(&rng, 3); partition->exists && i > 0; i--)
                partition->messages += fake_broker_push(&h.broker, model[t].id, partition->number);
        }
}

static void no_faults(void)
{
    h.broker.error_ppm = 0;
    sim_meta_store_set_faults(h.store, &(struct sim_meta_faults){0});
}

static void some_faults(void)
{
    static const int errors[] = {CLYMQ_EIO, CLYMQ_ENOSPC, CLYMQ_ETIMEDOUT};
    h.broker.error = errors[rng_below(&rng, 3)];
    h.broker.error_ppm = rng_chance(&rng, 1, 2) ? (uint32_t)rng_below(&rng, 300000) : 0;
    uint32_t ppm = rng_chance(&rng, 1, 2) ? (uint32_t)rng_below(&rng, 200000) : 0;
    sim_meta_store_set_faults(
        h.store, &(struct sim_meta_faults){.transact_error = CLYMQ_ENOSPC, .transact_error_ppm = ppm});
}

/* With all faults gone and time to work, tree and broker hold exactly what the model says. */
static void check_all(void)
{
    no_faults();
    harness_run_for(&h, IO_MS(2000));
    size_t partitions = 0, nodes = 1;
    for (int t = 0; t < TOPICS; t++) {
        assert_true(looks_like(t, &model[t]));
        if (!model[t].exists)
            continue;
        nodes += 2;
        for (int name = 0; name < NAMES; name++) {
            const struct model_partition *partition = &model[t].partitions[name];
            if (!partition->exists)
                continue;
            partitions++;
            const struct fake_partition *fake =
                fake_broker_partition(&h.broker, model[t].id, partition->number);
            assert_non_null(fake);
            assert_true(fake->in_service && fake->open);
            assert_int_equal(fake->ack, partition->ack);
            const struct fake_block *last = &fake->blocks[fake->block_count - 1];
            assert_int_equal(last->seq, fake->open_seq);
            assert_int_equal(last->end, partition->messages);
            for (uint32_t i = 0; i + 1 < fake->block_count; i++)
                assert_int_equal(fake->blocks[i].end, fake->blocks[i + 1].start);
            assert_int_equal(fake->blocks[0].start, 0);
            nodes += 2 + 2 * fake->block_count;
        }
    }
    assert_int_equal(fake_broker_partition_count(&h.broker), partitions);
    assert_int_equal(harness_count_nodes(&h, "/test/ClyMQ/Topics"), nodes);
}

/* ---- a round ---- */

static void restart(void)
{
    crashes++;
    harness_crash(&h);
    if (rng_chance(&rng, 1, 2))
        fake_broker_restart(&h.broker);
    no_faults(); /* activation itself is not asked to get through a full store */
    harness_start(&h);
}

/* The outcome is one of two: which one the next coordinator or the work that goes on shows. */
static void resolve(struct operation *op)
{
    no_faults();
    harness_run_for(&h, IO_MS(1000));
    struct model_topic before = op->before, after = op->after;
    /* Messages went on being pushed meanwhile. */
    for (int name = 0; name < NAMES; name++) {
        before.partitions[name].messages = model[op->topic].partitions[name].messages;
        if (after.partitions[name].exists && before.partitions[name].exists && op->kind != CREATE_TOPIC)
            after.partitions[name].messages = before.partitions[name].messages;
    }
    if (looks_like(op->topic, &after))
        model[op->topic] = after;
    else if (looks_like(op->topic, &before))
        model[op->topic] = before;
    else
        fail_msg("after operation %d on %s the topic is neither as before nor as after", op->kind,
                 topic_name(op->topic));
}

static void settle(struct operation *op)
{
    if (!op->reply.done || op->reply.error == CLYMQ_ESHUTDOWN) {
        done_lost++;
        resolve(op);
    } else if (op->refusal) {
        /* One that is still being removed is busy; a full store may have refused before. */
        if (op->reply.error != op->refusal && !(op->reply.error == CLYMQ_EBUSY && op->kind == CREATE_TOPIC))
            fail_msg("operation %d on %s answered %d (%s), not %d", op->kind, topic_name(op->topic),
                     op->reply.error, op->reply.sentence, op->refusal);
        done_refused++;
    } else if (op->reply.error == 0) {
        done_ok++;
        uint32_t messages[NAMES];
        for (int name = 0; name < NAMES; name++)
            messages[name] = model[op->topic].partitions[name].messages;
        model[op->topic] = op->after;
        for (int name = 0; name < NAMES && op->kind != CREATE_TOPIC; name++)
            if (op->after.partitions[name].exists && op->before.partitions[name].exists)
                model[op->topic].partitions[name].messages = messages[name];
    } else {
        done_failed++;
        bool told_not = strstr(op->reply.sentence, "was not ") != NULL ||
                        strstr(op->reply.sentence, "were not ") != NULL || op->reply.error == CLYMQ_EBUSY;
        bool told_later = strstr(op->reply.sentence, "goes on by itself") != NULL;
        if (told_not == told_later)
            fail_msg("operation %d answered %d without saying what holds: %s", op->kind, op->reply.error,
                     op->reply.sentence);
        if (told_not)
            op->after = op->before;
        else
            op->before = op->after;
        resolve(op);
    }
}

static void one_round(void)
{
    struct operation ops[OPS] = {0};
    int count = 1 + (int)rng_below(&rng, OPS);
    some_faults();
    for (int i = 0; i < count; i++) {
        ops[i].topic = i; /* each on its own topic */
        ops[i].kind = (enum kind)rng_below(&rng, KINDS);
        if (!model[i].exists && rng_chance(&rng, 2, 3))
            ops[i].kind = CREATE_TOPIC;
        if (ops[i].kind == DELETE_TOPIC && rng_chance(&rng, 2, 3))
            ops[i].kind = SET_STATE;
        ops[i].name = (int)rng_below(&rng, NAMES);
        ops[i].ack = (int)rng_below(&rng, 3) - 1;
        plan(&ops[i]);
        ask(&ops[i]);
    }
    io_loop_wake(h.loop);
    bool crash = rng_chance(&rng, 1, 3);
    uint64_t steps = crash ? rng_below(&rng, 1 + rng_below(&rng, 60)) : UINT64_MAX;
    for (uint64_t step = 0; step < steps; step++) {
        bool all = true;
        for (int i = 0; i < count; i++)
            all = all && ops[i].reply.done;
        if (all)
            break;
        if (rng_chance(&rng, 1, 16))
            push_some();
        assert_true(sim_world_step(h.world));
    }
    if (crash)
        restart();
    for (int i = 0; i < count; i++)
        settle(&ops[i]);
    for (int t = 0; t < TOPICS; t++)
        if (model[t].id_known)
            note_id(&model[t]);
    push_some();
}

static uint64_t first_seed = 1, seeds = 20;

static void test_random(void **state)
{
    for (uint64_t seed = first_seed; seed < first_seed + seeds; seed++) {
        print_message("seed %llu\n", (unsigned long long)seed);
        rng_seed(&rng, seed);
        memset(model, 0, sizeof(model));
        id_count = 0;
        harness_init(&h, seed);
        harness_start(&h);
        for (int round = 0; round < 40; round++) {
            one_round();
            if (round % 10 == 9)
                check_all();
        }
        harness_free(&h);
    }
    print_message("%llu done, %llu refused, %llu failed, %llu without answer, %llu crashes\n",
                  (unsigned long long)done_ok, (unsigned long long)done_refused,
                  (unsigned long long)done_failed, (unsigned long long)done_lost,
                  (unsigned long long)crashes);
    assert_true(seeds < 20 || (done_ok > 200 && done_refused > 50 && done_failed > 50 && done_lost > 20));
}

static void no_log(void *ctx, enum log_level level, const char *line)
{
}

int main(int argc, char **argv)
{
    if (argc > 1)
        first_seed = strtoull(argv[1], NULL, 10);
    if (argc > 2)
        seeds = strtoull(argv[2], NULL, 10);
    log_set_sink(no_log, NULL);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_random)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
