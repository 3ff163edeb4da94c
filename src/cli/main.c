/* clymq: finds the command, parses its flags by its table, and runs it. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "io/standard_streams.h"

const struct cli_command *const cli_commands[] = {
    &cli_topic_create,      &cli_topic_set,        &cli_topic_list,
    &cli_topic_describe,    &cli_topic_delete,     &cli_partition_create,
    &cli_partition_set,     &cli_partition_delete, &cli_produce,
    &cli_consume,           &cli_block_dump,       &cli_fsck,
    &cli_bench_produce,     &cli_bench_consume,    &cli_bench_e2e,
    &cli_bench_connections, &cli_completion,       NULL,
};

static void print_overview(FILE *out)
{
    fputs("clymq - talk to a ClyMQ cluster\n\nUsage: clymq COMMAND [ARGUMENT]... [FLAG]...\n\nCommands:\n",
          out);
    for (const struct cli_command *const *at = cli_commands; *at; at++)
        fprintf(out, "  %-18s %s\n", (*at)->name, (*at)->summary);
    fputs("\nFlags may stand anywhere after the command; --coordinator, --timeout and --json also before it. "
          "`clymq help COMMAND` tells all about one; `clymq "
          "--version`\n"
          "prints the version. Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted.\n",
          out);
}

static int print_command_help(const struct cli_command *command)
{
    struct strbuf text = {0};
    options_print_help(command->table, &text);
    printf("%s\n\nUsage: clymq %s%s%s [FLAG]...\n\n%s\n%s", command->summary, command->name,
           command->arguments[0] ? " " : "", command->arguments, command->details,
           text.data ? text.data : "");
    strbuf_free(&text);
    return cli_finish_output(CLI_OK);
}

/* How many words of argv the command's name takes, 0 where it is another. */
static int match(const struct cli_command *command, int argc, char **argv)
{
    const char *name = command->name;
    int words = 0;
    while (*name) {
        size_t len = strcspn(name, " ");
        if (words >= argc || strlen(argv[words]) != len || memcmp(argv[words], name, len) != 0)
            return 0;
        name += len;
        name += *name == ' ';
        words++;
    }
    return words;
}

const struct cli_command *cli_find_command(int argc, char **argv, int *ret_words)
{
    for (const struct cli_command *const *at = cli_commands; *at; at++) {
        int words = match(*at, argc, argv);
        if (words) {
            *ret_words = words;
            return *at;
        }
    }
    return NULL;
}

static bool asks_for_help(const char *word)
{
    return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0 || strcmp(word, "help") == 0;
}

/* The commands that begin with this word. false: none. */
static bool print_group(const char *group)
{
    size_t len = strlen(group);
    bool any = false;
    for (const struct cli_command *const *at = cli_commands; *at; at++) {
        if (strncmp((*at)->name, group, len) != 0 || (*at)->name[len] != ' ')
            continue;
        if (!any)
            printf("Usage: clymq %s COMMAND [ARGUMENT]... [FLAG]...\n\nCommands:\n", group);
        any = true;
        printf("  %-18s %s\n", (*at)->name, (*at)->summary);
    }
    if (any)
        printf("\n`clymq help %s COMMAND` tells all about one.\n", group);
    return any;
}

/* No command of that name: says which there are, or which was meant. */
static int unknown_command(int argc, char **argv)
{
    const char *names[64];
    size_t count = 0;
    bool is_group = false;
    struct strbuf typed = {0}, group = {0};
    size_t len = strlen(argv[0]);
    for (const struct cli_command *const *at = cli_commands; *at; at++) {
        names[count++] = (*at)->name;
        if (strncmp((*at)->name, argv[0], len) == 0 && (*at)->name[len] == ' ') {
            strbuf_printf(&group, "%s%s", is_group ? ", " : "", (*at)->name + len + 1);
            is_group = true;
        }
    }
    bool has_second = argc > 1 && argv[1][0] != '-';
    if (is_group && !has_second) {
        cli_complain("%s needs one of: %s (try `clymq help`)", argv[0], group.data ? group.data : "");
    } else {
        strbuf_printf(&typed, has_second ? "%s %s" : "%s", argv[0], has_second ? argv[1] : "");
        const char *near = typed.data ? cli_suggest(typed.data, names, count) : NULL;
        if (!near)
            near = cli_suggest(argv[0], names, count);
        if (near)
            cli_complain("unknown command \"%s\"; did you mean \"%s\"?", typed.data, near);
        else if (is_group)
            cli_complain("unknown command \"%s\"; %s has: %s", typed.data, argv[0],
                         group.data ? group.data : "");
        else
            cli_complain("unknown command \"%s\"; `clymq help` lists them", argv[0]);
    }
    strbuf_free(&typed);
    strbuf_free(&group);
    return CLI_USAGE;
}

