/* Lists and descriptions of topics, as JSON texts. */
#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "coord/coordinator.h"

struct question {
    struct op op;
    char *text; /* prefix or topic */
    struct strbuf json;
};

static int compare_topics(const void *a, const void *b)
{
    const struct registry_topic *const *left = a, *const *right = b;
    return bytes_compare(bytes_of_text((*left)->name), bytes_of_text((*right)->name));
}

static uint32_t usable_partitions(const struct registry_topic *topic)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < topic->partition_count; i++)
        count += topic->partitions[i]->state == STATE_READY;
    return count;
}

static void write_id(struct strbuf *out, struct uuid id)
{
    char text[33];
    uuid_format(id, text);
    strbuf_printf(out, "\"id\":\"%s\"", text);
}

static void list_begin(struct op *op)
{
    struct question *question = (struct question *)op;
    const struct registry *registry = &op->task.coord->registry;
    struct registry_topic **topics = mem_calloc(map_count(registry->topics), sizeof(struct registry_topic *));
    if (!topics) {
        op_finish_plain(op, CLYMQ_ENOMEM);
        return;
    }
    size_t count = 0, at = 0;
    struct map_entry *entry;
    while ((entry = map_next(registry->topics, &at))) {
        struct registry_topic *topic = entry->value;
        if (topic->state == STATE_READY && strncmp(topic->name, question->text, strlen(question->text)) == 0)
            topics[count++] = topic;
    }
    qsort(topics, count, sizeof(struct registry_topic *), compare_topics);
    struct strbuf *json = &question->json;
    strbuf_append_text(json, "{\"topics\":[");
    for (size_t i = 0; i < count; i++) {
        strbuf_append_text(json, i ? ",{\"name\":" : "{\"name\":");
        codec_write_string(json, topics[i]->name);
        strbuf_append_text(json, ",");
        write_id(json, topics[i]->id);
        strbuf_printf(json, ",\"partitions\":%u}", usable_partitions(topics[i]));
    }
    strbuf_append_text(json, "]}");
    mem_free(topics);
    op_finish_plain(op, json->failed ? CLYMQ_ENOMEM : 0);
}

static void write_block(struct strbuf *out, const struct coord *coord, const struct coord_block *block)
{
    strbuf_printf(out, "{\"seq\":%u,", block->seq);
    write_id(out, block->id);
    strbuf_printf(out, ",\"state\":\"%s\",\"round\":%u,\"start\":", coord_block_state_name(block->state),
                  block->round);
    if (block->start >= 0)
        strbuf_printf(out, "%lld,\"end\":", (long long)block->start);
    else
        strbuf_append_text(out, "null,\"end\":");
    if (block->end >= 0)
        strbuf_printf(out, "%lld", (long long)block->end);
    else
        strbuf_append_text(out, "null");
    strbuf_printf(out, ",\"base_epoch\":%u,\"ack\":%d,\"leader\":", block->base_epoch, block->ack);
    codec_write_string(out, coord->registry.brokers[block->leader]->id);
    strbuf_append_text(out, "}");
}

static void write_partition(struct strbuf *out, const struct coord *coord,
                            const struct registry_partition *partition)
{
    strbuf_append_text(out, "{\"name\":");
    codec_write_string(out, partition->name);
    strbuf_printf(out, ",\"number\":%u,\"ack\":%d,\"replicas\":%u,\"leader\":", partition->number,
                  partition_ack(partition), partition->replicas);
    const struct coord_block *last = partition_last_block(partition);
    const struct registry_broker *broker = last ? coord->registry.brokers[last->leader] : NULL;
    if (partition_is_open(partition) && broker && broker->live) {
        strbuf_append_text(out, "{\"id\":");
        codec_write_string(out, broker->id);
        strbuf_append_text(out, ",\"address\":");
        codec_write_string(out, broker->address);
        strbuf_append_text(out, "}");
    } else {
        strbuf_append_text(out, "null");
    }
    strbuf_append_text(out, ",\"blocks\":[");
    assert(partition->blocks || partition->block_count == 0);
    for (uint32_t i = 0; i < partition->block_count; i++) {
        if (i)
            strbuf_append_text(out, ",");
        write_block(out, coord, &partition->blocks[i]);
    }
    strbuf_append_text(out, "]}");
}

static void describe_begin(struct op *op)
{
    struct question *question = (struct question *)op;
    const struct coord *coord = op->task.coord;
    const struct registry_topic *topic = coord_topic(coord, question->text);
    if (!topic) {
        op_finish(op, CLYMQ_ETOPIC_UNKNOWN, "unknown topic %s: create it first (clymq topic create)",
                  question->text);
        return;
    }
    struct strbuf *json = &question->json;
    strbuf_append_text(json, "{\"name\":");
    codec_write_string(json, topic->name);
    strbuf_append_text(json, ",");
    write_id(json, topic->id);
    strbuf_append_text(json, ",\"config\":");
    codec_write_config(json, &topic->config);
    strbuf_append_text(json, ",\"partitions\":[");
    bool first = true;
    for (uint32_t i = 0; i < topic->partition_count; i++) {
        if (topic->partitions[i]->state != STATE_READY)
            continue;
        if (!first)
            strbuf_append_text(json, ",");
        first = false;
        write_partition(json, coord, topic->partitions[i]);
    }
    strbuf_append_text(json, "]}");
    op_finish_plain(op, json->failed ? CLYMQ_ENOMEM : 0);
}

static void question_answer(struct op *op, int error, const char *sentence)
{
    struct question *question = (struct question *)op;
    coord_text_done done = (coord_text_done)op->user_done;
    done(op->user_ctx, error, sentence,
         error ? (struct bytes){0} : bytes_of(question->json.data, question->json.len));
}

static void question_free(struct op *op)
{
    mem_free(((struct question *)op)->text);
    strbuf_free(&((struct question *)op)->json);
}

static void ask(struct coord *coord, const char *text, void (*begin)(struct op *op), coord_text_done done,
                void *ctx)
{
    struct question *question = mem_zalloc(sizeof(*question));
    char *copy = question ? mem_strdup(text) : NULL;
    if (!copy) {
        mem_free(question);
        done(ctx, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM), (struct bytes){0});
        return;
    }
    question->text = copy;
    question->op.begin = begin;
    question->op.answer = question_answer;
    question->op.free_parts = question_free;
    question->op.user_done = (void (*)(void))done;
    question->op.user_ctx = ctx;
    op_submit(coord, &question->op, "questions");
}

void coord_list_topics(struct coord *coord, const char *prefix, coord_text_done done, void *ctx)
{
    ask(coord, prefix, list_begin, done, ctx);
}

void coord_describe_topic(struct coord *coord, const char *topic, coord_text_done done, void *ctx)
{
    ask(coord, topic, describe_begin, done, ctx);
}
