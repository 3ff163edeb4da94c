/* The table of batch producers and sessions: see producers.h. This file checks and notes; producers_state.c
 * turns the table into bytes and back. Entries hang in a list by last use, so that the bound evicts the one
 * that was silent longest. */
#include "partition/producers.h"

#include <assert.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "partition/producers_table.h"
#include "wire/byte_order.h"

uint32_t producers_place(struct uuid topic, uint32_t partition)
{
    uint8_t number[4];
    store_be32(number, partition);
    return crc32c(crc32c(0, topic.byte, sizeof(topic.byte)), number, sizeof(number));
}

struct producers *producers_new(uint32_t place)
{
    struct producers *producers = mem_zalloc(sizeof(*producers));
    if (!producers)
        return NULL;
    producers->place = place;
    list_init(&producers->batch_lru);
    list_init(&producers->session_lru);
    producers->by_id = map_new();
    producers->by_session = map_new();
    if (!producers->by_id || !producers->by_session) {
        producers_free(producers);
        return NULL;
    }
    return producers;
}

static void producers_drop_batch_producer(struct producers *producers, struct batch_producer *entry)
{
    map_remove(producers->by_id, bytes_of(&entry->id, sizeof(entry->id)));
    list_remove(&entry->lru);
    mem_free(entry);
}

static void producers_drop_session(struct producers *producers, struct session *entry)
{
    map_remove(producers->by_session, bytes_of(entry->key, entry->key_len));
    list_remove(&entry->lru);
    producers->session_entries -= entry->count;
    mem_free(entry->known);
    mem_free(entry);
}

void producers_clear(struct producers *producers)
{
    LIST_FOR_EACH_SAFE(at, &producers->batch_lru)
        producers_drop_batch_producer(producers, CONTAINER_OF(at, struct batch_producer, lru));
    LIST_FOR_EACH_SAFE(at, &producers->session_lru)
        producers_drop_session(producers, CONTAINER_OF(at, struct session, lru));
    assert(producers->session_entries == 0);
}

void producers_free(struct producers *producers)
{
    if (!producers)
        return;
    if (producers->by_id && producers->by_session)
        producers_clear(producers);
    map_free(producers->by_id);
    map_free(producers->by_session);
    mem_free(producers);
}

size_t producers_count(const struct producers *producers)
{
    return map_count(producers->by_id) + map_count(producers->by_session);
}

/* ---- batch producers ---- */

int32_t producers_sequence_add(int32_t sequence, int32_t count)
{
    /* Sequences wrap from 2^31 - 1 to 0. */
    return (int32_t)(((uint32_t)sequence + (uint32_t)count) & 0x7fffffffu);
}

static struct batch_producer *producers_find(const struct producers *producers, int64_t id)
{
    return map_get(producers->by_id, bytes_of(&id, sizeof(id)));
}

int producers_check(const struct producers *producers, const struct batch_header *header,
                    int64_t *ret_base_offset, int64_t *ret_end_offset)
{
    if (header->producer_id < 0)
        return 0;
    if (header->base_sequence < 0 || header->producer_epoch < 0)
        return CLYMQ_EBATCH;
    const struct batch_producer *entry = producers_find(producers, header->producer_id);
    if (!entry || entry->batch_count == 0)
        return header->base_sequence == 0 ? 0 : CLYMQ_ESEQUENCE;
    if (header->producer_epoch < entry->epoch)
        return CLYMQ_EFENCED;
    if (header->producer_epoch > entry->epoch)
        return header->base_sequence == 0 ? 0 : CLYMQ_ESEQUENCE;
    const struct producer_batch *newest = &entry->batches[0];
    if (header->base_sequence == producers_sequence_add(newest->last_sequence, 1))
        return 0;
    int32_t last = producers_sequence_add(header->base_sequence, header->last_offset_delta);
    for (unsigned i = 0; i < entry->batch_count; i++) {
        const struct producer_batch *batch = &entry->batches[i];
        if (batch->base_sequence == header->base_sequence && batch->last_sequence == last) {
            *ret_base_offset = batch->base_offset;
            *ret_end_offset = batch->base_offset + header->last_offset_delta + 1;
            return CLYMQ_EEXIST;
        }
    }
    /* Older than all that is remembered, by at most half of the sequence space: stored long ago. */
    const struct producer_batch *oldest = &entry->batches[entry->batch_count - 1];
    uint32_t behind = ((uint32_t)oldest->base_sequence - (uint32_t)last) & 0x7fffffffu;
    if (entry->batch_count == PRODUCERS_BATCHES && behind > 0 && behind < 0x40000000u) {
        *ret_base_offset = -1;
        *ret_end_offset = oldest->base_offset;
        return CLYMQ_EEXIST;
    }
    return CLYMQ_ESEQUENCE;
}

