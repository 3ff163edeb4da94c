/* compress.h: streams that other implementations made, round trips, damage, limits, claimed lengths and
 * bombs. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "hex.h"
#include "wire/compress.h"

enum { MAX = 1 << 20 };

#define LINE  "to be or not to be, that is the question; "
#define LINES LINE LINE LINE LINE LINE LINE LINE LINE

/* Made once with Python 3.11's gzip, python-snappy 0.7.3, python-lz4 4.4.5 and zstandard 0.25.0 from LINES.
 */
static const struct {
    enum batch_compression codec;
    const char *name, *hex;
} golden[] = {
    {BATCH_GZIP, "gzip with a file name, Python 3.11 gzip",
     "1f8b08080100000002ff68616d6c65742e747874002bc957484a55c82f52c8cb2f5128017174144a32124b14328b8174"
     "aa4261696a7149667e9e35447254250195002e0aa93050010000"},
    {BATCH_SNAPPY, "raw, python-snappy 0.7.3",
     "d00230746f206265206f72206e6f7420050d582c207468617420697320746865207175657374696f6e3b091dfe2a00fe"
     "2a00fe2a00fe2a00822a00"},
    {BATCH_SNAPPY, "xerial, four blocks",
     "82534e415050590000000001000000010000002e6430746f206265206f72206e6f7420050d582c207468617420697320"
     "746865207175657374696f6e3b091dd22a0000000030649862652c207468617420697320746865207175657374696f6e"
     "3b20746f206265206f72206e6f7420050d002cda2a000000002c64547175657374696f6e3b20746f206265206f72206e"
     "6f74090d342c20746861742069732074686520e62a0000000026248c6f72206e6f7420746f2062652c20746861742069"
     "7320746865207175657374696f6e3b20"},
    {BATCH_LZ4, "linked blocks, content size and checksums, python-lz4 4.4.5",
     "04224d187c4050010000000000004336000000d1746f206265206f72206e6f74200d00f2082c20746861742069732074"
     "6865207175657374696f6e3b1d000f2a00ff0a50696f6e3b201b021ed2000000006e3c963b"},
    {BATCH_ZSTD, "streamed, no content size, checksum, zstandard 0.25.0",
     "28b52ffd0458a401009402746f206265206f72206e6f7420746f2062652c207468617420697320746865207175657374"
     "696f6e3b02006aea80004c950145000008620100680a0801baf99928"},
    {BATCH_ZSTD, "content size, zstandard 0.25.0",
     "28b52ffd6050005d0100a242080cc03d2487608a7f7db1ae7e028f43e3a5ce53f1d7ce527ca039f219ef8aa739720100"
     "1a69aa2a03"},
};
enum { GOLDEN_COUNT = sizeof(golden) / sizeof(golden[0]) };

static int inflate_len(enum batch_compression codec, struct bytes in, size_t max_len, size_t *ret_len)
{
    uint8_t *data;
    int error = compress_inflate(codec, in, max_len, &data, ret_len);
    if (!error)
        mem_free(data);
    return error;
}

static void test_streams_of_others(void **state)
{
    for (int i = 0; i < GOLDEN_COUNT; i++) {
        struct bytes in = hex_decode(golden[i].hex);
        uint8_t *data = NULL;
        size_t len = 0;
        if (compress_inflate(golden[i].codec, in, strlen(LINES), &data, &len))
            fail_msg("%s", golden[i].name);
        assert_int_equal(len, strlen(LINES));
        assert_memory_equal(data, LINES, len);
        mem_free(data);
        assert_int_equal(inflate_len(golden[i].codec, in, strlen(LINES) - 1, &len), CLYMQ_ETOOBIG);
        assert_int_equal(inflate_len(golden[i].codec, in, 0, &len), CLYMQ_ETOOBIG);

        /* Cut short anywhere, or with a byte behind it. xerial's blocks may end after any block. */
        for (size_t cut = 0; cut < in.len; cut++) {
            struct bytes part = exact_copy(in.ptr, cut);
            int error = inflate_len(golden[i].codec, part, MAX, &len);
            if (error != CLYMQ_ECOMPRESSION && !(i == 2 && error == 0 && len % 100 == 0))
                fail_msg("%s cut to %zu: %s", golden[i].name, cut, error_name(error));
            bytes_free(part);
        }
        uint8_t *longer = malloc(in.len + 1);
        memcpy(longer, in.ptr, in.len);
        longer[in.len] = 0;
        assert_int_equal(inflate_len(golden[i].codec, bytes_of(longer, in.len + 1), MAX, &len),
                         CLYMQ_ECOMPRESSION);
        free(longer);
        bytes_free(in);
    }
}

