/* Turns for work that takes a shard long at a time: making the JSON of pulls costs milliseconds a megabyte,
 * looking for a batch in the log ten times what asking for it does, and whoever else has business with the
 * shard shall not wait for more than a few of them in one round of events.
 *
 * Used on the shard that does the work. */
#ifndef CLYMQ_BROKER_PULL_TURNS_H
#define CLYMQ_BROKER_PULL_TURNS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/shard.h"

struct pull_turns {
    struct shard *shard;
    struct list waiting; /* struct pull_turn */
    struct io_timer timer;
    uint64_t round_ns; /* the round that bytes are of */
    size_t bytes;      /* worked on in it */
    size_t least;
    size_t guess; /* what a turn is counted as before it tells: what others told lately */
};

/* Embedded in the request. */
struct pull_turn {
    struct list link;
    void (*run)(struct pull_turn *turn);
};

/* A turn counts as `least` bytes at least. */
void pull_turns_init(struct pull_turns *turns, struct shard *shard, size_t least);
/* Whoever waits is forgotten. */
void pull_turns_end(struct pull_turns *turns);
/* true: go on now. false: turn->run is called in one of the next rounds, in the order of asking. */
bool pull_turns_take(struct pull_turns *turns, struct pull_turn *turn);
/* So many bytes were worked on in a turn. */
void pull_turns_spend(struct pull_turns *turns, size_t bytes);

#endif