/* The entry of a producer, made if missing. NULL: out of memory. */
struct batch_producer *producers_ensure(struct producers *producers, int64_t id, int16_t epoch)
{
    struct batch_producer *entry = producers_find(producers, id);
    if (entry) {
        list_remove(&entry->lru);
        list_push_back(&producers->batch_lru, &entry->lru);
        return entry;
    }
    if (map_count(producers->by_id) >= PRODUCERS_MAX)
        producers_drop_batch_producer(producers,
                                      CONTAINER_OF(producers->batch_lru.next, struct batch_producer, lru));
    entry = mem_zalloc(sizeof(*entry));
    if (!entry)
        return NULL;
    entry->id = id;
    entry->epoch = epoch;
    if (map_put(producers->by_id, bytes_of(&entry->id, sizeof(entry->id)), entry) != 0) {
        mem_free(entry);
        return NULL;
    }
    list_push_back(&producers->batch_lru, &entry->lru);
    return entry;
}

int producers_note_header(struct producers *producers, const struct batch_header *header, int64_t now_ms)
{
    if (header->producer_id < 0)
        return 0;
    struct batch_producer *entry = producers_ensure(producers, header->producer_id, header->producer_epoch);
    if (!entry)
        return CLYMQ_ENOMEM;
    if (entry->epoch != header->producer_epoch) {
        entry->epoch = header->producer_epoch;
        entry->batch_count = 0;
    }
    unsigned kept = entry->batch_count < PRODUCERS_BATCHES ? entry->batch_count : PRODUCERS_BATCHES - 1;
    memmove(&entry->batches[1], &entry->batches[0], kept * sizeof(entry->batches[0]));
    entry->batches[0] = (struct producer_batch){
        .base_sequence = header->base_sequence,
        .last_sequence = producers_sequence_add(header->base_sequence, header->last_offset_delta),
        .base_offset = header->base_offset,
    };
    entry->batch_count = (uint8_t)(kept + 1);
    entry->last_ms = now_ms; /* the batch's own timestamps may be of any time: they are its user's */
    return 0;
}

int producers_reserve(struct producers *producers, const struct batch_header *header)
{
    if (header->producer_id < 0)
        return 0;
    return producers_ensure(producers, header->producer_id, header->producer_epoch) ? 0 : CLYMQ_ENOMEM;
}

/* ---- sessions ---- */

/* Key of a session in the map: 8 bytes of session, then the producer's name. */
static size_t session_key(struct bytes producer, int64_t session, uint8_t key[SESSION_KEY_MAX])
{
    size_t name_len = producer.len < SESSION_KEY_MAX - 8 ? producer.len : SESSION_KEY_MAX - 8;
    memcpy(key, &session, 8);
    if (name_len)
        memcpy(key + 8, producer.ptr, name_len);
    return 8 + name_len;
}

static struct session *session_find(const struct producers *producers, struct bytes producer, int64_t session)
{
    uint8_t key[SESSION_KEY_MAX];
    size_t len = session_key(producer, session, key);
    return map_get(producers->by_session, bytes_of(key, len));
}

bool producers_find_session(const struct producers *producers, struct bytes producer, int64_t session,
                            int64_t command_index, int64_t *ret_offset)
{
    const struct session *entry = session_find(producers, producer, session);
    if (!entry)
        return false;
    /* Newest first: a retry follows soon. */
    for (uint32_t i = 0; i < entry->count; i++) {
        const struct session_push *push = &entry->known[(entry->next + entry->cap - 1 - i) % entry->cap];
        if (push->command_index == command_index) {
            *ret_offset = push->offset;
            return true;
        }
    }
    return false;
}

