/* Whole batches: see batcher.h. */
#include "sim/batcher.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "sim/caller.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/value.h"
#include "wire/batch.h"

enum { WINDOW = 3, COUNT_MAX = 12 };

struct sending {
    struct batcher *batcher;
    bool busy;
    uint32_t first; /* message */
    unsigned count;
};

struct batcher {
    struct run *run;
    uint16_t client;
    unsigned pause_ms;
    struct caller caller;
    struct io_timer timer;
    struct sending sendings[WINDOW];
};

static void finish(struct sending *sending, enum message_state state, int64_t base_offset, const char *detail)
{
    sending->busy = false;
    for (unsigned i = 0; i < sending->count; i++)
        history_end(sending->batcher->run->history, sending->first + i, state,
                    base_offset < 0 ? -1 : base_offset + i, detail);
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct sending *sending = ctx;
    const struct rpc_push_batch_response *response = answer->response;
    enum caller_verdict verdict = caller_judge(answer);

    if (verdict != CALLER_ANSWERED)
        finish(sending, verdict == CALLER_REFUSED ? MESSAGE_REFUSED : MESSAGE_UNCERTAIN, -1,
               caller_text(answer));
    else if (!response->error)
        finish(sending, MESSAGE_ACKED, response->base_offset, "");
    else /* partition.h: all others say that the batch is and will be in no log */
        finish(sending,
               response->error == CLYMQ_EUNCERTAIN || response->error == CLYMQ_ETIMEDOUT ? MESSAGE_UNCERTAIN
                                                                                         : MESSAGE_REFUSED,
               -1, error_name(response->error));
}

static struct buf *build(struct sending *sending)
{
    static uint8_t value[VALUE_SIZE_MAX];
    struct batcher *batcher = sending->batcher;
    struct history *history = batcher->run->history;
    struct rng *rng = &batcher->run->rng;
    struct batch_builder builder;
    struct buf *batch;
    int64_t now_ms = io_loop_wall_ms(batcher->run->loop);
    int error = batch_builder_init(&builder, 0);

    for (unsigned i = 0; i < sending->count && !error; i++) {
        history_write_value(history, sending->first + i, value);
        error = batch_builder_add(&builder, now_ms + rng_between(rng, -1000, 1000),
                                  rng_chance(rng, 1, 2) ? bytes_of(value, 8) : bytes_of(NULL, 0),
                                  bytes_of(value, history->messages[sending->first + i].size), NULL, 0);
    }
    if (!error)
        error =
            batch_builder_finish(&builder, (enum batch_compression)rng_below(rng, BATCH_ZSTD + 1), 0, &batch);
    assert(!error);
    batch_builder_free(&builder);
    return batch;
}

static void push_batch(struct sending *sending)
{
    struct batcher *batcher = sending->batcher;
    struct history *history = batcher->run->history;
    struct rng *rng = &batcher->run->rng;
    struct message_plan plan = {
        .slot = &history->slots[rng_below(rng, history->slot_count)],
        .client = batcher->client,
        .once = true,
    };
    uint64_t drawn = rng_below(rng, 10);

    plan.ack = drawn < 6 ? -1 : drawn < 9 ? 1 : 0;
    sending->busy = true;
    sending->count = 1 + (unsigned)rng_below(rng, COUNT_MAX);
    for (unsigned i = 0; i < sending->count; i++) {
        plan.size = VALUE_SIZE_MIN + (uint32_t)rng_below(rng, 300);
        uint32_t message = history_begin(history, &plan);
        if (i == 0)
            sending->first = message;
    }
    struct buf *batch = build(sending);
    struct slice payload = {batch->data, batch->len, batch};
    struct rpc_push_batch_request request = {
        .topic = bytes_of_text(plan.slot->topic),
        .partition = bytes_of_text(plan.slot->partition),
        .ack = plan.ack,
        .batch = {NULL, batch->len},
    };
    int error = caller_call(&batcher->caller, RPC_METHOD_PUSH_BATCH, &request, &payload,
                            rng_between(rng, 200, 8000), on_answer, sending);
    buf_unref(batch);
    if (error)
        finish(sending, MESSAGE_REFUSED, -1, error_name(error));
    for (unsigned i = 0; i < sending->count && !error; i++)
        history->messages[sending->first + i].link = batcher->caller.links;
}

static void on_timer(struct io_timer *timer)
{
    struct batcher *batcher = CONTAINER_OF(timer, struct batcher, timer);

    for (unsigned i = 0; i < WINDOW; i++)
        if (!batcher->sendings[i].busy) {
            push_batch(&batcher->sendings[i]);
            break;
        }
    io_timer_start(batcher->run->loop, &batcher->timer, run_draw_ms(batcher->run, 1, batcher->pause_ms));
}

struct batcher *batcher_new(struct run *run, uint16_t client, unsigned pause_ms)
{
    struct batcher *batcher = run_alloc(sizeof(*batcher));

    batcher->run = run;
    batcher->client = client;
    batcher->pause_ms = pause_ms;
    batcher->caller = (struct caller){.run = run, .address = MACHINE_BROKER_ADDRESS};
    for (unsigned i = 0; i < WINDOW; i++)
        batcher->sendings[i].batcher = batcher;
    batcher->timer.fire = on_timer;
    io_timer_start(run->loop, &batcher->timer, run_draw_ms(run, 0, pause_ms));
    return batcher;
}

void batcher_stop(struct batcher *batcher)
{
    io_timer_stop(batcher->run->loop, &batcher->timer);
}

bool batcher_is_idle(const struct batcher *batcher)
{
    for (unsigned i = 0; i < WINDOW; i++)
        if (batcher->sendings[i].busy)
            return false;
    return true;
}

void batcher_free(struct batcher *batcher)
{
    if (!batcher)
        return;
    batcher_stop(batcher);
    caller_close(&batcher->caller);
    mem_free(batcher);
}
