/* The RPC contract as tables: every struct of idl/clymq.thrift with its fields, and every method with its
 * structs.
 *
 * One list (X-macros) makes the C structs and the codec's tables; tests/unit/wire compares it with the IDL
 * file. Field numbers below 20 are what clients of the original ClyMQ send and never change; growth takes
 * numbers from 20 up in those structs and is optional. F(S, type, c_name, wire_name, id, optional), S being
 * whatever the user of the list passes through. A struct's `present` has bit i set for the i-th field of its
 * list when decoded, and must have it set by the sender for optional fields. */
#ifndef CLYMQ_WIRE_RPC_H
#define CLYMQ_WIRE_RPC_H

#include "base/buf.h"
#include "wire/thrift.h"

#define RPC_C_BOOL   bool
#define RPC_C_I8     int8_t
#define RPC_C_I32    int32_t
#define RPC_C_I64    int64_t
#define RPC_C_STRING struct bytes

/* ---- broker port: Server_Operations ---- */
#define RPC_PUSH_REQUEST(F, S)                                                                               \
    F(S, STRING, producer, "producer", 1, 0)                                                                 \
    F(S, STRING, topic, "topic", 2, 0)                                                                       \
    F(S, STRING, partition, "key", 3, 0)                                                                     \
    F(S, STRING, message, "message", 4, 0)                                                                   \
    F(S, I64, start_index, "StartIndex", 5, 0)                                                               \
    F(S, I64, end_index, "EndIndex", 6, 0)                                                                   \
    F(S, I8, size, "Size", 7, 0)                                                                             \
    F(S, I8, ack, "Ack", 8, 0)                                                                               \
    F(S, I64, command_index, "Cmdindex", 9, 0)                                                               \
    F(S, I64, session, "session", 20, 1)
#define RPC_PUSH_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0) F(S, STRING, err, "err", 2, 0)
#define RPC_PULL_REQUEST(F, S)                                                                               \
    F(S, STRING, consumer, "consumer", 1, 0)                                                                 \
    F(S, STRING, topic, "topic", 2, 0)                                                                       \
    F(S, STRING, partition, "key", 3, 0)                                                                     \
    F(S, I64, offset, "offset", 4, 0)                                                                        \
    F(S, I8, size, "size", 5, 0)                                                                             \
    F(S, I8, option, "option", 6, 0)
#define RPC_PULL_RESPONSE(F, S)                                                                              \
    F(S, STRING, msgs, "Msgs", 1, 0)                                                                         \
    F(S, BOOL, ret, "Ret", 2, 0)                                                                             \
    F(S, I64, start_index, "Start_index", 3, 0)                                                              \
    F(S, I64, end_index, "End_index", 4, 0)                                                                  \
    F(S, I8, size, "Size", 5, 0)                                                                             \
    F(S, STRING, err, "Err", 6, 0)
#define RPC_INFO_REQUEST(F, S)                                                                               \
    F(S, STRING, ip_port, "ip_port", 1, 0) F(S, STRING, cli_name, "cli_name", 20, 1)
#define RPC_INFO_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0)
#define RPC_INFO_GET_REQUEST(F, S)                                                                           \
    F(S, STRING, cli_name, "cli_name", 1, 0)                                                                 \
    F(S, STRING, topic, "topic_name", 2, 0)                                                                  \
    F(S, STRING, partition, "part_name", 3, 0)                                                               \
    F(S, I64, offset, "offset", 4, 0)                                                                        \
    F(S, I8, option, "option", 5, 0)
#define RPC_INFO_GET_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0)
/* Growth. `error` is a number of base/error.h (0 = none), err its sentence. */
#define RPC_PUSH_BATCH_REQUEST(F, S)                                                                         \
    F(S, STRING, topic, "topic", 1, 0)                                                                       \
    F(S, STRING, partition, "partition", 2, 0)                                                               \
    F(S, I8, ack, "ack", 3, 0)                                                                               \
    F(S, STRING, batch, "batch", 4, 0)
