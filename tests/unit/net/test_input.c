/* Splitting a stream into messages: every form, every way of arriving in pieces, bounded memory, bad input.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "messages.h"
#include "net/input.h"

enum { MAX_SIZE = 1 << 20 };

/* A stream that gives out prepared bytes, at most `chunk` at once. */
struct fake_stream {
    struct io_stream base;
    const uint8_t *data;
    size_t len, at, chunk;
};

static ssize_t fake_read(struct io_stream *base, void *data, size_t cap)
{
    struct fake_stream *stream = (struct fake_stream *)base;
    size_t left = stream->len - stream->at;
    if (left == 0)
        return CLYMQ_EAGAIN;
    size_t count = cap < left ? cap : left;
    count = count < stream->chunk ? count : stream->chunk;
    memcpy(data, stream->data + stream->at, count);
    stream->at += count;
    return (ssize_t)count;
}
static const struct io_loop_ops fake_ops = {.stream_read = fake_read};

static uint8_t scratch[NET_SCRATCH_BYTES];

/* The messages' sizes in order. */
struct sent {
    struct strbuf bytes;
    size_t ends[256];
    int count;
};

static void add_random(struct sent *sent, struct rng *rng, int count)
{
    for (int i = 0; i < count; i++) {
        size_t len = (size_t)rng_below(rng, 3) ? (size_t)rng_below(rng, 300)
                     : rng_chance(rng, 1, 4)   ? (size_t)rng_below(rng, 300000)
                                               : (size_t)rng_below(rng, 40000);
        uint8_t *text = message_text((uint32_t)i, len);
        const struct thrift_form *form = &message_forms[rng_below(rng, MESSAGE_FORMS)];
        message_add_push(&sent->bytes, form, i, "p", bytes_of(text, len));
        mem_free(text);
        sent->ends[sent->count++] = sent->bytes.len;
    }
}

/* Reads everything and compares. Returns an error of the input. */
static int read_all(struct sent *sent, struct net_input *input, size_t chunk, struct rng *rng, int *ret_count)
{
    struct fake_stream stream = {{&fake_ops}, (uint8_t *)sent->bytes.data, sent->bytes.len, 0, chunk};
    int count = 0, error = 0;
    size_t begin = 0;
    while (stream.at < stream.len) {
        struct bytes span;
        bool full;
        if (rng)
            stream.chunk = (size_t)rng_between(rng, 1, rng_chance(rng, 1, 3) ? 100000 : 300);
        size_t cap = rng && rng_chance(rng, 1, 3) ? 4096 : sizeof(scratch);
        input->most = rng && rng_chance(rng, 1, 3) ? (size_t)rng_between(rng, 1, 2000) : 0;
        ssize_t got = net_input_read(input, &stream.base, scratch, cap, &span, &full);
        if (got == CLYMQ_ENOMEM)
            return CLYMQ_ENOMEM;
        assert_true(got > 0);
        assert_true(!input->most || (size_t)got <= input->most);
        assert_true(net_input_held(input) <=
                    2 * sizeof(struct buf) + 2 * (stream.at - begin) + NET_FIRST_BYTES + 5000);
        struct net_message message;
        while ((error = net_input_take(input, &span, MAX_SIZE, &message)) == 0) {
            assert_true(count < sent->count);
            assert_int_equal(message.buf->len, sent->ends[count] - begin);
            assert_memory_equal(message.buf->data, sent->bytes.data + begin, message.buf->len);
            assert_int_equal(message.extent.size, message.buf->len);
            assert_true(message.buf->cap <= message.buf->len + 4096 + message.buf->len / 8 + 64);
            begin = sent->ends[count++];
            buf_unref(message.buf);
        }
        if (error != CLYMQ_EAGAIN)
            return error;
        assert_int_equal(span.len, 0);
    }
    *ret_count = count;
    return 0;
}

static void test_pieces(void **state)
{
    for (uint64_t seed = 1; seed <= 60; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct sent sent = {0};
        add_random(&sent, &rng, 20);
        struct net_input input = {0};
        int count = 0;
        assert_int_equal(read_all(&sent, &input, 0, &rng, &count), 0);
        assert_int_equal(count, sent.count);
        assert_null(input.partial);
        assert_int_equal(read_all(&sent, &input, SIZE_MAX, NULL, &count), 0);
        assert_int_equal(count, sent.count);
        strbuf_free(&sent.bytes);
    }
}

static void test_byte_by_byte(void **state)
{
    struct sent sent = {0};
    for (int i = 0; i < MESSAGE_FORMS; i++) {
        message_add_push(&sent.bytes, &message_forms[i], i, "producer", BYTES_LITERAL("some text"));
        sent.ends[sent.count++] = sent.bytes.len;
    }
    struct net_input input = {0};
    int count = 0;
    assert_int_equal(read_all(&sent, &input, 1, NULL, &count), 0);
    assert_int_equal(count, sent.count);
    strbuf_free(&sent.bytes);
}

