/* pull: messages of one partition as the JSON array of the RPC contract, for PSB_PULL. Answers at once.
 *
 * The owner reads batches from the log, takes the records out of them (control batches skipped, compressed
 * ones inflated) and writes the array; it asks the partition again until the array is full or the committed
 * messages end. The array ends before Msgs exceeds 1 MiB (but for a single longer message) and before a gap
 * would make the span of offsets exceed 1,000, since original clients allocate by that span. */
#include <inttypes.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "broker/handlers.h"
#include "broker/json_write.h"
#include "broker/request.h"
#include "broker/subscription_option.h"
#include "partition/partition.h"
#include "wire/batch.h"

enum {
    COUNT_DEFAULT = 10,
    COUNT_MAX = 127, /* Size is an i8 */
    SPAN_MAX = 1000,
    FIRST_READ = 64 << 10,
    NEXT_READ = 512 << 10,
    INFLATE_FACTOR = 8, /* as pushBatch's */
};

struct pull_request {
    struct request base;
    struct answer_ticket ticket;
    struct pull_turn turn; /* at the owner */
    size_t msgs_max;       /* of Msgs, but for a single longer message */
    struct partition_pull pull;
    int64_t asked;       /* the client's offset */
    int64_t next;        /* the next offset to look for */
    int64_t first, last; /* of the messages in the array */
    int64_t log_start, watermark;
    int count, wanted;
    bool full;
    size_t max_batch;
    uint64_t bytes; /* of the messages */
    struct strbuf msgs;
};

static void release(struct request *request)
{
    struct pull_request *pull = CONTAINER_OF(request, struct pull_request, base);

    strbuf_free(&pull->msgs);
    answer_gate_leave(&request->home->answer_gate, &pull->ticket);
}

static void on_sent(void *ctx)
{
    struct pull_request *pull = ctx;

    request_free(&pull->base);
}

static void fail(struct pull_request *pull, int error)
{
    if (error == CLYMQ_EOFFSET_RANGE)
        request_fail(&pull->base,
                     "offset %" PRId64 " is out of range: the partition begins at %" PRId64
                     " and its next message gets %" PRId64,
                     pull->asked, pull->log_start, pull->watermark);
    else if (error == CLYMQ_EPARTITION_REMOVED)
        request_fail(&pull->base, "%s", error_sentence(CLYMQ_ENOT_LEADER));
    else
        request_fail(&pull->base, "%s", error_sentence(error));
}

static void count(struct pull_request *pull)
{
    struct broker_metrics *metrics = &pull->base.home->metrics;

    metric_add(metrics->pulls, 1);
    metric_add(metrics->pull_messages, pull->count);
    metric_add(metrics->pull_bytes, (int64_t)pull->bytes);
}

static void finish(struct request *request)
{
    struct pull_request *pull = CONTAINER_OF(request, struct pull_request, base);
    int64_t before = pull->asked > INT64_MIN ? pull->asked - 1 : INT64_MIN;
    struct rpc_pull_response response = {
        .msgs = {NULL, pull->msgs.len},
        .ret = true,
        .start_index = pull->count ? pull->first : before,
        .end_index = pull->count ? pull->last : before,
        .size = (int8_t)pull->count,
        .err = BYTES_LITERAL("ok"),
    };
    struct net_payload payload = {.release = on_sent, .ctx = pull};
    struct buf *msgs = request->error ? NULL : buf_new(pull->msgs.len);

    if (!request->error && !msgs)
        request->error = CLYMQ_ENOMEM;
    if (request->error) {
        fail(pull, request->error);
        request_free(request);
        return;
    }
    count(pull);
    memcpy(msgs->data, pull->msgs.data, pull->msgs.len);
    msgs->len = pull->msgs.len;
    strbuf_free(&pull->msgs);
    answer_gate_made(&request->home->answer_gate, &pull->ticket, msgs->len);
    payload.slice = (struct slice){msgs->data, msgs->len, msgs};
    request_answer(request, &response, &payload); /* on_sent frees it, perhaps at once */
}

/* ---- the array ---- */

/* Bytes around topic, partition and message:
 * {"index":-9223372036854775808,"size":0,"topic_name":,"part_name":,"msg":}, */
enum { ELEMENT_OVERHEAD = 80 };

static void add_message(struct pull_request *pull, const struct batch_record *record)
{
    const struct request *request = &pull->base;
    size_t size = ELEMENT_OVERHEAD + 6 * (request->topic.len + request->partition.len) +
                  json_base64_size(record->value.len);

    if (pull->count &&
        (pull->msgs.len + size + 1 > pull->msgs_max || record->offset - pull->first >= SPAN_MAX)) {
        pull->full = true;
        return;
    }
    strbuf_printf(&pull->msgs, "%s{\"index\":%" PRId64 ",\"size\":0,\"topic_name\":", pull->count ? "," : "",
                  record->offset);
    json_write_string(&pull->msgs, request->topic);
    strbuf_append_text(&pull->msgs, ",\"part_name\":");
    json_write_string(&pull->msgs, request->partition);
    strbuf_append_text(&pull->msgs, ",\"msg\":");
    json_write_base64(&pull->msgs, record->value);
    strbuf_append_text(&pull->msgs, "}");
    if (!pull->count)
        pull->first = record->offset;
    pull->last = record->offset;
    pull->bytes += record->value.len;
    pull->full = ++pull->count == pull->wanted;
}

