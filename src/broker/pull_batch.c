/* pullBatch: record batches as stored, sent from the file without copying. It may wait for data; a wait ends
 * with data, at its time, with its connection (also when its client only sends no more), or when the broker
 * stops. */
#include "base/error.h"
#include "broker/handlers.h"
#include "broker/request.h"
#include "partition/partition.h"

struct pull_batch_request {
    struct request base;
    struct list wait; /* in home's waits */
    uint64_t connection;
    struct shard_message cancel;
    int cancel_error;
    bool cancel_sent; /* home: it is on its way; the request lives until it is back */
    bool finished;    /* home: answered, freed when cancel and payload are back */
    bool sending;     /* home: the range is being sent */
    bool pulling;     /* owner: hangs in the partition */
    bool queued;      /* owner: its turn is still to come */
    struct pull_turn turn;
    struct partition_pull pull;
};

static void free_if_over(struct pull_batch_request *pull)
{
    if (pull->finished && !pull->cancel_sent && !pull->sending)
        request_free(&pull->base);
}

static void on_sent(void *ctx)
{
    struct pull_batch_request *pull = ctx;

    pull->sending = false;
    free_if_over(pull);
}

static void release(struct request *request)
{
    struct pull_batch_request *pull = CONTAINER_OF(request, struct pull_batch_request, base);

    list_remove(&pull->wait);
    if (pull->pull.range.ref)
        block_range_release(&pull->pull.range);
}

static void finish(struct request *request)
{
    struct pull_batch_request *pull = CONTAINER_OF(request, struct pull_batch_request, base);
    const struct block_range *range = &pull->pull.range;
    int error = request->error;
    struct rpc_pull_batch_response response = {
        .error = error,
        .err = bytes_of_text(error ? error_sentence(error) : ""),
        .log_start = pull->pull.log_start,
        .high_watermark = pull->pull.watermark,
        .batches = {NULL, error ? 0 : range->len},
    };
    struct net_payload payload = {
        .file = range->file,
        .position = range->position,
        .len = range->len,
        .release = on_sent,
        .ctx = pull,
    };

    list_remove(&pull->wait);
    pull->finished = true;
    if (!error) {
        metric_add(request->home->metrics.pulls, 1);
        metric_add(request->home->metrics.pull_bytes, (int64_t)range->len);
    }
    pull->sending = !error && range->len > 0;
    if (pull->sending) {
        request_answer(request, &response, &payload); /* may end in on_sent, which may free */
        return;
    }
    response.batches = bytes_of("", 0);
    request_answer(request, &response, NULL);
    free_if_over(pull);
}

static void on_pulled(struct partition_pull *done)
{
    struct pull_batch_request *pull = CONTAINER_OF(done, struct pull_batch_request, pull);

    pull->pulling = false;
    if (broker_is_dead(pull->base.home->node))
        return;
    pull->base.error = done->error;
    if (done->error == CLYMQ_ESHUTDOWN && request_is_of_deleted(pull->base.owner, &pull->base))
        pull->base.error = CLYMQ_EPARTITION_REMOVED;
    request_return(&pull->base);
}

static void run_turn(struct pull_turn *turn)
{
    struct pull_batch_request *pull = CONTAINER_OF(turn, struct pull_batch_request, turn);
    struct partition *partition;

    if (broker_is_dead(pull->base.home->node))
        return;
    pull->queued = false;
    partition = request_partition(pull->base.owner, &pull->base);
    if (!partition)
        return;
    pull->pulling = true;
    partition_pull(partition, &pull->pull);
}

/* Some in one round: looking for a place in the log takes ten times as long as asking for it. */
static void work(struct broker_shard *owner, struct request *request)
{
    struct pull_batch_request *pull = CONTAINER_OF(request, struct pull_batch_request, base);

    pull->turn.run = run_turn;
    pull->queued = !pull_turns_take(&owner->batch_turns, &pull->turn);
    if (!pull->queued)
        run_turn(&pull->turn);
}

/* ---- ending a wait ---- */

