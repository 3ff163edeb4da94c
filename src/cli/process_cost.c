/* What a process has cost so far, read from /proc: the server's share of a measurement. */
#include "cli/process_cost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"

enum { USER_TIME_FIELD = 14 }; /* of /proc/PID/stat: proc(5) */

static int read_text(int64_t pid, const char *name, char *text, size_t cap)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%lld/%s", (long long)pid, name);
    FILE *file = fopen(path, "re");
    if (!file)
        return CLYMQ_ENOENT;
    size_t len = fread(text, 1, cap - 1, file);
    fclose(file);
    text[len] = '\0';
    return len > 0 ? 0 : CLYMQ_ENOENT;
}

static uint64_t status_bytes(const char *status, const char *name)
{
    const char *at = strstr(status, name);
    return at ? strtoull(at + strlen(name), NULL, 10) * 1024 : 0;
}

int process_cost_read(int64_t pid, struct process_cost *ret_cost)
{
    char text[4096];
    int error = read_text(pid, "stat", text, sizeof(text));
    if (error)
        return error;
    /* The second field, a name in parentheses, may hold anything. */
    char *at = strrchr(text, ')');
    for (int field = 2; at && field < USER_TIME_FIELD; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return CLYMQ_ENOENT;
    unsigned long long ticks = strtoull(at, &at, 10);
    ticks += strtoull(at, NULL, 10); /* the system's follows the user's */
    struct process_cost cost = {.cpu_s = (double)ticks / (double)sysconf(_SC_CLK_TCK)};
    error = read_text(pid, "status", text, sizeof(text));
    if (error)
        return error;
    cost.rss_bytes = status_bytes(text, "VmRSS:");
    cost.rss_max_bytes = status_bytes(text, "VmHWM:");
    *ret_cost = cost;
    return 0;
}
