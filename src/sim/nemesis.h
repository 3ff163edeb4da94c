/* The schedule of faults, drawn from the seed: when, which, how hard, how long.
 *
 * Faults may overlap. Each ends by itself (windows) or is an event (kill, power loss, restart, jump of the
 * clock); after the last one nemesis_heal ends whatever is left. While nothing fails for 10 s, I7 is checked.
 */
#ifndef CLYMQ_SIM_NEMESIS_H
#define CLYMQ_SIM_NEMESIS_H

#include "sim/run.h"

struct nemesis *nemesis_new(struct run *run);
void nemesis_free(struct nemesis *nemesis);
/* Lays out run->options->faults of them over the run's seconds. */
void nemesis_begin(struct nemesis *nemesis);
/* Ends all faults for good; a machine in which something failed is started anew. */
void nemesis_heal(struct nemesis *nemesis);
/* No fault was active at any time since then. */
bool nemesis_is_quiet_since(const struct nemesis *nemesis, uint64_t since_ns);

#endif
