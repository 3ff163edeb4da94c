/* The checks at the end: see check.h. */
#include "sim/check.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/mem.h"
#include "sim/machine.h"
#include "sim/value.h"
#include "store/block.h"

/* ---- I1 ---- */

/* Whether the message must be there: acknowledged by a partition that still stands, and durable since. */
static bool must_be_there(const struct history *history, const struct message *message, struct track *track)
{
    if (message->state != MESSAGE_ACKED || message->ack == 0)
        return false;
    if (!track || track->created_ns > message->begun_ns)
        return false;
    /* A kill takes nothing that was written: the page cache stays. */
    return message->ack == -1 || message->hazard == history->hazard;
}

static void check_present(struct history *history, uint32_t number)
{
    const struct message *message = &history->messages[number];
    struct track *track = history->slots[message->slot].current;

    if (message->drained || !must_be_there(history, message, track))
        return;
    if (message->answered_offset >= 0 && message->answered_offset < track->log_start)
        return;
    if (track->slot->retained && message->answered_offset < 0 &&
        (message->seen_offset < 0 || message->seen_offset < track->log_start))
        return; /* perhaps dropped by retention before anybody saw it */
    if (track->damaged && (track->damage_reported || history_is_excused(history, track)))
        return;
    run_violation(history->run, "I1",
                  "%s, acknowledged at level %d (offset %" PRId64 "), is not in the final drain%s",
                  history_message_text(history, number), message->ack, message->answered_offset,
                  track->damaged ? "; its log was damaged, and nobody was told" : "");
}

/* ---- I3 ---- */

/* A client's ordered messages lie in the order in which it pushed them. */
static void check_order_of_clients(struct history *history)
{
    for (unsigned i = 0; i < history->slot_count && !run_is_over(history->run); i++) {
        const struct track *track = history->slots[i].current;
        uint32_t last_of[256] = {0};

        if (!track || history_is_excused(history, track))
            continue;
        for (size_t offset = 0; offset < track->at_count; offset++) {
            if (!track->at[offset])
                continue;
            uint32_t number = track->at[offset] - 1;
            const struct message *message = &history->messages[number];
            uint32_t *last = &last_of[message->client % 256];

            if (!message->ordered)
                continue;
            if (number + 1 < *last)
                run_violation(history->run, "I3", "%s lies at offset %zu, behind %s",
                              history_message_text(history, number), offset,
                              history_message_text(history, *last - 1));
            *last = number + 1;
        }
    }
}

/* What was sent on one connection to one partition, each once, lies in the order in which it was sent. */
static void check_order_of_links(struct history *history)
{
    for (unsigned i = 0; i < history->slot_count && !run_is_over(history->run); i++) {
        const struct track *track = history->slots[i].current;
        uint32_t last_of[256] = {0};

        if (!track || history_is_excused(history, track))
            continue;
        for (size_t offset = 0; offset < track->at_count; offset++) {
            if (!track->at[offset])
                continue;
            uint32_t number = track->at[offset] - 1;
            const struct message *message = &history->messages[number];
            uint32_t *last = &last_of[message->client % 256];

            if (!message->link || message->resent ||
                (*last && history->messages[*last - 1].link > message->link))
                continue;
            if (*last && number + 1 < *last && history->messages[*last - 1].link == message->link)
                run_violation(
                    history->run, "I3", "%s lies at offset %zu, behind %s, sent on the same connection",
                    history_message_text(history, number), offset, history_message_text(history, *last - 1));
            *last = number + 1;
        }
    }
}

struct moment {
    uint64_t at_ns;
    uint32_t message;
    bool ended;
};

static int compare_moments(const void *left, const void *right)
{
    const struct moment *a = left, *b = right;

    if (a->at_ns != b->at_ns)
        return a->at_ns < b->at_ns ? -1 : 1;
    if (a->ended != b->ended)
        return a->ended ? 1 : -1; /* at the same instant neither is before the other */
    return a->message < b->message ? -1 : a->message > b->message;
}

/* Of two messages of one partition, whoever pushed them, the one acknowledged before the other was begun lies
 * before it. */
