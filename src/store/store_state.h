/* What a store writes to its state file, and when. Belongs to one store; on its shard's thread. */
#ifndef CLYMQ_STORE_STORE_STATE_H
#define CLYMQ_STORE_STORE_STATE_H

struct store;
struct block;
struct state_waiter;

/* Puts the block's record (whole, or only the mark) among those pending. */
void store_state_put(struct store *store, struct block *block);
/* Writes pending records; makes the file anew when it has grown too long or broke. 0 or an error; then the
 * blocks' records count as unwritten. */
int store_state_write(struct store *store);
/* Tells the waiter once everything now in the state file is durable. */
void store_state_sync(struct store *store, struct state_waiter *waiter);

#endif
