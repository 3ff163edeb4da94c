/* Reading a segment's log from beginning to end, outside of a server: see fsck.h. */
#include "base/error.h"
#include "base/mem.h"
#include "store/fsck.h"

enum { SCAN_READ = 1 << 18 };

int segment_scan_begin(struct io_fs *fs, const char *path, struct segment_scan *ret_scan)
{
    struct segment_scan scan = {0};
    int error = io_fs_open(fs, path, IO_OPEN_READ, &scan.file);
    if (error)
        return error;
    error = io_file_size(scan.file, &scan.size);
    if (error) {
        io_file_close(scan.file);
        return error;
    }
    *ret_scan = scan;
    return 0;
}

/* Makes at least need bytes from position on available, or all that the file has. */
static int scan_fill(struct segment_scan *scan, uint64_t position, size_t need, struct bytes *ret_bytes)
{
    uint64_t left = scan->size - position;
    if (need > left)
        need = (size_t)left;
    uint64_t skip = position - scan->buffer_at;
    if (skip > scan->buffer_len || scan->buffer_len - skip < need) {
        size_t want = need > SCAN_READ ? need : SCAN_READ;
        if (want > left)
            want = (size_t)left;
        if (want > scan->buffer_cap) {
            uint8_t *grown = mem_realloc(scan->buffer, want);
            if (!grown)
                return CLYMQ_ENOMEM;
            scan->buffer = grown;
            scan->buffer_cap = want;
        }
        scan->buffer_len = 0;
        ssize_t got = io_file_pread(scan->file, scan->buffer, want, position);
        if (got < 0)
            return (int)got;
        scan->buffer_at = position;
        scan->buffer_len = (size_t)got;
        skip = 0;
    }
    *ret_bytes = bytes_of(scan->buffer + skip, scan->buffer_len - (size_t)skip);
    return 0;
}

int segment_scan_next(struct segment_scan *scan, struct batch_header *ret_header, struct bytes *ret_batch)
{
    if (scan->position >= scan->size)
        return CLYMQ_ENOENT;
    uint64_t left = scan->size - scan->position;
    uint32_t max_size = left > INT32_MAX ? INT32_MAX : (uint32_t)left;
    struct bytes bytes;
    struct batch_header header;
    int error = scan_fill(scan, scan->position, BATCH_HEADER_SIZE, &bytes);
    if (error)
        return error;
    error = batch_read_header(bytes, max_size, &header);
    if (error == CLYMQ_EAGAIN && bytes.len >= BATCH_HEADER_SIZE) {
        error = scan_fill(scan, scan->position, header.size, &bytes);
        if (error)
            return error;
    }
    if (batch_check(bytes, max_size, &header) != 0)
        return CLYMQ_EBATCH;
    scan->position += header.size;
    *ret_header = header;
    *ret_batch = bytes_of(bytes.ptr, header.size);
    return 0;
}

bool segment_scan_rest_is_zero(struct segment_scan *scan)
{
    struct bytes bytes;
    for (uint64_t position = scan->position; position < scan->size; position += bytes.len) {
        if (scan_fill(scan, position, 1, &bytes) || bytes.len == 0 || !bytes_are_zero(bytes))
            return false;
    }
    return true;
}

void segment_scan_end(struct segment_scan *scan)
{
    io_file_close(scan->file);
    mem_free(scan->buffer);
    *scan = (struct segment_scan){0};
}
