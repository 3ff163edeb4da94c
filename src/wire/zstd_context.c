/* Thread-local pointers to the contexts; a key whose value is set once a thread has made one is what frees
 * them at its end. */
#include "wire/zstd_context.h"

#include <pthread.h>

static __thread ZSTD_CCtx *compressor;
static __thread ZSTD_DCtx *decompressor;
static pthread_key_t at_thread_end;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int key_made;

static void free_contexts(void *unused)
{
    ZSTD_freeCCtx(compressor);
    ZSTD_freeDCtx(decompressor);
    compressor = NULL;
    decompressor = NULL;
}

static void make_key(void)
{
    key_made = pthread_key_create(&at_thread_end, free_contexts) == 0;
}

/* Whether what the thread makes now will be freed. */
static int registered(void)
{
    pthread_once(&once, make_key);
    return key_made && pthread_setspecific(at_thread_end, &key_made) == 0;
}

ZSTD_CCtx *zstd_compressor(void)
{
    if (!compressor && registered()) {
        compressor = ZSTD_createCCtx();
        if (compressor)
            ZSTD_CCtx_setParameter(compressor, ZSTD_c_windowLog, ZSTD_CONTEXT_WINDOW_LOG_MAX);
    }
    return compressor;
}

ZSTD_DCtx *zstd_decompressor(void)
{
    if (!decompressor && registered()) {
        decompressor = ZSTD_createDCtx();
        if (decompressor)
            ZSTD_DCtx_setParameter(decompressor, ZSTD_d_windowLogMax, ZSTD_CONTEXT_WINDOW_LOG_MAX);
    }
    if (decompressor)
        ZSTD_DCtx_reset(decompressor, ZSTD_reset_session_only);
    return decompressor;
}
