/* The simulated world: the cases of every loop, the same run by the same seed, and crashes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "loop_cases.h"

enum { STEPS_MAX = 5000000 };

struct sim_place {
    struct loop_place base;
    struct sim_world *world;
    struct sim_process *server, *client;
};

static void run_place(struct loop_place *base)
{
    struct sim_place *place = CONTAINER_OF(base, struct sim_place, base);
    for (unsigned steps = 0; !base->done; steps++) {
        assert_true(steps < STEPS_MAX);
        assert_true(sim_world_step(place->world));
    }
    base->done = false;
}

static void place_init(struct sim_place *place, uint64_t seed)
{
    *place = (struct sim_place){.world = sim_world_new(seed)};
    place->server = sim_process_new(place->world, "server");
    place->client = sim_process_new(place->world, "client");
    place->base.run = run_place;
    place->base.simulated = true;
    place->base.fs = sim_process_fs(place->server);
    assert_int_equal(sim_process_loop(place->server, &place->base.server), 0);
    assert_int_equal(sim_process_loop(place->server, &place->base.second), 0);
    assert_int_equal(sim_process_loop(place->client, &place->base.client), 0);
}

static void place_free(struct sim_place *place)
{
    io_loop_free(place->base.server);
    io_loop_free(place->base.second);
    io_loop_free(place->base.client);
    sim_world_free(place->world);
}

/* Each case runs over some seeds, with and without short transfers, and twice for the same trace. */
static uint64_t run_case(void (*run)(struct loop_place *place), uint64_t seed)
{
    struct sim_place place;
    place_init(&place, seed);
    if (seed % 2)
        sim_world_set_net_faults(place.world,
                                 &(struct sim_net_faults){.delay_max_ns = 100000, .short_read = 3000});
    run(&place.base);
    uint64_t trace = sim_world_trace(place.world);
    place_free(&place);
    return trace;
}

static void check_case(void (*run)(struct loop_place *place))
{
    for (uint64_t seed = 1; seed <= 4; seed++)
        assert_true(run_case(run, seed) == run_case(run, seed));
    assert_true(run_case(run, 1) != run_case(run, 2));
}

