/* Runs a fuzzer's code without libFuzzer: every file of the folders or files named, each also cut short and
 * with a byte changed in two ways, at every place or, after --places N, at N places of a file spread evenly.
 */
#include <dirent.h>
#include <limits.h>
#include <sys/stat.h>

#include "fuzz.h"

static int inputs;
static size_t places = SIZE_MAX;

static void run(const uint8_t *data, size_t size)
{
    struct bytes copy = fuzz_copy(data, size);
    LLVMFuzzerTestOneInput(copy.ptr, copy.len);
    fuzz_free(copy);
    inputs++;
}

static void run_file(const char *path)
{
    FILE *file = fopen(path, "rb");
    FUZZ_CHECK(file);
    static uint8_t data[1 << 20];
    size_t size = fread(data, 1, sizeof(data), file);
    fclose(file);
    run(data, size);
    size_t step = places ? size / places + 1 : size + 1;
    for (size_t at = 0; at < size && size < 2000; at += step) {
        run(data, at);
        uint8_t kept = data[at];
        data[at] = (uint8_t)~kept;
        run(data, size);
        data[at] = (uint8_t)(kept + 1);
        run(data, size);
        data[at] = kept;
    }
}

static void run_path(const char *path)
{
    struct stat status;
    FUZZ_CHECK(stat(path, &status) == 0);
    if (!S_ISDIR(status.st_mode)) {
        run_file(path);
        return;
    }
    DIR *folder = opendir(path);
    FUZZ_CHECK(folder);
    for (struct dirent *entry; (entry = readdir(folder));) {
        char inside[PATH_MAX];
        if (entry->d_name[0] == '.')
            continue;
        snprintf(inside, sizeof(inside), "%s/%s", path, entry->d_name);
        run_path(inside);
    }
    closedir(folder);
}

int main(int argc, char **argv)
{
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--places") == 0 && i + 1 < argc)
            places = strtoul(argv[++i], NULL, 10);
        else
            run_path(argv[i]);
    }
    printf("%d inputs\n", inputs);
    return inputs ? 0 : 1;
}