static void cancel_on_owner(struct pull_batch_request *pull)
{
    if (pull->queued && !pull->cancel_error) { /* it does not wait once its turn comes */
        pull->pull.wait_ms = 0;
        return;
    }
    if (pull->queued) {
        list_remove(&pull->turn.link);
        pull->queued = false;
        pull->base.error = pull->cancel_error;
        request_return(&pull->base);
        return;
    }
    if (!pull->pulling)
        return;
    partition_pull_cancel(&pull->pull);
    if (!pull->cancel_error) { /* as if its time were over */
        pull->pull.wait_ms = 0;
        partition_pull(pull->pull.partition, &pull->pull);
        return;
    }
    pull->pulling = false;
    pull->base.error = pull->cancel_error;
    request_return(&pull->base);
}

static void run_cancel_back(struct shard *shard, struct shard_message *message)
{
    struct pull_batch_request *pull = CONTAINER_OF(message, struct pull_batch_request, cancel);

    if (broker_is_dead(pull->base.home->node))
        return;
    pull->cancel_sent = false;
    free_if_over(pull);
}

static void run_cancel(struct shard *shard, struct shard_message *message)
{
    struct pull_batch_request *pull = CONTAINER_OF(message, struct pull_batch_request, cancel);

    if (broker_is_dead(pull->base.home->node))
        return;
    cancel_on_owner(pull);
    pull->cancel.run = run_cancel_back;
    shard_send(pull->base.home->shard, &pull->cancel);
}

static void end_wait(struct pull_batch_request *pull, int error)
{
    list_remove(&pull->wait);
    pull->cancel_error = error;
    if (pull->base.owner == pull->base.home) {
        cancel_on_owner(pull);
        return;
    }
    pull->cancel_sent = true;
    pull->cancel.run = run_cancel;
    shard_send(pull->base.owner->shard, &pull->cancel);
}

static struct pull_batch_request *find_wait(struct list *bucket, uint64_t connection)
{
    LIST_FOR_EACH(item, bucket) {
        struct pull_batch_request *pull = CONTAINER_OF(item, struct pull_batch_request, wait);

        if (!connection || pull->connection == connection)
            return pull;
    }
    return NULL;
}

/* Answering one may end others (its connection breaks), so each is looked for anew. */
void pull_batch_end_waits(struct broker_shard *bs, uint64_t connection, int error)
{
    struct pull_batch_request *pull;

    for (unsigned i = 0; i < WAIT_BUCKETS; i++)
        while ((!connection || i == connection % WAIT_BUCKETS) &&
               (pull = find_wait(&bs->waits[i], connection)))
            end_wait(pull, error);
}

/* ---- the call ---- */

static int64_t between(int64_t low, int64_t value, int64_t high)
{
    return value < low ? low : value > high ? high : value;
}

void handle_pull_batch(struct broker_shard *bs, struct net_call *call)
{
    struct rpc_pull_batch_request arguments;
    struct pull_batch_request *pull;
    int64_t max_bytes;

    if (!request_decode(call, &arguments))
        return;
    pull = (struct pull_batch_request *)request_new(bs, call, sizeof(*pull));
    if (!pull)
        return;
    max_bytes = arguments.max_bytes > 0 ? arguments.max_bytes : PULL_BYTES_DEFAULT;
    max_bytes = between(1, max_bytes, PULL_BYTES_MAX);
    list_init(&pull->wait);
    pull->base.work = work;
    pull->base.finish = finish;
    pull->base.release = release;
    pull->base.topic = arguments.topic;
    pull->base.partition = arguments.partition;
    pull->connection = net_call_conn_id(call);
    pull->pull = (struct partition_pull){
        .offset = arguments.offset,
        .max_bytes = (size_t)max_bytes,
        .min_bytes = (size_t)between(0, arguments.min_bytes, max_bytes),
        .wait_ms = bs->draining ? 0 : between(0, arguments.wait_ms, bs->tuning.pull_wait_max_ms),
        .log_start = -1,
        .watermark = -1,
        .done = on_pulled,
    };
    if (!request_find(&pull->base, ACTION_PULL))
        return;
    if (pull->pull.wait_ms > 0)
        list_push_back(&bs->waits[pull->connection % WAIT_BUCKETS], &pull->wait);
    request_go(&pull->base);
}
