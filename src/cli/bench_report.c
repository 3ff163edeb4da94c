/* The frame of a measurement: begin, end, and the report; and what several of the bench commands need. */
#include <inttypes.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include "base/mem.h"
#include "base/rng.h"
#include "cli/bench.h"

struct bench_result *bench_result_new(const char *command, const char *method)
{
    struct bench_result *result = mem_zalloc(sizeof(*result));
    if (!result) {
        cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
        return NULL;
    }
    result->command = command;
    result->method = method;
    result->counted = "messages";
    result->latency_of = "latency";
    return result;
}

void bench_result_free(struct bench_result *result)
{
    if (!result)
        return;
    strbuf_free(&result->more_json);
    strbuf_free(&result->more_text);
    mem_free(result);
}

static double own_cpu_s(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return (double)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
           (double)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void bench_begin(struct bench_result *result, const struct bench_common *common)
{
    cli_waiting_over();
    cli_catch_signals();
    if (common->server_pid && process_cost_read(common->server_pid, &result->server_before) != 0)
        cli_complain("--server-pid %" PRId64 ": there is no such process, so nothing is told of its cost",
                     common->server_pid);
    result->client_cpu_s = own_cpu_s();
    result->started_us = cli_now_us();
}

void bench_end(struct bench_result *result, const struct bench_common *common)
{
    result->ended_us = cli_now_us();
    result->interrupted = cli_interrupted();
    result->client_cpu_s = own_cpu_s() - result->client_cpu_s;
    if (common->server_pid)
        (void)process_cost_read(common->server_pid, &result->server_after);
}

static const struct {
    const char *json, *text;
    double q;
} quantiles[] = {{"p50", "p50", 0.5}, {"p90", "p90", 0.9}, {"p99", "p99", 0.99}, {"p999", "p99.9", 0.999}};

static void append_latency(struct strbuf *text, const struct bench_result *result, bool json)
{
    strbuf_printf(text, json ? ",\"%s_ms\":{" : "%s, ms: ", result->latency_of);
    for (size_t i = 0; i < sizeof(quantiles) / sizeof(quantiles[0]); i++)
        strbuf_printf(text, json ? "\"%s\":%.3f," : "%s %.3f, ", json ? quantiles[i].json : quantiles[i].text,
                      (double)latency_quantile(&result->latency, quantiles[i].q) / 1000);
    strbuf_printf(text, json ? "\"max\":%.3f}" : "max %.3f\n", (double)result->latency.max_us / 1000);
}

static void append_server(struct strbuf *text, const struct bench_result *result, bool json)
{
    double cpu_s = result->server_after.cpu_s - result->server_before.cpu_s;
    double per_gb = result->bytes ? cpu_s / ((double)result->bytes / 1e9) : 0;
    double per_message_us = result->messages ? cpu_s / (double)result->messages * 1e6 : 0;
    strbuf_printf(text,
                  json ? ",\"server\":{\"cpu_s\":%.2f,\"cpu_s_per_gb\":%.3f,\"cpu_us_each\":%.4f,"
                         "\"rss_bytes\":%" PRIu64 ",\"rss_max_bytes\":%" PRIu64 "}"
                       : "server: %.2f s of CPU, %.3f s/GB, %.3f us each; resident %" PRIu64
                         " bytes, at most %" PRIu64 "\n",
                  cpu_s, per_gb, per_message_us, result->server_after.rss_bytes,
                  result->server_after.rss_max_bytes);
}

int bench_report(const struct bench_result *result, const struct bench_common *common)
{
    struct strbuf text = {0};
    bool json = common->common.json;
    double seconds = (double)(result->ended_us - result->started_us) / 1e6;
    if (seconds < 1e-6)
        seconds = 1e-6;
    if (json)
        strbuf_printf(&text,
                      "{\"command\":\"%s\",\"method\":\"%s\",\"%s\":%" PRIu64 ",\"failed\":%" PRIu64
                      ",\"bytes\":%" PRIu64 ",\"seconds\":%.3f,\"%s_per_s\":%.0f,\"mb_per_s\":%.2f",
                      result->command, result->method, result->counted, result->messages, result->failed,
                      result->bytes, seconds, result->counted, (double)result->messages / seconds,
                      (double)result->bytes / 1e6 / seconds);
    else
        strbuf_printf(&text, "%" PRIu64 " %s, %" PRIu64 " bytes in %.2f s: %.0f %s/s, %.2f MB/s\n",
                      result->messages, result->counted, result->bytes, seconds,
                      (double)result->messages / seconds, result->counted,
                      (double)result->bytes / 1e6 / seconds);
    append_latency(&text, result, json);
    if (result->server_after.rss_bytes > 0) /* not gone; its processor time may be too short to show */
        append_server(&text, result, json);
    if (json)
        strbuf_printf(&text, ",\"client_cpu_s\":%.3f,\"interrupted\":%s", result->client_cpu_s,
                      result->interrupted ? "true" : "false");
    else if (result->interrupted)
        strbuf_append_text(&text, "interrupted\n");
    const struct strbuf *more = json ? &result->more_json : &result->more_text;
    strbuf_append(&text, more->data, more->len);
    if (json)
        strbuf_append_text(&text, "}\n");
    if (text.failed)
        cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
    else
        fputs(text.data, stdout);
    if (result->failed)
        cli_complain("%" PRIu64 " %s failed: %s", result->failed, result->counted, result->first_error);
    int code = result->interrupted ? CLI_INTERRUPTED : result->failed ? CLI_FAILED : CLI_OK;
    if (text.failed)
        code = CLI_FAILED;
    strbuf_free(&text);
    return cli_finish_output(code);
}

void bench_precise_sleeps(void)
{
    /* The kernel adds 50 us to the sleeps of a thread that does not ask for better. */
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
}

int64_t bench_sleep_until(int64_t due_us)
{
    int64_t now_us;
    while ((now_us = cli_now_us()) < due_us && !cli_interrupted()) {
        struct timespec until = {.tv_sec = (time_t)(due_us / 1000000),
                                 .tv_nsec = (long)(due_us % 1000000) * 1000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
    }
    return now_us;
}

uint8_t *bench_payload(size_t size, size_t shift)
{
    size_t len = size + shift;
    uint8_t *payload = mem_alloc(len ? len : 1);
    if (!payload) {
        cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
        return NULL;
    }
    struct rng rng;
    rng_seed(&rng, 1);
    memset(payload, 'x', len);
    for (size_t i = 0; i < len; i += 16)
        rng_fill(&rng, payload + i, len - i < 8 ? len - i : 8);
    return payload;
}

int bench_topic(clymq_client *client, const char *topic, int partitions, int ack)
{
    clymq_topic_options options = {partitions, 0, ack, NULL};
    int error = clymq_topic_create(client, topic, &options);
    return error && error != CLYMQ_EEXIST ? cli_failed() : 0;
}
