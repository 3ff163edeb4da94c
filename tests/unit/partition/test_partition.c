/* A partition on the simulated disk: when pushes are answered at each ack level, gathering, idempotence
 * through crashes and new blocks, waiting out a full disk and a seal, pulls that wait, offsets by time,
 * retention. */
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim.h"
#include "partition/partition.h"
#include "partition/producers.h"

enum { CHAIN_MAX = 4 };

/* One simulated machine with one shard, one store and one partition on it. */
struct machine {
    struct sim_world *world;
    struct sim_process *process;
    struct io_loop *loop;
    struct shards *shards;
    struct store_folder *folder;
    struct store *store;
    struct partition *partition;
    struct partition_config config;
    struct partition_block chain[CHAIN_MAX];
    size_t chain_count;
};

static int64_t room_by_worker; /* 0: as usual */
static int64_t commit_linger_ms;

static void machine_boot(struct machine *machine)
{
    struct store_config config;
    struct strbuf error = {0};
    uint8_t random[16] = {1, 2, 3};
    struct block_recovery recovery;
    store_config_defaults(&config);
    config.segment_bytes = 1 << 20;
    config.commit_linger_ms = commit_linger_ms;
    if (room_by_worker)
        config.room_by_worker = room_by_worker;
    assert_int_equal(sim_process_loop(machine->process, &machine->loop), 0);
    assert_int_equal(shards_new_on_loops(&machine->loop, 1, NULL, &machine->shards), 0);
    assert_int_equal(store_folder_open(sim_process_fs(machine->process), random, &error, &machine->folder),
                     0);
    struct shard *shard = shards_get(machine->shards, 0);
    assert_int_equal(store_open(&config, machine->folder, shard, NULL, &machine->store), 0);
    if (machine->chain_count == 0) {
        machine->chain[0] =
            (struct partition_block){.key = {.topic = {{9}}, .partition = 3, .seq = 0, .id = {{1}}},
                                     .start = 0,
                                     .end = -1,
                                     .base_epoch = 1};
        machine->chain_count = 1;
        assert_int_equal(partition_create_block(machine->store, &machine->chain[0]), 0);
        /* The coordinator may ask again after a crash. */
        assert_int_equal(partition_create_block(machine->store, &machine->chain[0]), 0);
    }
    assert_int_equal(partition_open(machine->store, shard, &machine->config, machine->chain,
                                    machine->chain_count, &machine->partition, &recovery),
                     0);
    assert_false(recovery.damaged);
    io_loop_wake(machine->loop);
    strbuf_free(&error);
}

static void machine_end_process(struct machine *machine)
{
    if (machine->partition)
        partition_close(machine->partition);
    store_close(machine->store);
    store_folder_close(machine->folder);
    shards_free(machine->shards);
    io_loop_free(machine->loop);
    machine->partition = NULL;
}

static struct machine *machine_new(uint64_t seed)
{
    struct machine *machine = calloc(1, sizeof(*machine));
    machine->world = sim_world_new(seed);
    machine->process = sim_process_new(machine->world, "m");
    machine->config = (struct partition_config){
        .topic = {{9}},
        .number = 3,
        .ack_level = -1,
        .retention_ms = -1,
        .retention_bytes = -1,
        .max_batch_bytes = 1 << 20,
        .push_wait_ms = 30000,
        .max_waiting_bytes = 1 << 20,
        .producer_expiry_ms = 1000000000,
    };
    machine_boot(machine);
    return machine;
}

static void machine_crash(struct machine *machine, bool power_loss)
{
    sim_process_crash(machine->process, power_loss);
    machine_end_process(machine);
    sim_process_restart(machine->process);
    machine_boot(machine);
}

/* What recovery kept beyond the last mark is synced before it is shown again. */
static void machine_settle(struct machine *machine)
{
    int64_t offset, found;
    for (int step = 0; partition_find_offset(machine->partition, -1, &offset, &found) == CLYMQ_EAGAIN;
         step++) {
        assert_true(step < 100000);
        assert_true(sim_world_step(machine->world));
    }
    assert_int_equal(offset, partition_end(machine->partition));
}

static void machine_free(struct machine *machine)
{
    sim_process_crash(machine->process, false);
    machine_end_process(machine);
    sim_world_free(machine->world);
    free(machine);
}

static void run_until(struct machine *machine, const bool *condition)
{
    for (int step = 0; !*condition; step++) {
        assert_true(step < 100000);
        assert_true(sim_world_step(machine->world));
    }
}

/* ---- pushes and pulls of the test ---- */

struct test_push {
    struct partition_push push;
    bool done;
    int64_t watermark_when_done;
    struct machine *machine;
    unsigned place; /* among all answered, from 1 */
};
static unsigned answered;

static void on_push_done(struct partition_push *push)
{
    struct test_push *test = push->ctx;
    assert_false(test->done);
    test->done = true;
    test->place = ++answered;
    test->watermark_when_done = test->machine->partition ? partition_watermark(test->machine->partition) : -1;
}

static void push_start(struct machine *machine, struct test_push *test, struct buf *message)
{
    test->machine = machine;
    test->done = false;
    test->push.message = message;
    test->push.done = on_push_done;
    test->push.ctx = test;
    partition_push(machine->partition, &test->push);
    io_loop_wake(machine->loop); /* the test calls from outside of a round */
}

static struct buf *buf_of_text(const char *text)
{
    struct buf *buf = buf_new(strlen(text) + 1);
    memcpy(buf->data, text, strlen(text) + 1);
    buf->len = strlen(text);
    return buf;
}

static void push_single(struct machine *machine, struct test_push *test, const char *text, int8_t ack,
                        int64_t session, int64_t index)
{
    struct buf *message = buf_of_text(text);
    *test = (struct test_push){.push = {
                                   .ack = ack,
                                   .value = bytes_of(message->data, message->len),
                                   .producer = BYTES_LITERAL("producer"),
                                   .session = session,
                                   .command_index = index,
                               }};
    push_start(machine, test, message);
}

