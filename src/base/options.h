/* One options table makes the config file, the flags, the environment and the reference page.
 *
 * An option "push_wait_ms" is push_wait_ms = 30000 in the file, --push-wait-ms 30000 (or =30000) as a flag,
 * and CLYMQ_PUSH_WAIT_MS in the environment. Order of precedence: flag, environment, file, default. A table
 * is a constant array of struct option, ended by a row whose name is NULL; values live in a struct of the
 * program's own, at offset. Sizes take K, M, G, T (powers of 1024), durations ms, s, m, h, d; a bare number
 * is in the option's unit. Used by one thread. */
#ifndef CLYMQ_BASE_OPTIONS_H
#define CLYMQ_BASE_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"

enum option_type {
    OPTION_BOOL, /* bool: true|false|yes|no|on|off|1|0; a flag without a value is true; --no-NAME is false */
    OPTION_INT,  /* int64_t in [min, max] */
    OPTION_SIZE, /* int64_t bytes in [min, max] */
    OPTION_DURATION_MS, /* int64_t milliseconds in [min, max] */
    OPTION_TEXT,        /* char *, owned by the values struct */
    OPTION_CHOICE,      /* int: index into choices, which is a list like "commit|interval|never" */
};

struct option {
    const char *name; /* lower case, words joined by '_' */
    enum option_type type;
    size_t offset;           /* in the values struct */
    const char *fallback;    /* default, as text; NULL = zero / no text */
    int64_t min, max;        /* for numbers; both 0 = any */
    const char *choices;     /* OPTION_CHOICE */
    bool reloadable;         /* applied again on SIGHUP */
    const char *section;     /* heading on the reference page and in --help */
    const char *placeholder; /* what --help shows for the value, such as "HOST:PORT" */
    const char *help;        /* one sentence or two, with the unit */
};

/* For the order of precedence call options_defaults, then _parse_file, _parse_environment and _parse_flags. A
 * program that takes the file's name from a flag parses a copy of its flags into scratch values first.
 *
 * All parsing stops at the first mistake; what was set before it stays set. So a reload parses into fresh
 * values. */

/* Sets every value to its default. 0 or CLYMQ_ENOMEM. values is zeroed or was filled by this module. */
int options_defaults(const struct option *table, void *values);
/* Reads text of a config file: lines of "name = value", a value in double quotes (with \" and \\ inside)
 * where it begins or ends with a space or holds " #"; "#" at the start of a line or after a space begins a
 * comment. On a bad line, also on a second one for the same option: CLYMQ_EINVAL and "name:line: what is
 * wrong and what to do" in error. */
int options_parse_file(const struct option *table, void *values, const char *name, struct bytes text,
                       struct strbuf *error);
/* environ-like list; unknown CLYMQ_ variables are errors too, except those named in ignore (NULL-ended or
 * NULL; "CLYMQ_X*" names all that begin with CLYMQ_X; what holds a '=' is a pattern of fnmatch(3) for name
 * and value). */
int options_parse_environment(const struct option *table, void *values, char *const *environment,
                              const char *const *ignore, struct strbuf *error);
/* Takes the flags of the table out of argv (the rest keeps its order; "--" ends the flags and is removed). Of
 * several for one option the last counts. Unknown flags are CLYMQ_EINVAL with the nearest known name as a
 * suggestion. *argc is updated; after a failure the order of argv is undefined. "-h" is --help where the
 * table has it; "-" and negative numbers are no flags. */
int options_parse_flags(const struct option *table, void *values, int *argc, char **argv,
                        struct strbuf *error);
/* Sets one option from text. CLYMQ_ENOENT for an unknown name, CLYMQ_EINVAL with a sentence for a bad value.
 */
int options_set(const struct option *table, void *values, const char *name, const char *value,
                struct strbuf *error);
/* The value as text, as the config file would say it. 0, CLYMQ_ENOENT or CLYMQ_ENOMEM. */
int options_get(const struct option *table, const void *values, const char *name, struct strbuf *text);
void options_free(const struct option *table, void *values);

/* The row of name, NULL if there is none; and the row whose name is nearest to a mistyped one, NULL if none
 * is near. */
const struct option *options_find(const struct option *table, struct bytes name);
const struct option *options_suggest(const struct option *table, struct bytes name);

/* --help text, and the reference page in Markdown. */
void options_print_help(const struct option *table, struct strbuf *text);
void options_print_reference(const struct option *table, struct strbuf *text);
/* For manual pages, in man(7)'s macros: the rows as flags of a program, with headings for the sections or
 * without, and as lines of its config file. */
void options_print_manual_flags(const struct option *table, struct strbuf *text);
void options_print_manual_rows(const struct option *table, struct strbuf *text);
void options_print_manual_file(const struct option *table, struct strbuf *text);
/* A config file that says what is the default, every line commented out. */
void options_print_example(const struct option *table, struct strbuf *text);
/* Appends text as man(7) prints it literally: backslashes, minus signs, dots at the start of a line. */
void options_append_roff(struct strbuf *text, const char *raw);

/* "4M" -> bytes, "30s" -> ms. 0 or CLYMQ_EINVAL (also on overflow). */
int options_parse_size(const char *text, int64_t *ret_bytes);
int options_parse_duration(const char *text, int64_t *ret_ms);

#endif
