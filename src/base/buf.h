/* Bytes, and who keeps them alive.
 *
 *   struct bytes  a borrowed view: pointer and length; valid as long as whatever it points into.
 *   struct buf    reference-counted memory, written by one owner while it is filled, then shared read-only.
 *   struct slice  a view that holds a reference on the buf it points into (owner NULL: constant memory).
 *
 * Reference counts are atomic, so buffers may pass between shards; their content may not be written once
 * shared. */
#ifndef CLYMQ_BASE_BUF_H
#define CLYMQ_BASE_BUF_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *ptr;
    size_t len;
};

struct buf {
    _Atomic uint32_t refs;
    size_t cap; /* bytes in data */
    size_t len; /* bytes filled, <= cap */
    uint8_t data[];
};

struct slice {
    const uint8_t *ptr;
    size_t len;
    struct buf *owner;
};

#define BYTES_LITERAL(text) ((struct bytes){(const uint8_t *)(text), sizeof(text) - 1})

static inline struct bytes bytes_of(const void *ptr, size_t len)
{
    return (struct bytes){ptr, len};
}
static inline struct bytes bytes_of_text(const char *text)
{
    return (struct bytes){(const uint8_t *)text, strlen(text)};
}
static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}
static inline bool bytes_are_zero(struct bytes bytes)
{
    return bytes.len == 0 || (bytes.ptr[0] == 0 && memcmp(bytes.ptr, bytes.ptr + 1, bytes.len - 1) == 0);
}
/* Byte order, shorter first among equal prefixes: <0, 0, >0. */
int bytes_compare(struct bytes a, struct bytes b);

/* A new buffer with one reference, len 0 and room for cap bytes (not zeroed). NULL: out of memory. */
struct buf *buf_new(size_t cap);
static inline struct buf *buf_ref(struct buf *buf)
{
    atomic_fetch_add_explicit(&buf->refs, 1, memory_order_relaxed);
    return buf;
}
/* Gives back one reference; the last one frees. NULL is allowed. */
void buf_unref(struct buf *buf);
/* Whether the caller holds the only reference (and so may write). */
static inline bool buf_exclusive(const struct buf *buf)
{
    return atomic_load_explicit(&buf->refs, memory_order_acquire) == 1;
}

/* A slice of [ptr, ptr + len) inside owner, taking a new reference. */
static inline struct slice slice_of(struct buf *owner, const void *ptr, size_t len)
{
    return (struct slice){ptr, len, owner ? buf_ref(owner) : NULL};
}
static inline struct slice slice_ref(struct slice slice)
{
    if (slice.owner)
        buf_ref(slice.owner);
    return slice;
}
static inline void slice_unref(struct slice *slice)
{
    buf_unref(slice->owner);
    *slice = (struct slice){0};
}
static inline struct bytes slice_bytes(struct slice slice)
{
    return (struct bytes){slice.ptr, slice.len};
}

/* A growing byte string for building text and messages; NUL-terminated after each append. Zero-initialise it.
 * After a failed append `failed` stays set, later appends do nothing: check once at the end. Free with
 * strbuf_free. */
struct strbuf {
    char *data;
    size_t len, cap;
    bool failed;
};
void strbuf_append(struct strbuf *text, const void *data, size_t len);
void strbuf_append_text(struct strbuf *text, const char *data);
void strbuf_printf(struct strbuf *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void strbuf_free(struct strbuf *text);

#endif
