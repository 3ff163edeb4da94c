/* options.h: every source and type, precedence, mistakes and their sentences, help and reference, failing
 * allocation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"

struct values {
    bool help, verify;
    int64_t broker_id, segment_bytes, retention_bytes, push_wait_ms, ratio;
    char *data_dir, *roles;
    int fsync;
};

#define AT(field) offsetof(struct values, field)
static const struct option table[] = {
    {.name = "help",
     .type = OPTION_BOOL,
     .offset = AT(help),
     .section = "General",
     .help = "Prints this text and ends."},
    {.name = "data_dir",
     .type = OPTION_TEXT,
     .offset = AT(data_dir),
     .fallback = "./clymq-data",
     .section = "General",
     .placeholder = "DIR",
     .help = "Folder that holds all data of this server."},
    {.name = "roles",
     .type = OPTION_TEXT,
     .offset = AT(roles),
     .section = "General",
     .help = "What the server is."},
    {.name = "broker_id",
     .type = OPTION_INT,
     .offset = AT(broker_id),
     .fallback = "-1",
     .section = "General",
     .help = "Number of the broker."},
    {.name = "push_wait_ms",
     .type = OPTION_DURATION_MS,
     .offset = AT(push_wait_ms),
     .fallback = "30s",
     .min = 10,
     .max = 3600000,
     .reloadable = true,
     .section = "Limits",
     .help = "How long a push waits for room on the disk before it is refused with the reason, so that a "
             "client with "
             "many connections is told in time."},
    {.name = "segment_bytes",
     .type = OPTION_SIZE,
     .offset = AT(segment_bytes),
     .fallback = "256M",
     .min = 1024,
     .max = (int64_t)1 << 32,
     .section = "Storage",
     .help = "Size at which a segment is closed."},
    {.name = "retention_bytes",
     .type = OPTION_SIZE,
     .offset = AT(retention_bytes),
     .fallback = "-1",
     .min = -1,
     .max = INT64_MAX,
     .section = "Storage",
     .help = "Bytes kept per partition; -1 keeps all."},
    {.name = "fsync",
     .type = OPTION_CHOICE,
     .offset = AT(fsync),
     .fallback = "commit",
     .choices = "commit|interval|never",
     .section = "Storage",
     .help = "When data is forced to disk."},
    {.name = "verify",
     .type = OPTION_BOOL,
     .offset = AT(verify),
     .fallback = "true",
     .section = "Storage",
     .help = "Checks checksums in the background."},
    {.name = "ratio",
     .type = OPTION_INT,
     .offset = AT(ratio),
     .min = 0,
     .max = 100,
     .section = "Storage",
     .help = "A percentage."},
    {.name = NULL},
};

static struct values values;
static struct strbuf error;

static int setup(void **state)
{
    memset(&values, 0, sizeof(values));
    error = (struct strbuf){0};
    return options_defaults(table, &values);
}

static int teardown(void **state)
{
    options_free(table, &values);
    strbuf_free(&error);
    return mem_live_bytes() == 0 ? 0 : -1;
}

static int parse_file(const char *text)
{
    strbuf_free(&error);
    return options_parse_file(table, &values, "clymq.conf", bytes_of_text(text), &error);
}

static void assert_value(const char *name, const char *want)
{
    struct strbuf text = {0};
    assert_int_equal(options_get(table, &values, name, &text), 0);
    assert_string_equal(text.data, want);
    strbuf_free(&text);
}

static void assert_file_error(const char *text, const char *want)
{
    assert_int_equal(parse_file(text), CLYMQ_EINVAL);
    assert_string_equal(error.data, want);
}

static void test_defaults(void **state)
{
    assert_false(values.help);
    assert_true(values.verify);
    assert_string_equal(values.data_dir, "./clymq-data");
    assert_null(values.roles);
    assert_int_equal(values.broker_id, -1);
    assert_int_equal(values.push_wait_ms, 30000);
    assert_int_equal(values.segment_bytes, 256 << 20);
    assert_int_equal(values.retention_bytes, -1);
    assert_int_equal(values.fsync, 0);
    assert_int_equal(options_set(table, &values, "roles", "broker", &error), 0);
    assert_int_equal(options_set(table, &values, "fsync", "never", &error), 0);
    assert_int_equal(options_defaults(table, &values), 0); /* again: back to them */
    assert_null(values.roles);
    assert_int_equal(values.fsync, 0);
}

