/* One range of one partition at a time. Between two of them as much time passes as their bytes are worth. */
#define LOG_MODULE "broker"
#include "broker/scrub.h"

#include <inttypes.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "broker/hosted.h"

enum { STEP_BYTES = 256 << 10, PAUSE_MIN_MS = 5, RETRY_MS = 1000 };

static void schedule(struct broker_shard *bs, uint64_t delay_ns)
{
    if (delay_ns < IO_MS(PAUSE_MIN_MS))
        delay_ns = IO_MS(PAUSE_MIN_MS);
    bs->scrub.waits = io_timer_start(bs->shard->loop, &bs->scrub.timer, delay_ns) != 0;
}

void scrub_tick(struct broker_shard *bs)
{
    if (bs->scrub.waits && bs->scrub.bytes_per_s > 0 && !bs->scrub.on_idle)
        schedule(bs, 0);
}

static void pause_for(struct broker_shard *bs, size_t bytes)
{
    schedule(bs, (uint64_t)((double)bytes * 1e9 / (double)bs->scrub.bytes_per_s));
}

static void go_to(struct scrub *scrub, struct list *at)
{
    scrub->at = at;
    scrub->verify = (struct block_verify){0};
}

static void tell_damage(struct broker_shard *bs, const struct hosted *hosted, int64_t offset, int error)
{
    metric_add(bs->metrics.scrub_damaged, 1);
    log_error("%s/%s: the scrub found damage at offset %" PRId64
              " (%s): messages from there to the end of that log file may be lost; stop the broker and run "
              "clymq fsck on its data folder",
              hosted->route->topic->name, hosted->route->name, offset, error_sentence(error));
}

static void check(struct io_work *work)
{
    struct scrub *scrub = CONTAINER_OF(work, struct scrub, work);

    scrub->error = block_verify_check(&scrub->range, &scrub->verify);
}

static bool is_passing(int error)
{
    return error == CLYMQ_ENOMEM || error == CLYMQ_ELIMIT;
}

static void checked(struct io_work *work)
{
    struct scrub *scrub = CONTAINER_OF(work, struct scrub, work);
    struct broker_shard *bs = scrub->work.ctx;
    size_t bytes = scrub->range.len;
    int64_t offset;

    block_range_release(&scrub->range);
    scrub->reading = false;
    if (scrub->on_idle) {
        scrub->on_idle(bs);
        return;
    }
    if (scrub->moved)
        scrub->verify = (struct block_verify){0};
    else if (!scrub->error)
        metric_add(bs->metrics.scrub_bytes, (int64_t)bytes);
    else if (!is_passing(scrub->error)) {
        struct hosted *hosted = CONTAINER_OF(scrub->at, struct hosted, link);

        partition_verify_skip(hosted->partition, &scrub->verify, &offset);
        tell_damage(bs, hosted, offset, scrub->error);
    }
    scrub->moved = false;
    if (scrub->bytes_per_s > 0)
        pause_for(bs, bytes);
}

/* The next range of the partition whose turn it is; false: it is through. */
static bool look(struct broker_shard *bs)
{
    struct scrub *scrub = &bs->scrub;
    struct hosted *hosted = CONTAINER_OF(scrub->at, struct hosted, link);
    int64_t offset = 0;
    int error =
        hosted->partition && hosted->serving
            ? partition_verify_find(hosted->partition, &scrub->verify, STEP_BYTES, &scrub->range, &offset)
            : CLYMQ_ENOENT;

    if (!error) {
        scrub->reading = true;
        scrub->work = (struct io_work){.run = check, .done = checked, .ctx = bs};
        io_loop_work(bs->shard->loop, &scrub->work);
        return true;
    }
    if (error == CLYMQ_ECORRUPT) {
        tell_damage(bs, hosted, offset, error);
        pause_for(bs, STEP_BYTES);
        return true;
    }
    if (error != CLYMQ_ENOENT) { /* a reading of an index or a header failed */
        schedule(bs, IO_MS(RETRY_MS));
        if (!is_passing(error)) {
            partition_verify_skip(hosted->partition, &scrub->verify, &offset);
            tell_damage(bs, hosted, offset, error);
        }
        return true;
    }
    return false;
}

static void tick(struct io_timer *timer)
{
    struct broker_shard *bs = timer->ctx;
    struct scrub *scrub = &bs->scrub;
    uint64_t now_ns = io_loop_now_ns(bs->shard->loop);

    if (broker_is_dead(bs->node))
        return;
    if (!scrub->at) {
        if (now_ns < scrub->next_pass_ns) {
            schedule(bs, scrub->next_pass_ns - now_ns);
            return;
        }
        scrub->next_pass_ns = now_ns + IO_MS((uint64_t)scrub->every_ms);
        go_to(scrub, bs->hosted.next);
    }
    /* Many may be empty: some at a time. */
    for (int i = 0; i < 64 && scrub->at != &bs->hosted; i++) {
        if (look(bs))
            return;
        go_to(scrub, scrub->at->next);
    }
    if (scrub->at == &bs->hosted)
        go_to(scrub, NULL);
    schedule(bs, IO_MS(PAUSE_MIN_MS));
}

void scrub_init(struct scrub *scrub, struct broker_shard *bs)
{
    *scrub = (struct scrub){.timer = {.fire = tick, .ctx = bs}};
}

void scrub_set(struct broker_shard *bs, int64_t bytes_per_s, int64_t every_ms)
{
    struct scrub *scrub = &bs->scrub;
    uint64_t now_ns = io_loop_now_ns(bs->shard->loop);

    scrub->bytes_per_s = bytes_per_s;
    scrub->every_ms = every_ms;
    if (scrub->next_pass_ns > now_ns + IO_MS((uint64_t)every_ms))
        scrub->next_pass_ns = now_ns + IO_MS((uint64_t)every_ms);
    if (bytes_per_s <= 0)
        io_timer_stop(bs->shard->loop, &scrub->timer);
    else if (!scrub->reading && !scrub->on_idle)
        schedule(bs, 0);
}

void scrub_stop(struct broker_shard *bs, void (*on_idle)(struct broker_shard *bs))
{
    struct scrub *scrub = &bs->scrub;

    io_timer_stop(bs->shard->loop, &scrub->timer);
    scrub->on_idle = on_idle;
    scrub->at = NULL;
    if (!scrub->reading)
        on_idle(bs);
}

void scrub_free(struct scrub *scrub)
{
    if (scrub->reading)
        block_range_release(&scrub->range);
    scrub->reading = false;
}

void scrub_forget(struct broker_shard *bs, const struct hosted *hosted)
{
    struct scrub *scrub = &bs->scrub;

    if (scrub->at != &hosted->link)
        return;
    scrub->at = hosted->link.next;
    if (scrub->reading) /* its place is still used by the reader */
        scrub->moved = true;
    else
        scrub->verify = (struct block_verify){0};
}
