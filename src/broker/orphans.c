/* Compares what lies in the data folder with the catalog, by topic id and partition number. */
#define LOG_MODULE "broker"
#include "broker/orphans.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/block.h"

enum { NAMED = 10 };

struct known {
    struct uuid topic;
    uint32_t number;
};

static int compare(const void *left, const void *right)
{
    const struct known *a = left, *b = right;
    int order = memcmp(a->topic.byte, b->topic.byte, sizeof(a->topic.byte));

    return order ? order : a->number < b->number ? -1 : a->number > b->number;
}

static struct known *list_known(const struct catalog *catalog)
{
    struct known *known = mem_calloc(catalog->count + 1, sizeof(*known));
    size_t at = 0, count = 0;
    struct map_entry *entry;

    if (!known)
        return NULL;
    while ((entry = map_next(catalog->topics, &at))) {
        struct catalog_topic *topic = entry->value;

        LIST_FOR_EACH(item, &topic->routes)
            known[count++] =
                (struct known){topic->id, CONTAINER_OF(item, struct catalog_route, link)->number};
    }
    qsort(known, count, sizeof(*known), compare);
    return known;
}

void orphans_report(struct broker_node *node)
{
    const struct catalog *catalog = &node->shard[0].catalog;
    struct known *known MEM_CLEANUP = list_known(catalog);
    struct block_key *keys MEM_CLEANUP = NULL;
    size_t count, orphans = 0;
    int error = known ? block_list(store_folder_fs(node->folder), &keys, &count) : CLYMQ_ENOMEM;

    if (error) {
        log_warn("the data folder could not be searched for blocks that the metadata does not know: %s",
                 error_sentence(error));
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct known wanted = {keys[i].topic, keys[i].partition};
        char id[33];

        if (bsearch(&wanted, known, catalog->count, sizeof(*known), compare))
            continue;
        uuid_format(keys[i].topic, id);
        if (++orphans <= NAMED)
            log_warn("data/%s/%u/%u belongs to no partition that the metadata knows; it is left alone: if "
                     "its topic "
                     "was deleted, remove the folder by hand while the broker is stopped",
                     id, keys[i].partition, keys[i].seq);
    }
    if (orphans > NAMED)
        log_warn("%zu more folders like these", orphans - NAMED);
}
