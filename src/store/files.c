/* The bounded cache of a shard's open files: a list in order of use, files counted by reference. */
#include "store/files.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"

void file_cache_init(struct file_cache *cache, struct io_fs *fs, unsigned max)
{
    *cache = (struct file_cache){.fs = fs, .max = max};
    list_init(&cache->lru);
}

struct segment_ref *segment_ref_new(struct io_file *file)
{
    struct segment_ref *ref = mem_zalloc(sizeof(*ref));
    if (!ref)
        return NULL;
    atomic_init(&ref->refs, 1);
    ref->file = file;
    list_init(&ref->lru);
    return ref;
}

void segment_ref_release(struct segment_ref *ref)
{
    if (!ref || atomic_fetch_sub_explicit(&ref->refs, 1, memory_order_acq_rel) != 1)
        return;
    assert(!ref->slot);
    io_file_close(ref->file);
    mem_free(ref);
}

void file_cache_drop(struct file_cache *cache, struct segment_ref **slot)
{
    struct segment_ref *ref = *slot;
    if (!ref)
        return;
    assert(ref->slot == slot && cache->count > 0);
    list_remove(&ref->lru);
    ref->slot = NULL;
    *slot = NULL;
    cache->count--;
    segment_ref_release(ref);
}

/* Closes files nobody else holds, least recently used first, until one more fits. */
static void make_room(struct file_cache *cache)
{
    struct list *item = cache->lru.prev;
    while (cache->count >= cache->max && item != &cache->lru) {
        struct segment_ref *ref = CONTAINER_OF(item, struct segment_ref, lru);
        item = item->prev;
        if (atomic_load_explicit(&ref->refs, memory_order_acquire) == 1)
            file_cache_drop(cache, ref->slot);
    }
}

void file_cache_touch(struct file_cache *cache, struct segment_ref *ref)
{
    if (cache->lru.next == &ref->lru)
        return;
    list_remove(&ref->lru);
    list_push_front(&cache->lru, &ref->lru);
}

int file_cache_get(struct file_cache *cache, struct segment_ref **slot, const char *path, unsigned flags,
                   struct segment_ref **ret_ref)
{
    if (*slot) {
        file_cache_touch(cache, *slot);
        *ret_ref = *slot;
        return 0;
    }
    make_room(cache);
    struct io_file *file;
    int error = io_fs_open(cache->fs, path, flags, &file);
    if (error)
        return error;
    struct segment_ref *ref = segment_ref_new(file);
    if (!ref) {
        io_file_close(file);
        return CLYMQ_ENOMEM;
    }
    ref->slot = slot;
    list_push_front(&cache->lru, &ref->lru);
    cache->count++;
    *slot = ref;
    *ret_ref = ref;
    return 0;
}
