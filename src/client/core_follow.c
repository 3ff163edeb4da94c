/* Following topics: partitions that are made while a consumer reads are added by themselves. The topic's
 * metadata, asked for every metadata_max_age_ms, tells of them. */
#include "base/mem.h"
#include "client/consumer_state.h"

enum { AGAIN_MS = 1000 }; /* after metadata or an assignment failed */

struct consumer_follow {
    struct list link; /* in core_consumer.follows */
    struct core_consumer *consumer;
    struct core_topic *topic;
    struct core_topic_watch watch;
    struct io_timer timer;
};

static struct consumer_follow *follow_at(struct list *link)
{
    return CONTAINER_OF(link, struct consumer_follow, link);
}

static void follow_again(struct consumer_follow *follow)
{
    /* Without memory for a timer the next tick does. */
    (void)io_timer_start(follow->consumer->core->loop, &follow->timer, IO_MS(AGAIN_MS));
}

/* Whoever follows hears of new partitions only while somebody is about to ask: a call, or a timer. */
void consumer_follows_tick(struct core_consumer *consumer)
{
    LIST_FOR_EACH(at, &consumer->follows) {
        struct core_topic *topic = follow_at(at)->topic;
        if (!topic->calling && !io_timer_armed(&topic->timer) && !io_timer_armed(&follow_at(at)->timer))
            core_topic_refresh(topic);
    }
}

static void follow_assigned(void *ctx, int error, int64_t position, const char *sentence)
{
    if (error)
        follow_again(ctx);
}

/* One that was never placed, and nobody is about to, counts as not there: its assignment failed. */
static bool is_there(struct core_consumer *consumer, const char *topic, const char *name)
{
    struct strbuf key = {0};
    strbuf_printf(&key, "%s/%s", topic, name);
    const struct consumer_partition *partition =
        key.failed ? NULL : map_get(consumer->by_name, bytes_of(key.data, key.len));
    bool there = key.failed || (partition && (partition->placed || partition->done));
    strbuf_free(&key);
    return there;
}

static void follow_changed(struct core_topic_watch *watch)
{
    struct consumer_follow *follow = watch->ctx;
    const struct core_topic *topic = follow->topic;
    if (follow->consumer->freeing)
        return;
    if (topic->error) {
        follow_again(follow);
        return;
    }
    for (size_t i = 0; i < topic->count; i++) {
        const char *name = topic->partitions[i].name;
        if (!is_there(follow->consumer, topic->name, name) &&
            core_consumer_assign(follow->consumer, topic->name, name, CLYMQ_OFFSET_BEGINNING, false,
                                 follow_assigned, follow) != 0)
            follow_again(follow);
    }
}

static void follow_timer(struct io_timer *timer)
{
    core_topic_refresh(((struct consumer_follow *)timer->ctx)->topic);
}

int core_consumer_follow(struct core_consumer *consumer, const char *topic)
{
    struct core_topic *known = core_topic_get(consumer->core, topic);
    if (!known)
        return CLYMQ_ENOMEM;
    LIST_FOR_EACH(at, &consumer->follows)
        if (follow_at(at)->topic == known)
            return 0;
    struct consumer_follow *follow = mem_zalloc(sizeof(*follow));
    if (!follow)
        return CLYMQ_ENOMEM;
    follow->consumer = consumer;
    follow->topic = known;
    follow->timer = (struct io_timer){.fire = follow_timer, .ctx = follow};
    follow->watch = (struct core_topic_watch){.changed = follow_changed, .ctx = follow};
    core_topic_watch_add(known, &follow->watch);
    list_push_back(&consumer->follows, &follow->link);
    core_topic_refresh(known);
    return 0;
}

void consumer_follows_end(struct core_consumer *consumer)
{
    struct list *at;
    while ((at = list_pop_front(&consumer->follows)) != NULL) {
        struct consumer_follow *follow = follow_at(at);
        core_topic_watch_remove(&follow->watch);
        io_timer_stop(consumer->core->loop, &follow->timer);
        mem_free(follow);
    }
}
