/* A node's start, and its life as a coordinator. Its end is in node_stop.c. */
#define LOG_MODULE "broker"
#include "broker/node.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/handlers.h"
#include "broker/hosted.h"
#include "broker/local_broker.h"
#include "broker/node_state.h"
#include "broker/orphans.h"

enum { PROGRESS_MS = 1000, ROLE_RETRY_MS = 1000 };
/* At most what one call makes a handler hold besides its message: a request; and its question to the
 * coordinator. */
enum { REQUEST_BYTES = 512, QUESTION_BYTES = 2560 };
/* What turns count as, in bytes of JSON made: eight of pull in a round, and 32 of pullBatch. */
enum { PULL_COST = 64 << 10, PULL_BATCH_COST = 16 << 10 };

/* ---- stages ---- */

static void stage_back(struct shard *shard, struct shard_message *message)
{
    struct broker_shard *bs = CONTAINER_OF(message, struct broker_shard, stage);
    struct broker_node *node = bs->node;

    if (broker_is_dead(node))
        return;
    if (bs->stage_error && !node->stage_error)
        node->stage_error = bs->stage_error;
    if (--node->stage_left == 0)
        node->stage_then(node);
}

void stage_done(struct broker_shard *bs, int error)
{
    bs->stage_error = error;
    bs->stage.run = stage_back;
    shard_send(bs->node->shard[0].shard, &bs->stage);
}

static void stage_run(struct shard *shard, struct shard_message *message)
{
    struct broker_shard *bs = CONTAINER_OF(message, struct broker_shard, stage);

    if (!broker_is_dead(bs->node))
        bs->node->stage_work(bs);
}

void stage_begin(struct broker_node *node, void (*work)(struct broker_shard *bs),
                 void (*then)(struct broker_node *node))
{
    assert(node->stage_left == 0);
    node->stage_work = work;
    node->stage_then = then;
    node->stage_left = node->shard_count;
    node->stage_error = 0;
    for (unsigned i = 0; i < node->shard_count; i++) {
        node->shard[i].stage.run = stage_run;
        shard_send(node->shard[i].shard, &node->shard[i].stage);
    }
}

/* ---- making ---- */

static int init_shard(struct broker_node *node, struct broker_shard *bs, unsigned id)
{
    bs->node = node;
    bs->shard = shards_get(node->shards, id);
    bs->tuning = node_config_tuning(&node->config);
    list_init(&bs->hosted);
    scrub_init(&bs->scrub, bs);
    list_init(&bs->tidy);
    list_init(&bs->requests);
    early_calls_init(&bs->early);
    for (unsigned i = 0; i < WAIT_BUCKETS; i++)
        list_init(&bs->waits[i]);
    answer_gate_init(&bs->answer_gate, bs->shard,
                     node->config.limits.max_inflight_bytes / 2 / shards_count(node->shards));
    pull_turns_init(&bs->pull_turns, bs->shard, PULL_COST);
    pull_turns_init(&bs->batch_turns, bs->shard, PULL_BATCH_COST);
    int error = catalog_init(&bs->catalog);
    return error ? error : broker_metrics_init(&bs->metrics, node->registry, id);
}

int broker_node_new(const struct broker_node_config *config, struct shards *shards,
                    struct store_folder *folder, struct metrics *metrics, struct broker_node **ret_node)
{
    struct broker_node *node = mem_zalloc(sizeof(*node));
    int error = node ? 0 : CLYMQ_ENOMEM;

    if (error)
        return error;
    node->shards = shards;
    node->folder = folder;
    node->registry = metrics;
    list_init(&node->reloads);
    error = node_config_copy(config, &node->config);
    if (!error) {
        node->shard = mem_calloc(shards_count(shards), sizeof(*node->shard));
        error = node->shard ? 0 : CLYMQ_ENOMEM;
    }
    for (unsigned i = 0; !error && i < shards_count(shards); i++) {
        node->shard_count = i + 1;
        error = init_shard(node, &node->shard[i], i);
    }
    if (!error) {
        node->local = local_broker_new(node);
        error = node->local ? 0 : CLYMQ_ENOMEM;
    }
    if (error) {
        broker_node_free(node);
        return error;
    }
    *ret_node = node;
    return 0;
}

/* ---- start ---- */

static void start_end(struct broker_node *node, int error, const char *sentence)
{
    broker_node_done done = node->start_done;

    io_timer_stop(node->shard[0].shard->loop, &node->timer);
    node->start_done = NULL;
    if (done)
        done(node->start_ctx, error, error && !*sentence ? error_sentence(error) : sentence);
}

static void on_progress(struct io_timer *timer)
{
    struct broker_node *node = timer->ctx;
    int64_t bytes = 0;

    if (broker_is_dead(node))
        return;
    for (unsigned i = 0; i < node->shard_count; i++)
        bytes += metric_value(node->shard[i].metrics.recovered_bytes);
    log_info("starting: %zu partitions in service, %" PRId64 " bytes of logs read",
             node->shard[0].catalog.count, bytes);
    (void)io_timer_start(node->shard[0].shard->loop, timer, IO_MS(PROGRESS_MS)); /* in the place just left */
}

