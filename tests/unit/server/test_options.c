/* The options table and its checks. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "server/server_options.h"

static char *const no_environment[] = {NULL};

static int read_options(struct server_options *options, char *const *environment, struct strbuf *error,
                        int argc, char **argv)
{
    return server_options_read(options, argc, argv, environment, error);
}

static void test_defaults(void **state)
{
    struct server_options options;
    struct strbuf error = {0};

    assert_int_equal(read_options(&options, no_environment, &error, 1, (char *[]){"clymqd", NULL}), 0);
    assert_string_equal(options.data_dir, "./clymq-data");
    assert_string_equal(options.broker_listen, "127.0.0.1:8888");
    assert_string_equal(options.coordinator_listen, "127.0.0.1:7878");
    assert_string_equal(options.admin_listen, "127.0.0.1:8880");
    assert_int_equal(options.shards, 0);
    assert_int_equal(options.fsync, 0);
    assert_int_equal(options.push_wait_ms, 30000);
    assert_int_equal(options.retention_ms, -1);
    assert_int_equal(options.retention_bytes, -1);
    assert_true(options.idle_ms >= 600000);
    assert_int_equal(options.max_message_bytes, 16 << 20);
    server_options_free(&options);
    strbuf_free(&error);
}

static void test_precedence(void **state)
{
    char path[] = "/tmp/clymq-test-options-XXXXXX";
    int fd = mkstemp(path);
    static const char text[] = "shards = 2\ndisk_workers = 3\nsegment_bytes = 2M\n";
    char *environment[] = {"CLYMQ_DISK_WORKERS=5", "CLYMQ_SEGMENT_BYTES=4M", "CLYMQ_BIN=/x", "HOME=/", NULL};
    struct server_options options;
    struct strbuf error = {0};
    char *argv[] = {"clymqd", "--config", path, "--segment-bytes=8M", NULL};

    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, sizeof(text) - 1), sizeof(text) - 1);
    close(fd);
    assert_int_equal(read_options(&options, environment, &error, 4, argv), 0);
    assert_int_equal(options.shards, 2);
    assert_int_equal(options.disk_workers, 5);
    assert_int_equal(options.segment_bytes, 8 << 20);
    unlink(path);
    server_options_free(&options);
}

static void test_variables_of_others(void **state)
{
    /* As exported for clymq, and as Kubernetes sets them beside Services called clymq and clymq-broker. */
    char *environment[] = {"CLYMQ_COORDINATOR=a:1",
                           "CLYMQ_CLIENT_LOG=debug",
                           "CLYMQ_SERVICE_HOST=10.0.0.1",
                           "CLYMQ_SERVICE_PORT=7878",
                           "CLYMQ_SERVICE_PORT_BROKER=8888",
                           "CLYMQ_PORT=tcp://10.0.0.1:7878",
                           "CLYMQ_PORT_7878_TCP_ADDR=10.0.0.1",
                           "CLYMQ_BROKER_SERVICE_HOST=10.0.0.1",
                           "CLYMQ_BROKER_SERVICE_PORT=8888",
                           "CLYMQ_BROKER_SERVICE_PORT_RPC=8888",
                           "CLYMQ_BROKER_PORT=tcp://10.0.0.1:8888",
                           "CLYMQ_BROKER_PORT_8888_TCP=tcp://10.0.0.1:8888",
                           "CLYMQ_BROKER_PORT_8888_TCP_PROTO=tcp",
                           "CLYMQ_DATA_DIR=/a_SERVICE_HOST=b",
                           NULL};
    struct server_options options;
    struct strbuf error = {0};
    assert_int_equal(read_options(&options, environment, &error, 1, (char *[]){"clymqd", NULL}), 0);
    assert_string_equal(options.data_dir, "/a_SERVICE_HOST=b");
    server_options_free(&options);
    /* Somebody's guess is none of those. */
    environment[0] = "CLYMQ_BROKER_PORT=8888";
    environment[1] = NULL;
    assert_int_equal(read_options(&options, environment, &error, 1, (char *[]){"clymqd", NULL}),
                     CLYMQ_EINVAL);
    assert_non_null(strstr(error.data, "there is no such option"));
    server_options_free(&options);
    strbuf_free(&error);
}

