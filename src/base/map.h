/* Hash map from byte-string keys to pointers. Iteration is in insertion order, never in hash order, so that
 * what is built on it is deterministic; the hash is seeded per process (map_set_seed), so that clients cannot
 * choose collisions. Keys are copied; values are not owned. One thread. Amortised O(1); removal keeps the
 * order of the rest. */
#ifndef CLYMQ_BASE_MAP_H
#define CLYMQ_BASE_MAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

struct map_entry {
    struct bytes key; /* owned by the map, NUL-terminated after len */
    void *value;
};

struct map; /* opaque */

struct map *map_new(void); /* NULL: out of memory */
void map_free(struct map *map);
void *map_get(const struct map *map, struct bytes key); /* NULL: not there */
/* Adds or replaces. value is not NULL. 0 or CLYMQ_ENOMEM (nothing changed). */
int map_put(struct map *map, struct bytes key, void *value);
/* The removed value, NULL if there was none. */
void *map_remove(struct map *map, struct bytes key);
size_t map_count(const struct map *map);
/* Iteration: size_t at = 0; struct map_entry *e; while ((e = map_next(map, &at))) … The body may remove the
 * current entry and must not add. */
struct map_entry *map_next(const struct map *map, size_t *at);

/* Seeds every map made afterwards; called once at start, before threads. */
void map_set_seed(uint64_t seed);
/* The seeded 64-bit hash itself (for tables of other shapes). */
uint64_t map_hash(struct bytes key);

#endif
