/* Where options come from: config file, environment, flags. See options.h. */
#include <ctype.h>
#include <fnmatch.h>
#include <stdio.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"

enum { NAME_BYTES = 64 };

/* Sets name to value and puts "where: " before what went wrong. */
static int set_at(const struct option *table, void *values, const char *where, const char *name,
                  const char *value, struct strbuf *error)
{
    struct strbuf reason = {0};
    int result = options_set(table, values, name, value, &reason);
    if (result == CLYMQ_EINVAL || result == CLYMQ_ENOENT) {
        strbuf_printf(error, "%s: %s", where, reason.data ? reason.data : error_sentence(CLYMQ_ENOMEM));
        result = CLYMQ_EINVAL;
    }
    strbuf_free(&reason);
    return result;
}

static struct bytes trim(struct bytes text)
{
    while (text.len > 0 && isspace(text.ptr[0])) {
        text.ptr++;
        text.len--;
    }
    while (text.len > 0 && isspace(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

/* Takes a value in double quotes apart into copy (room for raw.len + 1). What is wrong, or NULL. */
static const char *unquote(struct bytes raw, char *copy)
{
    size_t at = 1;
    for (; at < raw.len && raw.ptr[at] != '"'; at++) {
        if (raw.ptr[at] == '\\' && at + 1 < raw.len && (raw.ptr[at + 1] == '"' || raw.ptr[at + 1] == '\\'))
            at++;
        *copy++ = (char)raw.ptr[at];
    }
    *copy = '\0';
    if (at == raw.len)
        return "the closing quote is missing: write name = \"value\"";
    struct bytes rest = trim(bytes_of(raw.ptr + at + 1, raw.len - at - 1));
    if (rest.len > 0 && rest.ptr[0] != '#')
        return "there is text after the closing quote: remove it, or put \\ before quotes inside";
    return NULL;
}

/* raw up to a comment. */
static struct bytes cut_comment(struct bytes raw)
{
    for (size_t i = 0; i < raw.len; i++)
        if (raw.ptr[i] == '#' && (i == 0 || isspace(raw.ptr[i - 1])))
            return trim(bytes_of(raw.ptr, i));
    return raw;
}

/* A file while it is read. */
struct file {
    const struct option *table;
    void *values;
    const char *name;
    unsigned *lines; /* for each row of the table the one that set it, 0 = none so far */
};

enum { PLACE_CAP = 300 };

/* "name:line". */
static void format_place(const struct file *file, unsigned line, char out[PLACE_CAP])
{
    snprintf(out, PLACE_CAP, "%.280s:%u", file->name, line);
}

/* Notes that a line sets the option of that name. What is no option is told elsewhere. */
static int note_line(struct file *file, struct bytes name, unsigned number, struct strbuf *error)
{
    const struct option *option = options_find(file->table, name);
    if (!option)
        return 0;
    unsigned *line = &file->lines[option - file->table];
    if (!*line) {
        *line = number;
        return 0;
    }
    char before[PLACE_CAP], here[PLACE_CAP];
    format_place(file, *line, before);
    format_place(file, number, here);
    strbuf_printf(error, "%s: \"%s\" was set at %s already: remove one of the lines", here, option->name,
                  before);
    return CLYMQ_EINVAL;
}

static int parse_line(struct file *file, unsigned number, struct bytes line, struct strbuf *error)
{
    char where[PLACE_CAP];
    format_place(file, number, where);
    line = trim(line);
    if (line.len == 0 || line.ptr[0] == '#')
        return 0;
    const uint8_t *equals = memchr(line.ptr, '=', line.len);
    if (!equals || memchr(line.ptr, '\0', line.len)) {
        strbuf_printf(error, "%s: a line must be \"name = value\" or begin with #", where);
        return CLYMQ_EINVAL;
    }
    struct bytes name = trim(bytes_of(line.ptr, (size_t)(equals - line.ptr)));
    struct bytes raw = trim(bytes_of(equals + 1, line.len - (size_t)(equals + 1 - line.ptr)));
    int result = note_line(file, name, number, error);
    if (result)
        return result;
    char *name_text MEM_CLEANUP = mem_strndup(name.ptr, name.len);
    char *value = mem_alloc(raw.len + 1);
    result = CLYMQ_ENOMEM;
    if (!name_text || !value)
        goto out;
    if (raw.len > 0 && raw.ptr[0] == '"') {
        const char *wrong = unquote(raw, value);
        if (wrong) {
            strbuf_printf(error, "%s: %s", where, wrong);
            result = CLYMQ_EINVAL;
            goto out;
        }
    } else {
        raw = cut_comment(raw);
        memcpy(value, raw.ptr, raw.len);
        value[raw.len] = '\0';
    }
    result = set_at(file->table, file->values, where, name_text, value, error);
out:
    mem_free(value);
    return result;
}

int options_parse_file(const struct option *table, void *values, const char *name, struct bytes text,
                       struct strbuf *error)
{
    if (text.len >= 3 && memcmp(text.ptr, "\xef\xbb\xbf", 3) == 0) { /* some editors mark UTF-8 so */
        text.ptr += 3;
        text.len -= 3;
    }
    size_t rows = 0;
    while (table[rows].name)
        rows++;
    unsigned *lines MEM_CLEANUP = mem_calloc(rows + 1, sizeof(*lines));
    if (!lines)
        return CLYMQ_ENOMEM;
    struct file file = {.table = table, .values = values, .name = name, .lines = lines};
    for (unsigned number = 1; text.len > 0; number++) {
        const uint8_t *end = memchr(text.ptr, '\n', text.len);
        size_t len = end ? (size_t)(end - text.ptr) : text.len;
        int result = parse_line(&file, number, bytes_of(text.ptr, len), error);
        if (result)
            return result;
        len += end != NULL;
        text.ptr += len;
        text.len -= len;
    }
    return 0;
}

/* variable is "NAME=value", the name of length len. */
static bool listed(const char *const *list, const char *variable, size_t len)
{
    for (; list && *list; list++) {
        if (strchr(*list, '=')) {
            if (fnmatch(*list, variable, 0) == 0)
                return true;
            continue;
        }
        size_t listed_len = strlen(*list);
        bool prefix = listed_len > 0 && (*list)[listed_len - 1] == '*';
        if (prefix ? len >= listed_len - 1 && memcmp(*list, variable, listed_len - 1) == 0
                   : len == listed_len && memcmp(*list, variable, len) == 0)
            return true;
    }
    return false;
}

/* "PUSH-WAIT" and "push-wait" to "push_wait"; false where text is too long for a name. */
static bool name_normalize(const char *text, size_t len, char *name)
{
    if (len >= NAME_BYTES)
        return false;
    for (size_t i = 0; i < len; i++)
        name[i] = text[i] == '-' ? '_' : (char)tolower((unsigned char)text[i]);
    name[len] = '\0';
    return true;
}

int options_parse_environment(const struct option *table, void *values, char *const *environment,
                              const char *const *ignore, struct strbuf *error)
{
    static const char prefix[] = "CLYMQ_";
    for (; *environment; environment++) {
        const char *variable = *environment, *equals = strchr(variable, '=');
        if (!equals || strncmp(variable, prefix, sizeof(prefix) - 1) != 0)
            continue;
        size_t len = (size_t)(equals - variable);
        char name[NAME_BYTES];
        const char *rest = variable + sizeof(prefix) - 1;
        bool known =
            name_normalize(rest, (size_t)(equals - rest), name) && options_find(table, bytes_of_text(name));
        if (!known && listed(ignore, variable, len))
            continue;
        char where[NAME_BYTES + 40];
        snprintf(where, sizeof(where), "environment variable %.*s", len < NAME_BYTES ? (int)len : NAME_BYTES,
                 variable);
        if (!known) {
            strbuf_printf(error, "%s: there is no such option", where);
            const struct option *near = options_suggest(table, bytes_of(rest, (size_t)(equals - rest)));
            if (near) {
                strbuf_append_text(error, "; did you mean CLYMQ_");
                for (const char *c = near->name; *c; c++)
                    strbuf_append(error, (char[]){(char)toupper((unsigned char)*c)}, 1);
                strbuf_append_text(error, "?");
            }
            return CLYMQ_EINVAL;
        }
        int result = set_at(table, values, where, name, equals + 1, error);
        if (result)
            return result;
    }
    return 0;
}

static bool is_flag(const char *argument)
{
    return argument[0] == '-' && argument[1] != '\0' && !isdigit((unsigned char)argument[1]);
}

/* Appends an option's name as a flag says it, without the dashes in front. */
static void append_flag_name(struct strbuf *text, const char *name)
{
    for (; *name; name++)
        strbuf_append(text, *name == '_' ? "-" : name, 1);
}

static int unknown_flag(const struct option *table, const char *flag, struct strbuf *error)
{
    const char *name = flag + strspn(flag, "-");
    size_t len = strcspn(name, "=");
    strbuf_printf(error, "unknown flag %.*s",
                  (int)((size_t)(name - flag) + (len < NAME_BYTES ? len : NAME_BYTES)), flag);
    const struct option *near = options_suggest(table, bytes_of(name, len));
    if (near) {
        strbuf_append_text(error, "; did you mean --");
        append_flag_name(error, near->name);
        strbuf_append_text(error, "?");
    } else {
        strbuf_append_text(error, "; --help lists them");
    }
    return CLYMQ_EINVAL;
}

/* Sets one flag; next is the argument after it or NULL. *ret_taken: whether next was its value. */
static int parse_flag(const struct option *table, void *values, const char *flag, const char *next,
                      bool *ret_taken, struct strbuf *error)
{
    if (strcmp(flag, "-h") == 0 && options_find(table, BYTES_LITERAL("help")))
        flag = "--help";
    if (flag[1] != '-')
        return unknown_flag(table, flag, error);
    const char *text = flag + 2, *equals = strchr(text, '=');
    size_t len = equals ? (size_t)(equals - text) : strlen(text);
    char name[NAME_BYTES];
    if (!name_normalize(text, len, name))
        return unknown_flag(table, flag, error);
    const struct option *option = options_find(table, bytes_of_text(name));
    const char *value = equals ? equals + 1 : NULL;
    if (!option && !equals && strncmp(name, "no_", 3) == 0) {
        option = options_find(table, bytes_of_text(name + 3));
        if (option && option->type != OPTION_BOOL)
            option = NULL;
        value = "false";
    }
    if (!option)
        return unknown_flag(table, flag, error);
    *ret_taken = false;
    if (!value && option->type == OPTION_BOOL) {
        value = "true";
    } else if (!value) {
        if (!next || strncmp(next, "--", 2) == 0) {
            strbuf_printf(error, "%s needs a value: write %s VALUE or %s=VALUE", flag, flag, flag);
            return CLYMQ_EINVAL;
        }
        value = next;
        *ret_taken = true;
    }
    char where[NAME_BYTES + 4];
    snprintf(where, sizeof(where), "--%.*s", (int)len, text);
    return set_at(table, values, where, option->name, value, error);
}

int options_parse_flags(const struct option *table, void *values, int *argc, char **argv,
                        struct strbuf *error)
{
    int kept = *argc > 0 ? 1 : 0, at = kept;
    while (at < *argc) {
        char *argument = argv[at++];
        if (strcmp(argument, "--") == 0) {
            while (at < *argc)
                argv[kept++] = argv[at++];
            break;
        }
        if (!is_flag(argument)) {
            argv[kept++] = argument;
            continue;
        }
        bool taken = false;
        int result = parse_flag(table, values, argument, at < *argc ? argv[at] : NULL, &taken, error);
        if (result)
            return result;
        at += taken;
    }
    if (kept < *argc)
        argv[kept] = NULL;
    *argc = kept;
    return 0;
}
