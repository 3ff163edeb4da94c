/* The data folder: lock, format, disk id, and the state files merged. */
#include "store/folder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOG_MODULE "store"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "store/folder_impl.h"
#include "store/reserve.h"
#include "store/store_impl.h"

enum { FOLDER_VERSION = 1, SMALL_FILE_MAX = 4096 };
static const char format_prefix[] = "clymq-data ";
static const char disk_prefix[] = "{\"disk_id\": \"";

struct store_folder {
    struct io_fs *fs;
    struct io_file *lock;
    struct uuid disk_id;
    struct state_table table;
};

struct io_fs *store_folder_fs(const struct store_folder *folder)
{
    return folder->fs;
}

struct uuid store_folder_disk_id(const struct store_folder *folder)
{
    return folder->disk_id;
}

const struct state_table *store_folder_table(const struct store_folder *folder)
{
    return &folder->table;
}

static int fail(struct strbuf *error, int code, const char *sentence)
{
    strbuf_append_text(error, sentence);
    return code;
}

static int fail_io(struct strbuf *error, int code, const char *file)
{
    strbuf_printf(error, "%s in the data folder: %s", file, error_file_sentence(code));
    return code;
}

int store_folder_check_format(struct io_fs *fs, struct strbuf *error)
{
    uint8_t *data;
    size_t len;
    int code = io_fs_read_file(fs, "FORMAT", SMALL_FILE_MAX, &data, &len);
    if (code == CLYMQ_ENOENT)
        return code;
    if (code && code != CLYMQ_ETOOBIG)
        return fail_io(error, code, "FORMAT");
    int version = 0, used = 0;
    char text[32] = {0};
    if (!code) {
        memcpy(text, data, len < sizeof(text) - 1 ? len : sizeof(text) - 1);
        mem_free(data);
    }
    if (code || /* nine digits cannot overflow: NOLINTNEXTLINE(cert-err34-c) */
        sscanf(text, "clymq-data %9d%n", &version, &used) != 1 || version < 1 || text[used] != '\n')
        return fail(
            error, CLYMQ_ECORRUPT,
            "FORMAT in the data folder is damaged: if the folder is ClyMQ's, restore the file with the line "
            "\"clymq-data 1\"");
    if (version > FOLDER_VERSION) {
        strbuf_printf(error, "the data folder has format %d, this program knows %d: use a newer release",
                      version, FOLDER_VERSION);
        return CLYMQ_EFORMAT;
    }
    return 0;
}

static int read_disk_id(struct io_fs *fs, struct uuid *ret_id, struct strbuf *error)
{
    uint8_t *data;
    size_t len;
    int code = io_fs_read_file(fs, "disk.json", SMALL_FILE_MAX, &data, &len);
    if (code && code != CLYMQ_ENOENT && code != CLYMQ_ETOOBIG)
        return fail_io(error, code, "disk.json");
    static const char sentence[] = "disk.json in the data folder is missing or damaged, so the disk's "
                                   "identity is lost: restore the file from a "
                                   "backup or use another folder";
    if (code)
        return fail(error, CLYMQ_ECORRUPT, sentence);
    size_t prefix = sizeof(disk_prefix) - 1;
    code = CLYMQ_EINVAL;
    if (len >= prefix + 34 && memcmp(data, disk_prefix, prefix) == 0 && data[prefix + 32] == '"')
        code = uuid_parse(bytes_of(data + prefix, 32), ret_id);
    mem_free(data);
    return code || uuid_is_none(*ret_id) ? fail(error, CLYMQ_ECORRUPT, sentence) : 0;
}

static bool dir_is_empty(struct io_fs *fs, const char *path)
{
    char **names;
    size_t count;
    if (io_fs_list(fs, path, &names, &count))
        return false;
    io_fs_free_names(names, count);
    return count == 0;
}

/* Whether the name may lie in a folder that gets no FORMAT before it is complete. */
static bool may_precede_format(struct io_fs *fs, const char *name)
{
    static const char *const ours[] = {"LOCK", "disk.json", "disk.json.tmp", "FORMAT.tmp", "lost+found"};
    for (size_t i = 0; i < sizeof(ours) / sizeof(ours[0]); i++) {
        if (strcmp(name, ours[i]) == 0)
            return true;
    }
    return (strcmp(name, "data") == 0 || strcmp(name, "state") == 0) && dir_is_empty(fs, name);
}

/* Not synced. */
static int make_dirs(struct io_fs *fs)
{
    static const char *const paths[] = {"data", "state"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        int error = io_fs_make_dir(fs, paths[i]);
        if (error && error != CLYMQ_EEXIST)
            return error;
    }
    return 0;
}

