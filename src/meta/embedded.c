/* The embedded backend: the tree in memory answers reads and validates transactions; SQLite makes them
 * durable.
 *
 * Requests wait in one queue and are done in its order. Transactions at its head are applied to the tree
 * (revocably), written by a disk worker in one SQLite transaction, then committed to the tree and answered;
 * meanwhile what follows waits, so that nobody sees what is not durable. When SQLite fails, all of that pass
 * are reverted and answered with the error; when the outcome is unknown the session is over: everything that
 * waits is answered with CLYMQ_ESESSION, and the next request opens the file again, in a new session that
 * shows which it was. */
#define LOG_MODULE "meta"

#include <assert.h>
#include <pthread.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "meta/database.h"
#include "meta/request.h"

enum { SESSION = 1, PASS_REQUESTS_MAX = 1024 };

/* What a disk worker is given. It outlives the backend when that is closed while the worker runs. */
struct pass {
    struct io_work work;
    struct embedded *owner; /* NULL: closed meanwhile */
    struct database *database;
    struct database_write *writes;
    size_t write_count;
    char *reopen_path;     /* the pass opens this file again instead of writing: */
    struct tree *new_tree; /* … what it found there */
    int error;
    pthread_mutex_t mutex;
    pthread_cond_t finished_signal;
    bool finished; /* run() is over; guarded by mutex */
};

struct embedded {
    struct meta meta;
    struct shard *shard;
    struct tree *tree;
    struct database *database;
    struct watch_set watches;
    struct list queue;   /* requests not begun */
    struct list current; /* those of the pass under way */
    struct pass *pass;
    struct shard_tail tail;
    bool lost; /* the outcome of a write is unknown; the file is to be opened again */
    char *path;
    unsigned depth; /* calls under way that use this struct after a callback */
    bool closed;
};

static void embedded_process(struct embedded *embedded);

static void pass_free(struct pass *pass)
{
    mem_free(pass->writes);
    tree_free(pass->new_tree);
    mem_free(pass->reopen_path);
    pthread_cond_destroy(&pass->finished_signal);
    pthread_mutex_destroy(&pass->mutex);
    mem_free(pass);
}

static void embedded_free(struct embedded *embedded)
{
    list_remove(&embedded->tail.link);
    database_close(embedded->database);
    watch_set_free(&embedded->watches);
    tree_free(embedded->tree);
    mem_free(embedded->path);
    mem_free(embedded);
}

static void embedded_enter(struct embedded *embedded)
{
    embedded->depth++;
}

static void embedded_leave(struct embedded *embedded)
{
    if (--embedded->depth == 0 && embedded->closed)
        embedded_free(embedded);
}

static void note_change(void *ctx, struct bytes path, enum tree_event event)
{
    struct embedded *embedded = ctx;
    watch_note(&embedded->watches, path, event);
}

static void deliver_watches(struct embedded *embedded)
{
    struct watch *watch;
    while (!embedded->closed && (watch = watch_pop(&embedded->watches))) {
        if (embedded->meta.watcher)
            embedded->meta.watcher(embedded->meta.watcher_ctx, META_EVENT_CHANGED, watch->path);
        mem_free(watch);
    }
}

static void revert_current(struct embedded *embedded)
{
    for (struct list *item = embedded->current.prev; item != &embedded->current; item = item->prev) {
        struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
        if (request->undo)
            tree_revert(embedded->tree, request->undo);
        request->undo = NULL;
    }
}

static void answer_all(struct list *requests, int error)
{
    struct list *item;
    while ((item = list_pop_front(requests))) {
        struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
        meta_request_answer(request, error, -1);
        meta_request_free(request);
    }
}

/* What waits belongs to the lost session too; what comes from now on to the next one. */
static void lose_session(struct embedded *embedded)
{
    log_error("the outcome of a metadata write is unknown (%s): reading it back",
              database_failure(embedded->database));
    embedded->lost = true;
    watch_clear(&embedded->watches);
    list_move_all(&embedded->queue, &embedded->current);
    if (embedded->meta.watcher)
        embedded->meta.watcher(embedded->meta.watcher_ctx, META_EVENT_SESSION, "/");
}

/* The pass is over, error says how. Every one of it gets that error, because even those that had failed
 * before did so against what now is reverted. */
static void finish_current(struct embedded *embedded, int error)
{
    embedded_enter(embedded);
    if (error)
        revert_current(embedded);
    else
        LIST_FOR_EACH(item, &embedded->current) {
            struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
            if (request->undo)
                tree_commit(embedded->tree, request->undo, note_change, embedded);
            request->undo = NULL;
        }
    if (error == CLYMQ_ESESSION)
        lose_session(embedded);
    deliver_watches(embedded);
    struct list *item;
    while ((item = list_pop_front(&embedded->current))) {
        struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
        if (embedded->closed)
            meta_request_answer(request, CLYMQ_ESHUTDOWN, -1);
        else
            meta_request_answer(request, error ? error : request->error, error ? -1 : request->failed_op);
        meta_request_free(request);
    }
    embedded_leave(embedded);
}

