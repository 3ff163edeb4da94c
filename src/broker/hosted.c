/* Between the coordinator's words (topics, names, chains) and the partition's (files, configuration). */
#define LOG_MODULE "broker"
#include "broker/hosted.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

enum { SHOWN_MS = 10000 };

#define SPEC_FMT       "%.*s/%.*s"
#define SPEC_ARG(spec) (int)(spec)->topic.len, (spec)->topic.ptr, (int)(spec)->name.len, (spec)->name.ptr

static int64_t option(int64_t of_topic, int64_t of_server)
{
    return of_topic == COORD_OPTION_UNSET ? of_server : of_topic;
}

static struct partition_config config_of(const struct broker_shard *bs, const struct hosted *hosted)
{
    const struct broker_tuning *tuning = &bs->tuning;

    return (struct partition_config){
        .topic = hosted->route->topic->id,
        .number = hosted->route->number,
        .ack_level = hosted->ack,
        .retention_ms = option(hosted->topic_config.retention_ms, tuning->retention_ms),
        .retention_bytes = option(hosted->topic_config.retention_bytes, tuning->retention_bytes),
        .segment_bytes = option(hosted->topic_config.segment_bytes, 0),
        .segment_ms = option(hosted->topic_config.segment_ms, 0),
        .max_batch_bytes = tuning->max_batch_bytes,
        .push_wait_ms = tuning->push_wait_ms,
        .max_waiting_bytes = tuning->max_waiting_bytes,
        .producer_expiry_ms = tuning->producer_expiry_ms,
        .faults = bs->node->config.partition_faults,
    };
}

static struct partition_block block_of(const struct hosted_spec *spec, const struct coord_block *block)
{
    return (struct partition_block){
        .key = {.topic = spec->topic_id, .partition = spec->number, .seq = block->seq, .id = block->id},
        .start = block->start,
        .end = block->state == COORD_BLOCK_SEALED ? block->end : -1,
        .base_epoch = (int32_t)block->base_epoch,
    };
}

/* The blocks that hold or take messages, up to the one of id `last` where that is given; freed by the caller.
 */
static int chain_of(const struct hosted_spec *spec, const struct uuid *last,
                    struct partition_block **ret_blocks, size_t *ret_count)
{
    struct partition_block *blocks = mem_calloc(spec->chain_count + 1, sizeof(*blocks));
    size_t count = 0;

    if (!blocks)
        return CLYMQ_ENOMEM;
    for (size_t i = 0; i < spec->chain_count; i++) {
        const struct coord_block *block = &spec->chain[i];

        if (block->state == COORD_BLOCK_DELETED || block->state == COORD_BLOCK_CREATING)
            continue;
        blocks[count++] = block_of(spec, block);
        if (last && uuid_equal(block->id, *last))
            break;
    }
    *ret_blocks = blocks;
    *ret_count = count;
    return 0;
}

static struct hosted *find(struct broker_shard *bs, const struct hosted_spec *spec)
{
    struct catalog_route *route =
        catalog_find(&bs->catalog, spec->topic, spec->name, catalog_hash(spec->topic, spec->name));

    if (!route || route->number != spec->number || !uuid_equal(route->topic->id, spec->topic_id))
        return NULL;
    return route->hosted;
}

static void forget(struct broker_shard *bs, struct hosted *hosted)
{
    if (bs->retention_at == &hosted->link)
        bs->retention_at = hosted->link.next;
    scrub_forget(bs, hosted);
    list_remove(&hosted->link);
    hosted->route->hosted = NULL;
    mem_free(hosted->seqs);
    mem_free(hosted);
}

static int find_or_add(struct broker_shard *bs, const struct hosted_spec *spec, struct hosted **ret_hosted)
{
    struct hosted *hosted = find(bs, spec);
    int error;

    if (!hosted) {
        hosted = mem_zalloc(sizeof(*hosted));
        if (!hosted)
            return CLYMQ_ENOMEM;
        error = catalog_add(&bs->catalog, spec->topic, spec->topic_id, spec->name, spec->number,
                            bs->shard->id, &hosted->route);
        if (error) {
            mem_free(hosted);
            return error;
        }
        hosted->route->hosted = hosted;
        list_push_back(&bs->hosted, &hosted->link);
    }
    hosted->ack = spec->ack;
    hosted->topic_config = spec->config;
    *ret_hosted = hosted;
    return 0;
}

static int note_chain(struct hosted *hosted, const struct partition_block *blocks, size_t count)
{
    uint32_t *seqs = mem_realloc(hosted->seqs, count * sizeof(*seqs));

    if (!seqs)
        return CLYMQ_ENOMEM;
    for (size_t i = 0; i < count; i++)
        seqs[i] = blocks[i].key.seq;
    hosted->seqs = seqs;
    hosted->seq_count = (uint32_t)count;
    return 0;
}

