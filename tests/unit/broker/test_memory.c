/* The n-th allocation fails, for many n, during each kind of request: it is answered or its connection
 * breaks; the node lives on, what was acknowledged is there, and nothing leaks. */
#include "world.h"

struct attempt {
    enum rpc_method_id method;
    bool to_coordinator;
    union {
        struct rpc_push_request push;
        struct rpc_pull_request pull;
        struct rpc_push_batch_request push_batch;
        struct rpc_pull_batch_request pull_batch;
        struct rpc_list_offset_request list_offset;
        struct rpc_create_part_request create_part;
        struct rpc_pro_get_brok_request pro_get_brok;
        struct rpc_con_start_get_brok_request con_start;
        struct rpc_set_partition_state_request set;
        struct rpc_delete_part_request delete_part;
    } request;
};

static int stored;

static void note(const struct attempt *attempt, const struct answer *answer)
{
    if (!answer->done || answer->error)
        return;
    if (attempt->method == RPC_METHOD_PUSH)
        stored += answer->r.push.ret;
    if (attempt->method == RPC_METHOD_PUSH_BATCH && !answer->r.push_batch.error)
        stored += 5;
}

/* With the nth allocation failing; false: it did not come to an nth. */
static bool try_nth(struct world *world, const struct attempt *attempt, uint64_t nth)
{
    struct net_link_config config = {.connect_ms = 10000, .max_message_bytes = 64 << 20};
    struct net_link *link = NULL;
    struct answer answer = {0};
    bool failed;

    config.address = attempt->to_coordinator ? "server:7878" : "server:8888";
    mem_fail_nth(nth);
    if (net_link_new(world->client_loop, &config, &link) == 0) {
        answer.method = attempt->method;
        if (net_link_call(link, attempt->method, &attempt->request, NULL, 20000, answer_take, &answer) == 0)
            assert_true(world_run_until(world, &answer.done, WORLD_LIMIT_MS));
    }
    failed = mem_failed();
    mem_fail_nth(0);
    net_link_free(link);
    note(attempt, &answer);
    answer_free(&answer);
    return failed;
}

static void try_all(struct world *world, const struct attempt *attempt)
{
    for (uint64_t nth = 1; nth < 500; nth++)
        if (!try_nth(world, attempt, nth))
            return;
}

static void test_requests(void **state)
{
    struct world *world = *state;
    struct buf *batch = make_batch("m", 5, BATCH_ZSTD, -1, -1);
    struct bytes t = text("t"), p = text("0");
    struct attempt attempts[] = {
        {.method = RPC_METHOD_PUSH,
         .request
             .push = {.producer = text("p"), .topic = t, .partition = p, .message = text("m"), .ack = -1}},
        {.method = RPC_METHOD_PUSH_BATCH,
         .request.push_batch =
             {.topic = t, .partition = p, .ack = -1, .batch = bytes_of(batch->data, batch->len)}},
        {.method = RPC_METHOD_PULL,
         .request.pull = {.consumer = text("c"), .topic = t, .partition = p, .size = 20, .option = 4}},
        {.method = RPC_METHOD_PULL_BATCH, .request.pull_batch = {.topic = t, .partition = p}},
        {.method = RPC_METHOD_LIST_OFFSET,
         .request.list_offset = {.topic = t, .partition = p, .timestamp_ms = 1}},
        {.method = RPC_METHOD_PRO_GET_BROK,
         .to_coordinator = true,
         .request.pro_get_brok = {.topic = t, .partition = p}},
        {.method = RPC_METHOD_CON_START_GET_BROK,
         .to_coordinator = true,
         .request.con_start = {.topic = t, .partition = p, .option = 4}},
        {.method = RPC_METHOD_PUSH, .request.push = {.topic = text("unknown"), .partition = p, .ack = -1}},
    };

    stored = 0;
    make_topic(world, "t", 1);
    for (size_t i = 0; i < sizeof(attempts) / sizeof(attempts[0]); i++)
        try_all(world, &attempts[i]);
    buf_unref(batch);
    struct rpc_list_offset_request list = {.topic = t, .partition = p, .timestamp_ms = -1};
    struct answer answer;
    call(world, world->broker, RPC_METHOD_LIST_OFFSET, &list, &answer);
    assert_int_equal(answer.r.list_offset.error, 0);
    if (answer.r.list_offset.offset < stored)
        fail_msg("%d stored, the end is %d", stored, (int)answer.r.list_offset.offset);
    assert_true(stored > 0);
    answer_free(&answer);
}

/* Changes of the metadata: whatever happened, the same change can be made afterwards. */
static void test_changes(void **state)
{
    struct world *world = *state;
    struct bytes t = text("t"), p = text("0");

    make_topic(world, "t", 1);
    for (uint64_t nth = 1; nth < 400; nth += 1 + nth / 20) {
        char name[16];
        struct attempt create = {.method = RPC_METHOD_CREATE_PART, .to_coordinator = true};
        struct attempt set = {
            .method = RPC_METHOD_SET_PARTITION_STATE,
            .to_coordinator = true,
            .request.set = {.topic = t, .partition = p, .option = (int8_t)(nth % 2), .dupnum = 1}};
        struct attempt gone = {.method = RPC_METHOD_DELETE_PART, .to_coordinator = true};

        snprintf(name, sizeof(name), "n%u", (unsigned)nth);
        create.request.create_part = (struct rpc_create_part_request){.topic = t, .partition = text(name)};
        gone.request.delete_part = (struct rpc_delete_part_request){.topic = t, .partition = text(name)};
        try_nth(world, &create, nth);
        try_nth(world, &set, nth);
        try_nth(world, &gone, nth);
    }
    world_run_for(world, 20000);
    world_connect(world);
    make_partition(world, "t", "after");
    push_text(world, "t", "after", "m", -1);
    push_text(world, "t", "0", "m", 1);
    world_stop(world);
    world_start(world);
    world_connect(world);
    push_text(world, "t", "0", "m", 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, world_setup_1, world_teardown),
        cmocka_unit_test_setup_teardown(test_requests, world_setup_2, world_teardown),
        cmocka_unit_test_setup_teardown(test_changes, world_setup_1, world_teardown),
        cmocka_unit_test_setup_teardown(test_changes, world_setup_2, world_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
