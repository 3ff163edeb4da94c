/* How far a long command is, on a terminal: one line on standard error, redrawn a few times a second. */
#include <inttypes.h>
#include <unistd.h>

#include "cli/cli.h"

enum { REDRAW_US = 200000, BAR_WIDTH = 30 };

void progress_begin(struct progress *progress)
{
    progress->shown = isatty(STDERR_FILENO) == 1;
    progress->started_us = cli_now_us();
    progress->next_us = progress->started_us + REDRAW_US;
}

void progress_update(struct progress *progress, uint64_t messages, uint64_t bytes, uint64_t total_bytes)
{
    if (!progress->shown)
        return;
    int64_t now_us = cli_now_us();
    if (now_us < progress->next_us)
        return;
    progress->next_us = now_us + REDRAW_US;
    double seconds = (double)(now_us - progress->started_us) / 1e6;
    fprintf(stderr, "\r\x1b[K");
    if (total_bytes) {
        uint64_t done = bytes < total_bytes ? bytes : total_bytes;
        int filled = (int)(done * BAR_WIDTH / total_bytes);
        fprintf(stderr, "[");
        for (int i = 0; i < BAR_WIDTH; i++)
            fputc(i < filled ? '=' : ' ', stderr);
        fprintf(stderr, "] %3d%%  ", (int)(done * 100 / total_bytes));
    }
    fprintf(stderr, "%" PRIu64 " messages  %.1f MB  %.1f MB/s", messages, (double)bytes / 1e6,
            (double)bytes / 1e6 / seconds);
    fflush(stderr);
}

void progress_end(struct progress *progress)
{
    if (progress->shown)
        fprintf(stderr, "\r\x1b[K");
    progress->shown = false;
}
