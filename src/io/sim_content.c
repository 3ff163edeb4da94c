/* The bytes of a simulated file: pages shared between the cached and the durable state until written again,
 * and what a power loss makes of the difference. A crash chooses by sector, because that is the unit a disk
 * writes whole. */
#include <assert.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "io/sim_disk.h"

static struct sim_page *page_new(void)
{
    struct sim_page *page = mem_zalloc(sizeof(*page));
    if (page)
        page->refs = 1;
    return page;
}

static struct sim_page *page_ref(struct sim_page *page)
{
    if (page)
        page->refs++;
    return page;
}

static void page_unref(struct sim_page *page)
{
    if (page && --page->refs == 0)
        mem_free(page);
}

static void mark_dirty(struct sim_file_content *content, size_t first, size_t end)
{
    if (content->dirty_first >= content->dirty_end) {
        content->dirty_first = first;
        content->dirty_end = end;
        return;
    }
    if (first < content->dirty_first)
        content->dirty_first = first;
    if (end > content->dirty_end)
        content->dirty_end = end;
}

static int reserve_slots(struct sim_file_content *content, size_t count)
{
    if (count <= content->slot_count)
        return 0;
    size_t wider = content->slot_count ? content->slot_count * 2 : 4;
    if (wider < count)
        wider = count;
    struct sim_slot *slots = mem_realloc(content->slots, wider * sizeof(*slots));
    if (!slots)
        return CLYMQ_ENOMEM;
    memset(slots + content->slot_count, 0, (wider - content->slot_count) * sizeof(*slots));
    content->slots = slots;
    content->slot_count = wider;
    return 0;
}

static bool disk_is_full(const struct sim_disk *disk)
{
    return disk->faults.capacity && (disk->used_pages + 1) * SIM_PAGE > disk->faults.capacity;
}

/* Makes the slot's cached page writable: made if a hole, copied if the durable state has it too. */
static int own_page(struct sim_disk *disk, struct sim_slot *slot)
{
    struct sim_page *old = slot->cached;
    if (!old && !slot->reserved && disk_is_full(disk))
        return CLYMQ_ENOSPC;
    slot->lost = false; /* dirty again: the whole page is written the next time */
    if (old && old->refs == 1)
        return 0;
    struct sim_page *page = page_new();
    if (!page)
        return CLYMQ_ENOMEM;
    if (old) {
        memcpy(page->data, old->data, SIM_PAGE);
        page_unref(old);
    } else if (slot->reserved) {
        slot->reserved = false;
    } else {
        disk->used_pages++;
    }
    slot->cached = page;
    return 0;
}

static void drop_cached(struct sim_disk *disk, struct sim_slot *slot)
{
    if (slot->cached || slot->reserved)
        disk->used_pages--;
    page_unref(slot->cached);
    slot->cached = NULL;
    slot->reserved = false;
}

/* After a failed sync the kernel may drop the page that it could not write; the next read gets the disk's
 * content. */
static void maybe_evict(struct sim_disk *disk, struct sim_slot *slot)
{
    if (!slot->lost || !rng_chance(&disk->rng, 1, 8))
        return;
    slot->lost = false;
    if (slot->cached == slot->durable)
        return;
    drop_cached(disk, slot);
    slot->cached = page_ref(slot->durable);
    disk->used_pages += slot->cached ? 1 : 0;
}

size_t sim_content_read(struct sim_disk *disk, struct sim_inode *inode, void *data, size_t len,
                        uint64_t offset)
{
    struct sim_file_content *content = &inode->content;
    if (offset >= content->size)
        return 0;
    if (len > content->size - offset)
        len = (size_t)(content->size - offset);
    for (size_t done = 0; done < len;) {
        size_t index = (size_t)((offset + done) / SIM_PAGE);
        size_t inside = (size_t)((offset + done) % SIM_PAGE);
        size_t part = SIM_PAGE - inside < len - done ? SIM_PAGE - inside : len - done;
        struct sim_slot *slot = index < content->slot_count ? &content->slots[index] : NULL;
        if (slot && (uint64_t)(index + 1) * SIM_PAGE <= content->size)
            maybe_evict(disk, slot);
        if (slot && slot->cached)
            memcpy((char *)data + done, slot->cached->data + inside, part);
        else
            memset((char *)data + done, 0, part);
        done += part;
    }
    return len;
}

ssize_t sim_content_write(struct sim_disk *disk, struct sim_inode *inode, const void *data, size_t len,
                          uint64_t offset)
{
    struct sim_file_content *content = &inode->content;
    if (len == 0)
        return 0;
    if (offset > SIM_FILE_MAX || len > SIM_FILE_MAX - offset)
        return CLYMQ_ENOSPC;
    int error = reserve_slots(content, (size_t)((offset + len - 1) / SIM_PAGE) + 1);
    if (error)
        return error;
    size_t done = 0;
    while (done < len) {
        size_t index = (size_t)((offset + done) / SIM_PAGE);
        size_t inside = (size_t)((offset + done) % SIM_PAGE);
        size_t part = SIM_PAGE - inside < len - done ? SIM_PAGE - inside : len - done;
        struct sim_slot *slot = &content->slots[index];
        error = own_page(disk, slot);
        if (error)
            break;
        memcpy(slot->cached->data + inside, (const char *)data + done, part);
        mark_dirty(content, index, index + 1);
        done += part;
    }
    if (done == 0)
        return error;
    if (offset + done > content->size) {
        content->size = offset + done;
        content->size_lost = false;
    }
    return (ssize_t)done;
}

