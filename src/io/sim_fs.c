/* The file vtable over a simulated disk: paths, open files, and the faults drawn for each call. Operations
 * that change the disk are counted, and one of them may be the last before a crash (sim_disk_fail_from_op):
 * it then takes effect in part, in whole or not at all. Single-threaded, unlike the real one. */
#include "io/sim_fs.h"

#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"

enum { NAME_LEN_MAX = 255, PPM = 1000000 };
/* What an unlimited disk says of its size. */
#define UNLIMITED_CAPACITY ((uint64_t)1 << 40)

struct sim_handle {
    struct io_file base;
    struct sim_disk *disk;
    struct sim_inode *inode; /* NULL: dead, its process crashed */
    bool writable, is_lock;
    uint64_t errors_told; /* of inode->sync_errors */
    struct list link;     /* in disk->files */
};

static struct sim_disk *disk_of(struct io_fs *fs)
{
    return CONTAINER_OF(fs, struct sim_disk, fs);
}

static struct sim_handle *handle_of(struct io_file *file)
{
    return CONTAINER_OF(file, struct sim_handle, base);
}

static bool disk_is_down(const struct sim_disk *disk)
{
    return disk->failed || disk->offline;
}

static bool handle_is_down(const struct sim_handle *handle)
{
    return !handle->inode || disk_is_down(handle->disk);
}

static bool draw(struct sim_disk *disk, uint32_t ppm)
{
    return ppm && rng_chance(&disk->rng, ppm, PPM);
}

/* Counts an operation that changes the disk. true: the disk dies in it. */
static bool op_is_last(struct sim_disk *disk)
{
    disk->ops++;
    return disk->fail_at && disk->ops == disk->fail_at;
}

/* Always CLYMQ_EIO. The crash that on_failed makes takes open files away, so nothing may be touched
 * afterwards. */
static int disk_dies(struct sim_disk *disk)
{
    disk->failed = true;
    disk->fail_at = 0;
    if (disk->on_failed)
        disk->on_failed(disk->failed_ctx);
    return CLYMQ_EIO;
}

static int draw_change_fault(struct sim_disk *disk, bool needs_space)
{
    if (draw(disk, disk->faults.eio_write_ppm))
        return CLYMQ_EIO;
    return needs_space && draw(disk, disk->faults.enospc_write_ppm) ? CLYMQ_ENOSPC : 0;
}

/* A change that is made or drawn to fail, and may be the disk's last operation. */
#define MAKE_CHANGE(disk, needs_space, change)                                                               \
    do {                                                                                                     \
        bool last_ = op_is_last(disk);                                                                       \
        int error_ = last_ ? 0 : draw_change_fault(disk, needs_space);                                       \
        if (!error_ && (!last_ || rng_chance(&(disk)->rng, 1, 2)))                                           \
            error_ = (change);                                                                               \
        if (last_)                                                                                           \
            return disk_dies(disk);                                                                          \
        if (error_)                                                                                          \
            return error_;                                                                                   \
    } while (0)

/* The folder that path's last part is in, and that part. The root itself has no last part: CLYMQ_EINVAL. */
static int resolve(struct sim_disk *disk, const char *path, struct sim_inode **ret_dir, const char **ret_name)
{
    struct sim_inode *dir = disk->root;
    for (;;) {
        const char *slash = strchr(path, '/');
        size_t len = slash ? (size_t)(slash - path) : strlen(path);
        if (len == 0 || (len <= 2 && memcmp(path, "..", len) == 0))
            return CLYMQ_EINVAL;
        if (len > NAME_LEN_MAX)
            return CLYMQ_EIO;
        if (!slash) {
            *ret_dir = dir;
            *ret_name = path;
            return 0;
        }
        dir = sim_entries_find(&dir->entries, path, len);
        if (!dir || !dir->is_dir)
            return CLYMQ_ENOENT;
        path = slash + 1;
    }
}

static struct sim_inode *entry_of(struct sim_inode *dir, const char *name)
{
    return sim_entries_find(&dir->entries, name, strlen(name));
}

