/* The history: see history.h. Every rule here holds whenever two facts meet, whichever was learnt first. */
#define LOG_MODULE "sim"
#include "sim/history.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim/machine.h"
#include "sim/nemesis.h"
#include "sim/value.h"

/* Offsets beyond this are a mistake of the broker's, not a long run. */
enum { OFFSET_MAX = 1 << 22 };

struct history *history_new(struct run *run)
{
    struct history *history = run_alloc(sizeof(*history));

    history->run = run;
    return history;
}

void history_free(struct history *history)
{
    if (!history)
        return;
    for (unsigned i = 0; i < history->slot_count; i++) {
        struct track *track = history->slots[i].tracks;

        while (track) {
            struct track *before = track->before;

            mem_free(track->at);
            mem_free(track);
            track = before;
        }
    }
    mem_free(history->messages);
    mem_free(history);
}

struct slot *history_add_slot(struct history *history, const char *topic, const char *partition)
{
    struct slot *slot = &history->slots[history->slot_count];

    assert(history->slot_count < HISTORY_SLOTS_MAX);
    slot->number = (uint16_t)history->slot_count++;
    snprintf(slot->topic, sizeof(slot->topic), "%s", topic);
    snprintf(slot->partition, sizeof(slot->partition), "%s", partition);
    return slot;
}

void history_track_made(struct history *history, struct slot *slot)
{
    struct track *track = run_alloc(sizeof(*track));

    assert(!slot->current);
    *track = (struct track){.before = slot->tracks, .slot = slot, .created_ns = run_now_ns(history->run)};
    slot->tracks = slot->current = track;
}

void history_track_ending(struct history *history, struct slot *slot)
{
    if (slot->current)
        slot->current->deleting_ns = run_now_ns(history->run);
    slot->current = NULL;
}

const char *history_message_text(const struct history *history, uint32_t message)
{
    static char texts[4][96];
    static unsigned next;
    char *text = texts[next++ % 4];
    const struct message *known = &history->messages[message];
    const struct slot *slot = &history->slots[known->slot];

    snprintf(text, sizeof(texts[0]), "%s/%s#%" PRIu32 " of client %u", slot->topic, slot->partition, message,
             known->client);
    return text;
}

bool history_is_excused(const struct history *history, const struct track *track)
{
    return track->damaged && (track->damaged_hazard != history->hazard || track->marks_damaged);
}

bool history_may_fail(const struct track *track)
{
    return track->damaged || track->marks_damaged;
}

/* ---- messages ---- */

uint32_t history_begin(struct history *history, const struct message_plan *plan)
{
    if (history->count == history->cap) {
        history->cap = history->cap ? history->cap * 2 : 1024;
        history->messages = mem_realloc(history->messages, history->cap * sizeof(*history->messages));
        assert(history->messages);
    }
    history->messages[history->count] = (struct message){
        .slot = plan->slot->number,
        .client = plan->client,
        .size = plan->size,
        .ack = plan->ack,
        .once = plan->once,
        .ordered = plan->ordered,
        .hazard = history->hazard,
        .begun_ns = run_now_ns(history->run),
        .answered_offset = -1,
        .seen_offset = -1,
    };
    history->run->result->counts.pushed++;
    return (uint32_t)history->count++;
}

void history_write_value(const struct history *history, uint32_t message, uint8_t *out)
{
    const struct message *known = &history->messages[message];
    struct value value = {message, known->client, known->slot, known->size};

    value_write(&value, out);
}

static uint32_t *place_of(struct history *history, struct track *track, int64_t offset, const char *who)
{
    if (offset < 0 || offset >= OFFSET_MAX) {
        run_violation(history->run, "I3", "%s was told the offset %" PRId64 " in %s/%s", who, offset,
                      track->slot->topic, track->slot->partition);
        return NULL;
    }
    if ((size_t)offset >= track->at_count) {
        size_t count = track->at_count ? track->at_count * 2 : 1024;

        while (count <= (size_t)offset)
            count *= 2;
        track->at = mem_realloc(track->at, count * sizeof(*track->at));
        assert(track->at);
        memset(track->at + track->at_count, 0, (count - track->at_count) * sizeof(*track->at));
        track->at_count = count;
    }
    return &track->at[offset];
}

