/* The way of a request between shards, and its end. Names that no partition here has are asked about at the
 * coordinator, so that a client is told for certain whether to create the thing or to look for it elsewhere.
 */
#include "broker/request.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "broker/hosted.h"

enum { ASK_MS = 1 };

bool request_decode(struct net_call *call, void *ret_arguments)
{
    int error = thrift_decode(call->form.protocol, call->args, 1, call->method->request, ret_arguments);

    if (!error)
        return true;
    net_call_fail(call, THRIFT_PROTOCOL_ERROR, CLYMQ_EPROTO, "malformed arguments of %.*s",
                  (int)call->method->name.len, call->method->name.ptr);
    return false;
}

struct request *request_new(struct broker_shard *bs, struct net_call *call, size_t size)
{
    struct request *request = mem_zalloc(size);

    if (!request) {
        broker_metrics_error(&bs->metrics, CLYMQ_ENOMEM);
        net_call_fail(call, THRIFT_INTERNAL_ERROR, CLYMQ_ENOMEM, "%s", error_sentence(CLYMQ_ENOMEM));
        return NULL;
    }
    request->home = bs;
    request->call = call;
    request->began_ns = io_loop_now_ns(bs->shard->loop);
    request->latency = bs->metrics.latency_us[call->method->id];
    list_push_back(&bs->requests, &request->link);
    return request;
}

void request_free(struct request *request)
{
    if (request->call && !broker_is_dead(request->home->node)) {
        if (!request->error)
            request->error = CLYMQ_ECANCELED;
        request_fail(request, "%s", error_sentence(request->error));
    }
    if (request->release)
        request->release(request);
    list_remove(&request->link);
    mem_free(request);
}

/* ---- between shards ---- */

static void run_finish(struct shard *shard, struct shard_message *message)
{
    struct request *request = CONTAINER_OF(message, struct request, message);

    if (!broker_is_dead(request->home->node))
        request->finish(request);
}

static void run_work(struct shard *shard, struct shard_message *message)
{
    struct request *request = CONTAINER_OF(message, struct request, message);

    if (!broker_is_dead(request->home->node))
        request->work(request->owner, request);
}

void request_return(struct request *request)
{
    if (broker_is_dead(request->home->node))
        return;
    if (request->owner == request->home || !request->owner) {
        request->finish(request);
        return;
    }
    request->message.run = run_finish;
    shard_send(request->home->shard, &request->message);
}

void request_go(struct request *request)
{
    if (request->owner == request->home) {
        request->work(request->owner, request);
        return;
    }
    request->message.run = run_work;
    shard_send(request->owner->shard, &request->message);
}

void request_go_to_coordinator(struct request *request)
{
    request->owner = &request->home->node->shard[0];
    request_go(request);
}

/* ---- finding the partition ---- */

static void on_asked(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                     size_t count)
{
    struct request *request = ctx;

    if (error == CLYMQ_ETOPIC_UNKNOWN || error == CLYMQ_EPARTITION_UNKNOWN)
        request->error = error;
    else
        request->error = CLYMQ_EPARTITION_REMOVED;
    request_return(request);
}

static void ask_coordinator(struct broker_shard *owner, struct request *request)
{
    char topic[256], partition[256];

    if (!owner->node->coord) {
        request->error = CLYMQ_EPARTITION_REMOVED;
        request_return(request);
        return;
    }
    snprintf(topic, sizeof(topic), "%.*s", (int)request->topic.len, request->topic.ptr);
    snprintf(partition, sizeof(partition), "%.*s", (int)request->partition.len, request->partition.ptr);
    coord_find_leaders(owner->node->coord, topic, partition, ASK_MS, on_asked, request);
}

static bool refuse(struct request *request, int error)
{
    request->error = error;
    request->owner = NULL;
    request->finish(request);
    return false;
}

/* The handler begins again then. */
static void wait_for_partition(struct request *request)
{
    struct broker_shard *home = request->home;
    struct net_call *call = request->call;
    uint64_t hash = request->hash;

    request->call = NULL;
    request_free(request);
    broker_wait_for_partition(home, hash, call);
}

bool request_find(struct request *request, enum action action)
{
    struct broker_shard *home = request->home;
    const struct catalog_route *route;
    int error = authorize(&request->call->principal, action, request->topic);

    if (error)
        return refuse(request, error);
    if (name_check(request->topic) || name_check(request->partition))
        return refuse(request, CLYMQ_ENAME);
    request->hash = catalog_hash(request->topic, request->partition);
    route = catalog_find(&home->catalog, request->topic, request->partition, request->hash);
    if (home->phase == BROKER_OPENING && !hosted_is_decided(route)) {
        wait_for_partition(request);
        return false;
    }
    if (route) {
        request->owner = &home->node->shard[route->owner];
        net_call_is_for(request->call, request->owner->shard);
        return true;
    }
    request->work = ask_coordinator;
    request_go_to_coordinator(request);
    return false;
}

struct partition *request_partition(struct broker_shard *owner, struct request *request)
{
    struct catalog_route *route =
        catalog_find(&owner->catalog, request->topic, request->partition, request->hash);
    struct hosted *hosted = route ? route->hosted : NULL;

    if (hosted && hosted->serving)
        return hosted->partition;
    /* One that could not be opened: the log says why, and the operator has to act. */
    request->error = hosted && hosted->error ? CLYMQ_ELOG_FAILED : CLYMQ_EPARTITION_REMOVED;
    request_return(request);
    return NULL;
}

bool request_is_of_deleted(struct broker_shard *owner, const struct request *request)
{
    const struct catalog_route *route =
        catalog_find(&owner->catalog, request->topic, request->partition, request->hash);

    return !route || !route->hosted || route->hosted->deleted;
}

/* ---- the end ---- */

static void observe(struct request *request)
{
    if (request->latency)
        metric_observe(request->latency,
                       (io_loop_now_ns(request->home->shard->loop) - request->began_ns) / 1000);
    broker_metrics_error(&request->home->metrics, request->error);
}

void request_answer(struct request *request, const void *response, struct net_payload *payload)
{
    struct net_call *call = request->call;

    request->call = NULL;
    observe(request);
    net_call_answer(call, response, payload);
}

void request_fail(struct request *request, const char *format, ...)
{
    struct net_call *call = request->call;
    char text[1024];
    va_list list;

    request->call = NULL;
    observe(request);
    va_start(list, format);
    vsnprintf(text, sizeof(text), format, list);
    va_end(list);
    net_call_fail(call, THRIFT_INTERNAL_ERROR, request->error, "%s", text);
}
