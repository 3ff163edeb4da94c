/* libclymq's consumer as a client: see consumer.h. It polls, so that what was fetched waits in the core for a
 * while. */
#include "sim/consumer.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "client/core.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/value.h"

enum { POLL_MAX_MS = 200 };

struct place {
    struct consumer *consumer;
    struct slot *slot; /* NULL: not followed */
    int64_t offset;    /* the next one */
    bool assigned;
    bool dropped; /* what it was about to read is not kept any more: on from the beginning */
};

struct consumer {
    struct run *run;
    char name[24];
    struct core *core;
    struct core_consumer *consumer;
    struct io_timer timer;
    struct place places[HISTORY_SLOTS_MAX];
};

static struct place *place_of(struct consumer *consumer, const clymq_message *message)
{
    for (unsigned i = 0; i < HISTORY_SLOTS_MAX; i++) {
        struct place *place = &consumer->places[i];

        if (place->slot && strcmp(place->slot->topic, message->topic) == 0 &&
            strcmp(place->slot->partition, message->partition) == 0)
            return place;
    }
    return NULL;
}

static void check_header(struct consumer *consumer, const struct message *known, const clymq_message *message)
{
    struct history *history = consumer->run->history;
    uint32_t number = (uint32_t)(known - history->messages);
    struct value_extras extras = value_extras_of(number);

    for (size_t i = 0; known->has_extras && i < message->header_count; i++)
        if (strcmp(message->headers[i].key, "n") != 0 ||
            !bytes_equal(bytes_of(message->headers[i].value, message->headers[i].value_len),
                         bytes_of_text(extras.key)))
            run_violation(consumer->run, "I2", "%s was served %s with another header than it was sent with",
                          history_message_text(history, number), consumer->name);
}

static void take(struct consumer *consumer, const clymq_message *message)
{
    struct history *history = consumer->run->history;
    struct place *place = place_of(consumer, message);
    struct history_read read;

    if (!place) {
        run_violation(consumer->run, "I8", "%s got a message of %s/%s, which it does not read",
                      consumer->name, message->topic, message->partition);
        return;
    }
    history_read_begin(history, place->slot, &read);
    struct track *track = history_read_track(history, &read);
    if (message->offset < place->offset && !(track && track->damaged))
        run_violation(consumer->run, "I3", "%s got offset %lld of %s/%s after %lld", consumer->name,
                      (long long)message->offset, message->topic, message->partition,
                      (long long)place->offset - 1);
    /* One that began at the beginning follows the log's start by itself. */
    if (!place->slot->retained)
        history_passed(history, track, consumer->name, place->offset, message->offset);
    struct message *known = history_saw(history, &read, track, consumer->name, message->offset,
                                        bytes_of(message->value, message->value_len));
    if (known) {
        history_saw_extras(history, known, consumer->name, bytes_of(message->key, message->key_len),
                           message->timestamp_ms, message->header_count);
        check_header(consumer, known, message);
    }
    consumer->run->result->counts.read++;
    place->offset = message->offset + 1;
}

static void on_assigned(void *ctx, int error, int64_t position, const char *sentence)
{
    struct place *place = ctx;

    place->assigned = !error; /* otherwise asked for again */
    if (!error && position > place->offset)
        place->offset = position;
}

static void assign(struct place *place)
{
    struct consumer *consumer = place->consumer;
    int64_t at = place->offset && !place->dropped ? place->offset : CLYMQ_OFFSET_BEGINNING;

    place->dropped = false;
    place->assigned = core_consumer_assign(consumer->consumer, place->slot->topic, place->slot->partition, at,
                                           false, on_assigned, place) == 0;
}

static void on_error(struct consumer *consumer, int error, const clymq_message *message)
{
    struct place *place = place_of(consumer, message);

    if (!place)
        return;
    struct track *track = place->slot->current;
    if (error == CLYMQ_EOFFSET_RANGE && place->slot->retained) {
        place->dropped = true;
        assign(place);
    } else if (error == CLYMQ_ECORRUPT || error == CLYMQ_EBATCH || error == CLYMQ_ECOMPRESSION ||
               error == CLYMQ_EOFFSET_RANGE) {
        if (!history_may_fail(track))
            run_violation(consumer->run, "I1", "%s got %s at offset %lld of %s/%s, and nothing was damaged",
                          consumer->name, error_name(error), (long long)message->offset, message->topic,
                          message->partition);
    }
}

static void on_timer(struct io_timer *timer)
{
    struct consumer *consumer = CONTAINER_OF(timer, struct consumer, timer);
    const clymq_message *message;
    int got;

    while (!run_is_over(consumer->run) && (got = core_consumer_next(consumer->consumer, &message)) != 0) {
        if (got > 0)
            take(consumer, message);
        else
            on_error(consumer, got, message);
    }
    for (unsigned i = 0; i < HISTORY_SLOTS_MAX; i++)
        if (consumer->places[i].slot && !consumer->places[i].assigned)
            assign(&consumer->places[i]);
    core_consumer_kick(consumer->consumer);
    io_timer_start(consumer->run->loop, timer, run_draw_ms(consumer->run, 1, POLL_MAX_MS));
}

struct consumer *consumer_new(struct run *run, const char *name)
{
    struct consumer *consumer = run_alloc(sizeof(*consumer));
    struct rng *rng = &run->rng;
    struct core_config core;
    struct core_consumer_config config;

    consumer->run = run;
    snprintf(consumer->name, sizeof(consumer->name), "%s", name);
    core_config_defaults(&core);
    core.coordinators = MACHINE_COORDINATOR_ADDRESS;
    core.request_timeout_ms = rng_between(rng, 500, 10000);
    core.connect_timeout_ms = rng_between(rng, 300, 3000);
    core_consumer_config_defaults(&config);
    config.fetch_max_bytes = 256 << rng_below(rng, 12);
    config.fetch_wait_ms = rng_between(rng, 0, 1000);
    config.buffer_bytes = (config.fetch_max_bytes + 4096) << rng_below(rng, 4);
    int error = core_new(run->loop, &core, &consumer->core);
    if (!error)
        error = core_consumer_new(consumer->core, &config, &consumer->consumer);
    assert(!error);
    for (unsigned i = 0; i < run->history->slot_count; i++)
        if (run->history->slots[i].steady)
            consumer->places[i] = (struct place){.consumer = consumer, .slot = &run->history->slots[i]};
    consumer->timer.fire = on_timer;
    io_timer_start(run->loop, &consumer->timer, run_draw_ms(run, 0, POLL_MAX_MS));
    return consumer;
}

void consumer_stop(struct consumer *consumer)
{
    io_timer_stop(consumer->run->loop, &consumer->timer);
}

void consumer_free(struct consumer *consumer)
{
    if (!consumer)
        return;
    consumer_stop(consumer);
    core_consumer_free(consumer->consumer);
    core_free(consumer->core);
    mem_free(consumer);
}
