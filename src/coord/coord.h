/* The coordinator: owns the metadata model (topics, partitions, chains of blocks), places blocks on brokers,
 * opens and seals them, and answers "where is …".
 *
 * Runs on one shard (0), single-threaded, asynchronous. Every operation gets exactly one callback, on that
 * shard, never from inside the call (except from coord_close). Texts in callbacks are views valid during the
 * callback. Arguments are copied before a call returns. Operations may be asked for at any time: until
 * activation is over they wait, and where it fails they are answered with its error; changes of one topic are
 * done one after another in the order asked, those of different topics side by side.
 *
 * All that it knows lies in the metadata tree (docs/metadata.md) and is loaded at activation; it may crash
 * between any two steps: the next activation completes or removes what was begun. Every transaction checks
 * /CoordinatorEpoch, so that of two coordinators the older one can change nothing any more: it answers
 * CLYMQ_EFENCED.
 *
 * Layer: includes meta and what is above it; brokers are reached through struct coord_broker alone. */
#ifndef CLYMQ_COORD_COORD_H
#define CLYMQ_COORD_COORD_H

#include "base/uuid.h"
#include "coord/model.h"
#include "meta/meta.h"
#include "shard/shard.h"

struct coord;

struct coord_config {
    struct shard *shard;
    struct meta *meta;             /* the caller's; see coord_close */
    const char *root;              /* of the tree, such as "/ClyMQ"; copied */
    const char *name;              /* who this coordinator is, written to /Coordinator; copied */
    const char *address;           /* where clients reach it, "host:port"; copied */
    uint32_t max_topics;           /* in all, with and without partitions; 0 = 100,000 */
    uint32_t max_topic_partitions; /* per topic; 0 = 20,000 */
    uint32_t max_partitions;       /* in all; 0 = 200,000 */
    uint32_t broker_calls;         /* calls to brokers under way at once; 0 = 512 */
    uint32_t retry_ms; /* wait before a failed step of opening, sealing, deleting is tried again; 0 = 1,000 */
    uint32_t removal_wait_ms; /* how long operations wait for a topic's removal; 0 = 3,000 */
    /* Told once per activation when the role is lost: CLYMQ_EFENCED (another coordinator took over),
     * CLYMQ_ESESSION, CLYMQ_ESHUTDOWN (metadata closed), CLYMQ_EVERSION (the tree was changed by something
     * else). All waiting operations have been answered with it; coord_activate may be called again, then the
     * brokers register again. */
    void (*on_lost)(void *ctx, int error, const char *sentence);
    void *ctx;
};

typedef void (*coord_done)(void *ctx, int error,
                           const char *sentence); /* sentence: never NULL; "" on success */

int coord_open(const struct coord_config *config, struct coord **ret_coord);
/* Takes the role (increments /CoordinatorEpoch, names itself in /Coordinator) and loads the tree. done: 0;
 * CLYMQ_EFORMAT, CLYMQ_ECORRUPT with the node's path in the sentence; or what the metadata store answered.
 * When to take over from another coordinator is the caller's decision. */
void coord_activate(struct coord *coord, coord_done done, void *ctx);
bool coord_is_active(const struct coord *coord);
int64_t coord_epoch(const struct coord *coord); /* this activation's; 0 when not active */
/* Frees. Close (or expire) the struct meta first and let no broker call back any more. Waiting operations are
 * answered with CLYMQ_ESHUTDOWN from inside. NULL is allowed. */
void coord_close(struct coord *coord);
/* Once a second: goes on where there was no memory for a timer. */
void coord_tick(struct coord *coord);

/* ---- brokers ---- */

/* What a broker is asked to do, for one partition. Views valid during the call: copy what is handed to
 * another shard. `chain` holds the partition's blocks in order, without dropped ones; only the last one may
 * be open. */
struct coord_partition_spec {
    const char *topic;
    struct uuid topic_id;
    const char *name;
    uint32_t number;
    int ack;           /* -1, 0 or 1: of the chain's last block; a partition never set counts as -1 */
    uint32_t replicas; /* wanted; a block may have fewer */
    const struct coord_topic_config *config;
    int64_t coordinator_epoch;
    const struct coord_block *chain;
    size_t chain_count;
};

