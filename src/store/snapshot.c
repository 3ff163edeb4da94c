/* Snapshot files: the owner's state as of an offset, with a header and a checksum over both. */
#include <stdio.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "store/checkpoint.h"
#include "wire/byte_order.h"

enum { SNAPSHOT_VERSION = 1, SNAPSHOT_HEADER = 8 + 4 + 24 + 4, SNAPSHOT_MAX = 1 << 30 };
static const char magic[8] = "clymqsnp";

int snapshot_write(struct io_fs *fs, const char *dir, const struct log_point *point, struct bytes state)
{
    if (state.len > SNAPSHOT_MAX)
        return CLYMQ_ETOOBIG;
    size_t len = SNAPSHOT_HEADER + state.len + 4;
    uint8_t *data MEM_CLEANUP = mem_alloc(len);
    if (!data)
        return CLYMQ_ENOMEM;
    memcpy(data, magic, 8);
    store_be32(data + 8, SNAPSHOT_VERSION);
    store_be64(data + 12, (uint64_t)point->offset);
    store_be64(data + 20, (uint64_t)point->base);
    store_be32(data + 28, point->position);
    store_be32(data + 32, (uint32_t)point->epoch);
    store_be32(data + 36, (uint32_t)state.len);
    memcpy(data + SNAPSHOT_HEADER, state.ptr, state.len);
    store_be32(data + len - 4, crc32c(0, data, len - 4));
    char path[SEGMENT_PATH_MAX];
    segment_path(path, dir, point->offset, ".snapshot");
    return io_fs_replace_file(fs, path, data, len);
}

int snapshot_read(struct io_fs *fs, const char *dir, int64_t offset, struct snapshot *ret_snapshot)
{
    char path[SEGMENT_PATH_MAX];
    segment_path(path, dir, offset, ".snapshot");
    uint8_t *data;
    size_t len;
    int error = io_fs_read_file(fs, path, SNAPSHOT_HEADER + (size_t)SNAPSHOT_MAX + 4, &data, &len);
    if (error)
        return error == CLYMQ_ETOOBIG ? CLYMQ_ECORRUPT : error;
    if (len < SNAPSHOT_HEADER + 4 || memcmp(data, magic, 8) != 0 ||
        load_be32(data + len - 4) != crc32c(0, data, len - 4))
        error = CLYMQ_ECORRUPT;
    else if (load_be32(data + 8) > SNAPSHOT_VERSION)
        error = CLYMQ_EFORMAT;
    else if (load_be32(data + 36) != len - SNAPSHOT_HEADER - 4 || (int64_t)load_be64(data + 12) != offset)
        error = CLYMQ_ECORRUPT;
    if (error) {
        mem_free(data);
        return error;
    }
    *ret_snapshot = (struct snapshot){
        .point = {.offset = offset,
                  .base = (int64_t)load_be64(data + 20),
                  .position = load_be32(data + 28),
                  .epoch = (int32_t)load_be32(data + 32)},
        .state = bytes_of(data + SNAPSHOT_HEADER, len - SNAPSHOT_HEADER - 4),
        .data = data,
    };
    return 0;
}
