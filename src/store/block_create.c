/* Making a block on disk, its identity, and finding the blocks that are there. */
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/index.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { ID_VERSION = 1, ID_SIZE = 8 + 4 + 40 + 4 };
enum { CREATE_BYTES = 4096 }; /* what making a block takes, roughly */
static const char id_magic[8] = "clymqblk";

/* ---- the file `id` ---- */

int block_write_id(struct io_fs *fs, const char *dir, const struct block_key *key)
{
    uint8_t data[ID_SIZE];
    memcpy(data, id_magic, 8);
    store_be32(data + 8, ID_VERSION);
    memcpy(data + 12, key->topic.byte, 16);
    store_be32(data + 28, key->partition);
    store_be32(data + 32, key->seq);
    memcpy(data + 36, key->id.byte, 16);
    store_be32(data + 52, crc32c(0, data, 52));
    char path[SEGMENT_PATH_MAX];
    snprintf(path, sizeof(path), "%s/id", dir);
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file);
    if (error)
        return error;
    ssize_t written = io_file_pwrite(file, data, sizeof(data), 0);
    error = written < 0 ? (int)written : io_file_sync(file);
    io_file_close(file);
    return error;
}

int block_read_id(struct io_fs *fs, const char *dir, struct block_key *ret_key)
{
    char path[SEGMENT_PATH_MAX];
    snprintf(path, sizeof(path), "%s/id", dir);
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_READ, &file);
    if (error)
        return error;
    uint8_t data[ID_SIZE];
    ssize_t got = io_file_pread(file, data, sizeof(data), 0);
    io_file_close(file);
    if (got < 0)
        return (int)got;
    if (got < ID_SIZE || memcmp(data, id_magic, 8) != 0 || load_be32(data + 52) != crc32c(0, data, 52))
        return CLYMQ_ECORRUPT;
    if (load_be32(data + 8) > ID_VERSION)
        return CLYMQ_EFORMAT;
    memcpy(ret_key->topic.byte, data + 12, 16);
    ret_key->partition = load_be32(data + 28);
    ret_key->seq = load_be32(data + 32);
    memcpy(ret_key->id.byte, data + 36, 16);
    return 0;
}

/* ---- creating ---- */

static int make_dirs(struct io_fs *fs, const char *dir)
{
    char path[BLOCK_DIR_MAX];
    snprintf(path, sizeof(path), "%s", dir);
    for (char *at = path;; at++) {
        if (*at != '/' && *at != '\0')
            continue;
        char end = *at;
        *at = '\0';
        int error = io_fs_make_dir(fs, path);
        if (error && error != CLYMQ_EEXIST)
            return error;
        *at = end;
        if (end == '\0')
            return 0;
    }
}

/* Syncs the block's folder and each above it. A parent is synced even where its entry was there already:
 * whoever made it may have been killed before it could. The topic's entry in data/ is synced once for blocks
 * of one topic made in a row. */
static int sync_dirs(struct store *store, const struct block_key *key, const char *dir)
{
    char path[BLOCK_DIR_MAX];
    snprintf(path, sizeof(path), "%s", dir);
    for (int depth = 4; depth > 0; depth--) {
        bool known = depth == 1 && uuid_equal(store->synced_topic, key->topic);
        int error = known ? 0 : io_fs_sync_dir(store->fs, path);
        if (error)
            return error;
        char *slash = strrchr(path, '/');
        if (slash)
            *slash = '\0';
    }
    store->synced_topic = key->topic;
    return 0;
}

static bool is_log_name(const char *name)
{
    size_t len = strlen(name);
    return len > 4 && strcmp(name + len - 4, ".log") == 0;
}

static int log_file_size(struct io_fs *fs, const char *path, uint64_t *ret_size)
{
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_READ, &file);
    if (error)
        return error;
    error = io_file_size(file, ret_size);
    io_file_close(file);
    return error;
}

/* CLYMQ_EEXIST: a log has content. */
static int check_logs_empty(struct io_fs *fs, const char *dir)
{
    char **names;
    size_t count;
    int error = io_fs_list(fs, dir, &names, &count);
    if (error)
        return error;
    for (size_t i = 0; i < count && !error; i++) {
        char path[SEGMENT_PATH_MAX];
        uint64_t size;
        if (snprintf(path, sizeof(path), "%s/%s", dir, names[i]) >= (int)sizeof(path))
            error = CLYMQ_EEXIST;
        else if (is_log_name(names[i]) && !(error = log_file_size(fs, path, &size)) && size > 0)
            error = CLYMQ_EEXIST;
    }
    io_fs_free_names(names, count);
    return error;
}

