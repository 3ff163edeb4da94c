#include "store/ahead.h"

#include "base/error.h"
#include "base/mem.h"
#include "io/file.h"
#include "store/store_impl.h"

enum { PAGE = 4096, RESERVE_MAX = 16 << 20 };
enum { RESERVE_KEPT = 8 }; /* this part of a segment's size may stay reserved behind its end */

/* Measured with bench/bench_sync.c: with 10 KB a sync zeros halve its time, with 64 KB the time to write them
 * takes back what they save. */
enum { SMALL_SYNC = 32 << 10 };
enum { ZEROS_LOW = 4 }; /* written anew when less than this part of them is left */

void ahead_forget(struct segment *segment)
{
    segment->reserved = segment->size;
    segment->zeroed = 0;
}

static int cut(struct segment *segment, struct io_file *file)
{
    int error = io_file_truncate(file, segment->size);
    if (!error)
        ahead_forget(segment);
    return error;
}

void ahead_end(struct segment *segment, struct io_file *file)
{
    uint32_t spare = segment->reserved > segment->size ? segment->reserved - segment->size : 0;
    /* On a disk that discards what is freed a cut waits for the disk behind all that is being written, and
     * everybody of this shard with it: a full segment keeps what little it has. */
    if (segment->zeroed > segment->size || spare > segment->size / RESERVE_KEPT)
        (void)cut(segment, file);
}

void ahead_end_block(struct block *block)
{
    struct segment *segment = block_active(block);
    struct segment_ref *ref;
    if (segment->zeroed <= segment->size || segment_file(block, segment, SEGMENT_LOG, &ref))
        return;
    ahead_end(segment, ref->file);
    segment_note_change(block->store, segment, ref);
}

/* ---- reserved space ---- */

/* Whether the active segment will be full, as far as the one before it tells. */
static bool is_filling(const struct block *block)
{
    return block->segment_count > 1 &&
           (int64_t)block->segments[block->segment_count - 2]->size >= block->segment_bytes / 2;
}

/* Room that a disk worker makes. */
struct ahead_room {
    struct list link; /* store->rooms */
    struct store *store;
    struct block *block; /* NULL: closed meanwhile */
    struct segment_ref *ref;
    uint64_t from, to; /* in the block's active segment, which stays it meanwhile */
    int error;
    struct io_work work;
};

static void free_room(struct ahead_room *room)
{
    list_remove(&room->link);
    segment_ref_release(room->ref);
    mem_free(room);
}

/* On a disk worker. */
static void make_room(struct io_work *work)
{
    struct ahead_room *room = work->ctx;
    room->error = io_file_allocate(room->ref->file, room->from, room->to - room->from);
}

static void take_room(struct block *block, const struct ahead_room *room)
{
    struct segment *segment = block_active(block);
    if (room->error == CLYMQ_EUNSUPPORTED)
        block->store->cannot_reserve = true;
    segment->reserved = (uint32_t)room->to;
    if (room->error && room->error != CLYMQ_EUNSUPPORTED) {
        block->room_failed = true;
        (void)cut(segment, room->ref->file); /* some of it may be taken, and others need it */
    }
}

static void room_made(struct io_work *work)
{
    struct ahead_room *room = work->ctx;
    struct store *store = room->store;
    struct block *block = room->block;
    if (block) {
        block->room = NULL;
        take_room(block, room);
    }
    free_room(room);
    if (block)
        block->events.on_room(block->events.ctx, block);
    store_stop_step(store);
}

/* Whether a disk worker reserves it. */
static bool leave_to_worker(struct block *block, const struct segment *segment, struct segment_ref *ref,
                            uint64_t to)
{
    struct store *store = block->store;
    if (!block->events.on_room || block->room_failed ||
        (int64_t)(to - segment->reserved) < store->config.room_by_worker)
        return false;
    struct ahead_room *room = mem_zalloc(sizeof(*room));
    if (!room)
        return false;
    room->store = store;
    room->block = block;
    room->ref = segment_ref_take(ref);
    room->from = segment->reserved;
    room->to = to;
    room->work = (struct io_work){.run = make_room, .done = room_made, .ctx = room};
    list_push_back(&store->rooms, &room->link);
    block->room = room;
    io_loop_work(store->loop, &room->work);
    return true;
}

bool block_makes_room(const struct block *block)
{
    return block->room != NULL;
}

void ahead_detach(struct block *block)
{
    if (block->room)
        block->room->block = NULL;
    block->room = NULL;
}

