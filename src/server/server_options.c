/* The table, and the checks of values that belong together. */
#include "server/server_options.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "io/address.h"
#include "server/config_file.h"
#include "store/store.h"

#define AT(field) offsetof(struct server_options, field)
#define MB        ((int64_t)1 << 20)
#define GB        ((int64_t)1 << 30)
#define DAY_MS    ((int64_t)24 * 3600 * 1000)
#define YEARS_MS  (500 * 365 * DAY_MS) /* in nanoseconds it fits into 64 bits, too */

/* Compact by hand: clang-format would give each field a line. */
/* clang-format off */
const struct option server_option_table[] = {
    {.name = "data_dir", .type = OPTION_TEXT, .offset = AT(data_dir), .fallback = "./clymq-data",
     .section = "Server", .placeholder = "DIR",
     .help = "Folder of all data; made if it is missing. One process uses it at a time."},
    {.name = "config", .type = OPTION_TEXT, .offset = AT(config), .section = "Server",
     .placeholder = "FILE",
     .help = "Config file with lines of \"name = value\"; flags and environment variables override it."},
    {.name = "roles", .type = OPTION_TEXT, .offset = AT(roles), .fallback = "broker,coordinator",
     .section = "Server", .placeholder = "LIST",
     .help = "What this process is. Embedded metadata means one process with both roles: "
             "broker,coordinator."},
    {.name = "broker_id", .type = OPTION_TEXT, .offset = AT(broker_id), .section = "Server",
     .placeholder = "ID",
     .help = "Name of this broker. Without it the name is made of host name and MAC address at the first "
             "start and kept in the data folder."},
    {.name = "rack", .type = OPTION_TEXT, .offset = AT(rack), .section = "Server", .placeholder = "NAME",
     .help = "Where the broker stands; replicas are put on different racks."},
    {.name = "metadata", .type = OPTION_TEXT, .offset = AT(metadata), .fallback = "embedded",
     .section = "Server", .placeholder = "STORE",
     .help = "Where topics and partitions are recorded: embedded (in the data folder)."},
    {.name = "shards", .type = OPTION_INT, .offset = AT(shards), .fallback = "0", .min = 0, .max = 256,
     .section = "Server",
     .help = "Threads that serve partitions and connections; 0 = one per processor core."},
    {.name = "disk_workers", .type = OPTION_INT, .offset = AT(disk_workers), .fallback = "8", .min = 1,
     .max = 64, .section = "Server",
     .help = "Threads per shard for syncs and other slow disk work."},
    {.name = "shutdown_grace_ms", .type = OPTION_DURATION_MS, .offset = AT(shutdown_grace_ms),
     .fallback = "10s", .min = 0, .max = DAY_MS, .reloadable = true, .section = "Server",
     .help = "How long a stop waits for requests under way before it closes their connections."},

    {.name = "coordinator_listen", .type = OPTION_TEXT, .offset = AT(coordinator_listen),
     .fallback = "127.0.0.1:7878", .section = "Network", .placeholder = "HOST:PORT",
     .help = "Where the coordinator takes calls; port 0 = any."},
    {.name = "broker_listen", .type = OPTION_TEXT, .offset = AT(broker_listen),
     .fallback = "127.0.0.1:8888", .section = "Network", .placeholder = "HOST:PORT",
     .help = "Where the broker takes calls; port 0 = any."},
    {.name = "admin_listen", .type = OPTION_TEXT, .offset = AT(admin_listen), .fallback = "127.0.0.1:8880",
     .section = "Network", .placeholder = "HOST:PORT|off",
     .help = "Where /metrics and /health are served over HTTP; off: they are not."},
    {.name = "kafka_listen", .type = OPTION_TEXT, .offset = AT(kafka_listen), .fallback = "off",
     .section = "Network", .placeholder = "HOST:PORT",
     .help = "The Kafka protocol's port. Not there yet: it can only be off."},
    {.name = "peer_listen", .type = OPTION_TEXT, .offset = AT(peer_listen), .fallback = "off",
     .section = "Network", .placeholder = "HOST:PORT",
     .help = "The port for other servers. It comes with the cluster: until then it can only be off."},
    {.name = "advertise_broker", .type = OPTION_TEXT, .offset = AT(advertise_broker), .section = "Network",
     .placeholder = "HOST[:PORT]",
     .help = "The broker's address as clients see it, where it is not the one it listens on."},
    {.name = "advertise_coordinator", .type = OPTION_TEXT, .offset = AT(advertise_coordinator),
     .section = "Network", .placeholder = "HOST[:PORT]",
     .help = "The coordinator's address as clients see it, where it is not the one it listens on."},

    {.name = "max_message_bytes", .type = OPTION_SIZE, .offset = AT(max_message_bytes), .fallback = "16M",
     .min = 1024, .max = 512 * MB, .section = "Limits",
     .help = "Longest request, and longest stored batch."},
    {.name = "max_connections", .type = OPTION_INT, .offset = AT(max_connections), .fallback = "20000",
     .min = 1, .max = 10000000, .section = "Limits",
     .help = "Connections per port; further ones are closed at once."},
    {.name = "max_connections_per_address", .type = OPTION_INT, .offset = AT(max_connections_per_address),
     .fallback = "0", .min = 0, .max = 10000000, .section = "Limits",
     .help = "Connections per port from one address; 0 = no limit."},
    {.name = "max_pipelined_calls", .type = OPTION_INT, .offset = AT(max_pipelined_calls),
     .fallback = "1024", .min = 1, .max = 1000000, .section = "Limits",
     .help = "Unanswered calls of a connection; it is not read further beyond."},
    {.name = "max_inflight_bytes", .type = OPTION_SIZE, .offset = AT(max_inflight_bytes),
     .fallback = "64M", .min = MB, .max = 1024 * GB, .section = "Limits",
     .help = "Memory per port for requests and answers under way; connections are read slower beyond."},
    {.name = "max_connection_inflight_bytes", .type = OPTION_SIZE,
     .offset = AT(max_connection_inflight_bytes), .fallback = "32M", .min = 64 * 1024, .max = 1024 * GB,
     .section = "Limits",
     .help = "The same for one connection."},
    {.name = "idle_ms", .type = OPTION_DURATION_MS, .offset = AT(idle_ms), .fallback = "15m", .min = 1000,
     .max = YEARS_MS, .section = "Limits",
     .help = "A connection without traffic and without an unanswered call is closed after this time. "
             "Clients keep pools of connections, so stay above ten minutes."},
    {.name = "receive_ms", .type = OPTION_DURATION_MS, .offset = AT(receive_ms), .fallback = "30s",
     .min = 100, .max = DAY_MS, .section = "Limits",
     .help = "A begun request that makes no progress for this time closes its connection."},
    {.name = "send_ms", .type = OPTION_DURATION_MS, .offset = AT(send_ms), .fallback = "30s", .min = 100,
     .max = DAY_MS, .section = "Limits",
     .help = "A client that takes nothing of its answers for this time is disconnected."},
    {.name = "max_waiting_bytes", .type = OPTION_SIZE, .offset = AT(max_waiting_bytes), .fallback = "8M",
     .min = 1024, .max = 64 * GB, .reloadable = true, .section = "Limits",
     .help = "Per partition: pushes held while they cannot be written (full disk, seal); further ones "
             "are refused."},
    {.name = "max_open_files", .type = OPTION_INT, .offset = AT(max_open_files), .fallback = "1024",
     .min = 16, .max = 10000000, .section = "Limits",
     .help = "Files that each shard keeps open."},

    {.name = "push_wait_ms", .type = OPTION_DURATION_MS, .offset = AT(push_wait_ms), .fallback = "30s",
     .min = 0, .max = DAY_MS, .reloadable = true, .section = "Requests",
     .help = "How long a push waits for what passes by itself: a full disk, a block being sealed, a "
             "leader."},
    {.name = "pull_wait_max_ms", .type = OPTION_DURATION_MS, .offset = AT(pull_wait_max_ms),
     .fallback = "60s", .min = 0, .max = DAY_MS, .reloadable = true, .section = "Requests",
     .help = "The longest time that a pullBatch may wait for data."},
    {.name = "producer_expiry_ms", .type = OPTION_DURATION_MS, .offset = AT(producer_expiry_ms),
     .fallback = "7d", .min = 1000, .max = YEARS_MS, .reloadable = true, .section = "Requests",
     .help = "A producer that was silent for this time is forgotten: a repeat of its last push would be "
             "stored again."},

    {.name = "fsync", .type = OPTION_CHOICE, .offset = AT(fsync), .fallback = "commit",
     .choices = "commit|interval|never", .section = "Storage",
     .help = "When logs are made to reach the disk: before a push with ack -1 is answered, at intervals, "
             "or when the system likes. With anything but commit a power failure loses acknowledged "
             "messages."},
    {.name = "fsync_interval_ms", .type = OPTION_DURATION_MS, .offset = AT(fsync_interval_ms),
     .fallback = "1s", .min = 1, .max = DAY_MS, .section = "Storage",
     .help = "The interval of fsync = interval."},
    {.name = "commit_linger_ms", .type = OPTION_DURATION_MS, .offset = AT(commit_linger_ms),
     .fallback = "0", .min = 0, .max = 10000, .section = "Storage",
     .help = "With fsync = commit: the time between two syncs while nobody waits for them, neither a push with "
             "ack -1 nor a pull. A power failure loses that much of what was pushed with ack 1 or 0."},
    {.name = "zeros_ahead", .type = OPTION_SIZE, .offset = AT(zeros_ahead), .fallback = "256K", .min = 0,
     .max = STORE_ZEROS_AHEAD_MAX, .section = "Storage",
     .help = "Where little is written between syncs, zeros are written ahead, up to so many a partition, and "
             "checkpoint_bytes in all: what overwrites them is synced in half the time. 0: none, as for file "
             "systems that never overwrite (Btrfs, ZFS)."},
    {.name = "segment_bytes", .type = OPTION_SIZE, .offset = AT(segment_bytes), .fallback = "256M",
     .min = MB, .max = 2 * GB - 1, .section = "Storage",
     .help = "Size at which a log file is closed and the next one begun."},
    {.name = "segment_ms", .type = OPTION_DURATION_MS, .offset = AT(segment_ms), .fallback = "7d",
     .min = 1000, .max = YEARS_MS, .section = "Storage",
     .help = "Age at which a log file is closed and the next one begun."},
    {.name = "index_interval_bytes", .type = OPTION_SIZE, .offset = AT(index_interval_bytes),
     .fallback = "4096", .min = 64, .max = GB, .section = "Storage",
     .help = "Bytes of log per entry of its indexes."},
    {.name = "checkpoint_bytes", .type = OPTION_SIZE, .offset = AT(checkpoint_bytes), .fallback = "32M",
     .min = 65536, .max = 1024 * GB, .section = "Storage",
     .help = "Per shard: what a start after a crash may have to read again, besides what was not synced yet."},
    {.name = "retention_ms", .type = OPTION_DURATION_MS, .offset = AT(retention_ms), .fallback = "-1",
     .min = -1, .max = YEARS_MS, .reloadable = true, .section = "Storage",
     .help = "Messages older than this are removed, where the topic does not say otherwise; -1 = never."},
    {.name = "retention_bytes", .type = OPTION_SIZE, .offset = AT(retention_bytes), .fallback = "-1",
     .min = -1, .max = INT64_MAX / 2, .reloadable = true, .section = "Storage",
     .help = "The oldest messages of a partition beyond this size are removed, where the topic does not "
             "say otherwise; -1 = none."},
    {.name = "retention_check_ms", .type = OPTION_DURATION_MS, .offset = AT(retention_check_ms),
     .fallback = "1m", .min = 100, .max = DAY_MS, .reloadable = true, .section = "Storage",
     .help = "How often old messages are looked for."},
    {.name = "scrub_bytes_per_s", .type = OPTION_SIZE, .offset = AT(scrub_bytes_per_s), .fallback = "2M",
     .min = 0, .max = 64 * GB, .reloadable = true, .section = "Storage",
     .help = "Per shard: how fast what is stored is read in the background and its checksums verified; 0 = "
             "not at all."},
    {.name = "scrub_every_ms", .type = OPTION_DURATION_MS, .offset = AT(scrub_every_ms), .fallback = "1d",
     .min = 1000, .max = YEARS_MS, .reloadable = true, .section = "Storage",
     .help = "The time from the beginning of one such reading to the beginning of the next one, at least."},

    {.name = "log_level", .type = OPTION_TEXT, .offset = AT(log_level), .fallback = "info",
     .reloadable = true, .section = "Log", .placeholder = "LEVEL",
     .help = "trace, debug, info, warn, error or off; a module may differ: info,store=debug. The "
             "environment's VERBOSE=1 means debug everywhere, 2 trace."},
    {.name = "log_file", .type = OPTION_TEXT, .offset = AT(log_file), .reloadable = true, .section = "Log",
     .placeholder = "FILE",
     .help = "File that the log is appended to, opened again on SIGHUP; standard error without it."},
    {.name = "log_json", .type = OPTION_BOOL, .offset = AT(log_json), .fallback = "false",
     .reloadable = true, .section = "Log",
     .help = "Writes one JSON object a line."},
    {0},
};
/* clang-format on */

