/* The simulated world: one virtual clock, one queue of events, any number of simulated processes with a loop
 * or several, a network between them and a disk each. One thread; everything that happens follows from the
 * seed.
 *
 * A process can be crashed (all its loops, streams and timers vanish; its disk keeps what was synced and a
 * random part, torn and reordered, of what was not) and restarted on the same disk. Faults are drawn from the
 * world's generator. Code under simulation cannot tell the difference from the operating system's loop.
 *
 * The test drives: sim_world_step runs the next event (and then that loop's tail call) and returns false when
 * nothing is left. A trace hash folds in every event, so that two runs of a seed can be compared by one
 * number. */
#ifndef CLYMQ_IO_SIM_H
#define CLYMQ_IO_SIM_H

#include "base/rng.h"
#include "io/loop.h"

struct sim_world;
struct sim_process; /* a machine with one disk: what a crash takes down as one */

/* Probabilities are per million operations. Write errors also strike creating, renaming, removing and
 * truncating; sync errors also sync_dir. After a failed sync a second one succeeds and makes nothing of the
 * lost content durable, as Linux does. A failed sync_dir leaves the folder's changes undecided: a file system
 * with a journal still holds them, or shuts down, but never says later that they are durable when they are
 * not. */
struct sim_disk_faults {
    uint32_t eio_read_ppm, eio_write_ppm, eio_sync_ppm;
    uint32_t enospc_write_ppm;
    uint32_t short_write_ppm; /* a write that leaves a prefix and fails with CLYMQ_EIO or CLYMQ_ENOSPC */
    uint64_t capacity;        /* bytes; 0 = no limit */
    uint64_t sync_min_ns, sync_max_ns; /* how long a submitted sync takes */
    bool ignore_sync;                  /* control run: sync answers success and makes nothing durable */
    bool lose_all_unsynced;            /* a crash drops every unsynced byte instead of a random part */
};
struct sim_net_faults {
    uint64_t delay_min_ns, delay_max_ns;
    uint32_t reset_ppm;  /* per delivery: the connection breaks */
    uint32_t short_read; /* 0 = off; otherwise reads and writes move at most 1..short_read bytes */
};

struct sim_world *sim_world_new(uint64_t seed); /* NULL: out of memory */
void sim_world_free(struct sim_world *world);
uint64_t sim_world_now_ns(const struct sim_world *world);
uint64_t sim_world_trace(const struct sim_world *world);
void sim_world_trace_add(struct sim_world *world, uint64_t value);
void sim_world_set_net_faults(struct sim_world *world, const struct sim_net_faults *faults);
/* Runs the next event. false: the queue is empty. */
bool sim_world_step(struct sim_world *world);
/* Steps until the clock has advanced by ns, or nothing is left. */
void sim_world_run_for(struct sim_world *world, uint64_t ns);
/* Calls fn at a simulated time (for the driver's own schedule of faults). The event is the world's. 0 or
 * CLYMQ_ENOMEM */
int sim_world_at(struct sim_world *world, uint64_t delay_ns, void (*fn)(void *ctx), void *ctx);

struct sim_process *sim_process_new(struct sim_world *world,
                                    const char *name); /* host name on the simulated net */
struct io_fs *sim_process_fs(struct sim_process *process);
void sim_process_set_disk_faults(struct sim_process *process, const struct sim_disk_faults *faults);
/* A loop of this process; dies with it. Owned by the process until io_loop_free or the crash. */
int sim_process_loop(struct sim_process *process, struct io_loop **ret_loop);
void sim_process_set_clock_skew(struct sim_process *process, int64_t wall_ms);
/* Power loss or kill: no more events are delivered to its loops. The caller then drops the code's own structs
 * with whatever "abandon" function it has; calls on a dead loop, file, listener or stream do nothing and fail
 * with CLYMQ_EIO. Closing dead things is harmless but not needed: the world frees them. Armed timers are
 * disarmed by the crash; done() of submitted work is never called. power_loss: unsynced content is dropped,
 * torn, reordered; otherwise (a kill) the disk keeps all that was written. */
void sim_process_crash(struct sim_process *process, bool power_loss);
bool sim_process_alive(const struct sim_process *process);
/* Alive again, with a new life: its disk as the crash left it, no loops yet. */
void sim_process_restart(struct sim_process *process);
/* Power loss of the process inside its nth disk operation from now (write, sync, rename, unlink, create,
 * mkdir, sync_dir, truncate): the operation takes effect partly or not at all, fails with CLYMQ_EIO, and
 * on_crash is called once, from inside it, when the process is dead already. 0 = off. */
void sim_process_crash_at_op(struct sim_process *process, uint64_t nth, void (*on_crash)(void *ctx),
                             void *ctx);
uint64_t sim_process_disk_ops(const struct sim_process *process);
/* Bit rot: flips `bits` random bits inside [offset, offset + len) of a file, durable and cached alike. */
int sim_process_flip_bits(struct sim_process *process, const char *path, uint64_t offset, uint64_t len,
                          unsigned bits);
/* A disk alone, without world or process, for unit tests: same faults and crash behaviour. */
struct sim_disk;
struct sim_disk *sim_disk_new(uint64_t seed);
void sim_disk_free(struct sim_disk *disk);
struct io_fs *sim_disk_fs(struct sim_disk *disk);
void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults);
/* Every open file dies; content as after a power loss (or a kill). */
void sim_disk_crash(struct sim_disk *disk, bool power_loss);
/* As sim_process_crash_at_op, but without callback: from the nth operation on every call fails with CLYMQ_EIO
 * until sim_disk_crash is called. */
void sim_disk_fail_from_op(struct sim_disk *disk, uint64_t nth);
bool sim_disk_has_failed(const struct sim_disk *disk);
uint64_t sim_disk_ops(const struct sim_disk *disk);
int sim_disk_flip_bits(struct sim_disk *disk, const char *path, uint64_t offset, uint64_t len, unsigned bits);

#endif
