/* thrift.h, finding a message's end: the forms, arrival in pieces, hostile lengths and counts, and random
 * changes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "fill.h"

enum { MAX = 1 << 20 };

static int find(const char *hex, size_t max_size, struct thrift_extent *ret_extent, size_t *ret_need)
{
    struct bytes data = hex_decode(hex);
    struct thrift_scan scan = {0};
    int error = thrift_find_message(&scan, data, max_size, ret_extent, ret_need);
    bytes_free(data);
    return error;
}

static void test_forms_that_are_refused(void **state)
{
    static const char *const hex[] = {
        "40000000 80010001", /* a frame beyond 2^30 - 1 */
        "80020001 00000000", /* another version */
        "8000",              /* seen after two bytes */
        "8222",
        "83",
        "ff",
        "474554202f204854",                                   /* GET / HT */
        "0000000c 00000004 70757368",                         /* framed, not strict */
        "00000003 80010001",                                  /* a frame shorter than its own beginning */
        "00000010 0fff0000 00000000 00000000 00000000",       /* Apache's THeader */
        "0000000e 10000000 00000001 0000 0000 80010001",      /* TTHeader without its header */
        "0000000e 10000000 00000001 0002 0000 0000",          /* header beyond the frame */
        "00000012 10000000 00000001 0001 0401 0000 80010001", /* a transform */
        "00000012 10000000 00000001 0001 0400 0000 80010001", /* protobuf */
        "00000012 10000000 00000001 0001 0000 0000 70757368", /* not Thrift inside */
        "0000000e 10000000 00000001 0001 0000 0000",          /* nothing inside */
        "00000008 10000000 00000001",
        "80010001 80000000",
        "8221 ffffffffffffffffffff01",
    };
    for (size_t i = 0; i < sizeof(hex) / sizeof(hex[0]); i++) {
        struct thrift_extent extent;
        size_t need;
        if (find(hex[i], MAX, &extent, &need) != CLYMQ_EPROTO)
            fail_msg("case %zu: %s", i, hex[i]);
    }
}

/* A TTHeader as Kitex sends it: string, number and token blocks, padding; payload unframed and framed. */
static void test_ttheader_with_info(void **state)
{
#define INFO "00 00 01 0001 0003 666f6f 0003 626172 10 0002 0003 0001 61 0006 0001 62 11 0002 7474 000000"
#define CALL "80010001 00000000 00000000 00"
    static const struct {
        const char *hex;
        uint8_t protocol, envelope;
        size_t body, body_len;
    } cases[] = {
        {"0000003b 1000 0000 00000007 0009" INFO CALL, THRIFT_BINARY, THRIFT_TTHEADER, 50, 13},
        {"0000003f 1000 0001 00000007 0009" INFO "0000000d" CALL, THRIFT_BINARY, THRIFT_TTHEADER_FRAMED, 54,
         13},
        /* Made once with github.com/cloudwego/gopkg v0.1.5, which also read our answers to it. */
        {"0000003e10000000000000030005000001000100046b65793000001000010000"
         "00000000001c80010001000000037075620000000a0c00010b000100000001740000",
         THRIFT_BINARY, THRIFT_TTHEADER_FRAMED, 38, 28},
        {"00000016 1000 0000 00000007 0001 03000000 8221 00 02 6161 1c 00", THRIFT_COMPACT, THRIFT_TTHEADER,
         18, 8},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct thrift_extent extent;
        size_t need = 0;
        int error = find(cases[i].hex, MAX, &extent, &need);
        if (error)
            fail_msg("case %zu: %s %zu", i, error_name(error), need);
        assert_int_equal(extent.form.protocol, cases[i].protocol);
        assert_int_equal(extent.form.envelope, cases[i].envelope);
        assert_int_equal(extent.form.ttheader_sequence, i == 2 ? 3 : 7);
        assert_int_equal(extent.body, cases[i].body);
        assert_int_equal(extent.body_len, cases[i].body_len);
    }
}

/* Any message in any form, arriving a byte at a time and in random pieces, followed by another one. `need`
 * never claims more than there will be, and grows. */
