/* The producer table: Kafka's sequence rules, sessions, bounds, and the promise that folding the log, or
 * loading what was saved, gives the table that appending made. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "partition/producers.h"

static struct batch_header header_of(int64_t id, int16_t epoch, int32_t sequence, int32_t count,
                                     int64_t base_offset)
{
    return (struct batch_header){
        .base_offset = base_offset,
        .last_offset_delta = count - 1,
        .record_count = count,
        .producer_id = id,
        .producer_epoch = epoch,
        .base_sequence = sequence,
        .max_timestamp_ms = 1000,
    };
}

static int check(struct producers *producers, struct batch_header header, int64_t *ret_base)
{
    int64_t end = -2;
    return producers_check(producers, &header, ret_base, &end);
}

static void note_at(struct producers *producers, struct batch_header header, int64_t now_ms)
{
    assert_int_equal(producers_reserve(producers, &header), 0);
    assert_int_equal(producers_note_header(producers, &header, now_ms), 0);
}

static void note(struct producers *producers, struct batch_header header)
{
    note_at(producers, header, 1000);
}

static void test_sequence_rules(void **state)
{
    struct producers *producers = producers_new(0);
    int64_t base = -7;
    assert_int_equal(check(producers, header_of(-1, -1, -1, 3, 0), &base), 0);
    assert_int_equal(check(producers, header_of(5, 0, 1, 1, 0), &base), CLYMQ_ESEQUENCE);
    assert_int_equal(check(producers, header_of(5, 0, -1, 1, 0), &base), CLYMQ_EBATCH);
    assert_int_equal(check(producers, header_of(5, 2, 0, 3, 100), &base), 0);
    note(producers, header_of(5, 2, 0, 3, 100));
    assert_int_equal(check(producers, header_of(5, 2, 0, 3, 999), &base), CLYMQ_EEXIST);
    assert_int_equal(base, 100);
    assert_int_equal(check(producers, header_of(5, 2, 4, 1, 0), &base), CLYMQ_ESEQUENCE);
    assert_int_equal(check(producers, header_of(5, 2, 3, 1, 0), &base), 0);
    /* The same beginning with another length is no repeat. */
    assert_int_equal(check(producers, header_of(5, 2, 0, 2, 0), &base), CLYMQ_ESEQUENCE);
    assert_int_equal(check(producers, header_of(5, 1, 3, 1, 0), &base), CLYMQ_EFENCED);
    assert_int_equal(check(producers, header_of(5, 3, 3, 1, 0), &base), CLYMQ_ESEQUENCE);
    assert_int_equal(check(producers, header_of(5, 3, 0, 1, 0), &base), 0);
    note(producers, header_of(5, 3, 0, 1, 103));
    assert_int_equal(check(producers, header_of(5, 2, 3, 1, 0), &base), CLYMQ_EFENCED);
    producers_free(producers);
}

static void test_old_repeats_are_repeats_without_offset(void **state)
{
    struct producers *producers = producers_new(0);
    for (int32_t i = 0; i < 20; i++)
        note(producers, header_of(9, 0, i * 2, 2, 1000 + i * 2));
    int64_t base = -7;
    assert_int_equal(check(producers, header_of(9, 0, 30, 2, 0), &base), CLYMQ_EEXIST);
    assert_int_equal(base, 1030);
    assert_int_equal(check(producers, header_of(9, 0, 0, 2, 0), &base), CLYMQ_EEXIST);
    assert_int_equal(base, -1);
    producers_free(producers);
}

static void test_sequences_wrap(void **state)
{
    struct producers *producers = producers_new(0);
    note(producers, header_of(9, 0, 0, 1, 0));
    note(producers, header_of(9, 0, INT32_MAX - 1, 4, 10)); /* …, MAX-1, MAX, 0, 1 */
    int64_t base = -7;
    assert_int_equal(check(producers, header_of(9, 0, 2, 1, 0), &base), 0);
    assert_int_equal(check(producers, header_of(9, 0, INT32_MAX, 1, 0), &base), CLYMQ_ESEQUENCE);
    producers_free(producers);
}

static void test_a_reserved_producer_must_still_begin_at_zero(void **state)
{
    struct producers *producers = producers_new(0);
    struct batch_header header = header_of(3, 0, 0, 1, 0);
    assert_int_equal(producers_reserve(producers, &header), 0);
    int64_t base = -7;
    assert_int_equal(check(producers, header_of(3, 0, 1, 1, 0), &base), CLYMQ_ESEQUENCE);
    assert_int_equal(check(producers, header_of(3, 0, 0, 1, 0), &base), 0);
    producers_free(producers);
}

