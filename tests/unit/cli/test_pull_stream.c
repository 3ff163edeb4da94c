/* Answers to pullBatch cut into any pieces: every batch's header is found, ends and errors are seen, and
 * bytes that are no answer are refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/rng.h"
#include "cli/bench_pull_stream.h"
#include "wire/byte_order.h"
#include "wire/rpc.h"

static void append_batch(struct strbuf *out, int64_t base, int records, size_t size)
{
    uint8_t value[5000];
    struct batch_builder builder;
    struct buf *batch;
    memset(value, 'v', sizeof(value));
    assert_int_equal(batch_builder_init(&builder, 0), 0);
    for (int i = 0; i < records; i++)
        assert_int_equal(batch_builder_add(&builder, 1, bytes_of(NULL, 0), bytes_of(value, size), NULL, 0),
                         0);
    assert_int_equal(batch_builder_finish(&builder, BATCH_NONE, 0, &batch), 0);
    batch_assign(batch->data, base, 1);
    strbuf_append(out, batch->data, batch->len);
    buf_unref(batch);
    batch_builder_free(&builder);
}

static void append_answer(struct strbuf *out, int error, const char *err, struct bytes batches)
{
    static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};
    const struct rpc_method *method = &rpc_methods[RPC_METHOD_PULL_BATCH];
    struct rpc_pull_batch_response response = {
        .error = error, .err = bytes_of_text(err), .high_watermark = 99, .batches = batches};
    struct thrift_encoded encoded;
    assert_int_equal(
        thrift_encode(&framed, THRIFT_REPLY, method->name, 1, 0, method->response, &response, &encoded), 0);
    strbuf_append(out, encoded.buf->data, encoded.head_len);
    buf_unref(encoded.buf);
}

static void append_exception(struct strbuf *out, const char *text)
{
    static const struct thrift_form framed = {THRIFT_BINARY, THRIFT_FRAMED, 0};
    struct thrift_encoded encoded;
    assert_int_equal(thrift_encode_exception(&framed, BYTES_LITERAL("pullBatch"), 1, THRIFT_INTERNAL_ERROR, 0,
                                             text, &encoded),
                     0);
    strbuf_append(out, encoded.buf->data, encoded.head_len);
    buf_unref(encoded.buf);
}

struct seen {
    int answers, batches, records;
    int64_t last;
};

/* Feeds the bytes in pieces of at most `most` bytes; the first error, 0 without. */
static int feed(struct pull_stream *stream, const struct strbuf *bytes, struct rng *rng, size_t most,
                struct seen *seen)
{
    for (size_t at = 0; at < bytes->len;) {
        size_t len = 1 + rng_below(rng, most);
        if (len > bytes->len - at)
            len = bytes->len - at;
        struct bytes data = bytes_of(bytes->data + at, len);
        struct batch_header header;
        int event;
        while ((event = pull_stream_next(stream, &data, &header)) > PULL_MORE) {
            seen->answers += event == PULL_ANSWERED;
            if (event != PULL_BATCH)
                continue;
            seen->batches++;
            seen->records += header.record_count;
            seen->last = batch_last_offset(&header);
        }
        if (event < 0)
            return event;
        assert_int_equal(data.len, 0);
        at += len;
    }
    return 0;
}

static void test_pieces(void **state)
{
    struct strbuf batches = {0}, stream_bytes = {0};
    append_batch(&batches, 10, 3, 100);
    append_batch(&batches, 13, 1, 0);
    append_batch(&batches, 14, 6, 5000);
    append_answer(&stream_bytes, 0, "", bytes_of(batches.data, batches.len));
    append_answer(&stream_bytes, 0, "", bytes_of("", 0));
    append_answer(&stream_bytes, 0, "", bytes_of(batches.data, batches.len));
    assert_false(stream_bytes.failed);
    struct rng rng;
    rng_seed(&rng, 11);
    for (size_t most = 1; most < 70000; most = most * 3 / 2 + 1) {
        struct pull_stream *stream = calloc(1, sizeof(*stream));
        struct seen seen = {0};
        assert_int_equal(feed(stream, &stream_bytes, &rng, most, &seen), 0);
        assert_int_equal(seen.answers, 3);
        assert_int_equal(seen.batches, 6);
        assert_int_equal(seen.records, 20);
        assert_int_equal(seen.last, 19);
        free(stream);
    }
    strbuf_free(&batches);
    strbuf_free(&stream_bytes);
}

static void test_failures(void **state)
{
    struct rng rng;
    rng_seed(&rng, 12);
    for (size_t most = 1; most < 1000; most *= 3) {
        struct pull_stream *stream = calloc(1, sizeof(*stream));
        struct strbuf bytes = {0};
        struct seen seen = {0};
        append_answer(&bytes, CLYMQ_EOFFSET_RANGE, "no such offset", bytes_of("", 0));
        assert_int_equal(feed(stream, &bytes, &rng, most, &seen), CLYMQ_EOFFSET_RANGE);
        assert_string_equal(stream->sentence, "no such offset");
        strbuf_free(&bytes);
        memset(stream, 0, sizeof(*stream));
        append_exception(&bytes, "this does not work");
        assert_int_equal(feed(stream, &bytes, &rng, most, &seen), CLYMQ_EUNSUPPORTED);
        assert_string_equal(stream->sentence, "this does not work");
        strbuf_free(&bytes);
        free(stream);
        assert_int_equal(seen.answers, 0);
    }
}

/* Changed bytes end in an error or in counts, never beyond the buffers: for the sanitizers. */
static void test_mutations(void **state)
{
    struct strbuf batches = {0}, good = {0};
    append_batch(&batches, 0, 3, 300);
    append_batch(&batches, 3, 2, 10);
    append_answer(&good, 0, "", bytes_of(batches.data, batches.len));
    append_answer(&good, -2, "a sentence", bytes_of("", 0));
    struct rng rng;
    rng_seed(&rng, 13);
    int refused = 0;
    for (int i = 0; i < 5000; i++) {
        struct pull_stream *stream = calloc(1, sizeof(*stream));
        struct strbuf bytes = {0};
        struct seen seen = {0};
        strbuf_append(&bytes, good.data, good.len);
        for (int n = 0; n < 3; n++)
            bytes.data[rng_below(&rng, rng_chance(&rng, 1, 2) ? 100 : bytes.len)] = (char)rng_next(&rng);
        refused += feed(stream, &bytes, &rng, 400, &seen) < 0;
        strbuf_free(&bytes);
        free(stream);
    }
    assert_true(refused > 1000);
    strbuf_free(&batches);
    strbuf_free(&good);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_pieces), cmocka_unit_test(test_failures),
                                       cmocka_unit_test(test_mutations)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
