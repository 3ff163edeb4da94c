/* The data folder: its lock, format version and disk id, and what its state files say. Opened once by the
 * process, before shards start; read by all shards afterwards; the lock is held until store_folder_close.
 *
 *   FORMAT   "clymq-data 1\n"        disk.json  {"disk_id": "…"}      LOCK
 *   state/<shard>.state              data/<topic id>/<partition number>/<block seq>/…        meta/…
 *   reserve  room for the next start (store/reserve.h)
 */
#ifndef CLYMQ_STORE_FOLDER_H
#define CLYMQ_STORE_FOLDER_H

#include "base/buf.h"
#include "base/uuid.h"
#include "io/file.h"

struct store_folder;

/* Locks and reads the folder, or makes a new one in an empty file system (random: 16 bytes for its disk id).
 * CLYMQ_ELOCKED: another process uses it; CLYMQ_EFORMAT: newer; CLYMQ_ECORRUPT: FORMAT or disk.json
 * unreadable, or other files without FORMAT. error gets a sentence that says which file and what to do. */
int store_folder_open(struct io_fs *fs, const uint8_t random[16], struct strbuf *error,
                      struct store_folder **ret_folder);
void store_folder_close(struct store_folder *folder);
struct io_fs *store_folder_fs(const struct store_folder *folder);
struct uuid store_folder_disk_id(const struct store_folder *folder);

#endif
