/* What the coordinator knows, in memory: brokers, topics, partitions, blocks. Loaded from the tree at
 * activation and changed only after a transaction was answered. Compact: 10,000 partitions take a few MiB. No
 * I/O, no callbacks. One thread. */
#ifndef CLYMQ_COORD_REGISTRY_H
#define CLYMQ_COORD_REGISTRY_H

#include "base/list.h"
#include "base/map.h"
#include "coord/coord.h"

struct task;

/* A broker that is or was registered. Never removed, so that blocks can name it by index. */
struct registry_broker {
    char *id;
    char *address;
    char *name; /* "<id>@<address>" */
    char *rack;
    struct uuid disk_id;
    uint16_t index;
    bool recorded; /* /Brokers/<id> is there */
    bool live;
    const struct coord_broker_ops *ops;
    void *broker;
    uint32_t first_tries; /* partitions still to be tried for its registration */
    struct task *registration;
};

enum registry_state { STATE_CREATING, STATE_READY, STATE_DELETING };

struct registry_partition {
    struct registry_topic *topic;
    char *name;
    struct coord_block *blocks;  /* the chain, by seq; those being dropped are not in it */
    struct coord_block *dropped; /* states deleted: files and nodes are still to be removed */
    struct task
        *driver; /* what opens, seals, serves and deletes it just now; NULL: nothing to do or no broker */
    struct list finders; /* lookups that wait for it */
    uint32_t number;
    uint32_t replicas;
    int64_t version; /* of its node */
    uint32_t block_count, block_cap;
    uint32_t dropped_count, dropped_cap;
    uint32_t chain_change; /* counts what the leader is to be told */
    int error;             /* of the last step that failed; 0 once one succeeds */
    int8_t ack;            /* -1, 0, 1, COORD_ACK_UNSET */
    uint8_t state;         /* enum registry_state: READY or DELETING */
    bool served;           /* the leader has its chain as it is here; unset with partition_serve_again */
    bool round_tried;      /* the sealing block's round was used */
    bool first_try;        /* counted in the first_tries of the broker below */
    uint16_t first_try_broker;
    bool data_removed; /* DELETING: by all brokers */
};

struct registry_topic {
    char *name;
    struct uuid id;
    uint8_t state;  /* enum registry_state */
    bool abandoned; /* CREATING, and nobody goes on with it: to be removed */
    uint32_t next_number;
    int64_t version;
    struct coord_topic_config config;
    struct registry_partition **partitions; /* by number */
    uint32_t partition_count, partition_cap;
    struct map *by_name;  /* struct registry_partition */
    struct task *removal; /* what removes it */
    struct task *waiter;  /* the operation that waits for a change of a partition or of the removal */
};

struct registry {
    struct uuid cluster_id;
    struct registry_broker **brokers;
    uint16_t broker_count, broker_cap;
    struct map *topics; /* by name */
    struct map *topics_by_id;
    uint32_t partition_count;
};

int registry_init(struct registry *registry); /* 0 or CLYMQ_ENOMEM */
void registry_free(struct registry *registry);

/* All 0, CLYMQ_ENOMEM, or CLYMQ_ELIMIT. */
int registry_add_broker(struct registry *registry, const char *id, struct registry_broker **ret_broker);
int registry_set_broker(struct registry_broker *broker, const char *address, const char *rack,
                        struct uuid disk_id);
struct registry_broker *registry_find_broker(const struct registry *registry, const char *id);

int registry_add_topic(struct registry *registry, const char *name, struct uuid id,
                       struct registry_topic **ret_topic);
void registry_remove_topic(struct registry *registry, struct registry_topic *topic); /* and frees it */
struct registry_topic *registry_find_topic(const struct registry *registry, const char *name);
struct registry_topic *registry_find_topic_id(const struct registry *registry, struct uuid id);

/* CLYMQ_EEXIST where name or number is taken. */
int registry_add_partition(struct registry *registry, struct registry_topic *topic, const char *name,
                           uint32_t number, struct registry_partition **ret_partition);
void registry_remove_partition(struct registry *registry,
                               struct registry_partition *partition); /* and frees it */
struct registry_partition *registry_find_partition(const struct registry_topic *topic, const char *name);
struct registry_partition *registry_partition_by_number(const struct registry_topic *topic, uint32_t number);

int registry_add_block(struct registry_partition *partition, const struct coord_block *block);
/* Makes room so that the next registry_add_block or registry_drop_block of this partition cannot fail. */
int registry_reserve_block(struct registry_partition *partition);
/* Moves a block of the chain to those being dropped. */
int registry_drop_block(struct registry_partition *partition, uint32_t at);
void registry_forget_dropped(struct registry_partition *partition); /* the first of them */

/* ---- readings ---- */

/* The leader must be told the chain (again), also where a call that tells it is under way. */
static inline void partition_serve_again(struct registry_partition *partition)
{
    partition->served = false;
    partition->chain_change++;
}
static inline struct coord_block *partition_last_block(const struct registry_partition *partition)
{
    return partition->block_count ? &partition->blocks[partition->block_count - 1] : NULL;
}
/* The block that is being sealed, or NULL; the one after it is the last. */
struct coord_block *partition_sealing_block(const struct registry_partition *partition);
/* Blocks that a broker may know of: without a last one that is only being created. */
uint32_t partition_chain_count(const struct registry_partition *partition);
/* The block whose broker answers for the partition now; NULL: none yet. */
struct coord_block *partition_serving_block(const struct registry_partition *partition);
/* Usable by clients: served, last block open. The leader may still be gone. */
bool partition_is_open(const struct registry_partition *partition);
int partition_ack(const struct registry_partition *partition); /* unset counts as -1 */
/* Whether the partition or its topic is being deleted. */
bool partition_is_deleting(const struct registry_partition *partition);

#endif
