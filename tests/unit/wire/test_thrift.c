/* thrift.h, reading and writing: bytes written down from the specifications, every struct in every form and
 * back, what clients of another age send, and what is refused. The comparison with Apache's library is in
 * compare_thrift.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "fill.h"

enum { MAX = 1 << 20 };

static const struct rpc_method *const pub = &rpc_methods[RPC_METHOD_PUB];
static const struct rpc_pub_request pub_request = {
    .topic = {(const uint8_t *)"t", 1},
    .partition = {(const uint8_t *)"xian", 4},
    .start_index = 5,
    .end_index = -2,
    .msg = {(const uint8_t *)"[]", 2},
};

#define PUB_BINARY                                                                                           \
    "80010001 00000003 707562 00000007 0c0001 0b0001 00000001 74 0b0002 00000004 7869616e 0a0003 "           \
    "0000000000000005 "                                                                                      \
    "0a0004 fffffffffffffffe 0b0005 00000002 5b5d 00 00"
#define PUB_COMPACT "8221 07 03 707562 1c 18 01 74 18 04 7869616e 16 0a 16 03 18 02 5b5d 00 00"

static const struct {
    struct thrift_form form;
    const char *hex;
} golden[] = {
    {{THRIFT_BINARY, THRIFT_UNFRAMED, 0}, PUB_BINARY},
    {{THRIFT_BINARY, THRIFT_FRAMED, 0}, "00000046" PUB_BINARY},
    {{THRIFT_BINARY, THRIFT_TTHEADER, 9}, "00000054 1000 0000 00000009 0001 00000000" PUB_BINARY},
    {{THRIFT_BINARY, THRIFT_TTHEADER_FRAMED, 9},
     "00000058 1000 0000 00000009 0001 00000000 00000046" PUB_BINARY},
    {{THRIFT_COMPACT, THRIFT_UNFRAMED, 0}, PUB_COMPACT},
    {{THRIFT_COMPACT, THRIFT_FRAMED, 0}, "0000001b" PUB_COMPACT},
    {{THRIFT_COMPACT, THRIFT_TTHEADER, 9}, "00000029 1000 0000 00000009 0001 02000000" PUB_COMPACT},
    {{THRIFT_COMPACT, THRIFT_TTHEADER_FRAMED, 9},
     "0000002d 1000 0000 00000009 0001 02000000 0000001b" PUB_COMPACT},
};

static void test_golden_bytes(void **state)
{
    for (size_t i = 0; i < sizeof(golden) / sizeof(golden[0]); i++) {
        struct bytes expected = hex_decode(golden[i].hex);
        struct bytes whole =
            encode_whole(&golden[i].form, THRIFT_CALL, pub->name, 7, 1, pub->request, &pub_request);
        assert_int_equal(whole.len, expected.len);
        assert_memory_equal(whole.ptr, expected.ptr, whole.len);

        struct thrift_scan scan = {0};
        struct thrift_extent extent;
        struct thrift_message message;
        struct rpc_pub_request decoded;
        size_t need;
        assert_int_equal(thrift_find_message(&scan, whole, MAX, &extent, &need), 0);
        assert_int_equal(extent.size, whole.len);
        assert_int_equal(extent.form.protocol, golden[i].form.protocol);
        assert_int_equal(extent.form.envelope, golden[i].form.envelope);
        assert_int_equal(extent.form.ttheader_sequence, golden[i].form.ttheader_sequence);
        assert_int_equal(thrift_read_message(extent.form.protocol,
                                             bytes_of(whole.ptr + extent.body, extent.body_len), &message),
                         0);
        assert_int_equal(message.kind, THRIFT_CALL);
        assert_int_equal(message.sequence, 7);
        assert_ptr_equal(rpc_find_method(RPC_CONSUMER, message.method), pub);
        assert_int_equal(thrift_decode(extent.form.protocol, message.args, 1, pub->request, &decoded), 0);
        assert_int_equal(decoded.present, 0x1f);
        assert_int_equal(decoded.end_index, -2);
        assert_true(bytes_equal(decoded.partition, pub_request.partition));
        bytes_free(whole);
        bytes_free(expected);
    }
}

/* Finds, reads and decodes a message that must be good. */
static void take_apart(struct bytes whole, const struct thrift_form *form, struct thrift_message *ret_message)
{
    struct thrift_scan scan = {0};
    struct thrift_extent extent;
    size_t need;
    assert_int_equal(thrift_find_message(&scan, whole, MAX, &extent, &need), 0);
    assert_int_equal(extent.size, whole.len);
    assert_int_equal(extent.form.protocol, form->protocol);
    assert_int_equal(extent.form.envelope, form->envelope);
    assert_int_equal(extent.form.ttheader_sequence, form->ttheader_sequence);
    assert_int_equal(
        thrift_read_message(form->protocol, bytes_of(whole.ptr + extent.body, extent.body_len), ret_message),
        0);
}

