/* The simulated backend: a tree that several sessions share, with delays drawn from the store's generator.
 *
 * A request travels (half of its delay), is applied to the tree, and its answer travels back (the other
 * half); both ways keep the order of the session's requests. A process that dies in between leaves the
 * requests that had arrived applied and the others not: how many had arrived is drawn. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "meta/request.h"
#include "meta/sim.h"

struct sim_meta_store {
    struct tree *tree;
    struct rng rng;
    struct list sessions;
    uint64_t next_session;
    struct sim_meta_faults faults;
    uint64_t transactions;
};

struct session {
    struct meta meta;
    struct sim_meta_store *store;
    struct shard *shard;
    uint64_t id;
    uint64_t min_delay_ns, max_delay_ns;
    struct list link;                     /* in the store's sessions; alone once lost */
    struct list travelling;               /* requests not yet applied */
    struct list answered;                 /* requests whose answers travel back */
    uint64_t apply_due_ns, answer_due_ns; /* of the last ones: order is kept */
    uint64_t event_due_ns;                /* fired watches are told then; 0 = none */
    struct watch_set watches;
    struct io_timer timer;
    int lost;
    bool reopens; /* the next request begins a new session */
    bool tell_lost;
    unsigned depth;
    bool closed;
};

struct sim_meta_store *sim_meta_store_new(uint64_t seed)
{
    struct sim_meta_store *store = mem_zalloc(sizeof(*store));
    if (!store)
        return NULL;
    rng_seed(&store->rng, seed);
    list_init(&store->sessions);
    store->next_session = 1;
    store->tree = tree_new();
    if (!store->tree) {
        mem_free(store);
        return NULL;
    }
    return store;
}

void sim_meta_store_free(struct sim_meta_store *store)
{
    if (!store)
        return;
    assert(list_empty(&store->sessions));
    tree_free(store->tree);
    mem_free(store);
}

void sim_meta_store_set_faults(struct sim_meta_store *store, const struct sim_meta_faults *faults)
{
    store->faults = *faults;
}

uint64_t sim_meta_store_transactions(const struct sim_meta_store *store)
{
    return store->transactions;
}

static uint64_t draw_delay_ns(struct session *session)
{
    return session->min_delay_ns +
           rng_below(&session->store->rng, session->max_delay_ns - session->min_delay_ns + 1);
}

