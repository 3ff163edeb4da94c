/* Asking before something is deleted. */
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "cli/cli.h"

bool cli_confirmed(const char *name, const char *format, ...)
{
    if (!isatty(STDIN_FILENO))
        return true;
    va_list args;
    va_start(args, format);
    vfprintf(stderr, format, args);
    va_end(args);
    fputs(" Type its name to go on: ", stderr);
    char line[512];
    if (fgets(line, sizeof(line), stdin)) {
        line[strcspn(line, "\n")] = '\0';
        if (strcmp(line, name) == 0)
            return true;
    }
    cli_complain("not deleted");
    return false;
}
