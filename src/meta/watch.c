/* Watches of one session: see watch.h. */
#include "meta/watch.h"

#include "base/error.h"
#include "base/mem.h"

int watch_set_init(struct watch_set *set)
{
    list_init(&set->fired);
    for (int kind = 0; kind < WATCH_KINDS; kind++)
        set->paths[kind] = NULL;
    for (int kind = 0; kind < WATCH_KINDS; kind++) {
        set->paths[kind] = map_new();
        if (!set->paths[kind]) {
            watch_set_free(set);
            return CLYMQ_ENOMEM;
        }
    }
    return 0;
}

void watch_clear(struct watch_set *set)
{
    for (int kind = 0; kind < WATCH_KINDS; kind++) {
        size_t at = 0;
        struct map_entry *entry;
        while (set->paths[kind] && (entry = map_next(set->paths[kind], &at)))
            mem_free(map_remove(set->paths[kind], entry->key));
    }
    struct watch *watch;
    while ((watch = watch_pop(set)))
        mem_free(watch);
}

void watch_set_free(struct watch_set *set)
{
    watch_clear(set);
    for (int kind = 0; kind < WATCH_KINDS; kind++) {
        map_free(set->paths[kind]);
        set->paths[kind] = NULL;
    }
}

int watch_add(struct watch_set *set, struct bytes path, enum watch_kind kind)
{
    if (map_get(set->paths[kind], path))
        return 0;
    struct watch *watch = mem_zalloc(sizeof(*watch) + path.len + 1);
    if (!watch)
        return CLYMQ_ENOMEM;
    list_init(&watch->fired);
    memcpy(watch->path, path.ptr, path.len);
    int error = map_put(set->paths[kind], path, watch);
    if (error)
        mem_free(watch);
    return error;
}

static struct watch *watch_take(struct watch_set *set, struct bytes path, enum watch_kind kind)
{
    struct watch *watch = map_get(set->paths[kind], path);
    if (watch)
        map_remove(set->paths[kind], path);
    return watch;
}

/* One event to a path, also where it was watched for both. */
static void watch_fire(struct watch_set *set, struct bytes path, bool node, bool children)
{
    struct watch *first = node ? watch_take(set, path, WATCH_NODE) : NULL;
    struct watch *second = children ? watch_take(set, path, WATCH_CHILDREN) : NULL;
    if (first && second)
        mem_free(second);
    struct watch *watch = first ? first : second;
    if (watch)
        list_push_back(&set->fired, &watch->fired);
}

void watch_note(struct watch_set *set, struct bytes path, enum tree_event event)
{
    watch_fire(set, path, true, event != TREE_SET);
    if (event != TREE_SET && path.len > 1)
        watch_fire(set, tree_parent_path(path), false, true);
}

struct watch *watch_pop(struct watch_set *set)
{
    struct list *item = list_pop_front(&set->fired);
    return item ? CONTAINER_OF(item, struct watch, fired) : NULL;
}
