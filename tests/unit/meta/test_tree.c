/* meta/tree.h: applying, committing and reverting transactions, several at once, in random order of events
 * against snapshots; failing allocation. What a single operation may do is tested by the contract
 * (contract.c) through the backends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/rng.h"
#include "meta/tree.h"

static struct meta_op op(enum meta_op_kind kind, const char *path, const char *value)
{
    return (struct meta_op){
        .kind = kind, .path = path, .value = bytes_of_text(value), .version = META_ANY_VERSION};
}

static void dump_node(const struct tree *tree, const char *path, struct strbuf *out)
{
    const struct tree_node *node = tree_get(tree, bytes_of_text(path));
    assert_non_null(node);
    strbuf_printf(out, "%s=%.*s@%lld/%llu\n", path, (int)node->value_len, (const char *)node->value,
                  (long long)node->version, (unsigned long long)node->session);
    struct bytes *names;
    size_t count;
    assert_int_equal(tree_list(tree, bytes_of_text(path), &names, &count), 0);
    assert_int_equal(count, node->child_count);
    for (size_t i = 0; i < count; i++) {
        char child[256];
        snprintf(child, sizeof(child), "%s/%.*s", strcmp(path, "/") ? path : "", (int)names[i].len,
                 (const char *)names[i].ptr);
        dump_node(tree, child, out);
    }
    mem_free(names);
}

/* The whole tree as text; freed with mem_free. */
static char *dump(const struct tree *tree)
{
    struct strbuf out = {0};
    dump_node(tree, "/", &out);
    assert_false(out.failed);
    return out.data;
}

static void assert_tree_is(const struct tree *tree, const char *expected)
{
    char *now = dump(tree);
    assert_string_equal(now, expected);
    mem_free(now);
}

static void count_event(void *ctx, struct bytes path, enum tree_event event)
{
    int *events = ctx;
    events[event]++;
    assert_int_equal(path.ptr[0], '/');
}

static void test_apply_commit_revert(void **state)
{
    struct tree *tree = tree_new();
    struct tree_undo *first, *second, *third;
    size_t failed;
    int events[3] = {0};
    struct meta_op make[] = {op(META_CREATE, "/a", "1"), op(META_CREATE, "/a/b", "2")};
    assert_int_equal(tree_apply(tree, make, 2, 1, &first, &failed), 0);
    tree_commit(tree, first, count_event, events);
    assert_int_equal(events[TREE_CREATED], 2);
    assert_int_equal(tree_count(tree), 3);
    char *before = dump(tree);

    /* The second deletes all, the third, on top of it, makes some of it again. */
    struct meta_op remove[] = {op(META_DELETE, "/a/b", ""), op(META_DELETE, "/a", "")};
    struct meta_op again[] = {op(META_CREATE, "/a", "new"), op(META_CREATE, "/a/c", "3")};
    assert_int_equal(tree_apply(tree, remove, 2, 1, &second, &failed), 0);
    assert_int_equal(tree_count(tree), 1);
    assert_int_equal(tree_apply(tree, again, 2, 1, &third, &failed), 0);
    assert_tree_is(tree, "/=@0/0\n/a=new@0/0\n/a/c=3@0/0\n");
    tree_revert(tree, third);
    tree_revert(tree, second);
    assert_tree_is(tree, before);

    assert_int_equal(tree_apply(tree, remove, 2, 1, &second, &failed), 0);
    assert_int_equal(tree_apply(tree, again, 2, 1, &third, &failed), 0);
    tree_commit(tree, second, NULL, NULL);
    tree_commit(tree, third, NULL, NULL);
    assert_tree_is(tree, "/=@0/0\n/a=new@0/0\n/a/c=3@0/0\n");

    /* Made and deleted before the first is committed. */
    struct meta_op make_d = op(META_CREATE, "/d", ""), remove_d = op(META_DELETE, "/d", "");
    assert_int_equal(tree_apply(tree, &make_d, 1, 1, &second, &failed), 0);
    assert_int_equal(tree_apply(tree, &remove_d, 1, 1, &third, &failed), 0);
    tree_commit(tree, second, NULL, NULL);
    tree_revert(tree, third);
    assert_tree_is(tree, "/=@0/0\n/a=new@0/0\n/a/c=3@0/0\n/d=@0/0\n");
    mem_free(before);
    tree_free(tree);
}

static void test_failure_changes_nothing(void **state)
{
    struct tree *tree = tree_new();
    struct tree_undo *undo;
    size_t failed;
    struct meta_op make[] = {op(META_CREATE, "/a", "1"), op(META_CREATE, "/x/y", "2")};
    char *before = dump(tree);
    assert_int_equal(tree_apply(tree, make, 2, 1, &undo, &failed), CLYMQ_ENOENT);
    assert_int_equal(failed, 1);
    assert_tree_is(tree, before);
    make[1].path = "/a/y";
    for (uint64_t nth = 1;; nth++) {
        mem_fail_nth(nth);
        int error = tree_apply(tree, make, 2, 1, &undo, &failed);
        mem_fail_nth(0);
        if (!error)
            break;
        assert_int_equal(error, CLYMQ_ENOMEM);
        assert_tree_is(tree, before);
        assert_true(nth < 100);
    }
    tree_revert(tree, undo);
    assert_tree_is(tree, before);
    mem_free(before);
    tree_free(tree);
}

