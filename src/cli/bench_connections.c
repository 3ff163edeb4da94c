/* clymq bench connections: what many connections cost a server, and how long they and a call on each take. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/bench.h"
#include "cli/pump.h"

struct connections_values {
    struct bench_common base;
    char *address;
    int64_t connections, calls, hold, rate;
};
#define AT(field) offsetof(struct connections_values, field)

static const struct option bench_table[] = {
    {.name = "address",
     .type = OPTION_TEXT,
     .offset = AT(address),
     .fallback = "127.0.0.1:8888",
     .section = "Load",
     .placeholder = "HOST:PORT",
     .help = "The broker's."},
    {.name = "connections",
     .type = OPTION_INT,
     .offset = AT(connections),
     .fallback = "10000",
     .min = 1,
     .max = 1000000,
     .section = "Load",
     .help = "How many, all open at once."},
    {.name = "calls",
     .type = OPTION_INT,
     .offset = AT(calls),
     .fallback = "1",
     .min = 0,
     .max = 1000000,
     .section = "Load",
     .help = "Calls on each, when all are open; they ask for an offset and store nothing."},
    {.name = "rate",
     .type = OPTION_INT,
     .offset = AT(rate),
     .fallback = "0",
     .min = 0,
     .max = 1000000000,
     .section = "Load",
     .help = "Calls a second on all connections together; 0 is as fast as it goes."},
    {.name = "hold",
     .type = OPTION_DURATION_MS,
     .offset = AT(hold),
     .fallback = "0",
     .min = 0,
     .max = 24 * 3600 * 1000,
     .section = "Load",
     .help = "Keeps them open, without calls, for so long before the end."},
    BENCH_COMMON_OPTIONS(struct connections_values),
    {0},
};

struct connections {
    const struct connections_values *values;
    struct bench_result *result;
    int *fds;
    unsigned open;
    struct latency *connecting;
    int64_t connecting_us;
};

static int raise_file_limit(int64_t wanted)
{
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur >= (rlim_t)wanted)
        return 0;
    if (limit.rlim_max < (rlim_t)wanted)
        limit.rlim_max = (rlim_t)wanted; /* root may */
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
        return 0;
    cli_complain("%lld open files are needed, more than `ulimit -n` allows", (long long)wanted);
    return CLI_FAILED;
}

static int open_all(struct connections *all)
{
    int64_t began_us = cli_now_us();
    for (unsigned i = 0; i < all->values->connections && !cli_interrupted(); i++) {
        int64_t from_us = cli_now_us();
        int fd = pump_connect(all->values->address, i);
        if (fd < 0)
            return CLI_FAILED;
        latency_add(all->connecting, cli_now_us() - from_us);
        all->fds[all->open++] = fd;
    }
    all->connecting_us = cli_now_us() - began_us;
    return cli_interrupted() ? CLI_INTERRUPTED : 0;
}

static int call_all(struct connections *all)
{
    const struct connections_values *values = all->values;
    struct rpc_list_offset_request request = {
        .topic = BYTES_LITERAL("clymq-bench"), .partition = BYTES_LITERAL("0"), .timestamp_ms = -1};
    struct pump_call call;
    if (pump_call_encode(RPC_METHOD_LIST_OFFSET, &request, bytes_of(NULL, 0), &call)) {
        cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
        return CLI_FAILED;
    }
    struct pump_config config = {.method = RPC_METHOD_LIST_OFFSET,
                                 .calls = &call,
                                 .call_count = 1,
                                 .fds = all->fds,
                                 .connections = all->open,
                                 .depth = 1,
                                 .total = (uint64_t)values->connections * (uint64_t)values->calls,
                                 .rate = values->rate,
                                 .timeout_us = values->base.common.timeout * 1000};
    int code = config.total ? pump_run(&config, all->result) : 0;
    pump_call_free(&call);
    return code;
}

static void tell_more(const struct connections *all, const struct process_cost *before)
{
    struct bench_result *result = all->result;
    double rate = (double)all->open / ((double)(all->connecting_us ? all->connecting_us : 1) / 1e6);
    double p50 = (double)latency_quantile(all->connecting, 0.5) / 1000;
    double p99 = (double)latency_quantile(all->connecting, 0.99) / 1000;
    strbuf_printf(&result->more_json,
                  ",\"connections\":%u,\"connects_per_s\":%.0f,\"connect_ms\":{\"p50\":%.3f,\"p99\":%.3f,"
                  "\"max\":%.3f}",
                  all->open, rate, p50, p99, (double)all->connecting->max_us / 1000);
    strbuf_printf(&result->more_text,
                  "%u connections, %.0f a second; to connect, ms: p50 %.3f, p99 %.3f, max %.3f\n", all->open,
                  rate, p50, p99, (double)all->connecting->max_us / 1000);
    if (result->server_after.rss_bytes == 0 || all->open == 0)
        return;
    double each = ((double)result->server_after.rss_bytes - (double)before->rss_bytes) / (double)all->open;
    strbuf_printf(&result->more_json, ",\"rss_bytes_per_connection\":%.0f", each);
    strbuf_printf(&result->more_text, "server: %.0f bytes of resident memory a connection\n", each);
}

static int measure(struct connections *all)
{
    struct process_cost before = {0};
    const struct bench_common *base = &all->values->base;
    if (base->server_pid && process_cost_read(base->server_pid, &before) != 0)
        return cli_usage("--server-pid: there is no such process");
    int code = open_all(all);
    if (code)
        return code;
    bench_begin(all->result, base);
    code = call_all(all);
    if (!code && all->values->hold)
        bench_sleep_until(cli_now_us() + all->values->hold * 1000);
    bench_end(all->result, base);
    tell_more(all, &before);
    return code;
}

static int bench_run(void *values_ptr, int argc, char **argv)
{
    const struct connections_values *values = values_ptr;
    struct connections all = {.values = values};
    int code = raise_file_limit(values->connections + 64);
    if (code)
        return code;
    all.result = bench_result_new("bench connections", "listOffset");
    if (all.result)
        all.result->counted = "calls";
    all.connecting = mem_zalloc(sizeof(*all.connecting));
    all.fds = mem_calloc((size_t)values->connections, sizeof(*all.fds));
    code = all.result && all.connecting && all.fds ? 0 : CLI_FAILED;
    if (!code) {
        cli_catch_signals();
        code = measure(&all);
    }
    if (!code)
        code = bench_report(all.result, &values->base);
    for (unsigned i = 0; i < all.open; i++)
        close(all.fds[i]);
    mem_free(all.fds);
    mem_free(all.connecting);
    bench_result_free(all.result);
    return code;
}

const struct cli_command cli_bench_connections = {
    .name = "bench connections",
    .arguments = "",
    .summary = "Measure what many connections cost.",
    .details =
        "Opens connections to a broker's port one after the other, makes calls on them, and tells how long a "
        "connect and a\ncall took; with --server-pid also the memory that the server took for each. Beyond "
        "20,000 to a loopback address they\ncome from several source addresses.\n\n"
        "Examples:\n"
        "  clymq bench connections --server-pid $(pidof clymqd)\n"
        "  clymq bench connections --connections 1000 --calls 100 --rate 20000 --json\n",
    .table = bench_table,
    .values_size = sizeof(struct connections_values),
    .arguments_min = 0,
    .arguments_max = 0,
    .run = bench_run,
};
