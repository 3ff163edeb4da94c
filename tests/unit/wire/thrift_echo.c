/* The C side of compare_thrift.py: reads commands from standard input, a line each, and answers with a line
 * each.
 *
 *   dump                            the tables, as one JSON array
 *   echo SERVICES WRAPPER BYTES     finds, reads and decodes the message (hex), encodes it again in the same
 * form: "ok <consumed> <bytes>" or the error's name. WRAPPER 1 = call, 0 = reply exception BYTES TYPE TEXT
 * the exception that answers that call, in its form text BYTES                      type and text of an
 * exception that was received */
#include <stdio.h>

#include "base/error.h"
#include "fill.h"

enum { MAX = 16 << 20 };

static void print_encoded(struct thrift_encoded *encoded)
{
    for (size_t i = 0; i < encoded->buf->len; i++)
        printf("%02x", encoded->buf->data[i]);
    putchar('\n');
    buf_unref(encoded->buf);
}

static void print_struct(const struct thrift_struct *type)
{
    printf("{\"name\":\"%s\",\"fields\":[", type->name);
    for (unsigned i = 0; i < type->count; i++)
        printf("%s[%d,%d,\"%s\",%d]", i ? "," : "", type->fields[i].id, type->fields[i].type,
               type->fields[i].name, type->fields[i].optional);
    printf("]}");
}

static void dump(void)
{
    putchar('[');
    for (int i = 0; i < RPC_METHOD_COUNT; i++) {
        const struct rpc_method *method = &rpc_methods[i];
        printf("%s{\"service\":%d,\"name\":\"%.*s\",\"request\":", i ? "," : "", method->service,
               (int)method->name.len, (const char *)method->name.ptr);
        print_struct(method->request);
        printf(",\"response\":");
        print_struct(method->response);
        putchar('}');
    }
    printf("]\n");
}

static int take_apart(struct bytes data, struct thrift_extent *ret_extent, struct thrift_message *ret_message)
{
    struct thrift_scan scan = {0};
    size_t need;
    int error = thrift_find_message(&scan, data, MAX, ret_extent, &need);
    if (error)
        return error;
    struct bytes body = bytes_of(data.ptr + ret_extent->body, ret_extent->body_len);
    return thrift_read_message(ret_extent->form.protocol, body, ret_message);
}

static int echo(unsigned services, int16_t wrapper, struct bytes data)
{
    struct thrift_extent extent;
    struct thrift_message message;
    union rpc_any value;
    struct thrift_encoded encoded;
    int error = take_apart(data, &extent, &message);
    if (error)
        return error;
    const struct rpc_method *method = rpc_find_method(services, message.method);
    if (!method)
        return CLYMQ_ENOENT;
    const struct thrift_struct *type = wrapper ? method->request : method->response;
    error = thrift_decode(extent.form.protocol, message.args, wrapper, type, &value);
    if (!error)
        error = thrift_encode(&extent.form, message.kind, message.method, message.sequence, wrapper, type,
                              &value, &encoded);
    if (error)
        return error;
    printf("ok %zu ", extent.size);
    print_encoded(&encoded);
    return 0;
}

static int exception(struct bytes data, int type, const char *text)
{
    struct thrift_extent extent;
    struct thrift_message message;
    struct thrift_encoded encoded;
    int error = take_apart(data, &extent, &message);
    if (!error)
        error = thrift_encode_exception(&extent.form, message.method, message.sequence,
                                        (enum thrift_exception)type, -37, text, &encoded);
    if (error)
        return error;
    printf("ok ");
    print_encoded(&encoded);
    return 0;
}

static int exception_text(struct bytes data)
{
    struct thrift_extent extent;
    struct thrift_message message;
    struct thrift_exception_fields fields;
    int error = take_apart(data, &extent, &message);
    if (!error)
        error = thrift_decode_exception(extent.form.protocol, message.args, &fields);
    if (!error)
        printf("ok %d %d %.*s\n", message.kind, fields.type, (int)fields.text.len,
               (const char *)fields.text.ptr);
    return error;
}

int main(void)
{
    char *line = NULL;
    size_t cap = 0;
    while (getline(&line, &cap, stdin) > 0) {
        line[strcspn(line, "\n")] = 0;
        char *save, *command = strtok_r(line, " ", &save);
        int error = CLYMQ_EINVAL;
        if (command && strcmp(command, "dump") == 0) {
            dump();
            error = 0;
        } else if (command && strcmp(command, "echo") == 0) {
            unsigned services = (unsigned)atoi(strtok_r(NULL, " ", &save));
            int16_t wrapper = (int16_t)atoi(strtok_r(NULL, " ", &save));
            struct bytes data = hex_decode(strtok_r(NULL, " ", &save));
            error = echo(services, wrapper, data);
            bytes_free(data);
        } else if (command && strcmp(command, "exception") == 0) {
            struct bytes data = hex_decode(strtok_r(NULL, " ", &save));
            int type = atoi(strtok_r(NULL, " ", &save));
            error = exception(data, type, save);
            bytes_free(data);
        } else if (command && strcmp(command, "text") == 0) {
            struct bytes data = hex_decode(strtok_r(NULL, " ", &save));
            error = exception_text(data);
            bytes_free(data);
        }
        if (error)
            printf("%s\n", error_name(error));
        fflush(stdout);
    }
    free(line);
    return 0;
}