static int run_help(int argc, char **argv)
{
    int words;
    if (argc == 0) {
        print_overview(stdout);
        return cli_finish_output(CLI_OK);
    }
    const struct cli_command *command = cli_find_command(argc, argv, &words);
    if (!command && argc == 1 && print_group(argv[0]))
        return cli_finish_output(CLI_OK);
    return command ? print_command_help(command) : unknown_command(argc, argv);
}

static int parse(const struct cli_command *command, void *values, int *argc, char **argv,
                 struct strbuf *error)
{
    struct cli_common *common = values;
    if (options_defaults(command->table, values) != 0) {
        strbuf_append_text(error, error_sentence(CLYMQ_ENOMEM));
        return CLYMQ_ENOMEM;
    }
    const char *coordinator = getenv("CLYMQ_COORDINATOR");
    if (coordinator && coordinator[0] && options_find(command->table, BYTES_LITERAL("coordinator"))) {
        mem_free(common->coordinator);
        common->coordinator = mem_strdup(coordinator);
        if (!common->coordinator)
            return CLYMQ_ENOMEM;
    }
    if (command->extract) {
        int failed = command->extract(values, argc, argv);
        if (failed)
            return failed;
    }
    return options_parse_flags(command->table, values, argc, argv, error);
}

static int run_command(const struct cli_command *command, int argc, char **argv)
{
    void *values = mem_zalloc(command->values_size);
    /* options_parse_flags takes argv with the program's name in front. */
    struct strbuf error = {0};
    int code = values ? parse(command, values, &argc, argv, &error) : CLYMQ_ENOMEM;
    if (code == CLYMQ_ENOMEM) {
        cli_complain("%s", error_sentence(code));
        code = CLI_FAILED;
    } else if (code) {
        if (error.len)
            cli_complain("%s (see `clymq help %s`)", error.data, command->name);
        code = CLI_USAGE;
    } else if (((struct cli_common *)values)->help) {
        code = print_command_help(command);
    } else if (argc - 1 < command->arguments_min) {
        code =
            cli_usage("%s needs %s (see `clymq help %s`)", command->name, command->arguments, command->name);
    } else if (command->arguments_max >= 0 && argc - 1 > command->arguments_max) {
        code = cli_usage("%s: unexpected argument \"%s\" (see `clymq help %s`)", command->name,
                         argv[command->arguments_max + 1], command->name);
    } else {
        code = command->run(values, argc - 1, argv + 1);
    }
    strbuf_free(&error);
    if (values)
        options_free(command->table, values);
    mem_free(values);
    return code;
}

/* How many arguments before the command are flags that every command has; -1 where others stand there. */
static int leading_flags(int argc, char **argv)
{
    struct values {
        struct cli_common common;
    };
    static const struct option table[] = {CLI_COMMON_OPTIONS(struct values), {0}};
    int count = 0;
    while (1 + count < argc && argv[1 + count][0] == '-') {
        const char *flag = argv[1 + count];
        size_t len = flag[1] == '-' ? strcspn(flag + 2, "=") : 0;
        const struct option *option = options_find(table, bytes_of(flag + 2, len));
        if (!option)
            return -1;
        count += option->type == OPTION_BOOL || flag[2 + len] == '=' ? 1 : 2;
    }
    return 1 + count < argc ? count : -1;
}

int main(int argc, char **argv)
{
    /* A closed pipe shows as an error of writing, which ends the program in order. */
    signal(SIGPIPE, SIG_IGN);
    (void)io_fill_standard_streams(); /* where it cannot, nothing else can be opened either */
    mem_keep_freed();
    if (argc < 2) {
        print_overview(stderr);
        return CLI_USAGE;
    }
    if (strcmp(argv[1], "--version") == 0 || strcmp(argv[1], "version") == 0) {
        printf("clymq %s\n", clymq_version());
        return cli_finish_output(CLI_OK);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)
        return run_help(0, NULL);
    if (strcmp(argv[1], "help") == 0)
        return run_help(argc - 2, argv + 2);
    if (strcmp(argv[1], "__complete") == 0)
        return cli_complete(argc - 2, argv + 2);
    if (strcmp(argv[1], "__manual") == 0)
        return cli_print_manual();
    int flags = leading_flags(argc, argv), words;
    if (flags < 0)
        return cli_usage("only --coordinator, --timeout and --json may stand before the command, and a "
                         "command must follow (`clymq help` lists them)");
    const struct cli_command *command = cli_find_command(argc - 1 - flags, argv + 1 + flags, &words);
    if (!command && argc == 3 + flags && asks_for_help(argv[2 + flags]) && print_group(argv[1 + flags]))
        return cli_finish_output(CLI_OK);
    if (!command)
        return unknown_command(argc - 1 - flags, argv + 1 + flags);
    /* As if they stood behind it. */
    memmove(argv + 1 + words, argv + 1, (size_t)flags * sizeof(*argv));
    argv[words] = argv[0];
    return run_command(command, argc - words, argv + words);
}
