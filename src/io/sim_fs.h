/* The file vtable over a simulated disk: for io/sim_disk.c only. */
#ifndef CLYMQ_IO_SIM_FS_H
#define CLYMQ_IO_SIM_FS_H

#include "io/sim_disk.h"

void sim_fs_init(struct sim_disk *disk);
/* Open files let go of their inodes; freed too, or left for their owners to close. */
void sim_fs_drop_files(struct sim_disk *disk, bool free_them);
/* The inode that programs see at path, without a new reference. */
int sim_fs_find(struct sim_disk *disk, const char *path, struct sim_inode **ret_inode);

#endif
