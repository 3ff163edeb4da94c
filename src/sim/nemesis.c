/* The faults: see nemesis.h. */
#define LOG_MODULE "sim"
#include "sim/nemesis.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim/check.h"
#include "sim/control.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/rot.h"

enum {
    FAULTS_MAX = 256,
    WATCH_MS = 250,
    SERVED_WITHIN_MS = 10000,
    CLOCK_JUMP_MS = 3600 * 1000,
    DISK_CAPACITY = 256 << 20, /* without ENOSPC; never reached */
    LOOP_MIN_MS = 10,          /* between the crashes of a crash loop */
    LOOP_MAX_MS = 900,
};

/* X(name, weight): what may happen. Windows have a duration, the others are over at once. */
#define FAULTS(X)                                                                                            \
    X(KILL, 10)                                                                                              \
    X(POWER_LOSS, 12)                                                                                        \
    X(CRASH_AT_OP, 16)                                                                                       \
    X(RESTART, 8)                                                                                            \
    X(CRASH_LOOP, 6)                                                                                         \
    X(EIO_WRITE, 6)                                                                                          \
    X(EIO_SYNC, 6)                                                                                           \
    X(EIO_READ, 5)                                                                                           \
    X(ENOSPC, 8)                                                                                             \
    X(SHORT_WRITE, 4)                                                                                        \
    X(SLOW_SYNC, 6)                                                                                          \
    X(NET_DELAY, 6)                                                                                          \
    X(NET_RESET, 8)                                                                                          \
    X(NET_SHORT, 5)                                                                                          \
    X(CLOCK_JUMP, 4)                                                                                         \
    X(METADATA, 4)                                                                                           \
    X(METADATA_LOST, 3)                                                                                      \
    X(FENCE, 4)                                                                                              \
    X(FLIP_INDEX, 5)                                                                                         \
    X(FLIP_STATE, 1)                                                                                         \
    X(FLIP_LOG, 1)

enum fault_kind {
#define X(name, weight) FAULT_##name,
    FAULTS(X)
#undef X
        FAULT_KINDS
};

static const struct {
    const char *name;
    unsigned weight;
} kinds[] = {
#define X(name, weight) {#name, weight},
    FAULTS(X)
#undef X
};

struct fault {
    struct nemesis *nemesis;
    enum fault_kind kind;
    uint64_t lasts_ns; /* 0 = no window */
    bool active, lasting;
};

struct nemesis {
    struct run *run;
    struct fault faults[FAULTS_MAX];
    unsigned count, active;
    uint64_t changed_ns; /* a fault began or ended last */
    uint64_t quiet_ns;   /* all is in order since then; 0 = it is not */
    bool healed;
    struct sim_disk_faults disk;
    struct sim_net_faults net;
};

static const struct control *control_of(const struct nemesis *nemesis)
{
    return nemesis->run->options->control;
}

static void apply(struct nemesis *nemesis)
{
    sim_process_set_disk_faults(machine_process(nemesis->run->machine), &nemesis->disk);
    sim_world_set_net_faults(nemesis->run->world, &nemesis->net);
}

static uint32_t draw_ppm(struct nemesis *nemesis, uint32_t low, uint32_t high)
{
    return (uint32_t)rng_between(&nemesis->run->rng, low, high);
}

/* ---- windows ---- */

