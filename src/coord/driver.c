/* A partition's driver: the one place that moves a partition from whatever state the metadata record towards
 * "in service", or towards "gone". It looks at the registry, does the next step (a broker call, a
 * transaction), enters the outcome and looks again; so an operation only records what it wants, and a
 * coordinator that was just activated goes on where the last one stopped. One driver per partition at a time:
 * calls for one partition never overlap. It ends when nothing is left to do. */
#define LOG_MODULE "coord"

#include <assert.h>
#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/coordinator.h"

enum driver_stage {
    DRIVE_START,
    DRIVE_OPEN,        /* the first block is made on its broker */
    DRIVE_RECORD_OPEN, /* … and recorded as open */
    DRIVE_SERVE,       /* the leader is told the chain */
    DRIVE_ROUND,       /* a new sealing round is recorded */
    DRIVE_SEAL,
    DRIVE_OPEN_NEXT,    /* the next block is made on its broker */
    DRIVE_RECORD_NEXT,  /* … and both are recorded in one transaction */
    DRIVE_DELETE_BLOCK, /* a dropped block's files are removed */
    DRIVE_FORGET_BLOCK, /* … and its nodes */
    DRIVE_DELETE_DATA,  /* a deleted partition's files are removed */
    DRIVE_PURGE,        /* … and its nodes */
    DRIVE_RETRY,
};

struct driver {
    struct task task;
    struct registry_partition *partition;
    enum driver_stage stage;
    uint32_t at;           /* DELETE_…: which broker */
    int64_t end;           /* of the block being sealed */
    uint32_t chain_change; /* the chain as the leader is being told it */
};

static void driver_continue(struct driver *driver);

struct coord_partition_spec partition_spec(const struct coord *coord,
                                           const struct registry_partition *partition)
{
    const struct registry_topic *topic = partition->topic;
    const struct coord_block *block = partition_serving_block(partition);
    return (struct coord_partition_spec){
        .topic = topic->name,
        .topic_id = topic->id,
        .name = partition->name,
        .number = partition->number,
        .ack = block ? block->ack : partition_ack(partition),
        .replicas = partition->replicas,
        .config = &topic->config,
        .coordinator_epoch = coord->epoch,
        .chain = partition->blocks,
        .chain_count = partition_chain_count(partition),
    };
}

bool partition_needs_work(const struct coord *coord, const struct registry_partition *partition)
{
    if (partition->topic->state == STATE_CREATING || partition->state == STATE_CREATING)
        return false;
    if (partition->topic->state == STATE_DELETING)
        return !partition->data_removed;
    return partition->state == STATE_DELETING || !partition_is_open(partition) ||
           partition->dropped_count > 0;
}

/* The broker that the next step of a partition in use needs. */
static struct registry_broker *partition_broker(const struct coord *coord,
                                                const struct registry_partition *partition)
{
    const struct coord_block *block = partition_serving_block(partition);
    if (!block)
        block = partition_last_block(partition);
    return block ? coord->registry.brokers[block->leader] : NULL;
}

const char *partition_trouble(struct coord *coord, const struct registry_partition *partition)
{
    const struct registry_broker *broker = partition_broker(coord, partition);
    if (broker && !broker->live)
        snprintf(coord->trouble_text, sizeof(coord->trouble_text), "its broker %s is not connected",
                 broker->id);
    else if (partition->error)
        snprintf(coord->trouble_text, sizeof(coord->trouble_text), "%s", error_sentence(partition->error));
    else
        snprintf(coord->trouble_text, sizeof(coord->trouble_text), "its block is being opened");
    return coord->trouble_text;
}

void topic_changed(struct registry_topic *topic)
{
    if (topic->waiter)
        task_ready(topic->waiter, 0);
    removal_notify(topic);
}

void partition_changed(struct registry_partition *partition)
{
    topic_changed(partition->topic);
    if (partition_is_open(partition))
        find_notify(partition);
}

/* For the registration that waits until each of the broker's partitions was tried once. */
static void partition_tried(struct coord *coord, struct registry_partition *partition)
{
    if (!partition->first_try)
        return;
    partition->first_try = false;
    struct registry_broker *broker = coord->registry.brokers[partition->first_try_broker];
    if (--broker->first_tries == 0 && broker->registration)
        task_ready(broker->registration, 0);
}

