/* Messages between 1, 2 and 4 shards: each sender's arrive in order, none is lost, a flood leaves time for
 * the loop's other work; tails run once per round; the same on simulated loops. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "io/thread.h"
#include "shard/shard.h"

enum { SHARDS_MAX = 4 };

/* For the main thread to wait on what shards report. */
struct latch {
    pthread_mutex_t lock;
    pthread_cond_t open;
    unsigned left;
};

static void latch_init(struct latch *latch, unsigned count)
{
    pthread_mutex_init(&latch->lock, NULL);
    pthread_cond_init(&latch->open, NULL);
    latch->left = count;
}

static void latch_count(struct latch *latch)
{
    pthread_mutex_lock(&latch->lock);
    if (--latch->left == 0)
        pthread_cond_signal(&latch->open);
    pthread_mutex_unlock(&latch->lock);
}

static void latch_wait(struct latch *latch)
{
    pthread_mutex_lock(&latch->lock);
    while (latch->left > 0)
        pthread_cond_wait(&latch->open, &latch->lock);
    pthread_mutex_unlock(&latch->lock);
    pthread_cond_destroy(&latch->open);
    pthread_mutex_destroy(&latch->lock);
}

/* Every shard sends NUMBERS numbered messages to every shard, itself included, in bursts; the receiver checks
 * that each sender's numbers come in order. A burst's last message carries the next burst on. */
enum { NUMBERS = 20000, BURST = 50 };

struct numbered {
    struct shard_message message;
    unsigned from, number;
};

struct receiver {
    unsigned expected[SHARDS_MAX];
    unsigned complete;
};

struct mesh {
    struct latch latch;
    struct receiver receivers[SHARDS_MAX];
    unsigned count;
};
static struct mesh mesh;

struct sender {
    struct shard_message message;
    unsigned next;
};

static void receive(struct shard *shard, struct shard_message *message)
{
    struct numbered *numbered = CONTAINER_OF(message, struct numbered, message);
    struct receiver *receiver = &mesh.receivers[shard->id];
    assert_ptr_equal(shard_current(), shard);
    assert_int_equal(numbered->number, receiver->expected[numbered->from]);
    if (++receiver->expected[numbered->from] == NUMBERS && ++receiver->complete == mesh.count)
        latch_count(&mesh.latch);
    mem_free(numbered);
}

static void send_burst(struct shard *shard, struct shard_message *message)
{
    struct sender *sender = CONTAINER_OF(message, struct sender, message);
    for (unsigned i = 0; i < BURST; i++, sender->next++) {
        for (unsigned to = 0; to < mesh.count; to++) {
            struct numbered *numbered = mem_alloc(sizeof(*numbered));
            *numbered =
                (struct numbered){.message = {.run = receive}, .from = shard->id, .number = sender->next};
            shard_send(shards_get(shard->group, to), &numbered->message);
        }
    }
    if (sender->next < NUMBERS)
        shard_send(shard, &sender->message);
    else
        mem_free(sender);
}

static void start_mesh(struct shards *shards)
{
    mesh = (struct mesh){.count = shards_count(shards)};
    latch_init(&mesh.latch, mesh.count);
    for (unsigned i = 0; i < mesh.count; i++) {
        struct sender *sender = mem_zalloc(sizeof(*sender));
        sender->message.run = send_burst;
        shard_send(shards_get(shards, i), &sender->message);
    }
}

static void run_mesh(unsigned count)
{
    struct metrics *metrics = metrics_new();
    struct shards *shards;
    assert_int_equal(shards_new(count, 1, metrics, &shards), 0);
    start_mesh(shards);
    latch_wait(&mesh.latch);
    shards_stop(shards);
    struct strbuf text = {0};
    metrics_print(metrics, &text);
    assert_non_null(strstr(text.data, "clymq_shard_messages_total{shard=\"0\"}"));
    strbuf_free(&text);
    shards_free(shards);
    metrics_free(metrics);
}

