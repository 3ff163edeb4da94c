/* clymq-sim: a whole broker on simulated disk, network and clock, run from a seed. docs/simulation.md. */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/log.h"
#include "sim/control.h"
#include "sim/machine.h"
#include "sim/runner.h"

struct arguments {
    struct runner_plan plan;
    bool range, twice;
    const char *log;
};

static void print_help(FILE *out)
{
    fprintf(
        out,
        "usage: clymq-sim [--seed N | --seeds A-B] [options]\n"
        "Runs a whole broker on a simulated disk, network and clock, with clients and faults drawn from the "
        "seed,\nand checks that nothing acknowledged is lost, doubled or changed.\n\n"
        "  --seed N        one run, in this process (default 1)\n"
        "  --seeds A-B     many, in several processes\n"
        "  --jobs N        how many processes (default: one per core)\n"
        "  --seconds N     simulated seconds of load and faults (default 60)\n"
        "  --faults N      how many faults (default 10)\n"
        "  --shards N      of the broker, 1 to 8 (default: drawn for each start)\n"
        "  --control NAME  switches a protection off; the run must then fail\n"
        "  --expect-violation  exit status 0 as soon as one seed fails (for control runs), otherwise 1\n"
        "  --twice         runs each seed twice and compares traces, results and logs\n"
        "  --verbose       prints the log, in simulated time; --log FILTER for more (such as debug)\n"
        "  --json          one JSON object a line\n\n"
        "controls:\n");
    for (const struct control *control = controls; control->name; control++)
        fprintf(out, "  %-16s  %s\n", control->name, control->sentence);
}

static void refuse(const char *option, const char *text)
{
    fprintf(stderr, "clymq-sim: --%s %s: not understood; see clymq-sim --help\n", option, text);
    exit(2);
}

static uint64_t number(const char *option, const char *text, uint64_t low, uint64_t high)
{
    char *end;
    unsigned long long value = strtoull(text, &end, 10);

    if (*text < '0' || *text > '9' || *end || value < low || value > high)
        refuse(option, text);
    return value;
}

static void parse_seeds(struct arguments *arguments, const char *text)
{
    char first[24];
    const char *dash = strchr(text, '-');

    if (!dash || (size_t)(dash - text) >= sizeof(first))
        refuse("seeds", text);
    snprintf(first, sizeof(first), "%.*s", (int)(dash - text), text);
    arguments->plan.first = number("seeds", first, 0, UINT64_MAX - 1000);
    arguments->plan.last = number("seeds", dash + 1, arguments->plan.first, UINT64_MAX - 1000);
    arguments->range = true;
}

static void parse_one(struct arguments *arguments, const char *name, const char *text)
{
    struct run_options *options = &arguments->plan.options;

    if (strcmp(name, "seed") == 0)
        arguments->plan.first = arguments->plan.last = number(name, text, 0, UINT64_MAX - 1000);
    else if (strcmp(name, "seeds") == 0)
        parse_seeds(arguments, text);
    else if (strcmp(name, "jobs") == 0)
        arguments->plan.jobs = (unsigned)number(name, text, 1, 64);
    else if (strcmp(name, "seconds") == 0)
        options->seconds = (unsigned)number(name, text, 1, 100000);
    else if (strcmp(name, "faults") == 0)
        options->faults = (unsigned)number(name, text, 0, 256);
    else if (strcmp(name, "shards") == 0)
        options->shards = (unsigned)number(name, text, 1, MACHINE_SHARDS_MAX);
    else if (strcmp(name, "control") == 0 && !(options->control = control_find(text)))
        refuse(name, text);
    else if (strcmp(name, "expect-violation") == 0)
        arguments->plan.want_violation = arguments->range = true;
    else if (strcmp(name, "twice") == 0)
        arguments->twice = true;
    else if (strcmp(name, "verbose") == 0)
        arguments->log = arguments->log ? arguments->log : "info";
    else if (strcmp(name, "log") == 0)
        arguments->log = text;
    else if (strcmp(name, "json") == 0)
        arguments->plan.json = true;
}

