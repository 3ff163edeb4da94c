/* The metadata tree in memory: see tree.h. Nodes lie in one map from path to node; a node that a transaction
 * deletes stays in it, marked as not existing, until the commit, so that reverting allocates nothing. */
#include "meta/tree.h"

#include <assert.h>
#include <stdlib.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"

struct tree {
    struct map *nodes;
    struct list gone;
    size_t count;       /* nodes that exist */
    size_t uncommitted; /* applied transactions */
};

static void node_free(struct tree_node *node)
{
    list_remove(&node->sibling);
    list_remove(&node->gone);
    mem_free(node->value);
    mem_free(node);
}

/* Adds a node that does not exist yet. parent is NULL for the root only. */
static int node_add(struct tree *tree, struct bytes path, struct tree_node *parent,
                    struct tree_node **ret_node)
{
    struct tree_node *node = mem_zalloc(sizeof(*node) + path.len + 1);
    if (!node)
        return CLYMQ_ENOMEM;
    memcpy(node->text, path.ptr, path.len);
    node->path = bytes_of(node->text, path.len);
    int error = map_put(tree->nodes, path, node);
    if (error) {
        mem_free(node);
        return error;
    }
    list_init(&node->children);
    list_init(&node->sibling);
    list_init(&node->gone);
    node->parent = parent;
    if (parent)
        list_push_back(&parent->children, &node->sibling);
    *ret_node = node;
    return 0;
}

static void node_set_exists(struct tree *tree, struct tree_node *node, bool exists)
{
    if (node->exists == exists)
        return;
    node->exists = exists;
    tree->count += exists ? 1 : (size_t)-1;
    if (node->parent)
        node->parent->child_count += exists ? 1 : (size_t)-1;
}

struct tree *tree_new(void)
{
    struct tree *tree = mem_zalloc(sizeof(*tree));
    if (!tree)
        return NULL;
    struct tree_node *root;
    list_init(&tree->gone);
    tree->nodes = map_new();
    if (!tree->nodes || node_add(tree, BYTES_LITERAL("/"), NULL, &root)) {
        tree_free(tree);
        return NULL;
    }
    node_set_exists(tree, root, true);
    return tree;
}

void tree_free(struct tree *tree)
{
    if (!tree)
        return;
    size_t at = 0;
    struct map_entry *entry;
    while (tree->nodes && (entry = map_next(tree->nodes, &at))) {
        struct tree_node *node = entry->value;
        mem_free(node->value);
        mem_free(node);
    }
    map_free(tree->nodes);
    mem_free(tree);
}

size_t tree_count(const struct tree *tree)
{
    return tree->count;
}

int tree_check_path(struct bytes path)
{
    if (path.len == 0 || path.len > META_PATH_MAX || path.ptr[0] != '/' || !utf8_valid(path))
        return CLYMQ_EINVAL;
    if (path.len == 1)
        return 0;
    for (size_t i = 0; i < path.len; i++) {
        bool last = i + 1 == path.len;
        if (path.ptr[i] == '\0' || (path.ptr[i] == '/' && (last || path.ptr[i + 1] == '/')))
            return CLYMQ_EINVAL;
    }
    return 0;
}

struct bytes tree_parent_path(struct bytes path)
{
    size_t len = path.len;
    while (path.ptr[len - 1] != '/')
        len--;
    return bytes_of(path.ptr, len > 1 ? len - 1 : 1);
}

const struct tree_node *tree_get(const struct tree *tree, struct bytes path)
{
    const struct tree_node *node = map_get(tree->nodes, path);
    return node && node->exists ? node : NULL;
}

static int compare_names(const void *a, const void *b)
{
    return bytes_compare(*(const struct bytes *)a, *(const struct bytes *)b);
}

