/* The JSON of metadata nodes: what is written is read again; what is wrong is told; bytes at random never do
 * harm. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "coord/codec.h"

static struct bytes text(const struct strbuf *json)
{
    assert_false(json->failed);
    return bytes_of(json->data, json->len);
}

static void test_topic(void **state)
{
    struct coord_topic_config config;
    assert_int_equal(codec_read_config((struct bytes){0}, &config, NULL), 0);
    config.retention_ms = -1;
    config.segment_bytes = 1 << 20;
    struct strbuf json = {0};
    codec_write_topic(&json, (struct uuid){{1, 2, 3}}, STATE_CREATING, 17, &config);
    assert_string_equal(
        json.data, "{\"id\":\"01020300000000000000000000000000\",\"state\":\"creating\",\"next_number\":17,"
                   "\"config\":{\"retention_ms\":-1,\"segment_bytes\":1048576}}");
    struct codec_topic topic;
    assert_int_equal(codec_read_topic(text(&json), &topic), 0);
    assert_int_equal(topic.id.byte[2], 3);
    assert_int_equal(topic.state, STATE_CREATING);
    assert_int_equal(topic.next_number, 17);
    assert_int_equal(topic.config.retention_ms, -1);
    assert_true(topic.config.retention_bytes == COORD_OPTION_UNSET);
    strbuf_free(&json);
}

static void test_partition_and_block(void **state)
{
    struct strbuf json = {0};
    struct codec_partition partition = {.number = 4,
                                        .state = STATE_READY,
                                        .ack = COORD_ACK_UNSET,
                                        .replicas = 3},
                           back;
    codec_write_partition(&json, &partition);
    assert_string_equal(json.data, "{\"number\":4,\"state\":\"ready\",\"replicas\":3}");
    assert_int_equal(codec_read_partition(text(&json), &back), 0);
    assert_memory_equal(&partition, &back, sizeof(back));
    strbuf_free(&json);

    struct coord_block block = {.id = {{9}},
                                .seq = 2,
                                .state = COORD_BLOCK_SEALED,
                                .ack = 1,
                                .round = 3,
                                .base_epoch = 7,
                                .start = 10,
                                .end = INT64_MAX};
    codec_write_block(&json, &block, "北京\"1\\\n");
    struct coord_block read;
    char *leader;
    assert_int_equal(codec_read_block(text(&json), &read, &leader), 0);
    assert_string_equal(leader, "北京\"1\\\n");
    mem_free(leader);
    block.seq = 0; /* the node's name */
    assert_memory_equal(&block.id, &read.id, sizeof(read.id));
    assert_int_equal(read.state, block.state);
    assert_int_equal(read.ack, 1);
    assert_int_equal(read.round, 3);
    assert_int_equal(read.base_epoch, 7);
    assert_int_equal(read.start, 10);
    assert_true(read.end == INT64_MAX);
    strbuf_free(&json);
}

static void test_strings(void **state)
{
    struct strbuf json = {0};
    codec_write_string(&json, "a\"\\\x01\x7f\xff\xe5\x8c\x97\xe5z\xed\xa0\x80");
    assert_string_equal(
        json.data, "\"a\\\"\\\\\\u0001\\u007f\xef\xbf\xbd\xe5\x8c\x97\xef\xbf\xbdz\xef\xbf\xbd\xef\xbf\xbd"
                   "\xef\xbf\xbd\"");
    strbuf_free(&json);
}

static void refuse_config(const char *json, const char *expected)
{
    struct coord_topic_config config = {.retention_ms = 123};
    struct strbuf why = {0};
    assert_int_equal(codec_read_config(bytes_of_text(json), &config, &why), CLYMQ_EINVAL);
    assert_int_equal(config.retention_ms, 123);
    assert_non_null(why.data);
    if (!strstr(why.data, expected))
        fail_msg("\"%s\" lacks \"%s\"", why.data, expected);
    strbuf_free(&why);
}

static void test_config(void **state)
{
    struct coord_topic_config config;
    struct strbuf why = {0};
    static const char *const good[] = {"", "{}", "{\"retention_ms\":null}"};
    for (int i = 0; i < 3; i++) {
        assert_int_equal(codec_read_config(bytes_of_text(good[i]), &config, &why), 0);
        assert_true(config.retention_ms == COORD_OPTION_UNSET && config.segment_ms == COORD_OPTION_UNSET);
    }
    assert_int_equal(
        codec_read_config(BYTES_LITERAL("{\"retention_bytes\":0,\"segment_ms\":1000}"), &config, &why), 0);
    assert_int_equal(config.retention_bytes, 0);
    assert_int_equal(config.segment_ms, 1000);
    assert_int_equal(why.len, 0);
    refuse_config("{", "no JSON");
    refuse_config("[]", "object");
    refuse_config("7", "JSON");
    refuse_config("{\"retention_ms\":-2}", "retention_ms");
    refuse_config("{\"retention_ms\":1.5}", "whole number");
    refuse_config("{\"retention_ms\":\"1\"}", "whole number");
    refuse_config("{\"segment_bytes\":1000}", "1048576");
    refuse_config("{\"segment_bytes\":99999999999999999999999}", "");
    refuse_config("{\"colour\":1}", "unknown topic option \"colour\"");
    refuse_config("{\"segment_ms\":1000,\"segment_ms\":1000}", "JSON");
    char *big = mem_alloc(CODEC_CONFIG_BYTES_MAX + 2);
    memset(big, ' ', CODEC_CONFIG_BYTES_MAX + 1);
    big[CODEC_CONFIG_BYTES_MAX + 1] = '\0';
    refuse_config(big, "longer");
    mem_free(big);
}

