/* The options of `clymq bench produce`, and its three ways of sending. */
#ifndef CLYMQ_CLI_BENCH_PRODUCE_H
#define CLYMQ_CLI_BENCH_PRODUCE_H

#include "cli/bench.h"

enum produce_method { PRODUCE_LIBRARY, PRODUCE_PUSH_BATCH, PRODUCE_PUSH };

struct bench_produce_values {
    struct bench_common base;
    int64_t messages, duration, size, partitions, rate;
    int method;
    int64_t connections, depth, ack, batch_bytes, linger, in_flight, buffer_bytes;
    int compression;
};

/* Each measures and fills result; the topic is there. 0 or the exit code (told). */
int bench_produce_by_library(const struct bench_produce_values *values, const char *topic,
                             struct bench_result *result);
int bench_produce_by_calls(const struct bench_produce_values *values, const char *topic, clymq_client *client,
                           struct bench_result *result);

#endif