static void driver_end(struct driver *driver)
{
    struct registry_partition *partition = driver->partition;
    struct coord *coord = driver->task.coord;
    partition->driver = NULL;
    task_end(&driver->task);
    mem_free(driver);
    partition_tried(coord, partition);
    partition_changed(partition);
}

static void driver_fail(struct driver *driver, int error)
{
    struct registry_partition *partition = driver->partition;
    struct coord *coord = driver->task.coord;
    partition->error = error;
    log_limited(LOG_WARN, "partition %s/%s: %s; trying again", partition->topic->name, partition->name,
                error_sentence(error));
    driver->stage = DRIVE_RETRY;
    task_pause(&driver->task, coord->config.retry_ms);
    partition_tried(coord, partition);
    topic_changed(partition->topic);
}

/* Whether the error stays until the broker is started again: a log that has failed takes no seal either. */
static bool is_final(const struct driver *driver, int error)
{
    return driver->stage == DRIVE_SEAL && (error == CLYMQ_ELOG_FAILED || error == CLYMQ_ECORRUPT);
}

/* The partition stays as it is until its broker registers again. */
static void driver_give_up(struct driver *driver, int error)
{
    struct registry_partition *partition = driver->partition;
    partition->error = error;
    log_error("partition %s/%s takes no pushes: its block cannot be sealed (%s); it is tried again when its "
              "broker is started again",
              partition->topic->name, partition->name, error_sentence(error));
    driver_end(driver);
}

/* ---- broker calls ---- */

static void issue_call(struct task *task, coord_broker_done done, void *ctx)
{
    struct driver *driver = (struct driver *)task;
    struct coord *coord = task->coord;
    struct registry_partition *partition = driver->partition;
    struct coord_partition_spec spec = partition_spec(coord, partition);
    struct coord_block *last = partition_last_block(partition);
    const struct registry_broker *broker = NULL;
    struct coord_block block = {0};
    switch (driver->stage) {
    case DRIVE_OPEN:
        block = *last;
        broker = coord->registry.brokers[last->leader];
        break;
    case DRIVE_OPEN_NEXT:
        block = *last;
        block.start = driver->end;
        broker = coord->registry.brokers[last->leader];
        break;
    case DRIVE_SERVE:
        driver->chain_change = partition->chain_change;
        broker = partition_broker(coord, partition);
        break;
    case DRIVE_SEAL:
        block = *partition_sealing_block(partition);
        broker = coord->registry.brokers[block.leader];
        break;
    case DRIVE_DELETE_BLOCK:
        block = partition->dropped[0];
        broker = coord->registry.brokers[block.brokers[driver->at]];
        break;
    case DRIVE_DELETE_DATA:
        broker = coord->registry.brokers[driver->at];
        break;
    default:
        assert(false);
    }
    if (!broker->live) {
        done(ctx, CLYMQ_EAGAIN, 0);
        return;
    }
    if (driver->stage == DRIVE_OPEN || driver->stage == DRIVE_OPEN_NEXT)
        broker->ops->open_block(broker->broker, &spec, &block, done, ctx);
    else if (driver->stage == DRIVE_SERVE)
        broker->ops->serve_partition(broker->broker, &spec, done, ctx);
    else if (driver->stage == DRIVE_SEAL)
        broker->ops->seal_block(broker->broker, &spec, &block, block.round, done, ctx);
    else if (driver->stage == DRIVE_DELETE_BLOCK)
        broker->ops->delete_block(broker->broker, &spec, &block, done, ctx);
    else
        broker->ops->delete_partition(broker->broker, &spec, done, ctx);
}

static void driver_call(struct driver *driver, enum driver_stage stage)
{
    driver->stage = stage;
    task_call_broker(&driver->task, issue_call);
}

/* ---- transactions ---- */

static void record_open(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    struct coord_block block = *partition_last_block(driver->partition);
    block.state = COORD_BLOCK_OPEN;
    struct txn txn = coord_txn(coord);
    txn_set_block(coord, &txn, driver->partition, &block);
    driver->stage = DRIVE_RECORD_OPEN;
    task_transact(&driver->task, &txn);
}

static void record_round(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    struct coord_block block = *partition_sealing_block(driver->partition);
    block.round++;
    struct txn txn = coord_txn(coord);
    txn_set_block(coord, &txn, driver->partition, &block);
    driver->stage = DRIVE_ROUND;
    task_transact(&driver->task, &txn);
}

/* The two blocks as they are once the first is sealed at driver->end. An empty one is not worth a place in
 * the chain. */
