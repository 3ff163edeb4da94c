/* Making a block on disk, and its identity. */
#include <stdio.h>

#define LOG_MODULE "store"
#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/index.h"
#include "store/store_impl.h"
#include "wire/byte_order.h"

enum { ID_VERSION = 1, ID_SIZE = 8 + 4 + 40 + 4 };
static const char id_magic[8] = "clymqblk";

/* ---- the file `id` ---- */

/* Without a sync. */
static int write_id(struct io_fs *fs, const char *dir, const struct block_key *key, struct io_file **ret_file)
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
    if (written < 0) {
        io_file_close(file);
        return (int)written;
    }
    *ret_file = file;
    return 0;
}

int block_write_id(struct io_fs *fs, const char *dir, const struct block_key *key)
{
    struct io_file *file;
    int error = write_id(fs, dir, key, &file);
    if (error)
        return error;
    error = io_file_sync(file);
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

bool block_key_equal(const struct block_key *a, const struct block_key *b)
{
    return uuid_equal(a->topic, b->topic) && a->partition == b->partition && a->seq == b->seq &&
           uuid_equal(a->id, b->id);
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
 * whoever made it may have been killed before it could. */
static int sync_dirs(struct io_fs *fs, const char *dir)
{
    char path[BLOCK_DIR_MAX];
    snprintf(path, sizeof(path), "%s", dir);
    for (int depth = 4; depth > 0; depth--) {
        int error = io_fs_sync_dir(fs, path);
        if (error)
            return error;
        char *slash = strrchr(path, '/');
        if (slash)
            *slash = '\0';
    }
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
static int check_vacant(struct io_fs *fs, const struct block_key *key, bool recorded, const char *dir)
{
    int error = check_logs_empty(fs, dir);
    if (error)
        return error == CLYMQ_ENOENT ? 0 : error;
    struct block_key found;
    error = block_read_id(fs, dir, &found);
    if (error == CLYMQ_ENOENT || error == CLYMQ_ECORRUPT)
        return 0;
    if (error)
        return error;
    return !uuid_equal(found.id, key->id) || recorded ? CLYMQ_EEXIST : 0;
}

int block_make_files(struct io_fs *fs, const struct block_key *key, int64_t start_offset, bool recorded)
{
    char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
    block_dir(key, dir);
    int error = check_vacant(fs, key, recorded, dir);
    if (error)
        return error;
    error = io_fs_remove_tree(fs, dir);
    if (error && error != CLYMQ_ENOENT)
        return error;
    error = make_dirs(fs, dir);
    if (error ==
        CLYMQ_ENOENT) /* the partition's folder was empty, and removed with a deleted block just now */
        error = make_dirs(fs, dir);
    if (error)
        return error;
    struct io_file *file;
    segment_path(path, dir, start_offset, ".log");
    error = io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file);
    if (!error)
        io_file_close(file);
    if (!error)
        error = write_id(fs, dir, key, &file);
    if (!error)
        io_file_close(file);
    else
        block_remove_files(fs, key);
    return error;
}

int block_sync_files(struct io_fs *fs, const struct block_key *key)
{
    char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
    block_dir(key, dir);
    snprintf(path, sizeof(path), "%s/id", dir);
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_WRITE, &file);
    if (error)
        return error;
    error = io_file_sync(file);
    io_file_close(file);
    return error ? error : sync_dirs(fs, dir);
}

void block_remove_files(struct io_fs *fs, const struct block_key *key)
{
    char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
    block_dir(key, dir);
    snprintf(path, sizeof(path), "%s/id", dir);
    io_fs_unlink(fs, path);
    io_fs_remove_tree(fs, dir);
}

void block_first_entry(const struct block_key *key, int64_t start_offset, struct state_entry *ret_entry)
{
    struct log_point at = {.offset = start_offset, .base = start_offset, .epoch = -1};
    *ret_entry = (struct state_entry){
        .key = *key,
        .start = start_offset,
        .mark = at,
        .checkpoint = at,
        .index = index_mark_empty(),
        .empty_snapshot = true,
    };
}

int block_create(struct store *store, const struct block_key *key, int64_t start_offset,
                 const struct block_events *events, struct block **ret_block)
{
    if (start_offset < 0)
        return CLYMQ_EINVAL;
    if (store_refuses(store, BLOCK_CREATE_BYTES))
        return CLYMQ_ENOSPC;
    if (store_find_open(store, key->id))
        return CLYMQ_EEXIST;
    struct block *block = block_new(store, key, events);
    if (!block)
        return CLYMQ_ENOMEM;
    struct state_entry first;
    block_first_entry(key, start_offset, &first);
    block->start = start_offset;
    block->end = block->synced = block->durable = block->checkpoint = first.mark;
    block->checkpoint_index = first.index;
    block->empty_snapshot = true;
    struct segment *segment = segment_new(start_offset, 0);
    int error = segment ? block_add_segment(block, segment) : CLYMQ_ENOMEM;
    if (error) {
        segment_free(store, segment);
        block_free(block);
        return error;
    }
    segment->index_known = segment->index_checked = true;
    error = block_make_files(store->fs, key, start_offset, store_find_entry(store, key->id) != NULL);
    bool made = !error;
    if (!error)
        error = block_sync_files(store->fs, key);
    if (!error) {
        store_renew_entry(store, key->id);
        block->state_full = true;
        store_state_put(store, block);
        error = store_state_write(store);
    }
    if (!error) {
        error = io_file_sync(store->state.ref->file);
        if (error)
            store->state.broken = true;
    }
    if (error) {
        block_free(block);
        if (made) {
            block_remove_files(store->fs, key);
            store_drop_entry(store, key->id);
        }
        if (error == CLYMQ_ENOSPC)
            store_set_full(store, BLOCK_CREATE_BYTES);
        return error;
    }
    *ret_block = block;
    return 0;
}
