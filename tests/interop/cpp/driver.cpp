// The interop driver on Apache Thrift's library for C++ (see ../drivers.py). The generated structs know no names: they are listed here.
#include <cstdint>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <type_traits>
#include <vector>

#include <thrift/TApplicationException.h>
#include <thrift/protocol/TBinaryProtocol.h>
#include <thrift/protocol/TCompactProtocol.h>
#include <thrift/transport/TBufferTransports.h>
#include <thrift/transport/TSocket.h>

#include "Server_Operations.h"
#include "ZkServer_Operations.h"

using namespace apache::thrift;

using Fields = std::map<std::string, std::string>;

static std::string hex(const std::string &bytes)
{
    static const char digits[] = "0123456789abcdef";
    std::string text;
    for (unsigned char byte : bytes)
        text += {digits[byte >> 4], digits[byte & 15]};
    return text;
}

static std::string unhex(const std::string &text)
{
    std::string bytes;
    for (size_t i = 0; i + 1 < text.size(); i += 2)
        bytes += static_cast<char>(std::stoi(text.substr(i, 2), nullptr, 16));
    return bytes;
}

template <typename T> static T parse(const std::string &value)
{
    if constexpr (std::is_same_v<T, std::string>)
        return unhex(value.substr(2));
    else
        return static_cast<T>(std::stoll(value.substr(2)));
}

template <typename T> static std::string show(const T &value)
{
    if constexpr (std::is_same_v<T, std::string>)
        return "s:" + hex(value);
    else if constexpr (std::is_same_v<T, bool>)
        return value ? "t:1" : "t:0";
    else
        return "i:" + std::to_string(static_cast<int64_t>(value));
}

