/* Hash map: an array of entries in insertion order, and an index of it by open addressing with linear
 * probing.
 *
 * An index slot holds 32 bits of the key's hash and the entry's number, so that a miss seldom touches an
 * entry and growing hashes nothing again. Removal leaves a hole in the entry array (key.ptr NULL) and closes
 * the gap in the index at once; holes are squeezed out by the put that finds the array full. Maps of up to 8
 * entries have no index: looking at each entry is as fast and a third smaller. */
#include "base/map.h"

#include <assert.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/mem.h"

enum { FIRST_ENTRIES = 4, UNINDEXED_ENTRIES = 8 };
static const size_t MOST_ENTRIES = (size_t)1 << 31;

struct map {
    struct map_entry *entries;
    uint64_t *index; /* hash << 32 | entry number + 1; 0 = free. NULL: not indexed */
    uint64_t seed;
    uint32_t index_mask; /* slots - 1 */
    uint32_t used, cap;  /* of entries, holes included */
    uint32_t count;      /* without holes */
};

static uint64_t map_seed = 0x436c794d51u;

void map_set_seed(uint64_t seed)
{
    map_seed = seed;
}

#define ROTATE(value, bits) ((value) << (bits) | (value) >> (64 - (bits)))
#define SIP_ROUND(a, b, c, d)                                                                                \
    do {                                                                                                     \
        a += b, b = ROTATE(b, 13) ^ a, a = ROTATE(a, 32);                                                    \
        c += d, d = ROTATE(d, 16) ^ c;                                                                       \
        a += d, d = ROTATE(d, 21) ^ a;                                                                       \
        c += b, b = ROTATE(b, 17) ^ c, c = ROTATE(c, 32);                                                    \
    } while (0)

static uint64_t load_le(const uint8_t *at, size_t len)
{
    uint64_t word = 0;
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    if (len == 8) {
        memcpy(&word, at, 8);
        return word;
    }
#endif
    for (size_t i = 0; i < len; i++)
        word |= (uint64_t)at[i] << (8 * i);
    return word;
}

/* SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012, with fewer rounds, as hash
 * tables use it): without the seed nobody can choose keys that collide. */
static uint64_t sip_hash(uint64_t seed, struct bytes key)
{
    uint64_t key0 = seed, key1 = seed * 0x9e3779b97f4a7c15u ^ 0xd1b54a32d192ed03u;
    uint64_t a = key0 ^ 0x736f6d6570736575u, b = key1 ^ 0x646f72616e646f6du;
    uint64_t c = key0 ^ 0x6c7967656e657261u, d = key1 ^ 0x7465646279746573u;
    const uint8_t *at = key.ptr;
    size_t left = key.len;
    for (; left >= 8; at += 8, left -= 8) {
        uint64_t word = load_le(at, 8);
        d ^= word;
        SIP_ROUND(a, b, c, d);
        a ^= word;
    }
    uint64_t last = (uint64_t)key.len << 56 | load_le(at, left);
    d ^= last;
    SIP_ROUND(a, b, c, d);
    a ^= last;
    c ^= 0xff;
    for (int i = 0; i < 3; i++)
        SIP_ROUND(a, b, c, d);
    return a ^ b ^ c ^ d;
}

uint64_t map_hash(struct bytes key)
{
    return sip_hash(map_seed, key);
}

struct map *map_new(void)
{
    struct map *map = mem_zalloc(sizeof(*map));
    if (map)
        map->seed = map_seed;
    return map;
}

void map_free(struct map *map)
{
    if (!map)
        return;
    for (uint32_t i = 0; i < map->used; i++)
        mem_free((void *)(uintptr_t)map->entries[i].key.ptr);
    mem_free(map->entries);
    mem_free(map->index);
    mem_free(map);
}

static uint32_t slot_hash(uint64_t slot)
{
    return (uint32_t)(slot >> 32);
}

static uint32_t slot_entry(uint64_t slot)
{
    return (uint32_t)slot - 1;
}

static bool entry_has_key(const struct map_entry *entry, struct bytes key)
{
    return entry->key.len == key.len && entry->key.ptr &&
           (key.len == 0 || memcmp(entry->key.ptr, key.ptr, key.len) == 0);
}

/* The entry with key, NULL if there is none. With an index, *ret_slot is its slot and *ret_hash the key's
 * hash. */
static struct map_entry *map_find(const struct map *map, struct bytes key, uint32_t *ret_slot,
                                  uint32_t *ret_hash)
{
    if (!map->index) {
        for (uint32_t i = 0; i < map->used; i++)
            if (entry_has_key(&map->entries[i], key))
                return &map->entries[i];
        return NULL;
    }
    uint32_t hash = (uint32_t)sip_hash(map->seed, key);
    *ret_hash = hash;
    for (uint32_t at = hash & map->index_mask; map->index[at]; at = (at + 1) & map->index_mask) {
        if (slot_hash(map->index[at]) != hash)
            continue;
        struct map_entry *entry = &map->entries[slot_entry(map->index[at])];
        if (entry_has_key(entry, key)) {
            *ret_slot = at;
            return entry;
        }
    }
    return NULL;
}

void *map_get(const struct map *map, struct bytes key)
{
    uint32_t slot, hash;
    const struct map_entry *entry = map_find(map, key, &slot, &hash);
    return entry ? entry->value : NULL;
}