int sim_fs_find(struct sim_disk *disk, const char *path, struct sim_inode **ret_inode)
{
    struct sim_inode *inode = disk->root;
    if (*path) {
        struct sim_inode *dir;
        const char *name;
        int error = resolve(disk, path, &dir, &name);
        if (error)
            return error;
        inode = entry_of(dir, name);
    }
    if (!inode)
        return CLYMQ_ENOENT;
    *ret_inode = inode;
    return 0;
}

static int find_folder(struct sim_disk *disk, const char *path, struct sim_inode **ret_dir)
{
    struct sim_inode *inode;
    int error = sim_fs_find(disk, path, &inode);
    if (error)
        return error;
    if (!inode->is_dir)
        return CLYMQ_ENOENT;
    *ret_dir = inode;
    return 0;
}

static int make_entry(struct sim_disk *disk, struct sim_inode *dir, const char *name, bool is_dir)
{
    struct sim_inode *inode = sim_inode_new(is_dir);
    if (!inode)
        return CLYMQ_ENOMEM;
    int error = sim_dir_link(disk, dir, name, inode);
    sim_inode_unref(disk, inode);
    return error;
}

static const struct io_fs_ops sim_fs_ops;

static int sim_open(struct io_fs *fs, const char *path, unsigned flags, struct io_file **ret_file)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk))
        return CLYMQ_EIO;
    struct sim_inode *dir;
    const char *name;
    int error = resolve(disk, path, &dir, &name);
    if (error)
        return error;
    struct sim_inode *inode = entry_of(dir, name);
    if (!inode && !(flags & IO_OPEN_CREATE))
        return CLYMQ_ENOENT;
    if (inode && (flags & IO_OPEN_CREATE) && (flags & IO_OPEN_EXCLUSIVE))
        return CLYMQ_EEXIST;
    if (inode && inode->is_dir)
        return CLYMQ_EINVAL;
    struct sim_handle *handle = mem_alloc(sizeof(*handle));
    if (!handle)
        return CLYMQ_ENOMEM;
    bool last = false;
    if (!inode || (flags & IO_OPEN_TRUNCATE)) {
        last = op_is_last(disk);
        error = last ? 0 : draw_change_fault(disk, !inode);
        if (!error && (!last || rng_chance(&disk->rng, 1, 2)))
            error = inode ? sim_content_truncate(disk, inode, 0) : make_entry(disk, dir, name, false);
    } else if (draw(disk, disk->faults.eio_read_ppm)) {
        error = CLYMQ_EIO;
    }
    if (last)
        error = disk_dies(disk);
    if (error) {
        mem_free(handle);
        return error;
    }
    inode = sim_inode_ref(entry_of(dir, name));
    *handle = (struct sim_handle){.base = {.ops = &sim_fs_ops, .fd = -1},
                                  .disk = disk,
                                  .inode = inode,
                                  .writable = flags & IO_OPEN_WRITE,
                                  .errors_told = inode->sync_errors};
    list_push_back(&disk->files, &handle->link);
    *ret_file = &handle->base;
    return 0;
}

static void handle_drop_inode(struct sim_handle *handle)
{
    if (!handle->inode)
        return;
    if (handle->is_lock)
        handle->inode->locked = false;
    sim_inode_unref(handle->disk, handle->inode);
    handle->inode = NULL;
}

static void sim_close(struct io_file *file)
{
    struct sim_handle *handle = handle_of(file);
    handle_drop_inode(handle);
    list_remove(&handle->link);
    mem_free(handle);
}

void sim_fs_drop_files(struct sim_disk *disk, bool free_them)
{
    LIST_FOR_EACH_SAFE(item, &disk->files) {
        struct sim_handle *handle = CONTAINER_OF(item, struct sim_handle, link);
        if (free_them)
            sim_close(&handle->base);
        else
            handle_drop_inode(handle);
    }
}

static ssize_t sim_pread(struct io_file *file, void *data, size_t len, uint64_t offset)
{
    struct sim_handle *handle = handle_of(file);
    if (handle_is_down(handle) || draw(handle->disk, handle->disk->faults.eio_read_ppm))
        return CLYMQ_EIO;
    return (ssize_t)sim_content_read(handle->disk, handle->inode, data, len, offset);
}

