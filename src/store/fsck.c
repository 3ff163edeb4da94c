/* The offline check of a data folder: its format, its state files, and which blocks are to be looked at. What
 * is in a block is checked in fsck_block.c. */
#include "store/fsck.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "store/folder_impl.h"
#include "store/fsck_impl.h"
#include "store/store_impl.h"

bool fsck_is_damage(enum fsck_kind kind)
{
    return kind == FSCK_DAMAGED_LOG || kind == FSCK_MISSING_LOG || kind == FSCK_FAILED_BLOCK ||
           kind == FSCK_UNREADABLE;
}

__attribute__((format(printf, 7, 0))) static void tell(struct fsck *fsck, enum fsck_kind kind,
                                                       const char *path, uint64_t position, int64_t offset,
                                                       bool repaired, const char *format, va_list args)
{
    char sentence[256];
    vsnprintf(sentence, sizeof(sentence), format, args);
    if (fsck_is_damage(kind))
        fsck->totals.damages++;
    else
        fsck->totals.harmless++;
    fsck->totals.repaired += repaired;
    struct fsck_finding finding = {.kind = kind,
                                   .path = path,
                                   .position = position,
                                   .offset = offset,
                                   .sentence = sentence,
                                   .repaired = repaired};
    if (fsck->options->on_finding)
        fsck->options->on_finding(fsck->options->ctx, &finding);
}

void fsck_find(struct fsck *fsck, enum fsck_kind kind, const char *path, uint64_t position, int64_t offset,
               const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(fsck, kind, path, position, offset, false, format, args);
    va_end(args);
}

void fsck_find_repaired(struct fsck *fsck, enum fsck_kind kind, const char *path, uint64_t position,
                        int64_t offset, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    tell(fsck, kind, path, position, offset, true, format, args);
    va_end(args);
}

/* 0 where the folder is there and can be listed. */
static int check_folder(struct io_fs *fs, const char *dir)
{
    char **names;
    size_t count;
    int error = io_fs_list(fs, dir, &names, &count);
    if (!error)
        io_fs_free_names(names, count);
    return error;
}

/* Blocks that the state files know, but that were not found by their id. What is told of a folder is told
 * once: it is not among the others any more. */
static int check_unlisted(struct fsck *fsck, const struct state_table *table, const struct map *listed,
                          struct map *others)
{
    size_t at = 0;
    struct map_entry *item;
    while ((item = map_next(table->entries, &at))) {
        const struct state_entry *entry = item->value;
        if (map_get(listed, item->key))
            continue;
        char dir[BLOCK_DIR_MAX], path[SEGMENT_PATH_MAX];
        struct block_key found;
        block_dir(&entry->key, dir);
        snprintf(path, sizeof(path), "%s/id", dir);
        int error = block_read_id(fsck->fs, dir, &found);
        bool elsewhere = !error && uuid_equal(found.id, entry->key.id);
        if (elsewhere || error == CLYMQ_ECORRUPT || error == CLYMQ_ENOENT)
            map_remove(others, bytes_of_text(dir));
        if (error == CLYMQ_ECORRUPT) {
            fsck_find(fsck, FSCK_WRONG_STATE, path, 0, -1,
                      "the block's identity is damaged: it is made again when the block is opened");
            error = fsck_block(fsck, dir, entry);
            if (error)
                return error;
        } else if (elsewhere) {
            fsck_find(fsck, FSCK_MISSING_LOG, path, 0, entry->start,
                      "the block's identity is that of another place: its log is not used here");
        } else if (error == CLYMQ_ENOENT && check_folder(fsck->fs, dir) == 0 &&
                   !block_is_unborn(fsck->fs, dir)) {
            fsck_find(fsck, FSCK_MISSING_LOG, path, 0, entry->start,
                      "the block's identity is missing: its log is not used until the file is restored");
        } else if (error == CLYMQ_ENOENT && entry->mark.offset > entry->start) {
            fsck_find(fsck, FSCK_WRONG_STATE, dir, 0, entry->start,
                      "the state files know of a block with offsets %" PRId64 " to %" PRId64
                      " here: it was deleted just before a power failure, or else its folder is lost",
                      entry->start, entry->mark.offset - 1);
        }
    }
    return 0;
}