static void check_order_in_time(struct history *history)
{
    struct moment *moments = run_alloc((history->count + 1) * 2 * sizeof(*moments));
    int64_t last[HISTORY_SLOTS_MAX];
    uint32_t last_message[HISTORY_SLOTS_MAX] = {0};
    size_t count = 0;

    for (uint32_t i = 0; i < history->count; i++) {
        const struct message *message = &history->messages[i];

        if (message->seen_offset < 0 || message->seen_track != history->slots[message->slot].current ||
            history_is_excused(history, message->seen_track))
            continue;
        moments[count++] = (struct moment){message->begun_ns, i, false};
        if (message->state == MESSAGE_ACKED && message->ack != 0)
            moments[count++] = (struct moment){message->ended_ns, i, true};
    }
    qsort(moments, count, sizeof(*moments), compare_moments);
    memset(last, -1, sizeof(last));
    for (size_t i = 0; i < count && !run_is_over(history->run); i++) {
        const struct message *message = &history->messages[moments[i].message];
        unsigned slot = message->slot;

        if (moments[i].ended) {
            if (message->seen_offset > last[slot]) {
                last[slot] = message->seen_offset;
                last_message[slot] = moments[i].message;
            }
        } else if (message->once && message->seen_offset < last[slot]) {
            run_violation(history->run, "I3",
                          "%s, pushed after %s was acknowledged, lies before it: at offset %" PRId64
                          ", not behind %" PRId64,
                          history_message_text(history, moments[i].message),
                          history_message_text(history, last_message[slot]), message->seen_offset,
                          last[slot]);
        }
    }
    mem_free(moments);
}

/* ---- the disk ---- */

enum { RECORD_OVERHEAD = 200 }; /* at most: a single message as a batch of its own */

/* What may have counted as stored when retention looked, and was lost or not seen since. */
static uint64_t bytes_in_doubt(const struct history *history, const struct slot *slot)
{
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < history->count; i++) {
        const struct message *message = &history->messages[i];
        int64_t offset = message->answered_offset < 0 ? message->seen_offset : message->answered_offset;
        bool dropped = offset >= 0 && offset < slot->current->log_start;

        if (message->slot == slot->number && !message->drained && !dropped &&
            message->state != MESSAGE_REFUSED)
            bytes += message->size + RECORD_OVERHEAD;
    }
    return bytes;
}

/* Retention drops whole segments, and only as many as leave what is to be kept. */
static void check_retention(struct history *history)
{
    uint64_t segment_bytes = machine_segment_bytes(history->run->machine);

    for (unsigned i = 0; i < history->slot_count && !run_is_over(history->run); i++) {
        const struct slot *slot = &history->slots[i];
        const struct track *track = slot->current;

        if (!slot->retained || !track || track->damaged)
            continue;
        uint64_t most = slot->retention_bytes + 2 * segment_bytes + VALUE_SIZE_MAX;
        if (track->log_start > 0 &&
            track->drained_bytes + bytes_in_doubt(history, slot) < slot->retention_bytes)
            run_violation(history->run, "I1",
                          "retention left %" PRIu64 " bytes in %s/%s, and %" PRIu64 " are to be kept",
                          track->drained_bytes, slot->topic, slot->partition, slot->retention_bytes);
        if (track->drained_bytes > most)
            run_violation(history->run, "I7",
                          "%s/%s holds %" PRIu64 " bytes, and retention should leave %" PRIu64 " at most",
                          slot->topic, slot->partition, track->drained_bytes, most);
    }
}

/* Folders of deleted partitions are gone, too. */
static void check_disk(struct history *history)
{
    struct io_fs *fs = sim_process_fs(machine_process(history->run->machine));
    struct block_key *keys;
    size_t count, partitions = 0, live = 0;

    for (unsigned i = 0; i < history->slot_count; i++) {
        if (!history->slots[i].current || history->slots[i].current->damaged)
            return; /* what is there nobody knows */
        live++;
    }
    if (block_list(fs, &keys, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        bool known = false;

        for (size_t k = 0; k < i && !known; k++)
            known = keys[k].partition == keys[i].partition && uuid_equal(keys[k].topic, keys[i].topic);
        partitions += !known;
    }
    mem_free(keys);
    if (partitions > live)
        run_violation(history->run, "I7",
                      "%zu partitions lie on the disk and %zu were left: deleted ones were not removed",
                      partitions, live);
}

void check_end(struct history *history)
{
    for (uint32_t i = 0; i < history->count && !run_is_over(history->run); i++)
        check_present(history, i);
    check_order_of_clients(history);
    check_order_of_links(history);
    check_order_in_time(history);
    check_retention(history);
    check_disk(history);
}

/* ---- I7 ---- */

void check_served(struct history *history, uint64_t since_ns)
{
    for (unsigned i = 0; i < history->slot_count; i++) {
        const struct slot *slot = &history->slots[i];

        if (!slot->steady || !slot->current || slot->current->damaged ||
            (slot->current->marks_damaged && slot->current->damage_reported))
            continue;
        if (slot->current->served_ns < since_ns) {
            run_violation(history->run, "I7",
                          "10 s after all faults were healed %s/%s has not acknowledged a push again",
                          slot->topic, slot->partition);
            return;
        }
    }
    history->run->result->counts.recoveries++;
}
