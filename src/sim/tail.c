/* Following a slot: see tail.h. One call under way at a time. */
#define LOG_MODULE "sim"
#include "sim/tail.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "sim/caller.h"
#include "sim/machine.h"
#include "sim/nemesis.h"
#include "wire/batch.h"

enum { INFLATE_MAX = 64 << 20, TIMES_ASKED = 4, DRAIN_PAUSE_MS = 20, TIMEOUT_MS = 10000, SLOW_MS = 500 };

struct seen_time {
    int64_t offset, timestamp_ms;
};

struct tail {
    struct run *run;
    struct slot *slot;
    struct track *track; /* that offset is a place in; NULL = not known */
    char name[HISTORY_NAME_MAX * 2];
    struct caller caller;
    struct io_timer timer;
    unsigned pause_ms;
    struct history_read read; /* of the call under way */
    struct {
        size_t max_bytes, min_bytes;
        int64_t wait_ms;
    } asked; /* of the pullBatch under way */
    bool stopped;
    int64_t offset; /* the next one to read */

    bool drain, done;
    struct seen_time *times; /* a drain's: of all records, in order */
    size_t time_count, time_cap;
    unsigned times_asked;
    int64_t asked_ms; /* of the listOffset under way */
};

static void ask(struct tail *tail);

static void on_timer(struct io_timer *timer)
{
    ask(CONTAINER_OF(timer, struct tail, timer));
}

static void ask_again(struct tail *tail)
{
    if (!tail->stopped && !tail->done)
        io_timer_start(tail->run->loop, &tail->timer, run_draw_ms(tail->run, 0, tail->pause_ms));
}

/* Where another partition stands in the slot now, reading begins anew. */
static void follow(struct tail *tail)
{
    if (tail->slot->current && tail->slot->current != tail->track) {
        tail->track = tail->slot->current;
        tail->offset = 0;
    }
}

/* ---- what was served ---- */

static void note_time(struct tail *tail, const struct batch_record *record)
{
    if (!tail->drain)
        return;
    if (tail->time_count == tail->time_cap) {
        tail->time_cap = tail->time_cap ? tail->time_cap * 2 : 1024;
        tail->times = mem_realloc(tail->times, tail->time_cap * sizeof(*tail->times));
    }
    tail->times[tail->time_count++] = (struct seen_time){record->offset, record->timestamp_ms};
}

static void take_record(struct tail *tail, struct track *track, const struct batch_record *record)
{
    struct history *history = tail->run->history;
    struct run_counts *counts = &tail->run->result->counts;

    if (record->offset < tail->offset)
        return; /* a batch is given whole */
    history_passed(history, track, tail->name, tail->offset, record->offset);
    struct message *message =
        history_saw(history, &tail->read, track, tail->name, record->offset, record->value);
    note_time(tail, record);
    if (message)
        history_saw_extras(history, message, tail->name, record->key, record->timestamp_ms,
                           (size_t)record->header_count);
    if (message && tail->drain)
        message->drained = true;
    *(tail->drain ? &counts->drained : &counts->read) += 1;
    tail->offset = record->offset + 1;
}

/* The batches of an answer. Returns 0, or what is wrong with the bytes. */
static int take_batches(struct tail *tail, struct track *track, struct bytes rest, int64_t watermark)
{
    while (rest.len && !run_is_over(tail->run)) {
        struct batch_header header;
        struct batch_reader reader;
        struct batch_record record;
        int error = batch_check(rest, UINT32_MAX, &header);

        /* Base offsets are outside the checksum; without damage they follow each other. */
        if (!error && track && track->damaged &&
            (header.base_offset > tail->offset || batch_last_offset(&header) >= watermark))
            error = CLYMQ_EBATCH;
        if (!error)
            error = batch_reader_begin(&reader, bytes_of(rest.ptr, header.size), INFLATE_MAX);
        if (error)
            return error;
        if (batch_last_offset(&header) >= watermark)
            run_violation(tail->run, "I2",
                          "%s was served offsets up to %" PRId64 ", past the watermark %" PRId64
                          " of the same answer",
                          tail->name, batch_last_offset(&header), watermark);
        if (tail->drain && track && batch_last_offset(&header) >= tail->offset)
            track->drained_bytes += header.size;
        while (!batch_is_control(&header) && !(error = batch_reader_next(&reader, &record)))
            take_record(tail, track, &record);
        batch_reader_end(&reader);
        if (error && error != CLYMQ_ENOENT)
            return error;
        if (batch_last_offset(&header) >= tail->offset) {
            history_passed(tail->run->history, track, tail->name, tail->offset,
                           batch_last_offset(&header) + 1);
            tail->offset = batch_last_offset(&header) + 1;
        }
        rest = bytes_of(rest.ptr + header.size, rest.len - header.size);
    }
    return 0;
}