static void test_file(void **state)
{
    assert_int_equal(parse_file("\xef\xbb\xbf# a comment\r\n"
                                "\n"
                                "  data_dir = /var/lib/clymq   # where\r\n"
                                "roles=\"a # b \\\"c\\\" \\\\d \" # quoted\n"
                                "push_wait_ms = 2m\n"
                                "segment_bytes =1G\n"
                                "retention_bytes = -1\n"
                                "fsync = interval\n"
                                "verify = off\n"
                                "broker_id = -9223372036854775808"),
                     0);
    assert_string_equal(values.data_dir, "/var/lib/clymq");
    assert_string_equal(values.roles, "a # b \"c\" \\d ");
    assert_int_equal(values.push_wait_ms, 120000);
    assert_int_equal(values.segment_bytes, 1 << 30);
    assert_int_equal(values.retention_bytes, -1);
    assert_int_equal(values.fsync, 1);
    assert_false(values.verify);
    assert_true(values.broker_id == INT64_MIN);
    assert_int_equal(parse_file("roles =\ndata_dir = a#b = c\n"), 0);
    assert_string_equal(values.roles, "");
    assert_string_equal(values.data_dir, "a#b = c");
    assert_int_equal(parse_file("data_dir = #only a comment"), 0);
    assert_string_equal(values.data_dir, "");
    assert_int_equal(parse_file(""), 0);
}

static void test_file_errors(void **state)
{
    assert_file_error("\n\npush_wait = 3",
                      "clymq.conf:3: unknown option \"push_wait\"; did you mean \"push_wait_ms\"?");
    assert_file_error("data-dir = x",
                      "clymq.conf:1: unknown option \"data-dir\"; did you mean \"data_dir\"?");
    assert_file_error("fsnyc = never", "clymq.conf:1: unknown option \"fsnyc\"; did you mean \"fsync\"?");
    assert_file_error("something_else = 1", "clymq.conf:1: unknown option \"something_else\"");
    assert_file_error("verify", "clymq.conf:1: a line must be \"name = value\" or begin with #");
    assert_file_error("= 3", "clymq.conf:1: unknown option \"\"");
    assert_file_error("verify = maybe", "clymq.conf:1: \"maybe\" is not a switch: use true or false");
    assert_file_error("broker_id = 9223372036854775808",
                      "clymq.conf:1: \"9223372036854775808\" is not a whole number");
    assert_file_error("ratio = 101", "clymq.conf:1: \"101\" is out of range: use 0 to 100");
    assert_file_error("ratio = -1", "clymq.conf:1: \"-1\" is out of range: use 0 to 100");
    assert_file_error("push_wait_ms = 2h", "clymq.conf:1: \"2h\" is out of range: use 10ms to 1h");
    assert_file_error("push_wait_ms = -1",
                      "clymq.conf:1: \"-1\" is not a duration: use a number of milliseconds, or a "
                      "number with ms, s, m, h or d");
    assert_file_error(
        "segment_bytes = 1X",
        "clymq.conf:1: \"1X\" is not a size: use a number of bytes, or a number with K, M, G or T");
    assert_file_error("retention_bytes = -2",
                      "clymq.conf:1: \"-2\" is out of range: use -1 to 9223372036854775807");
    assert_file_error("fsync = always",
                      "clymq.conf:1: \"always\" is not a choice here: use one of commit, interval, never");
    assert_file_error("roles = \"open", "clymq.conf:1: the closing quote is missing: write name = \"value\"");
    assert_file_error("roles = \"a\" b",
                      "clymq.conf:1: there is text after the closing quote: remove it, or put \\ before "
                      "quotes inside");
    assert_file_error(
        "\nretention_bytes = 5k\nratio = 1\n\nretention_bytes = -1\n",
        "clymq.conf:5: \"retention_bytes\" was set at clymq.conf:2 already: remove one of the lines");
    assert_file_error("verify = no\nverify = no",
                      "clymq.conf:2: \"verify\" was set at clymq.conf:1 already: remove one of the lines");
    assert_file_error("roles =\nroles = \"open",
                      "clymq.conf:2: \"roles\" was set at clymq.conf:1 already: remove one of the lines");
    assert_file_error("verify = \x1b[31m", "clymq.conf:1: \"?[31m\" is not a switch: use true or false");
    strbuf_free(&error);
    assert_int_equal(options_parse_file(table, &values, "f", bytes_of("roles = a\0b", 11), &error),
                     CLYMQ_EINVAL);
    assert_value("roles", "");
}

