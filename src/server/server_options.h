/* The options of clymqd: one table for flags, environment, config file and the reference page. */
#ifndef CLYMQ_SERVER_SERVER_OPTIONS_H
#define CLYMQ_SERVER_SERVER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/options.h"

struct server_options {
    char *data_dir, *roles, *broker_id, *rack;
    char *coordinator_listen, *broker_listen, *kafka_listen, *peer_listen, *admin_listen;
    char *advertise_broker, *advertise_coordinator;
    char *metadata, *config;
    char *log_level, *log_file;
    bool log_json;
    int64_t shards, disk_workers;
    int fsync; /* enum store_fsync */
    int64_t fsync_interval_ms, commit_linger_ms, zeros_ahead, segment_bytes, segment_ms, index_interval_bytes,
        checkpoint_bytes, max_open_files;
    int64_t max_message_bytes, max_connections, max_connections_per_address, max_pipelined_calls;
    int64_t max_inflight_bytes, max_connection_inflight_bytes, idle_ms, receive_ms, send_ms;
    int64_t push_wait_ms, pull_wait_max_ms, max_waiting_bytes, producer_expiry_ms;
    int64_t retention_ms, retention_bytes, retention_check_ms;
    int64_t scrub_bytes_per_s, scrub_every_ms;
    int64_t shutdown_grace_ms;
};

extern const struct option server_option_table[];

/* Reads environment, config file and flags in their order of precedence and checks what the table alone
 * cannot. argv[0] is the program. 0, or CLYMQ_EINVAL, CLYMQ_ENOMEM with a sentence in error; options is to be
 * freed in any case. */
int server_options_read(struct server_options *options, int argc, char *const *argv, char *const *environment,
                        struct strbuf *error);
void server_options_free(struct server_options *options);

/* Appends to names the options that differ and are not reloadable, separated by ", ". */
void server_options_list_fixed_changes(const struct server_options *before,
                                       const struct server_options *after, struct strbuf *names);

#endif
