/* The coordinator's memory: order by number, names, blocks, failing allocation, size of ten thousand
 * partitions. */
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
#include "coord/registry.h"

static void test_partitions(void **state)
{
    struct registry registry;
    assert_int_equal(registry_init(&registry), 0);
    struct registry_topic *topic, *other;
    assert_int_equal(registry_add_topic(&registry, "t", (struct uuid){{1}}, &topic), 0);
    assert_int_equal(registry_add_topic(&registry, "t", (struct uuid){{2}}, &other), CLYMQ_EEXIST);
    assert_int_equal(registry_add_topic(&registry, "u", (struct uuid){{1}}, &other), CLYMQ_EEXIST);
    struct rng rng;
    rng_seed(&rng, 8);
    enum { COUNT = 500 };
    uint32_t numbers[COUNT];
    for (uint32_t i = 0; i < COUNT; i++) {
        uint32_t j = (uint32_t)rng_below(&rng, i + 1);
        numbers[i] = numbers[j];
        numbers[j] = i;
    }
    struct registry_partition *partition;
    char name[16];
    for (int i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "p%u", numbers[i]);
        assert_int_equal(registry_add_partition(&registry, topic, name, numbers[i], &partition), 0);
    }
    assert_int_equal(registry_add_partition(&registry, topic, "p7", 1000, &partition), CLYMQ_EEXIST);
    assert_int_equal(registry_add_partition(&registry, topic, "new", 7, &partition), CLYMQ_EEXIST);
    assert_int_equal(registry.partition_count, COUNT);
    for (uint32_t i = 0; i < COUNT; i += 3)
        registry_remove_partition(&registry, registry_partition_by_number(topic, i));
    for (uint32_t i = 0; i < COUNT; i++) {
        snprintf(name, sizeof(name), "p%u", i);
        partition = registry_partition_by_number(topic, i);
        assert_int_equal(partition == NULL, i % 3 == 0);
        assert_ptr_equal(registry_find_partition(topic, name), partition);
        if (partition)
            assert_string_equal(partition->name, name);
    }
    registry_remove_topic(&registry, topic);
    assert_int_equal(registry.partition_count, 0);
    assert_null(registry_find_topic(&registry, "t"));
    assert_null(registry_find_topic_id(&registry, (struct uuid){{1}}));
    registry_free(&registry);
}

static void test_blocks(void **state)
{
    struct registry registry;
    struct registry_topic *topic;
    struct registry_partition *partition;
    assert_int_equal(registry_init(&registry), 0);
    assert_int_equal(registry_add_topic(&registry, "t", (struct uuid){{1}}, &topic), 0);
    assert_int_equal(registry_add_partition(&registry, topic, "p", 0, &partition), 0);
    assert_null(partition_serving_block(partition));
    static const uint32_t order[] = {2, 0, 10, 1};
    for (int i = 0; i < 4; i++)
        assert_int_equal(registry_add_block(
                             partition, &(struct coord_block){.seq = order[i], .state = COORD_BLOCK_SEALED}),
                         0);
    assert_int_equal(
        registry_add_block(partition, &(struct coord_block){.seq = 10, .state = COORD_BLOCK_SEALED}),
        CLYMQ_EEXIST);
    assert_int_equal(
        registry_add_block(partition,
                           &(struct coord_block){.seq = 11, .state = COORD_BLOCK_CREATING, .start = -1}),
        0);
    partition->blocks[3].state = COORD_BLOCK_SEALING;
    assert_int_equal(partition->blocks[1].seq, 1);
    assert_int_equal(partition_sealing_block(partition)->seq, 10);
    assert_int_equal(partition_serving_block(partition)->seq, 10);
    assert_int_equal(partition_chain_count(partition), 4);
    assert_false(partition_is_open(partition));
    assert_int_equal(registry_drop_block(partition, 0), 0);
    assert_int_equal(partition->dropped[0].seq, 0);
    assert_int_equal(partition->dropped[0].state, COORD_BLOCK_DELETED);
    assert_int_equal(partition->blocks[0].seq, 1);
    registry_forget_dropped(partition);
    assert_int_equal(partition->dropped_count, 0);
    registry_free(&registry);
}

static void test_failing_allocation(void **state)
{
    for (uint64_t nth = 1;; nth++) {
        struct registry registry;
        struct registry_topic *topic;
        struct registry_partition *partition;
        struct registry_broker *broker;
        mem_fail_nth(nth);
        int error = registry_init(&registry);
        if (!error) {
            error = registry_add_broker(&registry, "1", &broker);
            if (!error)
                error = registry_set_broker(broker, "a:1", "r", (struct uuid){{1}});
            if (!error)
                error = registry_add_topic(&registry, "t", (struct uuid){{1}}, &topic);
            if (!error)
                error = registry_add_partition(&registry, topic, "p", 0, &partition);
            if (!error)
                error = registry_add_block(partition, &(struct coord_block){.seq = 0});
            if (!error)
                error = registry_reserve_block(partition);
            registry_free(&registry);
        }
        bool failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(error, failed ? CLYMQ_ENOMEM : 0);
        if (!failed)
            break;
    }
}

static void test_size(void **state)
{
    enum { COUNT = 10000 };
    uint64_t before = mem_live_bytes();
    struct registry registry;
    struct registry_topic *topic;
    assert_int_equal(registry_init(&registry), 0);
    assert_int_equal(registry_add_topic(&registry, "t", (struct uuid){{1}}, &topic), 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        struct registry_partition *partition;
        char name[16];
        snprintf(name, sizeof(name), "%u", i);
        assert_int_equal(registry_add_partition(&registry, topic, name, i, &partition), 0);
        assert_int_equal(registry_add_block(partition, &(struct coord_block){.seq = 0}), 0);
    }
    uint64_t bytes = (mem_live_bytes() - before) / COUNT;
    print_message("%llu bytes a partition\n", (unsigned long long)bytes);
    assert_true(bytes < 600);
    registry_free(&registry);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_partitions),
        cmocka_unit_test(test_blocks),
        cmocka_unit_test(test_failing_allocation),
        cmocka_unit_test(test_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
