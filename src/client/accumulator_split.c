/* Splitting a batch that a server found too big: its messages go on in two, each with its own outcome. */
#include <assert.h>

#include "base/mem.h"
#include "client/accumulator.h"

enum { RECORDS_MAX = 1 << 30 }; /* of a batch of our own, inflated */

int accumulator_read_headers(struct batch_record *record, struct batch_header_input **ret_headers)
{
    struct batch_header_input *headers = NULL;
    struct batch_record_header header;
    int count = record->header_count;
    if (count > 0 && !(headers = mem_calloc((size_t)count, sizeof(*headers))))
        return CLYMQ_ENOMEM;
    for (int i = 0; i < count && batch_header_next(record, &header) == 0; i++)
        headers[i] = (struct batch_header_input){header.key, header.value};
    *ret_headers = headers;
    return 0;
}

static int copy_record(struct batch_record *record, struct batch_builder *to)
{
    int count = record->header_count;
    struct batch_header_input *headers;
    int error = accumulator_read_headers(record, &headers);
    if (error)
        return error;
    error = batch_builder_add(to, record->timestamp_ms, record->key, record->value, headers, count);
    mem_free(headers);
    return error;
}

/* The first records go to one builder, the others to the next. */
static int copy_records(const struct accumulator_batch *batch, int first_count, struct batch_builder *first,
                        struct batch_builder *second)
{
    struct batch_reader reader;
    struct batch_record record;
    int error = batch_reader_begin(&reader, bytes_of(batch->data->data, batch->data->len), RECORDS_MAX);
    if (error)
        return error;
    int index = 0;
    for (; !error && index < batch->count && (error = batch_reader_next(&reader, &record)) == 0; index++)
        error = copy_record(&record, index < first_count ? first : second);
    batch_reader_end(&reader);
    return error;
}

static void waiters_move(struct accumulator_batch *from, int first_index, struct accumulator_batch *to)
{
    LIST_FOR_EACH_SAFE(at, &from->waiters) {
        struct accumulator_waiter *waiter = CONTAINER_OF(at, struct accumulator_waiter, link);
        if (waiter->index < first_index)
            continue;
        list_remove(&waiter->link);
        waiter->index -= first_index;
        list_push_back(&to->waiters, &waiter->link);
    }
}

/* A batch like this one, for its messages from first_index on; without them so far. */
static struct accumulator_batch *sibling_new(const struct accumulator_batch *batch, int first_index)
{
    struct accumulator_batch *sibling = mem_alloc(sizeof(*sibling));
    if (!sibling)
        return NULL;
    *sibling = *batch;
    sibling->data = NULL;
    sibling->builder = (struct batch_builder){0};
    sibling->count = batch->count - first_index;
    sibling->sequence += first_index;
    sibling->charged = 0;
    sibling->opaques = NULL;
    sibling->opaque_cap = 0;
    list_init(&sibling->link);
    list_init(&sibling->live);
    list_init(&sibling->lingering);
    list_init(&sibling->waiters);
    if (!batch->opaques)
        return sibling;
    sibling->opaques = mem_calloc((size_t)sibling->count, sizeof(*sibling->opaques));
    if (!sibling->opaques) {
        mem_free(sibling);
        return NULL;
    }
    sibling->opaque_cap = sibling->count;
    memcpy(sibling->opaques, batch->opaques + first_index,
           (size_t)sibling->count * sizeof(*sibling->opaques));
    return sibling;
}

/* A batch with so many bytes of records, uncompressed, was too big: later ones have half of them at most.
 * That stays above half of the server's limit also where one message is beyond it and what it is in is split
 * again and again, until it is alone; the first half's own bytes would not, since that may be one small
 * message. */
static void batch_bytes_learn(struct accumulator *accumulator, size_t refused)
{
    if (refused / 2 < accumulator->batch_bytes)
        accumulator->batch_bytes = refused / 2;
}

int accumulator_split(struct accumulator *accumulator, struct accumulator_batch *batch,
                      struct accumulator_batch **ret_second)
{
    assert(batch->closed && batch->data && batch->count > 1 && batch->dealt == 0 && !batch->targets);
    assert(!batch->calling && !batch->settled);
    int first_count = batch->count / 2;
    size_t guess = batch->data->len / 2;
    struct batch_builder first = {0};
    struct accumulator_batch *second = sibling_new(batch, first_count);
    int error = second ? batch_builder_init(&first, guess) : CLYMQ_ENOMEM;
    if (!error)
        error = batch_builder_init(&second->builder, guess);
    if (!error)
        error = copy_records(batch, first_count, &first, &second->builder);
    if (error) {
        batch_builder_free(&first);
        if (second) {
            batch_builder_free(&second->builder);
            mem_free(second->opaques);
            mem_free(second);
        }
        return error;
    }
    buf_unref(batch->data);
    batch->data = NULL;
    batch->builder = first;
    batch->count = first_count;
    batch_bytes_learn(accumulator, first.buf->len + second->builder.buf->len - 2 * BATCH_HEADER_SIZE);
    waiters_move(batch, first_count, second);
    /* Its neighbour has the same serial: a flush waits for both. */
    list_insert_before(batch->live.next, &second->live);
    accumulator->closed++;
    accumulator_recount(accumulator, batch);
    accumulator_recount(accumulator, second);
    *ret_second = second;
    return 0;
}
