/* A request to a backend that holds the tree itself: copied arguments and, later, its outcome. Owned by the
 * backend's queue until its callback was called. One thread. */
#ifndef CLYMQ_META_REQUEST_H
#define CLYMQ_META_REQUEST_H

#include "base/list.h"
#include "meta/tree.h"
#include "meta/watch.h"

enum meta_request_kind { REQUEST_TRANSACT, REQUEST_GET, REQUEST_LIST };

struct meta_request {
    struct list link;
    enum meta_request_kind kind;
    bool watch;
    meta_callback done;
    void *ctx;
    uint64_t due_ns; /* simulated backend: when it is applied, then when it is answered */
    int error;
    int failed_op;
    size_t op_count;
    struct meta_op *ops;          /* TRANSACT: copies; into bytes */
    char *path;                   /* GET, LIST: into bytes */
    struct tree_undo *undo;       /* applied and not yet final */
    struct meta_result *snapshot; /* GET, LIST: a copy of the outcome, to be answered later */
    _Alignas(8) uint8_t bytes[];
};

/* Copies everything. NULL: out of memory. A transaction that is too long is remembered as failed. */
struct meta_request *meta_request_new_transact(const struct meta_op *ops, size_t count, meta_callback done,
                                               void *ctx);
struct meta_request *meta_request_new_read(enum meta_request_kind kind, const char *path, bool watch,
                                           meta_callback done, void *ctx);
void meta_request_free(struct meta_request *request); /* NULL is allowed */
/* Calls the callback with an error and no result. */
void meta_request_answer(const struct meta_request *request, int error, int failed_op);
/* GET and LIST: sets the watch, reads the tree and calls the callback. */
void meta_request_read(const struct meta_request *request, const struct tree *tree,
                       struct watch_set *watches);
/* GET and LIST in two steps: copies the outcome (or sets error), and answers with it later (any kind of
 * request). */
void meta_request_snapshot(struct meta_request *request, const struct tree *tree, struct watch_set *watches);
void meta_request_answer_snapshot(const struct meta_request *request);
/* A request for which there is no memory to queue it: answered at once. */
void meta_request_refuse(meta_callback done, void *ctx);

#endif
