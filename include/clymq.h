/* libclymq: producer and consumer for C programs.
 *
 * Link with pkg-config clymq, or find_package(clymq) and clymq::clymq. All types are opaque. A client has one
 * thread of its own that does the network work; every function here may be called from any thread unless it
 * says otherwise. Callbacks run on that thread: they must be quick and must not call functions marked
 * "blocks" for the same client. There those return CLYMQ_EBUSY, and those that free do nothing at all: free
 * from another thread. What is freed must not be in use by another thread.
 *
 * Functions return 0 or more on success and a negative CLYMQ_E… on failure; clymq_strerror gives the
 * sentence, and clymq_last_error the details of the calling thread's last failed call. Output parameters are
 * untouched on failure. Strings given in are copied. Times are milliseconds; timestamps milliseconds since
 * 1970. */
#ifndef CLYMQ_H
#define CLYMQ_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define CLYMQ_API __attribute__((visibility("default")))

#define CLYMQ_VERSION_MAJOR 0
#define CLYMQ_VERSION_MINOR 1

CLYMQ_API const char *clymq_version(void);
/* The sentence for an error number; never NULL. */
CLYMQ_API const char *clymq_strerror(int error);
/* Its name, such as "ENOSPC". */
CLYMQ_API const char *clymq_error_name(int error);
/* Details of the last failure on this thread ("topic orders: unknown topic …"); never NULL; valid until the
 * next call. */
CLYMQ_API const char *clymq_last_error(void);

/* ---- client: the connection to a cluster ---- */

typedef struct clymq_client clymq_client;

/* coordinators: "HOST:PORT[,HOST:PORT…]"; NULL = "127.0.0.1:7878". Does not connect yet. */
CLYMQ_API int clymq_client_new(const char *coordinators, clymq_client **ret_client);
/* Options, before the first use, here and below with default and range. Sizes may be given as "64K" (K, M, G,
 * T), times as "5s" (ms, s, m, h, d). CLYMQ_ENOENT: no such option; CLYMQ_EINVAL: not such a value;
 * CLYMQ_EBUSY: in use already.
 *   request_timeout_ms    30000     1 to 3600000
 *   connect_timeout_ms    10000     1 to 3600000
 *   retry_backoff_ms      100       1 to 60000
 *   retry_backoff_max_ms  1000      1 to 600000; a smaller one than retry_backoff_ms counts as that
 *   metadata_max_age_ms   300000    100 to 2147483647
 *   max_message_bytes     16777216  4096 to 1073741824: of a message, and a megabyte more of an answer
 *   log_level             off       trace, debug, info, warn, error, off; by module: "info,net=debug". Not of
 *                                   this client but of the whole process: the one set last counts. The log
 *                                   goes to standard error. */
CLYMQ_API int clymq_client_set(clymq_client *client, const char *name, const char *value);
/* Its producers and consumers must have been freed. Blocks until its thread has ended: not for servers, but
 * for a look-up of a host's name that is under way, as long as the system's resolver tries (often 10 s where
 * no name server answers). */
CLYMQ_API void clymq_client_free(clymq_client *client);

typedef struct clymq_topic_options {
    int partitions; /* made as "0", "1" … ; 0 = none */
    int replicas;   /* 0 = the server's default */
    int ack_level;  /* -1, 0 or 1 */
    const char
        *config_json; /* {"retention_ms":…, "retention_bytes":…, "segment_bytes":…, "segment_ms":…} or NULL */
} clymq_topic_options;
#define CLYMQ_TOPIC_OPTIONS_DEFAULT                                                                          \
    {                                                                                                        \
        1, 0, -1, NULL                                                                                       \
    }

/* These block until answered or request_timeout_ms has passed, and for 8 s at most while no server can be
 * connected to. */
CLYMQ_API int clymq_topic_create(clymq_client *client, const char *topic, const clymq_topic_options *options);
CLYMQ_API int clymq_topic_delete(clymq_client *client, const char *topic);
/* Changes the options that the JSON object names; a null is the server's default again. The others stay. */
CLYMQ_API int clymq_topic_set(clymq_client *client, const char *topic, const char *config_json);
CLYMQ_API int clymq_partition_create(clymq_client *client, const char *topic, const char *partition);
CLYMQ_API int clymq_partition_set(clymq_client *client, const char *topic, const char *partition,
                                  int ack_level, int replicas);
