/* Wiring: options to configurations, the operating system's files, loops and clock to the broker node. */
#define LOG_MODULE "server"
#include "server/server.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "admin/admin.h"
#include "base/error.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/utf8.h"
#include "broker/node.h"
#include "net/server.h"
#include "server/machine.h"
#include "server/memory.h"
#include "store/block.h"
#include "store/reserve.h"

#define META_FILE "meta/clymq.sqlite"

enum {
    SPARE_DESCRIPTORS = 128,
    SHARD_DESCRIPTORS = 6, /* epoll, two for wakes and a pipe of libuv's; the state file */
    OWN_BATCH_BYTES = 64 << 20,
};

struct give_back {
    struct shard_message message;
    _Atomic bool under_way;
};

struct server {
    const struct server_options *options;
    struct metrics *metrics;
    struct io_fs *fs;
    struct store_folder *folder;
    struct shards *shards;
    struct give_back *give_back; /* one for each shard */
    struct broker_node *node;
    struct admin *admin;
    struct net_quota connections; /* of all ports */
    int64_t open_files;           /* of each shard */
    int64_t shutdown_grace_ms;
    bool started;
    char broker_id[256], advertise_broker[MACHINE_NAME_CAP], advertise_coordinator[MACHINE_NAME_CAP];
    char meta_path[4096];

    void (*on_done)(void *ctx);
    void *done_ctx;
    int error;
    struct strbuf sentence;
};

/* ---- options to configurations ---- */

static void fill_store(const struct server_options *options, struct store_config *store)
{
    store->fsync = (enum store_fsync)options->fsync;
    store->fsync_interval_ms = options->fsync_interval_ms;
    store->commit_linger_ms = options->commit_linger_ms;
    store->zeros_ahead = options->zeros_ahead;
    store->segment_bytes = options->segment_bytes;
    store->segment_ms = options->segment_ms;
    store->index_interval_bytes = options->index_interval_bytes;
    store->checkpoint_bytes = options->checkpoint_bytes;
    store->max_open_files = options->max_open_files;
    /* Room for what a broker adds of its own, such as the producer table at a block's start. */
    store->max_batch_bytes = options->max_message_bytes + OWN_BATCH_BYTES;
}

static void fill_limits(const struct server_options *options, struct net_limits *limits)
{
    *limits = (struct net_limits){
        .max_message_bytes = options->max_message_bytes,
        .max_connections = options->max_connections,
        .max_connections_per_address = options->max_connections_per_address,
        .max_pipelined_calls = options->max_pipelined_calls,
        .max_inflight_bytes = options->max_inflight_bytes,
        .max_connection_inflight_bytes = options->max_connection_inflight_bytes,
        .idle_ms = options->idle_ms,
        .receive_ms = options->receive_ms,
        .send_ms = options->send_ms,
    };
}

static void fill_reloadable(const struct server_options *options, struct broker_node_config *config)
{
    config->max_batch_bytes = options->max_message_bytes;
    config->push_wait_ms = options->push_wait_ms;
    config->pull_wait_max_ms = options->pull_wait_max_ms;
    config->max_waiting_bytes = options->max_waiting_bytes;
    config->producer_expiry_ms = options->producer_expiry_ms;
    config->retention_ms = options->retention_ms;
    config->retention_bytes = options->retention_bytes;
    config->retention_check_ms = options->retention_check_ms;
    config->scrub_bytes_per_s = options->scrub_bytes_per_s;
    config->scrub_every_ms = options->scrub_every_ms;
}

/* Clients cannot connect to "all addresses": without a name of its own the host's name is told. */
static const char *advertised(const char *option, const char *advertise, const char *listen,
                              char host[MACHINE_NAME_CAP])
{
    size_t len = strlen(listen) - strlen(strrchr(listen, ':'));
    bool all = len == 0 || (len == 7 && memcmp(listen, "0.0.0.0", 7) == 0) ||
               (len == 4 && memcmp(listen, "[::]", 4) == 0);

    if (advertise || !all)
        return advertise;
    machine_host(host);
    log_warn("listening on all addresses: clients are told the host's name, %s; where they know the machine "
             "by another "
             "name or address, set %s",
             host, option);
    return host;
}

