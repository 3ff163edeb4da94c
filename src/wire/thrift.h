/* Thrift messages: one table-driven codec for the strict binary and the compact protocol, unframed, framed or
 * in TTHeader, from the flat structs of wire/rpc.h.
 *
 * Sources: Apache Thrift's "thrift-binary-protocol" and "thrift-compact-protocol" specifications; CloudWeGo's
 * page on TTHeader. Pure functions; any thread. Decoding is zero-copy: strings are views into the message.
 * Nothing is allocated by decoding; nothing is believed beyond the bytes at hand; depth <= 32. */
#ifndef CLYMQ_WIRE_THRIFT_H
#define CLYMQ_WIRE_THRIFT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

enum thrift_type {
    THRIFT_STOP = 0,
    THRIFT_BOOL = 2,
    THRIFT_I8 = 3,
    THRIFT_DOUBLE = 4,
    THRIFT_I16 = 6,
    THRIFT_I32 = 8,
    THRIFT_I64 = 10,
    THRIFT_STRING = 11, /* and binary */
    THRIFT_STRUCT = 12,
    THRIFT_MAP = 13,
    THRIFT_SET = 14,
    THRIFT_LIST = 15,
};

enum thrift_message_kind { THRIFT_CALL = 1, THRIFT_REPLY = 2, THRIFT_EXCEPTION = 3, THRIFT_ONEWAY = 4 };

/* TApplicationException types that we send (rpc.md's rules). */
enum thrift_exception { THRIFT_UNKNOWN_METHOD = 1, THRIFT_INTERNAL_ERROR = 6, THRIFT_PROTOCOL_ERROR = 7 };

enum { THRIFT_EXCEPTION_ERROR_ID = 20 };

/* One field of a flat struct: scalar, or string/binary as struct bytes. */
struct thrift_field {
    int16_t id;
    uint8_t type;    /* enum thrift_type: BOOL (bool), I8 (int8_t), I32, I64, STRING (struct bytes) */
    bool optional;   /* encoded only when its bit in `present` is set; others always */
    uint16_t offset; /* in the C struct */
    const char *name;
};
struct thrift_struct {
    const char *name;
    const struct thrift_field *fields; /* in growing id order */
    uint16_t count;                    /* <= 32 */
    uint16_t present_offset;           /* of the uint32_t `present`: bit i = fields[i] was there */
    uint16_t size;                     /* of the C struct */
};

/* How a message came, and so how its answer goes. */
enum thrift_protocol { THRIFT_BINARY, THRIFT_COMPACT };
enum thrift_envelope { THRIFT_UNFRAMED, THRIFT_FRAMED, THRIFT_TTHEADER, THRIFT_TTHEADER_FRAMED };
struct thrift_form {
    uint8_t protocol, envelope;
    int32_t ttheader_sequence; /* TTHeader repeats the sequence id in its own header */
};

/* Where one message ends in a stream. */
struct thrift_extent {
    struct thrift_form form;
    size_t size;           /* of the whole message, envelope included */
    size_t body, body_len; /* the protocol's message inside it */
};
/* Resumable state of finding the end of an unframed message, so that a message arriving in pieces is skipped
 * once and not from its start with every piece. Reset (or zeroed) at a message's start. */
enum { THRIFT_DEPTH_MAX = 32 };
struct thrift_level {
    uint32_t remaining; /* values still to skip; in a struct unused */
    uint8_t in_struct;  /* fields until a stop, rather than a count of values */
    uint8_t types[2];   /* of the values; a map alternates, others have the same twice */
    uint8_t turn;       /* index into types of the next value */
};
struct thrift_scan {
    size_t at;      /* bytes done with; beyond the bytes at hand where a long string is under way */
    uint32_t depth; /* levels in use */
    bool begun;     /* the message's header was read */
    struct thrift_level levels[THRIFT_DEPTH_MAX];
};
static inline void thrift_scan_reset(struct thrift_scan *scan)
{
    scan->at = 0;
    scan->depth = 0;
    scan->begun = false;
}
/* Looks at the bytes at hand (a message's start first). 0: ret_extent is complete. CLYMQ_EAGAIN: need more;
 * *ret_need is the least total number of bytes with which asking again makes sense (a framed message's full
 * size, when known). CLYMQ_EPROTO: not one of the forms of rpc.md, or nested too deep. CLYMQ_ETOOBIG: longer
 * than max_size. */
int thrift_find_message(struct thrift_scan *scan, struct bytes data, size_t max_size,
                        struct thrift_extent *ret_extent, size_t *ret_need);

struct thrift_message {
    enum thrift_message_kind kind;
    struct bytes method; /* view */
    int32_t sequence;
    struct bytes args; /* the rest: the argument or result struct */
};
int thrift_read_message(enum thrift_protocol protocol, struct bytes body, struct thrift_message *ret_message);

/* Decodes the flat struct that is field `wrapper_id` of the argument (1: called req) or result (0: success)
 * struct. Unknown fields are skipped, a known id with another type too; *out is zeroed first. CLYMQ_EPROTO
 * when malformed, CLYMQ_ENOENT when the wrapper field is not there. Bytes behind the argument struct are
 * malformed too: a frame holds one message. A string that was there has a ptr that is not NULL, also when it
 * is empty. */
int thrift_decode(enum thrift_protocol protocol, struct bytes args, int16_t wrapper_id,
                  const struct thrift_struct *type, void *out);
/* A TApplicationException. Beside Thrift's text (1) and type (2) ours has a growth field 20, the error's
 * number (base/error.h), so that nobody has to read it out of the text; 0 = not there. */
struct thrift_exception_fields {
    struct bytes text; /* view */
    int32_t type, error;
};
int thrift_decode_exception(enum thrift_protocol protocol, struct bytes args,
                            struct thrift_exception_fields *ret_fields);

/* An encoded message in up to three parts, so that one large binary field need not be copied: head, then
 * `payload_len` bytes that the caller sends itself (a slice, or a range of a file), then tail. */
struct thrift_encoded {
    struct buf *buf; /* owned by the caller: head and tail back to back */
    size_t head_len, tail_len;
    size_t payload_len;
};
/* Encodes a message of `kind` with one wrapper field holding value. payload: the STRING field whose ptr is
 * NULL and len > 0 is left out of buf and goes between head and tail (at most one such field; -1 len rules as
 * plain binary). 0, CLYMQ_ENOMEM, or CLYMQ_ETOOBIG where the message exceeds what a frame's length can say
 * (2^30 - 1). */
int thrift_encode(const struct thrift_form *form, enum thrift_message_kind kind, struct bytes method,
                  int32_t sequence, int16_t wrapper_id, const struct thrift_struct *type, const void *value,
                  struct thrift_encoded *ret_encoded);
int thrift_encode_exception(const struct thrift_form *form, struct bytes method, int32_t sequence,
                            enum thrift_exception type, int32_t error, const char *text,
                            struct thrift_encoded *ret_encoded);

#endif
