/* batch.h: batches of another implementation, round trips, every single-byte change, and allocations that
 * fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "hex.h"
#include "wire/batch.h"
#include "wire/byte_order.h"

enum { MAX = 1 << 20 };

/* Made once with kafka-python 3.0.12 (DefaultRecordBatchBuilder; python-snappy 0.7.3, lz4 4.4.5, zstandard
 * 0.25.0): four records, see golden_records. */
static const struct {
    const char *name, *hex;
} golden[] = {
    {"none",
     "0000000000000000000000de0000000002e41a044b0000000000030000018bcfe568000000018bcfe74a40ffffffffff"
     "ffffffffffffffffff00000004360000000a6b65792d310e76616c75652d3104046831027804683201fe01000a0201f0"
     "01636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d71"
     "20636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d71"
     "20636c796d7120636c796d7120636c796d7120636c796d7120000c000104000100100080890f06010000"},
    {"gzip",
     "000000000000000000000082000000000244ffa6fd0001000000030000018bcfe568000000018bcfe74a40ffffffffff"
     "ffffffffffffffffff000000041f8b08007956036b02ff33636060e0ca4eadd435e42b4bcc294dd5356461c93064aa60"
     "c93062fcc7c8c0c5c4f8813139a732b75081fe24030f03230b032383004343273f1b230303002dcbae42ad000000"},
    {"snappy",
     "00000000000000000000008b0000000002de0d4ae60002000000030000018bcfe568000000018bcfe74a40ffffffffff"
     "ffffffffffffffffff0000000482534e4150505900000000010000000100000046ad01a8360000000a6b65792d310e76"
     "616c75652d3104046831027804683201fe01000a0201f001636c796d712063fe0600c2060040000c0001040001001000"
     "80890f06010000"},
    {"lz4", "00000000000000000000008a0000000002f2bf22470003000000030000018bcfe568000000018bcfe74a40ffffffffff"
            "ffffffffffffffffff0000000404224d186840ad000000000000009642000000ff1b360000000a6b65792d310e76616c"
            "75652d3104046831027804683201fe01000a0201f001636c796d712006005ff002000c000104000100100080890f0601"
            "000000000000"},
    {"zstd",
     "00000000000000000000007d00000000023f5fe0f40004000000030000018bcfe568000000018bcfe74a40ffffffffff"
     "ffffffffffffffffff0000000428b52ffd20ad1d0200b403360000000a6b65792d310e76616c75652d31040468310278"
     "04683201fe01000a0201f001636c796d7120000c000104000100100080890f0601000001007a494b19"},
    {"idempotent",
     "0000000000000000000000de0000000002f6e7dddb0000000000030000018bcfe568000000018bcfe74a400000000000"
     "00126700030000006400000004360000000a6b65792d310e76616c75652d3104046831027804683201fe01000a0201f0"
     "01636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d71"
     "20636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d7120636c796d71"
     "20636c796d7120636c796d7120636c796d7120636c796d7120000c000104000100100080890f06010000"},
};
enum { GOLDEN_COUNT = sizeof(golden) / sizeof(golden[0]) };

#define FIVE_WORDS "clymq clymq clymq clymq clymq "
static const struct {
    int64_t timestamp_ms;
    const char *key, *value;
} golden_records[] = {
    {1700000000000, "key-1", "value-1"},
    {1700000000005, NULL, FIVE_WORDS FIVE_WORDS FIVE_WORDS FIVE_WORDS},
    {1699999999999, "", NULL},
    {1700000123456, NULL, ""},
};

static void assert_text(struct bytes bytes, const char *text)
{
    if (!text) {
        assert_null(bytes.ptr);
        assert_int_equal(bytes.len, 0);
        return;
    }
    assert_non_null(bytes.ptr);
    assert_int_equal(bytes.len, strlen(text));
    assert_memory_equal(bytes.ptr, text, bytes.len);
}

static struct bytes text_or_null(const char *text)
{
    return text ? bytes_of_text(text) : (struct bytes){0};
}

