/* The coordinator's calls as messages that travel from shard to shard. */
#include "broker/local_broker.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "broker/hosted.h"
#include "store/block.h"

/* What a shard is asked to do while it puts partitions into service, in the order it was asked: recovery of
 * each reads for milliseconds, and between two of them the shard answers for those that it has. Belongs to
 * its shard. */
struct turn_queue {
    struct shard_tail tail;
    struct list rounds; /* struct round, by turn */
    struct broker_shard *bs;
};

struct local_broker {
    struct broker_node *node;
    struct list rounds; /* struct round */
    size_t pending;
    bool disconnected;
    struct turn_queue turns[]; /* one a shard */
};

enum round_kind {
    ROUND_OPEN,
    ROUND_SERVE,
    ROUND_SEAL,
    ROUND_CHECK,
    ROUND_DELETE_BLOCK,
    ROUND_DELETE,
    ROUND_CONFIG
};

struct round {
    struct shard_message message;
    struct list link, turn;
    struct local_broker *local;
    enum round_kind kind;
    unsigned owner, next; /* next: the shard to visit after the owner */
    coord_broker_done done;
    void *ctx;
    int error;
    int64_t end;
    struct coord_block block;
    union {
        struct partition_pull shown;        /* serving: waits until what recovery kept is shown */
        struct partition_creation creation; /* opening */
    };
    struct hosted_spec spec; /* points into what follows */
    uint8_t data[];          /* chain, topic, name */
};

static void round_home(struct shard *shard, struct shard_message *message)
{
    struct round *round = CONTAINER_OF(message, struct round, message);
    struct local_broker *local = round->local;

    if (broker_is_dead(local->node))
        return;
    list_remove(&round->link);
    local->pending--;
    if (!local->disconnected)
        round->done(round->ctx, round->error, round->end);
    mem_free(round);
}

static int publish(struct broker_shard *bs, const struct round *round)
{
    const struct hosted_spec *spec = &round->spec;
    struct catalog_route *route;

    if (round->kind == ROUND_SERVE) {
        int error = catalog_add(&bs->catalog, spec->topic, spec->topic_id, spec->name, spec->number,
                                round->owner, &route);

        if (!error && !round->error)
            broker_run_waiting(bs, route->hash);
        return error;
    }
    if (round->kind == ROUND_CONFIG) {
        hosted_update_config(bs, spec->topic, spec->topic_id, &spec->config);
        return 0;
    }
    assert(round->kind == ROUND_DELETE);
    route = catalog_find(&bs->catalog, spec->topic, spec->name, catalog_hash(spec->topic, spec->name));
    if (route && route->number == spec->number && uuid_equal(route->topic->id, spec->topic_id))
        catalog_remove(&bs->catalog, route);
    return 0;
}

static void round_visit(struct shard *shard, struct shard_message *message);

static void round_go_on(struct round *round)
{
    struct broker_node *node = round->local->node;
    bool tells_all = round->kind == ROUND_SERVE || round->kind == ROUND_DELETE || round->kind == ROUND_CONFIG;

    if (round->next == round->owner)
        round->next++;
    if (tells_all && round->next < node->shard_count) {
        round->message.run = round_visit;
        shard_send(node->shard[round->next++].shard, &round->message);
        return;
    }
    round->message.run = round_home;
    shard_send(node->shard[0].shard, &round->message);
}

static void take_turn(struct broker_shard *bs, struct round *round)
{
    struct turn_queue *queue = &round->local->turns[bs->shard->id];

    list_push_back(&queue->rounds, &round->turn);
    shard_at_tail(bs->shard, &queue->tail);
}

static bool must_queue(const struct broker_shard *bs, const struct round *round)
{
    return !list_empty(&round->local->turns[bs->shard->id].rounds);
}

static void visit(struct broker_shard *bs, struct round *round)
{
    int error = publish(bs, round);

    if (!round->error)
        round->error = error;
    round_go_on(round);
}

static void round_visit(struct shard *shard, struct shard_message *message)
{
    struct round *round = CONTAINER_OF(message, struct round, message);
    struct broker_shard *bs = broker_shard_of(round->local->node, shard);

    if (broker_is_dead(bs->node))
        return;
    /* What is about partitions of other shards need not wait for those of this one. */
    if (round->kind == ROUND_CONFIG && must_queue(bs, round))
        take_turn(bs, round);
    else
        visit(bs, round);
}

static void on_sealed(void *ctx, int error, int64_t end)
{
    struct round *round = ctx;

    if (broker_is_dead(round->local->node))
        return;
    round->error = error;
    round->end = end;
    round_go_on(round);
}