#define RPC_PUSH_BATCH_RESPONSE(F, S)                                                                        \
    F(S, I32, error, "error", 1, 0)                                                                          \
    F(S, STRING, err, "err", 2, 0)                                                                           \
    F(S, I64, base_offset, "base_offset", 3, 0)                                                              \
    F(S, BOOL, duplicate, "duplicate", 4, 0)
#define RPC_PULL_BATCH_REQUEST(F, S)                                                                         \
    F(S, STRING, topic, "topic", 1, 0)                                                                       \
    F(S, STRING, partition, "partition", 2, 0)                                                               \
    F(S, I64, offset, "offset", 3, 0)                                                                        \
    F(S, I32, max_bytes, "max_bytes", 4, 0)                                                                  \
    F(S, I32, min_bytes, "min_bytes", 5, 0)                                                                  \
    F(S, I32, wait_ms, "wait_ms", 6, 0)
#define RPC_PULL_BATCH_RESPONSE(F, S)                                                                        \
    F(S, I32, error, "error", 1, 0)                                                                          \
    F(S, STRING, err, "err", 2, 0)                                                                           \
    F(S, I64, log_start, "log_start", 3, 0)                                                                  \
    F(S, I64, high_watermark, "high_watermark", 4, 0)                                                        \
    F(S, STRING, batches, "batches", 5, 0)
#define RPC_LIST_OFFSET_REQUEST(F, S)                                                                        \
    F(S, STRING, topic, "topic", 1, 0)                                                                       \
    F(S, STRING, partition, "partition", 2, 0)                                                               \
    F(S, I64, timestamp_ms, "timestamp_ms", 3, 0) /* -1 = end, -2 = beginning */
#define RPC_LIST_OFFSET_RESPONSE(F, S)                                                                       \
    F(S, I32, error, "error", 1, 0)                                                                          \
    F(S, STRING, err, "err", 2, 0)                                                                           \
    F(S, I64, offset, "offset", 3, 0)                                                                        \
    F(S, I64, timestamp_ms, "timestamp_ms", 4, 0)

/* ---- coordinator port: ZkServer_Operations ---- */
#define RPC_CREATE_TOPIC_REQUEST(F, S)                                                                       \
    F(S, STRING, topic, "topic_name", 1, 0)                                                                  \
    F(S, I32, partitions, "partitions", 20, 1) /* made as "0", "1" … */                                    \
    F(S, I8, replicas, "replicas", 21, 1)                                                                    \
    F(S, I8, ack, "ack", 22, 1)                                                                              \
    F(S, STRING, config, "config", 23, 1) /* JSON: retention_ms, retention_bytes, segment_bytes … */
#define RPC_CREATE_TOPIC_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0) F(S, STRING, err, "err", 2, 0)
#define RPC_CREATE_PART_REQUEST(F, S)                                                                        \
    F(S, STRING, topic, "topic_name", 1, 0)                                                                  \
    F(S, STRING, partition, "part_name", 2, 0)
#define RPC_CREATE_PART_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0) F(S, STRING, err, "err", 2, 0)
#define RPC_SET_PARTITION_STATE_REQUEST(F, S)                                                                \
    F(S, STRING, topic, "topic", 1, 0)                                                                       \
    F(S, STRING, partition, "partition", 2, 0)                                                               \
    F(S, I8, option, "option", 3, 0)                                                                         \
    F(S, I8, dupnum, "dupnum", 4, 0)
#define RPC_SET_PARTITION_STATE_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0) F(S, STRING, err, "err", 2, 0)
#define RPC_PRO_GET_BROK_REQUEST(F, S)                                                                       \
    F(S, STRING, topic, "topic_name", 1, 0)                                                                  \
    F(S, STRING, partition, "part_name", 2, 0)
#define RPC_PRO_GET_BROK_RESPONSE(F, S)                                                                      \
    F(S, BOOL, ret, "ret", 1, 0)                                                                             \
    F(S, STRING, broker_host_port, "broker_host_port", 2, 0) F(S, STRING, err, "Err", 3, 0)
#define RPC_SUB_REQUEST(F, S)                                                                                \
    F(S, STRING, consumer, "consumer", 1, 0)                                                                 \
    F(S, STRING, topic, "topic", 2, 0)                                                                       \
    F(S, STRING, partition, "key", 3, 0)                                                                     \
    F(S, I8, option, "option", 4, 0)
