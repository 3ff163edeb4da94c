/* Control runs: a protection of the product, or the disk's honesty, switched off. A checker that cannot fail
 * proves nothing: each of them must be caught. They are reachable from here and from tests only, never from
 * the server's options. */
#ifndef CLYMQ_SIM_CONTROL_H
#define CLYMQ_SIM_CONTROL_H

#include <stdbool.h>

#include "partition/partition.h"
#include "store/store.h"

struct control {
    const char *name;
    const char *sentence;
    bool ignore_sync; /* of the simulated disk */
    struct store_faults store;
    struct partition_faults partition;
    bool flips_logs; /* needs damaged logs to show */
    bool fails_syncs;
};

/* NULL: there is none of that name. */
const struct control *control_find(const char *name);
/* All of them, for the help text; the last one has name NULL. */
extern const struct control controls[];

#endif
