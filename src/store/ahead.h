/* What lies behind the end of a block's active segment: disk space reserved for further appends, and zeros.
 *
 * Reserved space (fallocate) makes a full disk show before a byte is written. It changes nothing for a sync:
 * bytes written there, like bytes that make a file longer, change what the file system knows of the file, so
 * a sync writes its journal, too. Where a partition's syncs are small, that is most of their time. There
 * zeros are written ahead: they are synced along with the log, once for many syncs, and what overwrites them
 * needs no journal. It costs as much again as is written, so it ends where more is written between syncs.
 *
 * So a log may be followed by zeros, in the last segment of a block only; they are no part of it. Recovery
 * leaves them, for the next appends; they are cut off when the segment takes no more, and when its block is
 * closed. All on the shard's thread. */
#ifndef CLYMQ_STORE_AHEAD_H
#define CLYMQ_STORE_AHEAD_H

#include <stdint.h>

struct block;
struct io_file;
struct segment;
struct segment_ref;
struct store;

/* Reserves what the append of size bytes needs, and more ahead. CLYMQ_ENOSPC; other errors of the file.
 * Nothing is written. CLYMQ_EAGAIN: a disk worker does it, and nothing may be appended until it has; then the
 * owner is told by on_room. The file system may have to look for free space on a busy disk, for a quarter of
 * a second at worst, and appends to the same file would wait for it, and everybody of their shard with them.
 */
int ahead_reserve(struct block *block, struct segment *segment, struct segment_ref *ref, uint32_t size);
/* The block is going away: who makes room for it tells nobody. */
void ahead_detach(struct block *block);
/* Forgets all that are under way: the loop is dead. */
void ahead_abandon(struct store *store);
/* The block is about to be synced up to its end: writes zeros ahead where its syncs are small and those there
 * are used up. Where that fails, as on a full disk, there are none. */
void ahead_before_sync(struct block *block);
/* The log takes no more: gives back what lies behind its end, but for a little reserved space that is not
 * worth waiting for. Not synced: should it come back, it is known for what it is. A failure changes nothing.
 */
void ahead_end(struct segment *segment, struct io_file *file);
/* The same for zeros behind the block's active segment, whose file may have to be opened for it. */
void ahead_end_block(struct block *block);
/* The file was cut at the segment's end: nothing lies behind it any more. */
void ahead_forget(struct segment *segment);

#endif
