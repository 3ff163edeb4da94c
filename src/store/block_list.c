/* Finding the blocks that lie in the data folder. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/store_impl.h"

struct key_list {
    struct block_key *keys;
    size_t count, cap;
    struct map *others; /* folder -> anything; NULL: not wanted */
};

static int add_key(struct key_list *list, const struct block_key *key)
{
    if (list->count == list->cap) {
        size_t cap = list->cap ? list->cap * 2 : 64;
        struct block_key *keys = mem_realloc(list->keys, cap * sizeof(*keys));
        if (!keys)
            return CLYMQ_ENOMEM;
        list->keys = keys;
        list->cap = cap;
    }
    list->keys[list->count++] = *key;
    return 0;
}

static int list_dir(struct io_fs *fs, const char *dir, int depth, struct key_list *list)
{
    char **names;
    size_t count;
    int error = io_fs_list(fs, dir, &names, &count);
    if (error) /* a file, or gone meanwhile */
        return error == CLYMQ_ENOMEM || error == CLYMQ_EIO ? error : 0;
    for (size_t i = 0; i < count && !error; i++) {
        char path[SEGMENT_PATH_MAX];
        if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= BLOCK_DIR_MAX)
            continue;
        if (depth < 2) {
            error = list_dir(fs, path, depth + 1, list);
            continue;
        }
        struct block_key key;
        char expected[BLOCK_DIR_MAX];
        error = block_read_id(fs, path, &key);
        if (error == CLYMQ_ENOMEM || error == CLYMQ_EIO)
            break;
        if (!error)
            block_dir(&key, expected);
        if (!error && strcmp(expected, path) == 0)
            error = add_key(list, &key);
        else
            error = list->others ? map_put(list->others, bytes_of_text(path), list) : 0;
    }
    io_fs_free_names(names, count);
    return error;
}

int block_list_all(struct io_fs *fs, struct block_key **ret_keys, size_t *ret_count, struct map *others)
{
    struct key_list list = {.others = others};
    int error = list_dir(fs, "data", 0, &list);
    if (error) {
        mem_free(list.keys);
        return error;
    }
    *ret_keys = list.keys;
    *ret_count = list.count;
    return 0;
}

int block_list(struct io_fs *fs, struct block_key **ret_keys, size_t *ret_count)
{
    return block_list_all(fs, ret_keys, ret_count, NULL);
}