static void check_golden_records(struct bytes data, int64_t base)
{
    struct batch_reader reader;
    struct batch_record record;
    struct batch_record_header header;
    assert_int_equal(batch_reader_begin(&reader, data, MAX), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(batch_reader_next(&reader, &record), 0);
        assert_int_equal(record.offset, base + i);
        assert_int_equal(record.timestamp_ms, golden_records[i].timestamp_ms);
        assert_text(record.key, golden_records[i].key);
        assert_text(record.value, golden_records[i].value);
        if (i == 0) {
            assert_int_equal(batch_header_next(&record, &header), 0);
            assert_text(header.key, "h1");
            assert_text(header.value, "x");
            assert_int_equal(batch_header_next(&record, &header), 0);
            assert_text(header.key, "h2");
            assert_text(header.value, NULL);
        }
        assert_int_equal(batch_header_next(&record, &header), CLYMQ_ENOENT);
    }
    assert_int_equal(batch_reader_next(&reader, &record), CLYMQ_ENOENT);
    assert_int_equal(batch_reader_next(&reader, &record), CLYMQ_ENOENT);
    batch_reader_end(&reader);
}

static void test_batches_of_kafka_python_are_read(void **state)
{
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct bytes data = hex_decode(golden[i].hex);
        struct batch_header header;
        assert_int_equal(batch_validate(data, MAX, MAX, &header), 0);
        assert_int_equal(header.size, data.len);
        assert_int_equal(header.record_count, 4);
        assert_int_equal(header.last_offset_delta, 3);
        assert_int_equal(header.first_timestamp_ms, 1700000000000);
        assert_int_equal(header.max_timestamp_ms, 1700000123456);
        if (i < 5) {
            assert_string_equal(batch_compression_name(header.attributes & BATCH_COMPRESSION_MASK),
                                golden[i].name);
            assert_int_equal(header.producer_id, -1);
        } else {
            assert_int_equal(header.producer_id, 4711);
            assert_int_equal(header.producer_epoch, 3);
            assert_int_equal(header.base_sequence, 100);
        }
        check_golden_records(data, 0);

        batch_assign((uint8_t *)(uintptr_t)data.ptr, 1000000, 7);
        assert_int_equal(batch_check(data, MAX, &header), 0);
        assert_int_equal(header.base_offset, 1000000);
        assert_int_equal(batch_last_offset(&header), 1000003);
        assert_int_equal(header.leader_epoch, 7);
        check_golden_records(data, 1000000);
        bytes_free(data);
    }
}

static void add_golden(struct batch_builder *builder)
{
    const struct batch_header_input headers[] = {{BYTES_LITERAL("h1"), BYTES_LITERAL("x")},
                                                 {BYTES_LITERAL("h2"), {NULL, 0}}};
    for (int i = 0; i < 4; i++)
        assert_int_equal(batch_builder_add(builder, golden_records[i].timestamp_ms,
                                           text_or_null(golden_records[i].key),
                                           text_or_null(golden_records[i].value), headers, i == 0 ? 2 : 0),
                         0);
}

static void test_builder_writes_the_same_bytes_as_kafka_python(void **state)
{
    struct bytes plain = hex_decode(golden[0].hex), idempotent = hex_decode(golden[5].hex);
    struct batch_builder builder;
    struct batch_header header;
    struct buf *batch;
    assert_int_equal(batch_builder_init(&builder, 1), 0); /* grows */
    add_golden(&builder);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
    assert_int_equal(batch->len, plain.len);
    assert_memory_equal(batch->data + 16, plain.ptr + 16, plain.len - 16);
    assert_int_equal(batch_read_header(bytes_of(batch->data, batch->len), MAX, &header), 0);
    assert_int_equal(header.base_offset, 0);
    assert_int_equal(header.leader_epoch, -1);
    buf_unref(batch);

    assert_int_equal(batch_builder_init(&builder, 0), 0);
    builder.producer_id = 4711;
    builder.producer_epoch = 3;
    builder.base_sequence = 100;
    add_golden(&builder);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
    assert_int_equal(batch->len, idempotent.len);
    assert_memory_equal(batch->data + 16, idempotent.ptr + 16, idempotent.len - 16);
    buf_unref(batch);

    for (int codec = BATCH_GZIP; codec <= BATCH_ZSTD; codec++) {
        assert_int_equal(batch_builder_init(&builder, 0), 0);
        add_golden(&builder);
        assert_int_equal(batch_builder_finish(&builder, codec, 0, &batch), 0);
        struct bytes data = bytes_of(batch->data, batch->len);
        assert_true(data.len < plain.len);
        assert_int_equal(batch_validate(data, MAX, MAX, &header), 0);
        assert_int_equal(header.attributes, codec);
        check_golden_records(data, 0);
        buf_unref(batch);
    }
    bytes_free(plain);
    bytes_free(idempotent);
}

