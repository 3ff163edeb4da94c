/* What the data folder shows to the rest of store/ only. */
#ifndef CLYMQ_STORE_FOLDER_IMPL_H
#define CLYMQ_STORE_FOLDER_IMPL_H

#include "store/folder.h"
#include "store/state.h"

/* What the state files said when the folder was opened. */
const struct state_table *store_folder_table(const struct store_folder *folder);

#endif
