/* A broker for the coordinator's tests: see fake_broker.h. */
#include "unit/coord/fake_broker.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"

enum fake_kind { FAKE_OPEN, FAKE_SERVE, FAKE_SEAL, FAKE_CHECK, FAKE_DELETE_BLOCK, FAKE_DELETE, FAKE_CONFIG };

struct fake_call {
    struct list link;
    struct fake_broker *broker;
    enum fake_kind kind;
    struct fake_partition *partition; /* NULL: config */
    struct coord_block block;
    struct coord_block chain[FAKE_BLOCKS];
    size_t chain_count;
    int ack;
    int64_t coordinator_epoch;
    struct coord_topic_config config;
    struct uuid topic_id;
    uint32_t round;
    coord_broker_done done;
    void *ctx;
    struct io_timer timer;
};

/* A test's failing allocation is meant for others: it fails once. */
static void *must_alloc(size_t size)
{
    void *memory = mem_zalloc(size);
    return memory ? memory : mem_zalloc(size);
}

void fake_broker_init(struct fake_broker *broker, struct io_loop *loop, uint64_t seed)
{
    *broker = (struct fake_broker){.loop = loop, .max_delay_ns = IO_MS(5)};
    rng_seed(&broker->rng, seed);
    broker->partitions = map_new();
    assert_non_null(broker->partitions);
    list_init(&broker->calls);
}

static void call_free(struct fake_call *call)
{
    if (call->partition)
        call->partition->busy = call->partition->busy && call->kind == FAKE_CHECK; /* not its own */
    if (io_timer_armed(&call->timer))
        io_timer_stop(call->broker->loop, &call->timer);
    list_remove(&call->link);
    mem_free(call);
}

void fake_broker_free(struct fake_broker *broker)
{
    while (!list_empty(&broker->calls))
        call_free(CONTAINER_OF(broker->calls.next, struct fake_call, link));
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(broker->partitions, &at)))
        mem_free(entry->value);
    map_free(broker->partitions);
}

static struct bytes partition_key(struct uuid topic_id, uint32_t number, uint8_t out[20])
{
    memcpy(out, topic_id.byte, 16);
    memcpy(out + 16, &number, 4);
    return bytes_of(out, 20);
}

struct fake_partition *fake_broker_partition(struct fake_broker *broker, struct uuid topic_id,
                                             uint32_t number)
{
    uint8_t key[20];
    return map_get(broker->partitions, partition_key(topic_id, number, key));
}

static struct fake_partition *partition_get(struct fake_broker *broker, struct uuid topic_id, uint32_t number)
{
    struct fake_partition *partition = fake_broker_partition(broker, topic_id, number);
    if (partition)
        return partition;
    partition = must_alloc(sizeof(*partition));
    partition->topic_id = topic_id;
    partition->number = number;
    uint8_t key[20];
    while (map_put(broker->partitions, partition_key(topic_id, number, key), partition))
        ;
    return partition;
}

size_t fake_broker_partition_count(const struct fake_broker *broker)
{
    size_t count = 0, at = 0;
    struct map_entry *entry;
    while ((entry = map_next(broker->partitions, &at)))
        count += ((struct fake_partition *)entry->value)->block_count > 0;
    return count;
}

static struct fake_block *find_block(struct fake_partition *partition, uint32_t seq)
{
    for (uint32_t i = 0; i < partition->block_count; i++)
        if (partition->blocks[i].seq == seq)
            return &partition->blocks[i];
    return NULL;
}

bool fake_broker_push(struct fake_broker *broker, struct uuid topic_id, uint32_t number)
{
    struct fake_partition *partition = fake_broker_partition(broker, topic_id, number);
    if (!partition || !partition->in_service || !partition->open)
        return false;
    struct fake_block *block = find_block(partition, partition->open_seq);
    assert_non_null(block);
    assert_false(block->sealed);
    block->end++;
    return true;
}

/* ---- what calls do ---- */

static int do_open(struct fake_call *call)
{
    struct fake_partition *partition = call->partition;
    assert_true(call->block.start >= 0);
    assert_int_equal(call->block.state, COORD_BLOCK_CREATING);
    struct fake_block *block = find_block(partition, call->block.seq);
    if (block) {
        if (uuid_equal(block->id, call->block.id) && block->start == call->block.start)
            return 0;
        /* Another one was recorded under that number, or it starts elsewhere now: only if it was never used.
         */
        assert_false(block->served);
    } else {
        assert_true(partition->block_count < FAKE_BLOCKS);
        block = &partition->blocks[partition->block_count++];
    }
    *block = (struct fake_block){
        .id = call->block.id, .seq = call->block.seq, .start = call->block.start, .end = call->block.start};
    return 0;
}