static void test_builder_stores_plainly_what_does_not_shrink(void **state)
{
    struct rng rng;
    uint8_t noise[300];
    struct batch_builder builder;
    struct batch_header header;
    struct buf *batch;
    rng_seed(&rng, 1);
    rng_fill(&rng, noise, sizeof(noise));
    for (int codec = BATCH_GZIP; codec <= BATCH_ZSTD; codec++) {
        assert_int_equal(batch_builder_init(&builder, 0), 0);
        assert_int_equal(
            batch_builder_add(&builder, 5, (struct bytes){0}, bytes_of(noise, sizeof(noise)), NULL, 0), 0);
        assert_int_equal(batch_builder_finish(&builder, codec, 0, &batch), 0);
        assert_int_equal(batch_validate(bytes_of(batch->data, batch->len), MAX, MAX, &header), 0);
        assert_int_equal(header.attributes, BATCH_NONE);
        buf_unref(batch);
    }
}

static void test_builder_without_records(void **state)
{
    struct batch_builder builder;
    struct buf *batch = NULL;
    assert_int_equal(batch_builder_init(&builder, 100), 0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), CLYMQ_EINVAL);
    assert_null(batch);
    struct bytes huge = bytes_of("", (size_t)INT32_MAX + 1);
    assert_int_equal(batch_builder_add(&builder, 0, (struct bytes){0}, huge, NULL, 0), CLYMQ_ETOOBIG);
    assert_int_equal(builder.count, 0);
    batch_builder_free(&builder);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), CLYMQ_EINVAL);
}

/* A random batch, and what is in it read back. */
static void random_round_trip(struct rng *rng)
{
    enum { RECORDS_MAX = 200 };
    static struct {
        int64_t timestamp_ms;
        struct bytes key, value;
        struct batch_header_input headers[3];
        int header_count;
    } expected[RECORDS_MAX];
    static uint8_t pool[4096];
    int count = (int)rng_between(rng, 1, RECORDS_MAX);
    enum batch_compression codec = (enum batch_compression)rng_below(rng, 5);
    int64_t start = rng_chance(rng, 1, 10) ? (int64_t)rng_next(rng) : 1700000000000, greatest = INT64_MIN;
    struct batch_builder builder;
    struct buf *batch;
    rng_fill(rng, pool, sizeof(pool));
    memset(pool, 'a', sizeof(pool) / 2);
    assert_int_equal(batch_builder_init(&builder, rng_below(rng, 10000)), 0);
    for (int i = 0; i < count; i++) {
        size_t len = rng_below(rng, rng_chance(rng, 1, 10) ? 3000 : 100);
        expected[i].timestamp_ms = (int64_t)((uint64_t)start + (uint64_t)rng_between(rng, -1000, 100000));
        expected[i].key = rng_chance(rng, 1, 2) ? (struct bytes){0}
                                                : bytes_of(pool + rng_below(rng, 4000), rng_below(rng, 90));
        expected[i].value =
            rng_chance(rng, 1, 10) ? (struct bytes){0} : bytes_of(pool + rng_below(rng, 1000), len);
        expected[i].header_count = (int)rng_below(rng, 4);
        for (int j = 0; j < expected[i].header_count; j++)
            expected[i].headers[j] = (struct batch_header_input){
                bytes_of(pool + rng_below(rng, 4000), rng_below(rng, 20)),
                rng_chance(rng, 1, 4) ? (struct bytes){0} : bytes_of(pool, rng_below(rng, 70))};
        size_t before = builder.buf->len;
        assert_int_equal(batch_builder_add(&builder, expected[i].timestamp_ms, expected[i].key,
                                           expected[i].value, expected[i].headers, expected[i].header_count),
                         0);
        assert_true(builder.buf->len - before <= batch_record_size(expected[i].key, expected[i].value,
                                                                   expected[i].headers,
                                                                   expected[i].header_count));
        if (expected[i].timestamp_ms > greatest)
            greatest = expected[i].timestamp_ms;
    }
    assert_int_equal(batch_builder_finish(&builder, codec, 0, &batch), 0);
    struct bytes data = exact_copy(batch->data, batch->len);
    buf_unref(batch);

    struct batch_header header;
    struct batch_reader reader;
    struct batch_record record;
    assert_int_equal(batch_validate(data, MAX, MAX, &header), 0);
    assert_int_equal(header.max_timestamp_ms, greatest);
    assert_int_equal(batch_reader_begin(&reader, data, MAX), 0);
    for (int i = 0; i < count; i++) {
        assert_int_equal(batch_reader_next(&reader, &record), 0);
        assert_int_equal(record.offset, i);
        assert_int_equal(record.timestamp_ms, expected[i].timestamp_ms);
        assert_true(bytes_equal(record.key, expected[i].key) && !record.key.ptr == !expected[i].key.ptr);
        assert_true(bytes_equal(record.value, expected[i].value) &&
                    !record.value.ptr == !expected[i].value.ptr);
        struct batch_record_header pair;
        for (int j = 0; j < expected[i].header_count; j++) {
            assert_int_equal(batch_header_next(&record, &pair), 0);
            assert_true(bytes_equal(pair.key, expected[i].headers[j].key));
            assert_true(bytes_equal(pair.value, expected[i].headers[j].value));
            assert_true(!pair.value.ptr == !expected[i].headers[j].value.ptr);
        }
        assert_int_equal(batch_header_next(&record, &pair), CLYMQ_ENOENT);
    }
    assert_int_equal(batch_reader_next(&reader, &record), CLYMQ_ENOENT);
    batch_reader_end(&reader);
    bytes_free(data);
}