/* Names beginning with CLYMQ_ that are not clymqd's: clymq's, those of the tests, and what Kubernetes puts
 * into every container beside a Service that is called clymq, or clymq-broker and the like. */
static const char *const foreign_variables[] = {
    "CLYMQ_COORDINATOR",
    "CLYMQ_CLIENT_LOG",
    "CLYMQ_BIN",
    "CLYMQ_SOURCE",
    "CLYMQ_SERVICE_HOST",
    "CLYMQ_SERVICE_PORT*",
    "CLYMQ_PORT",
    "CLYMQ_PORT_*",
    "CLYMQ_*_SERVICE_HOST=*",
    "CLYMQ_*_SERVICE_PORT*=*",
    "CLYMQ_*_PORT=*://*",
    "CLYMQ_*_PORT_*_TCP*=*",
    NULL,
};

/* ---- checks ---- */

static const char *usual_port(const char *name)
{
    return strstr(name, "coordinator") ? "7878" : strstr(name, "broker") ? "8888" : "8880";
}

static int check_address(const char *name, const char *address, bool may_be_off, struct strbuf *error)
{
    char host[256];
    uint16_t port;

    if (may_be_off && strcmp(address, "off") == 0)
        return 0;
    if (io_address_split(address, host, sizeof(host), &port) == 0)
        return 0;
    strbuf_printf(error,
                  "option %s: \"%s\" is not an address: write HOST:PORT, such as 127.0.0.1:%s or [::1]:%s%s",
                  name, address, usual_port(name), usual_port(name), may_be_off ? ", or off" : "");
    return CLYMQ_EINVAL;
}

