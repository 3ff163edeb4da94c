/* A topic that is produced to: follows its metadata, deals the limbo out once the partitions are known, and
 * fails what can never be sent: a topic or partition that metadata denies twice. */
#include <assert.h>

#include "base/mem.h"
#include "client/producer_state.h"

/* First all are taken off, then they are told: what a callback adds meanwhile waits for another answer. */
static void limbo_fail(struct producer_topic *topic, int error)
{
    struct core_producer *producer = topic->producer;
    struct accumulator_partition *limbo = &topic->intake->limbo;
    struct list taken, *at;
    list_init(&taken);
    producer_lock(producer);
    accumulator_close(&producer->accumulator, limbo);
    list_remove(&limbo->ready);
    list_move_all(&limbo->closed, &taken);
    producer_unlock(producer);
    while ((at = list_pop_front(&taken)) != NULL)
        producer_settle(producer, CONTAINER_OF(at, struct accumulator_batch, link), error, -1);
}

static void topic_fail(struct producer_topic *topic, int error)
{
    limbo_fail(topic, error);
    LIST_FOR_EACH(at, &topic->senders)
        sender_fail(CONTAINER_OF(at, struct core_sender, link), error);
}

static bool topic_has_work(struct producer_topic *topic)
{
    struct core_producer *producer = topic->producer;
    producer_lock(producer);
    bool work = topic->intake->limbo.open || !list_empty(&topic->intake->limbo.closed);
    producer_unlock(producer);
    LIST_FOR_EACH(at, &topic->senders) {
        struct core_sender *sender = CONTAINER_OF(at, struct core_sender, link);
        work |= !list_empty(&sender->queue) || !list_empty(&sender->in_flight);
    }
    return work;
}

static int topic_take_partitions(struct producer_topic *topic)
{
    struct core_producer *producer = topic->producer;
    const struct core_topic *known = topic->topic;
    const char **names = mem_calloc(known->count ? known->count : 1, sizeof(*names));
    if (!names)
        return CLYMQ_ENOMEM;
    for (size_t i = 0; i < known->count; i++)
        names[i] = known->partitions[i].name;
    producer_lock(producer);
    int error = accumulator_set_partitions(&producer->accumulator, topic->intake, names, known->count);
    if (!error && known->count > 0)
        error = accumulator_deal(&producer->accumulator, topic->intake);
    producer_unlock(producer);
    mem_free(names);
    return error;
}

static void topic_changed(struct core_topic_watch *watch)
{
    struct producer_topic *topic = watch->ctx;
    struct core_topic *known = topic->topic;
    if (known->error) {
        if (known->unknown >= 2)
            topic_fail(topic, CLYMQ_ETOPIC_UNKNOWN);
        else if (known->error != CLYMQ_ETOPIC_UNKNOWN && !error_retriable(known->error))
            /* What was too big is the answer about the topic, no message. */
            topic_fail(topic, known->error == CLYMQ_ETOOBIG ? CLYMQ_ELIMIT : known->error);
        if (topic_has_work(topic))
            core_topic_refresh(known);
        return;
    }
    if (topic_take_partitions(topic) != 0) {
        core_topic_refresh(known);
        return;
    }
    topic->empty = known->count ? 0 : topic->empty + 1;
    if (topic->empty >= 2)
        limbo_fail(topic, CLYMQ_EPARTITION_UNKNOWN);
    else if (topic->empty)
        core_topic_refresh(known);
    LIST_FOR_EACH(at, &topic->senders) {
        struct core_sender *sender = CONTAINER_OF(at, struct core_sender, link);
        bool missing = !core_topic_find_near(known, sender->intake->name, &sender->place);
        sender->missing = missing ? sender->missing + 1 : 0;
        if (sender->missing >= 2)
            sender_fail(sender, CLYMQ_EPARTITION_UNKNOWN);
        else
            sender_pump(sender);
    }
    core_producer_kick(topic->producer);
}

/* The limbo's oldest batch, open or closed. */
static struct accumulator_batch *limbo_oldest(struct producer_topic *topic)
{
    struct accumulator_partition *limbo = &topic->intake->limbo;
    if (!list_empty(&limbo->closed))
        return CONTAINER_OF(limbo->closed.next, struct accumulator_batch, link);
    return limbo->open;
}

static void topic_expire(struct io_timer *timer)
{
    struct producer_topic *topic = timer->ctx;
    struct core_producer *producer = topic->producer;
    uint64_t now_ns = io_loop_now_ns(producer->core->loop);
    for (;;) {
        producer_lock(producer);
        struct accumulator_batch *oldest = limbo_oldest(topic);
        bool expired = oldest && oldest->opened_ns &&
                       oldest->opened_ns + IO_MS(producer->config.delivery_timeout_ms) <= now_ns;
        if (expired && oldest == topic->intake->limbo.open)
            accumulator_close(&producer->accumulator, &topic->intake->limbo);
        if (expired)
            accumulator_take(&topic->intake->limbo);
        producer_unlock(producer);
        if (!expired)
            break;
        producer_settle(producer, oldest, topic->topic->error ? topic->topic->error : CLYMQ_EAGAIN, -1);
    }
    core_producer_kick(producer);
}

void producer_topic_tend(struct producer_topic *topic)
{
    struct core_producer *producer = topic->producer;
    if (topic->topic->known && topic->topic->count > 0)
        (void)topic_take_partitions(topic);
    producer_lock(producer);
    struct accumulator_batch *oldest = limbo_oldest(topic);
    uint64_t opened_ns = oldest ? oldest->opened_ns : 0;
    producer_unlock(producer);
    if (!oldest)
        return;
    core_topic_refresh(topic->topic);
    uint64_t now_ns = io_loop_now_ns(producer->core->loop);
    uint64_t deadline_ns = (opened_ns ? opened_ns : now_ns) + IO_MS(producer->config.delivery_timeout_ms);
    if (!io_timer_armed(&topic->timer))
        (void)io_timer_start(producer->core->loop, &topic->timer,
                             deadline_ns > now_ns ? deadline_ns - now_ns : 0);
}

int producer_topic_new(struct core_producer *producer, struct accumulator_topic *intake)
{
    struct core_topic *known = core_topic_get(producer->core, intake->name);
    struct producer_topic *topic = known ? mem_zalloc(sizeof(*topic)) : NULL;
    if (!topic)
        return CLYMQ_ENOMEM;
    topic->producer = producer;
    topic->intake = intake;
    topic->topic = known;
    topic->timer = (struct io_timer){.fire = topic_expire, .ctx = topic};
    topic->watch = (struct core_topic_watch){.changed = topic_changed, .ctx = topic};
    list_init(&topic->senders);
    list_push_back(&producer->topics, &topic->link);
    core_topic_watch_add(known, &topic->watch);
    intake->ctx = topic;
    core_topic_refresh(known);
    return 0;
}

void producer_topic_free(struct producer_topic *topic)
{
    assert(topic->producer->freeing);
    LIST_FOR_EACH_SAFE(at, &topic->senders)
        sender_free(CONTAINER_OF(at, struct core_sender, link));
    io_timer_stop(topic->producer->core->loop, &topic->timer);
    core_topic_watch_remove(&topic->watch);
    list_remove(&topic->link);
    topic->intake->ctx = NULL;
    mem_free(topic);
}
