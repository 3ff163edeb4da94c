/* The coordinator's memory: see registry.h. Partitions of a topic lie in an array by number, found by binary
 * search; names in a map. */
#include "coord/registry.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"

int registry_init(struct registry *registry)
{
    *registry = (struct registry){.topics = map_new(), .topics_by_id = map_new()};
    if (registry->topics && registry->topics_by_id)
        return 0;
    registry_free(registry);
    return CLYMQ_ENOMEM;
}

static void partition_free(struct registry_partition *partition)
{
    assert(!partition->driver && list_empty(&partition->finders));
    mem_free(partition->name);
    mem_free(partition->blocks);
    mem_free(partition->dropped);
    mem_free(partition);
}

static void topic_free(struct registry_topic *topic)
{
    for (uint32_t i = 0; i < topic->partition_count; i++)
        partition_free(topic->partitions[i]);
    mem_free(topic->partitions);
    map_free(topic->by_name);
    mem_free(topic->name);
    mem_free(topic);
}

static void broker_free(struct registry_broker *broker)
{
    mem_free(broker->id);
    mem_free(broker->address);
    mem_free(broker->name);
    mem_free(broker->rack);
    mem_free(broker);
}

void registry_free(struct registry *registry)
{
    size_t at = 0;
    struct map_entry *entry;
    while (registry->topics && (entry = map_next(registry->topics, &at)))
        topic_free(entry->value);
    map_free(registry->topics);
    map_free(registry->topics_by_id);
    for (uint16_t i = 0; i < registry->broker_count; i++)
        broker_free(registry->brokers[i]);
    mem_free(registry->brokers);
    *registry = (struct registry){0};
}

/* ---- brokers ---- */

int registry_add_broker(struct registry *registry, const char *id, struct registry_broker **ret_broker)
{
    if (registry->broker_count == registry->broker_cap) {
        if (registry->broker_cap == UINT16_MAX)
            return CLYMQ_ELIMIT;
        uint32_t cap = registry->broker_cap ? registry->broker_cap * 2u : 4;
        if (cap > UINT16_MAX)
            cap = UINT16_MAX;
        struct registry_broker **grown =
            mem_realloc(registry->brokers, cap * sizeof(struct registry_broker *));
        if (!grown)
            return CLYMQ_ENOMEM;
        registry->brokers = grown;
        registry->broker_cap = (uint16_t)cap;
    }
    struct registry_broker *broker = mem_zalloc(sizeof(*broker));
    if (!broker)
        return CLYMQ_ENOMEM;
    broker->id = mem_strdup(id);
    int error = broker->id ? registry_set_broker(broker, "", "", (struct uuid){0}) : CLYMQ_ENOMEM;
    if (error) {
        broker_free(broker);
        return error;
    }
    broker->index = registry->broker_count;
    registry->brokers[registry->broker_count++] = broker;
    *ret_broker = broker;
    return 0;
}

int registry_set_broker(struct registry_broker *broker, const char *address, const char *rack,
                        struct uuid disk_id)
{
    struct strbuf name = {0};
    strbuf_printf(&name, "%s@%s", broker->id, address);
    char *address_copy = mem_strdup(address), *rack_copy = mem_strdup(rack);
    if (name.failed || !address_copy || !rack_copy) {
        strbuf_free(&name);
        mem_free(address_copy);
        mem_free(rack_copy);
        return CLYMQ_ENOMEM;
    }
    mem_free(broker->address);
    mem_free(broker->rack);
    mem_free(broker->name);
    broker->address = address_copy;
    broker->rack = rack_copy;
    broker->name = name.data;
    broker->disk_id = disk_id;
    return 0;
}

struct registry_broker *registry_find_broker(const struct registry *registry, const char *id)
{
    for (uint16_t i = 0; i < registry->broker_count; i++)
        if (strcmp(registry->brokers[i]->id, id) == 0)
            return registry->brokers[i];
    return NULL;
}

/* ---- topics ---- */

