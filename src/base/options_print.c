/* What people read about options: --help, the reference page, manual pages and the example of a config file,
 * all from the table. See options.h. */
#include <ctype.h>
#include <inttypes.h>

#include "base/options.h"

enum { HELP_COLUMN = 32, HELP_WIDTH = 100 };

/* An option's name as a flag spells it, without the dashes in front. */
static void append_dashed(struct strbuf *text, const char *name)
{
    for (; *name; name++)
        strbuf_append(text, *name == '_' ? "-" : name, 1);
}

static const char *placeholder(const struct option *option)
{
    if (option->placeholder)
        return option->placeholder;
    switch (option->type) {
    case OPTION_BOOL:
        return NULL;
    case OPTION_INT:
        return "N";
    case OPTION_SIZE:
        return "SIZE";
    case OPTION_DURATION_MS:
        return "DURATION";
    case OPTION_TEXT:
        return "TEXT";
    case OPTION_CHOICE:
        return option->choices;
    }
    return NULL;
}

/* Breaks words at HELP_WIDTH; lines begin at HELP_COLUMN, the first one where the text stands. */
static void append_wrapped(struct strbuf *text, const char *words)
{
    size_t column = HELP_COLUMN;
    bool first = true;
    while (*words) {
        size_t len = strcspn(words, " ");
        if (!first && column + 1 + len > HELP_WIDTH) {
            strbuf_printf(text, "\n%*s", HELP_COLUMN, "");
            column = HELP_COLUMN;
        } else if (!first) {
            strbuf_append(text, " ", 1);
            column++;
        }
        strbuf_append(text, words, len);
        column += len;
        words += len + strspn(words + len, " ");
        first = false;
    }
}

/* A default worth showing: not an empty text and not "false". */
static const char *shown_default(const struct option *option)
{
    if (!option->fallback || !option->fallback[0] ||
        (option->type == OPTION_BOOL && strcmp(option->fallback, "true") != 0))
        return NULL;
    return option->fallback;
}

static void print_help_row(const struct option *option, struct strbuf *text)
{
    size_t start = text->len;
    strbuf_append(text, "  --", 4);
    if (option->type == OPTION_BOOL && shown_default(option))
        strbuf_append_text(text, "[no-]");
    append_dashed(text, option->name);
    const char *value = placeholder(option);
    if (value)
        strbuf_printf(text, " %s", value);
    size_t width = text->len - start;
    if (width + 2 > HELP_COLUMN)
        strbuf_printf(text, "\n%*s", HELP_COLUMN, "");
    else
        strbuf_printf(text, "%*s", (int)(HELP_COLUMN - width), "");
    struct strbuf words = {0};
    strbuf_append_text(&words, option->help ? option->help : "");
    if (shown_default(option))
        strbuf_printf(&words, " (default %s)", shown_default(option));
    if (words.failed)
        text->failed = true;
    else
        append_wrapped(text, words.data);
    strbuf_append(text, "\n", 1);
    strbuf_free(&words);
}

static const char *section_of(const struct option *option)
{
    return option->section ? option->section : "Options";
}

/* Whether the section of option was already begun by an earlier row. */
static bool section_seen(const struct option *table, const struct option *option)
{
    for (const struct option *row = table; row < option; row++)
        if (strcmp(section_of(row), section_of(option)) == 0)
            return true;
    return false;
}

void options_print_help(const struct option *table, struct strbuf *text)
{
    for (const struct option *first = table; first->name; first++) {
        if (section_seen(table, first))
            continue;
        strbuf_printf(text, "%s%s:\n", first == table ? "" : "\n", section_of(first));
        for (const struct option *option = first; option->name; option++)
            if (strcmp(section_of(option), section_of(first)) == 0)
                print_help_row(option, text);
    }
}

/* A bar would end the cell of the table. */
static void append_cell(struct strbuf *text, const char *raw)
{
    for (; *raw; raw++) {
        if (*raw == '|')
            strbuf_append(text, "\\", 1);
        strbuf_append(text, raw, 1);
    }
}

/* ", 1K to 512M": the ends of a range as the config file writes them. */
static void append_range(const struct option *option, struct strbuf *text)
{
    if (option->min == 0 && option->max == 0)
        return;
    struct {
        int64_t number;
    } end;
    struct option row = {.name = "end", .type = option->type, .offset = 0};
    const struct option table[] = {row, {.name = NULL}};
    end.number = option->min;
    strbuf_append_text(text, ", ");
    options_get(table, &end, "end", text);
    if (option->max == INT64_MAX) {
        strbuf_append_text(text, " or more");
        return;
    }
    end.number = option->max;
    strbuf_append_text(text, " to ");
    options_get(table, &end, "end", text);
}

