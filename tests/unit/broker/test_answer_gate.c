/* Turns per connection and the budget of a shard. */
#include "base/error.h"
#include "base/mem.h"
#include "broker/answer_gate.h"
#include "one_shard.h"

enum { MIB = 1 << 20 };

struct fixture {
    struct one_shard one;
    struct answer_gate gate;
    int order;
};

struct item {
    struct answer_ticket ticket;
    struct fixture *fixture;
    int ran; /* its place in the order of running; 0 = not yet */
    bool leaves_at_once;
};

static int setup(void **state)
{
    struct fixture *fixture = mem_zalloc(sizeof(*fixture));
    struct shard *shard = one_shard_open(&fixture->one);

    answer_gate_init(&fixture->gate, shard, 8 * MIB);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    answer_gate_close(&fixture->gate);
    one_shard_close(&fixture->one);
    mem_free(fixture);
    return 0;
}

static void run(struct answer_ticket *ticket)
{
    struct item *item = CONTAINER_OF(ticket, struct item, ticket);

    item->ran = ++item->fixture->order;
    if (item->leaves_at_once)
        answer_gate_leave(&item->fixture->gate, ticket);
}

static void enter(struct fixture *fixture, struct item *item, uint64_t connection)
{
    item->fixture = fixture;
    item->ticket.run = run;
    assert_int_equal(answer_gate_enter(&fixture->gate, connection, &item->ticket), 0);
}

static void end_round(struct fixture *fixture)
{
    io_loop_wake(fixture->one.loop); /* a round with nothing but its tail */
    sim_world_run_for(fixture->one.sim, 1000000);
}

static void leave(struct fixture *fixture, struct item *item)
{
    answer_gate_leave(&fixture->gate, &item->ticket);
    end_round(fixture);
}

static void test_a_connection_takes_turns(void **state)
{
    struct fixture *fixture = *state;
    struct item items[10] = {0};

    for (int i = 0; i < 10; i++)
        enter(fixture, &items[i], 7);
    for (int i = 0; i < 10; i++)
        assert_int_equal(items[i].ran, i < 4 ? i + 1 : 0);
    struct item other = {0};
    enter(fixture, &other, 7 + ANSWER_GATE_BUCKETS); /* of the same bucket */
    assert_int_equal(other.ran, 5);
    leave(fixture, &items[2]);
    assert_int_equal(items[4].ran, 6);
    assert_int_equal(items[5].ran, 0);
    for (int i = 0; i < 10; i++)
        leave(fixture, &items[i]);
    for (int i = 1; i < 10; i++)
        assert_true(items[i].ran > items[i - 1].ran || i == 4);
    leave(fixture, &other);
    assert_int_equal(fixture->gate.bytes, 0);
}

static void test_beyond_the_budget(void **state)
{
    struct fixture *fixture = *state;
    struct item items[40] = {0};

    for (int i = 0; i < 20; i++)
        enter(fixture, &items[i], 1 + i / 2);
    assert_int_equal(items[0].ticket.bytes, MIB);
    assert_int_equal(items[7].ticket.bytes, MIB);
    assert_true(items[8].ticket.bytes < MIB); /* the fifth connection: one short answer */
    assert_true(items[8].ran > 0);
    assert_int_equal(items[9].ran, 0);
    for (int i = 0; i < 8; i++)
        answer_gate_made(&fixture->gate, &items[i].ticket, 100);
    assert_true(fixture->gate.bytes < MIB);
    leave(fixture, &items[8]);
    assert_true(items[9].ran > 0);
    for (int i = 0; i < 20; i++)
        leave(fixture, &items[i]);
    for (int i = 0; i < 20; i++)
        assert_true(items[i].ran > 0);
    assert_int_equal(fixture->gate.bytes, 0);
}

static void test_those_that_end_at_once(void **state)
{
    struct fixture *fixture = *state;
    struct item items[1000] = {0};

    for (int i = 0; i < 1000; i++) {
        items[i].leaves_at_once = i >= 4;
        enter(fixture, &items[i], 3);
    }
    assert_int_equal(items[4].ran, 0);
    leave(fixture, &items[0]);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(items[i].ran, i + 1);
    for (int i = 1; i < 4; i++)
        leave(fixture, &items[i]);
    leave(fixture, &items[3]); /* again: harmless */
    assert_int_equal(fixture->gate.bytes, 0);
}

static void test_out_of_memory(void **state)
{
    struct fixture *fixture = *state;
    struct item item = {.fixture = fixture, .ticket.run = run};

    mem_fail_nth(1);
    assert_int_equal(answer_gate_enter(&fixture->gate, 1, &item.ticket), CLYMQ_ENOMEM);
    mem_fail_nth(0);
    answer_gate_leave(&fixture->gate, &item.ticket);
    assert_int_equal(fixture->gate.bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_connection_takes_turns, setup, teardown),
        cmocka_unit_test_setup_teardown(test_beyond_the_budget, setup, teardown),
        cmocka_unit_test_setup_teardown(test_those_that_end_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(test_out_of_memory, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
