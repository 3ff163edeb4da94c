/* The simulated cluster of the client's tests: see fake_cluster.h. */
#include "fake_cluster.h"

#include <stdlib.h>

enum { OK_NEW = 1, OK_REPEAT = 2, LONG_BYTES = 2 << 20 };

/* A push that is acted on later. */
struct fake_delayed {
    struct list link;
    struct io_timer timer; /* not armed: it follows the one before on its connection */
    struct fake_server *server;
    struct net_call *call;
    uint64_t conn_id;
};

static bool chance(struct fake_cluster *cluster, unsigned per_10000)
{
    return per_10000 && rng_below(&cluster->rng, 10000) < per_10000;
}

struct fake_partition *fake_find(struct fake_cluster *cluster, struct bytes name)
{
    for (size_t i = 0; i < cluster->partition_count; i++)
        if (bytes_equal(bytes_of_text(cluster->partitions[i].name), name))
            return &cluster->partitions[i];
    return NULL;
}

void fake_append(struct fake_partition *partition, const void *data, size_t len)
{
    if (partition->count == partition->cap) {
        partition->cap = partition->cap * 2 + 64;
        partition->batches = mem_realloc(partition->batches, partition->cap * sizeof(*partition->batches));
        assert_non_null(partition->batches);
    }
    struct fake_batch *batch = &partition->batches[partition->count++];
    batch->data = buf_new(len);
    assert_non_null(batch->data);
    memcpy(batch->data->data, data, len);
    batch->data->len = len;
    batch_assign(batch->data->data, partition->end, 1);
    assert_int_equal(batch_read_header(bytes_of(batch->data->data, len), UINT32_MAX, &batch->header), 0);
    partition->end = batch_last_offset(&batch->header) + 1;
}

static void append_control(struct fake_partition *partition)
{
    struct batch_builder builder;
    struct buf *data;
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    builder.attributes = BATCH_CONTROL;
    assert_int_equal(
        batch_builder_add(&builder, 1, BYTES_LITERAL("\0\0\0\0"), BYTES_LITERAL("\0\0"), NULL, 0), 0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &data), 0);
    fake_append(partition, data->data, data->len);
    buf_unref(data);
}

static struct fake_producer *producer_find(struct fake_partition *partition, int64_t id)
{
    for (size_t i = 0; i < partition->producer_count; i++)
        if (partition->producers[i].id == id)
            return &partition->producers[i];
    return NULL;
}

/* The rules of partition/producers.h. OK_NEW, OK_REPEAT with the offset, or an error. */
static int sequence_check(struct fake_partition *partition, const struct batch_header *header,
                          int64_t *ret_offset)
{
    if (header->producer_id < 0)
        return OK_NEW;
    struct fake_producer *producer = producer_find(partition, header->producer_id);
    if (!producer || producer->known == 0 || header->producer_epoch > producer->epoch)
        return header->base_sequence == 0 ? OK_NEW : CLYMQ_ESEQUENCE;
    if (header->producer_epoch < producer->epoch)
        return CLYMQ_EFENCED;
    if (header->base_sequence == producer->batches[0].last + 1)
        return OK_NEW;
    for (int i = 0; i < producer->known; i++) {
        if (producer->batches[i].first == header->base_sequence &&
            producer->batches[i].last == header->base_sequence + header->last_offset_delta) {
            *ret_offset = producer->batches[i].offset;
            return OK_REPEAT;
        }
    }
    return CLYMQ_ESEQUENCE;
}

static void sequence_note(struct fake_partition *partition, const struct batch_header *header, int64_t offset)
{
    if (header->producer_id < 0)
        return;
    struct fake_producer *producer = producer_find(partition, header->producer_id);
    if (!producer) {
        assert_true(partition->producer_count < FAKE_PRODUCERS);
        producer = &partition->producers[partition->producer_count++];
        *producer = (struct fake_producer){.id = header->producer_id};
    }
    if (producer->epoch != header->producer_epoch)
        producer->known = 0;
    producer->epoch = header->producer_epoch;
    memmove(&producer->batches[1], &producer->batches[0], (FAKE_KNOWN - 1) * sizeof(producer->batches[0]));
    producer->batches[0].first = header->base_sequence;
    producer->batches[0].last = header->base_sequence + header->last_offset_delta;
    producer->batches[0].offset = offset;
    if (producer->known < FAKE_KNOWN)
        producer->known++;
}

/* ---- handlers ---- */

static void push_answer(struct net_call *call, int error, int64_t offset, bool duplicate)
{
    struct rpc_push_batch_response response = {
        .error = error,
        .err = bytes_of_text(error ? error_sentence(error) : ""),
        .base_offset = error ? -1 : offset,
        .duplicate = duplicate,
    };
    net_call_answer(call, &response, NULL);
}