static void test_environment(void **state)
{
    char *const environment[] = {
        "PATH=/bin", "CLYMQ_PUSH_WAIT_MS=5s",   "CLYMQ_VERIFY=no", "CLYMQ_TEST_SEED=5",
        "VERBOSE=1", "CLYMQ_DATA_DIR=/d=e # f", "CLYMQ_NOVALUE",   NULL};
    static const char *const ignore[] = {"CLYMQ_TEST_SEED", NULL};
    assert_int_equal(options_parse_environment(table, &values, environment, ignore, &error), 0);
    assert_int_equal(values.push_wait_ms, 5000);
    assert_false(values.verify);
    assert_string_equal(values.data_dir, "/d=e # f");
    assert_int_equal(options_parse_environment(table, &values, environment, NULL, &error), CLYMQ_EINVAL);
    assert_string_equal(error.data, "environment variable CLYMQ_TEST_SEED: there is no such option");
    strbuf_free(&error);
    char *const mistyped[] = {"CLYMQ_DATADIR=/x", NULL};
    assert_int_equal(options_parse_environment(table, &values, mistyped, NULL, &error), CLYMQ_EINVAL);
    assert_string_equal(
        error.data,
        "environment variable CLYMQ_DATADIR: there is no such option; did you mean CLYMQ_DATA_DIR?");
    strbuf_free(&error);
    char *const bad[] = {"CLYMQ_RATIO=x", NULL};
    assert_int_equal(options_parse_environment(table, &values, bad, NULL, &error), CLYMQ_EINVAL);
    assert_string_equal(error.data, "environment variable CLYMQ_RATIO: \"x\" is not a whole number");
    strbuf_free(&error);
    char *const begin_alike[] = {"CLYMQ_PORT_1_TCP=x", "CLYMQ_PORT_=x", NULL};
    static const char *const ignore_beginning[] = {"", "CLYMQ_PORT_*", NULL};
    assert_int_equal(options_parse_environment(table, &values, begin_alike, ignore_beginning, &error), 0);
    char *const shorter[] = {"CLYMQ_PORT=x", NULL};
    assert_int_equal(options_parse_environment(table, &values, shorter, ignore_beginning, &error),
                     CLYMQ_EINVAL);
}

#define FLAGS(...)                                                                                           \
    char *argv[] = {"clymqd", __VA_ARGS__, NULL};                                                            \
    int argc = sizeof(argv) / sizeof(argv[0]) - 1

static void test_flags(void **state)
{
    FLAGS("topic", "--push-wait-ms", "30000", "create", "--segment-bytes=4M", "--help", "-", "--no-verify",
          "--broker-id", "-7", "-5", "--fsync=never", "--data_dir", "", "--", "--not-ours", "--");
    assert_int_equal(options_parse_flags(table, &values, &argc, argv, &error), 0);
    assert_int_equal(values.push_wait_ms, 30000);
    assert_int_equal(values.segment_bytes, 4 << 20);
    assert_true(values.help);
    assert_false(values.verify);
    assert_int_equal(values.broker_id, -7);
    assert_int_equal(values.fsync, 2);
    assert_string_equal(values.data_dir, "");
    assert_int_equal(argc, 7);
    static const char *const rest[] = {"clymqd", "topic", "create", "-", "-5", "--not-ours", "--"};
    for (int i = 0; i < argc; i++)
        assert_string_equal(argv[i], rest[i]);
    assert_null(argv[argc]);
}

/* Of flags the last counts, so that a script's can be overridden by what is put behind them. */
static void test_flags_given_twice(void **state)
{
    FLAGS("--ratio=3", "--data-dir", "a", "--ratio", "4", "--verify", "--data-dir=b", "--no-verify");
    assert_int_equal(options_parse_flags(table, &values, &argc, argv, &error), 0);
    assert_int_equal(values.ratio, 4);
    assert_string_equal(values.data_dir, "b");
    assert_false(values.verify);
}

static void assert_flag_error(char *flag, char *next, const char *want)
{
    char *argv[] = {"clymqd", flag, next, NULL};
    int argc = next ? 3 : 2;
    strbuf_free(&error);
    assert_int_equal(options_parse_flags(table, &values, &argc, argv, &error), CLYMQ_EINVAL);
    assert_string_equal(error.data, want);
}