static void test_arrival_in_pieces(void **state)
{
    struct rng rng;
    rng_seed(&rng, 7);
    for (int i = 0; i < RPC_METHOD_COUNT * FORM_COUNT * 4; i++) {
        const struct rpc_method *method = &rpc_methods[i % RPC_METHOD_COUNT];
        struct thrift_form form = form_of(i / RPC_METHOD_COUNT % FORM_COUNT);
        bool bytewise = i / RPC_METHOD_COUNT / FORM_COUNT & 1;
        union rpc_any value;
        fill_random(method->request, &value, &rng);
        struct bytes whole = encode_whole(&form, THRIFT_CALL, method->name, 5, 1, method->request, &value);
        struct thrift_scan scan = {0};
        struct thrift_extent extent;
        size_t need = 0, last_need = 0;
        for (size_t len = 0; len < whole.len; len += bytewise ? 1 : 1 + rng_below(&rng, 40)) {
            struct bytes part = exact_copy(whole.ptr, len);
            assert_int_equal(thrift_find_message(&scan, part, MAX, &extent, &need), CLYMQ_EAGAIN);
            assert_true(need > len && need <= whole.len);
            assert_true(need >= last_need);
            last_need = need;
            bytes_free(part);
        }
        /* The rest, and the beginning of the next message. */
        uint8_t *two = malloc(whole.len + 3);
        memcpy(two, whole.ptr, whole.len);
        memcpy(two + whole.len, whole.ptr, 3);
        assert_int_equal(thrift_find_message(&scan, bytes_of(two, whole.len + 3), MAX, &extent, &need), 0);
        assert_int_equal(extent.size, whole.len);
        assert_int_equal(extent.body + extent.body_len, whole.len);
        free(two);

        struct thrift_scan fresh;
        thrift_scan_reset(&fresh);
        assert_int_equal(thrift_find_message(&fresh, whole, whole.len, &extent, &need), 0);
        thrift_scan_reset(&fresh);
        assert_int_equal(thrift_find_message(&fresh, whole, whole.len - 1, &extent, &need), CLYMQ_ETOOBIG);
        bytes_free(whole);
    }
}

/* A string under way is waited for in one step, whatever arrives of it. */
static void test_need_names_a_string_s_end(void **state)
{
    struct thrift_extent extent;
    size_t need;
    assert_int_equal(find("80010001 00000000 00000000 0b0001 00010000 61", MAX, &extent, &need),
                     CLYMQ_EAGAIN);
    assert_int_equal(need, 12 + 7 + 0x10000 + 1);
    assert_int_equal(find("8221 00 00 18 8020 61", MAX, &extent, &need), CLYMQ_EAGAIN);
    assert_int_equal(need, 4 + 3 + 4096 + 1);
    assert_int_equal(find("00010000 80010001", MAX, &extent, &need), CLYMQ_EAGAIN);
    assert_int_equal(need, 4 + 0x10000);
    assert_int_equal(find("", MAX, &extent, &need), CLYMQ_EAGAIN);
    assert_int_equal(need, 1);
}

#define HEAD  "80010001 00000000 00000000"
#define CHEAD "8221 00 00"

