/* See memory.h. */
#include "server/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

/* Little is done where fewer allocations are made between two looks. */
enum { QUIET_ALLOCATIONS = 5000, WORTHWHILE_BYTES = 4 << 20, MUCH_BYTES = 64 << 20, MUCH_LOOKS = 12 };

/* 0 where the system does not say. */
static int64_t resident_bytes(void)
{
    char text[128] = ""; /* pages: of all, resident, … */
    FILE *file = fopen("/proc/self/statm", "re");
    char *resident = file && fgets(text, sizeof(text), file) ? strchr(text, ' ') : NULL;

    if (file)
        fclose(file);
    return resident ? strtoll(resident, NULL, 10) * sysconf(_SC_PAGESIZE) : 0;
}

static int64_t allocated_bytes(void)
{
    return (int64_t)mem_live_bytes();
}

int memory_add_metrics(struct metrics *metrics)
{
    int error = metrics_register_read(metrics, METRIC_GAUGE, "clymq_memory_resident_bytes",
                                      "Memory of the machine that the process occupies.", resident_bytes);

    return error ? error
                 : metrics_register_read(metrics, METRIC_GAUGE, "clymq_memory_allocated_bytes",
                                         "Memory that is in use; the rest of what is resident is code, "
                                         "libraries, and memory kept for what comes next.",
                                         allocated_bytes);
}

static uint64_t kept_bytes(void)
{
    int64_t kept = resident_bytes() - allocated_bytes();

    return kept > 0 ? (uint64_t)kept : 0;
}

bool memory_is_left(struct memory_use *use)
{
    uint64_t count = mem_allocation_count(), kept = kept_bytes();
    bool quiet = count - use->allocations <= QUIET_ALLOCATIONS;

    use->allocations = count;
    use->looks++;
    if (use->given_back || kept < use->kept)
        use->kept = kept;
    use->given_back = false;
    if (kept - use->kept < (quiet ? WORTHWHILE_BYTES : MUCH_BYTES) || (!quiet && use->looks < MUCH_LOOKS))
        return false;
    use->looks = 0;
    use->given_back = true;
    return true;
}
