/* thrift_decode into every struct, in both protocols, and what was decoded encoded and decoded again: equal.
 * First byte: lowest bit the protocol, next bit the reply; second byte: the method. The rest is the argument
 * or result struct. */
#include "base/error.h"
#include "fuzz.h"
#include "unit/wire/fill.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct thrift_form form = {.protocol = data[0] & 1, .envelope = THRIFT_FRAMED};
    bool reply = data[0] & 2;
    const struct rpc_method *method = &rpc_methods[data[1] % RPC_METHOD_COUNT];
    const struct thrift_struct *type = reply ? method->response : method->request;
    int16_t wrapper = reply ? 0 : 1;
    struct bytes args = fuzz_copy(data + 2, size - 2);
    union rpc_any value, again;
    struct thrift_exception_fields fields;

    fuzz_begin();
    int exception = thrift_decode_exception(form.protocol, args, &fields);
    int error = thrift_decode(form.protocol, args, wrapper, type, &value);
    fuzz_check_memory(0);
    FUZZ_CHECK(exception == 0 || exception == CLYMQ_EPROTO);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EPROTO || error == CLYMQ_ENOENT);
    if (error == 0) {
        struct bytes whole = encode_whole(&form, THRIFT_CALL, method->name, 1, wrapper, type, &value);
        struct thrift_scan scan = {0};
        struct thrift_extent extent;
        struct thrift_message message;
        size_t need;
        FUZZ_CHECK(thrift_find_message(&scan, whole, whole.len, &extent, &need) == 0);
        FUZZ_CHECK(thrift_read_message(form.protocol, bytes_of(whole.ptr + 4, whole.len - 4), &message) == 0);
        FUZZ_CHECK(thrift_decode(form.protocol, message.args, wrapper, type, &again) == 0);
        /* Fields of default requiredness are always sent: those that were missing are there now, as zero. */
        *(uint32_t *)(void *)(value.bytes + type->present_offset) |=
            *(uint32_t *)(void *)(again.bytes + type->present_offset);
        FUZZ_CHECK(structs_equal(type, &value, &again));
        struct bytes second = encode_whole(&form, THRIFT_CALL, method->name, 1, wrapper, type, &again);
        FUZZ_CHECK(bytes_equal(whole, second));
        bytes_free(second);
        bytes_free(whole);
    }
    fuzz_check_time(args.len);
    fuzz_free(args);
    return 0;
}
