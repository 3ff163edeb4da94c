/* Visits: connections that come, ask something and go, one after the other, when nobody else does anything.
 * They must leave nothing behind in the broker. */
#ifndef CLYMQ_SIM_VISITS_H
#define CLYMQ_SIM_VISITS_H

#include "sim/run.h"

struct visits *visits_new(struct run *run);
/* All visits were made. Memory that they left in the broker is a violation by then. */
bool visits_are_over(const struct visits *visits);
void visits_free(struct visits *visits);

#endif
