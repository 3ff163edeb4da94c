/* Taking the role: the tree's fixed nodes are made where they are missing, /CoordinatorEpoch is incremented,
 * /Coordinator names this one, and the tree is loaded. From the increment on no other coordinator can change
 * anything. */
#define LOG_MODULE "coord"

#include <stdio.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "coord/coordinator.h"

enum activate_stage {
    ACTIVATE_LOOK,  /* /Cluster */
    ACTIVATE_NEW,   /* a tree of its own: all nodes are made, and the role taken, in one transaction */
    ACTIVATE_ROOT,  /* a part of the root's path is made */
    ACTIVATE_FOUND, /* the fixed nodes are made */
    ACTIVATE_READ,  /* the epoch, and who is named now */
    ACTIVATE_CLAIM,
    ACTIVATE_LOAD,
};

/* Another coordinator may activate at the same moment; one of us wins each round. */
enum { CLAIM_ATTEMPTS = 20 };

struct activation {
    struct task task;
    coord_done done;
    void *ctx;
    enum activate_stage stage;
    size_t root_len; /* how much of the root's path was made */
    bool founded;    /* /Cluster was seen or made */
    bool tried_all;  /* ACTIVATE_NEW */
    unsigned reads_under_way, attempts;
    bool coordinator_there;
    int64_t epoch, epoch_version;
    int read_error;
};

static void activation_look(struct activation *activation);

static void activation_finish(struct activation *activation, int error, const char *sentence)
{
    struct coord *coord = activation->task.coord;
    coord_done done = activation->done;
    void *ctx = activation->ctx;
    task_end(&activation->task);
    mem_free(activation);
    coord->activation = NULL;
    done(ctx, error, sentence);
}

/* Whoever waits for the role is told why it is not there, and whoever asks before the next attempt. */
static void activation_fail(struct activation *activation, int error, const char *sentence)
{
    struct coord *coord = activation->task.coord;
    if (coord->registry_there)
        registry_free(&coord->registry);
    coord->registry_there = false;
    coord->state = COORD_LOST;
    coord->lost_error = error;
    snprintf(coord->lost_text, sizeof(coord->lost_text), "%s", sentence);
    op_start_all(coord);
    log_warn("activation failed: %s", sentence);
    activation_finish(activation, error, sentence);
}

static void activation_drop(struct task *task, int error)
{
    struct coord *coord = task->coord;
    activation_finish((struct activation *)task, error,
                      coord->closed ? error_sentence(error) : coord->lost_text);
}

/* ---- the fixed nodes ---- */

static void create_fixed(struct coord *coord, struct txn *txn, struct uuid cluster_id, int64_t epoch)
{
    struct strbuf value = {0};
    codec_write_cluster(&value, cluster_id);
    txn_create(txn, coord_path(coord, "/Cluster"), &value);
    value = (struct strbuf){0};
    codec_write_epoch(&value, epoch);
    txn_create(txn, coord_path(coord, "/CoordinatorEpoch"), &value);
    value = (struct strbuf){0};
    txn_create(txn, coord_path(coord, "/Brokers"), &value);
    txn_create(txn, coord_path(coord, "/Topics"), &value);
}

static void create_coordinator(struct coord *coord, struct txn *txn, int64_t epoch)
{
    struct strbuf value = {0};
    codec_write_coordinator(&value, coord->name, coord->address, epoch);
    txn_create_ephemeral(txn, coord_path(coord, "/Coordinator"), &value);
}

/* Everything at once, which works where nothing is there at all. */
static void activation_found_all(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    struct txn txn = {0};
    struct strbuf value = {0};
    size_t len = strlen(coord->root);
    for (size_t at = 1; at <= len; at++)
        if (coord->root[at] == '/' || at == len)
            txn_create(&txn, mem_strndup(coord->root, at), &value);
    coord->registry.cluster_id = coord_new_id(coord);
    create_fixed(coord, &txn, coord->registry.cluster_id, 1);
    create_coordinator(coord, &txn, 1);
    activation->epoch = 0;
    activation->epoch_version = -1; /* a new node's is 0 */
    activation->stage = ACTIVATE_NEW;
    task_transact_tolerant(&activation->task, &txn);
}

