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

void block_verify_skip(const struct block *block, struct block_verify *verify, int64_t *ret_damaged_offset)
{
    *ret_damaged_offset = verify->offset;
    uint32_t next = block_segment_at(block, verify->offset) + 1;
    verify->offset = next < block->segment_count ? block->segments[next]->base : block->durable.offset;
}

int block_verify_find(struct block *block, struct block_verify *verify, size_t max_bytes,
                      struct block_range *ret_range, int64_t *ret_damaged_offset)
{
    if (verify->offset < block->start)
        verify->offset = block->start;
    if (verify->offset >= block->durable.offset)
        return CLYMQ_ENOENT;
    int error = block_read(block, verify->offset, block->durable.offset, max_bytes, ret_range);
    if (error == CLYMQ_ECORRUPT)
        block_verify_skip(block, verify, ret_damaged_offset);
    if (error)
        return error;
    return ret_range->len == 0 ? CLYMQ_ENOENT : 0; /* a gap up to the durable end */
}

int block_verify_check(const struct block_range *range, struct block_verify *verify)
{
    uint8_t *data MEM_CLEANUP = mem_alloc(range->len);
    ssize_t got = data ? io_file_pread(range->file, data, range->len, range->position) : CLYMQ_ENOMEM;
    if (got < 0)
        return (int)got;
    return check_batches(bytes_of(data, (size_t)got), &verify->offset) < range->len ? CLYMQ_ECORRUPT : 0;
}

int block_verify_step(struct block *block, struct block_verify *verify, size_t max_bytes,
                      int64_t *ret_damaged_offset)
{
    struct block_range range;
    int error = block_verify_find(block, verify, max_bytes, &range, ret_damaged_offset);
    if (error)
        return error;
    error = block_verify_check(&range, verify);
    block_range_release(&range);
    if (error == CLYMQ_ECORRUPT)
        block_verify_skip(block, verify, ret_damaged_offset);
    return error;
}
