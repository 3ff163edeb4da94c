/* The producer table: what a partition remembers of its producers, so that a retry is recognised.
 *
 * Two kinds. Batch producers (id, epoch, sequence in the batch header) follow Kafka's rules for idempotent
 * producers (KIP-98): sequences of an epoch have no gaps, an unknown producer begins at 0, the last 5 batches
 * are remembered with their offsets. Sessions (producer name, session, command index: single pushes of the
 * Thrift RPC) have a window of known indexes in any order.
 *
 * The table is a fold over the log: producers_note_batch over the batches in order gives the same table, so
 * recovery and a new block's first batch need nothing else. Bounded: least recently used entries go first.
 * Owned by its partition, one thread. */
#ifndef CLYMQ_PARTITION_PRODUCERS_H
#define CLYMQ_PARTITION_PRODUCERS_H

#include "base/uuid.h"
#include "wire/batch.h"

enum {
    PRODUCERS_MAX = 10000,           /* batch producers kept per partition */
    PRODUCERS_BATCHES = 5,           /* batches remembered per producer */
    SESSIONS_MAX = 4096,             /* sessions kept per partition */
    SESSION_WINDOW_MAX = 1024,       /* command indexes remembered per session */
    SESSION_ENTRIES_MAX = 64 * 1024, /* over all sessions of a partition */
};

struct producers;

/* What the partition is, for sessions: only records that were written for it, where they lie, count. */
uint32_t producers_place(struct uuid topic, uint32_t partition);
struct producers *producers_new(uint32_t place); /* NULL: out of memory */
void producers_free(struct producers *producers);
void producers_clear(struct producers *producers);

/* What to do with a batch: 0 = append it; CLYMQ_EEXIST = a repeat (*ret_base_offset, -1 when forgotten;
 * *ret_end_offset is past it); CLYMQ_ESEQUENCE = a gap before it; CLYMQ_EFENCED = an older epoch;
 * CLYMQ_EBATCH = impossible fields. */
int producers_check(const struct producers *producers, const struct batch_header *header,
                    int64_t *ret_base_offset, int64_t *ret_end_offset);

/* Makes room, so that the next producers_note_header of this header cannot fail. 0 or CLYMQ_ENOMEM. */
int producers_reserve(struct producers *producers, const struct batch_header *header);

/* Whether (producer, session, index) is known, and its offset. */
bool producers_find_session(const struct producers *producers, struct bytes producer, int64_t session,
                            int64_t command_index, int64_t *ret_offset);
/* Remembers it; 0 or CLYMQ_ENOMEM. producers_forget_session undoes the newest note of that index. */
int producers_note_session(struct producers *producers, struct bytes producer, int64_t session,
                           int64_t command_index, int64_t offset, int64_t now_ms);
void producers_forget_session(struct producers *producers, struct bytes producer, int64_t session,
                              int64_t command_index);

/* Folds a batch of the log in: an idempotent batch, single pushes with sessions (their record header), or a
 * control batch that holds a whole table. now_ms: the wall clock; an idempotent batch counts as pushed now,
 * since the log does not say when it was, so recovery forgets nobody too early. 0, CLYMQ_ENOMEM,
 * CLYMQ_EBATCH. */
int producers_note_batch(struct producers *producers, const struct batch_header *header, struct bytes batch,
                         int64_t now_ms);
/* The same for an idempotent batch whose header alone is known to be enough (the append path). */
int producers_note_header(struct producers *producers, const struct batch_header *header, int64_t now_ms);

/* Forgets who was silent since before_ms. */
void producers_expire(struct producers *producers, int64_t before_ms);
size_t producers_count(const struct producers *producers); /* of both kinds */

/* The table as bytes (versioned, big-endian; docs/file-format.md, "Producer table"), and back (replacing what
 * is there; CLYMQ_ECORRUPT, CLYMQ_EFORMAT, CLYMQ_ENOMEM leave it empty). */
void producers_save(const struct producers *producers, struct strbuf *out);
int producers_load(struct producers *producers, struct bytes state);
/* A control batch that holds the table: the first of a block that continues another. The caller owns it. */
int producers_control_batch(const struct producers *producers, struct buf **ret_batch);

/* The record header that carries a session push's identity: key and value. The value is built in out (cap
 * bytes needed: PRODUCERS_SESSION_VALUE + producer.len); returns its length. It holds a checksum of place and
 * offset, so that a record which a client copies, headers and all, from here or from another topic is no push
 * of that session. */
#define PRODUCERS_SESSION_HEADER "clymq.push"
enum { PRODUCERS_SESSION_VALUE = 8 + 8 + 4 };
size_t producers_session_value(uint32_t place, int64_t offset, struct bytes producer, int64_t session,
                               int64_t command_index, uint8_t *out);

#endif