/* The message is committed at the offset, as `who` knows. */
static void is_at(struct history *history, struct track *track, int64_t offset, uint32_t message,
                  const char *who)
{
    uint32_t *place = place_of(history, track, offset, who);

    if (!place)
        return;
    if (*place && *place != message + 1 && !history_is_excused(history, track))
        run_violation(history->run, "I2", "offset %" PRId64 " of %s/%s held %s and now, for %s, %s", offset,
                      track->slot->topic, track->slot->partition, history_message_text(history, *place - 1),
                      who, history_message_text(history, message));
    *place = message + 1;
}

/* The track that a message of this time went to for certain; NULL where it may have been another. */
static struct track *track_at(const struct slot *slot, uint64_t begun_ns, uint64_t ended_ns)
{
    for (struct track *track = slot->tracks; track; track = track->before)
        if (track->created_ns <= begun_ns)
            return !track->deleting_ns || ended_ns < track->deleting_ns ? track : NULL;
    return NULL;
}

static void count_outcome(struct history *history, const struct message *message)
{
    struct run_counts *counts = &history->run->result->counts;

    switch (message->state) {
    case MESSAGE_ACKED:
        counts->acknowledged++;
        counts->committed += message->ack == -1;
        break;
    case MESSAGE_REFUSED:
        counts->refused++;
        break;
    default:
        counts->uncertain++;
    }
}

/* The partition says that its log is out of order. */
static bool says_failed(const char *detail)
{
    return strstr(detail, "log failed") || strstr(detail, "LOG_FAILED") || strstr(detail, "damaged");
}

/* What speaks of a malformed request, which none of the clients makes. */
static bool says_malformed(const char *detail)
{
    static const int errors[] = {CLYMQ_EINVAL, CLYMQ_EBATCH,       CLYMQ_ENAME,
                                 CLYMQ_EPROTO, CLYMQ_EUNSUPPORTED, CLYMQ_ECOMPRESSION};

    for (size_t i = 0; i < sizeof(errors) / sizeof(errors[0]); i++)
        if (strcmp(detail, error_name(errors[i])) == 0 || strstr(detail, error_sentence(errors[i])))
            return true;
    return false;
}

void history_end(struct history *history, uint32_t number, enum message_state state, int64_t offset,
                 const char *detail)
{
    static const char *const states[] = {"pending", "acknowledged", "refused", "uncertain"};
    struct message *message = &history->messages[number];

    assert(message->state == MESSAGE_PENDING);
    message->state = (uint8_t)state;
    message->ended_ns = run_now_ns(history->run);
    sim_world_trace_add(history->run->world, (uint64_t)number << 2 | state);
    sim_world_trace_add(history->run->world, (uint64_t)offset);
    count_outcome(history, message);
    log_debug("%s, ack %d: %s at %" PRId64 " %s", history_message_text(history, number), message->ack,
              states[state], offset, detail);
    struct track *track = track_at(&history->slots[message->slot], message->begun_ns, message->ended_ns);
    if (state == MESSAGE_REFUSED) {
        if (track && history_may_fail(track) && says_failed(detail))
            track->damage_reported = true;
        if (says_malformed(detail))
            run_violation(history->run, "I7", "%s was refused for ever: %s",
                          history_message_text(history, number), detail);
        if (message->seen_offset >= 0)
            run_violation(history->run, "I5", "%s was refused (%s) after it was seen at offset %" PRId64,
                          history_message_text(history, number), detail, message->seen_offset);
        return;
    }
    if (state != MESSAGE_ACKED)
        return;
    if (track && message->ack != 0)
        track->served_ns = message->ended_ns;
    message->answered_offset = offset;
    message->answered_track = track;
    if (offset < 0)
        return;
    if (message->once && message->seen_offset >= 0 && message->seen_track == track &&
        message->seen_offset != offset && !(track && history_is_excused(history, track)))
        run_violation(history->run, "I1", "%s was seen at offset %" PRId64 " and acknowledged at %" PRId64,
                      history_message_text(history, number), message->seen_offset, offset);
    if (track && message->ack == -1)
        is_at(history, track, offset, number, "its producer");
}

