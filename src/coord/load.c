/* Loading the tree into the registry at activation: a list of things to read, worked off with a bounded
 * number of requests under way; each answer adds what lies below it. Brokers first, because blocks name them.
 * Then every chain is checked. */
#define LOG_MODULE "coord"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "coord/coordinator.h"

enum { READS_UNDER_WAY = 256 };

enum load_kind {
    LOAD_BROKERS,
    LOAD_BROKER,
    LOAD_TOPICS,
    LOAD_TOPIC,
    LOAD_PARTITIONS,
    LOAD_PARTITION,
    LOAD_BLOCKS,
    LOAD_BLOCK,
    LOAD_COPIES
};

struct load_item {
    struct list link;
    enum load_kind kind;
    struct registry_topic *topic;
    struct registry_partition *partition;
    uint32_t seq;
    char name[]; /* of a broker, topic or partition */
};

struct load {
    struct task task;
    struct task *parent;
    struct list items;
    struct list asked; /* items whose answer is awaited */
    size_t under_way;
    bool topics_begun;
    int error;
};

static void free_items(struct list *items)
{
    struct list *item;
    while ((item = list_pop_front(items)))
        mem_free(CONTAINER_OF(item, struct load_item, link));
}

static void load_free(struct load *load)
{
    task_end(&load->task);
    free_items(&load->items);
    free_items(&load->asked);
    mem_free(load);
}

static void load_drop(struct task *task, int error)
{
    load_free((struct load *)task);
}

static struct load_item *load_add(struct load *load, enum load_kind kind, const struct load_item *parent,
                                  struct bytes name)
{
    struct load_item *item = mem_zalloc(sizeof(*item) + name.len + 1);
    if (!item) {
        load->error = CLYMQ_ENOMEM;
        return NULL;
    }
    item->kind = kind;
    if (parent) {
        item->topic = parent->topic;
        item->partition = parent->partition;
        item->seq = parent->seq;
    }
    if (name.len)
        memcpy(item->name, name.ptr, name.len);
    /* Last in, first out: a topic is finished before the next one begins, so that few items wait. */
    list_push_front(&load->items, &item->link);
    return item;
}

static char *item_path(const struct coord *coord, const struct load_item *item)
{
    switch (item->kind) {
    case LOAD_BROKERS:
        return coord_path(coord, "/Brokers");
    case LOAD_BROKER:
        return coord_path(coord, "/Brokers/%s", item->name);
    case LOAD_TOPICS:
        return coord_path(coord, "/Topics");
    case LOAD_TOPIC:
        return path_topic(coord, item->name);
    case LOAD_PARTITIONS:
        return path_partitions(coord, item->topic->name);
    case LOAD_PARTITION:
        return coord_path(coord, "/Topics/%s/Partitions/%s", item->topic->name, item->name);
    case LOAD_BLOCKS:
        return path_blocks(coord, item->partition);
    case LOAD_BLOCK:
    case LOAD_COPIES:
        return path_block(coord, item->partition, item->seq);
    }
    return NULL;
}

static void load_fail(struct load *load, const struct load_item *item, int error, const char *why)
{
    struct coord *coord = load->task.coord;
    if (load->error)
        return;
    load->error = error;
    char *path = item_path(coord, item);
    if (error == CLYMQ_ECORRUPT)
        snprintf(coord->load_text, sizeof(coord->load_text),
                 "the metadata node %s is damaged (%s): put the metadata back from a backup",
                 path ? path : "?", why);
    else
        snprintf(coord->load_text, sizeof(coord->load_text), "the metadata node %s cannot be read: %s",
                 path ? path : "?", error_sentence(error));
    mem_free(path);
}

/* ---- answers ---- */

static int loaded_broker(struct load *load, const struct load_item *item, struct bytes json)
{
    struct registry_broker *broker;
    int error = registry_add_broker(&load->task.coord->registry, item->name, &broker);
    if (error)
        return error;
    broker->recorded = true;
    return codec_read_broker(json, broker);
}

static int loaded_topic(struct load *load, const struct load_item *item, const struct meta_node *node)
{
    struct codec_topic record;
    int error = codec_read_topic(node->value, &record);
    if (!error && name_check(bytes_of_text(item->name)))
        error = CLYMQ_ECORRUPT;
    struct registry_topic *topic;
    if (!error)
        error = registry_add_topic(&load->task.coord->registry, item->name, record.id, &topic);
    if (error)
        return error == CLYMQ_EEXIST ? CLYMQ_ECORRUPT : error;
    topic->state = (uint8_t)record.state;
    topic->abandoned = record.state == STATE_CREATING;
    topic->next_number = record.next_number;
    topic->config = record.config;
    topic->version = node->version;
    if (record.state != STATE_CREATING) {
        struct load_item *next = load_add(load, LOAD_PARTITIONS, item, (struct bytes){0});
        if (next)
            next->topic = topic;
    }
    return 0;
}

