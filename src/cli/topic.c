/* clymq topic create | set | list | describe | delete. */
#include <inttypes.h>
#include <jansson.h>
#include <string.h>

#include "cli/cli.h"

struct topic_values {
    struct cli_common common;
    int64_t partitions, replicas, ack, retention, retention_bytes, segment_bytes, segment_age;
    char *config;
    bool yes;
};
#define AT(field) offsetof(struct topic_values, field)

/* A topic's options; `zero` says what 0 means. */
#define OPTION_FLAGS(zero)                                                                                   \
    {.name = "retention",                                                                                    \
     .type = OPTION_DURATION_MS,                                                                             \
     .offset = AT(retention),                                                                                \
     .fallback = "0",                                                                                        \
     .min = 0,                                                                                               \
     .section = "Topic",                                                                                     \
     .help = "How long messages are kept, such as 7d; " zero},                                               \
        {.name = "retention_bytes",                                                                          \
         .type = OPTION_SIZE,                                                                                \
         .offset = AT(retention_bytes),                                                                      \
         .fallback = "0",                                                                                    \
         .min = 0,                                                                                           \
         .section = "Topic",                                                                                 \
         .help = "How much each partition keeps, such as 10G; " zero},                                       \
        {.name = "segment_bytes",                                                                            \
         .type = OPTION_SIZE,                                                                                \
         .offset = AT(segment_bytes),                                                                        \
         .fallback = "0",                                                                                    \
         .min = 0,                                                                                           \
         .section = "Topic",                                                                                 \
         .help = "Size of a log file; " zero},                                                               \
        {.name = "segment_age",                                                                              \
         .type = OPTION_DURATION_MS,                                                                         \
         .offset = AT(segment_age),                                                                          \
         .fallback = "0",                                                                                    \
         .min = 0,                                                                                           \
         .section = "Topic",                                                                                 \
         .help = "Age at which a log file is closed, such as 1d; " zero},                                    \
    {                                                                                                        \
        .name = "config", .type = OPTION_TEXT, .offset = AT(config), .section = "Topic",                     \
        .placeholder = "JSON", .help = "Options as a JSON object, instead of the four before."               \
    }

/* ---- create ---- */

static const struct option create_table[] = {
    {.name = "partitions",
     .type = OPTION_INT,
     .offset = AT(partitions),
     .fallback = "1",
     .min = 0,
     .max = 1000000,
     .section = "Topic",
     .help = "How many partitions to make, named 0, 1, 2 …"},
    {.name = "replicas",
     .type = OPTION_INT,
     .offset = AT(replicas),
     .min = 0,
     .max = 127,
     .section = "Topic",
     .help = "Copies of each partition; 0 is the server's default."},
    {.name = "ack",
     .type = OPTION_INT,
     .offset = AT(ack),
     .fallback = "-1",
     .min = -1,
     .max = 1,
     .section = "Topic",
     .placeholder = "-1|1|0",
     .help =
         "When a message counts as stored: -1 on disk at a majority, 1 written by the leader, 0 received."},
    OPTION_FLAGS("0 is the server's default."),
    CLI_COMMON_OPTIONS(struct topic_values),
    {0},
};