int sim_content_truncate(struct sim_disk *disk, struct sim_inode *inode, uint64_t size)
{
    struct sim_file_content *content = &inode->content;
    if (size > SIM_FILE_MAX)
        return CLYMQ_ENOSPC;
    size_t kept = (size_t)((size + SIM_PAGE - 1) / SIM_PAGE);
    if (size < content->size && size % SIM_PAGE && kept <= content->slot_count) {
        struct sim_slot *last = &content->slots[kept - 1];
        if (last->cached) {
            int error = own_page(disk, last);
            if (error)
                return error;
            memset(last->cached->data + size % SIM_PAGE, 0, SIM_PAGE - size % SIM_PAGE);
            mark_dirty(content, kept - 1, kept);
        }
    }
    for (size_t i = kept; i < content->slot_count; i++) {
        struct sim_slot *slot = &content->slots[i];
        if (slot->cached || slot->reserved || slot->durable) {
            drop_cached(disk, slot);
            slot->lost = false;
            mark_dirty(content, i, i + 1);
        }
    }
    if (content->size != size) {
        content->size = size;
        content->size_lost = false;
    }
    return 0;
}

int sim_content_allocate(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, uint64_t len)
{
    struct sim_file_content *content = &inode->content;
    if (len == 0)
        return CLYMQ_EINVAL;
    if (offset > SIM_FILE_MAX || len > SIM_FILE_MAX - offset)
        return CLYMQ_ENOSPC;
    size_t end = (size_t)((offset + len - 1) / SIM_PAGE) + 1;
    int error = reserve_slots(content, end);
    for (size_t i = (size_t)(offset / SIM_PAGE); i < end && !error; i++) {
        struct sim_slot *slot = &content->slots[i];
        if (slot->cached || slot->reserved)
            continue;
        if (disk_is_full(disk)) {
            error = CLYMQ_ENOSPC;
        } else {
            slot->reserved = true;
            disk->used_pages++;
        }
    }
    return error;
}

static void make_durable(struct sim_slot *slot)
{
    page_unref(slot->durable);
    slot->durable = page_ref(slot->cached);
}

void sim_content_sync(struct sim_disk *disk, struct sim_inode *inode)
{
    struct sim_file_content *content = &inode->content;
    for (size_t i = content->dirty_first; i < content->dirty_end; i++)
        if (!content->slots[i].lost && content->slots[i].cached != content->slots[i].durable)
            make_durable(&content->slots[i]);
    content->dirty_first = content->dirty_end = 0;
    if (!content->size_lost)
        content->durable_size = content->size;
}

void sim_content_sync_failed(struct sim_disk *disk, struct sim_inode *inode)
{
    struct sim_file_content *content = &inode->content;
    bool lose_all = disk->faults.lose_all_unsynced || disk->faults.ignore_sync;
    for (size_t i = content->dirty_first; i < content->dirty_end; i++) {
        struct sim_slot *slot = &content->slots[i];
        if (slot->lost || slot->cached == slot->durable)
            continue;
        if (!lose_all && rng_chance(&disk->rng, 1, 2))
            make_durable(slot);
        else
            slot->lost = true;
    }
    content->dirty_first = content->dirty_end = 0;
    if (content->size > content->durable_size && !content->size_lost && !lose_all &&
        rng_chance(&disk->rng, 1, 2))
        content->durable_size = content->size;
    content->size_lost = content->size != content->durable_size;
}

void sim_content_write_back(struct sim_disk *disk, struct sim_inode *inode)
{
    struct sim_file_content *content = &inode->content;
    if (content->dirty_first >= content->dirty_end)
        return;
    for (unsigned tries = 0; tries < 4; tries++) {
        size_t width = content->dirty_end - content->dirty_first;
        struct sim_slot *slot = &content->slots[content->dirty_first + rng_below(&disk->rng, width)];
        if (!slot->lost && slot->cached != slot->durable)
            make_durable(slot);
    }
    if (!content->size_lost && content->size > content->durable_size && rng_chance(&disk->rng, 1, 2))
        content->durable_size = content->size;
}

/* How much of a file's unsynced content a crash keeps. */
enum crash_mode { KEEP_NONE, KEEP_ALL, KEEP_PREFIX, KEEP_RANDOM, CRASH_MODES };

struct crash {
    enum crash_mode mode;
    uint64_t size;       /* the file's size after the crash */
    uint64_t prefix_end; /* KEEP_PREFIX */
};

