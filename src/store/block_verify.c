/* The scrub of an open block: reads what is durable in small steps and checks every batch. */
#include "base/error.h"
#include "base/mem.h"
#include "store/store_impl.h"

/* Checks the batches of a range that was read. Returns the bytes that are good and moves *offset behind them.
 */
static size_t check_batches(struct bytes data, int64_t *offset)
{
    size_t at = 0;
    while (at < data.len) {
        struct batch_header header;
        if (batch_check(bytes_of(data.ptr + at, data.len - at), UINT32_MAX, &header) != 0)
            break;
        if (at > 0 ? header.base_offset != *offset : batch_last_offset(&header) < *offset)
            break;
        *offset = batch_last_offset(&header) + 1;
        at += header.size;
    }
    return at;
}

static int find_damage(struct block *block, struct block_verify *verify, int64_t *ret_damaged_offset)
{
    *ret_damaged_offset = verify->offset;
    uint32_t next = block_segment_at(block, verify->offset) + 1;
    verify->offset = next < block->segment_count ? block->segments[next]->base : block->durable.offset;
    return CLYMQ_ECORRUPT;
}

int block_verify_step(struct block *block, struct block_verify *verify, size_t max_bytes,
                      int64_t *ret_damaged_offset)
{
    if (verify->offset < block->start)
        verify->offset = block->start;
    if (verify->offset >= block->durable.offset)
        return CLYMQ_ENOENT;
    struct block_range range;
    int error = block_read(block, verify->offset, block->durable.offset, max_bytes, &range);
    if (error == CLYMQ_ECORRUPT)
        return find_damage(block, verify, ret_damaged_offset);
    if (error)
        return error;
    if (range.len == 0) /* a gap up to the durable end */
        return CLYMQ_ENOENT;
    uint8_t *data MEM_CLEANUP = mem_alloc(range.len);
    ssize_t got = data ? io_file_pread(range.file, data, range.len, range.position) : CLYMQ_ENOMEM;
    size_t len = range.len;
    block_range_release(&range);
    if (got < 0)
        return (int)got;
    if (check_batches(bytes_of(data, (size_t)got), &verify->offset) < len)
        return find_damage(block, verify, ret_damaged_offset);
    return 0;
}
