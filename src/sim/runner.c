/* Processes that run seeds: each takes every jobs-th one and reports over a pipe what it begins and what came
 * out, so that its end is put down to the right seed. */
#include "sim/runner.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "sim/control.h"

enum { JOBS_MAX = 64, SILENT_S = 300 };

struct report {
    uint64_t seed;
    bool done; /* false: begun */
    struct run_result result;
};

struct worker {
    pid_t pid;
    int fd;        /* -1: none */
    uint64_t next; /* the seed that it runs or runs next */
    uint64_t seed; /* under way; next + … */
    bool busy;
    time_t heard_s; /* when it last reported */
    size_t have;    /* bytes of `report` that have come in */
    struct report report;
};

struct runner {
    const struct runner_plan *plan;
    struct worker workers[JOBS_MAX];
    uint64_t passed, failed;
    bool enough;
    struct run_counts counts;
    uint64_t simulated_ms;
};

/* ---- in a worker ---- */

static void send_report(int fd, const struct report *report)
{
    const char *at = (const char *)report;

    for (size_t left = sizeof(*report); left > 0;) {
        ssize_t written = write(fd, at, left);

        if (written <= 0)
            _exit(3);
        at += written;
        left -= (size_t)written;
    }
}

static void work(const struct runner_plan *plan, uint64_t first, int fd)
{
    struct run_options options = plan->options;
    static struct report report;

    for (uint64_t seed = first; seed <= plan->last && seed >= first; seed += plan->jobs) {
        options.seed = seed;
        report.seed = seed;
        report.done = false;
        send_report(fd, &report);
        run_seed(&options, &report.result);
        report.done = true;
        send_report(fd, &report);
    }
}

/* ---- in the runner ---- */

/* The real clock: it watches over workers and decides nothing in a run. */
static time_t now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static void start_worker(struct runner *runner, struct worker *worker)
{
    int ends[2];

    worker->fd = -1;
    worker->have = 0;
    worker->busy = false;
    if (worker->next > runner->plan->last || runner->enough)
        return;
    fflush(NULL);
    if (pipe(ends) || (worker->pid = fork()) < 0) {
        perror("clymq-sim");
        exit(2);
    }
    if (worker->pid == 0) {
        close(ends[0]);
        work(runner->plan, worker->next, ends[1]);
        exit(0); /* not _exit: a leak checker wants its say */
    }
    close(ends[1]);
    worker->fd = ends[0];
    worker->heard_s = now_s();
}

static void print_failure(struct runner *runner, uint64_t seed, const char *what)
{
    runner->failed++;
    runner->enough = runner->enough || runner->plan->want_violation;
    if (runner->plan->json)
        printf("{\"seed\":%" PRIu64 ",\"violation\":\"%s\"}\n", seed, what);
    else
        printf("seed %" PRIu64 ": %s; replay: %s --seed %" PRIu64 "\n", seed, what, runner->plan->replay,
               seed);
    fflush(stdout);
}

static void take_report(struct runner *runner, struct worker *worker)
{
    struct report *report = &worker->report;
    struct run_result *result = &report->result;

    worker->seed = report->seed;
    worker->busy = !report->done;
    if (!report->done)
        return;
    worker->next = report->seed + runner->plan->jobs;
    runner->simulated_ms += result->simulated_ms;
#define X(name, sentence) runner->counts.name += result->counts.name;
    RUN_COUNTS(X)
#undef X
    if (!result->violation[0]) {
        runner->passed++;
        return;
    }
    for (char *at = result->violation; *at; at++)
        if (*at == '"' || *at == '\n' || *at == '\\')
            *at = '\'';
    print_failure(runner, report->seed, result->violation);
}

static void reap(struct runner *runner, struct worker *worker, const char *why)
{
    char what[120];
    int status = 0;

    close(worker->fd);
    if (why)
        kill(worker->pid, SIGKILL);
    waitpid(worker->pid, &status, 0);
    if (why)
        snprintf(what, sizeof(what), "I8: %s", why);
    else if (WIFSIGNALED(status))
        snprintf(what, sizeof(what), "I8: the process died of signal %d", WTERMSIG(status));
    else
        snprintf(what, sizeof(what), "I8: the process ended with status %d", WEXITSTATUS(status));
    if (worker->busy) {
        print_failure(runner, worker->seed, what);
        worker->next = worker->seed + runner->plan->jobs;
    } else if (why || !WIFEXITED(status) || WEXITSTATUS(status)) {
        print_failure(runner, worker->seed, what); /* after its last seed: a leak checker's verdict */
    }
    start_worker(runner, worker);
}

static void read_worker(struct runner *runner, struct worker *worker)
{
    ssize_t got =
        read(worker->fd, (char *)&worker->report + worker->have, sizeof(worker->report) - worker->have);

    if (got <= 0) {
        reap(runner, worker, NULL);
        return;
    }
    worker->heard_s = now_s();
    worker->have += (size_t)got;
    if (worker->have < sizeof(worker->report))
        return;
    worker->have = 0;
    take_report(runner, worker);
}

