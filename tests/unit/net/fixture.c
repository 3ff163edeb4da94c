#include "fixture.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/log.h"

static void no_log(void *ctx, enum log_level level, const char *line)
{
}

static int env_setup(void **state, bool simulated)
{
    struct env *env = mem_zalloc(sizeof(*env));
    if (!env)
        return -1;
    log_set_sink(no_log, NULL);
    list_init(&env->tail.link);
    env->simulated = simulated;
    env->metrics = metrics_new();
    if (simulated) {
        env->world = sim_world_new(7);
        struct sim_net_faults faults = {.delay_min_ns = 1000, .delay_max_ns = 300000};
        sim_world_set_net_faults(env->world, &faults);
        env->server_process = sim_process_new(env->world, "server");
        env->client_process = sim_process_new(env->world, "client");
    }
    *state = env;
    return 0;
}

int env_setup_real(void **state)
{
    return env_setup(state, false);
}

int env_setup_sim(void **state)
{
    return env_setup(state, true);
}

struct net_limits env_limits(void)
{
    struct net_limits limits;
    net_limits_defaults(&limits);
    limits.max_message_bytes = 1 << 20;
    return limits;
}

static struct bytes decode_push(struct net_call *call, struct rpc_push_request *request)
{
    if (thrift_decode(call->form.protocol, call->args, 1, call->method->request, request))
        return (struct bytes){0};
    return request->message;
}

static void release_file(void *ctx)
{
    ((struct env *)ctx)->released++;
}

static void answer_pull(struct env *env, struct net_call *call)
{
    struct rpc_pull_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    struct rpc_pull_response response = {.msgs = {NULL, env->payload_size}, .ret = true, .end_index = 5};
    response.err = BYTES_LITERAL("ok");
    struct net_payload payload = {.release = release_file, .ctx = env};
    if (request.option == 1)
        payload.slice = slice_of(env->payload, env->payload->data, env->payload_size);
    else {
        payload.file = env->file;
        payload.len = env->payload_size;
        payload.position = request.option == 3 ? 1000 : 0;
    }
    net_call_answer(call, &response, &payload);
}

static void on_call(void *ctx, struct net_call *call)
{
    struct env *env = ctx;
    env->calls++;
    env->last_conn_id = net_call_conn_id(call);
    env->last_shard = call->shard->id;
    if (env->tail.run)
        shard_at_tail(call->shard, &env->tail);
    assert_true(net_call_conn_id(call) != 0);
    assert_non_null(strchr(call->principal.address, ':'));
    if (call->method->id == RPC_METHOD_PULL) {
        answer_pull(env, call);
        return;
    }
    struct rpc_push_request request = {0};
    struct bytes message = decode_push(call, &request);
    struct rpc_push_response response = {.ret = true, .err = message};
    if (env->routed && message.ptr)
        net_call_is_for(call, shards_get(env->shards, (unsigned)(request.partition.ptr[0] - '0')));
    if (!message.ptr)
        net_call_fail(call, THRIFT_PROTOCOL_ERROR, CLYMQ_EPROTO, "malformed");
    else if (bytes_equal(request.producer, BYTES_LITERAL("hold"))) {
        assert_true(env->held_count < ENV_HELD);
        env->held[env->held_count++] = call;
    } else if (bytes_equal(request.producer, BYTES_LITERAL("fail"))) {
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_EDENIED, "the handler says no to %.*s",
                      (int)request.topic.len, (const char *)request.topic.ptr);
    } else if (bytes_equal(request.producer, BYTES_LITERAL("quiet"))) {
        response.err = BYTES_LITERAL("");
        net_call_answer(call, &response, NULL);
    } else {
        net_call_answer(call, &response, NULL);
    }
}

static void on_conn_input_end(void *ctx, struct shard *shard, uint64_t conn_id)
{
    struct env *env = ctx;
    env->input_ends++;
}

static void on_conn_closed(void *ctx, struct shard *shard, uint64_t conn_id)
{
    struct env *env = ctx;
    env->closed++;
    env->last_closed_id = conn_id;
    env->last_closed_shard = shard->id;
}

