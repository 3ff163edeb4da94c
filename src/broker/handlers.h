/* The handlers of all methods, one file each. A handler takes over the call, on its shard. */
#ifndef CLYMQ_BROKER_HANDLERS_H
#define CLYMQ_BROKER_HANDLERS_H

#include "broker/broker.h"

typedef void (*broker_handler)(struct broker_shard *bs, struct net_call *call);

/* The broker's port. */
void handle_push(struct broker_shard *bs, struct net_call *call);
void handle_pull(struct broker_shard *bs, struct net_call *call);
void handle_con_info(struct broker_shard *bs, struct net_call *call);
void handle_start_to_get(struct broker_shard *bs, struct net_call *call);
void handle_push_batch(struct broker_shard *bs, struct net_call *call);
void handle_pull_batch(struct broker_shard *bs, struct net_call *call);
void handle_list_offset(struct broker_shard *bs, struct net_call *call);
/* The coordinator's. */
void handle_create_topic(struct broker_shard *bs, struct net_call *call);
void handle_create_part(struct broker_shard *bs, struct net_call *call);
void handle_set_partition_state(struct broker_shard *bs, struct net_call *call);
void handle_pro_get_broker(struct broker_shard *bs, struct net_call *call);
void handle_sub(struct broker_shard *bs, struct net_call *call);
void handle_con_start_get_broker(struct broker_shard *bs, struct net_call *call);
void handle_get_new_leader(struct broker_shard *bs, struct net_call *call);
void handle_list_topics(struct broker_shard *bs, struct net_call *call);
void handle_describe_topic(struct broker_shard *bs, struct net_call *call);
void handle_delete_topic(struct broker_shard *bs, struct net_call *call);
void handle_delete_part(struct broker_shard *bs, struct net_call *call);
void handle_set_topic_config(struct broker_shard *bs, struct net_call *call);

/* pull_batch.c: ends waits: of a connection that is gone, or (connection 0) of all, since the broker stops.
 * error 0: they are answered with what is there. */
void pull_batch_end_waits(struct broker_shard *bs, uint64_t connection, int error);

#endif
