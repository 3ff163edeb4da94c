/* Makes and reads messages of the RPC contract for net's tests: one push request is enough for most of them.
 */
#ifndef CLYMQ_TESTS_NET_MESSAGES_H
#define CLYMQ_TESTS_NET_MESSAGES_H

#include "base/buf.h"
#include "wire/rpc.h"

/* The forms that a client may use. */
extern const struct thrift_form message_forms[];
enum { MESSAGE_FORMS = 8 };

/* Appends an encoded call of `method` whose request is given. */
void message_add_call(struct strbuf *out, const struct thrift_form *form, enum thrift_message_kind kind,
                      enum rpc_method_id method, int32_t sequence, const void *request);
/* Appends a push: `command` (the producer's field) tells the test's handler what to do with it. */
void message_add_push(struct strbuf *out, const struct thrift_form *form, int32_t sequence,
                      const char *command, struct bytes message);
/* A text that depends on the number, of len bytes: an own allocation (mem_free). */
uint8_t *message_text(uint32_t number, size_t len);

#endif