static void test_random_batches_round_trip(void **state)
{
    struct rng rng;
    for (uint64_t seed = 0; seed < 200; seed++) {
        rng_seed(&rng, seed);
        random_round_trip(&rng);
    }
}

/* ---- refusals ---- */

static void test_short_data_says_how_much_is_missing(void **state)
{
    struct bytes whole = hex_decode(golden[0].hex);
    for (size_t len = 0; len < whole.len; len++) {
        struct bytes data = exact_copy(whole.ptr, len);
        struct batch_header header = {.size = 0};
        struct batch_reader reader;
        assert_int_equal(batch_read_header(data, MAX, &header), CLYMQ_EAGAIN);
        assert_int_equal(header.size, len < BATCH_HEADER_SIZE ? 0 : whole.len);
        assert_int_equal(batch_check(data, MAX, &header), CLYMQ_EAGAIN);
        assert_int_equal(batch_validate(data, MAX, MAX, &header), CLYMQ_EBATCH);
        assert_int_equal(batch_reader_begin(&reader, data, MAX), CLYMQ_EBATCH);
        bytes_free(data);
    }
    bytes_free(whole);
}

static void test_every_flipped_bit_is_seen(void **state)
{
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct bytes data = hex_decode(golden[i].hex);
        uint8_t *writable = (uint8_t *)(uintptr_t)data.ptr;
        struct batch_header header;
        for (size_t at = 8; at < data.len; at++) {
            if (at >= 12 && at < 16)
                continue; /* leader epoch: outside the checksum */
            for (int bit = 0; bit < 8; bit++) {
                writable[at] ^= (uint8_t)(1 << bit);
                assert_int_not_equal(batch_check(data, MAX, &header), 0);
                assert_int_equal(batch_validate(data, MAX, MAX, &header), CLYMQ_EBATCH);
                writable[at] ^= (uint8_t)(1 << bit);
            }
        }
        bytes_free(data);
    }
}

static void seal(uint8_t *batch, size_t len)
{
    store_be32(batch + 17, crc32c(0, batch + 21, len - 21));
}

/* Golden batch 0 with value stored big-endian in `size` bytes at `at`, checksum made right: what validate
 * answers. */
