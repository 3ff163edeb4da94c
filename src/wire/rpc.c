/* The codec's tables, made from the lists of rpc.h. */
#include "wire/rpc.h"

#include <assert.h>
#include <stddef.h>

#define FIELD(owner, kind, c_name, wire, number, is_optional)                                                \
    {.id = number,                                                                                           \
     .type = THRIFT_##kind,                                                                                  \
     .optional = is_optional,                                                                                \
     .offset = offsetof(owner, c_name),                                                                      \
     .name = wire},

#define TABLE_OF(c_struct, thrift_name, LIST)                                                                \
    static const struct thrift_field c_struct##_fields[] = {LIST(FIELD, struct c_struct)};                   \
    static const struct thrift_struct c_struct##_table = {                                                   \
        .name = thrift_name,                                                                                 \
        .fields = c_struct##_fields,                                                                         \
        .count = sizeof(c_struct##_fields) / sizeof(c_struct##_fields[0]),                                   \
        .present_offset = offsetof(struct c_struct, present),                                                \
        .size = sizeof(struct c_struct),                                                                     \
    };                                                                                                       \
    _Static_assert(sizeof(c_struct##_fields) / sizeof(c_struct##_fields[0]) <= 32, "present has 32 bits");

#define M(service, wire, name, stem, TABLE)                                                                  \
    TABLE_OF(rpc_##name##_request, stem "Request", RPC_##TABLE##_REQUEST)                                    \
    TABLE_OF(rpc_##name##_response, stem "Response", RPC_##TABLE##_RESPONSE)
RPC_METHODS(M)
#undef M

const struct rpc_method rpc_methods[RPC_METHOD_COUNT] = {
#define M(port, wire, c_name, stem, TABLE)                                                                   \
    [RPC_METHOD_##TABLE] = {.id = RPC_METHOD_##TABLE,                                                        \
                            .service = RPC_##port,                                                           \
                            .name = {(const uint8_t *)(wire), sizeof(wire) - 1},                             \
                            .request = &rpc_##c_name##_request_table,                                        \
                            .response = &rpc_##c_name##_response_table},
    RPC_METHODS(M)
#undef M
};

const struct rpc_method *rpc_find_method(unsigned services, struct bytes name)
{
    for (size_t i = 0; i < RPC_METHOD_COUNT; i++)
        if (rpc_methods[i].service & services && bytes_equal(rpc_methods[i].name, name))
            return &rpc_methods[i];
    return NULL;
}

static uint32_t present_bit(const struct thrift_struct *type, size_t field_offset)
{
    for (unsigned i = 0; i < type->count; i++)
        if (type->fields[i].offset == field_offset)
            return UINT32_C(1) << i;
    assert(!"no field at this offset");
    return 0;
}

bool rpc_has(const struct thrift_struct *type, const void *value, size_t field_offset)
{
    const uint32_t *present = (const void *)((const uint8_t *)value + type->present_offset);
    return *present & present_bit(type, field_offset);
}

void rpc_set_present(const struct thrift_struct *type, void *value, size_t field_offset)
{
    uint32_t *present = (void *)((uint8_t *)value + type->present_offset);
    *present |= present_bit(type, field_offset);
}
