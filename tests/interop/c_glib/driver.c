/* The interop driver on code generated for c_glib and Apache Thrift's library for it (see ../drivers.py).
 * Requests and responses are GObjects, whose fields are properties: they are set and shown by name. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <thrift/c_glib/protocol/thrift_binary_protocol.h>
#include <thrift/c_glib/protocol/thrift_compact_protocol.h>
#include <thrift/c_glib/thrift_application_exception.h>
#include <thrift/c_glib/transport/thrift_buffered_transport.h>
#include <thrift/c_glib/transport/thrift_framed_transport.h>
#include <thrift/c_glib/transport/thrift_socket.h>

#include "server__operations.h"
#include "zk_server__operations.h"

typedef gboolean (*call_fn)(void *client, void **response, const void *request, GError **error);

static const struct method {
    const char *name;
    call_fn call;
    GType (*request)(void), (*response)(void);
} methods[] = {
#define BROKER(name, function, type)                                                                         \
    {                                                                                                        \
#name, (call_fn)server__operations_if_##function, type##_request_get_type, type##_response_get_type  \
    }
#define COORDINATOR(name, function, type)                                                                    \
    {                                                                                                        \
#name, (call_fn)zk_server__operations_if_##function, type##_request_get_type,                        \
            type##_response_get_type                                                                         \
    }
    BROKER(push, push, push),
    BROKER(pull, pull, pull),
    BROKER(ConInfo, con_info, info),
    BROKER(StarttoGet, startto_get, info_get),
    BROKER(pushBatch, push_batch, push_batch),
    BROKER(pullBatch, pull_batch, pull_batch),
    BROKER(listOffset, list_offset, list_offset),
    COORDINATOR(CreateTopic, create_topic, create_topic),
    COORDINATOR(CreatePart, create_part, create_part),
    COORDINATOR(SetPartitionState, set_partition_state, set_partition_state),
    COORDINATOR(ProGetBroker, pro_get_broker, pro_get_brok),
    COORDINATOR(Sub, sub, sub),
    COORDINATOR(ConStartGetBroker, con_start_get_broker, con_start_get_brok),
    COORDINATOR(GetNewLeader, get_new_leader, get_new_leader),
    COORDINATOR(listTopics, list_topics, list_topics),
    COORDINATOR(describeTopic, describe_topic, describe_topic),
    COORDINATOR(deleteTopic, delete_topic, delete_topic),
    COORDINATOR(deletePart, delete_part, delete_part),
    COORDINATOR(setTopicConfig, set_topic_config, set_topic_config),
};

static void fail(const char *what, const GError *error)
{
    fprintf(stderr, "%s: %s\n", what, error ? error->message : "?");
    exit(1);
}

static void *connect_client(GType type, const char *form, const char *address)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    g_strlcpy(host, address, MIN(sizeof(host), (size_t)(colon - address) + 1));
    gboolean framed = g_str_has_suffix(form, "-framed"), compact = g_str_has_prefix(form, "compact");
    GObject *socket = g_object_new(THRIFT_TYPE_SOCKET, "hostname", host, "port", atoi(colon + 1), NULL);
    GObject *transport = g_object_new(framed ? THRIFT_TYPE_FRAMED_TRANSPORT : THRIFT_TYPE_BUFFERED_TRANSPORT,
                                      "transport", socket, NULL);
    GObject *protocol = g_object_new(compact ? THRIFT_TYPE_COMPACT_PROTOCOL : THRIFT_TYPE_BINARY_PROTOCOL,
                                     "transport", transport, NULL);
    GError *error = NULL;
    if (!thrift_transport_open(THRIFT_TRANSPORT(transport), &error))
        fail(address, error);
    return g_object_new(type, "input_protocol", protocol, "output_protocol", protocol, NULL);
}

static GByteArray *from_hex(const char *text)
{
    GByteArray *bytes = g_byte_array_new();
    for (; text[0] && text[1]; text += 2) {
        guint8 byte = (guint8)(g_ascii_xdigit_value(text[0]) << 4 | g_ascii_xdigit_value(text[1]));
        g_byte_array_append(bytes, &byte, 1);
    }
    return bytes;
}

static void print_hex(const void *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        printf("%02x", ((const guint8 *)data)[i]);
}

/* One word "FIELD=VALUE". */
static void set_field(GObject *request, char *word)
{
    char *value = strchr(word, '=');
    *value++ = 0;
    GParamSpec *field = g_object_class_find_property(G_OBJECT_GET_CLASS(request), word);
    if (!field)
        fail(word, NULL);
    gint64 number = g_ascii_strtoll(value + 2, NULL, 10);
    if (value[0] == 's') {
        GByteArray *bytes = from_hex(value + 2);
        if (field->value_type == G_TYPE_BYTE_ARRAY) {
            g_object_set(request, word, bytes, NULL);
        } else {
            g_byte_array_append(bytes, (const guint8 *)"", 1);
            g_object_set(request, word, bytes->data, NULL);
        }
        g_byte_array_unref(bytes);
    } else if (field->value_type == G_TYPE_INT64) {
        g_object_set(request, word, number, NULL);
    } else {
        g_object_set(request, word, (gint)number, NULL);
    }
}

