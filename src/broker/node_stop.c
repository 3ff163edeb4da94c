/* A node's end: first no new work, then answers for what is under way, then the metadata, then the logs. And
 * its death: all memory freed with nothing left running. */
#define LOG_MODULE "broker"
#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/handlers.h"
#include "broker/hosted.h"
#include "broker/local_broker.h"
#include "broker/node_state.h"
#include "broker/request.h"

enum { POLL_MS = 10, ROUNDS_MS = 5000 };

static void flush_shard(struct broker_shard *bs)
{
    stage_done(bs, 0);
}

static void on_flushed(struct broker_node *node)
{
    node->stop_done(node->stop_ctx, node->stop_error,
                    node->stop_error ? error_sentence(node->stop_error) : "");
}

/* ---- logs ---- */

static void on_shards_closed(struct broker_node *node)
{
    stage_begin(node, flush_shard, on_flushed); /* answers that partitions gave while closing come home */
}

static void close_shard(struct broker_shard *bs)
{
    hosted_close_all(bs);
    if (bs->store)
        store_close(bs->store);
    bs->store = NULL;
    stage_done(bs, 0);
}

static void on_shards_synced(struct broker_node *node)
{
    /* Logs that failed were told of when they did; what was acknowledged of the others is on disk. */
    if (node->stage_error == CLYMQ_ELOG_FAILED)
        log_warn("some logs had failed before: see above, check the disk, then run clymq fsck");
    else
        node->stop_error = node->stage_error;
    stage_begin(node, close_shard, on_shards_closed);
}

static void on_store_stopped(void *ctx, int error)
{
    struct broker_shard *bs = ctx;

    if (!broker_is_dead(bs->node))
        stage_done(bs, error);
}

static void sync_store(struct broker_shard *bs)
{
    if (bs->store)
        store_stop(bs->store, on_store_stopped, bs);
    else
        stage_done(bs, 0);
}

static void sync_shard(struct broker_shard *bs)
{
    housekeeping_stop(bs);
    scrub_stop(bs, sync_store);
}

/* ---- metadata ---- */

static void wait_for_rounds(struct io_timer *timer)
{
    struct broker_node *node = timer->ctx;
    struct io_loop *loop = node->shard[0].shard->loop;

    if (broker_is_dead(node))
        return;
    if (local_broker_pending(node->local) && io_loop_now_ns(loop) < node->timer_deadline_ns &&
        io_timer_start(loop, timer, IO_MS(POLL_MS)) == 0)
        return;
    stage_begin(node, sync_shard, on_shards_synced);
}

static void close_coordinator(struct broker_node *node)
{
    struct coord *coord = node->coord;
    struct meta *meta = node->meta;

    local_broker_disconnect(node->local);
    node->coord = NULL; /* requests that come late are told that it shuts down */
    node->meta = NULL;
    if (meta)
        node->config.close_meta(node->config.ctx, meta);
    coord_close(coord);
}

static void on_server_stopped(void *ctx)
{
    struct broker_node *node = ctx;
    struct io_loop *loop = node->shard[0].shard->loop;

    if (broker_is_dead(node) || --node->servers_left > 0)
        return;
    close_coordinator(node);
    io_timer_stop(loop, &node->timer);
    node->timer = (struct io_timer){.fire = wait_for_rounds, .ctx = node};
    node->timer_deadline_ns = io_loop_now_ns(loop) + IO_MS(ROUNDS_MS);
    wait_for_rounds(&node->timer);
}

/* ---- connections ---- */

static void on_drained(struct broker_node *node)
{
    struct net_server *servers[] = {node->broker_server, node->coordinator_server};

    node->servers_left = 1;
    for (unsigned i = 0; i < 2; i++)
        if (servers[i]) {
            node->servers_left++;
            net_server_stop(servers[i], node->grace_ms, on_server_stopped, node);
        }
    on_server_stopped(node);
}

static void drain_shard(struct broker_shard *bs)
{
    broker_refuse_early(bs);
    pull_batch_end_waits(bs, 0, CLYMQ_ESHUTDOWN);
    hosted_drain_all(bs);
    stage_done(bs, 0);
}

static void run_stop(struct shard *shard, struct shard_message *message)
{
    struct broker_node *node = CONTAINER_OF(message, struct broker_node, stop_message);

    if (broker_is_dead(node))
        return;
    node->stopping = true;
    node->serving = false;
    stage_begin(node, drain_shard, on_drained);
}

void broker_node_stop(struct broker_node *node, int64_t grace_ms, broker_node_done done, void *ctx)
{
    node->grace_ms = grace_ms;
    node->stop_done = done;
    node->stop_ctx = ctx;
    node->stop_message.run = run_stop;
    shard_send(node->shard[0].shard, &node->stop_message);
}

/* ---- death ---- */

static void close_dead_shard(struct broker_shard *bs)
{
    io_timer_stop(bs->shard->loop, &bs->housekeeping);
    io_timer_stop(bs->shard->loop, &bs->scrub.timer);
    scrub_free(&bs->scrub);
    hosted_close_all(bs);
    if (bs->store)
        store_close(bs->store);
}

static void free_shard(struct broker_shard *bs)
{
    while (!list_empty(&bs->requests))
        request_free(CONTAINER_OF(bs->requests.next, struct request, link));
    early_calls_free(&bs->early);
    housekeeping_free(bs);
    catalog_free(&bs->catalog);
}

void broker_node_free(struct broker_node *node)
{
    if (!node)
        return;
    node->dead = true;
    for (unsigned i = 0; i < node->shard_count; i++) {
        answer_gate_close(&node->shard[i].answer_gate);
        pull_turns_end(&node->shard[i].pull_turns);
        pull_turns_end(&node->shard[i].batch_turns);
    }
    net_server_free(node->broker_server); /* first: it gives back ranges that it was sending */
    net_server_free(node->coordinator_server);
    if (node->shard_count)
        io_timer_stop(node->shard[0].shard->loop, &node->timer);
    if (node->meta)
        node->config.close_meta(node->config.ctx, node->meta);
    coord_close(node->coord);
    for (unsigned i = 0; i < node->shard_count; i++)
        close_dead_shard(&node->shard[i]); /* partitions hold requests of all shards */
    for (unsigned i = 0; i < node->shard_count; i++)
        free_shard(&node->shard[i]);
    local_broker_free(node->local);
    node_reloads_free(node);
    node_config_free(&node->config);
    mem_free(node->shard);
    mem_free(node);
}
