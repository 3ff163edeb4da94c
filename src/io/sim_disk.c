/* A simulated disk's life: made, failing from a given operation on, crashed, freed; and the counting of its
 * inodes. */
#include <assert.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim_disk.h"
#include "io/sim_fs.h"

struct sim_inode *sim_inode_new(bool is_dir)
{
    struct sim_inode *inode = mem_zalloc(sizeof(*inode));
    if (inode) {
        inode->refs = 1;
        inode->is_dir = is_dir;
    }
    return inode;
}

struct sim_inode *sim_inode_ref(struct sim_inode *inode)
{
    inode->refs++;
    return inode;
}

void sim_inode_unref(struct sim_disk *disk, struct sim_inode *inode)
{
    assert(inode->refs > 0);
    if (--inode->refs > 0)
        return;
    sim_content_free(disk, inode);
    sim_entries_free(disk, &inode->entries);
    sim_entries_free(disk, &inode->durable_entries);
    mem_free(inode);
}

struct sim_disk *sim_disk_new(uint64_t seed)
{
    struct sim_disk *disk = mem_zalloc(sizeof(*disk));
    if (!disk)
        return NULL;
    disk->root = sim_inode_new(true);
    if (!disk->root) {
        mem_free(disk);
        return NULL;
    }
    sim_fs_init(disk);
    rng_seed(&disk->rng, seed);
    list_init(&disk->journal);
    list_init(&disk->files);
    return disk;
}

void sim_disk_free(struct sim_disk *disk)
{
    if (!disk)
        return;
    sim_fs_drop_files(disk, true);
    sim_dir_free_journal(disk);
    sim_inode_unref(disk, disk->root);
    mem_free(disk);
}

struct io_fs *sim_disk_fs(struct sim_disk *disk)
{
    return &disk->fs;
}

void sim_disk_set_faults(struct sim_disk *disk, const struct sim_disk_faults *faults)
{
    disk->faults = *faults;
}

void sim_disk_crash(struct sim_disk *disk, bool power_loss)
{
    sim_fs_drop_files(disk, false);
    disk->life++;
    disk->fail_at = 0;
    disk->failed = false;
    if (power_loss)
        sim_dir_crash(disk);
}

void sim_disk_fail_from_op(struct sim_disk *disk, uint64_t nth)
{
    disk->fail_at = nth ? disk->ops + nth : 0;
}

bool sim_disk_has_failed(const struct sim_disk *disk)
{
    return disk->failed;
}

uint64_t sim_disk_ops(const struct sim_disk *disk)
{
    return disk->ops;
}

int sim_disk_flip_bits(struct sim_disk *disk, const char *path, uint64_t offset, uint64_t len, unsigned bits)
{
    struct sim_inode *inode;
    int error = sim_fs_find(disk, path, &inode);
    if (error)
        return error;
    return inode->is_dir ? CLYMQ_EINVAL : sim_content_flip(disk, inode, offset, len, bits);
}
