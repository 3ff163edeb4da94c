/* Outgoing links: against the server of the fixture, and against a peer that answers prepared bytes. On the
 * real and the simulated loop. */
#include "fixture.h"

#include "base/rng.h"

static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};

/* Static wherever it is used: after a failed test its link is closed when the test's stack is gone. */
struct client {
    struct list open;
    struct env *env;
    struct net_link *link;
    int connected, closed, closed_error;
    size_t left_at_close; /* calls not told by then */
    int answered, failed, unsent, first_error, last_error, last_type;
    char last_text[256];
    bool last_sent;
    int wanted;
    size_t last_len;
    uint32_t order_next;
    bool free_in_answer, call_in_answer, free_in_connected, free_in_closed;
};

static struct list open_clients = {&open_clients, &open_clients};

static void free_link(struct client *client)
{
    net_link_free(client->link);
    client->link = NULL;
    list_remove(&client->open);
}

static void close_what_is_left(void);

static void on_connected(void *ctx)
{
    struct client *client = ctx;
    client->connected++;
    if (client->free_in_connected)
        free_link(client);
}

static void on_closed(void *ctx, int error)
{
    struct client *client = ctx;
    client->closed++;
    client->closed_error = error;
    client->left_at_close = net_link_outstanding(client->link);
    if (client->free_in_closed)
        free_link(client);
}

static void client_init(struct client *client, struct env *env)
{
    *client = (struct client){.env = env};
    list_push_back(&open_clients, &client->open);
    env->end = close_what_is_left;
}

static void connect_to(struct client *client, struct env *env, const char *address)
{
    client_init(client, env);
    struct net_link_config config = {
        .address = address,
        .connect_ms = 5000,
        .max_message_bytes = 4 << 20,
        .on_connected = on_connected,
        .on_closed = on_closed,
        .ctx = client,
    };
    assert_int_equal(net_link_new(env->client_loop, &config, &client->link), 0);
}

static void on_answer(void *ctx, const struct net_answer *answer);

static int push(struct client *client, const char *command, struct bytes message, int64_t timeout_ms)
{
    struct rpc_push_request request = {.producer = bytes_of_text(command),
                                       .topic = BYTES_LITERAL("topic"),
                                       .partition = BYTES_LITERAL("0"),
                                       .message = message};
    return net_link_call(client->link, RPC_METHOD_PUSH, &request, NULL, timeout_ms, on_answer, client);
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct client *client = ctx;
    if (!client->first_error)
        client->first_error = answer->error;
    client->last_error = answer->error;
    client->last_type = answer->exception_type;
    client->last_sent = answer->sent;
    if (answer->error) {
        client->failed++;
        client->unsent += !answer->sent;
        size_t len = answer->text.len < 255 ? answer->text.len : 255;
        if (len)
            memcpy(client->last_text, answer->text.ptr, len);
        client->last_text[len] = 0;
    } else {
        client->answered++;
        const struct rpc_push_response *response = answer->response;
        client->last_len = response->err.len;
        if (response->err.len == 4) { /* numbered: in order */
            uint32_t number;
            memcpy(&number, response->err.ptr, 4);
            assert_int_equal(number, client->order_next);
            client->order_next++;
        }
    }
    if (client->call_in_answer) {
        client->call_in_answer = false;
        assert_int_equal(push(client, "echo", BYTES_LITERAL("more!"), 0), 0);
    }
    if (client->free_in_answer) {
        client->free_in_answer = false;
        free_link(client);
    }
}

static bool all_told(void *ctx)
{
    struct client *client = ctx;
    return client->answered + client->failed >= client->wanted;
}

static bool is_closed(void *ctx)
{
    return ((struct client *)ctx)->closed > 0;
}

static void wait_told(struct client *client, int wanted)
{
    client->wanted = wanted;
    env_run_until(client->env, all_told, client, 20000);
    assert_int_equal(client->left_at_close, 0);
}

static void wait_closed(struct client *client, int limit_ms)
{
    env_run_until(client->env, is_closed, client, limit_ms);
    assert_int_equal(client->left_at_close, 0);
}

