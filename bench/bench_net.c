/* How fast a server takes calls off loopback connections: 100-byte pushes pipelined 64 deep, pushes of 64
 * KiB, and pulls of 64 KiB from memory, over 16 connections, each answered at once; by clients that only move
 * prepared bytes (so that the server is what is measured) and by net_link. One server shard and one client
 * thread. bench_net [seconds per figure] */
#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"
#include "net/link.h"
#include "net/server.h"
#include "shard/shard.h"

enum { CONNECTIONS = 16 };

static struct shards *shards;
static struct net_server *server;
static char address[64];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static bool started, stopped;
static struct buf *pulled;
static struct io_file *file; /* of the same content */
static _Atomic bool from_file;
static const char *only = "";

static void on_call(void *ctx, struct net_call *call)
{
    if (call->method->id == RPC_METHOD_PULL) {
        struct rpc_pull_response response = {.msgs = {NULL, pulled->len}, .ret = true};
        struct net_payload payload = {0};
        if (from_file)
            payload = (struct net_payload){.file = file, .len = pulled->len};
        else
            payload.slice = slice_of(pulled, pulled->data, pulled->len);
        net_call_answer(call, &response, &payload);
        return;
    }
    struct rpc_push_request request;
    if (thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request)) {
        net_call_fail(call, THRIFT_PROTOCOL_ERROR, CLYMQ_EPROTO, "malformed");
        return;
    }
    struct rpc_push_response response = {.ret = true, .err = BYTES_LITERAL("")};
    net_call_answer(call, &response, NULL);
}

static void tell(bool *what)
{
    pthread_mutex_lock(&lock);
    *what = true;
    pthread_cond_signal(&changed);
    pthread_mutex_unlock(&lock);
}

static void await(const bool *what)
{
    pthread_mutex_lock(&lock);
    while (!*what)
        pthread_cond_wait(&changed, &lock);
    pthread_mutex_unlock(&lock);
}

static void start(struct shard *shard, struct shard_message *message)
{
    struct net_server_config config = {
        .address = "127.0.0.1:0", .name = "bench", .services = RPC_BROKER, .on_call = on_call};
    net_limits_defaults(&config.limits);
    int error = net_server_start(shards, &config, NULL, &server);
    if (!error)
        error = net_server_address(server, address, sizeof(address));
    if (error) {
        fprintf(stderr, "%s\n", error_sentence(error));
        exit(1);
    }
    tell(&started);
}

static void on_stopped(void *ctx)
{
    tell(&stopped);
}

static void stop(struct shard *shard, struct shard_message *message)
{
    net_server_stop(server, 1000, on_stopped, NULL);
}

/* A client that sends the same call again for each answer, all of one size. */
struct client {
    struct io_loop *loop;
    struct io_stream *stream;
    const struct buf *calls; /* many, back to back */
    size_t call_size, answer_size, depth;
    uint64_t sent, received; /* bytes */
    unsigned watched;
};

static void send_calls(struct client *client)
{
    for (;;) {
        uint64_t allowed = (client->received / client->answer_size + client->depth) * client->call_size;
        size_t at = (size_t)(client->sent % client->calls->len), len = client->calls->len - at;
        if (allowed - client->sent < len)
            len = (size_t)(allowed - client->sent);
        unsigned watched = IO_READABLE;
        if (len > 0) {
            struct iovec part = {(void *)(client->calls->data + at), len};
            ssize_t count = io_stream_writev(client->stream, &part, 1);
            if (count > 0) {
                client->sent += (uint64_t)count;
                continue;
            }
            watched |= IO_WRITABLE;
        }
        if (watched != client->watched)
            io_stream_watch(client->stream, watched);
        client->watched = watched;
        return;
    }
}

static void on_ready(void *ctx, unsigned events)
{
    static uint8_t scratch[256 * 1024];
    struct client *client = ctx;
    if (events & IO_READABLE) {
        ssize_t count = io_stream_read(client->stream, scratch, sizeof(scratch));
        if (count > 0)
            client->received += (uint64_t)count;
    }
    send_calls(client);
}

static struct buf *encode(enum rpc_method_id method, const void *request, size_t copies, size_t *ret_size)
{
    static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};
    struct thrift_encoded encoded;
    if (thrift_encode(&framed, THRIFT_CALL, rpc_methods[method].name, 1, 1, rpc_methods[method].request,
                      request, &encoded))
        abort();
    struct buf *calls = buf_new(encoded.head_len * copies);
    for (size_t i = 0; i < copies; i++)
        memcpy(calls->data + i * encoded.head_len, encoded.buf->data, encoded.head_len);
    calls->len = encoded.head_len * copies;
    *ret_size = encoded.head_len;
    buf_unref(encoded.buf);
    return calls;
}

