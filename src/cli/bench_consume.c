/* clymq bench consume: how fast what is stored comes out, and how old each message is when it arrives. */
#include <inttypes.h>
#include <time.h>

#include "base/mem.h"
#include "cli/cli.h"

struct bench_values {
    struct cli_common common;
    char *from;
    int64_t messages, buffer_bytes, fetch_bytes;
};
#define AT(field) offsetof(struct bench_values, field)

static const struct option bench_table[] = {
    {.name = "messages",
     .type = OPTION_INT,
     .offset = AT(messages),
     .fallback = "0",
     .min = 0,
     .max = INT64_MAX,
     .section = "Load",
     .help = "How many to read; 0 is all that are stored."},
    {.name = "from",
     .type = OPTION_TEXT,
     .offset = AT(from),
     .fallback = "beginning",
     .section = "Load",
     .placeholder = "PLACE",
     .help = "As in `clymq consume`."},
    {.name = "fetch_bytes",
     .type = OPTION_SIZE,
     .offset = AT(fetch_bytes),
     .fallback = "1M",
     .min = 1,
     .max = 1 << 30,
     .section = "Load",
     .help = "Asked for at once, per partition."},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "8M",
     .min = 65536,
     .max = INT64_MAX / 4,
     .section = "Load",
     .help = "Memory for messages fetched ahead."},
    CLI_COMMON_OPTIONS(struct bench_values),
    {0},
};

struct bench {
    struct latency age;
    uint64_t messages, bytes;
};

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int report(const struct bench_values *values, const struct bench *bench, double seconds)
{
    double ms[3];
    const double quantiles[] = {0.5, 0.99, 0.999};
    for (size_t i = 0; i < 3; i++)
        ms[i] = (double)latency_quantile(&bench->age, quantiles[i]) / 1000;
    if (values->common.json)
        printf("{\"messages\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"seconds\":%.3f,\"messages_per_s\":%.0f,"
               "\"mb_per_s\":%.2f,\"age_ms\":{\"p50\":%.3f,\"p99\":%.3f,\"p999\":%.3f,\"max\":%.3f}}\n",
               bench->messages, bench->bytes, seconds, (double)bench->messages / seconds,
               (double)bench->bytes / 1e6 / seconds, ms[0], ms[1], ms[2], (double)bench->age.max_us / 1000);
    else
        printf("%" PRIu64 " messages, %" PRIu64 " bytes in %.2f s: %.0f messages/s, %.2f MB/s\n"
               "age on arrival, ms: p50 %.2f, p99 %.2f, p99.9 %.2f, max %.2f\n",
               bench->messages, bench->bytes, seconds, (double)bench->messages / seconds,
               (double)bench->bytes / 1e6 / seconds, ms[0], ms[1], ms[2], (double)bench->age.max_us / 1000);
    return cli_finish_output(CLI_OK);
}

static int read_all(const struct bench_values *values, clymq_consumer *consumer, struct bench *bench)
{
    int64_t started_us = cli_now_us(), last_us = started_us, now_ms = wall_ms();
    while (!cli_interrupted() && !(values->messages && bench->messages == (uint64_t)values->messages)) {
        const clymq_message *message;
        int got = clymq_consume(consumer, 0, &message);
        if (got == 0) {
            if (!values->messages && clymq_consumer_at_end(consumer))
                break;
            got = clymq_consume(consumer, 50, &message);
            now_ms = wall_ms();
        }
        if (got < 0 && !error_retriable(got))
            return cli_failed();
        if (got <= 0)
            continue;
        if ((++bench->messages & 255) == 0)
            now_ms = wall_ms();
        bench->bytes += message->key_len + message->value_len;
        latency_add(&bench->age, (now_ms - message->timestamp_ms) * 1000);
        last_us = 0;
    }
    if (last_us == 0)
        last_us = cli_now_us();
    double seconds = (double)(last_us - started_us) / 1e6;
    return report(values, bench, seconds > 1e-6 ? seconds : 1e-6);
}

static int bench_with(const struct bench_values *values, const char *topic, clymq_client *client,
                      struct bench *bench, const struct cli_place *place)
{
    clymq_consumer *consumer;
    char **names = NULL;
    size_t count = 0;
    if (clymq_consumer_new(client, &consumer) != 0)
        return cli_failed();
    char fetch[32], buffer[32];
    snprintf(fetch, sizeof(fetch), "%" PRId64, values->fetch_bytes);
    snprintf(buffer, sizeof(buffer), "%" PRId64, values->buffer_bytes);
    int code = clymq_consumer_set(consumer, "fetch_max_bytes", fetch) ||
                       clymq_consumer_set(consumer, "buffer_bytes", buffer)
                   ? cli_failed()
                   : cli_partitions(client, topic, &names, &count);
    for (size_t i = 0; !code && i < count; i++) {
        int error = place->by_time ? clymq_consumer_assign_time(consumer, topic, names[i], place->at)
                                   : clymq_consumer_assign(consumer, topic, names[i], place->at);
        code = error ? cli_failed() : 0;
    }
    if (!code) {
        cli_catch_signals();
        code = read_all(values, consumer, bench);
    }
    if (names)
        cli_free_names(names, count);
    clymq_consumer_free(consumer);
    return code;
}

static int bench_run(void *values_ptr, int argc, char **argv)
{
    struct bench_values *values = values_ptr;
    struct cli_place place;
    if (cli_parse_place(values->from, wall_ms(), &place) != 0)
        return cli_usage("--from \"%s\": expected beginning, end, an offset or a time", values->from);
    struct bench *bench = mem_zalloc(sizeof(*bench));
    clymq_client *client;
    int code = bench ? cli_connect(&values->common, &client) : CLI_FAILED;
    if (!code) {
        code = bench_with(values, argc > 0 ? argv[0] : "clymq-bench", client, bench, &place);
        clymq_client_free(client);
    }
    mem_free(bench);
    return code;
}

const struct cli_command cli_bench_consume = {
    .name = "bench consume",
    .arguments = "[TOPIC]",
    .summary = "Measure how fast messages are given out.",
    .details = "The topic is clymq-bench unless named: fill it with `clymq bench produce`.\n\n"
               "Examples:\n  clymq bench consume\n  clymq bench consume orders --messages 1000000 --json\n",
    .table = bench_table,
    .values_size = sizeof(struct bench_values),
    .arguments_min = 0,
    .arguments_max = 1,
    .run = bench_run,
};
