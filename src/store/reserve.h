/* Room for the next start: a file that only takes space, given back when a start begins, so that a server
 * whose disk is full can be started again and lets consumers read. */
#ifndef CLYMQ_STORE_RESERVE_H
#define CLYMQ_STORE_RESERVE_H

#include "io/file.h"

/* Gives the room back. Only by who holds the folder's lock; the file may be missing. */
void store_reserve_release(struct io_fs *fs);
/* Takes it for the next start: once this one has what it needs, and again when it ends, since there may be
 * room only then. There already: 0. CLYMQ_ENOSPC: the next start on a full disk may be refused, nothing else.
 */
int store_reserve_take(struct io_fs *fs);

#endif
