/* The operating system's files below one root folder. Every path is resolved from the root's descriptor, so
 * the process may change its working directory; interruptions and short transfers are retried here and
 * nowhere else. */
#include <assert.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "base/error.h"
#include "base/list.h"
#include "base/mem.h"
#include "io/file.h"

/* Data of the queue is for its own user, and for a group that an administrator may choose to read it. */
enum { FOLDER_MODE = 0750, FILE_MODE = 0640 };
enum { PARTS_AT_ONCE = 64 };

struct os_fs {
    struct io_fs base;
    int root;
};

static struct os_fs *os_fs(struct io_fs *fs)
{
    return CONTAINER_OF(fs, struct os_fs, base);
}

/* As error_from_errno, but tells a folder in a file's place apart: io_fs_remove_tree relies on it. */
static int os_error(void)
{
    int error = errno == EISDIR ? CLYMQ_EINVAL : error_from_errno(errno);
    assert(error < 0);
    return error;
}

static const char *path_or_root(const char *path)
{
    return *path ? path : ".";
}

static int wrap_file(int fd, struct io_file **ret_file);

static int os_open(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    int how = O_CLOEXEC | (flags & IO_OPEN_WRITE ? O_RDWR : O_RDONLY);
    how |= (flags & IO_OPEN_CREATE ? O_CREAT : 0) | (flags & IO_OPEN_EXCLUSIVE ? O_EXCL : 0);
    how |= flags & IO_OPEN_TRUNCATE ? O_TRUNC : 0;
    int fd;
    do
        fd = openat(os_fs(fs)->root, path_or_root(path), how, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    if (fd < 0)
        return os_error();
    struct stat facts;
    if (fstat(fd, &facts) != 0 || !S_ISREG(facts.st_mode)) {
        close(fd);
        return CLYMQ_EINVAL;
    }
    return wrap_file(fd, ret_file);
}

static void os_close(struct io_file *file)
{
    close(file->fd);
    mem_free(file);
}

static ssize_t os_pread(struct io_file *file, void *data, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t got = pread(file->fd, (char *)data + done, len - done, (off_t)(offset + done));
        if (got == 0)
            break;
        if (got < 0 && errno != EINTR)
            return os_error();
        if (got > 0)
            done += (size_t)got;
    }
    return (ssize_t)done;
}

static ssize_t os_pwritev(struct io_file *file, const struct iovec *parts, int count, uint64_t offset)
{
    ssize_t done = 0;
    int part = 0;      /* the first part not wholly written */
    size_t inside = 0; /* bytes of it that are */
    for (;;) {
        struct iovec now[PARTS_AT_ONCE];
        int used = 0;
        for (int i = part; i < count && used < PARTS_AT_ONCE; i++) {
            size_t skip = i == part ? inside : 0;
            if (parts[i].iov_len > skip)
                now[used++] = (struct iovec){(char *)parts[i].iov_base + skip, parts[i].iov_len - skip};
        }
        if (used == 0)
            return done;
        ssize_t wrote = pwritev(file->fd, now, used, (off_t)offset + done);
        if (wrote < 0 && errno == EINTR)
            continue;
        if (wrote < 0)
            return os_error();
        if (wrote == 0)
            return CLYMQ_EIO;
        done += wrote;
        for (size_t left = (size_t)wrote; left > 0;) {
            size_t rest = parts[part].iov_len - inside;
            if (left < rest) {
                inside += left;
                break;
            }
            left -= rest;
            inside = 0;
            part++;
        }
    }
}

static int os_truncate(struct io_file *file, uint64_t size)
{
    int result;
    do
        result = ftruncate(file->fd, (off_t)size);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : os_error();
}

static int os_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
    int result;
    do
        result = fallocate(file->fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len);
    while (result != 0 && errno == EINTR);
    return result == 0 ? 0 : os_error();
}

/* Not retried on EINTR: a second call could report success for what the first one lost. */
static int os_sync(struct io_file *file)
{
    return fdatasync(file->fd) == 0 ? 0 : os_error();
}