/* The database is closed in any case. */
static void pass_reopen(struct pass *pass)
{
    database_close(pass->database);
    pass->database = NULL;
    pass->new_tree = tree_new();
    struct strbuf why = {0};
    pass->error = pass->new_tree ? database_open(pass->reopen_path, DATABASE_IS_THERE, pass->new_tree, &why,
                                                 &pass->database)
                                 : CLYMQ_ENOMEM;
    if (pass->error)
        log_limited(LOG_ERROR, "%s", why.data ? why.data : error_sentence(pass->error));
    strbuf_free(&why);
}

static void pass_run(struct io_work *work)
{
    struct pass *pass = work->ctx;
    if (pass->reopen_path)
        pass_reopen(pass);
    else
        pass->error = database_write(pass->database, pass->writes, pass->write_count);
    pthread_mutex_lock(&pass->mutex);
    pass->finished = true;
    pthread_cond_signal(&pass->finished_signal);
    pthread_mutex_unlock(&pass->mutex);
}

/* The file is open again, or cannot be: then what waited for it is answered, and the next request tries once
 * more. */
static void finish_reopen(struct embedded *embedded, struct pass *pass)
{
    embedded->database = pass->database;
    if (pass->error) {
        list_move_all(&embedded->queue, &embedded->current);
        return;
    }
    struct tree *old = embedded->tree;
    embedded->tree = pass->new_tree;
    pass->new_tree = old;
    embedded->lost = false;
    log_info("the metadata are read back: %zu nodes", tree_count(embedded->tree));
}

static void pass_done(struct io_work *work)
{
    struct pass *pass = work->ctx;
    struct embedded *embedded = pass->owner;
    int error = pass->error;
    bool reopened = pass->reopen_path != NULL;
    if (embedded && reopened)
        finish_reopen(embedded, pass);
    pass_free(pass);
    if (!embedded)
        return;
    embedded->pass = NULL;
    embedded_enter(embedded);
    if (reopened)
        answer_all(&embedded->current, CLYMQ_ESESSION);
    else
        finish_current(embedded, error);
    embedded_process(embedded);
    embedded_leave(embedded);
}

/* Each node that the pass touched, once, as it is to be. Marks are set and taken back here. */
static int pass_gather(struct embedded *embedded, struct pass *pass)
{
    size_t most = 0;
    LIST_FOR_EACH(item, &embedded->current) {
        const struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
        most += request->undo ? request->undo->count : 0;
    }
    pass->writes = mem_calloc(most, sizeof(*pass->writes));
    if (!pass->writes)
        return CLYMQ_ENOMEM;
    for (int round = 0; round < 2; round++)
        LIST_FOR_EACH(item, &embedded->current) {
            const struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
            for (size_t i = 0; request->undo && i < request->undo->count; i++) {
                struct tree_node *node = request->undo->changes[i].node;
                if (round == 0 && !node->marked)
                    pass->writes[pass->write_count++] =
                        (struct database_write){.path = node->path,
                                                .value = bytes_of(node->value, node->value_len),
                                                .version = node->version,
                                                .ephemeral = node->session != 0,
                                                .exists = node->exists};
                node->marked = round == 0;
            }
        }
    return 0;
}

static struct pass *pass_new(struct embedded *embedded)
{
    struct pass *pass = mem_zalloc(sizeof(*pass));
    if (!pass)
        return NULL;
    pthread_mutex_init(&pass->mutex, NULL);
    pthread_cond_init(&pass->finished_signal, NULL);
    pass->owner = embedded;
    pass->database = embedded->database;
    pass->work = (struct io_work){.run = pass_run, .done = pass_done, .ctx = pass};
    return pass;
}

static int pass_start(struct embedded *embedded)
{
    struct pass *pass = pass_new(embedded);
    if (!pass)
        return CLYMQ_ENOMEM;
    int error = pass_gather(embedded, pass);
    if (error) {
        pass_free(pass);
        return error;
    }
    embedded->pass = pass;
    io_loop_work(embedded->shard->loop, &pass->work);
    return 0;
}

static int reopen_start(struct embedded *embedded)
{
    struct pass *pass = pass_new(embedded);
    if (!pass)
        return CLYMQ_ENOMEM;
    pass->reopen_path = mem_strdup(embedded->path);
    if (!pass->reopen_path) {
        pass_free(pass);
        return CLYMQ_ENOMEM;
    }
    embedded->database = NULL; /* the pass closes it */
    embedded->pass = pass;
    io_loop_work(embedded->shard->loop, &pass->work);
    return 0;
}