static const char *const kinds[] = {
    [OPTION_BOOL] = "true or false",   [OPTION_INT] = "number", [OPTION_SIZE] = "size",
    [OPTION_DURATION_MS] = "duration", [OPTION_TEXT] = "text",
};

static void print_reference_value(const struct option *option, struct strbuf *text)
{
    if (option->type == OPTION_CHOICE) {
        strbuf_append(text, "`", 1);
        append_cell(text, option->choices);
        strbuf_append(text, "`", 1);
        return;
    }
    strbuf_append_text(text, kinds[option->type]);
    if (option->type == OPTION_TEXT && option->placeholder) {
        strbuf_append_text(text, ", `");
        append_cell(text, option->placeholder);
        strbuf_append(text, "`", 1);
    }
    append_range(option, text);
}

static void print_reference_row(const struct option *option, struct strbuf *text)
{
    strbuf_printf(text, "| `%s` | ", option->name);
    print_reference_value(option, text);
    strbuf_append_text(text, " | ");
    if (option->fallback && option->fallback[0]) {
        strbuf_append(text, "`", 1);
        append_cell(text, option->fallback);
        strbuf_append(text, "`", 1);
    } else if (option->type == OPTION_BOOL) {
        strbuf_append_text(text, "`false`");
    }
    strbuf_append_text(text, " | ");
    append_cell(text, option->help ? option->help : "");
    if (option->reloadable)
        strbuf_append_text(text, " Applied again on SIGHUP.");
    strbuf_append_text(text, " |\n");
}

void options_print_reference(const struct option *table, struct strbuf *text)
{
    const struct option *example = table;
    if (!example->name)
        return;
    strbuf_printf(text, "An option `%s` is `%s = VALUE` in the config file, `--", example->name,
                  example->name);
    append_dashed(text, example->name);
    strbuf_append_text(text, " VALUE` (or `=VALUE`) as a flag and `CLYMQ_");
    for (const char *c = example->name; *c; c++)
        strbuf_append(text, (char[]){(char)toupper((unsigned char)*c)}, 1);
    strbuf_append_text(
        text, "` in the environment. A flag overrides the environment, the environment the file, and the "
              "file the default.\nSizes take K, M, G and T (powers of 1024), durations ms, s, m, h and d; "
              "a bare number is bytes or milliseconds.\n");
    for (const struct option *first = table; first->name; first++) {
        if (section_seen(table, first))
            continue;
        strbuf_printf(text, "\n## %s\n\n| option | value | default | meaning |\n| --- | --- | --- | --- |\n",
                      section_of(first));
        for (const struct option *option = first; option->name; option++)
            if (strcmp(section_of(option), section_of(first)) == 0)
                print_reference_row(option, text);
    }
}

/* ---- manual pages ---- */

void options_append_roff(struct strbuf *text, const char *raw)
{
    bool line_start = text->len == 0 || text->data[text->len - 1] == '\n';
    for (; *raw; raw++) {
        if (line_start && (*raw == '.' || *raw == '\''))
            strbuf_append_text(text, "\\&");
        if (*raw == '\\')
            strbuf_append_text(text, "\\e");
        else if (*raw == '-')
            strbuf_append_text(text, "\\-");
        else
            strbuf_append(text, raw, 1);
        line_start = *raw == '\n';
    }
}

static void append_roff_dashed(struct strbuf *text, const char *name)
{
    for (; *name; name++)
        strbuf_append_text(text, *name == '_' ? "\\-" : (char[]){*name, 0});
}

/* Calls print for every row, by section, with a heading for each. */
static void print_manual(const struct option *table, struct strbuf *text,
                         void (*print)(const struct option *option, struct strbuf *text))
{
    for (const struct option *first = table; first->name; first++) {
        if (section_seen(table, first))
            continue;
        strbuf_printf(text, ".SS %s\n", section_of(first));
        for (const struct option *option = first; option->name; option++)
            if (strcmp(section_of(option), section_of(first)) == 0)
                print(option, text);
    }
}

