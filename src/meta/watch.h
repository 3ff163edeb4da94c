/* The watches of one session: which paths it wants to hear of, once. Used by the backends that hold the tree
 * themselves. As in ZooKeeper a get watches the node (created, set, deleted), a list watches its children
 * (one created or deleted) and its own creation and deletion. Noting a change cannot fail. One thread. */
#ifndef CLYMQ_META_WATCH_H
#define CLYMQ_META_WATCH_H

#include "base/list.h"
#include "base/map.h"
#include "meta/tree.h"

enum watch_kind { WATCH_NODE, WATCH_CHILDREN, WATCH_KINDS };

struct watch_set {
    struct map *paths[WATCH_KINDS]; /* path -> struct watch */
    struct list fired;              /* watches to be delivered */
};

int watch_set_init(struct watch_set *set); /* 0 or CLYMQ_ENOMEM */
void watch_set_free(struct watch_set *set);
/* 0 or CLYMQ_ENOMEM. Adding what is there already is harmless. */
int watch_add(struct watch_set *set, struct bytes path, enum watch_kind kind);
/* Moves what the change touches to the fired ones. */
void watch_note(struct watch_set *set, struct bytes path, enum tree_event event);
/* The next fired watch, out of the set, or NULL; freed by the caller with mem_free. */
struct watch *watch_pop(struct watch_set *set);
struct watch {
    struct list fired;
    char path[];
};
/* Forgets all, fired or not (the session is lost). */
void watch_clear(struct watch_set *set);

#endif
