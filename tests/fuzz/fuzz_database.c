/* The file of the embedded metadata, loaded: any bytes as the file, or any rows in a good one. What was
 * loaded can be written to and is there when the file is opened again.
 *
 * First byte: bit 0 rows, else the file as it is; bit 1 the rows' checksums stay as they are. A row is a
 * length and a path, two bytes of length and a value, a version, a checksum and whether it is ephemeral. */
#include <sqlite3.h>
#include <unistd.h>

#include "base/crc32c.h"
#include "base/error.h"
#include "base/mem.h"
#include "fuzz.h"
#include "meta/database.h"

/* The limit of SQLite's heap (database.c), and what is around it. */
enum { SQLITE_OWN = 17 << 20 };

static char path[64];

static void remove_files(void)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (int i = 0; i < 4; i++) {
        char name[80];
        snprintf(name, sizeof(name), "%s%s", path, suffixes[i]);
        unlink(name);
    }
}

static void choose_path(void)
{
    if (path[0])
        return;
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, sizeof(path), "%s/clymq-fuzz-%d.db", folder, (int)getpid());
    atexit(remove_files);
}

static void write_file(struct bytes content)
{
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file && fwrite(content.ptr, 1, content.len, file) == content.len);
    FUZZ_CHECK(fclose(file) == 0);
}

static uint64_t take(struct bytes *in, size_t count)
{
    uint64_t number = 0;
    for (; count > 0; count--) {
        number = number << 8 | (in->len ? in->ptr[0] : 0);
        if (in->len)
            *in = bytes_of(in->ptr + 1, in->len - 1);
    }
    return number;
}

static struct bytes take_bytes(struct bytes *in, size_t len)
{
    if (len > in->len)
        len = in->len;
    struct bytes taken = bytes_of(in->ptr, len);
    *in = bytes_of(in->ptr + len, in->len - len);
    return taken;
}

/* As database.c sums a row: both lengths and the version, little-endian, then path and value. */
static int64_t row_sum(struct bytes name, struct bytes value, int64_t version)
{
    uint64_t numbers[3] = {name.len, value.len, (uint64_t)version};
    uint8_t head[24];
    for (int i = 0; i < 24; i++)
        head[i] = (uint8_t)(numbers[i / 8] >> (8 * (i % 8)));
    uint32_t sum = crc32c(crc32c(0, head, sizeof(head)), name.ptr, name.len);
    return value.len ? crc32c(sum, value.ptr, value.len) : sum;
}

static void write_rows(struct bytes in, bool keep_sums)
{
    struct tree *tree = tree_new();
    struct strbuf why = {0};
    struct database *database;
    sqlite3 *handle;
    sqlite3_stmt *insert;
    FUZZ_CHECK(tree && database_open(path, DATABASE_MAY_BE_NEW, tree, &why, &database) == 0);
    database_close(database);
    tree_free(tree);
    FUZZ_CHECK(sqlite3_open(path, &handle) == SQLITE_OK);
    FUZZ_CHECK(sqlite3_exec(handle, "PRAGMA synchronous=OFF; BEGIN", NULL, NULL, NULL) == SQLITE_OK);
    FUZZ_CHECK(sqlite3_prepare_v2(handle, "REPLACE INTO node VALUES(?,?,?,?,?)", -1, &insert, NULL) ==
               SQLITE_OK);
    while (in.len) {
        struct bytes name = take_bytes(&in, take(&in, 1)), value = take_bytes(&in, take(&in, 2));
        int64_t version = (int8_t)take(&in, 1), sum = (int64_t)take(&in, 4);
        if (!keep_sums)
            sum = row_sum(name, value, version);
        sqlite3_bind_text(insert, 1, (const char *)name.ptr, (int)name.len, SQLITE_STATIC);
        sqlite3_bind_blob(insert, 2, value.len ? (const void *)value.ptr : "", (int)value.len, SQLITE_STATIC);
        sqlite3_bind_int64(insert, 3, version);
        sqlite3_bind_int(insert, 4, (int)take(&in, 1) & 1);
        sqlite3_bind_int64(insert, 5, sum);
        FUZZ_CHECK(sqlite3_step(insert) == SQLITE_DONE);
        sqlite3_reset(insert);
    }
    sqlite3_finalize(insert);
    FUZZ_CHECK(sqlite3_exec(handle, "COMMIT", NULL, NULL, NULL) == SQLITE_OK);
    sqlite3_close(handle);
}

/* 0 or what the loader says; the number of nodes. */
static int load(bool write, size_t *ret_count)
{
    struct tree *tree = tree_new();
    struct strbuf why = {0};
    struct database *database;
    FUZZ_CHECK(tree);
    int error = database_open(path, DATABASE_MAY_BE_NEW, tree, &why, &database);
    FUZZ_CHECK((error == 0) == (why.len == 0));
    FUZZ_CHECK(error != CLYMQ_ELOCKED);
    FUZZ_CHECK(error != CLYMQ_ENOMEM || strstr(why.data, "damaged")); /* SQLite's word for some damage */
    if (error == 0) {
        *ret_count = tree_count(tree);
        if (write && !tree_get(tree, BYTES_LITERAL("/fuzz"))) {
            struct database_write row = {
                .path = BYTES_LITERAL("/fuzz"), .value = BYTES_LITERAL("x"), .exists = true};
            if (database_write(database, &row, 1) == 0)
                ++*ret_count;
        }
        database_close(database);
    }
    strbuf_free(&why);
    tree_free(tree);
    return error;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    choose_path();
    remove_files();
    fuzz_begin();
    if (data[0] & 1)
        write_rows(bytes_of(data + 1, size - 1), data[0] & 2);
    else
        write_file(bytes_of(data + 1, size - 1));
    size_t count, again;
    if (load(true, &count) == 0) {
        FUZZ_CHECK(load(false, &again) == 0);
        FUZZ_CHECK(count == again);
    }
    fuzz_check_memory(SQLITE_OWN + 64 * size);
    fuzz_check_time(size);
    return 0;
}
