/* struct clymq_producer: the producer core behind a lock. A message goes from the caller's memory into its
 * partition's batch under that lock; the client's thread does the rest. */
#include <time.h>

#include "base/mem.h"
#include "client/api.h"

struct producer_options {
    int64_t ack, linger_ms, batch_bytes, buffer_bytes, compression_level, max_in_flight, delivery_timeout_ms;
    int compression;
    bool idempotence;
};

#define AT(field) offsetof(struct producer_options, field)
static const struct option producer_table[] = {
    {.name = "ack", .type = OPTION_INT, .offset = AT(ack), .fallback = "-1", .min = -1, .max = 1},
    {.name = "linger_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(linger_ms),
     .fallback = "5",
     .min = 0,
     .max = 3600000},
    {.name = "batch_bytes",
     .type = OPTION_SIZE,
     .offset = AT(batch_bytes),
     .fallback = "262144",
     .min = 1,
     .max = 64 << 20},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "33554432",
     .min = 4096,
     .max = INT64_MAX / 4},
    {.name = "compression",
     .type = OPTION_CHOICE,
     .offset = AT(compression),
     .fallback = "none",
     .choices = "none|gzip|snappy|lz4|zstd"},
    {.name = "compression_level",
     .type = OPTION_INT,
     .offset = AT(compression_level),
     .fallback = "0",
     .min = -100,
     .max = 22},
    {.name = "max_in_flight",
     .type = OPTION_INT,
     .offset = AT(max_in_flight),
     .fallback = "5",
     .min = 1,
     .max = 5},
    {.name = "delivery_timeout_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(delivery_timeout_ms),
     .fallback = "120000",
     .min = 1,
     .max = INT32_MAX},
    {.name = "idempotence", .type = OPTION_BOOL, .offset = AT(idempotence), .fallback = "true"},
    {0},
};
#undef AT

struct clymq_producer {
    struct api_member member; /* first */
    struct producer_options options;
    clymq_delivery_cb callback;
    void *callback_ctx;
    _Atomic(struct core_producer *) core; /* NULL until the first use */
    int start_error;
};

struct producer_task {
    struct api_task task;
    struct clymq_producer *producer;
};

/* ---- what the core calls ---- */

static void producer_kick(struct api_member *member)
{
    struct clymq_producer *producer = CONTAINER_OF(member, struct clymq_producer, member);
    core_producer_kick(atomic_load(&producer->core));
}

/* ---- starting ---- */

static void producer_start_task(struct api_task *task)
{
    struct clymq_producer *producer = CONTAINER_OF(task, struct producer_task, task)->producer;
    if (atomic_load(&producer->core)) { /* another thread was first */
        api_task_end(task);
        return;
    }
    struct core_producer_config config = {
        .ack = (int8_t)producer->options.ack,
        .linger_ms = producer->options.linger_ms,
        .batch_bytes = producer->options.batch_bytes,
        .buffer_bytes = producer->options.buffer_bytes,
        .delivery_timeout_ms = producer->options.delivery_timeout_ms,
        .compression = producer->options.compression,
        .compression_level = (int)producer->options.compression_level,
        .max_in_flight = (unsigned)producer->options.max_in_flight,
        .idempotence = producer->options.idempotence,
        .on_delivery = producer->callback,
        .delivery_ctx = producer->callback_ctx,
        .lock = api_member_lock,
        .unlock = api_member_unlock,
        .wake = api_member_wake,
        .on_progress = api_member_tell,
        .ctx = &producer->member,
    };
    struct core_producer *core = NULL;
    producer->start_error = core_producer_new(task->client->core, &config, &core);
    if (!producer->start_error) {
        list_push_back(&task->client->members, &producer->member.link);
        atomic_store(&producer->core, core);
    }
    api_task_end(task);
}

/* The core of a producer in use, started if need be; NULL: *ret_error tells. */
static struct core_producer *producer_core(struct clymq_producer *producer, int *ret_error)
{
    struct core_producer *core = atomic_load_explicit(&producer->core, memory_order_acquire);
    if (core)
        return core;
    *ret_error = api_start(producer->member.client);
    if (*ret_error)
        return NULL;
    struct producer_task task = {.task = {.run = producer_start_task}, .producer = producer};
    *ret_error = api_task_run(producer->member.client, &task.task, false);
    core = atomic_load(&producer->core);
    if (!*ret_error && !core)
        *ret_error = api_fail_plain(producer->start_error);
    return core;
}

int clymq_producer_new(clymq_client *client, clymq_producer **ret_producer)
{
    struct clymq_producer *producer = mem_zalloc(sizeof(*producer));
    if (!producer || options_defaults(producer_table, &producer->options) != 0) {
        mem_free(producer);
        return api_fail_plain(CLYMQ_ENOMEM);
    }
    api_member_init(&producer->member, client, producer_kick);
    *ret_producer = producer;
    return 0;
}

int clymq_producer_set(clymq_producer *producer, const char *name, const char *value)
{
    if (atomic_load(&producer->core))
        return api_fail(CLYMQ_EBUSY, "the producer is in use: set options before its first use");
    return api_set_option(producer_table, &producer->options, name, value);
}

