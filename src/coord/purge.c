/* Removing a part of the tree, whatever is in it: lists all nodes from the top down, then deletes them from
 * the bottom up in bounded transactions. What a crash leaves is a smaller tree of the same kind; its top goes
 * last. */
#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

enum { LISTS_UNDER_WAY = 64 };

struct purge {
    struct task task;
    struct task *parent;
    char **paths; /* parents before children; NULL: handed to a transaction, or not there */
    size_t count, cap;
    size_t listed;    /* paths whose children were asked for */
    size_t under_way; /* lists not answered */
    int error;
};

static void purge_free(struct purge *purge)
{
    task_end(&purge->task);
    for (size_t i = 0; i < purge->count; i++)
        mem_free(purge->paths[i]);
    mem_free(purge->paths);
    mem_free(purge);
}

static void purge_finish(struct purge *purge, int error)
{
    struct task *parent = purge->parent;
    purge_free(purge);
    task_ready(parent, error);
}

static void purge_drop(struct task *task, int error)
{
    purge_free((struct purge *)task); /* its parent is dropped too */
}

/* Takes over path. */
static int purge_add(struct purge *purge, char *path)
{
    if (path && purge->count == purge->cap) {
        size_t cap = purge->cap ? purge->cap * 2 : 16;
        char **grown = mem_realloc(purge->paths, cap * sizeof(*grown));
        if (grown) {
            purge->paths = grown;
            purge->cap = cap;
        }
    }
    if (!path || purge->count == purge->cap) {
        mem_free(path);
        return CLYMQ_ENOMEM;
    }
    purge->paths[purge->count++] = path;
    return 0;
}

static void purge_listed(struct task *task, void *arg, const struct meta_result *result)
{
    struct purge *purge = (struct purge *)task;
    size_t at = (size_t)(uintptr_t)arg;
    purge->under_way--;
    if (result->error == CLYMQ_ENOENT) {
        mem_free(purge->paths[at]);
        purge->paths[at] = NULL;
    } else if (result->error) {
        purge->error = result->error;
    }
    for (size_t i = 0; !result->error && !purge->error && i < result->child_count; i++) {
        struct strbuf path = {0};
        strbuf_printf(&path, "%s/", purge->paths[at]);
        strbuf_append(&path, result->children[i].ptr, result->children[i].len);
        if (path.failed)
            strbuf_free(&path);
        purge->error = purge_add(purge, path.data);
    }
    task_ready(task, 0);
}

/* Children stand after their parents, so from the end on each transaction deletes leaves first. */
static void purge_delete(struct purge *purge)
{
    struct txn txn = coord_txn(purge->task.coord);
    while (purge->count > 0 && !txn_is_full(&txn)) {
        char *path = purge->paths[--purge->count];
        if (path)
            txn_delete(&txn, path, META_ANY_VERSION);
    }
    task_transact(&purge->task, &txn);
}

static void purge_step(struct task *task, int error)
{
    struct purge *purge = (struct purge *)task;
    if (error && !purge->error)
        purge->error = error;
    while (!purge->error && purge->under_way < LISTS_UNDER_WAY && purge->listed < purge->count) {
        size_t at = purge->listed++;
        purge->under_way++; /* before: without memory the answer comes from inside */
        int failed = task_list(task, purge->paths[at], purge_listed, (void *)(uintptr_t)at);
        if (failed) {
            purge->under_way--;
            purge->error = failed;
        }
    }
    if (purge->under_way)
        return;
    if (purge->error || purge->count == 0)
        purge_finish(purge, purge->error);
    else
        purge_delete(purge);
}

int purge_start(struct coord *coord, char *path, struct task *parent)
{
    struct purge *purge = mem_zalloc(sizeof(*purge));
    if (!purge) {
        mem_free(path);
        return CLYMQ_ENOMEM;
    }
    task_init(&purge->task, coord, purge_step, purge_drop);
    purge->parent = parent;
    int error = purge_add(purge, path);
    if (error) {
        purge_free(purge);
        return error;
    }
    task_ready(&purge->task, 0);
    return 0;
}
