/* clymq consume: messages to standard output, one a line. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/record_format.h"

struct consume_values {
    struct cli_common common;
    char *partition, *from;
    int64_t count, buffer_bytes;
    int format;
    bool exit_at_end, follow, print_partition, print_offset, print_timestamp, print_key, print_headers;
};
#define AT(field) offsetof(struct consume_values, field)

static const struct option consume_table[] = {
    {.name = "partition",
     .type = OPTION_TEXT,
     .offset = AT(partition),
     .section = "What to read",
     .placeholder = "NAME",
     .help = "Read this partition only; else all, interleaved."},
    {.name = "from",
     .type = OPTION_TEXT,
     .offset = AT(from),
     .fallback = "end",
     .section = "What to read",
     .placeholder = "PLACE",
     .help = "beginning, end, an offset, or a time: 2026-11-22T20:00:00Z (without zone: local), "
             "@MILLISECONDS since "
             "1970, or -5m for five minutes ago."},
    {.name = "count",
     .type = OPTION_INT,
     .offset = AT(count),
     .fallback = "0",
     .min = 0,
     .max = INT64_MAX,
     .section = "What to read",
     .help = "Stop after so many messages; 0 is no limit."},
    {.name = "exit_at_end",
     .type = OPTION_BOOL,
     .offset = AT(exit_at_end),
     .section = "What to read",
     .help = "Stop when everything stored has been read."},
    {.name = "follow",
     .type = OPTION_BOOL,
     .offset = AT(follow),
     .fallback = "true",
     .section = "What to read",
     .help = "Wait for new messages; --no-follow is --exit-at-end."},
    {.name = "format",
     .type = OPTION_CHOICE,
     .offset = AT(format),
     .fallback = "value",
     .choices = FORMAT_CHOICES,
     .section = "Output",
     .help = "Of each line; --json is --format json."},
    {.name = "print_partition",
     .type = OPTION_BOOL,
     .offset = AT(print_partition),
     .section = "Output",
     .help = "Before the value, with a tab behind it."},
    {.name = "print_offset",
     .type = OPTION_BOOL,
     .offset = AT(print_offset),
     .section = "Output",
     .help = "Likewise."},
    {.name = "print_timestamp",
     .type = OPTION_BOOL,
     .offset = AT(print_timestamp),
     .section = "Output",
     .help = "Likewise, in milliseconds since 1970."},
    {.name = "print_headers",
     .type = OPTION_BOOL,
     .offset = AT(print_headers),
     .section = "Output",
     .help = "Likewise, as KEY=VALUE with commas between."},
    {.name = "print_key",
     .type = OPTION_BOOL,
     .offset = AT(print_key),
     .section = "Output",
     .help = "Likewise."},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "8M",
     .min = 65536,
     .max = INT64_MAX / 4,
     .section = "Output",
     .help = "Memory for messages fetched ahead."},
    CLI_COMMON_OPTIONS(struct consume_values),
    {0},
};

/* How often it is asked for new partitions. */
#define METADATA_AGE_MS "2000"

enum { OUTPUT_FLUSH = 256 << 10, IDLE_MS = 100 };

struct reading {
    struct consume_values *values;
    clymq_consumer *consumer;
    struct record_format format;
    struct strbuf out;
    uint64_t count;
    int warned; /* the passing error that was told last */
};

/* 0; CLYMQ_ECLOSED: nobody reads any more; or CLYMQ_EIO (told). */
static int flush_output(struct reading *reading)
{
    size_t done = 0;
    while (done < reading->out.len) {
        ssize_t wrote = write(STDOUT_FILENO, reading->out.data + done, reading->out.len - done);
        if (wrote < 0 && errno == EINTR && !cli_interrupted())
            continue;
        if (wrote < 0 && errno == EAGAIN && !cli_interrupted()) {
            /* Whoever shares the pipe or terminal has made it non-blocking. */
            struct pollfd output = {.fd = STDOUT_FILENO, .events = POLLOUT};
            (void)poll(&output, 1, IDLE_MS);
            continue;
        }
        if (wrote < 0) {
            if (errno == EPIPE || cli_interrupted())
                return CLYMQ_ECLOSED;
            cli_complain("cannot write to standard output: %s", strerror(errno));
            return CLYMQ_EIO;
        }
        done += (size_t)wrote;
    }
    reading->out.len = 0;
    return 0;
}

