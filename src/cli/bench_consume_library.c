/* bench consume --method library: messages through libclymq, and how old each is when it arrives. */
#include <inttypes.h>
#include <time.h>

#include "cli/bench_consume.h"

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static int read_all(const struct bench_consume_values *values, clymq_consumer *consumer,
                    struct bench_result *result)
{
    int64_t last_us = cli_now_us(), now_ms = wall_ms();
    bool came = false; /* since last_us was noted */
    bench_begin(result, &values->base);
    while (!cli_interrupted() && !(values->messages && result->messages == (uint64_t)values->messages)) {
        const clymq_message *message;
        int got = clymq_consume(consumer, 0, &message);
        if (got == 0) {
            if (came)
                last_us = cli_now_us();
            came = false;
            if (!values->messages && clymq_consumer_at_end(consumer))
                break;
            got = clymq_consume(consumer, 50, &message);
            now_ms = wall_ms();
        }
        if (got < 0 && !error_retriable(got))
            return cli_failed();
        if (got <= 0)
            continue;
        if ((++result->messages & 255) == 0)
            now_ms = wall_ms();
        result->bytes += message->key_len + message->value_len;
        latency_add(&result->latency, (now_ms - message->timestamp_ms) * 1000);
        came = true;
    }
    bench_end(result, &values->base);
    /* What was waited for behind the last message is not the server's. */
    if (!came)
        result->ended_us = last_us > result->started_us ? last_us : result->started_us;
    return 0;
}

static int set_size(clymq_consumer *consumer, const char *name, int64_t value)
{
    char text[32];
    snprintf(text, sizeof(text), "%" PRId64, value);
    return clymq_consumer_set(consumer, name, text);
}

int bench_consume_by_library(const struct bench_consume_values *values, const char *topic,
                             clymq_client *client, const struct cli_place *place, struct bench_result *result)
{
    clymq_consumer *consumer;
    char **names = NULL;
    size_t count = 0;
    if (clymq_consumer_new(client, &consumer) != 0)
        return cli_failed();
    int code = set_size(consumer, "fetch_max_bytes", values->fetch_bytes) ||
                       set_size(consumer, "buffer_bytes", values->buffer_bytes)
                   ? cli_failed()
                   : cli_partitions(client, topic, &names, &count);
    if (!code && count == 0) {
        cli_complain("topic %s: it has no partition", topic);
        code = CLI_FAILED;
    }
    for (size_t i = 0; !code && i < count; i++) {
        int error = place->by_time ? clymq_consumer_assign_time(consumer, topic, names[i], place->at)
                                   : clymq_consumer_assign(consumer, topic, names[i], place->at);
        code = error ? cli_failed() : 0;
    }
    result->latency_of = "age";
    if (!code)
        code = read_all(values, consumer, result);
    if (names)
        cli_free_names(names, count);
    clymq_consumer_free(consumer);
    return code;
}