static int do_serve(struct fake_call *call)
{
    struct fake_partition *partition = call->partition;
    assert_true(call->chain_count > 0);
    for (size_t i = 0; i < call->chain_count; i++) {
        struct fake_block *block = find_block(partition, call->chain[i].seq);
        if (!block || !uuid_equal(block->id, call->chain[i].id))
            return CLYMQ_ENOENT;
        assert_int_equal(block->start, call->chain[i].start);
        bool last = i + 1 == call->chain_count;
        if (call->chain[i].state == COORD_BLOCK_SEALED)
            assert_int_equal(block->end, call->chain[i].end);
        else
            assert_true(last && (call->chain[i].state == COORD_BLOCK_OPEN ||
                                 call->chain[i].state == COORD_BLOCK_SEALING));
        if (i > 0)
            assert_true(call->chain[i - 1].end <= call->chain[i].start &&
                        call->chain[i - 1].base_epoch < call->chain[i].base_epoch &&
                        call->chain[i - 1].seq < call->chain[i].seq);
    }
    const struct coord_block *last = &call->chain[call->chain_count - 1];
    struct fake_block *block = find_block(partition, last->seq);
    assert_true(call->coordinator_epoch >= partition->coordinator_epoch);
    partition->coordinator_epoch = call->coordinator_epoch;
    partition->in_service = true;
    partition->open = last->state == COORD_BLOCK_OPEN;
    partition->open_seq = last->seq;
    partition->ack = call->ack;
    partition->config = call->config;
    assert_true(!partition->open || !block->sealed);
    assert_int_equal(call->ack, last->ack);
    block->served = true;
    return 0;
}

static int do_seal(struct fake_call *call)
{
    struct fake_partition *partition = call->partition;
    struct fake_block *block = find_block(partition, call->block.seq);
    assert_non_null(block);
    assert_true(partition->in_service);
    assert_int_equal(call->round, call->block.round);
    if (call->round <= block->round)
        fail_msg("round %u was used before (%u)", call->round, block->round);
    block->round = call->round;
    block->sealed = true;
    partition->open = false;
    return 0;
}

static int do_delete_block(struct fake_call *call)
{
    struct fake_partition *partition = call->partition;
    struct fake_block *block = find_block(partition, call->block.seq);
    if (!block)
        return 0;
    assert_int_equal(call->block.state, COORD_BLOCK_DELETED);
    assert_true(uuid_equal(block->id, call->block.id));
    size_t at = (size_t)(block - partition->blocks);
    memmove(block, block + 1, (partition->block_count - at - 1) * sizeof(*block));
    partition->block_count--;
    return 0;
}

static int call_run(struct fake_call *call, int64_t *ret_end)
{
    struct fake_partition *partition = call->partition;
    int error = 0;
    switch (call->kind) {
    case FAKE_OPEN:
        return do_open(call);
    case FAKE_SERVE:
        return do_serve(call);
    case FAKE_SEAL:
        error = do_seal(call);
        *ret_end = find_block(partition, call->block.seq)->end;
        return error;
    case FAKE_CHECK:
        assert_true(partition->in_service);
        return 0;
    case FAKE_DELETE_BLOCK:
        return do_delete_block(call);
    case FAKE_DELETE:
        partition->block_count = 0;
        partition->in_service = partition->open = false;
        return 0;
    case FAKE_CONFIG: {
        size_t at = 0;
        struct map_entry *entry;
        while ((entry = map_next(call->broker->partitions, &at))) {
            struct fake_partition *each = entry->value;
            if (uuid_equal(each->topic_id, call->topic_id))
                each->config = call->config;
        }
        return 0;
    }
    }
    return 0;
}

static int call_fault(struct fake_call *call)
{
    struct fake_broker *broker = call->broker;
    if (broker->fail_open_block && call->kind == FAKE_OPEN)
        return broker->fail_open_block;
    if (broker->fail_serve && call->kind == FAKE_SERVE)
        return broker->fail_serve;
    if (broker->fail_seal && call->kind == FAKE_SEAL)
        return broker->fail_seal;
    if (broker->fail_check && call->kind == FAKE_CHECK)
        return broker->fail_check;
    if (broker->fail_delete && (call->kind == FAKE_DELETE || call->kind == FAKE_DELETE_BLOCK))
        return broker->fail_delete;
    if (broker->fail_config && call->kind == FAKE_CONFIG)
        return broker->fail_config;
    return broker->error_ppm && rng_chance(&broker->rng, broker->error_ppm, 1000000) ? broker->error : 0;
}

static void call_finish(struct fake_call *call)
{
    struct fake_broker *broker = call->broker;
    int64_t end = 0;
    int error = call_fault(call);
    /* A call that fails may have done its work all the same. */
    if (!error || (call->kind != FAKE_CONFIG && rng_chance(&broker->rng, 1, 4))) {
        int result = call_run(call, &end);
        error = error ? error : result;
    }
    coord_broker_done done = call->done;
    void *ctx = call->ctx;
    call_free(call);
    done(ctx, error, end);
}