/* Makes the next part of the root's path, or, when all are there, the nodes below it. */
static void activation_found(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    struct txn txn = {0};
    struct strbuf value = {0};
    size_t len = strlen(coord->root);
    if (activation->root_len < len) {
        const char *slash = strchr(coord->root + activation->root_len + 1, '/');
        activation->root_len = slash ? (size_t)(slash - coord->root) : len;
        txn_create(&txn, mem_strndup(coord->root, activation->root_len), &value);
        activation->stage = ACTIVATE_ROOT;
    } else {
        create_fixed(coord, &txn, coord_new_id(coord), 0);
        activation->stage = ACTIVATE_FOUND;
    }
    task_transact_tolerant(&activation->task, &txn);
}

static void activation_looked(struct task *task, void *arg, const struct meta_result *result)
{
    struct activation *activation = (struct activation *)task;
    struct coord *coord = task->coord;
    int error = result->error;
    if (!error)
        error = codec_read_cluster(result->node.value, &coord->registry.cluster_id);
    activation->founded = !error;
    task_ready(task, error == CLYMQ_ENOENT ? 0 : error);
}

static void activation_look(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    activation->stage = ACTIVATE_LOOK;
    char *path = coord_path(coord, "/Cluster");
    int error = path ? task_get(&activation->task, path, activation_looked, NULL) : CLYMQ_ENOMEM;
    mem_free(path);
    if (error)
        activation_fail(activation, error, error_sentence(error));
}

/* ---- the epoch ---- */

static void activation_read_epoch(struct task *task, void *arg, const struct meta_result *result)
{
    struct activation *activation = (struct activation *)task;
    int error = result->error == CLYMQ_ENOENT ? CLYMQ_ECORRUPT : result->error;
    if (!error)
        error = codec_read_epoch(result->node.value, &activation->epoch);
    activation->epoch_version = result->node.version;
    activation->read_error = error ? error : activation->read_error;
    if (--activation->reads_under_way == 0)
        task_ready(task, activation->read_error);
}

static void activation_read_coordinator(struct task *task, void *arg, const struct meta_result *result)
{
    struct activation *activation = (struct activation *)task;
    activation->coordinator_there = !result->error;
    if (result->error && result->error != CLYMQ_ENOENT)
        activation->read_error = result->error;
    if (--activation->reads_under_way == 0)
        task_ready(task, activation->read_error);
}

static void activation_read(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    activation->stage = ACTIVATE_READ;
    activation->read_error = 0;
    char *path = coord_path(coord, "/Coordinator");
    int error =
        path ? task_get(&activation->task, coord->epoch_path, activation_read_epoch, NULL) : CLYMQ_ENOMEM;
    if (!error) {
        activation->reads_under_way++;
        error = task_get(&activation->task, path, activation_read_coordinator, NULL);
        if (!error)
            activation->reads_under_way++;
    }
    mem_free(path);
    if (error)
        activation_fail(activation, error, error_sentence(error));
}

static void activation_claim(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    struct txn txn = {0};
    struct strbuf value = {0};
    codec_write_epoch(&value, activation->epoch + 1);
    txn_set(&txn, mem_strdup(coord->epoch_path), &value, activation->epoch_version);
    if (activation->coordinator_there)
        txn_delete(&txn, coord_path(coord, "/Coordinator"), META_ANY_VERSION);
    create_coordinator(coord, &txn, activation->epoch + 1);
    activation->stage = ACTIVATE_CLAIM;
    task_transact_tolerant(&activation->task, &txn);
}

/* ---- the steps ---- */

static void activation_claimed(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    coord->epoch = activation->epoch + 1;
    coord->epoch_version = activation->epoch_version + 1;
    activation->stage = ACTIVATE_LOAD;
    int error = load_start(coord, &activation->task);
    if (error)
        activation_fail(activation, error, error_sentence(error));
}

static void activation_loaded(struct activation *activation)
{
    struct coord *coord = activation->task.coord;
    coord->state = COORD_ACTIVE;
    log_info("coordinator %s is active: epoch %lld, %zu topics, %u partitions", coord->name,
             (long long)coord->epoch, map_count(coord->registry.topics), coord->registry.partition_count);
    coord_resume(coord);
    op_start_all(coord);
    activation_finish(activation, 0, "");
}

