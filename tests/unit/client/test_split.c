/* Splitting batches: nothing is lost, whatever memory allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/mem.h"
#include "client/accumulator.h"

enum { COUNT = 11 };

static struct accumulator_batch *make_batch(struct accumulator *accumulator,
                                            struct accumulator_partition **ret_partition,
                                            struct accumulator_waiter *waiters)
{
    const char *names[] = {"0"};
    *accumulator = (struct accumulator){
        .batch_bytes = 100000, .buffer_bytes = 1 << 20, .max_message_bytes = 1 << 20, .keep_opaques = true};
    assert_int_equal(accumulator_init(accumulator, 1), 0);
    for (uintptr_t i = 0; i < COUNT; i++) {
        char value[32];
        clymq_header header = {"key", "value", i % 6};
        clymq_message message = {.topic = "t",
                                 .partition = "0",
                                 .timestamp_ms = 5000 - (int64_t)i,
                                 .key = i % 2 ? "k" : NULL,
                                 .key_len = i % 2,
                                 .value = value,
                                 .value_len =
                                     (size_t)snprintf(value, sizeof(value), "message %zu", (size_t)i),
                                 .headers = &header,
                                 .header_count = i % 3 == 0,
                                 .opaque = (void *)i};
        bool notice;
        assert_int_equal(accumulator_add(accumulator, &message, NULL, &notice), 0);
        if (i == 0) {
            struct accumulator_topic *topic =
                CONTAINER_OF(accumulator->topics.next, struct accumulator_topic, link);
            assert_int_equal(accumulator_set_partitions(accumulator, topic, names, 1), 0);
            assert_int_equal(accumulator_deal(accumulator, topic), 0);
            *ret_partition = topic->by_number[0];
        }
    }
    struct accumulator_batch *batch = (*ret_partition)->open;
    accumulator_close(accumulator, *ret_partition);
    assert_ptr_equal(accumulator_take(*ret_partition), batch);
    for (int i = 0; i < COUNT; i++) { /* several wait for messages of one batch */
        waiters[i] = (struct accumulator_waiter){.index = i, .offset = -1};
        list_push_back(&batch->waiters, &waiters[i].link);
    }
    batch->sequence = 100;
    assert_int_equal(accumulator_finish_plain(batch), 0);
    return batch;
}

/* The batch holds the messages from number first on, in every respect. */
static void expect_batch(struct accumulator_batch *batch, uintptr_t first, int count)
{
    struct batch_reader reader;
    struct batch_record record;
    assert_int_equal(batch->count, count);
    assert_int_equal(batch->sequence, 100 + first);
    assert_int_equal(accumulator_finish_plain(batch), 0);
    assert_int_equal(batch_reader_begin(&reader, bytes_of(batch->data->data, batch->data->len), 1 << 20), 0);
    for (uintptr_t i = first; i < first + (unsigned)count; i++) {
        char value[32];
        int len = snprintf(value, sizeof(value), "message %zu", (size_t)i);
        assert_int_equal(batch_reader_next(&reader, &record), 0);
        assert_int_equal(record.timestamp_ms, 5000 - (int64_t)i);
        assert_true(bytes_equal(record.value, bytes_of(value, (size_t)len)));
        assert_int_equal(record.key.ptr != NULL, i % 2);
        assert_int_equal(record.header_count, i % 3 == 0);
        assert_ptr_equal(batch->opaques[i - first], (void *)i);
    }
    assert_int_equal(batch_reader_next(&reader, &record), CLYMQ_ENOENT);
    batch_reader_end(&reader);
    int index = 0;
    LIST_FOR_EACH(at, &batch->waiters)
        assert_int_equal(CONTAINER_OF(at, struct accumulator_waiter, link)->index, index++);
    assert_int_equal(index, count);
}

static void release(struct accumulator *accumulator, struct accumulator_batch *batch)
{
    while (!list_empty(&batch->waiters))
        list_pop_front(&batch->waiters);
    accumulator_release(accumulator, batch);
}

static void test_split(void **state)
{
    struct accumulator accumulator;
    struct accumulator_partition *partition;
    struct accumulator_waiter waiters[COUNT];
    struct accumulator_batch *second, *third;
    uint64_t live = mem_live_bytes();
    struct accumulator_batch *batch = make_batch(&accumulator, &partition, waiters);
    size_t plain_bytes = batch->data->len - BATCH_HEADER_SIZE;
    int error;
    uint64_t nth = 0;
    do {
        mem_fail_nth(++nth);
        error = accumulator_split(&accumulator, batch, &second);
        mem_fail_nth(0);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
        if (error)
            expect_batch(batch, 0, COUNT);
    } while (error);
    assert_true(nth > 4);
    assert_int_equal(accumulator.messages, COUNT);
    expect_batch(batch, 0, 5);
    expect_batch(second, 5, 6);
    assert_in_range(accumulator.batch_bytes, plain_bytes / 2 - COUNT, plain_bytes / 2 + COUNT);
    assert_ptr_equal(accumulator.live.next, &batch->live);
    assert_ptr_equal(accumulator.live.prev, &second->live);
    assert_int_equal(accumulator_split(&accumulator, second, &third), 0);
    expect_batch(second, 5, 3);
    expect_batch(third, 8, 3);
    release(&accumulator, second);
    release(&accumulator, batch);
    assert_int_equal(accumulator.messages, 3);
    release(&accumulator, third);
    assert_int_equal(accumulator.messages, 0);
    assert_int_equal(accumulator.used, 0);
    assert_int_equal(accumulator.closed, 0);
    accumulator_end(&accumulator);
    assert_int_equal(mem_live_bytes(), live);
}

/* One big message among small ones: however often its part is split, later batches may be half as big as it
 * is. */
static void test_one_too_big(void **state)
{
    static const uint8_t value[50000];
    struct accumulator accumulator = {
        .batch_bytes = 100000, .buffer_bytes = 1 << 20, .max_message_bytes = 1 << 20};
    assert_int_equal(accumulator_init(&accumulator, 1), 0);
    for (int i = 0; i < 100; i++) {
        clymq_message message = {.topic = "t", .value = value, .value_len = i == 70 ? 50000 : 100};
        bool notice;
        assert_int_equal(accumulator_add(&accumulator, &message, NULL, &notice), 0);
    }
    struct accumulator_topic *topic = CONTAINER_OF(accumulator.topics.next, struct accumulator_topic, link);
    assert_int_equal(accumulator_set_partitions(&accumulator, topic, (const char *[]){"0"}, 1), 0);
    assert_int_equal(accumulator_deal(&accumulator, topic), 0);
    accumulator_close(&accumulator, topic->by_number[0]);
    struct accumulator_batch *batch = accumulator_take(topic->by_number[0]);
    for (;;) {
        assert_int_equal(accumulator_finish_plain(batch), 0);
        if (batch->count == 1)
            break;
        struct accumulator_batch *other;
        assert_int_equal(accumulator_split(&accumulator, batch, &other), 0);
        if (other->builder.buf->len > 50000) {
            struct accumulator_batch *swap = batch;
            batch = other;
            other = swap;
        }
        accumulator_release(&accumulator, other);
    }
    assert_in_range(accumulator.batch_bytes, 25000, 26000);
    accumulator_release(&accumulator, batch);
    accumulator_end(&accumulator);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_split),
        cmocka_unit_test(test_one_too_big),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