static void call_fire(struct io_timer *timer)
{
    call_finish(timer->ctx);
}

void fake_broker_forget_calls(struct fake_broker *broker)
{
    while (!list_empty(&broker->calls)) {
        struct fake_call *call = CONTAINER_OF(broker->calls.next, struct fake_call, link);
        int64_t end;
        if (rng_chance(&broker->rng, 1, 2))
            (void)call_run(call, &end);
        call_free(call);
    }
}

void fake_broker_restart(struct fake_broker *broker)
{
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(broker->partitions, &at))) {
        struct fake_partition *partition = entry->value;
        partition->in_service = partition->open = false;
    }
}

static struct fake_call *call_new(struct fake_broker *broker, enum fake_kind kind,
                                  const struct coord_partition_spec *spec, const struct coord_block *block,
                                  coord_broker_done done, void *ctx)
{
    struct fake_call *call = must_alloc(sizeof(*call));
    list_init(&call->link);
    call->broker = broker;
    call->kind = kind;
    call->done = done;
    call->ctx = ctx;
    if (spec) {
        call->partition = partition_get(broker, spec->topic_id, spec->number);
        assert_true(kind == FAKE_CHECK || !call->partition->busy);
        call->partition->busy |= kind != FAKE_CHECK;
        assert_true(spec->chain_count <= FAKE_BLOCKS);
        if (spec->chain_count)
            memcpy(call->chain, spec->chain, spec->chain_count * sizeof(*spec->chain));
        call->chain_count = spec->chain_count;
        call->ack = spec->ack;
        call->config = *spec->config;
        call->coordinator_epoch = spec->coordinator_epoch;
        assert_true(spec->coordinator_epoch > 0);
    }
    if (block)
        call->block = *block;
    return call;
}

static void call_start(struct fake_call *call)
{
    struct fake_broker *broker = call->broker;
    list_push_back(&broker->calls, &call->link);
    if (broker->max_delay_ns == 0) {
        call_finish(call);
        return;
    }
    call->timer.fire = call_fire;
    call->timer.ctx = call;
    assert_int_equal(
        io_timer_start(broker->loop, &call->timer, rng_below(&broker->rng, broker->max_delay_ns)), 0);
}

static void fake_open(void *broker, const struct coord_partition_spec *partition,
                      const struct coord_block *block, coord_broker_done done, void *ctx)
{
    ((struct fake_broker *)broker)->opens++;
    call_start(call_new(broker, FAKE_OPEN, partition, block, done, ctx));
}
static void fake_serve(void *broker, const struct coord_partition_spec *partition, coord_broker_done done,
                       void *ctx)
{
    ((struct fake_broker *)broker)->serves++;
    call_start(call_new(broker, FAKE_SERVE, partition, NULL, done, ctx));
}
static void fake_seal(void *broker, const struct coord_partition_spec *partition,
                      const struct coord_block *block, uint32_t round, coord_broker_done done, void *ctx)
{
    ((struct fake_broker *)broker)->seals++;
    struct fake_call *call = call_new(broker, FAKE_SEAL, partition, block, done, ctx);
    call->round = round;
    call_start(call);
}
static void fake_check(void *broker, const struct coord_partition_spec *partition, coord_broker_done done,
                       void *ctx)
{
    call_start(call_new(broker, FAKE_CHECK, partition, NULL, done, ctx));
}
static void fake_delete_block(void *broker, const struct coord_partition_spec *partition,
                              const struct coord_block *block, coord_broker_done done, void *ctx)
{
    ((struct fake_broker *)broker)->deletes++;
    call_start(call_new(broker, FAKE_DELETE_BLOCK, partition, block, done, ctx));
}
static void fake_delete_partition(void *broker, const struct coord_partition_spec *partition,
                                  coord_broker_done done, void *ctx)
{
    ((struct fake_broker *)broker)->deletes++;
    call_start(call_new(broker, FAKE_DELETE, partition, NULL, done, ctx));
}
static void fake_update_config(void *broker, const char *topic, struct uuid topic_id,
                               const struct coord_topic_config *config, coord_broker_done done, void *ctx)
{
    ((struct fake_broker *)broker)->configs++;
    struct fake_call *call = call_new(broker, FAKE_CONFIG, NULL, NULL, done, ctx);
    call->topic_id = topic_id;
    call->config = *config;
    call_start(call);
}

const struct coord_broker_ops fake_broker_ops = {
    .open_block = fake_open,
    .serve_partition = fake_serve,
    .seal_block = fake_seal,
    .check_partition = fake_check,
    .delete_block = fake_delete_block,
    .delete_partition = fake_delete_partition,
    .update_config = fake_update_config,
};