static void push_answer_long(struct net_call *call)
{
    uint8_t *text = mem_zalloc(LONG_BYTES);
    assert_non_null(text);
    struct rpc_push_batch_response response = {.err = bytes_of(text, LONG_BYTES)};
    net_call_answer(call, &response, NULL);
    mem_free(text);
}

static void push_act(struct fake_server *server, struct net_call *call)
{
    static const int passing[] = {CLYMQ_EAGAIN, CLYMQ_ENOSPC, CLYMQ_ELIMIT, CLYMQ_EPARTITION_REMOVED,
                                  CLYMQ_ENOT_LEADER};
    static const int open[] = {CLYMQ_ETIMEDOUT, CLYMQ_EUNCERTAIN, CLYMQ_ESHUTDOWN};
    struct fake_cluster *cluster = server->cluster;
    struct rpc_push_batch_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    if (!cluster->topic_exists || !bytes_equal(request.topic, bytes_of_text(cluster->topic))) {
        push_answer(call, CLYMQ_ETOPIC_UNKNOWN, -1, false);
        return;
    }
    struct fake_partition *partition = fake_find(cluster, request.partition);
    if (!partition) {
        push_answer(call, CLYMQ_EPARTITION_UNKNOWN, -1, false);
        return;
    }
    if (cluster->push_error_count > 0) {
        cluster->push_error_count--;
        int error = *cluster->push_errors++;
        if (error) {
            push_answer(call, error, -1, false);
            return;
        }
    }
    if (chance(cluster, cluster->faults.move))
        partition->leader = (partition->leader + 1) % FAKE_SERVERS;
    if (&cluster->servers[partition->leader] != server) {
        push_answer(call, CLYMQ_ENOT_LEADER, -1, false);
        return;
    }
    if (chance(cluster, cluster->faults.forget))
        partition->producer_count = 0;
    if (chance(cluster, cluster->faults.refuse)) {
        push_answer(call, passing[rng_below(&cluster->rng, 5)], -1, false);
        return;
    }
    if (chance(cluster, cluster->faults.reject)) {
        push_answer(call, CLYMQ_EDENIED, -1, false);
        return;
    }
    if (cluster->faults.size_max && request.batch.len > cluster->faults.size_max) {
        push_answer(call, CLYMQ_ETOOBIG, -1, false);
        return;
    }
    struct batch_header header;
    assert_int_equal(batch_validate(request.batch, 64 << 20, 256 << 20, &header), 0);
    int64_t offset;
    int verdict = sequence_check(partition, &header, &offset);
    if (verdict == OK_NEW) {
        if (chance(cluster, cluster->faults.control))
            append_control(partition);
        offset = partition->end;
        sequence_note(partition, &header, offset);
        fake_append(partition, request.batch.ptr, request.batch.len);
    }
    if (verdict < 0)
        push_answer(call, verdict, -1, false);
    else if (chance(cluster, cluster->faults.long_push))
        push_answer_long(call);
    else if (chance(cluster, cluster->faults.unsure))
        push_answer(call, open[rng_below(&cluster->rng, 3)], -1, false);
    else
        push_answer(call, 0, offset, verdict == OK_REPEAT);
}

/* The first push held back of a connection; NULL = none. */
static struct fake_delayed *delayed_find(struct fake_server *server, uint64_t conn_id)
{
    LIST_FOR_EACH(at, &server->delayed) {
        struct fake_delayed *delayed = CONTAINER_OF(at, struct fake_delayed, link);
        if (delayed->conn_id == conn_id)
            return delayed;
    }
    return NULL;
}

/* Pushes of one connection are acted on in order, as a real server does. */
static void delayed_fire(struct io_timer *timer)
{
    struct fake_delayed *first = timer->ctx;
    struct fake_server *server = first->server;
    uint64_t conn_id = first->conn_id;
    struct fake_delayed *delayed = first;
    do {
        list_remove(&delayed->link);
        push_act(server, delayed->call);
        mem_free(delayed);
        delayed = delayed_find(server, conn_id);
    } while (delayed && !io_timer_armed(&delayed->timer));
}

static void handle_push(struct fake_server *server, struct net_call *call)
{
    struct fake_cluster *cluster = server->cluster;
    cluster->pushes++;
    bool follows = delayed_find(server, net_call_conn_id(call)) != NULL;
    if (!follows && !chance(cluster, cluster->faults.delay)) {
        push_act(server, call);
        return;
    }
    struct fake_delayed *delayed = mem_zalloc(sizeof(*delayed));
    delayed->server = server;
    delayed->call = call;
    delayed->conn_id = net_call_conn_id(call);
    delayed->timer = (struct io_timer){.fire = delayed_fire, .ctx = delayed};
    list_push_back(&server->delayed, &delayed->link);
    if (!follows)
        assert_int_equal(io_timer_start(server->loop, &delayed->timer, IO_MS(rng_below(&cluster->rng, 3000))),
                         0);
}

