/* JSON strings and base64 appended to a strbuf. By hand and not with jansson because a pull turns up to 1 MiB
 * of messages into JSON: one pass into one buffer, no tree. */
#include "broker/json_write.h"

#include <stdio.h>

void json_write_string(struct strbuf *json, struct bytes text)
{
    size_t begin = 0;

    strbuf_append(json, "\"", 1);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];

        if (c >= 0x20 && c != '"' && c != '\\' && c != 0x7f)
            continue;
        strbuf_append(json, text.ptr + begin, i - begin);
        begin = i + 1;
        if (c == '"' || c == '\\') {
            strbuf_append(json, (char[]){'\\', (char)c}, 2);
        } else {
            char escape[8];

            snprintf(escape, sizeof(escape), "\\u%04x", c);
            strbuf_append(json, escape, 6);
        }
    }
    strbuf_append(json, text.ptr + begin, text.len - begin);
    strbuf_append(json, "\"", 1);
}

size_t json_base64_size(size_t len)
{
    return (len + 2) / 3 * 4 + 2;
}

void json_write_base64(struct strbuf *json, struct bytes data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char chunk[1024];
    size_t used = 0, i = 0;

    strbuf_append(json, "\"", 1);
    for (; i + 3 <= data.len; i += 3) {
        uint32_t three = (uint32_t)data.ptr[i] << 16 | (uint32_t)data.ptr[i + 1] << 8 | data.ptr[i + 2];

        if (used == sizeof(chunk)) {
            strbuf_append(json, chunk, used);
            used = 0;
        }
        chunk[used++] = digits[three >> 18];
        chunk[used++] = digits[three >> 12 & 63];
        chunk[used++] = digits[three >> 6 & 63];
        chunk[used++] = digits[three & 63];
    }
    strbuf_append(json, chunk, used);
    if (i < data.len) {
        uint32_t rest = (uint32_t)data.ptr[i] << 16 | (i + 1 < data.len ? (uint32_t)data.ptr[i + 1] << 8 : 0);
        char last[4] = {digits[rest >> 18], digits[rest >> 12 & 63],
                        i + 1 < data.len ? digits[rest >> 6 & 63] : '=', '='};

        strbuf_append(json, last, 4);
    }
    strbuf_append(json, "\"", 1);
}
