/* The contract of the metadata backends: see contract.h. */
#include "unit/meta/contract.h"

#include <stdlib.h>

static struct meta_driver *driver;

void contract_collect(void *ctx, const struct meta_result *result)
{
    struct answer *answer = ctx;
    assert_false(answer->done);
    answer->done = true;
    answer->error = result->error;
    answer->failed_op = result->failed_op;
    if (result->error)
        return;
    answer->version = result->node.version;
    answer->ephemeral = result->node.ephemeral;
    assert_true(result->node.value.len < sizeof(answer->value));
    if (result->node.value.len)
        memcpy(answer->value, result->node.value.ptr, result->node.value.len);
    answer->child_count = result->child_count;
    size_t len = 0;
    for (size_t i = 0; i < result->child_count; i++)
        len +=
            (size_t)snprintf(answer->children + len, sizeof(answer->children) - len, "%s%.*s", i ? "," : "",
                             (int)result->children[i].len, (const char *)result->children[i].ptr);
    assert_true(len < sizeof(answer->children));
}

struct answer contract_transact(struct meta_driver *by, struct meta *meta, const struct meta_op *ops,
                                size_t count)
{
    struct answer answer = {0};
    meta_transact(meta, ops, count, contract_collect, &answer);
    by->run(by, &answer.done);
    return answer;
}

struct answer contract_get(struct meta_driver *by, struct meta *meta, const char *path, bool watch)
{
    struct answer answer = {0};
    meta_get(meta, path, watch, contract_collect, &answer);
    by->run(by, &answer.done);
    return answer;
}

struct answer contract_list(struct meta_driver *by, struct meta *meta, const char *path, bool watch)
{
    struct answer answer = {0};
    meta_list(meta, path, watch, contract_collect, &answer);
    by->run(by, &answer.done);
    return answer;
}

#define TRANSACT(meta, ...)                                                                                  \
    contract_transact(driver, meta, (struct meta_op[]){__VA_ARGS__},                                         \
                      sizeof((struct meta_op[]){__VA_ARGS__}) / sizeof(struct meta_op))
#define GET(meta, path)  contract_get(driver, meta, path, false)
#define LIST(meta, path) contract_list(driver, meta, path, false)

static void assert_ok(struct answer answer)
{
    assert_int_equal(answer.error, 0);
    assert_int_equal(answer.failed_op, -1);
}
static void assert_failed(struct answer answer, int error, int op)
{
    assert_int_equal(answer.error, error);
    assert_int_equal(answer.failed_op, op);
}

static void test_nodes(void **state)
{
    struct meta *meta = driver->open(driver);
    assert_int_equal(GET(meta, "/a").error, CLYMQ_ENOENT);
    assert_int_equal(LIST(meta, "/a").error, CLYMQ_ENOENT);
    assert_ok(TRANSACT(meta, op_create("/a", "one")));
    struct answer answer = GET(meta, "/a");
    assert_ok(answer);
    assert_string_equal(answer.value, "one");
    assert_int_equal(answer.version, 0);
    assert_false(answer.ephemeral);
    assert_ok(TRANSACT(meta, op_set("/a", "two", 0)));
    answer = GET(meta, "/a");
    assert_string_equal(answer.value, "two");
    assert_int_equal(answer.version, 1);
    assert_failed(TRANSACT(meta, op_set("/a", "three", 0)), CLYMQ_EVERSION, 0);
    assert_ok(TRANSACT(meta, op_set("/a", "", META_ANY_VERSION)));
    answer = GET(meta, "/a");
    assert_string_equal(answer.value, "");
    assert_int_equal(answer.version, 2);
    assert_failed(TRANSACT(meta, op_create("/a", "")), CLYMQ_EEXIST, 0);
    assert_failed(TRANSACT(meta, op_create("/b/c", "")), CLYMQ_ENOENT, 0);
    assert_failed(TRANSACT(meta, op_delete("/b", META_ANY_VERSION)), CLYMQ_ENOENT, 0);
    assert_failed(TRANSACT(meta, op_set("/b", "", META_ANY_VERSION)), CLYMQ_ENOENT, 0);
    assert_failed(TRANSACT(meta, op_check("/b", META_ANY_VERSION)), CLYMQ_ENOENT, 0);
    assert_ok(TRANSACT(meta, op_create("/a/b", "x")));
    assert_failed(TRANSACT(meta, op_delete("/a", 2)), CLYMQ_EBUSY, 0);
    assert_failed(TRANSACT(meta, op_delete("/a/b", 1)), CLYMQ_EVERSION, 0);
    assert_ok(TRANSACT(meta, op_delete("/a/b", 0)));
    assert_ok(TRANSACT(meta, op_delete("/a", 2)));
    assert_int_equal(GET(meta, "/a").error, CLYMQ_ENOENT);
    /* Made again it is another node. */
    assert_ok(TRANSACT(meta, op_create("/a", "new")));
    assert_int_equal(GET(meta, "/a").version, 0);
    meta_close(meta);
}