void env_answer_held(struct env *env, int index)
{
    struct net_call *call = env->held[index];
    struct rpc_push_request request;
    struct rpc_push_response response = {.ret = true, .err = decode_push(call, &request)};
    env->held[index] = NULL;
    struct io_loop *loop = call->shard->loop;
    net_call_answer(call, &response, NULL);
    io_loop_wake(loop); /* we are outside of its rounds, where a handler never is */
}

void env_start(struct env *env, unsigned shards, const struct net_limits *limits)
{
    env->shard_count = shards;
    for (unsigned i = 0; i < shards; i++)
        if (env->simulated)
            assert_int_equal(sim_process_loop(env->server_process, &env->loops[i]), 0);
        else if (i == 0)
            assert_int_equal(io_os_loop_new(1, &env->loops[i]), 0);
    /* Real shards on one thread share its one loop with the clients; more shards there have threads:
     * test_shards.c. */
    if (!env->simulated)
        env->shard_count = shards = 1;
    if (env->simulated)
        assert_int_equal(sim_process_loop(env->client_process, &env->client_loop), 0);
    else
        env->client_loop = env->loops[0];
    assert_int_equal(shards_new_on_loops(env->loops, shards, env->metrics, &env->shards), 0);
    struct net_server_config config = {
        .address = env->simulated ? "server:7000" : "127.0.0.1:0",
        .name = "broker",
        .services = RPC_BROKER,
        .limits = *limits,
        .on_call = on_call,
        .on_conn_input_end = on_conn_input_end,
        .on_conn_closed = on_conn_closed,
        .ctx = env,
    };
    assert_int_equal(net_server_start(env->shards, &config, env->metrics, &env->server), 0);
    assert_int_equal(net_server_address(env->server, env->address, sizeof(env->address)), 0);
}

struct waiting {
    struct env *env;
    bool (*done)(void *ctx);
    void *ctx;
    uint64_t until_ns;
    bool reached;
    struct io_timer timer;
};

static void look(struct io_timer *timer)
{
    struct waiting *waiting = timer->ctx;
    waiting->reached = waiting->done && waiting->done(waiting->ctx);
    if (waiting->reached || io_loop_now_ns(waiting->env->client_loop) >= waiting->until_ns)
        io_loop_stop(waiting->env->client_loop);
    else
        io_timer_start(waiting->env->client_loop, timer, IO_MS(1));
}

static bool run(struct env *env, bool (*done)(void *ctx), void *ctx, int limit_ms)
{
    if (env->simulated && !done) {
        sim_world_run_for(env->world, IO_MS(limit_ms));
        return false;
    }
    if (env->simulated) {
        uint64_t until = sim_world_now_ns(env->world) + IO_MS(limit_ms);
        bool reached = false;
        while (!(reached = done(ctx)) && sim_world_now_ns(env->world) < until)
            if (!sim_world_step(env->world)) {
                sim_world_run_for(env->world, until - sim_world_now_ns(env->world));
                break;
            }
        return reached;
    }
    uint64_t until = io_loop_now_ns(env->client_loop) + IO_MS(limit_ms);
    struct waiting waiting = {.env = env, .done = done, .ctx = ctx, .until_ns = until};
    waiting.timer.fire = look;
    waiting.timer.ctx = &waiting;
    io_timer_start(env->client_loop, &waiting.timer, 0);
    io_loop_run(env->client_loop);
    return waiting.reached;
}

void env_run_until(struct env *env, bool (*done)(void *ctx), void *ctx, int limit_ms)
{
    assert_true(run(env, done, ctx, limit_ms));
}

void env_run_for(struct env *env, int ms)
{
    run(env, NULL, NULL, ms);
}

static void on_stopped(void *ctx)
{
    ((struct env *)ctx)->server_stopped = true;
}

static bool is_stopped(void *ctx)
{
    return ((struct env *)ctx)->server_stopped;
}

void env_begin_stop(struct env *env, int64_t grace_ms)
{
    net_server_stop(env->server, grace_ms, on_stopped, env);
}

void env_wait_stopped(struct env *env, int limit_ms)
{
    env_run_until(env, is_stopped, env, limit_ms);
}

void env_stop(struct env *env, int64_t grace_ms)
{
    env_begin_stop(env, grace_ms);
    env_wait_stopped(env, (int)grace_ms + 5000);
}