static uint64_t later_ns(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

static struct meta_request *first_request(struct list *requests)
{
    return list_empty(requests) ? NULL : CONTAINER_OF(requests->next, struct meta_request, link);
}

/* Arms the timer for whatever comes first. 0 or CLYMQ_ENOMEM. */
static int session_arm(struct session *session)
{
    uint64_t due_ns = UINT64_MAX;
    const struct meta_request *travelling = first_request(&session->travelling);
    const struct meta_request *answered = first_request(&session->answered);
    if (travelling)
        due_ns = travelling->due_ns;
    if (answered && answered->due_ns < due_ns)
        due_ns = answered->due_ns;
    if (session->event_due_ns && session->event_due_ns < due_ns)
        due_ns = session->event_due_ns;
    if (due_ns == UINT64_MAX) {
        io_timer_stop(session->shard->loop, &session->timer);
        return 0;
    }
    uint64_t now_ns = io_loop_now_ns(session->shard->loop);
    return io_timer_start(session->shard->loop, &session->timer, due_ns > now_ns ? due_ns - now_ns : 0);
}

static void store_changed(void *ctx, struct bytes path, enum tree_event event)
{
    struct sim_meta_store *store = ctx;
    LIST_FOR_EACH(item, &store->sessions) {
        struct session *session = CONTAINER_OF(item, struct session, link);
        watch_note(&session->watches, path, event);
    }
}

/* Sessions with watches that have just fired hear of it some time later. Without memory for the timer: with
 * their next answer. */
static void store_plan_events(struct sim_meta_store *store)
{
    LIST_FOR_EACH(item, &store->sessions) {
        struct session *session = CONTAINER_OF(item, struct session, link);
        if (list_empty(&session->watches.fired) || session->event_due_ns)
            continue;
        session->event_due_ns = io_loop_now_ns(session->shard->loop) + draw_delay_ns(session) / 2 + 1;
        (void)session_arm(session);
    }
}

static void apply_transaction(struct session *session, struct meta_request *request)
{
    struct sim_meta_store *store = session->store;
    struct tree_undo *undo;
    size_t failed_op;
    request->error = tree_apply(store->tree, request->ops, request->op_count, session->id, &undo, &failed_op);
    if (request->error) {
        request->failed_op = (int)failed_op;
        return;
    }
    store->transactions++;
    tree_commit(store->tree, undo, store_changed, store);
    store_plan_events(store);
}

/* Of what is under way nobody learns how it ended; the owner is told soon. */
static void session_lose(struct session *session)
{
    session->lost = CLYMQ_ESESSION;
    session->tell_lost = true;
    watch_clear(&session->watches);
    LIST_FOR_EACH(item, &session->answered)
        CONTAINER_OF(item, struct meta_request, link)->error = CLYMQ_ESESSION;
    LIST_FOR_EACH(item, &session->travelling)
        CONTAINER_OF(item, struct meta_request, link)->error = CLYMQ_ESESSION;
    session->event_due_ns = io_loop_now_ns(session->shard->loop) + 1;
}

/* Its ephemeral nodes go. */
static void store_forget(struct sim_meta_store *store, struct session *session)
{
    list_remove(&session->link);
    tree_end_session(store->tree, session->id, store_changed, store);
    store_plan_events(store);
}

static void session_begin(struct session *session)
{
    session->id = session->store->next_session++;
    session->lost = 0;
    list_push_back(&session->store->sessions, &session->link);
}

static void session_apply(struct session *session, struct meta_request *request)
{
    struct sim_meta_store *store = session->store;
    if (request->error || session->lost) {
        request->error = session->lost ? session->lost : request->error;
        return;
    }
    if (request->kind != REQUEST_TRANSACT) {
        meta_request_snapshot(request, store->tree, &session->watches);
        return;
    }
    if (store->faults.transact_error && rng_chance(&store->rng, store->faults.transact_error_ppm, 1000000)) {
        request->error = store->faults.transact_error;
        return;
    }
    if (store->faults.unknown_ppm && rng_chance(&store->rng, store->faults.unknown_ppm, 1000000)) {
        if (rng_chance(&store->rng, 1, 2))
            apply_transaction(session, request);
        store_forget(store, session);
        session->reopens = true;
        session_lose(session);
        request->error = CLYMQ_ESESSION;
        return;
    }
    apply_transaction(session, request);
}

int sim_meta_store_touch(struct sim_meta_store *store, const char *path)
{
    const struct tree_node *node = tree_get(store->tree, bytes_of_text(path));
    if (!node)
        return CLYMQ_ENOENT;
    const struct meta_op set = {.kind = META_SET,
                                .path = path,
                                .value = bytes_of(node->value, node->value_len),
                                .version = META_ANY_VERSION};
    struct tree_undo *undo;
    size_t failed_op;
    int error = tree_apply(store->tree, &set, 1, store->next_session++, &undo, &failed_op);
    if (error)
        return error;
    tree_commit(store->tree, undo, store_changed, store);
    store_plan_events(store);
    return 0;
}

static void session_free(struct session *session)
{
    if (io_timer_armed(&session->timer))
        io_timer_stop(session->shard->loop, &session->timer);
    watch_set_free(&session->watches);
    mem_free(session);
}

static void session_leave(struct session *session)
{
    if (--session->depth == 0 && session->closed)
        session_free(session);
}

static void session_tell_events(struct session *session)
{
    session->event_due_ns = 0;
    struct watch *watch;
    while (!session->closed && (watch = watch_pop(&session->watches))) {
        if (session->meta.watcher)
            session->meta.watcher(session->meta.watcher_ctx, META_EVENT_CHANGED, watch->path);
        mem_free(watch);
    }
    if (session->tell_lost && !session->closed) {
        session->tell_lost = false;
        if (session->meta.watcher)
            session->meta.watcher(session->meta.watcher_ctx, META_EVENT_SESSION, "/");
    }
}

/* Does what is due. Events come before the answers that may show their cause. */
static void session_work(struct session *session, uint64_t now_ns)
{
    session->depth++;
    struct meta_request *request;
    while ((request = first_request(&session->travelling)) && request->due_ns <= now_ns) {
        list_remove(&request->link);
        uint64_t back_ns = request->due_ns + draw_delay_ns(session) / 2;
        session_apply(session, request);
        session->answer_due_ns = later_ns(session->answer_due_ns, back_ns);
        request->due_ns = session->answer_due_ns;
        list_push_back(&session->answered, &request->link);
    }
    request = first_request(&session->answered);
    if ((session->event_due_ns && session->event_due_ns <= now_ns) || (request && request->due_ns <= now_ns))
        session_tell_events(session);
    while (!session->closed && (request = first_request(&session->answered)) && request->due_ns <= now_ns) {
        list_remove(&request->link);
        meta_request_answer_snapshot(request);
        meta_request_free(request);
    }
    if (!session->closed && session_arm(session)) {
        session->depth--;
        session_work(session, UINT64_MAX - 1);
        return;
    }
    session_leave(session);
}

static void session_fire(struct io_timer *timer)
{
    struct session *session = timer->ctx;
    session_work(session, io_loop_now_ns(session->shard->loop));
}

static void session_enqueue(struct session *session, struct meta_request *request, meta_callback done,
                            void *ctx)
{
    if (!request) {
        meta_request_refuse(done, ctx);
        return;
    }
    assert(!session->closed);
    if (session->lost && session->reopens)
        session_begin(session);
    uint64_t arrival_ns = io_loop_now_ns(session->shard->loop) + draw_delay_ns(session) / 2;
    session->apply_due_ns = later_ns(session->apply_due_ns, arrival_ns);
    request->due_ns = session->apply_due_ns;
    list_push_back(&session->travelling, &request->link);
    if (session_arm(session)) {
        list_remove(&request->link);
        meta_request_free(request);
        meta_request_refuse(done, ctx);
    }
}

static void session_transact(struct meta *meta, const struct meta_op *ops, size_t count, meta_callback done,
                             void *ctx)
{
    session_enqueue((struct session *)meta, meta_request_new_transact(ops, count, done, ctx), done, ctx);
}

static void session_get(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx)
{
    session_enqueue((struct session *)meta, meta_request_new_read(REQUEST_GET, path, watch, done, ctx), done,
                    ctx);
}

static void session_list(struct meta *meta, const char *path, bool watch, meta_callback done, void *ctx)
{
    session_enqueue((struct session *)meta, meta_request_new_read(REQUEST_LIST, path, watch, done, ctx), done,
                    ctx);
}

/* The session is over for the store: some of what travels still arrives, then its ephemeral nodes go. */
static void session_end(struct session *session)
{
    if (session->lost)
        return;
    struct sim_meta_store *store = session->store;
    size_t travelling = 0;
    LIST_FOR_EACH(item, &session->travelling)
        travelling++;
    size_t arriving = rng_below(&store->rng, travelling + 1);
    LIST_FOR_EACH(item, &session->travelling) {
        struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
        if (arriving-- == 0)
            break;
        if (request->kind == REQUEST_TRANSACT)
            session_apply(session, request);
        if (session->lost) /* by that one */
            return;
    }
    store_forget(store, session);
}

static void drop_requests(struct list *requests, bool answer)
{
    struct list *item;
    while ((item = list_pop_front(requests))) {
        struct meta_request *request = CONTAINER_OF(item, struct meta_request, link);
        if (answer)
            meta_request_answer(request, CLYMQ_ESHUTDOWN, -1);
        meta_request_free(request);
    }
}

static void session_drop(struct session *session, bool answer)
{
    session_end(session);
    session->closed = true;
    session->depth++;
    drop_requests(&session->answered, answer);
    drop_requests(&session->travelling, answer);
    session_leave(session);
}

static void session_close(struct meta *meta)
{
    session_drop((struct session *)meta, true);
}

static const struct meta_ops session_ops = {
    .close = session_close,
    .transact = session_transact,
    .get = session_get,
    .list = session_list,
};

int sim_meta_open(struct sim_meta_store *store, struct shard *shard, uint64_t min_delay_ns,
                  uint64_t max_delay_ns, struct meta **ret_meta)
{
    assert(min_delay_ns <= max_delay_ns);
    struct session *session = mem_zalloc(sizeof(*session));
    if (!session)
        return CLYMQ_ENOMEM;
    int error = watch_set_init(&session->watches);
    if (error) {
        mem_free(session);
        return error;
    }
    session->meta.ops = &session_ops;
    session->store = store;
    session->shard = shard;
    session->min_delay_ns = min_delay_ns;
    session->max_delay_ns = max_delay_ns;
    list_init(&session->travelling);
    list_init(&session->answered);
    session->timer.fire = session_fire;
    session->timer.ctx = session;
    session_begin(session);
    *ret_meta = &session->meta;
    return 0;
}

void sim_meta_expire(struct sim_meta_store *store, struct meta *meta)
{
    struct session *session = (struct session *)meta;
    assert(session->store == store);
    session_drop(session, false);
}

void sim_meta_lose_session(struct sim_meta_store *store, struct meta *meta)
{
    struct session *session = (struct session *)meta;
    assert(session->store == store && !session->lost);
    session_end(session);
    session->reopens = false;
    session_lose(session);
    (void)session_arm(session);
}