static struct buf *batch_of(int count, size_t value_len, int64_t timestamp_ms, int64_t id, int32_t sequence)
{
    struct batch_builder builder;
    struct buf *batch;
    uint8_t value[70000];
    memset(value, 'v', sizeof(value));
    assert_true(value_len <= sizeof(value));
    assert_int_equal(batch_builder_init(&builder, 256), 0);
    if (id >= 0) {
        builder.producer_id = id;
        builder.producer_epoch = 0;
        builder.base_sequence = sequence;
    }
    for (int i = 0; i < count; i++)
        assert_int_equal(batch_builder_add(&builder, timestamp_ms + i, (struct bytes){0},
                                           bytes_of(value, value_len), NULL, 0),
                         0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
    batch_builder_free(&builder);
    return batch;
}

static void push_batch(struct machine *machine, struct test_push *test, struct buf *batch, int8_t ack)
{
    *test = (struct test_push){.push = {.ack = ack, .batch = bytes_of(batch->data, batch->len)}};
    push_start(machine, test, batch);
}

struct test_pull {
    struct partition_pull pull;
    bool done;
};

static void on_pull_done(struct partition_pull *pull)
{
    struct test_pull *test = pull->ctx;
    assert_false(test->done);
    test->done = true;
}

static void pull_start(struct machine *machine, struct test_pull *test, int64_t offset, size_t max_bytes,
                       size_t min_bytes, int64_t wait_ms)
{
    *test = (struct test_pull){.pull = {
                                   .offset = offset,
                                   .max_bytes = max_bytes,
                                   .min_bytes = min_bytes,
                                   .wait_ms = wait_ms,
                                   .done = on_pull_done,
                                   .ctx = test,
                               }};
    partition_pull(machine->partition, &test->pull);
    io_loop_wake(machine->loop);
}

/* Everything that may be read from offset, as one text: values, with '|' between batches; control batches as
 * '#'. */
static void read_all(struct machine *machine, int64_t offset, struct strbuf *text)
{
    *text = (struct strbuf){0};
    strbuf_append_text(text, "");
    while (offset < partition_watermark(machine->partition)) {
        struct test_pull test;
        pull_start(machine, &test, offset, 1 << 20, 0, 0);
        run_until(machine, &test.done);
        assert_int_equal(test.pull.error, 0);
        assert_true(test.pull.range.len > 0);
        uint8_t *data = mem_alloc(test.pull.range.len);
        assert_int_equal(
            io_file_pread(test.pull.range.file, data, test.pull.range.len, test.pull.range.position),
            test.pull.range.len);
        struct bytes rest = {data, test.pull.range.len};
        while (rest.len > 0) {
            struct batch_header header;
            struct batch_reader reader;
            struct batch_record record;
            assert_int_equal(batch_check(rest, UINT32_MAX, &header), 0);
            if (batch_is_control(&header)) {
                strbuf_append_text(text, "#");
            } else {
                assert_int_equal(batch_reader_begin(&reader, bytes_of(rest.ptr, header.size), 1 << 20), 0);
                while (batch_reader_next(&reader, &record) == 0) {
                    strbuf_append(text, record.value.ptr, record.value.len < 20 ? record.value.len : 1);
                    strbuf_append_text(text, " ");
                }
                batch_reader_end(&reader);
                strbuf_append_text(text, "| ");
            }
            assert_true(batch_last_offset(&header) >= offset);
            offset = batch_last_offset(&header) + 1;
            rest.ptr += header.size;
            rest.len -= header.size;
        }
        mem_free(data);
        block_range_release(&test.pull.range);
    }
}

static void expect_content(struct machine *machine, const char *expected)
{
    struct strbuf text;
    read_all(machine, partition_start(machine->partition), &text);
    assert_string_equal(text.data, expected);
    strbuf_free(&text);
}

/* ---- tests ---- */

static void test_ack_levels(void **state)
{
    struct machine *machine = machine_new(1);
    struct test_push committed, written;
    push_single(machine, &committed, "committed", -1, 0, 0);
    push_single(machine, &written, "written", 1, 0, 0);
    assert_false(committed.done || written.done); /* never from inside the call */
    run_until(machine, &written.done);
    assert_int_equal(written.push.error, 0);
    assert_int_equal(written.push.base_offset, 1);
    assert_int_equal(written.watermark_when_done, 0);
    assert_false(committed.done);
    run_until(machine, &committed.done);
    assert_int_equal(committed.push.base_offset, 0);
    assert_true(committed.watermark_when_done >= 2);
    /* What came in one round is one batch. */
    expect_content(machine, "committed written | ");

    struct test_push wrong;
    push_single(machine, &wrong, "x", 2, 0, 0);
    run_until(machine, &wrong.done);
    assert_int_equal(wrong.push.error, CLYMQ_EACK_LEVEL);
    machine->config.ack_level = 1;
    partition_set_config(machine->partition, &machine->config);
    push_single(machine, &wrong, "x", -1, 0, 0);
    run_until(machine, &wrong.done);
    assert_int_equal(wrong.push.error, CLYMQ_EACK_LEVEL);
    machine_free(machine);
}

/* A queue that would take long to write leaves the shard to others in between, and keeps its order. */
static void test_much_takes_several_rounds(void **state)
{
    enum { COUNT = 12 };
    struct machine *machine = machine_new(4);
    struct test_push pushes[COUNT];
    unsigned rounds = 0, written = 0;
    answered = 0;
    for (int i = 0; i < COUNT; i++)
        push_batch(machine, &pushes[i], batch_of(7, 60000, 1000, -1, -1), 1);
    while (answered < COUNT) {
        assert_true(sim_world_step(machine->world));
        assert_in_range(answered - written, 0, 3); /* of 420 KB each */
        rounds += answered > written;
        written = answered;
    }
    assert_true(rounds >= COUNT / 3);
    for (unsigned i = 0; i < COUNT; i++) {
        assert_int_equal(pushes[i].push.error, 0);
        assert_int_equal(pushes[i].place, i + 1);
        assert_int_equal(pushes[i].push.base_offset, i * 7);
    }
    machine_free(machine);
}

static void test_batches_and_singles_keep_their_order(void **state)
{
    struct machine *machine = machine_new(2);
    struct test_push pushes[6];
    push_single(machine, &pushes[0], "a", -1, 0, 0);
    push_single(machine, &pushes[1], "b", -1, 0, 0);
    push_batch(machine, &pushes[2], batch_of(2, 1, 1, -1, 0), -1);
    push_batch(machine, &pushes[3], batch_of(1, 1, 1, -1, 0), -1);
    push_single(machine, &pushes[4], "c", -1, 0, 0);
    push_single(machine, &pushes[5], "d", -1, 0, 0);
    run_until(machine, &pushes[5].done);
    int64_t offsets[] = {0, 1, 2, 4, 5, 6};
    for (int i = 0; i < 6; i++) {
        assert_int_equal(pushes[i].push.base_offset, offsets[i]);
        if (i > 0)
            assert_true(pushes[i].place > pushes[i - 1].place);
    }
    expect_content(machine, "a b | v v | v | c d | ");
    machine_free(machine);
}

/* A disk worker reserves space before most of these pushes: they wait for it, and for nothing else. */
static void test_room_is_waited_for(void **state)
{
    room_by_worker = 1;
    struct machine *machine = machine_new(31);
    struct test_push pushes[6], repeats[6];
    unsigned waits = 0;
    for (int i = 0; i < 6; i++) {
        uint64_t begun_ns = sim_world_now_ns(machine->world);
        if (i == 3) {
            push_batch(machine, &pushes[i], batch_of(2, 30000, 1, -1, 0), 1);
        } else {
            push_single(machine, &pushes[i], "s", 1, 7, i);
            push_single(machine, &repeats[i], "s", 1, 7, i);
        }
        assert_true(sim_world_step(machine->world));
        waits += !pushes[i].done;
        run_until(machine, &pushes[i].done);
        assert_int_equal(pushes[i].push.error, 0);
        assert_true(sim_world_now_ns(machine->world) - begun_ns < IO_MS(100));
        if (i == 3)
            continue;
        run_until(machine, &repeats[i].done);
        assert_int_equal(repeats[i].push.error, 0);
        assert_int_equal(repeats[i].push.base_offset, pushes[i].push.base_offset);
    }
    assert_in_range(waits, 2, 5);
    assert_int_equal(partition_end(machine->partition), 7);
    machine_free(machine);

    /* More than may wait for a full disk, in order; and a stop refuses none of it. */
    machine = machine_new(32);
    machine->config.max_waiting_bytes = 100000;
    partition_set_config(machine->partition, &machine->config);
    struct test_push large[8];
    push_batch(machine, &large[0], batch_of(1, 60000, 1, -1, 0), 1);
    assert_true(sim_world_step(machine->world)); /* room is being made now */
    assert_false(large[0].done);
    for (int i = 1; i < 8; i++)
        push_batch(machine, &large[i], batch_of(1, 60000, 1, -1, 0), 1);
    partition_drain(machine->partition);
    for (int i = 0; i < 8; i++) {
        run_until(machine, &large[i].done);
        assert_int_equal(large[i].push.error, 0);
        assert_int_equal(large[i].push.base_offset, i);
    }
    machine_free(machine);
    room_by_worker = 0;
}

static void test_batch_retries(void **state)
{
    struct machine *machine = machine_new(3);
    struct test_push first, again, next, gap, old;
    push_batch(machine, &first, batch_of(3, 1, 1, 77, 0), -1);
    push_batch(machine, &again, batch_of(3, 1, 1, 77, 0), -1);
    run_until(machine, &again.done);
    assert_false(first.push.duplicate);
    assert_true(again.push.duplicate);
    assert_int_equal(again.push.base_offset, 0);
    assert_true(again.watermark_when_done >= 3); /* a repeat is not answered before the first is committed */
    push_batch(machine, &gap, batch_of(1, 1, 1, 77, 4), -1);
    run_until(machine, &gap.done);
    assert_int_equal(gap.push.error, CLYMQ_ESEQUENCE);
    push_batch(machine, &next, batch_of(1, 1, 1, 77, 3), -1);
    run_until(machine, &next.done);
    assert_int_equal(next.push.error, 0);
    /* The table is as durable as the log: it is there after either kind of crash. */
    for (int power_loss = 0; power_loss < 2; power_loss++) {
        machine_crash(machine, power_loss);
        push_batch(machine, &old, batch_of(1, 1, 1, 77, 3), -1);
        run_until(machine, &old.done);
        assert_true(old.push.duplicate);
        assert_int_equal(old.push.base_offset, 3);
    }
    expect_content(machine, "v v v | v | ");
    machine_free(machine);
}

/* Messages may be older than their pushes by years; what is forgotten is a producer that pushes no more. */
static void test_old_timestamps_are_no_silence(void **state)
{
    struct machine *machine = machine_new(4);
    struct test_push push;
    size_t empty;
    for (int32_t i = 0; i < 6; i++) {
        if (i == 3)
            machine_crash(machine, true);
        push_batch(machine, &push, batch_of(1, 1, 1, 77, i), -1);
        run_until(machine, &push.done);
        assert_int_equal(push.push.error, 0);
        assert_int_equal(push.push.base_offset, i);
        assert_int_equal(
            partition_apply_retention(machine->partition, io_loop_wall_ms(machine->loop), &empty), 0);
    }
    push_batch(machine, &push, batch_of(1, 1, 1, 77, 5), -1);
    run_until(machine, &push.done);
    assert_true(push.push.duplicate);
    int64_t later_ms = io_loop_wall_ms(machine->loop) + machine->config.producer_expiry_ms + 1;
    assert_int_equal(partition_apply_retention(machine->partition, later_ms, &empty), 0);
    push_batch(machine, &push, batch_of(1, 1, 1, 77, 6), -1);
    run_until(machine, &push.done);
    assert_int_equal(push.push.error, CLYMQ_ESEQUENCE);
    machine_free(machine);
}

static void test_session_retries(void **state)
{
    struct machine *machine = machine_new(4);
    struct test_push pushes[5];
    push_single(machine, &pushes[0], "one", -1, 5, 1);
    push_single(machine, &pushes[1], "one", -1, 5, 1); /* in the same round */
    push_single(machine, &pushes[2], "two", -1, 5, 2);
    push_single(machine, &pushes[3], "none", -1, 0, 1); /* without a session: no repeat of anything */
    push_single(machine, &pushes[4], "none", -1, 0, 1);
    for (int i = 0; i < 5; i++)
        run_until(machine, &pushes[i].done);
    assert_true(pushes[1].push.duplicate);
    assert_int_equal(pushes[1].push.base_offset, pushes[0].push.base_offset);
    expect_content(machine, "one two none none | ");
    machine_crash(machine, true);
    push_single(machine, &pushes[0], "one", -1, 5, 1);
    run_until(machine, &pushes[0].done);
    assert_true(pushes[0].push.duplicate);
    push_single(machine, &pushes[1], "three", -1, 5, 3);
    run_until(machine, &pushes[1].done);
    assert_false(pushes[1].push.duplicate);
    expect_content(machine, "one two none none | three | ");
    machine_free(machine);
}

/* One record with the header of a single push of producer "producer", session 9, index 1. */
static struct buf *copied_record(uint32_t place, int64_t offset)
{
    struct batch_builder builder;
    struct buf *batch;
    uint8_t identity[PRODUCERS_SESSION_VALUE + 8];
    struct batch_header_input header = {BYTES_LITERAL(PRODUCERS_SESSION_HEADER),
                                        bytes_of(identity, sizeof(identity))};
    assert_int_equal(producers_session_value(place, offset, BYTES_LITERAL("producer"), 9, 1, identity),
                     sizeof(identity));
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    assert_int_equal(batch_builder_add(&builder, 1, (struct bytes){0}, BYTES_LITERAL("copied"), &header, 1),
                     0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
    batch_builder_free(&builder);
    return batch;
}

/* Records that a client copies from another topic or from further up, headers and all, are pushes of nobody,
 * before a restart and after it. */
static void test_copied_records_are_no_pushes(void **state)
{
    for (int crash = 0; crash < 2; crash++) {
        struct machine *machine = machine_new(4);
        const struct block_key *key = &machine->chain[0].key;
        struct test_push push;
        push_batch(machine, &push, copied_record(producers_place((struct uuid){{8}}, key->partition), 0), -1);
        run_until(machine, &push.done);
        push_batch(machine, &push, copied_record(producers_place(key->topic, key->partition), 0), -1);
        run_until(machine, &push.done);
        push_batch(machine, &push, copied_record(producers_place(key->topic, 4), 2), -1);
        run_until(machine, &push.done);
        if (crash)
            machine_crash(machine, true);
        push_single(machine, &push, "own", -1, 9, 1);
        run_until(machine, &push.done);
        assert_int_equal(push.push.error, 0);
        assert_false(push.push.duplicate);
        machine_crash(machine, true);
        push_single(machine, &push, "own", -1, 9, 1);
        run_until(machine, &push.done);
        assert_true(push.push.duplicate);
        assert_int_equal(push.push.base_offset, 3);
        machine_free(machine);
    }
}

static void test_full_disk_is_waited_out(void **state)
{
    struct machine *machine = machine_new(5);
    machine->config.push_wait_ms = 5000;
    partition_set_config(machine->partition, &machine->config);
    struct test_push before, single, batch, late;
    push_single(machine, &before, "before", -1, 0, 0);
    run_until(machine, &before.done);
    /* Fill what was set aside for the log, then no more. */
    sim_process_set_disk_faults(machine->process,
                                &(struct sim_disk_faults){.enospc_write_ppm = 0, .capacity = 1});
    struct test_push filler;
    int fillers = 0;
    do {
        push_batch(machine, &filler, batch_of(1, 60000, 1, -1, 0), 1);
        sim_world_run_for(machine->world, IO_MS(50));
        fillers++;
        assert_true(fillers < 1000);
    } while (filler.done);
    assert_true(store_is_full(machine->store));
    push_single(machine, &single, "single", -1, 5, 1);
    push_batch(machine, &batch, batch_of(1, 1, 1, 77, 0), -1);
    sim_world_run_for(machine->world, IO_MS(2000));
    assert_false(filler.done || single.done || batch.done);
    /* Pulls go on. */
    struct strbuf text;
    read_all(machine, 0, &text);
    assert_true(text.len > 0);
    strbuf_free(&text);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){0});
    run_until(machine, &batch.done);
    assert_int_equal(filler.push.error, 0);
    assert_int_equal(single.push.error, 0);
    assert_int_equal(batch.push.error, 0);
    assert_true(filler.push.base_offset < single.push.base_offset);
    assert_true(single.push.base_offset < batch.push.base_offset);
    /* One that waited too long is refused for certain, and is not remembered as stored. */
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){.capacity = 1});
    do {
        push_batch(machine, &filler, batch_of(1, 60000, 1, -1, 0), 1);
        sim_world_run_for(machine->world, IO_MS(50));
    } while (filler.done);
    char long_text[60001];
    memset(long_text, 'l', sizeof(long_text) - 1);
    long_text[sizeof(long_text) - 1] = '\0';
    push_single(machine, &late, long_text, -1, 5, 2);
    run_until(machine, &late.done);
    assert_int_equal(late.push.error, CLYMQ_ENOSPC);
    assert_true(filler.done);
    push_single(machine, &single, "short", 1, 5, 3); /* one that fits is not held up any more */
    run_until(machine, &single.done);
    assert_int_equal(single.push.error, 0);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){0});
    sim_world_run_for(machine->world, IO_MS(3000));
    push_single(machine, &late, "late", -1, 5, 2);
    run_until(machine, &late.done);
    assert_int_equal(late.push.error, 0);
    assert_false(late.push.duplicate);
    machine_free(machine);
}

