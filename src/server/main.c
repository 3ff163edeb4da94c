/* clymqd: reads options, opens and runs the server, and turns signals into what they mean: SIGTERM and SIGINT
 * stop cleanly (again: at once), SIGHUP reads the options again. Exit codes: 0 stopped as asked, 1 could not
 * start or not stop cleanly, 2 wrong options. */
#define LOG_MODULE "server"
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "base/map.h"
#include "base/mem.h"
#include "io/standard_streams.h"
#include "server/memory.h"
#include "server/notify.h"
#include "server/server.h"

enum { EXIT_FAILED = 1, EXIT_USAGE = 2 };
enum { TIDY_MS = 5000 };
enum { STOP_SYNC_MS = 60000 }; /* what a stop may take besides shutdown_grace_ms */
/* A start takes as long as its logs are long, and one that is ended for that begins anew: the service manager
 * is asked in time for more of it. By this thread, since one log may keep a shard's busy all that time. */
enum { START_TELL_MS = 60000 };
static const char start_more_time[] = "EXTEND_TIMEOUT_USEC=300000000";

struct command_line {
    int argc;
    char **argv;
};

/* The end of a start or stop, told by a shard's thread. */
static void tell(void *ctx)
{
    uint64_t one = 1;

    while (write(*(const int *)ctx, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
}

static int fail(int code, struct strbuf *error)
{
    fprintf(stderr, "clymqd: %s\n", error->data ? error->data : "out of memory");
    strbuf_free(error);
    return code;
}

/* ---- what is printed and ends ---- */

static int print(void (*fill)(const struct option *table, struct strbuf *text), const char *head)
{
    struct strbuf text = {0};

    strbuf_append_text(&text, head);
    fill(server_option_table, &text);
    if (text.failed)
        return EXIT_FAILED;
    fputs(text.data, stdout);
    strbuf_free(&text);
    return fflush(stdout) ? EXIT_FAILED : 0;
}

static void print_nothing(const struct option *table, struct strbuf *text)
{
}

/* What tools/ and the build make documents from. */
static const struct {
    const char *flag;
    void (*fill)(const struct option *table, struct strbuf *text);
    const char *head;
} prints[] = {
    {"--print-options-reference", options_print_reference, ""},
    {"--print-options-manual", options_print_manual_flags, ""},
    {"--print-config-manual", options_print_manual_file, ""},
    {"--print-config-example", options_print_example,
     "# Options of clymqd: clymqd --config FILE. Each line below says what holds without it; see "
     "clymq.conf(5).\n\n"},
};

/* -1: none of these was asked for. */
static int print_information(const struct command_line *line)
{
    for (int i = 1; i < line->argc && strcmp(line->argv[i], "--") != 0; i++) {
        const char *flag = line->argv[i];

        if (strcmp(flag, "--help") == 0 || strcmp(flag, "-h") == 0)
            return print(options_print_help,
                         "clymqd, the ClyMQ server. Without options it is a complete queue on this machine, "
                         "with its data in "
                         "./clymq-data.\n\nusage: clymqd [OPTION…]\n       clymqd --help | --version | "
                         "--print-options-reference\n\n");
        if (strcmp(flag, "--version") == 0)
            return print(print_nothing, "clymqd " CLYMQ_VERSION "\n");
        for (unsigned n = 0; n < sizeof(prints) / sizeof(*prints); n++)
            if (strcmp(flag, prints[n].flag) == 0)
                return print(prints[n].fill, prints[n].head);
    }
    return -1;
}

/* ---- running ---- */

static int configure_log(const struct server_options *options, struct strbuf *error)
{
    struct log_settings settings = {
        .filter = options->log_level, .path = options->log_file, .json = options->log_json};
    int result = log_configure(&settings);

    if (result == CLYMQ_EINVAL)
        strbuf_printf(error,
                      "option log_level: \"%s\" is not a level: use trace, debug, info, warn, error or off",
                      options->log_level);
    else if (result)
        /* The table has no sentence for a folder in its place, or for a folder that is missing. */
        strbuf_printf(error, "cannot open the log file %s: %s", options->log_file ? options->log_file : "",
                      result == CLYMQ_EDENIED ? error_file_sentence(result) : strerror(errno));
    return result;
}

static void reload(struct server *server, const struct server_options *before,
                   const struct command_line *line)
{
    struct server_options options;
    struct strbuf error = {0}, fixed = {0};

    if (server_options_read(&options, line->argc, line->argv, environ, &error) ||
        configure_log(&options, &error)) {
        log_error("options were not read again: %s", error.data ? error.data : "out of memory");
    } else if (server_reload(server, &options)) {
        log_error("options were not read again: %s", error_sentence(CLYMQ_ENOMEM));
    } else {
        server_options_list_fixed_changes(before, &options, &fixed);
        log_info("options read again%s%s", fixed.len ? "; only a restart changes " : "",
                 fixed.len ? fixed.data : "");
    }
    strbuf_free(&error);
    strbuf_free(&fixed);
    server_options_free(&options);
}

struct waiting {
    int signals, events; /* descriptors */
    struct server *server;
    const struct server_options *options;
    const struct command_line *line;
    struct memory_use memory;
    bool starting;
    bool reload; /* asked for before it served */
};

/* Waits for the event (true) or for a signal that ends (false); other signals are dealt with. */
static bool wait_for(struct waiting *waiting, bool for_event)
{
    struct pollfd fds[2] = {{.fd = waiting->signals, .events = POLLIN},
                            {.fd = waiting->events, .events = POLLIN}};

    for (;;) {
        struct signalfd_siginfo info;
        uint64_t count;

        int wait_ms = for_event ? -1 : TIDY_MS;
        if (waiting->starting) {
            notify_manager(start_more_time);
            wait_ms = START_TELL_MS;
        }
        int ready = poll(fds, for_event ? 2 : 1, wait_ms);
        if (ready < 0 && errno != EINTR)
            abort();
        if (ready == 0 && !for_event &&
            memory_is_left(&waiting->memory, mem_allocation_count(), memory_kept_bytes()))
            server_give_back_memory(waiting->server);
        if (for_event && read(waiting->events, &count, sizeof(count)) == sizeof(count))
            return true;
        if (read(waiting->signals, &info, sizeof(info)) != sizeof(info))
            continue;
        if (info.ssi_signo != SIGHUP)
            return false;
        if (for_event) {
            waiting->reload = true;
            continue;
        }
        reload(waiting->server, waiting->options, waiting->line);
    }
}

static void print_serving(const struct server *server)
{
    struct strbuf line = {0};

    server_print_serving(server, &line);
    if (line.data) {
        fputs(line.data, stdout);
        fflush(stdout);
    }
    strbuf_free(&line);
}

/* The grace may be longer than what the service manager allows for a stop. */
static void tell_stopping(const struct server *server)
{
    char state[64];

    snprintf(state, sizeof(state), "STOPPING=1\nEXTEND_TIMEOUT_USEC=%" PRId64,
             (server_shutdown_grace_ms(server) + STOP_SYNC_MS) * 1000);
    notify_manager(state);
}

static int stop(struct waiting *waiting)
{
    server_stop(waiting->server, tell, &waiting->events);
    if (!wait_for(waiting, true)) {
        log_warn("ended at once by a second signal; the next start recovers");
        _exit(EXIT_FAILED); /* threads are at work: nothing may be freed */
    }
    if (server_stopped(waiting->server))
        log_error("stopped, but not cleanly: %s", error_sentence(server_stopped(waiting->server)));
    else
        log_info("stopped");
    return server_stopped(waiting->server) ? EXIT_FAILED : 0;
}

static int run(struct waiting *waiting)
{
    struct strbuf error = {0};
    int code;

    waiting->starting = true;
    server_start(waiting->server, tell, &waiting->events);
    if (!wait_for(waiting, true)) {
        log_info("ended while starting");
        _exit(0);
    }
    waiting->starting = false;
    if (server_started(waiting->server, &error)) {
        stop(waiting);
        return fail(EXIT_FAILED, &error);
    }
    print_serving(waiting->server);
    notify_manager("READY=1");
    log_info("serving");
    if (waiting->reload)
        reload(waiting->server, waiting->options, waiting->line);
    wait_for(waiting, false);
    tell_stopping(waiting->server);
    log_info("stopping");
    code = stop(waiting);
    return code;
}

static int open_and_run(const struct command_line *line, const struct server_options *options, int signals,
                        int events)
{
    struct waiting waiting = {.signals = signals, .events = events, .options = options, .line = line};
    struct strbuf error = {0};
    int code;

    if (server_open(options, &error, &waiting.server))
        code = fail(EXIT_FAILED, &error);
    else
        code = run(&waiting);
    server_free(waiting.server);
    return code;
}

static int open_signals(void)
{
    sigset_t set;

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    if (sigprocmask(SIG_BLOCK, &set, NULL)) /* before any thread: all inherit it */
        return -1;
    signal(SIGPIPE, SIG_IGN);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

int main(int argc, char **argv)
{
    struct command_line line = {argc, argv};
    struct server_options options;
    struct strbuf error = {0};
    uint64_t seed;
    int code = print_information(&line), signals, events;

    if (code >= 0)
        return code;
    if (io_fill_standard_streams())
        return EXIT_FAILED;
    mem_keep_freed();
    if (server_options_read(&options, argc, argv, environ, &error) || configure_log(&options, &error)) {
        server_options_free(&options);
        return fail(EXIT_USAGE, &error);
    }
    signals = open_signals();
    events = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (signals < 0 || events < 0 || getrandom(&seed, sizeof(seed), 0) != sizeof(seed)) {
        perror("clymqd");
        code = EXIT_FAILED;
    } else {
        map_set_seed(seed);
        code = open_and_run(&line, &options, signals, events);
    }
    server_options_free(&options);
    return code;
}
