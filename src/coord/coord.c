/* The coordinator's life: opening, gaining and losing the role, closing; and the small things every part
 * uses. */
#define LOG_MODULE "coord"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/coordinator.h"

static void coord_at_tail(struct shard_tail *tail);
static void coord_sweep(struct io_timer *timer);

static void coord_free(struct coord *coord)
{
    list_remove(&coord->tail.link);
    if (io_timer_armed(&coord->sweep))
        io_timer_stop(coord->shard->loop, &coord->sweep);
    task_board_free(&coord->board);
    op_free_queues(coord);
    if (coord->registry_there)
        registry_free(&coord->registry);
    mem_free(coord->root);
    mem_free(coord->name);
    mem_free(coord->address);
    mem_free(coord->epoch_path);
    mem_free(coord);
}

int coord_open(const struct coord_config *config, struct coord **ret_coord)
{
    if (config->root[0] != '/' || config->root[1] == '\0')
        return CLYMQ_EINVAL;
    struct coord *coord = mem_zalloc(sizeof(*coord));
    if (!coord)
        return CLYMQ_ENOMEM;
    coord->shard = config->shard;
    coord->meta = config->meta;
    coord->config = *config;
    if (!coord->config.max_topics)
        coord->config.max_topics = 100000;
    if (!coord->config.max_topic_partitions)
        coord->config.max_topic_partitions = 20000;
    if (!coord->config.max_partitions)
        coord->config.max_partitions = 200000;
    if (!coord->config.broker_calls)
        coord->config.broker_calls = 512;
    if (!coord->config.retry_ms)
        coord->config.retry_ms = 1000;
    if (!coord->config.removal_wait_ms)
        coord->config.removal_wait_ms = 3000;
    task_board_init(&coord->board);
    list_init(&coord->tail.link);
    coord->tail.run = coord_at_tail;
    coord->tail.ctx = coord;
    coord->sweep.fire = coord_sweep;
    coord->sweep.ctx = coord;
    coord->root = mem_strdup(config->root);
    coord->name = mem_strdup(config->name ? config->name : "");
    coord->address = mem_strdup(config->address ? config->address : "");
    coord->queues = map_new();
    coord->epoch_path = coord->root ? coord_path(coord, "/CoordinatorEpoch") : NULL;
    if (!coord->name || !coord->address || !coord->queues || !coord->epoch_path) {
        coord_free(coord);
        return CLYMQ_ENOMEM;
    }
    *ret_coord = coord;
    return 0;
}

bool coord_is_active(const struct coord *coord)
{
    return coord->state == COORD_ACTIVE && !coord->losing;
}

int64_t coord_epoch(const struct coord *coord)
{
    return coord_is_active(coord) ? coord->epoch : 0;
}

void coord_wake(struct coord *coord)
{
    if (!coord->closed)
        shard_at_tail(coord->shard, &coord->tail);
}

void coord_lose(struct coord *coord, int error, const char *format, ...)
{
    if (coord->losing || coord->closed || (coord->state != COORD_ACTIVE && coord->state != COORD_ACTIVATING))
        return;
    va_list args;
    va_start(args, format);
    vsnprintf(coord->losing_text, sizeof(coord->losing_text), format, args);
    va_end(args);
    coord->losing = error;
    coord_wake(coord);
}

/* Every operation is answered, then the owner is told; any of these may close the coordinator. */
static void lose_now(struct coord *coord)
{
    coord->state = COORD_LOST;
    coord->lost_error = coord->losing;
    memcpy(coord->lost_text, coord->losing_text, sizeof(coord->lost_text));
    coord->losing = 0;
    log_warn("the coordinator's role is lost: %s", coord->lost_text);
    task_board_drop(&coord->board, coord->lost_error);
    if (coord->closed)
        return;
    if (coord->registry_there)
        registry_free(&coord->registry);
    coord->registry_there = false;
    io_timer_stop(coord->shard->loop, &coord->sweep);
    if (coord->config.on_lost)
        coord->config.on_lost(coord->config.ctx, coord->lost_error, coord->lost_text);
}

static void coord_at_tail(struct shard_tail *tail)
{
    struct coord *coord = tail->ctx;
    coord->depth++;
    while (!coord->closed) {
        task_board_run(coord);
        if (coord->closed || !coord->losing)
            break;
        lose_now(coord);
    }
    if (--coord->depth == 0 && coord->closed)
        coord_free(coord);
}

void coord_close(struct coord *coord)
{
    if (!coord)
        return;
    assert(!coord->closed);
    coord->closed = true;
    coord->depth++;
    task_board_drop(&coord->board, CLYMQ_ESHUTDOWN);
    if (--coord->depth == 0)
        coord_free(coord);
}

struct uuid coord_new_id(struct coord *coord)
{
    struct uuid id;
    do
        io_loop_random(coord->shard->loop, id.byte, sizeof(id.byte));
    while (uuid_is_none(id));
    return id;
}

struct txn coord_txn(const struct coord *coord)
{
    struct txn txn = {0};
    txn_begin(&txn, coord->epoch_path, coord->epoch_version);
    return txn;
}

/* ---- partitions whose driver could not be made ---- */

static void coord_sweep(struct io_timer *timer)
{
    struct coord *coord = timer->ctx;
    if (coord->state == COORD_ACTIVE)
        coord_resume(coord);
}

void coord_sweep_later(struct coord *coord)
{
    /* Without memory for the timer the next tick tries again. */
    coord->sweep_waits = !io_timer_armed(&coord->sweep) && io_timer_start(coord->shard->loop, &coord->sweep,
                                                                          IO_MS(coord->config.retry_ms)) != 0;
}

void coord_tick(struct coord *coord)
{
    if (coord->sweep_waits)
        coord_sweep_later(coord);
}

/* ---- paths ---- */

char *coord_path(const struct coord *coord, const char *format, ...)
{
    char text[META_PATH_MAX + 1];
    int len = snprintf(text, sizeof(text), "%s", coord->root);
    if (len < 0 || (size_t)len >= sizeof(text))
        return NULL;
    va_list args;
    va_start(args, format);
    vsnprintf(text + len, sizeof(text) - (size_t)len, format, args);
    va_end(args);
    return mem_strdup(text);
}

char *path_topic(const struct coord *coord, const char *topic)
{
    return coord_path(coord, "/Topics/%s", topic);
}

char *path_partitions(const struct coord *coord, const char *topic)
{
    return coord_path(coord, "/Topics/%s/Partitions", topic);
}

char *path_partition(const struct coord *coord, const struct registry_partition *partition)
{
    return coord_path(coord, "/Topics/%s/Partitions/%s", partition->topic->name, partition->name);
}

char *path_blocks(const struct coord *coord, const struct registry_partition *partition)
{
    return coord_path(coord, "/Topics/%s/Partitions/%s/Blocks", partition->topic->name, partition->name);
}

char *path_block(const struct coord *coord, const struct registry_partition *partition, uint32_t seq)
{
    return coord_path(coord, "/Topics/%s/Partitions/%s/Blocks/%u", partition->topic->name, partition->name,
                      seq);
}

char *path_copy(const struct coord *coord, const struct registry_partition *partition, uint32_t seq,
                const char *broker)
{
    return coord_path(coord, "/Topics/%s/Partitions/%s/Blocks/%u/%s", partition->topic->name, partition->name,
                      seq, broker);
}
