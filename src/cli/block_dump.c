/* clymq block dump: the batches of segment files, and their records, as text or JSON, one a line. */
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

#include "base/mem.h"
#include "cli/cli.h"
#include "store/fsck.h"

enum { RECORDS_MAX = 256 << 20 };

struct dump_values {
    struct cli_common common;
    bool records;
    int64_t from, count;
};
#define AT(field) offsetof(struct dump_values, field)

static const struct option dump_table[] = {
    {.name = "records",
     .type = OPTION_BOOL,
     .offset = AT(records),
     .section = "Content",
     .help = "Print the records of each batch too."},
    {.name = "from",
     .type = OPTION_INT,
     .offset = AT(from),
     .fallback = "0",
     .min = 0,
     .max = INT64_MAX,
     .section = "Content",
     .help = "Leave out batches that end before this offset."},
    {.name = "count",
     .type = OPTION_INT,
     .offset = AT(count),
     .fallback = "0",
     .min = 0,
     .max = INT64_MAX,
     .section = "Content",
     .help = "Batches at most; 0 is all."},
    CLI_OFFLINE_OPTIONS(struct dump_values),
    {0},
};

struct dump {
    const struct dump_values *values;
    const char *path; /* as printed */
    struct io_fs *fs;
    int64_t printed;
    bool damaged;
};

/* Text that may hold anything: as it is where it is UTF-8 without control characters, else in hexadecimal. */
static void append_content(struct strbuf *line, struct bytes content)
{
    bool plain = true;
    for (size_t i = 0; i < content.len && plain; i++)
        plain = content.ptr[i] >= 0x20 && content.ptr[i] < 0x7f;
    if (!content.ptr) {
        strbuf_append_text(line, "null");
    } else if (plain) {
        json_append_text(line, content);
    } else {
        strbuf_append_text(line, "\"0x");
        hex_append(line, content);
        strbuf_append_text(line, "\"");
    }
}

static void print_line(struct strbuf *line)
{
    strbuf_append_text(line, "\n");
    if (!line->failed)
        fwrite(line->data, 1, line->len, stdout);
    strbuf_free(line);
}

static void print_record(const struct dump *dump, struct batch_record *record)
{
    struct strbuf line = {0};
    bool json = dump->values->common.json;
    strbuf_printf(&line,
                  json ? "{\"offset\":%" PRId64 ",\"timestamp_ms\":%" PRId64 ",\"key\":"
                       : "    offset %" PRId64 " timestamp %" PRId64 " key ",
                  record->offset, record->timestamp_ms);
    append_content(&line, record->key);
    strbuf_append_text(&line, json ? ",\"value\":" : " value ");
    append_content(&line, record->value);
    strbuf_append_text(&line, json ? ",\"headers\":[" : " headers [");
    struct batch_record_header header;
    for (int i = 0; batch_header_next(record, &header) == 0; i++) {
        strbuf_append_text(&line, i ? "," : "");
        strbuf_append_text(&line, json ? "{\"key\":" : "");
        append_content(&line, header.key);
        strbuf_append_text(&line, json ? ",\"value\":" : "=");
        append_content(&line, header.value);
        strbuf_append_text(&line, json ? "}" : "");
    }
    strbuf_append_text(&line, json ? "]}" : "]");
    print_line(&line);
}

static void print_batch(const struct dump *dump, uint64_t position, const struct batch_header *header)
{
    struct strbuf line = {0};
    const char *compression = batch_compression_name(header->attributes & BATCH_COMPRESSION_MASK);
    strbuf_printf(
        &line,
        dump->values->common.json
            ? "{\"position\":%" PRIu64 ",\"base_offset\":%" PRId64 ",\"last_offset\":%" PRId64
              ",\"records\":%" PRId32 ",\"bytes\":%" PRIu32 ",\"epoch\":%" PRId32
              ",\"first_timestamp_ms\":%" PRId64 ",\"max_timestamp_ms\":%" PRId64 ",\"producer_id\":%" PRId64
              ",\"producer_epoch\":%d,\"base_sequence\":%" PRId32
              ",\"compression\":\"%s\",\"control\":%s,\"crc\":%" PRIu32 "}"
            : "position %" PRIu64 " offsets %" PRId64 "-%" PRId64 " records %" PRId32 " bytes %" PRIu32
              " epoch %" PRId32 " timestamps %" PRId64 "-%" PRId64 " producer %" PRId64
              "/%d sequence %" PRId32 " compression %s control %s crc %08" PRIx32,
        position, header->base_offset, batch_last_offset(header), header->record_count, header->size,
        header->leader_epoch, header->first_timestamp_ms, header->max_timestamp_ms, header->producer_id,
        header->producer_epoch, header->base_sequence, compression ? compression : "unknown",
        batch_is_control(header) ? "true" : "false", header->crc);
    print_line(&line);
}

