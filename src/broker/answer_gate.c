/* Turns per connection, a budget per shard. */
#include "broker/answer_gate.h"

#include "base/error.h"
#include "base/mem.h"

enum { ACTIVE_MAX = 4, BYTES_USUAL = 1 << 20, BYTES_SHORT = 16 << 10 };

struct answer_turns {
    struct list link;
    uint64_t connection;
    unsigned active;
    struct list left;    /* in the gate's, while its next ones are due */
    struct list waiting; /* struct answer_ticket */
};

static void on_tail(struct shard_tail *tail);

void answer_gate_init(struct answer_gate *gate, struct shard *shard, int64_t budget)
{
    gate->shard = shard;
    gate->bytes = 0;
    gate->budget = budget;
    gate->closed = false;
    list_init(&gate->left);
    list_init(&gate->tail.link);
    gate->tail.run = on_tail;
    gate->tail.ctx = gate;
    for (unsigned i = 0; i < ANSWER_GATE_BUCKETS; i++)
        list_init(&gate->buckets[i]);
}

void answer_gate_close(struct answer_gate *gate)
{
    gate->closed = true;
    list_remove(&gate->tail.link);
    for (unsigned i = 0; i < ANSWER_GATE_BUCKETS; i++)
        while (!list_empty(&gate->buckets[i])) {
            struct answer_turns *turns =
                CONTAINER_OF(list_pop_front(&gate->buckets[i]), struct answer_turns, link);

            while (!list_empty(&turns->waiting))
                list_pop_front(&turns->waiting);
            mem_free(turns);
        }
}

static struct answer_turns *turns_of(struct answer_gate *gate, uint64_t connection)
{
    struct list *bucket = &gate->buckets[connection % ANSWER_GATE_BUCKETS];
    struct answer_turns *turns;

    LIST_FOR_EACH(item, bucket) {
        turns = CONTAINER_OF(item, struct answer_turns, link);
        if (turns->connection == connection)
            return turns;
    }
    turns = mem_zalloc(sizeof(*turns));
    if (!turns)
        return NULL;
    turns->connection = connection;
    list_init(&turns->waiting);
    list_init(&turns->left);
    list_push_back(bucket, &turns->link);
    return turns;
}

static bool is_rich(const struct answer_gate *gate)
{
    return gate->bytes + BYTES_USUAL <= gate->budget;
}

static bool may_run(const struct answer_gate *gate, const struct answer_turns *turns)
{
    return turns->active == 0 || (turns->active < ACTIVE_MAX && is_rich(gate));
}

static void take(struct answer_gate *gate, struct answer_ticket *ticket)
{
    ticket->bytes = is_rich(gate) ? BYTES_USUAL : BYTES_SHORT;
    gate->bytes += (int64_t)ticket->bytes;
    ticket->turns->active++;
    ticket->run(ticket);
}

int answer_gate_enter(struct answer_gate *gate, uint64_t connection, struct answer_ticket *ticket)
{
    list_init(&ticket->link);
    ticket->turns = turns_of(gate, connection);
    if (!ticket->turns)
        return CLYMQ_ENOMEM;
    if (list_empty(&ticket->turns->waiting) && may_run(gate, ticket->turns))
        take(gate, ticket);
    else
        list_push_back(&ticket->turns->waiting, &ticket->link);
    return 0;
}

void answer_gate_made(struct answer_gate *gate, struct answer_ticket *ticket, size_t len)
{
    gate->bytes += (int64_t)len - (int64_t)ticket->bytes;
    ticket->bytes = len;
}

static void on_tail(struct shard_tail *tail)
{
    struct answer_gate *gate = tail->ctx;
    struct list *link;

    while (!gate->closed && (link = list_pop_front(&gate->left))) {
        struct answer_turns *turns = CONTAINER_OF(link, struct answer_turns, left);

        while (!list_empty(&turns->waiting) && may_run(gate, turns))
            take(gate, CONTAINER_OF(list_pop_front(&turns->waiting), struct answer_ticket, link));
        if (turns->active == 0) {
            list_remove(&turns->left);
            list_remove(&turns->link);
            mem_free(turns);
        }
    }
}

/* The next ones run at the end of the round: an answer is dropped while its connection is being closed, where
 * no other call may be answered. */
void answer_gate_leave(struct answer_gate *gate, struct answer_ticket *ticket)
{
    struct answer_turns *turns = ticket->turns;

    if (gate->closed || !turns)
        return;
    ticket->turns = NULL;
    gate->bytes -= (int64_t)ticket->bytes;
    turns->active--;
    if (list_empty(&turns->left))
        list_push_back(&gate->left, &turns->left);
    shard_at_tail(gate->shard, &gate->tail);
}
