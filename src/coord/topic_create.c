/* Creating a topic. With few partitions everything is one transaction. With many the topic is recorded as
 * "creating" first, then its partitions in bounded transactions, then it is made "ready" by the last one:
 * what is not ready is known to nobody, and is removed by the next activation, or here where a transaction
 * fails. */
#define LOG_MODULE "coord"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "coord/coordinator.h"

/* So many fit into one transaction whatever the names are (TXN_BYTES_MAX). */
enum { PARTITIONS_AT_ONCE = 150 };

enum create_stage { CREATE_RECORD, CREATE_MAKE_READY, CREATE_UNDO };

struct topic_create {
    struct topic_op base;
    uint32_t partitions, replicas;
    int ack;
    struct coord_topic_config config;
    int bad; /* the request itself is wrong */
    char bad_text[512];
    enum create_stage stage;
    uint32_t recorded; /* partitions asked to be recorded */
    bool begun;        /* something is in the tree */
};

static void create_begin(struct op *op);

static void create_fail(struct topic_create *create, int error)
{
    struct op *op = &create->base.op;
    op_finish(op, error, "topic %s was not created: %s", create->base.topic, error_sentence(error));
}

static bool create_refused(struct topic_create *create)
{
    struct op *op = &create->base.op;
    const struct coord *coord = op->task.coord;
    const struct registry_topic *there = registry_find_topic(&coord->registry, create->base.topic);
    if (create->bad)
        op_finish(op, create->bad, "%s", create->bad_text);
    else if (there && there->state == STATE_READY)
        op_finish(op, CLYMQ_EEXIST, "topic %s already exists", create->base.topic);
    else if (!there && map_count(coord->registry.topics) >= coord->config.max_topics)
        op_finish(op, CLYMQ_ELIMIT, "there are %zu topics, and there may be %u in all: delete one first",
                  map_count(coord->registry.topics), coord->config.max_topics);
    else if (create->partitions > coord->config.max_topic_partitions)
        op_finish(op, CLYMQ_ELIMIT, "%u partitions are too many: a topic may have %u", create->partitions,
                  coord->config.max_topic_partitions);
    else if (create->partitions > coord->config.max_partitions - coord->registry.partition_count)
        op_finish(op, CLYMQ_ELIMIT, "%u partitions are too many: there are %u, and there may be %u in all",
                  create->partitions, coord->registry.partition_count, coord->config.max_partitions);
    else
        return false;
    return true;
}

/* The topic in memory, not ready, with its partitions and their first blocks. */
static int create_in_memory(struct topic_create *create, struct registry_topic **ret_topic)
{
    struct coord *coord = create->base.op.task.coord;
    struct registry_topic *topic;
    int error = registry_add_topic(&coord->registry, create->base.topic, coord_new_id(coord), &topic);
    if (error)
        return error;
    topic->state = STATE_CREATING;
    topic->config = create->config;
    topic->next_number = create->partitions;
    for (uint32_t number = 0; !error && number < create->partitions; number++) {
        char name[16];
        snprintf(name, sizeof(name), "%u", number);
        struct registry_partition *partition;
        struct coord_block block;
        error = registry_add_partition(&coord->registry, topic, name, number, &partition);
        if (error)
            break;
        partition->ack = (int8_t)create->ack;
        partition->replicas = create->replicas;
        error = placement_new_block(coord, &topic->id, number, 0, partition_ack(partition), &block);
        if (!error) {
            block.start = 0;
            error = registry_add_block(partition, &block);
        }
    }
    if (error) {
        registry_remove_topic(&coord->registry, topic);
        return error;
    }
    *ret_topic = topic;
    return 0;
}

static void add_topic_nodes(const struct topic_create *create, struct txn *txn,
                            const struct registry_topic *topic, enum registry_state state)
{
    const struct coord *coord = create->base.op.task.coord;
    struct strbuf value = {0};
    codec_write_topic(&value, topic->id, state, topic->next_number, &topic->config);
    txn_create(txn, path_topic(coord, topic->name), &value);
    value = (struct strbuf){0};
    txn_create(txn, path_partitions(coord, topic->name), &value);
}

/* The next transaction: with few partitions the only one. */
static void create_record(struct topic_create *create, const struct registry_topic *topic)
{
    struct coord *coord = create->base.op.task.coord;
    bool single = create->partitions <= PARTITIONS_AT_ONCE;
    struct txn txn = coord_txn(coord);
    if (!create->begun)
        add_topic_nodes(create, &txn, topic, single ? STATE_READY : STATE_CREATING);
    while (create->recorded < create->partitions && (single || !txn_is_full(&txn)))
        txn_create_partition(coord, &txn, topic->partitions[create->recorded++]);
    if (!single)
        log_debug("topic %s: %u of %u partitions recorded", topic->name, create->recorded,
                  create->partitions);
    create->stage = CREATE_RECORD;
    task_transact(&create->base.op.task, &txn);
}

