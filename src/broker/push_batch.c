/* pushBatch: one whole record batch to one partition. It is checked here, on the connection's shard, so that
 * a costly batch burdens its sender's shard and not the partition's. Errors are numbers and sentences in the
 * answer. */
#define LOG_MODULE "broker"
#include "base/error.h"
#include "base/log.h"
#include "broker/handlers.h"
#include "broker/push_request.h"

/* A compressed batch is inflated to be checked, to at most this many times what a stored batch may be. */
enum { INFLATE_FACTOR = 8 };

static void answer(struct push_request *push, int error, int64_t base_offset, bool duplicate)
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
    struct push_request *push = CONTAINER_OF(request, struct push_request, base);
    int error = request->error;

    if (!error)
        push_request_count(push);
    if (request->call) {
        answer(push, error, push->push.base_offset, push->push.duplicate);
    } else if (error) { /* level 0: answered on receipt */
        broker_metrics_error(&request->home->metrics, error);
        log_limited(LOG_WARN, "a batch pushed with ack 0 was lost: %s", error_sentence(error));
    }
    request_free(request);
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
    struct push_request *push;
    struct batch_header header = {0};

    if (!request_decode(call, &arguments))
        return;
    push = push_request_new(bs, call, finish);
    if (!push)
        return;
    push->base.topic = arguments.topic;
    push->base.partition = arguments.partition;
    push->base.error = check(bs, &arguments, &header);
    push->bytes = arguments.batch.len;
    push->messages = header.record_count;
    push->push.ack = arguments.ack;
    push->push.batch = arguments.batch;
    push->push.base_offset = -1;
    if (push->base.error) {
        finish(&push->base);
        return;
    }
    if (!request_find(&push->base, ACTION_PUSH))
        return;
    if (arguments.ack == ACK_RECEIVED && push_request_may_answer_ahead(push))
        answer(push, 0, -1, false);
    request_go(&push->base);
}
