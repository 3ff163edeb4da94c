/* See memory.h. */
#include "server/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/mem.h"

/* Little is done where fewer allocations are made between two looks. */
enum {
    QUIET_ALLOCATIONS = 5000,
    WORTHWHILE_BYTES = 4 << 20,
    MUCH_BYTES = 64 << 20,
    MUCH_LOOKS = 12,
    TRIES = 3
};

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

uint64_t memory_kept_bytes(void)
{
    int64_t kept = resident_bytes() - allocated_bytes();

    return kept > 0 ? (uint64_t)kept : 0;
}

bool memory_is_left(struct memory_use *use, uint64_t allocations, uint64_t kept)
{
    bool quiet = allocations - use->allocations <= QUIET_ALLOCATIONS;
    uint64_t more;

    use->allocations = allocations;
    use->looks++;
    if (kept < use->kept)
        use->kept = kept;
    more = kept - use->kept;
    if (more < WORTHWHILE_BYTES)
        use->tries = 0;
    if (more < (quiet ? WORTHWHILE_BYTES : MUCH_BYTES) || (!quiet && use->looks < MUCH_LOOKS))
        return false;
    if (quiet && use->tries == TRIES) { /* it lies between what is in use */
        use->kept = kept;
        use->tries = 0;
        return false;
    }
    use->tries += quiet;
    use->looks = 0;
    return true;
}
