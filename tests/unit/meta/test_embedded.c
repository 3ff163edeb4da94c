/* The embedded backend: the contract, and what is its own: the file, its lock, format and damage, kill -9,
 * full and broken disks. */
#include "unit/meta/contract.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "base/rng.h"
#include "unit/meta/fault_vfs.h"

struct embedded_driver {
    struct meta_driver driver;
    struct io_loop *loop;
    struct shards *shards;
    char folder[64], path[96];
    const bool *until;
    struct io_timer deadline;
};

static void loop_check(void *ctx);

static void start_loop(struct embedded_driver *self)
{
    assert_int_equal(io_os_loop_new(2, &self->loop), 0);
    assert_int_equal(shards_new_on_loops(&self->loop, 1, NULL, &self->shards), 0);
}

static void embedded_setup(struct meta_driver *driver)
{
    struct embedded_driver *self = (struct embedded_driver *)driver;
    strcpy(self->folder, "/tmp/clymq-meta-XXXXXX");
    assert_non_null(mkdtemp(self->folder));
    snprintf(self->path, sizeof(self->path), "%s/meta.db", self->folder);
    start_loop(self);
}

static void remove_files(struct embedded_driver *self)
{
    char path[128];
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof(path), "%s%s", self->path, suffixes[i]);
        unlink(path);
    }
}

static void stop_loop(struct embedded_driver *self)
{
    shards_free(self->shards);
    io_loop_free(self->loop);
}

static void embedded_teardown(struct meta_driver *driver)
{
    struct embedded_driver *self = (struct embedded_driver *)driver;
    stop_loop(self);
    remove_files(self);
    assert_int_equal(rmdir(self->folder), 0);
}

static struct meta *embedded_open(struct meta_driver *driver)
{
    struct embedded_driver *self = (struct embedded_driver *)driver;
    struct strbuf error = {0};
    struct meta *meta = NULL;
    int result = meta_embedded_open(shards_get(self->shards, 0), self->path, &error, &meta);
    if (result)
        fail_msg("%s", error.data);
    strbuf_free(&error);
    return meta;
}

/* A timer that fires every millisecond looks whether what is waited for has come. */
static void loop_check(void *ctx)
{
    struct embedded_driver *self = ctx;
    if (*self->until)
        io_loop_stop(self->loop);
}
static unsigned ticks;
static void tick(struct io_timer *timer)
{
    struct embedded_driver *self = timer->ctx;
    loop_check(self);
    assert_true(++ticks < 60000);
    assert_int_equal(io_timer_start(self->loop, timer, IO_MS(1)), 0);
}

static void embedded_run(struct meta_driver *driver, const bool *until)
{
    struct embedded_driver *self = (struct embedded_driver *)driver;
    if (*until)
        return;
    self->until = until;
    self->deadline.fire = tick;
    self->deadline.ctx = self;
    ticks = 0;
    while (io_timer_start(self->loop, &self->deadline, 0)) /* the failing allocation of the test may hit it */
        ;
    io_loop_run(self->loop);
    io_timer_stop(self->loop, &self->deadline);
    assert_true(*until);
}

static struct embedded_driver driver = {.driver = {
                                            .name = "embedded",
                                            .setup = embedded_setup,
                                            .teardown = embedded_teardown,
                                            .open = embedded_open,
                                            .run = embedded_run,
                                        }};

static int setup(void **state)
{
    embedded_setup(&driver.driver);
    return 0;
}
static int teardown(void **state)
{
    fault_vfs_fail(0, 0, 0);
    embedded_teardown(&driver.driver);
    return 0;
}

static struct meta *open_meta(void)
{
    return embedded_open(&driver.driver);
}
static struct answer transact(struct meta *meta, const struct meta_op *ops, size_t count)
{
    return contract_transact(&driver.driver, meta, ops, count);
}
static struct answer get(struct meta *meta, const char *path)
{
    return contract_get(&driver.driver, meta, path, false);
}