/* The answer to a broker call, exactly one per call, on the coordinator's shard; it may come from inside the
 * call. end_offset counts for seal_block only. Not after coord_close. A failed call (also CLYMQ_ETIMEDOUT) is
 * made again after retry_ms. */
typedef void (*coord_broker_done)(void *ctx, int error, int64_t end_offset);

/* All calls are idempotent: after a crash they are made again. Calls for one partition come one at a time. */
struct coord_broker_ops {
    /* Makes the block empty and durable, inactive: pushes are not taken yet. `block` is not in the chain yet
     * or is its last one, state creating; block->start is where it begins. The same id again: 0, and where it
     * was never served and its start differs it is made anew from block->start. */
    void (*open_block)(void *broker, const struct coord_partition_spec *partition,
                       const struct coord_block *block, coord_broker_done done, void *ctx);
    /* Puts the partition into service as the spec says, replacing what the broker knew of its chain. The last
     * block, state open, takes pushes from now on with leader epoch block->base_epoch or greater. Never
     * creates a block: CLYMQ_ENOENT when one that this broker should hold is missing, and then the partition
     * stays out of service. */
    void (*serve_partition)(void *broker, const struct coord_partition_spec *partition,
                            coord_broker_done done, void *ctx);
    /* Takes no more pushes in that block, in this run or any later one, and answers its end offset (the next
     * one to be written) once everything below is durable. Pushes that wait are answered or refused as moved.
     * round grows with each attempt; lower ones are refused with CLYMQ_EFENCED. Sealed already: the same end
     * again. */
    void (*seal_block)(void *broker, const struct coord_partition_spec *partition,
                       const struct coord_block *block, uint32_t round, coord_broker_done done, void *ctx);
    /* Whether the partition, which it serves, could be sealed: 0, or why not (CLYMQ_ELOG_FAILED,
     * CLYMQ_ECORRUPT: not before the log is whole again). Changes nothing, and may come beside another call.
     */
    void (*check_partition)(void *broker, const struct coord_partition_spec *partition,
                            coord_broker_done done, void *ctx);
    /* Removes the block's files. 0 also when there is none. */
    void (*delete_block)(void *broker, const struct coord_partition_spec *partition,
                         const struct coord_block *block, coord_broker_done done, void *ctx);
    /* Takes the partition out of service and removes all its blocks, known or not, by topic id and number;
     * clients are told "partition remove". 0 also when there is nothing. The chain may be empty. */
    void (*delete_partition)(void *broker, const struct coord_partition_spec *partition,
                             coord_broker_done done, void *ctx);
    /* The topic's options changed, for all its partitions on this broker. */
    void (*update_config)(void *broker, const char *topic, struct uuid topic_id,
                          const struct coord_topic_config *config, coord_broker_done done, void *ctx);
};

struct coord_broker {
    const char *id;      /* "1", or derived from host and MAC address; name_check; no '@' */
    const char *address; /* as clients reach it: "host:port" */
    const char *rack;    /* "" = none */
    struct uuid disk_id;
    const struct coord_broker_ops *ops;
    void *broker; /* first argument of ops */
};
/* Registers a live broker: /Brokers/<id> and the ephemeral /Brokers/<id>/State. Then every partition that it
 * leads is put into service; done comes when each was tried once (those that failed are tried again later and
 * logged). Strings are copied; ops and broker stay the caller's until coord_close or the role is lost. An id
 * that is registered already is replaced. */
void coord_register_broker(struct coord *coord, const struct coord_broker *broker, coord_done done,
                           void *ctx);

/* ---- topics and partitions ---- */

