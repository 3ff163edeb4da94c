/* struct clymq_consumer: the consumer core; its reading side runs on the caller's thread. */
#include <inttypes.h>
#include <stdio.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "client/api.h"

struct consumer_options {
    int64_t fetch_max_bytes, fetch_min_bytes, fetch_wait_ms, buffer_bytes;
};

#define AT(field) offsetof(struct consumer_options, field)
static const struct option consumer_table[] = {
    {.name = "fetch_max_bytes",
     .type = OPTION_SIZE,
     .offset = AT(fetch_max_bytes),
     .fallback = "1048576",
     .min = 1,
     .max = 1 << 30},
    {.name = "fetch_min_bytes",
     .type = OPTION_SIZE,
     .offset = AT(fetch_min_bytes),
     .fallback = "1",
     .min = 0,
     .max = 1 << 30},
    {.name = "fetch_wait_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(fetch_wait_ms),
     .fallback = "500",
     .min = 0,
     .max = 600000},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "8388608",
     .min = 4096,
     .max = INT64_MAX / 4},
    {0},
};
#undef AT

struct clymq_consumer {
    struct api_member member; /* first */
    struct consumer_options options;
    uint64_t news;                        /* under the lock: counts what the core told */
    _Atomic(struct core_consumer *) core; /* NULL until the first assign */
};

struct consumer_task {
    struct api_task task;
    struct clymq_consumer *consumer;
    const char *topic, *partition;
    int64_t at;
    bool by_time;
    int error;
    char sentence[400];
};

static void consumer_ready_hook(void *ctx)
{
    struct clymq_consumer *consumer = ctx;
    consumer->news++;
    api_member_tell(&consumer->member);
}

static void consumer_kick(struct api_member *member)
{
    core_consumer_kick(atomic_load(&CONTAINER_OF(member, struct clymq_consumer, member)->core));
}

/* ---- life ---- */

int clymq_consumer_new(clymq_client *client, clymq_consumer **ret_consumer)
{
    struct clymq_consumer *consumer = mem_zalloc(sizeof(*consumer));
    if (!consumer || options_defaults(consumer_table, &consumer->options) != 0) {
        mem_free(consumer);
        return api_fail_plain(CLYMQ_ENOMEM);
    }
    api_member_init(&consumer->member, client, consumer_kick);
    *ret_consumer = consumer;
    return 0;
}

int clymq_consumer_set(clymq_consumer *consumer, const char *name, const char *value)
{
    if (atomic_load(&consumer->core))
        return api_fail(CLYMQ_EBUSY, "the consumer is in use: set options before the first assignment");
    return api_set_option(consumer_table, &consumer->options, name, value);
}

static void consumer_free_task(struct api_task *task)
{
    struct clymq_consumer *consumer = CONTAINER_OF(task, struct consumer_task, task)->consumer;
    list_remove(&consumer->member.link);
    core_consumer_free(atomic_load(&consumer->core));
    api_task_end(task);
}

void clymq_consumer_free(clymq_consumer *consumer)
{
    if (!consumer)
        return;
    if (atomic_load(&consumer->core)) {
        struct consumer_task task = {.task = {.run = consumer_free_task}, .consumer = consumer};
        if (api_task_run(consumer->member.client, &task.task, true) != 0)
            return;
    }
    api_member_end(&consumer->member);
    options_free(consumer_table, &consumer->options);
    mem_free(consumer);
}

/* ---- assigning ---- */

static int consumer_start(struct clymq_consumer *consumer)
{
    struct core_consumer_config config = {
        .fetch_max_bytes = consumer->options.fetch_max_bytes,
        .fetch_min_bytes = consumer->options.fetch_min_bytes,
        .fetch_wait_ms = consumer->options.fetch_wait_ms,
        .buffer_bytes = consumer->options.buffer_bytes,
        .lock = api_member_lock,
        .unlock = api_member_unlock,
        .wake = api_member_wake,
        .on_ready = consumer_ready_hook,
        .ctx = consumer,
    };
    struct core_consumer *core;
    int error = core_consumer_new(consumer->member.client->core, &config, &core);
    if (error)
        return error;
    list_push_back(&consumer->member.client->members, &consumer->member.link);
    atomic_store(&consumer->core, core);
    return 0;
}

static void assign_done(void *ctx, int error, int64_t position, const char *sentence)
{
    struct consumer_task *task = ctx;
    task->error = error;
    snprintf(task->sentence, sizeof(task->sentence), "%s", sentence);
    api_task_end(&task->task);
}

