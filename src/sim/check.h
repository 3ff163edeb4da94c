/* The invariants about a whole run, checked when it is over: everything was drained, nothing is under way. */
#ifndef CLYMQ_SIM_CHECK_H
#define CLYMQ_SIM_CHECK_H

#include "sim/history.h"

/* Checks I1 (acknowledged messages are in the drain), I3 (order), that damage was reported rather than cut
 * away, that retention left what it must and no more, and that nothing is left of deleted partitions. */
void check_end(struct history *history);
/* I7: each steady partition has acknowledged a push since since_ns. Damaged ones need not. */
void check_served(struct history *history, uint64_t since_ns);

#endif
