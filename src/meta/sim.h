/* Faults of the simulated backend, for tests and clymq-sim; the rest of its interface is in meta.h. */
#ifndef CLYMQ_META_SIM_H
#define CLYMQ_META_SIM_H

#include "meta/meta.h"

struct sim_meta_faults {
    int transact_error;          /* such as CLYMQ_ENOSPC: nothing is changed */
    uint32_t transact_error_ppm; /* per million transactions; 0 = never */
    /* Per million transactions: one is applied or not, nobody knows, and the session is lost with it, as with
     * embedded metadata whose disk fails. The next request begins a new session. */
    uint32_t unknown_ppm;
};
void sim_meta_store_set_faults(struct sim_meta_store *store, const struct sim_meta_faults *faults);
/* Transactions applied so far. */
uint64_t sim_meta_store_transactions(const struct sim_meta_store *store);
/* The node is set to the value it has, as another process would: transactions that expect the version that it
 * had fail. 0, CLYMQ_ENOENT, CLYMQ_ENOMEM. */
int sim_meta_store_touch(struct sim_meta_store *store, const char *path);
/* The session is lost for good while its process lives: outstanding and later requests answer CLYMQ_ESESSION,
 * the watcher is told, its ephemeral nodes are gone. */
void sim_meta_lose_session(struct sim_meta_store *store, struct meta *meta);

#endif
