/* Completion for shells. `clymq completion bash` prints a short script; at each press of the key that script
 * asks the hidden command `clymq __complete WORD…` what the last of these words may become, so that the
 * answers come from the table of commands itself. One candidate a line; ":files" and ":topics" stand for
 * names that the script finds. */
#include <string.h>

#include "cli/cli.h"

/* ---- the scripts ---- */

struct completion_values {
    struct cli_common common;
};

static const struct option completion_table[] = {
    {.name = "help",
     .type = OPTION_BOOL,
     .offset = offsetof(struct completion_values, common.help),
     .section = "Output",
     .help = "Print this help."},
    {.name = NULL},
};

static const struct {
    const char *shell, *script;
} scripts[] = {
    {"bash",
     "# Completion of clymq for bash, made by `clymq completion bash`.\n"
     "_clymq() {\n"
     "    local found current=\"${COMP_WORDS[COMP_CWORD]}\" IFS=$'\\n'\n"
     "    found=$(clymq __complete \"${COMP_WORDS[@]:1:COMP_CWORD}\" 2>/dev/null)\n"
     "    case \"$found\" in\n"
     "        :files) compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- \"$current\")) ;;\n"
     "        :topics) COMPREPLY=($(clymq topic list \"$current\" --timeout 1s 2>/dev/null | cut -f 1)) ;;\n"
     "        *) COMPREPLY=($found) ;;\n"
     "    esac\n"
     "}\n"
     "complete -F _clymq clymq\n"},
    {"zsh",
     "#compdef clymq\n"
     "# Completion of clymq for zsh, made by `clymq completion zsh`.\n"
     "_clymq() {\n"
     "    local -a found\n"
     "    found=(\"${(@f)$(clymq __complete \"${(@)words[2,CURRENT]}\" 2>/dev/null)}\")\n"
     "    case \"$found\" in\n"
     "        :files) _files ;;\n"
     "        :topics) compadd -- \"${(@f)$(clymq topic list --timeout 1s 2>/dev/null | cut -f 1)}\" ;;\n"
     "        *) compadd -- $found ;;\n"
     "    esac\n"
     "}\n"
     "if [ \"$funcstack[1]\" = _clymq ]; then _clymq \"$@\"; else compdef _clymq clymq; fi\n"},
    {"fish", "# Completion of clymq for fish, made by `clymq completion fish`.\n"
             "function __clymq_complete\n"
             "    set -l words (commandline -opc) (commandline -ct)\n"
             "    set -l found (clymq __complete $words[2..-1] 2>/dev/null)\n"
             "    switch \"$found\"\n"
             "        case :files\n"
             "            __fish_complete_path (commandline -ct)\n"
             "        case :topics\n"
             "            clymq topic list --timeout 1s 2>/dev/null | cut -f 1\n"
             "        case '*'\n"
             "            printf '%s\\n' $found\n"
             "    end\n"
             "end\n"
             "complete -c clymq -f -a '(__clymq_complete)'\n"},
};
enum { SCRIPTS = sizeof(scripts) / sizeof(*scripts) };

static int completion_run(void *values, int argc, char **argv)
{
    for (int i = 0; i < SCRIPTS; i++)
        if (strcmp(argv[0], scripts[i].shell) == 0) {
            fputs(scripts[i].script, stdout);
            return cli_finish_output(CLI_OK);
        }
    return cli_usage("completion: \"%s\" is not one of bash, zsh, fish", argv[0]);
}

