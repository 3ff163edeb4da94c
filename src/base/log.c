/* Logging: filters, line formats and output. See log.h.
 *
 * One lock guards the settings, the clock, the sink and the output, so that a line is never mixed with
 * another and a file is never closed under a writer. Lines that no filter lets through take no lock: the
 * lowest level that any filter allows is kept beside it. A line is built on the stack: logging works when
 * memory has run out. Whoever logs holds the lock while it writes, so a write must not wait for a reader that
 * has stopped: all shards would wait with it (log_output.h). */
#include "base/log.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/error.h"
#include "base/log_output.h"
#include "base/utf8.h"

enum { MODULES = 32, MODULE_NAME = 24, MESSAGE_BYTES = 2048 };
/* How long an error may wait for the log's reader, and how seldom: who wants to log waits behind it. */
enum { PATIENCE_MS = 100, PATIENCE_EVERY_MS = 10000 };

static const char cut_mark[] = " (cut)";

struct log_filter {
    enum log_level level; /* of modules not named */
    int count;
    struct {
        char name[MODULE_NAME];
        enum log_level level;
    } modules[MODULES];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct log_filter filter = {.level = LOG_WARN};
static _Atomic int lowest_level = LOG_WARN;
static int output = STDERR_FILENO;
static bool json;
static int64_t (*clock_read)(void *ctx);
static void *clock_ctx;
static void (*sink_call)(void *ctx, enum log_level level, const char *line);
static void *sink_ctx;
static _Atomic int64_t dropped_lines;
static int64_t untold_lines;  /* of those, not told yet */
static bool torn;             /* the last thing written is part of a line */
static int64_t patient_at_ms; /* from then on an error may wait */
/* A sink that logs would wait for its own lock; such lines are dropped. */
static _Thread_local bool in_sink;

static const char *const level_names[] = {"trace", "debug", "info", "warn", "error", "off"};
static const char *const level_titles[] = {"TRACE", "DEBUG", "INFO", "WARN", "ERROR", "OFF"};

/* A level's number, or -1. */
static int level_parse(const char *text, size_t len)
{
    for (int level = LOG_TRACE; level <= LOG_OFF; level++)
        if (strlen(level_names[level]) == len && strncasecmp(text, level_names[level], len) == 0)
            return level;
    return -1;
}

static void trim(const char **text, size_t *len)
{
    while (*len > 0 && isspace((unsigned char)**text)) {
        ++*text;
        --*len;
    }
    while (*len > 0 && isspace((unsigned char)(*text)[*len - 1]))
        --*len;
}

/* One item of a filter: "level" or "module=level". */
static int filter_parse_item(struct log_filter *into, const char *item, size_t len)
{
    trim(&item, &len);
    const char *equals = memchr(item, '=', len);
    const char *level_text = equals ? equals + 1 : item;
    size_t level_len = len - (size_t)(level_text - item);
    trim(&level_text, &level_len);
    int level = level_parse(level_text, level_len);
    if (level < 0)
        return CLYMQ_EINVAL;
    if (!equals) {
        into->level = (enum log_level)level;
        return 0;
    }
    size_t name_len = (size_t)(equals - item);
    trim(&item, &name_len);
    if (name_len == 0 || name_len >= MODULE_NAME || into->count == MODULES)
        return CLYMQ_EINVAL;
    for (size_t i = 0; i < name_len; i++)
        if (!isalnum((unsigned char)item[i]) && item[i] != '_' && item[i] != '-')
            return CLYMQ_EINVAL;
    memcpy(into->modules[into->count].name, item, name_len);
    into->modules[into->count].name[name_len] = '\0';
    into->modules[into->count++].level = (enum log_level)level;
    return 0;
}

static int filter_parse(struct log_filter *into, const char *text)
{
    *into = (struct log_filter){.level = LOG_INFO};
    for (const char *item = text;;) {
        size_t len = strcspn(item, ",");
        int error = filter_parse_item(into, item, len);
        if (error)
            return error;
        if (!item[len])
            return 0;
        item += len + 1;
    }
}

/* VERBOSE only ever makes more visible. */
static void filter_apply_verbose(struct log_filter *into, const char *verbose)
{
    if (!verbose || verbose[0] < '1' || verbose[0] > '9')
        return;
    enum log_level level = strcmp(verbose, "1") == 0 ? LOG_DEBUG : LOG_TRACE;
    if (level < into->level)
        into->level = level;
    for (int i = 0; i < into->count; i++)
        if (level < into->modules[i].level)
            into->modules[i].level = level;
}

static enum log_level filter_lowest(const struct log_filter *of)
{
    enum log_level lowest = of->level;
    for (int i = 0; i < of->count; i++)
        if (of->modules[i].level < lowest)
            lowest = of->modules[i].level;
    return lowest;
}

/* Opening a pipe waits for its reader. At the start that is what one may want; later it would keep the thread
 * that also hears the signals. */
static int open_file(const char *path, bool may_wait)
{
    const int how = O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC;
    int fd = open(path, how | O_NONBLOCK, 0640);
    if (fd < 0 && errno == ENXIO && may_wait) {
        fd = open(path, how, 0640);
        if (fd >= 0)
            (void)fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK);
    }
    return fd;
}