static void test_counts_beyond_the_limit(void **state)
{
    static const struct {
        int error;
        const char *hex;
    } cases[] = {
        {CLYMQ_ETOOBIG, HEAD "0f0001 0c 7fffffff"}, /* 2^31 - 1 empty structs would take that many bytes */
        {CLYMQ_ETOOBIG, HEAD "0f0001 0b 7fffffff"},
        {CLYMQ_ETOOBIG, HEAD "0f0001 0a 7fffffff"},
        {CLYMQ_ETOOBIG, HEAD "0e0001 02 7fffffff"},
        {CLYMQ_ETOOBIG, HEAD "0d0001 0c 0c 7fffffff"},
        {CLYMQ_ETOOBIG, HEAD "0d0001 0a 0a 7fffffff"},
        {CLYMQ_ETOOBIG, HEAD "0b0001 7fffffff"},
        {CLYMQ_EPROTO, HEAD "0b0001 80000000"},
        {CLYMQ_EPROTO, HEAD "0f0001 0c ffffffff"},
        {CLYMQ_EPROTO, HEAD "0d0001 0c 0c ffffffff"},
        {CLYMQ_EPROTO, HEAD "0f0001 00 00000001"},
        {CLYMQ_EPROTO, HEAD "0f0001 01 7fffffff"},
        {CLYMQ_EPROTO, HEAD "0d0001 0a 07 7fffffff"},
        {CLYMQ_EPROTO, HEAD "010001"},
        {CLYMQ_EAGAIN, HEAD "0f0001 00 00000000"},
        {CLYMQ_EAGAIN, HEAD "0f0001 0c 000fff00"},
        {CLYMQ_ETOOBIG, CHEAD "19 f1 ffffffff07"}, /* booleans in a list take a byte each */
        {CLYMQ_ETOOBIG, CHEAD "19 fc ffffffff07"},
        {CLYMQ_ETOOBIG, CHEAD "1b ffffffff07 cc"},
        {CLYMQ_ETOOBIG, CHEAD "1b ffffffff07 11"},
        {CLYMQ_ETOOBIG, CHEAD "18 ffffffff07"},
        {CLYMQ_EPROTO, CHEAD "18 ffffffff0f"},
        {CLYMQ_EPROTO, CHEAD "1b ffffffff0f"},
        {CLYMQ_EPROTO, CHEAD "19 f1 ffffffffffff"
                             "ffffffff01"},
        {CLYMQ_EPROTO, CHEAD "1b 01 e1"},
        {CLYMQ_EPROTO, CHEAD "1e"},
        {CLYMQ_EAGAIN, HEAD "0b0001 000fffec"}, /* to MAX with the stop that follows */
        {CLYMQ_ETOOBIG, HEAD "0b0001 000fffed"},
        {CLYMQ_EAGAIN, CHEAD "19 f3 f6ff3f"},
        {CLYMQ_ETOOBIG, CHEAD "19 f3 f7ff3f"},
        {CLYMQ_ETOOBIG, "80010001 7ffffff0"}, /* the method's name */
        {CLYMQ_ETOOBIG, "8221 00 ffffffff07"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct thrift_extent extent;
        size_t need;
        int error = find(cases[i].hex, MAX, &extent, &need);
        if (error != cases[i].error)
            fail_msg("case %zu: %s: %s", i, cases[i].hex, error_name(error));
        if (error == CLYMQ_EAGAIN)
            assert_in_range(need, 1, MAX);
    }
}

/* A message of so many levels: structs inside each other; or its one struct and lists inside each other, the
 * innermost of which holds an empty list. */
static int find_nested(bool compact, bool lists, int levels)
{
    uint8_t data[1000];
    size_t len = 0;
    struct bytes head = hex_decode(compact ? CHEAD : HEAD);
    struct bytes field = hex_decode(lists ? (compact ? "19" : "0f0001") : (compact ? "1c" : "0c0001"));
    struct bytes list = hex_decode(compact ? "19" : "0f 00000001"),
                 empty = hex_decode(compact ? "03" : "03 00000000");
#define PUT(part) (memcpy(data + len, (part).ptr, (part).len), len += (part).len)
    PUT(head);
    if (lists)
        PUT(field);
    for (int i = 1; i < levels; i++)
        PUT(lists ? list : field);
    if (lists)
        PUT(empty);
    for (int i = 0; i < (lists ? 1 : levels); i++)
        data[len++] = 0;
#undef PUT
    struct bytes exact = exact_copy(data, len), *const parts[] = {&head, &field, &list, &empty};
    struct thrift_scan scan = {0};
    struct thrift_extent extent;
    size_t need;
    int error = thrift_find_message(&scan, exact, MAX, &extent, &need);
    if (!error)
        assert_int_equal(extent.size, len);
    bytes_free(exact);
    for (int i = 0; i < 4; i++)
        bytes_free(*parts[i]);
    return error;
}

static void test_depth(void **state)
{
    for (int i = 0; i < 4; i++) {
        bool compact = i & 1, lists = i & 2;
        assert_int_equal(find_nested(compact, lists, 3), 0);
        assert_int_equal(find_nested(compact, lists, THRIFT_DEPTH_MAX), 0);
        assert_int_equal(find_nested(compact, lists, THRIFT_DEPTH_MAX + 1), CLYMQ_EPROTO);
        assert_int_equal(find_nested(compact, lists, 100), CLYMQ_EPROTO);
    }
}

/* Unframed, a byte at a time, a message of a megabyte: linear, or this test does not end in its time. */
static void test_a_megabyte_byte_by_byte(void **state)
{
    enum { ELEMENTS = 1 << 20 };
    uint8_t *data = malloc(12 + 8 + ELEMENTS + 1);
    memcpy(data, "\x80\1\0\1\0\0\0\0\0\0\0\0\x0f\0\1\x0c\0\x10\0\0", 20);
    memset(data + 20, 0, ELEMENTS + 1);
    struct thrift_scan scan = {0};
    struct thrift_extent extent;
    size_t need;
    for (size_t len = 0; len < 20 + ELEMENTS + 1; len++)
        assert_int_equal(thrift_find_message(&scan, bytes_of(data, len), 4 * MAX, &extent, &need),
                         CLYMQ_EAGAIN);
    assert_int_equal(thrift_find_message(&scan, bytes_of(data, 20 + ELEMENTS + 1), 4 * MAX, &extent, &need),
                     0);
    free(data);
}

/* Changed bytes: any answer, nothing read out of bounds, and the same answer whether it comes at once or in
 * pieces. */
static void test_random_changes(void **state)
{
    int counts[4] = {0};
    for (uint64_t seed = 0; seed < 40000; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        const struct rpc_method *method = &rpc_methods[rng_below(&rng, RPC_METHOD_COUNT)];
        struct thrift_form form = form_of((int)rng_below(&rng, FORM_COUNT));
        union rpc_any value;
        fill_random(method->request, &value, &rng);
        struct bytes whole = encode_whole(&form, THRIFT_CALL, method->name, 5, 1, method->request, &value);
        for (uint64_t changes = rng_below(&rng, 4) + 1; changes > 0; changes--)
            ((uint8_t *)(uintptr_t)whole.ptr)[rng_below(&rng, whole.len)] =
                rng_chance(&rng, 1, 2) ? (uint8_t)rng_below(&rng, 17) : (uint8_t)rng_next(&rng);

        struct thrift_scan scan = {0}, pieces = {0};
        struct thrift_extent extent = {0}, again = {0};
        size_t need, need_again;
        int error = thrift_find_message(&scan, whole, MAX, &extent, &need), in_pieces = CLYMQ_EAGAIN;
        for (size_t len = 0; in_pieces == CLYMQ_EAGAIN && len <= whole.len; len++)
            in_pieces = thrift_find_message(&pieces, bytes_of(whole.ptr, len), MAX, &again, &need_again);
        assert_int_equal(in_pieces, error);
        if (error == 0) {
            struct thrift_message message;
            union rpc_any decoded;
            counts[0]++;
            assert_int_equal(again.size, extent.size);
            assert_true(extent.body + extent.body_len <= whole.len);
            struct bytes body = exact_copy(whole.ptr + extent.body, extent.body_len);
            if (thrift_read_message(extent.form.protocol, body, &message) == 0) {
                struct thrift_exception_fields fields;
                for (int i = 0; i < RPC_METHOD_COUNT; i++)
                    thrift_decode(extent.form.protocol, message.args, 1, rpc_methods[i].request, &decoded);
                thrift_decode_exception(extent.form.protocol, message.args, &fields);
            }
            bytes_free(body);
        } else if (error == CLYMQ_EAGAIN) {
            counts[1]++;
            assert_true(need > whole.len && need <= MAX);
        } else {
            counts[error == CLYMQ_EPROTO ? 2 : 3]++;
            assert_true(error == CLYMQ_EPROTO || error == CLYMQ_ETOOBIG);
        }
        bytes_free(whole);
    }
    for (int i = 0; i < 4; i++)
        assert_true(counts[i] > 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forms_that_are_refused),  cmocka_unit_test(test_ttheader_with_info),
        cmocka_unit_test(test_arrival_in_pieces),       cmocka_unit_test(test_need_names_a_string_s_end),
        cmocka_unit_test(test_counts_beyond_the_limit), cmocka_unit_test(test_depth),
        cmocka_unit_test(test_a_megabyte_byte_by_byte), cmocka_unit_test(test_random_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
