/* What the handlers of the coordinator's methods share: the call travels to shard 0, asks the coordinator,
 * and comes back with the outcome copied. */
#ifndef CLYMQ_BROKER_COORD_CALL_H
#define CLYMQ_BROKER_COORD_CALL_H

#include "broker/handlers.h"
#include "broker/request.h"

struct coord_call {
    struct request base;
    struct answer_ticket ticket;         /* of large answers */
    bool large;                          /* set before coord_call_go */
    char topic[256], partition[256];     /* NUL-terminated names; "" where the method has none */
    struct strbuf sentence;              /* of the failure; empty = the error's own */
    struct strbuf text;                  /* JSON */
    char address[320], broker_name[600]; /* of a leader */
    size_t count;
    void (*ask)(struct coord *coord, struct coord_call *coord_call);
    /* Arguments. */
    int8_t ack;
    uint32_t replicas, partitions;
    int64_t index;
    struct bytes config; /* view into the call's message */
};

/* The names that a method has; NULL: none of that kind. */
struct coord_call_names {
    const struct bytes *topic, *partition;
};
/* NULL: the call was answered (out of memory). */
struct coord_call *coord_call_new(struct broker_shard *bs, struct net_call *call);
/* Checks rights and names; then ask runs on shard 0 and ends with one of the callbacks below; finish answers
 * at home. */
void coord_call_go(struct coord_call *coord_call, enum action action, struct coord_call_names names,
                   void (*ask)(struct coord *coord, struct coord_call *coord_call),
                   void (*finish)(struct request *));

/* Callbacks for the coordinator's functions; ctx is the struct coord_call. */
void coord_call_on_done(void *ctx, int error, const char *sentence);
void coord_call_on_text(void *ctx, int error, const char *sentence, struct bytes json);
/* Takes the first location's leader; its error counts. */
void coord_call_on_leader(void *ctx, int error, const char *sentence, const struct coord_location *locations,
                          size_t count);
/* After a creation: waits until its partitions are in service, but not for long, so that a client that does
 * not ask where to push finds them. How that ends does not matter: they exist. */
void coord_call_on_created(void *ctx, int error, const char *sentence);
/* Ends the asking with this outcome (in callbacks of a handler's own). */
void coord_call_return(struct coord_call *coord_call, int error, const char *sentence);

/* Answers with the text in the place of the response's STRING field whose ptr is NULL and len is text.len,
 * and frees. Without a text: as it is. */
void coord_call_answer_text(struct coord_call *coord_call, const void *response);
/* The failure's sentence; "" on success. */
const char *coord_call_sentence(const struct coord_call *coord_call);
/* Answers any failure with an exception and frees; false when there is none. */
bool coord_call_failed(struct coord_call *coord_call);

#endif
