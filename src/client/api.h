/* The public API's inside: a thread with a loop that runs the core, and how other threads ask it for things.
 *
 * client->lock guards the queue of tasks and the state of starting; producers and consumers have locks of
 * their own. The order is: client lock, then none other; a producer's or consumer's lock is never held while
 * asking for a task. */
#ifndef CLYMQ_CLIENT_API_H
#define CLYMQ_CLIENT_API_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/options.h"
#include "client/core.h"

/* Work for the loop's thread; the asking thread waits, so it may live on its stack. */
struct api_task {
    struct list link;
    /* Calls api_task_end when done, now or later. */
    void (*run)(struct api_task *task);
    struct clymq_client *client;
    bool done;
};

/* What producer and consumer share, and begin with: the lock of their core, whose hooks these are (ctx is the
 * member), the threads that wait for it to tell, and the kick that it asks for.
 *
 * What is told under the lock wakes nobody before the lock is given back: who is woken often takes the
 * waker's place on the processor at once, and would only find the lock taken. */
struct api_member {
    struct list link; /* in client->members */
    struct clymq_client *client;
    _Atomic bool wants_kick;
    void (*kick)(struct api_member *member);
    pthread_mutex_t lock;
    pthread_cond_t told;
    unsigned waiting;       /* under the lock, as what follows: threads that want to be told */
    bool wakes_core, tells; /* to be done once the lock is given back */
};
void api_member_init(struct api_member *member, struct clymq_client *client,
                     void (*kick)(struct api_member *member));
void api_member_end(struct api_member *member);
void api_member_lock(void *ctx);
void api_member_unlock(void *ctx);
/* Under the lock: kick shall be called soon on the loop's thread. */
void api_member_wake(void *ctx);
/* Under the lock: those that wait go on. */
void api_member_tell(void *ctx);
/* Under the lock: waits to be told, until deadline_ms (INT64_MAX = for ever). false: it has passed. */
bool api_member_await(struct api_member *member, int64_t deadline_ms);

struct client_options {
    int64_t request_timeout_ms, connect_timeout_ms, retry_backoff_ms, retry_backoff_max_ms,
        metadata_max_age_ms, max_message_bytes;
    char *log_level;
};

struct clymq_client {
    char *coordinators;
    struct client_options options;
    pthread_mutex_t lock;
    pthread_cond_t done; /* some task is */
    _Atomic bool started;
    pthread_t thread;
    struct io_loop *loop;
    struct core *core;
    struct list tasks;   /* under the lock */
    struct list members; /* loop's thread */
};

/* Starts the client's thread where it is not. */
int api_start(struct clymq_client *client);
bool api_is_loop_thread(struct clymq_client *client);
/* Runs a task on the loop's thread and waits for its end. On the loop's own thread: CLYMQ_EBUSY where waits
 * (it would wait for itself), otherwise run at once. */
int api_task_run(struct clymq_client *client, struct api_task *task, bool waits);
void api_task_end(struct api_task *task);

/* Notes the sentence for clymq_last_error and returns error. */
int api_fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same with the error's own sentence, cheaply. */
int api_fail_plain(int error);
/* CLYMQ_EBUSY: a function that blocks was called on the client's own thread. */
int api_fail_in_callback(void);
int api_set_option(const struct option *table, void *values, const char *name, const char *value);

void api_cond_init(pthread_cond_t *cond);
int64_t api_now_ms(void); /* monotonic */
/* Waits until deadline_ms (INT64_MAX = for ever). false: it has passed. */
bool api_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms);
int64_t api_deadline_ms(int64_t timeout_ms); /* -1 = for ever */

#endif