static size_t size_of_answer(enum rpc_method_id method)
{
    static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};
    struct rpc_push_response push = {.ret = true, .err = BYTES_LITERAL("")};
    struct rpc_pull_response pull = {.msgs = {NULL, pulled->len}, .ret = true};
    struct thrift_encoded encoded;
    if (thrift_encode(&framed, THRIFT_REPLY, rpc_methods[method].name, 1, 0, rpc_methods[method].response,
                      method == RPC_METHOD_PULL ? (void *)&pull : (void *)&push, &encoded))
        abort();
    buf_unref(encoded.buf);
    return encoded.head_len + encoded.payload_len + encoded.tail_len;
}

static double seconds_of(struct timeval time)
{
    return (double)time.tv_sec + (double)time.tv_usec / 1e6;
}

static double cpu_s(int who)
{
    struct rusage usage;
    getrusage(who, &usage);
    return seconds_of(usage.ru_utime) + seconds_of(usage.ru_stime);
}

static void on_end(struct io_timer *timer)
{
    io_loop_stop(timer->ctx);
}

struct measure {
    uint64_t begun_ns;
    double process_s, client_s;
};

static void measure_begin(struct measure *measure, struct io_loop *loop)
{
    measure->begun_ns = io_loop_now_ns(loop);
    measure->process_s = cpu_s(RUSAGE_SELF);
    measure->client_s = cpu_s(RUSAGE_THREAD);
}

static void measure_print(const struct measure *measure, struct io_loop *loop, const char *what,
                          uint64_t calls, uint64_t bytes)
{
    double took = (double)(io_loop_now_ns(loop) - measure->begun_ns) / 1e9;
    double client = cpu_s(RUSAGE_THREAD) - measure->client_s;
    double served = cpu_s(RUSAGE_SELF) - measure->process_s - client;
    printf("%-28s %9.0f calls/s %8.1f MB/s   server %6.0f ns CPU a call, client %6.0f\n", what,
           (double)calls / took, (double)bytes / took / 1e6, served / (double)calls * 1e9,
           client / (double)calls * 1e9);
}

static void run_raw(struct io_loop *loop, const char *what, enum rpc_method_id method, const void *request,
                    size_t depth, double seconds)
{
    if (!strstr(what, only))
        return;
    struct client clients[CONNECTIONS] = {0};
    size_t call_size;
    struct buf *calls = encode(method, request, depth, &call_size);
    for (int i = 0; i < CONNECTIONS; i++) {
        clients[i] = (struct client){.loop = loop, .calls = calls, .call_size = call_size, .depth = depth};
        clients[i].answer_size = size_of_answer(method);
        struct io_stream_handler handler = {on_ready, &clients[i]};
        if (io_loop_connect(loop, address, handler, &clients[i].stream))
            abort();
        io_stream_watch(clients[i].stream, IO_WRITABLE);
    }
    struct measure measure;
    measure_begin(&measure, loop);
    struct io_timer timer = {.fire = on_end, .ctx = loop};
    io_timer_start(loop, &timer, (uint64_t)(seconds * 1e9));
    io_loop_run(loop);
    uint64_t answers = 0, bytes = 0;
    for (int i = 0; i < CONNECTIONS; i++) {
        answers += clients[i].received / clients[i].answer_size;
        bytes += method == RPC_METHOD_PULL ? clients[i].received : clients[i].sent;
        io_stream_close(clients[i].stream);
    }
    measure_print(&measure, loop, what, answers, bytes);
    buf_unref(calls);
}

/* The same through net_link. */
struct user {
    struct net_link *link;
    uint64_t answers;
    size_t outstanding;
    const struct rpc_push_request *request;
    const struct slice *payload;
    bool ending;
};

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct user *user = ctx;
    user->outstanding--;
    if (answer->error)
        return;
    user->answers++;
    if (user->ending)
        return;
    if (net_link_call(user->link, RPC_METHOD_PUSH, user->request, user->payload, 10000, on_answer, user) == 0)
        user->outstanding++;
}