int64_t env_metric(struct env *env, const char *name_and_labels)
{
    struct strbuf text = {0};
    metrics_print(env->metrics, &text);
    size_t len = strlen(name_and_labels);
    int64_t value = -1;
    for (char *line = text.data; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
        if (!strncmp(line, name_and_labels, len) && line[len] == ' ')
            value = strtoll(line + len, NULL, 10);
    strbuf_free(&text);
    return value;
}

void env_make_payload(struct env *env, size_t size)
{
    env->payload = buf_new(size);
    assert_non_null(env->payload);
    for (size_t i = 0; i < size; i++)
        env->payload->data[i] = (uint8_t)(i * 7 + i / 251);
    env->payload->len = size;
    env->payload_size = size;
    if (env->simulated) {
        env->fs = sim_process_fs(env->server_process);
    } else {
        char folder[] = "/tmp/clymq-test-net-XXXXXX";
        assert_non_null(mkdtemp(folder));
        assert_int_equal(io_os_fs_new(folder, &env->fs), 0);
        env->folder = mem_strdup(folder);
    }
    assert_int_equal(io_fs_open(env->fs, "payload", IO_OPEN_WRITE | IO_OPEN_CREATE, &env->file), 0);
    assert_int_equal(io_file_pwrite(env->file, env->payload->data, size, 0), size);
}

int env_teardown(void **state)
{
    struct env *env = *state;
    for (int i = 0; i < ENV_STREAMS; i++)
        io_stream_close(env->streams[i]);
    if (env->end)
        env->end();
    if (env->server && !env->server_stopped && (!env->simulated || sim_process_alive(env->server_process)))
        env_stop(env, 0);
    net_server_free(env->server);
    io_file_close(env->file);
    buf_unref(env->payload);
    if (env->fs && !env->simulated) {
        io_fs_unlink(env->fs, "payload");
        io_os_fs_free(env->fs);
        rmdir(env->folder);
        mem_free(env->folder);
    }
    if (env->shards)
        shards_free(env->shards);
    if (env->simulated)
        sim_world_free(env->world);
    else
        io_loop_free(env->client_loop);
    metrics_free(env->metrics);
    mem_free(env);
    return 0;
}

/* ---- raw clients ---- */

static void raw_watch(struct raw *raw)
{
    unsigned wanted = (raw->deaf ? 0u : IO_READABLE) | (raw->out_at < raw->out.len ? IO_WRITABLE : 0u);
    if (raw->stream && wanted != raw->watched)
        io_stream_watch(raw->stream, wanted);
    raw->watched = wanted;
}

static void raw_end(struct raw *raw)
{
    io_stream_close(raw->stream);
    raw->env->streams[raw->slot] = NULL;
    raw->stream = NULL;
    raw->closed = true;
    raw->cut |= raw->out_at < raw->out.len;
}

static void raw_on_ready(void *ctx, unsigned events)
{
    struct raw *raw = ctx;
    int status = io_stream_status(raw->stream);
    if (status == CLYMQ_EAGAIN)
        return;
    if (status) {
        raw_end(raw);
        return;
    }
    while (events & IO_READABLE) {
        char data[16384];
        ssize_t count = io_stream_read(raw->stream, data, sizeof(data));
        if (count == CLYMQ_EAGAIN)
            break;
        if (count <= 0) {
            raw_end(raw);
            return;
        }
        strbuf_append(&raw->in, data, (size_t)count);
    }
    while (events & IO_WRITABLE && raw->out_at < raw->out.len) {
        size_t len = raw->out.len - raw->out_at;
        if (raw->chunk && len > raw->chunk)
            len = raw->chunk;
        struct iovec part = {raw->out.data + raw->out_at, len};
        ssize_t count = io_stream_writev(raw->stream, &part, 1);
        if (count == CLYMQ_EAGAIN)
            break;
        if (count < 0) { /* what the other side said before is still to be read */
            raw->out_at = raw->out.len;
            raw->cut = true;
            break;
        }
        raw->out_at += (size_t)count;
        if (raw->chunk)
            break; /* the next piece in the next round */
    }
    raw_watch(raw);
}

void raw_connect(struct raw *raw, struct env *env)
{
    *raw = (struct raw){.env = env};
    struct io_stream_handler handler = {raw_on_ready, raw};
    assert_int_equal(io_loop_connect(env->client_loop, env->address, handler, &raw->stream), 0);
    while (env->streams[raw->slot])
        assert_true(++raw->slot < ENV_STREAMS);
    env->streams[raw->slot] = raw->stream;
    raw_watch(raw);
}

void raw_flush(struct raw *raw)
{
    assert_false(raw->out.failed);
    raw_watch(raw);
}

void raw_close(struct raw *raw)
{
    if (raw->stream)
        raw_end(raw);
    strbuf_free(&raw->out);
    strbuf_free(&raw->in);
    *raw = (struct raw){0};
}

static bool raw_all_sent(void *ctx)
{
    struct raw *raw = ctx;
    return raw->closed || raw->out_at == raw->out.len;
}

void raw_send(struct raw *raw)
{
    raw_flush(raw);
    env_run_until(raw->env, raw_all_sent, raw, 60000);
    raw->out.len = raw->out_at = 0;
}

/* What has been received and not been looked at. */
static struct bytes raw_in(const struct raw *raw)
{
    return raw->in.len > raw->in_at ? bytes_of((uint8_t *)raw->in.data + raw->in_at, raw->in.len - raw->in_at)
                                    : bytes_of("", 0);
}

static bool raw_has_message(void *ctx)
{
    struct raw *raw = ctx;
    struct thrift_scan scan;
    struct thrift_extent extent;
    size_t need;
    thrift_scan_reset(&scan);
    int error = thrift_find_message(&scan, raw_in(raw), 64 << 20, &extent, &need);
    return error == 0 || raw->closed;
}

struct thrift_message raw_receive(struct raw *raw, struct thrift_form *ret_form)
{
    env_run_until(raw->env, raw_has_message, raw, 60000);
    struct thrift_scan scan;
    struct thrift_extent extent;
    struct thrift_message message;
    size_t need;
    thrift_scan_reset(&scan);
    struct bytes in = raw_in(raw);
    assert_int_equal(thrift_find_message(&scan, in, 64 << 20, &extent, &need), 0);
    assert_int_equal(
        thrift_read_message(extent.form.protocol, bytes_of(in.ptr + extent.body, extent.body_len), &message),
        0);
    if (ret_form)
        *ret_form = extent.form;
    raw->in_at += extent.size;
    return message;
}

void raw_expect_push(struct raw *raw, const struct thrift_form *form, int32_t sequence, struct bytes err)
{
    struct thrift_form got;
    struct thrift_message message = raw_receive(raw, &got);
    assert_int_equal(message.kind, THRIFT_REPLY);
    assert_int_equal(message.sequence, sequence);
    assert_true(bytes_equal(message.method, BYTES_LITERAL("push")));
    assert_int_equal(got.protocol, form->protocol);
    assert_int_equal(got.envelope, form->envelope);
    assert_int_equal(got.ttheader_sequence, form->ttheader_sequence);
    struct rpc_push_response response;
    assert_int_equal(
        thrift_decode(got.protocol, message.args, 0, rpc_methods[RPC_METHOD_PUSH].response, &response), 0);
    assert_true(response.ret);
    assert_int_equal(response.err.len, err.len);
    if (err.len)
        assert_memory_equal(response.err.ptr, err.ptr, err.len);
}

void raw_expect_exception(struct raw *raw, int32_t sequence, int32_t type, const char *text_part)
{
    struct thrift_form form;
    struct thrift_message message = raw_receive(raw, &form);
    assert_int_equal(message.kind, THRIFT_EXCEPTION);
    assert_int_equal(message.sequence, sequence);
    struct thrift_exception_fields exception;
    assert_int_equal(thrift_decode_exception(form.protocol, message.args, &exception), 0);
    assert_int_equal(exception.type, type);
    assert_int_not_equal(exception.error, 0);
    assert_non_null(memmem(exception.text.ptr, exception.text.len, text_part, strlen(text_part)));
}

static bool raw_is_closed(void *ctx)
{
    return ((struct raw *)ctx)->closed;
}

void raw_wait_closed(struct raw *raw, int limit_ms)
{
    env_run_until(raw->env, raw_is_closed, raw, limit_ms);
}
