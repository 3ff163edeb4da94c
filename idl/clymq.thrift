/*
 * The Thrift interface of ClyMQ: what producers, consumers and tools speak with brokers and the coordinator.
 *
 * Clients made from this file and clients of the original ClyMQ both work: names, field numbers and types below 20
 * are fixed for ever. Growth takes numbers from 20 up, optional, and new methods; an older peer skips what it does
 * not know. Every method takes one argument, number 1, `req`.
 *
 * docs/protocol-rpc.md tells what the fields mean, how failures are answered and which forms (framed or not, binary,
 * compact, TTHeader) a server takes. src/wire/rpc.h holds the same tables; a unit test compares the two.
 */
namespace py clymq.idl

/* ---- the broker's port ---- */

struct PushRequest {
    1: string producer
    2: string topic
    3: string key          /* the partition's name */
    4: binary message
    5: i64 StartIndex      /* 5, 6 and 7 carry nothing */
    6: i64 EndIndex
    7: i8 Size
    8: i8 Ack              /* -1: a majority has it on disk; 1: the leader has written it; 0: do not wait */
    9: i64 Cmdindex
    20: optional i64 session /* with it, a repeated Cmdindex of the same producer and partition is stored once */
}

struct PushResponse {
    1: bool ret
    2: string err
}

struct PullRequest {
    1: string consumer
    2: string topic
    3: string key          /* the partition's name */
    4: i64 offset
    5: i8 size             /* messages wanted at most; 0 or less: the server's default */
    6: i8 option           /* 1 PTP push, 2 PTP pull, 3 PSB push, 4 PSB pull */
}

struct PullResponse {
    1: binary Msgs         /* JSON array of {"index","size","topic_name","part_name","msg" in base64} */
    2: bool Ret
    3: i64 Start_index     /* of the first message */
    4: i64 End_index       /* of the last message */
    5: i8 Size
    6: string Err
}

struct InfoRequest {
    1: string ip_port      /* where the consumer listens; no host (":7881") means the connection's peer */
    20: optional string cli_name
}

struct InfoResponse {
    1: bool ret
}

struct InfoGetRequest {
    1: string cli_name
    2: string topic_name
    3: string part_name
    4: i64 offset
    5: i8 option
}

struct InfoGetResponse {
    1: bool ret
}

/* In the growth methods `error` is a number of the error table (0 = none) and `err` its sentence. */

struct PushBatchRequest {
    1: string topic
    2: string partition
    3: i8 ack
    4: binary batch        /* one Kafka record batch of version 2 */
}

struct PushBatchResponse {
    1: i32 error
    2: string err
    3: i64 base_offset     /* that the batch got */
    4: bool duplicate      /* it was stored before: base_offset is where */
}

struct PullBatchRequest {
    1: string topic
    2: string partition
    3: i64 offset
    4: i32 max_bytes       /* of batches; the first one is sent whole even if it is larger */
    5: i32 min_bytes       /* wait for so much … */
    6: i32 wait_ms         /* … but no longer than this */
}

struct PullBatchResponse {
    1: i32 error
    2: string err
    3: i64 log_start       /* first offset that is still kept */
    4: i64 high_watermark  /* first offset that is not yet committed */
    5: binary batches      /* record batches as stored, back to back; the first may begin before the asked offset */
}

struct ListOffsetRequest {
    1: string topic
    2: string partition
    3: i64 timestamp_ms    /* the first message at or after it; -1 = end, -2 = beginning */
}

struct ListOffsetResponse {
    1: i32 error
    2: string err
    3: i64 offset
    4: i64 timestamp_ms
}

service Server_Operations {
    PushResponse push(1: PushRequest req)
    PullResponse pull(1: PullRequest req)
    InfoResponse ConInfo(1: InfoRequest req)
    InfoGetResponse StarttoGet(1: InfoGetRequest req)
    PushBatchResponse pushBatch(1: PushBatchRequest req)
    PullBatchResponse pullBatch(1: PullBatchRequest req)
    ListOffsetResponse listOffset(1: ListOffsetRequest req)
}

/* ---- the coordinator's port ---- */