/* A longer ring of the same content, or 0 when it is as long as it may be. */
static int session_grow(struct session *entry)
{
    assert(entry->count <= entry->cap);
    if (entry->count < entry->cap || entry->cap >= SESSION_WINDOW_MAX)
        return 0;
    uint32_t cap = entry->cap ? entry->cap * 2 : 8;
    struct session_push *known = mem_alloc(cap * sizeof(*known));
    if (!known)
        return CLYMQ_ENOMEM;
    for (uint32_t i = 0; i < entry->count; i++)
        known[i] = entry->known[(entry->next + entry->cap - entry->count + i) % entry->cap];
    mem_free(entry->known);
    entry->known = known;
    entry->cap = cap;
    entry->next = entry->count;
    return 0;
}

int producers_note_session(struct producers *producers, struct bytes producer, int64_t session,
                           int64_t command_index, int64_t offset, int64_t now_ms)
{
    struct session *entry = session_find(producers, producer, session);
    if (!entry) {
        uint8_t key[SESSION_KEY_MAX];
        size_t len = session_key(producer, session, key);
        entry = mem_zalloc(sizeof(*entry) + len);
        if (!entry)
            return CLYMQ_ENOMEM;
        memcpy(entry->key, key, len);
        entry->key_len = (uint16_t)len;
        list_init(&entry->lru);
        if (session_grow(entry) != 0 ||
            map_put(producers->by_session, bytes_of(entry->key, len), entry) != 0) {
            mem_free(entry->known);
            mem_free(entry);
            return CLYMQ_ENOMEM;
        }
        list_push_back(&producers->session_lru, &entry->lru);
    } else if (session_grow(entry) != 0) {
        return CLYMQ_ENOMEM;
    }
    entry->known[entry->next] = (struct session_push){command_index, offset};
    entry->next = (entry->next + 1) % entry->cap;
    if (entry->count < entry->cap) {
        entry->count++;
        producers->session_entries++;
    }
    entry->last_ms = now_ms;
    list_remove(&entry->lru);
    list_push_back(&producers->session_lru, &entry->lru);
    while (producers->session_entries > SESSION_ENTRIES_MAX ||
           map_count(producers->by_session) > SESSIONS_MAX)
        producers_drop_session(producers, CONTAINER_OF(producers->session_lru.next, struct session, lru));
    return 0;
}

void producers_forget_session(struct producers *producers, struct bytes producer, int64_t session,
                              int64_t command_index)
{
    struct session *entry = session_find(producers, producer, session);
    if (!entry || entry->count == 0)
        return;
    uint32_t newest = (entry->next + entry->cap - 1) % entry->cap;
    if (entry->known[newest].command_index != command_index)
        return;
    entry->next = newest;
    entry->count--;
    producers->session_entries--;
    if (entry->count == 0)
        producers_drop_session(producers, entry);
}

uint32_t producers_offset_crc(uint32_t place, int64_t offset)
{
    uint8_t number[8];
    store_be64(number, (uint64_t)offset);
    return crc32c(place, number, sizeof(number));
}

size_t producers_session_value(uint32_t place, int64_t offset, struct bytes producer, int64_t session,
                               int64_t command_index, uint8_t *out)
{
    store_be64(out, (uint64_t)session);
    store_be64(out + 8, (uint64_t)command_index);
    store_be32(out + 16, producers_offset_crc(place, offset));
    if (producer.len)
        memcpy(out + PRODUCERS_SESSION_VALUE, producer.ptr, producer.len);
    return PRODUCERS_SESSION_VALUE + producer.len;
}

void producers_expire(struct producers *producers, int64_t before_ms)
{
    LIST_FOR_EACH_SAFE(at, &producers->batch_lru) {
        struct batch_producer *entry = CONTAINER_OF(at, struct batch_producer, lru);
        if (entry->last_ms < before_ms)
            producers_drop_batch_producer(producers, entry);
    }
    LIST_FOR_EACH_SAFE(at, &producers->session_lru) {
        struct session *entry = CONTAINER_OF(at, struct session, lru);
        if (entry->last_ms < before_ms)
            producers_drop_session(producers, entry);
    }
}
