/* Bit rot on the machine's disk: in files that are made again from the log, which nobody may notice, and in
 * logs, which is declared in the history (track->damaged) and must be noticed. */
#ifndef CLYMQ_SIM_ROT_H
#define CLYMQ_SIM_ROT_H

#include "sim/run.h"

/* A few bits of an index, a time index, a summary or a snapshot. */
void rot_flip_index(struct run *run);
/* A few bits of a shard's state file: older marks are used then, which may not fit the logs; declared for
 * every partition. */
void rot_flip_state(struct run *run);
/* A few bits of a log of a steady slot. */
void rot_flip_log(struct run *run);

#endif