static void test_waiting_pushes_are_bounded(void **state)
{
    struct machine *machine = machine_new(6);
    partition_seal(machine->partition, NULL, NULL);
    io_loop_wake(machine->loop);
    sim_world_run_for(machine->world, IO_MS(100));
    enum { COUNT = 40 };
    struct test_push *pushes = calloc(COUNT, sizeof(*pushes));
    for (int i = 0; i < COUNT; i++) {
        push_batch(machine, &pushes[i], batch_of(1, 60000, 1, -1, 0), -1);
        sim_world_run_for(machine->world, IO_MS(1));
    }
    int refused = 0;
    for (int i = 0; i < COUNT; i++)
        if (pushes[i].done) {
            assert_int_equal(pushes[i].push.error, CLYMQ_ELIMIT);
            refused++;
        }
    assert_in_range(refused, COUNT - 18, COUNT - 16);
    sim_world_run_for(machine->world, IO_MS(40000));
    for (int i = 0; i < COUNT; i++) {
        assert_true(pushes[i].done);
        assert_true(pushes[i].push.error == CLYMQ_ELIMIT || pushes[i].push.error == CLYMQ_EPARTITION_REMOVED);
    }
    free(pushes);
    machine_free(machine);
}

struct seal_outcome {
    bool done;
    int error;
    int64_t end;
};
static void on_sealed(void *ctx, int error, int64_t end)
{
    *(struct seal_outcome *)ctx = (struct seal_outcome){true, error, end};
}

