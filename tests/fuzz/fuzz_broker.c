/* Every method of a whole node, called with any arguments over the simulated net, in any order, several at
 * once: each call is answered, and the node starts again on what they left.
 *
 * The input is a row of calls: a byte with the method (% methods) and two flags (wait for the answers so far;
 * make the batch of a pushBatch right), then the fields of the request (rpc_input.h). */
#include "folder.h"
#include "rpc_input.h"
#include "unit/broker/world.h"

enum { CALLS_MAX = 24, CALL_AS_IT_IS = 0x40, CALL_WAIT = 0x80, NODE_OWN = 24 << 20 };

static const enum rpc_method_id methods[] = {
    RPC_METHOD_PUSH,
    RPC_METHOD_PULL,
    RPC_METHOD_INFO,
    RPC_METHOD_INFO_GET,
    RPC_METHOD_PUSH_BATCH,
    RPC_METHOD_PULL_BATCH,
    RPC_METHOD_LIST_OFFSET,
    RPC_METHOD_CREATE_TOPIC,
    RPC_METHOD_CREATE_PART,
    RPC_METHOD_PRO_GET_BROK,
    RPC_METHOD_SUB,
    RPC_METHOD_CON_START_GET_BROK,
    RPC_METHOD_GET_NEW_LEADER,
    RPC_METHOD_LIST_TOPICS,
    RPC_METHOD_DESCRIBE_TOPIC,
    RPC_METHOD_DELETE_TOPIC,
    RPC_METHOD_DELETE_PART,
    RPC_METHOD_SET_PARTITION_STATE,
    RPC_METHOD_SET_TOPIC_CONFIG,
};
enum { METHODS = sizeof(methods) / sizeof(methods[0]) };

struct calls {
    struct answer answers[CALLS_MAX];
    unsigned count;
};

static void wait_all(struct world *world, struct calls *calls)
{
    for (unsigned i = 0; i < calls->count; i++)
        FUZZ_CHECK(world_run_until(world, &calls->answers[i].done, WORLD_LIMIT_MS));
}

/* Length, magic number and checksum of what is pushed, as a producer that knows them. */
static struct bytes repair_batch(struct bytes batch, bool as_it_is)
{
    struct bytes copy = fuzz_copy(batch.ptr, batch.len);
    if (!as_it_is)
        folder_repair(FOLDER_LOG, false, 0, (uint8_t *)(uintptr_t)copy.ptr, copy.len);
    return copy;
}

static void make_call(struct world *world, struct bytes *input, struct calls *calls)
{
    uint8_t head = (uint8_t)take_number(input, 1);
    const struct rpc_method *method = &rpc_methods[methods[(head & 0x3f) % METHODS]];
    union rpc_value request;
    struct bytes batch = {0};
    take_struct(input, method->request, &request);
    if (method->id == RPC_METHOD_PUSH_BATCH) {
        struct rpc_push_batch_request *push = (void *)&request;
        push->batch = batch = repair_batch(push->batch, head & CALL_AS_IT_IS);
    }
    if (method->id == RPC_METHOD_CREATE_TOPIC) { /* many partitions only take time */
        struct rpc_create_topic_request *create = (void *)&request;
        if (create->partitions > 8)
            create->partitions %= 8;
    }
    struct net_link **link = method->service == RPC_BROKER ? &world->broker : &world->coordinator;
    if (net_link_outstanding(*link) == 0 && calls->count > 0)
        FUZZ_CHECK(calls->answers[calls->count - 1].error != CLYMQ_ETIMEDOUT);
    struct answer *answer = &calls->answers[calls->count];
    *answer = (struct answer){.method = method->id};
    if (net_link_call(*link, method->id, &request, NULL, 0, answer_take, answer) == 0)
        calls->count++;
    fuzz_free(batch);
    if (head & CALL_WAIT)
        wait_all(world, calls);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct calls calls;
    struct bytes input = bytes_of(data, size);
    calls.count = 0;
    fuzz_begin();
    struct world *world = world_new(1, 7);
    world->config.push_wait_ms = 1000;
    world->config.pull_wait_max_ms = 1000;
    world->config.retention_check_ms = 1000;
    world_start(world);
    world_connect(world);
    make_topic(world, "t", 1);
    push_text(world, "t", "0", "first", -1);
    while (input.len > 0 && calls.count < CALLS_MAX)
        make_call(world, &input, &calls);
    wait_all(world, &calls);
    for (unsigned i = 0; i < calls.count; i++)
        answer_free(&calls.answers[i]);
    world_run_for(world, 1500);
    bool kill = size % 2;
    if (kill)
        world_crash(world, size % 4 == 1);
    else
        world_stop(world);
    world_start(world);
    fuzz_check_memory(NODE_OWN + 64 * size);
    world_free(world);
    fuzz_check_time(size);
    return 0;
}