/* The topic's options that were given, as JSON; empty if there are none. */
static void options_json(const struct topic_values *values, struct strbuf *config)
{
    const struct {
        const char *name;
        int64_t value;
    } rows[] = {{"retention_ms", values->retention},
                {"retention_bytes", values->retention_bytes},
                {"segment_bytes", values->segment_bytes},
                {"segment_ms", values->segment_age}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
        if (rows[i].value)
            strbuf_printf(config, "%s\"%s\":%" PRId64, config->len ? "," : "{", rows[i].name, rows[i].value);
    if (config->len)
        strbuf_append_text(config, "}");
}

/* Tells that something was done, in words or as JSON. */
static int told(const struct topic_values *values, const char *what, const char *topic)
{
    if (values->common.json) {
        struct strbuf out = {0};
        json_append_text(&out, bytes_of_text(topic));
        printf("{\"topic\":%s,\"%s\":true}\n", out.data ? out.data : "\"\"", what);
        strbuf_free(&out);
    } else {
        printf("topic %s %s\n", topic, what);
    }
    return cli_finish_output(CLI_OK);
}

static int both_given(void)
{
    return cli_usage("give --config, or --retention, --retention-bytes, --segment-bytes and --segment-age");
}

static int create_run(void *values_ptr, int argc, char **argv)
{
    struct topic_values *values = values_ptr;
    struct strbuf config = {0};
    options_json(values, &config);
    if (config.len && values->config) {
        strbuf_free(&config);
        return both_given();
    }
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (!code) {
        clymq_topic_options options = {
            .partitions = (int)values->partitions,
            .replicas = (int)values->replicas,
            .ack_level = (int)values->ack,
            .config_json = values->config ? values->config : config.data,
        };
        code =
            clymq_topic_create(client, argv[0], &options) ? cli_failed() : told(values, "created", argv[0]);
        clymq_client_free(client);
    }
    strbuf_free(&config);
    return code;
}

const struct cli_command cli_topic_create = {
    .name = "topic create",
    .arguments = "TOPIC",
    .summary = "Make a topic.",
    .details = "Examples:\n"
               "  clymq topic create orders --partitions 8\n"
               "  clymq topic create logs --partitions 4 --ack 1 --retention 7d --retention-bytes 20G\n",
    .table = create_table,
    .values_size = sizeof(struct topic_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = create_run,
};

/* ---- set ---- */

static const struct option set_table[] = {
    OPTION_FLAGS("0 leaves it."),
    CLI_COMMON_OPTIONS(struct topic_values),
    {0},
};

static int set_run(void *values_ptr, int argc, char **argv)
{
    struct topic_values *values = values_ptr;
    struct strbuf config = {0};
    options_json(values, &config);
    if ((config.len != 0) == (values->config != NULL)) {
        bool both = config.len;
        strbuf_free(&config);
        return both ? both_given() : cli_usage("name an option to change, such as --retention 7d");
    }
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (!code) {
        const char *json = values->config ? values->config : config.data;
        code = clymq_topic_set(client, argv[0], json) ? cli_failed() : told(values, "changed", argv[0]);
        clymq_client_free(client);
    }
    strbuf_free(&config);
    return code;
}

const struct cli_command cli_topic_set = {
    .name = "topic set",
    .arguments = "TOPIC",
    .summary = "Change a topic's options; those not named stay.",
    .details =
        "Log files that are closed already stay as long as they are. In --config, null goes back to the\n"
        "server's default, and -1 means no limit of retention.\n"
        "Examples:\n"
        "  clymq topic set orders --retention 7d --segment-bytes 64M\n"
        "  clymq topic set orders --config '{\"retention_ms\":null}'\n",
    .table = set_table,
    .values_size = sizeof(struct topic_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = set_run,
};

/* ---- list ---- */

static const struct option plain_table[] = {
    CLI_COMMON_OPTIONS(struct topic_values),
    {0},
};

static void list_print(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    const json_t *topics = json_object_get(root, "topics");
    for (size_t i = 0; i < json_array_size(topics); i++) {
        const json_t *topic = json_array_get(topics, i);
        const json_t *partitions = json_object_get(topic, "partitions");
        const char *name = json_string_value(json_object_get(topic, "name"));
        json_int_t count = json_is_array(partitions) ? (json_int_t)json_array_size(partitions)
                                                     : json_integer_value(partitions);
        printf("%s\t%" JSON_INTEGER_FORMAT "\n", name ? name : "?", count);
    }
    json_decref(root);
}

/* Prints an answer: as it is with --json, else as `print` does. Takes it over; returns the exit code. */
static int print_answer(const struct topic_values *values, char *text, void (*print)(const char *text))
{
    cli_waiting_over(); /* a slow reader is not waited for by us */
    if (values->common.json)
        printf("%s\n", text);
    else
        print(text);
    clymq_string_free(text);
    return cli_finish_output(CLI_OK);
}

static int list_run(void *values_ptr, int argc, char **argv)
{
    struct topic_values *values = values_ptr;
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    char *text;
    code = clymq_topic_list_json(client, argc > 0 ? argv[0] : "", &text)
               ? cli_failed()
               : print_answer(values, text, list_print);
    clymq_client_free(client);
    return code;
}

const struct cli_command cli_topic_list = {
    .name = "topic list",
    .arguments = "[PREFIX]",
    .summary = "List topics, one a line: name, tab, number of partitions.",
    .details = "Examples:\n  clymq topic list\n  clymq topic list logs- --json\n",
    .table = plain_table,
    .values_size = sizeof(struct topic_values),
    .arguments_min = 0,
    .arguments_max = 1,
    .run = list_run,
};

/* ---- describe ---- */

static void describe_print(const char *text)
{
    json_t *root = json_loads(text, 0, NULL);
    const char *name = json_string_value(json_object_get(root, "name"));
    const char *id = json_string_value(json_object_get(root, "id"));
    const json_t *partitions = json_object_get(root, "partitions");
    char *config = json_dumps(json_object_get(root, "config"), JSON_COMPACT | JSON_ENCODE_ANY);
    printf("topic %s\nid %s\nconfig %s\npartitions %zu\n", name ? name : "?", id ? id : "?",
           config ? config : "{}", json_array_size(partitions));
    free(config);
    if (json_array_size(partitions))
        printf("%-8s %-20s %4s %9s %7s  %s\n", "NUMBER", "NAME", "ACK", "REPLICAS", "BLOCKS", "LEADER");
    for (size_t i = 0; i < json_array_size(partitions); i++) {
        const json_t *partition = json_array_get(partitions, i);
        const json_t *leader = json_object_get(partition, "leader");
        const char *partition_name = json_string_value(json_object_get(partition, "name"));
        const char *address = json_string_value(json_object_get(leader, "address"));
        const json_t *broker = json_object_get(leader, "id");
        char number[32] = "";
        if (json_is_integer(broker))
            snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT, json_integer_value(broker));
        const char *broker_name = json_is_string(broker) ? json_string_value(broker) : number;
        printf("%-8" JSON_INTEGER_FORMAT " %-20s %4" JSON_INTEGER_FORMAT " %9" JSON_INTEGER_FORMAT
               " %7zu  %s%s%s\n",
               json_integer_value(json_object_get(partition, "number")),
               partition_name ? partition_name : "?", json_integer_value(json_object_get(partition, "ack")),
               json_integer_value(json_object_get(partition, "replicas")),
               json_array_size(json_object_get(partition, "blocks")), address ? broker_name : "none",
               address ? "@" : "", address ? address : "");
    }
    json_decref(root);
}

static int describe_run(void *values_ptr, int argc, char **argv)
{
    struct topic_values *values = values_ptr;
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    char *text;
    code = clymq_topic_describe_json(client, argv[0], &text) ? cli_failed()
                                                             : print_answer(values, text, describe_print);
    clymq_client_free(client);
    return code;
}

const struct cli_command cli_topic_describe = {
    .name = "topic describe",
    .arguments = "TOPIC",
    .summary = "Show a topic's options, partitions and where they are.",
    .details = "Examples:\n  clymq topic describe orders\n  clymq topic describe orders --json\n",
    .table = plain_table,
    .values_size = sizeof(struct topic_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = describe_run,
};

/* ---- delete ---- */

static const struct option delete_table[] = {
    {.name = "yes",
     .type = OPTION_BOOL,
     .offset = AT(yes),
     .section = "Topic",
     .help = "Do not ask. On a terminal the topic's name must be typed otherwise."},
    CLI_COMMON_OPTIONS(struct topic_values),
    {0},
};

static int delete_run(void *values_ptr, int argc, char **argv)
{
    struct topic_values *values = values_ptr;
    if (!values->yes && !cli_confirmed(argv[0], "This deletes all messages of topic %s for good.", argv[0]))
        return CLI_FAILED;
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    code = clymq_topic_delete(client, argv[0]) ? cli_failed() : told(values, "deleted", argv[0]);
    clymq_client_free(client);
    return code;
}

const struct cli_command cli_topic_delete = {
    .name = "topic delete",
    .arguments = "TOPIC",
    .summary = "Delete a topic and all its messages.",
    .details = "Examples:\n  clymq topic delete orders --yes\n",
    .table = delete_table,
    .values_size = sizeof(struct topic_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = delete_run,
};
