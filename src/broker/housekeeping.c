/* What a shard does from time to time: retention of its partitions, a few at a time so that requests are not
 * held up, and the gauges. */
#define LOG_MODULE "broker"
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/hosted.h"
#include "broker/node_state.h"

enum { GAUGES_MS = 1000, TIDY_MS = 2000, SLICE = 16, SLICE_PAUSE_MS = 2, TIDY_SLICE = 512 };

/* ---- blocks that retention emptied: the coordinator takes them out of the metadata, then has their files
 * removed ---- */

static void on_dropped(void *ctx, int error, const char *sentence)
{
    if (error)
        log_limited(LOG_WARN, "emptied blocks stay in the metadata for now: %s", sentence);
}

static void run_drop_back(struct shard *shard, struct shard_message *message)
{
    CONTAINER_OF(message, struct broker_shard, drop)->drop_sent = false;
}

static void run_drop(struct shard *shard, struct shard_message *message)
{
    struct broker_shard *bs = CONTAINER_OF(message, struct broker_shard, drop);

    if (broker_is_dead(bs->node))
        return;
    if (bs->node->coord)
        coord_drop_blocks(bs->node->coord, bs->drop_topic, bs->drop_partition, bs->drop_seq, on_dropped,
                          NULL);
    bs->drop.run = run_drop_back;
    shard_send(bs->shard, &bs->drop);
}

/* One partition at a time; others are seen again in the next pass. */
static void ask_to_drop(struct broker_shard *bs, const struct hosted *hosted, size_t count)
{
    if (bs->drop_sent || count == 0 || count >= hosted->seq_count)
        return;
    bs->drop_sent = true;
    bs->drop_topic = hosted->route->topic->id;
    bs->drop_partition = hosted->route->number;
    bs->drop_seq = hosted->seqs[count - 1];
    bs->drop.run = run_drop;
    shard_send(bs->node->shard[0].shard, &bs->drop);
}

static void retain(struct broker_shard *bs, struct hosted *hosted, int64_t now_ms)
{
    size_t empty = 0;
    int error;

    if (!hosted->partition || !hosted->serving)
        return;
    error = partition_apply_retention(hosted->partition, now_ms, &empty);
    if (error)
        log_limited(LOG_WARN, "%s/%s: retention could not remove old messages: %s",
                    hosted->route->topic->name, hosted->route->name, error_sentence(error));
    else
        ask_to_drop(bs, hosted, empty);
}

static void retain_slice(struct broker_shard *bs)
{
    int64_t now_ms = io_loop_wall_ms(bs->shard->loop);

    for (unsigned i = 0; i < SLICE && bs->retention_at != &bs->hosted; i++) {
        struct hosted *hosted = CONTAINER_OF(bs->retention_at, struct hosted, link);

        bs->retention_at = bs->retention_at->next;
        retain(bs, hosted, now_ms);
    }
    if (bs->retention_at == &bs->hosted)
        bs->retention_at = NULL;
}

/* ---- folders of deleted partitions ---- */

struct tidy {
    struct list link;
    struct uuid topic;
    uint32_t partition;
};

/* Without memory the empty folders stay, which does no harm. */
void housekeeping_tidy_later(struct broker_shard *bs, struct uuid topic, uint32_t partition)
{
    struct tidy *tidy = mem_alloc(sizeof(*tidy));

    if (!tidy)
        return;
    tidy->topic = topic;
    tidy->partition = partition;
    list_push_back(&bs->tidy, &tidy->link);
    bs->tidy_next_ns = io_loop_now_ns(bs->shard->loop) + IO_MS(TIDY_MS);
}

void housekeeping_free(struct broker_shard *bs)
{
    while (!list_empty(&bs->tidy))
        mem_free(CONTAINER_OF(list_pop_front(&bs->tidy), struct tidy, link));
}

/* The store moves a deleted block aside, makes that durable in the folder it lay in, then removes it: as long
 * as one lies aside (its name begins with a dot), no folder may go. */
