/* One run of the simulator: a seed, and everything that follows from it.
 *
 * A run owns a simulated world with two processes, "broker" (a whole broker node on a disk that crashes and
 * fails) and "clients" (everybody who pushes, pulls and administers), a schedule of faults, and the history
 * that the invariants are checked against. One thread. The first violation ends the run. */
#ifndef CLYMQ_SIM_RUN_H
#define CLYMQ_SIM_RUN_H

#include <stdbool.h>

#include "base/rng.h"
#include "io/sim.h"

struct control;
struct history;
struct machine;
struct nemesis;
struct visits;
struct workload;

enum { RUN_LOGS_MAX = 16 };

struct run_options {
    uint64_t seed;
    unsigned seconds; /* simulated, of load and faults; healing and the drain come after */
    unsigned faults;
    unsigned shards;               /* 1–8; 0 = drawn, and drawn anew for restarts */
    const struct control *control; /* a protection switched off, or NULL */
};

/* What happened, so that an idle run is noticed. X(name, sentence) */
#define RUN_COUNTS(X)                                                                                        \
    X(pushed, "messages pushed")                                                                             \
    X(acknowledged, "acknowledged")                                                                          \
    X(committed, "acknowledged at -1")                                                                       \
    X(refused, "refused")                                                                                    \
    X(uncertain, "with unknown outcome")                                                                     \
    X(repeated, "pushes repeated")                                                                           \
    X(read, "messages read by consumers")                                                                    \
    X(drained, "messages in final drains")                                                                   \
    X(sealed, "blocks sealed")                                                                               \
    X(topics, "topics and partitions deleted")                                                               \
    X(faults, "faults")                                                                                      \
    X(kills, "kills")                                                                                        \
    X(power_losses, "power losses")                                                                          \
    X(restarts, "clean restarts")                                                                            \
    X(starts, "starts")                                                                                      \
    X(refused_starts, "starts refused while the disk failed")                                                \
    X(recoveries, "returns to service within 10 s, checked")                                                 \
    X(disk_ops, "disk operations")                                                                           \
    X(events, "events")

struct run_counts {
#define X(name, sentence) uint64_t name;
    RUN_COUNTS(X)
#undef X
};

struct run_result {
    char violation[700]; /* "" = passed; otherwise "I1: …" */
    uint64_t trace;      /* hash of everything that happened, in order */
    uint64_t simulated_ms;
    struct run_counts counts;
};

struct run {
    const struct run_options *options;
    struct run_result *result;
    struct sim_world *world;
    struct sim_process *clients;
    struct io_loop *loop; /* the clients' */
    struct rng rng;       /* of clients and faults; apart from the world's, whose draws the broker shifts */
    struct history *history;
    struct machine *machine;
    struct workload *workload;
    struct visits *visits; /* while they are made */
    struct nemesis *nemesis;
};

/* Runs one seed. The result is filled in; the log, if on, shows simulated time. */
void run_seed(const struct run_options *options, struct run_result *ret_result);

/* Records the first violation and ends the run after the current event. invariant: "I1" … */
void run_violation(struct run *run, const char *invariant, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
static inline bool run_is_over(const struct run *run)
{
    return run->result->violation[0] != '\0';
}
static inline uint64_t run_now_ns(const struct run *run)
{
    return sim_world_now_ns(run->world);
}
/* Calls fn later; for the driver's own events. Aborts without memory: the simulator itself is not under test.
 */
void run_at(struct run *run, uint64_t delay_ns, void (*fn)(void *ctx), void *ctx);
/* Memory of the simulator's own, zeroed; aborts where there is none. */
void *run_alloc(size_t size) __attribute__((malloc));
/* Uniform in [low, high] milliseconds, as nanoseconds. */
uint64_t run_draw_ms(struct run *run, unsigned low, unsigned high);

#endif
