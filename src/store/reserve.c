/* The reserve: allocated, never written. Its name is in nobody's way, and losing it costs nothing. */
#include "store/reserve.h"

#include "base/error.h"

static const char path[] = "reserve";

/* A start writes the state of all blocks anew (some 180 bytes each) and some pages of metadata. */
enum { RESERVE_BYTES = 4 << 20, RESERVE_LEAST = 64 << 10 };

void store_reserve_release(struct io_fs *fs)
{
    (void)io_fs_unlink(fs, path);
}

int store_reserve_take(struct io_fs *fs)
{
    struct io_file *file;
    int error = io_fs_open(fs, path, IO_OPEN_WRITE | IO_OPEN_CREATE, &file);

    if (error)
        return error;
    /* Less is better than nothing: most starts need little. */
    for (uint64_t size = RESERVE_BYTES; size >= RESERVE_LEAST; size /= 2) {
        error = io_file_allocate(file, 0, size);
        if (error != CLYMQ_ENOSPC)
            break;
    }
    io_file_close(file);
    if (error)
        store_reserve_release(fs);
    return error == CLYMQ_EUNSUPPORTED ? 0 : error;
}