static void test_wrong_values(void **state)
{
    struct uuid id;
    struct codec_partition partition;
    struct coord_block block;
    char *leader;
    int64_t epoch;
    assert_int_equal(codec_read_cluster(BYTES_LITERAL("{\"id\":\"00\",\"format\":1}"), &id), CLYMQ_ECORRUPT);
    assert_int_equal(
        codec_read_cluster(BYTES_LITERAL("{\"id\":\"01020300000000000000000000000000\",\"format\":2}"), &id),
        CLYMQ_EFORMAT);
    assert_int_equal(codec_read_epoch(BYTES_LITERAL("{\"epoch\":-1}"), &epoch), CLYMQ_ECORRUPT);
    assert_int_equal(codec_read_epoch(BYTES_LITERAL(""), &epoch), CLYMQ_ECORRUPT);
    static const char *const partitions[] = {"{\"number\":0,\"state\":\"creating\",\"replicas\":1}",
                                             "{\"number\":-1,\"state\":\"ready\",\"replicas\":1}",
                                             "{\"number\":0,\"state\":\"ready\",\"replicas\":0}",
                                             "{\"number\":0,\"state\":\"ready\",\"replicas\":1,\"ack\":2}",
                                             "{\"number\":4294967295,\"state\":\"ready\",\"replicas\":1}"};
    for (size_t i = 0; i < sizeof(partitions) / sizeof(partitions[0]); i++)
        assert_int_equal(codec_read_partition(bytes_of_text(partitions[i]), &partition), CLYMQ_ECORRUPT);
#define BLOCK(rest)                                                                                          \
    "{\"id\":\"01020300000000000000000000000000\",\"base_epoch\":0,\"ack\":1,\"round\":0," rest "}"
    assert_int_equal(codec_read_block(BYTES_LITERAL(BLOCK("\"state\":\"open\",\"start\":0,\"leader\":\"1\"")),
                                      &block, &leader),
                     0);
    mem_free(leader);
    static const char *const blocks[] = {BLOCK("\"state\":\"open\",\"leader\":\"1\""),
                                         BLOCK("\"state\":\"open\",\"start\":0,\"end\":1,\"leader\":\"1\""),
                                         BLOCK("\"state\":\"sealed\",\"start\":5,\"end\":4,\"leader\":\"1\""),
                                         BLOCK("\"state\":\"sealed\",\"start\":5,\"leader\":\"1\""),
                                         BLOCK("\"state\":\"open\",\"start\":0"),
                                         BLOCK("\"state\":\"new\",\"start\":0,\"leader\":\"1\"")};
    for (size_t i = 0; i < sizeof(blocks) / sizeof(blocks[0]); i++)
        assert_int_equal(codec_read_block(bytes_of_text(blocks[i]), &block, &leader), CLYMQ_ECORRUPT);
}

/* Mutations of good texts through every reader. */
static void test_random_bytes(void **state)
{
    static const char block[] = BLOCK("\"state\":\"sealed\",\"start\":5,\"end\":7,\"leader\":\"1\"");
    static const char partition_record[] = "{\"number\":0,\"state\":\"ready\",\"replicas\":1,\"ack\":-1}";
    static const char topic_record[] = "{\"id\":\"01020300000000000000000000000000\",\"state\":\"ready\","
                                       "\"next_number\":1,\"config\":{\"retention_ms\":5}}";
    static const char cluster[] = "{\"id\":\"01020300000000000000000000000000\",\"format\":1}";
    static const char *const seeds[] = {block, partition_record, topic_record, cluster};
    struct rng rng;
    rng_seed(&rng, 3);
    for (int round = 0; round < 20000; round++) {
        char json[256];
        size_t len = strlen(strcpy(json, seeds[round % 4]));
        for (uint64_t i = rng_below(&rng, 4); i-- > 0;)
            json[rng_below(&rng, len)] = (char)rng_next(&rng);
        if (rng_chance(&rng, 1, 4))
            len = rng_below(&rng, len);
        struct uuid id;
        struct codec_topic topic;
        struct codec_partition partition;
        struct coord_block read;
        struct coord_topic_config config;
        struct strbuf why = {0};
        char *leader = NULL;
        (void)codec_read_cluster(bytes_of(json, len), &id);
        (void)codec_read_topic(bytes_of(json, len), &topic);
        (void)codec_read_partition(bytes_of(json, len), &partition);
        if (codec_read_block(bytes_of(json, len), &read, &leader) == 0)
            mem_free(leader);
        (void)codec_read_config(bytes_of(json, len), &config, &why);
        strbuf_free(&why);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_topic),        cmocka_unit_test(test_partition_and_block),
        cmocka_unit_test(test_strings),      cmocka_unit_test(test_config),
        cmocka_unit_test(test_wrong_values), cmocka_unit_test(test_random_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