/* Opening fails with that error and a sentence that holds the text. */
static void assert_refused(int expected, const char *text)
{
    struct strbuf error = {0};
    struct meta *meta = NULL;
    assert_int_equal(meta_embedded_open(shards_get(driver.shards, 0), driver.path, &error, &meta), expected);
    assert_null(meta);
    assert_non_null(error.data);
    if (!strstr(error.data, text) || !strstr(error.data, driver.path))
        fail_msg("the sentence \"%s\" lacks \"%s\"", error.data, text);
    strbuf_free(&error);
}

static void run_sql(const char *sql)
{
    sqlite3 *handle;
    assert_int_equal(sqlite3_open(driver.path, &handle), SQLITE_OK);
    char *message = NULL;
    /* The failing VFS offers no shared memory, which WAL needs unless the lock is exclusive. */
    sqlite3_exec(handle, "PRAGMA locking_mode=EXCLUSIVE", NULL, NULL, NULL);
    if (sqlite3_exec(handle, sql, NULL, NULL, &message) != SQLITE_OK)
        fail_msg("%s: %s", sql, message);
    sqlite3_close(handle);
}

static void test_one_process(void **state)
{
    struct meta *meta = open_meta();
    assert_refused(CLYMQ_ELOCKED, "in use");
    /* Another program, not a fork: SQLite's own table of locks must not be inherited. */
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        execl("/proc/self/exe", "test", "try-open", driver.path, (char *)NULL);
        _exit(99);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    meta_close(meta);
    meta_close(open_meta());
}

static void test_formats(void **state)
{
    meta_close(open_meta());
    run_sql("PRAGMA user_version=2");
    assert_refused(CLYMQ_EFORMAT, "newer");
    run_sql("PRAGMA user_version=1; PRAGMA application_id=77");
    assert_refused(CLYMQ_ECORRUPT, "no ClyMQ metadata");
    remove_files(&driver);
    run_sql("CREATE TABLE somebody(elses INTEGER)");
    assert_refused(CLYMQ_ECORRUPT, "no ClyMQ metadata");
    snprintf(driver.path, sizeof(driver.path), "%s/none/meta.db", driver.folder);
    assert_refused(CLYMQ_ENOENT, "cannot open");
    snprintf(driver.path, sizeof(driver.path), "%s/meta.db", driver.folder);
}

/* Whoever is not the server's user or group reads nothing, whatever the umask; a stricter one counts. */
static void test_modes(void **state)
{
    static const char *const suffixes[] = {"", "-wal"};
    static const mode_t masks[] = {0, 022, 077};
    for (size_t m = 0; m < sizeof(masks) / sizeof(masks[0]); m++) {
        remove_files(&driver);
        mode_t before = umask(masks[m]);
        struct meta *meta = open_meta();
        struct meta_op op = op_create("/d", "");
        assert_int_equal(transact(meta, &op, 1).error, 0);
        umask(before);
        for (size_t i = 0; i < sizeof(suffixes) / sizeof(suffixes[0]); i++) {
            char path[128];
            struct stat facts;
            snprintf(path, sizeof(path), "%s%s", driver.path, suffixes[i]);
            assert_int_equal(stat(path, &facts), 0);
            assert_int_equal(facts.st_mode & 0777, 0640 & ~masks[m]);
        }
        meta_close(meta);
    }
}

static void fill(struct meta *meta, int count)
{
    struct meta_op make = op_create("/d", "");
    assert_int_equal(transact(meta, &make, 1).error, 0);
    for (int i = 0; i < count; i++) {
        char path[32], value[200];
        snprintf(path, sizeof(path), "/d/%d", i);
        snprintf(value, sizeof(value), "value %0150d", i);
        struct meta_op op = op_create(path, value);
        assert_int_equal(transact(meta, &op, 1).error, 0);
    }
}

