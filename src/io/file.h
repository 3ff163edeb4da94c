/* Files: the vtable through which everything from store/ down touches a disk.
 *
 * Two implementations: the operating system's (io/os_fs.c) and the simulated disk (io/sim_fs.c), which keeps
 * what was synced apart from what was only written, and on a crash drops, tears and reorders the rest.
 *
 * The calls here are synchronous and run on the calling thread. Slow ones (sync above all) are given to a
 * shard's disk worker with io_loop_submit (io/loop.h) instead. A struct io_fs may be used by all threads; one
 * struct io_file by one thread at a time, except that sync, pread and pwritev on one file may run beside each
 * other. Paths are relative to the file system's root folder, with '/' between the parts; offsets and lengths
 * are bytes. All return 0 (or a count) or a negative error: CLYMQ_ENOSPC, CLYMQ_EIO, CLYMQ_ENOENT,
 * CLYMQ_EEXIST, CLYMQ_EDENIED, CLYMQ_ENOMEM, CLYMQ_ELIMIT. */
#ifndef CLYMQ_IO_FILE_H
#define CLYMQ_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

enum io_open_flags {
    IO_OPEN_READ = 0,           /* read only */
    IO_OPEN_WRITE = 1 << 0,     /* read and write */
    IO_OPEN_CREATE = 1 << 1,    /* made if missing; durable only after io_fs_sync_dir of its folder */
    IO_OPEN_EXCLUSIVE = 1 << 2, /* with CREATE: CLYMQ_EEXIST if there */
    IO_OPEN_TRUNCATE = 1 << 3,
};

struct io_fs;
struct io_file;

struct io_fs_ops {
    int (*open)(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file);
    void (*close)(struct io_file *file);
    ssize_t (*pread)(struct io_file *file, void *data, size_t len, uint64_t offset);
    ssize_t (*pwritev)(struct io_file *file, const struct iovec *parts, int count, uint64_t offset);
    int (*truncate)(struct io_file *file, uint64_t size);
    int (*allocate)(struct io_file *file, uint64_t offset, uint64_t len);
    int (*sync)(struct io_file *file);
    int (*sync_all)(struct io_file *file);
    int (*size)(struct io_file *file, uint64_t *ret_size);
    int (*rename)(struct io_fs *fs, const char *from, const char *to);
    int (*unlink)(struct io_fs *fs, const char *path);
    int (*make_dir)(struct io_fs *fs, const char *path);
    int (*remove_dir)(struct io_fs *fs, const char *path);
    int (*sync_dir)(struct io_fs *fs, const char *path);
    int (*list)(struct io_fs *fs, const char *path, char ***ret_names, size_t *ret_count);
    int (*space)(struct io_fs *fs, uint64_t *ret_free, uint64_t *ret_total);
    int (*lock)(struct io_fs *fs, const char *path, struct io_file **ret_lock);
};

/* Implementations begin their struct with these. */
struct io_fs {
    const struct io_fs_ops *ops;
};
struct io_file {
    const struct io_fs_ops *ops;
    int fd; /* the descriptor for sendfile; -1 on the simulated disk */
};

static inline int io_fs_open(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    return fs->ops->open(fs, path, flags, ret_file);
}
/* Closes without syncing. NULL is allowed. */
static inline void io_file_close(struct io_file *file)
{
    if (file)
        file->ops->close(file);
}
/* Reads up to len bytes; fewer only at the file's end (interruptions and short reads are retried inside). */
static inline ssize_t io_file_pread(struct io_file *file, void *data, size_t len, uint64_t offset)
{
    return file->ops->pread(file, data, len, offset);
}
/* Writes all parts or fails. After a failure any prefix may have been written. Returns the bytes written. */
static inline ssize_t io_file_pwritev(struct io_file *file, const struct iovec *parts, int count,
                                      uint64_t offset)
{
    return file->ops->pwritev(file, parts, count, offset);
}
static inline ssize_t io_file_pwrite(struct io_file *file, const void *data, size_t len, uint64_t offset)
{
    struct iovec part = {(void *)data, len};
    return file->ops->pwritev(file, &part, 1, offset);
}
static inline int io_file_truncate(struct io_file *file, uint64_t size)
{
    return file->ops->truncate(file, size);
}
/* Reserves disk space without changing the size that size() tells; CLYMQ_EUNSUPPORTED where the disk cannot.
 */
