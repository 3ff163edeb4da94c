/* clymq produce: lines of standard input or of a file become messages.
 *
 * Deliveries are counted on the client's thread and read here; a message counts as acknowledged when its
 * delivery says so, and only then. Servers may come and go meanwhile: the library sends again until
 * delivery_timeout. */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "cli/lines.h"

enum { HEADERS_MAX = 64, MESSAGE_MAX = 15 << 20 };
/* What late wake-ups may leave undone for a while. */
enum { CATCH_UP_US = 100000 };

struct produce_values {
    struct cli_common common;
    char *partition, *file, *key_separator, *header;
    int64_t ack, rate, batch_bytes, linger, buffer_bytes, delivery_timeout;
    int compression;
    bool whole_file;
    size_t header_count; /* taken out of argv before the table sees it */
    clymq_header headers[HEADERS_MAX];
};
#define AT(field) offsetof(struct produce_values, field)

static const struct option produce_table[] = {
    {.name = "partition",
     .type = OPTION_TEXT,
     .offset = AT(partition),
     .section = "Messages",
     .placeholder = "NAME",
     .help = "Send all to this partition; else by the key (murmur2, as Kafka does) or, without one, spread."},
    {.name = "file",
     .type = OPTION_TEXT,
     .offset = AT(file),
     .section = "Messages",
     .placeholder = "FILE",
     .help = "Read this file instead of standard input."},
    {.name = "whole_file",
     .type = OPTION_BOOL,
     .offset = AT(whole_file),
     .section = "Messages",
     .help = "One message of the whole input, instead of one a line."},
    {.name = "key_separator",
     .type = OPTION_TEXT,
     .offset = AT(key_separator),
     .section = "Messages",
     .placeholder = "TEXT",
     .help = "What is before the first such text in a line is the key; a line without it has no key."},
    {.name = "header",
     .type = OPTION_TEXT,
     .offset = AT(header),
     .section = "Messages",
     .placeholder = "KEY=VALUE",
     .help = "A header for every message; may be given several times."},
    {.name = "ack",
     .type = OPTION_INT,
     .offset = AT(ack),
     .fallback = "-1",
     .min = -1,
     .max = 1,
     .section = "Sending",
     .placeholder = "-1|1|0",
     .help =
         "When a message counts as stored: -1 on disk at a majority, 1 written by the leader, 0 received."},
    {.name = "compression",
     .type = OPTION_CHOICE,
     .offset = AT(compression),
     .fallback = "none",
     .choices = "none|gzip|snappy|lz4|zstd",
     .section = "Sending",
     .help = "Of whole batches."},
    {.name = "rate",
     .type = OPTION_INT,
     .offset = AT(rate),
     .fallback = "0",
     .min = 0,
     .max = 1000000000,
     .section = "Sending",
     .help = "At most so many messages a second; 0 is no limit."},
    {.name = "batch_bytes",
     .type = OPTION_SIZE,
     .offset = AT(batch_bytes),
     .fallback = "256K",
     .min = 1,
     .max = 64 << 20,
     .section = "Sending",
     .help = "A partition's messages are sent when they are this much …"},
    {.name = "linger",
     .type = OPTION_DURATION_MS,
     .offset = AT(linger),
     .fallback = "5ms",
     .min = 0,
     .max = 3600000,
     .section = "Sending",
     .help = "… or have waited this long."},
    {.name = "buffer_bytes",
     .type = OPTION_SIZE,
     .offset = AT(buffer_bytes),
     .fallback = "32M",
     .min = 65536,
     .max = INT64_MAX / 4,
     .section = "Sending",
     .help = "Memory for messages that are not acknowledged yet."},
    {.name = "delivery_timeout",
     .type = OPTION_DURATION_MS,
     .offset = AT(delivery_timeout),
     .fallback = "2m",
     .min = 1,
     .max = INT32_MAX,
     .section = "Sending",
     .help = "A message that is not acknowledged after this time has failed."},
    CLI_COMMON_OPTIONS(struct produce_values),
    {0},
};

/* ---- flags that come more than once ---- */

static int take_header(struct produce_values *values, char *text)
{
    char *equals = text ? strchr(text, '=') : NULL;
    if (!equals || equals == text || values->header_count == HEADERS_MAX) {
        cli_complain("--header \"%s\": expected KEY=VALUE, at most %d of them", text ? text : "",
                     HEADERS_MAX);
        return CLYMQ_EINVAL;
    }
    *equals = '\0';
    values->headers[values->header_count++] = (clymq_header){text, equals + 1, strlen(equals + 1)};
    return 0;
}