static void retry_role(struct broker_node *node);

static void make_ready(struct broker_shard *bs)
{
    int error = housekeeping_start(bs);

    if (!error)
        scrub_set(bs, bs->tuning.scrub_bytes_per_s, bs->tuning.scrub_every_ms);
    if (!error)
        broker_enter_phase(bs, BROKER_READY);
    stage_done(bs, error);
}

static void on_ready(struct broker_node *node)
{
    node->serving = !node->stage_error;
    start_end(node, node->stage_error, "");
    /* Lost since it registered: nobody was told, since it did not serve yet. */
    if (!broker_is_dead(node) && node->serving && !node->stopping && !coord_is_active(node->coord))
        retry_role(node);
}

static void on_registered(void *ctx, int error, const char *sentence)
{
    struct broker_node *node = ctx;

    if (broker_is_dead(node))
        return;
    if (error) {
        start_end(node, error, sentence);
        return;
    }
    orphans_report(node);
    stage_begin(node, make_ready, on_ready);
}

static void register_broker(struct broker_node *node, coord_done done)
{
    struct coord_broker broker = {
        .id = node->config.broker_id,
        .address = node->broker_advertised,
        .rack = node->config.rack,
        .disk_id = store_folder_disk_id(node->folder),
        .ops = &local_broker_ops,
        .broker = node->local,
    };

    coord_register_broker(node->coord, &broker, done, node);
}

/* Partitions are opened one after the other; those that are open need not wait for the others. */
static void begin_opening(struct broker_shard *bs)
{
    broker_enter_phase(bs, BROKER_OPENING);
    stage_done(bs, 0);
}

static void on_opening(struct broker_node *node)
{
    register_broker(node, on_registered);
}

static void on_activated(void *ctx, int error, const char *sentence)
{
    struct broker_node *node = ctx;

    if (broker_is_dead(node))
        return;
    if (error)
        start_end(node, error, sentence);
    else
        stage_begin(node, begin_opening, on_opening);
}

/* ---- a role that was lost while serving ---- */

static void on_registered_again(void *ctx, int error, const char *sentence)
{
    struct broker_node *node = ctx;

    if (broker_is_dead(node) || node->stopping)
        return;
    if (error) {
        log_error("the broker cannot register again: %s", sentence);
        retry_role(node);
    } else {
        log_info("coordinator again");
    }
}

static void on_activated_again(void *ctx, int error, const char *sentence)
{
    struct broker_node *node = ctx;

    if (broker_is_dead(node) || node->stopping)
        return;
    if (error) {
        log_error("the coordinator's role cannot be taken again: %s", sentence);
        retry_role(node);
    } else {
        register_broker(node, on_registered_again);
    }
}

static void take_role(struct broker_node *node)
{
    node->role_waits = false;
    if (broker_is_dead(node) || node->stopping || !node->coord)
        return;
    if (coord_is_active(node->coord))
        register_broker(node, on_registered_again);
    else
        coord_activate(node->coord, on_activated_again, node);
}

static void on_role_timer(struct io_timer *timer)
{
    take_role(timer->ctx);
}

static void retry_role(struct broker_node *node)
{
    node->timer = (struct io_timer){.fire = on_role_timer, .ctx = node};
    /* Without memory for the timer the next tick does. */
    node->role_waits = io_timer_start(node->shard[0].shard->loop, &node->timer, IO_MS(ROLE_RETRY_MS)) != 0;
}

void node_tick(struct broker_node *node)
{
    if (node->role_waits)
        take_role(node);
    if (node->coord)
        coord_tick(node->coord);
}

static void on_role_lost(void *ctx, int error, const char *sentence)
{
    struct broker_node *node = ctx;

    if (broker_is_dead(node) || node->stopping || !node->serving)
        return;
    log_error("the coordinator's role is lost: %s", sentence);
    if (!io_timer_armed(&node->timer))
        retry_role(node);
}

/* ---- ports and metadata ---- */

static void on_conn_input_end(void *ctx, struct shard *shard, uint64_t connection)
{
    struct broker_node *node = ctx;

    if (!broker_is_dead(node))
        pull_batch_end_waits(broker_shard_of(node, shard), connection, 0);
}

static void on_conn_closed(void *ctx, struct shard *shard, uint64_t connection)
{
    struct broker_node *node = ctx;

    if (!broker_is_dead(node))
        pull_batch_end_waits(broker_shard_of(node, shard), connection, CLYMQ_ECANCELED);
}

/* What clients are told: advertise where it has a port; with the real port where it has none; else the real
 * address. */
