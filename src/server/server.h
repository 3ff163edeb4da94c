/* clymqd from parsed options to exit code: opens the operating system's things, gives them to a broker node,
 * runs it until a signal ends it. One per process, used on the main thread. */
#ifndef CLYMQ_SERVER_SERVER_H
#define CLYMQ_SERVER_SERVER_H

#include "server/server_options.h"

struct server;

/* Opens the data folder, metrics and shards. 0; or an error with the sentence for standard error (free it all
 * the same). */
int server_open(const struct server_options *options, struct strbuf *error, struct server **ret_server);
/* Starts; on_done is called on a shard's thread. */
void server_start(struct server *server, void (*on_done)(void *ctx), void *ctx);
/* After on_done: 0 or the error, with the sentence. Then opens the admin port. */
int server_started(struct server *server, struct strbuf *error);
/* The line for standard output: addresses, data folder, how to connect. */
void server_print_serving(const struct server *server, struct strbuf *line);
int server_reload(struct server *server, const struct server_options *options);
/* As it was set last. */
int64_t server_shutdown_grace_ms(const struct server *server);
/* Memory that is kept between allocations, and by each shard behind its last one, goes back to the system.
 * While it serves. */
void server_give_back_memory(struct server *server);
/* on_done is called on a shard's thread. */
void server_stop(struct server *server, void (*on_done)(void *ctx), void *ctx);
/* The outcome of the stop, after its on_done: 0, or a log could not be synced. */
int server_stopped(const struct server *server);
/* Not while it starts or stops. NULL is allowed. */
void server_free(struct server *server);

#endif
