/* An SQLite VFS on top of the system's whose nth write, sync or truncate fails: how the embedded backend's
 * tests make full and broken disks. Counts over all files; any thread. */
#ifndef CLYMQ_TESTS_META_FAULT_VFS_H
#define CLYMQ_TESTS_META_FAULT_VFS_H

#include <stdint.h>

/* Makes it the default VFS. Once per process. */
void fault_vfs_install(void);
/* From the nth operation on (1 = the next) `count` operations answer `result` (an SQLITE_… code) and do
 * nothing; a failing write leaves half of its bytes. nth 0: none. */
void fault_vfs_fail(uint64_t nth, uint64_t count, int result);
uint64_t fault_vfs_operations(void);
/* How many have failed since fault_vfs_fail. */
uint64_t fault_vfs_failed(void);

#endif
