/* clymq bench produce: how fast messages go in, and how long each takes from the call to its acknowledgement.
 */
#include <inttypes.h>
#include <stdatomic.h>
#include <string.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "cli/cli.h"

struct bench_values {
    struct cli_common common;
    int64_t messages, size, partitions, ack, batch_bytes, linger, in_flight, buffer_bytes, rate;
    int compression;
};
#define AT(field) offsetof(struct bench_values, field)

static const struct option bench_table[] = {
    {.name = "messages",
     .type = OPTION_INT,
     .offset = AT(messages),
     .fallback = "1000000",
     .min = 1,
     .max = INT64_MAX,
     .section = "Load",
     .help = "How many."},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(size),
     .fallback = "100",
     .min = 0,
     .max = 8 << 20,
     .section = "Load",
     .help = "Bytes of each value; half of them random."},
    {.name = "partitions",
     .type = OPTION_INT,
     .offset = AT(partitions),
     .fallback = "1",
     .min = 1,
     .max = 100000,
     .section = "Load",
     .help = "Of the topic, where it has to be made."},
    {.name = "rate",
     .type = OPTION_INT,
     .offset = AT(rate),
     .fallback = "0",
     .min = 0,
     .max = 1000000000,
     .section = "Load",
     .help = "At most so many messages a second; 0 is as fast as it goes."},
    {.name = "ack",
     .type = OPTION_INT,
     .offset = AT(ack),
     .fallback = "-1",
     .min = -1,
     .max = 1,
     .section = "Sending",
     .placeholder = "-1|1|0",
     .help = "As in `clymq produce`."},
    {.name = "batch_bytes",
     .type = OPTION_SIZE,
     .offset = AT(batch_bytes),
     .fallback = "256K",
     .min = 1,
     .max = 64 << 20,
     .section = "Sending",
     .help = "Likewise."},
    {.name = "linger",
     .type = OPTION_DURATION_MS,
     .offset = AT(linger),
     .fallback = "5ms",
     .min = 0,
     .max = 3600000,
     .section = "Sending",
     .help = "Likewise."},
    {.name = "in_flight",
     .type = OPTION_INT,
     .offset = AT(in_flight),
     .fallback = "5",
     .min = 1,
     .max = 5,
     .section = "Sending",
     .help = "Batches under way per partition."},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "32M",
     .min = 65536,
     .max = INT64_MAX / 4,
     .section = "Sending",
     .help = "As in `clymq produce`."},
    {.name = "compression",
     .type = OPTION_CHOICE,
     .offset = AT(compression),
     .fallback = "none",
     .choices = "none|gzip|snappy|lz4|zstd",
     .section = "Sending",
     .help = "Likewise."},
    CLI_COMMON_OPTIONS(struct bench_values),
    {0},
};

struct bench {
    struct latency latency; /* the client's thread writes; read after the flush */
    uint64_t failed;
    int error;
};

static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct bench *bench = ctx;
    if (error) {
        bench->failed++;
        bench->error = error;
        return;
    }
    latency_add(&bench->latency, cli_now_us() - (int64_t)(intptr_t)message->opaque);
}

static int set_number(clymq_producer *producer, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return clymq_producer_set(producer, name, text);
}