/* Opens the partition, or gives the chain to the one that is open. */
static int open_chain(struct broker_shard *bs, const struct hosted_spec *spec, struct hosted *hosted,
                      const struct partition_block *blocks, size_t count)
{
    struct partition_config config = config_of(bs, hosted);
    struct block_recovery recovery = {0};
    int error;

    if (count == 0)
        return CLYMQ_ENOENT;
    if ((error = note_chain(hosted, blocks, count)))
        return error;
    if (hosted->partition) {
        partition_set_config(hosted->partition, &config);
        return partition_adopt_chain(hosted->partition, blocks, count);
    }
    error = partition_open(bs->store, bs->shard, &config, blocks, count, &hosted->partition, &recovery);
    metric_add(bs->metrics.recovered_bytes, (int64_t)recovery.bytes_read);
    if (error) {
        hosted->error = error;
        log_limited(LOG_ERROR, SPEC_FMT " cannot be opened: %s", SPEC_ARG(spec), error_sentence(error));
        return error;
    }
    hosted->error = 0;
    if (recovery.bytes_cut || recovery.indexes_rebuilt)
        log_info(SPEC_FMT " recovered: %" PRIu64 " bytes read, a torn tail of %" PRIu64
                          " bytes cut, %u indexes made again",
                 SPEC_ARG(spec), recovery.bytes_read, recovery.bytes_cut, recovery.indexes_rebuilt);
    if (recovery.damaged)
        log_error(SPEC_FMT
                  " is damaged from offset %" PRId64
                  " on: messages below it can be pulled, pushes are refused; stop the broker and run "
                  "clymq fsck on its data folder",
                  SPEC_ARG(spec), recovery.damaged_offset);
    return 0;
}

void hosted_open_block(struct broker_shard *bs, const struct hosted_spec *spec,
                       const struct coord_block *block, struct partition_creation *creation)
{
    creation->block = block_of(spec, block);
    creation->block.end = -1;
    partition_create_block_later(bs->store, creation);
}

static void set_serving(struct broker_shard *bs, struct hosted *hosted, bool serving)
{
    if (serving != hosted->serving)
        metric_add(bs->metrics.partitions, serving ? 1 : -1);
    hosted->serving = serving;
}

int hosted_serve(struct broker_shard *bs, const struct hosted_spec *spec)
{
    struct partition_block *blocks MEM_CLEANUP = NULL;
    struct hosted *hosted;
    size_t count;
    int error = chain_of(spec, NULL, &blocks, &count);

    if (error || (error = find_or_add(bs, spec, &hosted)))
        return error;
    return open_chain(bs, spec, hosted, blocks, count);
}

void hosted_take_requests(struct broker_shard *bs, const struct hosted_spec *spec)
{
    struct hosted *hosted = find(bs, spec);

    if (hosted && hosted->partition)
        set_serving(bs, hosted, true);
    broker_run_waiting(bs, catalog_hash(spec->topic, spec->name));
}

bool hosted_is_decided(const struct catalog_route *route)
{
    const struct hosted *hosted = route ? route->hosted : NULL;

    /* Other shards than the owner's learn of a partition when it takes requests. */
    return route && (!hosted || hosted->serving || hosted->deleted || hosted->error);
}

bool hosted_wait_shown(struct broker_shard *bs, const struct hosted_spec *spec, struct partition_pull *pull)
{
    struct hosted *hosted = find(bs, spec);

    if (!hosted || !hosted->partition || partition_error(hosted->partition) ||
        partition_watermark(hosted->partition) >= partition_end(hosted->partition))
        return false;
    pull->offset = partition_watermark(hosted->partition);
    pull->max_bytes = 1;
    pull->min_bytes = 1;
    pull->wait_ms = SHOWN_MS;
    partition_pull(hosted->partition, pull);
    return true;
}

void hosted_seal_block(struct broker_shard *bs, const struct hosted_spec *spec,
                       const struct coord_block *block, void (*done)(void *ctx, int error, int64_t end),
                       void *ctx)
{
    struct partition_block *blocks MEM_CLEANUP = NULL;
    struct hosted *hosted;
    size_t count;
    int error = chain_of(spec, &block->id, &blocks, &count);

    if (!error)
        error = find_or_add(bs, spec, &hosted);
    if (!error && !hosted->partition)
        error = open_chain(bs, spec, hosted, blocks, count);
    if (error) {
        done(ctx, error, -1);
        return;
    }
    partition_seal(hosted->partition, done, ctx);
}

int hosted_check(struct broker_shard *bs, const struct hosted_spec *spec)
{
    struct hosted *hosted = find(bs, spec);
    int error;

    if (!hosted || !hosted->partition)
        return CLYMQ_EAGAIN;
    error = partition_error(hosted->partition);
    return error && error != CLYMQ_ECORRUPT ? CLYMQ_ELOG_FAILED : error;
}