static void test_every_struct_in_every_form(void **state)
{
    struct rng rng;
    rng_seed(&rng, 42);
    for (int i = 0; i < RPC_METHOD_COUNT * 2 * FORM_COUNT * 20; i++) {
        const struct rpc_method *method = &rpc_methods[i % RPC_METHOD_COUNT];
        struct thrift_form form = form_of(i / RPC_METHOD_COUNT % FORM_COUNT);
        bool reply = i / RPC_METHOD_COUNT / FORM_COUNT & 1;
        const struct thrift_struct *type = reply ? method->response : method->request;
        int16_t wrapper = reply ? 0 : 1;
        int32_t sequence = (int32_t)rng_next(&rng);
        union rpc_any value, decoded;
        struct thrift_message message;
        fill_random(type, &value, &rng);
        struct bytes whole = encode_whole(&form, reply ? THRIFT_REPLY : THRIFT_CALL, method->name, sequence,
                                          wrapper, type, &value);
        take_apart(whole, &form, &message);
        assert_int_equal(message.kind, reply ? THRIFT_REPLY : THRIFT_CALL);
        assert_int_equal(message.sequence, sequence);
        assert_ptr_equal(rpc_find_method(method->service, message.method), method);
        assert_int_equal(thrift_decode(form.protocol, message.args, wrapper, type, &decoded), 0);
        assert_true(structs_equal(type, &value, &decoded));

        /* The other wrapper is not there; every cut is seen. */
        assert_int_equal(thrift_decode(form.protocol, message.args, 1 - wrapper, type, &decoded),
                         CLYMQ_ENOENT);
        for (size_t len = 0; len < message.args.len; len += 1 + rng_below(&rng, 4)) {
            struct bytes cut = exact_copy(message.args.ptr, len);
            assert_int_equal(thrift_decode(form.protocol, cut, wrapper, type, &decoded), CLYMQ_EPROTO);
            bytes_free(cut);
        }
        bytes_free(whole);
    }
}

