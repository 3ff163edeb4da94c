/* A metadata tree of any content, loaded by a coordinator that takes the role: it serves, or names the node
 * that is damaged. Then topics are listed and described, and taken over by a second one with the same result.
 *
 * The input is a row of nodes: a byte of kind, a length and the name that belongs to it, two bytes of length
 * and the value. Parents that are missing are made empty. */
#include "fuzz.h"
#include "meta/tree.h"
#include "unit/coord/harness.h"

#define ROOT "/test/ClyMQ"

enum { NODES_MAX = 32, TREE_OWN = 2 << 20 };

enum node_kind {
    NODE_CLUSTER,
    NODE_EPOCH,
    NODE_BROKER,
    NODE_TOPIC,
    NODE_PARTITION,
    NODE_BLOCK,
    NODE_COPY,
    NODE_ANY
};

/* Topics have names of their own; the rest lies below the topic "t" and its partition "0". */
static int node_path(enum node_kind kind, struct bytes name, char path[META_PATH_MAX])
{
    static const char *const below[] = {
        [NODE_CLUSTER] = ROOT "/Cluster",
        [NODE_EPOCH] = ROOT "/CoordinatorEpoch",
        [NODE_BROKER] = ROOT "/Brokers/",
        [NODE_TOPIC] = ROOT "/Topics/",
        [NODE_PARTITION] = ROOT "/Topics/t/Partitions/",
        [NODE_BLOCK] = ROOT "/Topics/t/Partitions/0/Blocks/",
        [NODE_COPY] = ROOT "/Topics/t/Partitions/0/Blocks/0/",
        [NODE_ANY] = ROOT "/",
    };
    int len = snprintf(path, META_PATH_MAX, "%s%.*s", below[kind], kind <= NODE_EPOCH ? 0 : (int)name.len,
                       (const char *)name.ptr);
    return tree_check_path(bytes_of(path, (size_t)len));
}

static void on_done(void *ctx, const struct meta_result *result)
{
    *(int *)ctx = result->error;
}

static int transact(struct harness *h, struct meta *meta, enum meta_op_kind kind, const char *path,
                    struct bytes value)
{
    struct meta_op op = {.kind = kind, .path = path, .value = value, .version = META_ANY_VERSION};
    int error = 1;
    meta_transact(meta, &op, 1, on_done, &error);
    while (error == 1)
        FUZZ_CHECK(sim_world_step(h->world));
    return error;
}

static void write_node(struct harness *h, struct meta *meta, char *path, struct bytes value)
{
    for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        (void)transact(h, meta, META_CREATE, path, (struct bytes){0});
        *slash = '/';
    }
    if (transact(h, meta, META_CREATE, path, value) == CLYMQ_EEXIST)
        (void)transact(h, meta, META_SET, path, value);
}

static void write_tree(struct harness *h, struct bytes input)
{
    struct meta *meta;
    char path[META_PATH_MAX];
    FUZZ_CHECK(sim_meta_open(h->store, shards_get(h->shards, 0), 0, 0, &meta) == 0);
    for (int i = 0; i < NODES_MAX && input.len >= 2; i++) {
        enum node_kind kind = (enum node_kind)(input.ptr[0] % (NODE_ANY + 1));
        size_t len = input.ptr[1];
        input = bytes_of(input.ptr + 2, input.len - 2);
        struct bytes name = bytes_of(input.ptr, len < input.len ? len : input.len);
        input = bytes_of(input.ptr + name.len, input.len - name.len);
        len = input.len >= 2 ? (size_t)(input.ptr[0] << 8 | input.ptr[1]) : 0;
        if (input.len >= 2)
            input = bytes_of(input.ptr + 2, input.len - 2);
        struct bytes value = bytes_of(input.ptr, len < input.len ? len : input.len);
        input = bytes_of(input.ptr + value.len, input.len - value.len);
        if (node_path(kind, name, path) == 0)
            write_node(h, meta, path, value);
    }
    meta_close(meta);
}

/* Takes the role; what it says of the topics. */
static int activate(struct harness *h, struct strbuf *told)
{
    struct reply reply = {0};
    harness_open(h);
    int error = do_activate(h, &reply);
    FUZZ_CHECK((error == 0) == (reply.sentence[0] == '\0'));
    FUZZ_CHECK(error != CLYMQ_ENOMEM && error != CLYMQ_EVERSION);
    if (error == 0) {
        FUZZ_CHECK(do_list(h, "", &reply) == 0);
        strbuf_append_text(told, reply.json);
        if (do_describe(h, "t", &reply) == 0)
            strbuf_append_text(told, reply.json);
        (void)do_find(h, "t", NULL, 10, &reply);
    }
    reply_free(&reply);
    harness_stop(h);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct harness h;
    struct strbuf first = {0}, second = {0};
    fuzz_begin();
    harness_init(&h, 3);
    write_tree(&h, bytes_of(data, size));
    int error = activate(&h, &first), again = activate(&h, &second);
    FUZZ_CHECK(error == again || again == CLYMQ_EFENCED);
    strbuf_free(&first);
    strbuf_free(&second);
    fuzz_check_memory(TREE_OWN + 256 * size);
    harness_free(&h);
    fuzz_check_time(size);
    return 0;
}