/* ---- how much, and when ---- */

static void check_amount(struct tail *tail, const struct rpc_pull_batch_response *response,
                         int64_t asked_offset)
{
    struct bytes batches = response->batches;
    struct batch_header header;

    if (!batches.len || batch_check(batches, UINT32_MAX, &header))
        return;
    if (batch_last_offset(&header) < asked_offset)
        run_violation(tail->run, "I2",
                      "%s asked for offset %" PRId64 " and was served a batch that ends at %" PRId64,
                      tail->name, asked_offset, batch_last_offset(&header));
    if (batches.len > tail->asked.max_bytes && batches.len > header.size)
        run_violation(tail->run, "I2", "%s asked for at most %zu bytes and was served several batches of %zu",
                      tail->name, tail->asked.max_bytes, batches.len);
}

/* A pull waits until there is min_bytes of what it can be given, and not for what it cannot. */
static void check_wait(struct tail *tail, const struct rpc_pull_batch_response *response)
{
    const struct run *run = tail->run;
    uint64_t serving_ns = machine_serving_since_ns(run->machine), begun_ns = tail->read.begun_ns;
    uint64_t waited_ns = run_now_ns(run) - begun_ns, wait_ns = IO_MS((uint64_t)tail->asked.wait_ms);
    bool more = tail->offset < response->high_watermark;

    if (serving_ns == 0 || serving_ns > begun_ns) /* a broker that stops answers at once */
        return;
    if (!more && response->batches.len < tail->asked.min_bytes &&
        response->batches.len < tail->asked.max_bytes && waited_ns < wait_ns)
        run_violation(
            tail->run, "I7",
            "%s was to wait %" PRId64 " ms for %zu bytes and was answered with %zu after %" PRIu64 " us",
            tail->name, tail->asked.wait_ms, tail->asked.min_bytes, response->batches.len, waited_ns / 1000);
    if (tail->offset < tail->read.watermark && wait_ns >= IO_MS(SLOW_MS) && waited_ns >= wait_ns &&
        nemesis_is_quiet_since(run->nemesis, machine_started_ns(run->machine)))
        run_violation(tail->run, "I7",
                      "%s waited %" PRIu64 " ms for an answer that ends at offset %" PRId64 ", and %" PRId64
                      " was committed before it asked",
                      tail->name, waited_ns / 1000000, tail->offset, tail->read.watermark);
}

/* When the first message of these batches was known to be committed, if they alone are enough; else never. */
static uint64_t known_ns(const struct tail *tail, const struct track *track, struct bytes batches,
                         int64_t asked_offset)
{
    const struct history *history = tail->run->history;
    struct batch_header header;

    if (batch_check(batches, UINT32_MAX, &header) || header.size < tail->asked.min_bytes)
        return UINT64_MAX;
    for (int64_t offset = asked_offset; offset <= batch_last_offset(&header); offset++)
        if ((size_t)offset < track->at_count && track->at[offset]) {
            const struct message *message = &history->messages[track->at[offset] - 1];

            return message->state == MESSAGE_ACKED && message->ack == -1 ? message->ended_ns : UINT64_MAX;
        }
    return UINT64_MAX;
}

/* A pull that waits is answered when there is enough, and not at its end. */
static void check_woken(struct tail *tail, const struct track *track, struct bytes batches,
                        int64_t asked_offset)
{
    const struct run *run = tail->run;
    uint64_t now_ns = run_now_ns(run), known = known_ns(tail, track, batches, asked_offset);
    uint64_t from_ns = known > tail->read.begun_ns ? known : tail->read.begun_ns;

    if (from_ns < now_ns && now_ns - from_ns > IO_MS(SLOW_MS) &&
        nemesis_is_quiet_since(run->nemesis, machine_started_ns(run->machine)))
        run_violation(tail->run, "I7",
                      "%s was served offset %" PRId64 " %" PRIu64 " ms after it was committed", tail->name,
                      asked_offset, (now_ns - from_ns) / 1000000);
}

