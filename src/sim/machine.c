/* The machine: see machine.h. Whatever ends a node, its parts are taken apart by an event of the driver's
 * own, because the end may come from inside the node's code (a disk operation, a callback). */
#define LOG_MODULE "sim"
#include "sim/machine.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/node.h"
#include "meta/sim.h"
#include "sim/control.h"
#include "sim/history.h"
#include "sim/nemesis.h"

enum {
    DOWN_MIN_MS = 5,
    DOWN_MAX_MS = 1500,
    GRACE_MAX_MS = 2000,
    STOP_WITHIN_MS = 30000,
    META_DELAY_MAX_NS = 3000000,
    CONNECTIONS_MAX = 80, /* three times what the clients have: one that is not given back shows */
};

enum machine_state {
    MACHINE_DOWN, /* no process */
    MACHINE_STARTING,
    MACHINE_SERVING,
    MACHINE_STOPPING,
    MACHINE_ENDING, /* over; its parts are about to be taken apart */
};

struct machine {
    struct run *run;
    struct sim_process *process;
    struct sim_meta_store *meta_store;
    struct broker_node_config config;
    enum machine_state state;
    unsigned life; /* grows with each start; events of an earlier life do nothing */
    bool running;  /* machine_start was called */
    bool cut_off;  /* this life ended in a disk operation, which failed */

    struct io_loop *loops[MACHINE_SHARDS_MAX];
    unsigned shard_count;
    struct shards *shards;
    struct metrics *metrics;
    struct store_folder *folder;
    struct broker_node *node;
    uint64_t started_ns, serving_ns, stopping_ns;
    int end_error; /* of a refused start or a stop */
    char sentence[200];

    unsigned failing;
    uint64_t failing_ended_ns, lasting_ended_ns;
    struct list events;
};

/* An event about one life of the node. */
struct machine_event {
    struct list link;
    struct machine *machine;
    unsigned life;
    void (*fn)(struct machine *machine);
};

static void on_event(void *ctx)
{
    struct machine_event *event = ctx;
    struct machine *machine = event->machine;
    void (*fn)(struct machine *) = event->life == machine->life ? event->fn : NULL;

    list_remove(&event->link);
    mem_free(event);
    if (fn)
        fn(machine);
}

static void machine_at(struct machine *machine, uint64_t delay_ns, void (*fn)(struct machine *machine))
{
    struct machine_event *event = run_alloc(sizeof(*event));

    *event = (struct machine_event){.machine = machine, .life = machine->life, .fn = fn};
    list_push_back(&machine->events, &event->link);
    run_at(machine->run, delay_ns, on_event, event);
}

/* ---- end ---- */

static void start_node(struct machine *machine);

/* Whether something failed in this life of the node. */
static bool may_refuse(const struct machine *machine)
{
    return machine->failing > 0 || machine->failing_ended_ns >= machine->started_ns;
}

/* Reads that fail count as damage, and what a disk that failed has lost may. */
static void check_scrub(const struct machine *machine)
{
    struct broker_node_state state;

    if (!machine->node || machine->cut_off || may_refuse(machine) || machine->run->history->rotten)
        return;
    broker_node_get_state(machine->node, &state);
    if (state.scrub_damaged)
        run_violation(machine->run, "I8",
                      "the scrub found %" PRIu64 " damaged places, and nothing was damaged",
                      state.scrub_damaged);
}

static void take_apart(struct machine *machine)
{
    bool alive = sim_process_alive(machine->process);

    check_scrub(machine);
    broker_node_free(machine->node);
    machine->node = NULL;
    shards_free(machine->shards);
    machine->shards = NULL;
    for (unsigned i = 0; i < machine->shard_count; i++)
        if (alive)
            io_loop_free(machine->loops[i]);
    machine->shard_count = 0;
    store_folder_close(machine->folder);
    machine->folder = NULL;
    metrics_free(machine->metrics);
    machine->metrics = NULL;
    machine->serving_ns = 0;
    machine->state = MACHINE_DOWN;
    machine->life++;
    if (machine->running)
        machine_at(machine, run_draw_ms(machine->run, DOWN_MIN_MS, DOWN_MAX_MS), start_node);
}

