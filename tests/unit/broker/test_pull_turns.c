/* Turns of long work: how much goes in one round, and in which order. */
#include "base/mem.h"
#include "broker/pull_turns.h"
#include "one_shard.h"

enum { COUNT = 40 };

struct fixture {
    struct one_shard one;
    struct pull_turns turns;
    size_t bytes; /* of each */
    int ran, rounds, most;
};

struct item {
    struct pull_turn turn;
    struct fixture *fixture;
    int number;
};

static int setup(void **state)
{
    struct fixture *fixture = mem_zalloc(sizeof(*fixture));
    struct shard *shard = one_shard_open(&fixture->one);

    pull_turns_init(&fixture->turns, shard, 64 << 10);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    pull_turns_end(&fixture->turns);
    one_shard_close(&fixture->one);
    mem_free(fixture);
    return 0;
}

static void work(struct item *item)
{
    struct fixture *fixture = item->fixture;

    assert_int_equal(item->number, fixture->ran);
    fixture->ran++;
    pull_turns_spend(&fixture->turns, fixture->bytes);
}

static void run(struct pull_turn *turn)
{
    work(CONTAINER_OF(turn, struct item, turn));
}

static void ask(struct fixture *fixture, struct item *items, size_t bytes)
{
    fixture->bytes = bytes;
    fixture->ran = fixture->rounds = fixture->most = 0;
    for (int i = 0; i < COUNT; i++) {
        items[i] = (struct item){.turn.run = run, .fixture = fixture, .number = i};
        if (pull_turns_take(&fixture->turns, &items[i].turn))
            work(&items[i]);
    }
}

/* Event by event, each of which is a round of the loop. */
static void go_on(struct fixture *fixture)
{
    uint64_t end = sim_world_now_ns(fixture->one.sim) + IO_MS(100);

    while (sim_world_now_ns(fixture->one.sim) < end) {
        int before = fixture->ran;

        if (!sim_world_step(fixture->one.sim))
            break;
        fixture->rounds += fixture->ran > before;
        if (fixture->ran - before > fixture->most)
            fixture->most = fixture->ran - before;
    }
}

static void test_a_little_at_a_time(void **state)
{
    struct fixture *fixture = *state;
    struct item items[COUNT];

    ask(fixture, items, 400 << 10); /* two of them are more than a round's work */
    assert_int_equal(fixture->ran, 2);
    go_on(fixture);
    assert_int_equal(fixture->ran, COUNT);
    assert_int_equal(fixture->most, 2);
    assert_int_equal(fixture->rounds, COUNT / 2 - 1);
    sim_world_run_for(fixture->one.sim, IO_MS(1));
    ask(fixture, items, 10 << 20);
    go_on(fixture);
    assert_int_equal(fixture->ran, COUNT);
    assert_int_equal(fixture->most, 1);
}

/* Small ones go in few rounds; and whoever comes later does not overtake. */
static void test_small_ones(void **state)
{
    struct fixture *fixture = *state;
    struct item items[COUNT];

    ask(fixture, items, 100);
    assert_in_range(fixture->ran, 5, 10);
    go_on(fixture);
    assert_int_equal(fixture->ran, COUNT);
    assert_in_range(fixture->rounds, 3, 8);
}

/* Turns that tell only later what they took count as what others told lately, and after a few small ones as
 * little again. */
static void test_late_ones(void **state)
{
    struct fixture *fixture = *state;
    struct item items[COUNT];
    int now = 0;

    ask(fixture, items, 1 << 20);
    go_on(fixture);
    sim_world_run_for(fixture->one.sim, IO_MS(1));
    for (int i = 0; i < 8; i++)
        now += pull_turns_take(&fixture->turns, &items[i].turn);
    assert_int_equal(now, 1);
    while (!list_empty(&fixture->turns.waiting))
        list_pop_front(&fixture->turns.waiting);
    for (int i = 0; i < 40; i++)
        pull_turns_spend(&fixture->turns, 0);
    sim_world_run_for(fixture->one.sim, IO_MS(1));
    now = 0;
    for (int i = 0; i < COUNT; i++)
        now += pull_turns_take(&fixture->turns, &items[i].turn);
    pull_turns_end(&fixture->turns);
    assert_in_range(now, 5, 8);
}

static void test_without_memory(void **state)
{
    struct fixture *fixture = *state;
    struct item items[COUNT];

    /* Filled up; then the timer cannot be armed: it goes on at once rather than never. */
    pull_turns_spend(&fixture->turns, 10 << 20);
    items[0] = (struct item){.turn.run = run, .fixture = fixture};
    mem_fail_nth(1);
    bool now = pull_turns_take(&fixture->turns, &items[0].turn);
    mem_fail_nth(0);
    if (now)
        return;
    sim_world_run_for(fixture->one.sim, IO_MS(1));
    assert_int_equal(fixture->ran, 1);
}

static void test_the_end_forgets(void **state)
{
    struct fixture *fixture = *state;
    struct item items[COUNT];

    ask(fixture, items, 1 << 20);
    int ran = fixture->ran;
    pull_turns_end(&fixture->turns);
    sim_world_run_for(fixture->one.sim, IO_MS(100));
    assert_int_equal(fixture->ran, ran);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_little_at_a_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_small_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late_ones, setup, teardown),
        cmocka_unit_test_setup_teardown(test_without_memory, setup, teardown),
        cmocka_unit_test_setup_teardown(test_the_end_forgets, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