/* Since Linux 5.8 syncfs(2) tells of writes that failed. */
static bool syncfs_tells(void)
{
    struct utsname system;
    int major = 0, minor = 0;
    /* What does not fit is no known release: NOLINTNEXTLINE(cert-err34-c) */
    return uname(&system) == 0 && sscanf(system.release, "%4d.%4d", &major, &minor) == 2 &&
           (major > 5 || (major == 5 && minor >= 8));
}

static int os_sync_all(struct io_file *file)
{
    if (!syncfs_tells())
        return CLYMQ_EUNSUPPORTED;
    return syncfs(file->fd) == 0 ? 0 : os_error();
}

static int os_size(struct io_file *file, uint64_t *ret_size)
{
    struct stat facts;
    if (fstat(file->fd, &facts) != 0)
        return os_error();
    *ret_size = (uint64_t)facts.st_size;
    return 0;
}

static int os_rename(struct io_fs *fs, const char *from, const char *to)
{
    int root = os_fs(fs)->root;
    return renameat(root, from, root, to) == 0 ? 0 : os_error();
}

static int os_unlink(struct io_fs *fs, const char *path)
{
    return unlinkat(os_fs(fs)->root, path, 0) == 0 ? 0 : os_error();
}

static int os_make_dir(struct io_fs *fs, const char *path)
{
    return mkdirat(os_fs(fs)->root, path, FOLDER_MODE) == 0 ? 0 : os_error();
}

static int os_remove_dir(struct io_fs *fs, const char *path)
{
    return unlinkat(os_fs(fs)->root, path, AT_REMOVEDIR) == 0 ? 0 : os_error();
}