static bool some_lie_aside(struct io_fs *fs)
{
    char **names;
    size_t count;
    bool some = false;

    if (io_fs_list(fs, "data", &names, &count))
        return true;
    for (size_t i = 0; i < count; i++)
        some = some || names[i][0] == '.';
    io_fs_free_names(names, count);
    return some;
}

static void remove_empty_folders(struct broker_shard *bs)
{
    struct io_fs *fs = store_folder_fs(bs->node->folder);

    if (some_lie_aside(fs))
        return;
    for (unsigned i = 0; i < TIDY_SLICE && !list_empty(&bs->tidy); i++) {
        struct tidy *tidy = CONTAINER_OF(list_pop_front(&bs->tidy), struct tidy, link);
        char id[33], path[80];

        uuid_format(tidy->topic, id);
        snprintf(path, sizeof(path), "data/%s/%u", id, tidy->partition);
        io_fs_remove_dir(fs, path);
        snprintf(path, sizeof(path), "data/%s", id);
        io_fs_remove_dir(fs, path); /* fails while the topic has other partitions here */
        mem_free(tidy);
    }
}

static void set_gauges(struct broker_shard *bs)
{
    int64_t failed = 0, bytes = 0;

    LIST_FOR_EACH(item, &bs->hosted) {
        const struct hosted *hosted = CONTAINER_OF(item, struct hosted, link);

        failed += !hosted->partition || partition_error(hosted->partition);
        if (hosted->partition)
            bytes += (int64_t)partition_size(hosted->partition);
    }
    metric_set(bs->metrics.failed_partitions, failed);
    metric_set(bs->metrics.log_bytes, bytes);
    metric_set(bs->metrics.disk_full, store_is_full(bs->store));
}

static void tick(struct io_timer *timer)
{
    struct broker_shard *bs = timer->ctx;
    uint64_t now_ns = io_loop_now_ns(bs->shard->loop), next_ns;

    if (broker_is_dead(bs->node))
        return;
    /* In the place just left, before others take it; setting it right below cannot fail then. */
    (void)io_timer_start(bs->shard->loop, timer, IO_MS(GAUGES_MS));
    if (now_ns >= bs->gauges_next_ns) {
        set_gauges(bs);
        if (bs == &bs->node->shard[0])
            node_tick(bs->node);
        scrub_tick(bs);
        bs->gauges_next_ns = now_ns + IO_MS(GAUGES_MS);
    }
    if (now_ns >= bs->tidy_next_ns && !list_empty(&bs->tidy)) {
        remove_empty_folders(bs);
        bs->tidy_next_ns = now_ns + IO_MS(TIDY_MS);
    }
    if (now_ns >= bs->retention_next_ns) {
        bs->retention_next_ns = now_ns + IO_MS(bs->tuning.retention_check_ms);
        if (!bs->retention_at)
            bs->retention_at = bs->hosted.next;
    }
    if (bs->retention_at)
        retain_slice(bs);
    next_ns = bs->gauges_next_ns < bs->retention_next_ns ? bs->gauges_next_ns : bs->retention_next_ns;
    (void)io_timer_start(bs->shard->loop, timer, bs->retention_at ? IO_MS(SLICE_PAUSE_MS) : next_ns - now_ns);
}

int housekeeping_start(struct broker_shard *bs)
{
    uint64_t now_ns = io_loop_now_ns(bs->shard->loop);

    set_gauges(bs);
    bs->gauges_next_ns = now_ns + IO_MS(GAUGES_MS);
    bs->retention_next_ns = now_ns + IO_MS(bs->tuning.retention_check_ms);
    bs->housekeeping = (struct io_timer){.fire = tick, .ctx = bs};
    return io_timer_start(bs->shard->loop, &bs->housekeeping, IO_MS(GAUGES_MS));
}

void housekeeping_retune(struct broker_shard *bs)
{
    uint64_t latest_ns = io_loop_now_ns(bs->shard->loop) + IO_MS(bs->tuning.retention_check_ms);

    if (bs->retention_next_ns > latest_ns)
        bs->retention_next_ns = latest_ns; /* the tick comes once a second at least */
}

void housekeeping_stop(struct broker_shard *bs)
{
    io_timer_stop(bs->shard->loop, &bs->housekeeping);
    bs->retention_at = NULL;
}
