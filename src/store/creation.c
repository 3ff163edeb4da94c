/* Making many blocks at once. What is asked for while a group is under way gathers and becomes the next one.
 * A disk worker makes the group's files; then one sync of the whole file system makes them durable where the
 * group is large, a few of each block's own where it is small; then the shard writes one record for each to
 * the state file, and syncs that once. So a thousand blocks take as many syncs as one does.
 *
 * The order is that of a single creation: files, their sync, the record, its sync. A crash leaves files that
 * no record names, which the next creation of that block makes anew. */
#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/store_impl.h"

static struct block_creation *creation_at(struct list *link)
{
    return CONTAINER_OF(link, struct block_creation, link);
}

void creation_init(struct store *store)
{
    list_init(&store->creations);
    list_init(&store->creating.items);
    list_init(&store->creating.waiter.link);
}

bool creation_idle(const struct store *store)
{
    return !store->creating.running && list_empty(&store->creations);
}

static bool list_has(const struct list *list, struct uuid topic, uint32_t partition)
{
    LIST_FOR_EACH(item, list) {
        const struct block_key *key = &CONTAINER_OF(item, struct block_creation, link)->key;
        if (key->partition == partition && uuid_equal(key->topic, topic))
            return true;
    }
    return false;
}

bool block_is_being_created(const struct store *store, struct uuid topic, uint32_t partition)
{
    return list_has(&store->creations, topic, partition) ||
           list_has(&store->creating.items, topic, partition);
}

/* ---- on a disk worker ---- */

static void fail_made(struct list *items, struct io_fs *fs, int error)
{
    LIST_FOR_EACH(item, items) {
        struct block_creation *creation = creation_at(item);
        if (!creation->made || creation->error)
            continue;
        block_remove_files(fs, &creation->key);
        creation->error = error;
    }
}

static void make_group(struct io_work *work)
{
    struct store *store = work->ctx;
    struct list *items = &store->creating.items;
    struct io_file *all; /* opened before any file is made: tells of all failures, and only this group's */
    unsigned count = 0;
    if (io_fs_open(store->fs, "FORMAT", IO_OPEN_READ, &all) != 0)
        all = NULL;
    LIST_FOR_EACH(item, items) {
        struct block_creation *creation = creation_at(item);
        if (!creation->error)
            creation->error =
                block_make_files(store->fs, &creation->key, creation->start_offset, creation->recorded);
        creation->made = !creation->error;
        count += creation->made;
    }
    int error = all && count >= store->config.sync_all_from ? io_file_sync_all(all) : CLYMQ_EUNSUPPORTED;
    io_file_close(all);
    if (error && error != CLYMQ_EUNSUPPORTED)
        fail_made(items, store->fs, error);
    if (error != CLYMQ_EUNSUPPORTED)
        return;
    LIST_FOR_EACH(item, items) {
        struct block_creation *creation = creation_at(item);
        if (!creation->made)
            continue;
        creation->error = block_sync_files(store->fs, &creation->key);
        if (creation->error)
            block_remove_files(store->fs, &creation->key);
    }
}

/* ---- on the shard ---- */

static void tell_group(struct store *store)
{
    struct list now, *item;
    list_init(&now);
    list_move_all(&store->creating.items, &now);
    store->creating.running = false;
    store->creating.waiter.done = NULL;
    if (!list_empty(&store->creations))
        shard_at_tail(store->shard, &store->tail);
    while ((item = list_pop_front(&now)) != NULL) {
        struct block_creation *creation = creation_at(item);
        mem_free(creation->entry);
        creation->entry = NULL;
        if (creation->error == CLYMQ_ENOSPC)
            store_set_full(store, BLOCK_CREATE_BYTES);
        creation->done(creation, creation->error);
    }
    store_stop_step(store);
}

/* What is recorded is taken back: it may not be durable. */
static void fail_recorded(struct store *store, int error)
{
    fail_made(&store->creating.items, store->fs, error);
    LIST_FOR_EACH(item, &store->creating.items) {
        struct block_creation *creation = creation_at(item);
        if (creation->made && creation->error)
            store_drop_entry(store, creation->key.id);
    }
}

static void group_recorded(struct state_waiter *waiter, int error)
{
    struct store *store = CONTAINER_OF(waiter, struct store, creating.waiter);
    if (error)
        fail_recorded(store, error);
    tell_group(store);
}

static void group_made(struct io_work *work)
{
    struct store *store = work->ctx;
    bool some = false;
    LIST_FOR_EACH(item, &store->creating.items) {
        struct block_creation *creation = creation_at(item);
        if (creation->error)
            continue;
        struct state_entry *entry = creation->entry;
        store_renew_entry(store, creation->key.id);
        creation->error = store_put_closed(store, entry);
        if (creation->error) {
            block_remove_files(store->fs, &creation->key);
            continue;
        }
        creation->entry = NULL;
        state_put_block(&store->state, store->next_slot++, entry);
        some = true;
    }
    int error = some ? store_state_write(store) : 0;
    if (error)
        fail_recorded(store, error);
    if (!some || error) {
        tell_group(store);
        return;
    }
    store->creating.waiter.done = group_recorded;
    store_state_sync(store, &store->creating.waiter);
}

/* What can be said before any file is touched. */
static int prepare(struct store *store, struct block_creation *creation)
{
    if (creation->start_offset < 0)
        return CLYMQ_EINVAL;
    if (store->stopping)
        return CLYMQ_ESHUTDOWN;
    if (store_refuses(store, BLOCK_CREATE_BYTES))
        return CLYMQ_ENOSPC;
    if (store_find_open(store, creation->key.id))
        return CLYMQ_EEXIST;
    creation->recorded = store_find_entry(store, creation->key.id) != NULL;
    creation->entry = mem_alloc(sizeof(*creation->entry));
    if (!creation->entry)
        return CLYMQ_ENOMEM;
    block_first_entry(&creation->key, creation->start_offset, creation->entry);
    return 0;
}

void creation_start(struct store *store)
{
    if (store->creating.running || list_empty(&store->creations))
        return;
    struct list *item;
    while ((item = list_pop_front(&store->creations)) != NULL) {
        creation_at(item)->error = prepare(store, creation_at(item));
        list_push_back(&store->creating.items, item);
    }
    store->creating.running = true;
    store->creating.work = (struct io_work){.run = make_group, .done = group_made, .ctx = store};
    io_loop_work(store->loop, &store->creating.work);
}

void block_create_later(struct store *store, struct block_creation *creation)
{
    creation->entry = NULL;
    creation->error = 0;
    creation->recorded = creation->made = false;
    list_push_back(&store->creations, &creation->link);
    shard_at_tail(store->shard, &store->tail);
}

static void forget_all(struct list *items)
{
    struct list *item;
    while ((item = list_pop_front(items)) != NULL) {
        mem_free(creation_at(item)->entry);
        creation_at(item)->entry = NULL;
    }
}

void creation_abandon(struct store *store)
{
    list_remove(&store->creating.waiter.link);
    forget_all(&store->creations);
    forget_all(&store->creating.items);
    store->creating.running = false;
}
