/* The skip over Thrift values: a small machine with an explicit stack, one entry for each open struct, list,
 * set or map. A step looks at one field header or one value's header (at most 13 bytes) and is committed only
 * when all of it is at hand, so that asking again with one more byte repeats one step at most. Strings and
 * runs of fixed-size elements are jumped over by arithmetic; every other element takes at least one byte, so
 * a count of 2^31 costs nothing. */
#include "wire/thrift_skip.h"

#include <assert.h>

#include "base/error.h"
#include "wire/byte_order.h"
#include "wire/varint.h"

/* One step: what was read, not yet committed. */
struct step {
    struct bytes data;
    uint64_t at;   /* behind what the step has read */
    uint64_t need; /* on CLYMQ_EAGAIN */
    bool push;
    struct thrift_level level;
};

static int step_want(struct step *step, uint64_t count)
{
    if (step->at + count <= step->data.len)
        return 0;
    step->need = step->at + count;
    return CLYMQ_EAGAIN;
}

static int step_varint(struct step *step, uint64_t *ret_value)
{
    if (step->at >= step->data.len)
        return step_want(step, 1);
    const uint8_t *start = step->data.ptr + step->at, *end = step->data.ptr + step->data.len;
    int size = varint_measure(start, (size_t)(end - start));
    if (size == 0) {
        step->need = step->data.len + 1;
        return CLYMQ_EAGAIN;
    }
    if (size < 0 || !varint_read(start, end, ret_value))
        return CLYMQ_EPROTO;
    step->at += (uint64_t)size;
    return 0;
}

/* ---- binary ---- */

/* Bytes of a value, 0 for those of no fixed size; -1 for what is no type. */
static int binary_fixed_size(uint8_t type)
{
    switch (type) {
    case THRIFT_BOOL:
    case THRIFT_I8:
        return 1;
    case THRIFT_I16:
        return 2;
    case THRIFT_I32:
        return 4;
    case THRIFT_I64:
    case THRIFT_DOUBLE:
        return 8;
    case THRIFT_UUID:
        return 16;
    case THRIFT_STRING:
    case THRIFT_STRUCT:
    case THRIFT_MAP:
    case THRIFT_SET:
    case THRIFT_LIST:
        return 0;
    default:
        return -1;
    }
}

/* The least number of bytes that a value of no fixed size takes. */
static unsigned binary_least_size(uint8_t type)
{
    switch (type) {
    case THRIFT_STRING:
        return 4;
    case THRIFT_MAP:
        return 6;
    case THRIFT_SET:
    case THRIFT_LIST:
        return 5;
    default:
        return 1; /* a struct's stop */
    }
}

/* A run of count elements, each of types[0] and, in a map, types[1]. */
static int binary_elements(struct step *step, uint32_t count, uint8_t key, uint8_t value, bool map,
                           uint64_t limit)
{
    int key_size = binary_fixed_size(key), value_size = map ? binary_fixed_size(value) : 0;
    if (key_size < 0 || value_size < 0)
        return CLYMQ_EPROTO;
    if (key_size > 0 && (!map || value_size > 0)) {
        step->at += (uint64_t)count * (unsigned)(key_size + value_size);
        return 0;
    }
    uint64_t least = key_size > 0 ? (unsigned)key_size : binary_least_size(key);
    if (map)
        least += value_size > 0 ? (unsigned)value_size : binary_least_size(value);
    if (step->at + count * least > limit)
        return CLYMQ_ETOOBIG;
    step->push = true;
    step->level =
        (struct thrift_level){.remaining = map ? count * 2 : count, .types = {key, map ? value : key}};
    return 0;
}