static void advertise(char out[300], const char *advertised, const char *real)
{
    const char *port = strrchr(real, ':');
    const char *colon = advertised ? strrchr(advertised, ':') : NULL;
    bool has_port = colon && !strchr(colon, ']');

    if (!advertised)
        snprintf(out, 300, "%s", real);
    else
        snprintf(out, 300, "%s%s", advertised, has_port ? "" : port);
}

static int start_server(struct broker_node *node, const char *name, unsigned services, const char *listen,
                        char out[300], struct net_server **ret_server)
{
    struct net_server_config config = {
        .address = listen,
        .name = name,
        .services = services,
        .limits = node->config.limits,
        .on_call = broker_on_call,
        .on_conn_input_end = on_conn_input_end,
        .on_conn_closed = on_conn_closed,
        .ctx = node,
    };
    int error;

    config.limits.call_bytes = services == RPC_COORDINATOR ? QUESTION_BYTES : REQUEST_BYTES;
    error = net_server_start(node->shards, &config, node->registry, ret_server);
    return error ? error : net_server_address(*ret_server, out, 300);
}

static int start_servers(struct broker_node *node, char *sentence, size_t cap)
{
    const struct broker_node_config *config = &node->config;
    const char *name = "coordinator", *listen = config->coordinator_listen;
    int error = start_server(node, name, RPC_COORDINATOR, listen, node->coordinator_address,
                             &node->coordinator_server);

    if (!error) {
        name = "broker";
        listen = config->broker_listen;
        error = start_server(node, name, RPC_BROKER, listen, node->broker_address, &node->broker_server);
    }
    if (error) {
        snprintf(sentence, cap, "cannot listen on %s (%s): choose another address with --%s-listen", listen,
                 net_listen_problem(error), name);
        return error;
    }
    advertise(node->broker_advertised, config->advertise_broker, node->broker_address);
    advertise(node->coordinator_advertised, config->advertise_coordinator, node->coordinator_address);
    return 0;
}

static int start_coordinator(struct broker_node *node)
{
    struct coord_config config = {
        .shard = node->shard[0].shard,
        .meta = node->meta,
        .root = node->config.metadata_root,
        .name = node->config.broker_id,
        .address = node->coordinator_advertised,
        .on_lost = on_role_lost,
        .ctx = node,
    };

    return coord_open(&config, &node->coord);
}

static void on_shards_open(struct broker_node *node)
{
    struct strbuf text = {0};
    char sentence[512] = "";
    int error = node->stage_error;

    if (!error)
        error = start_servers(node, sentence, sizeof(sentence));
    if (!error) {
        error = node->config.open_meta(node->config.ctx, node->shard[0].shard, &text, &node->meta);
        if (error && text.data)
            snprintf(sentence, sizeof(sentence), "%s", text.data);
    }
    strbuf_free(&text);
    if (!error)
        error = start_coordinator(node);
    if (error)
        start_end(node, error, sentence);
    else
        coord_activate(node->coord, on_activated, node);
}

static void open_shard(struct broker_shard *bs)
{
    struct broker_node *node = bs->node;

    stage_done(bs, store_open(&node->config.store, node->folder, bs->shard, node->registry, &bs->store));
}

static void run_start(struct shard *shard, struct shard_message *message)
{
    struct broker_node *node = CONTAINER_OF(message, struct broker_node, start_message);

    if (broker_is_dead(node))
        return;
    node->timer = (struct io_timer){.fire = on_progress, .ctx = node};
    /* Without memory: no progress lines. */
    (void)io_timer_start(shard->loop, &node->timer, IO_MS(PROGRESS_MS));
    stage_begin(node, open_shard, on_shards_open);
}

void broker_node_start(struct broker_node *node, broker_node_done done, void *ctx)
{
    node->start_done = done;
    node->start_ctx = ctx;
    node->start_message.run = run_start;
    shard_send(node->shard[0].shard, &node->start_message);
}

/* ---- questions ---- */

const char *broker_node_broker_address(const struct broker_node *node)
{
    return node->broker_address;
}

const char *broker_node_coordinator_address(const struct broker_node *node)
{
    return node->coordinator_address;
}

void broker_node_get_state(const struct broker_node *node, struct broker_node_state *ret_state)
{
    *ret_state = (struct broker_node_state){.serving = node->serving};
    for (unsigned i = 0; i < node->shard_count; i++) {
        const struct broker_metrics *metrics = &node->shard[i].metrics;

        ret_state->disk_full = ret_state->disk_full || metric_value(metrics->disk_full);
        ret_state->partitions += (uint64_t)metric_value(metrics->partitions);
        ret_state->failed_partitions += (uint64_t)metric_value(metrics->failed_partitions);
        ret_state->recovered_bytes += (uint64_t)metric_value(metrics->recovered_bytes);
        ret_state->scrub_damaged += (uint64_t)metric_value(metrics->scrub_damaged);
    }
}