#define SET(field)                                                                                           \
    if (fields.count(#field))                                                                                \
        request.__set_##field(parse<std::decay_t<decltype(request.field)>>(fields.at(#field)));
#define SHOW(field) text += "\t" #field "=" + show(response.field);

#define FOR_EACH_1(do, a)                      do(a)
#define FOR_EACH_2(do, a, ...)                 do(a) FOR_EACH_1(do, __VA_ARGS__)
#define FOR_EACH_3(do, a, ...)                 do(a) FOR_EACH_2(do, __VA_ARGS__)
#define FOR_EACH_4(do, a, ...)                 do(a) FOR_EACH_3(do, __VA_ARGS__)
#define FOR_EACH_5(do, a, ...)                 do(a) FOR_EACH_4(do, __VA_ARGS__)
#define FOR_EACH_6(do, a, ...)                 do(a) FOR_EACH_5(do, __VA_ARGS__)
#define FOR_EACH_7(do, a, ...)                 do(a) FOR_EACH_6(do, __VA_ARGS__)
#define FOR_EACH_8(do, a, ...)                 do(a) FOR_EACH_7(do, __VA_ARGS__)
#define FOR_EACH_9(do, a, ...)                 do(a) FOR_EACH_8(do, __VA_ARGS__)
#define FOR_EACH_10(do, a, ...)                do(a) FOR_EACH_9(do, __VA_ARGS__)
#define PICK(a, b, c, d, e, f, g, h, i, j, n, ...) FOR_EACH_##n
#define FOR_EACH(do, ...)                      PICK(__VA_ARGS__, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1)(do, __VA_ARGS__)
#define LIST(...)                              (__VA_ARGS__)
#define OPEN(...)                              __VA_ARGS__
#define EACH(do, list)                         FOR_EACH_IN(do, OPEN list)
#define FOR_EACH_IN(do, ...)                   FOR_EACH(do, __VA_ARGS__)

// A method: name, prefix of its structs, fields of the request, fields of the response.
#define METHOD(name, type, requested, answered)                                                              \
    methods[#name] = [](auto_client &client, const Fields &fields) {                                         \
        type##Request request;                                                                               \
        type##Response response;                                                                             \
        EACH(SET, requested)                                                                                 \
        client.name(response, request);                                                                      \
        std::string text = "ok";                                                                             \
        EACH(SHOW, answered)                                                                                 \
        return text;                                                                                         \
    };

template <typename Client> using Methods = std::map<std::string, std::function<std::string(Client &, const Fields &)>>;

static Methods<Server_OperationsClient> broker_methods()
{
    using auto_client = Server_OperationsClient;
    Methods<auto_client> methods;
    METHOD(push, Push, LIST(producer, topic, key, message, StartIndex, EndIndex, Size, Ack, Cmdindex, session), LIST(ret, err))
    METHOD(pull, Pull, LIST(consumer, topic, key, offset, size, option), LIST(Msgs, Ret, Start_index, End_index, Size, Err))
    METHOD(ConInfo, Info, LIST(ip_port, cli_name), LIST(ret))
    METHOD(StarttoGet, InfoGet, LIST(cli_name, topic_name, part_name, offset, option), LIST(ret))
    METHOD(pushBatch, PushBatch, LIST(topic, partition, ack, batch), LIST(error, err, base_offset, duplicate))
    METHOD(pullBatch, PullBatch, LIST(topic, partition, offset, max_bytes, min_bytes, wait_ms),
           LIST(error, err, log_start, high_watermark, batches))
    METHOD(listOffset, ListOffset, LIST(topic, partition, timestamp_ms), LIST(error, err, offset, timestamp_ms))
    return methods;
}

static Methods<ZkServer_OperationsClient> coordinator_methods()
{
    using auto_client = ZkServer_OperationsClient;
    Methods<auto_client> methods;
    METHOD(CreateTopic, CreateTopic, LIST(topic_name, partitions, replicas, ack, config), LIST(ret, err))
    METHOD(CreatePart, CreatePart, LIST(topic_name, part_name), LIST(ret, err))
    METHOD(SetPartitionState, SetPartitionState, LIST(topic, partition, option, dupnum), LIST(ret, err))
    METHOD(ProGetBroker, ProGetBrok, LIST(topic_name, part_name), LIST(ret, broker_host_port, Err))
    METHOD(Sub, Sub, LIST(consumer, topic, key, option), LIST(ret))
    METHOD(ConStartGetBroker, ConStartGetBrok, LIST(cli_name, topic_name, part_name, option, index), LIST(ret, size, parts))
    METHOD(GetNewLeader, GetNewLeader, LIST(TopicName, PartName, BlockName), LIST(Ret, LeaderBroker, HostPort))
    METHOD(listTopics, ListTopics, LIST(prefix), LIST(error, err, topics))
    METHOD(describeTopic, DescribeTopic, LIST(topic), LIST(error, err, topic))
    METHOD(deleteTopic, DeleteTopic, LIST(topic), LIST(error, err))
    METHOD(deletePart, DeletePart, LIST(topic, partition), LIST(error, err))
    METHOD(setTopicConfig, SetTopicConfig, LIST(topic, config), LIST(error, err))
    return methods;
}

static std::shared_ptr<protocol::TProtocol> connect(const std::string &form, const std::string &address)
{
    size_t colon = address.rfind(':');
    std::shared_ptr<transport::TTransport> inner =
        std::make_shared<transport::TSocket>(address.substr(0, colon), std::stoi(address.substr(colon + 1)));
    if (form.find("-framed") != std::string::npos)
        inner = std::make_shared<transport::TFramedTransport>(inner);
    else
        inner = std::make_shared<transport::TBufferedTransport>(inner);
    inner->open();
    if (form.rfind("compact", 0) == 0)
        return std::make_shared<protocol::TCompactProtocol>(inner);
    return std::make_shared<protocol::TBinaryProtocol>(inner);
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    ZkServer_OperationsClient coordinator(connect(argv[1], argv[2])), stranger(connect(argv[1], argv[3]));
    Server_OperationsClient broker(connect(argv[1], argv[3]));
    auto of_broker = broker_methods();
    auto of_coordinator = coordinator_methods();
    for (std::string line; std::getline(std::cin, line);) {
        std::vector<std::string> words;
        std::istringstream in(line);
        for (std::string word; std::getline(in, word, '\t');)
            words.push_back(word);
        Fields fields;
        for (size_t i = 3; i < words.size(); i++)
            fields[words[i].substr(0, words[i].find('='))] = words[i].substr(words[i].find('=') + 1);
        std::string answer;
        try {
            if (words[1] == "broker")
                answer = of_broker.at(words[2])(broker, fields);
            else
                answer = of_coordinator.at(words[2])(words[1] == "stranger" ? stranger : coordinator, fields);
        } catch (const TApplicationException &refusal) {
            answer = "exception\t" + std::to_string(refusal.getType()) + "\t" + hex(refusal.what());
        } catch (const std::exception &error) {
            answer = "error\t" + hex(error.what());
        }
        std::cout << words[0] << '\t' << answer << std::endl;
    }
}