/* What a start that was killed left beside the file, and the log of a file that is gone. */
static void test_leftovers(void **state)
{
    char path[128];
    struct meta *meta = open_meta();
    fill(meta, 3);
    meta_close(meta);
    assert_int_equal(unlink(driver.path), 0);
    snprintf(path, sizeof(path), "%s.new", driver.path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "SQLite format 3", 15), 15);
    close(fd);
    meta = open_meta();
    fill(meta, 1); /* nothing is there */
    meta_close(meta);
    assert_int_equal(access(path, F_OK), -1);
    meta_close(open_meta());
}

static void test_damaged_rows(void **state)
{
    struct meta *meta = open_meta();
    fill(meta, 3);
    meta_close(meta);
    run_sql("UPDATE node SET value = 'vAlue' WHERE path = '/d/1'");
    assert_refused(CLYMQ_ECORRUPT, "/d/1");
    run_sql("DELETE FROM node WHERE path = '/d/1'");
    meta_close(open_meta());
    run_sql("DELETE FROM node WHERE path = '/d'");
    assert_refused(CLYMQ_ECORRUPT, "/d/0");
    run_sql("DROP TABLE node");
    struct strbuf error = {0};
    assert_true(meta_embedded_open(shards_get(driver.shards, 0), driver.path, &error, &meta) < 0);
    strbuf_free(&error);
}

/* A file is not trusted to be one of ours: a row larger than any is refused before there is memory for it,
 * and what its schema says besides is not done. */
static void test_foreign_content(void **state)
{
    struct meta *meta = open_meta();
    fill(meta, 3);
    meta_close(meta);
    run_sql("CREATE TRIGGER more AFTER INSERT ON node BEGIN DELETE FROM node WHERE path = '/d/1'; END");
    assert_refused(CLYMQ_ECORRUPT, "no ClyMQ metadata");
    run_sql("DROP TRIGGER more; CREATE UNIQUE INDEX more ON node(substr(path, 1, 0)) WHERE path > '/d/2'");
    assert_refused(CLYMQ_ECORRUPT, "no ClyMQ metadata");
    run_sql("DROP INDEX more; ALTER TABLE node ADD COLUMN more INTEGER CHECK(more IS NULL)");
    assert_refused(CLYMQ_ECORRUPT, "no ClyMQ metadata");
    run_sql("ALTER TABLE node DROP COLUMN more");
    meta_close(open_meta());
    run_sql("UPDATE node SET value = zeroblob(2000000) WHERE path = '/d/1'");
    assert_refused(CLYMQ_ECORRUPT, "too big");
}

/* Any damage to the file is told or harmless: it never crashes and never shows another value. */
static void test_damaged_bytes(void **state)
{
    struct meta *meta = open_meta();
    fill(meta, 60);
    meta_close(meta);
    struct stat info;
    assert_int_equal(stat(driver.path, &info), 0);
    uint8_t *whole = malloc((size_t)info.st_size);
    int file = open(driver.path, O_RDWR);
    assert_int_equal(pread(file, whole, (size_t)info.st_size, 0), info.st_size);
    struct rng rng;
    rng_seed(&rng, 5);
    int told = 0, harmless = 0;
    for (int round = 0; round < 150; round++) {
        char wal[128];
        snprintf(wal, sizeof(wal), "%s-wal", driver.path);
        unlink(wal);
        assert_int_equal(pwrite(file, whole, (size_t)info.st_size, 0), info.st_size);
        assert_int_equal(ftruncate(file, info.st_size), 0);
        if (round % 10 == 0) {
            assert_int_equal(ftruncate(file, 1 + (off_t)rng_below(&rng, (uint64_t)info.st_size - 1)), 0);
        } else {
            off_t at = (off_t)rng_below(&rng, (uint64_t)(round % 3 ? info.st_size : 200));
            uint8_t byte = whole[at] ^ (uint8_t)(1u << rng_below(&rng, 8));
            assert_int_equal(pwrite(file, &byte, 1, at), 1);
        }
        struct strbuf error = {0};
        meta = NULL;
        int result = meta_embedded_open(shards_get(driver.shards, 0), driver.path, &error, &meta);
        if (result) {
            assert_true(error.len > 20);
            told++;
        } else {
            struct answer answer = get(meta, "/d/17");
            assert_int_equal(answer.error, 0);
            char value[200];
            snprintf(value, sizeof(value), "value %0150d", 17);
            assert_string_equal(answer.value, value);
            assert_int_equal(contract_list(&driver.driver, meta, "/d", false).child_count, 60);
            meta_close(meta);
            harmless++;
        }
        strbuf_free(&error);
    }
    close(file);
    free(whole);
    assert_true(told > 50);
    print_message("damage: %d told, %d harmless\n", told, harmless);
}