static void create_make_ready(struct topic_create *create, const struct registry_topic *topic)
{
    struct coord *coord = create->base.op.task.coord;
    struct txn txn = coord_txn(coord);
    struct strbuf value = {0};
    codec_write_topic(&value, topic->id, STATE_READY, topic->next_number, &topic->config);
    txn_set(&txn, path_topic(coord, topic->name), &value, topic->version);
    create->stage = CREATE_MAKE_READY;
    task_transact(&create->base.op.task, &txn);
}

static void create_finish(struct topic_create *create, struct registry_topic *topic)
{
    struct coord *coord = create->base.op.task.coord;
    topic->state = STATE_READY;
    log_info("topic %s is created with %u partitions", topic->name, topic->partition_count);
    for (uint32_t i = 0; i < topic->partition_count; i++)
        partition_drive(coord, topic->partitions[i]);
    op_finish_plain(&create->base.op, 0);
}

static void create_undo(struct topic_create *create, struct registry_topic *topic, int error)
{
    struct coord *coord = create->base.op.task.coord;
    create->base.failure = error;
    if (!create->begun) {
        registry_remove_topic(&coord->registry, topic);
        create_fail(create, error);
        return;
    }
    create->stage = CREATE_UNDO;
    topic->abandoned = true;
    topic_op_wait(&create->base, topic);
    if (removal_start(coord, topic))
        create_fail(create, error);
}

static void create_step(struct task *task, int error)
{
    struct topic_create *create = (struct topic_create *)task;
    struct registry_topic *topic = topic_op_topic(&create->base);
    if (create->stage == CREATE_UNDO) {
        if (!topic || removal_error(topic))
            create_fail(create, create->base.failure);
        return;
    }
    if (error) {
        create_undo(create, topic, error);
        return;
    }
    create->begun = true;
    if (create->stage == CREATE_MAKE_READY) {
        topic->version++;
        create_finish(create, topic);
    } else if (create->recorded < create->partitions) {
        create_record(create, topic);
    } else if (create->partitions > PARTITIONS_AT_ONCE) {
        create_make_ready(create, topic);
    } else {
        create_finish(create, topic);
    }
}

/* A topic of that name is being removed. */
static void create_wait_step(struct task *task, int error)
{
    struct topic_create *create = (struct topic_create *)task;
    struct registry_topic *topic = topic_op_topic(&create->base);
    if (!topic) {
        create->base.topic_id = (struct uuid){0};
        create_begin(&create->base.op);
    } else if (removal_error(topic) || !topic_op_wait_removal(&create->base, topic)) {
        op_finish(&create->base.op, CLYMQ_EBUSY, "topic %s is still being deleted (%s): try again",
                  create->base.topic,
                  removal_error(topic) ? error_sentence(removal_error(topic)) : "it is large");
    }
}

static void create_begin(struct op *op)
{
    struct topic_create *create = (struct topic_create *)op;
    if (create_refused(create))
        return;
    const struct registry_topic *there = registry_find_topic(&op->task.coord->registry, create->base.topic);
    if (there) {
        create->base.topic_id = there->id;
        op->task.step = create_wait_step;
        create_wait_step(&op->task, 0);
        return;
    }
    struct registry_topic *topic;
    int error = create_in_memory(create, &topic);
    if (error == CLYMQ_EAGAIN) {
        op_finish(op, error,
                  "no broker is connected that could hold the partitions: start one, then try again");
        return;
    }
    if (error) {
        create_fail(create, error);
        return;
    }
    create->base.topic_id = topic->id;
    op->task.step = create_step;
    create_record(create, topic);
}

/* What is wrong with the request, whatever the registry holds. */
static int create_check(const struct coord_topic_request *request, struct topic_create *create,
                        struct strbuf *why)
{
    if (name_check(bytes_of_text(request->name))) {
        strbuf_append_text(why, error_sentence(CLYMQ_ENAME));
        return CLYMQ_ENAME;
    }
    if (request->replicas > COORD_REPLICAS_MAX) {
        strbuf_printf(why, "%u replicas are too many: there may be %d", request->replicas,
                      COORD_REPLICAS_MAX);
        return CLYMQ_EINVAL;
    }
    if (request->ack != COORD_ACK_UNSET && (request->ack < -1 || request->ack > 1)) {
        strbuf_printf(why, "the ack level %d does not exist: use -1, 0 or 1", request->ack);
        return CLYMQ_EACK_LEVEL;
    }
    return codec_read_config(request->config, &create->config, why);
}

void coord_create_topic(struct coord *coord, const struct coord_topic_request *request, coord_done done,
                        void *ctx)
{
    struct topic_create *create = topic_op_new(sizeof(*create), create_begin, request->name, NULL, done, ctx);
    if (!create)
        return;
    struct strbuf why = {0};
    create->bad = create_check(request, create, &why);
    if (create->bad)
        snprintf(create->bad_text, sizeof(create->bad_text), "%s",
                 why.data ? why.data : error_sentence(create->bad));
    strbuf_free(&why);
    create->partitions = request->partitions;
    create->replicas = request->replicas ? request->replicas : 1;
    create->ack = request->ack;
    topic_op_submit(coord, &create->base);
}
