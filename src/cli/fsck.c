/* clymq fsck: the offline check of a data folder. Findings go to standard output, one a line; damage makes
 * the exit code 1, harmless findings do not. */
#include "store/fsck.h"

#include <inttypes.h>
#include <sys/stat.h>

#include "cli/cli.h"

struct fsck_values {
    struct cli_common common;
    bool repair;
};
#define AT(field) offsetof(struct fsck_values, field)

static const struct option fsck_table[] = {
    {.name = "repair",
     .type = OPTION_BOOL,
     .offset = AT(repair),
     .section = "Check",
     .help =
         "Remove indexes that do not match their log; the server makes them again. Logs are never changed."},
    CLI_OFFLINE_OPTIONS(struct fsck_values),
    {0},
};

struct fsck_report {
    const struct fsck_values *values;
    struct progress progress;
    bool first;
};

static const char *kind_name(enum fsck_kind kind)
{
    static const char *const names[] = {
        [FSCK_DAMAGED_LOG] = "damaged-log",       [FSCK_MISSING_LOG] = "missing-log",
        [FSCK_FAILED_BLOCK] = "failed-block",     [FSCK_UNREADABLE] = "unreadable",
        [FSCK_TORN_TAIL] = "torn-tail",           [FSCK_WRONG_INDEX] = "wrong-index",
        [FSCK_WRONG_SNAPSHOT] = "wrong-snapshot", [FSCK_WRONG_STATE] = "wrong-state",
    };
    return names[kind];
}

static void on_finding(void *ctx, const struct fsck_finding *finding)
{
    struct fsck_report *report = ctx;
    progress_end(&report->progress);
    if (!report->values->common.json) {
        printf("%s: %s, byte %" PRIu64 ": %s\n", fsck_is_damage(finding->kind) ? "DAMAGE" : "note",
               finding->path, finding->position, finding->sentence);
        return;
    }
    struct strbuf line = {0};
    strbuf_printf(&line, "%s{\"kind\":\"%s\",\"damage\":%s,\"path\":", report->first ? "" : ",\n",
                  kind_name(finding->kind), fsck_is_damage(finding->kind) ? "true" : "false");
    json_append_text(&line, bytes_of_text(finding->path));
    strbuf_printf(&line, ",\"position\":%" PRIu64 ",\"offset\":%" PRId64 ",\"repaired\":%s,\"sentence\":",
                  finding->position, finding->offset, finding->repaired ? "true" : "false");
    json_append_text(&line, bytes_of_text(finding->sentence));
    strbuf_append_text(&line, "}");
    report->first = false;
    if (!line.failed)
        fputs(line.data, stdout);
    strbuf_free(&line);
}

static void on_progress(void *ctx, const struct fsck_totals *totals)
{
    struct fsck_report *report = ctx;
    progress_update(&report->progress, totals->records, totals->bytes, 0);
}

static int fsck_refused(const char *path, int error)
{
    if (error == CLYMQ_ENOENT)
        cli_complain("%s: no data folder of ClyMQ: it has no file FORMAT", path);
    else if (error == CLYMQ_ELOCKED)
        cli_complain("%s: in use by a server: stop it first", path);
    else
        cli_complain("%s: %s", path, error_file_sentence(error));
    return CLI_FAILED;
}

static int fsck_run_command(void *values_ptr, int argc, char **argv)
{
    struct fsck_values *values = values_ptr;
    struct fsck_report report = {.values = values, .first = true};
    struct fsck_totals totals = {0};
    struct fsck_options options = {.repair_indexes = values->repair,
                                   .on_finding = on_finding,
                                   .on_progress = on_progress,
                                   .ctx = &report};
    struct stat folder;
    struct io_fs *fs;
    /* Opening would make it. */
    if (stat(argv[0], &folder) != 0 || !S_ISDIR(folder.st_mode)) {
        cli_complain("%s: no such folder", argv[0]);
        return CLI_FAILED;
    }
    int error = io_os_fs_new(argv[0], &fs);
    if (error)
        return fsck_refused(argv[0], error);
    if (values->common.json)
        printf("{\"findings\":[");
    progress_begin(&report.progress);
    error = fsck_run(fs, &options, &totals);
    progress_end(&report.progress);
    io_os_fs_free(fs);
    if (values->common.json)
        printf("],\"blocks\":%" PRIu64 ",\"segments\":%" PRIu64 ",\"batches\":%" PRIu64
               ",\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"damages\":%" PRIu64 ",\"harmless\":%" PRIu64
               ",\"repaired\":%" PRIu64 "}\n",
               totals.blocks, totals.segments, totals.batches, totals.records, totals.bytes, totals.damages,
               totals.harmless, totals.repaired);
    if (error)
        return cli_finish_output(fsck_refused(argv[0], error));
    if (!values->common.json)
        printf("%" PRIu64 " blocks, %" PRIu64 " segments, %" PRIu64 " batches, %" PRIu64 " records, %" PRIu64
               " bytes: %" PRIu64 " damaged places, %" PRIu64 " harmless ones, %" PRIu64 " repaired\n",
               totals.blocks, totals.segments, totals.batches, totals.records, totals.bytes, totals.damages,
               totals.harmless, totals.repaired);
    return cli_finish_output(totals.damages ? CLI_FAILED : CLI_OK);
}

const struct cli_command cli_fsck = {
    .name = "fsck",
    .arguments = "DATA_FOLDER",
    .summary = "Check a data folder that no server uses: every checksum, every index.",
    .details = "Reads all logs. Damaged data is reported, never changed or removed. Exit code 1 when "
               "messages are or may be\n"
               "lost; unfinished writes behind the durable end and wrong indexes are harmless.\n\n"
               "Examples:\n"
               "  clymq fsck /var/lib/clymq\n"
               "  clymq fsck --repair --json ./clymq-data\n",
    .table = fsck_table,
    .values_size = sizeof(struct fsck_values),
    .arguments_min = 1,
    .arguments_max = 1,
    .run = fsck_run_command,
};
