/* The metadata tree in memory: what the embedded and the simulated backend both hold as their authority.
 *
 * Pure: no I/O, no clock, no sessions of its own (a session is a number that owns ephemeral nodes). A
 * transaction is applied at once and stays revocable until it is committed or reverted, so that a backend can
 * write it somewhere in between. Several may be applied before the first is committed; they are reverted in
 * the reverse order. Neither commit nor revert can fail. One thread (another may read nodes while nothing is
 * applied). */
#ifndef CLYMQ_META_TREE_H
#define CLYMQ_META_TREE_H

#include "base/list.h"
#include "base/map.h"
#include "meta/meta.h"

struct tree_node {
    struct bytes path; /* into text */
    uint8_t *value;    /* owned; NULL when empty */
    size_t value_len;
    int64_t version;
    uint64_t session;         /* owner of an ephemeral node; 0 = persistent */
    struct tree_node *parent; /* NULL: the root */
    struct list sibling;      /* among the parent's children, in no order that counts */
    struct list children;     /* those that do not exist any more, but might again, included */
    size_t child_count;       /* that exist */
    struct list gone; /* in the tree's list of nodes to be forgotten, once no transaction needs them */
    bool exists;      /* false: deleted by an uncommitted transaction, or not yet created by one */
    bool marked;      /* for the backend's use between apply and commit; false otherwise */
    char text[];      /* the path, NUL-terminated */
};

enum tree_event { TREE_CREATED, TREE_SET, TREE_DELETED };

/* What one applied operation replaced. */
struct tree_change {
    struct tree_node *node;
    uint8_t *old_value;
    size_t old_value_len;
    int64_t old_version;
    uint64_t old_session;
    bool existed;
    enum tree_event event;
};
struct tree_undo {
    size_t count;
    struct tree_change changes[];
};

struct tree;
struct tree *tree_new(void); /* with the root "/"; NULL: out of memory */
void tree_free(struct tree *tree);
size_t tree_count(const struct tree *tree); /* nodes, the root included */

/* CLYMQ_EINVAL unless path is absolute UTF-8 with non-empty parts, at most META_PATH_MAX bytes. */
int tree_check_path(struct bytes path);
/* The path of the parent of a checked path other than "/"; a view into it. */
struct bytes tree_parent_path(struct bytes path);
/* A node that exists, or NULL. */
const struct tree_node *tree_get(const struct tree *tree, struct bytes path);
/* The names of the node's children, sorted by bytes; views into the tree. *ret_names is freed with mem_free
 * (NULL when there are none). CLYMQ_ENOENT, CLYMQ_ENOMEM. */
int tree_list(const struct tree *tree, struct bytes path, struct bytes **ret_names, size_t *ret_count);
/* Adds a stored persistent node; its parent was loaded before. CLYMQ_EINVAL, CLYMQ_ENOENT, CLYMQ_EEXIST,
 * CLYMQ_ENOMEM. */
int tree_load(struct tree *tree, struct bytes path, struct bytes value, int64_t version);

/* Applies all operations in order, each seeing those before it, or none. On failure *ret_failed_op is the
 * operation that failed. */
int tree_apply(struct tree *tree, const struct meta_op *ops, size_t count, uint64_t session,
               struct tree_undo **ret_undo, size_t *ret_failed_op);
/* Makes it final, frees undo, and tells of each change (path is valid during the call). changed may be NULL;
 * it must not call the tree. */
void tree_commit(struct tree *tree, struct tree_undo *undo,
                 void (*changed)(void *ctx, struct bytes path, enum tree_event event), void *ctx);
void tree_revert(struct tree *tree, struct tree_undo *undo);
/* Removes every ephemeral node of the session, telling of each as tree_commit does. */
void tree_end_session(struct tree *tree, uint64_t session,
                      void (*changed)(void *ctx, struct bytes path, enum tree_event event), void *ctx);

#endif
