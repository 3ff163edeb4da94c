/* Topics, partitions and offsets of the public API: one call each, which blocks until it is answered. */
#include <stdio.h>
#include <string.h>

#include "base/mem.h"
#include "base/utf8.h"
#include "client/api.h"

struct admin {
    struct api_task task;
    struct core_call call;
    int error;
    char *text; /* the answer's JSON, where wants_text */
    int64_t offset;
    char sentence[sizeof(((struct core_call *)0)->sentence)];
};

static void admin_answer(struct admin *admin, const void *answer)
{
    struct bytes text = {0};
    switch (admin->call.method) {
    case RPC_METHOD_LIST_TOPICS:
        text = ((const struct rpc_list_topics_response *)answer)->topics;
        break;
    case RPC_METHOD_DESCRIBE_TOPIC:
        text = ((const struct rpc_describe_topic_response *)answer)->topic;
        break;
    case RPC_METHOD_LIST_OFFSET:
        admin->offset = ((const struct rpc_list_offset_response *)answer)->offset;
        return;
    default:
        return;
    }
    admin->text = mem_strndup(text.ptr ? (const void *)text.ptr : "", text.len);
    if (!admin->text)
        admin->error = CLYMQ_ENOMEM;
}

static void admin_done(struct core_call *call, int error, const void *answer, const char *sentence)
{
    struct admin *admin = call->ctx;
    admin->error = error;
    memcpy(admin->sentence, sentence, strlen(sentence) + 1);
    if (!error)
        admin_answer(admin, answer);
    api_task_end(&admin->task);
}

static void admin_run(struct api_task *task)
{
    struct admin *admin = CONTAINER_OF(task, struct admin, task);
    admin->call.done = admin_done;
    admin->call.ctx = admin;
    admin->call.unreachable_ms = CORE_UNREACHABLE_MS;
    admin->error = core_call_start(task->client->core, &admin->call);
    if (admin->error)
        api_task_end(task);
}

/* Makes the call that is filled in; what names the thing that the call was about, for the sentence. */
static int admin_call(struct clymq_client *client, struct admin *admin, const char *what, const char *name)
{
    int error = api_start(client);
    if (error)
        return error;
    admin->task.run = admin_run;
    error = api_task_run(client, &admin->task, true);
    if (error)
        return error;
    if (admin->error) {
        const char *sentence = admin->sentence[0] ? admin->sentence : error_sentence(admin->error);
        char subject[300] = "";

        if (name)
            snprintf(subject, sizeof(subject), "%s%s", what, name);
        if (strstr(sentence, subject)) /* many of the servers' sentences name it themselves */
            return api_fail(admin->error, "%s", sentence);
        return api_fail(admin->error, "%s: %s", subject, sentence);
    }
    return 0;
}

static int check_name(const char *what, const char *name)
{
    int error = name ? name_check(bytes_of_text(name)) : CLYMQ_ENAME;
    return error ? api_fail(error, "%s \"%.249s\": %s", what, name ? name : "", error_sentence(error)) : 0;
}

int clymq_topic_create(clymq_client *client, const char *topic, const clymq_topic_options *options)
{
    static const clymq_topic_options defaults = CLYMQ_TOPIC_OPTIONS_DEFAULT;
    if (!options)
        options = &defaults;
    int error = check_name("topic", topic);
    if (error)
        return error;
    if (options->ack_level < -1 || options->ack_level > 1)
        return api_fail_plain(CLYMQ_EACK_LEVEL);
    if (options->partitions < 0 || options->replicas < 0 || options->replicas > 127)
        return api_fail(CLYMQ_EINVAL, "topic %s: partitions must be 0 or more, replicas 0 to 127", topic);
    struct rpc_create_topic_request request = {
        .topic = bytes_of_text(topic), .partitions = options->partitions, .ack = (int8_t)options->ack_level};
    const struct thrift_struct *type = rpc_methods[RPC_METHOD_CREATE_TOPIC].request;
    rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, partitions));
    rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, ack));
    if (options->replicas) {
        request.replicas = (int8_t)options->replicas;
        rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, replicas));
    }
    if (options->config_json) {
        request.config = bytes_of_text(options->config_json);
        rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, config));
    }
    struct admin admin = {.call = {.method = RPC_METHOD_CREATE_TOPIC, .request = &request}};
    return admin_call(client, &admin, "topic ", topic);
}

int clymq_topic_delete(clymq_client *client, const char *topic)
{
    int error = check_name("topic", topic);
    if (error)
        return error;
    struct rpc_delete_topic_request request = {.topic = bytes_of_text(topic)};
    struct admin admin = {.call = {.method = RPC_METHOD_DELETE_TOPIC, .request = &request}};
    return admin_call(client, &admin, "topic ", topic);
}