static void test_one(void **state)
{
    run_mesh(1);
}

static void test_two(void **state)
{
    run_mesh(2);
}

static void test_four(void **state)
{
    run_mesh(4);
}

/* Threads that are no shards flood one shard, whose timer must go on firing. */
enum { FLOODERS = 3, FLOOD = 100000 };

struct flood {
    struct latch latch;
    struct shards *shards;
    struct io_timer timer;
    unsigned received, ticks;
    unsigned expected[FLOODERS];
};
static struct flood flood;

static void flood_tick(struct io_timer *timer)
{
    flood.ticks++;
    assert_int_equal(io_timer_start(shard_current()->loop, timer, IO_MS(1)), 0);
}

static void flood_start(struct shard *shard, struct shard_message *message)
{
    flood.timer = (struct io_timer){.fire = flood_tick};
    assert_int_equal(io_timer_start(shard->loop, &flood.timer, 0), 0);
    latch_count(&flood.latch);
}

static void flood_receive(struct shard *shard, struct shard_message *message)
{
    struct numbered *numbered = CONTAINER_OF(message, struct numbered, message);
    assert_int_equal(numbered->number, flood.expected[numbered->from]++);
    mem_free(numbered);
    if (++flood.received == FLOODERS * FLOOD) {
        io_timer_stop(shard->loop, &flood.timer);
        latch_count(&flood.latch);
    }
}

static void *flooder(void *ctx)
{
    assert_null(shard_current());
    unsigned from = (unsigned)(uintptr_t)ctx;
    for (unsigned i = 0; i < FLOOD; i++) {
        struct numbered *numbered = mem_alloc(sizeof(*numbered));
        *numbered = (struct numbered){.message = {.run = flood_receive}, .from = from, .number = i};
        shard_send(shards_get(flood.shards, 0), &numbered->message);
    }
    return NULL;
}

static void test_flood(void **state)
{
    flood = (struct flood){0};
    assert_int_equal(shards_new(1, 1, NULL, &flood.shards), 0);
    struct shard_message start = {.run = flood_start};
    latch_init(&flood.latch, 1);
    shard_send(shards_get(flood.shards, 0), &start);
    latch_wait(&flood.latch);
    latch_init(&flood.latch, 1);
    pthread_t threads[FLOODERS];
    for (uintptr_t i = 0; i < FLOODERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, flooder, (void *)i), 0);
    for (unsigned i = 0; i < FLOODERS; i++)
        pthread_join(threads[i], NULL);
    latch_wait(&flood.latch);
    shards_stop(flood.shards);
    print_message("%u messages, %u ticks meanwhile\n", flood.received, flood.ticks);
    assert_true(flood.ticks > 0);
    shards_free(flood.shards);
}

/* Tails: armed twice in a round, run once, after the round's messages; one armed by a tail runs before the
 * loop waits. */
struct tails {
    struct shard_tail first, second, spinner;
    unsigned messages, firsts, seconds, spins;
    struct latch latch;
};
static struct tails tails;

static void second_tail(struct shard_tail *tail)
{
    tails.seconds++;
    latch_count(&tails.latch);
}

static void first_tail(struct shard_tail *tail)
{
    tails.firsts++;
    assert_int_equal(tails.messages, 2);
    shard_at_tail(shard_current(), &tails.second);
}

/* Arms itself again and again: must not keep the loop from its messages. */
static void spinner_tail(struct shard_tail *tail)
{
    if (++tails.spins < 1000)
        shard_at_tail(shard_current(), tail);
    else
        latch_count(&tails.latch);
}

static void arm(struct shard *shard, struct shard_message *message)
{
    tails.messages++;
    shard_at_tail(shard, &tails.first);
}

static void arm_twice(struct shard *shard, struct shard_message *message)
{
    static struct shard_message again = {.run = arm};
    arm(shard, message);
    shard_at_tail(shard, &tails.spinner);
    arm(shard, &again);
}

