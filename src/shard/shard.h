/* A shard: one thread, one event loop, one mailbox, and whatever data is given to it to own.
 *
 * Data belongs to one shard and is touched only there; shards talk through messages. A message is a struct
 * owned by its sender until sent and by the receiver from then on; messages from one shard to another arrive
 * in the order sent. In the simulator several shards run on simulated loops of one thread, with the same
 * code.
 *
 * Real shards: shards_new starts threads; work begins with a message. The owner of what runs on the shards
 * stops it by messages of its own, then calls shards_stop, which joins the threads. */
#ifndef CLYMQ_SHARD_SHARD_H
#define CLYMQ_SHARD_SHARD_H

#include "base/metrics.h"
#include "base/rng.h"
#include "io/loop.h"

struct shard;

/* Embedded in the sender's struct. run() is called on the receiving shard and takes over the message. */
struct shard_message {
    _Atomic(struct shard_message *) next;
    void (*run)(struct shard *shard, struct shard_message *message);
};

struct shard {
    unsigned id; /* 0 … count - 1 */
    struct shards *group;
    struct io_loop *loop;
    struct rng rng; /* seeded from the loop */
    void *data;     /* the program's per-shard root, set by it on this shard */
};

struct shards;

/* count shards (1–256), each on a thread and an operating-system loop of its own with disk_workers workers.
 * metrics may be NULL. */
int shards_new(unsigned count, unsigned disk_workers, struct metrics *metrics, struct shards **ret_shards);
/* count shards on given loops, without threads: for the simulator and unit tests; the loops stay the caller's
 * and must not be freed before the shards. */
int shards_new_on_loops(struct io_loop **loops, unsigned count, struct metrics *metrics,
                        struct shards **ret_shards);
unsigned shards_count(const struct shards *shards);
struct shard *shards_get(struct shards *shards, unsigned id);
/* Stops threads after the current round and joins them. Messages not yet run are dropped: stop what you own
 * first. */
void shards_stop(struct shards *shards);
void shards_free(struct shards *shards);

/* Any thread (a shard's, or another). Never fails; wakes the receiver once per burst. */
void shard_send(struct shard *to, struct shard_message *message);
/* The shard that runs on this thread; NULL on others (and in the simulator: the one being stepped). */
struct shard *shard_current(void);

/* A piece of work for the end of the current round of events, where what arrived together is handled
 * together. list_init its link before the first use. */
struct shard_tail {
    struct list link;
    void (*run)(struct shard_tail *tail);
    void *ctx;
};
/* Runs once at the end of the current round (or the next one); armed again by the same call. Shard's own
 * thread. */
void shard_at_tail(struct shard *shard, struct shard_tail *tail);

#endif
