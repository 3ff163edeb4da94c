/* What fuzzers share: a check that ends the program, input in exactly as much memory, and bounds on what is
 * allocated and on the time taken.
 *
 * A fuzzer calls fuzz_begin, feeds its decoder, calls fuzz_check_memory with the bound that the decoder
 * promises and fuzz_check_time with the input's size, and frees what it has. Memory is counted at malloc
 * itself, so that of the codecs' libraries counts too; without AddressSanitizer nothing is counted. Time is
 * the processor's, so that a busy machine changes little. */
#ifndef CLYMQ_FUZZ_FUZZ_H
#define CLYMQ_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define FUZZ_CHECK(condition)                                                                                \
    do {                                                                                                     \
        if (!(condition)) {                                                                                  \
            fprintf(stderr, "%s:%d: broken: %s\n", __FILE__, __LINE__, #condition);                          \
            abort();                                                                                         \
        }                                                                                                    \
    } while (0)

/* A copy in exactly as much memory, so that a byte too far is seen. Freed with free((void *)…ptr). */
static inline struct bytes fuzz_copy(const uint8_t *data, size_t size)
{
    uint8_t *copy = malloc(size ? size : 1);
    FUZZ_CHECK(copy);
    if (size)
        memcpy(copy, data, size);
    return bytes_of(copy, size);
}

static inline void fuzz_free(struct bytes copy)
{
    free((void *)(uintptr_t)copy.ptr);
}

/* What a decoder may take, under sanitizers, for its first byte and for each one more. What grows with the
 * square of the input passes it from some ten thousand bytes on. */
#define FUZZ_BASE_NS ((uint64_t)1500000000)
#define FUZZ_BYTE_NS ((uint64_t)20000)

static uint64_t fuzz_begun_ns;

static inline uint64_t fuzz_now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Since fuzz_begin no more processor time went by than an input of size bytes may cost. */
static inline void fuzz_check_time(size_t size)
{
    uint64_t took_ns = fuzz_now_ns() - fuzz_begun_ns;
    if (took_ns > FUZZ_BASE_NS + size * FUZZ_BYTE_NS)
        fprintf(stderr, "%zu bytes took %llu ms\n", size, (unsigned long long)(took_ns / 1000000));
    FUZZ_CHECK(took_ns <= FUZZ_BASE_NS + size * FUZZ_BYTE_NS);
}

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define FUZZ_COUNTS_MEMORY 1
#endif
#elif defined(__SANITIZE_ADDRESS__)
#define FUZZ_COUNTS_MEMORY 1
#endif

#ifdef FUZZ_COUNTS_MEMORY
/* As sanitizer/allocator_interface.h has them; gcc's package on Debian lacks the header. */
int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *, size_t),
                                              void (*on_free)(const volatile void *));
size_t __sanitizer_get_allocated_size(const volatile void *memory);

static __thread size_t fuzz_live, fuzz_peak;

static inline void fuzz_on_malloc(const volatile void *memory, size_t size)
{
    fuzz_live += size;
    if (fuzz_live > fuzz_peak)
        fuzz_peak = fuzz_live;
}

static inline void fuzz_on_free(const volatile void *memory)
{
    size_t size = memory ? __sanitizer_get_allocated_size(memory) : 0;
    fuzz_live = size < fuzz_live ? fuzz_live - size : 0;
}

static inline void fuzz_begin(void)
{
    static int installed;
    if (!installed)
        __sanitizer_install_malloc_and_free_hooks(fuzz_on_malloc, fuzz_on_free);
    installed = 1;
    fuzz_live = fuzz_peak = 0;
    fuzz_begun_ns = fuzz_now_ns();
}

/* Since fuzz_begin never more than limit bytes were held at once. */
static inline void fuzz_check_memory(size_t limit)
{
    if (fuzz_peak > limit)
        fprintf(stderr, "%zu bytes were allocated, %zu are allowed\n", fuzz_peak, limit);
    FUZZ_CHECK(fuzz_peak <= limit);
}
#else
static inline void fuzz_begin(void)
{
    fuzz_begun_ns = fuzz_now_ns();
}
static inline void fuzz_check_memory(size_t limit)
{
}
#endif

#endif