static void stop_all(struct runner *runner)
{
    for (unsigned i = 0; i < runner->plan->jobs; i++) {
        struct worker *worker = &runner->workers[i];

        if (worker->fd < 0)
            continue;
        kill(worker->pid, SIGKILL);
        waitpid(worker->pid, NULL, 0);
        close(worker->fd);
        worker->fd = -1;
    }
}

static bool step(struct runner *runner)
{
    struct pollfd polls[JOBS_MAX];
    unsigned count = 0, of[JOBS_MAX];

    for (unsigned i = 0; i < runner->plan->jobs; i++)
        if (runner->workers[i].fd >= 0) {
            of[count] = i;
            polls[count++] = (struct pollfd){.fd = runner->workers[i].fd, .events = POLLIN};
        }
    if (count == 0)
        return false;
    if (poll(polls, count, 1000) < 0 && errno != EINTR) {
        perror("clymq-sim");
        exit(2);
    }
    for (unsigned i = 0; i < count && !runner->enough; i++) {
        struct worker *worker = &runner->workers[of[i]];

        if (polls[i].revents)
            read_worker(runner, worker);
        else if (now_s() - worker->heard_s > SILENT_S)
            reap(runner, worker, "it did not end in time");
    }
    return !runner->enough;
}

static void print_totals(const struct runner *runner)
{
    const struct run_counts *counts = &runner->counts;

    if (runner->plan->json) {
        printf("{\"passed\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"simulated_ms\":%" PRIu64, runner->passed,
               runner->failed, runner->simulated_ms);
#define X(name, sentence) printf(",\"" #name "\":%" PRIu64, counts->name);
        RUN_COUNTS(X)
#undef X
        printf("}\n");
        return;
    }
    printf("%" PRIu64 " s simulated", runner->simulated_ms / 1000);
#define X(name, sentence) printf(", %" PRIu64 " " sentence, counts->name);
    RUN_COUNTS(X)
#undef X
    printf("\n%" PRIu64 " passed, %" PRIu64 " failed\n", runner->passed, runner->failed);
}

uint64_t runner_run(const struct runner_plan *plan)
{
    static struct runner runner;

    runner = (struct runner){.plan = plan};
    for (unsigned i = 0; i < plan->jobs; i++) {
        runner.workers[i].next = plan->first + i;
        runner.workers[i].fd = -1;
        start_worker(&runner, &runner.workers[i]);
    }
    while (step(&runner))
        ;
    stop_all(&runner);
    print_totals(&runner);
    return runner.failed;
}

/* ---- twice ---- */

struct fingerprint {
    struct run_result result;
    uint64_t log_hash, log_lines;
};

static void hash_line(void *ctx, enum log_level level, const char *line)
{
    struct fingerprint *fingerprint = ctx;

    fingerprint->log_lines++;
    for (; *line; line++)
        fingerprint->log_hash = (fingerprint->log_hash ^ (uint8_t)*line) * 0x100000001b3u;
}

static bool fingerprint_of(const struct run_options *options, struct fingerprint *ret_fingerprint)
{
    static struct fingerprint fingerprint;
    int ends[2];
    pid_t pid;

    fflush(NULL);
    if (pipe(ends) || (pid = fork()) < 0) {
        perror("clymq-sim");
        exit(2);
    }
    if (pid == 0) {
        struct log_settings settings = {.filter = "debug"};

        close(ends[0]);
        log_set_sink(hash_line, &fingerprint);
        log_configure(&settings);
        run_seed(options, &fingerprint.result);
        bool whole = write(ends[1], &fingerprint, sizeof(fingerprint)) == sizeof(fingerprint);
        exit(whole ? 0 : 3);
    }
    close(ends[1]);
    size_t have = 0;
    ssize_t got;
    while (have < sizeof(*ret_fingerprint) &&
           (got = read(ends[0], (char *)ret_fingerprint + have, sizeof(*ret_fingerprint) - have)) > 0)
        have += (size_t)got;
    close(ends[0]);
    waitpid(pid, NULL, 0);
    return have == sizeof(*ret_fingerprint);
}

static bool are_equal(const struct fingerprint *a, const struct fingerprint *b)
{
    bool equal = a->log_hash == b->log_hash && a->log_lines == b->log_lines &&
                 a->result.trace == b->result.trace && a->result.simulated_ms == b->result.simulated_ms &&
                 strcmp(a->result.violation, b->result.violation) == 0;

#define X(name, sentence) equal = equal && a->result.counts.name == b->result.counts.name;
    RUN_COUNTS(X)
#undef X
    return equal;
}

bool runner_run_twice(const struct run_options *options)
{
    static struct fingerprint first, second;

    if (!fingerprint_of(options, &first) || !fingerprint_of(options, &second)) {
        printf("seed %" PRIu64 ": a run died\n", options->seed);
        return false;
    }
    bool equal = are_equal(&first, &second);
    printf("seed %" PRIu64 ": trace %016" PRIx64 " and %016" PRIx64 ", %" PRIu64 " and %" PRIu64
           " lines of log with hash %016" PRIx64 " and %016" PRIx64 ": %s\n",
           options->seed, first.result.trace, second.result.trace, first.log_lines, second.log_lines,
           first.log_hash, second.log_hash, equal ? "the same run" : "TWO DIFFERENT RUNS");
    return equal;
}