/* "HOST" or "HOST:PORT" as clients can use it; a v6 address in brackets. */
static bool is_advertisable(const char *address)
{
    const char *colon = strrchr(address, ':');
    bool has_port = colon && !strchr(colon, ']');
    struct strbuf whole = {0};
    char host[256];
    uint16_t port;

    strbuf_printf(&whole, "%s%s", address, has_port ? "" : ":1");
    bool good =
        !whole.failed && io_address_split(whole.data, host, sizeof(host), &port) == 0 && *host && port;
    strbuf_free(&whole);
    for (const char *c = address; *c; c++)
        good = good && (unsigned char)*c > ' ' && *c != 0x7f && *c != '/';
    return good;
}

static int check_advertised(const char *name, const char *address, struct strbuf *error)
{
    if (!address || is_advertisable(address))
        return 0;
    strbuf_printf(error,
                  "option %s: \"%s\" is not an address: write HOST or HOST:PORT, such as queue1.example.net "
                  "or [::1]:%s",
                  name, address, usual_port(name));
    return CLYMQ_EINVAL;
}

static int check_not_yet(const char *name, const char *value, const char *comes_with, struct strbuf *error)
{
    if (!value || strcmp(value, "off") == 0)
        return 0;
    strbuf_printf(error, "option %s: not there yet, it comes with %s: leave it off", name, comes_with);
    return CLYMQ_EINVAL;
}

