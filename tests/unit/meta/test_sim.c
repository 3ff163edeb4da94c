/* The simulated backend: the contract, and what is its own: delays, dying processes, lost sessions, faults,
 * one seed one run. */
#include "unit/meta/contract.h"

#include "io/sim.h"
#include "meta/sim.h"

struct sim_driver {
    struct meta_driver driver;
    struct sim_world *world;
    struct sim_process *process;
    struct io_loop *loop;
    struct shards *shards;
    struct sim_meta_store *store;
    uint64_t min_ns, max_ns;
};

static void sim_setup(struct meta_driver *driver)
{
    struct sim_driver *self = (struct sim_driver *)driver;
    self->world = sim_world_new(7);
    self->process = sim_process_new(self->world, "one");
    assert_int_equal(sim_process_loop(self->process, &self->loop), 0);
    assert_int_equal(shards_new_on_loops(&self->loop, 1, NULL, &self->shards), 0);
    self->store = sim_meta_store_new(11);
    self->min_ns = IO_MS(1);
    self->max_ns = IO_MS(20);
}

static void sim_teardown(struct meta_driver *driver)
{
    struct sim_driver *self = (struct sim_driver *)driver;
    sim_meta_store_free(self->store);
    shards_free(self->shards);
    io_loop_free(self->loop);
    sim_world_free(self->world);
}

static struct meta *sim_open(struct meta_driver *driver)
{
    struct sim_driver *self = (struct sim_driver *)driver;
    struct meta *meta = NULL;
    assert_int_equal(
        sim_meta_open(self->store, shards_get(self->shards, 0), self->min_ns, self->max_ns, &meta), 0);
    return meta;
}

static void sim_run(struct meta_driver *driver, const bool *until)
{
    struct sim_driver *self = (struct sim_driver *)driver;
    while (!*until && sim_world_step(self->world))
        ;
    assert_true(*until);
}

static struct sim_driver driver = {.driver = {.name = "sim",
                                              .many_sessions = true,
                                              .setup = sim_setup,
                                              .teardown = sim_teardown,
                                              .open = sim_open,
                                              .run = sim_run}};

static int setup(void **state)
{
    sim_setup(&driver.driver);
    return 0;
}
static int teardown(void **state)
{
    sim_teardown(&driver.driver);
    return 0;
}

static struct answer transact(struct meta *meta, const struct meta_op *ops, size_t count)
{
    return contract_transact(&driver.driver, meta, ops, count);
}
static struct answer get(struct meta *meta, const char *path)
{
    return contract_get(&driver.driver, meta, path, false);
}

static void test_delays(void **state)
{
    struct meta *meta = sim_open(&driver.driver);
    for (int i = 0; i < 50; i++) {
        uint64_t before = sim_world_now_ns(driver.world);
        get(meta, "/");
        uint64_t took = sim_world_now_ns(driver.world) - before;
        assert_in_range(took, IO_MS(1) / 2, IO_MS(20));
    }
    meta_close(meta);
}

/* Some of what a dying process had asked for has arrived, in order; none of its callbacks is called. */
static void test_process_dies(void **state)
{
    int arrived[6] = {0};
    for (int round = 0; round < 60; round++) {
        struct meta *meta = sim_open(&driver.driver), *other = sim_open(&driver.driver);
        struct meta_op make[] = {op_create("/live", ""), op_create("/n", "0")};
        make[0].ephemeral = true;
        assert_int_equal(transact(meta, make, 2).error, 0);
        struct answer answers[5] = {0};
        for (int i = 0; i < 5; i++) {
            struct meta_op set = op_set("/n", "x", i);
            meta_transact(meta, &set, 1, contract_collect, &answers[i]);
        }
        sim_meta_expire(driver.store, meta);
        for (int i = 0; i < 5; i++)
            assert_false(answers[i].done);
        struct answer answer = get(other, "/n");
        assert_in_range(answer.version, 0, 5);
        arrived[answer.version]++;
        assert_int_equal(get(other, "/live").error, CLYMQ_ENOENT);
        struct meta_op clean = op_delete("/n", META_ANY_VERSION);
        assert_int_equal(transact(other, &clean, 1).error, 0);
        meta_close(other);
    }
    for (int i = 0; i <= 5; i++)
        assert_true(arrived[i] > 0);
}

static void hear_session(void *ctx, enum meta_event event, const char *path)
{
    if (event == META_EVENT_SESSION)
        ++*(int *)ctx;
}

