/* Tasks: the coordinator's asynchronous work, step by step, and what it waits for.
 *
 * A task is embedded in its owner's struct. It asks for one thing at a time (a transaction, a broker call, a
 * pause; reads of the tree may be many); when that has come its step() is called from the end of the shard's
 * round, never from inside the call that asked. When the role is lost drop() is called instead, once: it
 * answers whoever waits and frees. What a task had asked for and comes after its end is ignored. All belongs
 * to the coordinator's shard. */
#ifndef CLYMQ_COORD_TASK_H
#define CLYMQ_COORD_TASK_H

#include "base/list.h"
#include "coord/coord.h"

struct txn;

struct task {
    struct coord *coord;
    void (*step)(struct task *task, int error);
    void (*drop)(struct task *task, int error);
    int64_t end_offset; /* what a seal call answered */
    /* the rest is task.c's */
    struct list link;  /* among the coordinator's tasks */
    struct list ready; /* to be stepped, now or later, or waiting for a broker call to be allowed */
    struct list waits; /* what it has asked for */
    int error;
    struct io_timer timer;
    void (*issue)(struct task *task, coord_broker_done done, void *ctx);
};

void task_init(struct task *task, struct coord *coord, void (*step)(struct task *task, int error),
               void (*drop)(struct task *task, int error));
/* Ends it: no step or drop comes any more. Its memory is the caller's to free. */
void task_end(struct task *task);
/* step(error) is called soon; replaces a pause. */
void task_ready(struct task *task, int error);
/* step(0) after a while. */
void task_pause(struct task *task, uint32_t delay_ms);
/* Commits what txn holds and empties it. step gets 0, or an error after which nothing is changed
 * (CLYMQ_ENOSPC, CLYMQ_ENOMEM, CLYMQ_ETOOBIG …). Errors that mean that another coordinator or another hand
 * changed the tree, or that the outcome is unknown, cost the role instead. */
void task_transact(struct task *task, struct txn *txn);
/* As task_transact, but CLYMQ_EVERSION, CLYMQ_EEXIST and CLYMQ_ENOENT come to step too. */
void task_transact_tolerant(struct task *task, struct txn *txn);
/* Makes one broker call as soon as fewer than the limit are under way: issue() makes it and hands on done and
 * ctx. */
void task_call_broker(struct task *task, void (*issue)(struct task *task, coord_broker_done done, void *ctx));
/* Reads the tree. on_result is called from the metadata callback and must not call users; step is not called.
 * A lost session costs the role and on_result is not called. arg belongs to the caller. 0 or CLYMQ_ENOMEM. */
typedef void (*task_result)(struct task *task, void *arg, const struct meta_result *result);
int task_get(struct task *task, const char *path, task_result on_result, void *arg);
int task_list(struct task *task, const char *path, task_result on_result, void *arg);

/* ---- for coord.c ---- */

struct task_board {
    struct list tasks;
    struct list ready;
    struct list later;   /* ready in the next round */
    struct list calls;   /* tasks that wait for a broker call to be allowed */
    struct list orphans; /* what ended tasks had asked for */
    uint32_t calls_under_way;
};
void task_board_init(struct task_board *board);
/* Steps every ready task (those made ready meanwhile too) and starts calls, until nothing is left or the role
 * is lost. */
void task_board_run(struct coord *coord);
/* Drops all tasks that there are. */
void task_board_drop(struct task_board *board, int error);
/* Frees what was asked for and will not come any more. */
void task_board_free(struct task_board *board);

#endif