static void test_mistakes_are_named(void **state)
{
    static const struct {
        const char *flag, *value, *part;
    } cases[] = {
        {"--shrads", "2", "--shards"},
        {"--shards", "many", "shards"},
        {"--shards", "257", "shards"},
        {"--fsync", "sometimes", "commit"},
        {"--broker-listen", "nowhere", "broker"},
        {"--broker-listen", "127.0.0.1: 78", "broker_listen"},
        {"--broker-listen", "::1:7878", "[::1]"},
        {"--broker-listen", "host:99999", "broker_listen"},
        {"--broker-listen", "off", "broker_listen"},
        {"--coordinator-listen", "host:", "coordinator_listen"},
        {"--admin-listen", "on", "admin_listen"},
        {"--kafka-listen", "127.0.0.1:9092", "Kafka"},
        {"--peer-listen", "127.0.0.1:8889", "cluster"},
        {"--metadata", "zookeeper://127.0.0.1:2181", "comes with the cluster"},
        {"--metadata", "etcd", "embedded"},
        {"--roles", "broker", "broker,coordinator"},
        {"--broker-id", "a@b", "broker_id"},
        {"--broker-id", "a/b", "broker_id"},
        {"--advertise-broker", ":1", "advertise_broker"},
        {"--advertise-broker", "2001:db8::5", "[::1]:8888"},
        {"--advertise-broker", "[::1", "advertise_broker"},
        {"--advertise-broker", "host:99999", "advertise_broker"},
        {"--advertise-broker", "host:0", "advertise_broker"},
        {"--advertise-broker", "two hosts", "advertise_broker"},
        {"--advertise-coordinator", "host:", "[::1]:7878"},
        {"--config", "/no/such/file", "/no/such/file"},
        {"--segment-bytes", "1K", "--segment-bytes"},
        {"word", NULL, "word"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char *argv[] = {"clymqd", (char *)cases[i].flag, (char *)cases[i].value, NULL};
        struct server_options options;
        struct strbuf error = {0};

        assert_int_equal(read_options(&options, no_environment, &error, cases[i].value ? 3 : 2, argv),
                         CLYMQ_EINVAL);
        if (!strstr(error.data, cases[i].part))
            fail_msg("\"%s\" does not contain \"%s\"", error.data, cases[i].part);
        server_options_free(&options);
        strbuf_free(&error);
    }
}

/* --config path is refused with path and part; or, without part, taken, with so many shards. */
static void check_config(const char *path, const char *part, int shards)
{
    char *argv[] = {"clymqd", "--config", (char *)path, NULL};
    struct server_options options;
    struct strbuf error = {0};
    int result = read_options(&options, no_environment, &error, 3, argv);

    if (result != (part ? CLYMQ_EINVAL : 0) ||
        (part && !(strstr(error.data, part) && strstr(error.data, path))))
        fail_msg("%s: %d, \"%s\" instead of \"%s\"", path, result, error.data ? error.data : "",
                 part ? part : "");
    if (!part)
        assert_int_equal(options.shards, shards);
    server_options_free(&options);
    strbuf_free(&error);
}

static void put_file(const char *path, const char *text, size_t len)
{
    FILE *file = fopen(path, "we");

    assert_non_null(file);
    assert_int_equal(fwrite(text, 1, len, file), len);
    assert_int_equal(fclose(file), 0);
}

/* Files that are not what somebody meant them to be: told as what they are, in bounded time and memory. */
static void test_config_files(void **state)
{
    char folder[] = "/tmp/clymq-test-options-XXXXXX", path[64];
    static const char binary[] = "\x7f"
                                 "ELF\2\1\1\0\0\n\x1b[31m=\0";

    assert_non_null(mkdtemp(folder));
    check_config(folder, "it is a folder, and a file is wanted", 0);
    check_config("/", "such as /clymq.conf", 0);
    snprintf(path, sizeof(path), "%s/file", folder);
    check_config(path, "No such file or directory", 0);
    put_file(path, "", 0);
    check_config(path, NULL, 0);
    put_file(path, binary, sizeof(binary));
    check_config(path, ":1: a line must be", 0);
    put_file(path, "shards = 3", 10);
    check_config(path, NULL, 3);
    put_file(path, "config = other.conf", 19);
    check_config(path, "names another one, \"config = other.conf\"", 0);
    put_file(path, "config =", 8); /* what an example says */
    check_config(path, NULL, 0);
    put_file(path, "shards = 3", 10);
    assert_int_equal(chmod(path, 0), 0);
    if (geteuid() != 0)
        check_config(path, "Permission denied", 0);
    else if (seteuid(65534) == 0) { /* nobody: root may read everything */
        check_config(path, "denied", 0);
        assert_int_equal(seteuid(0), 0);
    }
    unlink(path);
    rmdir(folder);
    check_config("/dev/null", NULL, 0);
    check_config("/dev/zero", "longer than 1 MiB", 0);
    check_config("/dev/full", "longer than 1 MiB", 0);
}

/* A child that opens the pipe after a while and writes parts, with pauses. */
static pid_t write_later(const char *path, const char *const *parts)
{
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid != 0)
        return pid;
    usleep(50000);
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    for (; *parts; parts++) {
        usleep(50000);
        if (write(fd, *parts, strlen(*parts)) < 0)
            _exit(1);
    }
    _exit(0);
}