static void round_trip(enum batch_compression codec, int level, struct bytes plain)
{
    struct buf *packed;
    uint8_t *data;
    size_t len;
    assert_int_equal(compress_deflate(codec, level, plain, 7, &packed), 0);
    struct bytes in = exact_copy(packed->data + 7, packed->len - 7);
    assert_int_equal(compress_inflate(codec, in, plain.len, &data, &len), 0);
    assert_int_equal(len, plain.len);
    if (len)
        assert_memory_equal(data, plain.ptr, len);
    mem_free(data);
    buf_unref(packed);
    bytes_free(in);
}

static void test_round_trips(void **state)
{
    static const size_t sizes[] = {0, 1, 13, 4095, 4096, 4097, 65535, 65536, 65537, 300000};
    static const int levels[] = {0, 1, 9, -5, 100};
    struct rng rng;
    rng_seed(&rng, 3);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t *plain = malloc(sizes[i] + 1);
        for (int shape = 0; shape < 3; shape++) {
            if (shape == 0)
                memset(plain, 'x', sizes[i]);
            else
                rng_fill(&rng, plain, sizes[i]);
            for (size_t j = 0; shape == 2 && j < sizes[i]; j++)
                plain[j] &= 0x43;
            for (int codec = BATCH_GZIP; codec <= BATCH_ZSTD; codec++)
                for (int level = 0; level < (sizes[i] < 5000 ? 5 : 1); level++)
                    round_trip((enum batch_compression)codec, levels[level], bytes_of(plain, sizes[i]));
        }
        free(plain);
    }
}

/* 64 MiB of zeros in a small stream: refused at the limit, having allocated no more than about the limit. */
static void test_bombs(void **state)
{
    enum { BOMB = 64 << 20, LIMIT = 100000 };
    uint8_t *zeros = calloc(1, BOMB);
    for (int codec = BATCH_GZIP; codec <= BATCH_ZSTD; codec++) {
        struct buf *packed;
        size_t len;
        assert_int_equal(
            compress_deflate((enum batch_compression)codec, 0, bytes_of(zeros, BOMB), 0, &packed), 0);
        uint64_t before = mem_allocation_count();
        assert_int_equal(
            inflate_len((enum batch_compression)codec, bytes_of(packed->data, packed->len), LIMIT, &len),
            CLYMQ_ETOOBIG);
        assert_true(mem_allocation_count() - before <= 6);
        buf_unref(packed);
    }
    free(zeros);
}