static int make_new(struct io_fs *fs, const uint8_t random[16], struct strbuf *error)
{
    char **names;
    size_t count;
    int code = io_fs_list(fs, "", &names, &count);
    if (code)
        return fail_io(error, code, "the file list");
    for (size_t i = 0; i < count && !code; i++) {
        if (!may_precede_format(fs, names[i])) {
            strbuf_printf(
                error,
                "the data folder has no FORMAT but holds '%s': it is not ClyMQ's, or damaged; name another "
                "folder, or restore FORMAT with the line \"clymq-data 1\"",
                names[i]);
            code = CLYMQ_ECORRUPT;
        }
    }
    io_fs_free_names(names, count);
    if (code)
        return code;
    struct uuid id;
    memcpy(id.byte, random, sizeof(id.byte));
    char hex[33], text[96];
    uuid_format(id, hex);
    int len = snprintf(text, sizeof(text), "%s%s\"}\n", disk_prefix, hex);
    code = make_dirs(fs);
    if (!code) /* syncs the root, and so the two */
        code = io_fs_replace_file(fs, "disk.json", text, (size_t)len);
    if (!code) { /* last: it says that the rest is there */
        len = snprintf(text, sizeof(text), "%s%d\n", format_prefix, FOLDER_VERSION);
        code = io_fs_replace_file(fs, "FORMAT", text, (size_t)len);
    }
    return code ? fail_io(error, code, "a new file") : 0;
}

/* Makes the deleted block's new name durable, before anything below it goes. Where the state files do not
 * know the block any more it is: they forget it only afterwards. */
static int sync_deletion(struct store_folder *folder, const char *name)
{
    struct uuid id;
    char dir[BLOCK_DIR_MAX];
    if (uuid_parse(bytes_of_text(name + strlen(BLOCK_DELETED_PREFIX)), &id))
        return 0;
    const struct state_entry *entry = state_table_find(&folder->table, id);
    if (!entry)
        return 0;
    block_dir(&entry->key, dir);
    *strrchr(dir, '/') = '\0';
    int error = io_fs_sync_dir(folder->fs, dir);
    return error ? error : io_fs_sync_dir(folder->fs, "data");
}

static void remove_deleted_blocks(struct store_folder *folder)
{
    char **names;
    size_t count;
    if (io_fs_list(folder->fs, "data", &names, &count))
        return;
    for (size_t i = 0; i < count; i++) {
        char path[300];
        if (strncmp(names[i], BLOCK_DELETED_PREFIX, strlen(BLOCK_DELETED_PREFIX)) == 0 &&
            snprintf(path, sizeof(path), "data/%s", names[i]) < (int)sizeof(path) &&
            sync_deletion(folder, names[i]) == 0)
            io_fs_remove_tree(folder->fs, path);
        else if (snprintf(path, sizeof(path), "data/%s", names[i]) < (int)sizeof(path))
            io_fs_remove_dir(folder->fs, path); /* of a topic without partitions; others are not empty */
    }
    io_fs_free_names(names, count);
}

static int open_content(struct store_folder *folder, const uint8_t random[16], struct strbuf *error)
{
    int code = store_folder_check_format(folder->fs, error);
    bool made = code == CLYMQ_ENOENT;
    if (made) {
        code = make_new(folder->fs, random, error);
        if (code)
            return code;
    } else if (code) {
        return code;
    }
    code = read_disk_id(folder->fs, &folder->disk_id, error);
    if (code)
        return code;
    store_reserve_release(folder->fs);
    /* A folder may have been lost from a restored backup, where it was empty; it may have been made by a
     * start that was killed before it could sync. */
    code = made ? 0 : make_dirs(folder->fs);
    if (!code && !made)
        code = io_fs_sync_dir(folder->fs, "");
    if (!code)
        code = state_table_load(folder->fs, true, &folder->table);
    if (code == CLYMQ_EFORMAT)
        return fail(error, code,
                    "the files in state/ have a newer format than this program knows: use a newer release");
    if (code)
        return fail_io(error, code, "state/");
    remove_deleted_blocks(folder);
    if (folder->table.damaged)
        log_warn("%u damaged place%s in state/: older marks are used for some blocks", folder->table.damaged,
                 folder->table.damaged == 1 ? "" : "s");
    return 0;
}

int store_folder_open(struct io_fs *fs, const uint8_t random[16], struct strbuf *error,
                      struct store_folder **ret_folder)
{
    struct store_folder *folder = mem_zalloc(sizeof(*folder));
    if (!folder)
        return fail(error, CLYMQ_ENOMEM, error_sentence(CLYMQ_ENOMEM));
    folder->fs = fs;
    int code = io_fs_lock(fs, "LOCK", &folder->lock);
    if (code == CLYMQ_ELOCKED)
        fail(error, code, error_sentence(code));
    else if (code)
        fail_io(error, code, "LOCK");
    else
        code = open_content(folder, random, error);
    if (code) {
        store_folder_close(folder);
        return code;
    }
    *ret_folder = folder;
    return 0;
}

void store_folder_close(struct store_folder *folder)
{
    if (!folder)
        return;
    state_table_free(&folder->table);
    io_file_close(folder->lock);
    mem_free(folder);
}
