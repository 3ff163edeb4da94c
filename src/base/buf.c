/* Reference-counted buffers and growing strings: see buf.h. */
#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/mem.h"

int bytes_compare(struct bytes a, struct bytes b)
{
    size_t shorter = a.len < b.len ? a.len : b.len;
    int order = shorter ? memcmp(a.ptr, b.ptr, shorter) : 0;
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

struct buf *buf_new(size_t cap)
{
    if (cap > SIZE_MAX - sizeof(struct buf))
        return NULL;
    struct buf *buf = mem_alloc(sizeof(*buf) + cap);
    if (!buf)
        return NULL;
    atomic_init(&buf->refs, 1);
    buf->cap = cap;
    buf->len = 0;
    return buf;
}

void buf_unref(struct buf *buf)
{
    if (!buf)
        return;
    /* Acquire and release in one: ThreadSanitizer does not follow a separate fence. */
    if (atomic_fetch_sub_explicit(&buf->refs, 1, memory_order_acq_rel) == 1)
        mem_free(buf);
}

/* Room for len more bytes and the NUL; false (and failed) where there is none. */
static bool strbuf_reserve(struct strbuf *text, size_t len)
{
    if (text->failed)
        return false;
    if (len < text->cap - text->len)
        return true;
    size_t cap = text->cap ? text->cap : 64;
    while (cap - text->len <= len) {
        if (cap > SIZE_MAX / 2) {
            text->failed = true;
            return false;
        }
        cap *= 2;
    }
    char *grown = mem_realloc(text->data, cap);
    if (!grown) {
        text->failed = true;
        return false;
    }
    text->data = grown;
    text->cap = cap;
    return true;
}

void strbuf_append(struct strbuf *text, const void *data, size_t len)
{
    if (!strbuf_reserve(text, len))
        return;
    if (len)
        memcpy(text->data + text->len, data, len);
    text->len += len;
    text->data[text->len] = '\0';
}

void strbuf_append_text(struct strbuf *text, const char *data)
{
    strbuf_append(text, data, strlen(data));
}

void strbuf_printf(struct strbuf *text, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    int need = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (need < 0 || !strbuf_reserve(text, (size_t)need)) {
        text->failed = true;
        return;
    }
    va_start(args, format);
    vsnprintf(text->data + text->len, text->cap - text->len, format, args);
    va_end(args);
    text->len += (size_t)need;
}

void strbuf_free(struct strbuf *text)
{
    mem_free(text->data);
    *text = (struct strbuf){0};
}
