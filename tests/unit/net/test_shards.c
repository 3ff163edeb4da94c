/* A server over real threads: 1, 2 and 4 shards, clients on a loop of their own, some of which go away with
 * calls outstanding, some move between the shards, and a stop under load. Meant for ThreadSanitizer as much
 * as for its asserts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include <pthread.h>

#include "base/error.h"
#include "base/mem.h"
#include "messages.h"
#include "net/link.h"
#include "net/server.h"

enum { LINKS = 8, CALLS = 400, HELD = 16 };

/* Per shard: some calls are answered later, by a message that the shard sends to itself, newest first. */
struct desk {
    struct net_call *held[HELD];
    int held_count;
    int64_t calls, closed;
    bool under_way;
    struct shard_message later;
};

struct service {
    struct shards *shards;
    struct net_server *server;
    struct metrics *metrics;
    struct desk desks[4];
    char address[64];
    struct shard_message start, stop;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    bool started, stopped;
    int64_t per_address;
    int64_t arm_at; /* this call of shard 0: the arm_nth allocation after it fails */
    uint64_t arm_nth;
};

static void answer(struct net_call *call)
{
    struct rpc_push_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    struct rpc_push_response response = {.ret = true, .err = request.message};
    net_call_answer(call, &response, NULL);
}

static void answer_held(struct shard *shard, struct shard_message *message)
{
    struct desk *desk = CONTAINER_OF(message, struct desk, later);
    desk->under_way = false;
    while (desk->held_count > 0)
        answer(desk->held[--desk->held_count]);
}

static void on_call(void *ctx, struct net_call *call)
{
    struct service *service = ctx;
    struct desk *desk = &service->desks[call->shard->id];
    struct rpc_push_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    unsigned owner = (unsigned)(request.partition.ptr[0] - '0') % shards_count(service->shards);
    net_call_is_for(call, shards_get(service->shards, owner));
    assert_ptr_equal(shard_current(), call->shard);
    desk->calls++;
    if (call->shard->id == 0 && desk->calls == service->arm_at)
        mem_fail_nth(service->arm_nth);
    if (desk->calls % 3 != 0 || desk->held_count == HELD) {
        answer(call);
        return;
    }
    desk->held[desk->held_count++] = call;
    if (!desk->under_way) {
        desk->under_way = true;
        desk->later.run = answer_held;
        shard_send(call->shard, &desk->later);
    }
}

static void on_conn_closed(void *ctx, struct shard *shard, uint64_t conn_id)
{
    ((struct service *)ctx)->desks[shard->id].closed++;
}

static void tell(struct service *service, bool *what)
{
    pthread_mutex_lock(&service->lock);
    *what = true;
    pthread_cond_broadcast(&service->changed);
    pthread_mutex_unlock(&service->lock);
}

static void await(struct service *service, bool *what)
{
    pthread_mutex_lock(&service->lock);
    while (!*what)
        pthread_cond_wait(&service->changed, &service->lock);
    pthread_mutex_unlock(&service->lock);
}

static void start(struct shard *shard, struct shard_message *message)
{
    struct service *service = CONTAINER_OF(message, struct service, start);
    struct net_server_config config = {
        .address = "127.0.0.1:0",
        .name = "broker",
        .services = RPC_BROKER,
        .on_call = on_call,
        .on_conn_closed = on_conn_closed,
        .ctx = service,
    };
    net_limits_defaults(&config.limits);
    config.limits.max_connections_per_address = service->per_address;
    assert_int_equal(net_server_start(service->shards, &config, service->metrics, &service->server), 0);
    assert_int_equal(net_server_address(service->server, service->address, sizeof(service->address)), 0);
    tell(service, &service->started);
}

static void on_stopped(void *ctx)
{
    struct service *service = ctx;
    net_server_free(service->server);
    tell(service, &service->stopped);
}

static void stop(struct shard *shard, struct shard_message *message)
{
    struct service *service = CONTAINER_OF(message, struct service, stop);
    net_server_stop(service->server, 200, on_stopped, service);
}

struct client {
    struct io_loop *loop;
    struct net_link *link;
    struct io_timer timer;
    int *running;
    int sent, told, failed, quit_after;
    size_t most;   /* calls under way */
    char for_part; /* what its calls are for: one call at a time moves there */
    bool ended;
};

static void client_end(struct client *client)
{
    if (client->ended)
        return;
    client->ended = true;
    net_link_free(client->link);
    client->link = NULL;
    if (--*client->running == 0)
        io_loop_stop(client->loop);
}

static void on_answer(void *ctx, const struct net_answer *answer);

static void client_send(struct client *client)
{
    static const uint8_t text[100000];
    while (!client->ended && client->sent < CALLS && net_link_outstanding(client->link) < client->most) {
        struct rpc_push_request request = {
            .producer = BYTES_LITERAL("p"),
            .topic = BYTES_LITERAL("t"),
            .partition = bytes_of(&client->for_part, 1),
            .message = bytes_of(text, client->sent % 50 == 7 ? sizeof(text) : (size_t)(client->sent % 200)),
        };
        if (net_link_call(client->link, RPC_METHOD_PUSH, &request, NULL, 30000, on_answer, client))
            break;
        client->sent++;
    }
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct client *client = ctx;
    client->told++;
    if (answer->error) {
        client->failed++;
        return;
    }
    if (client->told == client->quit_after || client->told == CALLS)
        client_end(client);
    else
        client_send(client);
}

static void on_closed(void *ctx, int error)
{
    client_end(ctx);
}

static void connect_client(struct client *client, struct service *service)
{
    struct net_link_config config = {.address = service->address,
                                     .connect_ms = 10000,
                                     .max_message_bytes = 1 << 20,
                                     .on_closed = on_closed,
                                     .ctx = client};
    assert_int_equal(net_link_new(client->loop, &config, &client->link), 0);
    client_send(client);
}

