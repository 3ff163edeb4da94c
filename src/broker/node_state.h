/* What node.c, node_stop.c and node_config.c share. */
#ifndef CLYMQ_BROKER_NODE_STATE_H
#define CLYMQ_BROKER_NODE_STATE_H

#include "broker/broker.h"

/* Runs work on every shard, beside each other; each ends with stage_done; then `then` on shard 0
 * (node->stage_error: the first error). One stage at a time. Called on shard 0. */
void stage_begin(struct broker_node *node, void (*work)(struct broker_shard *bs),
                 void (*then)(struct broker_node *node));
void stage_done(struct broker_shard *bs, int error);

/* node.c. Once a second while it serves, on shard 0: makes good what timers could not be started for, for
 * lack of memory. */
void node_tick(struct broker_node *node);

/* node_config.c */
int node_config_copy(const struct broker_node_config *config, struct broker_node_config *ret_copy);
void node_config_free(struct broker_node_config *config);
struct broker_tuning node_config_tuning(const struct broker_node_config *config);
void node_reloads_free(struct broker_node *node);

#endif