int tree_list(const struct tree *tree, struct bytes path, struct bytes **ret_names, size_t *ret_count)
{
    const struct tree_node *node = tree_get(tree, path);
    if (!node)
        return CLYMQ_ENOENT;
    struct bytes *names = NULL;
    size_t count = 0;
    if (node->child_count) {
        names = mem_calloc(node->child_count, sizeof(*names));
        if (!names)
            return CLYMQ_ENOMEM;
        size_t prefix = path.len == 1 ? 1 : path.len + 1;
        LIST_FOR_EACH(item, &node->children) {
            const struct tree_node *child = CONTAINER_OF(item, struct tree_node, sibling);
            if (child->exists)
                names[count++] = bytes_of(child->path.ptr + prefix, child->path.len - prefix);
        }
        assert(count == node->child_count);
        qsort(names, count, sizeof(*names), compare_names);
    }
    *ret_names = names;
    *ret_count = count;
    return 0;
}

int tree_load(struct tree *tree, struct bytes path, struct bytes value, int64_t version)
{
    if (tree_check_path(path) || path.len == 1 || value.len > META_VALUE_MAX || version < 0)
        return CLYMQ_EINVAL;
    if (map_get(tree->nodes, path))
        return CLYMQ_EEXIST;
    struct tree_node *parent = map_get(tree->nodes, tree_parent_path(path));
    if (!parent)
        return CLYMQ_ENOENT;
    uint8_t *copy = NULL;
    if (value.len && !(copy = (uint8_t *)mem_strndup(value.ptr, value.len)))
        return CLYMQ_ENOMEM;
    struct tree_node *node;
    int error = node_add(tree, path, parent, &node);
    if (error) {
        mem_free(copy);
        return error;
    }
    node->value = copy;
    node->value_len = value.len;
    node->version = version;
    node_set_exists(tree, node, true);
    return 0;
}

/* Remembers the node as it is; from now on it may be changed. The old value moves into the undo record. */
static void undo_record(struct tree_undo *undo, struct tree_node *node, enum tree_event event)
{
    undo->changes[undo->count++] = (struct tree_change){.node = node,
                                                        .old_value = node->value,
                                                        .old_value_len = node->value_len,
                                                        .old_version = node->version,
                                                        .old_session = node->session,
                                                        .existed = node->exists,
                                                        .event = event};
    node->value = NULL;
    node->value_len = 0;
}

static int copy_value(struct bytes value, uint8_t **ret_copy)
{
    if (value.len > META_VALUE_MAX)
        return CLYMQ_ETOOBIG;
    uint8_t *copy = NULL;
    if (value.len && !(copy = (uint8_t *)mem_strndup(value.ptr, value.len)))
        return CLYMQ_ENOMEM;
    *ret_copy = copy;
    return 0;
}

static int apply_create(struct tree *tree, const struct meta_op *op, uint64_t session, struct tree_undo *undo)
{
    struct bytes path = bytes_of_text(op->path);
    struct tree_node *node = map_get(tree->nodes, path);
    if (node && node->exists)
        return CLYMQ_EEXIST;
    struct tree_node *parent = map_get(tree->nodes, tree_parent_path(path));
    if (!parent || !parent->exists)
        return CLYMQ_ENOENT;
    if (parent->session)
        return CLYMQ_EINVAL;
    uint8_t *copy;
    int error = copy_value(op->value, &copy);
    if (!error && !node && (error = node_add(tree, path, parent, &node)))
        mem_free(copy);
    if (error)
        return error;
    undo_record(undo, node, TREE_CREATED);
    node->value = copy;
    node->value_len = op->value.len;
    node->version = 0;
    node->session = op->ephemeral ? session : 0;
    node_set_exists(tree, node, true);
    return 0;
}

static int apply_set(struct tree_node *node, const struct meta_op *op, struct tree_undo *undo)
{
    uint8_t *copy;
    int error = copy_value(op->value, &copy);
    if (error)
        return error;
    undo_record(undo, node, TREE_SET);
    node->value = copy;
    node->value_len = op->value.len;
    node->version++;
    return 0;
}

static int apply_delete(struct tree *tree, struct tree_node *node, struct tree_undo *undo)
{
    if (node->child_count)
        return CLYMQ_EBUSY;
    undo_record(undo, node, TREE_DELETED);
    node->session = 0;
    node_set_exists(tree, node, false);
    return 0;
}