/* How much of a write that fails was done all the same: often nothing, often all of it. */
static size_t draw_part(struct rng *rng, size_t total)
{
    uint64_t drawn = rng_below(rng, 4);
    return drawn == 0 ? 0 : drawn == 1 ? total : (size_t)rng_below(rng, total + 1);
}

/* How many of total bytes a write moves, and the error it ends with. */
static size_t draw_write_fault(struct sim_disk *disk, size_t total, bool last, int *ret_error)
{
    struct rng *rng = &disk->rng;
    *ret_error = 0;
    if (last) {
        *ret_error = CLYMQ_EIO;
        return draw_part(rng, total);
    }
    if (draw(disk, disk->faults.eio_write_ppm)) {
        *ret_error = CLYMQ_EIO;
        return draw_part(rng, total);
    }
    if (draw(disk, disk->faults.enospc_write_ppm)) {
        *ret_error = CLYMQ_ENOSPC;
        return draw_part(rng, total);
    }
    if (draw(disk, disk->faults.short_write_ppm)) {
        *ret_error = rng_chance(rng, 1, 2) ? CLYMQ_EIO : CLYMQ_ENOSPC;
        return draw_part(rng, total);
    }
    return total;
}

static int write_parts(struct sim_handle *handle, const struct iovec *parts, int count, uint64_t offset,
                       size_t limit)
{
    for (int i = 0; i < count && limit > 0; i++) {
        size_t len = parts[i].iov_len < limit ? parts[i].iov_len : limit;
        ssize_t wrote = sim_content_write(handle->disk, handle->inode, parts[i].iov_base, len, offset);
        if (wrote < 0)
            return (int)wrote;
        if ((size_t)wrote < len)
            return CLYMQ_ENOSPC;
        offset += len;
        limit -= len;
    }
    return 0;
}

static void maybe_write_back(struct sim_handle *handle)
{
    const struct sim_disk_faults *faults = &handle->disk->faults;
    if (!faults->lose_all_unsynced && !faults->ignore_sync && rng_chance(&handle->disk->rng, 1, 32))
        sim_content_write_back(handle->disk, handle->inode);
}

static ssize_t sim_pwritev(struct io_file *file, const struct iovec *parts, int count, uint64_t offset)
{
    struct sim_handle *handle = handle_of(file);
    struct sim_disk *disk = handle->disk;
    if (handle_is_down(handle) || !handle->writable)
        return CLYMQ_EIO;
    size_t total = 0;
    for (int i = 0; i < count; i++)
        total += parts[i].iov_len;
    bool last = op_is_last(disk);
    int error;
    size_t limit = draw_write_fault(disk, total, last, &error);
    int write_error = write_parts(handle, parts, count, offset, limit);
    if (last)
        return disk_dies(disk);
    maybe_write_back(handle);
    if (write_error)
        return write_error;
    return error ? error : (ssize_t)total;
}

static int sim_truncate(struct io_file *file, uint64_t size)
{
    struct sim_handle *handle = handle_of(file);
    if (handle_is_down(handle) || !handle->writable)
        return CLYMQ_EIO;
    MAKE_CHANGE(handle->disk, false, sim_content_truncate(handle->disk, handle->inode, size));
    return 0;
}

static int sim_allocate(struct io_file *file, uint64_t offset, uint64_t len)
{
    struct sim_handle *handle = handle_of(file);
    if (handle_is_down(handle) || !handle->writable)
        return CLYMQ_EIO;
    int error = draw_change_fault(handle->disk, true);
    return error ? error : sim_content_allocate(handle->disk, handle->inode, offset, len);
}

static int sim_sync(struct io_file *file)
{
    struct sim_handle *handle = handle_of(file);
    if (handle_is_down(handle))
        return CLYMQ_EIO;
    struct sim_disk *disk = handle->disk;
    if (op_is_last(disk)) {
        uint64_t part =
            disk->faults.ignore_sync || disk->faults.lose_all_unsynced ? 0 : rng_below(&disk->rng, 3);
        if (part == 1)
            sim_content_write_back(disk, handle->inode);
        else if (part == 2)
            sim_content_sync(disk, handle->inode);
        return disk_dies(disk);
    }
    if (draw(disk, disk->faults.eio_sync_ppm)) {
        sim_content_sync_failed(disk, handle->inode);
        handle->inode->sync_errors++;
    } else if (!disk->faults.ignore_sync) {
        sim_content_sync(disk, handle->inode);
    }
    bool failed = handle->errors_told != handle->inode->sync_errors;
    handle->errors_told = handle->inode->sync_errors;
    return failed ? CLYMQ_EIO : 0;
}