static int binary_value(struct step *step, uint8_t type, uint64_t limit)
{
    int fixed = binary_fixed_size(type);
    if (fixed < 0)
        return CLYMQ_EPROTO;
    if (fixed > 0) {
        step->at += (unsigned)fixed;
        return 0;
    }
    const uint8_t *at = step->data.ptr + step->at;
    uint32_t count;
    int error;
    switch (type) {
    case THRIFT_STRING:
        if ((error = step_want(step, 4)))
            return error;
        count = load_be32(at);
        step->at += 4 + (uint64_t)count;
        return count > INT32_MAX ? CLYMQ_EPROTO : 0;
    case THRIFT_STRUCT:
        step->push = true;
        step->level = (struct thrift_level){.in_struct = true};
        return 0;
    case THRIFT_MAP:
        if ((error = step_want(step, 6)))
            return error;
        count = load_be32(at + 2);
        step->at += 6;
        if (count > INT32_MAX)
            return CLYMQ_EPROTO;
        return count ? binary_elements(step, count, at[0], at[1], true, limit) : 0;
    default: /* list, set */
        if ((error = step_want(step, 5)))
            return error;
        count = load_be32(at + 1);
        step->at += 5;
        if (count > INT32_MAX)
            return CLYMQ_EPROTO;
        return count ? binary_elements(step, count, at[0], at[0], false, limit) : 0;
    }
}

static int binary_field(struct step *step, uint64_t limit, bool *ret_stop)
{
    uint8_t type = step->data.ptr[step->at];
    if (type == THRIFT_STOP) {
        step->at++;
        *ret_stop = true;
        return 0;
    }
    int error = step_want(step, 3);
    if (error)
        return error;
    step->at += 3;
    return binary_value(step, type, limit);
}

/* ---- compact ---- */

/* Bytes of an element in a container, 0 for those of no fixed size; -1 for what is no type. */
static int compact_fixed_size(uint8_t type)
{
    switch (type) {
    case COMPACT_TRUE:
    case COMPACT_FALSE:
    case COMPACT_I8:
        return 1;
    case COMPACT_DOUBLE:
        return 8;
    case COMPACT_UUID:
        return 16;
    case COMPACT_I16:
    case COMPACT_I32:
    case COMPACT_I64:
    case COMPACT_BINARY:
    case COMPACT_LIST:
    case COMPACT_SET:
    case COMPACT_MAP:
    case COMPACT_STRUCT:
        return 0;
    default:
        return -1;
    }
}

static int compact_elements(struct step *step, uint32_t count, uint8_t key, uint8_t value, bool map,
                            uint64_t limit)
{
    int key_size = compact_fixed_size(key), value_size = map ? compact_fixed_size(value) : 0;
    if (key_size < 0 || value_size < 0)
        return CLYMQ_EPROTO;
    if (key_size > 0 && (!map || value_size > 0)) {
        step->at += (uint64_t)count * (unsigned)(key_size + value_size);
        return 0;
    }
    uint64_t least = key_size > 0 ? (unsigned)key_size : 1;
    if (map)
        least += value_size > 0 ? (unsigned)value_size : 1;
    if (step->at + count * least > limit)
        return CLYMQ_ETOOBIG;
    step->push = true;
    step->level =
        (struct thrift_level){.remaining = map ? count * 2 : count, .types = {key, map ? value : key}};
    return 0;
}