/* A folder at a block's place that nothing says a block of. */
static int check_other(struct fsck *fsck, const char *dir)
{
    int error = check_folder(fsck->fs, dir);
    if (error == CLYMQ_EDENIED || error == CLYMQ_EIO)
        fsck_find(fsck, FSCK_UNREADABLE, dir, 0, -1, "%s", error_sentence(error));
    if (error) /* no folder, or gone meanwhile */
        return error == CLYMQ_ENOMEM ? error : 0;
    if (block_is_unborn(fsck->fs, dir))
        return 0;
    char path[SEGMENT_PATH_MAX];
    struct block_key found;
    snprintf(path, sizeof(path), "%s/id", dir);
    error = block_read_id(fsck->fs, dir, &found);
    if (error == CLYMQ_EFORMAT)
        fsck_find(fsck, FSCK_UNREADABLE, path, 0, -1, "%s", error_sentence(error));
    else if (error != CLYMQ_ENOMEM)
        fsck_find(fsck, FSCK_MISSING_LOG, path, 0, -1,
                  "the block's identity is missing, damaged or of another place, and no state file knows it: "
                  "its log is not used until the file is restored");
    return error == CLYMQ_ENOMEM ? error : 0;
}

static int check_others(struct fsck *fsck, const struct map *others)
{
    size_t at = 0;
    struct map_entry *item;
    int error = 0;
    while (!error && (item = map_next(others, &at)))
        error = check_other(fsck, (const char *)item->key.ptr);
    return error;
}

static int check_blocks(struct fsck *fsck, const struct state_table *table)
{
    struct block_key *keys;
    size_t count;
    struct map *listed = map_new(), *others = map_new();
    int error = listed && others ? block_list_all(fsck->fs, &keys, &count, others) : CLYMQ_ENOMEM;
    if (error) {
        map_free(listed);
        map_free(others);
        return error;
    }
    for (size_t i = 0; i < count && !error; i++) {
        char dir[BLOCK_DIR_MAX];
        block_dir(&keys[i], dir);
        error = map_put(listed, bytes_of(keys[i].id.byte, 16), &keys[i]);
        if (!error)
            error = fsck_block(fsck, dir, state_table_find(table, keys[i].id));
    }
    if (!error)
        error = check_unlisted(fsck, table, listed, others);
    if (!error)
        error = check_others(fsck, others);
    map_free(listed);
    map_free(others);
    mem_free(keys);
    return error;
}

int fsck_run(struct io_fs *fs, const struct fsck_options *options, struct fsck_totals *ret_totals)
{
    struct fsck fsck = {.fs = fs, .options = options};
    struct strbuf text = {0};
    int error = store_folder_check_format(fs, &text);
    strbuf_free(&text);
    if (error)
        return error;
    struct io_file *lock;
    error = io_fs_lock(fs, "LOCK", &lock);
    if (error)
        return error;
    struct state_table table = {0};
    error = state_table_load(fs, false, &table);
    if (error == CLYMQ_ENOENT) {
        fsck_find(&fsck, FSCK_WRONG_STATE, "state", 0, -1,
                  "the folder is missing: blocks are recovered from their logs");
        table.entries = map_new();
        error = table.entries ? 0 : CLYMQ_ENOMEM;
    }
    if (!error && table.damaged)
        fsck_find(&fsck, FSCK_WRONG_STATE, "state", 0, -1,
                  "%u places in the state files are unreadable or say what cannot be: older marks count for "
                  "some blocks",
                  table.damaged);
    if (!error)
        error = check_blocks(&fsck, &table);
    state_table_free(&table);
    io_file_close(lock);
    if (!error)
        *ret_totals = fsck.totals;
    return error;
}
