/* bench produce --method library: messages through libclymq, over one client or several in turn. */
#include <inttypes.h>

#include "base/mem.h"
#include "cli/bench_produce.h"
#include "cli/schedule.h"

/* One client. Its own thread writes the outcome, which is read after the flush. */
struct sender {
    clymq_client *client;
    clymq_producer *producer;
    struct latency latency;
    uint64_t failed;
    int error;
};

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct sender *sender = ctx;
    if (error) {
        sender->failed++;
        sender->error = error;
        return;
    }
    latency_add(&sender->latency, cli_now_us() - (int64_t)(intptr_t)message->opaque);
}

static int set_number(clymq_producer *producer, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return clymq_producer_set(producer, name, text);
}

static int sender_open(struct sender *sender, const struct bench_produce_values *values)
{
    static const char *const compressions[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    int code = cli_connect(&values->base.common, &sender->client);
    if (code)
        return code;
    if (clymq_producer_new(sender->client, &sender->producer) != 0)
        return cli_failed();
    clymq_producer *producer = sender->producer;
    if (set_number(producer, "ack", values->ack) ||
        set_number(producer, "batch_bytes", values->batch_bytes) ||
        set_number(producer, "linger_ms", values->linger) ||
        set_number(producer, "max_in_flight", values->in_flight) ||
        set_number(producer, "buffer_bytes", values->buffer_bytes) ||
        clymq_producer_set(producer, "compression", compressions[values->compression]) ||
        clymq_producer_on_delivery(producer, on_delivery, sender))
        return cli_failed();
    return 0;
}

static void senders_close(struct sender *senders, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        clymq_producer_free(senders[i].producer);
        if (senders[i].client)
            clymq_client_free(senders[i].client);
    }
    mem_free(senders);
}

static int send_one(clymq_producer *producer, const clymq_message *message)
{
    int error;
    while ((error = clymq_produce(producer, message)) == CLYMQ_EQUEUE_FULL && !cli_interrupted())
        clymq_producer_wait(producer, 100);
    return error;
}

static int send_all(const struct bench_produce_values *values, const char *topic, struct sender *senders,
                    const uint8_t *payload)
{
    int64_t now_us = cli_now_us(), ends_us = values->duration ? now_us + values->duration * 1000 : INT64_MAX;
    struct schedule schedule = {.start_us = now_us, .rate = values->rate};
    clymq_message message = {.topic = topic, .value_len = (size_t)values->size};
    for (uint64_t i = 0; values->messages == 0 || i < (uint64_t)values->messages; i++) {
        now_us = values->rate ? bench_sleep_until(schedule_due_us(&schedule, i, 0)) : cli_now_us();
        if (now_us >= ends_us || cli_interrupted())
            break;
        message.value = payload + i % 256;
        message.opaque = (void *)(intptr_t)schedule_due_us(&schedule, i, now_us);
        int error = send_one(senders[i % (uint64_t)values->connections].producer, &message);
        if (error && error != CLYMQ_EQUEUE_FULL)
            return cli_failed();
    }
    return 0;
}

static void collect(const struct bench_produce_values *values, const struct sender *senders,
                    struct bench_result *result)
{
    for (int64_t i = 0; i < values->connections; i++) {
        latency_merge(&result->latency, &senders[i].latency);
        result->failed += senders[i].failed;
        if (senders[i].error)
            snprintf(result->first_error, sizeof(result->first_error), "%s",
                     error_sentence(senders[i].error));
    }
    result->messages = result->latency.count;
    result->bytes = result->messages * (uint64_t)values->size;
}

int bench_produce_by_library(const struct bench_produce_values *values, const char *topic,
                             struct bench_result *result)
{
    struct sender *senders = mem_calloc((size_t)values->connections, sizeof(*senders));
    uint8_t *payload = bench_payload((size_t)values->size, 256);
    int code = senders && payload ? 0 : CLI_FAILED;
    for (int64_t i = 0; !code && i < values->connections; i++)
        code = sender_open(&senders[i], values);
    if (!code) {
        bench_begin(result, &values->base);
        code = send_all(values, topic, senders, payload);
        cli_waiting_for_outcomes();
        for (int64_t i = 0; i < values->connections; i++)
            clymq_producer_flush(senders[i].producer, -1);
        cli_waiting_over();
        bench_end(result, &values->base);
        collect(values, senders, result);
    }
    senders_close(senders, senders ? values->connections : 0);
    mem_free(payload);
    return code;
}