void ahead_abandon(struct store *store)
{
    while (!list_empty(&store->rooms))
        free_room(CONTAINER_OF(store->rooms.next, struct ahead_room, link));
}

int ahead_reserve(struct block *block, struct segment *segment, struct segment_ref *ref, uint32_t size)
{
    if (segment->size + (uint64_t)size <= segment->reserved || block->store->cannot_reserve)
        return 0;
    struct io_file *file = ref->file;
    uint64_t ahead = is_filling(block) || segment->size > RESERVE_MAX ? RESERVE_MAX : segment->size;
    if (block->room_failed) /* no long search for what was not found just now */
        ahead = size;
    uint64_t want = segment->size + (ahead > size ? ahead : size);
    uint64_t most = (uint64_t)block->segment_bytes;
    if (want > most)
        want = segment->size + (uint64_t)size > most ? segment->size + (uint64_t)size : most;
    want = (want + PAGE - 1) / PAGE * PAGE;
    if (want > UINT32_MAX)
        want = UINT32_MAX;
    if (leave_to_worker(block, segment, ref, want))
        return CLYMQ_EAGAIN;
    block->room_failed = false;
    int error = io_file_allocate(file, segment->reserved, want - segment->reserved);
    if (error == CLYMQ_ENOSPC && cut(segment, file) == 0) { /* perhaps there is room for this one alone */
        want = segment->size + (uint64_t)size;
        error = io_file_allocate(file, segment->reserved, want - segment->reserved);
        if (error == CLYMQ_ENOSPC) /* what there was may be taken now: smaller appends need it */
            (void)cut(segment, file);
    }
    if (error == CLYMQ_EUNSUPPORTED)
        block->store->cannot_reserve = true;
    else if (error)
        return error;
    segment->reserved = (uint32_t)want;
    return 0;
}

/* ---- zeros ---- */

static int write_zeros(struct io_file *file, uint64_t from, uint64_t to)
{
    static uint8_t zeros[64 << 10]; /* never written: takes no memory */
    struct iovec parts[STORE_ZEROS_AHEAD_MAX / sizeof(zeros) + 1];
    int count = 0;
    for (uint64_t at = from; at < to; at += parts[count++].iov_len)
        parts[count] = (struct iovec){zeros, to - at < sizeof(zeros) ? to - at : sizeof(zeros)};
    ssize_t written = io_file_pwritev(file, parts, count, from);
    return written < 0 ? (int)written : 0;
}

/* Where zeros behind the segment's end shall reach; at most its size: none. No more than it holds, so that
 * what was hardly used stays small; and as recovery reads them, those of all blocks no more than what it may
 * have to read besides. */
static uint64_t zeros_wanted(const struct block *block, const struct segment *segment)
{
    const struct store *store = block->store;
    int64_t most = store->config.checkpoint_bytes / store->block_count;
    if (most > store->config.zeros_ahead)
        most = store->config.zeros_ahead;
    if (most > segment->size)
        most = segment->size;
    uint64_t want = (segment->size + (uint64_t)most) / PAGE * PAGE;
    if (most < PAGE)
        return 0;
    return want < (uint64_t)block->segment_bytes ? want : (uint64_t)block->segment_bytes;
}

void ahead_before_sync(struct block *block)
{
    struct segment *segment = block_active(block);
    if (block->end.base != segment->base || block->room)
        return; /* it is empty yet; its file is a disk worker's */
    uint32_t begin = block->synced.base == segment->base ? block->synced.position : 0;
    uint32_t size = block->end.position - begin;
    if (size == 0)
        return;
    if (size > SMALL_SYNC) {
        block->small_syncs = 0;
        return;
    }
    if (block->small_syncs < block->store->config.small_syncs) {
        block->small_syncs++;
        return;
    }
    uint64_t from = segment->zeroed > segment->size ? segment->zeroed : segment->size;
    uint64_t want = zeros_wanted(block, segment);
    struct segment_ref *ref;
    if (from >= want || from - segment->size >= (want - segment->size) / ZEROS_LOW ||
        segment_file(block, segment, SEGMENT_LOG, &ref))
        return;
    if (write_zeros(ref->file, from, want)) { /* in part, perhaps */
        segment->zeroed = (uint32_t)want;
        (void)cut(segment, ref->file);
        block->small_syncs = 0;
        return;
    }
    segment->zeroed = (uint32_t)want;
    if (segment->reserved < segment->zeroed)
        segment->reserved = segment->zeroed;
}
