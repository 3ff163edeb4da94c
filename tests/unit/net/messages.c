#include "messages.h"

#include <assert.h>

#include "base/mem.h"
#include "base/rng.h"

const struct thrift_form message_forms[MESSAGE_FORMS] = {
    {THRIFT_BINARY, THRIFT_UNFRAMED, 0},        {THRIFT_BINARY, THRIFT_FRAMED, 0},
    {THRIFT_BINARY, THRIFT_TTHEADER, 77},       {THRIFT_BINARY, THRIFT_TTHEADER_FRAMED, 78},
    {THRIFT_COMPACT, THRIFT_UNFRAMED, 0},       {THRIFT_COMPACT, THRIFT_FRAMED, 0},
    {THRIFT_COMPACT, THRIFT_TTHEADER, 1234567}, {THRIFT_COMPACT, THRIFT_TTHEADER_FRAMED, -5},
};

void message_add_call(struct strbuf *out, const struct thrift_form *form, enum thrift_message_kind kind,
                      enum rpc_method_id method, int32_t sequence, const void *request)
{
    struct thrift_encoded encoded;
    int error = thrift_encode(form, kind, rpc_methods[method].name, sequence, 1, rpc_methods[method].request,
                              request, &encoded);
    assert(!error && encoded.payload_len == 0);
    strbuf_append(out, encoded.buf->data, encoded.head_len + encoded.tail_len);
    assert(!out->failed);
    buf_unref(encoded.buf);
}

void message_add_push(struct strbuf *out, const struct thrift_form *form, int32_t sequence,
                      const char *command, struct bytes message)
{
    struct rpc_push_request request = {
        .producer = bytes_of_text(command),
        .topic = BYTES_LITERAL("topic"),
        .partition = BYTES_LITERAL("0"),
        .message = message.ptr ? message : BYTES_LITERAL(""),
    };
    message_add_call(out, form, THRIFT_CALL, RPC_METHOD_PUSH, sequence, &request);
}

uint8_t *message_text(uint32_t number, size_t len)
{
    struct rng rng;
    rng_seed(&rng, number);
    uint8_t *text = mem_alloc(len + 1);
    assert(text);
    rng_fill(&rng, text, len);
    return text;
}
