/* A data folder made of a fuzzer's input, on a simulated disk: logs, indexes, summaries, snapshots, state
 * files, the block's identity, and the small files beside them.
 *
 * The input is a row of files, each with a head of four bytes:
 *
 *   0   kind: enum folder_kind in bits 0–2; FOLDER_FREE and FOLDER_RAW
 *   1   which: the number in the file's name, or which small file
 *   2   length of the content that follows, big-endian; cut to what is there
 *
 * Few inputs would get past a checksum, so lengths, magic numbers, names repeated in the content and
 * checksums are made right; FOLDER_RAW leaves the content as it is. What is not among the files and has to be
 * there (FORMAT, disk.json, the block's identity) is written in good order. */
#ifndef CLYMQ_FUZZ_FOLDER_H
#define CLYMQ_FUZZ_FOLDER_H

#include "base/log.h"
#include "fuzz.h"
#include "store/block.h"

enum folder_kind {
    FOLDER_LOG,
    FOLDER_INDEX,
    FOLDER_TIMEINDEX,
    FOLDER_SUMMARY,
    FOLDER_SNAPSHOT,
    FOLDER_STATE,
    FOLDER_ID,
    FOLDER_SMALL,
};
enum {
    FOLDER_KIND_MASK = 7,
    FOLDER_FREE =
        0x40, /* fields that tie files to each other stay as they are: offsets in a log, sizes, ids */
    FOLDER_RAW = 0x80,
    FOLDER_GONE = 0x80, /* in the second byte of a small file: it is removed */
};

/* Logs nothing, or what the environment's FUZZ_LOG says ("debug"), to look into one input. */
static inline void folder_log(void)
{
    const char *filter = getenv("FUZZ_LOG");
    log_configure(&(struct log_settings){.filter = filter ? filter : "off"});
}

/* The only block of the folder. */
struct block_key folder_key(void);
/* The number in the name of a file whose second byte is which: small ones, some larger, and the last ones. */
int64_t folder_number(uint8_t which);
/* Writes the files; all is durable afterwards. */
void folder_write(struct io_fs *fs, struct bytes input);
/* Makes magic number, lengths and checksums of one file's content right, whose name holds number. */
void folder_repair(enum folder_kind kind, bool keep_fields, int64_t number, uint8_t *data, size_t len);
/* One file's content, replaced and durable. */
void folder_put(struct io_fs *fs, const char *path, const void *data, size_t len);
/* All logs of the block one after the other, with their lengths: whether something changed them. */
void folder_read_logs(struct io_fs *fs, struct strbuf *out);

#endif