const struct cli_command cli_completion = {
    .name = "completion",
    .arguments = "SHELL",
    .summary = "Print the script that teaches bash, zsh or fish to complete clymq's words.",
    .details = "Examples:\n"
               "  source <(clymq completion bash)\n"
               "  clymq completion fish >~/.config/fish/completions/clymq.fish\n",
    .table = completion_table,
    .values_size = sizeof(struct completion_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = completion_run,
};

/* ---- what a word may become ---- */

static void offer(const char *begin, const char *word, size_t len)
{
    size_t typed = strlen(begin);
    if (typed <= len && memcmp(begin, word, typed) == 0)
        printf("%.*s\n", (int)len, word);
}

/* The first words of all commands, each once: those of a group follow each other. */
static void offer_commands(const char *begin)
{
    const char *last = "";
    for (const struct cli_command *const *at = cli_commands; *at; at++) {
        size_t len = strcspn((*at)->name, " ");
        if (strncmp(last, (*at)->name, len) != 0 || strcspn(last, " ") != len)
            offer(begin, (*at)->name, len);
        last = (*at)->name;
    }
    offer(begin, "help", 4);
}

/* The second words of a group's commands. false: no such group. */
static bool offer_group(const char *group, const char *begin)
{
    size_t len = strlen(group);
    bool any = false;
    for (const struct cli_command *const *at = cli_commands; *at; at++)
        if (strncmp((*at)->name, group, len) == 0 && (*at)->name[len] == ' ') {
            offer(begin, (*at)->name + len + 1, strlen((*at)->name + len + 1));
            any = true;
        }
    return any;
}

static void offer_flag(const char *before, const char *name, const char *begin)
{
    char flag[64];
    int len = snprintf(flag, sizeof(flag), "--%s%s", before, name);
    for (char *c = flag; *c; c++)
        *c = *c == '_' ? '-' : *c;
    offer(begin, flag, (size_t)len);
}

static void offer_flags(const struct cli_command *command, const char *begin)
{
    for (const struct option *option = command->table; option->name; option++) {
        offer_flag("", option->name, begin);
        if (option->type == OPTION_BOOL && option->fallback && strcmp(option->fallback, "true") == 0)
            offer_flag("no-", option->name, begin);
    }
}

static void offer_choices(const char *choices, const char *begin)
{
    while (*choices) {
        size_t len = strcspn(choices, "|");
        offer(begin, choices, len);
        choices += len + (choices[len] == '|');
    }
}

/* The row of a flag that takes a value, NULL for any other word. */
static const struct option *flag_with_value(const struct cli_command *command, const char *word)
{
    char name[64];
    if (strncmp(word, "--", 2) != 0 || strlen(word) >= sizeof(name))
        return NULL;
    snprintf(name, sizeof(name), "%s", word + 2);
    for (char *c = name; *c; c++)
        *c = *c == '-' ? '_' : *c;
    const struct option *option = options_find(command->table, bytes_of(name, strlen(name)));
    return option && option->type != OPTION_BOOL ? option : NULL;
}

static void offer_value(const struct option *option, const char *begin)
{
    const char *holder = option->placeholder ? option->placeholder : "";
    if (option->type == OPTION_CHOICE)
        offer_choices(option->choices, begin);
    else if (strcmp(holder, "FILE") == 0 || strcmp(holder, "DIR") == 0)
        printf(":files\n");
    else if (strchr(holder, '|') && !strchr(holder, '['))
        offer_choices(holder, begin);
}

static void offer_argument(const struct cli_command *command, int place, const char *begin)
{
    const char *names = command->arguments;
    if (strncmp(names, "PATH", 4) == 0 || strcmp(names, "DATA_FOLDER") == 0)
        printf(":files\n");
    else if (place == 0 && (strstr(names, "TOPIC") || strstr(names, "PREFIX")) &&
             command != &cli_topic_create)
        printf(":topics\n");
    else if (place == 0 && command == &cli_completion)
        offer_choices("bash|zsh|fish", begin);
    else
        offer_flags(command, begin);
}

static void complete_command(const struct cli_command *command, int argc, char **argv)
{
    const char *begin = argv[argc - 1], *previous = argc > 1 ? argv[argc - 2] : "";
    int place = 0;
    /* bash takes "--flag=value" apart. */
    if (strcmp(begin, "=") == 0)
        begin = "";
    else if (strcmp(previous, "=") == 0 && argc > 2)
        previous = argv[argc - 3];
    const struct option *flag = flag_with_value(command, previous);
    if (flag) {
        offer_value(flag, begin);
        return;
    }
    if (begin[0] == '-') {
        offer_flags(command, begin);
        return;
    }
    for (int i = 0; i < argc - 1; i++)
        if (flag_with_value(command, argv[i]))
            i++;
        else if (argv[i][0] != '-')
            place++;
    offer_argument(command, place, begin);
}

/* Takes off the flags that stand before the command, whose last word is not begun there. */
static void skip_flags(int *argc, char ***argv)
{
    while (*argc > 1 && (*argv)[0][0] == '-') {
        bool has_value = flag_with_value(&cli_topic_list, (*argv)[0]) != NULL;
        /* bash takes "--flag=value" apart. */
        int taken = !has_value ? 1 : *argc > 2 && strcmp((*argv)[1], "=") == 0 ? 3 : 2;
        if (taken >= *argc)
            return;
        *argc -= taken;
        *argv += taken;
    }
}

int cli_complete(int argc, char **argv)
{
    int words;
    skip_flags(&argc, &argv);
    bool help = argc > 1 && strcmp(argv[0], "help") == 0;
    argv += help;
    argc -= help;
    if (argc == 1 && argv[0][0] == '-' && !help) {
        for (const char *const *flag = (const char *const[]){"coordinator", "timeout", "json", "help", NULL};
             *flag; flag++)
            offer_flag("", *flag, argv[0]);
        offer_flag("", "version", argv[0]);
    } else if (argc <= 1) {
        offer_commands(argc ? argv[0] : "");
    } else {
        const struct cli_command *command = cli_find_command(argc - 1, argv, &words);
        if (command && !help)
            complete_command(command, argc - words, argv + words);
        else if (!command && argc == 2)
            offer_group(argv[0], argv[1]);
    }
    return cli_finish_output(CLI_OK);
}