/* One field of a pull's answer is left out of the buffer, wherever it stands. */
static void test_payload_is_left_out(void **state)
{
    static const uint8_t big[1000] = {1, 2, 3};
    const struct rpc_method *pull = &rpc_methods[RPC_METHOD_PULL];
    const struct rpc_method *pull_batch = &rpc_methods[RPC_METHOD_PULL_BATCH];
    for (int i = 0; i < FORM_COUNT * 2; i++) {
        struct thrift_form form = form_of(i / 2);
        struct rpc_pull_response first = {
            .msgs = bytes_of(big, sizeof(big)), .ret = true, .err = BYTES_LITERAL("ok")};
        struct rpc_pull_batch_response last = {.err = BYTES_LITERAL(""),
                                               .batches = bytes_of(big, sizeof(big))};
        const struct rpc_method *method = i & 1 ? pull_batch : pull;
        void *value = i & 1 ? (void *)&last : (void *)&first;
        struct bytes whole = encode_whole(&form, THRIFT_REPLY, method->name, 1, 0, method->response, value);

        first.msgs.ptr = last.batches.ptr = NULL;
        struct thrift_encoded encoded;
        assert_int_equal(
            thrift_encode(&form, THRIFT_REPLY, method->name, 1, 0, method->response, value, &encoded), 0);
        assert_int_equal(encoded.payload_len, sizeof(big));
        assert_int_equal(encoded.head_len + encoded.tail_len, encoded.buf->len);
        assert_int_equal(encoded.head_len + encoded.payload_len + encoded.tail_len, whole.len);
        assert_memory_equal(encoded.buf->data, whole.ptr, encoded.head_len);
        assert_memory_equal(big, whole.ptr + encoded.head_len, sizeof(big));
        assert_memory_equal(encoded.buf->data + encoded.head_len, whole.ptr + encoded.head_len + sizeof(big),
                            encoded.tail_len);
        assert_true(encoded.buf->cap < 300);
        buf_unref(encoded.buf);
        bytes_free(whole);
    }
}

static void test_exceptions(void **state)
{
    static const struct thrift_form unframed = {THRIFT_BINARY, THRIFT_UNFRAMED, 0};
    struct bytes expected =
        hex_decode("80010003 00000004 70757368 fffffffe 0b0001 00000003 6e6f21 080002 00000006 00");
    struct thrift_encoded encoded;
    assert_int_equal(thrift_encode_exception(&unframed, BYTES_LITERAL("push"), -2, THRIFT_INTERNAL_ERROR, 0,
                                             "no!", &encoded),
                     0);
    assert_int_equal(encoded.head_len, expected.len);
    assert_memory_equal(encoded.buf->data, expected.ptr, expected.len);
    buf_unref(encoded.buf);
    bytes_free(expected);
    expected = hex_decode("80010003 00000004 70757368 fffffffe 0b0001 00000003 6e6f21 080002 00000006 080014 "
                          "ffffffdb 00");
    assert_int_equal(thrift_encode_exception(&unframed, BYTES_LITERAL("push"), -2, THRIFT_INTERNAL_ERROR, -37,
                                             "no!", &encoded),
                     0);
    assert_int_equal(encoded.head_len, expected.len);
    assert_memory_equal(encoded.buf->data, expected.ptr, expected.len);
    buf_unref(encoded.buf);
    bytes_free(expected);

    for (int i = 0; i < FORM_COUNT; i++) {
        struct thrift_form form = form_of(i);
        struct thrift_message message;
        struct thrift_exception_fields fields;
        int error = i % 2 ? -20 : 0;
        assert_int_equal(thrift_encode_exception(&form, BYTES_LITERAL("push"), -2, THRIFT_UNKNOWN_METHOD,
                                                 error, "unknown", &encoded),
                         0);
        struct bytes whole = exact_copy(encoded.buf->data, encoded.buf->len);
        buf_unref(encoded.buf);
        take_apart(whole, &form, &message);
        assert_int_equal(message.kind, THRIFT_EXCEPTION);
        assert_int_equal(message.sequence, -2);
        assert_int_equal(thrift_decode_exception(form.protocol, message.args, &fields), 0);
        assert_int_equal(fields.type, THRIFT_UNKNOWN_METHOD);
        assert_int_equal(fields.error, error);
        assert_true(bytes_equal(fields.text, BYTES_LITERAL("unknown")));
        for (size_t len = 0; len < message.args.len; len++) {
            struct bytes cut = exact_copy(message.args.ptr, len);
            assert_int_equal(thrift_decode_exception(form.protocol, cut, &fields), CLYMQ_EPROTO);
            bytes_free(cut);
        }
        bytes_free(whole);
    }
}

/* What an argument struct written in hex decodes to. */
static int decode_push(enum thrift_protocol protocol, const char *hex, struct rpc_push_request *ret_push)
{
    struct bytes args = hex_decode(hex);
    int error = thrift_decode(protocol, args, 1, rpc_methods[RPC_METHOD_PUSH].request, ret_push);
    bytes_free(args);
    return error;
}