/* Calls made before the connection is there, and many under way at once. */
static void test_pipelined(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    static struct client client;
    connect_to(&client, env, env->address);
    for (uint32_t i = 0; i < 2000; i++) {
        assert_int_equal(push(&client, "echo", bytes_of(&i, 4), 10000), 0);
        if (i == 1000)
            env_run_for(env, 5);
    }
    wait_told(&client, 2000);
    assert_int_equal(client.answered, 2000);
    assert_int_equal(client.connected, 1);
    assert_int_equal(net_link_outstanding(client.link), 0);
    free_link(&client);
    assert_int_equal(client.closed, 0);
}

static void test_large(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    static struct client client;
    connect_to(&client, env, env->address);
    size_t sizes[] = {100, 5000, 70000, 1000000, 300000, 10};
    uint8_t *text = message_text(1, 1000000);
    for (int i = 0; i < 6; i++)
        assert_int_equal(push(&client, "echo", bytes_of(text, sizes[i]), 0), 0);
    for (int i = 0; i < 6; i++) {
        wait_told(&client, i + 1);
    }
    assert_int_equal(client.last_len, 10);
    /* By reference: the batch is not copied, and given back once it is sent. */
    struct buf *batch = buf_new(500000);
    assert_non_null(batch);
    memset(batch->data, 'b', 500000);
    struct slice payload = {batch->data, 500000, batch};
    struct rpc_push_request request = {.producer = BYTES_LITERAL("echo"),
                                       .topic = BYTES_LITERAL("t"),
                                       .partition = BYTES_LITERAL("p"),
                                       .message = {NULL, 500000}};
    assert_int_equal(net_link_call(client.link, RPC_METHOD_PUSH, &request, &payload, 0, on_answer, &client),
                     0);
    assert_int_equal(batch->refs, 2);
    wait_told(&client, 7);
    assert_int_equal(client.answered, 7);
    assert_int_equal(client.last_len, 500000);
    assert_int_equal(batch->refs, 1);
    buf_unref(batch);
    mem_free(text);
    free_link(&client);
}

static void test_exceptions(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_message_bytes = 100000;
    env_start(env, 1, &limits);
    static struct client client;
    connect_to(&client, env, env->address);
    assert_int_equal(push(&client, "fail", BYTES_LITERAL(""), 0), 0);
    wait_told(&client, 1);
    assert_int_equal(client.last_error, CLYMQ_EUNSUPPORTED);
    assert_int_equal(client.last_type, THRIFT_INTERNAL_ERROR);
    assert_string_equal(client.last_text, "the handler says no to topic");
    struct rpc_create_topic_request create = {.topic = BYTES_LITERAL("t")};
    assert_int_equal(
        net_link_call(client.link, RPC_METHOD_CREATE_TOPIC, &create, NULL, 0, on_answer, &client), 0);
    wait_told(&client, 2);
    assert_int_equal(client.last_type, THRIFT_UNKNOWN_METHOD);
    /* Refused before it is sent in full: the answer is told, then the link ends. */
    uint8_t *text = message_text(1, 900000);
    assert_int_equal(push(&client, "echo", bytes_of(text, 900000), 0), 0);
    wait_told(&client, 3);
    assert_int_equal(client.last_type, THRIFT_PROTOCOL_ERROR);
    assert_non_null(strstr(client.last_text, "100000 bytes"));
    wait_closed(&client, 20000);
    assert_int_equal(client.closed_error, CLYMQ_ECLOSED);
    assert_int_equal(push(&client, "echo", bytes_of(text, 1), 0), CLYMQ_ECLOSED);
    mem_free(text);
    free_link(&client);
}

static void test_timeout(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    static struct client client;
    connect_to(&client, env, env->address);
    assert_int_equal(push(&client, "echo", BYTES_LITERAL("x"), 5000), 0);
    wait_told(&client, 1);
    assert_int_equal(client.answered, 1);
    assert_int_equal(push(&client, "hold", BYTES_LITERAL("x"), 0), 0);
    assert_int_equal(push(&client, "hold", BYTES_LITERAL("x"), 4000), 0);
    assert_int_equal(push(&client, "hold", BYTES_LITERAL("x"), 100), 0);
    uint64_t before = io_loop_now_ns(env->client_loop);
    wait_told(&client, 4);
    uint64_t took = io_loop_now_ns(env->client_loop) - before;
    assert_true(took >= IO_MS(95) && took < IO_MS(2000));
    assert_int_equal(client.failed, 3);
    assert_int_equal(client.last_error, CLYMQ_ETIMEDOUT);
    assert_true(client.last_sent);
    assert_int_equal(client.closed, 1);
    assert_int_equal(client.closed_error, CLYMQ_ETIMEDOUT);
    free_link(&client);
}

