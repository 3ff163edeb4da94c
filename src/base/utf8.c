/* UTF-8 decoding for checks, and the rule for names: see utf8.h. */
#include "base/utf8.h"

#include "base/error.h"

enum { NAME_MAX_BYTES = 249 };

/* The table of RFC 3629, section 4. */
size_t utf8_decode(struct bytes text, uint32_t *ret_code)
{
    uint8_t first = text.ptr[0];
    if (first < 0x80) {
        *ret_code = first;
        return 1;
    }
    size_t len;
    uint32_t code;
    uint8_t low = 0x80, high = 0xbf; /* what the second byte may be */
    if (first >= 0xc2 && first <= 0xdf) {
        len = 2;
        code = first & 0x1fu;
    } else if (first >= 0xe0 && first <= 0xef) {
        len = 3;
        code = first & 0x0fu;
        if (first == 0xe0)
            low = 0xa0; /* shorter forms exist below */
        else if (first == 0xed)
            high = 0x9f; /* surrogates above */
    } else if (first >= 0xf0 && first <= 0xf4) {
        len = 4;
        code = first & 0x07u;
        if (first == 0xf0)
            low = 0x90;
        else if (first == 0xf4)
            high = 0x8f; /* above U+10FFFF */
    } else {
        return 0;
    }
    if (text.len < len || text.ptr[1] < low || text.ptr[1] > high)
        return 0;
    code = code << 6 | (text.ptr[1] & 0x3fu);
    for (size_t i = 2; i < len; i++) {
        if ((text.ptr[i] & 0xc0) != 0x80)
            return 0;
        code = code << 6 | (text.ptr[i] & 0x3fu);
    }
    *ret_code = code;
    return len;
}

bool utf8_valid(struct bytes text)
{
    while (text.len > 0) {
        uint64_t word;
        if (text.len >= sizeof(word)) {
            memcpy(&word, text.ptr, sizeof(word));
            if (!(word & 0x8080808080808080u)) { /* eight ASCII characters at once */
                text.ptr += sizeof(word);
                text.len -= sizeof(word);
                continue;
            }
        }
        uint32_t code;
        size_t len = utf8_decode(text, &code);
        if (len == 0)
            return false;
        text.ptr += len;
        text.len -= len;
    }
    return true;
}

int name_check(struct bytes name)
{
    if (name.len == 0 || name.len > NAME_MAX_BYTES || bytes_equal(name, BYTES_LITERAL(".")) ||
        bytes_equal(name, BYTES_LITERAL("..")))
        return CLYMQ_ENAME;
    while (name.len > 0) {
        uint32_t code;
        size_t len = utf8_decode(name, &code);
        if (len == 0 || code < 0x20 || (code >= 0x7f && code <= 0x9f) || code == '/')
            return CLYMQ_ENAME;
        name.ptr += len;
        name.len -= len;
    }
    return 0;
}