static void test_flag_errors(void **state)
{
    assert_flag_error("--push-wait", "3", "unknown flag --push-wait; did you mean --push-wait-ms?");
    assert_flag_error("--datadir=3", NULL, "unknown flag --datadir; did you mean --data-dir?");
    assert_flag_error("--no-fsync", NULL, "unknown flag --no-fsync; --help lists them");
    assert_flag_error("-x", NULL, "unknown flag -x; --help lists them");
    assert_flag_error("--no-verify=1", NULL, "unknown flag --no-verify; did you mean --verify?");
    assert_flag_error("--broker-id", NULL,
                      "--broker-id needs a value: write --broker-id VALUE or --broker-id=VALUE");
    assert_flag_error("--data-dir", "--help",
                      "--data-dir needs a value: write --data-dir VALUE or --data-dir=VALUE");
    assert_flag_error("--ratio", "x", "--ratio: \"x\" is not a whole number");
    assert_flag_error("--verify=perhaps", NULL, "--verify: \"perhaps\" is not a switch: use true or false");
    assert_flag_error("--=", NULL, "unknown flag --; --help lists them");
    char flag[5000];
    memset(flag, '-', sizeof(flag) - 1);
    flag[sizeof(flag) - 1] = '\0';
    FLAGS(flag);
    strbuf_free(&error);
    assert_int_equal(options_parse_flags(table, &values, &argc, argv, &error), CLYMQ_EINVAL);
    char *short_help[] = {"clymqd", "-h", NULL};
    int count = 2;
    assert_int_equal(options_parse_flags(table, &values, &count, short_help, &error), 0);
    assert_true(values.help);
    count = 0;
    assert_int_equal(options_parse_flags(table, &values, &count, short_help, &error), 0);
}

static void test_precedence(void **state)
{
    char *const environment[] = {"CLYMQ_RATIO=2", "CLYMQ_BROKER_ID=2", NULL};
    FLAGS("--ratio=3");
    assert_int_equal(parse_file("ratio = 1\nbroker_id = 1\npush_wait_ms = 1s"), 0);
    assert_int_equal(options_parse_environment(table, &values, environment, NULL, &error), 0);
    assert_int_equal(options_parse_flags(table, &values, &argc, argv, &error), 0);
    assert_int_equal(values.ratio, 3);
    assert_int_equal(values.broker_id, 2);
    assert_int_equal(values.push_wait_ms, 1000);
    assert_int_equal(values.segment_bytes, 256 << 20);
}

static void test_units(void **state)
{
    int64_t number = 77;
    static const struct {
        const char *text;
        int64_t value; /* -1: refused */
    } sizes[] = {{"0", 0},
                 {"123", 123},
                 {"4K", 4096},
                 {"4k", 4096},
                 {"4M", 4 << 20},
                 {"2G", (int64_t)2 << 30},
                 {"3T", (int64_t)3 << 40},
                 {"8388607T", (int64_t)8388607 << 40},
                 {"8388608T", -1},
                 {"9223372036854775807", INT64_MAX},
                 {"9223372036854775808", -1},
                 {"99999999999999999999", -1},
                 {"", -1},
                 {"K", -1},
                 {"-1", -1},
                 {"4KB", -1},
                 {" 4", -1},
                 {"4 K", -1},
                 {"1.5K", -1},
                 {"0x10", -1}},
      durations[] = {{"0", 0},
                     {"15", 15},
                     {"15ms", 15},
                     {"15s", 15000},
                     {"15m", 900000},
                     {"2h", 7200000},
                     {"7d", 604800000},
                     {"106751991167d", 106751991167 * 86400000},
                     {"106751991168d", -1},
                     {"1w", -1},
                     {"s", -1},
                     {"", -1},
                     {"1S", -1},
                     {"-1s", -1},
                     {"1s ", -1},
                     {"1h30m", -1}};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        number = 77;
        assert_int_equal(options_parse_size(sizes[i].text, &number), sizes[i].value < 0 ? CLYMQ_EINVAL : 0);
        assert_int_equal(number, sizes[i].value < 0 ? 77 : sizes[i].value);
    }
    for (size_t i = 0; i < sizeof(durations) / sizeof(durations[0]); i++) {
        number = 77;
        assert_int_equal(options_parse_duration(durations[i].text, &number),
                         durations[i].value < 0 ? CLYMQ_EINVAL : 0);
        assert_int_equal(number, durations[i].value < 0 ? 77 : durations[i].value);
    }
}

