/* The inside of the producer table, shared by producers.c and producers_state.c only. */
#ifndef CLYMQ_PARTITION_PRODUCERS_TABLE_H
#define CLYMQ_PARTITION_PRODUCERS_TABLE_H

#include "base/list.h"
#include "base/map.h"
#include "partition/producers.h"

enum { SESSION_KEY_MAX = 8 + 249 };

struct producer_batch {
    int32_t base_sequence, last_sequence;
    int64_t base_offset;
};

struct batch_producer {
    struct list lru;
    int64_t id;
    int64_t last_ms;
    int16_t epoch;
    uint8_t batch_count;
    struct producer_batch batches[PRODUCERS_BATCHES]; /* newest first */
};

struct session_push {
    int64_t command_index, offset;
};

struct session {
    struct list lru;
    int64_t last_ms;
    struct session_push *known; /* ring: the newest is before next */
    uint32_t count, cap, next;
    uint16_t key_len;
    uint8_t key[]; /* 8 bytes of session, then the producer's name */
};

struct producers {
    uint32_t place;
    struct map *by_id, *by_session;
    struct list batch_lru, session_lru; /* silent longest first */
    size_t session_entries;
};

struct batch_producer *producers_ensure(struct producers *producers, int64_t id, int16_t epoch);
uint32_t producers_offset_crc(uint32_t place, int64_t offset); /* what a record there is to have */
int32_t producers_sequence_add(int32_t sequence, int32_t count);

#endif
