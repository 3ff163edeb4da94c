/* Binary heap of embedded nodes: see heap.h. */
#include "base/heap.h"

#include <assert.h>

#include "base/error.h"
#include "base/mem.h"

static bool heap_before(const struct heap_node *a, const struct heap_node *b)
{
    return a->key != b->key ? a->key < b->key : a->order < b->order;
}

/* Stores node at the 0-based place. */
static void heap_place(struct heap *heap, size_t place, struct heap_node *node)
{
    heap->nodes[place] = node;
    node->index = place + 1;
}

/* Both sifts move a hole rather than swapping, and put node into it at the end. */
static void heap_sift_up(struct heap *heap, size_t place, struct heap_node *node)
{
    while (place > 0) {
        size_t parent = (place - 1) / 2;
        if (!heap_before(node, heap->nodes[parent]))
            break;
        heap_place(heap, place, heap->nodes[parent]);
        place = parent;
    }
    heap_place(heap, place, node);
}

static void heap_sift_down(struct heap *heap, size_t place, struct heap_node *node)
{
    for (;;) {
        size_t child = 2 * place + 1;
        if (child >= heap->count)
            break;
        if (child + 1 < heap->count && heap_before(heap->nodes[child + 1], heap->nodes[child]))
            child++;
        if (!heap_before(heap->nodes[child], node))
            break;
        heap_place(heap, place, heap->nodes[child]);
        place = child;
    }
    heap_place(heap, place, node);
}

static void heap_settle(struct heap *heap, size_t place, struct heap_node *node)
{
    if (place > 0 && heap_before(node, heap->nodes[(place - 1) / 2]))
        heap_sift_up(heap, place, node);
    else
        heap_sift_down(heap, place, node);
}

int heap_reserve(struct heap *heap, size_t count)
{
    if (count <= heap->cap)
        return 0;
    if (count > SIZE_MAX / sizeof(*heap->nodes))
        return CLYMQ_ENOMEM;
    struct heap_node **grown = mem_realloc(heap->nodes, count * sizeof(*heap->nodes));
    if (!grown)
        return CLYMQ_ENOMEM;
    heap->nodes = grown;
    heap->cap = count;
    return 0;
}

int heap_add(struct heap *heap, struct heap_node *node, uint64_t key)
{
    assert(node->index == 0);
    if (heap->count == heap->cap) {
        int error = heap_reserve(heap, heap->cap ? heap->cap * 2 : 16);
        if (error)
            return error;
    }
    node->key = key;
    node->order = heap->next_order++;
    heap_sift_up(heap, heap->count++, node);
    return 0;
}

void heap_remove(struct heap *heap, struct heap_node *node)
{
    assert(node->index != 0 && node->index <= heap->count && heap->nodes[node->index - 1] == node);
    size_t place = node->index - 1;
    struct heap_node *last = heap->nodes[--heap->count];
    node->index = 0;
    if (last != node)
        heap_settle(heap, place, last);
}

void heap_free(struct heap *heap)
{
    for (size_t i = 0; i < heap->count; i++)
        heap->nodes[i]->index = 0;
    mem_free(heap->nodes);
    *heap = (struct heap){0};
}