/* Messages without a byte cost memory all the same. */
static void test_waiting_empty_pushes_are_bounded(void **state)
{
    struct machine *machine = machine_new(16);
    partition_seal(machine->partition, NULL, NULL);
    io_loop_wake(machine->loop);
    sim_world_run_for(machine->world, IO_MS(100));
    enum { COUNT = 4096 };
    struct test_push *pushes = calloc(COUNT, sizeof(*pushes));
    for (int i = 0; i < COUNT; i++) {
        push_single(machine, &pushes[i], "", 1, 0, 0);
        if (i == 0)
            sim_world_run_for(machine->world, IO_MS(100));
    }
    sim_world_run_for(machine->world, IO_MS(100));
    int refused = 0;
    for (int i = 0; i < COUNT; i++)
        refused += pushes[i].done && pushes[i].push.error == CLYMQ_ELIMIT;
    assert_in_range(refused, COUNT / 2, COUNT - 1000);
    sim_world_run_for(machine->world, IO_MS(40000));
    for (int i = 0; i < COUNT; i++)
        assert_true(pushes[i].done);
    free(pushes);
    machine_free(machine);
}

/* A definite error would say that the message is in no log; of a repeat that is not for sure. */
static void test_repeats_are_never_refused(void **state)
{
    struct machine *machine = machine_new(17);
    struct test_push first[2], again[2], other[2], waiting, tight;
    push_single(machine, &first[0], "single", -1, 5, 1);
    push_batch(machine, &first[1], batch_of(1, 1, 1, 77, 0), -1);
    run_until(machine, &first[1].done);
    /* Waiting for longer than the limit: */
    machine->config.push_wait_ms = 2000;
    partition_set_config(machine->partition, &machine->config);
    struct seal_outcome outcome = {0};
    partition_seal(machine->partition, on_sealed, &outcome);
    io_loop_wake(machine->loop);
    run_until(machine, &outcome.done);
    push_single(machine, &other[0], "other", -1, 5, 2);
    push_single(machine, &again[0], "single", -1, 5, 1);
    push_batch(machine, &other[1], batch_of(1, 1, 1, 77, 1), -1);
    push_batch(machine, &again[1], batch_of(1, 1, 1, 77, 0), -1);
    sim_world_run_for(machine->world, IO_MS(4000));
    for (int i = 0; i < 2; i++) {
        assert_true(other[i].done && again[i].done);
        assert_int_equal(other[i].push.error, CLYMQ_EPARTITION_REMOVED);
        assert_int_equal(again[i].push.error, 0);
        assert_true(again[i].push.duplicate);
        assert_int_equal(again[i].push.base_offset, first[i].push.base_offset);
    }
    /* Beyond what may wait: */
    machine->config.max_waiting_bytes = 1;
    partition_set_config(machine->partition, &machine->config);
    push_single(machine, &waiting, "waiting", -1, 5, 3);
    sim_world_run_for(machine->world, IO_MS(100));
    assert_false(waiting.done);
    push_single(machine, &tight, "tight", -1, 5, 4);
    push_single(machine, &again[0], "single", -1, 5, 1);
    push_batch(machine, &again[1], batch_of(1, 1, 1, 77, 0), -1);
    sim_world_run_for(machine->world, IO_MS(100));
    assert_true(tight.done && again[0].done && again[1].done);
    assert_int_equal(tight.push.error, CLYMQ_ELIMIT);
    assert_int_equal(again[0].push.error, 0);
    assert_int_equal(again[1].push.error, 0);
    machine_free(machine);
}

/* Where memory is short the repeat of a stored message is still answered as stored. */
static void test_repeats_without_memory(void **state)
{
    for (uint64_t nth = 1; nth < 5000; nth++) {
        struct machine *machine = machine_new(18);
        struct test_push first, again = {0}, other = {0};
        push_single(machine, &first, "stored", -1, 5, 1);
        run_until(machine, &first.done);
        struct buf *messages[2] = {buf_of_text("stored"), buf_of_text("other")};
        mem_fail_nth(nth);
        for (int i = 0; i < 2; i++) {
            struct test_push *test = i ? &other : &again;
            test->push = (struct partition_push){.ack = -1,
                                                 .value = bytes_of(messages[i]->data, messages[i]->len),
                                                 .producer = BYTES_LITERAL("producer"),
                                                 .session = 5,
                                                 .command_index = i + 1};
            push_start(machine, test, messages[i]);
        }
        for (int step = 0; step < 2000 && !(again.done && other.done); step++)
            sim_world_step(machine->world);
        bool reached = mem_failed();
        mem_fail_nth(0);
        assert_true(again.done && other.done);
        assert_int_equal(again.push.error, 0);
        assert_true(again.push.duplicate);
        machine_free(machine);
        if (!reached)
            return;
    }
    fail_msg("the allocations never ended");
}

