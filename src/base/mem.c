/* Counted allocation: see mem.h. Counters are per thread and added up by the reader, so that the hot path
 * takes no shared cache line. A thread's counters live in a static table slot claimed once; threads beyond
 * the table share the last slot with atomic additions, which is slower and still right. */
#include "base/mem.h"

#include <malloc.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 64, KEPT_BYTES = 32 << 20 };

struct mem_slot {
    _Alignas(64) _Atomic int64_t live;
    _Atomic uint64_t count;
};

static struct mem_slot slots[SLOTS];
static _Atomic unsigned slots_claimed;
static _Thread_local struct mem_slot *my_slot;
static _Thread_local uint64_t fail_countdown;
static _Thread_local int failed;

static struct mem_slot *mem_slot(void)
{
    if (__builtin_expect(!my_slot, 0)) {
        unsigned index = atomic_fetch_add_explicit(&slots_claimed, 1, memory_order_relaxed);
        my_slot = &slots[index < SLOTS ? index : SLOTS - 1];
    }
    return my_slot;
}

static void mem_count(int64_t bytes, unsigned allocations)
{
    struct mem_slot *slot = mem_slot();
    atomic_fetch_add_explicit(&slot->live, bytes, memory_order_relaxed);
    if (allocations)
        atomic_fetch_add_explicit(&slot->count, allocations, memory_order_relaxed);
}

static bool mem_should_fail(void)
{
    if (__builtin_expect(fail_countdown == 0, 1) || --fail_countdown > 0)
        return false;
    failed = 1;
    return true;
}

static void *mem_counted(void *memory)
{
    if (memory)
        mem_count((int64_t)malloc_usable_size(memory), 1);
    return memory;
}

void *mem_alloc(size_t size)
{
    return mem_should_fail() ? NULL : mem_counted(malloc(size ? size : 1));
}

void *mem_calloc(size_t count, size_t size)
{
    size_t total;
    if (__builtin_mul_overflow(count, size, &total) || mem_should_fail())
        return NULL;
    return mem_counted(calloc(1, total ? total : 1));
}

void *mem_zalloc(size_t size)
{
    return mem_calloc(1, size);
}

void *mem_realloc(void *memory, size_t size)
{
    if (mem_should_fail())
        return NULL;
    int64_t before = memory ? (int64_t)malloc_usable_size(memory) : 0;
    void *moved = realloc(memory, size ? size : 1);
    if (moved)
        mem_count((int64_t)malloc_usable_size(moved) - before, 1);
    return moved;
}

void mem_free(void *memory)
{
    if (!memory)
        return;
    mem_count(-(int64_t)malloc_usable_size(memory), 0);
    free(memory);
}

char *mem_strndup(const void *text, size_t len)
{
    char *copy = mem_alloc(len + 1);
    if (!copy)
        return NULL;
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *mem_strdup(const char *text)
{
    return mem_strndup(text, strlen(text));
}

void mem_keep_freed(void)
{
    mallopt(M_MMAP_THRESHOLD, 4 << 20);
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
}

void mem_give_back(void)
{
    malloc_trim(0);
}

/* malloc_trim leaves the end of a thread's own heap. It goes when the thread frees something larger than
 * glibc's 64 KiB while the threshold is low. */
void mem_give_back_own(void)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

    pthread_mutex_lock(&lock);
    mallopt(M_TRIM_THRESHOLD, 64 << 10);
    mem_free(mem_alloc(128 << 10));
    mallopt(M_TRIM_THRESHOLD, KEPT_BYTES);
    pthread_mutex_unlock(&lock);
}

uint64_t mem_live_bytes(void)
{
    int64_t total = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        total += atomic_load_explicit(&slots[i].live, memory_order_relaxed);
    return total > 0 ? (uint64_t)total : 0;
}

uint64_t mem_allocation_count(void)
{
    uint64_t total = 0;
    for (unsigned i = 0; i < SLOTS; i++)
        total += atomic_load_explicit(&slots[i].count, memory_order_relaxed);
    return total;
}

void mem_fail_nth(uint64_t nth)
{
    fail_countdown = nth;
    failed = 0;
}

int mem_failed(void)
{
    return failed;
}