static void parse(struct arguments *arguments, int argc, char **argv)
{
    static const struct option table[] = {
        {"seed", required_argument, NULL, 1},    {"seeds", required_argument, NULL, 1},
        {"jobs", required_argument, NULL, 1},    {"seconds", required_argument, NULL, 1},
        {"faults", required_argument, NULL, 1},  {"shards", required_argument, NULL, 1},
        {"control", required_argument, NULL, 1}, {"expect-violation", no_argument, NULL, 1},
        {"twice", no_argument, NULL, 1},         {"verbose", no_argument, NULL, 1},
        {"log", required_argument, NULL, 1},     {"json", no_argument, NULL, 1},
        {"help", no_argument, NULL, 'h'},        {NULL, 0, NULL, 0},
    };
    int index, got;

    while ((got = getopt_long(argc, argv, "h", table, &index)) != -1) {
        if (got == 'h') {
            print_help(stdout);
            exit(0);
        }
        if (got != 1) {
            print_help(stderr);
            exit(2);
        }
        parse_one(arguments, table[index].name, optarg);
    }
    if (optind < argc)
        refuse("seed", argv[optind]);
}

/* The command that replays a seed of this plan, without the seed. */
static const char *replay_command(const struct arguments *arguments, const char *program)
{
    static char text[256];
    const struct run_options *options = &arguments->plan.options;
    int len = snprintf(text, sizeof(text), "%s --seconds %u --faults %u", program, options->seconds,
                       options->faults);

    if (options->shards)
        len += snprintf(text + len, sizeof(text) - (size_t)len, " --shards %u", options->shards);
    if (options->control)
        snprintf(text + len, sizeof(text) - (size_t)len, " --control %s", options->control->name);
    return text;
}

static int run_one(const struct arguments *arguments)
{
    struct run_options options = arguments->plan.options;
    static struct run_result result;

    options.seed = arguments->plan.first;
    run_seed(&options, &result);
    if (arguments->plan.json)
        printf("{\"seed\":%" PRIu64 ",\"trace\":\"%016" PRIx64 "\",\"passed\":%s", options.seed, result.trace,
               result.violation[0] ? "false" : "true");
    else
        printf("seed %" PRIu64 ": trace %016" PRIx64 ", %" PRIu64 " ms simulated", options.seed, result.trace,
               result.simulated_ms);
#define X(name, sentence)                                                                                    \
    if (arguments->plan.json)                                                                                \
        printf(",\"" #name "\":%" PRIu64, result.counts.name);                                               \
    else                                                                                                     \
        printf(", %" PRIu64 " " sentence, result.counts.name);
    RUN_COUNTS(X)
#undef X
    printf("%s\n", arguments->plan.json ? "}" : "");
    if (result.violation[0])
        printf("seed %" PRIu64 ": %s\n", options.seed, result.violation);
    if (!arguments->plan.json)
        printf("%d passed, %d failed\n", !result.violation[0], !!result.violation[0]);
    return result.violation[0] ? 1 : 0;
}

static int run_twice(struct arguments *arguments)
{
    struct run_options *options = &arguments->plan.options;
    bool equal = true;

    for (options->seed = arguments->plan.first; options->seed <= arguments->plan.last; options->seed++)
        equal = runner_run_twice(options) && equal;
    return equal ? 0 : 1;
}

int main(int argc, char **argv)
{
    struct arguments arguments = {
        .plan = {.options = {.seconds = 60, .faults = 10}, .first = 1, .last = 1},
    };
    long cores = sysconf(_SC_NPROCESSORS_ONLN);

    arguments.plan.jobs = cores > 0 && cores < 64 ? (unsigned)cores : 1;
    parse(&arguments, argc, argv);
    struct log_settings settings = {.filter = arguments.log ? arguments.log : "off"};
    if (log_configure(&settings)) {
        fprintf(stderr, "clymq-sim: --log %s: not a filter\n", arguments.log);
        return 2;
    }
    if (arguments.twice)
        return run_twice(&arguments);
    if (!arguments.range)
        return run_one(&arguments);
    arguments.plan.replay = replay_command(&arguments, argv[0]);
    uint64_t failed = runner_run(&arguments.plan);
    return arguments.plan.want_violation ? failed == 0 : failed != 0;
}