static void on_ended(struct machine *machine)
{
    assert(machine->state == MACHINE_ENDING);
    take_apart(machine);
}

/* The process is dead, or its node has stopped; perhaps this is called from the node's own code. */
static void end(struct machine *machine)
{
    machine->state = MACHINE_ENDING;
    machine->serving_ns = 0;
    machine_at(machine, 0, on_ended);
}

static void on_crashed(void *ctx)
{
    struct machine *machine = ctx;

    log_info("power lost in a disk operation");
    machine->cut_off = true;
    machine->run->result->counts.power_losses++;
    machine->run->history->hazard++;
    if (machine->state != MACHINE_ENDING)
        end(machine);
}

void machine_crash_at_op(struct machine *machine, uint64_t nth)
{
    sim_process_crash_at_op(machine->process, nth, on_crashed, machine);
}

void machine_kill(struct machine *machine, bool power_loss)
{
    struct run_counts *counts = &machine->run->result->counts;

    log_info("%s", power_loss ? "power loss" : "kill");
    if (power_loss) {
        counts->power_losses++;
        machine->run->history->hazard++;
    } else {
        counts->kills++;
    }
    if (!sim_process_alive(machine->process)) /* down already */
        return;
    sim_process_crash(machine->process, power_loss);
    if (machine->state == MACHINE_DOWN)
        return;
    if (machine->state != MACHINE_ENDING)
        end(machine);
}

/* ---- start ---- */

static void on_refused(struct machine *machine)
{
    log_info("the start was refused: %s (%s)", error_name(machine->end_error), machine->sentence);
    machine->run->result->counts.refused_starts++;
    if (!may_refuse(machine))
        run_violation(machine->run, "I8", "the broker refused to start although nothing fails: %s (%s)",
                      error_name(machine->end_error), machine->sentence);
    if (machine->state != MACHINE_STARTING)
        return;
    sim_process_crash(machine->process, false); /* the program ends */
    take_apart(machine);
}

static void refuse(struct machine *machine, int error, const char *sentence)
{
    if (machine->state != MACHINE_STARTING) /* it crashed in a disk operation */
        return;
    machine->end_error = error;
    snprintf(machine->sentence, sizeof(machine->sentence), "%s", sentence);
    machine_at(machine, 0, on_refused);
}

static void on_started(void *ctx, int error, const char *sentence)
{
    struct machine *machine = ctx;

    if (machine->state != MACHINE_STARTING)
        return;
    if (error) {
        refuse(machine, error, sentence);
        return;
    }
    log_info("serving with %u shards", machine->shard_count);
    machine->state = MACHINE_SERVING;
    machine->serving_ns = run_now_ns(machine->run);
}

static int open_meta(void *ctx, struct shard *shard, struct strbuf *error, struct meta **ret_meta)
{
    struct machine *machine = ctx;

    return sim_meta_open(machine->meta_store, shard, 1000, META_DELAY_MAX_NS, ret_meta);
}

static void close_meta(void *ctx, struct meta *meta)
{
    struct machine *machine = ctx;

    if (sim_process_alive(machine->process))
        meta_close(meta);
    else
        sim_meta_expire(machine->meta_store, meta);
}

static unsigned draw_shards(struct machine *machine)
{
    static const unsigned counts[] = {1, 1, 2, 4};
    unsigned asked = machine->run->options->shards;

    return asked ? asked : counts[rng_below(&machine->run->rng, 4)];
}

static int open_folder(struct machine *machine)
{
    struct strbuf sentence = {0};
    uint8_t random[16];

    rng_fill(&machine->run->rng, random, sizeof(random));
    int error = store_folder_open(sim_process_fs(machine->process), random, &sentence, &machine->folder);
    if (error)
        refuse(machine, error, sentence.data ? sentence.data : "");
    strbuf_free(&sentence);
    return error;
}