#define RPC_SUB_RESPONSE(F, S) F(S, BOOL, ret, "ret", 1, 0)
#define RPC_CON_START_GET_BROK_REQUEST(F, S)                                                                 \
    F(S, STRING, cli_name, "cli_name", 1, 0)                                                                 \
    F(S, STRING, topic, "topic_name", 2, 0)                                                                  \
    F(S, STRING, partition, "part_name", 3, 0)                                                               \
    F(S, I8, option, "option", 4, 0)                                                                         \
    F(S, I64, index, "index", 5, 0)
#define RPC_CON_START_GET_BROK_RESPONSE(F, S)                                                                \
    F(S, BOOL, ret, "ret", 1, 0) F(S, I64, size, "size", 2, 0) F(S, STRING, parts, "parts", 3, 0)
#define RPC_GET_NEW_LEADER_REQUEST(F, S)                                                                     \
    F(S, STRING, topic, "TopicName", 1, 0)                                                                   \
    F(S, STRING, partition, "PartName", 2, 0) F(S, STRING, block, "BlockName", 3, 0)
#define RPC_GET_NEW_LEADER_RESPONSE(F, S)                                                                    \
    F(S, BOOL, ret, "Ret", 1, 0)                                                                             \
    F(S, STRING, leader_broker, "LeaderBroker", 2, 0) F(S, STRING, host_port, "HostPort", 3, 0)
/* Growth: answers are JSON documents (see docs/protocol-rpc.md). */
#define RPC_LIST_TOPICS_REQUEST(F, S) F(S, STRING, prefix, "prefix", 1, 0)
#define RPC_LIST_TOPICS_RESPONSE(F, S)                                                                       \
    F(S, I32, error, "error", 1, 0) F(S, STRING, err, "err", 2, 0) F(S, STRING, topics, "topics", 3, 0)
#define RPC_DESCRIBE_TOPIC_REQUEST(F, S) F(S, STRING, topic, "topic", 1, 0)
#define RPC_DESCRIBE_TOPIC_RESPONSE(F, S)                                                                    \
    F(S, I32, error, "error", 1, 0) F(S, STRING, err, "err", 2, 0) F(S, STRING, topic, "topic", 3, 0)
#define RPC_DELETE_TOPIC_REQUEST(F, S)  F(S, STRING, topic, "topic", 1, 0)
#define RPC_DELETE_TOPIC_RESPONSE(F, S) F(S, I32, error, "error", 1, 0) F(S, STRING, err, "err", 2, 0)
#define RPC_DELETE_PART_REQUEST(F, S)                                                                        \
    F(S, STRING, topic, "topic", 1, 0) F(S, STRING, partition, "partition", 2, 0)
#define RPC_DELETE_PART_RESPONSE(F, S) F(S, I32, error, "error", 1, 0) F(S, STRING, err, "err", 2, 0)
#define RPC_SET_TOPIC_CONFIG_REQUEST(F, S)                                                                   \
    F(S, STRING, topic, "topic", 1, 0) F(S, STRING, config, "config", 2, 0) /* as CreateTopic's */
#define RPC_SET_TOPIC_CONFIG_RESPONSE(F, S) F(S, I32, error, "error", 1, 0) F(S, STRING, err, "err", 2, 0)

/* ---- the consumer's own port: Client_Operations ---- */
#define RPC_PUB_REQUEST(F, S)                                                                                \
    F(S, STRING, topic, "topic_name", 1, 0)                                                                  \
    F(S, STRING, partition, "part_name", 2, 0)                                                               \
    F(S, I64, start_index, "start_index", 3, 0)                                                              \
    F(S, I64, end_index, "end_index", 4, 0)                                                                  \
    F(S, STRING, msg, "msg", 5, 0)
#define RPC_PUB_RESPONSE(F, S)       F(S, BOOL, ret, "ret", 1, 0)
#define RPC_PING_PONG_REQUEST(F, S)  F(S, BOOL, ping, "ping", 1, 0)
#define RPC_PING_PONG_RESPONSE(F, S) F(S, BOOL, pong, "pong", 1, 0)

