/* Tasks and what they wait for: see task.h. Everything asked for is a struct wait of its own, so that an
 * answer that comes after its task ended finds its own memory and nothing else. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

struct wait {
    struct list link; /* in the task's waits, or the board's orphans */
    struct coord *coord;
    struct task *task;     /* NULL: it ended */
    task_result on_result; /* reads */
    void *arg;
    bool tolerant; /* transactions */
    bool call;     /* a broker call: counted */
};

void task_init(struct task *task, struct coord *coord, void (*step)(struct task *task, int error),
               void (*drop)(struct task *task, int error))
{
    task->coord = coord;
    task->step = step;
    task->drop = drop;
    list_init(&task->ready);
    list_init(&task->waits);
    list_push_back(&coord->board.tasks, &task->link);
}

void task_end(struct task *task)
{
    struct coord *coord = task->coord;
    if (io_timer_armed(&task->timer))
        io_timer_stop(coord->shard->loop, &task->timer);
    list_remove(&task->link);
    list_remove(&task->ready);
    struct list *item;
    while ((item = list_pop_front(&task->waits))) {
        CONTAINER_OF(item, struct wait, link)->task = NULL;
        list_push_back(&coord->board.orphans, item);
    }
}

void task_ready(struct task *task, int error)
{
    struct coord *coord = task->coord;
    if (io_timer_armed(&task->timer))
        io_timer_stop(coord->shard->loop, &task->timer);
    task->error = error;
    list_remove(&task->ready);
    list_push_back(&coord->board.ready, &task->ready);
    coord_wake(coord);
}

static void task_timer_fired(struct io_timer *timer)
{
    task_ready(timer->ctx, 0);
}

void task_pause(struct task *task, uint32_t delay_ms)
{
    task->timer.fire = task_timer_fired;
    task->timer.ctx = task;
    if (!io_timer_start(task->coord->shard->loop, &task->timer, IO_MS(delay_ms)))
        return;
    /* Without memory for the timer the step comes in the next round: a busy wait until some memory is free,
     * but not inside this round, which would never end. */
    task->error = 0;
    list_remove(&task->ready);
    list_push_back(&task->coord->board.later, &task->ready);
    coord_wake(task->coord);
}

static struct wait *wait_new(struct task *task)
{
    struct wait *wait = mem_zalloc(sizeof(*wait));
    if (!wait)
        return NULL;
    wait->coord = task->coord;
    wait->task = task;
    list_push_back(&task->waits, &wait->link);
    return wait;
}

/* Takes the answer: the task it belongs to, or NULL. */
static struct task *wait_finish(struct wait *wait)
{
    struct task *task = wait->task;
    list_remove(&wait->link);
    mem_free(wait);
    return task;
}

static bool role_is_lost(const struct meta_result *result)
{
    return result->error == CLYMQ_ESESSION || result->error == CLYMQ_ESHUTDOWN;
}

static void lose_session(struct coord *coord, int error)
{
    coord_lose(coord, error,
               error == CLYMQ_ESESSION ? "the coordinator's metadata session was lost"
                                       : "the metadata store was closed");
}

static void transacted(void *ctx, const struct meta_result *result)
{
    struct wait *wait = ctx;
    struct coord *coord = wait->coord;
    bool tolerant = wait->tolerant;
    struct task *task = wait_finish(wait);
    int error = result->error;
    if (role_is_lost(result)) {
        lose_session(coord, error);
        return;
    }
    if (!task)
        return;
    bool conflict =
        error == CLYMQ_EVERSION || error == CLYMQ_ENOENT || error == CLYMQ_EEXIST || error == CLYMQ_EBUSY;
    if (conflict && result->failed_op == 0 && coord->state == COORD_ACTIVE)
        coord_lose(coord, CLYMQ_EFENCED, "another coordinator has taken over: ask that one");
    else if (conflict && !tolerant)
        coord_lose(
            coord, CLYMQ_EVERSION,
            "the metadata under %s were changed by something else (%s at operation %d of a transaction)",
            coord->root, error_name(error), result->failed_op);
    else
        task_ready(task, error);
}