static void test_get_gives_back_what_the_file_takes(void **state)
{
    static const char *const texts[][2] = {
        {"segment_bytes", "4M"},
        {"segment_bytes", "1025"},
        {"retention_bytes", "-1"},
        {"retention_bytes", "0"},
        {"push_wait_ms", "90s"},
        {"push_wait_ms", "1500ms"},
        {"push_wait_ms", "1h"},
        {"broker_id", "-7"},
        {"fsync", "never"},
        {"verify", "false"},
        {"roles", "plain text"},
        {"roles", "\" spaces \""},
        {"roles", "\"a # \\\"b\\\\\""},
        {"roles", ""},
        {"roles", "C:\\x"},
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct strbuf line = {0};
        strbuf_printf(&line, "%s = %s\n", texts[i][0], texts[i][1]);
        assert_int_equal(parse_file(line.data), 0);
        assert_value(texts[i][0], texts[i][1]);
        strbuf_free(&line);
    }
    struct strbuf text = {0};
    assert_int_equal(options_get(table, &values, "nothing", &text), CLYMQ_ENOENT);
    assert_int_equal(options_set(table, &values, "nothing", "x", &error), CLYMQ_ENOENT);
}

static void test_suggestions(void **state)
{
    assert_string_equal(options_suggest(table, BYTES_LITERAL("segment_byte"))->name, "segment_bytes");
    assert_string_equal(options_suggest(table, BYTES_LITERAL("FSYNC"))->name, "fsync");
    assert_string_equal(options_suggest(table, BYTES_LITERAL("brokerid"))->name, "broker_id");
    assert_null(options_suggest(table, BYTES_LITERAL("qqqqqqqq")));
    assert_null(options_suggest(table, BYTES_LITERAL("")));
    char longer[200];
    memset(longer, 'a', sizeof(longer));
    assert_null(options_suggest(table, bytes_of(longer, sizeof(longer))));
}

static void test_help(void **state)
{
    struct strbuf text = {0};
    options_print_help(table, &text);
    assert_int_equal(
        strncmp(text.data, "General:\n  --help                        Prints this text and ends.\n", 68), 0);
    assert_non_null(strstr(text.data, "\n\nLimits:\n  --push-wait-ms DURATION       How long"));
    assert_non_null(strstr(text.data,
                           "\n  --data-dir DIR                Folder that holds all data of this server. "
                           "(default ./clymq-data)\n"));
    assert_non_null(strstr(text.data, "\n  --[no-]verify                 Checks"));
    assert_non_null(strstr(text.data, "told in time.\n                                (default 30s)\n"));
    assert_non_null(
        strstr(text.data, "\n  --fsync commit|interval|never\n                                When data"));
    char *rest = text.data;
    for (char *line; (line = strsep(&rest, "\n"));)
        assert_true(strlen(line) <= 100);
    strbuf_free(&text);
}

static void test_reference(void **state)
{
    struct strbuf text = {0};
    options_print_reference(table, &text);
    assert_non_null(strstr(text.data, "`CLYMQ_HELP` in the environment"));
    assert_non_null(strstr(
        text.data, "\n## Storage\n\n| option | value | default | meaning |\n| --- | --- | --- | --- |\n"));
    assert_non_null(strstr(text.data, "\n| `push_wait_ms` | duration, 10ms to 1h | `30s` | How long"));
    assert_non_null(strstr(text.data, "in time. Applied again on SIGHUP. |\n"));
    assert_non_null(
        strstr(text.data,
               "\n| `fsync` | `commit\\|interval\\|never` | `commit` | When data is forced to disk. |\n"));
    assert_non_null(strstr(text.data, "\n| `data_dir` | text, `DIR` | `./clymq-data` | "));
    assert_non_null(strstr(text.data, "\n| `help` | true or false | `false` | "));
    assert_non_null(strstr(text.data, "\n| `retention_bytes` | size, -1 or more | `-1` | "));
    for (const struct option *option = table; option->name; option++) {
        char row[80];
        snprintf(row, sizeof(row), "\n| `%s` |", option->name);
        assert_non_null(strstr(text.data, row));
    }
    strbuf_free(&text);
}