static void test_children_are_sorted(void **state)
{
    struct meta *meta = driver->open(driver);
    assert_ok(TRANSACT(meta, op_create("/t", ""), op_create("/t/b", ""), op_create("/t/a", ""),
                       op_create("/t/北京", ""), op_create("/t/a b", ""), op_create("/t/10", ""),
                       op_create("/t/9", ""), op_create("/t/a/deeper", ""), op_create("/tt", "")));
    struct answer answer = LIST(meta, "/t");
    assert_ok(answer);
    assert_string_equal(answer.children, "10,9,a,a b,b,北京");
    answer = LIST(meta, "/t/b");
    assert_ok(answer);
    assert_int_equal(answer.child_count, 0);
    answer = LIST(meta, "/");
    assert_ok(answer);
    assert_true(strstr(answer.children, "t,tt") != NULL);
    meta_close(meta);
}

static void test_transaction_is_all_or_none(void **state)
{
    struct meta *meta = driver->open(driver);
    assert_ok(TRANSACT(meta, op_create("/a", "1"), op_create("/b", "1")));
    assert_failed(
        TRANSACT(meta, op_set("/a", "2", 0), op_delete("/b", 0), op_create("/c", ""), op_check("/a", 0)),
        CLYMQ_EVERSION, 3);
    assert_string_equal(GET(meta, "/a").value, "1");
    assert_int_equal(GET(meta, "/a").version, 0);
    assert_string_equal(GET(meta, "/b").value, "1");
    assert_int_equal(GET(meta, "/c").error, CLYMQ_ENOENT);
    /* Later operations see earlier ones. */
    assert_ok(TRANSACT(meta, op_check("/a", 0), op_set("/a", "2", 0), op_check("/a", 1), op_set("/a", "3", 1),
                       op_delete("/b", 0), op_create("/b", "new"), op_create("/b/c", ""),
                       op_delete("/b/c", 0)));
    assert_string_equal(GET(meta, "/a").value, "3");
    assert_int_equal(GET(meta, "/a").version, 2);
    assert_string_equal(GET(meta, "/b").value, "new");
    assert_int_equal(GET(meta, "/b").version, 0);
    assert_int_equal(LIST(meta, "/b").child_count, 0);
    /* Nothing to do is done. */
    struct answer answer = {0};
    meta_transact(meta, NULL, 0, contract_collect, &answer);
    driver->run(driver, &answer.done);
    assert_ok(answer);
    meta_close(meta);
}

static void test_bad_arguments(void **state)
{
    struct meta *meta = driver->open(driver);
    static const char *const bad[] = {"", "a", "//", "/a/", "/a//b", "a/b", "/\xff", "/a/\xc3("};
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_failed(TRANSACT(meta, op_create(bad[i], "")), CLYMQ_EINVAL, 0);
        assert_int_equal(GET(meta, bad[i]).error, CLYMQ_EINVAL);
        assert_int_equal(LIST(meta, bad[i]).error, CLYMQ_EINVAL);
    }
    char *path = mem_zalloc(META_PATH_MAX + 2);
    memset(path, 'x', META_PATH_MAX + 1);
    path[0] = '/';
    assert_failed(TRANSACT(meta, op_create(path, "")), CLYMQ_EINVAL, 0);
    mem_free(path);
    assert_failed(TRANSACT(meta, op_delete("/", META_ANY_VERSION)), CLYMQ_EINVAL, 0);
    assert_failed(TRANSACT(meta, op_create("/", "")), CLYMQ_EEXIST, 0);
    char *value = mem_zalloc(META_VALUE_MAX + 1);
    struct meta_op big = {.kind = META_CREATE, .path = "/big", .value = bytes_of(value, META_VALUE_MAX + 1)};
    assert_failed(TRANSACT(meta, big), CLYMQ_ETOOBIG, 0);
    mem_free(value);
    assert_int_equal(GET(meta, "/big").error, CLYMQ_ENOENT);
    meta_close(meta);
}

