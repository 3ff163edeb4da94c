/* The routing table of one shard: which partitions this broker serves, by the names of topic and partition,
 * and on which shard each lives. Every shard has a replica of its own; shard 0 tells all of them of changes
 * (broker/local_broker.c).
 *
 * Used on its shard only. Lookups allocate nothing. About 100 bytes a partition and shard, plus the name.
 * Walks are in the order of insertion. */
#ifndef CLYMQ_BROKER_CATALOG_H
#define CLYMQ_BROKER_CATALOG_H

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "base/uuid.h"

struct hosted; /* broker/hosted.h */

struct catalog_topic {
    struct list routes; /* struct catalog_route */
    size_t count;
    struct uuid id;
    uint8_t name_len;
    char name[]; /* NUL-terminated */
};

struct catalog_route {
    struct list link;           /* in its topic */
    struct catalog_route *next; /* in its bucket */
    struct catalog_topic *topic;
    struct hosted *hosted; /* on the owner's shard; NULL elsewhere */
    uint64_t hash;
    uint32_t number;
    uint16_t owner; /* shard */
    uint8_t name_len;
    char name[]; /* NUL-terminated */
};

struct catalog {
    struct map *topics; /* name -> struct catalog_topic */
    struct catalog_route **buckets;
    size_t bucket_count, count;
};

int catalog_init(struct catalog *catalog);
/* Frees all routes; what hosted points to is not the catalog's. */
void catalog_free(struct catalog *catalog);

/* The hash of both names; the same on all shards of a process. */
uint64_t catalog_hash(struct bytes topic, struct bytes partition);
struct catalog_route *catalog_find(const struct catalog *catalog, struct bytes topic, struct bytes partition,
                                   uint64_t hash);
struct catalog_topic *catalog_find_topic(const struct catalog *catalog, struct bytes topic);
/* The route of these names; made if it is not there, without hosted. One of another topic id is not accepted
 * (CLYMQ_EEXIST): remove it first. Names were checked (name_check). 0 or CLYMQ_ENOMEM. */
int catalog_add(struct catalog *catalog, struct bytes topic, struct uuid topic_id, struct bytes partition,
                uint32_t number, unsigned owner, struct catalog_route **ret_route);
void catalog_remove(struct catalog *catalog, struct catalog_route *route);

/* The shard on which a partition lives: neighbours of a topic on different shards, topics spread by their
 * random id. */
unsigned catalog_owner(struct uuid topic_id, uint32_t number, unsigned shard_count);

#endif
