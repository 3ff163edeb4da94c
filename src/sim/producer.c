/* libclymq's producer as a client: see producer.h. */
#include "sim/producer.h"

#include <assert.h>
#include <string.h>

#include "base/mem.h"
#include "client/core.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/value.h"

enum { BURST_MAX = 12 };

struct producer {
    struct run *run;
    uint16_t client;
    bool idempotence;
    int8_t ack;
    unsigned pause_ms;
    struct core *core;
    struct core_producer *producer;
    struct io_timer timer;
};

static bool is_uncertain(int error)
{
    return error == CLYMQ_EUNCERTAIN || error == CLYMQ_ETIMEDOUT;
}

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct producer *producer = ctx;
    struct history *history = producer->run->history;
    uint32_t number = (uint32_t)((uintptr_t)message->opaque - 1);

    if (number >= history->count || history->messages[number].client != producer->client ||
        history->messages[number].state != MESSAGE_PENDING) {
        run_violation(producer->run, "I8", "client %u was told of a delivery that it does not wait for",
                      producer->client);
        return;
    }
    history_end(history, number,
                !error                ? MESSAGE_ACKED
                : is_uncertain(error) ? MESSAGE_UNCERTAIN
                                      : MESSAGE_REFUSED,
                message->offset, error_name(error));
}

static void produce(struct producer *producer, const struct slot *slot)
{
    static uint8_t value[VALUE_SIZE_MAX];
    struct history *history = producer->run->history;
    struct rng *rng = &producer->run->rng;
    struct message_plan plan = {
        .slot = &history->slots[slot->number],
        .client = producer->client,
        .size = VALUE_SIZE_MIN + (uint32_t)rng_below(rng, rng_chance(rng, 1, 30) ? 20000 : 300),
        .ack = producer->ack,
        .once = producer->idempotence,
        .ordered = producer->idempotence,
    };
    uint32_t number = history_begin(history, &plan);
    struct value_extras extras = value_extras_of(number);
    clymq_header header = {"n", extras.key, strlen(extras.key)};
    clymq_message message = {
        .topic = slot->topic,
        .partition = slot->partition,
        .timestamp_ms = io_loop_wall_ms(producer->run->loop),
        .value = value,
        .value_len = plan.size,
        .key = extras.has_key ? extras.key : NULL,
        .key_len = extras.has_key ? strlen(extras.key) : 0,
        .headers = &header,
        .header_count = extras.has_header,
        .opaque = (void *)(uintptr_t)(number + 1),
    };

    history->messages[number].resent = true; /* as far as anybody can tell from here */
    history->messages[number].has_extras = true;
    history->messages[number].timestamp_ms = message.timestamp_ms;
    history_write_value(history, number, value);
    int error = core_producer_add(producer->producer, &message, NULL);
    if (error)
        history_end(history, number, MESSAGE_REFUSED, -1, error_name(error));
}

static void on_timer(struct io_timer *timer)
{
    struct producer *producer = CONTAINER_OF(timer, struct producer, timer);
    struct history *history = producer->run->history;
    struct rng *rng = &producer->run->rng;
    uint64_t burst = 1 + rng_below(rng, BURST_MAX);
    const struct slot *slot = &history->slots[rng_below(rng, history->slot_count)];

    while (burst-- > 0)
        produce(producer, slot);
    core_producer_kick(producer->producer);
    io_timer_start(producer->run->loop, timer, run_draw_ms(producer->run, 1, producer->pause_ms));
}

struct producer *producer_new(struct run *run, uint16_t client, bool idempotence, unsigned pause_ms)
{
    struct producer *producer = run_alloc(sizeof(*producer));
    struct rng *rng = &run->rng;
    struct core_config core;
    struct core_producer_config config;

    producer->run = run;
    producer->client = client;
    producer->idempotence = idempotence;
    producer->pause_ms = pause_ms;
    core_config_defaults(&core);
    core.coordinators = MACHINE_COORDINATOR_ADDRESS;
    core.request_timeout_ms = rng_between(rng, 300, 10000);
    core.connect_timeout_ms = rng_between(rng, 300, 3000);
    core.retry_backoff_ms = rng_between(rng, 5, 200);
    core.retry_backoff_max_ms = rng_between(rng, 200, 1500);
    core.metadata_max_age_ms = rng_between(rng, 1000, 60000);
    core_producer_config_defaults(&config);
    producer->ack = config.ack = rng_chance(rng, 3, 4) ? -1 : 1;
    config.linger_ms = rng_between(rng, 0, 20);
    config.batch_bytes = 256 << rng_below(rng, 9);
    config.delivery_timeout_ms = rng_chance(rng, 1, 2) ? 120000 : rng_between(rng, 500, 15000);
    config.compression = (int)rng_below(rng, BATCH_ZSTD + 1);
    config.max_in_flight = 1 + (unsigned)rng_below(rng, 5);
    config.idempotence = idempotence;
    config.on_delivery = on_delivery;
    config.delivery_ctx = producer;
    int error = core_new(run->loop, &core, &producer->core);
    if (!error)
        error = core_producer_new(producer->core, &config, &producer->producer);
    assert(!error);
    producer->timer.fire = on_timer;
    io_timer_start(run->loop, &producer->timer, run_draw_ms(run, 0, pause_ms));
    return producer;
}

void producer_stop(struct producer *producer)
{
    io_timer_stop(producer->run->loop, &producer->timer);
}

bool producer_is_idle(const struct producer *producer)
{
    return core_producer_pending(producer->producer) == 0;
}

void producer_free(struct producer *producer)
{
    if (!producer)
        return;
    producer_stop(producer);
    core_producer_free(producer->producer);
    core_free(producer->core);
    mem_free(producer);
}