static struct bytes id_key(const struct uuid *id)
{
    return bytes_of(id->byte, sizeof(id->byte));
}

int registry_add_topic(struct registry *registry, const char *name, struct uuid id,
                       struct registry_topic **ret_topic)
{
    if (map_get(registry->topics, bytes_of_text(name)) || map_get(registry->topics_by_id, id_key(&id)))
        return CLYMQ_EEXIST;
    struct registry_topic *topic = mem_zalloc(sizeof(*topic));
    if (!topic)
        return CLYMQ_ENOMEM;
    topic->name = mem_strdup(name);
    topic->by_name = map_new();
    topic->id = id;
    int error =
        topic->name && topic->by_name ? map_put(registry->topics, bytes_of_text(name), topic) : CLYMQ_ENOMEM;
    if (!error) {
        error = map_put(registry->topics_by_id, id_key(&id), topic);
        if (error)
            map_remove(registry->topics, bytes_of_text(name));
    }
    if (error) {
        topic_free(topic);
        return error;
    }
    *ret_topic = topic;
    return 0;
}

void registry_remove_topic(struct registry *registry, struct registry_topic *topic)
{
    registry->partition_count -= topic->partition_count;
    map_remove(registry->topics, bytes_of_text(topic->name));
    map_remove(registry->topics_by_id, id_key(&topic->id));
    topic_free(topic);
}

struct registry_topic *registry_find_topic(const struct registry *registry, const char *name)
{
    return map_get(registry->topics, bytes_of_text(name));
}

struct registry_topic *registry_find_topic_id(const struct registry *registry, struct uuid id)
{
    return map_get(registry->topics_by_id, id_key(&id));
}

/* ---- partitions ---- */