static void test_sessions(void **state)
{
    struct producers *producers = producers_new(0);
    struct bytes name = BYTES_LITERAL("北京"), other = BYTES_LITERAL("other");
    int64_t offset = -7;
    assert_false(producers_find_session(producers, name, 77, 0, &offset));
    for (int64_t i = 0; i < 3 * SESSION_WINDOW_MAX; i++)
        assert_int_equal(producers_note_session(producers, name, 77, i, 500 + i, 1), 0);
    assert_true(producers_find_session(producers, name, 77, 3 * SESSION_WINDOW_MAX - 1, &offset));
    assert_int_equal(offset, 500 + 3 * SESSION_WINDOW_MAX - 1);
    assert_true(producers_find_session(producers, name, 77, 2 * SESSION_WINDOW_MAX, &offset));
    assert_false(producers_find_session(producers, name, 77, 2 * SESSION_WINDOW_MAX - 1, &offset));
    assert_false(producers_find_session(producers, other, 77, 3 * SESSION_WINDOW_MAX - 1, &offset));
    assert_false(producers_find_session(producers, name, 78, 3 * SESSION_WINDOW_MAX - 1, &offset));
    producers_forget_session(producers, name, 77, 3 * SESSION_WINDOW_MAX - 1);
    assert_false(producers_find_session(producers, name, 77, 3 * SESSION_WINDOW_MAX - 1, &offset));
    assert_true(producers_find_session(producers, name, 77, 3 * SESSION_WINDOW_MAX - 2, &offset));
    producers_free(producers);
}

static void test_bounds(void **state)
{
    struct producers *producers = producers_new(0);
    for (int64_t id = 0; id < PRODUCERS_MAX + 100; id++)
        note(producers, header_of(id, 0, 0, 1, id));
    assert_int_equal(producers_count(producers), PRODUCERS_MAX);
    int64_t base = -7;
    assert_int_equal(check(producers, header_of(PRODUCERS_MAX + 99, 0, 0, 1, 0), &base), CLYMQ_EEXIST);
    assert_int_equal(check(producers, header_of(0, 0, 1, 1, 0), &base), CLYMQ_ESEQUENCE);
    for (int64_t session = 0; session < SESSIONS_MAX + 100; session++)
        assert_int_equal(producers_note_session(producers, BYTES_LITERAL("p"), session, 1, 1, 1), 0);
    assert_int_equal(producers_count(producers), PRODUCERS_MAX + SESSIONS_MAX);
    producers_free(producers);
}

static void test_expiry(void **state)
{
    struct producers *producers = producers_new(0);
    struct batch_header silent = header_of(1, 0, 0, 1, 0), busy = header_of(2, 0, 0, 1, 1),
                        timeless = header_of(3, 0, 0, 1, 2);
    silent.max_timestamp_ms = INT64_MAX; /* what its messages say of their time does not count */
    busy.max_timestamp_ms = 0;
    timeless.max_timestamp_ms = -1;
    note_at(producers, silent, 10);
    note_at(producers, busy, 20);
    note_at(producers, timeless, 20);
    assert_int_equal(producers_note_session(producers, BYTES_LITERAL("p"), 1, 1, 3, 10), 0);
    assert_int_equal(producers_note_session(producers, BYTES_LITERAL("p"), 2, 1, 4, 20), 0);
    producers_expire(producers, 20);
    assert_int_equal(producers_count(producers), 3);
    producers_free(producers);
}

/* Random appends: after each step the saved table must equal that of a second table which only ever saw the
 * batches of the log, and of a third which was loaded from what the first saved. */
