/* The SQLite file of the embedded backend: see database.h. The file says what it is (application_id) and in
 * which format (user_version); each row carries a checksum of its own, because SQLite has none: a flipped bit
 * in a value is told, not believed. */
#include "meta/database.h"

#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"

/* As all files of a data folder (io/os_fs.c): others read nothing. */
enum { FILE_MODE = 0640 };
enum { APPLICATION_ID = 0x436c794d /* "ClyM" */, FORMAT = 1 };
/* Of a row, or a text of the schema, as SQLite sees it. */
enum { ROW_MAX = META_VALUE_MAX + META_PATH_MAX + 1024 };
/* Of all that SQLite holds. Its cache is 2 MB; a row is held a few times at once. */
enum { HEAP_MAX = 16 << 20 };

struct database {
    sqlite3 *handle;
    sqlite3_stmt *put, *remove;
    char failure[256];
};

static const char schema[] =
    "CREATE TABLE node(path TEXT PRIMARY KEY NOT NULL, value BLOB NOT NULL, version INTEGER NOT NULL,"
    " ephemeral INTEGER NOT NULL, sum INTEGER NOT NULL) WITHOUT ROWID";

static void put_le64(uint8_t *at, uint64_t value)
{
    for (int i = 0; i < 8; i++)
        at[i] = (uint8_t)(value >> (8 * i));
}

/* Over lengths too, so that no byte can move from one field to the next. */
static int64_t row_sum(struct bytes path, struct bytes value, int64_t version)
{
    uint8_t numbers[24];
    put_le64(numbers, path.len);
    put_le64(numbers + 8, value.len);
    put_le64(numbers + 16, (uint64_t)version);
    uint32_t sum = crc32c(0, numbers, sizeof(numbers));
    sum = crc32c(sum, path.ptr, path.len);
    return value.len ? crc32c(sum, value.ptr, value.len) : sum;
}

static int error_of_sqlite(struct database *database, int result)
{
    switch (result & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return CLYMQ_ELOCKED;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_TOOBIG: /* no row of ours is */
        return CLYMQ_ECORRUPT;
    case SQLITE_NOMEM:
        return CLYMQ_ENOMEM;
    case SQLITE_FULL:
        return CLYMQ_ENOSPC;
    case SQLITE_PERM:
    case SQLITE_READONLY:
    case SQLITE_AUTH:
        return CLYMQ_EDENIED;
    case SQLITE_CANTOPEN: {
        int system = database->handle ? sqlite3_system_errno(database->handle) : 0;
        return system > 0 ? error_from_errno(system) : CLYMQ_EIO;
    }
    default:
        return CLYMQ_EIO;
    }
}

static int database_exec(struct database *database, const char *sql)
{
    int result = sqlite3_exec(database->handle, sql, NULL, NULL, NULL);
    return result == SQLITE_OK ? 0 : error_of_sqlite(database, result);
}

