/* The core of libclymq: metadata cache, links to servers, producers and consumers, all driven by events on
 * one io_loop.
 *
 * Nothing here blocks, makes threads, or reads a clock or random numbers except from the loop, so that the
 * same code runs in the simulator. Everything belongs to the loop's thread, except what is said to run "under
 * the lock": a producer's accumulator and a consumer's fetched chunks may be reached by other threads (the
 * public API's) while they hold the lock that the config's lock/unlock functions take; without such functions
 * (simulator, tests) all is one thread.
 *
 * Callbacks run on the loop's thread, without the lock unless said otherwise. Producers and consumers are
 * freed before their core. Freeing is allowed after the loop's simulated process has crashed. */
#ifndef CLYMQ_CLIENT_CORE_H
#define CLYMQ_CLIENT_CORE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "clymq.h"
#include "io/loop.h"
#include "net/link.h"
#include "wire/batch.h"

/* ---- core ---- */

struct core;

struct core_config {
    const char *coordinators; /* "HOST:PORT[,HOST:PORT…]"; copied; the port may be left out (7878) */
    int64_t request_timeout_ms, connect_timeout_ms;
    int64_t retry_backoff_ms, retry_backoff_max_ms; /* doubles from one to the other, with jitter */
    int64_t metadata_max_age_ms;
    int64_t max_message_bytes;
};
void core_config_defaults(struct core_config *config);
/* 0, CLYMQ_ENOMEM, or CLYMQ_EINVAL for a bad list of coordinators. */
int core_check_coordinators(const char *coordinators);
int core_new(struct io_loop *loop, const struct core_config *config, struct core **ret_core);
void core_free(struct core *core); /* NULL is allowed */

/* ---- calls that find their server and are tried again until one answers ---- */

/* For unreachable_ms, where somebody waits: a server that answers slowly is worth waiting for, one that is
 * not there is soon told of. */
enum { CORE_UNREACHABLE_MS = 8000 };

/* Embedded in the caller's struct, zeroed but for what the caller sets. Exactly one done, never from inside
 * core_call_start; none after core_call_cancel. Where an attempt broke off half-way the call is made again: a
 * creation may then be answered with CLYMQ_EEXIST, a deletion with "unknown". */
struct core_call {
    enum rpc_method_id method;
    const void *request; /* the method's request struct; it and its views stay valid until done */
    /* Where to: the leader of this partition, or, both NULL, a coordinator. */
    const char *topic, *partition;
    int64_t timeout_ms;     /* for all attempts together; 0 = request_timeout_ms */
    int64_t unreachable_ms; /* the same while no server could even be connected to; 0 = timeout_ms */
    /* error: 0, the server's error number, or why no server answered. response: the method's response struct,
     * valid during the callback, NULL without an answer. sentence: what happened and what to do; "" on
     * success. */
    void (*done)(struct core_call *call, int error, const void *response, const char *sentence);
    void *ctx;
    /* the core's */
    struct core *core;
    struct list link;
    struct io_timer timer;
    uint64_t deadline_ns, unreachable_ns;
    bool reached;
    struct core_attempt *attempt; /* under way; NULL = waiting for the timer */
    struct core_topic *route;     /* of a partition's call */
    uint64_t start_version,
        route_version; /* of the metadata: at the start, and when it did not know the partition */
    unsigned attempts, waits, unknown;
    int last_error;
    char sentence[384];
};
int core_call_start(struct core *core, struct core_call *call); /* 0 or CLYMQ_ENOMEM (done is not called) */
void core_call_cancel(struct core_call *call);                  /* harmless when not under way */

/* ---- producer ---- */

struct core_producer;

struct core_producer_config {
    int8_t ack;
    int64_t linger_ms, batch_bytes, buffer_bytes, delivery_timeout_ms;
    int compression, compression_level; /* enum batch_compression */
    unsigned max_in_flight;             /* batches per partition, 1–5 */
    bool idempotence;
    /* Once for every accepted message, in order within a partition. May be NULL. error as clymq_delivery_cb.
     */
    void (*on_delivery)(void *ctx, int error, const clymq_message *message);
    void *delivery_ctx;
    /* Other threads call core_producer_add: see above. wake: under the lock; core_producer_kick shall be
     * called soon on the loop's thread. on_progress: under the lock; a batch was settled or room was made.
     * All NULL where there is one thread. */
    void (*lock)(void *ctx);
    void (*unlock)(void *ctx);
    void (*wake)(void *ctx);
    void (*on_progress)(void *ctx);
    void *ctx;
};
void core_producer_config_defaults(struct core_producer_config *config);
/* 0, CLYMQ_ENOMEM, CLYMQ_EINVAL for a value out of range, CLYMQ_EACK_LEVEL. */
int core_producer_new(struct core *core, const struct core_producer_config *config,
                      struct core_producer **ret_producer);