int log_configure(const struct log_settings *settings)
{
    static _Atomic bool configured;
    struct log_filter parsed;
    int error = filter_parse(&parsed, settings->filter ? settings->filter : "info");
    if (error)
        return error;
    filter_apply_verbose(&parsed, getenv("VERBOSE"));
    int opened = STDERR_FILENO;
    if (settings->path && settings->path[0]) {
        opened = open_file(settings->path, !configured);
        if (opened < 0)
            return error_from_errno(errno);
    }
    pthread_mutex_lock(&lock);
    int before = output;
    filter = parsed;
    output = opened;
    torn = false;
    json = settings->json;
    atomic_store_explicit(&lowest_level, filter_lowest(&parsed), memory_order_relaxed);
    configured = true;
    pthread_mutex_unlock(&lock);
    if (before != STDERR_FILENO)
        close(before);
    return 0;
}

void log_set_clock(int64_t (*wall_us)(void *ctx), void *ctx)
{
    pthread_mutex_lock(&lock);
    clock_read = wall_us;
    clock_ctx = ctx;
    pthread_mutex_unlock(&lock);
}

void log_set_sink(void (*sink)(void *ctx, enum log_level level, const char *line), void *ctx)
{
    pthread_mutex_lock(&lock);
    sink_call = sink;
    sink_ctx = ctx;
    pthread_mutex_unlock(&lock);
}

