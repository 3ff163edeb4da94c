/* The SQLite file of the embedded backend: opening and checking it, loading the tree, writing what changed.
 * Blocking; one thread at a time. It holds one table, node(path, value, version, ephemeral, sum), and is kept
 * open with an exclusive lock, WAL and synchronous=FULL: a write that returned 0 survives a power loss. */
#ifndef CLYMQ_META_DATABASE_H
#define CLYMQ_META_DATABASE_H

#include "meta/tree.h"

struct database;

/* What one node is to be; views. */
struct database_write {
    struct bytes path, value;
    int64_t version;
    bool ephemeral;
    bool exists; /* false: removed */
};

/* A file that is missing or empty is made; or, where it was there before in this run, refused: the disk must
 * be gone from its place, and metadata made anew would know nothing of what is stored. */
enum database_new { DATABASE_MAY_BE_NEW, DATABASE_IS_THERE };
/* Opens or makes the file, removes ephemeral nodes, loads the rest into tree. On failure error says what to
 * do. CLYMQ_ELOCKED, CLYMQ_EFORMAT, CLYMQ_ECORRUPT, CLYMQ_EDENIED, CLYMQ_ENOSPC, CLYMQ_EIO, CLYMQ_ENOMEM. */
int database_open(const char *path, enum database_new made, struct tree *tree, struct strbuf *error,
                  struct database **ret_database);
void database_close(struct database *database); /* NULL is allowed */
/* All or nothing, durable when it returns 0. CLYMQ_ENOSPC, CLYMQ_ENOMEM: nothing is stored. CLYMQ_ESESSION:
 * whether it is stored shows only when the file is opened again. */
int database_write(struct database *database, const struct database_write *writes, size_t count);
/* Why the last database_write failed, in SQLite's words. Valid until the next call. */
const char *database_failure(const struct database *database);

#endif