static void test_session_is_lost(void **state)
{
    struct meta *meta = sim_open(&driver.driver);
    int heard = 0;
    meta_set_watcher(meta, hear_session, &heard);
    struct meta_op make[] = {op_create("/live", ""), op_create("/n", "0")};
    make[0].ephemeral = true;
    assert_int_equal(transact(meta, make, 2).error, 0);
    struct answer before = {0};
    struct meta_op set = op_set("/n", "1", 0);
    meta_transact(meta, &set, 1, contract_collect, &before);
    sim_meta_lose_session(driver.store, meta);
    driver.driver.run(&driver.driver, &before.done);
    assert_int_equal(before.error, CLYMQ_ESESSION);
    assert_int_equal(get(meta, "/n").error, CLYMQ_ESESSION);
    assert_int_equal(transact(meta, &set, 1).error, CLYMQ_ESESSION);
    assert_int_equal(heard, 1);
    meta_close(meta);
    meta = sim_open(&driver.driver);
    assert_int_equal(get(meta, "/live").error, CLYMQ_ENOENT);
    assert_int_equal(get(meta, "/n").error, 0);
    meta_close(meta);
}

static void test_faults(void **state)
{
    struct meta *meta = sim_open(&driver.driver);
    sim_meta_store_set_faults(driver.store, &(struct sim_meta_faults){.transact_error = CLYMQ_ENOSPC,
                                                                      .transact_error_ppm = 1000000});
    struct meta_op make = op_create("/n", "0");
    assert_int_equal(transact(meta, &make, 1).error, CLYMQ_ENOSPC);
    assert_int_equal(get(meta, "/n").error, CLYMQ_ENOENT);
    sim_meta_store_set_faults(driver.store, &(struct sim_meta_faults){0});
    assert_int_equal(transact(meta, &make, 1).error, 0);
    meta_close(meta);
}

/* The session is lost with a transaction that is applied or not; the next request begins another one. */
static void test_unknown_outcomes(void **state)
{
    int heard = 0, stored = 0;
    struct meta *meta = sim_open(&driver.driver);
    meta_set_watcher(meta, hear_session, &heard);
    for (int i = 0; i < 40; i++) {
        char path[16];
        snprintf(path, sizeof(path), "/%d", i);
        struct meta_op make = op_create("/live", ""), unknown = op_create(path, "");
        make.ephemeral = true;
        assert_int_equal(transact(meta, &make, 1).error, 0);
        struct answer behind = {0};
        sim_meta_store_set_faults(driver.store, &(struct sim_meta_faults){.unknown_ppm = 1000000});
        assert_int_equal(transact(meta, &unknown, 1).error, CLYMQ_ESESSION);
        meta_transact(meta, &unknown, 1, contract_collect, &behind); /* of the next session, and lost again */
        driver.driver.run(&driver.driver, &behind.done);
        assert_true(behind.error == CLYMQ_ESESSION);
        sim_meta_store_set_faults(driver.store, &(struct sim_meta_faults){0});
        int error = get(meta, path).error;
        assert_true(error == 0 || error == CLYMQ_ENOENT);
        stored += !error;
        assert_int_equal(get(meta, "/live").error, CLYMQ_ENOENT);
        assert_int_equal(heard, 2 * (i + 1));
    }
    assert_in_range(stored, 15, 39); /* three of four */
    meta_close(meta);
}

static void test_same_seed_same_run(void **state)
{
    uint64_t traces[2];
    for (int round = 0; round < 2; round++) {
        if (round) {
            sim_teardown(&driver.driver);
            sim_setup(&driver.driver);
        }
        struct meta *meta = sim_open(&driver.driver);
        for (int i = 0; i < 30; i++) {
            char path[16];
            snprintf(path, sizeof(path), "/%d", i);
            struct meta_op make = op_create(path, "");
            transact(meta, &make, 1);
            sim_world_trace_add(driver.world, sim_world_now_ns(driver.world));
        }
        meta_close(meta);
        traces[round] = sim_world_trace(driver.world);
    }
    assert_true(traces[0] == traces[1]);
}

int main(void)
{
    int failures = contract_run(&driver.driver);
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_delays), T(test_process_dies),     T(test_session_is_lost),
        T(test_faults), T(test_unknown_outcomes), T(test_same_seed_same_run),
    };
    return failures + cmocka_run_group_tests(tests, NULL, NULL);
}
