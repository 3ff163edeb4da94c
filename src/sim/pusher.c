/* Single pushes: see pusher.h. */
#include "sim/pusher.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "sim/caller.h"
#include "sim/history.h"
#include "sim/machine.h"
#include "sim/value.h"

enum { WINDOW_MAX = 8, TRIES_MAX = 30, BACKOFF_MIN_MS = 20, BACKOFF_MAX_MS = 600, HEARTBEAT_MS = 250 };

struct attempt {
    struct pusher *pusher;
    struct io_timer timer; /* until it is sent again */
    bool busy;
    bool doubt; /* an earlier try has an unknown outcome */
    uint32_t message;
    int64_t command_index;
    unsigned tries;
};

struct pusher {
    struct run *run;
    struct pusher_plan plan;
    struct caller caller;
    struct io_timer timer;
    struct attempt attempts[WINDOW_MAX];
    char name[16];
    int64_t session, next_command_index;
    unsigned turn; /* heartbeat: the slot whose turn it is */
    bool stopping, freeing;
};

static int64_t timeout_ms(struct pusher *pusher)
{
    return rng_between(&pusher->run->rng, 200, pusher->plan.heartbeat ? 1500 : 8000);
}

static void finish(struct attempt *attempt, enum message_state state, const char *detail)
{
    attempt->busy = false;
    history_end(attempt->pusher->run->history, attempt->message, state, -1, detail);
}

static void send(struct attempt *attempt);

static void on_again(struct io_timer *timer)
{
    send(CONTAINER_OF(timer, struct attempt, timer));
}

/* A try is over without success. again: another one may follow. */
static void failed(struct attempt *attempt, bool doubt, bool again, const char *detail)
{
    struct pusher *pusher = attempt->pusher;

    attempt->doubt = attempt->doubt || doubt;
    again =
        again && !pusher->freeing && attempt->tries < TRIES_MAX && (!attempt->doubt || pusher->plan.session);
    if (!again) {
        finish(attempt, attempt->doubt ? MESSAGE_UNCERTAIN : MESSAGE_REFUSED, detail);
        return;
    }
    pusher->run->result->counts.repeated++;
    pusher->run->history->messages[attempt->message].resent = true;
    attempt->timer = (struct io_timer){.fire = on_again};
    io_timer_start(pusher->run->loop, &attempt->timer,
                   run_draw_ms(pusher->run, BACKOFF_MIN_MS, BACKOFF_MAX_MS));
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct attempt *attempt = ctx;
    const struct rpc_push_response *response = answer->response;

    switch (caller_judge(answer)) {
    case CALLER_ANSWERED:
        break;
    case CALLER_REFUSED:
        failed(attempt, false, true, caller_text(answer));
        return;
    default:
        failed(attempt, true, true, caller_text(answer));
        return;
    }
    if (response->ret) {
        finish(attempt, MESSAGE_ACKED, "");
        return;
    }
    char detail[120];
    snprintf(detail, sizeof(detail), "%.*s", (int)response->err.len, (const char *)response->err.ptr);
    failed(attempt, false, strcmp(detail, "partition remove") == 0, detail);
}

static void send(struct attempt *attempt)
{
    static uint8_t value[VALUE_SIZE_MAX];
    struct pusher *pusher = attempt->pusher;
    struct history *history = pusher->run->history;
    const struct message *message = &history->messages[attempt->message];
    const struct slot *slot = &history->slots[message->slot];
    struct rpc_push_request request = {
        .producer = bytes_of_text(pusher->name),
        .topic = bytes_of_text(slot->topic),
        .partition = bytes_of_text(slot->partition),
        .message = {value, message->size},
        .ack = message->ack,
        .command_index = attempt->command_index,
        .session = pusher->session,
    };
    const struct rpc_method *method = &rpc_methods[RPC_METHOD_PUSH];

    history_write_value(history, attempt->message, value);
    if (pusher->plan.session)
        rpc_set_present(method->request, &request, offsetof(struct rpc_push_request, session));
    attempt->tries++;
    int error =
        caller_call(&pusher->caller, RPC_METHOD_PUSH, &request, NULL, timeout_ms(pusher), on_answer, attempt);
    if (error)
        failed(attempt, false, true, error_name(error));
    else if (attempt->tries == 1)
        history->messages[attempt->message].link = pusher->caller.links;
}

