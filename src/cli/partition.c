/* clymq partition create | set | delete. */
#include <jansson.h>
#include <string.h>

#include "cli/cli.h"

struct partition_values {
    struct cli_common common;
    int64_t replicas;
    int ack; /* of ack_levels */
    bool yes;
};
#define AT(field) offsetof(struct partition_values, field)

#define ACK_CHOICES "unchanged|-1|1|0"
static const int ack_levels[] = {0, -1, 1, 0};
enum { ACK_UNCHANGED = 0 };

static const struct option create_table[] = {
    CLI_COMMON_OPTIONS(struct partition_values),
    {0},
};

static int told(const struct partition_values *values, const char *what, const char *topic,
                const char *partition)
{
    if (values->common.json) {
        struct strbuf out = {0};
        strbuf_append_text(&out, "{\"topic\":");
        json_append_text(&out, bytes_of_text(topic));
        strbuf_append_text(&out, ",\"partition\":");
        json_append_text(&out, bytes_of_text(partition));
        strbuf_printf(&out, ",\"%s\":true}", what);
        printf("%s\n", out.data ? out.data : "");
        strbuf_free(&out);
    } else {
        printf("partition %s of topic %s %s\n", partition, topic, what);
    }
    return cli_finish_output(CLI_OK);
}

static int create_run(void *values_ptr, int argc, char **argv)
{
    struct partition_values *values = values_ptr;
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    code = clymq_partition_create(client, argv[0], argv[1]) ? cli_failed()
                                                            : told(values, "created", argv[0], argv[1]);
    clymq_client_free(client);
    return code;
}

const struct cli_command cli_partition_create = {
    .name = "partition create",
    .arguments = "TOPIC PARTITION",
    .summary = "Add a partition, by name, to a topic.",
    .details = "Examples:\n  clymq partition create orders north\n",
    .table = create_table,
    .values_size = sizeof(struct partition_values),
    .arguments_min = 2,
    .arguments_max = 2,
    .run = create_run,
};

/* ---- set ---- */

static const struct option set_table[] = {
    {.name = "ack",
     .type = OPTION_CHOICE,
     .offset = AT(ack),
     .fallback = "unchanged",
     .choices = ACK_CHOICES,
     .section = "Partition",
     .help = "The most that producers can ask for: on disk, written, or received."},
    {.name = "replicas",
     .type = OPTION_INT,
     .offset = AT(replicas),
     .fallback = "0",
     .min = 0,
     .max = 127,
     .section = "Partition",
     .help = "Copies; 0 leaves the number as it is."},
    CLI_COMMON_OPTIONS(struct partition_values),
    {0},
};

/* The partition's present ack level. 0, or the exit code (told). */
static int find_ack(clymq_client *client, const char *topic, const char *partition, int64_t *ret_ack)
{
    char *text;
    if (clymq_topic_describe_json(client, topic, &text) != 0)
        return cli_failed();
    json_t *root = json_loads(text, 0, NULL);
    clymq_string_free(text);
    const json_t *partitions = json_object_get(root, "partitions");
    int code = CLI_FAILED;
    for (size_t i = 0; code && i < json_array_size(partitions); i++) {
        const json_t *at = json_array_get(partitions, i);
        const char *name = json_string_value(json_object_get(at, "name"));
        if (name && strcmp(name, partition) == 0) {
            *ret_ack = json_integer_value(json_object_get(at, "ack"));
            code = 0;
        }
    }
    json_decref(root);
    if (code)
        cli_complain("unknown partition %s of topic %s: see the names that it has (clymq topic describe)",
                     partition, topic);
    return code;
}

static int set_run(void *values_ptr, int argc, char **argv)
{
    struct partition_values *values = values_ptr;
    if (values->ack == ACK_UNCHANGED && values->replicas == 0)
        return cli_usage("nothing to set: give --ack or --replicas");
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    int64_t ack = ack_levels[values->ack];
    if (values->ack == ACK_UNCHANGED)
        code = find_ack(client, argv[0], argv[1], &ack);
    if (!code)
        code = clymq_partition_set(client, argv[0], argv[1], (int)ack, (int)values->replicas)
                   ? cli_failed()
                   : told(values, "set", argv[0], argv[1]);
    clymq_client_free(client);
    return code;
}

const struct cli_command cli_partition_set = {
    .name = "partition set",
    .arguments = "TOPIC PARTITION",
    .summary = "Change a partition's ack level or number of replicas.",
    .details = "Examples:\n  clymq partition set orders north --ack 1\n  clymq partition set orders north "
               "--replicas 3\n",
    .table = set_table,
    .values_size = sizeof(struct partition_values),
    .arguments_min = 2,
    .arguments_max = 2,
    .run = set_run,
};

/* ---- delete ---- */

static const struct option delete_table[] = {
    {.name = "yes",
     .type = OPTION_BOOL,
     .offset = AT(yes),
     .section = "Partition",
     .help = "Do not ask. On a terminal the partition's name must be typed otherwise."},
    CLI_COMMON_OPTIONS(struct partition_values),
    {0},
};

static int delete_run(void *values_ptr, int argc, char **argv)
{
    struct partition_values *values = values_ptr;
    if (!values->yes &&
        !cli_confirmed(argv[1], "This deletes all messages of partition %s of topic %s for good.", argv[1],
                       argv[0]))
        return CLI_FAILED;
    clymq_client *client;
    int code = cli_connect_to_ask(&values->common, &client);
    if (code)
        return code;
    code = clymq_partition_delete(client, argv[0], argv[1]) ? cli_failed()
                                                            : told(values, "deleted", argv[0], argv[1]);
    clymq_client_free(client);
    return code;
}

const struct cli_command cli_partition_delete = {
    .name = "partition delete",
    .arguments = "TOPIC PARTITION",
    .summary = "Delete a partition and all its messages.",
    .details = "Examples:\n  clymq partition delete orders north --yes\n",
    .table = delete_table,
    .values_size = sizeof(struct partition_values),
    .arguments_min = 2,
    .arguments_max = 2,
    .run = delete_run,
};