#define SHARED(name)                                                                                         \
    static void test_##name(void **state)                                                                    \
    {                                                                                                        \
        check_case(case_##name);                                                                             \
    }
SHARED(timers)
SHARED(wake_and_tail)
SHARED(disk)
SHARED(echo)
SHARED(echo_many)
SHARED(send_file)
SHARED(connect_refused)
SHARED(close_in_callback)
SHARED(peer_closes)
SHARED(detach_in_callback)
SHARED(detach_outside)
SHARED(detach_broken)

static void test_addresses(void **state)
{
    struct sim_place place;
    place_init(&place, 1);
    case_addresses(&place.base);
    struct io_listener *listener;
    char address[64];
    assert_int_equal(io_loop_listen(place.base.server, "server:7878", NULL, NULL, &listener), 0);
    assert_int_equal(io_listener_address(listener, address, sizeof(address)), 0);
    assert_string_equal(address, "server:7878");
    io_listener_close(listener);
    assert_int_equal(io_loop_listen(place.base.server, "client:1", NULL, NULL, &listener), CLYMQ_EINVAL);
    place_free(&place);
}

static void test_clock(void **state)
{
    struct sim_place place;
    place_init(&place, 1);
    struct io_loop *loop = place.base.server;
    int64_t wall = io_loop_wall_ms(loop);
    uint64_t now = io_loop_now_ns(loop);
    sim_world_run_for(place.world, IO_MS(1500));
    assert_int_equal(io_loop_wall_ms(loop), wall + 1500);
    assert_int_equal(io_loop_now_ns(loop), now + IO_MS(1500));
    sim_process_set_clock_skew(place.server, -3600000);
    assert_int_equal(io_loop_wall_ms(loop), wall + 1500 - 3600000);
    assert_int_equal(io_loop_wall_ms(place.base.client), wall + 1500);
    assert_int_equal(io_loop_run(loop), CLYMQ_EUNSUPPORTED);
    assert_false(sim_world_step(place.world));
    place_free(&place);
}

/* A server that writes to its disk what it receives, and dies: by the driver, or inside one of its disk
 * operations. */
struct victim {
    struct sim_place place;
    struct io_listener *listener;
    struct io_stream *accepted, *connected;
    struct io_timer timer;
    struct io_file *file;
    struct io_op op;
    struct io_work work;
    char byte;
    struct iovec part;
    uint64_t written;
    unsigned crashes, ended;
};

static void victim_ready(void *ctx, unsigned events)
{
    struct victim *victim = ctx;
    char buffer[100];
    ssize_t got = io_stream_read(victim->accepted, buffer, sizeof(buffer));
    assert_true(got > 0);
    if (io_file_pwrite(victim->file, buffer, (size_t)got, victim->written) == got)
        victim->written += (uint64_t)got;
    io_file_sync(victim->file);
}

static void victim_accept(void *ctx, struct io_socket *socket)
{
    struct victim *victim = ctx;
    assert_int_equal(io_stream_open(victim->place.base.server, socket,
                                    (struct io_stream_handler){victim_ready, victim}, &victim->accepted),
                     0);
    io_stream_watch(victim->accepted, IO_READABLE);
}

static void attacker_ready(void *ctx, unsigned events)
{
    struct victim *victim = ctx;
    char buffer[100];
    if (events & IO_READABLE) {
        ssize_t got = io_stream_read(victim->connected, buffer, sizeof(buffer));
        assert_true(got == 0 || got == CLYMQ_ECLOSED); /* the server is gone */
        victim->ended++;
        io_stream_watch(victim->connected, 0);
        return;
    }
    memset(buffer, 'x', sizeof(buffer));
    assert_true(io_stream_writev(victim->connected, &(struct iovec){buffer, sizeof(buffer)}, 1) > 0);
    io_stream_watch(victim->connected, IO_READABLE);
    assert_int_equal(io_timer_start(victim->place.base.client, &victim->timer, IO_MS(1)), 0);
}

static void attacker_again(struct io_timer *timer)
{
    struct victim *victim = timer->ctx;
    if (!victim->ended)
        io_stream_watch(victim->connected, IO_READABLE | IO_WRITABLE);
}

static void victim_start(struct victim *victim, uint64_t seed)
{
    *victim = (struct victim){0};
    place_init(&victim->place, seed);
    struct loop_place *place = &victim->place.base;
    assert_int_equal(io_fs_open(place->fs, "f", IO_OPEN_WRITE | IO_OPEN_CREATE, &victim->file), 0);
    assert_int_equal(io_fs_sync_dir(place->fs, ""), 0);
    assert_int_equal(io_loop_listen(place->server, "server:1", victim_accept, victim, &victim->listener), 0);
    assert_int_equal(io_loop_connect(place->client, "server:1",
                                     (struct io_stream_handler){attacker_ready, victim}, &victim->connected),
                     0);
    io_stream_watch(victim->connected, IO_WRITABLE);
    victim->timer = (struct io_timer){.fire = attacker_again, .ctx = victim};
}

/* Everything of the dead process answers CLYMQ_EIO; closing it is harmless, and so is leaving it. */
static void check_dead(struct victim *victim, bool close_all)
{
    struct loop_place *place = &victim->place.base;
    struct io_timer timer = {0};
    struct io_listener *listener;
    struct io_loop *loop;
    char text[64];
    assert_false(sim_process_alive(victim->place.server));
    assert_int_equal(io_timer_start(place->server, &timer, 0), CLYMQ_EIO);
    io_timer_stop(place->server, &timer);
    io_loop_wake(place->server);
    assert_int_equal(io_loop_listen(place->server, "server:2", NULL, NULL, &listener), CLYMQ_EIO);
    assert_int_equal(io_listener_address(victim->listener, text, sizeof(text)), CLYMQ_EIO);
    assert_int_equal(io_stream_read(victim->accepted, text, 1), CLYMQ_EIO);
    assert_int_equal(io_stream_writev(victim->accepted, &(struct iovec){text, 1}, 1), CLYMQ_EIO);
    io_stream_watch(victim->accepted, IO_READABLE);
    struct io_socket *socket;
    assert_int_equal(io_stream_detach(victim->accepted, &socket), CLYMQ_EIO);
    assert_int_equal(io_file_pwrite(victim->file, "x", 1, 0), CLYMQ_EIO);
    assert_int_equal(io_fs_make_dir(place->fs, "d"), CLYMQ_EIO);
    assert_int_equal(sim_process_loop(victim->place.server, &loop), CLYMQ_EIO);
    io_loop_submit(place->server, &victim->op);
    io_loop_work(place->server, &victim->work);
    if (close_all) {
        io_stream_close(victim->accepted);
        io_listener_close(victim->listener);
        io_file_close(victim->file);
    }
}

static void victim_end(struct victim *victim)
{
    /* The peer hears of it, and a new connection is refused. */
    sim_world_run_for(victim->place.world, IO_MS(10));
    assert_int_equal(victim->ended, 1);
    io_stream_close(victim->connected);
    struct loop_place *place = &victim->place.base;
    assert_int_equal(
        io_loop_connect(place->client, "server:1", (struct io_stream_handler){0}, &victim->connected), 0);
    sim_world_run_for(victim->place.world, IO_MS(10));
    assert_int_equal(io_stream_status(victim->connected), CLYMQ_EUNREACH);
    io_stream_close(victim->connected);
    place_free(&victim->place);
}

static void test_crash(void **state)
{
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct victim victim;
        victim_start(&victim, seed);
        sim_world_run_for(victim.place.world, IO_MS(10));
        assert_true(victim.written >= 300);
        struct io_timer armed = {0};
        assert_int_equal(io_timer_start(victim.place.base.server, &armed, IO_MS(1)), 0);
        sim_process_crash(victim.place.server, seed % 2);
        assert_false(io_timer_armed(&armed));
        sim_process_crash(victim.place.server, true); /* harmless */
        check_dead(&victim, seed % 3);
        sim_process_restart(victim.place.server);
        struct io_file *file;
        uint64_t size;
        assert_int_equal(io_fs_open(victim.place.base.fs, "f", IO_OPEN_READ, &file), 0);
        assert_int_equal(io_file_size(file, &size), 0);
        assert_int_equal(size, victim.written); /* it had been synced each time */
        io_file_close(file);
        struct io_loop *loop;
        assert_int_equal(sim_process_loop(victim.place.server, &loop), 0);
        io_loop_free(loop);
        victim_end(&victim);
    }
}

