/* Shards: mailboxes, threads, tails.
 *
 * A mailbox is the intrusive queue of many producers and one consumer that Dmitry Vyukov published on
 * 1024cores.net
 * ("Intrusive MPSC node-based queue"): a push is one exchange and one store. A flag beside it says that the
 * receiver has been woken and has not looked yet, so that a burst costs one wake. A producer that has
 * exchanged but not yet linked its message hides those behind it for a moment; it wakes the receiver itself
 * when it is done. */
#include "shard/shard.h"

#include <assert.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/thread.h"

/* Messages run in one round of the loop before sockets and timers get their turn. */
enum { MESSAGES_PER_ROUND = 1024 };
/* Rounds of tails that arm tails, before the loop goes on. */
enum { TAIL_PASSES = 8 };

struct mailbox {
    _Alignas(64) _Atomic(struct shard_message *) head; /* last pushed; the producers' line */
    atomic_bool woken;
    _Alignas(64) struct shard_message *tail; /* next to be taken; the consumer's line */
    struct shard_message stub;
};

struct shard_home {
    struct shard shard;
    struct mailbox mailbox;
    struct list tails; /* struct shard_tail */
    struct metric *messages;
    pthread_t thread;
};

struct shards {
    void *memory; /* what was allocated: the struct begins at a cache line within */
    unsigned count;
    bool own_loops; /* and threads */
    bool running;
    struct shard_home homes[];
};

static struct shard_home *home_of(struct shard *shard)
{
    return CONTAINER_OF(shard, struct shard_home, shard);
}

static void mailbox_init(struct mailbox *mailbox)
{
    atomic_init(&mailbox->stub.next, NULL);
    atomic_init(&mailbox->head, &mailbox->stub);
    atomic_init(&mailbox->woken, false);
    mailbox->tail = &mailbox->stub;
}

static void mailbox_push(struct mailbox *mailbox, struct shard_message *message)
{
    atomic_store_explicit(&message->next, NULL, memory_order_relaxed);
    struct shard_message *before = atomic_exchange_explicit(&mailbox->head, message, memory_order_acq_rel);
    atomic_store_explicit(&before->next, message, memory_order_release);
}

/* NULL: empty, or the next message is not linked yet. */
static struct shard_message *mailbox_pop(struct mailbox *mailbox)
{
    struct shard_message *tail = mailbox->tail;
    struct shard_message *next = atomic_load_explicit(&tail->next, memory_order_acquire);
    if (tail == &mailbox->stub) {
        if (!next)
            return NULL;
        mailbox->tail = tail = next;
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
    }
    if (!next) {
        if (tail != atomic_load_explicit(&mailbox->head, memory_order_acquire))
            return NULL;
        mailbox_push(mailbox, &mailbox->stub); /* so that the last message can leave the queue */
        next = atomic_load_explicit(&tail->next, memory_order_acquire);
        if (!next)
            return NULL;
    }
    mailbox->tail = next;
    return tail;
}

void shard_send(struct shard *to, struct shard_message *message)
{
    struct mailbox *mailbox = &home_of(to)->mailbox;
    mailbox_push(mailbox, message);
    /* An exchange, not a load: it orders the push before the look at the flag. */
    if (!atomic_exchange_explicit(&mailbox->woken, true, memory_order_acq_rel))
        io_loop_wake(to->loop);
}

static void on_wake(void *ctx)
{
    struct shard_home *home = ctx;
    struct mailbox *mailbox = &home->mailbox;
    atomic_exchange_explicit(&mailbox->woken, false, memory_order_acq_rel);
    unsigned count = 0;
    struct shard_message *message;
    while (count < MESSAGES_PER_ROUND && (message = mailbox_pop(mailbox))) {
        message->run(&home->shard, message);
        count++;
    }
    if (home->messages && count > 0)
        metric_add(home->messages, count);
    if (count == MESSAGES_PER_ROUND && !atomic_exchange_explicit(&mailbox->woken, true, memory_order_acq_rel))
        io_loop_wake(home->shard.loop);
}

static void run_tails_once(struct shard_home *home)
{
    struct list now, *link;
    list_init(&now);
    list_move_all(&home->tails, &now);
    while ((link = list_pop_front(&now))) {
        struct shard_tail *tail = CONTAINER_OF(link, struct shard_tail, link);
        tail->run(tail);
    }
}

static void on_tail(void *ctx)
{
    struct shard_home *home = ctx;
    for (unsigned pass = 0; pass < TAIL_PASSES && !list_empty(&home->tails); pass++)
        run_tails_once(home);
    if (!list_empty(&home->tails))
        io_loop_wake(home->shard.loop);
}

