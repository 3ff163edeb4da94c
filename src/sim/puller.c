/* Pulling JSON: see puller.h. */
#include "sim/puller.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "sim/caller.h"
#include "sim/elements.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/value.h"

enum { PSB_PULL = 4, SPAN_MAX = 1000, TIMEOUT_MS = 5000 };

struct puller {
    struct run *run;
    char name[24];
    struct caller caller;
    struct io_timer timer;
    unsigned pause_ms;
    struct history_read read;
    int64_t asked;
    struct {
        struct track *track;
        int64_t offset;
    } places[HISTORY_SLOTS_MAX];
    /* Passed over at an answer's beginning, where retention may have dropped messages: judged once the log's
     * start is known. track NULL: none. */
    struct {
        struct slot *slot;
        struct track *track;
        int64_t from, to;
        uint32_t hazard;
    } gap;
};

static void wrong(struct puller *puller, const char *what)
{
    run_violation(puller->run, "I2", "%s, at offset %" PRId64 " of %s/%s: %s", puller->name, puller->asked,
                  puller->read.slot->topic, puller->read.slot->partition, what);
}

/* One element of the array. Returns its offset, or -1. */
static int64_t take_element(struct puller *puller, struct track *track, const struct element *element)
{
    static uint8_t value[VALUE_SIZE_MAX];
    const struct slot *slot = puller->read.slot;

    if (element->size != 0 || strcmp(element->topic, slot->topic) != 0 ||
        strcmp(element->partition, slot->partition) != 0) {
        wrong(puller, "an element of Msgs is not as it must be");
        return -1;
    }
    int bytes = elements_decode_base64(element->msg, value, sizeof(value));
    if (bytes < 0) {
        wrong(puller, "msg is not base64");
        return -1;
    }
    history_saw(puller->run->history, &puller->read, track, puller->name, element->index,
                bytes_of(value, (size_t)bytes));
    puller->run->result->counts.read++;
    return element->index;
}

static void passed(struct puller *puller, struct track *track, int64_t from, int64_t to)
{
    struct history *history = puller->run->history;

    if (!track || !track->slot->retained || from != puller->asked || from == to) {
        history_passed(history, track, puller->name, from, to);
        return;
    }
    puller->gap.slot = track->slot;
    puller->gap.track = track;
    puller->gap.from = from;
    puller->gap.to = to;
    puller->gap.hazard = puller->read.hazard;
}

static void on_start(void *ctx, const struct net_answer *answer)
{
    struct puller *puller = ctx;
    struct history *history = puller->run->history;
    const struct rpc_list_offset_response *response = answer->response;
    struct track *track = history_read_track(history, &puller->read);

    if (caller_judge(answer) != CALLER_ANSWERED || response->error || !track)
        return;
    history_told(history, &puller->read, track, puller->name, -1, response->offset);
    /* A power loss may have brought old messages back since. */
    if (track == puller->gap.track && puller->gap.hazard == history->hazard)
        history_passed(history, track, puller->name, puller->gap.from, puller->gap.to);
    puller->gap.track = NULL;
}

/* Where the log begins of the slot with the gap. */
static void ask_start(struct puller *puller)
{
    struct rpc_list_offset_request request = {
        .topic = bytes_of_text(puller->gap.slot->topic),
        .partition = bytes_of_text(puller->gap.slot->partition),
        .timestamp_ms = -2,
    };

    history_read_begin(puller->run->history, puller->gap.slot, &puller->read);
    (void)caller_call(&puller->caller, RPC_METHOD_LIST_OFFSET, &request, NULL, TIMEOUT_MS, on_start, puller);
}

static void take_messages(struct puller *puller, struct track *track,
                          const struct rpc_pull_response *response)
{
    int64_t first = puller->asked - 1, last = puller->asked - 1;
    struct elements elements;
    struct element element;
    int more = elements_begin(&elements, response->msgs) ? 1 : -1;

    while (more == 1 && (more = elements_next(&elements, &element)) == 1) {
        int64_t offset = take_element(puller, track, &element);

        if (run_is_over(puller->run))
            return;
        if (offset <= last && !(track && track->damaged))
            wrong(puller, "offsets do not grow");
        passed(puller, track, last + 1, offset);
        if (elements.count == 1)
            first = offset;
        last = offset;
    }
    if (more < 0)
        wrong(puller, "Msgs is no JSON array of messages");
    if (response->start_index != first || response->end_index != last ||
        response->size != (int8_t)elements.count)
        wrong(puller, "Start_index, End_index or Size do not fit Msgs");
    if (elements.count && last - first >= SPAN_MAX)
        wrong(puller, "Msgs spans more than 1,000 offsets");
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct puller *puller = ctx;
    const struct rpc_pull_response *response = answer->response;
    struct history_read *read = &puller->read;
    struct track *track = history_read_track(puller->run->history, read);

    if (caller_judge(answer) != CALLER_ANSWERED)
        return;
    if (!response->ret)
        wrong(puller, "Ret is false");
    else
        take_messages(puller, track == puller->places[read->slot->number].track ? track : NULL, response);
    if (response->end_index >= puller->asked)
        puller->places[read->slot->number].offset = response->end_index + 1;
}

static void pull(struct puller *puller)
{
    struct history *history = puller->run->history;
    struct slot *slot = &history->slots[rng_below(&puller->run->rng, history->slot_count)];
    int8_t size = (int8_t)rng_between(&puller->run->rng, -1, 127);

    if (puller->gap.track && puller->gap.slot->current != puller->gap.track)
        puller->gap.track = NULL; /* it was deleted */
    if (puller->gap.track) {
        ask_start(puller);
        return;
    }
    if (slot->current != puller->places[slot->number].track) {
        puller->places[slot->number].track = slot->current;
        puller->places[slot->number].offset = 0;
    }
    puller->asked = puller->places[slot->number].offset;
    history_read_begin(history, slot, &puller->read);
    struct rpc_pull_request request = {
        .consumer = bytes_of_text(puller->name),
        .topic = bytes_of_text(slot->topic),
        .partition = bytes_of_text(slot->partition),
        .offset = puller->asked,
        .size = size,
        .option = PSB_PULL,
    };
    (void)caller_call(&puller->caller, RPC_METHOD_PULL, &request, NULL, TIMEOUT_MS, on_answer, puller);
}

static void on_timer(struct io_timer *timer)
{
    struct puller *puller = CONTAINER_OF(timer, struct puller, timer);

    if (!puller->caller.link || net_link_outstanding(puller->caller.link) == 0)
        pull(puller);
    io_timer_start(puller->run->loop, timer, run_draw_ms(puller->run, 1, puller->pause_ms));
}

struct puller *puller_new(struct run *run, const char *name, unsigned pause_ms)
{
    struct puller *puller = run_alloc(sizeof(*puller));

    puller->run = run;
    puller->pause_ms = pause_ms;
    puller->caller = (struct caller){.run = run, .address = MACHINE_BROKER_ADDRESS};
    puller->timer.fire = on_timer;
    snprintf(puller->name, sizeof(puller->name), "%s", name);
    io_timer_start(run->loop, &puller->timer, run_draw_ms(run, 0, pause_ms));
    return puller;
}

void puller_stop(struct puller *puller)
{
    io_timer_stop(puller->run->loop, &puller->timer);
}

void puller_free(struct puller *puller)
{
    if (!puller)
        return;
    puller_stop(puller);
    caller_close(&puller->caller);
    mem_free(puller);
}