CLYMQ_API int clymq_partition_delete(clymq_client *client, const char *topic, const char *partition);
/* JSON documents; the caller frees them with clymq_string_free. */
CLYMQ_API int clymq_topic_list_json(clymq_client *client, const char *prefix, char **ret_json);
CLYMQ_API int clymq_topic_describe_json(clymq_client *client, const char *topic, char **ret_json);
CLYMQ_API void clymq_string_free(char *text);
/* timestamp_ms: CLYMQ_OFFSET_BEGINNING, CLYMQ_OFFSET_END, or a time: the first message at or after it. */
CLYMQ_API int clymq_offset_find(clymq_client *client, const char *topic, const char *partition,
                                int64_t timestamp_ms, int64_t *ret_offset);

#define CLYMQ_OFFSET_END       (-1)
#define CLYMQ_OFFSET_BEGINNING (-2)

/* ---- messages ---- */

typedef struct clymq_header {
    const char *key;
    const void *value; /* NULL = none */
    size_t value_len;
} clymq_header;

typedef struct clymq_message {
    const char *topic,
        *partition; /* partition NULL (producing): chosen by the key (murmur2, as Kafka does) or spread */
    int64_t offset; /* consumed or delivered; -1 where not known */
    int64_t timestamp_ms; /* producing: 0 = now */
    const void *key;      /* NULL = none */
    size_t key_len;
    const void *value; /* NULL = none */
    size_t value_len;
    const clymq_header *headers;
    size_t header_count;
    void *opaque; /* producing: given back in the delivery callback */
} clymq_message;

/* ---- producer ---- */

typedef struct clymq_producer clymq_producer;

/* Told once for every accepted message, in order within a partition. error 0: stored as the ack level asks;
 * CLYMQ_EUNCERTAIN / CLYMQ_ETIMEDOUT: may or may not be stored; any other error: it is not stored and will
 * not be. message lives during the call only. clymq_produce may be called from inside; while the producer is
 * being freed it answers CLYMQ_ESHUTDOWN. */
typedef void (*clymq_delivery_cb)(void *ctx, int error, const clymq_message *message);

CLYMQ_API int clymq_producer_new(clymq_client *client, clymq_producer **ret_producer);
/* Options, before the first use:
 *   ack                  -1        -1, 0, 1
 *   linger_ms            5         0 to 3600000
 *   batch_bytes          262144    1 to 67108864
 *   buffer_bytes         33554432  4096 or more
 *   compression          none      none, gzip, snappy, lz4, zstd
 *   compression_level    0         -100 to 22, as the codec counts; 0: its own default
 *   max_in_flight        5         1 to 5 batches per partition
 *   delivery_timeout_ms  120000    1 to 2147483647
 *   idempotence          true      true, false */
CLYMQ_API int clymq_producer_set(clymq_producer *producer, const char *name, const char *value);
CLYMQ_API int clymq_producer_on_delivery(clymq_producer *producer, clymq_delivery_cb callback, void *ctx);
/* Copies the message and returns. CLYMQ_EQUEUE_FULL when buffer_bytes are waiting: wait (clymq_producer_wait)
 * and try again. */
CLYMQ_API int clymq_produce(clymq_producer *producer, const clymq_message *message);
/* Blocks until there is room or timeout_ms passed (CLYMQ_ETIMEDOUT). Negative = no limit. */
CLYMQ_API int clymq_producer_wait(clymq_producer *producer, int64_t timeout_ms);
/* Blocks: sends one message and waits for its outcome; for room and for the outcome delivery_timeout_ms each
 * at most. ret_offset may be NULL. */
CLYMQ_API int clymq_produce_sync(clymq_producer *producer, const clymq_message *message, int64_t *ret_offset);
/* Blocks until everything accepted so far has its outcome. CLYMQ_ETIMEDOUT. Negative = no limit. */
CLYMQ_API int clymq_producer_flush(clymq_producer *producer, int64_t timeout_ms);
/* Drops what has no outcome and takes nothing more; flush first. Blocks until the delivery callback was
 * called for each message: with CLYMQ_ECANCELED where it was not sent, CLYMQ_EUNCERTAIN where it may be
 * stored. It does not wait for servers. */
CLYMQ_API void clymq_producer_free(clymq_producer *producer);

/* ---- consumer ---- */

typedef struct clymq_consumer clymq_consumer;