static void check_big_value(void *ctx, const struct meta_result *result)
{
    bool *done = ctx;
    *done = true;
    assert_int_equal(result->error, 0);
    assert_int_equal(result->node.value.len, META_VALUE_MAX);
    for (size_t i = 0; i < META_VALUE_MAX; i++)
        if (result->node.value.ptr[i] != (uint8_t)(i * 7))
            fail();
}

static void test_biggest_value(void **state)
{
    struct meta *meta = driver->open(driver);
    uint8_t *value = mem_alloc(META_VALUE_MAX);
    for (size_t i = 0; i < META_VALUE_MAX; i++)
        value[i] = (uint8_t)(i * 7);
    struct meta_op big = {.kind = META_CREATE, .path = "/big", .value = bytes_of(value, META_VALUE_MAX)};
    struct answer answer = {0};
    meta_transact(meta, &big, 1, contract_collect, &answer);
    memset(value, 0, META_VALUE_MAX); /* it was copied */
    mem_free(value);
    driver->run(driver, &answer.done);
    assert_ok(answer);
    bool done = false;
    meta_get(meta, "/big", false, check_big_value, &done);
    driver->run(driver, &done);
    meta_close(meta);
}

static void test_requests_keep_their_order(void **state)
{
    struct meta *meta = driver->open(driver);
    enum { ROUNDS = 50 };
    struct answer sets[ROUNDS] = {0}, gets[ROUNDS] = {0}, stale[ROUNDS] = {0};
    struct answer created = {0};
    struct meta_op create = op_create("/n", "0");
    meta_transact(meta, &create, 1, contract_collect, &created);
    for (int i = 0; i < ROUNDS; i++) {
        char value[16];
        snprintf(value, sizeof(value), "%d", i + 1);
        struct meta_op set = op_set("/n", value, i), again = op_set("/n", "never", i);
        meta_transact(meta, &set, 1, contract_collect, &sets[i]);
        meta_transact(meta, &again, 1, contract_collect, &stale[i]);
        meta_get(meta, "/n", false, contract_collect, &gets[i]);
    }
    driver->run(driver, &gets[ROUNDS - 1].done);
    assert_ok(created);
    for (int i = 0; i < ROUNDS; i++) {
        assert_true(sets[i].done && stale[i].done && gets[i].done);
        assert_ok(sets[i]);
        assert_failed(stale[i], CLYMQ_EVERSION, 0);
        assert_int_equal(gets[i].version, i + 1);
        assert_int_equal(atoi(gets[i].value), i + 1);
    }
    meta_close(meta);
}

static void test_persistence(void **state)
{
    struct meta *meta = driver->open(driver);
    struct meta_op ephemeral = op_create("/dir/here", "me");
    ephemeral.ephemeral = true;
    assert_ok(TRANSACT(meta, op_create("/dir", "d"), ephemeral, op_create("/dir/stays", "s")));
    assert_ok(TRANSACT(meta, op_set("/dir/stays", "s2", 0)));
    struct answer answer = GET(meta, "/dir/here");
    assert_ok(answer);
    assert_true(answer.ephemeral);
    assert_string_equal(answer.value, "me");
    assert_failed(TRANSACT(meta, op_create("/dir/here/child", "")), CLYMQ_EINVAL, 0);
    meta_close(meta);

    meta = driver->open(driver);
    assert_string_equal(LIST(meta, "/dir").children, "stays");
    answer = GET(meta, "/dir/stays");
    assert_string_equal(answer.value, "s2");
    assert_int_equal(answer.version, 1);
    assert_int_equal(GET(meta, "/dir/here").error, CLYMQ_ENOENT);
    assert_ok(TRANSACT(meta, ephemeral));
    assert_ok(TRANSACT(meta, op_delete("/dir/here", 0)));
    assert_string_equal(LIST(meta, "/dir").children, "stays");
    meta_close(meta);
}

struct heard {
    int count;
    int sessions;
    char paths[256];
};
static void hear(void *ctx, enum meta_event event, const char *path)
{
    struct heard *heard = ctx;
    if (event == META_EVENT_SESSION) {
        heard->sessions++;
        return;
    }
    heard->count++;
    snprintf(heard->paths + strlen(heard->paths), sizeof(heard->paths) - strlen(heard->paths), "%s ", path);
}

