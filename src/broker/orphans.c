/* Compares what lies in the data folder with the catalog, by topic id and partition number. */
#define LOG_MODULE "broker"
#include "broker/orphans.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"

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

struct search {
    struct io_fs *fs;
    const struct known *known;
    size_t known_count, orphans;
    bool some_aside; /* deleted blocks lie aside: no folder may go before they are gone */
};

static void tell(struct search *search, const char *path)
{
    if (++search->orphans <= NAMED)
        log_warn("%s belongs to no partition that the metadata knows; it is left alone: if its topic was "
                 "deleted, remove the folder by hand while the broker is stopped",
                 path);
}

/* A folder of no known partition. Empty ones are what a deletion left that was killed before its end. */
static void look_into(struct search *search, const char *path)
{
    char **names;
    size_t count;

    if (io_fs_list(search->fs, path, &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        char block[900];

        snprintf(block, sizeof(block), "%s/%s", path, names[i]);
        tell(search, block);
    }
    if (count == 0 && !search->some_aside)
        io_fs_remove_dir(search->fs, path);
    io_fs_free_names(names, count);
}

static bool is_known(const struct search *search, struct uuid topic, const char *name)
{
    char written[16];
    struct known wanted = {topic, (uint32_t)strtoul(name, NULL, 10)};

    snprintf(written, sizeof(written), "%" PRIu32, wanted.number);
    return strcmp(name, written) == 0 &&
           bsearch(&wanted, search->known, search->known_count, sizeof(wanted), compare);
}

static int search_topic(struct search *search, const char *name)
{
    struct uuid topic;
    char path[300], written[33], **names;
    size_t count;
    int error;

    if (name[0] == '.')
        search->some_aside = true;
    if (uuid_parse(bytes_of_text(name), &topic))
        return 0;
    uuid_format(topic, written);
    if (strcmp(name, written) != 0) /* in capitals: not ours */
        return 0;
    snprintf(path, sizeof(path), "data/%s", name);
    error = io_fs_list(search->fs, path, &names, &count);
    if (error)
        return error == CLYMQ_ENOENT ? 0 : error;
    for (size_t i = 0; i < count; i++) {
        char partition[600];

        snprintf(partition, sizeof(partition), "%s/%s", path, names[i]);
        if (!is_known(search, topic, names[i]))
            look_into(search, partition);
    }
    io_fs_free_names(names, count);
    if (!search->some_aside)
        io_fs_remove_dir(search->fs, path); /* fails unless it is empty */
    return 0;
}

/* Only names are read, so that a start with many partitions does not wait for it. */
void orphans_report(struct broker_node *node)
{
    const struct catalog *catalog = &node->shard[0].catalog;
    struct known *known MEM_CLEANUP = list_known(catalog);
    struct search search = {
        .fs = store_folder_fs(node->folder), .known = known, .known_count = catalog->count};
    char **names = NULL;
    size_t count = 0;
    int error = known ? io_fs_list(search.fs, "data", &names, &count) : CLYMQ_ENOMEM;

    for (size_t i = 0; !error && i < count; i++) /* sorted: names with a dot come first */
        error = search_topic(&search, names[i]);
    if (names)
        io_fs_free_names(names, count);
    if (error)
        log_warn("the data folder could not be searched for blocks that the metadata does not know: %s",
                 error_sentence(error));
    if (search.orphans > NAMED)
        log_warn("%zu more folders like these", search.orphans - NAMED);
}