static void index_insert(uint64_t *index, uint32_t mask, uint64_t slot)
{
    uint32_t at = slot_hash(slot) & mask;
    while (index[at])
        at = (at + 1) & mask;
    index[at] = slot;
}

/* Squeezes out the holes. Entry numbers change, so the index is filled again in place: it hashes, but cannot
 * fail. */
static void map_squeeze(struct map *map)
{
    if (map->used == map->count)
        return;
    uint32_t to = 0;
    for (uint32_t from = 0; from < map->used; from++) {
        if (!map->entries[from].key.ptr)
            continue;
        map->entries[to++] = map->entries[from];
    }
    map->used = to;
    if (!map->index)
        return;
    memset(map->index, 0, ((size_t)map->index_mask + 1) * sizeof(*map->index));
    for (uint32_t i = 0; i < map->used; i++) {
        uint64_t hash = (uint32_t)sip_hash(map->seed, map->entries[i].key);
        index_insert(map->index, map->index_mask, hash << 32 | (i + 1));
    }
}

/* An index of slots places for all entries in place of the present one. */
static int map_reindex(struct map *map, uint64_t slots)
{
    uint64_t *index = mem_calloc(slots, sizeof(*index));
    if (!index)
        return CLYMQ_ENOMEM;
    uint32_t mask = (uint32_t)(slots - 1);
    if (map->index) {
        for (uint64_t at = 0; at <= map->index_mask; at++)
            if (map->index[at])
                index_insert(index, mask, map->index[at]);
    } else {
        for (uint32_t i = 0; i < map->used; i++) {
            if (!map->entries[i].key.ptr)
                continue;
            uint64_t hash = (uint32_t)sip_hash(map->seed, map->entries[i].key);
            index_insert(index, mask, hash << 32 | (i + 1));
        }
    }
    mem_free(map->index);
    map->index = index;
    map->index_mask = mask;
    return 0;
}

/* Makes room for one more entry, in the array and in the index. */
static int map_make_room(struct map *map)
{
    /* With a quarter of holes squeezing pays for itself; with fewer it would have to be done again too soon.
     */
    if (map->used == map->cap && map->used - map->count >= (map->cap + 3) / 4)
        map_squeeze(map);
    if (map->used == map->cap) {
        size_t cap = map->cap ? map->cap + (map->cap > 64 ? map->cap / 2u : map->cap) : FIRST_ENTRIES;
        if (cap > MOST_ENTRIES)
            return CLYMQ_ENOMEM;
        struct map_entry *grown = mem_realloc(map->entries, cap * sizeof(*grown));
        if (!grown)
            return CLYMQ_ENOMEM;
        map->entries = grown;
        map->cap = (uint32_t)cap;
    }
    uint64_t slots = map->index ? (uint64_t)map->index_mask + 1 : 0;
    if (map->index ? (uint64_t)map->count + 1 <= slots / 4 * 3 : map->cap <= UNINDEXED_ENTRIES)
        return 0;
    return map_reindex(map, slots ? slots * 2 : 32);
}

int map_put(struct map *map, struct bytes key, void *value)
{
    assert(value);
    uint32_t slot, hash = 0;
    struct map_entry *entry = map_find(map, key, &slot, &hash);
    if (entry) {
        entry->value = value;
        return 0;
    }
    char *copy = mem_strndup(key.len ? (const void *)key.ptr : "", key.len);
    if (!copy)
        return CLYMQ_ENOMEM;
    bool hashed = map->index != NULL;
    int error = map_make_room(map);
    if (error) {
        mem_free(copy);
        return error;
    }
    map->entries[map->used] = (struct map_entry){{(uint8_t *)copy, key.len}, value};
    if (map->index) {
        if (!hashed)
            hash = (uint32_t)sip_hash(map->seed, key);
        index_insert(map->index, map->index_mask, (uint64_t)hash << 32 | (map->used + 1));
    }
    map->used++;
    map->count++;
    return 0;
}

/* Frees slot and moves later ones of the same run back, so that no search stops early (Knuth, volume 3, 6.4,
 * algorithm R). */
static void index_remove(uint64_t *index, uint32_t mask, uint32_t slot)
{
    for (uint32_t at = (slot + 1) & mask; index[at]; at = (at + 1) & mask) {
        uint32_t home = slot_hash(index[at]) & mask;
        if (((at - home) & mask) >= ((at - slot) & mask)) {
            index[slot] = index[at];
            slot = at;
        }
    }
    index[slot] = 0;
}

void *map_remove(struct map *map, struct bytes key)
{
    uint32_t slot, hash;
    struct map_entry *entry = map_find(map, key, &slot, &hash);
    if (!entry)
        return NULL;
    void *value = entry->value;
    if (map->index)
        index_remove(map->index, map->index_mask, slot);
    mem_free((void *)(uintptr_t)entry->key.ptr);
    *entry = (struct map_entry){{NULL, 0}, NULL};
    map->count--;
    /* Holes at the end cost nothing to drop, and map_next stops at used. */
    while (map->used > 0 && !map->entries[map->used - 1].key.ptr)
        map->used--;
    return value;
}

size_t map_count(const struct map *map)
{
    return map->count;
}

struct map_entry *map_next(const struct map *map, size_t *at)
{
    while (*at < map->used) {
        struct map_entry *entry = &map->entries[(*at)++];
        if (entry->key.ptr)
            return entry;
    }
    return NULL;
}