static int check_metadata(const char *metadata, struct strbuf *error)
{
    if (strcmp(metadata, "embedded") == 0)
        return 0;
    if (strncmp(metadata, "zookeeper:", 10) == 0)
        strbuf_append_text(
            error, "option metadata: zookeeper:// is not there yet, it comes with the cluster: use embedded");
    else
        strbuf_printf(error, "option metadata: \"%s\" is unknown: use embedded", metadata);
    return CLYMQ_EINVAL;
}

static int check_roles(const char *roles, struct strbuf *error)
{
    if (strcmp(roles, "broker,coordinator") == 0 || strcmp(roles, "coordinator,broker") == 0)
        return 0;
    strbuf_printf(
        error,
        "option roles: \"%s\" does not work with embedded metadata, which means one process with both roles: "
        "use broker,coordinator",
        roles);
    return CLYMQ_EINVAL;
}

static int check_broker_id(const char *id, struct strbuf *error)
{
    if (!id || (name_check(bytes_of_text(id)) == 0 && !strchr(id, '@')))
        return 0;
    strbuf_printf(
        error, "option broker_id: \"%s\" is not a name: use 1 to 249 bytes of UTF-8 without '/' and '@'", id);
    return CLYMQ_EINVAL;
}

static int check(const struct server_options *options, struct strbuf *error)
{
    int result = check_address("coordinator_listen", options->coordinator_listen, false, error);

    result = result ? result : check_address("broker_listen", options->broker_listen, false, error);
    result = result ? result : check_address("admin_listen", options->admin_listen, true, error);
    result = result ? result : check_advertised("advertise_broker", options->advertise_broker, error);
    result =
        result ? result : check_advertised("advertise_coordinator", options->advertise_coordinator, error);
    result =
        result ? result : check_not_yet("kafka_listen", options->kafka_listen, "the Kafka protocol", error);
    result = result ? result : check_not_yet("peer_listen", options->peer_listen, "the cluster", error);
    result = result ? result : check_metadata(options->metadata, error);
    result = result ? result : check_roles(options->roles, error);
    result = result ? result : check_broker_id(options->broker_id, error);
    if (!result && !*options->data_dir) {
        strbuf_append_text(error, "option data_dir: the folder's name is empty");
        result = CLYMQ_EINVAL;
    }
    return result;
}

