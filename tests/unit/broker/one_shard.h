/* One shard in the simulated world, for tests of what lives on a shard. */
#ifndef CLYMQ_TESTS_BROKER_ONE_SHARD_H
#define CLYMQ_TESTS_BROKER_ONE_SHARD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "io/sim.h"
#include "shard/shard.h"

struct one_shard {
    struct sim_world *sim;
    struct io_loop *loop;
    struct shards *shards;
};

static inline struct shard *one_shard_open(struct one_shard *one)
{
    struct sim_process *process;

    one->sim = sim_world_new(1);
    process = sim_process_new(one->sim, "x");
    assert_int_equal(sim_process_loop(process, &one->loop), 0);
    assert_int_equal(shards_new_on_loops(&one->loop, 1, NULL, &one->shards), 0);
    return shards_get(one->shards, 0);
}

static inline void one_shard_close(struct one_shard *one)
{
    shards_free(one->shards);
    io_loop_free(one->loop);
    sim_world_free(one->sim);
}

#endif
