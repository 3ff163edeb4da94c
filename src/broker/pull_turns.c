/* Turns by bytes per round: see pull_turns.h. */
#include "broker/pull_turns.h"

enum {
    ROUND_BYTES = 512 << 10, /* of log, worked on in one round: 1 to 2 ms */
};

static void on_timer(struct io_timer *timer);

void pull_turns_init(struct pull_turns *turns, struct shard *shard, size_t least)
{
    *turns = (struct pull_turns){
        .shard = shard, .timer = {.fire = on_timer, .ctx = turns}, .least = least, .guess = least};
    list_init(&turns->waiting);
}

void pull_turns_end(struct pull_turns *turns)
{
    io_timer_stop(turns->shard->loop, &turns->timer);
    while (!list_empty(&turns->waiting))
        list_pop_front(&turns->waiting);
}

static bool is_over(struct pull_turns *turns)
{
    uint64_t now = io_loop_now_ns(turns->shard->loop);

    if (now != turns->round_ns) {
        turns->round_ns = now;
        turns->bytes = 0;
    }
    return turns->bytes >= ROUND_BYTES;
}

bool pull_turns_take(struct pull_turns *turns, struct pull_turn *turn)
{
    if (list_empty(&turns->waiting) && !is_over(turns)) {
        turns->bytes += turns->guess;
        return true;
    }
    /* Without memory for a timer nobody would call it. */
    if (!io_timer_armed(&turns->timer) && io_timer_start(turns->shard->loop, &turns->timer, 0))
        return true;
    list_push_back(&turns->waiting, &turn->link);
    return false;
}

void pull_turns_spend(struct pull_turns *turns, size_t bytes)
{
    (void)is_over(turns); /* it may be another round by now */
    if (bytes > turns->guess)
        turns->bytes += bytes - turns->guess;
    turns->guess = bytes > turns->guess ? bytes : turns->guess - (turns->guess - bytes) / 8;
    if (turns->guess < turns->least)
        turns->guess = turns->least;
}

static void on_timer(struct io_timer *timer)
{
    struct pull_turns *turns = timer->ctx;

    turns->bytes = 0;
    while (!list_empty(&turns->waiting) && turns->bytes < ROUND_BYTES) {
        struct pull_turn *turn = CONTAINER_OF(list_pop_front(&turns->waiting), struct pull_turn, link);

        turns->bytes += turns->guess;
        turn->run(turn);
    }
    /* In the place that was just left: cannot fail. */
    if (!list_empty(&turns->waiting))
        (void)io_timer_start(turns->shard->loop, &turns->timer, 0);
}