/* A child commits, tells by a pipe what was acknowledged, and dies without closing anything. */
static void test_kill(void **state)
{
    struct meta *meta = open_meta();
    struct meta_op make = op_create("/d", "");
    assert_int_equal(transact(meta, &make, 1).error, 0);
    meta_close(meta);
    stop_loop(&driver);
    for (int round = 0; round < 10; round++) {
        int channel[2];
        assert_int_equal(pipe(channel), 0);
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            start_loop(&driver);
            meta = open_meta();
            for (int i = 0; i < 20 + round; i++) {
                char path[32];
                snprintf(path, sizeof(path), "/d/%d-%d", round, i);
                struct meta_op ops[] = {op_create(path, "v"), op_create("/live", "")};
                ops[1].ephemeral = true;
                struct answer answer = transact(meta, ops, i == 0 ? 2 : 1);
                if (answer.error || write(channel[1], &i, sizeof(i)) != sizeof(i))
                    _exit(1);
            }
            /* One more is under way. */
            struct meta_op ops[] = {op_create("/d/half-a", ""), op_create("/d/half-b", "")};
            struct answer answer = {0};
            meta_transact(meta, ops, 2, contract_collect, &answer);
            if (round % 2) {
                bool soon = true;
                embedded_run(&driver.driver, &soon);
            }
            kill(getpid(), SIGKILL);
            _exit(1);
        }
        close(channel[1]);
        int last = -1, i;
        while (read(channel[0], &i, sizeof(i)) == sizeof(i))
            last = i;
        close(channel[0]);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status));
        assert_int_equal(last, 19 + round);
        start_loop(&driver);
        meta = open_meta();
        for (i = 0; i <= last; i++) {
            char path[32];
            snprintf(path, sizeof(path), "/d/%d-%d", round, i);
            assert_int_equal(get(meta, path).error, 0);
        }
        assert_int_equal(get(meta, "/d/half-a").error, get(meta, "/d/half-b").error);
        assert_int_equal(get(meta, "/live").error, CLYMQ_ENOENT);
        struct meta_op clean[] = {op_delete("/d/half-a", META_ANY_VERSION),
                                  op_delete("/d/half-b", META_ANY_VERSION)};
        transact(meta, clean, 2);
        meta_close(meta);
        stop_loop(&driver);
    }
    start_loop(&driver);
}

static void hear_session(void *ctx, enum meta_event event, const char *path)
{
    if (event == META_EVENT_SESSION)
        ++*(int *)ctx;
}

/* The nth disk operation fails: what was acknowledged stays, what failed for want of space is not there, and
 * after an error of unknown outcome the session is over and opening again shows one or the other. */
