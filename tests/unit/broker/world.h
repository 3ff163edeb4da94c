/* A broker node in the simulated world with clients on another simulated machine: every test of a handler
 * goes through the net, over one or several shards. */
#ifndef CLYMQ_TESTS_BROKER_WORLD_H
#define CLYMQ_TESTS_BROKER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "broker/node.h"
#include "io/sim.h"
#include "net/link.h"
#include "wire/batch.h"

enum { WORLD_SHARDS_MAX = 4, WORLD_LIMIT_MS = 120000, ANSWER_TEXT = 1024 };

struct world {
    struct sim_world *sim;
    struct sim_process *server, *client;
    struct sim_meta_store *meta_store;
    struct broker_node_config config;
    unsigned shard_count;
    /* One life of the server: */
    struct io_loop *loops[WORLD_SHARDS_MAX];
    struct shards *shards;
    struct store_folder *folder;
    struct metrics *metrics;
    struct broker_node *node;
    bool crashed; /* how close_meta ends the session */
    bool done;
    int done_error;
    char done_sentence[512];
    /* The clients: */
    struct io_loop *client_loop;
    struct net_link *coordinator, *broker;
    /* Log lines of level warn and above, and of all levels. */
    struct strbuf log;
};

/* Group setup per number of shards: the test's *state is the struct world, the node serving, both links made.
 */
int world_setup_1(void **state);
int world_setup_2(void **state);
int world_setup_4(void **state);
int world_teardown(void **state);
#define TEST_SHARDS(function)                                                                                \
    {#function "_1", function, world_setup_1, world_teardown, NULL},                                         \
        {#function "_2", function, world_setup_2, world_teardown, NULL},                                     \
    {                                                                                                        \
#function "_4", function, world_setup_4, world_teardown, NULL                                        \
    }

struct world *world_new(unsigned shards, uint64_t seed); /* not started */
void world_free(struct world *world);
/* A new life of the node on the disk as it is. world_start expects success; world_try_start gives the error.
 */
void world_start(struct world *world);
int world_try_start(struct world *world);
void world_begin_start(struct world *world);            /* done tells when it is over */
void world_stop(struct world *world);                   /* clean, and frees the life */
void world_crash(struct world *world, bool power_loss); /* at once, and frees the life; links are gone */
void world_connect(struct world *world);                /* makes the two links */
struct net_link *world_link(struct world *world, const char *address);
/* Steps until *flag, at most limit_ms of simulated time; whether it was reached. */
bool world_run_until(struct world *world, const bool *flag, int64_t limit_ms);
void world_run_for(struct world *world, int64_t ms);
int64_t world_metric_sum(struct world *world, const char *name); /* over all labels */

/* One call's answer. response is decoded, its views live until answer_free. */
struct answer {
    bool done;
    int error;
    int32_t exception;
    char text[ANSWER_TEXT];
    union {
        struct rpc_push_response push;
        struct rpc_pull_response pull;
        struct rpc_info_response info;
        struct rpc_info_get_response info_get;
        struct rpc_push_batch_response push_batch;
        struct rpc_pull_batch_response pull_batch;
        struct rpc_list_offset_response list_offset;
        struct rpc_create_topic_response create_topic;
        struct rpc_create_part_response create_part;
        struct rpc_set_partition_state_response set_partition_state;
        struct rpc_pro_get_brok_response pro_get_brok;
        struct rpc_sub_response sub;
        struct rpc_con_start_get_brok_response con_start_get_brok;
        struct rpc_get_new_leader_response get_new_leader;
        struct rpc_list_topics_response list_topics;
        struct rpc_describe_topic_response describe_topic;
        struct rpc_delete_topic_response delete_topic;
        struct rpc_delete_part_response delete_part;
        struct rpc_set_topic_config_response set_topic_config;
    } r;
    enum rpc_method_id method;
    struct buf *message;
};
/* Sends without waiting. The answer stays where it is until done. */
void call_begin(struct net_link *link, enum rpc_method_id method, const void *request, struct answer *answer);
/* Sends and waits. */
void call(struct world *world, struct net_link *link, enum rpc_method_id method, const void *request,
          struct answer *answer);
void answer_free(struct answer *answer);
void answer_take(void *ctx,
                 const struct net_answer *got); /* the callback; ctx: struct answer with its method */

struct bytes text(const char *text); /* bytes_of_text, short */
bool bytes_are(struct bytes bytes, const char *text);
bool contains(struct bytes bytes, const char *part);

/* Common calls that expect success. */
void make_topic(struct world *world, const char *topic, int partitions);
void make_partition(struct world *world, const char *topic, const char *partition);
void set_partition(struct world *world, const char *topic, const char *partition, int ack);
void push_text(struct world *world, const char *topic, const char *partition, const char *message, int ack);
void pull_from(struct world *world, const char *topic, const char *partition, int64_t offset, int size,
               struct answer *answer);
void expect_exception(const struct answer *answer, const char *part);
/* A record batch of count messages "<prefix><n>"; the caller gives it back. */
struct buf *make_batch(const char *prefix, int count, enum batch_compression compression, int64_t producer_id,
                       int32_t sequence);
/* Pushes it with ack -1 and gives the base offset. */
int64_t push_batch(struct world *world, const char *topic, const char *partition, const struct buf *batch);

#endif