static struct attempt *idle_attempt(struct pusher *pusher)
{
    for (unsigned i = 0; i < pusher->plan.window; i++)
        if (!pusher->attempts[i].busy)
            return &pusher->attempts[i];
    return NULL;
}

static int8_t draw_ack(struct pusher *pusher, const struct slot *slot)
{
    uint64_t drawn = rng_below(&pusher->run->rng, 10);

    if (pusher->plan.heartbeat)
        return slot->levels ? 1 : -1;
    return drawn < 6 ? -1 : drawn < 9 ? 1 : 0;
}

static void push_one(struct pusher *pusher, struct attempt *attempt)
{
    struct history *history = pusher->run->history;
    struct rng *rng = &pusher->run->rng;
    struct message_plan plan = {.client = pusher->plan.client, .once = true, .size = VALUE_SIZE_MIN};

    plan.slot = &history->slots[pusher->plan.heartbeat ? pusher->turn++ % history->slot_count
                                                       : rng_below(rng, history->slot_count)];
    plan.ack = draw_ack(pusher, plan.slot);
    if (!pusher->plan.heartbeat)
        plan.size += (uint32_t)rng_below(rng, rng_chance(rng, 1, 40) ? 20000 : 300);
    attempt->busy = true;
    attempt->doubt = false;
    attempt->tries = 0;
    attempt->message = history_begin(history, &plan);
    attempt->command_index = pusher->next_command_index++;
    send(attempt);
}

static void on_timer(struct io_timer *timer)
{
    struct pusher *pusher = CONTAINER_OF(timer, struct pusher, timer);
    struct rng *rng = &pusher->run->rng;
    uint64_t burst = 1 + rng_below(rng, pusher->plan.window);
    struct attempt *attempt;

    if (pusher->stopping)
        return;
    while (burst-- > 0 && (attempt = idle_attempt(pusher)))
        push_one(pusher, attempt);
    io_timer_start(pusher->run->loop, &pusher->timer, run_draw_ms(pusher->run, 1, pusher->plan.pause_ms));
}

struct pusher *pusher_new(struct run *run, const struct pusher_plan *plan)
{
    struct pusher *pusher = run_alloc(sizeof(*pusher));

    pusher->run = run;
    pusher->plan = *plan;
    pusher->caller = (struct caller){.run = run, .address = MACHINE_BROKER_ADDRESS};
    pusher->session = (int64_t)(rng_next(&run->rng) | 1);
    snprintf(pusher->name, sizeof(pusher->name), "pusher-%u", plan->client);
    for (unsigned i = 0; i < WINDOW_MAX; i++)
        pusher->attempts[i].pusher = pusher;
    pusher->timer.fire = on_timer;
    io_timer_start(run->loop, &pusher->timer, run_draw_ms(run, 0, plan->pause_ms));
    return pusher;
}

void pusher_stop(struct pusher *pusher)
{
    pusher->stopping = true;
    io_timer_stop(pusher->run->loop, &pusher->timer);
}

bool pusher_is_idle(const struct pusher *pusher)
{
    for (unsigned i = 0; i < pusher->plan.window; i++)
        if (pusher->attempts[i].busy)
            return false;
    return true;
}

void pusher_free(struct pusher *pusher)
{
    if (!pusher)
        return;
    pusher->freeing = true;
    pusher_stop(pusher);
    caller_close(&pusher->caller);
    for (unsigned i = 0; i < WINDOW_MAX; i++)
        if (pusher->attempts[i].busy) {
            io_timer_stop(pusher->run->loop, &pusher->attempts[i].timer);
            finish(&pusher->attempts[i], MESSAGE_UNCERTAIN, "the client ends");
        }
    mem_free(pusher);
}
