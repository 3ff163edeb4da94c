/* Open files of one shard, bounded: the least recently used file that nobody else holds is closed first.
 *
 * A struct segment_ref is one open file, shared by count: the cache's own reference, those of readers (any
 * thread) and of syncs under way. A file with references besides the cache's is never closed, so the bound is
 * exceeded while more files than max hold unsynced data or are being sent; opening then fails with
 * CLYMQ_ELIMIT only when the system refuses. The cache itself belongs to the shard's thread;
 * segment_ref_release may be called on any. */
#ifndef CLYMQ_STORE_FILES_H
#define CLYMQ_STORE_FILES_H

#include <stdatomic.h>

#include "base/list.h"
#include "io/file.h"

struct segment_ref {
    _Atomic uint32_t refs;
    struct io_file *file;
    struct list lru;           /* in the cache's list while slot is set */
    struct segment_ref **slot; /* where its owner finds it; NULL: no longer in the cache */
};

struct file_cache {
    struct io_fs *fs;
    struct list lru; /* most recently used first */
    unsigned count, max;
};

void file_cache_init(struct file_cache *cache, struct io_fs *fs, unsigned max);
/* The open file in *slot, opened with these flags of io_open_flags when it is not open. The result is
 * borrowed: valid until the next call on the cache. 0 or an error of opening. */
int file_cache_get(struct file_cache *cache, struct segment_ref **slot, const char *path, unsigned flags,
                   struct segment_ref **ret_ref);
/* Marks *slot, which is open, as used now. */
void file_cache_touch(struct file_cache *cache, struct segment_ref *ref);
/* Forgets *slot (its path is about to vanish); readers keep the file open. NULL in *slot is allowed. */
void file_cache_drop(struct file_cache *cache, struct segment_ref **slot);

/* An open file outside any cache, with one reference, taking over file. NULL: out of memory (file stays the
 * caller's). */
struct segment_ref *segment_ref_new(struct io_file *file);
static inline struct segment_ref *segment_ref_take(struct segment_ref *ref)
{
    atomic_fetch_add_explicit(&ref->refs, 1, memory_order_relaxed);
    return ref;
}
/* Any thread; the last one closes the file. NULL is allowed. */
void segment_ref_release(struct segment_ref *ref);

#endif