static void test_failing_disk(void **state)
{
    static const int results[] = {SQLITE_FULL, SQLITE_IOERR_WRITE};
    int full = 0, lost = 0;
    for (int kind = 0; kind < 2; kind++)
        for (uint64_t nth = 1; nth <= 40; nth++) {
            struct meta *meta = open_meta();
            struct meta_op make[] = {op_create("/d", "first"), op_create("/d/a", "1")};
            assert_int_equal(transact(meta, make, 2).error, 0);
            int heard = 0;
            meta_set_watcher(meta, hear_session, &heard);
            fault_vfs_fail(nth, 2, results[kind]);
            int error = 0, i;
            for (i = 0; i < 12 && !error; i++) {
                char value[32];
                snprintf(value, sizeof(value), "%d", i + 2);
                struct meta_op ops[] = {op_set("/d/a", value, i), op_set("/d", value, i)};
                error = transact(meta, ops, 2).error;
                if (!error)
                    assert_string_equal(get(meta, "/d").value, value);
            }
            int done = error ? i - 1 : i;
            char expected[32], next[32];
            snprintf(expected, sizeof(expected), "%d", done + 1);
            snprintf(next, sizeof(next), "%d", done + 2);
            if (done == 0)
                strcpy(expected, "first");
            if (error == CLYMQ_ENOSPC) {
                full++;
                assert_string_equal(get(meta, "/d").value, expected);
                fault_vfs_fail(0, 0, 0);
                /* It goes on by itself once there is room. */
                struct meta_op more = op_set("/d", "more", done);
                assert_int_equal(transact(meta, &more, 1).error, 0);
                strcpy(expected, "more");
            } else if (error) {
                lost++;
                assert_int_equal(error, CLYMQ_ESESSION);
                assert_int_equal(heard, 1);
                /* The next session reads back which it was, as soon as the disk lets it. */
                struct answer again = get(meta, "/d");
                for (int tries = 0; again.error == CLYMQ_ESESSION && tries < 3; tries++)
                    again = get(meta, "/d");
                assert_int_equal(again.error, 0);
                if (strcmp(again.value, next) == 0)
                    strcpy(expected, next);
                assert_string_equal(again.value, expected);
                struct meta_op more = op_set("/d", "more", again.version);
                assert_int_equal(transact(meta, &more, 1).error, 0);
                strcpy(expected, "more");
            }
            fault_vfs_fail(0, 0, 0);
            meta_close(meta);
            meta = open_meta();
            struct answer answer = get(meta, "/d");
            assert_int_equal(answer.error, 0);
            assert_string_equal(answer.value, expected);
            meta_close(meta);
            remove_files(&driver);
        }
    print_message("failing disk: %d times full, %d times lost\n", full, lost);
    assert_true(full > 10 && lost > 10);
}

/* The disk fails, and when the file is to be opened again it is not there any more, or empty, as where a
 * mount went away: nothing is founded anew in its place. */
static void test_a_file_that_went_away(void **state)
{
    for (int empty = 0; empty < 2; empty++) {
        struct meta *meta = open_meta();
        struct meta_op make = op_create("/d", "first"), set = op_set("/d", "second", 0);
        assert_int_equal(transact(meta, &make, 1).error, 0);
        fault_vfs_fail(1, 2, SQLITE_IOERR_WRITE);
        assert_int_equal(transact(meta, &set, 1).error, CLYMQ_ESESSION);
        fault_vfs_fail(0, 0, 0);
        struct stat info;
        remove_files(&driver);
        if (empty)
            close(open(driver.path, O_WRONLY | O_CREAT | O_EXCL, 0600));
        for (int tries = 0; tries < 3; tries++)
            assert_int_equal(get(meta, "/d").error, CLYMQ_ESESSION);
        meta_close(meta);
        assert_int_equal(stat(driver.path, &info), empty ? 0 : -1);
        if (empty)
            assert_int_equal(info.st_size, 0);
        remove_files(&driver);
    }
}

/* The same with writes large enough that SQLite moves its log into the file meanwhile, failing at any
 * operation of that. */
