/* struct clymq_client: the thread that runs the core, and the tasks that other threads give it. */
#include <time.h>

#include "base/log.h"
#include "base/mem.h"
#include "client/api.h"
#include "io/thread.h"

#define AT(field) offsetof(struct client_options, field)
static const struct option client_table[] = {
    {.name = "request_timeout_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(request_timeout_ms),
     .fallback = "30000",
     .min = 1,
     .max = 3600000},
    {.name = "connect_timeout_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(connect_timeout_ms),
     .fallback = "10000",
     .min = 1,
     .max = 3600000},
    {.name = "retry_backoff_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(retry_backoff_ms),
     .fallback = "100",
     .min = 1,
     .max = 60000},
    {.name = "retry_backoff_max_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(retry_backoff_max_ms),
     .fallback = "1000",
     .min = 1,
     .max = 600000},
    {.name = "metadata_max_age_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(metadata_max_age_ms),
     .fallback = "300000",
     .min = 100,
     .max = INT32_MAX},
    {.name = "max_message_bytes",
     .type = OPTION_SIZE,
     .offset = AT(max_message_bytes),
     .fallback = "16777216",
     .min = 4096,
     .max = 1 << 30},
    {.name = "log_level", .type = OPTION_TEXT, .offset = AT(log_level), .fallback = "off"},
    {0},
};
#undef AT

/* ---- time ---- */

void api_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attributes);
    pthread_condattr_destroy(&attributes);
}

int64_t api_now_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int64_t api_deadline_ms(int64_t timeout_ms)
{
    int64_t now_ms = api_now_ms();
    return timeout_ms < 0 || timeout_ms > INT64_MAX - now_ms ? INT64_MAX : now_ms + timeout_ms;
}

bool api_cond_wait(pthread_cond_t *cond, pthread_mutex_t *lock, int64_t deadline_ms)
{
    if (deadline_ms == INT64_MAX) {
        pthread_cond_wait(cond, lock);
        return true;
    }
    if (api_now_ms() >= deadline_ms)
        return false;
    struct timespec until = {.tv_sec = (time_t)(deadline_ms / 1000),
                             .tv_nsec = (long)(deadline_ms % 1000) * 1000000};
    pthread_cond_timedwait(cond, lock, &until);
    return true;
}

/* ---- the thread ---- */

static void client_wake(void *ctx)
{
    struct clymq_client *client = ctx;
    for (;;) {
        pthread_mutex_lock(&client->lock);
        struct list *at = list_pop_front(&client->tasks);
        pthread_mutex_unlock(&client->lock);
        if (!at)
            break;
        struct api_task *task = CONTAINER_OF(at, struct api_task, link);
        task->run(task);
    }
    LIST_FOR_EACH_SAFE(at, &client->members) {
        struct api_member *member = CONTAINER_OF(at, struct api_member, link);
        if (atomic_exchange(&member->wants_kick, false))
            member->kick(member);
    }
}

static void *client_main(void *ctx)
{
    struct clymq_client *client = ctx;
    io_loop_run(client->loop);
    return NULL;
}

bool api_is_loop_thread(struct clymq_client *client)
{
    return client->started && pthread_equal(pthread_self(), client->thread);
}

static int client_start(struct clymq_client *client)
{
    struct core_config config = {
        .coordinators = client->coordinators,
        .request_timeout_ms = client->options.request_timeout_ms,
        .connect_timeout_ms = client->options.connect_timeout_ms,
        .retry_backoff_ms = client->options.retry_backoff_ms,
        .retry_backoff_max_ms = client->options.retry_backoff_max_ms,
        .metadata_max_age_ms = client->options.metadata_max_age_ms,
        .max_message_bytes = client->options.max_message_bytes,
    };
    if (config.retry_backoff_max_ms < config.retry_backoff_ms)
        config.retry_backoff_max_ms = config.retry_backoff_ms;
    int error = io_os_loop_new(1, &client->loop);
    if (error)
        return error;
    error = core_new(client->loop, &config, &client->core);
    if (!error) {
        io_loop_on_wake(client->loop, client_wake, client);
        error = io_thread_start("clymq", client_main, client, &client->thread);
    }
    if (error) {
        core_free(client->core);
        io_loop_free(client->loop);
        client->core = NULL;
        client->loop = NULL;
        return error;
    }
    client->started = true;
    return 0;
}

int api_start(struct clymq_client *client)
{
    pthread_mutex_lock(&client->lock);
    int error = client->started ? 0 : client_start(client);
    pthread_mutex_unlock(&client->lock);
    return error ? api_fail(error, "the client's thread cannot start: %s", error_sentence(error)) : 0;
}