/* Seals the open block and opens the next one, as the coordinator would. */
static void change_block(struct machine *machine, struct test_push *waiting, const char *text)
{
    struct seal_outcome outcome = {0};
    partition_seal(machine->partition, on_sealed, &outcome);
    io_loop_wake(machine->loop);
    if (waiting)
        push_single(machine, waiting, text, -1, 6, 1);
    run_until(machine, &outcome.done);
    assert_int_equal(outcome.error, 0);
    assert_int_equal(outcome.end, partition_end(machine->partition));
    machine->chain[machine->chain_count - 1].end = outcome.end;
    struct partition_block *next = &machine->chain[machine->chain_count];
    *next = machine->chain[machine->chain_count - 1];
    next->key.seq++;
    next->key.id.byte[0]++;
    next->start = outcome.end;
    next->end = -1;
    next->base_epoch++;
    assert_int_equal(partition_create_block(machine->store, next), 0);
    machine->chain_count++;
}

static void test_a_new_block_goes_on(void **state)
{
    for (int crash = 0; crash < 3; crash++) {
        struct machine *machine = machine_new(7);
        struct test_push first, waiting, again;
        push_batch(machine, &first, batch_of(2, 1, 1, 77, 0), -1);
        run_until(machine, &first.done);
        change_block(machine, crash ? NULL : &waiting, "waited");
        if (crash == 1) {
            /* Dies before it knew of the new block: the table must come from the sealed one. */
            machine_crash(machine, true);
        } else {
            assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count),
                             0);
            assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count),
                             0);
        }
        if (crash == 2) {
            /* The table's batch may be cut off: it is not synced yet. */
            machine_crash(machine, true);
        }
        if (!crash) {
            run_until(machine, &waiting.done);
            assert_int_equal(waiting.push.error, 0);
            assert_int_equal(waiting.push.base_offset, 3); /* behind the control batch */
        }
        push_batch(machine, &again, batch_of(2, 1, 1, 77, 0), -1);
        run_until(machine, &again.done);
        assert_true(again.push.duplicate);
        assert_int_equal(again.push.base_offset, 0);
        assert_int_equal(partition_epoch(machine->partition), 2);
        expect_content(machine, crash ? "v v | #" : "v v | #waited | ");
        machine_crash(machine, true);
        push_batch(machine, &again, batch_of(2, 1, 1, 77, 0), -1);
        run_until(machine, &again.done);
        assert_true(again.push.duplicate);
        if (!crash) {
            push_single(machine, &waiting, "waited", -1, 6, 1);
            run_until(machine, &waiting.done);
            assert_true(waiting.push.duplicate);
        }
        machine_free(machine);
    }
}

static size_t snapshot_files(struct machine *machine, uint32_t seq)
{
    char path[200];
    char topic[33];
    char **names;
    size_t count, found = 0;
    uuid_format(machine->chain[0].key.topic, topic);
    snprintf(path, sizeof(path), "data/%s/%u/%u", topic, machine->chain[0].key.partition, seq);
    assert_int_equal(io_fs_list(sim_process_fs(machine->process), path, &names, &count), 0);
    for (size_t i = 0; i < count; i++)
        found += strstr(names[i], ".snapshot") != NULL;
    io_fs_free_names(names, count);
    return found;
}

/* Checkpoints write no file where no producer is remembered, and recovery knows that nobody was. */
static void test_nobody_to_remember(void **state)
{
    struct machine *machine = machine_new(7);
    struct test_push push;
    push_batch(machine, &push, batch_of(2, 1, 1, -1, -1), -1);
    run_until(machine, &push.done);
    push_single(machine, &push, "m", -1, 0, 1);
    run_until(machine, &push.done);
    change_block(machine, NULL, NULL);
    assert_int_equal(snapshot_files(machine, 0), 0);
    machine_crash(machine, true);
    push_single(machine, &push, "n", -1, 9, 1);
    run_until(machine, &push.done);
    assert_int_equal(push.push.error, 0);
    assert_false(push.push.duplicate);
    change_block(machine, NULL, NULL);
    assert_int_equal(snapshot_files(machine, 1), 1);
    machine_crash(machine, true);
    push_single(machine, &push, "n", -1, 9, 1);
    run_until(machine, &push.done);
    assert_true(push.push.duplicate);
    machine_free(machine);
}

/* Who was forgotten stays forgotten, though the block before still has him. */
static void test_the_forgotten_stay_forgotten(void **state)
{
    struct machine *machine = machine_new(7);
    struct test_push push;
    size_t empty;
    push_single(machine, &push, "n", -1, 9, 1);
    run_until(machine, &push.done);
    change_block(machine, NULL, NULL);
    assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count), 0);
    push_single(machine, &push, "m", -1, 0, 1);
    run_until(machine, &push.done);
    int64_t later_ms = io_loop_wall_ms(machine->loop) + machine->config.producer_expiry_ms + 1;
    assert_int_equal(partition_apply_retention(machine->partition, later_ms, &empty), 0);
    change_block(machine, NULL, NULL);
    machine->chain_count--; /* dies before anybody knows of the third */
    machine_crash(machine, true);
    machine->chain_count++;
    assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count), 0);
    push_single(machine, &push, "n", -1, 9, 1);
    run_until(machine, &push.done);
    assert_int_equal(push.push.error, 0);
    assert_false(push.push.duplicate);
    machine_free(machine);
}

/* The seal is durable, and the coordinator dies before the next block is recorded: until it has sealed again
 * and tells of the next one, pushes wait. */
static void test_a_seal_that_was_cut_short(void **state)
{
    for (int power_loss = 0; power_loss < 2; power_loss++) {
        struct machine *machine = machine_new(7);
        struct test_push stored, waiting;
        struct seal_outcome outcome = {0};
        push_single(machine, &stored, "stored", -1, 6, 1);
        run_until(machine, &stored.done);
        partition_seal(machine->partition, on_sealed, &outcome);
        io_loop_wake(machine->loop);
        run_until(machine, &outcome.done);
        assert_int_equal(outcome.error, 0);
        machine_crash(machine, power_loss);
        push_single(machine, &waiting, "waited", -1, 6, 2);
        sim_world_run_for(machine->world, IO_MS(1000));
        assert_false(waiting.done);
        change_block(machine, NULL, NULL);
        assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count), 0);
        run_until(machine, &waiting.done);
        assert_int_equal(waiting.push.error, 0);
        expect_content(machine, "stored | #waited | ");
        machine_free(machine);
    }
}

/* A coordinator that lost its role and took it again asks for what it was asking for: whoever asked before
 * is answered too. */
static void test_sealing_asked_for_twice(void **state)
{
    struct machine *machine = machine_new(21);
    struct test_push push;
    struct seal_outcome first = {0}, second = {0};
    push_single(machine, &push, "x", 1, 0, 0);
    run_until(machine, &push.done);
    partition_seal(machine->partition, on_sealed, &first);
    partition_seal(machine->partition, on_sealed, &second);
    assert_true(first.done);
    assert_int_equal(first.error, CLYMQ_EAGAIN);
    io_loop_wake(machine->loop);
    run_until(machine, &second.done);
    assert_int_equal(second.error, 0);
    assert_int_equal(second.end, 1);
    machine_free(machine);
}

