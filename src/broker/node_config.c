/* A node's configuration: defaults, a copy with texts of its own, and the part of it that is reloaded, which
 * travels from shard to shard. */
#include "base/error.h"
#include "base/mem.h"
#include "broker/hosted.h"
#include "broker/node_state.h"

void broker_node_config_defaults(struct broker_node_config *config)
{
    *config = (struct broker_node_config){
        .max_batch_bytes = 16 << 20,
        .push_wait_ms = 30000,
        .pull_wait_max_ms = 60000,
        .max_waiting_bytes = 8 << 20,
        .producer_expiry_ms = 7LL * 24 * 3600 * 1000,
        .retention_ms = -1,
        .retention_bytes = -1,
        .retention_check_ms = 60000,
        .scrub_every_ms = 24LL * 3600 * 1000,
    };
    net_limits_defaults(&config->limits);
    store_config_defaults(&config->store);
}

/* The texts of a configuration, so that copying and freeing name them once. */
#define TEXTS(T)                                                                                             \
    T(broker_id)                                                                                             \
    T(rack)                                                                                                  \
    T(broker_listen)                                                                                         \
    T(coordinator_listen)                                                                                    \
    T(advertise_broker)                                                                                      \
    T(advertise_coordinator)                                                                                 \
    T(metadata_root)

void node_config_free(struct broker_node_config *config)
{
#define T(name) mem_free((char *)config->name);
    TEXTS(T)
#undef T
}

int node_config_copy(const struct broker_node_config *config, struct broker_node_config *ret_copy)
{
    struct broker_node_config copy = *config;
    bool failed = false;

    if (!copy.rack)
        copy.rack = "";
    if (!copy.metadata_root)
        copy.metadata_root = "/ClyMQ";
#define T(name)                                                                                              \
    if (copy.name) {                                                                                         \
        copy.name = failed ? NULL : mem_strdup(copy.name);                                                   \
        failed = failed || !copy.name;                                                                       \
    }
    TEXTS(T)
#undef T
    if (failed) {
        node_config_free(&copy);
        return CLYMQ_ENOMEM;
    }
    *ret_copy = copy;
    return 0;
}

struct broker_tuning node_config_tuning(const struct broker_node_config *config)
{
    return (struct broker_tuning){
        .max_batch_bytes = config->max_batch_bytes,
        .push_wait_ms = config->push_wait_ms,
        .pull_wait_max_ms = config->pull_wait_max_ms,
        .max_waiting_bytes = config->max_waiting_bytes,
        .producer_expiry_ms = config->producer_expiry_ms,
        .retention_ms = config->retention_ms,
        .retention_bytes = config->retention_bytes,
        .retention_check_ms = config->retention_check_ms,
        .scrub_bytes_per_s = config->scrub_bytes_per_s,
        .scrub_every_ms = config->scrub_every_ms,
    };
}

/* ---- reloading ---- */

struct reload {
    struct shard_message message;
    struct list link;
    struct broker_node *node;
    struct broker_tuning tuning;
    unsigned next;
};

static void run_reload_end(struct shard *shard, struct shard_message *message)
{
    struct reload *reload = CONTAINER_OF(message, struct reload, message);

    if (broker_is_dead(reload->node))
        return;
    list_remove(&reload->link);
    mem_free(reload);
}

static void run_reload(struct shard *shard, struct shard_message *message)
{
    struct reload *reload = CONTAINER_OF(message, struct reload, message);
    struct broker_node *node = reload->node;
    struct broker_shard *bs = broker_shard_of(node, shard);

    if (broker_is_dead(node))
        return;
    if (shard->id == 0)
        list_push_back(&node->reloads, &reload->link);
    bs->tuning = reload->tuning;
    hosted_retune(bs);
    housekeeping_retune(bs);
    if (bs->phase == BROKER_READY)
        scrub_set(bs, bs->tuning.scrub_bytes_per_s, bs->tuning.scrub_every_ms);
    reload->message.run = ++reload->next < node->shard_count ? run_reload : run_reload_end;
    shard_send(node->shard[reload->next < node->shard_count ? reload->next : 0].shard, &reload->message);
}

int broker_node_reload(struct broker_node *node, const struct broker_node_config *config)
{
    struct reload *reload = mem_zalloc(sizeof(*reload));

    if (!reload)
        return CLYMQ_ENOMEM;
    reload->node = node;
    reload->tuning = node_config_tuning(config);
    reload->message.run = run_reload;
    shard_send(node->shard[0].shard, &reload->message);
    return 0;
}

void node_reloads_free(struct broker_node *node)
{
    while (!list_empty(&node->reloads))
        mem_free(CONTAINER_OF(list_pop_front(&node->reloads), struct reload, link));
}