/* One of several. */
static void add_client(struct client *client, struct service *service)
{
    int index = (*client->running)++;
    client->most = index % 2 ? 1 : 32;
    client->for_part = (char)('0' + index / 2 % 4);
    connect_client(client, service);
}

static void service_start(struct service *service, unsigned shards)
{
    pthread_mutex_init(&service->lock, NULL);
    pthread_cond_init(&service->changed, NULL);
    service->metrics = metrics_new();
    assert_int_equal(shards_new(shards, 1, service->metrics, &service->shards), 0);
    service->start.run = start;
    shard_send(shards_get(service->shards, 0), &service->start);
    await(service, &service->started);
}

static void service_stop(struct service *service)
{
    service->stop.run = stop;
    shard_send(shards_get(service->shards, 0), &service->stop);
}

static void service_end(struct service *service)
{
    await(service, &service->stopped);
    shards_stop(service->shards);
    shards_free(service->shards);
    metrics_free(service->metrics);
    pthread_cond_destroy(&service->changed);
    pthread_mutex_destroy(&service->lock);
}

static int64_t moves(struct service *service)
{
    struct strbuf text = {0};
    int64_t sum = 0;
    metrics_print(service->metrics, &text);
    for (char *at = text.data; (at = strstr(at, "clymq_net_moved_total{")); at++)
        sum += strtoll(strstr(at, "} ") + 2, NULL, 10);
    strbuf_free(&text);
    return sum;
}

static void test_load(void **state)
{
    static const unsigned counts[] = {1, 2, 4};
    for (int round = 0; round < 3; round++) {
        struct service service = {.per_address = round == 1 ? 1000 : 0};
        service_start(&service, counts[round]);
        struct io_loop *loop;
        assert_int_equal(io_os_loop_new(1, &loop), 0);
        struct client clients[LINKS];
        int running = 0;
        for (int i = 0; i < LINKS; i++) {
            /* Some leave in the middle, with calls outstanding. */
            clients[i] =
                (struct client){.loop = loop, .running = &running, .quit_after = i % 4 == 3 ? 150 : 0};
            add_client(&clients[i], &service);
        }
        io_loop_run(loop);
        for (int i = 0; i < LINKS; i++)
            if (!clients[i].quit_after)
                assert_int_equal(clients[i].told - clients[i].failed, CALLS);
        assert_true(moves(&service) > 0 || counts[round] == 1);
        service_stop(&service);
        service_end(&service);
        io_loop_free(loop);
        int64_t calls = 0;
        for (unsigned i = 0; i < counts[round]; i++)
            calls += service.desks[i].calls;
        assert_true(calls >= LINKS * 3 / 4 * CALLS);
    }
}

static void stop_under_load(struct io_timer *timer)
{
    service_stop(timer->ctx);
}

/* The server stops while everybody sends: each call is told, one way or the other. */
static void test_stop(void **state)
{
    for (int round = 0; round < 6; round++) {
        struct service service = {.per_address = round % 2 ? 1000 : 0};
        service_start(&service, 1u << round % 3);
        struct io_loop *loop;
        assert_int_equal(io_os_loop_new(1, &loop), 0);
        struct client clients[LINKS];
        int running = 0;
        struct io_timer timer = {.fire = stop_under_load, .ctx = &service};
        assert_int_equal(io_timer_start(loop, &timer, IO_MS(round * 2)), 0);
        for (int i = 0; i < LINKS; i++) {
            clients[i] = (struct client){.loop = loop, .running = &running};
            add_client(&clients[i], &service);
        }
        io_loop_run(loop);
        for (int i = 0; i < LINKS; i++)
            assert_int_equal(clients[i].told, clients[i].sent);
        if (io_timer_armed(&timer)) {
            io_timer_stop(loop, &timer);
            service_stop(&service);
        }
        service_end(&service);
        io_loop_free(loop);
    }
}

struct arming {
    struct shard_message message;
    uint64_t nth;
};

static void arm(struct shard *shard, struct shard_message *message)
{
    mem_fail_nth(CONTAINER_OF(message, struct arming, message)->nth);
}

/* The connection of one client, which moves from shard 0 to 1: it goes on or is closed. */
static void move_without_memory(struct service *service, struct arming *arming)
{
    struct client client = {.running = &(int){1}, .most = 1, .for_part = '1'};
    service_start(service, 2);
    shard_send(shards_get(service->shards, 1), &arming->message);
    assert_int_equal(io_os_loop_new(1, &client.loop), 0);
    connect_client(&client, service);
    io_loop_run(client.loop);
    assert_int_equal(client.told, client.sent);
    assert_true(client.told == CALLS || client.failed > 0);
    service_stop(service);
    service_end(service);
    assert_int_equal(service->desks[0].closed + service->desks[1].closed, 1);
    io_loop_free(client.loop);
}

/* Each allocation of a move fails once: on the shard that it leaves, from the last answer on, and on the one
 * where it arrives. */
static void test_out_of_memory(void **state)
{
    int64_t went_on = 0;
    for (uint64_t nth = 0; nth <= 6; nth++) {
        struct arming arming = {.message = {.run = arm}, .nth = nth};
        struct service leaving = {.arm_at = 64, .arm_nth = nth};
        struct service arriving = {0};
        struct arming none = {.message = {.run = arm}};
        move_without_memory(&leaving, &none);
        move_without_memory(&arriving, &arming);
        went_on += (leaving.desks[1].calls > 0) + (arriving.desks[1].calls > 0);
    }
    assert_true(went_on >= 4 && went_on < 14);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_load), cmocka_unit_test(test_stop),
                                       cmocka_unit_test(test_out_of_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
