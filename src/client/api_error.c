/* Versions and errors of the public API. */
#include <stdarg.h>
#include <stdio.h>

#include "client/api.h"

static _Thread_local char last_text[512];
static _Thread_local const char *last_error = "";

const char *clymq_version(void)
{
    return CLYMQ_VERSION;
}

const char *clymq_strerror(int error)
{
    return error_sentence(error);
}

const char *clymq_error_name(int error)
{
    return error_name(error);
}

const char *clymq_last_error(void)
{
    return last_error;
}

int api_fail(int error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(last_text, sizeof(last_text), format, args);
    va_end(args);
    last_error = last_text;
    return error;
}

int api_fail_plain(int error)
{
    last_error = error_sentence(error);
    return error;
}

int api_fail_in_callback(void)
{
    return api_fail(CLYMQ_EBUSY, "called from a callback: it blocks, so call it from another thread");
}

int api_set_option(const struct option *table, void *values, const char *name, const char *value)
{
    struct strbuf text = {0};
    if (!name || !value)
        return api_fail(CLYMQ_EINVAL, "an option needs a name and a value");
    int error = options_set(table, values, name, value, &text);
    if (error)
        api_fail(error, "%s", text.data ? text.data : error_sentence(error));
    strbuf_free(&text);
    return error;
}
