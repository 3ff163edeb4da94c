/* The store's part of the state file: which records are written when. A pass of group commit leaves its marks
 * pending and writes them all at once, unsynced: a power loss may then leave older marks, which is safe.
 * Recovery reads on behind them, and everything that was acknowledged is there, because its own sync came
 * first. Who needs a record durable (a log start before what is below it goes, a block that is made) asks for
 * a sync. */
#include "store/store_state.h"

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "store/store_impl.h"

/* The state file is made anew when it is longer than this and than a multiple of what its blocks need. */
enum { STATE_BLOCK_SIZE = 256, STATE_GROWTH = 8 };

void store_state_put(struct store *store, struct block *block)
{
    if (block->slot == SLOT_NONE || block->state_full) {
        struct state_entry entry;
        block_entry(block, &entry);
        if (block->slot == SLOT_NONE)
            block->slot = store->next_slot++;
        state_put_block(&store->state, block->slot, &entry);
        block->state_full = false;
    } else {
        state_put_mark(&store->state, block->slot, &block->synced);
    }
}

static int rewrite_state(struct store *store)
{
    state_rewrite_begin(&store->state);
    store->next_slot = 0;
    LIST_FOR_EACH(item, &store->blocks) {
        struct block *block = CONTAINER_OF(item, struct block, link);
        block->slot = SLOT_NONE;
        store_state_put(store, block);
    }
    size_t at = 0;
    struct map_entry *closed;
    while (store->closed && (closed = map_next(store->closed, &at)))
        state_put_block(&store->state, store->next_slot++, closed->value);
    for (size_t i = 0; i + 16 <= store->dropped.len; i += 16) {
        struct uuid id;
        memcpy(id.byte, store->dropped.data + i, 16);
        state_put_drop(&store->state, id);
    }
    return state_rewrite_end(&store->state);
}

int store_state_write(struct store *store)
{
    struct state_file *state = &store->state;
    /* Blocks that are open, and what else the last rewrite had to keep. */
    uint64_t needed = (uint64_t)(store->block_count + 1) * STATE_BLOCK_SIZE;
    if (needed < state->rewritten)
        needed = state->rewritten;
    int error = 0;
    if (state->broken || state->pending.failed ||
        (state->size + state->pending.len > (uint64_t)store->config.state_bytes &&
         state->size > needed * STATE_GROWTH)) {
        error = rewrite_state(store);
        if (!error)
            return 0;
    } else {
        error = state_file_write(state);
        if (!error)
            return 0;
        state_file_clear_pending(state);
    }
    log_limited(LOG_WARN, "%s not written: %s", state->path, error_sentence(error));
    /* Nobody knows any more which records the file has: all are written again in full. */
    store->next_slot = 0;
    LIST_FOR_EACH(item, &store->blocks)
        CONTAINER_OF(item, struct block, link)->slot = SLOT_NONE;
    state->broken = true;
    return error;
}

static void state_synced(struct io_op *op)
{
    struct store *store = op->ctx;
    int error = op->result < 0 ? (int)op->result : store->state_sync_error;
    store->state_op_running = false;
    segment_ref_release(store->state_ref);
    store->state_ref = NULL;
    if (error) {
        log_error("%s not synced: %s", store->state.path, error_sentence(error));
        store->state.broken = true;
    }
    struct list now;
    list_init(&now);
    list_move_all(&store->state_syncing, &now);
    while (!list_empty(&now)) {
        struct state_waiter *waiter = CONTAINER_OF(list_pop_front(&now), struct state_waiter, link);
        waiter->done(waiter, error);
    }
    if (!list_empty(&store->state_waiting))
        store_state_sync(store, NULL);
}

void store_state_sync(struct store *store, struct state_waiter *waiter)
{
    if (waiter)
        list_push_back(&store->state_waiting, &waiter->link);
    if (store->state_op_running)
        return;
    list_move_all(&store->state_waiting, &store->state_syncing);
    /* Marks of a pass that is just ending may be pending. What a failed write or sync lost would not be made
     * durable by another sync: then the file is made anew, at the latest by the second call. */
    store->state_sync_error = store_state_write(store);
    if (store->state_sync_error)
        store->state_sync_error = store_state_write(store);
    store->state_ref = segment_ref_take(store->state.ref);
    store->state_op_running = true;
    store->state_op = (struct io_op){
        .kind = IO_OP_SYNC, .file = store->state_ref->file, .done = state_synced, .ctx = store};
    io_loop_submit(store->loop, &store->state_op);
}