static void assign_task(struct api_task *api_task)
{
    struct consumer_task *task = CONTAINER_OF(api_task, struct consumer_task, task);
    struct clymq_consumer *consumer = task->consumer;
    task->error = atomic_load(&consumer->core) ? 0 : consumer_start(consumer);
    if (!task->error)
        task->error = core_consumer_assign(atomic_load(&consumer->core), task->topic, task->partition,
                                           task->at, task->by_time, assign_done, task);
    if (task->error)
        api_task_end(api_task);
}

static int consumer_assign(struct clymq_consumer *consumer, const char *topic, const char *partition,
                           int64_t at, bool by_time)
{
    if (!topic || name_check(bytes_of_text(topic)) != 0)
        return api_fail(CLYMQ_ENAME, "topic \"%.249s\": %s", topic ? topic : "", error_sentence(CLYMQ_ENAME));
    if (!partition || name_check(bytes_of_text(partition)) != 0)
        return api_fail(CLYMQ_ENAME, "partition \"%.249s\": %s", partition ? partition : "",
                        error_sentence(CLYMQ_ENAME));
    int error = api_start(consumer->member.client);
    if (error)
        return error;
    struct consumer_task task = {
        .task = {.run = assign_task},
        .consumer = consumer,
        .topic = topic,
        .partition = partition,
        .at = at,
        .by_time = by_time,
    };
    error = api_task_run(consumer->member.client, &task.task, true);
    if (error)
        return error;
    if (task.error)
        return api_fail(task.error, "topic %.249s, partition %.249s: %s", topic, partition,
                        task.sentence[0] ? task.sentence : error_sentence(task.error));
    return 0;
}

int clymq_consumer_assign(clymq_consumer *consumer, const char *topic, const char *partition, int64_t offset)
{
    return consumer_assign(consumer, topic, partition, offset, false);
}

int clymq_consumer_assign_time(clymq_consumer *consumer, const char *topic, const char *partition,
                               int64_t timestamp_ms)
{
    return consumer_assign(consumer, topic, partition, timestamp_ms, true);
}

static void follow_task(struct api_task *api_task)
{
    struct consumer_task *task = CONTAINER_OF(api_task, struct consumer_task, task);
    struct clymq_consumer *consumer = task->consumer;
    task->error = atomic_load(&consumer->core) ? 0 : consumer_start(consumer);
    if (!task->error)
        task->error = core_consumer_follow(atomic_load(&consumer->core), task->topic);
    api_task_end(api_task);
}

int clymq_consumer_follow(clymq_consumer *consumer, const char *topic)
{
    if (!topic || name_check(bytes_of_text(topic)) != 0)
        return api_fail(CLYMQ_ENAME, "topic \"%.249s\": %s", topic ? topic : "", error_sentence(CLYMQ_ENAME));
    int error = api_start(consumer->member.client);
    if (error)
        return error;
    struct consumer_task task = {.task = {.run = follow_task}, .consumer = consumer, .topic = topic};
    error = api_task_run(consumer->member.client, &task.task, true);
    if (error)
        return error;
    return task.error ? api_fail_plain(task.error) : 0;
}

/* ---- consuming ---- */

int clymq_consume(clymq_consumer *consumer, int64_t timeout_ms, const clymq_message **ret_message)
{
    struct core_consumer *core = atomic_load_explicit(&consumer->core, memory_order_acquire);
    if (timeout_ms != 0 && api_is_loop_thread(consumer->member.client))
        return api_fail_in_callback();
    if (!core)
        return api_fail(CLYMQ_EINVAL, "nothing is assigned: call clymq_consumer_assign first");
    const clymq_message *message;
    int result = core_consumer_next(core, &message);
    int64_t deadline_ms = result == 0 && timeout_ms != 0 ? api_deadline_ms(timeout_ms) : 0;
    while (result == 0 && timeout_ms != 0) {
        /* What comes after this look counts as news. */
        api_member_lock(&consumer->member);
        uint64_t seen = consumer->news;
        api_member_unlock(&consumer->member);
        if ((result = core_consumer_next(core, &message)) != 0)
            break;
        bool in_time = true;
        api_member_lock(&consumer->member);
        while (in_time && consumer->news == seen)
            in_time = api_member_await(&consumer->member, deadline_ms);
        api_member_unlock(&consumer->member);
        if (!in_time)
            return 0;
    }
    if (result < 0)
        return api_fail(result, "topic %.249s, partition %.249s, at offset %" PRId64 ": %s", message->topic,
                        message->partition, message->offset, core_consumer_sentence(core));
    if (result > 0)
        *ret_message = message;
    return result;
}

bool clymq_consumer_at_end(clymq_consumer *consumer)
{
    struct core_consumer *core = atomic_load_explicit(&consumer->core, memory_order_acquire);
    return core && core_consumer_at_end(core);
}