struct coord_topic_request {
    const char *name;
    uint32_t partitions; /* 0 is allowed: coord_create_partition adds them. Made as "0", "1" … */
    uint32_t replicas;   /* 1–127; 0 = 1. More than there are brokers is accepted */
    int ack;             /* -1, 0, 1 or COORD_ACK_UNSET */
    struct bytes config; /* JSON object, docs/metadata.md; empty = none */
};
/* Waits up to removal_wait_ms for the removal of a topic of that name. Answered when all partitions are
 * recorded; their blocks are opened right after (coord_find_leaders waits for that). CLYMQ_EEXIST;
 * CLYMQ_EBUSY while a topic of that name is being deleted; CLYMQ_ENAME, CLYMQ_EINVAL, CLYMQ_EACK_LEVEL,
 * CLYMQ_ELIMIT; CLYMQ_EAGAIN while no broker is there. Refused: nothing usable is left, what was begun is
 * removed. */
void coord_create_topic(struct coord *coord, const struct coord_topic_request *request, coord_done done,
                        void *ctx);
/* CLYMQ_ETOPIC_UNKNOWN; CLYMQ_EEXIST. Numbers go on counting and are never used again. */
void coord_create_partition(struct coord *coord, const char *topic, const char *partition, coord_done done,
                            void *ctx);
/* Sets ack level (COORD_ACK_UNSET: as it is) and replica count (0: as it is). Where that changes the ack
 * level the open block is sealed and the next one opened with base epoch + 1; an empty one is dropped from
 * the chain by the same transaction. Refused where the block cannot be sealed, because its log failed.
 * Answered when the next block is in service; on failure the sentence says whether it is still being tried.
 */
void coord_set_partition_state(struct coord *coord, const char *topic, const char *partition, int ack,
                               uint32_t replicas, coord_done done, void *ctx);
/* Sets the topic's options that the JSON object names; null: the server's default. The others stay. */
void coord_set_topic_config(struct coord *coord, const char *topic, struct bytes config, coord_done done,
                            void *ctx);
/* Marked as deleted first, from which on nobody knows it and nothing brings it back; then the data is removed
 * from the brokers, then the nodes. Answered when that is through; a topic's also after removal_wait_ms (0:
 * what is left goes on by itself), and at the first failure (likewise, with the reason). */
void coord_delete_topic(struct coord *coord, const char *topic, coord_done done, void *ctx);
void coord_delete_partition(struct coord *coord, const char *topic, const char *partition, coord_done done,
                            void *ctx);
/* Retention: drops the partition's oldest blocks up to and with seq, which are sealed. Metadata first. */
void coord_drop_blocks(struct coord *coord, struct uuid topic_id, uint32_t partition, uint32_t seq,
                       coord_done done, void *ctx);

/* ---- questions ---- */

struct coord_leader {
    const char *broker_id;
    const char *address;     /* "host:port" */
    const char *broker_name; /* "<id>@host:port": clients cache addresses by it */
};
struct coord_location {
    const char *partition;
    uint32_t number;
    int error; /* 0, or why there is no leader, with a sentence */
    const char *sentence;
    struct coord_leader leader;
    struct uuid topic_id;
    int ack;
    uint32_t block_seq; /* of the open block */
};
typedef void (*coord_find_done)(void *ctx, int error, const char *sentence,
                                const struct coord_location *locations, size_t count);
/* Where the partition is served, or, with partition NULL, all partitions of the topic in order of their
 * numbers. Waits up to timeout_ms for blocks that are being opened. error is for the whole:
 * CLYMQ_ETOPIC_UNKNOWN, CLYMQ_EPARTITION_UNKNOWN, or a lost role; for one partition also its own
 * (CLYMQ_ETIMEDOUT). For a whole topic look at each location's error. */
void coord_find_leaders(struct coord *coord, const char *topic, const char *partition, uint32_t timeout_ms,
                        coord_find_done done, void *ctx);

typedef void (*coord_text_done)(void *ctx, int error, const char *sentence, struct bytes json);
/* {"topics":[{"name","id","partitions"}]}, sorted by name; prefix "" = all. */
void coord_list_topics(struct coord *coord, const char *prefix, coord_text_done done, void *ctx);
/* {"name","id","config":{…},"partitions":[{"name","number","ack","replicas","leader":{"id","address"}|null,
 *   "blocks":[{"seq","id","state","round","start"|null,"end"|null,"base_epoch","ack","leader"}]}]},
 * partitions by number. */
void coord_describe_topic(struct coord *coord, const char *topic, coord_text_done done, void *ctx);

#endif
