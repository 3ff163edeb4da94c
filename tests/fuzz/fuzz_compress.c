/* compress_inflate with each codec (first byte), and what came out compressed and inflated again. */
#include "base/error.h"
#include "base/mem.h"
#include "fuzz.h"
#include "wire/compress.h"

enum { MAX = 1 << 16, CODECS_OWN = 13 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    enum batch_compression codec = (enum batch_compression)(BATCH_GZIP + data[0] % 4);
    struct bytes in = fuzz_copy(data + 1, size - 1);
    uint8_t *plain, *again;
    size_t len, len_again;
    fuzz_begin();
    int error = compress_inflate(codec, in, MAX, &plain, &len);
    fuzz_check_memory(CODECS_OWN + 4 * MAX + 25 * in.len);
    FUZZ_CHECK(error == 0 || error == CLYMQ_ECOMPRESSION || error == CLYMQ_ETOOBIG);
    if (error == 0) {
        struct buf *packed;
        FUZZ_CHECK(len <= MAX);
        FUZZ_CHECK(compress_deflate(codec, 0, bytes_of(plain, len), 0, &packed) == 0);
        FUZZ_CHECK(compress_inflate(codec, bytes_of(packed->data, packed->len), len, &again, &len_again) ==
                   0);
        FUZZ_CHECK(bytes_equal(bytes_of(plain, len), bytes_of(again, len_again)));
        buf_unref(packed);
        mem_free(again);
        mem_free(plain);
    }
    fuzz_check_time(in.len);
    fuzz_free(in);
    return 0;
}
