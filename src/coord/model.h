/* The nouns of the metadata model that coordinator and brokers share: a topic's options and a block of a
 * chain. Their JSON is in docs/metadata.md, read and written by coord/codec.c. Plain values, any thread. */
#ifndef CLYMQ_COORD_MODEL_H
#define CLYMQ_COORD_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/uuid.h"

enum {
    COORD_ACK_UNSET = -128, /* never set: counts as -1 */
    COORD_REPLICAS_MAX = 127,
    COORD_BROKERS_PER_BLOCK = 8,
};

/* X(name, smallest, greatest): a topic's options, all whole numbers. -1 in a retention option means "no
 * limit". */
#define COORD_TOPIC_OPTIONS(X)                                                                               \
    X(retention_ms, -1, INT64_MAX / 1000000)                                                                 \
    X(retention_bytes, -1, INT64_MAX / 2)                                                                    \
    X(segment_bytes, 1 << 20, INT32_MAX)                                                                     \
    X(segment_ms, 1000, INT64_MAX / 1000000)

#define COORD_OPTION_UNSET INT64_MIN /* the server's default counts */

struct coord_topic_config {
#define X(name, smallest, greatest) int64_t name;
    COORD_TOPIC_OPTIONS(X)
#undef X
};

enum coord_block_state {
    COORD_BLOCK_CREATING, /* recorded, perhaps not yet on the broker; takes nothing */
    COORD_BLOCK_OPEN,
    COORD_BLOCK_SEALING, /* its end is being found out; the next one is recorded as creating */
    COORD_BLOCK_SEALED,
    COORD_BLOCK_DELETED, /* dropped: files and node are being removed */
};

struct coord_block {
    struct uuid id;
    uint32_t seq;  /* place in the chain, from 0 */
    uint8_t state; /* enum coord_block_state */
    int8_t ack;    /* -1, 0 or 1: fixed for the block's life */
    uint8_t broker_count;
    uint16_t leader; /* first leader, by the coordinator's own number of it; not for brokers */
    uint16_t brokers[COORD_BROKERS_PER_BLOCK];
    uint32_t round; /* of sealing; 0 = never tried */
    uint32_t base_epoch;
    int64_t start;   /* first offset; -1 while the block before it is being sealed */
    int64_t end;     /* next offset after the last; -1 until sealed */
    int64_t version; /* of the node */
};

const char *coord_block_state_name(enum coord_block_state state);

#endif
