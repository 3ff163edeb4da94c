/* Host name, MAC address, cores, descriptors. */
#include "server/machine.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

void machine_host(char out[MACHINE_NAME_CAP])
{
    char name[MACHINE_NAME_CAP] = "";
    size_t used = 0;

    gethostname(name, sizeof(name) - 1);
    for (const char *c = name; *c && used < 64; c++)
        out[used++] = isalnum((unsigned char)*c) || *c == '-' || *c == '.' || *c == '_' ? *c : '-';
    out[used] = 0;
    if (!used)
        snprintf(out, MACHINE_NAME_CAP, "localhost");
}

/* "02:42:ac:11:00:02" without the colons; false for none or all zeros. */
static bool read_mac(const char *interface, char out[32])
{
    char path[320], text[32] = "";
    size_t used = 0;
    bool any = false;
    FILE *file;

    snprintf(path, sizeof(path), "/sys/class/net/%s/address", interface);
    file = fopen(path, "re");
    if (!file)
        return false;
    if (!fgets(text, sizeof(text), file))
        text[0] = 0;
    fclose(file);
    for (const char *c = text; *c; c++)
        if (isxdigit((unsigned char)*c)) {
            out[used++] = (char)tolower((unsigned char)*c);
            any = any || *c != '0';
        }
    out[used] = 0;
    return any && used == 12;
}

void machine_name(char out[MACHINE_NAME_CAP])
{
    struct dirent **entries;
    int count = scandir("/sys/class/net", &entries, NULL, alphasort);
    char mac[32];
    bool found = false;

    machine_host(out);
    for (int i = 0; i < count; i++) {
        if (!found && entries[i]->d_name[0] != '.')
            found = read_mac(entries[i]->d_name, mac);
        free(entries[i]);
    }
    if (count >= 0)
        free(entries);
    if (found) {
        size_t len = strlen(out);

        snprintf(out + len, MACHINE_NAME_CAP - len, "-%s", mac);
    }
}

unsigned machine_cores(void)
{
    cpu_set_t set;
    int count = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

    return count < 1 ? 1 : count > 256 ? 256 : (unsigned)count;
}

uint64_t machine_raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit))
        return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        struct rlimit raised = {limit.rlim_max, limit.rlim_max};

        if (setrlimit(RLIMIT_NOFILE, &raised) == 0)
            limit = raised;
    }
    return limit.rlim_cur;
}

void machine_expect_descriptors(uint64_t count)
{
    int first = open("/dev/null", O_RDONLY | O_CLOEXEC);

    if (first < 0)
        return;
    int last = count > 0 && count <= INT_MAX ? fcntl(first, F_DUPFD_CLOEXEC, (int)count - 1) : -1;

    if (last >= 0)
        close(last);
    close(first);
}
