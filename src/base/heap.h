/* Intrusive binary heap, smallest key first; ties in insertion order, so that simulated runs are
 * deterministic. Members embed a struct heap_node. Add, remove and change are O(log n). No ownership of
 * members. One thread. */
#ifndef CLYMQ_BASE_HEAP_H
#define CLYMQ_BASE_HEAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct heap_node {
    uint64_t key;
    uint64_t order; /* set by heap_add */
    size_t index;   /* 1-based place; 0 = not in a heap */
};

struct heap {
    struct heap_node **nodes;
    size_t count, cap;
    uint64_t next_order;
};

/* Zero-initialise a heap. heap_reserve makes the next additions up to count in all unable to fail. */
int heap_reserve(struct heap *heap, size_t count); /* 0 or CLYMQ_ENOMEM */
int heap_add(struct heap *heap, struct heap_node *node,
             uint64_t key); /* node is not in a heap; 0 or CLYMQ_ENOMEM */
void heap_remove(struct heap *heap, struct heap_node *node);
static inline struct heap_node *heap_first(const struct heap *heap)
{
    return heap->count ? heap->nodes[0] : NULL;
}
static inline bool heap_contains(const struct heap_node *node)
{
    return node->index != 0;
}
void heap_free(struct heap *heap);

#endif
