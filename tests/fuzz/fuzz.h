/* What fuzzers share: a check that ends the program, input in exactly as much memory, and a bound on what is
 * allocated.
 *
 * A fuzzer calls fuzz_begin, feeds its decoder, calls fuzz_check_memory with the bound that the decoder
 * promises, and frees what it has. Memory is counted at malloc itself, so that of the codecs' libraries
 * counts too; without AddressSanitizer nothing is counted. */
#ifndef CLYMQ_FUZZ_FUZZ_H
#define CLYMQ_FUZZ_FUZZ_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
}
static inline void fuzz_check_memory(size_t limit)
{
}
#endif

#endif
