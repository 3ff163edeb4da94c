/* The options of `clymq bench consume`, and its two ways of reading. */
#ifndef CLYMQ_CLI_BENCH_CONSUME_H
#define CLYMQ_CLI_BENCH_CONSUME_H

#include "cli/bench.h"

enum consume_method { CONSUME_LIBRARY, CONSUME_PULL_BATCH };

struct bench_consume_values {
    struct bench_common base;
    char *from;
    int64_t messages, buffer_bytes, fetch_bytes, connections, depth;
    int method;
};

/* Each measures and fills result. 0 or the exit code (told). */
int bench_consume_by_library(const struct bench_consume_values *values, const char *topic,
                             clymq_client *client, const struct cli_place *place,
                             struct bench_result *result);
int bench_consume_by_calls(const struct bench_consume_values *values, const char *topic, clymq_client *client,
                           const struct cli_place *place, struct bench_result *result);

#endif