/* ---- reading ---- */

void history_read_begin(struct history *history, struct slot *slot, struct history_read *ret_read)
{
    uint64_t life_ns = machine_started_ns(history->run->machine);
    bool same_life = slot->current && slot->current->life_ns == life_ns;

    *ret_read = (struct history_read){
        .slot = slot,
        .life_ns = life_ns,
        .life_watermark = same_life ? slot->current->life_watermark : 0,
        .track = slot->current,
        .begun_ns = run_now_ns(history->run),
        .hazard = history->hazard,
        .watermark = slot->current ? slot->current->watermark : 0,
        .log_start = slot->current ? slot->current->log_start : 0,
    };
}

struct track *history_read_track(struct history *history, const struct history_read *read)
{
    return read->track && read->slot->current == read->track ? read->track : NULL;
}

void history_told(struct history *history, const struct history_read *read, struct track *track,
                  const char *who, int64_t watermark, int64_t log_start)
{
    const struct slot *slot = read->slot;
    bool same_life = read->life_ns == machine_started_ns(history->run->machine);

    if (!track)
        return;
    if (watermark >= 0 && same_life && watermark < read->life_watermark && !track->damaged)
        run_violation(history->run, "I2",
                      "the watermark of %s/%s went back without a restart: %" PRId64
                      " had been told, %s was told %" PRId64,
                      slot->topic, slot->partition, read->life_watermark, who, watermark);
    /* After a start, what lies behind the last mark is shown once it is synced again: a disk that is slow or
     * fails may keep it hidden. */
    if (watermark >= 0 && watermark < read->watermark && !track->damaged &&
        nemesis_is_quiet_since(history->run->nemesis, machine_started_ns(history->run->machine)))
        run_violation(history->run, "I2",
                      "the watermark of %s/%s went back: %" PRId64 " had been told, %s was told %" PRId64,
                      slot->topic, slot->partition, read->watermark, who, watermark);
    /* Retention answers before what it says is durable: a power loss may bring old messages back. So may a
     * state file that cannot be read when the broker starts: what is told until then was written into it. */
    if (log_start >= 0 && log_start < read->log_start && track->log_start_hazard == history->hazard &&
        !track->marks_damaged)
        run_violation(history->run, "I3",
                      "the start of %s/%s went back: %" PRId64 " had been told, %s was told %" PRId64,
                      slot->topic, slot->partition, read->log_start, who, log_start);
    if (log_start > 0 && !slot->retained)
        run_violation(history->run, "I1", "%s/%s begins at %" PRId64 ", and nothing may be dropped from it",
                      slot->topic, slot->partition, log_start);
    if (watermark > track->watermark)
        track->watermark = watermark;
    if (same_life && track->life_ns != read->life_ns) {
        track->life_ns = read->life_ns;
        track->life_watermark = 0;
    }
    if (same_life && watermark > track->life_watermark)
        track->life_watermark = watermark;
    if (log_start >= track->log_start) {
        track->log_start = log_start;
        track->log_start_hazard = read->hazard;
    }
}

static bool belongs(struct history *history, const struct slot *slot, const char *who, int64_t offset,
                    struct bytes data, uint32_t *ret_message)
{
    struct value value;

    if (!value_read(data, &value)) {
        run_violation(history->run, "I2", "%s was served %zu damaged bytes at offset %" PRId64 " of %s/%s",
                      who, data.len, offset, slot->topic, slot->partition);
        return false;
    }
    if (value.message >= history->count || value.slot != slot->number ||
        history->messages[value.message].slot != value.slot ||
        history->messages[value.message].client != value.client ||
        history->messages[value.message].size != value.size) {
        run_violation(history->run, "I2",
                      "%s was served, at offset %" PRId64 " of %s/%s, message %" PRIu32 " of slot %u", who,
                      offset, slot->topic, slot->partition, value.message, value.slot);
        return false;
    }
    *ret_message = value.message;
    return true;
}

