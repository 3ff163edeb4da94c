/* What the parts of the offline check share. */
#ifndef CLYMQ_STORE_FSCK_IMPL_H
#define CLYMQ_STORE_FSCK_IMPL_H

#include "store/fsck.h"
#include "store/state.h"

struct fsck {
    struct io_fs *fs;
    const struct fsck_options *options;
    struct fsck_totals totals;
};

/* Counts the finding and tells it. */
__attribute__((format(printf, 6, 7))) void fsck_find(struct fsck *fsck, enum fsck_kind kind, const char *path,
                                                     uint64_t position, int64_t offset, const char *format,
                                                     ...);
/* As above, of something that was mended. */
__attribute__((format(printf, 6, 7))) void fsck_find_repaired(struct fsck *fsck, enum fsck_kind kind,
                                                              const char *path, uint64_t position,
                                                              int64_t offset, const char *format, ...);
/* Checks all that lies in the block's folder dir; entry NULL: the state files do not know it. 0 or
 * CLYMQ_ENOMEM. */
int fsck_block(struct fsck *fsck, const char *dir, const struct state_entry *entry);

#endif
