/* Names and help texts of the broker's metrics. */
#include "broker/metrics.h"

#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"

static int add(struct broker_metrics *metrics, struct metric **ret_metric, enum metric_type type,
               const char *name, const char *more_labels, const char *help)
{
    char labels[128];

    snprintf(labels, sizeof(labels), "shard=\"%u\"%s%s", metrics->shard, more_labels ? "," : "",
             more_labels ? more_labels : "");
    *ret_metric = metrics_register(metrics->registry, type, name, labels, help);
    return *ret_metric ? 0 : CLYMQ_ENOMEM;
}

static int add_latencies(struct broker_metrics *metrics)
{
    static const char name[] = "clymq_request_duration_us",
                      help[] = "Microseconds from a request's arrival to its answer, by method, and by ack "
                               "for push; waiting pulls count as long as they waited";
    static const char *const acks[] = {"-1", "0", "1"};
    char labels[64];
    int error;

    for (unsigned i = 0; i < RPC_METHOD_COUNT; i++) {
        if (!(rpc_methods[i].service & (RPC_BROKER | RPC_COORDINATOR)) || i == RPC_METHOD_PUSH)
            continue;
        snprintf(labels, sizeof(labels), "method=\"%.*s\"", (int)rpc_methods[i].name.len,
                 rpc_methods[i].name.ptr);
        if ((error = add(metrics, &metrics->latency_us[i], METRIC_HISTOGRAM, name, labels, help)))
            return error;
    }
    for (unsigned i = 0; i < 3; i++) {
        snprintf(labels, sizeof(labels), "method=\"push\",ack=\"%s\"", acks[i]);
        if ((error = add(metrics, &metrics->push_latency_us[i], METRIC_HISTOGRAM, name, labels, help)))
            return error;
    }
    return 0;
}

int broker_metrics_init(struct broker_metrics *metrics, struct metrics *registry, unsigned shard)
{
    int error = 0;

    *metrics = (struct broker_metrics){.registry = registry, .shard = shard};
#define ADD(member, type, name, help)                                                                        \
    error = error ? error : add(metrics, &metrics->member, type, name, NULL, help)
    ADD(pushes, METRIC_COUNTER, "clymq_pushes_total", "push and pushBatch requests that were stored");
    ADD(push_messages, METRIC_COUNTER, "clymq_push_messages_total", "Messages stored by pushes");
    ADD(push_bytes, METRIC_COUNTER, "clymq_push_bytes_total",
        "Bytes of messages and batches stored by pushes");
    ADD(pulls, METRIC_COUNTER, "clymq_pulls_total", "pull and pullBatch requests answered");
    ADD(pull_messages, METRIC_COUNTER, "clymq_pull_messages_total",
        "Messages given by pull (pullBatch gives stored batches without counting what is in them)");
    ADD(pull_bytes, METRIC_COUNTER, "clymq_pull_bytes_total", "Bytes of messages and batches given by pulls");
    ADD(partitions, METRIC_GAUGE, "clymq_partitions", "Partitions in service");
    ADD(failed_partitions, METRIC_GAUGE, "clymq_failed_partitions",
        "Partitions that take no pushes because of an error");
    ADD(log_bytes, METRIC_GAUGE, "clymq_log_bytes", "Size of all logs in bytes");
    ADD(disk_full, METRIC_GAUGE, "clymq_disk_full", "1 while pushes wait for disk space");
    ADD(recovered_bytes, METRIC_COUNTER, "clymq_recovered_bytes_total",
        "Bytes of logs that the start had to read");
    ADD(scrub_bytes, METRIC_COUNTER, "clymq_scrub_bytes_total", "Bytes of logs that the scrub found good");
    ADD(scrub_damaged, METRIC_COUNTER, "clymq_scrub_damaged_total",
        "Places in logs that the scrub found damaged, each counted in every pass");
#undef ADD
    return error ? error : add_latencies(metrics);
}

void broker_metrics_error(struct broker_metrics *metrics, int error)
{
    char labels[64];

    if (error >= 0 || -error >= ERROR_NUMBERS)
        return;
    if (!metrics->errors[-error]) {
        snprintf(labels, sizeof(labels), "error=\"%s\"", error_name(error));
        if (add(metrics, &metrics->errors[-error], METRIC_COUNTER, "clymq_request_errors_total", labels,
                "Requests that ended with an error, by its name"))
            return;
    }
    metric_add(metrics->errors[-error], 1);
}