static int64_t now_us_locked(void)
{
    if (clock_read)
        return clock_read(clock_ctx);
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

bool log_enabled(enum log_level level, const char *module)
{
    if ((int)level < atomic_load_explicit(&lowest_level, memory_order_relaxed) || in_sink)
        return false;
    pthread_mutex_lock(&lock);
    enum log_level allowed = filter.level;
    /* The last mention of a module counts, as later text overrides earlier. */
    for (int i = filter.count - 1; i >= 0; i--) {
        if (strcmp(filter.modules[i].name, module) == 0) {
            allowed = filter.modules[i].level;
            break;
        }
    }
    pthread_mutex_unlock(&lock);
    return level >= allowed;
}

/* A line while it is built, after what has to be said before it. Never longer than what a pipe takes at once:
 * a message that consists of little but escapes is cut. */
struct line {
    size_t len;
    size_t notice_len; /* of what tells of dropped lines, at its beginning; 0 = nothing */
    char text[LOG_OUTPUT_MAX];
};

static size_t line_room(const struct line *line)
{
    return sizeof(line->text) - 1 - line->len; /* newline or NUL */
}

static void line_append(struct line *line, const char *text, size_t len)
{
    if (len > line_room(line))
        len = line_room(line);
    memcpy(line->text + line->len, text, len);
    line->len += len;
}

static void line_printf(struct line *line, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void line_printf(struct line *line, const char *format, ...)
{
    char part[64];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(part, sizeof(part), format, args);
    va_end(args);
    if (len > 0)
        line_append(line, part, (size_t)len < sizeof(part) ? (size_t)len : sizeof(part) - 1);
}

/* Length of the character at text, 0 where there is none or it controls a terminal (U+0080 to U+009F do too).
 */
static size_t printable_length(const unsigned char *text, size_t len)
{
    uint32_t code;
    size_t part = utf8_decode(bytes_of(text, len), &code);
    return part == 0 || code < 0x20 || (code >= 0x7f && code <= 0x9f) ? 0 : part;
}

/* Messages carry names and texts that clients chose: what could move a terminal's cursor, break a line or
 * break JSON is written as an escape. */
static void line_append_message(struct line *line, const char *message, size_t len, bool as_json)
{
    const unsigned char *at = (const unsigned char *)message;
    /* The longest escape, the mark and the end of an object. */
    const size_t reserve = strlen("\\u00xx") + strlen(cut_mark) + strlen("\"}");
    while (len > 0) {
        if (line_room(line) < reserve) {
            line_append(line, cut_mark, strlen(cut_mark));
            return;
        }
        size_t part = printable_length(at, len);
        if (as_json && (*at == '"' || *at == '\\'))
            line_printf(line, "\\%c", *at);
        else if (part > 0)
            line_append(line, (const char *)at, part);
        else if (*at == '\n')
            line_append(line, "\\n", 2);
        else if (*at == '\t')
            line_append(line, "\\t", 2);
        else if (*at == '\r')
            line_append(line, "\\r", 2);
        else if (as_json)
            /* A byte that is no UTF-8 shows as the character of its number, which loses nothing. */
            line_printf(line, "\\u%04x", *at);
        else
            line_printf(line, "\\x%02x", *at);
        at += part ? part : 1;
        len -= part ? part : 1;
    }
}

static void line_append_time(struct line *line, int64_t now_us)
{
    time_t seconds = (time_t)(now_us / 1000000);
    int64_t fraction = now_us % 1000000;
    if (fraction < 0) {
        fraction += 1000000;
        seconds--;
    }
    struct tm utc;
    if (!gmtime_r(&seconds, &utc))
        utc = (struct tm){.tm_year = 70, .tm_mday = 1};
    line_printf(line, "%04d-%02d-%02dT%02d:%02d:%02d.%06dZ", utc.tm_year + 1900, utc.tm_mon + 1, utc.tm_mday,
                utc.tm_hour, utc.tm_min, utc.tm_sec, (int)fraction);
}

static void line_build(struct line *line, enum log_level level, const char *module, const char *message,
                       size_t len)
{
    if (json)
        line_append(line, "{\"time\":\"", 9);
    line_append_time(line, now_us_locked());
    if (json)
        line_printf(line, "\",\"level\":\"%s\",\"module\":\"%s\",\"message\":\"", level_names[level], module);
    else
        line_printf(line, " %-5s %-6s ", level_titles[level], module);
    line_append_message(line, message, len, json);
    if (json)
        line_append(line, "\"}", 2);
}

static int64_t monotonic_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* One write for all that is to be said, so that it is there whole or not at all. */
static void line_output(const struct line *line, enum log_level level)
{
    size_t written = log_output_write(output, line->text, line->len);
    if (written == 0 && level == LOG_ERROR && monotonic_ms() >= patient_at_ms) {
        patient_at_ms = monotonic_ms() + PATIENCE_EVERY_MS;
        log_output_await(output, PATIENCE_MS);
        written = log_output_write(output, line->text, line->len);
    }
    if (written > 0)
        torn = line->text[written - 1] != '\n';
    if (written > 0 && written >= line->notice_len)
        untold_lines = 0;
    if (written < line->len) {
        untold_lines++;
        atomic_fetch_add_explicit(&dropped_lines, 1, memory_order_relaxed);
    }
}

int64_t log_dropped_lines(void)
{
    return atomic_load_explicit(&dropped_lines, memory_order_relaxed);
}

static void line_build_dropped(struct line *line)
{
    char message[160];
    int len =
        snprintf(message, sizeof(message),
                 "%" PRId64 " line%s dropped: the log was not read fast enough, or could not be written",
                 untold_lines, untold_lines == 1 ? " was" : "s were");
    if (torn)
        line_append(line, "\n", 1);
    line_build(line, LOG_WARN, "base", message, (size_t)len);
    line_append(line, "\n", 1);
    line->notice_len = line->len;
}

void log_write(enum log_level level, const char *module, const char *format, ...)
{
    if (in_sink)
        return;
    int errno_before = errno;
    char message[MESSAGE_BYTES];
    va_list args;
    va_start(args, format);
    int len = vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    if (len < 0)
        len = snprintf(message, sizeof(message), "(a message that cannot be printed: %s)", format);
    if ((size_t)len >= sizeof(message)) {
        memcpy(message + sizeof(message) - sizeof(cut_mark), cut_mark, sizeof(cut_mark));
        len = sizeof(message) - 1;
    }
    struct line line;
    line.len = line.notice_len = 0;
    pthread_mutex_lock(&lock);
    if (untold_lines > 0 && !sink_call)
        line_build_dropped(&line);
    line_build(&line, level, module, message, (size_t)len);
    if (sink_call) {
        line.text[line.len] = '\0';
        in_sink = true;
        sink_call(sink_ctx, level, line.text);
        in_sink = false;
    } else {
        line.text[line.len++] = '\n';
        line_output(&line, level);
    }
    pthread_mutex_unlock(&lock);
    errno = errno_before;
}

bool log_limit_allows(struct log_limit *limit, uint32_t burst, uint32_t interval_ms, uint32_t *ret_suppressed)
{
    pthread_mutex_lock(&lock);
    int64_t now = now_us_locked();
    pthread_mutex_unlock(&lock);
    int64_t since = now - limit->window_start_us;
    /* A clock set back begins a new window too: silence must not last until it has caught up. */
    if (since < 0 || since >= (int64_t)interval_ms * 1000) {
        limit->window_start_us = now;
        limit->printed = 0;
    }
    if (limit->printed >= burst) {
        limit->suppressed++;
        return false;
    }
    limit->printed++;
    *ret_suppressed = limit->suppressed;
    limit->suppressed = 0;
    return true;
}
