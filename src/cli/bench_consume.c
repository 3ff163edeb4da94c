/* clymq bench consume: how fast what is stored comes out. */
#include "cli/bench_consume.h"

#include <time.h>

#define AT(field) offsetof(struct bench_consume_values, field)

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
    {.name = "method",
     .type = OPTION_CHOICE,
     .offset = AT(method),
     .fallback = "library",
     .choices = "library|pullBatch",
     .section = "Reading",
     .help = "library: what a program with libclymq gets, every checksum verified. pullBatch: calls of that "
             "method whose batches are received and counted, but not looked into."},
    {.name = "fetch_bytes",
     .type = OPTION_SIZE,
     .offset = AT(fetch_bytes),
     .fallback = "1M",
     .min = 1,
     .max = 1 << 30,
     .section = "Reading",
     .help = "Asked for at once, per partition."},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "8M",
     .min = 65536,
     .max = INT64_MAX / 4,
     .section = "Reading",
     .help = "Memory for messages fetched ahead; with the library."},
    {.name = "connections",
     .type = OPTION_INT,
     .offset = AT(connections),
     .fallback = "1",
     .min = 1,
     .max = 10000,
     .section = "Reading",
     .help = "With pullBatch: connections, between which the partitions, or ranges of them, are divided."},
    {.name = "depth",
     .type = OPTION_INT,
     .offset = AT(depth),
     .fallback = "2",
     .min = 1,
     .max = 1000,
     .section = "Reading",
     .help = "With pullBatch: calls under way on each connection."},
    BENCH_COMMON_OPTIONS(struct bench_consume_values),
    {0},
};

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int bench_run(void *values_ptr, int argc, char **argv)
{
    static const char *const methods[] = {"library", "pullBatch"};
    struct bench_consume_values *values = values_ptr;
    const char *topic = argc > 0 ? argv[0] : "clymq-bench";
    struct cli_place place;
    if (cli_parse_place(values->from, wall_ms(), &place) != 0)
        return cli_usage("--from \"%s\": expected beginning, end, an offset or a time", values->from);
    struct bench_result *result = bench_result_new("bench consume", methods[values->method]);
    clymq_client *client;
    int code = result ? cli_connect_to_ask(&values->base.common, &client) : CLI_FAILED;
    if (!code) {
        code = values->method == CONSUME_LIBRARY
                   ? bench_consume_by_library(values, topic, client, &place, result)
                   : bench_consume_by_calls(values, topic, client, &place, result);
        if (!code)
            code = bench_report(result, &values->base);
        clymq_client_free(client);
    }
    bench_result_free(result);
    return code;
}

const struct cli_command cli_bench_consume = {
    .name = "bench consume",
    .arguments = "[TOPIC]",
    .summary = "Measure how fast messages are given out.",
    .details =
        "The topic is clymq-bench unless named: fill it with `clymq bench produce`. With the library the "
        "report tells\nhow old messages were on arrival, and bytes are those of keys and values; with "
        "pullBatch it tells how long\na call took, and bytes are those of the stored batches.\n\n"
        "Examples:\n  clymq bench consume\n  clymq bench consume orders --messages 1000000 --json\n"
        "  clymq bench consume --method pullBatch --connections 4\n",
    .table = bench_table,
    .values_size = sizeof(struct bench_consume_values),
    .arguments_min = 0,
    .arguments_max = 1,
    .run = bench_run,
};