struct message *history_saw(struct history *history, const struct history_read *read, struct track *track,
                            const char *who, int64_t offset, struct bytes value)
{
    uint32_t number;

    if (!belongs(history, read->slot, who, offset, value, &number))
        return NULL;
    sim_world_trace_add(history->run->world, (uint64_t)offset << 32 ^ number);
    struct message *message = &history->messages[number];
    if (message->state == MESSAGE_REFUSED)
        run_violation(history->run, "I5", "%s was refused, and %s was served it at offset %" PRId64,
                      history_message_text(history, number), who, offset);
    if (!track || track->damaged)
        return message;
    /* A late copy of an earlier try may come to the next one: nobody knows its message there. */
    if (track->before && message->state == MESSAGE_ACKED && !message->resent &&
        message->ended_ns < track->before->deleting_ns)
        run_violation(history->run, "I2",
                      "%s belonged to a deleted partition, and %s was served it by the next one",
                      history_message_text(history, number), who);
    /* What a deleted partition knew of its producers went with it. */
    bool elsewhere = message->seen_track != track && message->resent;
    if (message->once && message->seen_offset >= 0 && !elsewhere &&
        (message->seen_offset != offset || message->seen_track != track))
        run_violation(history->run, "I4",
                      "%s is stored twice: at offset %" PRId64 " and, as %s saw, at %" PRId64,
                      history_message_text(history, number), message->seen_offset, who, offset);
    bool answered_elsewhere = message->answered_track != track && message->resent;
    if (message->once && message->answered_offset >= 0 && message->answered_offset != offset &&
        !answered_elsewhere)
        run_violation(history->run, "I1",
                      "%s was acknowledged at offset %" PRId64 ", and %s was served it at %" PRId64,
                      history_message_text(history, number), message->answered_offset, who, offset);
    if (message->seen_offset < 0 || (message->seen_track == track && offset < message->seen_offset)) {
        message->seen_offset = offset;
        message->seen_track = track;
    }
    is_at(history, track, offset, number, who);
    return message;
}

void history_saw_extras(struct history *history, const struct message *message, const char *who,
                        struct bytes key, int64_t timestamp_ms, size_t header_count)
{
    uint32_t number = (uint32_t)(message - history->messages);
    struct value_extras extras = value_extras_of(number);
    const char *wanted = extras.has_key ? extras.key : "";

    if (!message->has_extras)
        return;
    if (!bytes_equal(key, bytes_of_text(wanted)))
        run_violation(history->run, "I2", "%s was sent with the key \"%s\", and %s was served \"%.*s\"",
                      history_message_text(history, number), wanted, who, (int)key.len,
                      key.len ? (const char *)key.ptr : "");
    if (header_count != extras.has_header)
        run_violation(history->run, "I2", "%s was served %s with %zu headers",
                      history_message_text(history, number), who, header_count);
    if (timestamp_ms != message->timestamp_ms)
        run_violation(history->run, "I2", "%s was sent at %" PRId64 " ms, and %s was served %" PRId64,
                      history_message_text(history, number), message->timestamp_ms, who, timestamp_ms);
}

void history_passed(struct history *history, struct track *track, const char *who, int64_t from, int64_t to)
{
    if (!track || track->damaged)
        return;
    if (from < track->log_start)
        from = track->log_start;
    for (int64_t offset = from; offset < to && (size_t)offset < track->at_count; offset++)
        if (track->at[offset]) {
            run_violation(history->run, "I1",
                          "%s stood at offset %" PRId64 ", and %s, reading there, was not served it",
                          history_message_text(history, track->at[offset] - 1), offset, who);
            return;
        }
}
