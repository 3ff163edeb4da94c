/* Bytes as text: JSON strings, base64, hexadecimal. */
#include "cli/cli.h"

void json_append_text(struct strbuf *out, struct bytes text)
{
    strbuf_append(out, "\"", 1);
    size_t begun = 0;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t byte = text.ptr[i];
        if (byte >= 0x20 && byte != '"' && byte != '\\' && byte != 0x7f)
            continue;
        strbuf_append(out, text.ptr + begun, i - begun);
        begun = i + 1;
        if (byte == '"' || byte == '\\')
            strbuf_printf(out, "\\%c", byte);
        else if (byte == '\n')
            strbuf_append(out, "\\n", 2);
        else if (byte == '\t')
            strbuf_append(out, "\\t", 2);
        else
            strbuf_printf(out, "\\u%04x", byte);
    }
    strbuf_append(out, text.ptr + begun, text.len - begun);
    strbuf_append(out, "\"", 1);
}

void base64_append(struct strbuf *out, struct bytes data)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < data.len; i += 3) {
        size_t left = data.len - i;
        uint32_t word = (uint32_t)data.ptr[i] << 16;
        if (left > 1)
            word |= (uint32_t)data.ptr[i + 1] << 8;
        if (left > 2)
            word |= data.ptr[i + 2];
        char four[4] = {digits[word >> 18], digits[word >> 12 & 63], left > 1 ? digits[word >> 6 & 63] : '=',
                        left > 2 ? digits[word & 63] : '='};
        strbuf_append(out, four, sizeof(four));
    }
}

void hex_append(struct strbuf *out, struct bytes data)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < data.len; i++) {
        char two[2] = {digits[data.ptr[i] >> 4], digits[data.ptr[i] & 15]};
        strbuf_append(out, two, sizeof(two));
    }
}
