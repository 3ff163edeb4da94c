/* push: one message to one partition. What passes (a full disk, a seal) is waited out in the partition; what
 * can never succeed is refused with ret=false and a sentence; what certainly was not stored because the
 * partition is not here (any more) is "partition remove", upon which clients ask the coordinator and send
 * again; all else is an exception. */
#define LOG_MODULE "broker"
#include "base/error.h"
#include "base/log.h"
#include "broker/handlers.h"
#include "broker/request.h"
#include "partition/partition.h"

struct push_request {
    struct request base;
    struct partition_push push;
    struct buf *message; /* a reference until it is given to the partition */
    size_t bytes;
};

static void answer(struct push_request *push, bool ret, const char *err)
{
    struct rpc_push_response response = {.ret = ret, .err = bytes_of_text(err)};

    request_answer(&push->base, &response, NULL);
}

static void finish(struct request *request)
{
    struct push_request *push = CONTAINER_OF(request, struct push_request, base);
    struct broker_metrics *metrics = &request->home->metrics;
    int error = request->error;

    if (!error) {
        metric_add(metrics->pushes, 1);
        metric_add(metrics->push_messages, 1);
        metric_add(metrics->push_bytes, (int64_t)push->bytes);
    }
    if (!request->call) { /* level 0: answered on receipt */
        if (error) {
            broker_metrics_error(metrics, error);
            log_limited(LOG_WARN, "a message pushed with ack 0 was lost: %s", error_sentence(error));
        }
    } else if (!error) {
        answer(push, true, "");
    } else if (error == CLYMQ_EPARTITION_REMOVED || error == CLYMQ_ENOT_LEADER) {
        answer(push, false, "partition remove");
    } else if (error == CLYMQ_EUNCERTAIN) {
        request_fail(request, "%s", error_sentence(error));
    } else if (error_retriable(error)) {
        request_fail(request, "the message was not stored: %s", error_sentence(error));
    } else {
        answer(push, false, error_sentence(error));
    }
    request_free(request);
}

static void release(struct request *request)
{
    buf_unref(CONTAINER_OF(request, struct push_request, base)->message);
}

static void on_done(struct partition_push *done)
{
    struct push_request *push = CONTAINER_OF(done, struct push_request, push);
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
    struct push_request *push = CONTAINER_OF(request, struct push_request, base);
    struct partition *partition = request_partition(owner, request);

    if (!partition)
        return;
    push->push.message = push->message;
    push->message = NULL;
    partition_push(partition, &push->push);
}

void handle_push(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_push_request arguments;
    struct push_request *push;

    if (!request_decode(call, &arguments))
        return;
    push = (struct push_request *)request_new(bs, call, sizeof(*push));
    if (!push)
        return;
    push->base.work = work;
    push->base.finish = finish;
    push->base.release = release;
    push->base.topic = arguments.topic;
    push->base.partition = arguments.partition;
    push->bytes = arguments.message.len;
    push->message = buf_ref(call->message);
    push->push = (struct partition_push){
        .ack = arguments.ack,
        .value = arguments.message.ptr ? arguments.message : bytes_of("", 0),
        .producer = arguments.producer,
        .session = arguments.session,
        .command_index = arguments.command_index,
        .done = on_done,
    };
    if (arguments.ack < -1 || arguments.ack > 1) {
        push->base.error = CLYMQ_EACK_LEVEL;
        finish(&push->base);
        return;
    }
    push->base.latency = bs->metrics.push_latency_us[arguments.ack + 1];
    if (!request_find(&push->base, ACTION_PUSH))
        return;
    if (arguments.ack == ACK_RECEIVED)
        answer(push, true, "");
    request_go(&push->base);
}
