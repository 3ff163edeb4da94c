/* clymq bench e2e: how long a message takes from when it was due to be sent until a consumer has it. One
 * process, so one clock: each value begins with its time. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/mem.h"
#include "cli/bench.h"
#include "cli/schedule.h"

struct e2e_values {
    struct bench_common base;
    int64_t messages, size, partitions, rate, ack, linger, batch_bytes;
};
#define AT(field) offsetof(struct e2e_values, field)

enum { STAMP_BYTES = 16 }; /* the run's id, the time */

static const struct option bench_table[] = {
    {.name = "messages",
     .type = OPTION_INT,
     .offset = AT(messages),
     .fallback = "100000",
     .min = 1,
     .max = INT64_MAX,
     .section = "Load",
     .help = "How many."},
    {.name = "rate",
     .type = OPTION_INT,
     .offset = AT(rate),
     .fallback = "10000",
     .min = 1,
     .max = 1000000000,
     .section = "Load",
     .help = "Messages a second, each sent at its time whatever became of those before, its latency counted "
             "from that time."},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(size),
     .fallback = "1K",
     .min = STAMP_BYTES,
     .max = 8 << 20,
     .section = "Load",
     .help = "Bytes of each message; half of them random."},
    {.name = "partitions",
     .type = OPTION_INT,
     .offset = AT(partitions),
     .fallback = "1",
     .min = 1,
     .max = 10000,
     .section = "Load",
     .help = "Of the topic, where it has to be made."},
    {.name = "ack",
     .type = OPTION_INT,
     .offset = AT(ack),
     .fallback = "-1",
     .min = -1,
     .max = 1,
     .section = "Sending",
     .placeholder = "-1|1|0",
     .help = "As in `clymq produce`."},
    {.name = "linger",
     .type = OPTION_DURATION_MS,
     .offset = AT(linger),
     .fallback = "0",
     .min = 0,
     .max = 3600000,
     .section = "Sending",
     .help = "Likewise."},
    {.name = "batch_bytes",
     .type = OPTION_SIZE,
     .offset = AT(batch_bytes),
     .fallback = "256K",
     .min = 1,
     .max = 64 << 20,
     .section = "Sending",
     .help = "Likewise."},
    BENCH_COMMON_OPTIONS(struct e2e_values),
    {0},
};

struct e2e {
    const struct e2e_values *values;
    clymq_client *sending, *receiving;
    clymq_producer *producer;
    clymq_consumer *consumer;
    int64_t run_id; /* tells this run's messages from older ones and other senders' */
    struct bench_result *result;
    uint64_t seen;           /* the consumer's thread */
    _Atomic uint64_t wanted; /* by it; known in the end */
    _Atomic bool ended;      /* the thread shall not wait any longer */
    _Atomic int error;       /* of the consumer */
    uint64_t refused;        /* the client's thread, read after the flush */
    int refused_error;
};

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct e2e *e2e = ctx;
    if (!error)
        return;
    e2e->refused++;
    e2e->refused_error = error;
}

static void take(struct e2e *e2e, const clymq_message *message)
{
    int64_t stamp[2];
    if (message->value_len < STAMP_BYTES)
        return;
    memcpy(stamp, message->value, sizeof(stamp));
    if (stamp[0] != e2e->run_id)
        return;
    latency_add(&e2e->result->latency, cli_now_us() - stamp[1]);
    e2e->result->bytes += message->value_len;
    e2e->seen++;
}

static void *receive(void *ctx)
{
    struct e2e *e2e = ctx;
    while (e2e->seen < atomic_load(&e2e->wanted) && !atomic_load(&e2e->ended)) {
        const clymq_message *message;
        int got = clymq_consume(e2e->consumer, 100, &message);
        if (got < 0 && !error_retriable(got)) {
            atomic_store(&e2e->error, got);
            break;
        }
        if (got > 0)
            take(e2e, message);
    }
    return NULL;
}

static int send_all(struct e2e *e2e, const char *topic, uint8_t *payload)
{
    const struct e2e_values *values = e2e->values;
    struct schedule schedule = {.start_us = cli_now_us(), .rate = values->rate};
    clymq_message message = {.topic = topic, .value = payload, .value_len = (size_t)values->size};
    uint64_t sent = 0;
    int error = 0;
    for (; sent < (uint64_t)values->messages && !cli_interrupted() && !atomic_load(&e2e->error); sent++) {
        int64_t stamp[2] = {e2e->run_id, schedule_due_us(&schedule, sent, 0)};
        bench_sleep_until(stamp[1]);
        memcpy(payload, stamp, sizeof(stamp));
        while ((error = clymq_produce(e2e->producer, &message)) == CLYMQ_EQUEUE_FULL && !cli_interrupted())
            clymq_producer_wait(e2e->producer, 100);
        if (error)
            break;
    }
    int code = error && error != CLYMQ_EQUEUE_FULL ? cli_failed() : 0;
    cli_waiting_for_outcomes();
    clymq_producer_flush(e2e->producer, -1);
    cli_waiting_over();
    atomic_store(&e2e->wanted, sent - e2e->refused);
    return code;
}

