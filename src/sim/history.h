/* What clients know: every message pushed with its outcome, and which message was seen at which offset. The
 * invariants that can be checked when something is learnt are checked here (I2, I4, I5, order of offsets, the
 * watermark); those about the end of a run in check.h.
 *
 * A *slot* is a place that clients push to, by names: topic and partition. A *track* is one partition that
 * stood there: a slot whose topic is deleted and made again has several tracks after each other. */
#ifndef CLYMQ_SIM_HISTORY_H
#define CLYMQ_SIM_HISTORY_H

#include "base/buf.h"
#include "sim/run.h"

enum { HISTORY_SLOTS_MAX = 16, HISTORY_NAME_MAX = 32 };

enum message_state { MESSAGE_PENDING, MESSAGE_ACKED, MESSAGE_REFUSED, MESSAGE_UNCERTAIN };

struct message {
    uint16_t slot, client;
    uint32_t size;
    int8_t ack;
    uint8_t state;
    bool once;       /* must not be stored twice: idempotent, or sent a single time */
    bool resent;     /* more than one try was made, perhaps at different tracks */
    bool ordered;    /* its client's ordered messages keep their order within a track */
    bool drained;    /* was in the final drain */
    bool has_extras; /* was sent with value_extras_of its number and this time */
    int64_t timestamp_ms;
    uint32_t hazard; /* history->hazard when it was first pushed */
    uint32_t link;   /* which of its client's connections it was first sent on, from 1; 0 = not known */
    uint64_t begun_ns, ended_ns;
    int64_t answered_offset, seen_offset;      /* -1 = not known */
    struct track *seen_track, *answered_track; /* that these are places in; NULL = not known */
};

struct track {
    struct track *before; /* in the same slot */
    struct slot *slot;
    uint64_t created_ns;     /* creation was answered */
    uint64_t deleting_ns;    /* deletion was asked for; 0 = never */
    bool damaged;            /* bits of its log were flipped: declared corruption */
    uint32_t damaged_hazard; /* history->hazard then */
    bool marks_damaged; /* bits of a state file that tells about it were flipped: nothing may be lost by that
                         */
    bool damage_reported;   /* a reader or the broker noticed */
    bool drained;           /* the final drain read it to its end */
    uint64_t drained_bytes; /* of the batches that it read */
    uint32_t *at;           /* message + 1 by offset; 0 = not known */
    size_t at_count;
    int64_t watermark;         /* highest told to anybody */
    uint64_t life_ns;          /* when the run of the broker began … */
    int64_t life_watermark;    /* … in which this was the highest that it told */
    int64_t log_start;         /* highest told to anybody */
    uint32_t log_start_hazard; /* history->hazard then */
    uint64_t served_ns;        /* a push was acknowledged last */
};

struct slot {
    uint16_t number;
    char topic[HISTORY_NAME_MAX], partition[HISTORY_NAME_MAX];
    bool steady;                    /* never deleted */
    bool retained;                  /* old messages are dropped by retention … */
    uint64_t retention_bytes;       /* … and so much is kept */
    bool levels;                    /* its ack level is changed now and then */
    struct track *current, *tracks; /* current NULL: there is none, or it is being made or deleted */
};

struct history {
    struct run *run;
    struct message *messages;
    size_t count, cap;
    struct slot slots[HISTORY_SLOTS_MAX];
    unsigned slot_count;
    /* Grows with whatever may take away what is written but not committed: power losses, failing disks. */
    uint32_t hazard;
    bool rotten; /* some log or state file was damaged in this run */
};

struct history *history_new(struct run *run);
void history_free(struct history *history);

struct slot *history_add_slot(struct history *history, const char *topic, const char *partition);
/* The slot's partition was made: what is asked from now on meets it. */
void history_track_made(struct history *history, struct slot *slot);
/* Its deletion is about to be asked for. */
void history_track_ending(struct history *history, struct slot *slot);

/* A message of a new number, about to be pushed for the first time. */
struct message_plan {
    struct slot *slot;
    uint16_t client;
    uint32_t size;
    int8_t ack;
    bool once, ordered;
};
uint32_t history_begin(struct history *history, const struct message_plan *plan);
/* Writes the message's value: history->messages[message].size bytes. */
void history_write_value(const struct history *history, uint32_t message, uint8_t *out);
/* It has its outcome. offset: as answered, -1 = unknown. detail: of a refusal, for the log. */
void history_end(struct history *history, uint32_t message, enum message_state state, int64_t offset,
                 const char *detail);

/* One question about a slot and its answer: begun before it is sent, ended when it is there. */
struct history_read {
    struct slot *slot;
    struct track *track;
    uint64_t begun_ns;
    uint32_t hazard; /* history->hazard then: the answer may be older than what happened since */
    int64_t watermark, log_start;
    uint64_t life_ns;       /* the run of the broker that was asked */
    int64_t life_watermark; /* told by that one before */
};
void history_read_begin(struct history *history, struct slot *slot, struct history_read *ret_read);
/* The track that certainly answered; NULL: it may have been one or another. */
struct track *history_read_track(struct history *history, const struct history_read *read);
/* The answer told these (-1: it did not). who: the reader, for messages. */
void history_told(struct history *history, const struct history_read *read, struct track *track,
                  const char *who, int64_t watermark, int64_t log_start);
/* A value was served at an offset. Returns its message; NULL after a violation. Of a damaged log nothing is
 * concluded from places: a batch's base offset is outside its checksum. */
struct message *history_saw(struct history *history, const struct history_read *read, struct track *track,
                            const char *who, int64_t offset, struct bytes value);
/* What came with the value of that message, as returned: as it was sent, where that is known. */
void history_saw_extras(struct history *history, const struct message *message, const char *who,
                        struct bytes key, int64_t timestamp_ms, size_t header_count);
/* A reader went past [from, to) and was served nothing there: nothing that anybody knows of may lie there. */
void history_passed(struct history *history, struct track *track, const char *who, int64_t from, int64_t to);

/* Its log was damaged, and power was lost or the disk failed then, or the state files were damaged too: the
 * durable-end mark may be an older one, and damage behind that cannot be told from a torn tail. Nothing can
 * be asked of the track any more. */
bool history_is_excused(const struct history *history, const struct track *track);

/* The broker may say that the log is damaged: it is, or nothing is left of the notes on how much of it is
 * durable, and it does not end with a whole batch. */
bool history_may_fail(const struct track *track);

/* Text for messages: "orders/0#17". Valid until called three more times. */
const char *history_message_text(const struct history *history, uint32_t message);

#endif
