/* bench produce --method push and pushBatch: prepared calls through the pump. Batches are not idempotent, so
 * that the same bytes can go again and again. */
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/bench_place.h"
#include "cli/bench_produce.h"
#include "cli/pump.h"
#include "wire/batch.h"

/* What the run is made of; all of it is freed at once. */
struct load {
    struct bench_places places;
    uint8_t *payload;
    struct buf *batch; /* of pushBatch */
    uint64_t messages_per_call;
    struct pump_call *calls; /* one for each partition */
    size_t call_count;
    int *fds;
    unsigned connections; /* open ones */
};

static void load_free(struct load *load)
{
    for (size_t i = 0; i < load->call_count; i++)
        pump_call_free(&load->calls[i]);
    for (unsigned i = 0; i < load->connections; i++)
        close(load->fds[i]);
    mem_free(load->calls);
    mem_free(load->fds);
    mem_free(load->payload);
    buf_unref(load->batch);
    bench_places_free(&load->places);
}

static int64_t wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* As many messages as fill batch_bytes, at least one, and none beyond what is to be sent. */
static int make_batch(const struct bench_produce_values *values, struct load *load)
{
    struct batch_builder builder;
    struct bytes none = {0};
    size_t size = (size_t)values->size;
    int error = batch_builder_init(&builder, (size_t)values->batch_bytes);
    if (error)
        return error;
    int64_t now_ms = wall_ms();
    size_t before, after;
    do {
        struct bytes value = bytes_of(load->payload + load->messages_per_call % 256, size);
        before = builder.buf->len;
        error = batch_builder_add(&builder, now_ms, none, value, NULL, 0);
        load->messages_per_call++;
        after = builder.buf->len;
    } while (!error && after + (after - before) <= (size_t)values->batch_bytes &&
             load->messages_per_call != (uint64_t)values->messages);
    if (!error)
        error = batch_builder_finish(&builder, BATCH_NONE, 0, &load->batch);
    batch_builder_free(&builder);
    return error;
}

static int make_call(const struct bench_produce_values *values, const char *topic, struct load *load,
                     size_t at)
{
    struct bytes partition = bytes_of_text(load->places.names[at]);
    if (values->method == PRODUCE_PUSH_BATCH) {
        struct rpc_push_batch_request request = {.topic = bytes_of_text(topic),
                                                 .partition = partition,
                                                 .ack = (int8_t)values->ack,
                                                 .batch = {NULL, load->batch->len}};
        return pump_call_encode(RPC_METHOD_PUSH_BATCH, &request,
                                bytes_of(load->batch->data, load->batch->len), &load->calls[at]);
    }
    struct rpc_push_request request = {.producer = BYTES_LITERAL("clymq-bench"),
                                       .topic = bytes_of_text(topic),
                                       .partition = partition,
                                       .message = bytes_of(load->payload, (size_t)values->size),
                                       .ack = (int8_t)values->ack};
    return pump_call_encode(RPC_METHOD_PUSH, &request, bytes_of(NULL, 0), &load->calls[at]);
}

static int make_calls(const struct bench_produce_values *values, const char *topic, struct load *load)
{
    load->payload = bench_payload((size_t)values->size, 256);
    load->calls = mem_calloc(load->places.count, sizeof(*load->calls));
    if (!load->payload || !load->calls)
        return CLYMQ_ENOMEM;
    load->messages_per_call = values->method == PRODUCE_PUSH;
    int error = values->method == PRODUCE_PUSH_BATCH ? make_batch(values, load) : 0;
    for (; !error && load->call_count < load->places.count; load->call_count++)
        error = make_call(values, topic, load, load->call_count);
    return error;
}

static int connect_all(const struct bench_produce_values *values, struct load *load)
{
    load->fds = mem_calloc((size_t)values->connections, sizeof(*load->fds));
    if (!load->fds)
        return CLI_FAILED;
    for (unsigned i = 0; i < values->connections; i++) {
        int fd = pump_connect(load->places.address, i);
        if (fd < 0)
            return CLI_FAILED;
        load->fds[load->connections++] = fd;
    }
    return 0;
}

static int run_load(const struct bench_produce_values *values, const struct load *load,
                    struct bench_result *result)
{
    uint64_t per_call = load->messages_per_call;
    bool is_push = values->method == PRODUCE_PUSH;
    struct pump_config config = {
        .method = is_push ? RPC_METHOD_PUSH : RPC_METHOD_PUSH_BATCH,
        .calls = load->calls,
        .call_count = load->call_count,
        .fds = load->fds,
        .connections = load->connections,
        .depth = values->depth ? (unsigned)values->depth : (is_push ? 64 : 4),
        .total = ((uint64_t)values->messages + per_call - 1) / per_call,
        .duration_us = values->duration * 1000,
        .rate = values->rate,
        .per_call = (int64_t)per_call,
        .timeout_us = values->base.common.timeout * 1000,
    };
    bench_begin(result, &values->base);
    int code = pump_run(&config, result);
    bench_end(result, &values->base);
    result->messages *= per_call;
    result->failed *= per_call;
    result->bytes = result->messages * (uint64_t)values->size;
    strbuf_printf(&result->more_json, ",\"messages_per_call\":%llu", (unsigned long long)per_call);
    return code;
}

int bench_produce_by_calls(const struct bench_produce_values *values, const char *topic, clymq_client *client,
                           struct bench_result *result)
{
    struct load load = {0};
    int code = bench_places_find(client, topic, values->base.common.timeout, &load.places);
    int error = code ? 0 : make_calls(values, topic, &load);
    if (error) {
        cli_complain("%s", error_sentence(error));
        code = CLI_FAILED;
    }
    if (!code)
        code = connect_all(values, &load);
    if (!code)
        code = run_load(values, &load, result);
    load_free(&load);
    return code;
}
