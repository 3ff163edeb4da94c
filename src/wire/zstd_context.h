/* zstd's contexts, one of each kind a thread, made at first use and freed when the thread ends: making one
 * takes longer than a small batch (13 us against 1 us, measured with bench_wire's text). A decompression
 * context keeps its buffers, at most the largest window allowed (8 MiB). Inside wire only. */
#ifndef CLYMQ_WIRE_ZSTD_CONTEXT_H
#define CLYMQ_WIRE_ZSTD_CONTEXT_H

#include <zstd.h>

enum { ZSTD_CONTEXT_WINDOW_LOG_MAX = 23 }; /* RFC 8878, 3.1.1.1.2: 8 MiB is recommended to be supported */

/* The calling thread's, owned by this module; NULL = out of memory. ZSTD_compress2 uses the largest window
 * that is allowed, whatever the level; ZSTD_compressCCtx the level's. */
ZSTD_CCtx *zstd_compressor(void);
/* Ready for a new frame. */
ZSTD_DCtx *zstd_decompressor(void);

#endif