/* Whether whoever read the output has gone: the next write would tell, but there may be none for long. */
static bool nobody_reads(void)
{
    struct pollfd output = {.fd = STDOUT_FILENO};
    return poll(&output, 1, 0) > 0 && (output.revents & (POLLERR | POLLHUP)) != 0;
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int assign(struct reading *reading, const char *topic, const char *partition,
                  const struct cli_place *place)
{
    int error = place->by_time ? clymq_consumer_assign_time(reading->consumer, topic, partition, place->at)
                               : clymq_consumer_assign(reading->consumer, topic, partition, place->at);
    return error ? cli_failed() : 0;
}

static bool follow(const struct consume_values *values)
{
    return values->follow && !values->exit_at_end;
}

static int assign_all(struct reading *reading, clymq_client *client, const char *topic,
                      const struct cli_place *place)
{
    if (reading->values->partition)
        return assign(reading, topic, reading->values->partition, place);
    bool follows = follow(reading->values);
    char **names;
    size_t count;
    int code = cli_partitions(client, topic, &names, &count);
    if (code)
        return code;
    if (count == 0 && follows) {
        cli_complain("topic %s has no partitions yet: waiting for the first", topic);
    } else if (count == 0) {
        cli_complain("topic %s has no partitions: make one with `clymq partition create %s NAME`", topic,
                     topic);
        code = CLI_FAILED;
    }
    for (size_t i = 0; !code && i < count; i++)
        code = assign(reading, topic, names[i], place);
    cli_free_names(names, count);
    if (!code && follows && clymq_consumer_follow(reading->consumer, topic) != 0)
        code = cli_failed();
    return code;
}

/* An error of reading: passing ones are told once and waited out. 0, or the exit code. */
static int read_failed(struct reading *reading, int error)
{
    flush_output(reading);
    if (error_retriable(error)) {
        if (reading->warned != error)
            cli_complain("%s (trying again)", clymq_last_error());
        reading->warned = error;
        return 0;
    }
    cli_complain("%s%s", clymq_last_error(),
                 error == CLYMQ_EOFFSET_RANGE ? " (use --from beginning, or a later offset)" : "");
    return CLI_FAILED;
}

/* The exit code where the output could not be written. */
static int output_failed(int error)
{
    return error != CLYMQ_ECLOSED ? CLI_FAILED : cli_interrupted() ? CLI_INTERRUPTED : CLI_OK;
}

/* Reads until told to stop. Returns the exit code. */
static int read_all(struct reading *reading)
{
    const struct consume_values *values = reading->values;
    bool stops = !follow(values);
    while (!cli_interrupted()) {
        const clymq_message *message;
        int got = clymq_consume(reading->consumer, 0, &message);
        if (got == 0) {
            int error = flush_output(reading);
            if (error)
                return output_failed(error);
            if (stops && clymq_consumer_at_end(reading->consumer))
                return CLI_OK;
            if (nobody_reads())
                return CLI_OK;
            got = clymq_consume(reading->consumer, IDLE_MS, &message);
        }
        if (got < 0) {
            int code = read_failed(reading, got);
            if (code)
                return code;
        }
        if (got <= 0)
            continue;
        reading->warned = 0;
        record_format(&reading->format, message, &reading->out);
        if (reading->out.failed) {
            cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
            return CLI_FAILED;
        }
        reading->count++;
        bool last = values->count && reading->count == (uint64_t)values->count;
        if (last || reading->out.len >= OUTPUT_FLUSH) {
            int error = flush_output(reading);
            if (error)
                return output_failed(error);
        }
        if (last)
            return CLI_OK;
    }
    flush_output(reading);
    return CLI_INTERRUPTED;
}

static int consume_with(struct reading *reading, clymq_client *client, const char *topic,
                        const struct cli_place *place)
{
    char buffer[32];
    snprintf(buffer, sizeof(buffer), "%" PRId64, reading->values->buffer_bytes);
    if (clymq_consumer_set(reading->consumer, "buffer_bytes", buffer) != 0)
        return cli_failed();
    int code = assign_all(reading, client, topic, place);
    cli_waiting_over();
    if (code)
        return code;
    cli_catch_signals();
    return read_all(reading);
}

static int consume_run(void *values_ptr, int argc, char **argv)
{
    struct consume_values *values = values_ptr;
    struct cli_place place;
    if (cli_parse_place(values->from, wall_ms(), &place) != 0)
        return cli_usage(
            "--from \"%s\": expected beginning, end, an offset, or a time such as 2026-11-22T20:00:00Z, "
            "@1795377600000 or -5m",
            values->from);
    struct reading reading = {
        .values = values,
        .format =
            {
                .format = values->common.json ? FORMAT_JSON : values->format,
                .partition = values->print_partition,
                .offset = values->print_offset,
                .timestamp = values->print_timestamp,
                .key = values->print_key,
                .headers = values->print_headers,
            },
    };
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    (void)clymq_client_set(client, "metadata_max_age_ms", METADATA_AGE_MS);
    if (clymq_consumer_new(client, &reading.consumer) != 0)
        code = cli_failed();
    else
        code = consume_with(&reading, client, argv[0], &place);
    clymq_consumer_free(reading.consumer);
    clymq_client_free(client);
    strbuf_free(&reading.out);
    return code;
}

const struct cli_command cli_consume = {
    .name = "consume",
    .arguments = "TOPIC",
    .summary = "Print a topic's messages, one a line.",
    .details =
        "Follows the topic until interrupted, unless told where to stop; partitions made meanwhile "
        "are read from\n"
        "their beginning. Order holds within a partition. Values are written as they are, so one that holds\n"
        "line ends spans several lines; --json, --format hex or base64 keep each message on one.\n\n"
        "Examples:\n"
        "  clymq consume logs\n"
        "  clymq consume orders --from beginning --exit-at-end --print-key\n"
        "  clymq consume orders --partition 3 --from 1000 --count 10 --json\n"
        "  clymq consume logs --from -10m --print-timestamp\n",
    .table = consume_table,
    .values_size = sizeof(struct consume_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = consume_run,
};
