/* A coordinator on the simulated metadata store with a fake broker, in one simulated process; and operations
 * that wait. */
#ifndef CLYMQ_TESTS_COORD_HARNESS_H
#define CLYMQ_TESTS_COORD_HARNESS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "coord/coord.h"
#include "io/sim.h"
#include "meta/sim.h"
#include "unit/coord/fake_broker.h"

struct harness {
    struct sim_world *world;
    struct io_loop *loop;
    struct shards *shards;
    struct sim_meta_store *store;
    struct meta *meta;
    struct coord *coord;
    struct fake_broker broker;
    int lost;              /* told by on_lost */
    uint64_t max_delay_ns; /* of metadata */
    uint32_t max_topics, max_topic_partitions;
};

enum { REPLY_LOCATIONS = 64 };

struct reply {
    bool done;
    int error;
    char sentence[1024];
    char *json; /* owned by the reply: harness_reply_free */
    size_t count;
    struct {
        char name[64], address[64], broker_name[64];
        uint32_t number, block_seq;
        int error, ack;
        struct uuid topic_id;
    } locations[REPLY_LOCATIONS]; /* the first ones */
};

void harness_init(struct harness *h, uint64_t seed);
void harness_free(struct harness *h);
/* A new coordinator on the store: opened, activated, the fake broker registered. */
void harness_start(struct harness *h);
/* Opened and asked to activate only. */
void harness_open(struct harness *h);
/* The coordinator's process dies: no callback of it is called; it is closed. Replies that wait get
 * CLYMQ_ESHUTDOWN. */
void harness_crash(struct harness *h);
/* A clean stop. */
void harness_stop(struct harness *h);
void harness_wait(struct harness *h, const struct reply *reply);
void harness_run_for(struct harness *h, uint64_t ns);

void reply_done(void *ctx, int error, const char *sentence);
void reply_found(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                 size_t count);
void reply_text(void *ctx, int error, const char *sentence, struct bytes json);
void reply_free(struct reply *reply);

/* Asked, waited for, the error returned. */
int do_activate(struct harness *h, struct reply *reply);
int do_register(struct harness *h, struct reply *reply);
int do_create_topic(struct harness *h, const char *name, uint32_t partitions, int ack, const char *config,
                    struct reply *reply);
int do_create_partition(struct harness *h, const char *topic, const char *name, struct reply *reply);
int do_set_state(struct harness *h, const char *topic, const char *name, int ack, uint32_t replicas,
                 struct reply *reply);
int do_set_config(struct harness *h, const char *topic, const char *config, struct reply *reply);
int do_delete_topic(struct harness *h, const char *topic, struct reply *reply);
int do_delete_partition(struct harness *h, const char *topic, const char *name, struct reply *reply);
int do_drop_blocks(struct harness *h, struct uuid topic_id, uint32_t number, uint32_t seq,
                   struct reply *reply);
int do_find(struct harness *h, const char *topic, const char *name, uint32_t timeout_ms, struct reply *reply);
int do_describe(struct harness *h, const char *topic, struct reply *reply);
int do_list(struct harness *h, const char *prefix, struct reply *reply);
struct coord_broker harness_broker(struct harness *h);

/* Nodes in the tree below path, itself included, read through a session of their own. */
size_t harness_count_nodes(struct harness *h, const char *path);
/* The node's value, freed with mem_free; NULL: not there. */
char *harness_read_node(struct harness *h, const char *path);
int harness_write_node(struct harness *h, const char *path, const char *value);

#endif
