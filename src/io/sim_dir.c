/* Folders of the simulated disk. Changes to folders are recorded in one journal; sync_dir applies those of
 * its folder to the durable tree. A power loss applies, of the rest, a prefix (as journaling file systems do)
 * or a random subset in order (as POSIX permits), leaving out what no longer fits: a rename of a file whose
 * creation was dropped. A change is applied as a whole, so that a rename leaves the old or the new name,
 * never neither. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim_disk.h"

/* Beyond that many records the file system commits half of them on its own, as real ones do by time. */
enum { JOURNAL_MAX = 64 };

static int compare_name(const char *item, const char *name, size_t len)
{
    int order = strncmp(item, name, len);
    return order ? order : item[len] != '\0';
}

/* The place of name, or where it would be inserted. */
static size_t entries_place(const struct sim_entries *entries, const char *name, size_t len, bool *ret_found)
{
    size_t low = 0, high = entries->count;
    *ret_found = false;
    while (low < high) {
        size_t middle = (low + high) / 2;
        int order = compare_name(entries->items[middle].name, name, len);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

struct sim_inode *sim_entries_find(const struct sim_entries *entries, const char *name, size_t len)
{
    bool found;
    size_t place = entries_place(entries, name, len, &found);
    return found ? entries->items[place].inode : NULL;
}

static struct sim_inode *find(const struct sim_entries *entries, const char *name)
{
    return sim_entries_find(entries, name, strlen(name));
}

static void entries_remove(struct sim_disk *disk, struct sim_entries *entries, const char *name)
{
    bool found;
    size_t place = entries_place(entries, name, strlen(name), &found);
    if (!found)
        return;
    struct sim_entry entry = entries->items[place];
    memmove(entries->items + place, entries->items + place + 1,
            (--entries->count - place) * sizeof(*entries->items));
    mem_free(entry.name);
    sim_inode_unref(disk, entry.inode);
}

static int entries_reserve(struct sim_entries *entries, size_t count)
{
    if (count <= entries->cap)
        return 0;
    size_t wider = entries->cap * 2 > count ? entries->cap * 2 : count;
    struct sim_entry *items = mem_realloc(entries->items, wider * sizeof(*items));
    if (!items)
        return CLYMQ_ENOMEM;
    entries->items = items;
    entries->cap = wider;
    return 0;
}

/* Adds or replaces, taking a reference. There is room; *name is taken over where it is new. */
static void entries_set(struct sim_disk *disk, struct sim_entries *entries, char **name,
                        struct sim_inode *inode)
{
    bool found;
    size_t place = entries_place(entries, *name, strlen(*name), &found);
    if (found) {
        struct sim_inode *old = entries->items[place].inode;
        entries->items[place].inode = sim_inode_ref(inode);
        sim_inode_unref(disk, old);
        return;
    }
    assert(entries->count < entries->cap);
    memmove(entries->items + place + 1, entries->items + place,
            (entries->count - place) * sizeof(*entries->items));
    entries->items[place] = (struct sim_entry){*name, sim_inode_ref(inode)};
    entries->count++;
    *name = NULL;
}

/* As entries_set, with a copy of name and its own room. */
static int entries_add(struct sim_disk *disk, struct sim_entries *entries, const char *name,
                       struct sim_inode *inode)
{
    int error = entries_reserve(entries, entries->count + 1);
    char *copy MEM_CLEANUP = error ? NULL : mem_strdup(name);
    if (!copy)
        return CLYMQ_ENOMEM;
    entries_set(disk, entries, &copy, inode);
    return 0;
}

void sim_entries_free(struct sim_disk *disk, struct sim_entries *entries)
{
    for (size_t i = 0; i < entries->count; i++) {
        mem_free(entries->items[i].name);
        sim_inode_unref(disk, entries->items[i].inode);
    }
    mem_free(entries->items);
    *entries = (struct sim_entries){0};
}

bool sim_dir_contains(const struct sim_inode *dir, const struct sim_inode *inside, bool durable)
{
    if (dir == inside)
        return true;
    const struct sim_entries *entries = durable ? &dir->durable_entries : &dir->entries;
    for (size_t i = 0; i < entries->count; i++)
        if (entries->items[i].inode->is_dir && sim_dir_contains(entries->items[i].inode, inside, durable))
            return true;
    return false;
}

static void change_free(struct sim_disk *disk, struct sim_change *change)
{
    list_remove(&change->link);
    disk->journal_count--;
    (change->to_dir ? change->to_dir : change->dir)->gains--;
    sim_inode_unref(disk, change->dir);
    if (change->to_dir)
        sim_inode_unref(disk, change->to_dir);
    sim_inode_unref(disk, change->inode);
    mem_free(change->name);
    mem_free(change->to_name);
    mem_free(change);
}

/* Records a change at the journal's end, with room for it in the durable folders, so that applying it cannot
 * fail. NULL: out of memory. */
static struct sim_change *change_new(struct sim_disk *disk, enum sim_change_kind kind, struct sim_inode *dir,
                                     const char *name, struct sim_inode *to_dir, const char *to_name,
                                     struct sim_inode *inode)
{
    struct sim_inode *gainer = to_dir ? to_dir : dir;
    if (entries_reserve(&gainer->durable_entries, gainer->durable_entries.count + gainer->gains + 1) != 0)
        return NULL;
    struct sim_change *change = mem_zalloc(sizeof(*change));
    if (!change)
        return NULL;
    change->kind = kind;
    change->name = mem_strdup(name);
    change->to_name = to_name ? mem_strdup(to_name) : NULL;
    if (!change->name || (to_name && !change->to_name)) {
        mem_free(change->name);
        mem_free(change->to_name);
        mem_free(change);
        return NULL;
    }
    gainer->gains++;
    change->dir = sim_inode_ref(dir);
    change->to_dir = to_dir ? sim_inode_ref(to_dir) : NULL;
    change->inode = sim_inode_ref(inode);
    list_push_back(&disk->journal, &change->link);
    disk->journal_count++;
    return change;
}

/* Applies the change to the durable tree if it fits there; the change is to be freed then. */
static bool apply(struct sim_disk *disk, struct sim_change *change)
{
    assert(change->inode && (change->kind == SIM_RENAME) == (change->to_dir != NULL));
    struct sim_entries *from = &change->dir->durable_entries;
    struct sim_inode *there = find(from, change->name);
    switch (change->kind) {
    case SIM_LINK:
        if (there)
            return false;
        entries_set(disk, from, &change->name, change->inode);
        return true;
    case SIM_UNLINK:
        if (there != change->inode)
            return false;
        entries_remove(disk, from, change->name);
        return true;
    case SIM_RENAME:
        if (there != change->inode)
            return false;
        if (change->inode->is_dir && sim_dir_contains(change->inode, change->to_dir, true))
            return false;
        entries_set(disk, &change->to_dir->durable_entries, &change->to_name, change->inode);
        entries_remove(disk, from, change->name);
        return true;
    }
    return false;
}

static void apply_prefix(struct sim_disk *disk, size_t count)
{
    struct list *item = disk->journal.next;
    while (count-- > 0 && item != &disk->journal) {
        struct sim_change *change = CONTAINER_OF(item, struct sim_change, link);
        item = item->next;
        if (apply(disk, change))
            change_free(disk, change);
    }
}

static void commit_some(struct sim_disk *disk)
{
    if (disk->journal_count > JOURNAL_MAX && !disk->faults.lose_all_unsynced && !disk->faults.ignore_sync)
        apply_prefix(disk, disk->journal_count / 2);
}

int sim_dir_link(struct sim_disk *disk, struct sim_inode *dir, const char *name, struct sim_inode *inode)
{
    struct sim_change *change = change_new(disk, SIM_LINK, dir, name, NULL, NULL, inode);
    if (!change)
        return CLYMQ_ENOMEM;
    int error = entries_add(disk, &dir->entries, name, inode);
    if (error)
        change_free(disk, change);
    else
        commit_some(disk);
    return error;
}

int sim_dir_unlink(struct sim_disk *disk, struct sim_inode *dir, const char *name)
{
    if (!change_new(disk, SIM_UNLINK, dir, name, NULL, NULL, find(&dir->entries, name)))
        return CLYMQ_ENOMEM;
    entries_remove(disk, &dir->entries, name);
    commit_some(disk);
    return 0;
}

int sim_dir_rename(struct sim_disk *disk, struct sim_inode *dir, const char *name, struct sim_inode *to_dir,
                   const char *to_name)
{
    struct sim_inode *inode = find(&dir->entries, name);
    struct sim_change *change = change_new(disk, SIM_RENAME, dir, name, to_dir, to_name, inode);
    if (!change)
        return CLYMQ_ENOMEM;
    int error = entries_add(disk, &to_dir->entries, to_name, inode);
    if (error) {
        change_free(disk, change);
        return error;
    }
    entries_remove(disk, &dir->entries, name);
    commit_some(disk);
    return 0;
}

/* A rename between two folders waits for both to be synced; what it holds up is applied with it. */
void sim_dir_sync(struct sim_disk *disk, struct sim_inode *dir)
{
    LIST_FOR_EACH_SAFE(item, &disk->journal) {
        struct sim_change *change = CONTAINER_OF(item, struct sim_change, link);
        change->dir_synced |= change->dir == dir;
        change->to_dir_synced |= !change->to_dir || change->to_dir == dir;
        if (change->dir_synced && change->to_dir_synced && apply(disk, change))
            change_free(disk, change);
    }
}

void sim_dir_sync_all(struct sim_disk *disk, size_t count)
{
    apply_prefix(disk, count);
}

static void crash_tree(struct sim_disk *disk, struct sim_inode *dir)
{
    sim_entries_free(disk, &dir->entries);
    for (size_t i = 0; i < dir->durable_entries.count; i++) {
        struct sim_entry *entry = &dir->durable_entries.items[i];
        int error = entries_add(disk, &dir->entries, entry->name, entry->inode);
        assert(!error); /* the simulator's own memory: it cannot go on without */
        if (entry->inode->is_dir)
            crash_tree(disk, entry->inode);
        else
            sim_content_crash(disk, entry->inode);
    }
}

void sim_dir_crash(struct sim_disk *disk)
{
    bool keep_none = disk->faults.lose_all_unsynced;
    bool prefix_only = rng_chance(&disk->rng, 1, 2);
    size_t prefix = rng_below(&disk->rng, disk->journal_count + 1);
    size_t place = 0;
    while (!list_empty(&disk->journal)) {
        struct sim_change *change = CONTAINER_OF(disk->journal.next, struct sim_change, link);
        bool kept = prefix_only ? place < prefix : rng_chance(&disk->rng, 1, 2);
        bool synced = change->dir_synced && change->to_dir_synced;
        if (synced || (kept && !keep_none))
            apply(disk, change);
        change_free(disk, change);
        place++;
    }
    crash_tree(disk, disk->root);
}

void sim_dir_free_journal(struct sim_disk *disk)
{
    while (!list_empty(&disk->journal))
        change_free(disk, CONTAINER_OF(disk->journal.next, struct sim_change, link));
}