/* What the window sets; off puts it back. Where two of a kind overlap the one that ends first ends both. */
static void set_window(struct nemesis *nemesis, const struct fault *fault, bool on)
{
    struct run *run = nemesis->run;
    struct sim_disk_faults *disk = &nemesis->disk;
    struct sim_net_faults *net = &nemesis->net;

    switch (fault->kind) {
    case FAULT_EIO_WRITE:
        disk->eio_write_ppm = on ? draw_ppm(nemesis, 2000, 200000) : 0;
        break;
    case FAULT_EIO_SYNC:
        disk->eio_sync_ppm = on ? draw_ppm(nemesis, 20000, 500000) : 0;
        break;
    case FAULT_EIO_READ:
        disk->eio_read_ppm = on ? draw_ppm(nemesis, 2000, 200000) : 0;
        break;
    case FAULT_SHORT_WRITE:
        disk->short_write_ppm = on ? draw_ppm(nemesis, 2000, 200000) : 0;
        break;
    case FAULT_ENOSPC:
        if (on && rng_chance(&run->rng, 1, 3))
            disk->enospc_write_ppm = draw_ppm(nemesis, 10000, 500000);
        else if (on)
            disk->capacity = machine_disk_used(run->machine) + rng_below(&run->rng, 200000) + 1;
        if (!on) {
            disk->enospc_write_ppm = 0;
            disk->capacity = DISK_CAPACITY;
        }
        break;
    case FAULT_SLOW_SYNC:
        disk->sync_min_ns = on ? run_draw_ms(run, 1, 200) : 0;
        disk->sync_max_ns = on ? disk->sync_min_ns + run_draw_ms(run, 1, 4800) : 0;
        break;
    case FAULT_CRASH_LOOP:
        /* Slow syncs, so that each life leaves something behind the mark of the one before. */
        disk->sync_min_ns = 0;
        disk->sync_max_ns = on ? run_draw_ms(run, 1, LOOP_MAX_MS) : 0;
        break;
    case FAULT_NET_DELAY:
        net->delay_max_ns = on ? run_draw_ms(run, 5, 400) : 500000;
        break;
    case FAULT_NET_RESET:
        net->reset_ppm = on ? draw_ppm(nemesis, 1000, 50000) : 0;
        break;
    case FAULT_NET_SHORT:
        net->short_read = on ? 1 << rng_below(&run->rng, 10) : 0;
        break;
    case FAULT_FENCE: /* while the role is taken again the metadata fail, too */
        if (on)
            machine_fence(run->machine);
        machine_fail_metadata(run->machine, on ? draw_ppm(nemesis, 50000, 700000) : 0, 0);
        break;
    case FAULT_METADATA:
        machine_fail_metadata(run->machine, on ? draw_ppm(nemesis, 50000, 700000) : 0, 0);
        break;
    case FAULT_METADATA_LOST:
        machine_fail_metadata(run->machine, 0, on ? draw_ppm(nemesis, 50000, 700000) : 0);
        break;
    case FAULT_CRASH_AT_OP:
        machine_crash_at_op(run->machine, on ? 1 + rng_below(&run->rng, 1 << rng_below(&run->rng, 10)) : 0);
        break;
    default:
        break;
    }
    apply(nemesis);
}

static bool fails_disk(enum fault_kind kind)
{
    return kind == FAULT_EIO_WRITE || kind == FAULT_EIO_SYNC || kind == FAULT_EIO_READ ||
           kind == FAULT_ENOSPC || kind == FAULT_SHORT_WRITE || kind == FAULT_METADATA ||
           kind == FAULT_METADATA_LOST || kind == FAULT_FENCE;
}

/* What failed meanwhile stays failed until the next start: a failed write that could not be undone, a failed
 * sync. */
static bool is_lasting(enum fault_kind kind)
{
    return kind == FAULT_EIO_WRITE || kind == FAULT_EIO_SYNC || kind == FAULT_SHORT_WRITE;
}

static void end_window(struct fault *fault)
{
    struct nemesis *nemesis = fault->nemesis;

    if (!fault->active)
        return;
    log_info("%s ends", kinds[fault->kind].name);
    fault->active = false;
    nemesis->active--;
    nemesis->changed_ns = run_now_ns(nemesis->run);
    set_window(nemesis, fault, false);
    if (is_lasting(fault->kind)) /* what was written meanwhile may be lost, too */
        nemesis->run->history->hazard++;
    if (fails_disk(fault->kind))
        machine_failing_end(nemesis->run->machine, is_lasting(fault->kind));
}

/* What an operator does who reads the log: a broker in which something lasting failed is started anew. */
static void restart_failed(struct nemesis *nemesis)
{
    struct machine *machine = nemesis->run->machine;

    switch (rng_below(&nemesis->run->rng, 3)) {
    case 0:
        machine_kill(machine, false);
        break;
    case 1:
        machine_kill(machine, true);
        break;
    default:
        machine_restart(machine);
    }
}

static void on_window_over(void *ctx)
{
    struct fault *fault = ctx;

    if (fault->active)
        end_window(fault);
}

static void on_loop(void *ctx)
{
    struct fault *fault = ctx;
    struct run *run = fault->nemesis->run;

    if (!fault->active)
        return;
    machine_kill(run->machine, rng_chance(&run->rng, 1, 2));
    run_at(run, run_draw_ms(run, LOOP_MIN_MS, LOOP_MAX_MS), on_loop, fault);
}

static void begin_window(struct fault *fault)
{
    struct nemesis *nemesis = fault->nemesis;

    fault->active = true;
    nemesis->active++;
    if (fails_disk(fault->kind))
        machine_failing_begin(nemesis->run->machine);
    set_window(nemesis, fault, true);
    run_at(nemesis->run, fault->lasts_ns, on_window_over, fault);
    if (fault->kind == FAULT_CRASH_LOOP)
        on_loop(fault);
}

/* ---- faults ---- */

static void strike(struct fault *fault)
{
    struct nemesis *nemesis = fault->nemesis;
    struct run *run = nemesis->run;

    switch (fault->kind) {
    case FAULT_KILL:
        machine_kill(run->machine, false);
        break;
    case FAULT_POWER_LOSS:
        machine_kill(run->machine, true);
        break;
    case FAULT_RESTART:
        machine_restart(run->machine);
        break;
    case FAULT_CLOCK_JUMP:
        sim_process_set_clock_skew(machine_process(run->machine),
                                   rng_between(&run->rng, -CLOCK_JUMP_MS, CLOCK_JUMP_MS));
        break;
    case FAULT_FLIP_INDEX:
        rot_flip_index(run);
        break;
    case FAULT_FLIP_STATE:
        rot_flip_state(run);
        break;
    case FAULT_FLIP_LOG:
        rot_flip_log(run);
        break;
    default:
        begin_window(fault);
    }
}

