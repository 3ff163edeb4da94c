/* The inside of struct coord and the pieces that its files share. Private to src/coord. */
#ifndef CLYMQ_COORD_COORDINATOR_H
#define CLYMQ_COORD_COORDINATOR_H

#include "coord/codec.h"
#include "coord/registry.h"
#include "coord/task.h"
#include "coord/txn.h"

enum coord_state { COORD_IDLE, COORD_ACTIVATING, COORD_ACTIVE, COORD_LOST };

struct coord {
    struct shard *shard;
    struct meta *meta;
    char *root, *name, *address;
    char *epoch_path;
    struct coord_config config; /* numbers with their defaults filled in, and on_lost */
    enum coord_state state;
    int64_t epoch;
    int64_t epoch_version; /* of the node at epoch_path */
    struct registry registry;
    bool registry_there;
    struct task_board board;
    struct map *queues; /* struct op_queue by key */
    struct shard_tail tail;
    bool sweep_waits;      /* there was no memory for its timer */
    struct io_timer sweep; /* looks for partitions whose driver could not be made */
    int losing;            /* the role is lost; acted on at the tail */
    char losing_text[256];
    int lost_error; /* COORD_LOST: what operations are answered */
    char lost_text[256];
    char trouble_text[512];
    char load_text[META_PATH_MAX + 200];
    struct task *activation;
    unsigned depth; /* uses of this struct after a callback */
    bool closed;
};

