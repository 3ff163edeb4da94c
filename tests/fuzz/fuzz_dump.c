/* clymq block dump over any file: it ends, and as text or as JSON it prints no more than a multiple of what
 * it reads. First byte: bit 0 JSON, bit 1 records, bit 7 the file stays as it is (folder.h); second byte: the
 * offset to begin at. */
#include <stdarg.h>
#include <unistd.h>

#include "cli/cli.h"
#include "folder.h"

/* The commands' complaints count for nothing here. */
void cli_complain(const char *format, ...)
{
}
void cli_catch_signals(void)
{
}
bool cli_interrupted(void)
{
    return false;
}
int cli_finish_output(int exit_code)
{
    return exit_code;
}

static char path[64];

static void remove_file(void)
{
    unlink(path);
}

static void choose_path(void)
{
    if (path[0])
        return;
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(path, sizeof(path), "%s/clymq-fuzz-%d.log", folder, (int)getpid());
    atexit(remove_file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    choose_path();
    struct bytes copy = fuzz_copy(data + 2, size - 2);
    if (!(data[0] & FOLDER_RAW))
        folder_repair(FOLDER_LOG, false, 0, (uint8_t *)(uintptr_t)copy.ptr, copy.len);
    FILE *file = fopen(path, "wb");
    FUZZ_CHECK(file && fwrite(copy.ptr, 1, copy.len, file) == copy.len && fclose(file) == 0);
    fuzz_free(copy);

    /* What is printed goes to memory: stdout is a variable of the C library. */
    char *printed = NULL, *values = calloc(1, cli_block_dump.values_size), from[8];
    size_t printed_len = 0;
    FILE *out = stdout, *memory = open_memstream(&printed, &printed_len);
    struct strbuf error = {0};
    FUZZ_CHECK(values && memory && options_defaults(cli_block_dump.table, values) == 0);
    snprintf(from, sizeof(from), "%d", data[1]);
    FUZZ_CHECK(options_set(cli_block_dump.table, values, "json", data[0] & 1 ? "on" : "off", &error) == 0);
    FUZZ_CHECK(options_set(cli_block_dump.table, values, "records", data[0] & 2 ? "on" : "off", &error) == 0);
    FUZZ_CHECK(options_set(cli_block_dump.table, values, "from", from, &error) == 0);
    char name[sizeof(path)], *argv[] = {name, NULL};
    memcpy(name, path, sizeof(name));
    stdout = memory;
    fuzz_begin();
    int code = cli_block_dump.run(values, 1, argv);
    fflush(memory);
    stdout = out;
    FUZZ_CHECK(code == CLI_OK || code == CLI_FAILED);
    FUZZ_CHECK(printed_len <= 4096 + 64 * size);
    fuzz_check_memory((1 << 20) + 256 * size);
    fuzz_check_time(size);
    fclose(memory);
    free(printed);
    options_free(cli_block_dump.table, values);
    free(values);
    return 0;
}