static void test_refused(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    env_stop(env, 0);
    static struct client client;
    connect_to(&client, env, env->address);
    assert_int_equal(push(&client, "echo", BYTES_LITERAL("x"), 0), 0);
    client.free_in_closed = true;
    wait_closed(&client, 20000);
    assert_int_equal(client.connected, 0);
    assert_int_equal(client.failed, 1);
    assert_int_equal(client.last_error, CLYMQ_EUNREACH);
    assert_false(client.last_sent);
    assert_int_equal(client.closed_error, CLYMQ_EUNREACH);
    assert_null(client.link);
}

static bool held_three(void *ctx)
{
    return ((struct env *)ctx)->held_count == 3;
}

static void test_server_closes(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    static struct client client;
    connect_to(&client, env, env->address);
    for (int i = 0; i < 3; i++)
        assert_int_equal(push(&client, "hold", BYTES_LITERAL("x"), 0), 0);
    env_run_until(env, held_three, env, 1000);
    env_stop(env, 20);
    wait_closed(&client, 1000);
    assert_int_equal(client.failed, 3);
    assert_int_equal(client.last_error, CLYMQ_ECLOSED);
    assert_int_equal(client.closed, 1);
    free_link(&client);
}

/* Freed from inside each callback, with more calls outstanding. */
static void test_callbacks(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    static struct client client;
    connect_to(&client, env, env->address);
    for (int i = 0; i < 10; i++)
        assert_int_equal(push(&client, i == 9 ? "hold" : "echo", BYTES_LITERAL("x"), 1000), 0);
    client.call_in_answer = true;
    wait_told(&client, 9);
    client.free_in_answer = true;
    assert_int_equal(push(&client, "echo", BYTES_LITERAL("x"), 1000), 0);
    while (env->held_count == 0)
        env_run_for(env, 1);
    env_answer_held(env, 0);
    wait_told(&client, 12);
    assert_int_equal(client.answered, 10);
    assert_int_equal(client.failed, 2);
    assert_int_equal(client.last_error, CLYMQ_ECANCELED);
    assert_null(client.link);
    assert_int_equal(client.closed, 0);

    connect_to(&client, env, env->address);
    client.free_in_connected = true;
    assert_int_equal(push(&client, "echo", BYTES_LITERAL("x"), 1000), 0);
    wait_told(&client, 1);
    assert_int_equal(client.last_error, CLYMQ_ECANCELED);
    assert_false(client.last_sent);
    /* From the callback of a cancelled call. */
    connect_to(&client, env, env->address);
    client.free_in_answer = true;
    for (int i = 0; i < 3; i++)
        assert_int_equal(push(&client, "echo", BYTES_LITERAL("x"), 1000), 0);
    struct net_link *link = client.link;
    net_link_free(link);
    assert_int_equal(client.failed, 3);
}

/* ---- a peer of prepared bytes ---- */

struct peer {
    struct env *env;
    struct io_loop *loop;
    struct io_listener *listener;
    struct io_stream *stream;
    struct strbuf out;
    char address[64];
    bool failed;
};

static struct peer *open_peer;

static void peer_on_ready(void *ctx, unsigned events)
{
    struct peer *peer = ctx;
    char data[4096];
    ssize_t count = io_stream_read(peer->stream, data, sizeof(data));
    if (count > 0) {
        struct iovec part = {peer->out.data, peer->out.len};
        peer->failed |= io_stream_writev(peer->stream, &part, 1) != (ssize_t)peer->out.len;
    }
    if (count != CLYMQ_EAGAIN)
        io_stream_watch(peer->stream, 0);
}

static void peer_on_accept(void *ctx, struct io_socket *socket)
{
    struct peer *peer = ctx;
    struct io_stream_handler handler = {peer_on_ready, peer};
    peer->failed |= io_stream_open(peer->loop, socket, handler, &peer->stream) != 0;
    if (peer->stream)
        io_stream_watch(peer->stream, IO_READABLE);
}

static void peer_close(struct peer *peer)
{
    io_stream_close(peer->stream);
    io_listener_close(peer->listener);
    strbuf_free(&peer->out);
    open_peer = NULL;
}

