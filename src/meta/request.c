/* Requests to the backends that hold the tree themselves: see request.h. */
#include "meta/request.h"

#include <stdint.h>

#include "base/error.h"
#include "base/mem.h"

/* More would not fit into one message to ZooKeeper either (its limit is 1 MiB). */
static const size_t TRANSACTION_BYTES_MAX = (size_t)16 << 20;

static struct meta_request *request_new(enum meta_request_kind kind, size_t bytes, meta_callback done,
                                        void *ctx)
{
    struct meta_request *request = mem_zalloc(sizeof(*request) + bytes);
    if (!request)
        return NULL;
    list_init(&request->link);
    request->kind = kind;
    request->done = done;
    request->ctx = ctx;
    request->failed_op = -1;
    return request;
}

struct meta_request *meta_request_new_transact(const struct meta_op *ops, size_t count, meta_callback done,
                                               void *ctx)
{
    size_t bytes = 0;
    for (size_t i = 0; i < count && bytes <= TRANSACTION_BYTES_MAX; i++) {
        bytes += strlen(ops[i].path) + 1;
        if (ops[i].kind == META_CREATE || ops[i].kind == META_SET)
            bytes += ops[i].value.len;
    }
    if (count > SIZE_MAX / 2 / sizeof(*ops) || bytes > TRANSACTION_BYTES_MAX) {
        struct meta_request *refused = request_new(REQUEST_TRANSACT, 0, done, ctx);
        if (refused)
            refused->error = CLYMQ_ETOOBIG;
        return refused;
    }
    struct meta_request *request = request_new(REQUEST_TRANSACT, count * sizeof(*ops) + bytes, done, ctx);
    if (!request)
        return NULL;
    request->op_count = count;
    request->ops = (struct meta_op *)(void *)request->bytes;
    uint8_t *at = request->bytes + count * sizeof(*ops);
    for (size_t i = 0; i < count; i++) {
        struct meta_op *op = &request->ops[i];
        *op = ops[i];
        op->path = memcpy(at, ops[i].path, strlen(ops[i].path) + 1);
        at += strlen(ops[i].path) + 1;
        if (op->kind == META_CREATE || op->kind == META_SET) {
            if (op->value.len)
                memcpy(at, op->value.ptr, op->value.len);
            op->value.ptr = at;
            at += op->value.len;
        }
    }
    return request;
}

struct meta_request *meta_request_new_read(enum meta_request_kind kind, const char *path, bool watch,
                                           meta_callback done, void *ctx)
{
    size_t len = strlen(path);
    struct meta_request *request = request_new(kind, len + 1, done, ctx);
    if (!request)
        return NULL;
    request->watch = watch;
    request->path = memcpy(request->bytes, path, len + 1);
    return request;
}

void meta_request_free(struct meta_request *request)
{
    if (request)
        mem_free(request->snapshot);
    mem_free(request);
}

void meta_request_answer(const struct meta_request *request, int error, int failed_op)
{
    request->done(request->ctx, &(struct meta_result){.error = error, .failed_op = failed_op});
}

/* Sets the watch and reads; *ret_names is what result->children points to. */
static void read_tree(const struct meta_request *request, const struct tree *tree, struct watch_set *watches,
                      struct meta_result *result, struct bytes **ret_names)
{
    struct bytes path = bytes_of_text(request->path);
    result->failed_op = -1;
    result->error = tree_check_path(path);
    if (!result->error && request->watch)
        result->error = watch_add(watches, path, request->kind == REQUEST_GET ? WATCH_NODE : WATCH_CHILDREN);
    if (result->error)
        return;
    if (request->kind == REQUEST_LIST) {
        result->error = tree_list(tree, path, ret_names, &result->child_count);
        result->children = *ret_names;
        return;
    }
    const struct tree_node *node = tree_get(tree, path);
    if (!node) {
        result->error = CLYMQ_ENOENT;
        return;
    }
    result->node =
        (struct meta_node){bytes_of(node->value, node->value_len), node->version, node->session != 0};
}

void meta_request_read(const struct meta_request *request, const struct tree *tree, struct watch_set *watches)
{
    struct meta_result result = {0};
    struct bytes *names = NULL;
    read_tree(request, tree, watches, &result, &names);
    request->done(request->ctx, &result);
    mem_free(names);
}

/* One allocation: the result, the names' views, then all bytes. */
void meta_request_snapshot(struct meta_request *request, const struct tree *tree, struct watch_set *watches)
{
    struct meta_result result = {0};
    struct bytes *names MEM_CLEANUP = NULL;
    read_tree(request, tree, watches, &result, &names);
    request->error = result.error;
    if (result.error)
        return;
    size_t bytes = result.node.value.len;
    for (size_t i = 0; i < result.child_count; i++)
        bytes += names[i].len;
    size_t views = result.child_count * sizeof(*names);
    request->snapshot = mem_alloc(sizeof(result) + views + bytes);
    if (!request->snapshot) {
        request->error = CLYMQ_ENOMEM;
        return;
    }
    struct bytes *copies = (struct bytes *)(request->snapshot + 1);
    uint8_t *at = (uint8_t *)copies + views;
    for (size_t i = 0; i < result.child_count; i++) {
        copies[i] = bytes_of(memcpy(at, names[i].ptr, names[i].len), names[i].len);
        at += names[i].len;
    }
    if (result.node.value.len)
        result.node.value.ptr = memcpy(at, result.node.value.ptr, result.node.value.len);
    result.children = result.child_count ? copies : NULL;
    *request->snapshot = result;
}

void meta_request_answer_snapshot(const struct meta_request *request)
{
    if (request->snapshot && !request->error)
        request->done(request->ctx, request->snapshot);
    else
        meta_request_answer(request, request->error, request->failed_op);
}

void meta_request_refuse(meta_callback done, void *ctx)
{
    done(ctx, &(struct meta_result){.error = CLYMQ_ENOMEM, .failed_op = -1});
}
