/* The way of a push to its partition and back. */
#include "broker/push_request.h"

#include "base/error.h"

static void release(struct request *request)
{
    struct push_request *push = CONTAINER_OF(request, struct push_request, base);

    buf_unref(push->message);
    request->home->pushes_ahead_bytes -= push->ahead;
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
    push->push.message = buf_ref(push->message);
    partition_push(partition, &push->push);
}

struct push_request *push_request_new(struct broker_shard *bs, struct net_call *call,
                                      void (*finish)(struct request *))
{
    struct push_request *push = (struct push_request *)request_new(bs, call, sizeof(*push));

    if (!push)
        return NULL;
    push->base.work = work;
    push->base.finish = finish;
    push->base.release = release;
    push->message = buf_ref(call->message);
    push->push.done = on_done;
    return push;
}

bool push_request_may_answer_ahead(struct push_request *push)
{
    struct broker_shard *home = push->base.home;
    size_t held = sizeof(*push) + sizeof(*push->message) + push->message->cap;

    if (home->pushes_ahead_bytes + held > (uint64_t)home->tuning.max_waiting_bytes)
        return false;
    home->pushes_ahead_bytes += held;
    push->ahead = held;
    return true;
}

void push_request_count(struct push_request *push)
{
    struct broker_metrics *metrics = &push->base.home->metrics;

    metric_add(metrics->pushes, 1);
    metric_add(metrics->push_messages, push->messages);
    metric_add(metrics->push_bytes, (int64_t)push->bytes);
}
