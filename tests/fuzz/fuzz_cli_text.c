/* Text that the program clymq takes from its user: places to begin to read, and lines of a file. Lines come
 * out as they lie in the file, however it is read. First byte: 0 modulo 2 a place, else lines, with the rest
 * of it as the longest line taken. */
#include <sys/mman.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/cli.h"
#include "cli/lines.h"
#include "fuzz.h"

static void check_place(const char *text)
{
    struct cli_place place;
    int error = cli_parse_place(text, 1700000000000, &place);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EINVAL);
    if (error == 0)
        FUZZ_CHECK(place.at >= 0 || (!place.by_time && place.at >= CLYMQ_OFFSET_BEGINNING));
}

static void check_lines(struct bytes text, size_t max_len)
{
    struct lines lines;
    int file = memfd_create("lines", 0), error;
    FUZZ_CHECK(file >= 0 && write(file, text.ptr, text.len) == (ssize_t)text.len);
    FUZZ_CHECK(lseek(file, 0, SEEK_SET) == 0);
    lines_init(&lines, file, max_len);
    struct bytes line, rest = text;
    while ((error = lines_next(&lines, &line)) == 0 || error == CLYMQ_ETOOBIG) {
        const uint8_t *newline = memchr(rest.ptr, '\n', rest.len);
        size_t len = newline ? (size_t)(newline - rest.ptr) : rest.len;
        FUZZ_CHECK((error == 0) == (len <= max_len));
        if (error)
            break;
        FUZZ_CHECK(bytes_equal(line, bytes_of(rest.ptr, len)));
        len += newline != NULL;
        rest = bytes_of(rest.ptr + len, rest.len - len);
    }
    FUZZ_CHECK(error == CLYMQ_ETOOBIG || (error == CLYMQ_ENOENT && rest.len == 0));
    lines_free(&lines);
    close(file);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size);
    FUZZ_CHECK(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    fuzz_begin();
    if (data[0] % 2 == 0)
        check_place(text);
    else
        check_lines(bytes_of(text, size - 1), data[0] / 2);
    fuzz_check_memory((1 << 19) + 4 * size);
    fuzz_check_time(size);
    free(text);
    return 0;
}
