/* A metadata transaction being built: operations with copied paths and values. The first operation is the
 * check that this coordinator is still the one (its /CoordinatorEpoch). A failure to build is remembered
 * until it is committed. */
#ifndef CLYMQ_COORD_TXN_H
#define CLYMQ_COORD_TXN_H

#include "base/buf.h"
#include "meta/meta.h"

enum {
    /* Bounds of one transaction where many partitions are written: a message to ZooKeeper is at most 1 MiB.
     */
    TXN_OPS_MAX = 2000,
    TXN_BYTES_MAX = 400 << 10,
};

struct txn {
    struct meta_op *ops;
    size_t count, cap;
    size_t bytes; /* of paths and values */
    int error;
};

/* Zero-initialise. Begins with the check of the node at epoch_path. */
void txn_begin(struct txn *txn, const char *epoch_path, int64_t epoch_version);
/* Each takes over path and value (both may be results of failed allocations). */
void txn_create(struct txn *txn, char *path, struct strbuf *value);
void txn_create_ephemeral(struct txn *txn, char *path, struct strbuf *value);
void txn_set(struct txn *txn, char *path, struct strbuf *value, int64_t version);
void txn_delete(struct txn *txn, char *path, int64_t version);
void txn_free(struct txn *txn); /* leaves it empty */
static inline bool txn_is_full(const struct txn *txn)
{
    return txn->count >= TXN_OPS_MAX || txn->bytes >= TXN_BYTES_MAX;
}

#endif