int clymq_topic_set(clymq_client *client, const char *topic, const char *config_json)
{
    int error = check_name("topic", topic);
    if (error)
        return error;
    if (!config_json)
        return api_fail(CLYMQ_EINVAL, "topic %s: config_json must name the options to change", topic);
    struct rpc_set_topic_config_request request = {.topic = bytes_of_text(topic),
                                                   .config = bytes_of_text(config_json)};
    struct admin admin = {.call = {.method = RPC_METHOD_SET_TOPIC_CONFIG, .request = &request}};
    return admin_call(client, &admin, "topic ", topic);
}

int clymq_partition_create(clymq_client *client, const char *topic, const char *partition)
{
    int error = check_name("topic", topic);
    if (!error)
        error = check_name("partition", partition);
    if (error)
        return error;
    struct rpc_create_part_request request = {.topic = bytes_of_text(topic),
                                              .partition = bytes_of_text(partition)};
    struct admin admin = {.call = {.method = RPC_METHOD_CREATE_PART, .request = &request}};
    return admin_call(client, &admin, "partition ", partition);
}

int clymq_partition_set(clymq_client *client, const char *topic, const char *partition, int ack_level,
                        int replicas)
{
    int error = check_name("topic", topic);
    if (!error)
        error = check_name("partition", partition);
    if (error)
        return error;
    if (ack_level < -1 || ack_level > 1)
        return api_fail_plain(CLYMQ_EACK_LEVEL);
    if (replicas < 0 || replicas > 127)
        return api_fail(CLYMQ_EINVAL, "partition %s: replicas must be 0 to 127", partition);
    struct rpc_set_partition_state_request request = {
        .topic = bytes_of_text(topic),
        .partition = bytes_of_text(partition),
        .option = (int8_t)ack_level,
        .dupnum = (int8_t)replicas,
    };
    struct admin admin = {.call = {.method = RPC_METHOD_SET_PARTITION_STATE, .request = &request}};
    return admin_call(client, &admin, "partition ", partition);
}

int clymq_partition_delete(clymq_client *client, const char *topic, const char *partition)
{
    int error = check_name("topic", topic);
    if (!error)
        error = check_name("partition", partition);
    if (error)
        return error;
    struct rpc_delete_part_request request = {.topic = bytes_of_text(topic),
                                              .partition = bytes_of_text(partition)};
    struct admin admin = {.call = {.method = RPC_METHOD_DELETE_PART, .request = &request}};
    return admin_call(client, &admin, "partition ", partition);
}

int clymq_topic_list_json(clymq_client *client, const char *prefix, char **ret_json)
{
    struct rpc_list_topics_request request = {.prefix = bytes_of_text(prefix ? prefix : "")};
    struct admin admin = {.call = {.method = RPC_METHOD_LIST_TOPICS, .request = &request}};
    int error = admin_call(client, &admin, "", NULL);
    if (!error)
        *ret_json = admin.text;
    return error;
}

int clymq_topic_describe_json(clymq_client *client, const char *topic, char **ret_json)
{
    int error = check_name("topic", topic);
    if (error)
        return error;
    struct rpc_describe_topic_request request = {.topic = bytes_of_text(topic)};
    struct admin admin = {.call = {.method = RPC_METHOD_DESCRIBE_TOPIC, .request = &request}};
    error = admin_call(client, &admin, "topic ", topic);
    if (!error)
        *ret_json = admin.text;
    return error;
}

void clymq_string_free(char *text)
{
    mem_free(text);
}

int clymq_offset_find(clymq_client *client, const char *topic, const char *partition, int64_t timestamp_ms,
                      int64_t *ret_offset)
{
    int error = check_name("topic", topic);
    if (!error)
        error = check_name("partition", partition);
    if (error)
        return error;
    if (timestamp_ms < CLYMQ_OFFSET_BEGINNING)
        return api_fail(CLYMQ_EINVAL,
                        "timestamp_ms must be a time, CLYMQ_OFFSET_BEGINNING or CLYMQ_OFFSET_END");
    struct rpc_list_offset_request request = {
        .topic = bytes_of_text(topic), .partition = bytes_of_text(partition), .timestamp_ms = timestamp_ms};
    struct admin admin = {
        .call = {
            .method = RPC_METHOD_LIST_OFFSET, .request = &request, .topic = topic, .partition = partition}};
    error = admin_call(client, &admin, "partition ", partition);
    if (!error)
        *ret_offset = admin.offset;
    return error;
}
