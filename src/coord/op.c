/* Operations: queues by key, beginning when it is their turn and the role is there, answering exactly once.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

struct op_queue {
    struct list ops; /* struct op; the first one is the one being done */
    char key[];
};

static void op_free(struct op *op)
{
    if (op->free_parts)
        op->free_parts(op);
    mem_free(op);
}

static void op_first_step(struct task *task, int error)
{
    struct op *op = (struct op *)task;
    const struct coord *coord = task->coord;
    if (coord->state == COORD_LOST)
        op_finish(op, coord->lost_error, "%s", coord->lost_text);
    else if (coord->state == COORD_ACTIVE)
        op->begin(op);
    /* else the role is being taken again since it was asked: op_start_all steps it */
}

static void op_drop(struct task *task, int error)
{
    struct op *op = (struct op *)task;
    struct coord *coord = task->coord;
    if (coord->closed)
        op_finish_plain(op, error);
    else
        op_finish(op, error, "%s", coord->lost_text);
}

static bool may_begin(const struct coord *coord)
{
    return coord->state == COORD_ACTIVE || coord->state == COORD_LOST;
}

static struct op_queue *queue_get(struct coord *coord, struct bytes key)
{
    struct op_queue *queue = map_get(coord->queues, key);
    if (queue)
        return queue;
    queue = mem_zalloc(sizeof(*queue) + key.len + 1);
    if (!queue)
        return NULL;
    memcpy(queue->key, key.ptr, key.len);
    list_init(&queue->ops);
    if (map_put(coord->queues, key, queue)) {
        mem_free(queue);
        return NULL;
    }
    return queue;
}

void op_submit(struct coord *coord, struct op *op, const char *key_format, ...)
{
    struct strbuf key = {0};
    va_list args;
    va_start(args, key_format);
    char text[1024]; /* a name has at most 249 bytes; longer ones share a queue and are refused by their
                        operation */
    vsnprintf(text, sizeof(text), key_format, args);
    va_end(args);
    strbuf_append_text(&key, text);
    struct op_queue *queue = key.failed ? NULL : queue_get(coord, bytes_of(key.data, key.len));
    strbuf_free(&key);
    if (!queue) {
        op->answer(op, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM));
        op_free(op);
        return;
    }
    task_init(&op->task, coord, op_first_step, op_drop);
    op->queue = queue;
    list_push_back(&queue->ops, &op->link);
    if (queue->ops.next == &op->link && may_begin(coord))
        task_ready(&op->task, 0);
}

void op_leave_queue(struct op *op)
{
    struct op_queue *queue = op->queue;
    if (!queue)
        return;
    struct coord *coord = op->task.coord;
    bool first = queue->ops.next == &op->link;
    op->queue = NULL;
    list_remove(&op->link);
    if (list_empty(&queue->ops)) {
        map_remove(coord->queues, bytes_of_text(queue->key));
        mem_free(queue);
    } else if (first && may_begin(coord)) {
        task_ready(&CONTAINER_OF(queue->ops.next, struct op, link)->task, 0);
    }
}

static void op_end(struct op *op, int error, const char *sentence)
{
    if (op->on_end)
        op->on_end(op);
    op_leave_queue(op);
    task_end(&op->task);
    op->answer(op, error, sentence); /* the coordinator may be closed in it */
    op_free(op);
}

void op_finish(struct op *op, int error, const char *format, ...)
{
    char sentence[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(sentence, sizeof(sentence), format, args);
    va_end(args);
    op_end(op, error, sentence);
}

void op_finish_plain(struct op *op, int error)
{
    op_end(op, error, error ? error_sentence(error) : "");
}

void op_start_all(struct coord *coord)
{
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(coord->queues, &at))) {
        struct op_queue *queue = entry->value;
        task_ready(&CONTAINER_OF(queue->ops.next, struct op, link)->task, 0);
    }
}

void op_free_queues(struct coord *coord)
{
    assert(!coord->queues || map_count(coord->queues) == 0);
    map_free(coord->queues);
}

static void answer_done(struct op *op, int error, const char *sentence)
{
    coord_done done = (coord_done)op->user_done;
    done(op->user_ctx, error, sentence);
}

void *op_new(size_t size, void (*begin)(struct op *op), coord_done done, void *ctx)
{
    struct op *op = mem_zalloc(size);
    if (!op) {
        done(ctx, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM));
        return NULL;
    }
    op->begin = begin;
    op->answer = answer_done;
    op->user_done = (void (*)(void))done;
    op->user_ctx = ctx;
    return op;
}