static int open_folder(struct os_fs *fs, const char *path)
{
    int fd;
    do
        fd = openat(fs->root, path_or_root(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd < 0 ? os_error() : fd;
}

static int os_sync_dir(struct io_fs *fs, const char *path)
{
    int fd = open_folder(os_fs(fs), path);
    if (fd < 0)
        return fd;
    int error = fsync(fd) == 0 ? 0 : os_error();
    close(fd);
    return error;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int add_name(char ***names, size_t *count, size_t *cap, const char *name)
{
    if (*count == *cap) {
        size_t wider = *cap ? *cap * 2 : 16;
        char **moved = mem_realloc(*names, wider * sizeof(**names));
        if (!moved)
            return CLYMQ_ENOMEM;
        *names = moved;
        *cap = wider;
    }
    char *copy = mem_strdup(name);
    if (!copy)
        return CLYMQ_ENOMEM;
    (*names)[(*count)++] = copy;
    return 0;
}

static int os_list(struct io_fs *fs, const char *path, char ***ret_names, size_t *ret_count)
{
    int fd = open_folder(os_fs(fs), path);
    if (fd < 0)
        return fd;
    DIR *folder = fdopendir(fd);
    if (!folder) {
        int error = os_error();
        close(fd);
        return error;
    }
    char **names = NULL;
    size_t count = 0, cap = 0;
    int error = 0;
    while (!error) {
        errno = 0;
        struct dirent *entry = readdir(folder);
        if (!entry) {
            error = errno ? os_error() : 0;
            break;
        }
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = add_name(&names, &count, &cap, entry->d_name);
    }
    closedir(folder);
    if (error) {
        io_fs_free_names(names, count);
        return error;
    }
    if (count > 1)
        qsort(names, count, sizeof(*names), compare_names);
    *ret_names = names;
    *ret_count = count;
    return 0;
}

static int os_space(struct io_fs *fs, uint64_t *ret_free, uint64_t *ret_total)
{
    struct statvfs facts;
    if (fstatvfs(os_fs(fs)->root, &facts) != 0)
        return os_error();
    *ret_free = (uint64_t)facts.f_bavail * facts.f_frsize;
    *ret_total = (uint64_t)facts.f_blocks * facts.f_frsize;
    return 0;
}

/* flock(2): the lock belongs to the open file, so the kernel releases it however the process ends, and a
 * second lock in the same process is refused too. */
static int os_lock(struct io_fs *fs, const char *path, struct io_file **ret_lock)
{
    struct io_file *file;
    int error = os_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file);
    if (error == CLYMQ_EDENIED) /* to be looked at only, such as a snapshot */
        error = os_open(fs, path, IO_OPEN_READ, &file) ? error : 0;
    if (error)
        return error;
    int result;
    do
        result = flock(file->fd, LOCK_EX | LOCK_NB);
    while (result != 0 && errno == EINTR);
    if (result != 0) {
        error = errno == EWOULDBLOCK ? CLYMQ_ELOCKED : os_error();
        os_close(file);
        return error;
    }
    *ret_lock = file;
    return 0;
}

static const struct io_fs_ops os_fs_ops = {
    .open = os_open,
    .close = os_close,
    .pread = os_pread,
    .pwritev = os_pwritev,
    .truncate = os_truncate,
    .allocate = os_allocate,
    .sync = os_sync,
    .sync_all = os_sync_all,
    .size = os_size,
    .rename = os_rename,
    .unlink = os_unlink,
    .make_dir = os_make_dir,
    .remove_dir = os_remove_dir,
    .sync_dir = os_sync_dir,
    .list = os_list,
    .space = os_space,
    .lock = os_lock,
};

static int wrap_file(int fd, struct io_file **ret_file)
{
    struct io_file *file = mem_alloc(sizeof(*file));
    if (!file) {
        close(fd);
        return CLYMQ_ENOMEM;
    }
    *file = (struct io_file){.ops = &os_fs_ops, .fd = fd};
    *ret_file = file;
    return 0;
}

/* Where the path of the folder that path is in ends; NULL: in the root's or the working folder. path has no
 * slash at its end. */
static char *parent_end(char *path)
{
    char *slash = strrchr(path, '/');
    while (slash && slash > path && slash[-1] == '/')
        slash--;
    return slash == path ? NULL : slash;
}

static int sync_parent_of(char *path)
{
    char *end = parent_end(path);
    if (end)
        *end = '\0';
    int fd = open(end ? path : *path == '/' ? "/" : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int error = fd >= 0 && fsync(fd) == 0 ? 0 : os_error();
    if (fd >= 0)
        close(fd);
    if (end)
        *end = '/';
    return error;
}

/* Makes the folder, and those above it that are missing. Each folder that gained one is synced, and the one
 * that has the first that was there already, too: who made that may have been killed before it could sync. */
static int make_root(char *path)
{
    if (mkdir(path, FOLDER_MODE) == 0)
        return sync_parent_of(path);
    if (errno == EEXIST) { /* in a folder that only others may read, perhaps, or that cannot be written */
        int error = sync_parent_of(path);
        return error == CLYMQ_EDENIED || error == CLYMQ_EINVAL || error == CLYMQ_EUNSUPPORTED ? 0 : error;
    }
    char *end = parent_end(path);
    if (errno != ENOENT || !end)
        return os_error();
    *end = '\0';
    int error = make_root(path);
    *end = '/';
    if (error)
        return error;
    if (mkdir(path, FOLDER_MODE) != 0 && errno != EEXIST)
        return os_error();
    return sync_parent_of(path);
}

int io_os_fs_new(const char *root, struct io_fs **ret_fs)
{
    if (!*root)
        return CLYMQ_EINVAL;
    char *path MEM_CLEANUP = mem_strdup(root);
    if (!path)
        return CLYMQ_ENOMEM;
    for (size_t len = strlen(path); len > 1 && path[len - 1] == '/'; len--)
        path[len - 1] = '\0';
    int error = make_root(path);
    if (error)
        return error;
    int fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return os_error();
    struct os_fs *fs = mem_alloc(sizeof(*fs));
    if (!fs) {
        close(fd);
        return CLYMQ_ENOMEM;
    }
    *fs = (struct os_fs){.base = {.ops = &os_fs_ops}, .root = fd};
    *ret_fs = &fs->base;
    return 0;
}

void io_os_fs_free(struct io_fs *fs)
{
    if (!fs)
        return;
    close(os_fs(fs)->root);
    mem_free(os_fs(fs));
}
