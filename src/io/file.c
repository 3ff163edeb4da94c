/* Helpers made of the file vtable's calls, the same on a real and on a simulated disk: making and removing
 * trees, reading small files, replacing them so that a crash leaves the old or the new one. */
#include "io/file.h"

#include <assert.h>
#include <string.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/mem.h"

/* Deeper trees are not ours; the bound keeps the recursion of io_fs_remove_tree small. */
enum { TREE_DEPTH_MAX = 128 };

void io_fs_free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
}

/* The folder that path is in, as a text of its own. NULL: out of memory. */
static char *parent_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return mem_strndup(path, slash ? (size_t)(slash - path) : 0);
}

static int sync_parent(struct io_fs *fs, const char *path)
{
    char *parent MEM_CLEANUP = parent_of(path);
    return parent ? io_fs_sync_dir(fs, parent) : CLYMQ_ENOMEM;
}

/* The parent of a folder that was there already is synced too: the process that made it may have been killed
 * before it could sync, and then only the page cache knows of the folder. */
static int make_and_sync_dir(struct io_fs *fs, const char *path)
{
    int error = io_fs_make_dir(fs, path);
    if (error && error != CLYMQ_EEXIST)
        return error;
    return sync_parent(fs, path);
}

int io_fs_make_path(struct io_fs *fs, const char *path)
{
    char *prefix MEM_CLEANUP = mem_strdup(path);
    if (!prefix)
        return CLYMQ_ENOMEM;
    for (char *at = prefix; *at; at++) {
        if (*at != '/' || at == prefix)
            continue;
        *at = '\0';
        int error = make_and_sync_dir(fs, prefix);
        *at = '/';
        if (error)
            return error;
    }
    return *prefix ? make_and_sync_dir(fs, prefix) : 0;
}

int io_fs_read_file(struct io_fs *fs, const char *path, size_t max_len, uint8_t **ret_data, size_t *ret_len)
{
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_READ, &file);
    if (error)
        return error;
    uint64_t size;
    uint8_t *data = NULL;
    error = io_file_size(file, &size);
    if (!error && size > max_len)
        error = CLYMQ_ETOOBIG;
    if (!error && !(data = mem_alloc((size_t)size + 1)))
        error = CLYMQ_ENOMEM;
    if (!error) {
        ssize_t len = io_file_pread(file, data, (size_t)size, 0);
        if (len < 0) {
            error = (int)len;
        } else {
            data[len] = '\0'; /* beyond the content, for callers that parse text */
            *ret_data = data;
            *ret_len = (size_t)len;
        }
    }
    if (error)
        mem_free(data);
    io_file_close(file);
    return error;
}

static int write_and_sync(struct io_fs *fs, const char *path, const void *data, size_t len)
{
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE | IO_OPEN_TRUNCATE, &file);
    if (error)
        return error;
    ssize_t written = io_file_pwrite(file, data, len, 0);
    error = written < 0 ? (int)written : io_file_sync(file);
    io_file_close(file);
    return error;
}

int io_fs_replace_file(struct io_fs *fs, const char *path, const void *data, size_t len)
{
    struct strbuf temporary = {0};
    strbuf_printf(&temporary, "%s.tmp", path);
    int error = temporary.failed ? CLYMQ_ENOMEM : write_and_sync(fs, temporary.data, data, len);
    if (!error)
        error = io_fs_rename(fs, temporary.data, path);
    if (error && !temporary.failed)
        io_fs_unlink(fs, temporary.data);
    if (!error)
        error = sync_parent(fs, path);
    strbuf_free(&temporary);
    return error;
}

static int remove_tree(struct io_fs *fs, const char *path, unsigned depth)
{
    int error = io_fs_unlink(fs, path);
    if (error != CLYMQ_EINVAL) /* a file, now gone, or the reason why not; CLYMQ_EINVAL: a folder */
        return error;
    if (depth == TREE_DEPTH_MAX)
        return CLYMQ_ELIMIT;
    char **names;
    size_t count;
    error = io_fs_list(fs, path, &names, &count);
    if (error)
        return error;
    for (size_t i = 0; i < count && !error; i++) {
        struct strbuf child = {0};
        strbuf_printf(&child, "%s/%s", path, names[i]);
        error = child.failed ? CLYMQ_ENOMEM : remove_tree(fs, child.data, depth + 1);
        if (error == CLYMQ_ENOENT)
            error = 0;
        strbuf_free(&child);
    }
    io_fs_free_names(names, count);
    return error ? error : io_fs_remove_dir(fs, path);
}

int io_fs_remove_tree(struct io_fs *fs, const char *path)
{
    return *path ? remove_tree(fs, path, 0) : CLYMQ_EINVAL;
}