/* M(service, method on the wire, c name, IDL's struct stem, TABLE) */
#define RPC_METHODS(M)                                                                                       \
    M(BROKER, "push", push, "Push", PUSH)                                                                    \
    M(BROKER, "pull", pull, "Pull", PULL)                                                                    \
    M(BROKER, "ConInfo", info, "Info", INFO)                                                                 \
    M(BROKER, "StarttoGet", info_get, "InfoGet", INFO_GET)                                                   \
    M(BROKER, "pushBatch", push_batch, "PushBatch", PUSH_BATCH)                                              \
    M(BROKER, "pullBatch", pull_batch, "PullBatch", PULL_BATCH)                                              \
    M(BROKER, "listOffset", list_offset, "ListOffset", LIST_OFFSET)                                          \
    M(COORDINATOR, "CreateTopic", create_topic, "CreateTopic", CREATE_TOPIC)                                 \
    M(COORDINATOR, "CreatePart", create_part, "CreatePart", CREATE_PART)                                     \
    M(COORDINATOR, "SetPartitionState", set_partition_state, "SetPartitionState", SET_PARTITION_STATE)       \
    M(COORDINATOR, "ProGetBroker", pro_get_brok, "ProGetBrok", PRO_GET_BROK)                                 \
    M(COORDINATOR, "Sub", sub, "Sub", SUB)                                                                   \
    M(COORDINATOR, "ConStartGetBroker", con_start_get_brok, "ConStartGetBrok", CON_START_GET_BROK)           \
    M(COORDINATOR, "GetNewLeader", get_new_leader, "GetNewLeader", GET_NEW_LEADER)                           \
    M(COORDINATOR, "listTopics", list_topics, "ListTopics", LIST_TOPICS)                                     \
    M(COORDINATOR, "describeTopic", describe_topic, "DescribeTopic", DESCRIBE_TOPIC)                         \
    M(COORDINATOR, "deleteTopic", delete_topic, "DeleteTopic", DELETE_TOPIC)                                 \
    M(COORDINATOR, "deletePart", delete_part, "DeletePart", DELETE_PART)                                     \
    M(COORDINATOR, "setTopicConfig", set_topic_config, "SetTopicConfig", SET_TOPIC_CONFIG)                   \
    M(CONSUMER, "pub", pub, "Pub", PUB)                                                                      \
    M(CONSUMER, "pingpong", ping_pong, "PingPong", PING_PONG)

enum rpc_service { RPC_BROKER = 1, RPC_COORDINATOR = 2, RPC_CONSUMER = 4 };

enum rpc_method_id {
#define M(service, wire, name, stem, TABLE) RPC_METHOD_##TABLE,
    RPC_METHODS(M)
#undef M
        RPC_METHOD_COUNT
};

#define F(S, type, c_name, wire, id, optional) RPC_C_##type c_name;
#define M(service, wire, name, stem, TABLE)                                                                  \
    struct rpc_##name##_request {                                                                            \
        uint32_t present;                                                                                    \
        RPC_##TABLE##_REQUEST(F, )                                                                           \
    };                                                                                                       \
    struct rpc_##name##_response {                                                                           \
        uint32_t present;                                                                                    \
        RPC_##TABLE##_RESPONSE(F, )                                                                          \
    };
RPC_METHODS(M)
#undef M
#undef F

struct rpc_method {
    enum rpc_method_id id;
    enum rpc_service service;
    struct bytes name; /* on the wire */
    const struct thrift_struct *request, *response;
};
/* Indexed by rpc_method_id. */
extern const struct rpc_method rpc_methods[RPC_METHOD_COUNT];
/* The method of that name in one of the services (a mask), or NULL. */
const struct rpc_method *rpc_find_method(unsigned services, struct bytes name);
/* Whether an optional field was there when decoded, or marks it as there for encoding; field by its C name's
 * offset. */
bool rpc_has(const struct thrift_struct *type, const void *value, size_t field_offset);
void rpc_set_present(const struct thrift_struct *type, void *value, size_t field_offset);

#endif