static int validate_with(size_t at, int size, uint64_t value)
{
    struct bytes data = hex_decode(golden[0].hex);
    uint8_t *writable = (uint8_t *)(uintptr_t)data.ptr;
    for (int i = 0; i < size; i++)
        writable[at + (size_t)i] = (uint8_t)(value >> 8 * (size - 1 - i));
    seal(writable, data.len);
    struct batch_header header = {.size = 99};
    int error = batch_validate(data, MAX, MAX, &header);
    assert_int_equal(header.size, error ? 99 : data.len);
    bytes_free(data);
    return error;
}

static void test_headers_that_are_refused(void **state)
{
    assert_int_equal(validate_with(21, 2, 0), 0);
    assert_int_equal(validate_with(21, 2, BATCH_TRANSACTIONAL), CLYMQ_EUNSUPPORTED);
    assert_int_equal(validate_with(21, 2, BATCH_CONTROL), CLYMQ_EBATCH);
    assert_int_equal(validate_with(21, 2, BATCH_TIMESTAMP_LOG_APPEND), CLYMQ_EBATCH);
    for (int codec = 5; codec <= 7; codec++)
        assert_int_equal(validate_with(21, 2, (uint64_t)codec), CLYMQ_ECOMPRESSION);
    for (int codec = 1; codec <= 4; codec++) /* the records are not compressed */
        assert_int_equal(validate_with(21, 2, (uint64_t)codec), CLYMQ_ECOMPRESSION);
    assert_int_equal(validate_with(16, 1, 1), CLYMQ_EBATCH);
    assert_int_equal(validate_with(8, 4, 0), CLYMQ_EBATCH);
    assert_int_equal(validate_with(8, 4, 48), CLYMQ_EBATCH);
    assert_int_equal(validate_with(8, 4, UINT32_MAX), CLYMQ_EBATCH);
    assert_int_equal(validate_with(8, 4, INT32_MAX), CLYMQ_EBATCH);
    assert_int_equal(validate_with(23, 4, 2), CLYMQ_EBATCH);
    assert_int_equal(validate_with(23, 4, 4), CLYMQ_EBATCH);
    assert_int_equal(validate_with(57, 4, 0), CLYMQ_EBATCH);
    assert_int_equal(validate_with(57, 4, 3), CLYMQ_EBATCH);
    assert_int_equal(validate_with(57, 4, UINT32_MAX), CLYMQ_EBATCH);
    assert_int_equal(validate_with(23, 8, 0), CLYMQ_EBATCH);
    assert_int_equal(validate_with(43, 8, 5), CLYMQ_EBATCH); /* producer id without epoch and sequence */
    assert_int_equal(validate_with(43, 8, (uint64_t)-2), CLYMQ_EBATCH);
    /* Four records: the offset behind the last must be a number still. */
    assert_int_equal(validate_with(0, 8, INT64_MAX - 4), 0);
    assert_int_equal(validate_with(0, 8, INT64_MAX - 3), CLYMQ_EBATCH);
    assert_int_equal(validate_with(0, 8, INT64_MAX), CLYMQ_EBATCH);
}

static void test_counts_beyond_the_bytes(void **state)
{
    struct bytes data = hex_decode(golden[0].hex);
    uint8_t *writable = (uint8_t *)(uintptr_t)data.ptr;
    struct batch_header header;
    store_be32(writable + 23, INT32_MAX - 1);
    store_be32(writable + 57, INT32_MAX);
    seal(writable, data.len);
    assert_int_equal(batch_read_header(data, MAX, &header), 0);
    assert_int_equal(batch_validate(data, MAX, MAX, &header), CLYMQ_EBATCH);
    bytes_free(data);
}

