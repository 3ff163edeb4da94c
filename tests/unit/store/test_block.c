/* Blocks: append, read, roll, restart. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "store_rig.h"

struct told {
    int64_t durable_end;
    int error, times;
};

static void on_durable(void *ctx, struct block *block, int64_t durable_end, int error)
{
    struct told *told = ctx;
    told->durable_end = durable_end;
    told->error = error;
    told->times++;
}

static void restart(struct rig *rig, bool crash, bool power_loss)
{
    if (crash)
        rig_crash(rig, power_loss);
    else
        assert_int_equal(rig_stop(rig), 0);
    assert_int_equal(rig_start(rig), 0);
}

static void appends_are_durable_and_readable(void **state)
{
    struct rig rig;
    rig_init(&rig, 1);
    assert_int_equal(rig_start(&rig), 0);
    struct told told = {0};
    struct block_events events = {.on_durable = on_durable, .ctx = &told};
    struct block *block;
    struct block_key key = rig_key(0);
    assert_int_equal(block_create(rig.store, &key, 100, &events, &block), 0);
    struct block *again;
    assert_int_equal(block_create(rig.store, &key, 100, &events, &again), CLYMQ_EEXIST);
    assert_int_equal(block_end(block), 100);
    struct strbuf want = {0}, got = {0};
    for (int i = 0; i < 50; i++) {
        struct buf *batch = rig_batch(block_end(block), 3, 1 + i % 4, 200, (uint64_t)i, 5000 + i);
        strbuf_append(&want, batch->data, batch->len);
        assert_int_equal(rig_append_buf(block, batch), 0);
        buf_unref(batch);
    }
    assert_int_equal(block_durable_end(block), 100);
    rig_settle(&rig);
    assert_int_equal(block_durable_end(block), block_end(block));
    assert_int_equal(told.durable_end, block_end(block));
    assert_int_equal(told.error, 0);
    int64_t end = block_end(block);
    for (int round = 0; round < 4; round++) {
        size_t max_bytes[] = {1, 500, 3000, 1 << 20};
        got.len = 0;
        assert_int_equal(rig_read_all(block, 100, end, max_bytes[round], &got), 0);
        assert_int_equal(got.len, want.len);
        assert_memory_equal(got.data, want.data, want.len);
    }
    struct block_range range;
    assert_int_equal(block_read(block, 99, end, 100, &range), CLYMQ_EOFFSET_RANGE);
    assert_int_equal(block_read(block, end + 1, end, 100, &range), CLYMQ_EOFFSET_RANGE);
    assert_int_equal(block_read(block, end, end, 100, &range), 0);
    assert_int_equal(range.len, 0);
    for (int way = 0; way < 3; way++) {
        restart(&rig, way > 0, way == 2);
        struct block_recovery recovery;
        assert_int_equal(block_open(rig.store, &key, &events, &block, &recovery), 0);
        assert_false(recovery.damaged);
        assert_int_equal(recovery.bytes_cut, 0);
        if (way == 0)
            assert_int_equal(recovery.bytes_read, 0);
        assert_int_equal(block_end(block), end);
        rig_settle(&rig);
        assert_int_equal(block_durable_end(block), end);
        got.len = 0;
        assert_int_equal(rig_read_all(block, 100, end, 5000, &got), 0);
        assert_memory_equal(got.data, want.data, want.len);
    }
    strbuf_free(&want);
    strbuf_free(&got);
    rig_free(&rig);
}

/* Found by clymq-sim: a push written while the store was being stopped left a pass running in a closed one.
 */
static void a_store_that_stops_takes_nothing(void **state)
{
    struct rig rig;
    struct block *block;
    struct block_key key = rig_key(0);
    int result = 1;
    rig_init(&rig, 1);
    assert_int_equal(rig_start(&rig), 0);
    assert_int_equal(block_create(rig.store, &key, 0, NULL, &block), 0);
    assert_int_equal(rig_append(block, 1, 100, 1), 0);
    store_stop(rig.store, rig_stopped, &result);
    assert_int_equal(rig_append(block, 1, 100, 2), CLYMQ_ESHUTDOWN);
    assert_int_equal(rig_wait(&rig, &result), 0);
    assert_int_equal(rig_append(block, 1, 100, 3), CLYMQ_ESHUTDOWN);
    assert_int_equal(block_durable_end(block), 1);
    rig_free(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(appends_are_durable_and_readable),
        cmocka_unit_test(a_store_that_stops_takes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