static void close_what_is_left(void)
{
    while (!list_empty(&open_clients)) {
        struct client *client = CONTAINER_OF(open_clients.next, struct client, open);
        client->call_in_answer = client->free_in_answer = false;
        free_link(client);
    }
    if (open_peer)
        peer_close(open_peer);
}

/* peer is static, like a client. Its address. */
static const char *peer_listen(struct peer *peer, struct env *env)
{
    *peer = (struct peer){.env = env, .loop = env->loops[0]};
    open_peer = peer;
    env->end = close_what_is_left;
    assert_int_equal(io_loop_listen(peer->loop, env->simulated ? "server:7001" : "127.0.0.1:0",
                                    peer_on_accept, peer, &peer->listener),
                     0);
    assert_int_equal(io_listener_address(peer->listener, peer->address, sizeof(peer->address)), 0);
    return peer->address;
}

/* The answer to the link's first call, with one thing wrong in each round. */
static void add_answer(struct strbuf *out, int round)
{
    struct rpc_push_response response = {.ret = true, .err = BYTES_LITERAL("")};
    struct thrift_encoded encoded;
    enum rpc_method_id method = round == 1 ? RPC_METHOD_PULL : RPC_METHOD_PUSH;
    int32_t sequence = round == 2 ? 2 : 1;
    enum thrift_message_kind kind = round == 3 ? THRIFT_CALL : THRIFT_REPLY;
    int16_t wrapper = round == 4 ? 1 : 0;
    assert_int_equal(thrift_encode(&framed, kind, rpc_methods[method].name, sequence, wrapper,
                                   rpc_methods[RPC_METHOD_PUSH].response, &response, &encoded),
                     0);
    strbuf_append(out, encoded.buf->data, encoded.head_len + encoded.tail_len);
    buf_unref(encoded.buf);
    if (round == 5) /* a frame that ends too early */
        out->data[3] -= 3;
    if (round == 6) /* not a message at all */
        memcpy(out->data, "HTTP/1.1 400", 12);
    if (round == 7) /* longer than allowed */
        out->data[0] = 0x10;
}

/* What the server finds too big fails alone, for certain; what was sent behind it was surely not executed,
 * and the link ends at once. */
static void test_too_big(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    limits.max_message_bytes = 10000;
    env_start(env, 1, &limits);
    for (int big = 0; big < 2; big++) {
        static struct client client;
        size_t len = big ? 3000000 : 11000;
        uint8_t *text = message_text(1, len);
        int calls = env->calls;
        connect_to(&client, env, env->address);
        assert_int_equal(push(&client, "echo", BYTES_LITERAL("before"), 0), 0);
        assert_int_equal(push(&client, "echo", bytes_of(text, len), 0), 0);
        for (int i = 0; i < 5; i++)
            assert_int_equal(push(&client, "echo", BYTES_LITERAL("behind"), 0), 0);
        wait_told(&client, 2);
        assert_int_equal(client.answered, 1);
        wait_told(&client, 7);
        assert_int_equal(client.failed, 6);
        assert_int_equal(client.unsent, 5);
        assert_int_equal(client.last_error, CLYMQ_ECLOSED);
        assert_int_equal(client.closed_error, CLYMQ_ECLOSED);
        assert_int_equal(env->calls, calls + 1);
        free_link(&client);
        mem_free(text);
    }
}

static void test_wrong_answers(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    for (int round = 0; round <= 7; round++) {
        static struct peer peer;
        static struct client client;
        connect_to(&client, env, peer_listen(&peer, env));
        add_answer(&peer.out, round);
        assert_int_equal(push(&client, "x", BYTES_LITERAL(""), 0), 0);
        assert_int_equal(push(&client, "x", BYTES_LITERAL(""), 0), 0);
        wait_told(&client, round ? 2 : 1);
        if (round == 0) {
            assert_int_equal(client.answered, 1);
        } else {
            assert_int_equal(client.failed, 2);
            /* Only the call whose answer is too long is told so; the one behind it may be tried again. */
            int error = round == 7 ? CLYMQ_ETOOBIG : CLYMQ_EPROTO;
            assert_int_equal(client.first_error, error);
            assert_int_equal(client.last_error, round == 7 ? CLYMQ_ECLOSED : error);
            assert_int_equal(client.closed, 1);
            assert_int_equal(client.closed_error, error);
        }
        assert_false(peer.failed);
        free_link(&client);
        peer_close(&peer);
    }
}