static void expect_heard(struct heard *heard, const char *paths)
{
    assert_string_equal(heard->paths, paths);
    *heard = (struct heard){0};
}

static void test_watches(void **state)
{
    struct meta *meta = driver->open(driver);
    struct heard heard = {0};
    meta_set_watcher(meta, hear, &heard);
    assert_ok(TRANSACT(meta, op_create("/w", "")));
    expect_heard(&heard, "");
    /* A node's own changes; once. An event comes before the answer of any later request. */
    assert_ok(contract_get(driver, meta, "/w", true));
    assert_ok(TRANSACT(meta, op_create("/w/c", "")));
    GET(meta, "/");
    expect_heard(&heard, "");
    assert_ok(TRANSACT(meta, op_set("/w", "1", 0)));
    GET(meta, "/");
    expect_heard(&heard, "/w ");
    assert_ok(TRANSACT(meta, op_set("/w", "2", 1)));
    GET(meta, "/");
    expect_heard(&heard, "");
    /* Children come and go; their values do not count. */
    assert_ok(contract_list(driver, meta, "/w", true));
    assert_ok(TRANSACT(meta, op_set("/w/c", "1", 0)));
    GET(meta, "/");
    expect_heard(&heard, "");
    assert_ok(TRANSACT(meta, op_delete("/w/c", 1)));
    GET(meta, "/");
    expect_heard(&heard, "/w ");
    /* A node that is not there yet. */
    assert_int_equal(contract_get(driver, meta, "/w/x", true).error, CLYMQ_ENOENT);
    assert_ok(TRANSACT(meta, op_create("/w/x", "")));
    GET(meta, "/");
    expect_heard(&heard, "/w/x ");
    assert_ok(contract_get(driver, meta, "/w/x", true));
    assert_ok(TRANSACT(meta, op_delete("/w/x", 0)));
    GET(meta, "/");
    expect_heard(&heard, "/w/x ");
    /* Both kinds on one path: the one that did not fire stays. */
    assert_ok(contract_get(driver, meta, "/w", true));
    assert_ok(contract_list(driver, meta, "/w", true));
    assert_ok(TRANSACT(meta, op_set("/w", "3", 2)));
    GET(meta, "/");
    expect_heard(&heard, "/w ");
    assert_ok(TRANSACT(meta, op_create("/w/y", "")));
    GET(meta, "/");
    expect_heard(&heard, "/w ");
    /* A failed transaction changes nothing, so it tells nothing. */
    assert_ok(contract_get(driver, meta, "/w", true));
    assert_failed(TRANSACT(meta, op_set("/w", "4", 3), op_check("/none", 0)), CLYMQ_ENOENT, 1);
    GET(meta, "/");
    expect_heard(&heard, "");
    meta_close(meta);
}

static void test_close_answers_all(void **state)
{
    struct meta *meta = driver->open(driver);
    struct answer answers[6] = {0};
    struct meta_op create = op_create("/closing", "");
    meta_transact(meta, &create, 1, contract_collect, &answers[0]);
    meta_get(meta, "/closing", true, contract_collect, &answers[1]);
    meta_list(meta, "/", false, contract_collect, &answers[2]);
    meta_close(meta);
    for (int i = 0; i < 3; i++) {
        assert_true(answers[i].done);
        assert_int_equal(answers[i].error, CLYMQ_ESHUTDOWN);
    }
    /* A write that had begun is either there or not. */
    meta = driver->open(driver);
    struct answer created = GET(meta, "/closing");
    assert_true(created.error == 0 || created.error == CLYMQ_ENOENT);
    meta_close(meta);
}

struct closer {
    struct meta *meta;
    bool done;
};
static void close_inside(void *ctx, const struct meta_result *result)
{
    struct closer *closer = ctx;
    assert_int_equal(result->error, 0);
    meta_close(closer->meta);
    closer->done = true;
}

static void test_close_from_a_callback(void **state)
{
    for (int kind = 0; kind < 3; kind++) {
        struct closer closer = {driver->open(driver), false};
        struct answer after[2] = {0};
        char path[] = "/inside0";
        path[7] = (char)('0' + kind);
        struct meta_op create = op_create(path, "");
        if (kind == 0)
            meta_transact(closer.meta, &create, 1, close_inside, &closer);
        else if (kind == 1)
            meta_get(closer.meta, "/", false, close_inside, &closer);
        else
            meta_list(closer.meta, "/", false, close_inside, &closer);
        meta_transact(closer.meta, &create, 1, contract_collect, &after[0]);
        meta_get(closer.meta, "/", false, contract_collect, &after[1]);
        driver->run(driver, &closer.done);
        assert_true(after[0].done && after[1].done);
        assert_int_equal(after[0].error, CLYMQ_ESHUTDOWN);
        assert_int_equal(after[1].error, CLYMQ_ESHUTDOWN);
    }
}

