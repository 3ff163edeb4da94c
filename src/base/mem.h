/* Counted, fault-injectable allocation. Everything in ClyMQ allocates through here; libraries keep their own.
 *
 * All functions are thread-safe. On failure they return NULL; the caller answers CLYMQ_ENOMEM. Memory is
 * freed with mem_free by whoever owns it; each header says who. Sizes are bytes. */
#ifndef CLYMQ_BASE_MEM_H
#define CLYMQ_BASE_MEM_H

#include <stddef.h>
#include <stdint.h>

void *mem_alloc(size_t size) __attribute__((malloc, warn_unused_result));
void *mem_zalloc(size_t size) __attribute__((malloc, warn_unused_result));
/* count * size zeroed bytes; NULL also where the product overflows. */
void *mem_calloc(size_t count, size_t size) __attribute__((malloc, warn_unused_result));
/* As realloc; on failure the old memory stays valid and owned by the caller. */
void *mem_realloc(void *memory, size_t size) __attribute__((warn_unused_result));
void mem_free(void *memory); /* NULL is allowed */
char *mem_strdup(const char *text) __attribute__((malloc, warn_unused_result));
/* Copies len bytes and adds a terminating NUL. */
char *mem_strndup(const void *text, size_t len) __attribute__((malloc, warn_unused_result));

/* Lets the process keep up to 32 MiB per allocating thread of what it freed for its next allocations. By
 * default glibc gives buffers of 128 KiB and more back to the kernel one by one, which must then clear each
 * page again: under load that cost as much as all copying. Called by a program (never by the library) before
 * it starts threads. */
void mem_keep_freed(void);
/* Gives back to the kernel what all threads have kept between their allocations. Takes milliseconds a hundred
 * megabytes, during which they may wait for memory. */
void mem_give_back(void);
/* And what the calling thread has kept behind its last allocation. One thread at a time, others wait. Only in
 * a program that has called mem_keep_freed, whose threshold it restores. */
void mem_give_back_own(void);

/* Bytes now allocated through this module, and the number of allocations ever made. Approximate across
 * threads. */
uint64_t mem_live_bytes(void);
uint64_t mem_allocation_count(void);

/* Tests: the nth allocation from now (1 = the next) of the calling thread fails, once; 0 turns it off.
 * mem_failed() tells whether it has failed since. */
void mem_fail_nth(uint64_t nth);
int mem_failed(void);

/* Frees a local at the end of its scope: char *name MEM_CLEANUP = mem_strdup(…); */
static inline void mem_free_pointer(void *pointer_to_pointer)
{
    mem_free(*(void **)pointer_to_pointer);
}
#define MEM_CLEANUP __attribute__((cleanup(mem_free_pointer)))

#endif