/* Wherever memory runs out, each call is told once and nothing leaks. */
static void test_out_of_memory(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 1, &limits);
    uint8_t *text = message_text(1, 100000);
    int answered = 0;
    for (uint64_t nth = 1; nth <= 50; nth++) {
        static struct client client;
        client_init(&client, env);
        struct net_link_config config = {.address = env->address,
                                         .connect_ms = 500,
                                         .max_message_bytes = 4 << 20,
                                         .on_closed = on_closed,
                                         .ctx = &client};
        mem_fail_nth(nth);
        int made = 0;
        if (net_link_new(env->client_loop, &config, &client.link) == 0)
            for (int i = 0; i < 3; i++)
                if (push(&client, "echo", bytes_of(text, i == 1 ? 100000 : 10), 300) == 0)
                    made++;
        env_run_for(env, 5);
        mem_fail_nth(0);
        wait_told(&client, made);
        assert_int_equal(client.answered + client.failed, made);
        answered += client.answered;
        free_link(&client);
    }
    assert_true(answered > 20);
    mem_free(text);
}

/* The connection breaks at random moments, bytes come in random pieces: no call is told twice or never. */
static void test_faults(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 3, &limits);
    struct sim_net_faults faults = {
        .delay_min_ns = 1000, .delay_max_ns = 500000, .reset_ppm = 3000, .short_read = 700};
    sim_world_set_net_faults(env->world, &faults);
    struct rng rng;
    rng_seed(&rng, 11);
    uint8_t *text = message_text(1, 100000);
    int broken = 0;
    for (int round = 0; round < 100; round++) {
        static struct client client;
        connect_to(&client, env, env->address);
        for (int i = 0; i < 20; i++)
            assert_int_equal(push(&client, "echo",
                                  bytes_of(text, 5 + rng_below(&rng, rng_chance(&rng, 1, 8) ? 90000 : 300)),
                                  60000),
                             0);
        wait_told(&client, 20);
        broken += client.failed > 0;
        free_link(&client);
    }
    assert_in_range(broken, 5, 95);
    mem_free(text);
}

/* The client's own process dies with calls outstanding; what is left of its links is freed. */
static void test_crash(void **state)
{
    struct env *env = *state;
    struct net_limits limits = env_limits();
    env_start(env, 2, &limits);
    static struct client clients[3];
    for (int i = 0; i < 3; i++) {
        connect_to(&clients[i], env, env->address);
        assert_int_equal(push(&clients[i], "hold", BYTES_LITERAL("x"), 1000), 0);
        if (i < 2)
            env_run_for(env, 5);
    }
    sim_process_crash(env->client_process, false);
    for (int i = 0; i < 2; i++)
        assert_int_equal(net_link_outstanding(clients[i].link), 1);
    for (int i = 0; i < 3; i++) {
        free_link(&clients[i]);
        assert_int_equal(clients[i].last_error, CLYMQ_ECANCELED);
    }
    sim_world_run_for(env->world, IO_MS(100));
    /* Some ends look like those of a client that still reads: the server notices when it answers. */
    for (int i = 0; i < env->held_count; i++)
        env_answer_held(env, i);
    sim_world_run_for(env->world, IO_MS(100));
    assert_int_equal(env->closed, 2);
}

static uint64_t traced_run(uint64_t seed)
{
    void *state;
    assert_int_equal(env_setup_sim(&state), 0);
    struct env *env = state;
    sim_world_free(env->world);
    env->world = sim_world_new(seed);
    env->server_process = sim_process_new(env->world, "server");
    env->client_process = sim_process_new(env->world, "client");
    test_faults(&state);
    uint64_t trace = sim_world_trace(env->world);
    env_teardown(&state);
    return trace;
}

static void test_same_seed_same_run(void **state)
{
    uint64_t first = traced_run(5);
    assert_true(traced_run(5) == first);
    assert_true(traced_run(6) != first);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        TEST_BOTH(test_pipelined),
        TEST_BOTH(test_large),
        TEST_BOTH(test_exceptions),
        TEST_BOTH(test_timeout),
        TEST_BOTH(test_refused),
        TEST_BOTH(test_server_closes),
        TEST_BOTH(test_callbacks),
        TEST_BOTH(test_too_big),
        TEST_BOTH(test_wrong_answers),
        TEST_BOTH(test_out_of_memory),
        TEST_SIM(test_faults),
        TEST_SIM(test_crash),
        cmocka_unit_test(test_same_seed_same_run),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
