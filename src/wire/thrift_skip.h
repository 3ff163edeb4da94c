/* Skipping Thrift values without decoding them, resumable where the bytes run out. Inside wire only. Pure;
 * any thread. */
#ifndef CLYMQ_WIRE_THRIFT_SKIP_H
#define CLYMQ_WIRE_THRIFT_SKIP_H

#include "wire/thrift.h"

/* Makes one value of a type (as on the wire of that protocol) what thrift_skip_run skips next, from scan->at
 * on. A compact boolean that is a field has no bytes and must not come here. */
void thrift_skip_push_value(struct thrift_scan *scan, uint8_t type);
/* Likewise the fields of a struct up to its stop. */
void thrift_skip_push_struct(struct thrift_scan *scan);

/* Skips what is pushed; scan->at is behind it on success. 0; CLYMQ_EAGAIN with *ret_need, the least total
 * number of bytes with which going on makes sense (> data.len); CLYMQ_EPROTO; CLYMQ_ETOOBIG when it would end
 * beyond limit. Work is bounded by the bytes at hand: no step takes fewer than one byte, however great a
 * count. */
int thrift_skip_run(struct thrift_scan *scan, enum thrift_protocol protocol, struct bytes data, size_t limit,
                    size_t *ret_need);

/* Compact's own type numbers (Apache Thrift, thrift-compact-protocol.md). */
enum compact_type {
    COMPACT_STOP = 0,
    COMPACT_TRUE = 1,
    COMPACT_FALSE = 2,
    COMPACT_I8 = 3,
    COMPACT_I16 = 4,
    COMPACT_I32 = 5,
    COMPACT_I64 = 6,
    COMPACT_DOUBLE = 7,
    COMPACT_BINARY = 8,
    COMPACT_LIST = 9,
    COMPACT_SET = 10,
    COMPACT_MAP = 11,
    COMPACT_STRUCT = 12,
    COMPACT_UUID = 13,
};
enum { COMPACT_PROTOCOL_ID = 0x82, COMPACT_VERSION = 1, COMPACT_VERSION_MASK = 0x1f, COMPACT_KIND_SHIFT = 5 };
enum { BINARY_VERSION = 0x8001, THRIFT_UUID = 16 };

#endif