/* The first column of the first row. 0, or an error. */
static int database_query_number(struct database *database, const char *sql, int64_t *ret_value)
{
    sqlite3_stmt *query = NULL;
    int result = sqlite3_prepare_v2(database->handle, sql, -1, &query, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(query);
    if (result == SQLITE_ROW) {
        *ret_value = sqlite3_column_int64(query, 0);
        result = SQLITE_OK;
    }
    int error = result == SQLITE_OK     ? 0
                : result == SQLITE_DONE ? CLYMQ_ECORRUPT
                                        : error_of_sqlite(database, result);
    sqlite3_finalize(query);
    return error;
}

/* Whether the first column of the first row is that text. */
static int database_query_text(struct database *database, const char *sql, const char *expected,
                               struct strbuf *why)
{
    sqlite3_stmt *query = NULL;
    int result = sqlite3_prepare_v2(database->handle, sql, -1, &query, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_step(query);
    int error = 0;
    if (result == SQLITE_ROW) {
        const char *text = (const char *)sqlite3_column_text(query, 0);
        if (!text || strcmp(text, expected) != 0) {
            strbuf_append_text(why, text ? text : "no answer");
            error = CLYMQ_ECORRUPT;
        }
    } else {
        error = error_of_sqlite(database, result);
    }
    sqlite3_finalize(query);
    return error;
}

/* Finds out what kind of file it is before anything in it is changed. */
static int database_identify(struct database *database, bool *ret_fresh, struct strbuf *why)
{
    int64_t application = 0, format = 0, tables = 0;
    int error = database_query_number(database, "SELECT count(*) FROM sqlite_schema", &tables);
    if (!error)
        error = database_query_number(database, "PRAGMA application_id", &application);
    if (!error)
        error = database_query_number(database, "PRAGMA user_version", &format);
    if (error)
        return error;
    if (application == 0 && format == 0 && tables == 0) {
        *ret_fresh = true;
        return 0;
    }
    if (application != APPLICATION_ID || format < 1)
        return CLYMQ_ECORRUPT;
    *ret_fresh = false;
    if (format > FORMAT)
        return CLYMQ_EFORMAT;
    /* Triggers, indexes, generated columns and the like would make something else of what is written. */
    return tables == 1 ? database_query_text(database, "SELECT sql FROM sqlite_schema", schema, why)
                       : CLYMQ_ECORRUPT;
}

static int database_load(struct database *database, struct tree *tree, struct strbuf *why)
{
    sqlite3_stmt *query = NULL;
    int result = sqlite3_prepare_v2(
        database->handle, "SELECT path, value, version, sum FROM node ORDER BY path", -1, &query, NULL);
    int error = 0;
    while (!error && result == SQLITE_OK) {
        int step = sqlite3_step(query);
        if (step != SQLITE_ROW) {
            result = step;
            break;
        }
        const void *text = sqlite3_column_text(query, 0);
        struct bytes path = bytes_of(text, (size_t)sqlite3_column_bytes(query, 0));
        const void *blob = sqlite3_column_blob(query, 1);
        struct bytes value = bytes_of(blob, (size_t)sqlite3_column_bytes(query, 1));
        int64_t version = sqlite3_column_int64(query, 2);
        if (!text || (!blob && value.len))
            error = CLYMQ_ENOMEM;
        else if (row_sum(path, value, version) != sqlite3_column_int64(query, 3))
            error = CLYMQ_ECORRUPT;
        else
            error = tree_load(tree, path, value, version);
        if (error && error != CLYMQ_ENOMEM) {
            strbuf_printf(why, "the node %.*s does not match its checksum or has no parent", (int)path.len,
                          text ? (const char *)text : "");
            error = CLYMQ_ECORRUPT;
        }
    }
    if (!error && result != SQLITE_DONE)
        error = error_of_sqlite(database, result);
    sqlite3_finalize(query);
    return error;
}

static int database_prepare(struct database *database)
{
    int result = sqlite3_prepare_v3(
        database->handle, "REPLACE INTO node(path, value, version, ephemeral, sum) VALUES(?,?,?,?,?)", -1,
        SQLITE_PREPARE_PERSISTENT, &database->put, NULL);
    if (result == SQLITE_OK)
        result = sqlite3_prepare_v3(database->handle, "DELETE FROM node WHERE path = ?", -1,
                                    SQLITE_PREPARE_PERSISTENT, &database->remove, NULL);
    return result == SQLITE_OK ? 0 : error_of_sqlite(database, result);
}

static int database_create(struct database *database)
{
    char sql[64];
    sqlite3_snprintf(sizeof(sql), sql, "PRAGMA application_id=%d; PRAGMA user_version=%d", APPLICATION_ID,
                     FORMAT);
    int error = database_exec(database, schema);
    return error ? error : database_exec(database, sql);
}

/* What the log holds is written into the file again and synced. After a failed fsync the kernel takes pages
 * for clean that never reached the disk ("Can applications recover from fsync failures?", Rebello et al.,
 * 2020), also for the process that opens the file next; and a log that stays in place, from its beginning,
 * needs no room on a disk that is full. There it may fail. */
static int database_settle(struct database *database)
{
    int keep = 1;
    sqlite3_file_control(database->handle, "main", SQLITE_FCNTL_PERSIST_WAL, &keep);
    int64_t busy = 0;
    int error = database_query_number(database, "PRAGMA wal_checkpoint(RESTART)", &busy);
    if (error == CLYMQ_ENOSPC)
        return 0;
    return error ? error : busy ? CLYMQ_EIO : 0;
}

/* Whatever sizes a file claims: there is memory for what is ever written, no more. (Of damaged records SQLite
 * allocates some before it looks.) */
static void database_limit(struct database *database)
{
    sqlite3_hard_heap_limit64(HEAP_MAX);
    sqlite3_limit(database->handle, SQLITE_LIMIT_LENGTH, ROW_MAX);
}

/* Everything after the file is open. The exclusive lock is taken by the first transaction and kept. */
static int database_start(struct database *database, enum database_new made, struct tree *tree,
                          struct strbuf *why)
{
    bool fresh = false;
    int error = database_exec(database, "PRAGMA locking_mode=EXCLUSIVE");
    if (!error)
        error = database_identify(database, &fresh, why);
    if (!error && fresh && made == DATABASE_IS_THERE) {
        strbuf_append_text(why, "it was there, and is empty now: is its disk mounted?");
        error = CLYMQ_ECORRUPT;
    }
    if (!error)
        error = database_query_text(database, "PRAGMA journal_mode=WAL", "wal", why);
    if (!error)
        error = database_exec(database, "PRAGMA synchronous=FULL; BEGIN IMMEDIATE");
    if (!error && fresh)
        error = database_create(database);
    if (!error)
        error = database_exec(database, "COMMIT");
    if (!error)
        error = database_query_text(database, "PRAGMA quick_check(1)", "ok", why);
    if (!error)
        error = database_settle(database);
    if (!error)
        error = database_exec(database, "DELETE FROM node WHERE ephemeral <> 0");
    if (!error)
        error = database_load(database, tree, why);
    return error ? error : database_prepare(database);
}

/* A new file is made under another name and renamed: it takes one sync, where making it in place takes nine,
 * and a crash leaves none that is half made. The folder is synced with the first log. */
static int database_make_new(const char *path)
{
    struct strbuf made = {0}, log = {0};
    strbuf_printf(&made, "%s.new", path);
    strbuf_printf(&log, "%s-wal", path);
    struct database database = {0};
    int error = made.failed || log.failed ? CLYMQ_ENOMEM : 0;
    if (!error) {
        (void)remove(made.data);
        (void)remove(log.data); /* of a file that is gone: it must not be taken for the new one's */
        /* SQLite would give it a mode of its own; its log takes over this one. */
        int file = open(made.data, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, FILE_MODE);
        if (file >= 0)
            close(file);
        int result = sqlite3_open_v2(made.data, &database.handle,
                                     SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
        error = result == SQLITE_OK ? 0 : error_of_sqlite(&database, result);
    }
    if (!error)
        error = database_exec(&database, "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF");
    if (!error)
        error = database_create(&database);
    if (!error)
        error = database_exec(&database, "PRAGMA synchronous=FULL; PRAGMA journal_mode=WAL");
    sqlite3_close(database.handle);
    if (!error && rename(made.data, path) != 0)
        error = error_from_errno(errno);
    if (error && made.data)
        (void)remove(made.data);
    strbuf_free(&made);
    strbuf_free(&log);
    return error;
}

static void database_explain(const char *path, int error, const char *why, struct strbuf *text)
{
    switch (error) {
    case CLYMQ_ELOCKED:
        strbuf_printf(text, "%s is in use by another process: stop it or use another data folder", path);
        break;
    case CLYMQ_EFORMAT:
        strbuf_printf(text, "%s was written by a newer ClyMQ: upgrade this program", path);
        break;
    case CLYMQ_ECORRUPT:
        strbuf_printf(
            text,
            "%s is damaged or is no ClyMQ metadata (%s): put it and %s-wal back from a backup; the messages "
            "under data/ are not touched",
            path, why, path);
        break;
    case CLYMQ_ENOMEM: /* SQLite says so of some damaged schemas, too */
        strbuf_printf(
            text,
            "there is no memory to open %s; if this machine has some left, the file is damaged: put it "
            "and %s-wal back from a backup; the messages under data/ are not touched",
            path, path);
        break;
    default:
        strbuf_printf(text, "cannot open %s: %s (%s)", path, error_sentence(error), why);
        break;
    }
}

int database_open(const char *path, enum database_new made, struct tree *tree, struct strbuf *error_text,
                  struct database **ret_database)
{
    struct database *database = mem_zalloc(sizeof(*database));
    if (!database)
        return CLYMQ_ENOMEM;
    struct strbuf why = {0};
    /* Where that fails, what follows says why. */
    bool may_be_new = made == DATABASE_MAY_BE_NEW;
    if (may_be_new && access(path, F_OK) != 0 && errno == ENOENT)
        (void)database_make_new(path);
    int result = sqlite3_open_v2(
        path, &database->handle,
        SQLITE_OPEN_READWRITE | (may_be_new ? SQLITE_OPEN_CREATE : 0) | SQLITE_OPEN_NOMUTEX, NULL);
    int error;
    if (result != SQLITE_OK) {
        error = error_of_sqlite(database, result);
    } else {
        sqlite3_extended_result_codes(database->handle, 1);
        database_limit(database);
        error = database_start(database, made, tree, &why);
    }
    if (error) {
        if (why.len == 0)
            strbuf_append_text(&why, database->handle ? sqlite3_errmsg(database->handle) : "out of memory");
        database_explain(path, error, why.data ? why.data : "", error_text);
        strbuf_free(&why);
        database_close(database);
        return error;
    }
    strbuf_free(&why);
    *ret_database = database;
    return 0;
}

void database_close(struct database *database)
{
    if (!database)
        return;
    sqlite3_finalize(database->put);
    sqlite3_finalize(database->remove);
    sqlite3_close(database->handle);
    mem_free(database);
}

static int write_row(struct database *database, const struct database_write *write)
{
    sqlite3_stmt *statement = write->exists ? database->put : database->remove;
    int result =
        sqlite3_bind_text(statement, 1, (const char *)write->path.ptr, (int)write->path.len, SQLITE_STATIC);
    if (result == SQLITE_OK && write->exists) {
        result = write->value.len
                     ? sqlite3_bind_blob(statement, 2, write->value.ptr, (int)write->value.len, SQLITE_STATIC)
                     : sqlite3_bind_zeroblob(statement, 2, 0);
        sqlite3_bind_int64(statement, 3, write->version);
        sqlite3_bind_int(statement, 4, write->ephemeral);
        sqlite3_bind_int64(statement, 5, row_sum(write->path, write->value, write->version));
    }
    if (result == SQLITE_OK)
        result = sqlite3_step(statement);
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return result == SQLITE_DONE ? SQLITE_OK : result;
}

int database_write(struct database *database, const struct database_write *writes, size_t count)
{
    int result = sqlite3_exec(database->handle, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    for (size_t i = 0; i < count && result == SQLITE_OK; i++)
        result = write_row(database, &writes[i]);
    if (result == SQLITE_OK)
        result = sqlite3_exec(database->handle, "COMMIT", NULL, NULL, NULL);
    if (result == SQLITE_OK)
        return 0;
    sqlite3_snprintf(sizeof(database->failure), database->failure, "%s", sqlite3_errmsg(database->handle));
    /* A full disk or memory shows before the commit frame is complete in the WAL, so that nothing is stored;
     * after an input/output error it may be there, to be found by the next recovery. */
    bool definite =
        (result & 0xff) == SQLITE_FULL || (result & 0xff) == SQLITE_NOMEM || (result & 0xff) == SQLITE_TOOBIG;
    if (!sqlite3_get_autocommit(database->handle) &&
        sqlite3_exec(database->handle, "ROLLBACK", NULL, NULL, NULL) != SQLITE_OK)
        definite = false;
    return definite ? error_of_sqlite(database, result) : CLYMQ_ESESSION;
}

const char *database_failure(const struct database *database)
{
    return database->failure;
}