/* ---- reading ---- */

static int read_flags(struct server_options *options, int argc, char *const *argv, struct strbuf *error)
{
    char **copy MEM_CLEANUP = mem_calloc((size_t)argc + 1, sizeof(*copy));
    int count = argc, result;

    if (!copy)
        return CLYMQ_ENOMEM;
    memcpy(copy, argv, (size_t)argc * sizeof(*copy));
    result = options_parse_flags(server_option_table, options, &count, copy, error);
    if (!result && count > 1) {
        strbuf_printf(error, "\"%s\" is not an option: clymqd takes options only, --help lists them",
                      copy[1]);
        result = CLYMQ_EINVAL;
    }
    return result;
}

static int read_file(struct server_options *options, const char *path, struct strbuf *error)
{
    struct strbuf text = {0};
    int result = config_file_read(path, &text, error);

    if (!result)
        result = options_parse_file(server_option_table, options, path, bytes_of(text.data, text.len), error);
    if (!result && options->config && *options->config) {
        strbuf_printf(error,
                      "the config file %s names another one, \"config = %s\", which is not read: remove that "
                      "line, and give --config the file that counts",
                      path, options->config);
        result = CLYMQ_EINVAL;
    }
    strbuf_free(&text);
    return result;
}

/* An empty text is no text, so that "broker_id =" in a file says what the example of it says. */
static void drop_empty_texts(struct server_options *options)
{
    for (const struct option *option = server_option_table; option->name; option++) {
        char **text = (char **)((char *)options + option->offset);

        if (option->type == OPTION_TEXT && !option->fallback && *text && !**text) {
            mem_free(*text);
            *text = NULL;
        }
    }
}

int server_options_read(struct server_options *options, int argc, char *const *argv, char *const *environment,
                        struct strbuf *error)
{
    struct server_options scratch = {0}; /* where the config file's name comes from */
    int result = options_defaults(server_option_table, &scratch);

    *options = (struct server_options){0};
    if (!result)
        result =
            options_parse_environment(server_option_table, &scratch, environment, foreign_variables, error);
    if (!result)
        result = read_flags(&scratch, argc, argv, error);
    if (!result)
        result = options_defaults(server_option_table, options);
    if (!result && scratch.config && *scratch.config)
        result = read_file(options, scratch.config, error);
    if (!result)
        result =
            options_parse_environment(server_option_table, options, environment, foreign_variables, error);
    if (!result)
        result = read_flags(options, argc, argv, error);
    drop_empty_texts(options);
    server_options_free(&scratch);
    if (!result)
        result = check(options, error);
    if (result && !error->len)
        strbuf_append_text(error, error_sentence(result));
    return result;
}

void server_options_free(struct server_options *options)
{
    options_free(server_option_table, options);
}

void server_options_list_fixed_changes(const struct server_options *before,
                                       const struct server_options *after, struct strbuf *names)
{
    for (const struct option *option = server_option_table; option->name; option++) {
        struct strbuf old = {0}, new = {0};

        if (option->reloadable)
            continue;
        options_get(server_option_table, before, option->name, &old);
        options_get(server_option_table, after, option->name, &new);
        if (!bytes_equal(bytes_of(old.data, old.len), bytes_of(new.data, new.len)))
            strbuf_printf(names, "%s%s", names->len ? ", " : "", option->name);
        strbuf_free(&old);
        strbuf_free(&new);
    }
}