static void sealed_pair(const struct driver *driver, struct coord_block *sealed, struct coord_block *next)
{
    *sealed = *partition_sealing_block(driver->partition);
    *next = *partition_last_block(driver->partition);
    sealed->end = driver->end;
    sealed->state = sealed->end > sealed->start ? COORD_BLOCK_SEALED : COORD_BLOCK_DELETED;
    next->start = driver->end;
    next->state = COORD_BLOCK_OPEN;
}

static void record_next(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    int error = registry_reserve_block(driver->partition);
    if (error) {
        driver_fail(driver, error);
        return;
    }
    struct coord_block sealed, next;
    sealed_pair(driver, &sealed, &next);
    struct txn txn = coord_txn(coord);
    txn_set_block(coord, &txn, driver->partition, &sealed);
    txn_set_block(coord, &txn, driver->partition, &next);
    driver->stage = DRIVE_RECORD_NEXT;
    task_transact(&driver->task, &txn);
}

static void enter_next(struct driver *driver)
{
    struct registry_partition *partition = driver->partition;
    struct coord_block sealed, next;
    sealed_pair(driver, &sealed, &next);
    sealed.version++;
    next.version++;
    uint32_t at = partition->block_count - 2;
    partition->blocks[at] = sealed;
    partition->blocks[at + 1] = next;
    if (sealed.state == COORD_BLOCK_DELETED) {
        int error = registry_drop_block(partition, at);
        assert(error == 0); /* reserved before the transaction */
        (void)error;
    }
    partition_serve_again(partition);
}

static void forget_block(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    const struct registry_partition *partition = driver->partition;
    const struct coord_block *block = &partition->dropped[0];
    struct txn txn = coord_txn(coord);
    for (uint8_t i = 0; i < block->broker_count; i++)
        txn_delete(&txn,
                   path_copy(coord, partition, block->seq, coord->registry.brokers[block->brokers[i]]->id),
                   META_ANY_VERSION);
    txn_delete(&txn, path_block(coord, partition, block->seq), block->version);
    driver->stage = DRIVE_FORGET_BLOCK;
    task_transact(&driver->task, &txn);
}

/* ---- deleting ---- */

static bool blocks_on_broker(const struct coord_block *blocks, uint32_t count, uint32_t broker)
{
    for (uint32_t i = 0; i < count; i++)
        for (uint8_t j = 0; j < blocks[i].broker_count; j++)
            if (blocks[i].brokers[j] == broker)
                return true;
    return false;
}

/* The first broker from `at` on that may hold something of the partition; broker_count: none. */
static uint32_t next_holder(const struct coord *coord, const struct registry_partition *partition,
                            uint32_t at)
{
    while (at < coord->registry.broker_count &&
           !blocks_on_broker(partition->blocks, partition->block_count, at) &&
           !blocks_on_broker(partition->dropped, partition->dropped_count, at))
        at++;
    return at;
}

static void delete_data(struct driver *driver, uint32_t from)
{
    struct coord *coord = driver->task.coord;
    struct registry_partition *partition = driver->partition;
    driver->at = next_holder(coord, partition, from);
    if (driver->at < coord->registry.broker_count) {
        driver_call(driver, DRIVE_DELETE_DATA);
        return;
    }
    partition->data_removed = true;
    driver_continue(driver);
}

static void purge_nodes(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    driver->stage = DRIVE_PURGE;
    char *path = path_partition(coord, driver->partition);
    int error = path ? purge_start(coord, path, &driver->task) : CLYMQ_ENOMEM;
    if (error)
        driver_fail(driver, error);
}

static void driver_finish_deletion(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    struct registry_partition *partition = driver->partition;
    struct registry_topic *topic = partition->topic;
    log_info("partition %s/%s is deleted", topic->name, partition->name);
    partition->driver = NULL;
    task_end(&driver->task);
    mem_free(driver);
    partition_tried(coord, partition);
    registry_remove_partition(&coord->registry, partition);
    topic_changed(topic);
}

/* ---- the decisions ---- */

static void driver_continue_deletion(struct driver *driver)
{
    struct registry_partition *partition = driver->partition;
    if (!partition->data_removed)
        delete_data(driver, 0);
    else if (partition->topic->state == STATE_DELETING)
        driver_end(driver); /* the nodes go with the topic's */
    else
        purge_nodes(driver);
}