static void test_size_limits(void **state)
{
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct bytes data = hex_decode(golden[i].hex), longer;
        struct batch_header header;
        struct batch_reader reader;
        assert_int_equal(batch_read_header(data, (uint32_t)data.len, &header), 0);
        assert_int_equal(batch_read_header(data, (uint32_t)data.len - 1, &header), CLYMQ_EBATCH);
        assert_int_equal(batch_validate(data, (uint32_t)data.len - 1, MAX, &header), CLYMQ_ETOOBIG);
        /* The records take 173 bytes, however they are compressed. */
        int expected = i == 0 || i == 5 ? 0 : CLYMQ_ETOOBIG;
        assert_int_equal(batch_validate(data, MAX, 173, &header), 0);
        assert_int_equal(batch_validate(data, MAX, 172, &header), expected);
        assert_int_equal(batch_validate(data, MAX, 0, &header), expected);
        int error = batch_reader_begin(&reader, data, 172);
        assert_int_equal(error, expected);
        if (!error)
            batch_reader_end(&reader);

        /* One batch exactly; a reader looks at the first of several. */
        uint8_t *two = malloc(data.len + 1);
        memcpy(two, data.ptr, data.len);
        two[data.len] = 0;
        longer = bytes_of(two, data.len + 1);
        assert_int_equal(batch_check(longer, MAX, &header), 0);
        assert_int_equal(batch_validate(longer, MAX, MAX, &header), CLYMQ_EBATCH);
        check_golden_records(longer, 0);
        bytes_free(longer);
        bytes_free(data);
    }
}

/* Records changed at random under a right checksum: an answer, and nothing read out of bounds. */
static void test_random_records_under_a_right_checksum(void **state)
{
    int good = 0, bad = 0;
    for (uint64_t seed = 0; seed < 20000; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct bytes data = hex_decode(golden[rng_below(&rng, GOLDEN_COUNT)].hex);
        uint8_t *writable = (uint8_t *)(uintptr_t)data.ptr;
        for (uint64_t changes = rng_between(&rng, 1, 3); changes > 0; changes--)
            writable[rng_between(&rng, 21, (int64_t)data.len - 1)] =
                rng_chance(&rng, 1, 3) ? 0xff : (uint8_t)rng_next(&rng);
        seal(writable, data.len);
        struct batch_header header;
        struct batch_reader reader;
        struct batch_record record;
        struct batch_record_header pair;
        int error = batch_validate(data, MAX, 100000, &header);
        *(error ? &bad : &good) += 1;
        if (batch_reader_begin(&reader, data, 100000) == 0) {
            int next, pair_next = CLYMQ_ENOENT;
            while ((next = batch_reader_next(&reader, &record)) == 0)
                while ((pair_next = batch_header_next(&record, &pair)) == 0)
                    ;
            if (!error)
                assert_true(next == CLYMQ_ENOENT && pair_next == CLYMQ_ENOENT);
            batch_reader_end(&reader);
        } else {
            assert_int_not_equal(error, 0);
        }
        bytes_free(data);
    }
    assert_true(good > 100 && bad > 100);
}