static void print_manual_flag(const struct option *option, struct strbuf *text)
{
    const char *value = placeholder(option);
    strbuf_append_text(text, ".TP\n\\fB\\-\\-");
    if (option->type == OPTION_BOOL && shown_default(option))
        strbuf_append_text(text, "[no\\-]");
    append_roff_dashed(text, option->name);
    strbuf_append_text(text, "\\fR");
    if (value) {
        strbuf_append_text(text, " \\fI");
        options_append_roff(text, value);
        strbuf_append_text(text, "\\fR");
    }
    strbuf_append(text, "\n", 1);
    options_append_roff(text, option->help ? option->help : "");
    if (shown_default(option)) {
        strbuf_append_text(text, " The default is ");
        options_append_roff(text, shown_default(option));
        strbuf_append(text, ".", 1);
    }
    strbuf_append(text, "\n", 1);
}

void options_print_manual_flags(const struct option *table, struct strbuf *text)
{
    print_manual(table, text, print_manual_flag);
}

void options_print_manual_rows(const struct option *table, struct strbuf *text)
{
    for (const struct option *option = table; option->name; option++)
        print_manual_flag(option, text);
}

/* "(duration, 10ms to 1h; default 30s)" */
static void append_kind(const struct option *option, struct strbuf *text)
{
    strbuf_append(text, "(", 1);
    strbuf_append_text(text, option->type == OPTION_CHOICE ? option->choices : kinds[option->type]);
    if (option->type != OPTION_CHOICE)
        append_range(option, text);
    if (shown_default(option) || option->type == OPTION_BOOL)
        strbuf_printf(text, "; default %s", shown_default(option) ? shown_default(option) : "false");
    strbuf_append(text, ")", 1);
}

static void print_manual_line(const struct option *option, struct strbuf *text)
{
    struct strbuf kind = {0};
    append_kind(option, &kind);
    strbuf_printf(text, ".TP\n\\fB%s\\fR = \\fI", option->name);
    options_append_roff(text, option->type == OPTION_CHOICE ? "CHOICE"
                              : placeholder(option)         ? placeholder(option)
                                                            : "true|false");
    strbuf_append_text(text, "\\fR\n");
    options_append_roff(text, kind.failed ? "" : kind.data);
    strbuf_append(text, "\n", 1);
    options_append_roff(text, option->help ? option->help : "");
    if (option->reloadable)
        strbuf_append_text(text, " Applied again on SIGHUP.");
    strbuf_append(text, "\n", 1);
    text->failed = text->failed || kind.failed;
    strbuf_free(&kind);
}

void options_print_manual_file(const struct option *table, struct strbuf *text)
{
    print_manual(table, text, print_manual_line);
}

/* ---- the example ---- */

static void append_comment(struct strbuf *text, const char *words)
{
    size_t column = 1;
    strbuf_append(text, "#", 1);
    while (*words) {
        size_t len = strcspn(words, " ");
        if (column + 1 + len > HELP_WIDTH) {
            strbuf_append(text, "\n#", 2);
            column = 1;
        }
        strbuf_append(text, " ", 1);
        strbuf_append(text, words, len);
        column += 1 + len;
        words += len + strspn(words + len, " ");
    }
    strbuf_append(text, "\n", 1);
}

static void print_example_row(const struct option *option, struct strbuf *text)
{
    struct strbuf words = {0};
    strbuf_printf(&words, "%s ", option->help ? option->help : "");
    append_kind(option, &words);
    strbuf_append(text, "\n", 1);
    append_comment(text, words.failed ? "" : words.data);
    strbuf_printf(text, "#%s = ", option->name);
    if (option->fallback)
        strbuf_append_text(text, option->fallback);
    else if (option->type == OPTION_BOOL)
        strbuf_append_text(text, "false");
    else if (option->type == OPTION_CHOICE)
        strbuf_append(text, option->choices, strcspn(option->choices, "|"));
    else if (option->type != OPTION_TEXT)
        strbuf_append(text, "0", 1);
    strbuf_append(text, "\n", 1);
    text->failed = text->failed || words.failed;
    strbuf_free(&words);
}

void options_print_example(const struct option *table, struct strbuf *text)
{
    for (const struct option *first = table; first->name; first++) {
        if (section_seen(table, first))
            continue;
        strbuf_printf(text, "%s# ---- %s ----\n", first == table ? "" : "\n", section_of(first));
        for (const struct option *option = first; option->name; option++)
            if (strcmp(section_of(option), section_of(first)) == 0)
                print_example_row(option, text);
    }
}
