/* Logging to standard error or a file: level, module, timestamp, text; or one JSON object a line.
 *
 * A line: 2026-11-22T20:27:01.123456Z INFO  store  recovered partition=orders/0 end=1234. Modules are the
 * folder names. Levels and per-module filters come from the option log_level ("info",
 * "info,store=debug,net=warn") and, as in the original ClyMQ, from the environment's VERBOSE: 0 or unset =
 * the option, 1 = debug everywhere, 2 = trace everywhere. Thread-safe; a line is one write(2), of PIPE_BUF
 * bytes at most. Nobody waits for who reads the log: a line that cannot be written at once is dropped, and
 * the next one that can be is preceded by how many were. Errors, which may be a program's last words, wait
 * for up to 100 ms, once in 10 s. Plain files are waited for. Library code (libclymq) is silent unless the
 * application turns logging on. The clock is replaceable, so that simulated runs print simulated time and
 * stay equal to the byte. */
#ifndef CLYMQ_BASE_LOG_H
#define CLYMQ_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>

enum log_level { LOG_TRACE, LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF };

struct log_settings {
    const char *filter; /* as the option log_level; NULL = "info" */
    const char *path;   /* file to append to; NULL = standard error */
    bool json;          /* one JSON object a line */
};

/* Applies settings (again on SIGHUP, reopening the file). 0, CLYMQ_EINVAL for a bad filter, or an error of
 * opening. Nothing changes on failure. Before the first call only warnings and errors go to standard error.
 */
int log_configure(const struct log_settings *settings);
/* Wall clock in microseconds since 1970; NULL = the system's. */
void log_set_clock(int64_t (*wall_us)(void *ctx), void *ctx);
/* Every line goes to sink instead of a file (tests, libclymq); NULL turns it off. line has no newline. */
void log_set_sink(void (*sink)(void *ctx, enum log_level level, const char *line), void *ctx);

/* Lines that could not be written, since the process began. */
int64_t log_dropped_lines(void);

bool log_enabled(enum log_level level, const char *module);
void log_write(enum log_level level, const char *module, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* State of one rate-limited place: at most burst lines per interval; the next line printed tells how many
 * were not. */
struct log_limit {
    int64_t window_start_us;
    uint32_t printed, suppressed;
};
bool log_limit_allows(struct log_limit *limit, uint32_t burst, uint32_t interval_ms,
                      uint32_t *ret_suppressed);

/* Each .c file that logs defines LOG_MODULE before including this header. */
#ifdef LOG_MODULE
#define log_at(level, ...)                                                                                   \
    do {                                                                                                     \
        if (log_enabled(level, LOG_MODULE))                                                                  \
            log_write(level, LOG_MODULE, __VA_ARGS__);                                                       \
    } while (0)
#define log_trace(...) log_at(LOG_TRACE, __VA_ARGS__)
#define log_debug(...) log_at(LOG_DEBUG, __VA_ARGS__)
#define log_info(...)  log_at(LOG_INFO, __VA_ARGS__)
#define log_warn(...)  log_at(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_at(LOG_ERROR, __VA_ARGS__)
/* For lines that a client or a broken disk could cause without end: 10 lines in 10 s per place and thread. */
#define log_limited(level, format, ...)                                                                      \
    do {                                                                                                     \
        static _Thread_local struct log_limit log_limit_here;                                                \
        uint32_t log_suppressed_here;                                                                        \
        if (log_enabled(level, LOG_MODULE) &&                                                                \
            log_limit_allows(&log_limit_here, 10, 10000, &log_suppressed_here)) {                            \
            if (log_suppressed_here)                                                                         \
                log_write(level, LOG_MODULE, format " (%u like it not shown)", ##__VA_ARGS__,                \
                          log_suppressed_here);                                                              \
            else                                                                                             \
                log_write(level, LOG_MODULE, format, ##__VA_ARGS__);                                         \
        }                                                                                                    \
    } while (0)
#endif

#endif
