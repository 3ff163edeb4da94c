/* rpc.h: methods by name and service, presence of optional fields, and the shape that the codec relies on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "wire/rpc.h"

static void test_methods_are_found_in_their_service(void **state)
{
    const unsigned all = RPC_BROKER | RPC_COORDINATOR | RPC_CONSUMER;
    for (int i = 0; i < RPC_METHOD_COUNT; i++) {
        const struct rpc_method *method = &rpc_methods[i];
        assert_int_equal(method->id, i);
        assert_ptr_equal(rpc_find_method(method->service, method->name), method);
        assert_ptr_equal(rpc_find_method(all, method->name), method);
        assert_null(rpc_find_method(all & ~(unsigned)method->service, method->name));
        assert_null(rpc_find_method(all, bytes_of(method->name.ptr, method->name.len - 1)));
    }
    assert_null(rpc_find_method(all, BYTES_LITERAL("Push")));
    assert_null(rpc_find_method(all, BYTES_LITERAL("AppendEntries")));
    assert_null(rpc_find_method(all, BYTES_LITERAL("")));
    assert_null(rpc_find_method(0, BYTES_LITERAL("push")));
}

static void test_presence(void **state)
{
    const struct thrift_struct *type = rpc_methods[RPC_METHOD_CREATE_TOPIC].request;
    struct rpc_create_topic_request request = {.topic = BYTES_LITERAL("t")};
    assert_false(rpc_has(type, &request, offsetof(struct rpc_create_topic_request, partitions)));
    rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, partitions));
    rpc_set_present(type, &request, offsetof(struct rpc_create_topic_request, config));
    assert_true(rpc_has(type, &request, offsetof(struct rpc_create_topic_request, partitions)));
    assert_true(rpc_has(type, &request, offsetof(struct rpc_create_topic_request, config)));
    assert_false(rpc_has(type, &request, offsetof(struct rpc_create_topic_request, ack)));
    assert_int_equal(request.present, 1 << 1 | 1 << 4);
}

static void test_numbers_grow_and_growth_is_optional(void **state)
{
    for (int i = 0; i < RPC_METHOD_COUNT * 2; i++) {
        const struct thrift_struct *type = i & 1 ? rpc_methods[i / 2].response : rpc_methods[i / 2].request;
        assert_true(type->count >= 1 && type->count <= 32);
        for (unsigned j = 0; j < type->count; j++) {
            const struct thrift_field *field = &type->fields[j];
            assert_true(field->id > (j ? type->fields[j - 1].id : 0));
            assert_int_equal(field->optional, field->id >= 20);
            assert_true(field->offset < type->size && field->offset >= sizeof(uint32_t));
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_methods_are_found_in_their_service),
        cmocka_unit_test(test_presence),
        cmocka_unit_test(test_numbers_grow_and_growth_is_optional),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