static void test_claims_that_are_not_believed(void **state)
{
    static const struct {
        enum batch_compression codec;
        const char *hex;
    } cases[] = {
        {BATCH_SNAPPY, "ffffffff0f 00"},                                  /* 4 GiB - 1 from a byte */
        {BATCH_SNAPPY, "82534e4150505900 00000001 00000001 7fffffff 00"}, /* a block beyond the end */
        {BATCH_SNAPPY, "82534e4150505900 00000001 00000001 ffffffff 00"}, /* a negative length */
        {BATCH_SNAPPY, "82534e4150505900 00000001 00000001 000000"},
        {BATCH_SNAPPY, "82534e4150505900 00000001 00000001 00000000"}, /* an empty block has a length */
        {BATCH_SNAPPY, ""},
        {BATCH_ZSTD, "28b52ffd e0 ffffffffffffff00 010000"},             /* a content size of 2^56 - 1 */
        {BATCH_ZSTD, "28b52ffd 00 f8 010000"},                           /* a window of 2^41 */
        {BATCH_ZSTD, "28b52ffd 00 98 010000"},                           /* a window of 512 MiB */
        {BATCH_ZSTD, "27b52ffd 84 84848484 84848484 84848484 84848484"}, /* zstd 0.7, a window of 96 MiB */
        {BATCH_ZSTD, "502a4d18 00000000"},                               /* a skippable frame */
        {BATCH_LZ4, "04224d18 6c40 ffffffffffffff00 00 00000000"},
        {BATCH_NONE, "00"},
        {(enum batch_compression)5, "00"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct bytes in = hex_decode(cases[i].hex);
        size_t len;
        int error = inflate_len(cases[i].codec, in, SIZE_MAX, &len);
        if (error != CLYMQ_ECOMPRESSION)
            fail_msg("case %zu: %s", i, error_name(error));
        bytes_free(in);
    }
    struct buf *buf = NULL;
    assert_int_equal(compress_deflate(BATCH_NONE, 0, BYTES_LITERAL("a"), 0, &buf), CLYMQ_ECOMPRESSION);
    assert_int_equal(compress_deflate((enum batch_compression)7, 0, BYTES_LITERAL("a"), 0, &buf),
                     CLYMQ_ECOMPRESSION);
    assert_int_equal(compress_deflate(BATCH_GZIP, 0, bytes_of("", (size_t)INT32_MAX + 1), 0, &buf),
                     CLYMQ_ETOOBIG);
    assert_null(buf);
}

static void test_damage(void **state)
{
    for (uint64_t seed = 0; seed < 5000; seed++) {
        struct rng rng;
        rng_seed(&rng, seed);
        int which = (int)rng_below(&rng, GOLDEN_COUNT);
        struct bytes in = hex_decode(golden[which].hex);
        for (uint64_t changes = rng_below(&rng, 3) + 1; changes > 0; changes--)
            ((uint8_t *)(uintptr_t)in.ptr)[rng_below(&rng, in.len)] = (uint8_t)rng_next(&rng);
        size_t len = 0;
        int error = inflate_len(golden[which].codec, in, 10000, &len);
        assert_true(error == 0 || error == CLYMQ_ECOMPRESSION || error == CLYMQ_ETOOBIG);
        assert_true(len <= 10000);
        bytes_free(in);
    }
}

static void test_failed_allocations(void **state)
{
    uint8_t plain[60000] = {0};
    for (int codec = BATCH_GZIP; codec <= BATCH_ZSTD; codec++) {
        for (uint64_t nth = 1;; nth++) {
            struct buf *packed = NULL;
            uint64_t live = mem_live_bytes();
            size_t len;
            mem_fail_nth(nth);
            int error = compress_deflate((enum batch_compression)codec, 0, bytes_of(plain, sizeof(plain)), 0,
                                         &packed);
            if (!error)
                error = inflate_len((enum batch_compression)codec, bytes_of(packed->data, packed->len), MAX,
                                    &len);
            buf_unref(packed);
            int failed = mem_failed();
            mem_fail_nth(0);
            assert_int_equal(mem_live_bytes(), live);
            assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
            if (!failed) {
                assert_true(nth > 2);
                break;
            }
        }
    }
}

static void *compress_in_a_thread(void *unused)
{
    round_trip(BATCH_ZSTD, 3, BYTES_LITERAL(LINES));
    return NULL;
}

/* What a thread keeps for zstd is freed with it: the leak checker of an ASan build would tell. */
static void test_threads_free_their_contexts(void **state)
{
    for (int i = 0; i < 3; i++) {
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, compress_in_a_thread, NULL), 0);
        assert_int_equal(pthread_join(thread, NULL), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_of_others),
        cmocka_unit_test(test_round_trips),
        cmocka_unit_test(test_bombs),
        cmocka_unit_test(test_claims_that_are_not_believed),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_threads_free_their_contexts),
        cmocka_unit_test(test_failed_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
