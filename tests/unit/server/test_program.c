/* clymqd as a process: the serving line, exit codes, signals. Its path is the first argument. */
#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/buf.h"

static const char *program;

struct run {
    pid_t pid;
    int out;      /* its standard output */
    char err[64]; /* file of its standard error */
};

static char folder[] = "/tmp/clymq-test-program-XXXXXX";
static rlim_t open_files; /* the limit that the next ones are started with; 0 = the test's own */

static void start(struct run *run, const char *const *more)
{
    const char *argv[32] = {program,
                            "--data-dir",
                            "",
                            "--broker-listen",
                            "127.0.0.1:0",
                            "--coordinator-listen",
                            "127.0.0.1:0",
                            "--admin-listen",
                            "127.0.0.1:0",
                            "--shards",
                            "2"};
    char data[96];
    int pipe_fds[2], count = 11;

    snprintf(data, sizeof(data), "%s/data", folder);
    snprintf(run->err, sizeof(run->err), "%s/err", folder);
    argv[2] = data;
    while (*more)
        argv[count++] = *more++;
    assert_int_equal(pipe(pipe_fds), 0);
    run->pid = fork();
    if (run->pid == 0) {
        int err = open(run->err, O_WRONLY | O_CREAT | O_TRUNC, 0600);

        dup2(pipe_fds[1], 1);
        dup2(err, 2);
        close(pipe_fds[0]);
        if (open_files)
            setrlimit(RLIMIT_NOFILE, &(struct rlimit){open_files, open_files});
        execv(program, (char *const *)argv);
        _exit(99);
    }
    close(pipe_fds[1]);
    run->out = pipe_fds[0];
}

static bool contains(const char *path, const char *part)
{
    FILE *file = fopen(path, "re");
    char text[65536];
    size_t len;

    assert_non_null(file);
    len = fread(text, 1, sizeof(text) - 1, file);
    text[len] = 0;
    fclose(file);
    return strstr(text, part) != NULL;
}

/* Everything up to a newline, or what there is when it ends. */
static void read_line(struct run *run, char *out, size_t cap)
{
    struct pollfd fd = {.fd = run->out, .events = POLLIN};
    size_t used = 0;

    while (used < cap - 1 && poll(&fd, 1, 60000) == 1 && read(run->out, out + used, 1) == 1)
        if (out[used++] == '\n')
            break;
    out[used] = 0;
}

static int end(struct run *run)
{
    int status;

    assert_int_equal(waitpid(run->pid, &status, 0), run->pid);
    close(run->out);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1000 + WTERMSIG(status);
}

static int run_to_end(const char *const *more, const char *part)
{
    struct run run;

    start(&run, more);
    int code = end(&run);
    if (part && !contains(run.err, part)) {
        printf("standard error does not contain \"%s\"\n", part);
        return -1;
    }
    return code;
}

static void test_serves_and_stops(void **state)
{
    struct run run;
    char line[1024];

    for (int life = 0; life < 3; life++) {
        start(&run, (const char *[]){NULL});
        read_line(&run, line, sizeof(line));
        if (!strstr(line, "coordinator 127.0.0.1:") || !strstr(line, "/metrics") || !strstr(line, folder))
            fail_msg("%s", line);
        kill(run.pid, life == 1 ? SIGINT : SIGTERM);
        assert_int_equal(end(&run), 0);
    }
    start(&run, (const char *[]){NULL});
    read_line(&run, line, sizeof(line));
    kill(run.pid, SIGKILL);
    assert_int_equal(end(&run), 1000 + SIGKILL);
    start(&run, (const char *[]){"--log-level", "debug", NULL});
    read_line(&run, line, sizeof(line));
    assert_true(strlen(line) > 0);
    kill(run.pid, SIGHUP);
    for (int i = 0; i < 2000 && !contains(run.err, "options read again"); i++)
        usleep(10000);
    assert_true(contains(run.err, "options read again"));
    kill(run.pid, SIGTERM);
    assert_int_equal(end(&run), 0);
}

