/* Sparse indexes of a segment, in Kafka's formats, so that its tools read them:
 *
 *   .index      (relative last offset u32, position u32) of a batch, after every index_interval_bytes of log
 *   .timeindex  (greatest timestamp so far i64, relative last offset of its batch u32), where it grew by then
 *
 * Indexes are disposable. Entries are kept in memory until some are together, then written without a sync.
 * How many there are and their checksum is kept in the state file (active segment) or the summary (closed
 * ones); before the first use in a run the files are checked against it and, where they differ, made again
 * from the log. An empty index is always right, only slow: that is what remains when it cannot be written.
 *
 * On the shard's thread. */
#ifndef CLYMQ_STORE_INDEX_H
#define CLYMQ_STORE_INDEX_H

#include "base/error.h"
#include "store/segment.h"

/* Marks of a segment without entries. */
struct index_mark index_mark_empty(void);
/* Notes a batch that was appended at position. Never fails. */
void index_add(struct block *block, struct segment *segment, const struct batch_header *header,
               uint32_t position);
/* Adds the final time entry, when the segment takes no more batches. */
void index_finish(struct block *block, struct segment *segment);
/* Writes entries held in memory to the files. Never fails: what cannot be written empties the index. */
void index_flush(struct block *block, struct segment *segment);
/* Makes sure that marks are known and the files match them, making them again if not. */
int index_check(struct block *block, struct segment *segment);
/* Makes indexes and marks again from the log (and the summary, of a closed segment). CLYMQ_ECORRUPT when the
 * log cannot be read through; the index then covers what comes before the damage. Other errors: it is empty
 * where it was known before, unknown otherwise. */
int index_rebuild(struct block *block, struct segment *segment);
/* Whether index_check or index_rebuild failed for something else than what the files hold: the segment's size
 * is then unchecked, and its index as it was. */
static inline bool index_was_not_read(int error)
{
    return error == CLYMQ_ENOMEM || error == CLYMQ_ELIMIT || error == CLYMQ_EIO;
}

/* Position of the batch of the last entry whose offset <= offset, or 0. */
int index_find_offset(struct block *block, struct segment *segment, int64_t offset, uint32_t *ret_position);
/* Position of the last entry at or before position, or 0. */
int index_find_position(struct block *block, struct segment *segment, uint32_t position,
                        uint32_t *ret_position);
/* An offset before which no batch of the segment holds a timestamp >= timestamp_ms. */
int index_find_time(struct block *block, struct segment *segment, int64_t timestamp_ms, int64_t *ret_offset);

#endif