/* A reader's own check failed, or the broker said that the place is damaged. */
static void damaged(struct tail *tail, struct track *track, int error)
{
    log_info("%s: damage at offset %" PRId64 ": %s", tail->name, tail->offset, error_name(error));
    if (track && !history_may_fail(track))
        run_violation(tail->run, "I1", "%s found %s at offset %" PRId64 ", and nothing was damaged",
                      tail->name, error_name(error), tail->offset);
    if (track)
        track->damage_reported = true;
    if (tail->drain) /* what lies behind cannot be reached */
        tail->done = true;
}

/* ---- times ---- */

/* The first record at or after the time, as the drain saw them. */
static const struct seen_time *first_at(const struct tail *tail, int64_t timestamp_ms)
{
    for (size_t i = 0; i < tail->time_count; i++)
        if (tail->times[i].timestamp_ms >= timestamp_ms)
            return &tail->times[i];
    return NULL;
}

static void compare_time(struct tail *tail, const struct rpc_list_offset_response *response)
{
    const struct seen_time *expected = first_at(tail, tail->asked_ms);
    int64_t offset = expected ? expected->offset : tail->offset;

    /* Where retention has dropped the first ones meanwhile a later one is right. */
    if (response->offset == offset || (tail->slot->retained && response->offset > offset))
        return;
    run_violation(tail->run, "I2",
                  "%s: the first message at or after %" PRId64 " ms is at offset %" PRId64
                  ", listOffset says %" PRId64,
                  tail->name, tail->asked_ms, offset, response->offset);
}

static void on_offset(void *ctx, const struct net_answer *answer)
{
    struct tail *tail = ctx;
    const struct rpc_list_offset_response *response = answer->response;
    struct track *track = history_read_track(tail->run->history, &tail->read);

    if (caller_judge(answer) == CALLER_ANSWERED && !response->error && track && !track->damaged) {
        if (tail->asked_ms == -1)
            history_told(tail->run->history, &tail->read, track, tail->name, response->offset, -1);
        else if (tail->asked_ms == -2)
            history_told(tail->run->history, &tail->read, track, tail->name, -1, response->offset);
        else if (tail->drain)
            compare_time(tail, response);
        tail->times_asked++;
    }
    tail->done = tail->drain && (tail->times_asked >= TIMES_ASKED || (track && track->damaged));
    ask_again(tail);
}

static int ask_offset(struct tail *tail)
{
    struct rng *rng = &tail->run->rng;
    struct rpc_list_offset_request request = {
        .topic = bytes_of_text(tail->slot->topic),
        .partition = bytes_of_text(tail->slot->partition),
    };

    tail->asked_ms = -1 - (int64_t)rng_below(rng, 2);
    if (tail->drain && tail->time_count)
        tail->asked_ms = tail->times[rng_below(rng, tail->time_count)].timestamp_ms + rng_between(rng, -1, 1);
    request.timestamp_ms = tail->asked_ms;
    return caller_call(&tail->caller, RPC_METHOD_LIST_OFFSET, &request, NULL, TIMEOUT_MS, on_offset, tail);
}

/* ---- pulling ---- */

/* An answer with an error number. */
static void refused(struct tail *tail, struct track *track, const struct rpc_pull_batch_response *response)
{
    if (response->error == CLYMQ_EOFFSET_RANGE && track) {
        if (response->log_start > tail->offset)
            tail->offset = response->log_start;
        else if (response->high_watermark >= 0 && !track->damaged)
            run_violation(tail->run, "I2",
                          "%s, at offset %" PRId64 ", was told that it is out of range: %" PRId64
                          " to %" PRId64,
                          tail->name, tail->offset, response->log_start, response->high_watermark);
    }
    if (response->error == CLYMQ_ECORRUPT)
        damaged(tail, track, response->error);
    else if (response->error == CLYMQ_ELOG_FAILED && track && history_may_fail(track) && tail->drain)
        damaged(tail, track, response->error);
}