void shard_at_tail(struct shard *shard, struct shard_tail *tail)
{
    if (list_empty(&tail->link))
        list_push_back(&home_of(shard)->tails, &tail->link);
}

struct shard *shard_current(void)
{
    struct io_loop *loop = io_loop_current();
    return loop && loop->on_wake == on_wake ? &((struct shard_home *)loop->wake_ctx)->shard : NULL;
}

unsigned shards_count(const struct shards *shards)
{
    return shards->count;
}

struct shard *shards_get(struct shards *shards, unsigned id)
{
    assert(id < shards->count);
    return &shards->homes[id].shard;
}

static int home_init(struct shards *shards, unsigned id, struct io_loop *loop, struct metrics *metrics)
{
    struct shard_home *home = &shards->homes[id];
    if (metrics) {
        char labels[32];
        snprintf(labels, sizeof(labels), "shard=\"%u\"", id);
        home->messages = metrics_register(metrics, METRIC_COUNTER, "clymq_shard_messages_total", labels,
                                          "Messages between shards that this shard has run.");
        if (!home->messages)
            return CLYMQ_ENOMEM;
    }
    home->shard.id = id;
    home->shard.group = shards;
    home->shard.loop = loop;
    uint64_t seed;
    io_loop_random(loop, &seed, sizeof(seed));
    rng_seed(&home->shard.rng, seed);
    mailbox_init(&home->mailbox);
    list_init(&home->tails);
    io_loop_on_wake(loop, on_wake, home);
    io_loop_on_tail(loop, on_tail, home);
    return 0;
}

static struct shards *shards_alloc(unsigned count, bool own_loops)
{
    struct shards *shards;
    size_t line = _Alignof(struct shards);
    void *memory = mem_zalloc(sizeof(*shards) + count * sizeof(shards->homes[0]) + line);
    if (!memory)
        return NULL;
    shards = (struct shards *)(((uintptr_t)memory + line - 1) & ~(uintptr_t)(line - 1));
    shards->memory = memory;
    shards->count = count;
    shards->own_loops = own_loops;
    return shards;
}

static void *run_shard(void *ctx)
{
    struct shard_home *home = ctx;
    (void)io_thread_short_turns();
    io_loop_run(home->shard.loop);
    return NULL;
}

static int start_thread(struct shard_home *home)
{
    char name[16];
    snprintf(name, sizeof(name), "shard-%u", home->shard.id);
    return io_thread_start(name, run_shard, home, &home->thread);
}

static void join_first(struct shards *shards, unsigned count)
{
    for (unsigned i = 0; i < count; i++)
        io_loop_stop(shards->homes[i].shard.loop);
    for (unsigned i = 0; i < count; i++)
        pthread_join(shards->homes[i].thread, NULL);
}

int shards_new(unsigned count, unsigned disk_workers, struct metrics *metrics, struct shards **ret_shards)
{
    if (count < 1 || count > 256)
        return CLYMQ_EINVAL;
    struct shards *shards = shards_alloc(count, true);
    if (!shards)
        return CLYMQ_ENOMEM;
    int error = 0;
    for (unsigned i = 0; i < count && !error; i++) {
        struct io_loop *loop;
        error = io_os_loop_new(disk_workers, &loop);
        if (!error && (error = home_init(shards, i, loop, metrics)) != 0)
            io_loop_free(loop);
    }
    for (unsigned i = 0; i < count && !error; i++) {
        error = start_thread(&shards->homes[i]);
        if (error)
            join_first(shards, i);
    }
    if (error) {
        shards_free(shards);
        return error;
    }
    shards->running = true;
    *ret_shards = shards;
    return 0;
}

int shards_new_on_loops(struct io_loop **loops, unsigned count, struct metrics *metrics,
                        struct shards **ret_shards)
{
    if (count < 1 || count > 256)
        return CLYMQ_EINVAL;
    struct shards *shards = shards_alloc(count, false);
    if (!shards)
        return CLYMQ_ENOMEM;
    for (unsigned i = 0; i < count; i++) {
        int error = home_init(shards, i, loops[i], metrics);
        if (error) {
            shards_free(shards);
            return error;
        }
    }
    *ret_shards = shards;
    return 0;
}

void shards_stop(struct shards *shards)
{
    if (shards->running)
        join_first(shards, shards->count);
    shards->running = false;
}

void shards_free(struct shards *shards)
{
    if (!shards)
        return;
    shards_stop(shards);
    for (unsigned i = 0; i < shards->count; i++) {
        struct io_loop *loop = shards->homes[i].shard.loop;
        if (!loop)
            continue;
        io_loop_on_wake(loop, NULL, NULL);
        io_loop_on_tail(loop, NULL, NULL);
        if (shards->own_loops)
            io_loop_free(loop);
    }
    mem_free(shards->memory);
}
