/* What a block must hold, kept in memory beside the store under test. A batch is known by its bytes, which
 * are unlike those of all others, so that a refused one cannot come back unseen. */
#ifndef CLYMQ_TEST_CRASH_MODEL_H
#define CLYMQ_TEST_CRASH_MODEL_H

#include "unit/store/store_rig.h"

struct model_batch {
    struct buf *bytes;
    int64_t first, last;
    int64_t time_ms; /* of the first record; the others' follow in steps of 1 */
    int count;
};

struct model {
    struct block_key key;
    struct block *block; /* NULL: not open */
    bool exists;         /* creation was answered */
    bool maybe;          /* a crash came in the middle of creating or deleting it */
    int64_t created_at;  /* first offset */
    struct model_batch *batches;
    size_t count, cap;
    size_t
        certain; /* batches [certain, count) may be missing after a restart: told durable are those below */
    int64_t durable;            /* the highest durable end that was told */
    int64_t start, asked_start; /* log start is one of both, or between */
    int64_t next_time_ms;
    bool sealing, sealed;
    bool failed;  /* the store said so */
    bool damaged; /* bits were flipped in its files */
    bool told_damaged;
    bool snapshot_flipped;
    bool faulty;      /* the disk fails at random now */
    bool mark_behind; /* a power loss may have taken the newest mark, and nothing was told durable since */
    /* The owner's state: a sum over all batches, as the producer table is. */
    uint64_t sum;
    int64_t sum_end;
    bool sum_repeated; /* a fault of recovery */
    bool sum_partial;  /* no snapshot was there and retention had dropped the beginning */
};

static inline uint64_t model_fold(uint64_t sum, int64_t offset, uint32_t crc)
{
    return (sum ^ (uint64_t)offset * UINT64_C(0x9e3779b97f4a7c15)) * UINT64_C(0xff51afd7ed558ccd) + crc;
}

static inline void model_add(struct model *model, struct buf *bytes, int count, int64_t time_ms)
{
    struct batch_header header;
    int error = batch_check(bytes_of(bytes->data, bytes->len), UINT32_MAX, &header);
    assert(!error);
    if (model->count == model->cap) {
        model->cap = model->cap ? model->cap * 2 : 16;
        model->batches = realloc(model->batches, model->cap * sizeof(*model->batches));
        assert(model->batches);
    }
    model->batches[model->count++] = (struct model_batch){.bytes = buf_ref(bytes),
                                                          .first = header.base_offset,
                                                          .last = batch_last_offset(&header),
                                                          .time_ms = time_ms,
                                                          .count = count};
}

static inline void model_cut(struct model *model, size_t count)
{
    while (model->count > count)
        buf_unref(model->batches[--model->count].bytes);
}

static inline void model_clear(struct model *model)
{
    model_cut(model, 0);
    free(model->batches);
    *model = (struct model){.key = model->key};
}

static inline int64_t model_end(const struct model *model)
{
    return model->count ? model->batches[model->count - 1].last + 1 : model->created_at;
}

/* The owner's sum after the batches below end. */
static inline uint64_t model_sum(const struct model *model, int64_t end)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < model->count && model->batches[i].first < end; i++) {
        struct batch_header header;
        batch_check(bytes_of(model->batches[i].bytes->data, model->batches[i].bytes->len), UINT32_MAX,
                    &header);
        sum = model_fold(sum, header.base_offset, header.crc);
    }
    return sum;
}

#endif