static void on_created(struct partition_creation *creation, int error)
{
    struct round *round = creation->ctx;

    if (broker_is_dead(round->local->node))
        return;
    round->error = error;
    round_go_on(round);
}

static void on_deleted(void *ctx, int error)
{
    struct round *round = ctx;

    if (broker_is_dead(round->local->node))
        return;
    round->error = error;
    round_go_on(round);
}

/* The metadata forget what was deleted once this round is over; a power loss must not bring it back then.
 * false: there is nothing to wait for. */
static bool wait_deleted(struct broker_shard *bs, struct round *round)
{
    const struct hosted_spec *spec = &round->spec;

    if (!round->error)
        round->error = block_sync_deletions(bs->store, spec->topic_id, spec->number, on_deleted, round);
    return !round->error;
}

/* ---- putting into service ---- */

static void served(struct round *round)
{
    struct broker_shard *bs = &round->local->node->shard[round->owner];

    if (!round->error)
        hosted_take_requests(bs, &round->spec);
    round_go_on(round);
}

static void on_shown(struct partition_pull *shown)
{
    struct round *round = shown->ctx;

    if (shown->range.ref)
        block_range_release(&shown->range);
    if (!broker_is_dead(round->local->node))
        served(round);
}

static void serve(struct broker_shard *bs, struct round *round)
{
    round->error = hosted_serve(bs, &round->spec);
    round->shown = (struct partition_pull){.done = on_shown, .ctx = round};
    if (!hosted_wait_shown(bs, &round->spec, &round->shown))
        served(round);
}

static void work(struct broker_shard *bs, struct round *round)
{
    if (!bs->store) {
        round->error = CLYMQ_ESHUTDOWN;
        round->next = round->local->node->shard_count; /* nobody else needs to be told */
        round_go_on(round);
        return;
    }
    switch (round->kind) {
    case ROUND_OPEN:
        round->creation = (struct partition_creation){.done = on_created, .ctx = round};
        hosted_open_block(bs, &round->spec, &round->block, &round->creation);
        return;
    case ROUND_SERVE:
        serve(bs, round);
        return;
    case ROUND_SEAL:
        hosted_seal_block(bs, &round->spec, &round->block, on_sealed, round);
        return;
    case ROUND_CHECK:
        round->error = hosted_check(bs, &round->spec);
        break;
    case ROUND_DELETE_BLOCK:
        round->error = hosted_delete_block(bs, &round->spec, &round->block);
        if (wait_deleted(bs, round))
            return;
        break;
    case ROUND_DELETE:
        round->error = hosted_delete(bs, &round->spec);
        if (wait_deleted(bs, round))
            return;
        break;
    case ROUND_CONFIG:
        hosted_update_config(bs, round->spec.topic, round->spec.topic_id, &round->spec.config);
        break;
    }
    round_go_on(round);
}

static void next_turn(struct shard_tail *tail)
{
    struct turn_queue *queue = tail->ctx;
    struct broker_shard *bs = queue->bs;
    struct list *turn = broker_is_dead(bs->node) ? NULL : list_pop_front(&queue->rounds);
    struct round *round;

    if (!turn)
        return;
    if (!list_empty(&queue->rounds))
        shard_at_tail(bs->shard, tail);
    round = CONTAINER_OF(turn, struct round, turn);
    if (round->owner == bs->shard->id)
        work(bs, round);
    else
        visit(bs, round);
}

static void round_work(struct shard *shard, struct shard_message *message)
{
    struct round *round = CONTAINER_OF(message, struct round, message);
    struct broker_shard *bs = broker_shard_of(round->local->node, shard);

    if (broker_is_dead(bs->node))
        return;
    if (round->kind == ROUND_SERVE || must_queue(bs, round))
        take_turn(bs, round);
    else
        work(bs, round);
}

static struct round *round_new(struct local_broker *local, enum round_kind kind, const char *topic,
                               struct uuid topic_id, const char *name, const struct coord_block *chain,
                               size_t chain_count)
{
    size_t topic_len = strlen(topic), name_len = strlen(name), chain_len = chain_count * sizeof(*chain);
    struct round *round = mem_zalloc(sizeof(*round) + chain_len + topic_len + name_len);
    uint8_t *at;

    if (!round)
        return NULL;
    at = round->data;
    if (chain_len)
        memcpy(at, chain, chain_len);
    memcpy(at + chain_len, topic, topic_len);
    memcpy(at + chain_len + topic_len, name, name_len);
    round->local = local;
    round->kind = kind;
    round->end = -1;
    round->spec = (struct hosted_spec){
        .topic = {at + chain_len, topic_len},
        .name = {at + chain_len + topic_len, name_len},
        .topic_id = topic_id,
        .chain = (const struct coord_block *)(const void *)at,
        .chain_count = chain_count,
    };
    list_push_back(&local->rounds, &round->link);
    list_init(&round->turn);
    local->pending++;
    return round;
}

