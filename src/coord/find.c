/* Lookups: where a partition, or every partition of a topic, is served. A lookup that must wait stands at one
 * partition at a time, so that ten thousand of them cost nothing until that partition changes. */
#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "coord/coordinator.h"

struct find {
    struct op op;
    struct list link;        /* among a partition's finders */
    char *topic, *partition; /* partition NULL: all */
    struct uuid topic_id;
    uint32_t next_number; /* partitions of lower numbers can be used */
    uint64_t deadline_ns;
    const struct coord_location *locations; /* being answered */
    size_t count;
};

static bool partition_is_usable(const struct coord *coord, const struct registry_partition *partition)
{
    return partition_is_open(partition) &&
           coord->registry.brokers[partition_last_block(partition)->leader]->live;
}

static void fill_location(struct coord *coord, const struct registry_partition *partition,
                          struct coord_location *location, char **ret_text)
{
    const struct coord_block *last = partition_last_block(partition);
    *location = (struct coord_location){
        .partition = partition->name,
        .number = partition->number,
        .sentence = "",
        .leader = {"", "", ""},
        .topic_id = partition->topic->id,
        .ack = partition_ack(partition),
        .block_seq = last ? last->seq : 0,
    };
    if (last && partition_is_usable(coord, partition)) {
        const struct registry_broker *broker = coord->registry.brokers[last->leader];
        location->leader = (struct coord_leader){broker->id, broker->address, broker->name};
        return;
    }
    struct strbuf text = {0};
    strbuf_printf(&text, "partition %s of topic %s is not in service yet: %s", partition->name,
                  partition->topic->name, partition_trouble(coord, partition));
    location->error = CLYMQ_ETIMEDOUT;
    location->sentence = text.failed ? error_sentence(CLYMQ_ETIMEDOUT) : text.data;
    if (text.failed)
        strbuf_free(&text);
    *ret_text = text.data;
}

static void find_finish(struct find *find, struct registry_topic *topic, struct registry_partition *only)
{
    struct coord *coord = find->op.task.coord;
    size_t count = only ? 1 : topic->partition_count, filled = 0;
    struct coord_location *locations = mem_calloc(count, sizeof(*locations));
    char **texts = mem_calloc(count, sizeof(*texts));
    if (!locations || !texts) {
        mem_free(locations);
        mem_free(texts);
        op_finish_plain(&find->op, CLYMQ_ENOMEM);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct registry_partition *partition = only ? only : topic->partitions[i];
        if (partition->state == STATE_READY)
            fill_location(coord, partition, &locations[filled], &texts[filled]);
        filled += partition->state == STATE_READY;
    }
    find->locations = locations;
    find->count = filled;
    int error = only ? locations[0].error : 0;
    if (error)
        op_finish(&find->op, error, "%s", locations[0].sentence);
    else
        op_finish_plain(&find->op, 0);
    for (size_t i = 0; i < filled; i++)
        mem_free(texts[i]);
    mem_free(texts);
    mem_free(locations);
}

/* Waits at a partition until it changes or the time is over. */
static bool find_wait(struct find *find, struct registry_partition *partition)
{
    struct coord *coord = find->op.task.coord;
    uint64_t now_ns = io_loop_now_ns(coord->shard->loop);
    if (now_ns >= find->deadline_ns)
        return false;
    list_remove(&find->link);
    list_push_back(&partition->finders, &find->link);
    /* Rounded up, so that the timer never fires before the deadline. */
    task_pause(&find->op.task, (uint32_t)((find->deadline_ns - now_ns + 999999) / 1000000));
    return true;
}

static void find_one(struct find *find, struct registry_topic *topic)
{
    struct registry_partition *partition = registry_find_partition(topic, find->partition);
    if (!partition || partition->state != STATE_READY)
        op_finish(&find->op, CLYMQ_EPARTITION_UNKNOWN,
                  "unknown partition %s of topic %s: create it first (clymq partition create)",
                  find->partition, find->topic);
    else if (partition_is_usable(find->op.task.coord, partition) || !find_wait(find, partition))
        find_finish(find, topic, partition);
}

static void find_all(struct find *find, struct registry_topic *topic)
{
    for (uint32_t i = 0; i < topic->partition_count; i++) {
        struct registry_partition *partition = topic->partitions[i];
        if (partition->number < find->next_number || partition->state != STATE_READY)
            continue;
        if (!partition_is_usable(find->op.task.coord, partition) && find_wait(find, partition))
            return;
        find->next_number = partition->number + 1;
    }
    find_finish(find, topic, NULL);
}

static void find_step(struct task *task, int error)
{
    struct find *find = (struct find *)task;
    struct coord *coord = task->coord;
    list_remove(&find->link);
    struct registry_topic *topic = coord_topic(coord, find->topic);
    if (!topic || (!uuid_is_none(find->topic_id) && !uuid_equal(topic->id, find->topic_id))) {
        op_finish(&find->op, CLYMQ_ETOPIC_UNKNOWN, "unknown topic %s: create it first (clymq topic create)",
                  find->topic);
        return;
    }
    find->topic_id = topic->id;
    if (find->partition)
        find_one(find, topic);
    else
        find_all(find, topic);
}

static void find_begin(struct op *op)
{
    struct find *find = (struct find *)op;
    op_leave_queue(op);
    if (name_check(bytes_of_text(find->topic)) ||
        (find->partition && name_check(bytes_of_text(find->partition)))) {
        op_finish_plain(op, CLYMQ_ENAME);
        return;
    }
    op->task.step = find_step;
    find_step(&op->task, 0);
}

static void find_answer(struct op *op, int error, const char *sentence)
{
    struct find *find = (struct find *)op;
    coord_find_done done = (coord_find_done)op->user_done;
    done(op->user_ctx, error, sentence, find->locations, find->count);
}

static void find_on_end(struct op *op)
{
    list_remove(&((struct find *)op)->link);
}

static void find_free(struct op *op)
{
    mem_free(((struct find *)op)->topic);
    mem_free(((struct find *)op)->partition);
}

void coord_find_leaders(struct coord *coord, const char *topic, const char *partition, uint32_t timeout_ms,
                        coord_find_done done, void *ctx)
{
    struct find *find = mem_zalloc(sizeof(*find));
    if (find) {
        list_init(&find->link);
        find->topic = mem_strdup(topic);
        find->partition = partition ? mem_strdup(partition) : NULL;
    }
    if (!find || !find->topic || (partition && !find->partition)) {
        if (find)
            find_free(&find->op);
        mem_free(find);
        done(ctx, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM), NULL, 0);
        return;
    }
    find->op.begin = find_begin;
    find->op.answer = find_answer;
    find->op.on_end = find_on_end;
    find->op.free_parts = find_free;
    find->op.user_done = (void (*)(void))done;
    find->op.user_ctx = ctx;
    find->deadline_ns = io_loop_now_ns(coord->shard->loop) + IO_MS((uint64_t)timeout_ms);
    op_submit(coord, &find->op, "questions");
}

void find_notify(struct registry_partition *partition)
{
    struct list *item;
    while ((item = list_pop_front(&partition->finders)))
        task_ready(&CONTAINER_OF(item, struct find, link)->op.task, 0);
}
