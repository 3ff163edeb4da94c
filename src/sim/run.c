/* A run from beginning to end: load under faults, healing, a last crash, the drain, the checks. */
#define LOG_MODULE "sim"
#include "sim/run.h"

#include <assert.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim/check.h"
#include "sim/control.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/nemesis.h"
#include "sim/visits.h"
#include "sim/workload.h"

enum {
    READY_MS = 30000,
    HEALTHY_MS = 30000,
    SERVED_MS = 10000,
    QUIET_MS = 2000, /* until nothing of the clients is on its way any more */
    VISITS_MS = 60000,
    IDLE_MS = 150000,    /* longer than any delivery time-out */
    RETAINED_MS = 10000, /* longer than the broker takes to look at what retention would drop */
    DRAIN_MS = 60000,
    EVENTS_MAX = 100 * 1000 * 1000,
};

/* Milliseconds since 1970 at which the simulated clock begins, as io/sim_loop.c has it. */
#define WALL_START_US ((int64_t)1700000000000000)

void run_violation(struct run *run, const char *invariant, const char *format, ...)
{
    char text[600];
    va_list list;

    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    log_error("violation of %s: %s", invariant, text);
    if (!run_is_over(run))
        snprintf(run->result->violation, sizeof(run->result->violation), "%s: %s", invariant, text);
}

void run_at(struct run *run, uint64_t delay_ns, void (*fn)(void *ctx), void *ctx)
{
    int error = sim_world_at(run->world, delay_ns, fn, ctx);

    assert(!error);
}

void *run_alloc(size_t size)
{
    void *memory = mem_zalloc(size);

    if (!memory)
        abort();
    return memory;
}

uint64_t run_draw_ms(struct run *run, unsigned low, unsigned high)
{
    return IO_MS(low) + rng_below(&run->rng, IO_MS(high - low) + 1);
}

static int64_t wall_us(void *ctx)
{
    const struct run *run = ctx;

    return WALL_START_US + (int64_t)(run_now_ns(run) / 1000);
}

/* ---- stepping ---- */

/* Steps until is_there (NULL: never) or for_ms are over. Whether it is there and nothing is wrong. */
static bool step_until(struct run *run, uint64_t for_ms, bool (*is_there)(struct run *run))
{
    uint64_t end_ns = run_now_ns(run) + IO_MS(for_ms);

    while (!run_is_over(run) && run_now_ns(run) < end_ns) {
        if (is_there && is_there(run))
            return true;
        if (!sim_world_step(run->world)) {
            run_violation(run, "I7", "nothing happens any more");
            return false;
        }
        if (++run->result->counts.events > EVENTS_MAX)
            run_violation(run, "I8", "more than %d events", EVENTS_MAX);
    }
    return !run_is_over(run) && !is_there;
}

static bool is_ready(struct run *run)
{
    return workload_is_ready(run->workload);
}

static bool is_healthy(struct run *run)
{
    return machine_is_healthy(run->machine);
}

static bool is_idle(struct run *run)
{
    return workload_is_idle(run->workload);
}

static bool is_visited(struct run *run)
{
    return visits_are_over(run->visits);
}

static bool is_drained(struct run *run)
{
    return workload_is_drained(run->workload);
}

/* ---- phases ---- */

static bool set_up(struct run *run)
{
    machine_start(run->machine);
    if (step_until(run, READY_MS, is_ready))
        return true;
    run_violation(run, "I7", "the topics could not be made within %d s, without any fault", READY_MS / 1000);
    return false;
}

static bool load(struct run *run)
{
    workload_begin(run->workload);
    nemesis_begin(run->nemesis);
    return step_until(run, (uint64_t)run->options->seconds * 1000, NULL);
}

static bool become_healthy(struct run *run)
{
    if (step_until(run, HEALTHY_MS, is_healthy))
        return true;
    run_violation(run, "I7", "the broker did not serve again within %d s, without any fault",
                  HEALTHY_MS / 1000);
    return false;
}