static void test_control_and_compacted_batches_are_readable(void **state)
{
    struct batch_builder builder;
    struct batch_header header;
    struct batch_reader reader;
    struct batch_record record;
    struct buf *batch;
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    builder.attributes = BATCH_CONTROL | BATCH_TIMESTAMP_LOG_APPEND;
    assert_int_equal(batch_builder_add(&builder, 10, BYTES_LITERAL("k"), BYTES_LITERAL("v"), NULL, 0), 0);
    assert_int_equal(batch_builder_add(&builder, 30, BYTES_LITERAL("k"), BYTES_LITERAL("v"), NULL, 0), 0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
    store_be32(batch->data + 23, 9); /* records compacted away behind the last one */
    batch_assign(batch->data, 500, 2);
    seal(batch->data, batch->len);
    struct bytes data = bytes_of(batch->data, batch->len);
    assert_int_equal(batch_check(data, MAX, &header), 0);
    assert_true(batch_is_control(&header));
    assert_int_equal(batch_last_offset(&header), 509);
    assert_int_equal(batch_reader_begin(&reader, data, 0), 0);
    assert_int_equal(batch_reader_next(&reader, &record), 0);
    assert_int_equal(record.timestamp_ms, 30); /* log append: the batch's */
    assert_int_equal(batch_reader_next(&reader, &record), 0);
    assert_int_equal(record.offset, 501);
    assert_int_equal(batch_reader_next(&reader, &record), CLYMQ_ENOENT);
    batch_reader_end(&reader);
    buf_unref(batch);
}

static void test_failed_allocations(void **state)
{
    for (int codec = BATCH_NONE; codec <= BATCH_ZSTD; codec++) {
        struct bytes data = hex_decode(golden[codec].hex);
        int failures = 0;
        for (uint64_t nth = 1;; nth++) {
            struct batch_builder builder;
            struct batch_header header;
            struct batch_reader reader;
            struct buf *batch = NULL;
            uint64_t live = mem_live_bytes();
            mem_fail_nth(nth);
            int error = batch_builder_init(&builder, 1);
            if (!error) {
                for (int i = 0; i < 20 && !error; i++)
                    error =
                        batch_builder_add(&builder, i, (struct bytes){0}, bytes_of_text(FIVE_WORDS), NULL, 0);
                if (!error)
                    error = batch_builder_finish(&builder, codec, 0, &batch);
                batch_builder_free(&builder);
            }
            if (!error)
                error = batch_validate(data, MAX, MAX, &header);
            if (!error && (error = batch_reader_begin(&reader, data, MAX)) == 0)
                batch_reader_end(&reader);
            buf_unref(batch);
            int failed = mem_failed();
            mem_fail_nth(0);
            assert_int_equal(mem_live_bytes(), live);
            assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
            if (!failed)
                break;
            failures++;
        }
        assert_true(failures >= 3);
        bytes_free(data);
    }
}

static void test_compression_names(void **state)
{
    const char *const names[] = {"none", "gzip", "snappy", "lz4", "zstd"};
    for (int i = 0; i < 5; i++) {
        assert_string_equal(batch_compression_name(i), names[i]);
    }
    assert_null(batch_compression_name(5));
    assert_null(batch_compression_name(-1));
}

/* The highest levels take windows as large as the records, readers none above 8 MiB. */
static void test_zstd_windows_are_what_readers_take(void **state)
{
    enum { RECORDS = 12 << 10, VALUE = 1 << 10 };
    struct batch_builder builder;
    struct batch_reader reader;
    struct batch_record record;
    struct bytes none = {0};
    struct buf *batch;
    char value[VALUE];
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    for (int i = 0; i < RECORDS; i++) {
        memset(value, '.', sizeof(value));
        snprintf(value, sizeof(value), "GET /orders/%d 200 in %d us", i, i * 7919 % 1000);
        assert_int_equal(batch_builder_add(&builder, 1, none, bytes_of(value, sizeof(value)), NULL, 0), 0);
    }
    assert_int_equal(batch_builder_finish(&builder, BATCH_ZSTD, 22, &batch), 0);
    assert_true(batch->len < RECORDS * VALUE / 10);
    assert_int_equal(batch_reader_begin(&reader, bytes_of(batch->data, batch->len), 64 << 20), 0);
    for (int i = 0; i < RECORDS; i++) {
        assert_int_equal(batch_reader_next(&reader, &record), 0);
        snprintf(value, sizeof(value), "GET /orders/%d 200 in %d us", i, i * 7919 % 1000);
        assert_int_equal(record.value.len, VALUE);
        assert_memory_equal(record.value.ptr, value, strlen(value) + 1);
    }
    assert_int_equal(batch_reader_next(&reader, &record), CLYMQ_ENOENT);
    batch_reader_end(&reader);
    buf_unref(batch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_batches_of_kafka_python_are_read),
        cmocka_unit_test(test_builder_writes_the_same_bytes_as_kafka_python),
        cmocka_unit_test(test_builder_stores_plainly_what_does_not_shrink),
        cmocka_unit_test(test_builder_without_records),
        cmocka_unit_test(test_random_batches_round_trip),
        cmocka_unit_test(test_short_data_says_how_much_is_missing),
        cmocka_unit_test(test_every_flipped_bit_is_seen),
        cmocka_unit_test(test_headers_that_are_refused),
        cmocka_unit_test(test_counts_beyond_the_bytes),
        cmocka_unit_test(test_size_limits),
        cmocka_unit_test(test_random_records_under_a_right_checksum),
        cmocka_unit_test(test_control_and_compacted_batches_are_readable),
        cmocka_unit_test(test_zstd_windows_are_what_readers_take),
        cmocka_unit_test(test_failed_allocations),
        cmocka_unit_test(test_compression_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