static int add_batch(struct pull_request *pull, const struct batch_header *header, struct bytes batch)
{
    struct batch_reader reader;
    struct batch_record record;
    int error;

    if (batch_is_control(header) || batch_last_offset(header) < pull->next)
        return 0;
    error = batch_reader_begin(&reader, batch, pull->max_batch * INFLATE_FACTOR);
    if (error)
        return error;
    while (!pull->full && !(error = batch_reader_next(&reader, &record)))
        if (record.offset >= pull->next)
            add_message(pull, &record);
    batch_reader_end(&reader);
    return error == CLYMQ_ENOENT ? 0 : error;
}

static int add_range(struct pull_request *pull, const struct block_range *range)
{
    uint8_t *data MEM_CLEANUP = mem_alloc(range->len);
    struct bytes rest = {data, range->len};
    struct batch_header header;
    ssize_t got;
    int error;

    if (!data)
        return CLYMQ_ENOMEM;
    got = io_file_pread(range->file, data, range->len, range->position);
    if (got < 0)
        return (int)got;
    if ((size_t)got != range->len)
        return CLYMQ_EIO;
    while (rest.len && !pull->full) {
        if (batch_check(rest, UINT32_MAX, &header))
            return CLYMQ_ECORRUPT;
        error = add_batch(pull, &header, bytes_of(rest.ptr, header.size));
        if (error)
            return error == CLYMQ_ENOMEM ? error : CLYMQ_ECORRUPT;
        if (batch_last_offset(&header) >= pull->next)
            pull->next = batch_last_offset(&header) + 1;
        rest = bytes_of(rest.ptr + header.size, rest.len - header.size);
    }
    return pull->msgs.failed ? CLYMQ_ENOMEM : 0;
}

/* ---- reading ---- */

static void end(struct pull_request *pull, int error)
{
    /* What was read before a damaged place is given; the next pull, at that place, gets the error. */
    if (error && error != CLYMQ_ENOMEM && pull->count)
        error = 0;
    strbuf_append_text(&pull->msgs, "]");
    pull->base.error = error ? error : pull->msgs.failed ? CLYMQ_ENOMEM : 0;
    request_return(&pull->base);
}

static void run_turn(struct pull_turn *turn)
{
    struct pull_request *pull = CONTAINER_OF(turn, struct pull_request, turn);
    struct partition *partition;

    if (broker_is_dead(pull->base.home->node))
        return;
    partition = request_partition(pull->base.owner, &pull->base);
    if (partition)
        partition_pull(partition, &pull->pull);
}

static void take_turn(struct pull_request *pull)
{
    if (pull_turns_take(&pull->base.owner->pull_turns, &pull->turn))
        run_turn(&pull->turn);
}

static void read_on(struct pull_request *pull)
{
    pull->pull.offset = pull->next;
    pull->pull.max_bytes = NEXT_READ;
    take_turn(pull);
}

static void on_pulled(struct partition_pull *done)
{
    struct pull_request *pull = CONTAINER_OF(done, struct pull_request, pull);
    bool empty = done->range.len == 0;
    int error = done->error;

    pull_turns_spend(&pull->base.owner->pull_turns, error ? 0 : done->range.len);
    if (!error && !empty)
        error = add_range(pull, &done->range);
    if (done->range.ref)
        block_range_release(&done->range);
    if (broker_is_dead(pull->base.home->node))
        return;
    pull->log_start = done->log_start;
    pull->watermark = done->watermark;
    /* What stood there is gone (retention): the next message that is there is the log's first. */
    if (error == CLYMQ_EOFFSET_RANGE && pull->next < pull->log_start) {
        pull->next = pull->log_start;
        read_on(pull);
        return;
    }
    if (error == CLYMQ_ESHUTDOWN && request_is_of_deleted(pull->base.owner, &pull->base))
        error = CLYMQ_EPARTITION_REMOVED;
    if (error || empty || pull->full || pull->next >= pull->watermark) {
        end(pull, error);
        return;
    }
    read_on(pull);
}

static void work(struct broker_shard *owner, struct request *request)
{
    struct pull_request *pull = CONTAINER_OF(request, struct pull_request, base);

    pull->max_batch = (size_t)owner->tuning.max_batch_bytes;
    pull->turn.run = run_turn;
    strbuf_append_text(&pull->msgs, "[");
    take_turn(pull);
}

static void run(struct answer_ticket *ticket)
{
    struct pull_request *pull = CONTAINER_OF(ticket, struct pull_request, ticket);

    pull->msgs_max = ticket->bytes;
    if (net_call_is_abandoned(pull->base.call))
        request_free(&pull->base);
    else
        request_go(&pull->base);
}

void handle_pull(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_pull_request arguments;
    struct pull_request *pull;

    if (!request_decode(call, &arguments))
        return;
    if (subscription_option_refused(call, arguments.option))
        return;
    pull = (struct pull_request *)request_new(bs, call, sizeof(*pull));
    if (!pull)
        return;
    pull->base.work = work;
    pull->base.finish = finish;
    pull->base.release = release;
    pull->base.topic = arguments.topic;
    pull->base.partition = arguments.partition;
    pull->asked = pull->next = arguments.offset;
    pull->wanted = arguments.size <= 0 ? COUNT_DEFAULT : arguments.size; /* an i8: at most COUNT_MAX */
    pull->pull =
        (struct partition_pull){.offset = arguments.offset, .max_bytes = FIRST_READ, .done = on_pulled};
    pull->ticket.run = run;
    if (!request_find(&pull->base, ACTION_PULL))
        return;
    if (answer_gate_enter(&bs->answer_gate, net_call_conn_id(call), &pull->ticket)) {
        pull->base.error = CLYMQ_ENOMEM;
        finish(&pull->base);
    }
}
