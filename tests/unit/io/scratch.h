/* A folder of its own for a test, below TMPDIR, removed at the end. */
#ifndef TEST_IO_SCRATCH_H
#define TEST_IO_SCRATCH_H

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/file.h"

struct scratch {
    char path[256];
    struct io_fs *fs;
};

static inline struct scratch scratch_new(void)
{
    struct scratch scratch = {0};
    const char *base = getenv("TMPDIR");
    snprintf(scratch.path, sizeof(scratch.path), "%s/clymq-io-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(scratch.path) || io_os_fs_new(scratch.path, &scratch.fs) != 0)
        abort();
    return scratch;
}

static inline void scratch_free(struct scratch *scratch)
{
    char **names;
    size_t count;
    if (io_fs_list(scratch->fs, "", &names, &count) == 0) {
        for (size_t i = 0; i < count; i++)
            io_fs_remove_tree(scratch->fs, names[i]);
        io_fs_free_names(names, count);
    }
    io_os_fs_free(scratch->fs);
    if (rmdir(scratch->path) != 0)
        abort(); /* something was left */
}

#endif