bool block_is_unborn(struct io_fs *fs, const char *dir)
{
    return check_logs_empty(fs, dir) == 0;
}

/* Whether the folder may be made anew: it is not there, or it is what a creation that did not finish left.
 * CLYMQ_EEXIST otherwise. Nothing is changed. */
static int check_vacant(struct store *store, const struct block_key *key, const char *dir)
{
    int error = check_logs_empty(store->fs, dir);
    if (error)
        return error == CLYMQ_ENOENT ? 0 : error;
    struct block_key found;
    error = block_read_id(store->fs, dir, &found);
    if (error == CLYMQ_ENOENT || error == CLYMQ_ECORRUPT)
        return 0;
    if (error)
        return error;
    return !uuid_equal(found.id, key->id) || store_find_entry(store, key->id) ? CLYMQ_EEXIST : 0;
}

/* Makes folder, first segment and id, all durable. */
static int create_files(struct store *store, const struct block_key *key, const char *dir,
                        int64_t start_offset)
{
    struct io_fs *fs = store->fs;
    int error = io_fs_remove_tree(fs, dir);
    if (error && error != CLYMQ_ENOENT)
        return error;
    error = make_dirs(fs, dir);
    if (error ==
        CLYMQ_ENOENT) /* the partition's folder was empty, and removed with a deleted block just now */
        error = make_dirs(fs, dir);
    if (error)
        return error;
    char path[SEGMENT_PATH_MAX];
    struct io_file *file;
    segment_path(path, dir, start_offset, ".log");
    error = io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file);
    if (error)
        return error;
    io_file_close(file);
    error = block_write_id(fs, dir, key);
    return error ? error : sync_dirs(store, key, dir);
}

static void remove_files(struct io_fs *fs, const char *dir)
{
    char path[SEGMENT_PATH_MAX];
    snprintf(path, sizeof(path), "%s/id", dir);
    io_fs_unlink(fs, path);
    io_fs_remove_tree(fs, dir);
}

int block_create(struct store *store, const struct block_key *key, int64_t start_offset,
                 const struct block_events *events, struct block **ret_block)
{
    if (start_offset < 0)
        return CLYMQ_EINVAL;
    if (store->full)
        return CLYMQ_ENOSPC;
    if (store_find_open(store, key->id))
        return CLYMQ_EEXIST;
    char dir[BLOCK_DIR_MAX];
    block_dir(key, dir);
    int error = check_vacant(store, key, dir);
    if (error)
        return error;
    struct block *block = block_new(store, key, events);
    if (!block)
        return CLYMQ_ENOMEM;
    struct log_point at = {.offset = start_offset, .base = start_offset, .epoch = -1};
    block->start = start_offset;
    block->end = block->synced = block->durable = block->checkpoint = at;
    block->checkpoint_index = index_mark_empty();
    block->empty_snapshot = true;
    struct segment *segment = segment_new(start_offset, 0);
    error = segment ? block_add_segment(block, segment) : CLYMQ_ENOMEM;
    if (error) {
        segment_free(store, segment);
        block_free(block);
        return error;
    }
    segment->index_known = segment->index_checked = true;
    error = create_files(store, key, dir, start_offset);
    if (!error) {
        block->state_full = true;
        commit_put_state(store, block);
        error = commit_write_state(store);
    }
    if (!error) {
        error = io_file_sync(store->state.ref->file);
        if (error)
            store->state.broken = true;
    }
    if (error) {
        remove_files(store->fs, dir);
        block_free(block);
        store_drop_entry(store, key->id);
        state_put_drop(&store->state, key->id);
        commit_write_state(store);
        if (error == CLYMQ_ENOSPC)
            store_set_full(store, CREATE_BYTES);
        return error;
    }
    *ret_block = block;
    return 0;
}

/* ---- listing ---- */

struct key_list {
    struct block_key *keys;
    size_t count, cap;
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
            error = 0;
    }
    io_fs_free_names(names, count);
    return error;
}

int block_list(struct io_fs *fs, struct block_key **ret_keys, size_t *ret_count)
{
    struct key_list list = {0};
    int error = list_dir(fs, "data", 0, &list);
    if (error) {
        mem_free(list.keys);
        return error;
    }
    *ret_keys = list.keys;
    *ret_count = list.count;
    return 0;
}