int clymq_producer_on_delivery(clymq_producer *producer, clymq_delivery_cb callback, void *ctx)
{
    if (atomic_load(&producer->core))
        return api_fail(CLYMQ_EBUSY, "the producer is in use: set the callback before its first use");
    producer->callback = callback;
    producer->callback_ctx = ctx;
    return 0;
}

/* ---- producing ---- */

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int message_fail(int error, const clymq_message *message)
{
    if (error == CLYMQ_EQUEUE_FULL)
        return api_fail_plain(error);
    return api_fail(error, "topic %.249s%s%.249s: %s", message->topic ? message->topic : "(none)",
                    message->partition ? ", partition " : "", message->partition ? message->partition : "",
                    error_sentence(error));
}

static int producer_add(struct clymq_producer *producer, struct core_producer *core,
                        const clymq_message *message, struct accumulator_waiter *waiter)
{
    if (message->timestamp_ms)
        return core_producer_add(core, message, waiter);
    clymq_message stamped = *message;
    stamped.timestamp_ms = wall_ms();
    return core_producer_add(core, &stamped, waiter);
}

int clymq_produce(clymq_producer *producer, const clymq_message *message)
{
    int error = 0;
    struct core_producer *core = producer_core(producer, &error);
    if (!core)
        return error;
    api_member_lock(&producer->member);
    error = producer_add(producer, core, message, NULL);
    api_member_unlock(&producer->member);
    if (error == CLYMQ_ESHUTDOWN) /* from a callback that its end calls */
        return api_fail(error, "the producer is being freed and takes no more messages");
    return error ? message_fail(error, message) : 0;
}

static int blocking_core(struct clymq_producer *producer, struct core_producer **ret_core)
{
    int error = 0;
    if (api_is_loop_thread(producer->member.client))
        return api_fail_in_callback();
    struct core_producer *core = producer_core(producer, &error);
    if (!core)
        return error ? error : CLYMQ_ENOMEM;
    *ret_core = core;
    return 0;
}

int clymq_producer_wait(clymq_producer *producer, int64_t timeout_ms)
{
    struct core_producer *core = NULL;
    int error = blocking_core(producer, &core);
    if (error)
        return error;
    int64_t deadline_ms = api_deadline_ms(timeout_ms);
    bool in_time = true;
    api_member_lock(&producer->member);
    while (in_time && !core_producer_has_room(core))
        in_time = api_member_await(&producer->member, deadline_ms);
    api_member_unlock(&producer->member);
    return in_time ? 0 : api_fail(CLYMQ_ETIMEDOUT, "no room in the producer's buffer within the time given");
}

int clymq_produce_sync(clymq_producer *producer, const clymq_message *message, int64_t *ret_offset)
{
    struct core_producer *core = NULL;
    int error = blocking_core(producer, &core);
    if (error)
        return error;
    struct accumulator_waiter waiter = {0};
    int64_t deadline_ms = api_deadline_ms(producer->options.delivery_timeout_ms);
    bool in_time = true;
    api_member_lock(&producer->member);
    while ((error = producer_add(producer, core, message, &waiter)) == CLYMQ_EQUEUE_FULL && in_time)
        while (in_time && !core_producer_has_room(core))
            in_time = api_member_await(&producer->member, deadline_ms);
    /* From here its delivery time-out sees to it that there is an outcome. */
    while (!error && !waiter.done)
        api_member_await(&producer->member, INT64_MAX);
    api_member_unlock(&producer->member);
    if (!error)
        error = waiter.error;
    if (error)
        return message_fail(error, message);
    if (ret_offset)
        *ret_offset = waiter.offset;
    return 0;
}

int clymq_producer_flush(clymq_producer *producer, int64_t timeout_ms)
{
    struct core_producer *core = NULL;
    int error = blocking_core(producer, &core);
    if (error)
        return error;
    int64_t deadline_ms = api_deadline_ms(timeout_ms);
    bool in_time = true;
    api_member_lock(&producer->member);
    uint64_t mark = core_producer_flush(core);
    while (in_time && !core_producer_is_flushed(core, mark))
        in_time = api_member_await(&producer->member, deadline_ms);
    uint64_t pending = core_producer_pending(core);
    api_member_unlock(&producer->member);
    return in_time ? 0
                   : api_fail(CLYMQ_ETIMEDOUT,
                              "%llu messages have no outcome yet: wait longer, or check the servers",
                              (unsigned long long)pending);
}

/* ---- end ---- */

static void producer_free_task(struct api_task *task)
{
    struct clymq_producer *producer = CONTAINER_OF(task, struct producer_task, task)->producer;
    list_remove(&producer->member.link);
    core_producer_free(atomic_load(&producer->core));
    api_task_end(task);
}

void clymq_producer_free(clymq_producer *producer)
{
    if (!producer)
        return;
    if (atomic_load(&producer->core)) {
        struct producer_task task = {.task = {.run = producer_free_task}, .producer = producer};
        if (api_task_run(producer->member.client, &task.task, true) != 0)
            return; /* from its own callback: it cannot end in the middle of itself */
    }
    api_member_end(&producer->member);
    options_free(producer_table, &producer->options);
    mem_free(producer);
}