/* The role is lost: told soon. The first reason counts. */
void coord_lose(struct coord *coord, int error, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void coord_wake(struct coord *coord); /* the board is looked at at the end of this round */
struct uuid coord_new_id(struct coord *coord);
/* A transaction that begins with the check of this coordinator's epoch. */
struct txn coord_txn(const struct coord *coord);

/* Paths, made with mem_alloc; NULL: out of memory. */
char *coord_path(const struct coord *coord, const char *format, ...) __attribute__((format(printf, 2, 3)));
char *path_topic(const struct coord *coord, const char *topic);
char *path_partitions(const struct coord *coord, const char *topic);
char *path_partition(const struct coord *coord, const struct registry_partition *partition);
char *path_blocks(const struct coord *coord, const struct registry_partition *partition);
char *path_block(const struct coord *coord, const struct registry_partition *partition, uint32_t seq);
char *path_copy(const struct coord *coord, const struct registry_partition *partition, uint32_t seq,
                const char *broker);

/* ---- operations (op.c): tasks that somebody waits for ---- */

struct op_queue;

/* Embedded first in each operation's struct; freed by op.c with mem_free after free_parts. */
struct op {
    struct task task;
    struct op_queue *queue; /* NULL: not (any longer) in one */
    struct list link;
    void (*begin)(struct op *op);                                   /* its turn has come, the role is there */
    void (*answer)(struct op *op, int error, const char *sentence); /* calls the user */
    void (*free_parts)(struct op *op);                              /* may be NULL */
    void (*on_end)(struct op *op); /* unlinks it from the registry; may be NULL */
    void (*user_done)(void);       /* the callback, in the type that answer knows */
    void *user_ctx;
};
/* Queues an operation of zeroed memory whose begin, answer … are set. Operations of one key are done one
 * after another. Out of memory: answered and freed at once. */
void op_submit(struct coord *coord, struct op *op, const char *key_format, ...)
    __attribute__((format(printf, 3, 4)));
/* From now on the next one of its queue goes on beside it. */
void op_leave_queue(struct op *op);
/* Answers and frees: the last thing a step does. Without a format the table's sentence is given. */
void op_finish(struct op *op, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
void op_finish_plain(struct op *op, int error);
/* Makes the queues' first operations go. */
void op_start_all(struct coord *coord);
void op_free_queues(struct coord *coord);

/* An operation answered by a coord_done, of that size. NULL: out of memory, and done was called. */
void *op_new(size_t size, void (*begin)(struct op *op), coord_done done, void *ctx);

/* ---- operations on one topic (topic_op.c) ---- */

/* The topic of that name in use, or NULL: one being created or deleted is unknown. */
static inline struct registry_topic *coord_topic(const struct coord *coord, const char *name)
{
    struct registry_topic *topic = registry_find_topic(&coord->registry, name);
    return topic && topic->state == STATE_READY ? topic : NULL;
}

struct topic_op {
    struct op op;
    char *topic, *partition; /* names; partition may be NULL */
    struct uuid topic_id;    /* once found: the topic may be gone when a step comes */
    uint32_t number;         /* of the partition, once found */
    int failure;             /* why it is being undone */
    uint64_t deadline_ns;    /* of waiting for a removal; 0: not begun */
};
/* As op_new; names are copied and checked (answered when its turn has come). */
void *topic_op_new(size_t size, void (*begin)(struct op *op), const char *topic, const char *partition,
                   coord_done done, void *ctx);
void topic_op_submit(struct coord *coord, struct topic_op *op);
/* The topic and the partition, ready for use; otherwise NULL and the operation is finished. Where none has
 * the name: with the advice to look for the right one, since nobody creates what is to be changed or deleted;
 * of a topic that is to get something, _find_topic_for_more, with that to create it. */
struct registry_topic *topic_op_find_topic(struct topic_op *op);
struct registry_topic *topic_op_find_topic_for_more(struct topic_op *op);
struct registry_partition *topic_op_find_partition(struct topic_op *op);
/* What was found before, or NULL where it is gone. */
struct registry_topic *topic_op_topic(const struct topic_op *op);
struct registry_partition *topic_op_partition(const struct topic_op *op);
/* step(0) at every change of the topic, its partitions or its removal. */
void topic_op_wait(struct topic_op *op, struct registry_topic *topic);
/* As topic_op_wait for the topic's removal, with removal_wait_ms in all: false when that time is over. */
bool topic_op_wait_removal(struct topic_op *op, struct registry_topic *topic);
void topic_op_stop_waiting(struct topic_op *op);

/* ---- partitions at work (driver.c) ---- */

/* Brings the partition towards what the registry says: opens, seals, serves, drops, deletes. Harmless when
 * there is nothing to do or it is on the way. */
void partition_drive(struct coord *coord, struct registry_partition *partition);
/* Whether there is work that its driver has not finished. */
bool partition_needs_work(const struct coord *coord, const struct registry_partition *partition);
/* As it is handed to brokers; views into the registry. */
struct coord_partition_spec partition_spec(const struct coord *coord,
                                           const struct registry_partition *partition);
/* Tells the operation that waits for the topic, and lookups if the partition is usable. */
void partition_changed(struct registry_partition *partition);
void topic_changed(struct registry_topic *topic);
/* Why the partition is not in service now; valid until the next call. */
const char *partition_trouble(struct coord *coord, const struct registry_partition *partition);
void coord_sweep_later(struct coord *coord);

/* ---- deleting ---- */

/* Removes the node at path (taken over) and all below it, then steps parent with the outcome. 0 or
 * CLYMQ_ENOMEM. */
int purge_start(struct coord *coord, char *path, struct task *parent);
/* Removes the topic, data first, and tells topic->waiter: at the end (registry_find_topic_id finds nothing)
 * and at each failure (removal_error). Harmless when under way: tries again at once. 0 or CLYMQ_ENOMEM (tried
 * again by the sweep). */
int removal_start(struct coord *coord, struct registry_topic *topic);
int removal_error(const struct registry_topic *topic);
/* A partition's driver ended, or the partition is gone. */
void removal_notify(struct registry_topic *topic);

/* ---- placing ---- */

/* The live broker for a new block of the partition; NULL: none is there. */
struct registry_broker *placement_choose(const struct registry *registry, const struct uuid *topic_id,
                                         uint32_t number);
/* Fills in id, leader and brokers of a new block. CLYMQ_EAGAIN where no broker is there. */
int placement_new_block(struct coord *coord, const struct uuid *topic_id, uint32_t number, uint32_t seq,
                        int ack, struct coord_block *ret_block);
/* Adds to txn the nodes of a block and its copies. */
void txn_create_block(const struct coord *coord, struct txn *txn, const struct registry_partition *partition,
                      const struct coord_block *block);
void txn_set_block(const struct coord *coord, struct txn *txn, const struct registry_partition *partition,
                   const struct coord_block *block);
/* Adds the nodes of a partition with its first block. */
void txn_create_partition(const struct coord *coord, struct txn *txn,
                          const struct registry_partition *partition);

/* ---- activation (activate.c, load.c) ---- */

/* Reads the tree into the registry, then steps parent with the outcome; coord->load_text says more about a
 * failure. 0 or CLYMQ_ENOMEM. */
int load_start(struct coord *coord, struct task *parent);
/* Takes up what was begun before: removals, and partitions whose brokers are there. */
void coord_resume(struct coord *coord);

/* ---- lookups (find.c) ---- */

/* The partition can be used or will never be: its lookups go on. */
void find_notify(struct registry_partition *partition);

#endif
