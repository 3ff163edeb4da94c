/* thrift_find_message: the same answer at once and in pieces, an extent inside the data, nothing allocated.
 * The first byte says how large the pieces are. */
#include "base/error.h"
#include "fuzz.h"
#include "wire/thrift.h"

enum { MAX = 1 << 20 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t piece = 1 + data[0] % 32;
    struct bytes whole = fuzz_copy(data + 1, size - 1);
    struct thrift_scan scan = {0}, pieces = {0};
    struct thrift_extent extent, again;
    struct thrift_message message;
    size_t need = 0, need_again = 0;

    fuzz_begin();
    int error = thrift_find_message(&scan, whole, MAX, &extent, &need), in_pieces = CLYMQ_EAGAIN;
    for (size_t len = 0; in_pieces == CLYMQ_EAGAIN;) {
        in_pieces = thrift_find_message(&pieces, bytes_of(whole.ptr, len), MAX, &again, &need_again);
        if (len == whole.len)
            break;
        len = whole.len - len < piece ? whole.len : len + piece;
    }
    FUZZ_CHECK(in_pieces == error);
    if (error == 0) {
        FUZZ_CHECK(extent.size <= whole.len && extent.body <= extent.size);
        FUZZ_CHECK(extent.body + extent.body_len == extent.size);
        FUZZ_CHECK(again.size == extent.size && again.body == extent.body);
        int read = thrift_read_message(extent.form.protocol,
                                       bytes_of(whole.ptr + extent.body, extent.body_len), &message);
        FUZZ_CHECK(read == 0 || read == CLYMQ_EPROTO);
    } else if (error == CLYMQ_EAGAIN) {
        FUZZ_CHECK(need > whole.len && need <= MAX && need == need_again);
    } else {
        FUZZ_CHECK(error == CLYMQ_EPROTO || error == CLYMQ_ETOOBIG);
    }
    fuzz_check_memory(0);
    fuzz_check_time(whole.len);
    fuzz_free(whole);
    return 0;
}
