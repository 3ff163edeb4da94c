/* The manual's part that the table of commands holds: `clymq __manual` prints it in man(7)'s macros, and
 * tools/man-page puts it into docs/man/clymq.1. */
#include <string.h>

#include "base/mem.h"
#include "cli/cli.h"

/* The rows that stand in every command and are told once. */
static bool is_common(const struct option *option)
{
    static const char *const names[] = {"coordinator", "timeout", "json", "help"};
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(option->name, names[i]) == 0)
            return true;
    return false;
}

/* Those of a table that are common, or those that are not, without their sections: a command has few. 0 or
 * CLYMQ_ENOMEM. */
static int print_rows(const struct option *table, bool common, struct strbuf *text)
{
    size_t count = 0;
    while (table[count].name)
        count++;
    struct option *rows = mem_zalloc((count + 1) * sizeof(*rows));
    if (!rows)
        return CLYMQ_ENOMEM;
    size_t used = 0;
    for (size_t i = 0; i < count; i++)
        if (is_common(&table[i]) == common)
            rows[used++] = table[i];
    options_print_manual_rows(rows, text);
    mem_free(rows);
    return 0;
}

/* Sentences as they are, examples as they stand. */
static void print_details(const char *details, struct strbuf *text)
{
    bool literal = false;
    while (*details) {
        size_t len = strcspn(details, "\n");
        char line[512];
        snprintf(line, sizeof(line), "%.*s", (int)len, details);
        if (line[0] == ' ' && !literal)
            strbuf_append_text(text, ".PP\n.nf\n");
        else if (line[0] != ' ' && literal)
            strbuf_append_text(text, ".fi\n");
        literal = line[0] == ' ';
        if (len == 0) {
            strbuf_append_text(text, ".PP\n");
        } else {
            options_append_roff(text, line);
            strbuf_append(text, "\n", 1);
        }
        details += len + (details[len] == '\n');
    }
    if (literal)
        strbuf_append_text(text, ".fi\n");
}

int cli_print_manual(void)
{
    struct strbuf text = {0};
    int error = 0;
    strbuf_append_text(&text, ".SH COMMANDS\n");
    for (const struct cli_command *const *at = cli_commands; *at && !error; at++) {
        strbuf_printf(&text, ".SS clymq %s %s\n", (*at)->name, (*at)->arguments);
        options_append_roff(&text, (*at)->summary);
        strbuf_append(&text, "\n", 1);
        error = print_rows((*at)->table, false, &text);
        strbuf_append_text(&text, ".PP\n");
        print_details((*at)->details, &text);
    }
    strbuf_append_text(&text, ".SH COMMON OPTIONS\n");
    if (!error)
        error = print_rows(cli_topic_list.table, true, &text);
    if (error || text.failed)
        cli_complain("%s", error_sentence(CLYMQ_ENOMEM));
    else
        fputs(text.data, stdout);
    error = error || text.failed;
    strbuf_free(&text);
    return cli_finish_output(error ? CLI_FAILED : CLI_OK);
}