static struct crash choose_crash(struct sim_disk *disk, const struct sim_file_content *content)
{
    struct crash crash = {KEEP_NONE, content->durable_size, 0};
    if (disk->faults.lose_all_unsynced)
        return crash;
    struct rng *rng = &disk->rng;
    crash.mode = (enum crash_mode)rng_below(rng, CRASH_MODES);
    if (!content->size_lost && content->size < content->durable_size) {
        crash.size = rng_chance(rng, 1, 2) ? content->size : content->durable_size;
    } else if (!content->size_lost && content->size > content->durable_size) {
        uint64_t grown = content->size - content->durable_size;
        switch (rng_below(rng, 4)) {
        case 0:
            break;
        case 1:
            crash.size = content->size;
            break;
        default:
            crash.size += rng_below(rng, grown + 1);
        }
    }
    crash.prefix_end = rng_below(rng, content->size + 1);
    return crash;
}

static bool keeps_sector(struct sim_disk *disk, const struct crash *crash, uint64_t at)
{
    switch (crash->mode) {
    case KEEP_ALL:
        return true;
    case KEEP_PREFIX:
        return at + SIM_SECTOR <= crash->prefix_end;
    case KEEP_RANDOM:
        return rng_chance(&disk->rng, 1, 2);
    default:
        return false;
    }
}

/* The page that the crash leaves of a slot whose two states differ. */
static struct sim_page *crashed_page(struct sim_disk *disk, const struct crash *crash,
                                     const struct sim_file_content *content, size_t index)
{
    const struct sim_slot *slot = &content->slots[index];
    struct sim_page *page = page_new();
    assert(page); /* the simulator's own memory: it cannot go on without */
    if (slot->durable)
        memcpy(page->data, slot->durable->data, SIM_PAGE);
    static const uint8_t zeros[SIM_SECTOR];
    for (size_t inside = 0; inside < SIM_PAGE; inside += SIM_SECTOR) {
        uint64_t at = (uint64_t)index * SIM_PAGE + inside;
        const uint8_t *cached = slot->cached ? slot->cached->data + inside : zeros;
        if (at >= crash->size || memcmp(page->data + inside, cached, SIM_SECTOR) == 0)
            continue;
        if (keeps_sector(disk, crash, at))
            memcpy(page->data + inside, cached, SIM_SECTOR);
        else if (at >= content->durable_size && crash->mode != KEEP_NONE && rng_chance(&disk->rng, 1, 16))
            rng_fill(&disk->rng, page->data + inside, SIM_SECTOR); /* what the disk held there before */
    }
    return page;
}

void sim_content_crash(struct sim_disk *disk, struct sim_inode *inode)
{
    struct sim_file_content *content = &inode->content;
    struct crash crash = choose_crash(disk, content);
    for (size_t i = 0; i < content->slot_count; i++) {
        struct sim_slot *slot = &content->slots[i];
        struct sim_page *left = NULL;
        if ((uint64_t)i * SIM_PAGE < crash.size) {
            bool keep_durable = slot->lost || slot->cached == slot->durable || crash.mode == KEEP_NONE;
            left = keep_durable ? page_ref(slot->durable) : crashed_page(disk, &crash, content, i);
        }
        drop_cached(disk, slot);
        page_unref(slot->durable);
        *slot = (struct sim_slot){.cached = left, .durable = page_ref(left)};
        disk->used_pages += left ? 1 : 0;
    }
    size_t tail = (size_t)(crash.size % SIM_PAGE);
    size_t last = (size_t)(crash.size / SIM_PAGE);
    if (tail && last < content->slot_count && content->slots[last].cached)
        memset(content->slots[last].cached->data + tail, 0, SIM_PAGE - tail); /* both states share it now */
    content->size = content->durable_size = crash.size;
    content->size_lost = false;
    content->dirty_first = content->dirty_end = 0;
}

int sim_content_flip(struct sim_disk *disk, struct sim_inode *inode, uint64_t offset, uint64_t len,
                     unsigned bits)
{
    struct sim_file_content *content = &inode->content;
    if (offset >= content->size || len == 0)
        return CLYMQ_EINVAL;
    if (len > content->size - offset)
        len = content->size - offset;
    for (unsigned i = 0; i < bits; i++) {
        uint64_t at = offset + rng_below(&disk->rng, len);
        uint8_t mask = (uint8_t)(1u << rng_below(&disk->rng, 8));
        size_t index = (size_t)(at / SIM_PAGE);
        if (index >= content->slot_count)
            continue;
        struct sim_slot *slot = &content->slots[index];
        if (slot->cached)
            slot->cached->data[at % SIM_PAGE] ^= mask;
        if (slot->durable && slot->durable != slot->cached)
            slot->durable->data[at % SIM_PAGE] ^= mask;
    }
    return 0;
}

void sim_content_free(struct sim_disk *disk, struct sim_inode *inode)
{
    struct sim_file_content *content = &inode->content;
    for (size_t i = 0; i < content->slot_count; i++) {
        drop_cached(disk, &content->slots[i]);
        page_unref(content->slots[i].durable);
    }
    mem_free(content->slots);
    *content = (struct sim_file_content){0};
}