static void test_refusals(void **state)
{
    struct run run;
    char line[1024], port[64];

    start(&run, (const char *[]){NULL});
    read_line(&run, line, sizeof(line));
    assert_int_equal(run_to_end((const char *[]){NULL}, "in use"), 1);
    snprintf(port, sizeof(port), "127.0.0.1:%d", atoi(strstr(line, "broker 127.0.0.1:") + 17));
    char other[96];
    snprintf(other, sizeof(other), "%s/other", folder);
    assert_int_equal(
        run_to_end((const char *[]){"--data-dir", other, "--broker-listen", port, NULL}, "--broker-listen"),
        1);
    assert_int_equal(
        run_to_end((const char *[]){"--data-dir", other, "--admin-listen", port, NULL}, "--admin-listen"), 1);
    assert_int_equal(run_to_end((const char *[]){"--shrads", "2", NULL}, "--shards"), 2);
    assert_int_equal(run_to_end((const char *[]){"--log-level", "loud", NULL}, "log_level"), 2);
    assert_int_equal(run_to_end((const char *[]){"--log-file", folder, NULL}, "Is a directory"), 2);
    kill(run.pid, SIGTERM);
    assert_int_equal(end(&run), 0);
    assert_int_equal(
        run_to_end((const char *[]){"--broker-id", "somebody-else", NULL}, "belongs to the broker"), 1);
    assert_int_equal(run_to_end((const char *[]){"--data-dir", "/proc/nothing", NULL}, "/proc/nothing"), 1);
}

/* Whoever fills one port shuts neither the other nor the logs, however many shards share the descriptors. */
static void test_few_descriptors(void **state)
{
    enum { LIMIT = 160, TOO_MANY = 100 };
    struct run run;
    char line[1024];
    int clients[TOO_MANY];

    open_files = LIMIT;
    start(&run, (const char *[]){"--shards", "16", NULL});
    read_line(&run, line, sizeof(line));
    const char *broker = strstr(line, "broker 127.0.0.1:");
    assert_non_null(broker);
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_port = htons((uint16_t)atoi(broker + 17)),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    for (int i = 0; i < TOO_MANY; i++) {
        clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(connect(clients[i], (struct sockaddr *)&address, sizeof(address)), 0);
    }
    for (int i = 0; i < 2000 && !contains(run.err, "refused a connection"); i++)
        usleep(10000);
    assert_true(contains(run.err, "refused a connection"));
    assert_false(contains(run.err, "cannot accept"));
    for (int i = 0; i < TOO_MANY; i++)
        close(clients[i]);
    kill(run.pid, SIGTERM);
    assert_int_equal(end(&run), 0);
    assert_int_equal(run_to_end((const char *[]){"--shards", "64", NULL}, "LimitNOFILE="), 1);
    open_files = 0;
}

static void test_information(void **state)
{
    static const char *const flags[] = {"--help",
                                        "--version",
                                        "--print-options-reference",
                                        "--print-options-manual",
                                        "--print-config-manual",
                                        "--print-config-example"};
    static const char *const parts[] = {"usage: clymqd",      "clymqd 0.",
                                        "| `push_wait_ms`",   "push\\-wait\\-ms\\fR",
                                        "push_wait_ms\\fR =", "\n#push_wait_ms = 30s\n"};

    for (unsigned i = 0; i < sizeof(flags) / sizeof(*flags); i++) {
        struct run run;
        char text[65536];
        size_t used = 0;
        ssize_t got;

        start(&run, (const char *[]){flags[i], NULL});
        while ((got = read(run.out, text + used, sizeof(text) - 1 - used)) > 0)
            used += (size_t)got;
        text[used] = 0;
        assert_int_equal(end(&run), 0);
        assert_non_null(strstr(text, parts[i]));
    }
}

static int teardown(void **state)
{
    char command[128];

    snprintf(command, sizeof(command), "rm -rf %s", folder);
    return system(command) != 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_serves_and_stops),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_few_descriptors),
        cmocka_unit_test(test_information),
    };

    if (argc < 2 || !mkdtemp(folder))
        return 77;
    program = argv[1];
    return cmocka_run_group_tests(tests, NULL, teardown);
}