/* Metadata made anew would know none of the messages that are there: they would look lost. */
static int refuse_lost_meta(const struct server *server, struct strbuf *error)
{
    struct io_fs *fs = store_folder_fs(server->folder);
    struct block_key *keys;
    struct io_file *file;
    uint64_t size = 0;
    size_t blocks;
    int result = io_fs_open(fs, META_FILE, IO_OPEN_READ, &file);

    if (!result) {
        result = io_file_size(file, &size);
        io_file_close(file);
    }
    if (size > 0 || (result && result != CLYMQ_ENOENT))
        return 0; /* opening it tells */
    result = block_list(fs, &keys, &blocks);
    if (result)
        return result;
    mem_free(keys);
    if (blocks == 0)
        return 0;
    strbuf_printf(
        error,
        "%s is missing or empty, but data/ holds %zu blocks of messages: restore meta/ from a backup, or "
        "move data/ and state/ away to begin anew",
        server->meta_path, blocks);
    return CLYMQ_ECORRUPT;
}

static int open_meta(void *ctx, struct shard *shard, struct strbuf *error, struct meta **ret_meta)
{
    struct server *server = ctx;
    int result = refuse_lost_meta(server, error);

    if (result)
        return result;
    return meta_embedded_open(shard, server->meta_path, error, ret_meta);
}

static void close_meta(void *ctx, struct meta *meta)
{
    meta_close(meta);
}

static int make_node(struct server *server)
{
    const struct server_options *options = server->options;
    struct broker_node_config config;

    broker_node_config_defaults(&config);
    config.broker_id = server->broker_id;
    config.rack = options->rack;
    config.broker_listen = options->broker_listen;
    config.coordinator_listen = options->coordinator_listen;
    config.advertise_broker = advertised("advertise_broker", options->advertise_broker,
                                         options->broker_listen, server->advertise_broker);
    config.advertise_coordinator = advertised("advertise_coordinator", options->advertise_coordinator,
                                              options->coordinator_listen, server->advertise_coordinator);
    config.open_meta = open_meta;
    config.close_meta = close_meta;
    config.ctx = server;
    fill_limits(options, &config.limits);
    fill_store(options, &config.store);
    config.limits.quota = &server->connections;
    /* Whoever fills one port shall not shut the other. */
    if (config.limits.max_connections > server->connections.max - server->connections.max / 16)
        config.limits.max_connections = server->connections.max - server->connections.max / 16;
    config.store.max_open_files = server->open_files;
    fill_reloadable(options, &config);
    return broker_node_new(&config, server->shards, server->folder, server->metrics, &server->node);
}

/* ---- opening ---- */

static const char *folder_problem(int error)
{
    return error == CLYMQ_ENOENT ? "it cannot be made there, or is not a folder" : error_file_sentence(error);
}

static int open_folder(struct server *server, struct strbuf *error)
{
    const char *dir = server->options->data_dir;
    struct strbuf why = {0};
    uint8_t random[16];
    int result = io_os_fs_new(dir, &server->fs);

    if (result) {
        strbuf_printf(error, "cannot open the data folder %s: %s", dir, folder_problem(result));
        return result;
    }
    if (getrandom(random, sizeof(random), 0) != sizeof(random)) {
        strbuf_printf(error, "the system gives no random numbers: %m");
        return CLYMQ_EIO;
    }
    result = store_folder_open(server->fs, random, &why, &server->folder);
    if (result)
        strbuf_printf(error, "data folder %s: %s", dir, why.data ? why.data : error_sentence(result));
    strbuf_free(&why);
    if (result)
        return result;
    result = io_fs_make_dir(server->fs, "meta"); /* synced with the broker's id */
    result = result == CLYMQ_EEXIST ? 0 : result;
    if (result)
        strbuf_printf(error, "cannot make the folder %s/meta: %s", dir, error_file_sentence(result));
    snprintf(server->meta_path, sizeof(server->meta_path), "%s/" META_FILE, dir);
    return result;
}

/* The metadata names its broker, so a folder's broker keeps its name, whatever becomes of host name and
 * network card. */
static int choose_broker_id(struct server *server, struct strbuf *error)
{
    static const char path[] = "broker_id";
    const char *asked = server->options->broker_id;
    uint8_t *data MEM_CLEANUP = NULL;
    char kept[256] = "";
    size_t len;
    int result = io_fs_read_file(server->fs, path, 255, &data, &len);

    if (!result)
        snprintf(kept, sizeof(kept), "%.*s", (int)(len && data[len - 1] == '\n' ? len - 1 : len), data);
    if (!result && (name_check(bytes_of_text(kept)) || strchr(kept, '@'))) {
        strbuf_printf(error, "%s/%s does not hold a broker's name: write the name that it had into it",
                      server->options->data_dir, path);
        return CLYMQ_ECORRUPT;
    }
    if (!result && asked && strcmp(asked, kept) != 0) {
        strbuf_printf(error,
                      "the data folder %s belongs to the broker %s: start without broker_id, or use another "
                      "folder for %s",
                      server->options->data_dir, kept, asked);
        return CLYMQ_EINVAL;
    }
    if (result == CLYMQ_ENOENT) {
        char machine[MACHINE_NAME_CAP];

        machine_name(machine);
        snprintf(kept, sizeof(kept), "%s", asked ? asked : machine);
        struct strbuf line = {0};

        strbuf_printf(&line, "%s\n", kept);
        result = line.failed ? CLYMQ_ENOMEM : io_fs_replace_file(server->fs, path, line.data, line.len);
        strbuf_free(&line);
    } else if (!result) {
        result = io_fs_sync_dir(server->fs, "");
    }
    if (result)
        strbuf_printf(error, "%s/%s: %s", server->options->data_dir, path, error_file_sentence(result));
    else
        snprintf(server->broker_id, sizeof(server->broker_id), "%s", kept);
    return result;
}