/* As <(a command) of a shell gives them, too. */
static void test_config_from_a_pipe(void **state)
{
    char folder[] = "/tmp/clymq-test-options-XXXXXX", path[64];
    int fds[2], status;

    assert_non_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/pipe", folder);
    assert_int_equal(mkfifo(path, 0600), 0);
    pid_t writer = write_later(path, (const char *[]){"sha", "rds ", "= 7\n", NULL});
    check_config(path, NULL, 7);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    assert_int_equal(status, 0);
    writer = write_later(path, (const char *[]){NULL});
    check_config(path, "a pipe that gave nothing", 0);
    assert_int_equal(waitpid(writer, &status, 0), writer);
    check_config(path, "a pipe that gave nothing", 0); /* nobody is there */
    unlink(path);
    rmdir(folder);

    assert_int_equal(pipe(fds), 0);
    snprintf(path, sizeof(path), "/dev/fd/%d", fds[0]);
    assert_int_equal(write(fds[1], "shards = 8", 10), 10);
    close(fds[1]);
    check_config(path, NULL, 8);
    /* Read again, as on SIGHUP: not the defaults for what the first reading took. */
    check_config(path, "a pipe that gave nothing", 0);
    close(fds[0]);
}

static void test_advertised_addresses(void **state)
{
    static const char *const addresses[] = {"queue1", "queue1.example.net:1", "10.0.0.1", "[::1]",
                                            "[2001:db8::5]:65535"};

    for (size_t i = 0; i < sizeof(addresses) / sizeof(addresses[0]); i++) {
        char *argv[] = {"clymqd", "--advertise-broker", (char *)addresses[i], NULL};
        struct server_options options;
        struct strbuf error = {0};

        assert_int_equal(read_options(&options, no_environment, &error, 3, argv), 0);
        assert_string_equal(options.advertise_broker, addresses[i]);
        server_options_free(&options);
    }
}

static void test_changes_that_need_a_restart(void **state)
{
    struct server_options before, after;
    struct strbuf error = {0}, names = {0};
    char *argv[] = {"clymqd", "--shards", "3", "--push-wait-ms", "1s", "--data-dir", "x", NULL};

    assert_int_equal(read_options(&before, no_environment, &error, 1, argv), 0);
    assert_int_equal(read_options(&after, no_environment, &error, 7, argv), 0);
    server_options_list_fixed_changes(&before, &after, &names);
    assert_string_equal(names.data, "data_dir, shards");
    server_options_free(&before);
    server_options_free(&after);
    strbuf_free(&names);
}

static void test_out_of_memory(void **state)
{
    for (uint64_t nth = 1; nth < 400; nth++) {
        struct server_options options;
        struct strbuf error = {0};
        char *argv[] = {"clymqd", "--data-dir", "x", NULL};

        mem_fail_nth(nth);
        int result = read_options(&options, no_environment, &error, 3, argv);
        bool failed = mem_failed();
        mem_fail_nth(0);
        assert_true(result == 0 || failed);
        server_options_free(&options);
        strbuf_free(&error);
        if (!failed)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_defaults),
        cmocka_unit_test(test_precedence),
        cmocka_unit_test(test_mistakes_are_named),
        cmocka_unit_test(test_config_files),
        cmocka_unit_test(test_config_from_a_pipe),
        cmocka_unit_test(test_advertised_addresses),
        cmocka_unit_test(test_changes_that_need_a_restart),
        cmocka_unit_test(test_variables_of_others),
        cmocka_unit_test(test_out_of_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
