/* Building metadata transactions: see txn.h. */
#include "coord/txn.h"

#include "base/error.h"
#include "base/mem.h"

static void txn_add(struct txn *txn, struct meta_op op, char *path, struct strbuf *value)
{
    if (!path || (value && value->failed))
        txn->error = CLYMQ_ENOMEM;
    if (!txn->error && txn->count == txn->cap) {
        size_t cap = txn->cap ? txn->cap * 2 : 8;
        struct meta_op *grown = mem_realloc(txn->ops, cap * sizeof(*grown));
        if (grown) {
            txn->ops = grown;
            txn->cap = cap;
        } else {
            txn->error = CLYMQ_ENOMEM;
        }
    }
    if (txn->error) {
        mem_free(path);
        if (value)
            strbuf_free(value);
        return;
    }
    op.path = path;
    if (value) {
        op.value = bytes_of(value->data, value->len);
        *value = (struct strbuf){0};
    }
    txn->bytes += strlen(path) + op.value.len;
    txn->ops[txn->count++] = op;
}

void txn_begin(struct txn *txn, const char *epoch_path, int64_t epoch_version)
{
    txn_add(txn, (struct meta_op){.kind = META_CHECK, .version = epoch_version}, mem_strdup(epoch_path),
            NULL);
}

void txn_create(struct txn *txn, char *path, struct strbuf *value)
{
    txn_add(txn, (struct meta_op){.kind = META_CREATE}, path, value);
}

void txn_create_ephemeral(struct txn *txn, char *path, struct strbuf *value)
{
    txn_add(txn, (struct meta_op){.kind = META_CREATE, .ephemeral = true}, path, value);
}

void txn_set(struct txn *txn, char *path, struct strbuf *value, int64_t version)
{
    txn_add(txn, (struct meta_op){.kind = META_SET, .version = version}, path, value);
}

void txn_delete(struct txn *txn, char *path, int64_t version)
{
    txn_add(txn, (struct meta_op){.kind = META_DELETE, .version = version}, path, NULL);
}

void txn_free(struct txn *txn)
{
    for (size_t i = 0; i < txn->count; i++) {
        mem_free((void *)(uintptr_t)txn->ops[i].path);
        mem_free((void *)(uintptr_t)txn->ops[i].value.ptr);
    }
    mem_free(txn->ops);
    *txn = (struct txn){0};
}