/* A declared length costs no memory. */
static void test_declared_length(void **state)
{
    static const uint8_t starts[][16] = {
        {0, 15, 0xff, 0xff, 0x80, 1, 0, 1, 0, 0, 0, 4, 'p', 'u', 's', 'h'},
        {0x80, 1, 0, 1, 0, 0xf, 0xff, 0xf0, 'p', 'u', 's', 'h'},
    };
    for (size_t i = 0; i < 2; i++) {
        struct net_input input = {0};
        struct bytes span = bytes_of(starts[i], sizeof(starts[i]));
        struct net_message message;
        assert_int_equal(net_input_take(&input, &span, 16 << 20, &message), CLYMQ_EAGAIN);
        assert_true(net_input_held(&input) <= NET_FIRST_BYTES + sizeof(struct buf));
        net_input_clear(&input);
        assert_int_equal(net_input_held(&input), 0);
    }
}

static void test_too_big(void **state)
{
    uint8_t *text = message_text(1, 200000);
    for (int i = 0; i < MESSAGE_FORMS; i++) {
        struct strbuf out = {0};
        message_add_push(&out, &message_forms[i], 99, "p", bytes_of(text, 200000));
        struct net_input input = {0};
        struct bytes span = bytes_of(out.data, 1000);
        struct net_message message;
        assert_int_equal(net_input_take(&input, &span, 100000, &message), CLYMQ_ETOOBIG);
        assert_true(net_input_held(&input) <= NET_FIRST_BYTES + sizeof(struct buf));
        struct thrift_form form;
        struct thrift_message header;
        assert_int_equal(net_input_peek(bytes_of(out.data, 1000), &form, &header), 0);
        assert_int_equal(header.sequence, 99);
        assert_true(bytes_equal(header.method, BYTES_LITERAL("push")));
        assert_int_equal(form.protocol, message_forms[i].protocol);
        assert_int_equal(form.envelope, message_forms[i].envelope);
        assert_int_equal(form.ttheader_sequence, message_forms[i].ttheader_sequence);
        for (size_t len = 0; len < 16; len++)
            if (net_input_peek(bytes_of(out.data, len), &form, &header) != CLYMQ_EAGAIN)
                assert_true(message_forms[i].protocol == THRIFT_COMPACT && len >= 8);
        net_input_clear(&input);
        strbuf_free(&out);
    }
    mem_free(text);
}

static void test_out_of_memory(void **state)
{
    struct rng rng;
    rng_seed(&rng, 5);
    struct sent sent = {0};
    add_random(&sent, &rng, 20);
    uint64_t nth = 1;
    for (;; nth++) {
        struct net_input input = {0};
        int count;
        mem_fail_nth(nth);
        int error = read_all(&sent, &input, 5000, NULL, &count);
        bool failed = mem_failed();
        mem_fail_nth(0);
        net_input_clear(&input);
        assert_true(error == 0 || error == CLYMQ_ENOMEM);
        if (!failed)
            break;
    }
    assert_true(nth > 20);
    strbuf_free(&sent.bytes);
}

static void test_mutated(void **state)
{
    for (uint64_t seed = 1; seed <= 2000; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        struct strbuf out = {0};
        for (int i = 0; i < 4; i++)
            message_add_push(&out, &message_forms[rng_below(&rng, MESSAGE_FORMS)], i, "p",
                             BYTES_LITERAL("text"));
        for (uint64_t i = rng_below(&rng, 5); i < 5; i++)
            out.data[rng_below(&rng, out.len)] = (char)rng_next(&rng);
        struct fake_stream stream = {{&fake_ops}, (uint8_t *)out.data, out.len, 0, 1 + rng_below(&rng, 50)};
        struct net_input input = {0};
        int error = CLYMQ_EAGAIN;
        while (stream.at < stream.len && error == CLYMQ_EAGAIN) {
            struct bytes span;
            bool full;
            assert_true(net_input_read(&input, &stream.base, scratch, sizeof(scratch), &span, &full) > 0);
            struct net_message message;
            while ((error = net_input_take(&input, &span, MAX_SIZE, &message)) == 0)
                buf_unref(message.buf);
            assert_true(net_input_held(&input) <= 2 * NET_FIRST_BYTES);
        }
        net_input_clear(&input);
        strbuf_free(&out);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces),          cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_declared_length), cmocka_unit_test(test_too_big),
        cmocka_unit_test(test_out_of_memory),   cmocka_unit_test(test_mutated),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