static void test_fields_of_other_versions(void **state)
{
    struct rpc_push_request push;
    const struct thrift_struct *type = rpc_methods[RPC_METHOD_PUSH].request;
    /* Out of order, one twice (the last one holds), an optional one. */
    assert_int_equal(
        decode_push(
            THRIFT_BINARY,
            "0c0001 0a0014 00000000000000aa 030008 ff 030007 01 030008 00 0a0009 8000000000000000 00 00",
            &push),
        0);
    assert_int_equal(push.ack, 0);
    assert_int_equal(push.size, 1);
    assert_int_equal(push.session, 0xaa);
    assert_true(push.command_index == INT64_MIN);
    assert_true(rpc_has(type, &push, offsetof(struct rpc_push_request, session)));
    assert_true(rpc_has(type, &push, offsetof(struct rpc_push_request, ack)));
    assert_false(rpc_has(type, &push, offsetof(struct rpc_push_request, topic)));
    assert_null(push.topic.ptr);

    /* Unknown fields of every type, beside and inside the wrapper; a known number with another type (7 as
     * i32). */
    assert_int_equal(
        decode_push(
            THRIFT_BINARY,
            "02 0063 01 0c0001 02 0063 01 03 0064 01 04 0065 0000000000000000 06 0066 0001 08 0067 00000001 "
            "0a 0068 0000000000000001 0b 0069 00000001 61 0c 006a 080001 00000001 0c 0002 00 00 "
            "0d 006b 08 0b 00000002 00000001 00000001 61 00000002 00000000 0d 006c 0000 00000000 "
            "0e 006d 0a 00000001 0000000000000000 0f 006e 0c 00000003 00 00 00 10 006f "
            "00112233445566778899aabbccddeeff "
            "0f 0070 0f 00000002 03 00000001 aa 02 00000002 0001 080007 00000005 030008 01 00 0f 0002 00 "
            "00000000 00",
            &push),
        0);
    assert_int_equal(push.ack, 1);
    assert_int_equal(push.size, 0);
    assert_false(rpc_has(type, &push, offsetof(struct rpc_push_request, size)));

    /* The same in compact: bool, i8, i16, i32, i64, double, binary, list of bool, set of struct, maps,
     * struct, uuid, and numbers in full; 8 as i8 = 1; 7 as i32. */
    assert_int_equal(
        decode_push(
            THRIFT_COMPACT,
            "1c 01 c601 13 01 14 02 15 80808080 10 16 7f 17 0000000000000000 18 01 61 19 21 01 02 "
            "1a 3c 00 00 00 1b 00 1b 01 88 01 61 01 62 1c 11 11 12 00 1d 00112233445566778899aabbccddeeff "
            "19 f3 0f 000102030405060708090a0b0c0d0e 1b 02 36 01 02 03 04 05 0e 0a 13 01 00 00",
            &push),
        0);
    assert_int_equal(push.ack, 1);
    assert_false(rpc_has(type, &push, offsetof(struct rpc_push_request, size)));
}

