/* A chained hash table over (topic name, partition name); the topics themselves, few, in a base map. */
#include "broker/catalog.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum { FIRST_BUCKETS = 64 };

int catalog_init(struct catalog *catalog)
{
    *catalog = (struct catalog){.topics = map_new(), .bucket_count = FIRST_BUCKETS};
    catalog->buckets = mem_calloc(FIRST_BUCKETS, sizeof(catalog->buckets[0]));
    if (catalog->topics && catalog->buckets)
        return 0;
    catalog_free(catalog);
    return CLYMQ_ENOMEM;
}

void catalog_free(struct catalog *catalog)
{
    if (catalog->topics) {
        size_t at = 0;
        struct map_entry *entry;

        while ((entry = map_next(catalog->topics, &at))) {
            struct catalog_topic *topic = entry->value;

            LIST_FOR_EACH_SAFE(item, &topic->routes) {
                mem_free(CONTAINER_OF(item, struct catalog_route, link));
            }
            mem_free(topic);
        }
        map_free(catalog->topics);
    }
    mem_free(catalog->buckets);
    *catalog = (struct catalog){0};
}

uint64_t catalog_hash(struct bytes topic, struct bytes partition)
{
    uint64_t a = map_hash(topic), b = map_hash(partition);

    return (a << 23 | a >> 41) * UINT64_C(0x9e3779b97f4a7c15) + b;
}

static size_t bucket_of(const struct catalog *catalog, uint64_t hash)
{
    return (hash ^ hash >> 32) & (catalog->bucket_count - 1);
}

struct catalog_route *catalog_find(const struct catalog *catalog, struct bytes topic, struct bytes partition,
                                   uint64_t hash)
{
    struct catalog_route *route = catalog->buckets[bucket_of(catalog, hash)];

    for (; route; route = route->next)
        if (route->hash == hash && bytes_equal(bytes_of(route->name, route->name_len), partition) &&
            bytes_equal(bytes_of(route->topic->name, route->topic->name_len), topic))
            return route;
    return NULL;
}

struct catalog_topic *catalog_find_topic(const struct catalog *catalog, struct bytes topic)
{
    return map_get(catalog->topics, topic);
}

/* Without memory the table stays as it is: slower, still right. */
static void grow(struct catalog *catalog)
{
    struct catalog_route **old = catalog->buckets;
    size_t old_count = catalog->bucket_count;
    struct catalog_route **buckets = mem_calloc(old_count * 2, sizeof(buckets[0]));

    if (!buckets)
        return;
    catalog->buckets = buckets;
    catalog->bucket_count = old_count * 2;
    for (size_t i = 0; i < old_count; i++)
        for (struct catalog_route *route = old[i], *next; route; route = next) {
            struct catalog_route **bucket = &buckets[bucket_of(catalog, route->hash)];

            next = route->next;
            route->next = *bucket;
            *bucket = route;
        }
    mem_free(old);
}

static int add_topic(struct catalog *catalog, struct bytes name, struct uuid id,
                     struct catalog_topic **ret_topic)
{
    struct catalog_topic *topic = mem_alloc(sizeof(*topic) + name.len + 1);

    if (!topic)
        return CLYMQ_ENOMEM;
    list_init(&topic->routes);
    topic->count = 0;
    topic->id = id;
    topic->name_len = (uint8_t)name.len;
    memcpy(topic->name, name.ptr, name.len);
    topic->name[name.len] = 0;
    if (map_put(catalog->topics, name, topic)) {
        mem_free(topic);
        return CLYMQ_ENOMEM;
    }
    *ret_topic = topic;
    return 0;
}

static void drop_topic(struct catalog *catalog, struct catalog_topic *topic)
{
    map_remove(catalog->topics, bytes_of(topic->name, topic->name_len));
    mem_free(topic);
}

int catalog_add(struct catalog *catalog, struct bytes topic_name, struct uuid topic_id,
                struct bytes partition, uint32_t number, unsigned owner, struct catalog_route **ret_route)
{
    uint64_t hash = catalog_hash(topic_name, partition);
    struct catalog_route *route = catalog_find(catalog, topic_name, partition, hash), **bucket;
    struct catalog_topic *topic = catalog_find_topic(catalog, topic_name);
    int error;

    assert(topic_name.len <= 255 && partition.len <= 255);
    if (route && uuid_equal(route->topic->id, topic_id) && route->number == number) {
        *ret_route = route;
        return 0;
    }
    if (route || (topic && !uuid_equal(topic->id, topic_id)))
        return CLYMQ_EEXIST;
    route = mem_alloc(sizeof(*route) + partition.len + 1);
    if (!route)
        return CLYMQ_ENOMEM;
    if (!topic && (error = add_topic(catalog, topic_name, topic_id, &topic))) {
        mem_free(route);
        return error;
    }
    if (catalog->count >= catalog->bucket_count)
        grow(catalog);
    bucket = &catalog->buckets[bucket_of(catalog, hash)];
    *route = (struct catalog_route){
        .next = *bucket,
        .topic = topic,
        .hash = hash,
        .number = number,
        .owner = (uint16_t)owner,
        .name_len = (uint8_t)partition.len,
    };
    memcpy(route->name, partition.ptr, partition.len);
    route->name[partition.len] = 0;
    *bucket = route;
    list_push_back(&topic->routes, &route->link);
    topic->count++;
    catalog->count++;
    *ret_route = route;
    return 0;
}

void catalog_remove(struct catalog *catalog, struct catalog_route *route)
{
    struct catalog_route **at = &catalog->buckets[bucket_of(catalog, route->hash)];
    struct catalog_topic *topic = route->topic;

    while (*at != route)
        at = &(*at)->next;
    *at = route->next;
    list_remove(&route->link);
    mem_free(route);
    catalog->count--;
    if (--topic->count == 0)
        drop_topic(catalog, topic);
}

unsigned catalog_owner(struct uuid topic_id, uint32_t number, unsigned shard_count)
{
    uint32_t spread = (uint32_t)topic_id.byte[0] << 24 | (uint32_t)topic_id.byte[1] << 16 |
                      (uint32_t)topic_id.byte[2] << 8 | topic_id.byte[3];

    return (unsigned)(((uint64_t)spread + number) % shard_count);
}