int api_task_run(struct clymq_client *client, struct api_task *task, bool waits)
{
    task->client = client;
    task->done = false;
    if (api_is_loop_thread(client)) {
        if (waits)
            return api_fail_in_callback();
        task->run(task);
        return 0;
    }
    pthread_mutex_lock(&client->lock);
    list_push_back(&client->tasks, &task->link);
    io_loop_wake(client->loop);
    while (!task->done)
        pthread_cond_wait(&client->done, &client->lock);
    pthread_mutex_unlock(&client->lock);
    return 0;
}

void api_task_end(struct api_task *task)
{
    struct clymq_client *client = task->client;
    pthread_mutex_lock(&client->lock);
    task->done = true;
    pthread_cond_broadcast(&client->done);
    pthread_mutex_unlock(&client->lock);
}

void api_member_init(struct api_member *member, struct clymq_client *client,
                     void (*kick)(struct api_member *member))
{
    member->client = client;
    member->kick = kick;
    list_init(&member->link);
    pthread_mutex_init(&member->lock, NULL);
    api_cond_init(&member->told);
}

void api_member_end(struct api_member *member)
{
    pthread_cond_destroy(&member->told);
    pthread_mutex_destroy(&member->lock);
}

void api_member_lock(void *ctx)
{
    pthread_mutex_lock(&((struct api_member *)ctx)->lock);
}

static void kick_soon(struct api_member *member)
{
    atomic_store(&member->wants_kick, true);
    io_loop_wake(member->client->loop);
}

void api_member_unlock(void *ctx)
{
    struct api_member *member = ctx;
    bool wakes_core = member->wakes_core, tells = member->tells;
    member->wakes_core = member->tells = false;
    pthread_mutex_unlock(&member->lock);
    if (wakes_core)
        kick_soon(member);
    if (tells)
        pthread_cond_broadcast(&member->told);
}

void api_member_wake(void *ctx)
{
    ((struct api_member *)ctx)->wakes_core = true;
}

void api_member_tell(void *ctx)
{
    struct api_member *member = ctx;
    member->tells |= member->waiting > 0;
}

bool api_member_await(struct api_member *member, int64_t deadline_ms)
{
    if (member->wakes_core) /* waiting gives the lock back, too */
        kick_soon(member);
    member->wakes_core = false;
    member->waiting++;
    bool in_time = api_cond_wait(&member->told, &member->lock, deadline_ms);
    member->waiting--;
    return in_time;
}

/* ---- life ---- */

static void log_off(void)
{
    /* A library is silent until it is asked to speak. */
    struct log_settings settings = {.filter = "off"};
    log_configure(&settings);
}

int clymq_client_new(const char *coordinators, clymq_client **ret_client)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, log_off);
    if (!coordinators)
        coordinators = "127.0.0.1:7878";
    if (core_check_coordinators(coordinators) != 0)
        return api_fail(CLYMQ_EINVAL, "coordinators \"%.200s\": expected HOST:PORT[,HOST:PORT…]",
                        coordinators);
    struct clymq_client *client = mem_zalloc(sizeof(*client));
    if (!client)
        return api_fail_plain(CLYMQ_ENOMEM);
    client->coordinators = mem_strdup(coordinators);
    if (!client->coordinators || options_defaults(client_table, &client->options) != 0) {
        mem_free(client->coordinators);
        options_free(client_table, &client->options);
        mem_free(client);
        return api_fail_plain(CLYMQ_ENOMEM);
    }
    pthread_mutex_init(&client->lock, NULL);
    api_cond_init(&client->done);
    list_init(&client->tasks);
    list_init(&client->members);
    *ret_client = client;
    return 0;
}

int clymq_client_set(clymq_client *client, const char *name, const char *value)
{
    pthread_mutex_lock(&client->lock);
    int error = client->started
                    ? api_fail(CLYMQ_EBUSY, "the client is in use: set options before its first use")
                    : api_set_option(client_table, &client->options, name, value);
    if (!error && strcmp(name, "log_level") == 0) {
        struct log_settings settings = {.filter = client->options.log_level};
        error = log_configure(&settings);
        if (error)
            api_fail(error, "log_level \"%.200s\": %s", value, error_sentence(error));
    }
    pthread_mutex_unlock(&client->lock);
    return error;
}

static void client_stop(struct api_task *task)
{
    struct clymq_client *client = task->client;
    core_free(client->core);
    client->core = NULL;
    io_loop_stop(client->loop);
    api_task_end(task);
}

void clymq_client_free(clymq_client *client)
{
    if (!client)
        return;
    if (client->started) {
        struct api_task task = {.run = client_stop};
        if (api_task_run(client, &task, true) != 0)
            return; /* from a callback: its thread cannot end in the middle of itself */
        pthread_join(client->thread, NULL);
        io_loop_free(client->loop);
    }
    pthread_cond_destroy(&client->done);
    pthread_mutex_destroy(&client->lock);
    options_free(client_table, &client->options);
    mem_free(client->coordinators);
    mem_free(client);
}