static void handle_pull(struct fake_server *server, struct net_call *call)
{
    struct fake_cluster *cluster = server->cluster;
    struct rpc_pull_batch_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    cluster->pulls++;
    if (request.max_bytes > cluster->pull_max_bytes)
        cluster->pull_max_bytes = request.max_bytes;
    struct fake_partition *partition = fake_find(cluster, request.partition);
    struct rpc_pull_batch_response response = {0};
    struct buf *data = NULL;
    if (!cluster->topic_exists || !partition)
        response.error = cluster->topic_exists ? CLYMQ_EPARTITION_UNKNOWN : CLYMQ_ETOPIC_UNKNOWN;
    else if (chance(cluster, cluster->faults.refuse))
        response.error = CLYMQ_EAGAIN;
    else if (&cluster->servers[partition->leader] != server)
        response.error = CLYMQ_ENOT_LEADER;
    else if (request.offset > partition->end || request.offset < partition->start) {
        response.error = CLYMQ_EOFFSET_RANGE;
        response.log_start = partition->start;
        response.high_watermark = partition->end;
    }
    if (!response.error) {
        size_t at = 0, len = 0, first;
        while (at < partition->count && batch_last_offset(&partition->batches[at].header) < request.offset)
            at++;
        for (first = at; at < partition->count; at++) {
            size_t more = partition->batches[at].data->len;
            if (len && len + more > (size_t)request.max_bytes)
                break;
            len += more;
        }
        data = buf_new(len ? len : 1);
        if (!data) { /* the client's tests of memory that runs out hit the server, too */
            net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_ENOMEM, "%s", error_sentence(CLYMQ_ENOMEM));
            return;
        }
        for (size_t i = first; i < at; i++) {
            memcpy(data->data + data->len, partition->batches[i].data->data, partition->batches[i].data->len);
            data->len += partition->batches[i].data->len;
        }
        response.high_watermark = partition->end;
        response.batches = bytes_of(data->data, data->len);
    }
    response.err = bytes_of_text(response.error ? error_sentence(response.error) : "");
    net_call_answer(call, &response, NULL);
    buf_unref(data);
}

static void handle_list_offset(struct fake_server *server, struct net_call *call)
{
    struct rpc_list_offset_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    struct fake_partition *partition = fake_find(server->cluster, request.partition);
    struct rpc_list_offset_response response = {.err = BYTES_LITERAL(""), .timestamp_ms = -1};
    if (!partition)
        response.error = CLYMQ_EPARTITION_UNKNOWN;
    else if (&server->cluster->servers[partition->leader] != server)
        response.error = CLYMQ_ENOT_LEADER;
    else
        response.offset = request.timestamp_ms == -1 ? partition->end : 0;
    net_call_answer(call, &response, NULL);
}

static void handle_describe(struct fake_server *server, struct net_call *call)
{
    struct fake_cluster *cluster = server->cluster;
    struct rpc_describe_topic_request request;
    assert_int_equal(thrift_decode(call->form.protocol, call->args, 1, call->method->request, &request), 0);
    cluster->describes++;
    struct rpc_describe_topic_response response = {.err = BYTES_LITERAL("")};
    struct strbuf json = {0};
    if (chance(cluster, cluster->faults.fail_describe)) {
        response.error = CLYMQ_EAGAIN;
    } else if (!cluster->topic_exists || !bytes_equal(request.topic, bytes_of_text(cluster->topic))) {
        response.error = CLYMQ_ETOPIC_UNKNOWN;
        response.err = bytes_of_text(error_sentence(response.error));
    } else {
        strbuf_printf(&json, "{\"name\":\"%s\",\"id\":\"00\",\"config\":{},\"partitions\":[", cluster->topic);
        /* Not in the order of their numbers: the client must sort. */
        for (size_t i = cluster->partition_count; i-- > 0;)
            strbuf_printf(
                &json,
                "{\"name\":\"%s\",\"number\":%zu,\"ack\":-1,\"leader\":{\"id\":\"%u\",\"address\":\"%s\"}}%s",
                cluster->partitions[i].name, i, cluster->partitions[i].leader,
                cluster->servers[cluster->partitions[i].leader].address, i ? "," : "");
        strbuf_append_text(&json, "]}");
        if (chance(cluster, cluster->faults.long_describe))
            strbuf_printf(&json, "%*s", LONG_BYTES, "");
    }
    response.topic = bytes_of(json.data, json.len);
    net_call_answer(call, &response, NULL);
    strbuf_free(&json);
}

