/* Where a topic's partitions are served. */
#ifndef CLYMQ_CLI_BENCH_PLACE_H
#define CLYMQ_CLI_BENCH_PLACE_H

#include "cli/bench.h"

struct bench_places {
    char **names;  /* of the partitions, by number */
    size_t count;  /* > 0 */
    char *address; /* of the broker that leads them all */
};
/* Waits up to timeout_ms for every partition to have a leader. 0, or the exit code (told). */
int bench_places_find(clymq_client *client, const char *topic, int64_t timeout_ms,
                      struct bench_places *ret_places);
void bench_places_free(struct bench_places *places);

#endif