static void test_sessions(void **state)
{
    struct tree *tree = tree_new();
    struct tree_undo *undo;
    size_t failed;
    struct meta_op make[] = {op(META_CREATE, "/a", ""), op(META_CREATE, "/a/1", ""),
                             op(META_CREATE, "/a/2", "")};
    make[1].ephemeral = make[2].ephemeral = true;
    assert_int_equal(tree_apply(tree, make, 2, 7, &undo, &failed), 0);
    tree_commit(tree, undo, NULL, NULL);
    assert_int_equal(tree_apply(tree, &make[2], 1, 8, &undo, &failed), 0);
    tree_commit(tree, undo, NULL, NULL);
    int events[3] = {0};
    tree_end_session(tree, 7, count_event, events);
    assert_int_equal(events[TREE_DELETED], 1);
    assert_tree_is(tree, "/=@0/0\n/a=@0/0\n/a/2=@0/8\n");
    tree_free(tree);
}

static void test_load(void **state)
{
    struct tree *tree = tree_new();
    assert_int_equal(tree_load(tree, BYTES_LITERAL("/a/b"), BYTES_LITERAL(""), 0), CLYMQ_ENOENT);
    assert_int_equal(tree_load(tree, BYTES_LITERAL("/a"), BYTES_LITERAL("v"), 4), 0);
    assert_int_equal(tree_load(tree, BYTES_LITERAL("/a"), BYTES_LITERAL("v"), 4), CLYMQ_EEXIST);
    assert_int_equal(tree_load(tree, BYTES_LITERAL("/"), BYTES_LITERAL("v"), 4), CLYMQ_EINVAL);
    assert_int_equal(tree_load(tree, BYTES_LITERAL("/c"), BYTES_LITERAL("v"), -1), CLYMQ_EINVAL);
    assert_int_equal(tree_load(tree, BYTES_LITERAL("c"), BYTES_LITERAL("v"), 0), CLYMQ_EINVAL);
    assert_tree_is(tree, "/=@0/0\n/a=v@4/0\n");
    tree_free(tree);
}

/* Up to four transactions applied at a time; then either the oldest is committed or all are reverted. */
static void test_random(void **state)
{
    enum { DEPTH = 4, STEPS = 4000 };
    struct rng rng;
    rng_seed(&rng, 42);
    struct tree *tree = tree_new();
    struct tree_undo *applied[DEPTH];
    char *before[DEPTH]; /* the tree before each */
    int depth = 0, succeeded = 0;
    for (int step = 0; step < STEPS; step++) {
        if (depth < DEPTH && rng_chance(&rng, 2, 3)) {
            struct meta_op ops[5];
            char paths[5][16];
            size_t count = 1 + rng_below(&rng, 5), failed;
            for (size_t i = 0; i < count; i++) {
                int a = (int)rng_below(&rng, 3), b = (int)rng_below(&rng, 3);
                snprintf(paths[i], sizeof(paths[i]), rng_chance(&rng, 1, 2) ? "/%d" : "/%d/%d", a, b);
                static const enum meta_op_kind kinds[] = {META_CREATE, META_CREATE, META_SET, META_DELETE};
                ops[i] = op(kinds[rng_below(&rng, 4)], paths[i], paths[i]);
            }
            char *snapshot = dump(tree);
            if (tree_apply(tree, ops, count, 1, &applied[depth], &failed) == 0) {
                before[depth++] = snapshot;
                succeeded++;
            } else {
                assert_tree_is(tree, snapshot);
                mem_free(snapshot);
            }
        } else if (depth && rng_chance(&rng, 1, 2)) {
            char *now = dump(tree);
            tree_commit(tree, applied[0], NULL, NULL);
            assert_tree_is(tree, now);
            mem_free(now);
            mem_free(before[0]);
            depth--;
            memmove(applied, applied + 1, sizeof(applied[0]) * (size_t)depth);
            memmove(before, before + 1, sizeof(before[0]) * (size_t)depth);
        } else {
            while (depth) {
                depth--;
                tree_revert(tree, applied[depth]);
                assert_tree_is(tree, before[depth]);
                mem_free(before[depth]);
            }
        }
    }
    while (depth) {
        tree_revert(tree, applied[--depth]);
        mem_free(before[depth]);
    }
    assert_true(succeeded > 300);
    tree_free(tree);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_apply_commit_revert),
        cmocka_unit_test(test_failure_changes_nothing),
        cmocka_unit_test(test_sessions),
        cmocka_unit_test(test_load),
        cmocka_unit_test(test_random),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