static void start_node(struct machine *machine)
{
    unsigned count = draw_shards(machine);

    if (machine->state != MACHINE_DOWN)
        return;
    if (!sim_process_alive(machine->process))
        sim_process_restart(machine->process);
    log_info("starting with %u shards", count);
    machine->run->result->counts.starts++;
    machine->state = MACHINE_STARTING;
    machine->cut_off = false;
    machine->started_ns = run_now_ns(machine->run);
    for (unsigned i = 0; i < count; i++) {
        int error = sim_process_loop(machine->process, &machine->loops[i]);
        assert(!error);
        machine->shard_count = i + 1;
    }
    if (open_folder(machine) || machine->state != MACHINE_STARTING)
        return;
    machine->metrics = metrics_new();
    int error = shards_new_on_loops(machine->loops, count, machine->metrics, &machine->shards);
    if (!error)
        error = broker_node_new(&machine->config, machine->shards, machine->folder, machine->metrics,
                                &machine->node);
    assert(!error); /* only memory could be short */
    broker_node_start(machine->node, on_started, machine);
}

void machine_start(struct machine *machine)
{
    machine->running = true;
    if (machine->state == MACHINE_DOWN)
        start_node(machine);
}

/* ---- clean stop ---- */

static void on_stop_checked(struct machine *machine)
{
    log_info("stopped: %s", error_name(machine->end_error));
    if (machine->end_error && !may_refuse(machine))
        run_violation(machine->run, "I8", "a clean stop failed although nothing fails: %s (%s)",
                      error_name(machine->end_error), machine->sentence);
    if (machine->state == MACHINE_STOPPING)
        take_apart(machine);
}

static void on_stopped(void *ctx, int error, const char *sentence)
{
    struct machine *machine = ctx;

    if (machine->state != MACHINE_STOPPING)
        return;
    machine->end_error = error;
    snprintf(machine->sentence, sizeof(machine->sentence), "%s", sentence);
    machine_at(machine, 0, on_stop_checked);
}

static void on_stop_overdue(struct machine *machine)
{
    if (machine->state != MACHINE_STOPPING)
        return;
    if (nemesis_is_quiet_since(machine->run->nemesis, machine->stopping_ns))
        run_violation(machine->run, "I8", "a clean stop did not end within %d s", STOP_WITHIN_MS / 1000);
    machine_kill(machine, false);
}

void machine_restart(struct machine *machine)
{
    unsigned grace_ms = (unsigned)rng_below(&machine->run->rng, GRACE_MAX_MS);

    if (machine->state != MACHINE_SERVING) {
        machine_kill(machine, false);
        return;
    }
    log_info("clean stop");
    machine->run->result->counts.restarts++;
    machine->state = MACHINE_STOPPING;
    machine->stopping_ns = run_now_ns(machine->run);
    machine->serving_ns = 0;
    broker_node_stop(machine->node, grace_ms, on_stopped, machine);
    machine_at(machine, IO_MS(grace_ms + STOP_WITHIN_MS), on_stop_overdue);
}

/* ---- faults ---- */

void machine_failing_begin(struct machine *machine)
{
    machine->failing++;
}

void machine_failing_end(struct machine *machine, bool lasting)
{
    assert(machine->failing > 0);
    machine->failing--;
    machine->failing_ended_ns = run_now_ns(machine->run);
    if (lasting)
        machine->lasting_ended_ns = machine->failing_ended_ns;
}

bool machine_is_healthy(const struct machine *machine)
{
    return machine->state == MACHINE_SERVING && machine->failing == 0 &&
           machine->lasting_ended_ns < machine->started_ns;
}

bool machine_needs_restart(const struct machine *machine)
{
    return machine->state == MACHINE_SERVING && machine->failing == 0 && !machine_is_healthy(machine);
}

void machine_fail_metadata(struct machine *machine, uint32_t full_ppm, uint32_t unknown_ppm)
{
    struct sim_meta_faults faults = {.transact_error = full_ppm ? CLYMQ_ENOSPC : 0,
                                     .transact_error_ppm = full_ppm,
                                     .unknown_ppm = unknown_ppm};

    sim_meta_store_set_faults(machine->meta_store, &faults);
}