static inline int io_file_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
    return file->ops->allocate(file, offset, len);
}
/* fdatasync: content and size reach the disk. A failure is final for the file: its unsynced content is lost
 * or not, the caller must not retry (the kernel drops the error once it is reported). It is reported once to
 * each io_file that was open: of two syncs at the same time through one of them, either may hear of it. */
static inline int io_file_sync(struct io_file *file)
{
    return file->ops->sync(file);
}
/* All that was written to, made, renamed or removed in the whole file system of the file, by anybody, reaches
 * the disk: one call where there would be thousands. It tells of failures since this file was opened, each
 * once: open one for the purpose. CLYMQ_EUNSUPPORTED where the system does not tell (Linux before 5.8). */
static inline int io_file_sync_all(struct io_file *file)
{
    return file->ops->sync_all(file);
}
static inline int io_file_size(struct io_file *file, uint64_t *ret_size)
{
    return file->ops->size(file, ret_size);
}
/* Replaces `to` if it exists; durable after io_fs_sync_dir of the folder(s). */
static inline int io_fs_rename(struct io_fs *fs, const char *from, const char *to)
{
    return fs->ops->rename(fs, from, to);
}
/* Removes a file; CLYMQ_EINVAL for a folder. */
static inline int io_fs_unlink(struct io_fs *fs, const char *path)
{
    return fs->ops->unlink(fs, path);
}
static inline int io_fs_make_dir(struct io_fs *fs, const char *path)
{
    return fs->ops->make_dir(fs, path);
}
/* The folder must be empty. */
static inline int io_fs_remove_dir(struct io_fs *fs, const char *path)
{
    return fs->ops->remove_dir(fs, path);
}
/* Entries made, renamed and removed in the folder reach the disk. "" is the root. */
static inline int io_fs_sync_dir(struct io_fs *fs, const char *path)
{
    return fs->ops->sync_dir(fs, path);
}
/* The names in a folder, sorted by bytes, without "." and "..". Freed with io_fs_free_names. */
static inline int io_fs_list(struct io_fs *fs, const char *path, char ***ret_names, size_t *ret_count)
{
    return fs->ops->list(fs, path, ret_names, ret_count);
}
static inline int io_fs_space(struct io_fs *fs, uint64_t *ret_free, uint64_t *ret_total)
{
    return fs->ops->space(fs, ret_free, ret_total);
}
/* An exclusive lock on a file that is made if missing, held until io_file_close or the process ends.
 * CLYMQ_ELOCKED. */
static inline int io_fs_lock(struct io_fs *fs, const char *path, struct io_file **ret_lock)
{
    return fs->ops->lock(fs, path, ret_lock);
}

void io_fs_free_names(char **names, size_t count);

/* Helpers made of the calls above (io/file.c). */

/* Makes path and its missing parents, and syncs every folder on the way, because an earlier process may have
 * been killed between making and syncing. */
int io_fs_make_path(struct io_fs *fs, const char *path);
/* Whole content of a small file. CLYMQ_ETOOBIG beyond max_len. The caller frees *ret_data (mem_free). */
int io_fs_read_file(struct io_fs *fs, const char *path, size_t max_len, uint8_t **ret_data, size_t *ret_len);
/* Replaces a small file so that after a crash either the old or the new content is there: temporary file,
 * sync, rename, sync_dir. */
int io_fs_replace_file(struct io_fs *fs, const char *path, const void *data, size_t len);
/* Removes a folder and all in it. CLYMQ_ENOENT when it is not there. */
int io_fs_remove_tree(struct io_fs *fs, const char *path);

/* The operating system's files below root (made if missing, with parents). The caller frees with
 * io_os_fs_free. */
int io_os_fs_new(const char *root, struct io_fs **ret_fs);
void io_os_fs_free(struct io_fs *fs);

#endif