CLYMQ_API int clymq_consumer_new(clymq_client *client, clymq_consumer **ret_consumer);
/* Options, before the first use:
 *   fetch_max_bytes  1048576  1 to 1073741824, per partition and fetch; max_message_bytes at most are asked
 *                             for
 *   fetch_min_bytes  1        0 to fetch_max_bytes (otherwise the first use returns CLYMQ_EINVAL)
 *   fetch_wait_ms    500      0 to 600000
 *   buffer_bytes     8388608  4096 or more: fetched and not yet consumed */
CLYMQ_API int clymq_consumer_set(clymq_consumer *consumer, const char *name, const char *value);
/* Adds one partition from an offset (or CLYMQ_OFFSET_BEGINNING, CLYMQ_OFFSET_END). Blocks while it finds the
 * place, as long as clymq_offset_find. */
CLYMQ_API int clymq_consumer_assign(clymq_consumer *consumer, const char *topic, const char *partition,
                                    int64_t offset);
/* The same from the first message at or after a time. */
CLYMQ_API int clymq_consumer_assign_time(clymq_consumer *consumer, const char *topic, const char *partition,
                                         int64_t timestamp_ms);
/* From now on partitions of the topic that are not assigned, those made later above all, are added by
 * themselves, from their beginning. They are looked for every metadata_max_age_ms. Blocks until the client's
 * thread has noted it; does not wait for servers. */
CLYMQ_API int clymq_consumer_follow(clymq_consumer *consumer, const char *topic);
/* The next message: 1 and *ret_message (valid until the next call on this consumer), 0 when timeout_ms passed
 * without one, or an error. Called by one thread at a time. Blocks; timeout_ms 0 = does not wait, negative =
 * no limit. */
CLYMQ_API int clymq_consume(clymq_consumer *consumer, int64_t timeout_ms, const clymq_message **ret_message);
/* Whether every assigned partition was read up to the end that its last fetch saw. */
CLYMQ_API bool clymq_consumer_at_end(clymq_consumer *consumer);
/* Blocks until the client's thread has let go of it; does not wait for servers. */
CLYMQ_API void clymq_consumer_free(clymq_consumer *consumer);

/* ---- errors (numbers never change; sentences: clymq_strerror) ---- */
#ifndef CLYMQ_BASE_ERROR_H /* ClyMQ's own sources have them from their table */
enum clymq_error_number {
    CLYMQ_ENOMEM = -1,
    CLYMQ_EINVAL = -2,
    CLYMQ_EIO = -3,
    CLYMQ_ENOSPC = -4,
    CLYMQ_ENOENT = -5,
    CLYMQ_EEXIST = -6,
    CLYMQ_EBUSY = -7,
    CLYMQ_EAGAIN = -8,
    CLYMQ_ETIMEDOUT = -9,
    CLYMQ_ECANCELED = -10,
    CLYMQ_EDENIED = -11,
    CLYMQ_ELIMIT = -12,
    CLYMQ_ETOOBIG = -13,
    CLYMQ_ECORRUPT = -14,
    CLYMQ_EFORMAT = -15,
    CLYMQ_EPROTO = -16,
    CLYMQ_ECLOSED = -17,
    CLYMQ_EUNREACH = -18,
    CLYMQ_ESHUTDOWN = -19,
    CLYMQ_EUNSUPPORTED = -20,
    CLYMQ_ETOPIC_UNKNOWN = -21,
    CLYMQ_EPARTITION_UNKNOWN = -22,
    CLYMQ_ENAME = -23,
    CLYMQ_EACK_LEVEL = -24,
    CLYMQ_EOFFSET_RANGE = -25,
    CLYMQ_ESEQUENCE = -26,
    CLYMQ_EFENCED = -27,
    CLYMQ_ENOT_LEADER = -28,
    CLYMQ_ELOG_FAILED = -29,
    CLYMQ_EBATCH = -30,
    CLYMQ_EVERSION = -31,
    CLYMQ_ESESSION = -32,
    CLYMQ_EPARTITION_REMOVED = -33,
    CLYMQ_ELOCKED = -34,
    CLYMQ_EQUEUE_FULL = -35,
    CLYMQ_ECOMPRESSION = -36,
    CLYMQ_EUNCERTAIN = -37,
};
#endif

#ifdef __cplusplus
}
#endif

#endif