static int loaded_partition(struct load *load, const struct load_item *item, const struct meta_node *node)
{
    struct codec_partition record;
    int error = codec_read_partition(node->value, &record);
    if (!error && (name_check(bytes_of_text(item->name)) || record.number >= item->topic->next_number))
        error = CLYMQ_ECORRUPT;
    struct registry_partition *partition;
    if (!error)
        error = registry_add_partition(&load->task.coord->registry, item->topic, item->name, record.number,
                                       &partition);
    if (error)
        return error == CLYMQ_EEXIST ? CLYMQ_ECORRUPT : error;
    partition->state = (uint8_t)record.state;
    partition->ack = (int8_t)record.ack;
    partition->replicas = record.replicas;
    partition->version = node->version;
    partition->round_tried = true; /* a takeover takes a new round */
    struct load_item *next = load_add(load, LOAD_BLOCKS, item, (struct bytes){0});
    if (next)
        next->partition = partition;
    return 0;
}

/* The broker of that id; one that blocks name but that has no node is entered all the same. */
static int known_broker(struct load *load, const char *id, uint16_t *ret_index)
{
    struct registry *registry = &load->task.coord->registry;
    struct registry_broker *broker = registry_find_broker(registry, id);
    int error = broker ? 0 : registry_add_broker(registry, id, &broker);
    if (!error)
        *ret_index = broker->index;
    return error;
}

static int loaded_block(struct load *load, const struct load_item *item, const struct meta_node *node)
{
    struct coord_block block;
    char *leader MEM_CLEANUP = NULL;
    int error = codec_read_block(node->value, &block, &leader);
    if (!error)
        error = known_broker(load, leader, &block.leader);
    if (error)
        return error;
    block.seq = item->seq;
    block.version = node->version;
    error = registry_add_block(item->partition, &block);
    if (!error)
        (void)load_add(load, LOAD_COPIES, item, (struct bytes){0});
    return error == CLYMQ_EEXIST ? CLYMQ_ECORRUPT : error;
}

static struct coord_block *find_block(struct registry_partition *partition, uint32_t seq)
{
    for (uint32_t i = 0; i < partition->block_count; i++)
        if (partition->blocks[i].seq == seq)
            return &partition->blocks[i];
    for (uint32_t i = 0; i < partition->dropped_count; i++)
        if (partition->dropped[i].seq == seq)
            return &partition->dropped[i];
    return NULL;
}

static int loaded_copies(struct load *load, const struct load_item *item, const struct meta_result *result)
{
    struct coord_block *block = find_block(item->partition, item->seq);
    assert(block);
    if (result->child_count > COORD_BROKERS_PER_BLOCK)
        return CLYMQ_ECORRUPT;
    for (size_t i = 0; i < result->child_count; i++) {
        char *id MEM_CLEANUP = mem_strndup(result->children[i].ptr, result->children[i].len);
        int error = id ? known_broker(load, id, &block->brokers[i]) : CLYMQ_ENOMEM;
        if (error)
            return error;
    }
    block->broker_count = (uint8_t)result->child_count;
    return 0;
}

/* A block's node is named by its seq in decimal. */
static int parse_seq(struct bytes name, uint32_t *ret_seq)
{
    uint64_t seq = 0;
    if (name.len == 0 || name.len > 10 || (name.len > 1 && name.ptr[0] == '0'))
        return CLYMQ_ECORRUPT;
    for (size_t i = 0; i < name.len; i++) {
        if (name.ptr[i] < '0' || name.ptr[i] > '9')
            return CLYMQ_ECORRUPT;
        seq = seq * 10 + (uint64_t)(name.ptr[i] - '0');
    }
    if (seq > UINT32_MAX)
        return CLYMQ_ECORRUPT;
    *ret_seq = (uint32_t)seq;
    return 0;
}

static int loaded_list(struct load *load, const struct load_item *item, const struct meta_result *result)
{
    static const enum load_kind below[] = {[LOAD_BROKERS] = LOAD_BROKER,
                                           [LOAD_TOPICS] = LOAD_TOPIC,
                                           [LOAD_PARTITIONS] = LOAD_PARTITION,
                                           [LOAD_BLOCKS] = LOAD_BLOCK};
    for (size_t i = result->child_count; i-- > 0;) { /* pushed to the front: read in the list's order */
        struct load_item *child;
        if (item->kind == LOAD_BLOCKS) {
            uint32_t seq;
            int error = parse_seq(result->children[i], &seq);
            if (error)
                return error;
            child = load_add(load, LOAD_BLOCK, item, (struct bytes){0});
            if (child)
                child->seq = seq;
        } else {
            child = load_add(load, below[item->kind], item, result->children[i]);
        }
        if (!child)
            return CLYMQ_ENOMEM;
    }
    return 0;
}

/* Deleting removes from the bottom up: what is missing below something deleted was removed before. */
static bool may_be_missing(const struct load_item *item)
{
    return (item->topic && item->topic->state == STATE_DELETING) ||
           (item->partition && item->partition->state == STATE_DELETING);
}