static void on_crash(void *ctx)
{
    struct victim *victim = ctx;
    victim->crashes++;
    check_dead(victim, false);
}

static void test_crash_at_op(void **state)
{
    unsigned lost = 0, kept = 0;
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct victim victim;
        victim_start(&victim, seed);
        uint64_t ops = sim_process_disk_ops(victim.place.server);
        sim_process_crash_at_op(victim.place.server, 1 + seed % 6, on_crash, &victim);
        sim_world_run_for(victim.place.world, IO_MS(20));
        assert_int_equal(victim.crashes, 1);
        assert_int_equal(sim_process_disk_ops(victim.place.server), ops + 1 + seed % 6);
        check_dead(&victim, true);
        sim_process_restart(victim.place.server);
        uint8_t *data;
        size_t len;
        assert_int_equal(io_fs_read_file(victim.place.base.fs, "f", 10000, &data, &len), 0);
        assert_true(len >= (1 + seed % 6 - 1) / 2 * 100); /* what was synced before */
        lost += len < victim.written;
        kept += len >= victim.written && len > 0;
        mem_free(data);
        victim_end(&victim);
    }
    assert_true(lost > 0 && kept > 0);
}

/* A crash between the submission of a sync and its instant, or between that and its completion: done is never
 * called. */
static void never(struct io_op *op)
{
    fail_msg("an operation of a crashed process was told");
}

static void test_crash_loses_operations(void **state)
{
    unsigned survived = 0;
    for (uint64_t seed = 1; seed <= 100; seed++) {
        struct sim_place place;
        place_init(&place, seed);
        sim_process_set_disk_faults(place.server, &(struct sim_disk_faults){.sync_min_ns = IO_MS(1),
                                                                            .sync_max_ns = IO_MS(1),
                                                                            .lose_all_unsynced = true});
        struct io_file *file;
        assert_int_equal(io_fs_open(place.base.fs, "f", IO_OPEN_WRITE | IO_OPEN_CREATE, &file), 0);
        assert_int_equal(io_fs_sync_dir(place.base.fs, ""), 0);
        assert_int_equal(io_file_pwrite(file, "x", 1, 0), 1);
        struct io_op op = {.kind = IO_OP_SYNC, .file = file, .done = never};
        io_loop_submit(place.base.server, &op);
        /* The sync happens after 1 ms, and is told 1 to 50 us later. */
        sim_world_run_for(place.world, IO_MS(1) + (seed % 2 ? 500 : 0) - (seed % 2 ? 0 : 500));
        sim_process_crash(place.server, true);
        sim_world_run_for(place.world, IO_MS(10));
        sim_process_restart(place.server);
        uint8_t *data;
        size_t len;
        assert_int_equal(io_fs_read_file(place.base.fs, "f", 1, &data, &len), 0);
        assert_int_equal(len, seed % 2);
        survived += len == 1;
        mem_free(data);
        place_free(&place);
    }
    assert_int_equal(survived, 50);
}