static void sync_files(struct sim_disk *disk, struct sim_inode *dir)
{
    for (size_t i = 0; i < dir->entries.count; i++) {
        struct sim_inode *inode = dir->entries.items[i].inode;
        if (inode->is_dir)
            sync_files(disk, inode);
        else
            sim_content_sync(disk, inode);
    }
}

static void sync_some(struct sim_disk *disk)
{
    if (disk->faults.ignore_sync || disk->faults.lose_all_unsynced)
        return;
    if (rng_chance(&disk->rng, 1, 2))
        sync_files(disk, disk->root);
    sim_dir_sync_all(disk, rng_below(&disk->rng, disk->journal_count + 1));
}

/* A failure leaves what is not durable yet to later syncs. */
static int sim_sync_all(struct io_file *file)
{
    struct sim_handle *handle = handle_of(file);
    if (handle_is_down(handle))
        return CLYMQ_EIO;
    struct sim_disk *disk = handle->disk;
    if (op_is_last(disk)) {
        sync_some(disk);
        return disk_dies(disk);
    }
    if (draw(disk, disk->faults.eio_sync_ppm)) {
        sync_some(disk);
        return CLYMQ_EIO;
    }
    if (!disk->faults.ignore_sync) {
        sync_files(disk, disk->root);
        sim_dir_sync_all(disk, disk->journal_count);
    }
    return 0;
}

static int sim_size(struct io_file *file, uint64_t *ret_size)
{
    struct sim_handle *handle = handle_of(file);
    if (handle_is_down(handle))
        return CLYMQ_EIO;
    *ret_size = handle->inode->content.size;
    return 0;
}

/* The errors are those of rename(2) by way of io/os_fs.c. */
static int check_rename(struct sim_inode *dir, struct sim_inode *inode, struct sim_inode *to_dir,
                        struct sim_inode *target)
{
    if (!inode)
        return CLYMQ_ENOENT;
    if (inode->is_dir && sim_dir_contains(inode, to_dir, false))
        return CLYMQ_EINVAL;
    if (!target)
        return 0;
    if (target->is_dir && sim_dir_contains(target, dir, false))
        return CLYMQ_EEXIST;
    if (inode->is_dir && !target->is_dir)
        return CLYMQ_ENOENT;
    if (!inode->is_dir && target->is_dir)
        return CLYMQ_EINVAL;
    return target->is_dir && target->entries.count > 0 ? CLYMQ_EEXIST : 0;
}

static int sim_rename(struct io_fs *fs, const char *from, const char *to)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk))
        return CLYMQ_EIO;
    struct sim_inode *dir, *to_dir;
    const char *name, *to_name;
    int error = resolve(disk, from, &dir, &name);
    if (!error)
        error = resolve(disk, to, &to_dir, &to_name);
    if (error)
        return error;
    struct sim_inode *inode = entry_of(dir, name), *target = entry_of(to_dir, to_name);
    if (inode && inode == target)
        return 0;
    error = check_rename(dir, inode, to_dir, target);
    if (error)
        return error;
    MAKE_CHANGE(disk, false, sim_dir_rename(disk, dir, name, to_dir, to_name));
    return 0;
}

static int remove_entry(struct io_fs *fs, const char *path, bool is_dir)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk))
        return CLYMQ_EIO;
    struct sim_inode *dir;
    const char *name;
    int error = resolve(disk, path, &dir, &name);
    if (error)
        return error;
    struct sim_inode *inode = entry_of(dir, name);
    if (!inode)
        return CLYMQ_ENOENT;
    if (inode->is_dir != is_dir)
        return is_dir ? CLYMQ_ENOENT : CLYMQ_EINVAL;
    if (inode->entries.count > 0)
        return CLYMQ_EEXIST;
    MAKE_CHANGE(disk, false, sim_dir_unlink(disk, dir, name));
    return 0;
}