static int extract_headers(void *values, int *argc, char **argv)
{
    int kept = 0, error = 0;
    for (int i = 0; i < *argc; i++) {
        if (strcmp(argv[i], "--") == 0) {
            while (i < *argc)
                argv[kept++] = argv[i++];
        } else if (strcmp(argv[i], "--header") == 0) {
            error = take_header(values, i + 1 < *argc ? argv[i + 1] : NULL);
            i++;
        } else if (strncmp(argv[i], "--header=", 9) == 0) {
            error = take_header(values, argv[i] + 9);
        } else {
            argv[kept++] = argv[i];
        }
        if (error)
            return error;
    }
    *argc = kept;
    return 0;
}

/* ---- one run ---- */

struct run {
    struct produce_values *values;
    const char *topic;
    clymq_client *client;
    clymq_producer *producer;
    _Atomic uint64_t acknowledged, acknowledged_bytes, failed, uncertain;
    _Atomic int reason; /* of the failures */
    uint64_t sent, bytes, total_bytes;
    int64_t started_us;
    int64_t paced_from_us; /* --rate counts from here … */
    uint64_t paced;        /* … so many messages so far */
    struct progress progress;
};

/* On the client's thread. */
static void on_delivery(void *ctx, int error, const clymq_message *message)
{
    struct run *run = ctx;
    if (!error) {
        atomic_fetch_add_explicit(&run->acknowledged, 1, memory_order_relaxed);
        atomic_fetch_add_explicit(&run->acknowledged_bytes, message->key_len + message->value_len,
                                  memory_order_relaxed);
        return;
    }
    /* A time-out tells less than why those behind it were not even sent. */
    int known = atomic_load(&run->reason);
    if (!known || (known == CLYMQ_ETIMEDOUT && error != CLYMQ_ECANCELED))
        atomic_store(&run->reason, error);
    if (error == CLYMQ_ETIMEDOUT || error == CLYMQ_EUNCERTAIN)
        atomic_fetch_add(&run->uncertain, 1);
    atomic_fetch_add(&run->failed, 1);
}

static int set_number(clymq_producer *producer, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return clymq_producer_set(producer, name, text);
}