static bool heal(struct run *run)
{
    nemesis_heal(run->nemesis);
    if (!become_healthy(run))
        return false;
    uint64_t healed_ns = run_now_ns(run);
    if (!step_until(run, SERVED_MS, NULL))
        return false;
    check_served(run->history, healed_ns);
    return !run_is_over(run);
}

static bool settle(struct run *run)
{
    workload_stop(run->workload);
    if (!step_until(run, IDLE_MS, is_idle)) {
        run_violation(run, "I7",
                      "pushes or changes of topics had no outcome %d s after all faults were healed",
                      IDLE_MS / 1000);
        return false;
    }
    workload_end(run->workload);
    return !run_is_over(run);
}

static bool visit(struct run *run)
{
    if (!step_until(run, QUIET_MS, NULL))
        return false;
    /* Where it makes indexes again, the simulated disk's memory would count as left by the visits. */
    machine_stop_scrub(run->machine);
    run->visits = visits_new(run);
    if (!step_until(run, VISITS_MS, is_visited))
        run_violation(run, "I7", "a hundred short visits took more than %d s", VISITS_MS / 1000);
    visits_free(run->visits);
    run->visits = NULL;
    return !run_is_over(run);
}

/* Whatever was acknowledged survives this too. */
static bool last_crash(struct run *run)
{
    uint64_t drawn = rng_below(&run->rng, 5);
    const struct control *control = run->options->control;
    bool spare_marks = control && control->flips_logs;

    if ((drawn < 3 || control) && !spare_marks)
        machine_kill(run->machine, true);
    else if (drawn <= 3)
        machine_kill(run->machine, false);
    else
        machine_restart(run->machine);
    /* A start of the log that was not durable yet is put back, and retention has to do its work again. */
    return become_healthy(run) && step_until(run, RETAINED_MS, NULL);
}

static bool drain(struct run *run)
{
    workload_drain(run->workload);
    if (step_until(run, DRAIN_MS, is_drained))
        return true;
    run_violation(run, "I7", "%s could not be read within %d s", workload_undrained(run->workload),
                  DRAIN_MS / 1000);
    return false;
}

static void execute(struct run *run)
{
    if (set_up(run) && load(run) && heal(run) && settle(run) && visit(run) && last_crash(run) && drain(run))
        check_end(run->history);
}

static void notice_idleness(struct run *run)
{
    const struct run_counts *counts = &run->result->counts;

    if (counts->committed == 0 || counts->read == 0 || counts->drained == 0)
        run_violation(run, "idle", "nothing was acknowledged, read or drained: the run proves nothing");
}

void run_seed(const struct run_options *options, struct run_result *ret_result)
{
    uint64_t live_bytes = mem_live_bytes();
    struct run run = {.options = options, .result = ret_result};

    *ret_result = (struct run_result){0};
    run.world = sim_world_new(options->seed);
    if (!run.world)
        abort();
    log_set_clock(wall_us, &run);
    rng_seed(&run.rng, options->seed ^ 0x636c796d712d7369u);
    run.clients = sim_process_new(run.world, "clients");
    if (!run.clients || sim_process_loop(run.clients, &run.loop))
        abort();
    run.history = history_new(&run);
    run.machine = machine_new(&run);
    run.nemesis = nemesis_new(&run);
    run.workload = workload_new(&run);
    execute(&run);
    if (!run_is_over(&run))
        notice_idleness(&run);
    ret_result->trace = sim_world_trace(run.world);
    ret_result->simulated_ms = run_now_ns(&run) / 1000000;
    ret_result->counts.disk_ops = sim_process_disk_ops(machine_process(run.machine));
    workload_free(run.workload);
    machine_free(run.machine);
    nemesis_free(run.nemesis);
    sim_world_free(run.world);
    history_free(run.history);
    log_set_clock(NULL, NULL);
    if (mem_live_bytes() != live_bytes && !ret_result->violation[0])
        snprintf(ret_result->violation, sizeof(ret_result->violation),
                 "I8: %" PRId64 " bytes of memory were not given back",
                 (int64_t)(mem_live_bytes() - live_bytes));
}