static void test_log_makes_the_same_table(void **state)
{
    struct rng rng;
    uint64_t seed = 20261122;
    print_message("seed %llu\n", (unsigned long long)seed);
    rng_seed(&rng, seed);
    struct producers *live = producers_new(0), *folded = producers_new(0), *loaded = producers_new(0);
    int32_t next_sequence[8] = {0};
    int16_t epoch[8] = {0};
    int64_t offset = 0;
    for (int step = 0; step < 2000; step++) {
        struct batch_builder builder;
        struct buf *batch;
        struct batch_header header;
        assert_int_equal(batch_builder_init(&builder, 256), 0);
        int32_t count = (int32_t)rng_between(&rng, 1, 4);
        bool idempotent = rng_chance(&rng, 1, 2);
        unsigned who = (unsigned)rng_below(&rng, 8);
        if (idempotent) {
            if (rng_chance(&rng, 1, 20)) {
                epoch[who]++;
                next_sequence[who] = 0;
            }
            builder.producer_id = 100 + who;
            builder.producer_epoch = epoch[who];
            builder.base_sequence = next_sequence[who];
        }
        for (int32_t i = 0; i < count; i++) {
            uint8_t identity[PRODUCERS_SESSION_VALUE + 8];
            struct batch_header_input input = {BYTES_LITERAL(PRODUCERS_SESSION_HEADER), {identity, 0}};
            int64_t index = (int64_t)rng_below(&rng, 1000);
            if (!idempotent) {
                input.value.len =
                    producers_session_value(0, offset + i, BYTES_LITERAL("prod"), 40 + who, index, identity);
                assert_int_equal(
                    producers_note_session(live, BYTES_LITERAL("prod"), 40 + who, index, offset + i, step),
                    0);
            }
            assert_int_equal(batch_builder_add(&builder, step, (struct bytes){0}, BYTES_LITERAL("value"),
                                               &input, idempotent ? 0 : 1),
                             0);
        }
        assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
        batch_builder_free(&builder);
        batch_assign(batch->data, offset, 1);
        assert_int_equal(batch_check(bytes_of(batch->data, batch->len), UINT32_MAX, &header), 0);
        if (idempotent) {
            int64_t base, end;
            assert_int_equal(producers_check(live, &header, &base, &end), 0);
            note_at(live, header, step);
            next_sequence[who] += count;
        }
        assert_int_equal(producers_note_batch(folded, &header, bytes_of(batch->data, batch->len), step), 0);
        buf_unref(batch);
        offset += count;
        if (step % 100 != 99)
            continue;
        struct strbuf a = {0}, b = {0}, c = {0};
        producers_save(live, &a);
        producers_save(folded, &b);
        assert_int_equal(producers_load(loaded, bytes_of(a.data, a.len)), 0);
        producers_save(loaded, &c);
        assert_int_equal(a.len, b.len);
        assert_memory_equal(a.data, b.data, a.len);
        assert_int_equal(a.len, c.len);
        assert_memory_equal(a.data, c.data, a.len);
        strbuf_free(&a);
        strbuf_free(&b);
        strbuf_free(&c);
    }
    /* And through the control batch that begins a new block. */
    struct buf *control;
    struct batch_header header;
    struct strbuf a = {0}, b = {0};
    assert_int_equal(producers_control_batch(live, &control), 0);
    assert_int_equal(batch_check(bytes_of(control->data, control->len), UINT32_MAX, &header), 0);
    assert_true(batch_is_control(&header));
    assert_int_equal(producers_note_batch(loaded, &header, bytes_of(control->data, control->len), 0), 0);
    producers_save(live, &a);
    producers_save(loaded, &b);
    assert_int_equal(a.len, b.len);
    assert_memory_equal(a.data, b.data, a.len);
    strbuf_free(&a);
    strbuf_free(&b);
    buf_unref(control);
    producers_free(live);
    producers_free(folded);
    producers_free(loaded);
}

static void test_damaged_state_is_refused(void **state)
{
    struct producers *producers = producers_new(0);
    note(producers, header_of(1, 0, 0, 1, 0));
    assert_int_equal(producers_note_session(producers, BYTES_LITERAL("p"), 1, 1, 3, 10), 0);
    struct strbuf saved = {0};
    producers_save(producers, &saved);
    for (size_t len = 0; len < saved.len; len++) {
        assert_int_equal(producers_load(producers, bytes_of(saved.data, len)), CLYMQ_ECORRUPT);
        assert_int_equal(producers_count(producers), 0);
    }
    saved.data[0] = 2;
    assert_int_equal(producers_load(producers, bytes_of(saved.data, saved.len)), CLYMQ_EFORMAT);
    strbuf_free(&saved);
    producers_free(producers);
}

static void test_every_allocation_may_fail(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        mem_fail_nth(nth);
        struct producers *producers = producers_new(0);
        if (producers) {
            struct batch_header header = header_of(1, 0, 0, 1, 0);
            if (producers_reserve(producers, &header) == 0)
                assert_int_equal(producers_note_header(producers, &header, 10), 0);
            for (int64_t i = 0; i < 20; i++)
                (void)producers_note_session(producers, BYTES_LITERAL("p"), 1, i, i, 10);
            struct strbuf saved = {0};
            producers_save(producers, &saved);
            if (!saved.failed)
                (void)producers_load(producers, bytes_of(saved.data, saved.len));
            strbuf_free(&saved);
        }
        producers_free(producers);
        bool done = !mem_failed();
        mem_fail_nth(0);
        if (done)
            return;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sequence_rules),
        cmocka_unit_test(test_old_repeats_are_repeats_without_offset),
        cmocka_unit_test(test_sequences_wrap),
        cmocka_unit_test(test_a_reserved_producer_must_still_begin_at_zero),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_expiry),
        cmocka_unit_test(test_log_makes_the_same_table),
        cmocka_unit_test(test_damaged_state_is_refused),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
