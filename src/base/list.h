/* Intrusive doubly linked lists. A list is a struct list head; members embed a struct list. No ownership. */
#ifndef CLYMQ_BASE_LIST_H
#define CLYMQ_BASE_LIST_H

#include <stdbool.h>
#include <stddef.h>

struct list {
    struct list *next, *prev;
};

#define CONTAINER_OF(pointer, type, member) ((type *)((char *)(pointer)-offsetof(type, member)))
#define LIST_FOR_EACH(item, head)           for (struct list *item = (head)->next; item != (head); item = item->next)
/* The body may remove item. */
#define LIST_FOR_EACH_SAFE(item, head)                                                                       \
    for (struct list *item = (head)->next, *item##_next = item->next; item != (head);                        \
         item = item##_next, item##_next = item->next)

static inline void list_init(struct list *head)
{
    head->next = head->prev = head;
}
static inline bool list_empty(const struct list *head)
{
    return head->next == head;
}
static inline void list_insert_before(struct list *where, struct list *item)
{
    item->prev = where->prev;
    item->next = where;
    where->prev->next = item;
    where->prev = item;
}
static inline void list_push_back(struct list *head, struct list *item)
{
    list_insert_before(head, item);
}
static inline void list_push_front(struct list *head, struct list *item)
{
    list_insert_before(head->next, item);
}
/* Leaves the item pointing to itself, so that removing it again is harmless and list_empty(item) tells. */
static inline void list_remove(struct list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    list_init(item);
}
/* Puts all items of from behind those of to. */
static inline void list_move_all(struct list *from, struct list *to)
{
    if (list_empty(from))
        return;
    to->prev->next = from->next;
    from->next->prev = to->prev;
    from->prev->next = to;
    to->prev = from->prev;
    list_init(from);
}
static inline struct list *list_pop_front(struct list *head)
{
    if (list_empty(head))
        return NULL;
    struct list *item = head->next;
    list_remove(item);
    return item;
}

#endif
