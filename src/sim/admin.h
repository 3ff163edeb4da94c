/* The administrator: makes the topics that the run begins with, and, while load runs, deletes and makes
 * topics and partitions, changes ack levels (which seals blocks and opens the next ones), and asks for lists.
 */
#ifndef CLYMQ_SIM_ADMIN_H
#define CLYMQ_SIM_ADMIN_H

#include "sim/run.h"

struct admin;

/* Adds the slots to the run's history and begins to make them. */
struct admin *admin_new(struct run *run);
bool admin_is_ready(const struct admin *admin); /* every slot has been made */
/* From now on it changes things; pause_ms: between changes, at most. */
void admin_begin(struct admin *admin, unsigned pause_ms);
/* Nothing new; what is under way goes on until it has succeeded. */
void admin_stop(struct admin *admin);
bool admin_is_idle(const struct admin *admin);
void admin_free(struct admin *admin);

#endif