static void run_links(struct io_loop *loop, const char *what, const struct rpc_push_request *request,
                      const struct slice *payload, size_t depth, double seconds)
{
    if (!strstr(what, only))
        return;
    struct user users[CONNECTIONS] = {0};
    for (int i = 0; i < CONNECTIONS; i++) {
        struct net_link_config config = {
            .address = address, .connect_ms = 5000, .max_message_bytes = 16 << 20, .ctx = &users[i]};
        users[i].request = request;
        users[i].payload = payload;
        if (net_link_new(loop, &config, &users[i].link))
            abort();
        for (size_t n = 0; n < depth; n++)
            if (net_link_call(users[i].link, RPC_METHOD_PUSH, request, payload, 10000, on_answer,
                              &users[i]) == 0)
                users[i].outstanding++;
    }
    struct measure measure;
    measure_begin(&measure, loop);
    struct io_timer timer = {.fire = on_end, .ctx = loop};
    io_timer_start(loop, &timer, (uint64_t)(seconds * 1e9));
    io_loop_run(loop);
    uint64_t answers = 0;
    for (int i = 0; i < CONNECTIONS; i++)
        answers += users[i].answers;
    measure_print(&measure, loop, what, answers, answers * request->message.len);
    for (int i = 0; i < CONNECTIONS; i++) {
        users[i].ending = true;
        net_link_free(users[i].link);
    }
}

int main(int argc, char **argv)
{
    double seconds = argc > 1 ? strtod(argv[1], NULL) : 2;
    only = argc > 2 ? argv[2] : "";
    static uint8_t text[65536];
    pulled = buf_new(65536);
    struct io_loop *loop;
    if (!pulled || shards_new(1, 1, NULL, &shards) || io_os_loop_new(1, &loop))
        return 1;
    pulled->len = 65536;
    memset(pulled->data, 'x', pulled->len);
    char folder[] = "/tmp/clymq-bench-net-XXXXXX";
    struct io_fs *fs;
    if (!mkdtemp(folder) || io_os_fs_new(folder, &fs) ||
        io_fs_open(fs, "range", IO_OPEN_WRITE | IO_OPEN_CREATE, &file) ||
        io_file_pwrite(file, pulled->data, pulled->len, 0) != (ssize_t)pulled->len)
        return 1;
    io_fs_unlink(fs, "range");
    static struct shard_message begin = {.run = start}, end = {.run = stop};
    shard_send(shards_get(shards, 0), &begin);
    await(&started);

    struct rpc_push_request push = {.producer = BYTES_LITERAL("producer"),
                                    .topic = BYTES_LITERAL("topic"),
                                    .partition = BYTES_LITERAL("0"),
                                    .message = bytes_of(text, 100)};
    struct rpc_pull_request pull = {.consumer = BYTES_LITERAL("consumer"),
                                    .topic = BYTES_LITERAL("topic"),
                                    .partition = BYTES_LITERAL("0"),
                                    .option = 4};
    run_raw(loop, "push 100 B, 64 deep", RPC_METHOD_PUSH, &push, 64, seconds);
    run_raw(loop, "push 100 B, 1 deep", RPC_METHOD_PUSH, &push, 1, seconds);
    push.message = bytes_of(text, 65536);
    run_raw(loop, "push 64 KiB, 4 deep", RPC_METHOD_PUSH, &push, 4, seconds);
    run_raw(loop, "pull 64 KiB, 4 deep", RPC_METHOD_PULL, &pull, 4, seconds);
    from_file = true;
    run_raw(loop, "pull 64 KiB of a file, 4 deep", RPC_METHOD_PULL, &pull, 4, seconds);
    size_t len = pulled->len;
    pulled->len = 4096;
    run_raw(loop, "pull 4 KiB of a file, 4 deep", RPC_METHOD_PULL, &pull, 4, seconds);
    from_file = false;
    run_raw(loop, "pull 4 KiB, 4 deep", RPC_METHOD_PULL, &pull, 4, seconds);
    pulled->len = len;
    push.message = bytes_of(text, 100);
    run_links(loop, "link, push 100 B, 64 deep", &push, NULL, 64, seconds);
    push.message = bytes_of(NULL, 65536);
    run_links(loop, "link, push 64 KiB, 4 deep", &push, &(struct slice){pulled->data, 65536, pulled}, 4,
              seconds);

    shard_send(shards_get(shards, 0), &end);
    await(&stopped);
    net_server_free(server);
    shards_stop(shards);
    shards_free(shards);
    io_loop_free(loop);
    io_file_close(file);
    io_os_fs_free(fs);
    rmdir(folder);
    buf_unref(pulled);
    return 0;
}