/* Removes a block that no open partition holds. One that cannot be read must not stay for that. */
static int delete_closed_block(struct broker_shard *bs, const struct block_key *key)
{
    struct block_recovery recovery;
    struct block *block;
    int error = block_open(bs->store, key, NULL, &block, &recovery);

    if (error == CLYMQ_ENOENT)
        return 0;
    if (error == CLYMQ_EBUSY || error == CLYMQ_ENOMEM || error == CLYMQ_ELIMIT) /* it passes */
        return error;
    if (error)
        return block_delete_unopened(bs->store, key);
    error = block_delete(block);
    if (error)
        block_close(block);
    return error;
}

int hosted_delete_block(struct broker_shard *bs, const struct hosted_spec *spec,
                        const struct coord_block *block)
{
    struct partition_block *blocks MEM_CLEANUP = NULL, gone = block_of(spec, block);
    struct hosted *hosted = find(bs, spec);
    size_t count;
    int error = block_is_being_created(bs->store, spec->topic_id, spec->number)
                    ? CLYMQ_EBUSY
                    : chain_of(spec, NULL, &blocks, &count);

    if (error)
        return error;
    for (size_t i = 0; i < count; i++)
        if (uuid_equal(blocks[i].key.id, block->id)) {
            memmove(&blocks[i], &blocks[i + 1], (count - i - 1) * sizeof(*blocks));
            count--;
            break;
        }
    if (hosted && hosted->partition && count > 0) {
        if ((error = note_chain(hosted, blocks, count)) ||
            (error = partition_adopt_chain(hosted->partition, blocks, count)))
            return error;
    }
    return delete_closed_block(bs, &gone.key);
}

/* What no list names any more: files of blocks that were begun and never recorded. The blocks that were
 * deleted lie elsewhere already and go by and by; the empty folders are for housekeeping. */
static int remove_unnamed(struct broker_shard *bs, const struct hosted_spec *spec)
{
    struct io_fs *fs = store_folder_fs(bs->node->folder);
    char id[33], path[400];
    char **names;
    size_t count;
    int error;

    uuid_format(spec->topic_id, id);
    snprintf(path, sizeof(path), "data/%s/%u", id, spec->number);
    error = io_fs_list(fs, path, &names, &count);
    if (error)
        return error == CLYMQ_ENOENT ? 0 : error;
    for (size_t i = 0; i < count && !error; i++) {
        snprintf(path, sizeof(path), "data/%s/%u/%s", id, spec->number, names[i]);
        error = io_fs_remove_tree(fs, path);
    }
    io_fs_free_names(names, count);
    if (!error)
        housekeeping_tidy_later(bs, spec->topic_id, spec->number);
    return error;
}

int hosted_delete(struct broker_shard *bs, const struct hosted_spec *spec)
{
    struct hosted *hosted = find(bs, spec);
    int error = 0;

    /* By a call of before this coordinator's activation: it would make what is being removed. */
    if (block_is_being_created(bs->store, spec->topic_id, spec->number))
        return CLYMQ_EBUSY;
    if (hosted) {
        struct catalog_route *route = hosted->route;

        hosted->deleted = true;
        set_serving(bs, hosted, false);
        if (hosted->partition)
            error = partition_delete(hosted->partition);
        forget(bs, hosted);
        catalog_remove(&bs->catalog, route);
    }
    for (size_t i = 0; i < spec->chain_count && !error; i++) {
        struct partition_block block = block_of(spec, &spec->chain[i]);

        error = delete_closed_block(bs, &block.key);
    }
    return error ? error : remove_unnamed(bs, spec);
}

void hosted_update_config(struct broker_shard *bs, struct bytes topic, struct uuid topic_id,
                          const struct coord_topic_config *config)
{
    struct catalog_topic *known = catalog_find_topic(&bs->catalog, topic);

    if (!known || !uuid_equal(known->id, topic_id))
        return;
    LIST_FOR_EACH(item, &known->routes) {
        struct hosted *hosted = CONTAINER_OF(item, struct catalog_route, link)->hosted;

        if (!hosted)
            continue;
        hosted->topic_config = *config;
        if (hosted->partition) {
            struct partition_config changed = config_of(bs, hosted);

            partition_set_config(hosted->partition, &changed);
        }
    }
}

void hosted_retune(struct broker_shard *bs)
{
    LIST_FOR_EACH(item, &bs->hosted) {
        struct hosted *hosted = CONTAINER_OF(item, struct hosted, link);

        if (hosted->partition) {
            struct partition_config changed = config_of(bs, hosted);

            partition_set_config(hosted->partition, &changed);
        }
    }
}

void hosted_drain_all(struct broker_shard *bs)
{
    LIST_FOR_EACH(item, &bs->hosted) {
        struct hosted *hosted = CONTAINER_OF(item, struct hosted, link);

        if (hosted->partition)
            partition_drain(hosted->partition);
    }
}

void hosted_close_all(struct broker_shard *bs)
{
    while (!list_empty(&bs->hosted)) {
        struct hosted *hosted = CONTAINER_OF(bs->hosted.next, struct hosted, link);

        set_serving(bs, hosted, false);
        if (hosted->partition)
            partition_close(hosted->partition);
        forget(bs, hosted);
    }
}