static int producer_open(struct run *run)
{
    static const char *const compressions[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    const struct produce_values *values = run->values;
    clymq_producer *producer;
    if (clymq_producer_new(run->client, &producer) != 0)
        return cli_failed();
    run->producer = producer;
    if (set_number(producer, "ack", values->ack) ||
        set_number(producer, "batch_bytes", values->batch_bytes) ||
        set_number(producer, "linger_ms", values->linger) ||
        set_number(producer, "buffer_bytes", values->buffer_bytes) ||
        set_number(producer, "delivery_timeout_ms", values->delivery_timeout) ||
        clymq_producer_set(producer, "compression", compressions[values->compression]) ||
        clymq_producer_on_delivery(producer, on_delivery, run))
        return cli_failed();
    return 0;
}

/* Whether the topic is there, before any input is taken. 0, or the exit code (told). */
static int topic_check(const struct cli_common *common, const char *topic)
{
    clymq_client *client;
    int code = cli_connect_to_ask(common, &client);
    if (code)
        return code;
    char *text;
    code = clymq_topic_describe_json(client, topic, &text) ? cli_failed() : 0;
    cli_waiting_over();
    if (!code)
        clymq_string_free(text);
    clymq_client_free(client);
    return code;
}

/* Keeps to the rate: waits until the next message may go. What input that paused has left undone is not made
 * up for: that would be a burst. */
static void pace(struct run *run)
{
    if (!run->values->rate)
        return;
    int64_t now_us = cli_now_us();
    int64_t due_us = run->paced_from_us + (int64_t)((double)run->paced * 1e6 / (double)run->values->rate);
    if (due_us < now_us - CATCH_UP_US) {
        run->paced_from_us = due_us = now_us;
        run->paced = 0;
    }
    run->paced++;
    int64_t ahead_us = due_us - now_us;
    if (ahead_us <= 0)
        return;
    struct timespec pause = {.tv_sec = (time_t)(ahead_us / 1000000),
                             .tv_nsec = (long)(ahead_us % 1000000) * 1000};
    nanosleep(&pause, NULL); /* a signal ends it early: then it is the end anyway */
}

/* 0; CLYMQ_ECANCELED when interrupted; or an error (told). */
static int send_message(struct run *run, struct bytes key, struct bytes value)
{
    clymq_message message = {
        .topic = run->topic,
        .partition = run->values->partition,
        .key = key.ptr,
        .key_len = key.len,
        .value = value.ptr,
        .value_len = value.len,
        .headers = run->values->headers,
        .header_count = run->values->header_count,
    };
    pace(run);
    int error;
    while ((error = clymq_produce(run->producer, &message)) == CLYMQ_EQUEUE_FULL) {
        if (cli_interrupted())
            return CLYMQ_ECANCELED;
        clymq_producer_wait(run->producer, 100);
        progress_update(&run->progress, atomic_load(&run->acknowledged),
                        atomic_load(&run->acknowledged_bytes), run->total_bytes);
    }
    if (error) {
        cli_complain("message %" PRIu64 ": %s", run->sent + 1, clymq_last_error());
        return error;
    }
    run->sent++;
    run->bytes += key.len + value.len;
    if ((run->sent & 1023) == 0)
        progress_update(&run->progress, atomic_load(&run->acknowledged),
                        atomic_load(&run->acknowledged_bytes), run->total_bytes);
    return 0;
}

static int send_line(struct run *run, struct bytes line)
{
    const char *separator = run->values->key_separator;
    size_t len = separator ? strlen(separator) : 0;
    const uint8_t *found = len ? memmem(line.ptr, line.len, separator, len) : NULL;
    if (!found)
        return send_message(run, bytes_of(NULL, 0), line);
    size_t key_len = (size_t)(found - line.ptr);
    return send_message(run, bytes_of(line.ptr, key_len), bytes_of(found + len, line.len - key_len - len));
}

/* Sends the input; stops at its end, at a signal, or at the first thing that cannot be sent. 0, or the exit
 * code. */
static int send_input(struct run *run, struct lines *input, const char *name)
{
    for (;;) {
        if (cli_interrupted())
            return CLI_INTERRUPTED;
        /* Once something has failed for good there is no use in going on. */
        if (atomic_load_explicit(&run->reason, memory_order_relaxed))
            return CLI_FAILED;
        struct bytes piece;
        int error = run->values->whole_file ? lines_rest(input, &piece) : lines_next(input, &piece);
        if (error == CLYMQ_ENOENT)
            return 0;
        if (error == CLYMQ_EAGAIN) {
            /* A signal, or whoever shares the pipe or terminal has made it non-blocking. */
            struct pollfd pending = {.fd = input->fd, .events = POLLIN};
            if (input->os_error == EAGAIN)
                (void)poll(&pending, 1, -1);
            continue;
        }
        if (error == CLYMQ_EIO)
            cli_complain("%s: %s", name, strerror(input->os_error));
        else if (error == CLYMQ_ETOOBIG)
            cli_complain("%s: message %" PRIu64 " is longer than %d bytes%s", name, run->sent + 1,
                         MESSAGE_MAX, run->values->whole_file ? "" : ": are these lines of text?");
        else if (error)
            cli_complain("%s: message %" PRIu64 ": %s", name, run->sent + 1, error_sentence(error));
        if (!error)
            error =
                run->values->whole_file ? send_message(run, bytes_of(NULL, 0), piece) : send_line(run, piece);
        if (error == CLYMQ_ECANCELED)
            return CLI_INTERRUPTED;
        if (error)
            return CLI_FAILED;
        if (run->values->whole_file)
            return 0;
    }
}

/* Waits for the outcome of what was sent. A signal while waiting ends the waiting, since the first one only
 * ended the input. */
static void await_outcomes(struct run *run)
{
    cli_waiting_for_outcomes();
    while (clymq_producer_flush(run->producer, 200) == CLYMQ_ETIMEDOUT)
        progress_update(&run->progress, atomic_load(&run->acknowledged),
                        atomic_load(&run->acknowledged_bytes), run->total_bytes);
    cli_waiting_over();
}

static int summarize(struct run *run, int code)
{
    double seconds = (double)(cli_now_us() - run->started_us) / 1e6;
    uint64_t acknowledged = atomic_load(&run->acknowledged), bytes = atomic_load(&run->acknowledged_bytes);
    uint64_t failed = atomic_load(&run->failed), uncertain = atomic_load(&run->uncertain);
    if (seconds < 1e-6)
        seconds = 1e-6;
    if (run->values->common.json)
        printf("{\"messages\":%" PRIu64 ",\"acknowledged\":%" PRIu64 ",\"failed\":%" PRIu64
               ",\"uncertain\":%" PRIu64 ",\"bytes\":%" PRIu64
               ",\"seconds\":%.3f,\"messages_per_s\":%.1f,\"mb_per_s\":%.2f}\n",
               run->sent, acknowledged, failed, uncertain, bytes, seconds, (double)acknowledged / seconds,
               (double)bytes / 1e6 / seconds);
    else
        fprintf(stderr,
                "%" PRIu64 " message%s acknowledged, %" PRIu64 " bytes, %.2f s, %.0f messages/s, %.2f MB/s\n",
                acknowledged, acknowledged == 1 ? "" : "s", bytes, seconds, (double)acknowledged / seconds,
                (double)bytes / 1e6 / seconds);
    if (failed) {
        cli_complain("%" PRIu64 " of %" PRIu64 " messages were acknowledged, %" PRIu64 " were not%s: %s",
                     acknowledged, run->sent, failed,
                     uncertain ? " (some of these may be stored all the same)" : "",
                     error_sentence(atomic_load(&run->reason)));
        code = code == CLI_INTERRUPTED ? code : CLI_FAILED;
    } else if (code) {
        cli_complain("stopped: %" PRIu64 " messages were sent and all of them acknowledged", acknowledged);
    }
    return cli_finish_output(code);
}

static int produce_from(struct run *run, int fd, const char *name)
{
    int code = topic_check(&run->values->common, run->topic);
    if (code)
        return code;
    code = cli_connect(&run->values->common, &run->client);
    if (code)
        return code;
    /* A server holds a push for up to 30 s when its disk is full: asking again earlier would only add to its
     * work. */
    if (run->values->common.timeout < 40000)
        clymq_client_set(run->client, "request_timeout_ms", "40000");
    code = producer_open(run);
    struct lines input;
    lines_init(&input, fd, MESSAGE_MAX);
    if (!code) {
        cli_catch_signals();
        progress_begin(&run->progress);
        run->started_us = cli_now_us();
        code = send_input(run, &input, name);
        await_outcomes(run);
        progress_end(&run->progress);
        code = summarize(run, code);
    }
    lines_free(&input);
    clymq_producer_free(run->producer);
    clymq_client_free(run->client);
    return code;
}

static int produce_run(void *values_ptr, int argc, char **argv)
{
    struct produce_values *values = values_ptr;
    struct run run = {.values = values, .topic = argv[0]};
    int fd = STDIN_FILENO;
    const char *name = "standard input";
    if (values->key_separator && !*values->key_separator)
        return cli_usage("--key-separator is empty: give the text between key and value, such as :, or leave "
                         "the flag out for messages without keys");
    if (values->key_separator && values->whole_file)
        return cli_usage(
            "--key-separator takes keys from lines, and with --whole-file there are none: leave one of "
            "the two out");
    if (values->file && !*values->file)
        return cli_usage("--file is empty: give the name of a file, or - for standard input");
    if (values->file && strcmp(values->file, "-") != 0) {
        name = values->file;
        fd = open(name, O_RDONLY | O_CLOEXEC);
        if (fd < 0) {
            cli_complain("%s: %s", name, strerror(errno));
            return CLI_FAILED;
        }
    }
    struct stat status;
    if (fstat(fd, &status) == 0 && S_ISREG(status.st_mode))
        run.total_bytes = (uint64_t)status.st_size;
    int code = produce_from(&run, fd, name);
    if (fd != STDIN_FILENO)
        close(fd);
    return code;
}

const struct cli_command cli_produce = {
    .name = "produce",
    .arguments = "TOPIC",
    .summary = "Send lines of standard input or a file as messages.",
    .details =
        "A summary goes to standard error. The exit code is 0 only if every message was acknowledged.\n"
        "A shorter --timeout than 40 s counts for looking the topic up only: what was sent is waited for so\n"
        "long before it is sent again, until --delivery-timeout is over.\n\n"
        "Examples:\n"
        "  tail -F access.log | clymq produce logs\n"
        "  clymq produce orders --file orders.txt --key-separator : --compression lz4\n"
        "  clymq produce pictures --file cat.jpg --whole-file --header type=image/jpeg\n",
    .table = produce_table,
    .values_size = sizeof(struct produce_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = produce_run,
    .extract = extract_headers,
};