static void test_what_decoding_refuses(void **state)
{
    static const struct {
        enum thrift_protocol protocol;
        int error;
        const char *hex;
    } cases[] = {
        {THRIFT_BINARY, 0, "0c0001 00 00"},
        {THRIFT_BINARY, CLYMQ_ENOENT, "00"},
        {THRIFT_BINARY, CLYMQ_ENOENT, "0b0001 00000000 00"}, /* the wrapper is no struct */
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 00 00 00"},    /* trailing */
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0b0002 ffffffff 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0b0002 00000003 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 010063 00 00"}, /* no such type */
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 070063 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0f0063 0c 7fffffff 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0f0063 0a 7fffffff 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0f0063 0a ffffffff 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0d0063 0a 0a 7fffffff 00 00"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "0c0001 0f0063 01 00000001 00 00"},
        {THRIFT_COMPACT, 0, "1c 00 00"},
        {THRIFT_COMPACT, CLYMQ_ENOENT, "00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 00 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 28 ffffffff0f 00 00"}, /* 2^32 - 1 bytes */
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 28 ffffffffffffffffffff01 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 10 00 00"}, /* a number with the type of a stop */
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 1e 00 00"}, /* no such type */
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 1f 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 06 ffffffff0f 00 00 00"},        /* field number beyond 16 bits */
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c 96 ffffffffffffffffff02 00 00"}, /* i64 beyond 64 bits */
        {THRIFT_COMPACT, 0, "1c 96 ffffffffffffffffff01 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c f9 fc ffffffff07 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c f9 f3 ffffffff0f 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "1c fb ffffffff07 66 00 00"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct rpc_push_request push;
        if (decode_push(cases[i].protocol, cases[i].hex, &push) != cases[i].error)
            fail_msg("case %zu: %s", i, cases[i].hex);
    }
}

static void test_message_headers(void **state)
{
    static const struct {
        enum thrift_protocol protocol;
        int error;
        const char *hex;
    } cases[] = {
        {THRIFT_BINARY, 0, "80010001 00000000 00000000"},
        {THRIFT_BINARY, 0, "80010004 00000001 61 80000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "80010000 00000000 00000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "80010005 00000000 00000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "80010101 00000000 00000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "80020001 00000000 00000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "80010001 00000001 00000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, "80010001 ffffffff 00000000"},
        {THRIFT_BINARY, CLYMQ_EPROTO, ""},
        {THRIFT_COMPACT, 0, "8221 00 00"},
        {THRIFT_COMPACT, 0, "8281 ffffffff0f 01 61"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "8221 ffffffff1f 01 61"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "8201 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "82a1 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "8222 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "8321 00 00"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "8221 00 01"},
        {THRIFT_COMPACT, CLYMQ_EPROTO, "82"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes body = hex_decode(cases[i].hex);
        struct thrift_message message;
        if (thrift_read_message(cases[i].protocol, body, &message) != cases[i].error)
            fail_msg("case %zu: %s", i, cases[i].hex);
        bytes_free(body);
    }
}

static void test_what_encoding_refuses(void **state)
{
    struct thrift_form form = form_of(0);
    struct rpc_pub_request request = pub_request;
    struct thrift_encoded encoded = {.head_len = 99};
    request.msg = bytes_of(NULL, 0x40000000);
    assert_int_equal(thrift_encode(&form, THRIFT_CALL, pub->name, 7, 1, pub->request, &request, &encoded),
                     CLYMQ_ETOOBIG);
    request.msg = bytes_of(NULL, SIZE_MAX);
    assert_int_equal(thrift_encode(&form, THRIFT_CALL, pub->name, 7, 1, pub->request, &request, &encoded),
                     CLYMQ_ETOOBIG);
    request.msg = bytes_of("", 0);
    mem_fail_nth(1);
    assert_int_equal(thrift_encode(&form, THRIFT_CALL, pub->name, 7, 1, pub->request, &request, &encoded),
                     CLYMQ_ENOMEM);
    mem_fail_nth(1);
    assert_int_equal(thrift_encode_exception(&form, pub->name, 7, THRIFT_PROTOCOL_ERROR, 0, "", &encoded),
                     CLYMQ_ENOMEM);
    mem_fail_nth(0);
    assert_int_equal(encoded.head_len, 99);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_bytes),
        cmocka_unit_test(test_every_struct_in_every_form),
        cmocka_unit_test(test_payload_is_left_out),
        cmocka_unit_test(test_exceptions),
        cmocka_unit_test(test_fields_of_other_versions),
        cmocka_unit_test(test_what_decoding_refuses),
        cmocka_unit_test(test_message_headers),
        cmocka_unit_test(test_what_encoding_refuses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
