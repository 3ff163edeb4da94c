/* A broker for the coordinator's tests: it keeps blocks in memory, which outlive coordinators (as files
 * would), answers after random delays on a loop, fails on request, and checks that the coordinator keeps the
 * contract of struct coord_broker_ops: calls for one partition come one at a time, chains are sound, rounds
 * and epochs grow, nothing is opened that was served. */
#ifndef CLYMQ_TESTS_COORD_FAKE_BROKER_H
#define CLYMQ_TESTS_COORD_FAKE_BROKER_H

#include "base/list.h"
#include "base/map.h"
#include "base/rng.h"
#include "coord/coord.h"

enum { FAKE_BLOCKS = 64 };

struct fake_block {
    struct uuid id;
    uint32_t seq;
    int64_t start, end;
    bool served, sealed;
    uint32_t round;
};

struct fake_partition {
    struct uuid topic_id;
    uint32_t number;
    struct fake_block blocks[FAKE_BLOCKS];
    uint32_t block_count;
    bool in_service;
    bool open; /* takes pushes */
    int ack;
    uint32_t open_seq;
    int64_t coordinator_epoch;
    struct coord_topic_config config;
    bool busy; /* a call is under way */
};

struct fake_broker {
    struct io_loop *loop;
    struct rng rng;
    struct map *partitions; /* struct fake_partition, by topic id and number */
    struct list calls;      /* under way */
    uint64_t max_delay_ns;  /* 0: answered from inside the call */
    uint32_t error_ppm;
    int error;
    int fail_open_block; /* every open_block answers this */
    int fail_serve, fail_seal, fail_check, fail_delete, fail_config;
    uint64_t opens, serves, seals, deletes, configs;
};

extern const struct coord_broker_ops fake_broker_ops;

void fake_broker_init(struct fake_broker *broker, struct io_loop *loop, uint64_t seed);
void fake_broker_free(struct fake_broker *broker);
/* The coordinator is gone: calls under way take effect or not and are never answered. */
void fake_broker_forget_calls(struct fake_broker *broker);
/* The process died: nothing is in service until a coordinator says so; blocks stay. */
void fake_broker_restart(struct fake_broker *broker);
struct fake_partition *fake_broker_partition(struct fake_broker *broker, struct uuid topic_id,
                                             uint32_t number);
/* A client's message; true when it was taken. */
bool fake_broker_push(struct fake_broker *broker, struct uuid topic_id, uint32_t number);
/* Partitions that hold at least one block. */
size_t fake_broker_partition_count(const struct fake_broker *broker);

#endif