/* What has no outcome yet is told with CLYMQ_ECANCELED (never sent) or CLYMQ_EUNCERTAIN. */
void core_producer_free(struct core_producer *producer);
/* Loop's thread: takes over what was added, sends what is due. */
void core_producer_kick(struct core_producer *producer);

/* Somebody waits for one message; embedded by the waiter. Filled in under the lock. */
struct accumulator_waiter {
    struct list link;
    int index; /* in its batch */
    bool done;
    int error;
    int64_t offset; /* -1 where not known */
};

/* Under the lock, from here to core_producer_pending. */

/* Copies one message in. message->timestamp_ms and the topic's name are given. waiter may be NULL; with one
 * the message is sent without lingering. CLYMQ_EQUEUE_FULL; CLYMQ_ENAME, CLYMQ_ETOOBIG, CLYMQ_ENOMEM;
 * CLYMQ_EINVAL for a header without key; CLYMQ_ESHUTDOWN while the producer is being freed. */
int core_producer_add(struct core_producer *producer, const clymq_message *message,
                      struct accumulator_waiter *waiter);
/* Whether a message like the one refused last would be accepted now. */
bool core_producer_has_room(struct core_producer *producer);
/* Sends what is accumulated without lingering; the mark for core_producer_is_flushed. */
uint64_t core_producer_flush(struct core_producer *producer);
/* Whether everything accepted before that flush has its outcome. */
bool core_producer_is_flushed(const struct core_producer *producer, uint64_t mark);
/* Memory held by messages without outcome. */
size_t core_producer_pending_bytes(const struct core_producer *producer);
/* Messages accepted and not settled. */
uint64_t core_producer_pending(const struct core_producer *producer);

/* ---- consumer ---- */

struct core_consumer;

struct core_consumer_config {
    int64_t fetch_max_bytes, fetch_min_bytes, fetch_wait_ms, buffer_bytes;
    /* As in the producer. on_ready: under the lock; core_consumer_next may have something. wake:
     * core_consumer_kick. */
    void (*lock)(void *ctx);
    void (*unlock)(void *ctx);
    void (*wake)(void *ctx);
    void (*on_ready)(void *ctx);
    void *ctx;
};
void core_consumer_config_defaults(struct core_consumer_config *config);
int core_consumer_new(struct core *core, const struct core_consumer_config *config,
                      struct core_consumer **ret_consumer);
void core_consumer_free(struct core_consumer *consumer);
void core_consumer_kick(struct core_consumer *consumer);
/* Begins to read a partition, or goes on elsewhere in it. at: an offset, CLYMQ_OFFSET_BEGINNING or _END, or
 * with by_time a time. done: once, when the place is found (position), later than this call. 0 or an error at
 * once (done is not called). */
int core_consumer_assign(struct core_consumer *consumer, const char *topic, const char *partition, int64_t at,
                         bool by_time,
                         void (*done)(void *ctx, int error, int64_t position, const char *sentence),
                         void *ctx);
/* From now on the topic's partitions that are not assigned, those made later above all, are assigned by
 * themselves, from their beginning. 0 or CLYMQ_ENOMEM. */
int core_consumer_follow(struct core_consumer *consumer, const char *topic);
/* The reader's side, one thread at a time, without the lock (it is taken inside). 1: *ret_message, valid
 * until the next call; 0: nothing now; or an error of one partition, whose name *ret_message then holds
 * (offset: where). After an error the next call goes on: with the other partitions at once, with this one
 * when it is read anew. */
int core_consumer_next(struct core_consumer *consumer, const clymq_message **ret_message);
/* What the error that core_consumer_next returned last means, and what to do; constant. Reader's side. */
const char *core_consumer_sentence(const struct core_consumer *consumer);
bool core_consumer_at_end(struct core_consumer *consumer); /* reader's side */
size_t
core_consumer_buffered_bytes(struct core_consumer *consumer); /* fetched or asked for, not yet consumed */

#endif