static void print_field(GObject *response, GParamSpec *field)
{
    GValue value = G_VALUE_INIT;
    gchar *name = g_strdelimit(g_strdup(field->name), "-", '_'); /* GObject has changed it */
    g_value_init(&value, field->value_type);
    g_object_get_property(response, field->name, &value);
    if (field->value_type == G_TYPE_BOOLEAN) {
        printf("\t%s=t:%d", name, g_value_get_boolean(&value));
    } else if (field->value_type == G_TYPE_INT) {
        printf("\t%s=i:%d", name, g_value_get_int(&value));
    } else if (field->value_type == G_TYPE_INT64) {
        printf("\t%s=i:%" G_GINT64_FORMAT, name, g_value_get_int64(&value));
    } else if (field->value_type == G_TYPE_STRING && g_value_get_string(&value)) {
        printf("\t%s=s:", name);
        print_hex(g_value_get_string(&value), strlen(g_value_get_string(&value)));
    } else if (field->value_type == G_TYPE_BYTE_ARRAY && g_value_get_boxed(&value)) {
        GByteArray *bytes = g_value_get_boxed(&value);
        printf("\t%s=s:", name);
        print_hex(bytes->data, bytes->len);
    }
    g_value_unset(&value);
    g_free(name);
}

static void print_answer(gboolean done, GObject *response, const GError *error)
{
    if (done) {
        guint count;
        GParamSpec **fields = g_object_class_list_properties(G_OBJECT_GET_CLASS(response), &count);
        printf("ok");
        for (guint i = 0; i < count; i++)
            print_field(response, fields[i]);
        g_free(fields);
    } else if (error && error->domain == THRIFT_APPLICATION_EXCEPTION_ERROR) {
        printf("exception\t%d\t", error->code);
        print_hex(error->message, strlen(error->message));
    } else {
        printf("error\t");
        print_hex(error ? error->message : "?", error ? strlen(error->message) : 1);
    }
}

static void call(void *client, const char *name, char **words)
{
    const struct method *method = methods;
    while (strcmp(method->name, name) != 0)
        if (++method == methods + G_N_ELEMENTS(methods))
            fail(name, NULL);
    GObject *request = g_object_new(method->request(), NULL);
    GObject *response = g_object_new(method->response(), NULL);
    GError *error = NULL;
    for (; *words; words++)
        set_field(request, *words);
    gboolean done = method->call(client, (void **)&response, request, &error);
    print_answer(done, response, error);
    g_clear_error(&error);
    g_object_unref(request);
    if (response)
        g_object_unref(response);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    void *coordinator = connect_client(TYPE_ZK_SERVER__OPERATIONS_CLIENT, argv[1], argv[2]);
    void *broker = connect_client(TYPE_SERVER__OPERATIONS_CLIENT, argv[1], argv[3]);
    void *stranger = connect_client(TYPE_ZK_SERVER__OPERATIONS_CLIENT, argv[1], argv[3]);
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        gchar **words = g_strsplit(g_strchomp(line), "\t", -1);
        void *client = words[1][0] == 'c' ? coordinator : words[1][0] == 'b' ? broker : stranger;
        printf("%s\t", words[0]);
        call(client, words[2], words + 3);
        printf("\n");
        fflush(stdout);
        g_strfreev(words);
    }
    return 0;
}
