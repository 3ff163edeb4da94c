/* listOffset: the offset of a time, of the beginning (-2) or of the end (-1). */
#include "base/error.h"
#include "broker/handlers.h"
#include "broker/request.h"
#include "partition/partition.h"

struct list_offset_request {
    struct request base;
    int64_t timestamp_ms, offset;
};

static void finish(struct request *request)
{
    struct list_offset_request *list = CONTAINER_OF(request, struct list_offset_request, base);
    int error = request->error;
    struct rpc_list_offset_response response = {
        .error = error,
        .err = bytes_of_text(error ? error_sentence(error) : ""),
        .offset = error ? -1 : list->offset,
        .timestamp_ms = error ? -1 : list->timestamp_ms,
    };

    request_answer(request, &response, NULL);
    request_free(request);
}

static void work(struct broker_shard *owner, struct request *request)
{
    struct list_offset_request *list = CONTAINER_OF(request, struct list_offset_request, base);
    struct partition *partition = request_partition(owner, request);

    if (!partition)
        return;
    request->error = partition_find_offset(partition, list->timestamp_ms, &list->offset, &list->timestamp_ms);
    request_return(request);
}

void handle_list_offset(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_list_offset_request arguments;
    struct list_offset_request *list;

    if (!request_decode(call, &arguments))
        return;
    list = (struct list_offset_request *)request_new(bs, call, sizeof(*list));
    if (!list)
        return;
    list->base.work = work;
    list->base.finish = finish;
    list->base.topic = arguments.topic;
    list->base.partition = arguments.partition;
    list->timestamp_ms = arguments.timestamp_ms;
    if (request_find(&list->base, ACTION_PULL))
        request_go(&list->base);
}
