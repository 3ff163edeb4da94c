/* What the commands of `clymq bench` share: their common options, what a server costs while it is measured,
 * and the report, as text or as one line of JSON. */
#ifndef CLYMQ_CLI_BENCH_H
#define CLYMQ_CLI_BENCH_H

#include "cli/cli.h"
#include "cli/latency.h"
#include "cli/process_cost.h"

struct bench_common {
    struct cli_common common;
    int64_t server_pid; /* 0 = unknown */
};

/* The rows that each of them has. S: its values struct, whose first member is `base`, a struct bench_common,
 * so that offsets in the one hold in the other. */
#define BENCH_COMMON_OPTIONS(S)                                                                              \
    {.name = "server_pid",                                                                                   \
     .type = OPTION_INT,                                                                                     \
     .offset = offsetof(S, base.server_pid),                                                                 \
     .fallback = "0",                                                                                        \
     .min = 0,                                                                                               \
     .max = INT32_MAX,                                                                                       \
     .section = "Output",                                                                                    \
     .placeholder = "PID",                                                                                   \
     .help = "The server's process on this machine: the report then tells its CPU time and memory too."},    \
        CLI_COMMON_OPTIONS(struct bench_common)

/* ---- bench_report.c ---- */

struct bench_result {
    const char *command;    /* "bench produce" */
    const char *method;     /* how: "library", "pushBatch" … */
    const char *counted;    /* what is counted: "messages", "calls" */
    const char *latency_of; /* what the latencies are: "latency", "age" */
    uint64_t messages, failed, bytes;
    int64_t started_us, ended_us;
    struct latency latency;
    char first_error[256]; /* of the failed ones; "" = none */
    struct process_cost server_before, server_after;
    double client_cpu_s; /* of this process */
    bool interrupted;    /* so it ended early */
    /* More members for the JSON object, each beginning with a comma, and more lines of text; may be empty. */
    struct strbuf more_json, more_text;
};

struct bench_result *bench_result_new(const char *command, const char *method); /* NULL: out of memory */
void bench_result_free(struct bench_result *result);
/* What is measured begins, from here on ended in order by signals, and ends. */
void bench_begin(struct bench_result *result, const struct bench_common *common);
void bench_end(struct bench_result *result, const struct bench_common *common);
/* Prints it; the exit code: CLI_INTERRUPTED, CLI_FAILED where a message failed. */
int bench_report(const struct bench_result *result, const struct bench_common *common);

/* Wakes of this thread are asked for to the microsecond; sleeps until due_us or an interrupt. The time then.
 */
void bench_precise_sleeps(void);
int64_t bench_sleep_until(int64_t due_us);
/* size bytes that compress to about a half; room for `shift` more behind, so that messages may begin at any
 * of them. Freed with mem_free; NULL: out of memory. */
uint8_t *bench_payload(size_t size, size_t shift);
/* Makes the topic where it is not there. 0 or the exit code (told). */
int bench_topic(clymq_client *client, const char *topic, int partitions, int ack);

#endif