static void test_two_sessions(void **state)
{
    struct meta *a = driver->open(driver), *b = driver->open(driver);
    struct heard heard = {0};
    meta_set_watcher(a, hear, &heard);
    struct meta_op live = op_create("/live", "b");
    live.ephemeral = true;
    assert_ok(TRANSACT(b, live));
    assert_string_equal(GET(a, "/live").value, "b");
    assert_failed(TRANSACT(a, live), CLYMQ_EEXIST, 0);
    assert_ok(contract_get(driver, a, "/live", true));
    assert_ok(contract_list(driver, a, "/", true));
    meta_close(b);
    assert_int_equal(GET(a, "/live").error, CLYMQ_ENOENT);
    GET(a, "/");
    assert_int_equal(heard.count, 2);
    /* Two that check the same version: one wins. */
    b = driver->open(driver);
    assert_ok(TRANSACT(a, op_create("/epoch", "0")));
    struct answer first = {0}, second = {0};
    struct meta_op claim = op_set("/epoch", "1", 0);
    meta_transact(a, &claim, 1, contract_collect, &first);
    meta_transact(b, &claim, 1, contract_collect, &second);
    driver->run(driver, &first.done);
    driver->run(driver, &second.done);
    assert_true((first.error == 0) != (second.error == 0));
    assert_int_equal(first.error + second.error, CLYMQ_EVERSION);
    meta_close(a);
    meta_close(b);
}

/* Out of memory anywhere: each request still gets one answer, and a transaction is there or not as it says.
 */
static void test_failing_allocation(void **state)
{
    struct meta *meta = driver->open(driver);
    assert_ok(TRANSACT(meta, op_create("/m", "")));
    bool failed = true;
    for (uint64_t nth = 1; failed; nth++) {
        char path[32];
        snprintf(path, sizeof(path), "/m/%llu", (unsigned long long)nth);
        struct answer created = {0}, got = {0}, listed = {0};
        struct meta_op ops[] = {op_create(path, "v"), op_set("/m", path, META_ANY_VERSION)};
        mem_fail_nth(nth);
        meta_transact(meta, ops, 2, contract_collect, &created);
        meta_get(meta, path, true, contract_collect, &got);
        meta_list(meta, "/m", true, contract_collect, &listed);
        driver->run(driver, &created.done);
        driver->run(driver, &got.done);
        driver->run(driver, &listed.done);
        failed = mem_failed();
        mem_fail_nth(0);
        assert_true(created.error == 0 || (failed && created.error == CLYMQ_ENOMEM));
        assert_int_equal(GET(meta, path).error, created.error ? CLYMQ_ENOENT : 0);
        if (!created.error)
            assert_string_equal(GET(meta, "/m").value, path);
        if (!created.error)
            assert_ok(TRANSACT(meta, op_delete(path, META_ANY_VERSION)));
        assert_int_equal(LIST(meta, "/m").child_count, 0);
    }
    meta_close(meta);
}

static void test_random_operations(void **state)
{
    contract_random(driver);
}

static int contract_setup(void **state)
{
    driver->setup(driver);
    return 0;
}
static int contract_teardown(void **state)
{
    driver->teardown(driver);
    return 0;
}

int contract_run(struct meta_driver *by)
{
    driver = by;
#define T(test) cmocka_unit_test_setup_teardown(test, contract_setup, contract_teardown)
    const struct CMUnitTest tests[] = {
        T(test_nodes),
        T(test_children_are_sorted),
        T(test_transaction_is_all_or_none),
        T(test_bad_arguments),
        T(test_biggest_value),
        T(test_requests_keep_their_order),
        T(test_persistence),
        T(test_watches),
        T(test_close_answers_all),
        T(test_close_from_a_callback),
        T(test_random_operations),
        T(test_failing_allocation),
    };
    const struct CMUnitTest shared[] = {T(test_two_sessions)};
    int failures = cmocka_run_group_tests_name(by->name, tests, NULL, NULL);
    if (by->many_sessions)
        failures += cmocka_run_group_tests_name(by->name, shared, NULL, NULL);
    return failures;
}