void machine_fence(struct machine *machine)
{
    (void)sim_meta_store_touch(machine->meta_store, "/ClyMQ/CoordinatorEpoch"); /* perhaps not there yet */
}

void machine_stop_scrub(struct machine *machine)
{
    struct broker_node_config config = machine->config;

    if (machine->state != MACHINE_SERVING)
        return;
    config.scrub_bytes_per_s = 0;
    int error = broker_node_reload(machine->node, &config);
    assert(!error); /* only memory could be short */
}

uint64_t machine_segment_bytes(const struct machine *machine)
{
    return (uint64_t)machine->config.store.segment_bytes;
}

uint64_t machine_disk_used(const struct machine *machine)
{
    uint64_t left, total;

    return io_fs_space(sim_process_fs(machine->process), &left, &total) ? 0 : total - left;
}

struct sim_process *machine_process(const struct machine *machine)
{
    return machine->process;
}

uint64_t machine_started_ns(const struct machine *machine)
{
    return machine->started_ns;
}

uint64_t machine_serving_since_ns(const struct machine *machine)
{
    return machine->serving_ns;
}

/* ---- life ---- */

/* Small limits, so that a short run rolls segments, makes checkpoints, closes files and fills queues. */
static void configure(struct machine *machine)
{
    struct rng *rng = &machine->run->rng;
    struct broker_node_config *config = &machine->config;
    const struct control *control = machine->run->options->control;

    broker_node_config_defaults(config);
    config->broker_id = "1";
    config->broker_listen = MACHINE_BROKER_ADDRESS;
    config->coordinator_listen = MACHINE_COORDINATOR_ADDRESS;
    config->store.segment_bytes = 8192 << rng_below(rng, 6);
    config->store.index_interval_bytes = 128 << rng_below(rng, 6);
    config->store.checkpoint_bytes = 16384 << rng_below(rng, 7);
    config->store.room_by_worker = rng_chance(rng, 1, 2) ? 1 : 16384 << rng_below(rng, 4);
    config->store.max_open_files = 16 << rng_below(rng, 3);
    config->store.segment_ms = rng_chance(rng, 1, 3) ? 600000 : config->store.segment_ms;
    config->push_wait_ms = rng_between(rng, 300, 6000);
    config->max_waiting_bytes = 16384 << rng_below(rng, 8);
    config->retention_check_ms = rng_between(rng, 500, 8000);
    config->limits.max_pipelined_calls = 8 << rng_below(rng, 6);
    config->store.commit_linger_ms = rng_chance(rng, 1, 2) ? rng_between(rng, 1, 200) : 0;
    config->limits.max_connections = CONNECTIONS_MAX;
    if (rng_chance(rng, 2, 3)) {
        config->scrub_bytes_per_s = 65536 << rng_below(rng, 8);
        config->scrub_every_ms = rng_between(rng, 50, 5000);
    }
    config->open_meta = open_meta;
    config->close_meta = close_meta;
    config->ctx = machine;
    if (control) {
        config->store.faults = &control->store;
        config->partition_faults = &control->partition;
    }
}

struct machine *machine_new(struct run *run)
{
    struct machine *machine = run_alloc(sizeof(*machine));

    machine->run = run;
    list_init(&machine->events);
    machine->process = sim_process_new(run->world, "broker");
    machine->meta_store = sim_meta_store_new(rng_next(&run->rng));
    assert(machine->process && machine->meta_store);
    configure(machine);
    return machine;
}

void machine_free(struct machine *machine)
{
    if (!machine)
        return;
    machine->running = false;
    machine->life++; /* what is under way ends here */
    sim_process_crash(machine->process, false);
    take_apart(machine);
    sim_meta_store_free(machine->meta_store);
    while (!list_empty(&machine->events))
        mem_free(CONTAINER_OF(list_pop_front(&machine->events), struct machine_event, link));
    mem_free(machine);
}
