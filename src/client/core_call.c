/* Calls that find their server: a coordinator, any of the list, or the leader of a partition. A call is tried
 * again, with pauses, until a server has answered it for good or its time is over; the sentence of the last
 * failure then tells what to look at. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "client/core_state.h"

/* The context of one attempt on a link; outlives a canceled call. */
struct core_attempt {
    struct core_call *call; /* NULL: canceled */
    char address[];
};

static void call_finish(struct core_call *call, int error, const void *response)
{
    list_remove(&call->link);
    io_timer_stop(call->core->loop, &call->timer);
    call->done(call, error, response, error ? call->sentence : "");
}

static void call_note(struct core_call *call, int error, const char *address, struct bytes sentence)
{
    call->last_error = error;
    /* A server's text may hold anything, a NUL too. */
    sentence.len = sentence.len ? strnlen((const char *)sentence.ptr, sentence.len) : 0;
    if (sentence.len == 0 && address)
        snprintf(call->sentence, sizeof(call->sentence), "%s: %s", address, error_sentence(error));
    else if (sentence.len == 0)
        snprintf(call->sentence, sizeof(call->sentence), "%s", error_sentence(error));
    else
        snprintf(call->sentence, sizeof(call->sentence), "%.*s",
                 (int)(sentence.len < 380 ? sentence.len : 380), (const char *)sentence.ptr);
}

/* The time is over. */
static void call_give_up(struct core_call *call)
{
    char last[sizeof(call->sentence)];
    int error = call->last_error;
    snprintf(last, sizeof(last), "%s", call->sentence);
    if (call->route && !call->route->known && call->route->call.last_error) {
        /* It came no further than asking a coordinator where the partition is. */
        error = call->route->call.last_error;
        snprintf(last, sizeof(last), "%s", call->route->call.sentence);
    }
    error = error ? error : CLYMQ_ETIMEDOUT;
    if (call->topic) {
        snprintf(call->sentence, sizeof(call->sentence), "no answer in time: %.300s",
                 last[0] ? last : error_sentence(error));
    } else {
        struct strbuf list = {0};
        for (size_t i = 0; i < call->core->coordinator_count; i++)
            strbuf_printf(&list, "%s%s", i ? ", " : "", call->core->coordinators[i]);
        const char *asked = list.data ? list.data : "?";
        if (call->reached)
            snprintf(call->sentence, sizeof(call->sentence),
                     "no coordinator answered within %" PRId64
                     " ms (asked: %.120s; last: %.120s); check that clymqd runs there",
                     call->timeout_ms, asked, last[0] ? last : "no answer");
        else
            snprintf(call->sentence, sizeof(call->sentence),
                     "cannot connect to any coordinator within %" PRId64
                     " ms (asked: %.240s): check the address, and that clymqd runs there",
                     call->unreachable_ms, asked);
        strbuf_free(&list);
    }
    call_finish(call, error, NULL);
}

static void call_pause(struct core_call *call, uint64_t delay_ns)
{
    uint64_t now_ns = io_loop_now_ns(call->core->loop);
    if (now_ns + delay_ns > call->deadline_ns)
        delay_ns = call->deadline_ns > now_ns ? call->deadline_ns - now_ns : 0;
    if (io_timer_start(call->core->loop, &call->timer, delay_ns) != 0) {
        call_note(call, CLYMQ_ENOMEM, NULL, bytes_of(NULL, 0));
        call_finish(call, CLYMQ_ENOMEM, NULL);
    }
}

static void call_again(struct core_call *call)
{
    call->attempts++;
    call_pause(call, core_backoff_ns(call->core, call->attempts));
}

/* Whether a server's answer means: later, or elsewhere. */
static bool error_asks_again(int error)
{
    return error == CLYMQ_EAGAIN || error == CLYMQ_ENOT_LEADER || error == CLYMQ_ESHUTDOWN ||
           error == CLYMQ_ESESSION || error == CLYMQ_EPARTITION_REMOVED;
}

static void call_answered(void *ctx, const struct net_answer *answer)
{
    struct core_attempt *attempt = ctx;
    struct core_call *call = attempt->call;
    if (!call) {
        mem_free(attempt);
        return;
    }
    call->attempt = NULL;
    struct core *core = call->core;
    struct bytes sentence;
    int error = core_answer_error(call->method, answer, &sentence);
    if (error == 0) {
        mem_free(attempt);
        call_finish(call, 0, answer->response);
        return;
    }
    /* An answer too long for us would be so again. */
    bool moved = core_error_is_transport(answer) && !core_error_is_own_limit(answer);
    bool astray = call->topic && (error == CLYMQ_ETOPIC_UNKNOWN || error == CLYMQ_EPARTITION_UNKNOWN);
    call->reached |= error != CLYMQ_EUNREACH;
    call_note(call, error, attempt->address, sentence);
    mem_free(attempt);
    if (!moved && !astray && !error_asks_again(error)) {
        call_finish(call, error, answer->response);
        return;
    }
    if (call->topic)
        core_topic_refresh(call->route);
    else
        core->coordinator_at = (core->coordinator_at + 1) % core->coordinator_count;
    call_again(call);
}