static void test_failing_checkpoint(void **state)
{
    enum { SETS = 90, BYTES = 64 << 10 };
    char *value = malloc(BYTES + 1);
    struct rng rng;
    rng_seed(&rng, 77);
    uint64_t operations = 1500;
    int full = 0, lost = 0, unharmed = 0;
    for (int round = 0; round < 10; round++) {
        struct meta *meta = open_meta();
        struct meta_op make = op_create("/d", "");
        assert_int_equal(transact(meta, &make, 1).error, 0);
        uint64_t before = fault_vfs_operations();
        if (round) /* the first round counts */
            fault_vfs_fail(1 + rng_below(&rng, operations), 1, round % 2 ? SQLITE_FULL : SQLITE_IOERR_WRITE);
        int error = 0, done = 0;
        while (done < SETS && !error) {
            memset(value, 'a' + done % 26, BYTES);
            value[BYTES] = '\0';
            struct meta_op set = op_set("/d", value, done);
            error = transact(meta, &set, 1).error;
            done += !error;
        }
        if (!round)
            operations = fault_vfs_operations() - before;
        fault_vfs_fail(0, 0, 0);
        full += error == CLYMQ_ENOSPC;
        lost += error == CLYMQ_ESESSION;
        unharmed += !error; /* a checkpoint that fails is made again later */
        if (error == CLYMQ_ENOSPC) {
            struct meta_op again = op_set("/d", "again", done);
            assert_int_equal(transact(meta, &again, 1).error, 0);
            done++;
        }
        meta_close(meta);
        meta = open_meta();
        struct answer answer = {0};
        struct meta_op check = op_check("/d", done), later = op_check("/d", done + 1);
        answer = transact(meta, &check, 1);
        if (answer.error) {
            assert_int_equal(error, CLYMQ_ESESSION);
            assert_int_equal(transact(meta, &later, 1).error, 0);
        }
        meta_close(meta);
        remove_files(&driver);
    }
    free(value);
    print_message("%llu operations: %d times full, %d lost, %d unharmed\n", (unsigned long long)operations,
                  full, lost, unharmed);
    assert_true(full > 0 && lost > 0);
}

/* Many transactions at once share syncs. */
static void test_group_commit(void **state)
{
    struct meta *meta = open_meta();
    struct meta_op make = op_create("/d", "");
    assert_int_equal(transact(meta, &make, 1).error, 0);
    enum { COUNT = 500 };
    static struct answer answers[COUNT];
    memset(answers, 0, sizeof(answers));
    uint64_t before = fault_vfs_operations();
    for (int i = 0; i < COUNT; i++) {
        char path[32];
        snprintf(path, sizeof(path), "/d/%d", i);
        struct meta_op op = op_create(path, "v");
        meta_transact(meta, &op, 1, contract_collect, &answers[i]);
    }
    embedded_run(&driver.driver, &answers[COUNT - 1].done);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(answers[i].error, 0);
    uint64_t operations = fault_vfs_operations() - before;
    print_message("%d transactions: %llu disk operations\n", COUNT, (unsigned long long)operations);
    assert_true(operations < COUNT / 2);
    meta_close(meta);
}

static void no_log(void *ctx, enum log_level level, const char *line)
{
}

/* The other process of test_one_process: whether the file is locked. */
static int try_open(const char *path)
{
    start_loop(&driver);
    struct strbuf error = {0};
    struct meta *meta = NULL;
    int result = meta_embedded_open(shards_get(driver.shards, 0), path, &error, &meta);
    meta_close(meta);
    strbuf_free(&error);
    stop_loop(&driver);
    return result == CLYMQ_ELOCKED ? 0 : 1;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "try-open") == 0)
        return try_open(argv[2]);
    fault_vfs_install();
    log_set_sink(no_log, NULL);
    int failures = contract_run(&driver.driver);
#define T(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_one_process),        T(test_formats),      T(test_modes),
        T(test_leftovers),          T(test_damaged_rows), T(test_foreign_content),
        T(test_damaged_bytes),      T(test_kill),         T(test_failing_disk),
        T(test_failing_checkpoint), T(test_group_commit), T(test_a_file_that_went_away),
    };
    return failures + cmocka_run_group_tests(tests, NULL, NULL);
}