static void on_batches(void *ctx, const struct net_answer *answer)
{
    struct tail *tail = ctx;
    const struct rpc_pull_batch_response *response = answer->response;
    struct track *track = history_read_track(tail->run->history, &tail->read);

    if (caller_judge(answer) != CALLER_ANSWERED) {
        ask_again(tail);
        return;
    }
    if (!response->error || response->error == CLYMQ_EOFFSET_RANGE)
        history_told(tail->run->history, &tail->read, track, tail->name, response->high_watermark,
                     response->log_start);
    if (track != tail->track)
        track = NULL; /* the place belongs to another one: nothing can be said of what came */
    if (response->error) {
        refused(tail, track, response);
    } else {
        int64_t asked_offset = tail->offset;
        int error = take_batches(tail, track, response->batches, response->high_watermark);

        if (!error && track && !track->damaged) {
            check_amount(tail, response, asked_offset);
            check_wait(tail, response);
            check_woken(tail, track, response->batches, asked_offset);
        }
        if (error)
            damaged(tail, track, error);
        if (tail->drain && track && tail->offset >= response->high_watermark)
            track->drained = true;
    }
    if (!track)
        follow(tail);
    ask_again(tail);
}

static int ask_batches(struct tail *tail)
{
    struct rng *rng = &tail->run->rng;
    struct rpc_pull_batch_request request = {
        .topic = bytes_of_text(tail->slot->topic),
        .partition = bytes_of_text(tail->slot->partition),
        .offset = tail->offset,
        .max_bytes = tail->drain ? 256 << 10 : 1 << rng_below(rng, 20),
        .min_bytes = tail->drain ? 0 : (int32_t)rng_below(rng, 2000),
        .wait_ms = tail->drain ? 0 : (int32_t)rng_below(rng, 2000),
    };

    tail->asked.max_bytes = (size_t)request.max_bytes;
    tail->asked.min_bytes = (size_t)request.min_bytes;
    tail->asked.wait_ms = request.wait_ms;
    return caller_call(&tail->caller, RPC_METHOD_PULL_BATCH, &request, NULL, TIMEOUT_MS, on_batches, tail);
}

static void ask(struct tail *tail)
{
    follow(tail);
    history_read_begin(tail->run->history, tail->slot, &tail->read);
    bool read_out = tail->track && tail->track->drained && tail->drain;
    if (tail->drain && !tail->slot->current) {
        tail->done = true;
        return;
    }
    int error = read_out || (!tail->drain && rng_chance(&tail->run->rng, 1, 20)) ? ask_offset(tail)
                                                                                 : ask_batches(tail);
    if (error)
        ask_again(tail);
}

/* ---- life ---- */

struct tail *tail_new(struct run *run, struct slot *slot, const char *name, unsigned pause_ms)
{
    struct tail *tail = run_alloc(sizeof(*tail));

    tail->run = run;
    tail->slot = slot;
    tail->pause_ms = pause_ms;
    tail->caller = (struct caller){.run = run, .address = MACHINE_BROKER_ADDRESS};
    tail->timer.fire = on_timer;
    snprintf(tail->name, sizeof(tail->name), "%s", name);
    ask_again(tail);
    return tail;
}

struct tail *tail_new_drain(struct run *run, struct slot *slot)
{
    char name[HISTORY_NAME_MAX * 2];

    snprintf(name, sizeof(name), "the drain of %.24s/%.24s", slot->topic, slot->partition);
    if (slot->current)
        slot->current->drained = false;
    struct tail *tail = tail_new(run, slot, name, DRAIN_PAUSE_MS);
    tail->drain = true;
    return tail;
}

bool tail_is_done(const struct tail *tail)
{
    return tail->done;
}

void tail_stop(struct tail *tail)
{
    tail->stopped = true;
    io_timer_stop(tail->run->loop, &tail->timer);
}

void tail_free(struct tail *tail)
{
    if (!tail)
        return;
    tail_stop(tail);
    caller_close(&tail->caller);
    mem_free(tail->times);
    mem_free(tail);
}
