/* The removal of a topic that is marked as deleting, or whose creation was given up: the data of every
 * partition (by their drivers), then the nodes, then the registry's entry. It starts again at every
 * activation until it is done. */
#define LOG_MODULE "coord"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/coordinator.h"

enum removal_stage { REMOVE_DATA, REMOVE_NODES, REMOVE_RETRY };

struct removal {
    struct task task;
    struct registry_topic *topic;
    enum removal_stage stage;
    uint32_t checked; /* partitions before it are done */
    int error;
};

static void removal_fail(struct removal *removal, int error)
{
    struct registry_topic *topic = removal->topic;
    removal->error = error;
    removal->stage = REMOVE_RETRY;
    log_limited(LOG_WARN, "deleting topic %s: %s; trying again", topic->name, error_sentence(error));
    task_pause(&removal->task, removal->task.coord->config.retry_ms);
    if (topic->waiter)
        task_ready(topic->waiter, 0);
}

/* Whether every partition's data are gone, and no driver is at work on its nodes. A topic that was never made
 * ready has no data anywhere. Partitions leave the array only through their drivers, which removal_notify
 * tells of. */
static bool removal_data_gone(struct removal *removal)
{
    const struct registry_topic *topic = removal->topic;
    if (topic->state == STATE_CREATING)
        return true;
    while (removal->checked < topic->partition_count && topic->partitions[removal->checked]->data_removed &&
           !topic->partitions[removal->checked]->driver)
        removal->checked++;
    return removal->checked >= topic->partition_count;
}

static void removal_purge(struct removal *removal)
{
    struct coord *coord = removal->task.coord;
    removal->stage = REMOVE_NODES;
    char *path = path_topic(coord, removal->topic->name);
    int error = path ? purge_start(coord, path, &removal->task) : CLYMQ_ENOMEM;
    if (error)
        removal_fail(removal, error);
}

static void removal_data(struct removal *removal)
{
    struct registry_topic *topic = removal->topic;
    if (removal_data_gone(removal)) {
        removal_purge(removal);
        return;
    }
    /* The one it stopped at tells when it is through or has failed. */
    const struct registry_partition *partition = topic->partitions[removal->checked];
    if (partition->error && partition->error != removal->error) {
        removal->error = partition->error;
        if (topic->waiter)
            task_ready(topic->waiter, 0);
    }
}

static void removal_finish(struct removal *removal)
{
    struct coord *coord = removal->task.coord;
    struct registry_topic *topic = removal->topic;
    log_info("topic %s is deleted", topic->name);
    struct task *waiter = topic->waiter;
    topic->waiter = NULL;
    task_end(&removal->task);
    mem_free(removal);
    registry_remove_topic(&coord->registry, topic);
    if (waiter)
        task_ready(waiter, 0);
}

static void removal_step(struct task *task, int error)
{
    struct removal *removal = (struct removal *)task;
    if (error) {
        removal_fail(removal, error);
    } else if (removal->stage == REMOVE_NODES) {
        removal_finish(removal);
    } else {
        removal->stage = REMOVE_DATA;
        removal_data(removal);
    }
}

static void removal_drop(struct task *task, int error)
{
    struct removal *removal = (struct removal *)task;
    removal->topic->removal = NULL;
    task_end(task);
    mem_free(removal);
}

static void drive_all(struct coord *coord, struct registry_topic *topic)
{
    for (uint32_t i = 0; topic->state == STATE_DELETING && i < topic->partition_count; i++)
        partition_drive(coord, topic->partitions[i]);
}

int removal_start(struct coord *coord, struct registry_topic *topic)
{
    struct removal *removal = (struct removal *)topic->removal;
    if (!removal) {
        removal = mem_zalloc(sizeof(*removal));
        if (!removal) {
            coord_sweep_later(coord);
            return CLYMQ_ENOMEM;
        }
        removal->topic = topic;
        task_init(&removal->task, coord, removal_step, removal_drop);
        topic->removal = &removal->task;
    }
    removal->error = 0;
    for (uint32_t i = 0; i < topic->partition_count; i++)
        topic->partitions[i]->error = 0;
    drive_all(coord, topic);
    if (removal->stage != REMOVE_NODES)
        task_ready(&removal->task, 0);
    return 0;
}

int removal_error(const struct registry_topic *topic)
{
    const struct removal *removal = (const struct removal *)topic->removal;
    return removal ? removal->error : CLYMQ_ENOMEM;
}

void removal_notify(struct registry_topic *topic)
{
    struct removal *removal = (struct removal *)topic->removal;
    if (removal && removal->stage == REMOVE_DATA)
        task_ready(&removal->task, 0);
}
