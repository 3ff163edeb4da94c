/* The JSON of metadata nodes and of topic options, which clients send: coord/codec.h. */
#include "base/error.h"
#include "base/mem.h"
#include "coord/codec.h"
#include "fuzz.h"

/* What was read is written and read again: the same. */
static void check_topic(const struct codec_topic *topic)
{
    struct strbuf json = {0};
    struct codec_topic again;
    codec_write_topic(&json, topic->id, topic->state, topic->next_number, &topic->config);
    FUZZ_CHECK(!json.failed && codec_read_topic(bytes_of(json.data, json.len), &again) == 0);
    FUZZ_CHECK(again.next_number == topic->next_number &&
               again.config.retention_ms == topic->config.retention_ms);
    strbuf_free(&json);
}

static void check_block(const struct coord_block *block, const char *leader)
{
    struct strbuf json = {0};
    struct coord_block again;
    char *same = NULL;
    codec_write_block(&json, block, leader);
    FUZZ_CHECK(!json.failed && codec_read_block(bytes_of(json.data, json.len), &again, &same) == 0);
    FUZZ_CHECK(again.start == block->start && again.end == block->end && strcmp(same, leader) == 0);
    mem_free(same);
    strbuf_free(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bytes json = fuzz_copy(data, size);
    struct uuid id;
    int64_t epoch;
    struct codec_topic topic;
    struct codec_partition partition;
    struct coord_block block;
    struct coord_topic_config config;
    struct strbuf why = {0};
    char *leader = NULL;
    fuzz_begin();
    (void)codec_read_cluster(json, &id);
    (void)codec_read_epoch(json, &epoch);
    (void)codec_read_partition(json, &partition);
    if (codec_read_topic(json, &topic) == 0)
        check_topic(&topic);
    if (codec_read_block(json, &block, &leader) == 0) {
        check_block(&block, leader);
        mem_free(leader);
    }
    int error = codec_read_config(json, &config, &why);
    FUZZ_CHECK(error == 0 || (error == CLYMQ_EINVAL && why.len > 0));
    strbuf_free(&why);
    /* jansson keeps a value of some 100 bytes for each element, which takes two bytes of text. */
    fuzz_check_memory(65536 + 256 * size);
    fuzz_check_time(size);
    fuzz_free(json);
    return 0;
}
