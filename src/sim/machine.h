/* The machine under test: a simulated process with a disk, a metadata store that is as durable as embedded
 * metadata is, and a whole broker node that is started, stopped, killed and started again on it.
 *
 * Called from the driver's own events (run_at), never from inside the node's callbacks. */
#ifndef CLYMQ_SIM_MACHINE_H
#define CLYMQ_SIM_MACHINE_H

#include "sim/run.h"

#define MACHINE_BROKER_ADDRESS      "broker:8888"
#define MACHINE_COORDINATOR_ADDRESS "broker:7878"

enum { MACHINE_SHARDS_MAX = 8 };

struct machine *machine_new(struct run *run);
void machine_free(struct machine *machine); /* as a kill */

struct sim_process *machine_process(const struct machine *machine);
uint64_t machine_started_ns(const struct machine *machine); /* the last start began then */
/* Since when it answers calls; 0 = it does not. */
uint64_t machine_serving_since_ns(const struct machine *machine);

/* From now on a node is started whenever none is there, a drawn while after the last one ended. */
void machine_start(struct machine *machine);
/* Ends the process, in whatever state it is. A power loss also strikes a machine without a process. */
void machine_kill(struct machine *machine, bool power_loss);
/* Power loss in its nth disk operation from now; 0 = not any more. */
void machine_crash_at_op(struct machine *machine, uint64_t nth);
/* A clean stop and a new start; a kill where there is no serving node. */
void machine_restart(struct machine *machine);

/* Disk or metadata begin or end to fail. A start made meanwhile may be refused. lasting: what fails meanwhile
 * stays failed until the next start (a log whose sync failed). */
void machine_failing_begin(struct machine *machine);
void machine_failing_end(struct machine *machine, bool lasting);
/* Serving, nothing fails, and nothing lasting has failed since its start. */
bool machine_is_healthy(const struct machine *machine);
/* Serving, nothing fails any more, and something lasting has failed since its start. */
bool machine_needs_restart(const struct machine *machine);

/* Per million transactions: those that are refused for want of space, and those whose outcome nobody knows.
 */
void machine_fail_metadata(struct machine *machine, uint32_t full_ppm, uint32_t unknown_ppm);
/* Another coordinator takes the role and ends at once: the broker's has to take it again. */
void machine_fence(struct machine *machine);
/* Reloads a serving broker's configuration without the scrub; the next start has it again. */
void machine_stop_scrub(struct machine *machine);
uint64_t machine_segment_bytes(const struct machine *machine); /* of every log */
uint64_t machine_disk_used(const struct machine *machine);     /* bytes; 0 while it is down */

#endif