static int sim_unlink(struct io_fs *fs, const char *path)
{
    return remove_entry(fs, path, false);
}

static int sim_remove_dir(struct io_fs *fs, const char *path)
{
    return remove_entry(fs, path, true);
}

static int sim_make_dir(struct io_fs *fs, const char *path)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk))
        return CLYMQ_EIO;
    struct sim_inode *dir;
    const char *name;
    int error = resolve(disk, path, &dir, &name);
    if (error)
        return error;
    if (entry_of(dir, name))
        return CLYMQ_EEXIST;
    MAKE_CHANGE(disk, true, make_entry(disk, dir, name, true));
    return 0;
}

static int sim_sync_dir(struct io_fs *fs, const char *path)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk))
        return CLYMQ_EIO;
    struct sim_inode *dir;
    int error = find_folder(disk, path, &dir);
    if (error)
        return error;
    bool ignore = disk->faults.ignore_sync;
    if (op_is_last(disk)) {
        if (!ignore && !disk->faults.lose_all_unsynced && rng_chance(&disk->rng, 1, 2))
            sim_dir_sync(disk, dir);
        return disk_dies(disk);
    }
    if (draw(disk, disk->faults.eio_sync_ppm)) {
        if (!ignore && rng_chance(&disk->rng, 1, 2))
            sim_dir_sync(disk, dir);
        return CLYMQ_EIO;
    }
    if (!ignore)
        sim_dir_sync(disk, dir);
    return 0;
}

static int sim_list(struct io_fs *fs, const char *path, char ***ret_names, size_t *ret_count)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk) || draw(disk, disk->faults.eio_read_ppm))
        return CLYMQ_EIO;
    struct sim_inode *dir;
    int error = find_folder(disk, path, &dir);
    if (error)
        return error;
    size_t count = dir->entries.count;
    char **names = mem_calloc(count, sizeof(*names));
    if (!names)
        return CLYMQ_ENOMEM;
    for (size_t i = 0; i < count; i++) {
        names[i] = mem_strdup(dir->entries.items[i].name);
        if (!names[i]) {
            io_fs_free_names(names, i);
            return CLYMQ_ENOMEM;
        }
    }
    *ret_names = names;
    *ret_count = count;
    return 0;
}

static int sim_space(struct io_fs *fs, uint64_t *ret_free, uint64_t *ret_total)
{
    struct sim_disk *disk = disk_of(fs);
    if (disk_is_down(disk))
        return CLYMQ_EIO;
    uint64_t total = disk->faults.capacity ? disk->faults.capacity : UNLIMITED_CAPACITY;
    uint64_t used = disk->used_pages * SIM_PAGE;
    *ret_free = used < total ? total - used : 0;
    *ret_total = total;
    return 0;
}

static int sim_lock(struct io_fs *fs, const char *path, struct io_file **ret_lock)
{
    struct io_file *file;
    int error = sim_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file);
    if (error)
        return error;
    struct sim_handle *handle = handle_of(file);
    if (handle->inode->locked) {
        sim_close(file);
        return CLYMQ_ELOCKED;
    }
    handle->is_lock = handle->inode->locked = true;
    *ret_lock = file;
    return 0;
}

static const struct io_fs_ops sim_fs_ops = {
    .open = sim_open,
    .close = sim_close,
    .pread = sim_pread,
    .pwritev = sim_pwritev,
    .truncate = sim_truncate,
    .allocate = sim_allocate,
    .sync = sim_sync,
    .sync_all = sim_sync_all,
    .size = sim_size,
    .rename = sim_rename,
    .unlink = sim_unlink,
    .make_dir = sim_make_dir,
    .remove_dir = sim_remove_dir,
    .sync_dir = sim_sync_dir,
    .list = sim_list,
    .space = sim_space,
    .lock = sim_lock,
};

void sim_fs_init(struct sim_disk *disk)
{
    disk->fs.ops = &sim_fs_ops;
}
