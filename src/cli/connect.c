/* The client that a command works with, and the signals that end it. */
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "base/mem.h"
#include "cli/cli.h"

int cli_connect(const struct cli_common *common, clymq_client **ret_client)
{
    clymq_client *client;
    if (clymq_client_new(common->coordinator, &client) != 0) {
        cli_complain("%s", clymq_last_error());
        return CLI_USAGE;
    }
    char timeout[32];
    snprintf(timeout, sizeof(timeout), "%" PRId64, common->timeout);
    if (clymq_client_set(client, "request_timeout_ms", timeout) != 0) {
        clymq_client_free(client);
        return cli_failed();
    }
    const char *log = getenv("CLYMQ_CLIENT_LOG");
    if (log && clymq_client_set(client, "log_level", log) != 0)
        cli_complain("CLYMQ_CLIENT_LOG: %s", clymq_last_error());
    *ret_client = client;
    return 0;
}

int cli_connect_to_ask(const struct cli_common *common, clymq_client **ret_client)
{
    int code = cli_connect(common, ret_client);
    if (!code)
        cli_waiting("a coordinator's answer (%s; Ctrl-C ends it)", common->coordinator);
    return code;
}

static volatile sig_atomic_t interrupts;

static void on_signal(int number)
{
    if (++interrupts > 1)
        _exit(CLI_INTERRUPTED);
}

void cli_catch_signals(void)
{
    /* Without SA_RESTART: a read that waits for input ends. */
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

bool cli_interrupted(void)
{
    return interrupts > 0;
}

int64_t cli_now_us(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

void cli_free_names(char **names, size_t count)
{
    for (size_t i = 0; i < count; i++)
        mem_free(names[i]);
    mem_free(names);
}

int cli_partitions(clymq_client *client, const char *topic, char ***ret_names, size_t *ret_count)
{
    char *text;
    if (clymq_topic_describe_json(client, topic, &text) != 0)
        return cli_failed();
    json_t *root = json_loads(text, 0, NULL);
    clymq_string_free(text);
    const json_t *array = json_object_get(root, "partitions");
    size_t count = json_array_size(array);
    char **names = mem_calloc(count ? count : 1, sizeof(*names));
    bool failed = !names || !json_is_array(array);
    for (size_t i = 0; !failed && i < count; i++) {
        const char *name = json_string_value(json_object_get(json_array_get(array, i), "name"));
        names[i] = name ? mem_strdup(name) : NULL;
        failed = !names[i];
    }
    json_decref(root);
    if (failed) {
        cli_complain("topic %s: the coordinator's answer cannot be read", topic);
        if (names)
            cli_free_names(names, count);
        return CLI_FAILED;
    }
    *ret_names = names;
    *ret_count = count;
    return 0;
}
