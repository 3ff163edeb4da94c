/* A cluster for the client's tests: a few simulated servers that answer the RPC contract from one shared
 * model of topics and logs, with faults drawn from the world's generator. The model keeps the rules that the
 * real partition keeps: no gaps in a producer's sequence, repeats answered with where they were stored, older
 * epochs refused. */
#ifndef CLYMQ_TESTS_CLIENT_FAKE_CLUSTER_H
#define CLYMQ_TESTS_CLIENT_FAKE_CLUSTER_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "io/sim.h"
#include "net/server.h"
#include "wire/batch.h"

enum { FAKE_SERVERS = 2, FAKE_PARTITIONS_MAX = 32, FAKE_KNOWN = 5, FAKE_PRODUCERS = 64 };

struct fake_batch {
    struct buf *data;
    struct batch_header header;
};

struct fake_producer {
    int64_t id;
    int16_t epoch;
    int known; /* newest first */
    struct {
        int32_t first, last;
        int64_t offset;
    } batches[FAKE_KNOWN];
};

struct fake_partition {
    char name[32];
    unsigned leader;
    struct fake_batch *batches;
    size_t count, cap;
    int64_t end;
    int64_t start; /* pulls below it are refused; listOffset has not heard of it yet */
    struct fake_producer producers[FAKE_PRODUCERS];
    size_t producer_count;
};

/* Per 10,000 pushes. */
struct fake_faults {
    unsigned refuse;        /* a passing error, nothing stored */
    unsigned unsure;        /* stored, then an error that leaves it open */
    unsigned long_push;     /* stored, then an answer of 2 MiB */
    unsigned delay;         /* acted on only after a while */
    unsigned reject;        /* a definite error: CLYMQ_EDENIED */
    size_t size_max;        /* no rate: bigger batches are too big; 0 = no limit */
    unsigned forget;        /* the partition's producer table is lost first */
    unsigned move;          /* another server becomes leader first */
    unsigned control;       /* a control batch is appended before */
    unsigned fail_describe; /* per 10,000 metadata calls: CLYMQ_EAGAIN */
    unsigned long_describe; /* likewise: an answer of 2 MiB */
};

struct fake_server {
    struct fake_cluster *cluster;
    struct sim_process *process;
    struct io_loop *loop;
    struct shards *shards;
    struct metrics *metrics;
    struct net_server *server;
    struct list delayed; /* struct fake_delayed */
    char address[32];
};

struct fake_cluster {
    struct sim_world *world;
    struct sim_process *client;
    struct io_loop *loop; /* the client's */
    struct fake_server servers[FAKE_SERVERS];
    struct fake_partition partitions[FAKE_PARTITIONS_MAX];
    size_t partition_count;
    bool topic_exists;
    char topic[32];
    struct fake_faults faults;
    const int *push_errors; /* what the next push_error_count pushes get; nothing is stored; 0 = as usual */
    size_t push_error_count;
    uint64_t pushes, pulls, describes;
    int32_t pull_max_bytes; /* the most that a pull has asked for */
    struct rng rng;
};

void fake_cluster_init(struct fake_cluster *cluster, uint64_t seed, size_t partitions);
void fake_cluster_end(struct fake_cluster *cluster);
void fake_server_start(struct fake_server *server);
void fake_server_crash(struct fake_server *server);
void fake_cluster_run(struct fake_cluster *cluster, int64_t ms);
/* Runs until done says so; false: not within limit_ms. */
bool fake_cluster_run_until(struct fake_cluster *cluster, bool (*done)(void *ctx), void *ctx,
                            int64_t limit_ms);
struct fake_partition *fake_find(struct fake_cluster *cluster, struct bytes name);
/* Appends what is in a batch, as a leader would. */
void fake_append(struct fake_partition *partition, const void *data, size_t len);

#endif
