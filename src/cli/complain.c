/* What goes wrong, told to people: on standard error, with a suggestion where a word is near a known one. */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "cli/cli.h"

static void __attribute__((format(printf, 1, 0))) complain(const char *format, va_list args)
{
    fflush(stdout);
    fputs("clymq: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
}

void cli_complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
}

int cli_usage(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    complain(format, args);
    va_end(args);
    return CLI_USAGE;
}

int cli_failed(void)
{
    cli_complain("%s", clymq_last_error());
    return CLI_FAILED;
}

enum { WORD_MAX = 63 };

/* Edits (insert, delete, replace one byte) from a to b; words too long to compare are far. */
static size_t distance(const char *a, const char *b)
{
    size_t a_len = strlen(a), b_len = strlen(b);
    if (a_len > WORD_MAX || b_len > WORD_MAX)
        return SIZE_MAX;
    size_t row[WORD_MAX + 1];
    for (size_t j = 0; j <= b_len; j++)
        row[j] = j;
    for (size_t i = 1; i <= a_len; i++) {
        size_t diagonal = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t best = diagonal + (a[i - 1] != b[j - 1]);
            diagonal = row[j];
            if (row[j] + 1 < best)
                best = row[j] + 1;
            if (row[j - 1] + 1 < best)
                best = row[j - 1] + 1;
            row[j] = best;
        }
    }
    return row[b_len];
}

const char *cli_suggest(const char *word, const char *const *words, size_t count)
{
    const char *best = NULL;
    size_t best_distance = strlen(word) / 3 + 1;
    for (size_t i = 0; i < count; i++) {
        size_t edits = distance(word, words[i]);
        if (edits <= best_distance) {
            best_distance = edits ? edits - 1 : 0;
            best = words[i];
        }
    }
    return best;
}

int cli_finish_output(int exit_code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return exit_code;
    if (errno == EPIPE) /* the reader has had enough: no failure of ours */
        return exit_code;
    cli_complain("cannot write to standard output: %s", strerror(errno));
    return CLI_FAILED;
}
