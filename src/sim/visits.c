/* Visits: see visits.h. Memory is looked at a few times before and after, and the least of it counts, because
 * the broker has work of its own (retention, checkpoints) that takes and gives back some. */
#include "sim/visits.h"

#include <inttypes.h>

#include "base/mem.h"
#include "sim/caller.h"
#include "sim/history.h"
#include "sim/machine.h"

enum {
    WARM_UP = 20, /* visits that may still fill caches */
    COUNT = 80,
    PAUSE_MS = 2,
    TIMEOUT_MS = 1000,
    LOOKS = 25,
    LOOK_MS = 20,
    LEFT_MAX = 4096, /* bytes; a connection alone is several hundred */
};

struct visits {
    struct run *run;
    struct caller caller;
    struct io_timer timer;
    unsigned made, looks;
    uint64_t before, least;
    bool over;
};

static void next(struct visits *visits, uint64_t delay_ms)
{
    io_timer_start(visits->run->loop, &visits->timer, IO_MS(delay_ms));
}

static void on_answer(void *ctx, const struct net_answer *answer)
{
    struct visits *visits = ctx;

    (void)answer; /* whatever it was; a connection was made for it */
    next(visits, PAUSE_MS);
}

static void visit(struct visits *visits)
{
    const struct slot *slot = &visits->run->history->slots[visits->made % visits->run->history->slot_count];
    struct rpc_list_offset_request request = {
        .topic = bytes_of_text(slot->topic),
        .partition = bytes_of_text(slot->partition),
        .timestamp_ms = -1,
    };

    visits->made++;
    if (caller_call(&visits->caller, RPC_METHOD_LIST_OFFSET, &request, NULL, TIMEOUT_MS, on_answer, visits))
        next(visits, PAUSE_MS);
}

/* Whether the looks are complete. */
static bool look(struct visits *visits)
{
    uint64_t live = mem_live_bytes();

    if (visits->looks == 0 || live < visits->least)
        visits->least = live;
    if (++visits->looks < LOOKS) {
        next(visits, LOOK_MS);
        return false;
    }
    visits->looks = 0;
    return true;
}

static void on_timer(struct io_timer *timer)
{
    struct visits *visits = CONTAINER_OF(timer, struct visits, timer);

    caller_close(&visits->caller);
    if (visits->made == WARM_UP && !visits->before) {
        if (!look(visits))
            return;
        visits->before = visits->least;
    }
    if (visits->made < WARM_UP + COUNT) {
        visit(visits);
        return;
    }
    if (!look(visits))
        return;
    visits->over = true;
    if (visits->least > visits->before + LEFT_MAX)
        run_violation(visits->run, "I8", "%d connections that came and went left %" PRIu64 " bytes of memory",
                      COUNT, visits->least - visits->before);
}

struct visits *visits_new(struct run *run)
{
    struct visits *visits = run_alloc(sizeof(*visits));

    visits->run = run;
    visits->caller = (struct caller){.run = run, .address = MACHINE_BROKER_ADDRESS};
    visits->timer.fire = on_timer;
    next(visits, 0);
    return visits;
}

bool visits_are_over(const struct visits *visits)
{
    return visits->over;
}

void visits_free(struct visits *visits)
{
    if (!visits)
        return;
    caller_close(&visits->caller);
    io_timer_stop(visits->run->loop, &visits->timer);
    mem_free(visits);
}
