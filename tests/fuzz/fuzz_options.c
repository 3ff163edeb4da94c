/* clymqd's options as text: the config file's, one environment variable's, the flags', and sizes and
 * durations alone. A value that was taken is written and taken again: the same.
 *
 * First byte: where the text comes from (% 4). Flags are parted by newlines. */
#include "base/error.h"
#include "base/mem.h"
#include "base/options.h"
#include "fuzz.h"
#include "server/server_options.h"

enum { FLAGS_MAX = 64, PARSING_OWN = 1 << 16 };

static void check_again(const struct server_options *values)
{
    struct server_options again = {0};
    FUZZ_CHECK(options_defaults(server_option_table, &again) == 0);
    for (const struct option *option = server_option_table; option->name; option++) {
        struct strbuf line = {0}, text = {0}, same = {0}, error = {0};
        FUZZ_CHECK(options_get(server_option_table, values, option->name, &text) == 0);
        strbuf_printf(&line, "%s = %s", option->name, text.data ? text.data : "");
        if (text.len > 0 && !memchr(text.data, '\n', text.len)) { /* a line of the file cannot say that */
            FUZZ_CHECK(options_parse_file(server_option_table, &again, "again", bytes_of(line.data, line.len),
                                          &error) == 0);
            FUZZ_CHECK(options_get(server_option_table, &again, option->name, &same) == 0);
            FUZZ_CHECK(bytes_equal(bytes_of(text.data, text.len), bytes_of(same.data, same.len)));
        }
        strbuf_free(&line);
        strbuf_free(&text);
        strbuf_free(&same);
        strbuf_free(&error);
    }
    options_free(server_option_table, &again);
}

static int parse_flags(struct server_options *values, char *text, struct strbuf *error)
{
    char *argv[FLAGS_MAX + 2] = {(char[]){"clymqd"}};
    int argc = 1;
    for (char *flag = text, *end; flag && argc <= FLAGS_MAX; flag = end) {
        end = strchr(flag, '\n');
        if (end)
            *end++ = '\0';
        argv[argc++] = flag;
    }
    return options_parse_flags(server_option_table, values, &argc, argv, error);
}

static void check_numbers(const char *text)
{
    int64_t bytes, ms;
    int error = options_parse_size(text, &bytes);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EINVAL);
    error = options_parse_duration(text, &ms);
    FUZZ_CHECK(error == 0 || error == CLYMQ_EINVAL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    struct server_options values = {0};
    struct strbuf error = {0};
    char *text = malloc(size);
    FUZZ_CHECK(text);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    fuzz_begin();
    FUZZ_CHECK(options_defaults(server_option_table, &values) == 0);
    int result = 0;
    switch (data[0] % 4) {
    case 0:
        result = options_parse_file(server_option_table, &values, "file", bytes_of(text, size - 1), &error);
        break;
    case 1: {
        char *environment[] = {text, NULL};
        result = options_parse_environment(server_option_table, &values, environment, NULL, &error);
        break;
    }
    case 2:
        result = parse_flags(&values, text, &error);
        break;
    default:
        check_numbers(text);
    }
    FUZZ_CHECK(result == 0 || (result == CLYMQ_EINVAL && error.len > 0));
    if (result == 0)
        check_again(&values);
    fuzz_check_memory(PARSING_OWN + 16 * size);
    fuzz_check_time(size);
    options_free(server_option_table, &values);
    strbuf_free(&error);
    free(text);
    return 0;
}