static void test_manual(void **state)
{
    struct strbuf text = {0};
    options_print_manual_flags(table, &text);
    static const char begin[] = ".SS General\n.TP\n\\fB\\-\\-help\\fR\nPrints this text and ends.\n.TP\n";
    assert_int_equal(strncmp(text.data, begin, sizeof(begin) - 1), 0);
    assert_non_null(strstr(text.data, "\n.TP\n\\fB\\-\\-push\\-wait\\-ms\\fR \\fIDURATION\\fR\nHow long"));
    assert_non_null(strstr(text.data, "told in time. The default is 30s.\n"));
    assert_non_null(strstr(text.data, "\\fB\\-\\-[no\\-]verify\\fR\n"));
    strbuf_free(&text);
    options_print_manual_file(table, &text);
    assert_non_null(strstr(
        text.data, "\n.TP\n\\fBpush_wait_ms\\fR = \\fIDURATION\\fR\n(duration, 10ms to 1h; default 30s)\n"));
    assert_non_null(strstr(
        text.data, "\\fBfsync\\fR = \\fICHOICE\\fR\n(commit|interval|never; default commit)\nWhen data is"));
    assert_non_null(strstr(text.data, "\n(size, \\-1 or more; default \\-1)\n"));
    assert_non_null(strstr(text.data, "\\fBhelp\\fR = \\fItrue|false\\fR\n(true or false; default false)\n"));
    strbuf_free(&text);
    options_append_roff(&text, ".a-b\\c\n'd.e");
    assert_string_equal(text.data, "\\&.a\\-b\\ec\n\\&'d.e");
    strbuf_free(&text);
}

/* The example says what is the default: with its comment signs removed it changes nothing. */
static void test_example(void **state)
{
    struct strbuf text = {0}, before = {0}, after = {0};
    options_print_example(table, &text);
    assert_int_equal(strncmp(text.data, "# ---- General ----\n", 20), 0);
    for (char *line = text.data; line; line = strchr(line, '\n')) {
        line += *line == '\n';
        assert_true(*line == '#' || *line == '\n' || *line == 0);
        assert_true(strcspn(line, "\n") <= 100);
        if (line[0] == '#' && line[1] != ' ')
            *line = ' ';
    }
    for (const struct option *option = table; option->name; option++) {
        options_get(table, &values, option->name, &before);
        strbuf_append(&before, "\n", 1);
    }
    int failed = options_parse_file(table, &values, "example", bytes_of(text.data, text.len), &error);
    if (failed)
        fail_msg("%s", error.data);
    for (const struct option *option = table; option->name; option++) {
        options_get(table, &values, option->name, &after);
        strbuf_append(&after, "\n", 1);
    }
    assert_string_equal(before.data, after.data);
    strbuf_free(&text);
    strbuf_free(&before);
    strbuf_free(&after);
}

static void test_failing_allocation(void **state)
{
    char *const environment[] = {"CLYMQ_DATA_DIR=/x", NULL};
    for (uint64_t nth = 1;; nth++) {
        struct values fresh = {0};
        struct strbuf text = {0}, wrong = {0};
        FLAGS("--roles", "broker");
        mem_fail_nth(nth);
        int result = options_defaults(table, &fresh);
        if (!result)
            result = options_parse_file(table, &fresh, "f", BYTES_LITERAL("roles = \"a\"\ndata_dir = b\n"),
                                        &wrong);
        if (!result)
            result = options_parse_environment(table, &fresh, environment, NULL, &wrong);
        if (!result)
            result = options_parse_flags(table, &fresh, &argc, argv, &wrong);
        if (!result)
            result = options_get(table, &fresh, "roles", &text);
        int failed = mem_failed();
        mem_fail_nth(0);
        assert_int_equal(result, failed ? CLYMQ_ENOMEM : 0);
        options_free(table, &fresh);
        strbuf_free(&text);
        strbuf_free(&wrong);
        if (!failed)
            break;
    }
    /* A mistake is still a mistake when there is no memory to describe it. */
    for (uint64_t nth = 1;; nth++) {
        mem_fail_nth(nth);
        int result = parse_file("fsync = always");
        int failed = mem_failed();
        mem_fail_nth(0);
        assert_true(result == CLYMQ_EINVAL || (failed && result == CLYMQ_ENOMEM));
        if (!failed)
            break;
    }
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_defaults),    TEST(test_file),
        TEST(test_file_errors), TEST(test_environment),
        TEST(test_flags),       TEST(test_flags_given_twice),
        TEST(test_flag_errors), TEST(test_precedence),
        TEST(test_units),       TEST(test_get_gives_back_what_the_file_takes),
        TEST(test_suggestions), TEST(test_help),
        TEST(test_reference),   TEST(test_manual),
        TEST(test_example),     TEST(test_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
