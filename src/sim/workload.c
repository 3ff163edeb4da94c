/* The clients: see workload.h. */
#include "sim/workload.h"

#include <stdio.h>

#include "base/mem.h"
#include "sim/admin.h"
#include "sim/batcher.h"
#include "sim/consumer.h"
#include "sim/history.h"
#include "sim/producer.h"
#include "sim/puller.h"
#include "sim/pusher.h"
#include "sim/tail.h"

enum { PUSHERS = 4, PRODUCERS = 3 };

struct workload {
    struct run *run;
    struct admin *admin;
    struct pusher *pushers[PUSHERS];
    struct batcher *batcher;
    struct producer *producers[PRODUCERS];
    struct tail *tails[HISTORY_SLOTS_MAX];
    struct tail *drains[HISTORY_SLOTS_MAX];
    struct puller *puller;
    struct consumer *consumer;
};

struct workload *workload_new(struct run *run)
{
    struct workload *workload = run_alloc(sizeof(*workload));

    workload->run = run;
    workload->admin = admin_new(run);
    return workload;
}

bool workload_is_ready(const struct workload *workload)
{
    return admin_is_ready(workload->admin);
}

static void begin_pushers(struct workload *workload, uint16_t *client)
{
    struct rng *rng = &workload->run->rng;

    for (unsigned i = 0; i < PUSHERS; i++) {
        struct pusher_plan plan = {
            .client = ++*client,
            .heartbeat = i == 0,
            .session = i == 1 || (i > 1 && rng_chance(rng, 1, 2)),
            .window = 1 + (unsigned)rng_below(rng, 6),
            .pause_ms = (unsigned)rng_between(rng, 200, 1500),
        };

        if (plan.heartbeat)
            plan.pause_ms = 150;
        workload->pushers[i] = pusher_new(workload->run, &plan);
    }
}

void workload_begin(struct workload *workload)
{
    struct run *run = workload->run;
    struct rng *rng = &run->rng;
    uint16_t client = 0;

    begin_pushers(workload, &client);
    workload->batcher = batcher_new(run, ++client, (unsigned)rng_between(rng, 300, 2000));
    for (unsigned i = 0; i < PRODUCERS; i++)
        workload->producers[i] = producer_new(run, ++client, i < 2, (unsigned)rng_between(rng, 300, 2000));
    for (unsigned i = 0; i < run->history->slot_count; i++) {
        struct slot *slot = &run->history->slots[i];
        char name[HISTORY_NAME_MAX * 2];

        snprintf(name, sizeof(name), "the tail of %.24s/%.24s", slot->topic, slot->partition);
        workload->tails[i] = tail_new(run, slot, name, (unsigned)rng_between(rng, 50, 1000));
    }
    workload->puller = puller_new(run, "the puller", (unsigned)rng_between(rng, 50, 500));
    workload->consumer = consumer_new(run, "the consumer");
    admin_begin(workload->admin, (unsigned)rng_between(rng, 1000, 15000));
}

void workload_stop(struct workload *workload)
{
    admin_stop(workload->admin);
    for (unsigned i = 0; i < PUSHERS; i++)
        pusher_stop(workload->pushers[i]);
    batcher_stop(workload->batcher);
    for (unsigned i = 0; i < PRODUCERS; i++)
        producer_stop(workload->producers[i]);
}

bool workload_is_idle(const struct workload *workload)
{
    for (unsigned i = 0; i < PUSHERS; i++)
        if (!pusher_is_idle(workload->pushers[i]))
            return false;
    for (unsigned i = 0; i < PRODUCERS; i++)
        if (!producer_is_idle(workload->producers[i]))
            return false;
    return batcher_is_idle(workload->batcher) && admin_is_idle(workload->admin);
}

void workload_end(struct workload *workload)
{
    for (unsigned i = 0; i < PUSHERS; i++) {
        pusher_free(workload->pushers[i]);
        workload->pushers[i] = NULL;
    }
    for (unsigned i = 0; i < PRODUCERS; i++) {
        producer_free(workload->producers[i]);
        workload->producers[i] = NULL;
    }
    for (unsigned i = 0; i < HISTORY_SLOTS_MAX; i++) {
        tail_free(workload->tails[i]);
        workload->tails[i] = NULL;
    }
    batcher_free(workload->batcher);
    puller_free(workload->puller);
    consumer_free(workload->consumer);
    admin_free(workload->admin);
    workload->batcher = NULL;
    workload->puller = NULL;
    workload->consumer = NULL;
    workload->admin = NULL;
}

void workload_drain(struct workload *workload)
{
    for (unsigned i = 0; i < workload->run->history->slot_count; i++)
        workload->drains[i] = tail_new_drain(workload->run, &workload->run->history->slots[i]);
}

bool workload_is_drained(const struct workload *workload)
{
    for (unsigned i = 0; i < HISTORY_SLOTS_MAX; i++)
        if (workload->drains[i] && !tail_is_done(workload->drains[i]))
            return false;
    return true;
}

const char *workload_undrained(const struct workload *workload)
{
    static char text[HISTORY_NAME_MAX * 2];

    for (unsigned i = 0; i < HISTORY_SLOTS_MAX; i++)
        if (workload->drains[i] && !tail_is_done(workload->drains[i])) {
            const struct slot *slot = &workload->run->history->slots[i];

            snprintf(text, sizeof(text), "%.24s/%.24s", slot->topic, slot->partition);
            return text;
        }
    return "";
}

void workload_free(struct workload *workload)
{
    if (!workload)
        return;
    workload_end(workload);
    for (unsigned i = 0; i < HISTORY_SLOTS_MAX; i++)
        tail_free(workload->drains[i]);
    mem_free(workload);
}
