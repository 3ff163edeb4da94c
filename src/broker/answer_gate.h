/* How much memory large answers (of pull, and of the coordinator's lists) may take on one shard.
 *
 * Such an answer is made in memory, up to 1 MiB or what a description needs, and stays there until its client
 * has read it; its request is 100 bytes. So that a client that asks for much and reads nothing costs little:
 * a connection has a few of them under way at a time (made or being made, not yet sent), the others wait in
 * their order; and once all of the shard take more than the budget, it is one a connection, and pulls are
 * answered shortly.
 *
 * Used on the shard of the connections. */
#ifndef CLYMQ_BROKER_ANSWER_GATE_H
#define CLYMQ_BROKER_ANSWER_GATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shard/shard.h"

enum { ANSWER_GATE_BUCKETS = 1024 };

struct answer_gate {
    struct list buckets[ANSWER_GATE_BUCKETS]; /* struct answer_turns, one per connection that has requests */
    struct list left;                         /* of them, those whose next ones are due */
    struct shard_tail tail;
    struct shard *shard;
    int64_t bytes, budget;
    bool closed;
};

struct answer_turns;

/* Embedded in the request. */
struct answer_ticket {
    struct list link;
    struct answer_turns *turns;
    size_t bytes; /* taken of the budget: the most that a pull's answer may have */
    /* It is its turn. Called from inside enter, or at the end of a round. */
    void (*run)(struct answer_ticket *ticket);
};

void answer_gate_init(struct answer_gate *gate, struct shard *shard, int64_t budget);
/* The node is dying: no more turns. What waits is freed by its owner. */
void answer_gate_close(struct answer_gate *gate);
/* run comes now or later. 0 or CLYMQ_ENOMEM. */
int answer_gate_enter(struct answer_gate *gate, uint64_t connection, struct answer_ticket *ticket);
/* The answer is made and takes len bytes until leave. */
void answer_gate_made(struct answer_gate *gate, struct answer_ticket *ticket, size_t len);
/* The answer is sent or dropped; others may run. Harmless for a ticket that never entered. */
void answer_gate_leave(struct answer_gate *gate, struct answer_ticket *ticket);

#endif