struct CreateTopicRequest {
    1: string topic_name
    20: optional i32 partitions /* made at once, named "0", "1", … */
    21: optional i8 replicas
    22: optional i8 ack
    23: optional string config  /* JSON: retention_ms, retention_bytes, segment_bytes, … */
}

struct CreateTopicResponse {
    1: bool ret
    2: string err
}

struct CreatePartRequest {
    1: string topic_name
    2: string part_name
}

struct CreatePartResponse {
    1: bool ret
    2: string err
}

struct SetPartitionStateRequest {
    1: string topic
    2: string partition
    3: i8 option           /* the ack level: -1, 1 or 0 */
    4: i8 dupnum           /* the number of replicas */
}

struct SetPartitionStateResponse {
    1: bool ret
    2: string err
}

struct ProGetBrokRequest {
    1: string topic_name
    2: string part_name
}

struct ProGetBrokResponse {
    1: bool ret
    2: string broker_host_port
    3: string Err
}

struct SubRequest {
    1: string consumer
    2: string topic
    3: string key
    4: i8 option
}

struct SubResponse {
    1: bool ret
}

struct ConStartGetBrokRequest {
    1: string cli_name
    2: string topic_name
    3: string part_name
    4: i8 option
    5: i64 index
}

struct ConStartGetBrokResponse {
    1: bool ret
    2: i64 size
    3: binary parts        /* JSON: {"partkeys":[{"name","brokername","brokerhp","offset","err"}]} */
}

struct GetNewLeaderRequest {
    1: string TopicName
    2: string PartName
    3: string BlockName
}

struct GetNewLeaderResponse {
    1: bool Ret
    2: string LeaderBroker
    3: string HostPort
}

struct ListTopicsRequest {
    1: string prefix
}

struct ListTopicsResponse {
    1: i32 error
    2: string err
    3: string topics       /* JSON */
}

struct DescribeTopicRequest {
    1: string topic
}

struct DescribeTopicResponse {
    1: i32 error
    2: string err
    3: string topic        /* JSON */
}

struct DeleteTopicRequest {
    1: string topic
}

struct DeleteTopicResponse {
    1: i32 error
    2: string err
}

struct DeletePartRequest {
    1: string topic
    2: string partition
}

struct DeletePartResponse {
    1: i32 error
    2: string err
}

struct SetTopicConfigRequest {
    1: string topic
    2: string config       /* JSON as in CreateTopic: options not named stay, null is the server's default */
}

struct SetTopicConfigResponse {
    1: i32 error
    2: string err
}

service ZkServer_Operations {
    CreateTopicResponse CreateTopic(1: CreateTopicRequest req)
    CreatePartResponse CreatePart(1: CreatePartRequest req)
    SetPartitionStateResponse SetPartitionState(1: SetPartitionStateRequest req)
    ProGetBrokResponse ProGetBroker(1: ProGetBrokRequest req)
    SubResponse Sub(1: SubRequest req)
    ConStartGetBrokResponse ConStartGetBroker(1: ConStartGetBrokRequest req)
    GetNewLeaderResponse GetNewLeader(1: GetNewLeaderRequest req)
    ListTopicsResponse listTopics(1: ListTopicsRequest req)
    DescribeTopicResponse describeTopic(1: DescribeTopicRequest req)
    DeleteTopicResponse deleteTopic(1: DeleteTopicRequest req)
    DeletePartResponse deletePart(1: DeletePartRequest req)
    SetTopicConfigResponse setTopicConfig(1: SetTopicConfigRequest req)
}

/* ---- the consumer's own port: the broker is the client ---- */

struct PubRequest {
    1: string topic_name
    2: string part_name
    3: i64 start_index
    4: i64 end_index
    5: binary msg          /* as PullResponse.Msgs */
}

struct PubResponse {
    1: bool ret            /* true acknowledges all of it */
}

struct PingPongRequest {
    1: bool ping
}

struct PingPongResponse {
    1: bool pong
}

service Client_Operations {
    PubResponse pub(1: PubRequest req)
    PingPongResponse pingpong(1: PingPongRequest req)
}
