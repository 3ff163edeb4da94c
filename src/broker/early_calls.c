/* Calls in the order they came, found again by the partition that they wait for. */
#include "broker/early_calls.h"

#include "base/error.h"
#include "base/mem.h"

struct early_call {
    struct list link;
    struct net_call *call;
    uint64_t hash;
};

void early_calls_init(struct early_calls *early)
{
    list_init(&early->all);
    for (unsigned i = 0; i < EARLY_BUCKETS; i++)
        list_init(&early->waiting[i]);
}

static struct list *bucket_of(struct early_calls *early, uint64_t hash)
{
    return &early->waiting[hash % EARLY_BUCKETS];
}

static int add(struct list *to, uint64_t hash, struct net_call *call)
{
    struct early_call *entry = mem_alloc(sizeof(*entry));

    if (!entry)
        return CLYMQ_ENOMEM;
    *entry = (struct early_call){.call = call, .hash = hash};
    list_push_back(to, &entry->link);
    return 0;
}

int early_calls_add(struct early_calls *early, struct net_call *call)
{
    return add(&early->all, 0, call);
}

int early_calls_add_waiting(struct early_calls *early, uint64_t hash, struct net_call *call)
{
    return add(bucket_of(early, hash), hash, call);
}

static void run_list(struct list *entries, early_call_run run, void *ctx)
{
    struct list *link;

    while ((link = list_pop_front(entries))) {
        struct early_call *entry = CONTAINER_OF(link, struct early_call, link);
        struct net_call *call = entry->call;

        mem_free(entry);
        run(ctx, call);
    }
}

void early_calls_run_waiting(struct early_calls *early, uint64_t hash, early_call_run run, void *ctx)
{
    struct list now;

    list_init(&now);
    LIST_FOR_EACH_SAFE(link, bucket_of(early, hash)) {
        if (CONTAINER_OF(link, struct early_call, link)->hash == hash) {
            list_remove(link);
            list_push_back(&now, link);
        }
    }
    run_list(&now, run, ctx);
}

void early_calls_run_all(struct early_calls *early, early_call_run run, void *ctx)
{
    struct list now;

    list_init(&now); /* moved first, so that what run adds is not run again */
    for (unsigned i = 0; i < EARLY_BUCKETS; i++)
        list_move_all(&early->waiting[i], &now);
    list_move_all(&early->all, &now);
    run_list(&now, run, ctx);
}

static void forget(void *ctx, struct net_call *call)
{
}

void early_calls_free(struct early_calls *early)
{
    early_calls_run_all(early, forget, NULL);
}