/* The leader of the call's partition; NULL: not known yet (a pause was begun), or the call was finished. */
static const char *call_find_leader(struct core_call *call)
{
    struct core_topic *topic = call->route;
    const struct core_partition *partition = topic->known ? core_topic_find(topic, call->partition) : NULL;
    if (partition && partition->leader)
        return partition->leader;
    int error = partition ? CLYMQ_EAGAIN : 0;
    bool fresh = topic->version != call->start_version;
    call->reached |= fresh && topic->error != CLYMQ_EUNREACH; /* a coordinator answered at least */
    if (fresh && (topic->unknown >= 2 ||
                  (topic->error && !error_retriable(topic->error) && topic->error != CLYMQ_ETOPIC_UNKNOWN))) {
        /* While it is asked anew the sentence may be of that. */
        call_note(call, topic->error, NULL, bytes_of_text(topic->calling ? "" : topic->call.sentence));
        call_finish(call, topic->error, NULL);
        return NULL;
    }
    if (topic->known && !partition && topic->version != call->route_version) {
        call->route_version = topic->version;
        if (++call->unknown >= 2) {
            call_note(call, CLYMQ_EPARTITION_UNKNOWN, NULL, bytes_of(NULL, 0));
            call_finish(call, CLYMQ_EPARTITION_UNKNOWN, NULL);
            return NULL;
        }
    }
    if (error || topic->error)
        call_note(call, error ? error : topic->error, NULL,
                  error ? BYTES_LITERAL("the partition has no leader now")
                        : bytes_of_text(topic->call.sentence));
    core_topic_refresh(topic);
    /* Metadata usually comes within a millisecond or two. */
    uint64_t delay_ns = IO_MS(2) << (call->waits < 6 ? call->waits : 6);
    call->waits++;
    call_pause(call, delay_ns);
    return NULL;
}

static void call_try(struct io_timer *timer)
{
    struct core_call *call = timer->ctx;
    struct core *core = call->core;
    uint64_t now_ns = io_loop_now_ns(core->loop);
    if (now_ns >= call->deadline_ns || (!call->reached && now_ns >= call->unreachable_ns)) {
        call_give_up(call);
        return;
    }
    const char *address = call->topic ? call_find_leader(call) : core->coordinators[core->coordinator_at];
    if (!address)
        return;
    int64_t left_ms = (int64_t)((call->deadline_ns - now_ns) / 1000000) + 1;
    /* One that is silent must leave time for asking another. */
    if (!call->topic && core->coordinator_count > 1 && left_ms > 1000)
        left_ms /= 2;
    size_t size = strlen(address) + 1;
    struct core_attempt *attempt = mem_alloc(sizeof(*attempt) + size);
    struct core_link *link = core_link_get(core, address, 0);
    int error = CLYMQ_ENOMEM;
    if (attempt && link) {
        attempt->call = call;
        memcpy(attempt->address, address, size);
        error = core_link_call(link, call->method, call->request, NULL, left_ms, call_answered, attempt);
    }
    if (error) {
        mem_free(attempt);
        call_note(call, error, address, bytes_of(NULL, 0));
        call_again(call);
        return;
    }
    call->attempt = attempt;
}

int core_call_start(struct core *core, struct core_call *call)
{
    call->core = core;
    call->attempt = NULL;
    call->attempts = call->waits = call->unknown = 0;
    call->route = NULL;
    call->last_error = 0;
    call->sentence[0] = '\0';
    if (call->timeout_ms <= 0)
        call->timeout_ms = core->config.request_timeout_ms;
    if (call->topic && !(call->route = core_topic_get(core, call->topic)))
        return CLYMQ_ENOMEM;
    call->start_version = call->route_version = call->route ? call->route->version : 0;
    if (call->unreachable_ms <= 0 || call->unreachable_ms > call->timeout_ms)
        call->unreachable_ms = call->timeout_ms;
    call->reached = false;
    call->deadline_ns = io_loop_now_ns(core->loop) + IO_MS(call->timeout_ms);
    call->unreachable_ns = io_loop_now_ns(core->loop) + IO_MS(call->unreachable_ms);
    call->timer = (struct io_timer){.fire = call_try, .ctx = call};
    int error = io_timer_start(core->loop, &call->timer, 0);
    if (error)
        return error;
    list_push_back(&core->calls, &call->link);
    return 0;
}

void core_call_cancel(struct core_call *call)
{
    if (!call->core || !call->link.next)
        return;
    list_remove(&call->link);
    io_timer_stop(call->core->loop, &call->timer);
    if (call->attempt)
        call->attempt->call = NULL;
    call->attempt = NULL;
}
