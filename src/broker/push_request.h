/* What push and pushBatch share: the request that takes messages to a partition and brings the outcome home.
 *
 * It keeps the message until it is freed, since topic and partition are views into it and, at level 0, the
 * call is gone by then. */
#ifndef CLYMQ_BROKER_PUSH_REQUEST_H
#define CLYMQ_BROKER_PUSH_REQUEST_H

#include "broker/request.h"
#include "partition/partition.h"

struct push_request {
    struct request base;
    struct partition_push push; /* its message is set when it is given to the partition */
    struct buf *message;
    size_t bytes; /* of the messages, for metrics */
    int32_t messages;
    size_t ahead; /* memory counted in home's pushes_ahead_bytes */
};

/* A zeroed request of the call, with work and release set. NULL: the call was answered. */
struct push_request *push_request_new(struct broker_shard *bs, struct net_call *call,
                                      void (*finish)(struct request *));
/* At home, before request_go, for level 0: whether the call may be answered now. What is so answered is no
 * longer counted with its connection, but held all the same; beyond max_waiting_bytes of it the answer has to
 * wait for the push's end. */
bool push_request_may_answer_ahead(struct push_request *push);
/* Counts a push that is stored. */
void push_request_count(struct push_request *push);

#endif