/* Until the consumer has what was acknowledged. With ack 0 some of it may never come. */
static void await_rest(struct e2e *e2e, pthread_t thread)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += (time_t)(e2e->values->base.common.timeout / 1000) + 1;
    if (pthread_timedjoin_np(thread, NULL, &until) != 0) {
        atomic_store(&e2e->ended, true);
        pthread_join(thread, NULL);
    }
}

static int measure(struct e2e *e2e, const char *topic, uint8_t *payload)
{
    struct bench_result *result = e2e->result;
    pthread_t thread;
    atomic_store(&e2e->wanted, UINT64_MAX);
    if (pthread_create(&thread, NULL, receive, e2e) != 0)
        return cli_usage("%s", error_sentence(CLYMQ_ENOMEM));
    bench_begin(result, &e2e->values->base);
    int code = send_all(e2e, topic, payload);
    await_rest(e2e, thread);
    bench_end(result, &e2e->values->base);
    result->messages = e2e->seen;
    uint64_t wanted = atomic_load(&e2e->wanted);
    result->failed = e2e->refused + (wanted > e2e->seen ? wanted - e2e->seen : 0);
    int error = e2e->refused ? e2e->refused_error : atomic_load(&e2e->error);
    snprintf(result->first_error, sizeof(result->first_error), "%s",
             error ? error_sentence(error) : "they did not reach the consumer in time");
    return code;
}

static int set_number(clymq_producer *producer, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return clymq_producer_set(producer, name, text);
}

static int open_producer(struct e2e *e2e)
{
    const struct e2e_values *values = e2e->values;
    if (clymq_producer_new(e2e->sending, &e2e->producer) != 0 ||
        set_number(e2e->producer, "ack", values->ack) ||
        set_number(e2e->producer, "linger_ms", values->linger) ||
        set_number(e2e->producer, "batch_bytes", values->batch_bytes) ||
        clymq_producer_on_delivery(e2e->producer, on_delivery, e2e))
        return cli_failed();
    return 0;
}

static int open_consumer(struct e2e *e2e, const char *topic)
{
    char **names = NULL;
    size_t count = 0;
    int code = clymq_consumer_new(e2e->receiving, &e2e->consumer) ? cli_failed() : 0;
    if (!code)
        code = cli_partitions(e2e->receiving, topic, &names, &count);
    for (size_t i = 0; !code && i < count; i++) {
        if (clymq_consumer_assign(e2e->consumer, topic, names[i], CLYMQ_OFFSET_END) != 0)
            code = cli_failed();
    }
    if (names)
        cli_free_names(names, count);
    return code;
}

static int bench_run(void *values_ptr, int argc, char **argv)
{
    const struct e2e_values *values = values_ptr;
    const char *topic = argc > 0 ? argv[0] : "clymq-bench";
    struct e2e e2e = {.values = values, .run_id = (int64_t)(intptr_t)&e2e ^ cli_now_us()};
    e2e.result = bench_result_new("bench e2e", "library");
    uint8_t *payload = bench_payload((size_t)values->size, 0);
    int code = e2e.result && payload ? cli_connect(&values->base.common, &e2e.sending) : CLI_FAILED;
    if (!code)
        code = cli_connect_to_ask(&values->base.common, &e2e.receiving);
    if (!code)
        code = bench_topic(e2e.sending, topic, (int)values->partitions, (int)values->ack);
    if (!code)
        code = open_producer(&e2e);
    if (!code)
        code = open_consumer(&e2e, topic);
    if (!code) {
        bench_precise_sleeps();
        code = measure(&e2e, topic, payload);
        if (!code)
            code = bench_report(e2e.result, &values->base);
    }
    clymq_producer_free(e2e.producer);
    clymq_consumer_free(e2e.consumer);
    if (e2e.sending)
        clymq_client_free(e2e.sending);
    if (e2e.receiving)
        clymq_client_free(e2e.receiving);
    mem_free(payload);
    bench_result_free(e2e.result);
    return code;
}

const struct cli_command cli_bench_e2e = {
    .name = "bench e2e",
    .arguments = "[TOPIC]",
    .summary = "Measure how long messages take from producer to consumer.",
    .details = "A producer sends at a fixed rate and a consumer of the same process reads along. A latency "
               "is the time "
               "from when\na message was due to be sent until the consumer has it: a server that stalls is "
               "charged for "
               "every message that\nwaits meanwhile. The topic, clymq-bench unless named, is made if it is "
               "not there, and "
               "stays.\n\n"
               "Examples:\n"
               "  clymq bench e2e\n"
               "  clymq bench e2e --rate 1000 --messages 60000 --ack 1 --partitions 4 --json\n",
    .table = bench_table,
    .values_size = sizeof(struct e2e_values),
    .arguments_min = 0,
    .arguments_max = 1,
    .run = bench_run,
};
