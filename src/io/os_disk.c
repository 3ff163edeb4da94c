/* The disk workers of a loop: threads that take operations and pieces of work in the order given, and hand
 * what is done back to the loop, many at a time.
 *
 * Nobody is woken by a thread that holds the lock: the one woken often takes the waker's place on the
 * processor at once, and would then wait for the lock until the waker gets another turn, which beside busy
 * threads is milliseconds. For the same reason workers wait for a semaphore: signalling a condition variable
 * may itself wait for the threads that it woke before. Each has a semaphore of its own, and the one that
 * became idle last is called: a load that keeps one worker busy finds it on a warm processor. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/os_loop.h"
#include "io/thread.h"

/* Runs one waiting item. The lock is held, but not meanwhile, nor where the loop is told. */
static void run_next(struct os_disk *disk, bool op_first)
{
    struct list *link = NULL, *done;
    if (!list_empty(&disk->ops) && (op_first || list_empty(&disk->works))) {
        link = list_pop_front(&disk->ops);
        done = &disk->ops_done;
    } else {
        link = list_pop_front(&disk->works);
        done = &disk->works_done;
    }
    pthread_mutex_unlock(&disk->lock);
    if (done == &disk->ops_done) {
        io_op_run(CONTAINER_OF(link, struct io_op, link));
    } else {
        struct io_work *work = CONTAINER_OF(link, struct io_work, link);
        work->run(work);
    }
    pthread_mutex_lock(&disk->lock);
    bool tell = list_empty(&disk->ops_done) && list_empty(&disk->works_done);
    list_push_back(done, link);
    if (!tell)
        return;
    pthread_mutex_unlock(&disk->lock);
    os_loop_signal(disk->loop);
    pthread_mutex_lock(&disk->lock);
}

static void *work(void *ctx)
{
    struct os_disk_worker *worker = ctx;
    struct os_disk *disk = worker->disk;
    bool op_first = true; /* taken in turn, so that neither kind starves the other */
    pthread_mutex_lock(&disk->lock);
    for (;;) {
        if (!list_empty(&disk->ops) || !list_empty(&disk->works)) {
            run_next(disk, op_first);
            op_first = !op_first;
        } else if (disk->stop) {
            break;
        } else {
            list_push_front(&disk->idle, &worker->idle);
            pthread_mutex_unlock(&disk->lock);
            while (sem_wait(&worker->call) != 0)
                ; /* a signal came between */
            pthread_mutex_lock(&disk->lock);
        }
    }
    pthread_mutex_unlock(&disk->lock);
    return NULL;
}

int os_disk_init(struct os_loop *loop, unsigned threads)
{
    struct os_disk *disk = &loop->disk;
    disk->workers = mem_calloc(threads, sizeof(*disk->workers));
    if (!disk->workers)
        return CLYMQ_ENOMEM;
    pthread_mutex_init(&disk->lock, NULL);
    list_init(&disk->idle);
    list_init(&disk->ops);
    list_init(&disk->works);
    list_init(&disk->ops_done);
    list_init(&disk->works_done);
    disk->loop = loop;
    while (disk->worker_count < threads) {
        struct os_disk_worker *worker = &disk->workers[disk->worker_count];
        worker->disk = disk;
        list_init(&worker->idle);
        sem_init(&worker->call, 0, 0);
        int error = io_thread_start("disk", work, worker, &worker->thread);
        if (error) {
            sem_destroy(&worker->call);
            os_disk_stop(disk);
            return error;
        }
        disk->worker_count++;
    }
    return 0;
}

void os_disk_stop(struct os_disk *disk)
{
    pthread_mutex_lock(&disk->lock);
    disk->stop = true;
    struct list idle, *link;
    list_init(&idle);
    list_move_all(&disk->idle, &idle);
    pthread_mutex_unlock(&disk->lock);
    while ((link = list_pop_front(&idle)))
        sem_post(&CONTAINER_OF(link, struct os_disk_worker, idle)->call);
    for (unsigned i = 0; i < disk->worker_count; i++) {
        pthread_join(disk->workers[i].thread, NULL);
        sem_destroy(&disk->workers[i].call);
    }
    pthread_mutex_destroy(&disk->lock);
    mem_free(disk->workers);
}

static void hand_over(struct os_disk *disk, struct list *queue, struct list *link)
{
    pthread_mutex_lock(&disk->lock);
    list_push_back(queue, link);
    struct list *idle = list_pop_front(&disk->idle);
    pthread_mutex_unlock(&disk->lock);
    if (idle)
        sem_post(&CONTAINER_OF(idle, struct os_disk_worker, idle)->call);
}

void os_disk_submit(struct io_loop *base, struct io_op *op)
{
    struct os_disk *disk = &os_loop_of(base)->disk;
    hand_over(disk, &disk->ops, &op->link);
}

void os_disk_work(struct io_loop *base, struct io_work *work)
{
    struct os_disk *disk = &os_loop_of(base)->disk;
    hand_over(disk, &disk->works, &work->link);
}

void os_disk_deliver(struct os_disk *disk)
{
    struct list ops, works, *link;
    list_init(&ops);
    list_init(&works);
    pthread_mutex_lock(&disk->lock);
    list_move_all(&disk->ops_done, &ops);
    list_move_all(&disk->works_done, &works);
    pthread_mutex_unlock(&disk->lock);
    while ((link = list_pop_front(&ops))) {
        struct io_op *op = CONTAINER_OF(link, struct io_op, link);
        op->done(op);
    }
    while ((link = list_pop_front(&works))) {
        struct io_work *work = CONTAINER_OF(link, struct io_work, link);
        work->done(work);
    }
}