/* Deals the descriptors out that there are: logs must be opened however many clients come. */
static void share_descriptors(struct server *server, unsigned shards)
{
    const struct server_options *options = server->options;
    uint64_t limit = machine_raise_descriptors(), ports = 2;
    uint64_t spare = (limit / 4 < SPARE_DESCRIPTORS ? limit / 4 : SPARE_DESCRIPTORS) +
                     (uint64_t)SHARD_DESCRIPTORS * shards;
    uint64_t files = (uint64_t)options->max_open_files * shards;
    uint64_t connections = ports * (uint64_t)options->max_connections;
    uint64_t needed = connections + files + spare;

    if (limit < needed) {
        spare = spare < limit ? spare : limit; /* what is missing fails */
        if (files > (limit - spare) / 2)
            files = (limit - spare) / 2;
        connections = limit - spare - files;
        log_warn("the limit of open files is %" PRIu64
                 ", but max_connections and max_open_files may need %" PRIu64 ": at most %" PRIu64
                 " connections and %" PRIu64
                 " files will be open; raise it (ulimit -n, LimitNOFILE=) or lower those options",
                 limit, needed, connections, files);
    }
    machine_expect_descriptors(limit < needed ? limit : needed);
    server->connections.max = connections > 0 ? (int64_t)connections : 1;
    server->open_files = files / shards > 0 ? (int64_t)(files / shards) : 1;
}

static int start_shards(struct server *server, unsigned count, struct strbuf *error)
{
    unsigned workers = (unsigned)server->options->disk_workers;
    int result = shards_new(count, workers, server->metrics, &server->shards);

    if (result == CLYMQ_ELIMIT)
        strbuf_printf(error,
                      "cannot start %u shards with %u disk workers each: the limit of open files or that of "
                      "threads is reached: raise it (ulimit -n and -u, LimitNOFILE=, TasksMax=) or lower "
                      "shards or disk_workers",
                      count, workers);
    return result;
}

static void warn_of_fsync(const struct server_options *options)
{
    if (options->fsync != STORE_FSYNC_COMMIT)
        log_warn("fsync = %s: a power failure or a crash of the system loses acknowledged messages, also "
                 "those pushed "
                 "with ack -1; fsync = commit keeps them",
                 options->fsync == STORE_FSYNC_INTERVAL ? "interval" : "never");
}

int server_open(const struct server_options *options, struct strbuf *error, struct server **ret_server)
{
    unsigned shards = options->shards ? (unsigned)options->shards : machine_cores();
    struct server *server = mem_zalloc(sizeof(*server));
    int result;

    if (!server)
        return CLYMQ_ENOMEM;
    *ret_server = server;
    server->options = options;
    server->shutdown_grace_ms = options->shutdown_grace_ms;
    share_descriptors(server, shards);
    warn_of_fsync(options);
    server->metrics = metrics_new();
    result = server->metrics ? memory_add_metrics(server->metrics) : CLYMQ_ENOMEM;
    if (!result)
        result = metrics_register_read(server->metrics, METRIC_COUNTER, "clymq_log_dropped_lines_total",
                                       "Lines of the server's own log that were dropped, since who reads it "
                                       "had stopped or was too slow, or its disk was full",
                                       log_dropped_lines);
    if (!result)
        result = open_folder(server, error);
    if (!result)
        result = choose_broker_id(server, error);
    if (!result)
        result = start_shards(server, shards, error);
    if (!result)
        result = (server->give_back = mem_calloc(shards, sizeof(*server->give_back))) ? 0 : CLYMQ_ENOMEM;
    if (!result)
        result = make_node(server);
    if (result && !error->len)
        strbuf_append_text(error, error_sentence(result));
    return result;
}

/* ---- running ---- */

static void on_node_done(void *ctx, int error, const char *sentence)
{
    struct server *server = ctx;

    server->error = error;
    if (error)
        strbuf_append_text(&server->sentence, sentence);
    server->on_done(server->done_ctx);
}

