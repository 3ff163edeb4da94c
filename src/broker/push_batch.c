/* pushBatch: one whole record batch to one partition. It is checked here, on the connection's shard, so that
 * a costly batch burdens its sender's shard and not the partition's. Errors are numbers and sentences in the
 * answer. */
#define LOG_MODULE "broker"
#include "base/error.h"
#include "base/log.h"
#include "broker/handlers.h"
#include "broker/request.h"
#include "partition/partition.h"

/* A compressed batch is inflated to be checked, to at most this many times what a stored batch may be. */
enum { INFLATE_FACTOR = 8 };

struct push_batch_request {
    struct request base;
    struct partition_push push;
    struct buf *message; /* a reference until it is given to the partition */
    size_t bytes;
    int32_t records;
};

static void answer(struct push_batch_request *push, int error, int64_t base_offset, bool duplicate)
{
    struct rpc_push_batch_response response = {
        .error = error,
        .err = bytes_of_text(error ? error_sentence(error) : ""),
        .base_offset = error ? -1 : base_offset,
        .duplicate = duplicate,
    };

    request_answer(&push->base, &response, NULL);
}

static void finish(struct request *request)
{
    struct push_batch_request *push = CONTAINER_OF(request, struct push_batch_request, base);
    struct broker_metrics *metrics = &request->home->metrics;
    int error = request->error;

    if (!error) {
        metric_add(metrics->pushes, 1);
        metric_add(metrics->push_messages, push->records);
        metric_add(metrics->push_bytes, (int64_t)push->bytes);
    }
    if (request->call) {
        answer(push, error, push->push.base_offset, push->push.duplicate);
    } else if (error) { /* level 0: answered on receipt */
        broker_metrics_error(metrics, error);
        log_limited(LOG_WARN, "a batch pushed with ack 0 was lost: %s", error_sentence(error));
    }
    request_free(request);
}

static void release(struct request *request)
{
    buf_unref(CONTAINER_OF(request, struct push_batch_request, base)->message);
}

static void on_done(struct partition_push *done)
{
    struct push_batch_request *push = CONTAINER_OF(done, struct push_batch_request, push);
    struct request *request = &push->base;

    if (broker_is_dead(request->home->node))
        return;
    request->error = done->error;
    if ((done->error == CLYMQ_EUNCERTAIN || done->error == CLYMQ_ESHUTDOWN) &&
        request_is_of_deleted(request->owner, request))
        request->error = CLYMQ_EPARTITION_REMOVED;
    request_return(request);
}

static void work(struct broker_shard *owner, struct request *request)
{
    struct push_batch_request *push = CONTAINER_OF(request, struct push_batch_request, base);
    struct partition *partition = request_partition(owner, request);

    if (!partition)
        return;
    push->push.message = push->message;
    push->message = NULL;
    partition_push(partition, &push->push);
}

static int check(const struct broker_shard *bs, const struct rpc_push_batch_request *arguments,
                 struct batch_header *ret_header)
{
    size_t max = (size_t)bs->tuning.max_batch_bytes;

    if (arguments->ack < -1 || arguments->ack > 1)
        return CLYMQ_EACK_LEVEL;
    if (arguments->batch.len > max)
        return CLYMQ_ETOOBIG;
    return batch_validate(arguments->batch, (uint32_t)max, max * INFLATE_FACTOR, ret_header);
}

void handle_push_batch(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_push_batch_request arguments;
    struct push_batch_request *push;
    struct batch_header header = {0};

    if (!request_decode(call, &arguments))
        return;
    push = (struct push_batch_request *)request_new(bs, call, sizeof(*push));
    if (!push)
        return;
    push->base.work = work;
    push->base.finish = finish;
    push->base.release = release;
    push->base.topic = arguments.topic;
    push->base.partition = arguments.partition;
    push->base.error = check(bs, &arguments, &header);
    push->bytes = arguments.batch.len;
    push->records = header.record_count;
    push->message = buf_ref(call->message);
    push->push = (struct partition_push){
        .ack = arguments.ack,
        .batch = arguments.batch,
        .base_offset = -1,
        .done = on_done,
    };
    if (push->base.error) {
        finish(&push->base);
        return;
    }
    if (!request_find(&push->base, ACTION_PUSH))
        return;
    if (arguments.ack == ACK_RECEIVED)
        answer(push, 0, -1, false);
    request_go(&push->base);
}