static void test_blocks_no_longer_named_are_removed(void **state)
{
    struct machine *machine = machine_new(8);
    struct test_push push;
    for (int i = 0; i < 2; i++) {
        push_single(machine, &push, "x", -1, 0, 0);
        run_until(machine, &push.done);
        change_block(machine, NULL, NULL);
        assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count), 0);
    }
    push_single(machine, &push, "y", -1, 0, 0);
    run_until(machine, &push.done);
    expect_content(machine, "x | #x | #y | ");
    assert_int_equal(partition_adopt_chain(machine->partition, &machine->chain[1], 2), 0);
    assert_int_equal(partition_start(machine->partition), 1);
    expect_content(machine, "#x | #y | ");
    struct test_pull pull;
    pull_start(machine, &pull, 0, 1000, 0, 0);
    run_until(machine, &pull.done);
    assert_int_equal(pull.pull.error, CLYMQ_EOFFSET_RANGE);
    memmove(&machine->chain[0], &machine->chain[1], 2 * sizeof(machine->chain[0]));
    machine->chain_count = 2;
    machine_crash(machine, true);
    int64_t offset, found;
    assert_int_equal(partition_find_offset(machine->partition, -2, &offset, &found), 0);
    assert_int_equal(partition_find_offset(machine->partition, -1, &offset, &found), CLYMQ_EAGAIN);
    machine_settle(machine);
    expect_content(machine, "#x | #y | ");
    machine_free(machine);
}

/* A pull waits only for what could still be added to its answer, which ends with a segment, with a block, and
 * before a batch that does not fit. */
static void test_pulls_wait_for_nothing(void **state)
{
    enum { BATCHES = 40, VALUE = 60000 }; /* two segments and a half of 1 MiB */
    struct machine *machine = machine_new(5);
    struct test_push push;
    struct test_pull pull;
    uint64_t started_ns;
    for (int i = 0; i < BATCHES; i++) {
        push_batch(machine, &push, batch_of(1, VALUE, 5000, -1, 0), -1);
        run_until(machine, &push.done);
        assert_int_equal(push.push.error, 0);
    }
    started_ns = sim_world_now_ns(machine->world);
    for (int64_t offset = 0; offset < 30; offset++) { /* two batches fit, and not min_bytes of them */
        pull_start(machine, &pull, offset, 3 * VALUE, 3 * VALUE, 10000);
        run_until(machine, &pull.done);
        assert_int_equal(pull.pull.error, 0);
        assert_in_range(pull.pull.range.len, VALUE, 3 * VALUE);
        block_range_release(&pull.pull.range);
    }
    pull_start(machine, &pull, 10, 4 << 20, 4 << 20, 10000); /* up to the segment's end */
    run_until(machine, &pull.done);
    assert_in_range(pull.pull.range.len, VALUE, 1 << 20);
    block_range_release(&pull.pull.range);
    assert_in_range(sim_world_now_ns(machine->world) - started_ns, 0, IO_MS(1000));
    pull_start(machine, &pull, BATCHES - 1, 1 << 20, 1 << 20, 2000); /* at the log's end it waits */
    run_until(machine, &pull.done);
    assert_in_range(sim_world_now_ns(machine->world) - started_ns, IO_MS(2000), IO_MS(4000));
    block_range_release(&pull.pull.range);
    machine_free(machine);
}

static void test_pulls_wait(void **state)
{
    struct machine *machine = machine_new(9);
    struct test_pull soon, much, late, canceled, beyond;
    pull_start(machine, &soon, 0, 1 << 20, 1, 10000);
    pull_start(machine, &much, 0, 1 << 20, 3000, 10000);
    pull_start(machine, &late, 0, 1 << 20, 1 << 20, 2000);
    pull_start(machine, &canceled, 0, 1 << 20, 1, 10000);
    pull_start(machine, &beyond, 1, 1 << 20, 1, 10000);
    run_until(machine, &beyond.done);
    assert_int_equal(beyond.pull.error, CLYMQ_EOFFSET_RANGE);
    assert_false(soon.done || much.done || late.done);
    partition_pull_cancel(&canceled.pull);
    struct test_push push;
    push_batch(machine, &push, batch_of(1, 1000, 1, -1, 0), -1);
    run_until(machine, &soon.done);
    assert_int_equal(soon.pull.error, 0);
    assert_true(soon.pull.range.len > 1000);
    assert_int_equal(soon.pull.watermark, 1);
    block_range_release(&soon.pull.range);
    assert_false(much.done);
    for (int i = 0; i < 2; i++) {
        push_batch(machine, &push, batch_of(1, 1000, 1, -1, 0), -1);
        run_until(machine, &push.done);
    }
    run_until(machine, &much.done);
    assert_true(much.pull.range.len >= 3000);
    block_range_release(&much.pull.range);
    uint64_t before_ns = sim_world_now_ns(machine->world);
    run_until(machine, &late.done);
    assert_true(sim_world_now_ns(machine->world) - before_ns <= IO_MS(2000));
    assert_int_equal(late.pull.error, 0);
    assert_true(late.pull.range.len >= 3000); /* what there is when the time is over */
    block_range_release(&late.pull.range);
    sim_world_run_for(machine->world, IO_MS(20000));
    assert_false(canceled.done);
    machine_free(machine);
}

/* A sync that may linger does not while somebody waits for what it will show. */
static void test_who_waits_hastens_the_sync(void **state)
{
    commit_linger_ms = 5000;
    struct machine *machine = machine_new(17);
    struct test_push push;
    struct test_pull pull;
    push_single(machine, &push, "first", -1, 0, 0);
    run_until(machine, &push.done);
    pull_start(machine, &pull, 1, 1 << 20, 3000, 30000);
    uint64_t before_ns = sim_world_now_ns(machine->world);
    for (int i = 0; i < 3; i++) { /* each in a pass of its own */
        assert_false(pull.done);
        push_batch(machine, &push, batch_of(1, 1000, 1, -1, 0), 1);
        sim_world_run_for(machine->world, IO_MS(300));
    }
    run_until(machine, &pull.done);
    assert_int_equal(pull.pull.error, 0);
    assert_true(pull.pull.range.len > 3000);
    assert_true(sim_world_now_ns(machine->world) - before_ns < IO_MS(1000));
    block_range_release(&pull.pull.range);
    push_single(machine, &push, "not awaited", 1, 0, 0);
    sim_world_run_for(machine->world, IO_MS(1000));
    assert_true(push.done);
    assert_int_equal(partition_watermark(machine->partition), 4);
    machine_free(machine);
    commit_linger_ms = 0;
}

static void test_nothing_uncommitted_is_shown(void **state)
{
    struct machine *machine = machine_new(10);
    sim_process_set_disk_faults(
        machine->process, &(struct sim_disk_faults){.sync_min_ns = IO_MS(5000), .sync_max_ns = IO_MS(5000)});
    struct test_push push;
    struct test_pull pull;
    push_single(machine, &push, "unsynced", 1, 0, 0);
    run_until(machine, &push.done);
    assert_int_equal(partition_end(machine->partition), 1);
    assert_int_equal(partition_watermark(machine->partition), 0);
    for (int64_t offset = 0; offset <= 1; offset++) {
        pull_start(machine, &pull, offset, 1 << 20, 1, 0);
        run_until(machine, &pull.done);
        assert_int_equal(pull.pull.error, 0);
        assert_int_equal(pull.pull.range.len, 0);
    }
    int64_t offset, timestamp_ms;
    assert_int_equal(partition_find_offset(machine->partition, 0, &offset, &timestamp_ms), 0);
    assert_int_equal(offset, 0);
    assert_int_equal(timestamp_ms, -1); /* no message at or after that time is there to be seen */
    sim_world_run_for(machine->world, IO_MS(20000));
    assert_int_equal(partition_watermark(machine->partition), 1);
    assert_int_equal(partition_find_offset(machine->partition, 0, &offset, &timestamp_ms), 0);
    assert_int_equal(offset, 0);
    assert_true(timestamp_ms >= 0);
    machine_free(machine);
}

