/* The simulated disk's parts, for io/sim_*.c only.
 *
 * An inode is a file or a folder. Each keeps two states: the one programs see (the page cache's) and the
 * durable one (what a power loss leaves for certain). A file's content is kept in pages shared between both
 * states until written to again; what differs between the two is what a crash may keep, drop or tear. Changes
 * to folders go through one journal in the order made (io/sim_dir.c). One thread; inodes are counted by the
 * folder entries, open files and journal records that refer to them. */
#ifndef CLYMQ_IO_SIM_DISK_H
#define CLYMQ_IO_SIM_DISK_H

#include "base/list.h"
#include "io/sim.h"

enum { SIM_PAGE = 4096, SIM_SECTOR = 512 };
/* Larger files are refused as if the file system could not hold them; it bounds the table of pages. */
#define SIM_FILE_MAX ((uint64_t)16 << 30)

struct sim_page {
    uint32_t refs; /* the cached and the durable state may share one page */
    uint8_t data[SIM_PAGE];
};

/* NULL pages are holes and read as zeros. */
struct sim_slot {
    struct sim_page *cached, *durable;
    bool lost;     /* a failed sync gave up on it: clean to the kernel, never made durable */
    bool reserved; /* io_file_allocate; counts as used space */
};

struct sim_file_content {
    struct sim_slot *slots;
    size_t slot_count;
    uint64_t size, durable_size;
    bool size_lost;                /* as slot.lost, for the size */
    size_t dirty_first, dirty_end; /* slots outside are equal in both states */
};

struct sim_entry {
    char *name;
    struct sim_inode *inode;
};
/* Sorted by name. */
struct sim_entries {
    struct sim_entry *items;
    size_t count, cap;
};

struct sim_inode {
    unsigned refs;
    bool is_dir;
    bool locked;
    struct sim_file_content content; /* of a file */
    uint64_t sync_errors; /* failed syncs: each open file is told of them once, as in Linux since 4.13 */
    struct sim_entries entries, durable_entries; /* of a folder */
    size_t gains; /* journal records that may add an entry to durable_entries */
};

enum sim_change_kind { SIM_LINK, SIM_UNLINK, SIM_RENAME };

/* One change of one or two folders that is not durable yet. */
struct sim_change {
    struct list link;
    enum sim_change_kind kind;
    struct sim_inode *dir, *to_dir; /* to_dir: RENAME only */
    char *name, *to_name;
    struct sim_inode *inode;
    bool dir_synced, to_dir_synced; /* both: must be applied as soon as what it follows is */
};

struct sim_disk {
    struct io_fs fs;
    struct rng rng;
    struct sim_disk_faults faults;
    struct sim_inode *root;
    struct list journal; /* struct sim_change, oldest first */
    size_t journal_count;
    struct list files; /* struct sim_handle: every open one, dead ones too */
    uint64_t used_pages;
    uint64_t life; /* grows with each crash; files of an earlier life are dead */
    uint64_t ops, fail_at;
    bool failed;  /* fail_at came: nothing works until the crash */
    bool offline; /* its process is down */
    void (*on_failed)(void *ctx);
    void *failed_ctx;
};

/* sim_inode.c */
struct sim_inode *sim_inode_new(bool is_dir); /* one reference; NULL: out of memory */
struct sim_inode *sim_inode_ref(struct sim_inode *inode);
void sim_inode_unref(struct sim_disk *disk, struct sim_inode *inode);

/* sim_content.c: a file's bytes. */
size_t sim_content_read(struct sim_disk *disk, struct sim_inode *inode, void *data, size_t len,
                        uint64_t offset);
/* Bytes written (fewer than len when the disk is full) or CLYMQ_ENOMEM, CLYMQ_ENOSPC. */
ssize_t sim_content_write(struct sim_disk *disk, struct sim_inode *inode, const void *data, size_t len,
                          uint64_t offset);
int sim_content_truncate(struct sim_disk *disk, struct sim_inode *inode, uint64_t size);
int sim_content_allocate(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, uint64_t len);
/* Everything written becomes durable, but for what an earlier failure lost. */
void sim_content_sync(struct sim_disk *disk, struct sim_inode *inode);
/* A sync that failed: a random part becomes durable, the rest is lost. */
void sim_content_sync_failed(struct sim_disk *disk, struct sim_inode *inode);
/* The kernel writes back some pages on its own. */
void sim_content_write_back(struct sim_disk *disk, struct sim_inode *inode);
/* Power loss: both states become what the crash left. */
void sim_content_crash(struct sim_disk *disk, struct sim_inode *inode);
int sim_content_flip(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, uint64_t len,
                     unsigned bits);
void sim_content_free(struct sim_disk *disk, struct sim_inode *inode);

/* sim_dir.c: folders and the journal of their changes. */
struct sim_inode *sim_entries_find(const struct sim_entries *entries, const char *name, size_t len);
void sim_entries_free(struct sim_disk *disk, struct sim_entries *entries);
/* Each applies to the cached state and is recorded; the caller has checked that it is allowed. 0 or
 * CLYMQ_ENOMEM. */
int sim_dir_link(struct sim_disk *disk, struct sim_inode *dir, const char *name, struct sim_inode *inode);
int sim_dir_unlink(struct sim_disk *disk, struct sim_inode *dir, const char *name);
int sim_dir_rename(struct sim_disk *disk, struct sim_inode *dir, const char *name, struct sim_inode *to_dir,
                   const char *to_name);
void sim_dir_sync(struct sim_disk *disk, struct sim_inode *dir);
/* The oldest count records of the journal, of all folders. */
void sim_dir_sync_all(struct sim_disk *disk, size_t count);
/* Whether folder `inside` is `dir` or below it, in the cached or the durable tree. */
bool sim_dir_contains(const struct sim_inode *dir, const struct sim_inode *inside, bool durable);
/* Power loss: a random part of the journal is applied to the durable tree, which becomes the cached one;
 * files that are still reachable are crashed too. */
void sim_dir_crash(struct sim_disk *disk);
void sim_dir_free_journal(struct sim_disk *disk);

#endif