static int print_records(const struct dump *dump, struct bytes batch)
{
    struct batch_reader reader;
    struct batch_record record;
    int error = batch_reader_begin(&reader, batch, RECORDS_MAX);
    if (error)
        return error;
    while ((error = batch_reader_next(&reader, &record)) == 0)
        print_record(dump, &record);
    batch_reader_end(&reader);
    return error == CLYMQ_ENOENT ? 0 : error;
}

static bool dump_is_full(const struct dump *dump)
{
    return (dump->values->count > 0 && dump->printed >= dump->values->count) || ferror(stdout) ||
           cli_interrupted();
}

/* One file, by its name in the folder. */
static int dump_segment(struct dump *dump, const char *name)
{
    struct segment_scan scan;
    int error = segment_scan_begin(dump->fs, name, &scan);
    if (error)
        return error;
    if (!dump->values->common.json)
        printf("%s/%s\n", dump->path, name);
    while (!error && !dump_is_full(dump)) {
        struct batch_header header;
        struct bytes batch;
        uint64_t position = scan.position;
        error = segment_scan_next(&scan, &header, &batch);
        if (error || batch_last_offset(&header) < dump->values->from)
            continue;
        print_batch(dump, position, &header);
        dump->printed++;
        if (dump->values->records && print_records(dump, batch) != 0) {
            cli_complain("%s/%s: the records of the batch at byte %" PRIu64 " cannot be read", dump->path,
                         name, position);
            dump->damaged = true;
        }
    }
    if (error == CLYMQ_EBATCH && segment_scan_rest_is_zero(&scan)) {
        if (!dump->values->common.json)
            printf("  zeros from byte %" PRIu64 " to %" PRIu64 ", written ahead of the log\n", scan.position,
                   scan.size);
        error = 0;
    } else if (error == CLYMQ_EBATCH) {
        cli_complain("%s/%s: what lies at byte %" PRIu64 " of %" PRIu64
                     " is no whole batch: damaged, or an unfinished write",
                     dump->path, name, scan.position, scan.size);
        dump->damaged = true;
        error = 0;
    }
    segment_scan_end(&scan);
    return error == CLYMQ_ENOENT ? 0 : error;
}

static int dump_folder(struct dump *dump)
{
    char **names;
    size_t count, segments = 0;
    int error = io_fs_list(dump->fs, "", &names, &count);
    if (error)
        return error;
    for (size_t i = 0; i < count && !error && !dump_is_full(dump); i++) {
        size_t len = strlen(names[i]);
        if (len <= 4 || strcmp(names[i] + len - 4, ".log") != 0)
            continue;
        segments++;
        error = dump_segment(dump, names[i]);
    }
    io_fs_free_names(names, count);
    return !error && segments == 0 ? CLYMQ_ENOENT : error;
}

/* A segment file, or a block's folder. */
static int dump_path(struct dump *dump, char *path)
{
    struct stat info;
    if (stat(path, &info) != 0)
        return CLYMQ_ENOENT;
    char *name = NULL;
    dump->path = path;
    if (!S_ISDIR(info.st_mode)) {
        name = strrchr(path, '/');
        if (name)
            *name++ = '\0';
        else
            name = path;
        dump->path = name == path ? "." : path[0] ? path : "/";
    }
    int error = io_os_fs_new(dump->path, &dump->fs);
    if (error)
        return error;
    error = name ? dump_segment(dump, name) : dump_folder(dump);
    io_os_fs_free(dump->fs);
    return error;
}

static int dump_run(void *values_ptr, int argc, char **argv)
{
    struct dump dump = {.values = values_ptr};
    cli_catch_signals();
    for (int i = 0; i < argc && !dump_is_full(&dump); i++) {
        char *told MEM_CLEANUP = mem_strdup(argv[i]);
        int error = told ? dump_path(&dump, argv[i]) : CLYMQ_ENOMEM;
        if (error) {
            cli_complain("%s: %s", told ? told : "",
                         error == CLYMQ_ENOENT
                             ? "no such file, or a folder without segments (*.log): a block's folder is "
                               "data/TOPIC_ID/PARTITION/BLOCK"
                             : error_file_sentence(error));
            return cli_finish_output(CLI_FAILED);
        }
    }
    if (cli_interrupted())
        return cli_finish_output(CLI_INTERRUPTED);
    return cli_finish_output(dump.damaged ? CLI_FAILED : CLI_OK);
}

const struct cli_command cli_block_dump = {
    .name = "block dump",
    .arguments = "PATH…",
    .summary = "Print the batches of segment files or of a block's folder.",
    .details = "Reads files only; a server may be using them. With --json one object a line. Exit code 1 "
               "when a place is no whole\n"
               "batch: damage, or the end of a write under way.\n\n"
               "Examples:\n"
               "  clymq block dump clymq-data/data/*/0/0\n"
               "  clymq block dump --records --from 1000 --count 5 00000000000000000000.log\n",
    .table = dump_table,
    .values_size = sizeof(struct dump_values),
    .arguments_min = 1,
    .arguments_max = -1,
    .run = dump_run,
};