static void test_a_failed_sync_is_final(void **state)
{
    struct machine *machine = machine_new(11);
    struct test_push push, next;
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
    push_single(machine, &push, "x", -1, 0, 0);
    run_until(machine, &push.done);
    assert_int_equal(push.push.error, CLYMQ_EUNCERTAIN);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){0});
    push_single(machine, &next, "y", -1, 0, 0);
    run_until(machine, &next.done);
    assert_int_equal(next.push.error, CLYMQ_ELOG_FAILED);
    assert_int_equal(partition_watermark(machine->partition), 0);
    assert_int_not_equal(partition_error(machine->partition), 0);
    /* A restart makes it whole again, with or without the uncertain message. */
    machine_crash(machine, true);
    push_single(machine, &next, "y", -1, 0, 0);
    run_until(machine, &next.done);
    assert_int_equal(next.push.error, 0);
    machine_free(machine);
}

/* What an earlier run has shown cannot be shown again, because its sync fails after the restart: the end is
 * told as an error, not as an older one. */
static void test_a_failed_sync_after_a_restart_hides_nothing(void **state)
{
    struct machine *machine = machine_new(22);
    struct test_push push;
    struct test_pull pull, waiting;
    int64_t offset, found;
    push_single(machine, &push, "shown", -1, 0, 0);
    run_until(machine, &push.done);
    push_single(machine, &push, "written", 1, 0, 0);
    run_until(machine, &push.done);
    machine_crash(machine, false);
    assert_int_equal(partition_watermark(machine->partition), 1);
    assert_int_equal(partition_end(machine->partition), 2);
    assert_int_equal(partition_find_offset(machine->partition, -1, &offset, &found), CLYMQ_EAGAIN);
    pull_start(machine, &waiting, 1, 1000, 1, 60000);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){.eio_sync_ppm = 1000000});
    run_until(machine, &waiting.done);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){0});
    assert_int_not_equal(partition_error(machine->partition), 0);
    assert_int_equal(waiting.pull.error, CLYMQ_ELOG_FAILED);
    assert_int_equal(partition_find_offset(machine->partition, -1, &offset, &found), CLYMQ_ELOG_FAILED);
    assert_int_equal(partition_find_offset(machine->partition, 1000000000000000, &offset, &found),
                     CLYMQ_ELOG_FAILED);
    assert_int_equal(partition_find_offset(machine->partition, -2, &offset, &found), 0);
    for (int64_t at = 1; at <= 3; at++) {
        pull_start(machine, &pull, at, 1000, 0, 0);
        run_until(machine, &pull.done);
        assert_int_equal(pull.pull.error, CLYMQ_ELOG_FAILED);
    }
    pull_start(machine, &pull, 0, 1000, 0, 0);
    run_until(machine, &pull.done);
    assert_int_equal(pull.pull.error, 0);
    assert_true(pull.pull.range.len > 0);
    block_range_release(&pull.pull.range);
    machine_crash(machine, false);
    machine_settle(machine);
    assert_int_equal(partition_watermark(machine->partition), 2);
    machine_free(machine);
}

static void test_offsets_by_time(void **state)
{
    struct machine *machine = machine_new(12);
    struct test_push push;
    for (int64_t time = 1000; time <= 3000; time += 1000) {
        push_batch(machine, &push, batch_of(10, 5, time, -1, 0), -1);
        run_until(machine, &push.done);
        if (time < 3000) {
            change_block(machine, NULL, NULL);
            assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count),
                             0);
        }
    }
    struct {
        int64_t time, offset, found;
    } cases[] = {
        {-2, 0, -1},     {-1, 32, -1},     {0, 0, 1000},   {1000, 0, 1000},
        {1005, 5, 1005}, {3009, 31, 3009}, {3010, -2, -1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        int64_t offset = -7, found = -7;
        assert_int_equal(partition_find_offset(machine->partition, cases[i].time, &offset, &found), 0);
        if (cases[i].offset >= 0)
            assert_int_equal(offset, cases[i].offset);
        else
            assert_int_equal(offset, partition_watermark(machine->partition));
        assert_int_equal(found, cases[i].found);
    }
    int64_t offset, found;
    assert_int_equal(partition_find_offset(machine->partition, -3, &offset, &found), CLYMQ_EINVAL);
    machine_free(machine);
}

static void test_retention(void **state)
{
    struct machine *machine = machine_new(13);
    struct test_push push;
    size_t empty;
    for (int i = 0; i < 100; i++) {
        push_batch(machine, &push, batch_of(1, 60000, 1000 + i, -1, 0), -1);
        run_until(machine, &push.done);
        if (i == 49) {
            change_block(machine, NULL, NULL);
            assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count),
                             0);
        }
    }
    assert_int_equal(partition_apply_retention(machine->partition, 2000, &empty), 0);
    assert_int_equal(empty, 0);
    assert_int_equal(partition_start(machine->partition), 0);
    machine->config.retention_bytes = 4500000;
    partition_set_config(machine->partition, &machine->config);
    assert_int_equal(partition_apply_retention(machine->partition, 2000, &empty), 0);
    assert_int_equal(empty, 0);
    int64_t start = partition_start(machine->partition);
    assert_in_range(start, 1, 40);
    assert_true(partition_size(machine->partition) >= 4500000);
    machine->config.retention_bytes = 2000000;
    partition_set_config(machine->partition, &machine->config);
    assert_int_equal(partition_apply_retention(machine->partition, 2000, &empty), 0);
    assert_int_equal(empty, 1);
    assert_true(partition_start(machine->partition) >= 50);
    assert_true(partition_size(machine->partition) >= 2000000);
    struct test_pull pull;
    pull_start(machine, &pull, start, 1000, 0, 0);
    run_until(machine, &pull.done);
    assert_int_equal(pull.pull.error, CLYMQ_EOFFSET_RANGE);
    /* What is kept stays readable, also after a crash. */
    int64_t kept = partition_start(machine->partition);
    sim_world_run_for(machine->world, IO_MS(1000)); /* the new start reaches the disk */
    machine_crash(machine, true);
    assert_int_equal(partition_start(machine->partition), kept);
    machine_settle(machine);
    struct strbuf text;
    read_all(machine, kept, &text);
    assert_true(text.len > 0);
    strbuf_free(&text);
    machine_free(machine);
}

/* How many segments the block has, by the log files in its folder. */
static size_t count_logs(struct machine *machine, uint32_t seq)
{
    char path[80], **names;
    size_t count, logs = 0;
    snprintf(path, sizeof(path), "data/09000000000000000000000000000000/3/%" PRIu32, seq);
    assert_int_equal(io_fs_list(sim_process_fs(machine->process), path, &names, &count), 0);
    for (size_t i = 0; i < count; i++)
        logs += strlen(names[i]) == 24 && strcmp(names[i] + 20, ".log") == 0;
    io_fs_free_names(names, count);
    return logs;
}