static void load_answered(struct task *task, void *arg, const struct meta_result *result)
{
    struct load *load = (struct load *)task;
    struct load_item *item = arg;
    load->under_way--;
    list_remove(&item->link);
    int error = result->error;
    const char *why = "its content is not what it should be";
    if (error == CLYMQ_ENOENT && may_be_missing(item)) {
        error = 0;
    } else if (error == CLYMQ_ENOENT) {
        error = CLYMQ_ECORRUPT;
        why = "it is missing";
    } else if (!error) {
        if (item->kind == LOAD_BROKER)
            error = loaded_broker(load, item, result->node.value);
        else if (item->kind == LOAD_TOPIC)
            error = loaded_topic(load, item, &result->node);
        else if (item->kind == LOAD_PARTITION)
            error = loaded_partition(load, item, &result->node);
        else if (item->kind == LOAD_BLOCK)
            error = loaded_block(load, item, &result->node);
        else if (item->kind == LOAD_COPIES)
            error = loaded_copies(load, item, result);
        else
            error = loaded_list(load, item, result);
    }
    if (error)
        load_fail(load, item, error, why);
    mem_free(item);
    task_ready(task, 0);
}

/* ---- the chains ---- */

static bool chain_is_sound(const struct registry_partition *partition)
{
    uint32_t count = partition->block_count;
    if (count == 0)
        return false;
    for (uint32_t i = 0; i + 1 < count; i++) {
        const struct coord_block *block = &partition->blocks[i], *next = &partition->blocks[i + 1];
        bool sealing = i + 2 == count && block->state == COORD_BLOCK_SEALING &&
                       next->state == COORD_BLOCK_CREATING && next->start < 0;
        if (!sealing && (block->state != COORD_BLOCK_SEALED || next->start < block->end))
            return false;
    }
    const struct coord_block *last = &partition->blocks[count - 1];
    if (last->state == COORD_BLOCK_CREATING)
        return count == 1 ? last->start >= 0 : last->start < 0;
    return last->state == COORD_BLOCK_OPEN;
}

static void check_chains(struct load *load)
{
    const struct registry *registry = &load->task.coord->registry;
    size_t at = 0;
    struct map_entry *entry;
    while (!load->error && (entry = map_next(registry->topics, &at))) {
        struct registry_topic *topic = entry->value;
        for (uint32_t i = 0; topic->state == STATE_READY && i < topic->partition_count; i++) {
            struct registry_partition *partition = topic->partitions[i];
            struct load_item item = {.kind = LOAD_BLOCKS, .topic = topic, .partition = partition};
            if (partition->state == STATE_READY && !chain_is_sound(partition))
                load_fail(load, &item, CLYMQ_ECORRUPT, "its blocks are no chain");
        }
    }
}

/* ---- the work ---- */

static void load_ask(struct load *load)
{
    struct load_item *item = CONTAINER_OF(list_pop_front(&load->items), struct load_item, link);
    bool list = item->kind == LOAD_BROKERS || item->kind == LOAD_TOPICS || item->kind == LOAD_PARTITIONS ||
                item->kind == LOAD_BLOCKS || item->kind == LOAD_COPIES;
    list_push_back(&load->asked, &item->link);
    char *path = item_path(load->task.coord, item);
    int error = CLYMQ_ENOMEM;
    load->under_way++;
    if (path)
        error = list ? task_list(&load->task, path, load_answered, item)
                     : task_get(&load->task, path, load_answered, item);
    mem_free(path);
    if (error) {
        load->under_way--;
        load->error = load->error ? load->error : error;
    }
}

static void load_finish(struct load *load)
{
    struct coord *coord = load->task.coord;
    if (!load->error)
        check_chains(load);
    int error = load->error;
    if (error && !coord->load_text[0])
        snprintf(coord->load_text, sizeof(coord->load_text), "%s", error_sentence(error));
    struct task *parent = load->parent;
    load_free(load);
    task_ready(parent, error);
}

static void load_step(struct task *task, int error)
{
    struct load *load = (struct load *)task;
    while (!load->error && load->under_way < READS_UNDER_WAY && !list_empty(&load->items))
        load_ask(load);
    if (load->under_way)
        return;
    if (!load->error && !load->topics_begun) {
        load->topics_begun = true;
        if (load_add(load, LOAD_TOPICS, NULL, (struct bytes){0})) {
            task_ready(task, 0);
            return;
        }
    }
    load_finish(load);
}

int load_start(struct coord *coord, struct task *parent)
{
    struct load *load = mem_zalloc(sizeof(*load));
    if (!load)
        return CLYMQ_ENOMEM;
    task_init(&load->task, coord, load_step, load_drop);
    list_init(&load->items);
    list_init(&load->asked);
    load->parent = parent;
    coord->load_text[0] = '\0';
    if (!load_add(load, LOAD_BROKERS, NULL, (struct bytes){0})) {
        load_free(load);
        return CLYMQ_ENOMEM;
    }
    task_ready(&load->task, 0);
    return 0;
}