static int apply_op(struct tree *tree, const struct meta_op *op, uint64_t session, struct tree_undo *undo)
{
    struct bytes path = bytes_of_text(op->path);
    int error = tree_check_path(path);
    if (error)
        return error;
    if (op->kind == META_CREATE)
        return apply_create(tree, op, session, undo);
    struct tree_node *node = map_get(tree->nodes, path);
    if (!node || !node->exists)
        return CLYMQ_ENOENT;
    if (op->version != META_ANY_VERSION && op->version != node->version)
        return CLYMQ_EVERSION;
    if (op->kind == META_CHECK)
        return 0;
    if (!node->parent) /* the root stays as it is */
        return CLYMQ_EINVAL;
    return op->kind == META_SET ? apply_set(node, op, undo) : apply_delete(tree, node, undo);
}

int tree_apply(struct tree *tree, const struct meta_op *ops, size_t count, uint64_t session,
               struct tree_undo **ret_undo, size_t *ret_failed_op)
{
    assert(session != 0);
    struct tree_undo *undo = mem_alloc(sizeof(*undo) + count * sizeof(undo->changes[0]));
    if (!undo) {
        *ret_failed_op = 0;
        return CLYMQ_ENOMEM;
    }
    undo->count = 0;
    tree->uncommitted++;
    for (size_t i = 0; i < count; i++) {
        int error = apply_op(tree, &ops[i], session, undo);
        if (error) {
            tree_revert(tree, undo);
            *ret_failed_op = i;
            return error;
        }
    }
    *ret_undo = undo;
    return 0;
}

/* A node that does not exist is forgotten when no applied transaction can need it any more. Its children, if
 * it has any in the map, do not exist either and are in the list too: whoever of them goes last takes it
 * along. */
static void forget_gone(struct tree *tree)
{
    if (tree->uncommitted)
        return;
    while (!list_empty(&tree->gone)) {
        struct tree_node *node = CONTAINER_OF(list_pop_front(&tree->gone), struct tree_node, gone);
        while (node && !node->exists && list_empty(&node->children)) {
            struct tree_node *parent = node->parent;
            map_remove(tree->nodes, node->path);
            node_free(node);
            node = parent;
        }
    }
}

static void note_gone(struct tree *tree, struct tree_node *node)
{
    if (!node->exists && list_empty(&node->gone))
        list_push_back(&tree->gone, &node->gone);
}

void tree_commit(struct tree *tree, struct tree_undo *undo,
                 void (*changed)(void *ctx, struct bytes path, enum tree_event event), void *ctx)
{
    assert(tree->uncommitted > 0);
    for (size_t i = 0; i < undo->count; i++) {
        struct tree_change *change = &undo->changes[i];
        mem_free(change->old_value);
        if (changed)
            changed(ctx, change->node->path, change->event);
        note_gone(tree, change->node);
    }
    mem_free(undo);
    tree->uncommitted--;
    forget_gone(tree);
}

void tree_revert(struct tree *tree, struct tree_undo *undo)
{
    assert(tree->uncommitted > 0);
    for (size_t i = undo->count; i-- > 0;) {
        struct tree_change *change = &undo->changes[i];
        struct tree_node *node = change->node;
        mem_free(node->value);
        node->value = change->old_value;
        node->value_len = change->old_value_len;
        node->version = change->old_version;
        node->session = change->old_session;
        node_set_exists(tree, node, change->existed);
        note_gone(tree, node);
    }
    mem_free(undo);
    tree->uncommitted--;
    forget_gone(tree);
}

void tree_end_session(struct tree *tree, uint64_t session,
                      void (*changed)(void *ctx, struct bytes path, enum tree_event event), void *ctx)
{
    assert(session != 0 && tree->uncommitted == 0);
    size_t at = 0;
    struct map_entry *entry;
    while ((entry = map_next(tree->nodes, &at))) {
        struct tree_node *node = entry->value;
        if (node->session != session)
            continue;
        node_set_exists(tree, node, false);
        if (changed)
            changed(ctx, node->path, TREE_DELETED);
        note_gone(tree, node);
    }
    forget_gone(tree);
}