void server_start(struct server *server, void (*on_done)(void *ctx), void *ctx)
{
    server->on_done = on_done;
    server->done_ctx = ctx;
    broker_node_start(server->node, on_node_done, server);
}

static bool health(void *ctx, struct strbuf *json)
{
    const struct server *server = ctx;
    struct broker_node_state state;
    bool well;

    broker_node_get_state(server->node, &state);
    well = state.serving && !state.disk_full && !state.failed_partitions;
    strbuf_printf(json,
                  "{\"status\":\"%s\",\"serving\":%s,\"disk_full\":%s,\"partitions\":%" PRIu64
                  ",\"failed_partitions\":%" PRIu64 ",\"version\":\"%s\"}\n",
                  well ? "ok" : "degraded", state.serving ? "true" : "false",
                  state.disk_full ? "true" : "false", state.partitions, state.failed_partitions,
                  CLYMQ_VERSION);
    return well;
}

static int start_admin(struct server *server, struct strbuf *error)
{
    struct admin_config config = {
        .address = server->options->admin_listen,
        .metrics = server->metrics,
        .health = health,
        .ctx = server,
    };
    int result;

    if (strcmp(config.address, "off") == 0)
        return 0;
    result = admin_start(&config, &server->admin);
    if (result)
        strbuf_printf(error, "cannot listen on %s (%s): choose another address with --admin-listen, or off",
                      config.address, net_listen_problem(result));
    return result;
}

/* Without it the next start may lack room, which it will say: no reason to end this one. */
static void keep_reserve(const struct server *server)
{
    int error = store_reserve_take(server->fs);

    if (error)
        log_warn("no room is kept for a start on a full disk: %s", error_sentence(error));
}

int server_started(struct server *server, struct strbuf *error)
{
    if (server->error) {
        strbuf_append_text(error,
                           server->sentence.data ? server->sentence.data : error_sentence(server->error));
        return server->error;
    }
    server->started = true;
    keep_reserve(server);
    return start_admin(server, error);
}

void server_print_serving(const struct server *server, struct strbuf *line)
{
    const char *coordinator = broker_node_coordinator_address(server->node);

    strbuf_printf(line, "clymqd %s serves: coordinator %s, broker %s", CLYMQ_VERSION, coordinator,
                  broker_node_broker_address(server->node));
    if (server->admin) {
        const char *address = admin_address(server->admin);
        strbuf_printf(line, ", http://%s%s/metrics", *address == ':' ? "localhost" : "", address);
    }
    strbuf_printf(line, ", data in %s; try: clymq --coordinator %s topic list\n", server->options->data_dir,
                  coordinator);
}

int server_reload(struct server *server, const struct server_options *options)
{
    struct broker_node_config config;

    broker_node_config_defaults(&config);
    fill_reloadable(options, &config);
    config.max_batch_bytes = server->options->max_message_bytes;
    server->shutdown_grace_ms = options->shutdown_grace_ms;
    return broker_node_reload(server->node, &config);
}

int64_t server_shutdown_grace_ms(const struct server *server)
{
    return server->shutdown_grace_ms;
}

static void give_back(struct shard *shard, struct shard_message *message)
{
    (void)shard;
    mem_give_back_own();
    atomic_store(&CONTAINER_OF(message, struct give_back, message)->under_way, false);
}

void server_give_back_memory(struct server *server)
{
    for (unsigned i = 0; i < shards_count(server->shards); i++) {
        struct give_back *each = &server->give_back[i];

        if (atomic_exchange(&each->under_way, true))
            continue;
        each->message.run = give_back;
        shard_send(shards_get(server->shards, i), &each->message);
    }
    mem_give_back();
}

void server_stop(struct server *server, void (*on_done)(void *ctx), void *ctx)
{
    server->on_done = on_done;
    server->done_ctx = ctx;
    server->error = 0;
    broker_node_stop(server->node, server->shutdown_grace_ms, on_node_done, server);
}

int server_stopped(const struct server *server)
{
    return server->error;
}

void server_free(struct server *server)
{
    if (!server)
        return;
    admin_stop(server->admin); /* it asks the node for its state */
    if (server->shards)
        shards_stop(server->shards);
    broker_node_free(server->node);
    if (server->shards)
        shards_free(server->shards);
    mem_free(server->give_back);
    if (server->started)
        keep_reserve(server);
    if (server->folder)
        store_folder_close(server->folder);
    if (server->fs)
        io_os_fs_free(server->fs);
    metrics_free(server->metrics);
    strbuf_free(&server->sentence);
    mem_free(server);
}
