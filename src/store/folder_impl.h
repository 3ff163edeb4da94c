/* What the data folder shows to the rest of store/ only. */
#ifndef CLYMQ_STORE_FOLDER_IMPL_H
#define CLYMQ_STORE_FOLDER_IMPL_H

#include "store/folder.h"
#include "store/state.h"

/* Folders in data/ that begin so are what is left of deleted blocks. */
#define BLOCK_DELETED_PREFIX ".deleted-"

/* 0: FORMAT is there and of a version that this program knows. CLYMQ_ENOENT: there is none; others with a
 * sentence. */
int store_folder_check_format(struct io_fs *fs, struct strbuf *error);
/* What the state files said when the folder was opened. */
const struct state_table *store_folder_table(const struct store_folder *folder);

#endif