static void push_kilobytes(struct machine *machine, int count)
{
    for (int i = 0; i < count; i++) {
        struct test_push push;
        push_batch(machine, &push, batch_of(1, 1000, 1000, -1, 0), -1);
        run_until(machine, &push.done);
        assert_int_equal(push.push.error, 0);
    }
}

/* A topic's own size and age of segments, in blocks that are open, recovered, or opened later. */
static void test_segments_end_as_the_topic_says(void **state)
{
    struct machine *machine = machine_new(21);
    push_kilobytes(machine, 12);
    assert_int_equal(count_logs(machine, 0), 1); /* the store's own: 1 MiB */
    machine->config.segment_bytes = 4096;
    partition_set_config(machine->partition, &machine->config);
    push_kilobytes(machine, 1);
    assert_int_equal(count_logs(machine, 0), 2);
    machine_crash(machine, false);
    machine_settle(machine);
    push_kilobytes(machine, 6); /* two more go into the second, three each into the next */
    assert_int_equal(count_logs(machine, 0), 4);
    change_block(machine, NULL, NULL);
    assert_int_equal(partition_adopt_chain(machine->partition, machine->chain, machine->chain_count), 0);
    push_kilobytes(machine, 6);
    assert_in_range(count_logs(machine, 1), 2, 3);
    /* By age, on append and in the pass of retention. */
    machine->config.segment_bytes = 0;
    machine->config.segment_ms = 1000;
    partition_set_config(machine->partition, &machine->config);
    size_t before = count_logs(machine, 1), empty;
    push_kilobytes(machine, 10);
    assert_int_equal(count_logs(machine, 1), before);
    sim_world_run_for(machine->world, IO_MS(1500));
    push_kilobytes(machine, 1);
    assert_int_equal(count_logs(machine, 1), before + 1);
    sim_world_run_for(machine->world, IO_MS(1500));
    assert_int_equal(partition_apply_retention(machine->partition, io_loop_wall_ms(machine->loop), &empty),
                     0);
    assert_int_equal(count_logs(machine, 1), before + 2);
    machine_free(machine);
}

static void test_closing_answers_everybody(void **state)
{
    struct machine *machine = machine_new(14);
    struct test_push push;
    struct test_pull pull;
    partition_seal(machine->partition, NULL, NULL);
    io_loop_wake(machine->loop);
    push_single(machine, &push, "x", -1, 0, 0);
    pull_start(machine, &pull, 0, 100, 1, 100000);
    sim_world_run_for(machine->world, IO_MS(100));
    assert_false(push.done || pull.done);
    struct partition *partition = machine->partition;
    machine->partition = NULL;
    partition_close(partition);
    assert_int_equal(push.push.error, CLYMQ_ESHUTDOWN);
    assert_int_equal(pull.pull.error, CLYMQ_ESHUTDOWN);
    machine_free(machine);
}

/* A block whose files cannot be removed is closed all the same: nothing of the partition is left that it
 * could tell of. */
static void test_a_failed_deletion_leaves_nothing_open(void **state)
{
    struct machine *machine = machine_new(19);
    struct test_push push;
    struct seal_outcome outcome = {0};
    push_single(machine, &push, "x", 1, 0, 0);
    run_until(machine, &push.done); /* written, not yet synced */
    partition_seal(machine->partition, on_sealed, &outcome);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){.eio_write_ppm = 1000000});
    struct partition *partition = machine->partition;
    machine->partition = NULL;
    assert_int_not_equal(partition_delete(partition), 0);
    assert_true(outcome.done);
    assert_int_equal(outcome.error, CLYMQ_ESHUTDOWN);
    sim_process_set_disk_faults(machine->process, &(struct sim_disk_faults){0});
    io_loop_wake(machine->loop);
    sim_world_run_for(machine->world, IO_MS(1000));
    /* It is there and can be tried again. */
    struct block_recovery recovery;
    assert_int_equal(partition_open(machine->store, shards_get(machine->shards, 0), &machine->config,
                                    machine->chain, machine->chain_count, &partition, &recovery),
                     0);
    assert_int_equal(partition_delete(partition), 0);
    machine_free(machine);
}

static void test_every_allocation_may_fail(void **state)
{
    for (uint64_t nth = 1; nth < 5000; nth++) {
        struct machine *machine = machine_new(15);
        struct test_push pushes[3] = {0};
        struct buf *batch = batch_of(2, 10, 1, 77, 0);
        struct buf *message = buf_of_text("single");
        mem_fail_nth(nth);
        push_batch(machine, &pushes[0], batch, -1);
        pushes[1].push = (struct partition_push){.ack = -1,
                                                 .value = bytes_of(message->data, message->len),
                                                 .producer = BYTES_LITERAL("producer"),
                                                 .session = 4,
                                                 .command_index = 1};
        push_start(machine, &pushes[1], message);
        for (int step = 0; step < 2000 && !(pushes[0].done && pushes[1].done); step++)
            sim_world_step(machine->world);
        bool reached = mem_failed();
        mem_fail_nth(0);
        assert_true(pushes[0].done && pushes[1].done);
        /* The same once more: stored once whatever happened, unless its fate was uncertain. */
        if (!partition_error(machine->partition)) {
            push_batch(machine, &pushes[2], batch_of(2, 10, 1, 77, 0), -1);
            run_until(machine, &pushes[2].done);
            assert_int_equal(pushes[2].push.error, 0);
            assert_int_equal(pushes[2].push.duplicate, pushes[0].push.error == 0);
        }
        machine_free(machine);
        if (!reached)
            return;
    }
    fail_msg("the allocations never ended");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ack_levels),
        cmocka_unit_test(test_much_takes_several_rounds),
        cmocka_unit_test(test_batches_and_singles_keep_their_order),
        cmocka_unit_test(test_room_is_waited_for),
        cmocka_unit_test(test_batch_retries),
        cmocka_unit_test(test_session_retries),
        cmocka_unit_test(test_copied_records_are_no_pushes),
        cmocka_unit_test(test_full_disk_is_waited_out),
        cmocka_unit_test(test_waiting_pushes_are_bounded),
        cmocka_unit_test(test_waiting_empty_pushes_are_bounded),
        cmocka_unit_test(test_repeats_are_never_refused),
        cmocka_unit_test(test_repeats_without_memory),
        cmocka_unit_test(test_a_new_block_goes_on),
        cmocka_unit_test(test_a_seal_that_was_cut_short),
        cmocka_unit_test(test_sealing_asked_for_twice),
        cmocka_unit_test(test_nobody_to_remember),
        cmocka_unit_test(test_the_forgotten_stay_forgotten),
        cmocka_unit_test(test_old_timestamps_are_no_silence),
        cmocka_unit_test(test_blocks_no_longer_named_are_removed),
        cmocka_unit_test(test_pulls_wait),
        cmocka_unit_test(test_who_waits_hastens_the_sync),
        cmocka_unit_test(test_pulls_wait_for_nothing),
        cmocka_unit_test(test_nothing_uncommitted_is_shown),
        cmocka_unit_test(test_a_failed_sync_is_final),
        cmocka_unit_test(test_a_failed_sync_after_a_restart_hides_nothing),
        cmocka_unit_test(test_offsets_by_time),
        cmocka_unit_test(test_retention),
        cmocka_unit_test(test_segments_end_as_the_topic_says),
        cmocka_unit_test(test_closing_answers_everybody),
        cmocka_unit_test(test_a_failed_deletion_leaves_nothing_open),
        cmocka_unit_test(test_every_allocation_may_fail),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