static int compact_value(struct step *step, uint8_t type, uint64_t limit)
{
    int fixed = compact_fixed_size(type);
    if (fixed < 0)
        return CLYMQ_EPROTO;
    if (fixed > 0) {
        step->at += (unsigned)fixed;
        return 0;
    }
    uint64_t count = 0;
    uint8_t types;
    int error;
    switch (type) {
    case COMPACT_I16:
    case COMPACT_I32:
    case COMPACT_I64:
        return step_varint(step, &count);
    case COMPACT_BINARY:
        if ((error = step_varint(step, &count)))
            return error;
        if (count > INT32_MAX)
            return CLYMQ_EPROTO;
        step->at += count;
        return 0;
    case COMPACT_STRUCT:
        step->push = true;
        step->level = (struct thrift_level){.in_struct = true};
        return 0;
    case COMPACT_MAP: /* an empty map has no byte of types */
        if ((error = step_varint(step, &count)))
            return error;
        if (count > INT32_MAX)
            return CLYMQ_EPROTO;
        if (count == 0)
            return 0;
        if ((error = step_want(step, 1)))
            return error;
        types = step->data.ptr[step->at++];
        return compact_elements(step, (uint32_t)count, types >> 4, types & 0x0f, true, limit);
    default: /* list, set: up to 14 elements counted in the byte of the type */
        if ((error = step_want(step, 1)))
            return error;
        types = step->data.ptr[step->at++];
        count = types >> 4;
        if (count == 15 && (error = step_varint(step, &count)))
            return error;
        if (count > INT32_MAX)
            return CLYMQ_EPROTO;
        types &= 0x0f;
        return count ? compact_elements(step, (uint32_t)count, types, types, false, limit) : 0;
    }
}

static int compact_field(struct step *step, uint64_t limit, bool *ret_stop)
{
    uint8_t head = step->data.ptr[step->at++];
    if (head == COMPACT_STOP) {
        *ret_stop = true;
        return 0;
    }
    if (head >> 4 == 0) { /* the number in full, instead of the difference to the last one */
        uint64_t id;
        int error = step_varint(step, &id);
        if (error)
            return error;
    }
    uint8_t type = head & 0x0f;
    if (type == COMPACT_TRUE || type == COMPACT_FALSE)
        return 0; /* the type is the value */
    return compact_value(step, type, limit);
}

/* ---- the machine ---- */

void thrift_skip_push_value(struct thrift_scan *scan, uint8_t type)
{
    assert(scan->depth == 0);
    scan->levels[scan->depth++] = (struct thrift_level){.remaining = 1, .types = {type, type}};
}

void thrift_skip_push_struct(struct thrift_scan *scan)
{
    assert(scan->depth == 0);
    scan->levels[scan->depth++] = (struct thrift_level){.in_struct = true};
}

static int wait_for(uint64_t need, size_t limit, size_t *ret_need)
{
    if (need > limit)
        return CLYMQ_ETOOBIG;
    *ret_need = need;
    return CLYMQ_EAGAIN;
}

int thrift_skip_run(struct thrift_scan *scan, enum thrift_protocol protocol, struct bytes data, size_t limit,
                    size_t *ret_need)
{
    while (scan->depth > 0) {
        struct thrift_level *level = &scan->levels[scan->depth - 1];
        if (!level->in_struct && level->remaining == 0) {
            scan->depth--;
            continue;
        }
        if (scan->at >= data.len) /* beyond: inside a string; and each open level still takes a byte */
            return wait_for(scan->at + 1, limit, ret_need);

        struct step step = {.data = data, .at = scan->at};
        bool stop = false;
        int error;
        if (level->in_struct)
            error = protocol == THRIFT_BINARY ? binary_field(&step, limit, &stop)
                                              : compact_field(&step, limit, &stop);
        else
            error = protocol == THRIFT_BINARY ? binary_value(&step, level->types[level->turn], limit)
                                              : compact_value(&step, level->types[level->turn], limit);
        if (error == CLYMQ_EAGAIN)
            return wait_for(step.need, limit, ret_need);
        if (!error && step.at > limit)
            return CLYMQ_ETOOBIG;
        if (error)
            return error;

        scan->at = step.at;
        if (stop)
            scan->depth--;
        else if (!level->in_struct) {
            level->remaining--;
            level->turn ^= level->types[0] != level->types[1];
        }
        if (step.push) {
            if (scan->depth == THRIFT_DEPTH_MAX)
                return CLYMQ_EPROTO;
            scan->levels[scan->depth++] = step.level;
        }
    }
    if (scan->at > data.len)
        return wait_for(scan->at, limit, ret_need);
    return 0;
}
