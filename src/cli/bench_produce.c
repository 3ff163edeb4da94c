/* clymq bench produce: how fast messages go in, and how long each takes until it is acknowledged. */
#include "cli/bench_produce.h"

#include "base/mem.h"

#define AT(field) offsetof(struct bench_produce_values, field)

static const struct option bench_table[] = {
    {.name = "messages",
     .type = OPTION_INT,
     .offset = AT(messages),
     .fallback = "1000000",
     .min = 0,
     .max = INT64_MAX,
     .section = "Load",
     .help = "How many; 0 is as many as go in --duration."},
    {.name = "duration",
     .type = OPTION_DURATION_MS,
     .offset = AT(duration),
     .fallback = "0",
     .min = 0,
     .max = 365LL * 24 * 3600 * 1000,
     .section = "Load",
     .help = "Sends for no longer than this; 0 is no limit."},
    {.name = "size",
     .type = OPTION_SIZE,
     .offset = AT(size),
     .fallback = "100",
     .min = 0,
     .max = 8 << 20,
     .section = "Load",
     .help = "Bytes of each message; half of them random."},
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
     .help =
         "Messages a second, each sent at its time whatever became of those before, its latency counted "
         "from that time; with pushBatch batches, each at the time of its first message. 0 is as fast as it "
         "goes."},
    {.name = "method",
     .type = OPTION_CHOICE,
     .offset = AT(method),
     .fallback = "library",
     .choices = "library|pushBatch|push",
     .section = "Sending",
     .help =
         "library: what a program with libclymq gets. pushBatch, push: calls of that method whose bytes are "
         "made once and sent over and over, so that the server is what is measured, not the client."},
    {.name = "connections",
     .type = OPTION_INT,
     .offset = AT(connections),
     .fallback = "1",
     .min = 1,
     .max = 100000,
     .section = "Sending",
     .help = "Connections to the server: with the library so many clients (1000 at most)."},
    {.name = "depth",
     .type = OPTION_INT,
     .offset = AT(depth),
     .fallback = "0",
     .min = 0,
     .max = 100000,
     .section = "Sending",
     .help = "Calls under way on each connection with pushBatch and push; 0 is 4 of pushBatch, 64 of push."},
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
     .help = "Likewise; with pushBatch the size of each batch, of one message at least."},
    {.name = "linger",
     .type = OPTION_DURATION_MS,
     .offset = AT(linger),
     .fallback = "5ms",
     .min = 0,
     .max = 3600000,
     .section = "Sending with the library",
     .help = "As in `clymq produce`."},
    {.name = "in_flight",
     .type = OPTION_INT,
     .offset = AT(in_flight),
     .fallback = "5",
     .min = 1,
     .max = 5,
     .section = "Sending with the library",
     .help = "Batches under way per partition."},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "32M",
     .min = 65536,
     .max = INT64_MAX / 4,
     .section = "Sending with the library",
     .help = "Memory of each client for messages without outcome."},
    {.name = "compression",
     .type = OPTION_CHOICE,
     .offset = AT(compression),
     .fallback = "none",
     .choices = "none|gzip|snappy|lz4|zstd",
     .section = "Sending with the library",
     .help = "As in `clymq produce`."},
    BENCH_COMMON_OPTIONS(struct bench_produce_values),
    {0},
};

static int bench_run(void *values_ptr, int argc, char **argv)
{
    static const char *const methods[] = {"library", "pushBatch", "push"};
    struct bench_produce_values *values = values_ptr;
    const char *topic = argc > 0 ? argv[0] : "clymq-bench";
    bool by_library = values->method == PRODUCE_LIBRARY;
    if (values->messages == 0 && values->duration == 0)
        return cli_usage("--messages 0 needs a --duration");
    if (by_library && values->connections > 1000)
        return cli_usage("--connections: 1000 at most with the library");
    struct bench_result *result = bench_result_new("bench produce", methods[values->method]);
    clymq_client *client;
    int code = result ? cli_connect_to_ask(&values->base.common, &client) : CLI_FAILED;
    if (!code) {
        bench_precise_sleeps();
        code = bench_topic(client, topic, (int)values->partitions, (int)values->ack);
        if (!code && by_library)
            code = bench_produce_by_library(values, topic, result);
        else if (!code)
            code = bench_produce_by_calls(values, topic, client, result);
        if (!code)
            code = bench_report(result, &values->base);
        clymq_client_free(client);
    }
    bench_result_free(result);
    return code;
}

const struct cli_command cli_bench_produce = {
    .name = "bench produce",
    .arguments = "[TOPIC]",
    .summary = "Measure how fast messages are taken.",
    .details =
        "The topic, clymq-bench unless named, is made if it is not there, and stays.\n\n"
        "A latency is the time from when a message was due until its acknowledgement. With --rate it is due "
        "at a fixed\ntime, so a server that stalls is charged for every message that waits meanwhile. "
        "Without, it is due when the\nclient has room for it: latencies then say how long a message "
        "stands in a full queue.\n\n"
        "Examples:\n"
        "  clymq bench produce --messages 5000000 --size 100 --partitions 4\n"
        "  clymq bench produce --rate 10000 --messages 100000 --ack 1 --linger 0 --json\n"
        "  clymq bench produce --method pushBatch --size 1K --batch-bytes 64K --connections 4 --ack 1\n"
        "  clymq bench produce --method push --connections 16 --depth 64 --duration 10s --messages 0\n",
    .table = bench_table,
    .values_size = sizeof(struct bench_produce_values),
    .arguments_min = 0,
    .arguments_max = 1,
    .run = bench_run,
};