/* The place of the first partition whose number is at least that. */
static uint32_t place_of_number(const struct registry_topic *topic, uint32_t number)
{
    uint32_t low = 0, high = topic->partition_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (topic->partitions[middle]->number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

int registry_add_partition(struct registry *registry, struct registry_topic *topic, const char *name,
                           uint32_t number, struct registry_partition **ret_partition)
{
    if (registry_find_partition(topic, name) || registry_partition_by_number(topic, number))
        return CLYMQ_EEXIST;
    if (topic->partition_count == topic->partition_cap) {
        uint32_t cap = topic->partition_cap ? topic->partition_cap * 2 : 1;
        struct registry_partition **grown =
            mem_realloc(topic->partitions, cap * sizeof(struct registry_partition *));
        if (!grown)
            return CLYMQ_ENOMEM;
        topic->partitions = grown;
        topic->partition_cap = cap;
    }
    struct registry_partition *partition = mem_zalloc(sizeof(*partition));
    if (!partition)
        return CLYMQ_ENOMEM;
    list_init(&partition->finders);
    partition->name = mem_strdup(name);
    if (!partition->name || map_put(topic->by_name, bytes_of_text(name), partition)) {
        partition_free(partition);
        return CLYMQ_ENOMEM;
    }
    partition->topic = topic;
    partition->number = number;
    partition->ack = COORD_ACK_UNSET;
    partition->replicas = 1;
    partition->state = STATE_READY;
    uint32_t place = place_of_number(topic, number);
    memmove(&topic->partitions[place + 1], &topic->partitions[place],
            (topic->partition_count - place) * sizeof(struct registry_partition *));
    topic->partitions[place] = partition;
    topic->partition_count++;
    registry->partition_count++;
    *ret_partition = partition;
    return 0;
}

void registry_remove_partition(struct registry *registry, struct registry_partition *partition)
{
    struct registry_topic *topic = partition->topic;
    uint32_t place = place_of_number(topic, partition->number);
    assert(topic->partitions[place] == partition);
    topic->partition_count--;
    memmove(&topic->partitions[place], &topic->partitions[place + 1],
            (topic->partition_count - place) * sizeof(struct registry_partition *));
    map_remove(topic->by_name, bytes_of_text(partition->name));
    registry->partition_count--;
    partition_free(partition);
}

struct registry_partition *registry_find_partition(const struct registry_topic *topic, const char *name)
{
    return map_get(topic->by_name, bytes_of_text(name));
}

struct registry_partition *registry_partition_by_number(const struct registry_topic *topic, uint32_t number)
{
    uint32_t place = place_of_number(topic, number);
    return place < topic->partition_count && topic->partitions[place]->number == number
               ? topic->partitions[place]
               : NULL;
}

/* ---- blocks ---- */

static int blocks_reserve(struct coord_block **blocks, uint32_t count, uint32_t *cap)
{
    if (count < *cap)
        return 0;
    struct coord_block *grown = mem_realloc(*blocks, (count + 1) * sizeof(*grown));
    if (!grown)
        return CLYMQ_ENOMEM;
    *blocks = grown;
    *cap = count + 1;
    return 0;
}

int registry_reserve_block(struct registry_partition *partition)
{
    int error = blocks_reserve(&partition->blocks, partition->block_count, &partition->block_cap);
    return error ? error
                 : blocks_reserve(&partition->dropped, partition->dropped_count, &partition->dropped_cap);
}

int registry_add_block(struct registry_partition *partition, const struct coord_block *block)
{
    bool gone = block->state == COORD_BLOCK_DELETED;
    struct coord_block **blocks = gone ? &partition->dropped : &partition->blocks;
    uint32_t *count = gone ? &partition->dropped_count : &partition->block_count;
    int error = blocks_reserve(blocks, *count, gone ? &partition->dropped_cap : &partition->block_cap);
    if (error)
        return error;
    uint32_t place = *count;
    while (place > 0 && (*blocks)[place - 1].seq > block->seq)
        place--;
    if (place > 0 && (*blocks)[place - 1].seq == block->seq)
        return CLYMQ_EEXIST;
    memmove(&(*blocks)[place + 1], &(*blocks)[place], (*count - place) * sizeof(*block));
    (*blocks)[place] = *block;
    ++*count;
    return 0;
}

int registry_drop_block(struct registry_partition *partition, uint32_t at)
{
    assert(at < partition->block_count);
    int error = blocks_reserve(&partition->dropped, partition->dropped_count, &partition->dropped_cap);
    if (error)
        return error;
    struct coord_block block = partition->blocks[at];
    block.state = COORD_BLOCK_DELETED;
    partition->dropped[partition->dropped_count++] = block;
    partition->block_count--;
    memmove(&partition->blocks[at], &partition->blocks[at + 1],
            (partition->block_count - at) * sizeof(block));
    return 0;
}

void registry_forget_dropped(struct registry_partition *partition)
{
    assert(partition->dropped_count > 0);
    partition->dropped_count--;
    memmove(&partition->dropped[0], &partition->dropped[1],
            partition->dropped_count * sizeof(struct coord_block));
}

/* ---- readings ---- */

struct coord_block *partition_sealing_block(const struct registry_partition *partition)
{
    if (partition->block_count < 2)
        return NULL;
    struct coord_block *block = &partition->blocks[partition->block_count - 2];
    return block->state == COORD_BLOCK_SEALING ? block : NULL;
}

uint32_t partition_chain_count(const struct registry_partition *partition)
{
    const struct coord_block *last = partition_last_block(partition);
    return last && last->state == COORD_BLOCK_CREATING ? partition->block_count - 1 : partition->block_count;
}

struct coord_block *partition_serving_block(const struct registry_partition *partition)
{
    uint32_t count = partition_chain_count(partition);
    return count ? &partition->blocks[count - 1] : NULL;
}

bool partition_is_open(const struct registry_partition *partition)
{
    const struct coord_block *last = partition_last_block(partition);
    return partition->served && last && last->state == COORD_BLOCK_OPEN;
}

int partition_ack(const struct registry_partition *partition)
{
    return partition->ack == COORD_ACK_UNSET ? -1 : partition->ack;
}

bool partition_is_deleting(const struct registry_partition *partition)
{
    return partition->state == STATE_DELETING || partition->topic->state == STATE_DELETING;
}