/* Applies the transactions at the queue's head. Whether any of them changes something. */
static bool gather_current(struct embedded *embedded)
{
    bool changes = false;
    for (int count = 0; count < PASS_REQUESTS_MAX && !list_empty(&embedded->queue); count++) {
        struct meta_request *request = CONTAINER_OF(embedded->queue.next, struct meta_request, link);
        if (request->kind != REQUEST_TRANSACT)
            break;
        list_remove(&request->link);
        list_push_back(&embedded->current, &request->link);
        if (request->error)
            continue;
        size_t failed_op;
        request->error =
            tree_apply(embedded->tree, request->ops, request->op_count, SESSION, &request->undo, &failed_op);
        if (request->error)
            request->failed_op = (int)failed_op;
        else if (request->undo->count)
            changes = true;
    }
    return changes;
}

static void embedded_process(struct embedded *embedded)
{
    embedded_enter(embedded);
    while (!embedded->closed && !embedded->pass && !list_empty(&embedded->queue)) {
        if (embedded->lost) {
            if (reopen_start(embedded))
                answer_all(&embedded->queue, CLYMQ_ESESSION);
            continue;
        }
        struct meta_request *request = CONTAINER_OF(embedded->queue.next, struct meta_request, link);
        if (request->kind != REQUEST_TRANSACT) {
            list_remove(&request->link);
            meta_request_read(request, embedded->tree, &embedded->watches);
            meta_request_free(request);
            continue;
        }
        int error = 0;
        if (gather_current(embedded) && !(error = pass_start(embedded)))
            break;
        finish_current(embedded, error);
    }
    embedded_leave(embedded);
}

static void embedded_at_tail(struct shard_tail *tail)
{
    embedded_process(tail->ctx);
}

static void embedded_enqueue(struct embedded *embedded, struct meta_request *request, meta_callback done,
                             void *ctx)
{
    if (!request) {
        meta_request_refuse(done, ctx);
        return;
    }
    assert(!embedded->closed);
    list_push_back(&embedded->queue, &request->link);
    if (!embedded->pass)
        shard_at_tail(embedded->shard, &embedded->tail);
}

static void embedded_transact(struct meta *meta, const struct meta_op *ops, size_t count, meta_callback done,
                              void *ctx)
{
    embedded_enqueue((struct embedded *)meta, meta_request_new_transact(ops, count, done, ctx), done, ctx);
}

static void embedded_get(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx)
{
    embedded_enqueue((struct embedded *)meta, meta_request_new_read(REQUEST_GET, path, watch, done, ctx),
                     done, ctx);
}

static void embedded_list(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx)
{
    embedded_enqueue((struct embedded *)meta, meta_request_new_read(REQUEST_LIST, path, watch, done, ctx),
                     done, ctx);
}

/* Waits for a write that is under way: the file is closed whole. */
static void embedded_close(struct meta *meta)
{
    struct embedded *embedded = (struct embedded *)meta;
    embedded->closed = true;
    embedded_enter(embedded);
    struct pass *pass = embedded->pass;
    if (pass) {
        pthread_mutex_lock(&pass->mutex);
        while (!pass->finished)
            pthread_cond_wait(&pass->finished_signal, &pass->mutex);
        pthread_mutex_unlock(&pass->mutex);
        pass->owner = NULL;
        embedded->pass = NULL;
        if (pass->reopen_path)
            embedded->database = pass->database;
        else
            revert_current(embedded);
    }
    answer_all(&embedded->current, CLYMQ_ESHUTDOWN);
    answer_all(&embedded->queue, CLYMQ_ESHUTDOWN);
    embedded_leave(embedded);
}

static const struct meta_ops embedded_ops = {
    .close = embedded_close,
    .transact = embedded_transact,
    .get = embedded_get,
    .list = embedded_list,
};

int meta_embedded_open(struct shard *shard, const char *path, struct strbuf *error_text,
                       struct meta **ret_meta)
{
    struct embedded *embedded = mem_zalloc(sizeof(*embedded));
    if (!embedded)
        return CLYMQ_ENOMEM;
    embedded->meta.ops = &embedded_ops;
    embedded->shard = shard;
    list_init(&embedded->queue);
    list_init(&embedded->current);
    list_init(&embedded->tail.link);
    embedded->tail.run = embedded_at_tail;
    embedded->tail.ctx = embedded;
    int error = watch_set_init(&embedded->watches);
    embedded->path = mem_strdup(path);
    if (!error && !embedded->path)
        error = CLYMQ_ENOMEM;
    if (!error) {
        embedded->tree = tree_new();
        error = embedded->tree ? database_open(path, DATABASE_MAY_BE_NEW, embedded->tree, error_text,
                                               &embedded->database)
                               : CLYMQ_ENOMEM;
    }
    if (error) {
        embedded_free(embedded);
        return error;
    }
    *ret_meta = &embedded->meta;
    return 0;
}
