/* The program clymq: a table of commands, each with its options, its help and one function in a file of its
 * own.
 *
 * A command's values struct begins with struct cli_common, its table with CLI_COMMON_OPTIONS. Everything here
 * runs on the main thread. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted. Errors go to
 * standard error. */
#ifndef CLYMQ_CLI_CLI_H
#define CLYMQ_CLI_CLI_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/options.h"
#include "clymq.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

struct cli_common {
    char *coordinator;
    int64_t timeout;
    bool json, help;
};

/* The rows that every command that talks to servers has. S: its values struct, whose first member is
 * `common`. */
#define CLI_COMMON_OPTIONS(S)                                                                                \
    {.name = "coordinator",                                                                                  \
     .type = OPTION_TEXT,                                                                                    \
     .offset = offsetof(S, common.coordinator),                                                              \
     .fallback = "127.0.0.1:7878",                                                                           \
     .section = "Connection",                                                                                \
     .placeholder = "HOST:PORT[,HOST:PORT]",                                                                 \
     .help = "Where the coordinators are; also from the environment's CLYMQ_COORDINATOR."},                  \
        {.name = "timeout",                                                                                  \
         .type = OPTION_DURATION_MS,                                                                         \
         .offset = offsetof(S, common.timeout),                                                              \
         .fallback = "30s",                                                                                  \
         .min = 1,                                                                                           \
         .max = 3600000,                                                                                     \
         .section = "Connection",                                                                            \
         .help = "How long to wait for a server's answer; 8 s at most where none can be connected to."},     \
        CLI_OFFLINE_OPTIONS(S)

/* The rows that every other command has. */
#define CLI_OFFLINE_OPTIONS(S)                                                                               \
    {.name = "json",                                                                                         \
     .type = OPTION_BOOL,                                                                                    \
     .offset = offsetof(S, common.json),                                                                     \
     .section = "Output",                                                                                    \
     .help = "Print JSON."},                                                                                 \
    {                                                                                                        \
        .name = "help", .type = OPTION_BOOL, .offset = offsetof(S, common.help), .section = "Output",        \
        .help = "Print this help."                                                                           \
    }

struct cli_command {
    const char *name;      /* "topic create" */
    const char *arguments; /* "TOPIC" */
    const char *summary;   /* one sentence */
    const char *details;   /* more of them, and examples */
    const struct option *table;
    size_t values_size;
    int arguments_min, arguments_max; /* -1 = any number */
    /* Takes argv without the command's name and flags; returns the exit code. */
    int (*run)(void *values, int argc, char **argv);
    /* Takes flags that may be given more than once out of argv first; may be NULL. */
    int (*extract)(void *values, int *argc, char **argv);
};
extern const struct cli_command *const cli_commands[]; /* NULL-ended */

extern const struct cli_command cli_topic_create, cli_topic_set, cli_topic_list, cli_topic_describe,
    cli_topic_delete, cli_partition_create, cli_partition_set, cli_partition_delete, cli_produce, cli_consume,
    cli_bench_produce, cli_bench_consume, cli_bench_e2e, cli_bench_connections, cli_block_dump, cli_fsck,
    cli_completion;

/* The command that argv begins with and how many words its name takes, or NULL. */
const struct cli_command *cli_find_command(int argc, char **argv, int *ret_words);

/* ---- completion.c, manual.c: hidden commands that shells and the build call ---- */

/* What the last of these words may become, one candidate a line; the exit code. */
int cli_complete(int argc, char **argv);
/* The table of commands in man(7)'s macros; the exit code. */
int cli_print_manual(void);

/* ---- complain.c ---- */

/* "clymq: …" and a newline on standard error. */
void cli_complain(const char *format, ...) __attribute__((format(printf, 1, 2)));
int cli_usage(const char *format, ...)
    __attribute__((format(printf, 1, 2))); /* the same; returns CLI_USAGE */
/* Says clymq_last_error; returns CLI_FAILED. */
int cli_failed(void);
/* The nearest of count words to a mistyped one, NULL if none is near. */
const char *cli_suggest(const char *word, const char *const *words, size_t count);
/* Flushes standard output; an error there (other than a closed pipe, which ends the program quietly) is told.
 */
int cli_finish_output(int exit_code);

/* ---- confirm.c ---- */

/* Whether to go on: on a terminal only if the user types that name after the question (told where not). */
bool cli_confirmed(const char *name, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* ---- connect.c ---- */

/* A client by the common options. 0, or the exit code (told). */
int cli_connect(const struct cli_common *common, clymq_client **ret_client);
/* The same for a command that asks the coordinator next: says so if that takes long (cli_waiting). */
int cli_connect_to_ask(const struct cli_common *common, clymq_client **ret_client);
/* SIGINT and SIGTERM only set a flag from now on; a second one ends the program. */
void cli_catch_signals(void);
bool cli_interrupted(void);
int64_t cli_now_us(void); /* monotonic */
/* The names of a topic's partitions, by number. Freed with cli_free_names. 0, or the exit code (told). */
int cli_partitions(clymq_client *client, const char *topic, char ***ret_names, size_t *ret_count);
void cli_free_names(char **names, size_t count);

/* ---- wait_notice.c ---- */

/* What follows may block: after two seconds "clymq: waiting for …" is written to standard error, once, unless
 * it is over by then. */
void cli_waiting(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The same for what was sent, with how to give up. */
void cli_waiting_for_outcomes(void);
void cli_waiting_over(void);

/* ---- json.c ---- */

/* Appends text as a JSON string, with quotes. text is valid UTF-8. */
void json_append_text(struct strbuf *out, struct bytes text);
void base64_append(struct strbuf *out, struct bytes data);
void hex_append(struct strbuf *out, struct bytes data);

/* ---- place.c: where to begin to read ---- */

struct cli_place {
    bool by_time;
    int64_t at; /* offset, CLYMQ_OFFSET_…, or ms since 1970 */
};
/* "beginning", "end", an offset, or a time: ISO 8601, "@MS", "-5m" (before now_ms). 0 or CLYMQ_EINVAL. */
int cli_parse_place(const char *text, int64_t now_ms, struct cli_place *ret_place);

/* ---- progress.c: a bar on a terminal ---- */

struct progress {
    bool shown;
    int64_t next_us, started_us;
};
void progress_begin(struct progress *progress);
/* Redraws now and then. total_bytes 0 = not known. */
void progress_update(struct progress *progress, uint64_t messages, uint64_t bytes, uint64_t total_bytes);
void progress_end(struct progress *progress);

#endif
