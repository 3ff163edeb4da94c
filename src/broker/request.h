/* A request under way: it begins on its home (the shard of its connection), does its work on the shard that
 * owns the partition (or on shard 0, where the coordinator lives), and is answered at home.
 *
 * Each handler's own struct begins with struct request. Who touches it: home, until it is sent; the owner,
 * until it is returned; home again, which answers and frees it. One connection's requests for one partition
 * arrive at the owner in their order, since all of them take the same way. */
#ifndef CLYMQ_BROKER_REQUEST_H
#define CLYMQ_BROKER_REQUEST_H

#include "broker/authorize.h"
#include "broker/broker.h"

struct partition;

struct request {
    struct shard_message message;
    struct list link; /* in home's requests */
    struct broker_shard *home, *owner;
    struct net_call *call; /* NULL once answered */
    /* On the owner; ends with request_return. */
    void (*work)(struct broker_shard *owner, struct request *request);
    /* At home: answers (request_answer, request_fail) and frees (request_free). */
    void (*finish)(struct request *request);
    /* Gives back what the handler's struct holds; called by request_free. May be NULL. */
    void (*release)(struct request *request);
    struct bytes topic, partition; /* views into the call's message */
    uint64_t hash, began_ns;
    struct metric *latency; /* observed when answered; may be NULL */
    int error;              /* the outcome, for finish */
};

/* Decodes a call's argument struct, at most cap bytes. Otherwise the call was answered (malformed) and is
 * gone: false. */
bool request_decode(struct net_call *call, void *ret_arguments);
/* A zeroed struct of size that begins with struct request; the call's from now. NULL: the call was answered
 * (out of memory). */
struct request *request_new(struct broker_shard *bs, struct net_call *call, size_t size);
/* Frees it; a call that was not answered is answered with an internal error. */
void request_free(struct request *request);

/* Checks rights and names and finds the partition's owner. false: finish comes with error set when that is
 * not possible: CLYMQ_EDENIED, CLYMQ_ENAME; CLYMQ_ETOPIC_UNKNOWN, CLYMQ_EPARTITION_UNKNOWN where the
 * coordinator does not know the name; CLYMQ_EPARTITION_REMOVED where it does, but this broker does not serve
 * it (now). While partitions are being opened and this one is not in service yet, the request is freed, and
 * its call handled anew when it is. true: the partition is here, and the caller goes on with request_go
 * (having answered first, where that is asked for). */
bool request_find(struct request *request, enum action action);
void request_go(struct request *request);
/* The owner's partition, or NULL with request->error set and the request returned. */
struct partition *request_partition(struct broker_shard *owner, struct request *request);
/* On the owner: whether the partition is gone or going, so that nothing of the request is in any log. */
bool request_is_of_deleted(struct broker_shard *owner, const struct request *request);
/* From the owner: back home, where finish runs. */
void request_return(struct request *request);
/* Runs work on shard 0 (coordinator's methods). */
void request_go_to_coordinator(struct request *request);

/* At home. The request lives on until request_free. */
void request_answer(struct request *request, const void *response, struct net_payload *payload);
/* An exception with this sentence and request->error as its number. */
void request_fail(struct request *request, const char *format, ...) __attribute__((format(printf, 2, 3)));

static inline struct bytes sentence_of(const char *text)
{
    return bytes_of_text(text);
}

#endif