static void on_call(void *ctx, struct net_call *call)
{
    struct fake_server *server = ctx;
    switch (call->method->id) {
    case RPC_METHOD_PUSH_BATCH:
        handle_push(server, call);
        break;
    case RPC_METHOD_PULL_BATCH:
        handle_pull(server, call);
        break;
    case RPC_METHOD_LIST_OFFSET:
        handle_list_offset(server, call);
        break;
    case RPC_METHOD_DESCRIBE_TOPIC:
        handle_describe(server, call);
        break;
    case RPC_METHOD_CREATE_TOPIC: /* as a server would that knows no numbers */
        net_call_fail(call, THRIFT_INTERNAL_ERROR, 0, "%s", error_sentence(CLYMQ_EEXIST));
        break;
    default:
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_EEXIST,
                      "there is such a thing, or we are shutting down: try again");
    }
}

/* ---- servers ---- */

void fake_server_start(struct fake_server *server)
{
    assert_int_equal(sim_process_loop(server->process, &server->loop), 0);
    server->metrics = metrics_new();
    assert_non_null(server->metrics);
    assert_int_equal(shards_new_on_loops(&server->loop, 1, server->metrics, &server->shards), 0);
    struct net_server_config config = {
        .address = server->address,
        .name = "fake",
        .services = RPC_BROKER | RPC_COORDINATOR,
        .on_call = on_call,
        .ctx = server,
    };
    net_limits_defaults(&config.limits);
    assert_int_equal(net_server_start(server->shards, &config, server->metrics, &server->server), 0);
}

static void server_drop(struct fake_server *server)
{
    struct list *at;
    while ((at = list_pop_front(&server->delayed)) != NULL)
        mem_free(CONTAINER_OF(at, struct fake_delayed, link));
    net_server_free(server->server);
    shards_free(server->shards);
    metrics_free(server->metrics);
    server->server = NULL;
    server->shards = NULL;
    server->metrics = NULL;
    server->loop = NULL;
}

void fake_server_crash(struct fake_server *server)
{
    if (!server->loop)
        return;
    sim_process_crash(server->process, false);
    server_drop(server);
    sim_process_restart(server->process);
}

void fake_cluster_init(struct fake_cluster *cluster, uint64_t seed, size_t partitions)
{
    *cluster = (struct fake_cluster){.topic_exists = true, .topic = "t"};
    cluster->world = sim_world_new(seed);
    assert_non_null(cluster->world);
    rng_seed(&cluster->rng, seed * 31 + 7);
    struct sim_net_faults faults = {.delay_min_ns = 10000, .delay_max_ns = 2000000};
    sim_world_set_net_faults(cluster->world, &faults);
    cluster->client = sim_process_new(cluster->world, "client");
    for (unsigned i = 0; i < FAKE_SERVERS; i++) {
        struct fake_server *server = &cluster->servers[i];
        char name[16];
        snprintf(name, sizeof(name), "server%u", i);
        snprintf(server->address, sizeof(server->address), "%s:7878", name);
        server->cluster = cluster;
        server->process = sim_process_new(cluster->world, name);
        list_init(&server->delayed);
        fake_server_start(server);
    }
    assert_int_equal(sim_process_loop(cluster->client, &cluster->loop), 0);
    cluster->partition_count = partitions;
    for (size_t i = 0; i < partitions; i++) {
        snprintf(cluster->partitions[i].name, sizeof(cluster->partitions[i].name), "%zu", i);
        cluster->partitions[i].leader = (unsigned)(i % FAKE_SERVERS);
    }
}

void fake_cluster_end(struct fake_cluster *cluster)
{
    for (unsigned i = 0; i < FAKE_SERVERS; i++)
        fake_server_crash(&cluster->servers[i]);
    for (size_t i = 0; i < cluster->partition_count; i++) {
        for (size_t j = 0; j < cluster->partitions[i].count; j++)
            buf_unref(cluster->partitions[i].batches[j].data);
        mem_free(cluster->partitions[i].batches);
    }
    sim_world_free(cluster->world);
}

void fake_cluster_run(struct fake_cluster *cluster, int64_t ms)
{
    sim_world_run_for(cluster->world, IO_MS(ms));
}

bool fake_cluster_run_until(struct fake_cluster *cluster, bool (*done)(void *ctx), void *ctx,
                            int64_t limit_ms)
{
    uint64_t until_ns = sim_world_now_ns(cluster->world) + IO_MS(limit_ms);
    while (!done(ctx)) {
        if (sim_world_now_ns(cluster->world) >= until_ns || !sim_world_step(cluster->world))
            return done(ctx);
    }
    return true;
}
