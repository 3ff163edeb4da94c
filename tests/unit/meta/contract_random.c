/* The contract's random part: transactions against a model of the tree, many under way at once, with closings
 * in between. */
#include "unit/meta/contract.h"

#include "base/rng.h"

static struct meta_driver *driver;

enum { NAMES = 3, SLOTS = NAMES + NAMES * NAMES + NAMES * NAMES * NAMES };

struct model_node {
    bool exists, ephemeral;
    int64_t version;
    uint32_t value;
};
static struct model_node model[SLOTS];

static int model_parent(int slot)
{
    return slot < NAMES ? -1 : (slot - NAMES) / NAMES;
}
static void model_path(int slot, char *out)
{
    if (slot >= NAMES) {
        model_path(model_parent(slot), out);
        out += strlen(out);
    }
    sprintf(out, "/%c", "a\x7e*"[slot % NAMES]);
}
static bool model_has_children(const struct model_node *nodes, int slot)
{
    for (int i = NAMES; i < SLOTS; i++)
        if (nodes[i].exists && model_parent(i) == slot)
            return true;
    return false;
}

/* What the operation answers, applied to nodes. */
static int model_apply(struct model_node *nodes, const struct meta_op *op, int slot, uint32_t value)
{
    struct model_node *node = &nodes[slot];
    if (op->kind == META_CREATE) {
        int parent = model_parent(slot);
        if (node->exists)
            return CLYMQ_EEXIST;
        if (parent >= 0 && !nodes[parent].exists)
            return CLYMQ_ENOENT;
        if (parent >= 0 && nodes[parent].ephemeral)
            return CLYMQ_EINVAL;
        *node = (struct model_node){.exists = true, .ephemeral = op->ephemeral, .value = value};
        return 0;
    }
    if (!node->exists)
        return CLYMQ_ENOENT;
    if (op->version != META_ANY_VERSION && op->version != node->version)
        return CLYMQ_EVERSION;
    if (op->kind == META_SET) {
        node->version++;
        node->value = value;
    } else if (op->kind == META_DELETE) {
        if (model_has_children(nodes, slot))
            return CLYMQ_EBUSY;
        *node = (struct model_node){0};
    }
    return 0;
}

struct expected {
    struct answer answer;
    int error, failed_op;
};

enum { OPS_MAX = 6, PIPELINE = 24 };

static void random_transaction(struct rng *rng, struct meta *meta, struct expected *expected)
{
    struct meta_op ops[OPS_MAX];
    char paths[OPS_MAX][16], values[OPS_MAX][16];
    struct model_node after[SLOTS];
    memcpy(after, model, sizeof(model));
    size_t count = 1 + rng_below(rng, OPS_MAX);
    *expected = (struct expected){.failed_op = -1};
    for (size_t i = 0; i < count; i++) {
        int slot = (int)rng_below(rng, rng_chance(rng, 1, 2) ? NAMES + NAMES * NAMES : SLOTS);
        uint32_t value = (uint32_t)rng_next(rng);
        model_path(slot, paths[i]);
        sprintf(values[i], "%u", value);
        /* Mostly what can succeed, so that transactions of several operations do. */
        enum meta_op_kind kind = (enum meta_op_kind)rng_below(rng, 4);
        if (rng_chance(rng, 2, 3) && !after[slot].exists)
            kind = META_CREATE;
        int64_t version =
            rng_chance(rng, 1, 3) ? META_ANY_VERSION : after[slot].version + rng_chance(rng, 1, 15);
        ops[i] = (struct meta_op){.kind = kind,
                                  .path = paths[i],
                                  .value = bytes_of_text(values[i]),
                                  .version = version,
                                  .ephemeral = kind == META_CREATE && rng_chance(rng, 1, 6)};
        if (!expected->error) {
            expected->error = model_apply(after, &ops[i], slot, value);
            if (expected->error)
                expected->failed_op = (int)i;
        }
    }
    if (!expected->error)
        memcpy(model, after, sizeof(model));
    meta_transact(meta, ops, count, contract_collect, &expected->answer);
}

static void check_model(struct meta *meta)
{
    for (int slot = 0; slot < SLOTS; slot++) {
        char path[16], value[16];
        model_path(slot, path);
        struct answer answer = contract_get(driver, meta, path, false);
        assert_int_equal(answer.error, model[slot].exists ? 0 : CLYMQ_ENOENT);
        if (!model[slot].exists)
            continue;
        sprintf(value, "%u", model[slot].value);
        assert_string_equal(answer.value, value);
        assert_int_equal(answer.version, model[slot].version);
        assert_int_equal(answer.ephemeral, model[slot].ephemeral);
        size_t children = 0;
        for (int i = NAMES; i < SLOTS; i++)
            children += model[i].exists && model_parent(i) == slot;
        assert_int_equal(contract_list(driver, meta, path, false).child_count, children);
    }
}

void contract_random(struct meta_driver *by)
{
    driver = by;
    static uint64_t seed = 20260722;
    print_message("seed %llu\n", (unsigned long long)seed);
    struct rng rng;
    rng_seed(&rng, seed);
    memset(model, 0, sizeof(model));
    struct meta *meta = driver->open(driver);
    static struct expected expected[PIPELINE];
    int succeeded = 0;
    for (int round = 0; round < 60; round++) {
        size_t count = 1 + rng_below(&rng, PIPELINE);
        for (size_t i = 0; i < count; i++)
            random_transaction(&rng, meta, &expected[i]);
        driver->run(driver, &expected[count - 1].answer.done);
        for (size_t i = 0; i < count; i++) {
            assert_true(expected[i].answer.done);
            assert_int_equal(expected[i].answer.error, expected[i].error);
            assert_int_equal(expected[i].answer.failed_op, expected[i].failed_op);
            succeeded += !expected[i].error;
        }
        if (rng_chance(&rng, 1, 6)) {
            check_model(meta);
            meta_close(meta);
            for (int slot = 0; slot < SLOTS; slot++)
                if (model[slot].ephemeral)
                    model[slot] = (struct model_node){0};
            meta = driver->open(driver);
            check_model(meta);
        }
    }
    assert_true(succeeded > 50);
    meta_close(meta);
}