static void round_start(struct round *round, coord_broker_done done, void *ctx)
{
    round->done = done;
    round->ctx = ctx;
    round->message.run = round_work;
    shard_send(round->local->node->shard[round->owner].shard, &round->message);
}

static void start(void *broker, enum round_kind kind, const struct coord_partition_spec *partition,
                  const struct coord_block *block, coord_broker_done done, void *ctx)
{
    struct local_broker *local = broker;
    struct round *round = round_new(local, kind, partition->topic, partition->topic_id, partition->name,
                                    partition->chain, partition->chain_count);

    if (!round) {
        done(ctx, CLYMQ_ENOMEM, -1);
        return;
    }
    round->owner = catalog_owner(partition->topic_id, partition->number, local->node->shard_count);
    round->spec.number = partition->number;
    round->spec.ack = (int8_t)partition->ack;
    round->spec.config = *partition->config;
    if (block)
        round->block = *block;
    round_start(round, done, ctx);
}

static void open_block(void *broker, const struct coord_partition_spec *partition,
                       const struct coord_block *block, coord_broker_done done, void *ctx)
{
    start(broker, ROUND_OPEN, partition, block, done, ctx);
}

static void serve_partition(void *broker, const struct coord_partition_spec *partition,
                            coord_broker_done done, void *ctx)
{
    start(broker, ROUND_SERVE, partition, NULL, done, ctx);
}

/* The round number fences coordinators of other processes; here there is one, and its calls come in order. */
static void seal_block(void *broker, const struct coord_partition_spec *partition,
                       const struct coord_block *block, uint32_t number, coord_broker_done done, void *ctx)
{
    start(broker, ROUND_SEAL, partition, block, done, ctx);
}

static void check_partition(void *broker, const struct coord_partition_spec *partition,
                            coord_broker_done done, void *ctx)
{
    start(broker, ROUND_CHECK, partition, NULL, done, ctx);
}

static void delete_block(void *broker, const struct coord_partition_spec *partition,
                         const struct coord_block *block, coord_broker_done done, void *ctx)
{
    start(broker, ROUND_DELETE_BLOCK, partition, block, done, ctx);
}

static void delete_partition(void *broker, const struct coord_partition_spec *partition,
                             coord_broker_done done, void *ctx)
{
    start(broker, ROUND_DELETE, partition, NULL, done, ctx);
}

static void update_config(void *broker, const char *topic, struct uuid topic_id,
                          const struct coord_topic_config *config, coord_broker_done done, void *ctx)
{
    struct round *round = round_new(broker, ROUND_CONFIG, topic, topic_id, "", NULL, 0);

    if (!round) {
        done(ctx, CLYMQ_ENOMEM, -1);
        return;
    }
    round->spec.config = *config;
    round_start(round, done, ctx);
}

const struct coord_broker_ops local_broker_ops = {
    .open_block = open_block,
    .serve_partition = serve_partition,
    .seal_block = seal_block,
    .check_partition = check_partition,
    .delete_block = delete_block,
    .delete_partition = delete_partition,
    .update_config = update_config,
};

struct local_broker *local_broker_new(struct broker_node *node)
{
    struct local_broker *local = mem_zalloc(sizeof(*local) + node->shard_count * sizeof(local->turns[0]));

    if (!local)
        return NULL;
    local->node = node;
    list_init(&local->rounds);
    for (unsigned i = 0; i < node->shard_count; i++) {
        struct turn_queue *queue = &local->turns[i];

        queue->bs = &node->shard[i];
        queue->tail.run = next_turn;
        queue->tail.ctx = queue;
        list_init(&queue->tail.link);
        list_init(&queue->rounds);
    }
    return local;
}

size_t local_broker_pending(const struct local_broker *local)
{
    return local->pending;
}

void local_broker_disconnect(struct local_broker *local)
{
    local->disconnected = true;
}

void local_broker_free(struct local_broker *local)
{
    if (!local)
        return;
    for (unsigned i = 0; i < local->node->shard_count; i++)
        list_remove(&local->turns[i].tail.link); /* armed still, where the node dies */
    while (!list_empty(&local->rounds))
        mem_free(CONTAINER_OF(list_pop_front(&local->rounds), struct round, link));
    mem_free(local);
}
