/* Registering a broker: its node and its ephemeral State in one transaction, then every partition that it
 * leads is put into service. Answered when each of them was tried once. */
#define LOG_MODULE "coord"

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "coord/coordinator.h"

enum register_stage { REGISTER_LOOK, REGISTER_RECORD, REGISTER_SERVE };

/* A State that another session left may vanish between looking and recording. */
enum { RECORD_ATTEMPTS = 5 };

struct broker_register {
    struct op op;
    struct coord_broker request; /* strings are copies */
    char *id, *address, *rack;
    enum register_stage stage;
    unsigned attempts;
    bool state_there;
    struct registry_broker *broker; /* while it waits for the first tries */
};

static void register_look(struct broker_register *registration);

static void register_fail(struct broker_register *registration, int error)
{
    op_finish(&registration->op, error, "broker %s was not registered: %s", registration->id,
              error_sentence(error));
}

static bool partition_is_led_by(const struct registry_partition *partition,
                                const struct registry_broker *broker)
{
    const struct coord_block *block = partition_serving_block(partition);
    if (!block)
        block = partition_last_block(partition);
    return block && block->leader == broker->index;
}

/* Everything that this broker has to do with goes on. */
static void register_serve(struct broker_register *registration, struct registry_broker *broker)
{
    struct coord *coord = registration->op.task.coord;
    registration->stage = REGISTER_SERVE;
    registration->broker = broker;
    broker->registration = &registration->op.task;
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(coord->registry.topics, &at))) {
        struct registry_topic *topic = entry->value;
        for (uint32_t i = 0; i < topic->partition_count; i++) {
            struct registry_partition *partition = topic->partitions[i];
            if (!partition_is_led_by(partition, broker))
                continue;
            partition_serve_again(partition);
            if (!partition_needs_work(coord, partition))
                continue;
            if (!partition->first_try) {
                partition->first_try = true;
                partition->first_try_broker = broker->index;
                broker->first_tries++;
            }
            partition_drive(coord, partition);
        }
    }
    coord_resume(coord);
    if (broker->first_tries == 0)
        op_finish_plain(&registration->op, 0);
}

static void register_enter(struct broker_register *registration)
{
    struct coord *coord = registration->op.task.coord;
    struct registry_broker *broker = registry_find_broker(&coord->registry, registration->id);
    int error =
        registry_set_broker(broker, registration->address, registration->rack, registration->request.disk_id);
    if (error) {
        register_fail(registration, error);
        return;
    }
    broker->recorded = true;
    broker->live = true;
    broker->ops = registration->request.ops;
    broker->broker = registration->request.broker;
    log_info("broker %s is registered", broker->name);
    register_serve(registration, broker);
}

static void register_record(struct broker_register *registration)
{
    struct coord *coord = registration->op.task.coord;
    struct registry_broker *broker = registry_find_broker(&coord->registry, registration->id);
    int error = broker ? 0 : registry_add_broker(&coord->registry, registration->id, &broker);
    if (error) {
        register_fail(registration, error);
        return;
    }
    broker->live = false; /* what was registered under this id before is replaced */
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_broker(&value, &registration->request);
    char *path = coord_path(coord, "/Brokers/%s", broker->id);
    if (broker->recorded)
        txn_set(&txn, path, &value, META_ANY_VERSION);
    else
        txn_create(&txn, path, &value);
    if (registration->state_there)
        txn_delete(&txn, coord_path(coord, "/Brokers/%s/State", broker->id), META_ANY_VERSION);
    value = (struct strbuf){0};
    strbuf_append_text(&value, "{}");
    txn_create_ephemeral(&txn, coord_path(coord, "/Brokers/%s/State", broker->id), &value);
    registration->stage = REGISTER_RECORD;
    task_transact_tolerant(&registration->op.task, &txn);
}

static void register_looked(struct task *task, void *arg, const struct meta_result *result)
{
    struct broker_register *registration = (struct broker_register *)task;
    registration->state_there = result->error == 0;
    task_ready(task, result->error == CLYMQ_ENOENT ? 0 : result->error);
}

static void register_look(struct broker_register *registration)
{
    struct coord *coord = registration->op.task.coord;
    char *path = coord_path(coord, "/Brokers/%s/State", registration->id);
    int error = path ? task_get(&registration->op.task, path, register_looked, NULL) : CLYMQ_ENOMEM;
    mem_free(path);
    registration->stage = REGISTER_LOOK;
    if (error)
        register_fail(registration, error);
}

static void register_step(struct task *task, int error)
{
    struct broker_register *registration = (struct broker_register *)task;
    bool moved = error == CLYMQ_EEXIST || error == CLYMQ_ENOENT || error == CLYMQ_EVERSION;
    if (registration->stage == REGISTER_RECORD && moved && ++registration->attempts < RECORD_ATTEMPTS)
        register_look(registration);
    else if (error)
        register_fail(registration, error);
    else if (registration->stage == REGISTER_LOOK)
        register_record(registration);
    else if (registration->stage == REGISTER_RECORD)
        register_enter(registration);
    else
        op_finish_plain(&registration->op, 0);
}

static void register_begin(struct op *op)
{
    struct broker_register *registration = (struct broker_register *)op;
    struct bytes id = bytes_of_text(registration->id);
    if (name_check(id) || memchr(id.ptr, '@', id.len)) {
        op_finish(op, CLYMQ_ENAME, "the broker id %s is not usable: it must be a name without '@'",
                  registration->id);
        return;
    }
    op->task.step = register_step;
    register_look(registration);
}

static void register_on_end(struct op *op)
{
    struct broker_register *registration = (struct broker_register *)op;
    if (registration->broker)
        registration->broker->registration = NULL;
}

static void register_free(struct op *op)
{
    struct broker_register *registration = (struct broker_register *)op;
    mem_free(registration->id);
    mem_free(registration->address);
    mem_free(registration->rack);
}

void coord_register_broker(struct coord *coord, const struct coord_broker *broker, coord_done done, void *ctx)
{
    struct broker_register *registration = op_new(sizeof(*registration), register_begin, done, ctx);
    if (!registration)
        return;
    registration->op.free_parts = register_free;
    registration->op.on_end = register_on_end;
    registration->request = *broker;
    registration->id = mem_strdup(broker->id);
    registration->address = mem_strdup(broker->address);
    registration->rack = mem_strdup(broker->rack ? broker->rack : "");
    registration->request.id = registration->id;
    registration->request.address = registration->address;
    registration->request.rack = registration->rack;
    if (!registration->id || !registration->address || !registration->rack) {
        register_free(&registration->op);
        mem_free(registration);
        done(ctx, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM));
        return;
    }
    op_submit(coord, &registration->op, "broker %s", broker->id);
}
