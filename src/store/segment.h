/* One segment of a block: a log file and what is known of it. Owned by its block, used on the shard's thread.
 *
 * A segment is named by the offset behind the last one of the segment before, so a missing segment shows.
 * Within a segment offsets are contiguous: each batch begins where the one before ended; a gap in the block's
 * offsets may come only before the first batch. Base offset and epoch are not covered by a batch's checksum:
 * this rule is what makes a damaged one show.
 */
#ifndef CLYMQ_STORE_SEGMENT_H
#define CLYMQ_STORE_SEGMENT_H

#include "store/state.h"
#include "wire/batch.h"

struct store;
struct block;

enum segment_file { SEGMENT_LOG, SEGMENT_INDEX, SEGMENT_TIMEINDEX, SEGMENT_FILE_COUNT };
enum { SEGMENT_PATH_MAX = 128 };

/* Index entries not yet written to the files, of active segments only. */
enum { INDEX_PENDING_MAX = 32 };
struct index_pending {
    uint32_t index_first, time_first; /* number of the first entry held */
    uint8_t index[INDEX_PENDING_MAX * 8];
    uint8_t time[INDEX_PENDING_MAX * 12];
};

/* How often a log may be open, to be synced through each beside the others: see commit.c. */
enum { SEGMENT_OPENINGS = 4 };

struct segment {
    int64_t base;
    uint32_t size;           /* bytes of whole batches */
    uint32_t reserved;       /* disk space is allocated up to here; >= size when known */
    uint32_t zeroed;         /* if > size: the file is so long, and zeros behind size (store/ahead.h) */
    struct index_mark index; /* valid if index_known */
    struct index_pending *pending;
    bool index_known : 1; /* index marks are there: made in this run, or from the checkpoint or the summary */
    bool index_checked : 1; /* the files were found to match the marks */
    bool unsynced : 1;      /* written since the last sync began */
    bool closed : 1;  /* a later segment exists, or the block is sealed: summary written or to be written */
    int64_t since_ms; /* wall clock at the first append; 0 = unknown or empty */
    struct segment_ref *files[SEGMENT_FILE_COUNT]; /* while in the cache */
    struct segment_ref *
        pinned; /* the log, kept open from a write to its sync: a reopened file might miss the sync's error */
    struct segment_ref
        *again[SEGMENT_OPENINGS - 1]; /* the log's openings but the first, while in the cache */
};

/* ".log", ".index", ".timeindex", ".summary" */
const char *segment_suffix(enum segment_file kind);
/* "<dir>/<20 digits><suffix>" */
void segment_path(char path[SEGMENT_PATH_MAX], const char *dir, int64_t base, const char *suffix);

/* The number of a file name "<20 digits><suffix>"; false for other names. */
bool segment_parse_name(const char *name, const char *suffix, int64_t *ret_number);

/* A new struct, for a file of `size` bytes. NULL: out of memory. */
struct segment *segment_new(int64_t base, uint32_t size);
/* Closes its files and frees it. */
void segment_free(struct store *store, struct segment *segment);
/* The open file, borrowed until the next call on files of this store. Index files are made if missing. */
int segment_file(struct block *block, struct segment *segment, enum segment_file kind,
                 struct segment_ref **ret_ref);

/* Opens the log for an opening (0 – SEGMENT_OPENINGS-1; the first is files[SEGMENT_LOG]) where it is not. 0
 * or an error of opening. */
int segment_open_again(struct block *block, struct segment *segment, unsigned opening);

/* The segment's log, open as ref, was changed: it is to be synced, and stays open until then (see pinned),
 * unless nothing is ever synced. */
void segment_note_change(struct store *store, struct segment *segment, struct segment_ref *ref);

/* Whether the batch's offsets can lie in the segment named base: its indexes hold them relative to it. */
static inline bool segment_can_hold(int64_t base, const struct batch_header *header)
{
    return header->base_offset >= base && batch_last_offset(header) - base <= UINT32_MAX;
}

/* Reads a batch's header at position (<= size of the segment) and checks that it can be one: fits into the
 * segment, offsets within it. CLYMQ_ECORRUPT; CLYMQ_EIO and other errors of reading. */
int segment_read_header(struct block *block, struct segment *segment, uint32_t position, uint32_t limit,
                        struct batch_header *ret_header);

/* The summary of a closed segment (<base>.summary): what is true of the log when it was closed. */
struct segment_summary {
    int64_t base, end, next_base; /* end: after its last offset; next_base: name of the next segment */
    uint32_t size;
    int32_t epoch; /* of the last batch */
    struct index_mark index;
};
enum { SUMMARY_SIZE = 8 + 4 + 24 + 8 + 44 + 4 };
void segment_summary_encode(const struct segment_summary *summary, uint8_t out[SUMMARY_SIZE]);
/* CLYMQ_ECORRUPT, CLYMQ_EFORMAT. */
int segment_summary_decode(struct bytes data, struct segment_summary *ret_summary);
/* Writes the summary of a closed segment, whose index marks are known, without a sync: a lost one is made
 * again. */
void segment_summary_write(struct block *block, struct segment *segment, int64_t end, int32_t epoch);
/* CLYMQ_ENOENT, CLYMQ_ECORRUPT (also when it says another size than the log's). */
int segment_summary_read(struct io_fs *fs, const char *dir, const struct segment *segment,
                         struct segment_summary *ret_summary);

#endif
