/* push: one message to one partition. What passes (a full disk, a seal) is waited out in the partition; what
 * can never succeed is refused with ret=false and a sentence; what certainly was not stored because the
 * partition is not here (any more), or the broker stops, is "partition remove", upon which clients ask the
 * coordinator and send again; all else is an exception. */
#define LOG_MODULE "broker"
#include "base/error.h"
#include "base/log.h"
#include "broker/handlers.h"
#include "broker/push_request.h"

static void answer(struct push_request *push, bool ret, const char *err)
{
    struct rpc_push_response response = {.ret = ret, .err = bytes_of_text(err)};

    request_answer(&push->base, &response, NULL);
}

static void finish(struct request *request)
{
    struct push_request *push = CONTAINER_OF(request, struct push_request, base);
    int error = request->error;

    if (!error)
        push_request_count(push);
    if (!request->call) { /* level 0: answered on receipt */
        if (error) {
            broker_metrics_error(&request->home->metrics, error);
            log_limited(LOG_WARN, "a message pushed with ack 0 was lost: %s", error_sentence(error));
        }
    } else if (!error) {
        answer(push, true, "");
    } else if (error == CLYMQ_EPARTITION_REMOVED || error == CLYMQ_ENOT_LEADER || error == CLYMQ_ESHUTDOWN) {
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

void handle_push(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_push_request arguments;
    struct push_request *push;

    if (!request_decode(call, &arguments))
        return;
    push = push_request_new(bs, call, finish);
    if (!push)
        return;
    push->base.topic = arguments.topic;
    push->base.partition = arguments.partition;
    push->bytes = arguments.message.len;
    push->messages = 1;
    push->push.ack = arguments.ack;
    push->push.value = arguments.message.ptr ? arguments.message : bytes_of("", 0);
    push->push.producer = arguments.producer;
    push->push.session = arguments.session;
    push->push.command_index = arguments.command_index;
    if (arguments.ack < -1 || arguments.ack > 1) {
        push->base.error = CLYMQ_EACK_LEVEL;
        finish(&push->base);
        return;
    }
    push->base.latency = bs->metrics.push_latency_us[arguments.ack + 1];
    if (!request_find(&push->base, ACTION_PUSH))
        return;
    if (arguments.ack == ACK_RECEIVED && push_request_may_answer_ahead(push))
        answer(push, true, "");
    request_go(&push->base);
}