static void transact(struct task *task, struct txn *txn, bool tolerant)
{
    struct wait *wait = txn->error ? NULL : wait_new(task);
    if (wait) {
        wait->tolerant = tolerant;
        meta_transact(task->coord->meta, txn->ops, txn->count, transacted, wait);
    } else {
        task_ready(task, txn->error ? txn->error : CLYMQ_ENOMEM);
    }
    txn_free(txn);
}

void task_transact(struct task *task, struct txn *txn)
{
    transact(task, txn, false);
}

void task_transact_tolerant(struct task *task, struct txn *txn)
{
    transact(task, txn, true);
}

/* ---- reads ---- */

static void read_done(void *ctx, const struct meta_result *result)
{
    struct wait *wait = ctx;
    struct coord *coord = wait->coord;
    task_result on_result = wait->on_result;
    void *arg = wait->arg;
    struct task *task = wait_finish(wait);
    if (role_is_lost(result))
        lose_session(coord, result->error);
    else if (task)
        on_result(task, arg, result);
}

static int read_node(struct task *task, const char *path, bool list, task_result on_result, void *arg)
{
    struct wait *wait = wait_new(task);
    if (!wait)
        return CLYMQ_ENOMEM;
    wait->on_result = on_result;
    wait->arg = arg;
    if (list)
        meta_list(task->coord->meta, path, false, read_done, wait);
    else
        meta_get(task->coord->meta, path, false, read_done, wait);
    return 0;
}

int task_get(struct task *task, const char *path, task_result on_result, void *arg)
{
    return read_node(task, path, false, on_result, arg);
}

int task_list(struct task *task, const char *path, task_result on_result, void *arg)
{
    return read_node(task, path, true, on_result, arg);
}

/* ---- broker calls ---- */

static void call_done(void *ctx, int error, int64_t end_offset)
{
    struct wait *wait = ctx;
    struct coord *coord = wait->coord;
    assert(wait->call && coord->board.calls_under_way > 0);
    coord->board.calls_under_way--;
    struct task *task = wait_finish(wait);
    if (task) {
        task->end_offset = end_offset;
        task_ready(task, error);
    }
    coord_wake(coord);
}

void task_call_broker(struct task *task, void (*issue)(struct task *task, coord_broker_done done, void *ctx))
{
    struct task_board *board = &task->coord->board;
    task->issue = issue;
    list_remove(&task->ready);
    list_push_back(&board->calls, &task->ready);
    coord_wake(task->coord);
}

static void start_call(struct task_board *board)
{
    struct task *task = CONTAINER_OF(list_pop_front(&board->calls), struct task, ready);
    struct wait *wait = wait_new(task);
    if (!wait) {
        task_ready(task, CLYMQ_ENOMEM);
        return;
    }
    wait->call = true;
    board->calls_under_way++;
    task->issue(task, call_done, wait);
}

/* ---- the board ---- */

void task_board_init(struct task_board *board)
{
    list_init(&board->tasks);
    list_init(&board->ready);
    list_init(&board->later);
    list_init(&board->calls);
    list_init(&board->orphans);
    board->calls_under_way = 0;
}

void task_board_run(struct coord *coord)
{
    struct task_board *board = &coord->board;
    list_move_all(&board->later, &board->ready);
    while (!coord->closed && !coord->losing) {
        if (!list_empty(&board->ready)) {
            struct task *task = CONTAINER_OF(list_pop_front(&board->ready), struct task, ready);
            task->step(task, task->error);
        } else if (!list_empty(&board->calls) && board->calls_under_way < coord->config.broker_calls) {
            start_call(board);
        } else {
            break;
        }
    }
}

/* Those that users add from inside the answers are not among the dropped. */
void task_board_drop(struct task_board *board, int error)
{
    struct list doomed;
    list_init(&doomed);
    list_move_all(&board->tasks, &doomed);
    while (!list_empty(&doomed)) {
        struct task *task = CONTAINER_OF(doomed.next, struct task, link);
        task->drop(task, error);
    }
}

void task_board_free(struct task_board *board)
{
    struct list *item;
    while ((item = list_pop_front(&board->orphans)))
        mem_free(CONTAINER_OF(item, struct wait, link));
}