static void on_fault(void *ctx)
{
    struct fault *fault = ctx;
    struct nemesis *nemesis = fault->nemesis;

    if (nemesis->healed)
        return;
    log_info("fault: %s, %" PRIu64 " ms", kinds[fault->kind].name, fault->lasts_ns / 1000000);
    sim_world_trace_add(nemesis->run->world, (uint64_t)fault->kind);
    nemesis->run->result->counts.faults++;
    nemesis->changed_ns = run_now_ns(nemesis->run);
    strike(fault);
}

static unsigned weight_of(const struct nemesis *nemesis, enum fault_kind kind)
{
    const struct control *control = control_of(nemesis);

    if (kind == FAULT_FLIP_LOG && control)
        return control->flips_logs ? 60 : 0;
    if (kind == FAULT_EIO_SYNC && control && control->fails_syncs)
        return 40;
    return kinds[kind].weight;
}

static enum fault_kind draw_kind(struct nemesis *nemesis)
{
    unsigned total = 0;

    for (unsigned i = 0; i < FAULT_KINDS; i++)
        total += weight_of(nemesis, (enum fault_kind)i);
    uint64_t drawn = rng_below(&nemesis->run->rng, total);
    for (unsigned i = 0; i < FAULT_KINDS; i++) {
        if (drawn < weight_of(nemesis, (enum fault_kind)i))
            return (enum fault_kind)i;
        drawn -= weight_of(nemesis, (enum fault_kind)i);
    }
    return FAULT_KILL;
}

/* ---- the time between ---- */

static void on_watch(void *ctx)
{
    struct nemesis *nemesis = ctx;
    struct run *run = nemesis->run;
    uint64_t now_ns = run_now_ns(run);

    if (machine_needs_restart(run->machine) && rng_chance(&run->rng, 1, 5))
        restart_failed(nemesis);
    if (nemesis->healed || nemesis->active > 0 || !machine_is_healthy(run->machine)) {
        nemesis->quiet_ns = 0;
    } else if (!nemesis->quiet_ns) {
        nemesis->quiet_ns = now_ns;
    } else if (now_ns - nemesis->quiet_ns >= IO_MS(SERVED_WITHIN_MS)) {
        check_served(run->history, nemesis->quiet_ns);
        nemesis->quiet_ns = now_ns;
    }
    run_at(run, IO_MS(WATCH_MS), on_watch, nemesis);
}

void nemesis_begin(struct nemesis *nemesis)
{
    struct run *run = nemesis->run;
    unsigned wanted = run->options->faults < FAULTS_MAX ? run->options->faults : FAULTS_MAX;
    uint64_t span_ms = (uint64_t)run->options->seconds * 1000;
    const struct control *control = control_of(nemesis);

    /* The data folder itself was made well, so that what shows is the loss of messages. */
    nemesis->disk.ignore_sync = control && control->ignore_sync;
    apply(nemesis);
    for (unsigned i = 0; i < wanted; i++) {
        struct fault *fault = &nemesis->faults[nemesis->count++];

        *fault = (struct fault){
            .nemesis = nemesis, .kind = draw_kind(nemesis), .lasts_ns = run_draw_ms(run, 100, 5000)};
        run_at(run, run_draw_ms(run, 0, (unsigned)span_ms), on_fault, fault);
    }
    run_at(run, IO_MS(WATCH_MS), on_watch, nemesis);
}

void nemesis_heal(struct nemesis *nemesis)
{
    log_info("all faults end");
    nemesis->healed = true;
    for (unsigned i = 0; i < nemesis->count; i++)
        end_window(&nemesis->faults[i]);
    machine_crash_at_op(nemesis->run->machine, 0);
    nemesis->changed_ns = run_now_ns(nemesis->run);
}

bool nemesis_is_quiet_since(const struct nemesis *nemesis, uint64_t since_ns)
{
    return nemesis->active == 0 && nemesis->changed_ns < since_ns;
}

struct nemesis *nemesis_new(struct run *run)
{
    struct nemesis *nemesis = run_alloc(sizeof(*nemesis));

    nemesis->run = run;
    nemesis->disk = (struct sim_disk_faults){
        .capacity = DISK_CAPACITY,
        .lose_all_unsynced = rng_chance(&run->rng, 1, 4),
    };
    nemesis->net = (struct sim_net_faults){.delay_min_ns = 20000, .delay_max_ns = 500000};
    apply(nemesis);
    return nemesis;
}

void nemesis_free(struct nemesis *nemesis)
{
    mem_free(nemesis);
}
