/* The offline check of a data folder, and reading a segment batch by batch: what `clymq fsck` and `clymq
 * block dump` are made of.
 *
 * The check reads every log with its checksums, every index against its log, snapshots and state files. It
 * never changes a log, damaged or not. Where it is asked to, it removes index files that are wrong: the
 * server makes them again from the log. Needs no server and no shard; blocking; one thread. The folder must
 * not be in use: it is locked meanwhile. */
#ifndef CLYMQ_STORE_FSCK_H
#define CLYMQ_STORE_FSCK_H

#include "base/buf.h"
#include "io/file.h"
#include "wire/batch.h"

enum fsck_kind {
    FSCK_DAMAGED_LOG,    /* below the durable end: messages are lost unless there is another copy */
    FSCK_MISSING_LOG,    /* a segment or block that the state files know of is not there, or a gap between
                            segments */
    FSCK_FAILED_BLOCK,   /* an earlier run found it failed */
    FSCK_UNREADABLE,     /* the disk gave an error */
    FSCK_TORN_TAIL,      /* an unfinished write behind the durable end: harmless, cut at the next start */
    FSCK_WRONG_INDEX,    /* harmless: made again at the next use */
    FSCK_WRONG_SNAPSHOT, /* harmless where an older one or the log is there */
    FSCK_WRONG_STATE,    /* part of a state file unreadable: older marks count */
};
/* Whether messages are, or may be, lost. */
bool fsck_is_damage(enum fsck_kind kind);

struct fsck_finding {
    enum fsck_kind kind;
    const char *path;     /* below the data folder */
    uint64_t position;    /* byte in the file */
    int64_t offset;       /* first offset concerned; -1 = none */
    const char *sentence; /* what is wrong and what happens next */
    bool repaired;
};

struct fsck_totals {
    uint64_t blocks, segments, batches, records, bytes; /* looked at */
    uint64_t damages, harmless, repaired;               /* findings */
};

struct fsck_options {
    bool repair_indexes;
    void (*on_finding)(void *ctx, const struct fsck_finding *finding);
    void (*on_progress)(void *ctx, const struct fsck_totals *totals); /* after each segment; may be NULL */
    void *ctx;
};
/* 0 when all could be looked at, whatever was found. CLYMQ_ENOENT: no data folder; CLYMQ_ELOCKED: a server
 * uses it; CLYMQ_EFORMAT: newer than this program; errors of reading the folder itself; CLYMQ_ENOMEM. */
int fsck_run(struct io_fs *fs, const struct fsck_options *options, struct fsck_totals *ret_totals);

/* Reads the batches of one segment's log from its beginning. */
struct segment_scan {
    struct io_file *file;
    uint64_t position, size; /* of the next batch; of the file */
    uint8_t *buffer;
    size_t buffer_cap, buffer_len;
    uint64_t buffer_at;
};
int segment_scan_begin(struct io_fs *fs, const char *path, struct segment_scan *ret_scan);
/* The next batch, its checksum verified; a view until the next call. CLYMQ_ENOENT at the end; CLYMQ_EBATCH:
 * what lies at scan->position is no whole batch; CLYMQ_EIO …; CLYMQ_ENOMEM. */
int segment_scan_next(struct segment_scan *scan, struct batch_header *ret_header, struct bytes *ret_batch);
/* Whether only zeros follow from scan->position on: in the last segment of a block the server has written
 * them ahead (store/ahead.h). What cannot be read counts as something else. */
bool segment_scan_rest_is_zero(struct segment_scan *scan);
void segment_scan_end(struct segment_scan *scan);

#endif