static void test_tails(void **state)
{
    tails = (struct tails){
        .first = {.run = first_tail}, .second = {.run = second_tail}, .spinner = {.run = spinner_tail}};
    list_init(&tails.first.link);
    list_init(&tails.second.link);
    list_init(&tails.spinner.link);
    latch_init(&tails.latch, 2);
    struct shards *shards;
    assert_int_equal(shards_new(1, 1, NULL, &shards), 0);
    struct shard_message message = {.run = arm_twice};
    shard_send(shards_get(shards, 0), &message);
    latch_wait(&tails.latch);
    shards_stop(shards);
    shards_free(shards);
    assert_int_equal(tails.firsts, 1);
    assert_int_equal(tails.seconds, 1);
    assert_int_equal(tails.spins, 1000);
}

static struct {
    struct shard_message message;
    struct latch latch;
    int policy;
    uint64_t slice_ns;
} look;

static void look_at_scheduling(struct shard *shard, struct shard_message *message)
{
    look.policy = sched_getscheduler(0);
    look.slice_ns = io_thread_slice_ns();
    latch_count(&look.latch);
}

/* As short as asked for, and shorter than this thread's: where slices are nobody's wish, both are 0. */
static void test_short_turns(void **state)
{
    struct shards *shards;
    latch_init(&look.latch, 1);
    look.message.run = look_at_scheduling;
    assert_int_equal(shards_new(1, 1, NULL, &shards), 0);
    shard_send(shards_get(shards, 0), &look.message);
    latch_wait(&look.latch);
    shards_stop(shards);
    shards_free(shards);
    assert_int_equal(look.policy, sched_getscheduler(0));
    if (look.policy == SCHED_OTHER)
        assert_int_equal(look.slice_ns, io_thread_slice_ns() ? 100000 : 0);
}

static void test_limits(void **state)
{
    struct shards *shards;
    assert_int_equal(shards_new(0, 1, NULL, &shards), CLYMQ_EINVAL);
    assert_int_equal(shards_new(257, 1, NULL, &shards), CLYMQ_EINVAL);
    assert_int_equal(shards_new(1, 0, NULL, &shards), CLYMQ_EINVAL);
    for (uint64_t nth = 1;; nth++) {
        struct metrics *metrics = metrics_new();
        mem_fail_nth(nth);
        int error = shards_new(3, 2, metrics, &shards);
        bool failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
        if (!error)
            shards_free(shards);
        metrics_free(metrics);
        if (!failed)
            break;
    }
}

/* The same mesh on simulated loops, in one thread, and the same by seed. */
static uint64_t simulate(uint64_t seed)
{
    struct sim_world *world = sim_world_new(seed);
    struct sim_process *process = sim_process_new(world, "a");
    struct io_loop *loops[SHARDS_MAX];
    for (unsigned i = 0; i < SHARDS_MAX; i++)
        assert_int_equal(sim_process_loop(process, &loops[i]), 0);
    struct shards *shards;
    assert_int_equal(shards_new_on_loops(loops, SHARDS_MAX, NULL, &shards), 0);
    assert_ptr_equal(shards_get(shards, 1)->loop, loops[1]);
    start_mesh(shards);
    while (sim_world_step(world))
        assert_null(shard_current());
    assert_int_equal(mesh.latch.left, 0);
    latch_wait(&mesh.latch);
    shards_free(shards);
    uint64_t trace = sim_world_trace(world);
    sim_world_free(world);
    return trace;
}

static void test_simulated(void **state)
{
    uint64_t first = simulate(1);
    assert_true(first == simulate(1));
    assert_true(first != simulate(2));
}

int main(void)
{
    alarm(100);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_one),    cmocka_unit_test(test_two),       cmocka_unit_test(test_four),
        cmocka_unit_test(test_flood),  cmocka_unit_test(test_tails),     cmocka_unit_test(test_short_turns),
        cmocka_unit_test(test_limits), cmocka_unit_test(test_simulated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