static int producer_open(const struct bench_values *values, clymq_client *client, struct bench *bench,
                         clymq_producer **ret_producer)
{
    static const char *const compressions[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    if (clymq_producer_new(client, ret_producer) != 0)
        return cli_failed();
    clymq_producer *producer = *ret_producer;
    if (set_number(producer, "ack", values->ack) ||
        set_number(producer, "batch_bytes", values->batch_bytes) ||
        set_number(producer, "linger_ms", values->linger) ||
        set_number(producer, "max_in_flight", values->in_flight) ||
        set_number(producer, "buffer_bytes", values->buffer_bytes) ||
        clymq_producer_set(producer, "compression", compressions[values->compression]) ||
        clymq_producer_on_delivery(producer, on_delivery, bench))
        return cli_failed();
    return 0;
}

/* Sleeps until a message is due: spinning would take a core from the server. */
static int64_t pace(int64_t due_us)
{
    int64_t now_us;

    while ((now_us = cli_now_us()) < due_us && !cli_interrupted()) {
        struct timespec pause = {.tv_sec = (time_t)((due_us - now_us) / 1000000),
                                 .tv_nsec = (long)((due_us - now_us) % 1000000) * 1000};

        nanosleep(&pause, NULL);
    }
    return now_us;
}

static void send_all(const struct bench_values *values, const char *topic, clymq_producer *producer,
                     const uint8_t *payload)
{
    int64_t started_us = cli_now_us();
    clymq_message message = {.topic = topic, .value = payload, .value_len = (size_t)values->size};
    for (int64_t i = 0; i < values->messages && !cli_interrupted(); i++) {
        int64_t now_us =
            pace(values->rate ? started_us + (int64_t)((double)i * 1e6 / (double)values->rate) : 0);
        message.value = payload + i % 256;
        message.opaque = (void *)(intptr_t)now_us;
        int error;
        while ((error = clymq_produce(producer, &message)) == CLYMQ_EQUEUE_FULL && !cli_interrupted())
            clymq_producer_wait(producer, 100);
        if (error)
            return;
    }
}

static int report(const struct bench_values *values, const struct bench *bench, double seconds)
{
    const struct latency *latency = &bench->latency;
    double count = (double)latency->count, bytes = count * (double)values->size;
    const double quantiles[] = {0.5, 0.9, 0.99, 0.999};
    double ms[4];
    for (size_t i = 0; i < 4; i++)
        ms[i] = (double)latency_quantile(latency, quantiles[i]) / 1000;
    if (values->common.json)
        printf("{\"messages\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"bytes\":%.0f,\"seconds\":%.3f,"
               "\"messages_per_s\":%.0f,\"mb_per_s\":%.2f,\"latency_ms\":{\"p50\":%.3f,\"p90\":%.3f,\"p99\":%"
               ".3f,"
               "\"p999\":%.3f,\"max\":%.3f}}\n",
               latency->count, bench->failed, bytes, seconds, count / seconds, bytes / 1e6 / seconds, ms[0],
               ms[1], ms[2], ms[3], (double)latency->max_us / 1000);
    else
        printf("%" PRIu64 " messages of %" PRId64 " bytes in %.2f s: %.0f messages/s, %.2f MB/s\n"
               "latency ms: p50 %.2f, p90 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n",
               latency->count, values->size, seconds, count / seconds, bytes / 1e6 / seconds, ms[0], ms[1],
               ms[2], ms[3], (double)latency->max_us / 1000);
    if (bench->failed)
        cli_complain("%" PRIu64 " messages failed: %s", bench->failed, error_sentence(bench->error));
    return cli_finish_output(bench->failed ? CLI_FAILED : CLI_OK);
}

static int bench_with(const struct bench_values *values, const char *topic, clymq_client *client,
                      struct bench *bench)
{
    clymq_topic_options options = {(int)values->partitions, 0, (int)values->ack, NULL};
    int error = clymq_topic_create(client, topic, &options);
    if (error && error != CLYMQ_EEXIST)
        return cli_failed();
    uint8_t *payload = mem_alloc((size_t)values->size + 256);
    if (!payload)
        return cli_usage("%s", error_sentence(CLYMQ_ENOMEM));
    struct rng rng;
    rng_seed(&rng, 1);
    memset(payload, 'x', (size_t)values->size + 256);
    for (size_t i = 0; i < (size_t)values->size + 256; i += 16)
        rng_fill(&rng, payload + i, (size_t)values->size + 256 - i < 8 ? (size_t)values->size + 256 - i : 8);
    clymq_producer *producer = NULL;
    int code = producer_open(values, client, bench, &producer);
    if (!code) {
        cli_catch_signals();
        int64_t started_us = cli_now_us();
        send_all(values, topic, producer, payload);
        clymq_producer_flush(producer, -1);
        code = report(values, bench, (double)(cli_now_us() - started_us) / 1e6);
    }
    clymq_producer_free(producer);
    mem_free(payload);
    return code;
}

static int bench_run(void *values_ptr, int argc, char **argv)
{
    struct bench_values *values = values_ptr;
    struct bench *bench = mem_zalloc(sizeof(*bench));
    clymq_client *client;
    int code = bench ? cli_connect(&values->common, &client) : CLI_FAILED;
    if (!code) {
        code = bench_with(values, argc > 0 ? argv[0] : "clymq-bench", client, bench);
        clymq_client_free(client);
    }
    mem_free(bench);
    return code;
}

const struct cli_command cli_bench_produce = {
    .name = "bench produce",
    .arguments = "[TOPIC]",
    .summary = "Measure how fast messages are taken.",
    .details = "The topic, clymq-bench unless named, is made if it is not there, and stays.\n\n"
               "Examples:\n"
               "  clymq bench produce --messages 5000000 --size 100 --partitions 4\n"
               "  clymq bench produce --rate 10000 --ack 1 --json\n",
    .table = bench_table,
    .values_size = sizeof(struct bench_values),
    .arguments_min = 0,
    .arguments_max = 1,
    .run = bench_run,
};