static void activation_explain(const struct coord *coord, int error, enum activate_stage stage, char *out,
                               size_t cap)
{
    if (stage == ACTIVATE_LOAD)
        snprintf(out, cap, "%s", coord->load_text);
    else if (error == CLYMQ_EFORMAT)
        snprintf(out, cap, "the metadata under %s were written by a newer ClyMQ: upgrade this program",
                 coord->root);
    else if (error == CLYMQ_ECORRUPT)
        snprintf(out, cap, "the metadata under %s are damaged (%s): put them back from a backup", coord->root,
                 stage == ACTIVATE_LOOK ? "Cluster" : "CoordinatorEpoch");
    else
        snprintf(out, cap, "%s", error_sentence(error));
}

static void activation_step(struct task *task, int error)
{
    struct activation *activation = (struct activation *)task;
    struct coord *coord = task->coord;
    bool moved = error == CLYMQ_EEXIST || error == CLYMQ_EVERSION || error == CLYMQ_ENOENT;
    switch (activation->stage) {
    case ACTIVATE_LOOK:
        if (error)
            break;
        if (activation->founded)
            activation_read(activation);
        else if (!activation->tried_all)
            activation_found_all(activation);
        else
            activation_found(activation);
        return;
    case ACTIVATE_NEW:
        activation->tried_all = true;
        if (error && !moved)
            break;
        if (error)
            activation_found(activation);
        else
            activation_claimed(activation);
        return;
    case ACTIVATE_ROOT:
        if (error && error != CLYMQ_EEXIST)
            break;
        activation_found(activation);
        return;
    case ACTIVATE_FOUND:
        if (error && error != CLYMQ_EEXIST)
            break;
        if (++activation->attempts > CLAIM_ATTEMPTS)
            break;
        activation_look(activation); /* whoever made it: its id counts */
        return;
    case ACTIVATE_READ:
        if (error)
            break;
        activation_claim(activation);
        return;
    case ACTIVATE_CLAIM:
        if (moved && ++activation->attempts < CLAIM_ATTEMPTS) {
            activation_read(activation);
            return;
        }
        if (error)
            break;
        activation_claimed(activation);
        return;
    case ACTIVATE_LOAD:
        if (error)
            break;
        activation_loaded(activation);
        return;
    }
    char text[sizeof(coord->load_text)];
    activation_explain(coord, error, activation->stage, text, sizeof(text));
    activation_fail(activation, error, text);
}

static void activation_begin(struct task *task, int error)
{
    struct activation *activation = (struct activation *)task;
    struct coord *coord = task->coord;
    error = registry_init(&coord->registry);
    if (error) {
        activation_fail(activation, error, error_sentence(error));
        return;
    }
    coord->registry_there = true;
    task->step = activation_step;
    activation_look(activation);
}

void coord_activate(struct coord *coord, coord_done done, void *ctx)
{
    struct activation *activation = NULL;
    if (coord->state == COORD_IDLE || coord->state == COORD_LOST)
        activation = mem_zalloc(sizeof(*activation));
    if (!activation) {
        int error = coord->state == COORD_IDLE || coord->state == COORD_LOST ? CLYMQ_ENOMEM : CLYMQ_EBUSY;
        done(ctx, error,
             error == CLYMQ_EBUSY ? "the coordinator is active or on the way to it" : error_sentence(error));
        return;
    }
    activation->done = done;
    activation->ctx = ctx;
    task_init(&activation->task, coord, activation_begin, activation_drop);
    coord->activation = &activation->task;
    coord->state = COORD_ACTIVATING;
    coord->losing = 0;
    task_ready(&activation->task, 0);
}

void coord_resume(struct coord *coord)
{
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(coord->registry.topics, &at))) {
        struct registry_topic *topic = entry->value;
        /* One whose creation is under way belongs to its operation. */
        if (topic->state == STATE_DELETING || (topic->state == STATE_CREATING && topic->abandoned))
            (void)removal_start(coord, topic);
        for (uint32_t i = 0; topic->state == STATE_READY && i < topic->partition_count; i++)
            partition_drive(coord, topic->partitions[i]);
    }
}