static void test_resets(void **state)
{
    unsigned broken = 0;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        struct victim victim;
        victim_start(&victim, seed);
        sim_world_set_net_faults(victim.place.world,
                                 &(struct sim_net_faults){.delay_max_ns = 1000, .reset_ppm = 1000000});
        /* The victim does not expect an error: crash it before it is told. */
        io_stream_watch(victim.connected, IO_WRITABLE);
        while (victim.accepted == NULL)
            assert_true(sim_world_step(victim.place.world));
        io_stream_watch(victim.accepted, 0);
        sim_world_run_for(victim.place.world, IO_MS(5));
        broken += victim.ended;
        assert_int_equal(io_stream_read(victim.accepted, &(char){0}, 1), CLYMQ_ECLOSED);
        sim_process_crash(victim.place.server, false);
        victim_end(&victim);
    }
    assert_int_equal(broken, 20);
}

static void count(void *ctx)
{
    ++*(unsigned *)ctx;
}

static void test_driver_events(void **state)
{
    struct sim_world *world = sim_world_new(1);
    unsigned calls = 0;
    assert_int_equal(sim_world_at(world, 100, count, &calls), 0);
    assert_int_equal(sim_world_at(world, 50, count, &calls), 0);
    assert_int_equal(sim_world_at(world, 500, count, &calls), 0);
    sim_world_run_for(world, 99);
    assert_int_equal(calls, 1);
    assert_true(sim_world_step(world));
    assert_int_equal(calls, 2);
    uint64_t trace = sim_world_trace(world);
    sim_world_trace_add(world, 7);
    assert_true(sim_world_trace(world) != trace);
    sim_world_free(world); /* with one event left */
}

/* The nth allocation fails: an error where there is one to give, and nothing is left behind. */
static void close_accepted(void *ctx, struct io_socket *socket)
{
    io_socket_close(socket);
}

static void test_allocation_failures(void **state)
{
    for (uint64_t nth = 1; nth < 100; nth++) {
        mem_fail_nth(nth);
        struct sim_world *world = sim_world_new(1);
        struct sim_process *process = world ? sim_process_new(world, "a") : NULL;
        struct io_loop *loop;
        struct io_listener *listener;
        struct io_stream *stream = NULL;
        struct io_timer timer = {0};
        int error = process ? sim_process_loop(process, &loop) : CLYMQ_ENOMEM;
        if (!error)
            error = io_loop_listen(loop, "a:1", close_accepted, NULL, &listener);
        if (!error)
            error = io_timer_start(loop, &timer, IO_MS(1000000));
        if (!error)
            error = io_loop_connect(loop, "a:1", (struct io_stream_handler){0}, &stream);
        if (!error) {
            sim_world_run_for(world, IO_MS(5));
            int status = io_stream_status(stream);
            assert_int_equal(status, mem_failed() ? CLYMQ_EUNREACH : 0);
            ssize_t wrote =
                mem_failed() ? CLYMQ_ENOMEM : io_stream_writev(stream, &(struct iovec){"x", 1}, 1);
            error = wrote < 0 ? (int)wrote : 0;
        }
        bool failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
        sim_world_free(world);
        if (!failed)
            return;
    }
    fail();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timers),
        cmocka_unit_test(test_wake_and_tail),
        cmocka_unit_test(test_disk),
        cmocka_unit_test(test_echo),
        cmocka_unit_test(test_echo_many),
        cmocka_unit_test(test_send_file),
        cmocka_unit_test(test_connect_refused),
        cmocka_unit_test(test_close_in_callback),
        cmocka_unit_test(test_peer_closes),
        cmocka_unit_test(test_detach_in_callback),
        cmocka_unit_test(test_detach_outside),
        cmocka_unit_test(test_detach_broken),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_clock),
        cmocka_unit_test(test_crash),
        cmocka_unit_test(test_crash_at_op),
        cmocka_unit_test(test_crash_loses_operations),
        cmocka_unit_test(test_resets),
        cmocka_unit_test(test_driver_events),
        cmocka_unit_test(test_allocation_failures),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
