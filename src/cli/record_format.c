/* A consumed message as a line of text. Values are copied byte for byte; only JSON makes text of them, in
 * base64 where they are not UTF-8. */
#include "cli/record_format.h"

#include <inttypes.h>

#include "base/utf8.h"

static void append_plain(struct strbuf *out, int format, struct bytes data)
{
    if (format == FORMAT_HEX)
        hex_append(out, data);
    else if (format == FORMAT_BASE64)
        base64_append(out, data);
    else
        strbuf_append(out, data.ptr, data.len);
}

/* "name": text, "name_base64": text, or "name": null. */
static void append_json_field(struct strbuf *out, const char *name, const void *ptr, size_t len)
{
    struct bytes data = bytes_of(ptr, len);
    if (!ptr) {
        strbuf_printf(out, "\"%s\":null", name);
    } else if (utf8_valid(data)) {
        strbuf_printf(out, "\"%s\":", name);
        json_append_text(out, data);
    } else {
        strbuf_printf(out, "\"%s_base64\":\"", name);
        base64_append(out, data);
        strbuf_append(out, "\"", 1);
    }
}

static void append_json(struct strbuf *out, const clymq_message *message)
{
    strbuf_append_text(out, "{\"topic\":");
    json_append_text(out, bytes_of_text(message->topic));
    strbuf_append_text(out, ",\"partition\":");
    json_append_text(out, bytes_of_text(message->partition));
    strbuf_printf(out, ",\"offset\":%" PRId64 ",\"timestamp_ms\":%" PRId64 ",", message->offset,
                  message->timestamp_ms);
    append_json_field(out, "key", message->key, message->key_len);
    strbuf_append(out, ",", 1);
    append_json_field(out, "value", message->value, message->value_len);
    strbuf_append_text(out, ",\"headers\":[");
    for (size_t i = 0; i < message->header_count; i++) {
        const clymq_header *header = &message->headers[i];
        strbuf_append_text(out, i ? ",{" : "{");
        append_json_field(out, "key", header->key, strlen(header->key));
        strbuf_append(out, ",", 1);
        append_json_field(out, "value", header->value, header->value_len);
        strbuf_append(out, "}", 1);
    }
    strbuf_append_text(out, "]}\n");
}

void record_format(const struct record_format *format, const clymq_message *message, struct strbuf *out)
{
    if (format->format == FORMAT_NONE)
        return;
    if (format->format == FORMAT_JSON) {
        append_json(out, message);
        return;
    }
    if (format->partition)
        strbuf_printf(out, "%s\t", message->partition);
    if (format->offset)
        strbuf_printf(out, "%" PRId64 "\t", message->offset);
    if (format->timestamp)
        strbuf_printf(out, "%" PRId64 "\t", message->timestamp_ms);
    if (format->headers) {
        for (size_t i = 0; i < message->header_count; i++) {
            const clymq_header *header = &message->headers[i];
            strbuf_printf(out, "%s%s=", i ? "," : "", header->key);
            append_plain(out, format->format, bytes_of(header->value, header->value_len));
        }
        strbuf_append(out, "\t", 1);
    }
    if (format->key) {
        append_plain(out, format->format, bytes_of(message->key, message->key_len));
        strbuf_append(out, "\t", 1);
    }
    append_plain(out, format->format, bytes_of(message->value, message->value_len));
    strbuf_append(out, "\n", 1);
}