static void driver_continue(struct driver *driver)
{
    struct coord *coord = driver->task.coord;
    struct registry_partition *partition = driver->partition;
    if (partition_is_deleting(partition)) {
        driver_continue_deletion(driver);
        return;
    }
    const struct registry_broker *broker = partition_broker(coord, partition);
    if (!broker || !broker->live) {
        partition->error = CLYMQ_EAGAIN;
        driver_end(driver);
        return;
    }
    const struct coord_block *sealing = partition_sealing_block(partition);
    const struct coord_block *last = partition_last_block(partition);
    if (!sealing && last->state == COORD_BLOCK_CREATING) {
        driver_call(driver, DRIVE_OPEN);
    } else if (!partition->served) {
        driver_call(driver, DRIVE_SERVE);
    } else if (sealing && partition->round_tried) {
        record_round(driver);
    } else if (sealing) {
        partition->round_tried = true;
        driver_call(driver, DRIVE_SEAL);
    } else if (partition->dropped_count) {
        driver->at = 0;
        driver_call(driver, DRIVE_DELETE_BLOCK);
    } else {
        partition->error = 0;
        driver_end(driver);
    }
}

static void driver_enter(struct driver *driver)
{
    struct registry_partition *partition = driver->partition;
    struct coord_block *last = partition_last_block(partition);
    switch (driver->stage) {
    case DRIVE_OPEN:
        record_open(driver);
        return;
    case DRIVE_RECORD_OPEN:
        last->state = COORD_BLOCK_OPEN;
        last->version++;
        break;
    case DRIVE_SERVE:
        partition->served = driver->chain_change == partition->chain_change;
        if (partition_is_open(partition)) {
            partition->error = 0;
            partition_changed(partition);
        }
        break;
    case DRIVE_ROUND:
        partition_sealing_block(partition)->round++;
        partition_sealing_block(partition)->version++;
        partition->round_tried = false;
        break;
    case DRIVE_SEAL:
        driver->end = driver->task.end_offset;
        if (driver->end < partition_sealing_block(partition)->start) {
            driver_fail(driver, CLYMQ_ECORRUPT);
            return;
        }
        driver_call(driver, DRIVE_OPEN_NEXT);
        return;
    case DRIVE_OPEN_NEXT:
        record_next(driver);
        return;
    case DRIVE_RECORD_NEXT:
        enter_next(driver);
        break;
    case DRIVE_DELETE_BLOCK:
        if (++driver->at < partition->dropped[0].broker_count)
            driver_call(driver, DRIVE_DELETE_BLOCK);
        else
            forget_block(driver);
        return;
    case DRIVE_FORGET_BLOCK:
        registry_forget_dropped(partition);
        break;
    case DRIVE_DELETE_DATA:
        delete_data(driver, driver->at + 1);
        return;
    case DRIVE_PURGE:
        driver_finish_deletion(driver);
        return;
    case DRIVE_START:
    case DRIVE_RETRY:
        break;
    }
    driver_continue(driver);
}

static void driver_step(struct task *task, int error)
{
    struct driver *driver = (struct driver *)task;
    /* Deleted while a step for its use was under way: that one's outcome does not matter any more. Its
     * transactions do. */
    if (error && is_final(driver, error) && !partition_is_deleting(driver->partition))
        driver_give_up(driver, error);
    else if (error)
        driver_fail(driver, error);
    else
        driver_enter(driver);
}

static void driver_drop(struct task *task, int error)
{
    struct driver *driver = (struct driver *)task;
    driver->partition->driver = NULL;
    task_end(task);
    mem_free(driver);
}

void partition_drive(struct coord *coord, struct registry_partition *partition)
{
    if (partition->driver) {
        struct driver *under_way = (struct driver *)partition->driver;
        if (under_way->stage == DRIVE_RETRY)
            task_ready(partition->driver, 0);
        return;
    }
    if (!partition_needs_work(coord, partition))
        return;
    struct driver *driver = mem_zalloc(sizeof(*driver));
    if (!driver) {
        partition->error = CLYMQ_ENOMEM;
        coord_sweep_later(coord);
        partition_tried(coord, partition);
        topic_changed(partition->topic);
        return;
    }
    driver->partition = partition;
    driver->stage = DRIVE_START;
    task_init(&driver->task, coord, driver_step, driver_drop);
    partition->driver = &driver->task;
    task_ready(&driver->task, 0);
}
