"""What every foreign client must see: each scenario is a function that makes calls through a driver and checks every answer.

A scenario gets a `Driver` (drivers.py) and a name that no other run uses. It returns when all is as the protocol page says and
raises otherwise. Its docstring is its line in the table of docs/interop.md.
"""

import base64
import json
import re
import time

from drivers import Refused

INTERNAL_ERROR, UNKNOWN_METHOD = 6, 1
PTP_PUSH, PTP_PULL, PSB_PUSH, PSB_PULL = 1, 2, 3, 4


def equal(got, wanted, what=""):
    if got != wanted:
        raise AssertionError(f"{what}: {got!r} instead of {wanted!r}" if what else f"{got!r} instead of {wanted!r}")


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def refused(type_, words, call, *arguments, **fields):
    """The call must answer an exception of this type whose sentence has the words."""
    try:
        answer = call(*arguments, **fields)
    except Refused as refusal:
        equal(refusal.type, type_, f"type of the exception \"{refusal.message}\"")
        check(words in refusal.message, f"no \"{words}\" in \"{refusal.message}\"")
        return
    raise AssertionError(f"{fields} was answered {answer} instead of refused")


def make(driver, topic, *partitions):
    check(driver.coordinator("CreateTopic", topic_name=topic)["ret"], "CreateTopic answers false")
    for partition in partitions:
        check(driver.coordinator("CreatePart", topic_name=topic, part_name=partition)["ret"], "CreatePart answers false")
        check(driver.coordinator("ProGetBroker", topic_name=topic, part_name=partition)["ret"], "ProGetBroker answers false")


def push_fields(topic, key, message, ack=-1, **more):
    return dict(producer="interop", topic=topic, key=key, message=message, StartIndex=0, EndIndex=0, Size=0, Ack=ack,
                **{"Cmdindex": 0, **more})


def push(driver, topic, key, message, ack=-1, **more):
    answer = driver.broker("push", **push_fields(topic, key, message, ack, **more))
    equal((answer["ret"], answer["err"]), (True, b""), "push")


def pull(driver, topic, key, offset, size=10, option=PSB_PULL):
    """The entries of one pull, after checking that the answer fits them."""
    answer = driver.broker("pull", consumer="interop", topic=topic, key=key, offset=offset, size=size, option=option)
    entries = json.loads(answer["Msgs"])
    equal((answer["Ret"], answer["Err"]), (True, b"ok"), "pull")
    if not entries:
        equal(answer["Msgs"], b"[]")
        equal((answer["Start_index"], answer["End_index"]), (offset - 1, offset - 1), "indexes of an empty pull")
        return entries
    equal((answer["Start_index"], answer["End_index"]), (entries[0]["index"], entries[-1]["index"]), "indexes")
    check(answer["End_index"] - answer["Start_index"] < 1000, "the span of a pull is 1,000 or more")
    check(len(answer["Msgs"]) <= 1 << 20, "more than 1 MiB of Msgs")
    for entry in entries:
        equal(set(entry), {"index", "size", "topic_name", "part_name", "msg"})
        equal((entry["size"], entry["topic_name"], entry["part_name"]), (0, topic, key))
        entry["msg"] = base64.b64decode(entry["msg"], validate=True)
    return entries


def pull_all(driver, topic, key, count, size=127):
    """All messages, as an original client goes through a partition; waits until there are count of them."""
    offset, messages, end = 0, [], time.monotonic() + 60
    while True:
        entries = pull(driver, topic, key, offset, size)
        messages += [entry["msg"] for entry in entries]
        if entries:
            offset = entries[-1]["index"] + 1
        elif len(messages) >= count:
            return messages
        else:
            check(time.monotonic() < end, f"only {len(messages)} of {count} messages came")


# ---- the scenarios ----


def topics(driver, name):
    """topics and partitions are created; what exists already is `ret=false` with the reason; wrong names are exceptions of type 6"""
    make(driver, name, "xian")
    for method, fields in (("CreateTopic", {"topic_name": name}), ("CreatePart", {"topic_name": name, "part_name": "xian"})):
        answer = driver.coordinator(method, **fields)
        check(answer["ret"] is False and b"exists" in answer["err"], f"{method} again: {answer}")
    for wrong in ("", ".", "..", "a/b", "a\x01b", "x" * 250):
        refused(INTERNAL_ERROR, "name", driver.coordinator, "CreateTopic", topic_name=wrong)
    refused(INTERNAL_ERROR, "unknown topic", driver.coordinator, "CreatePart", topic_name=name + "-no", part_name="p")


def leader(driver, name):
    """SetPartitionState, ProGetBroker and GetNewLeader answer; unknown topics and partitions are exceptions of type 6 with a sentence"""
    make(driver, name, "p")
    check(driver.coordinator("SetPartitionState", topic=name, partition="p", option=-1, dupnum=3)["ret"], "SetPartitionState")
    answer = driver.coordinator("ProGetBroker", topic_name=name, part_name="p")
    equal((answer["ret"], answer["broker_host_port"].decode()), (True, driver.broker_address))
    answer = driver.coordinator("GetNewLeader", TopicName=name, PartName="p", BlockName="")
    equal((answer["Ret"], answer["HostPort"].decode()), (True, driver.broker_address))
    check(answer["LeaderBroker"], "GetNewLeader names no broker")
    refused(INTERNAL_ERROR, "unknown topic", driver.coordinator, "ProGetBroker", topic_name=name + "-no", part_name="p")
    refused(INTERNAL_ERROR, "unknown partition", driver.coordinator, "ProGetBroker", topic_name=name, part_name="no")
    refused(INTERNAL_ERROR, "ack", driver.coordinator, "SetPartitionState", topic=name, partition="p", option=5, dupnum=1)


def acks(driver, name):
    """pushes with ack −1, 1 and 0 are stored; what can never be stored is `ret=false` with a sentence"""
    make(driver, name, "p", "one")
    for ack in (-1, 1, 0):
        push(driver, name, "p", b"ack %d" % ack, ack)
    push(driver, name, "p", b"last")
    messages = pull_all(driver, name, "p", 4)
    equal(sorted(messages), sorted([b"ack -1", b"ack 1", b"ack 0", b"last"]))
    if driver.ordered:
        equal(messages, [b"ack -1", b"ack 1", b"ack 0", b"last"])
    check(driver.coordinator("SetPartitionState", topic=name, partition="one", option=1, dupnum=1)["ret"], "SetPartitionState")
    push(driver, name, "one", b"x", 1)
    for fields, word in ((push_fields(name, "one", b"x", -1), b"ack"), (push_fields(name, "p", b"x", 7), b"ack"),
                         (push_fields(name, "no", b"x"), b"unknown partition"), (push_fields(name + "-no", "p", b"x"), b"unknown topic")):
        answer = driver.broker("push", **fields)
        check(answer["ret"] is False and word in answer["err"], f"push {fields}: {answer}")


def subscribe(driver, name):
    """Sub, ConStartGetBroker and StarttoGet with option 4 (PSB_PULL) answer as a consumer's start needs it"""
    make(driver, name, "p")
    check(driver.coordinator("Sub", consumer="c", topic=name, key="p", option=PSB_PULL)["ret"], "Sub answers false")
    answer = driver.coordinator("ConStartGetBroker", cli_name="c", topic_name=name, part_name="p", option=PSB_PULL, index=7)
    check(answer["ret"], "ConStartGetBroker answers false")
    (part,) = json.loads(answer["parts"])["partkeys"]
    equal(set(part), {"name", "brokername", "brokerhp", "offset", "err"})
    equal((part["name"], part["brokerhp"], part["offset"], part["err"]), ("p", driver.broker_address, 7, "ok"))
    check(re.fullmatch(r"\S+@" + re.escape(driver.broker_address), part["brokername"]), f"brokername {part['brokername']}")
    answer = driver.broker("StarttoGet", cli_name="c", topic_name=name, part_name="p", offset=0, option=PSB_PULL)
    check(answer["ret"], "StarttoGet answers false")
    refused(INTERNAL_ERROR, "unknown topic", driver.coordinator, "ConStartGetBroker", cli_name="c", topic_name=name + "-no",
            part_name="p", option=PSB_PULL, index=0)
    refused(INTERNAL_ERROR, "unknown partition", driver.broker, "StarttoGet", cli_name="c", topic_name=name, part_name="no",
            offset=0, option=PSB_PULL)


def push_mode(driver, name):
    """options 1–3 and ConInfo answer an exception of type 6 that says that subscriptions are not there yet"""
    make(driver, name, "p")
    for option in (PTP_PUSH, PTP_PULL, PSB_PUSH):
        refused(INTERNAL_ERROR, "subscriptions", driver.coordinator, "Sub", consumer="c", topic=name, key="p", option=option)
        refused(INTERNAL_ERROR, "subscriptions", driver.coordinator, "ConStartGetBroker", cli_name="c", topic_name=name,
                part_name="p", option=option, index=0)
        refused(INTERNAL_ERROR, "subscriptions", driver.broker, "StarttoGet", cli_name="c", topic_name=name, part_name="p",
                offset=0, option=option)
        refused(INTERNAL_ERROR, "subscriptions", driver.broker, "pull", consumer="c", topic=name, key="p", offset=0, size=1,
                option=option)
    refused(INTERNAL_ERROR, "subscriptions", driver.broker, "ConInfo", ip_port=":7881")


def windows(driver, name):
    """pull gives any window, 10 messages where size is 0 or less, never more than 127, nothing at the end, an exception past it, the first messages before the beginning"""
    make(driver, name, "p")
    wanted = [b"message %d" % i for i in range(200)]
    for message in wanted:
        push(driver, name, "p", message, 1)
    push(driver, name, "p", b"durable")
    wanted.append(b"durable")
    for offset, size, count in ((0, 1, 1), (2, 1, 1), (0, 0, 10), (5, -1, 10), (0, 127, 127), (150, 127, 51), (200, 5, 1), (201, 5, 0)):
        entries = pull(driver, name, "p", offset, size)
        equal([entry["msg"] for entry in entries], wanted[offset:offset + count], f"pull({offset}, {size})")
        equal([entry["index"] for entry in entries], list(range(offset, offset + count)))
    equal(pull_all(driver, name, "p", 201, 9), wanted)
    # Before the beginning nothing is stored (any more): the first message that is.
    equal([entry["index"] for entry in pull(driver, name, "p", -5, 2)], [0, 1])
    refused(INTERNAL_ERROR, "1000", driver.broker, "pull", consumer="c", topic=name, key="p", offset=1000, size=1, option=PSB_PULL)
    for topic, key, words in ((name, "no", "unknown partition"), (name + "-no", "p", "unknown topic")):
        refused(INTERNAL_ERROR, words, driver.broker, "pull", consumer="c", topic=topic, key=key, offset=0, size=1, option=PSB_PULL)


def gaps(driver, name):
    """where offsets have a gap, pull answers from the next message that there is, with its true indexes"""
    make(driver, name, "p")
    for i in range(3):
        push(driver, name, "p", b"before %d" % i, session=4711, Cmdindex=i)
    # The next block begins with a control batch, which takes offsets and is no message.
    check(driver.coordinator("SetPartitionState", topic=name, partition="p", option=1, dupnum=1)["ret"], "SetPartitionState")
    for i in range(3):
        push(driver, name, "p", b"after %d" % i, 1)
    wanted = [b"before %d" % i for i in range(3)] + [b"after %d" % i for i in range(3)]
    equal(pull_all(driver, name, "p", 6), wanted)
    entries = pull(driver, name, "p", 0, 127)
    indexes = [entry["index"] for entry in entries]
    check(len(entries) == 6 and indexes[:3] == [0, 1, 2] and indexes[3] > 3, f"there is no gap: {indexes}")
    equal(pull(driver, name, "p", 3, 1)[0], entries[3], "the pull in the gap")


def payloads(driver, name):
    """messages of any bytes, empty ones, and long ones come back as they were; one answer holds at most 1 MiB"""
    make(driver, name, "p")
    wanted = [bytes(range(256)), b"", b"\x00", b"\xff\xfe not text", "你好 🚀".encode(), b"x" * 300000, bytes(range(256)) * 2000]
    wanted += [b"%d" % i + b"y" * 100000 for i in range(12)]
    for message in wanted:
        push(driver, name, "p", message)
    equal(pull_all(driver, name, "p", len(wanted)), wanted)


def names(driver, name):
    """names in any language, such as topic 手机, partition 北京"""
    topic = "手机-" + name
    make(driver, topic, "北京", "西 安")
    for partition in ("北京", "西 安"):
        push(driver, topic, partition, partition.encode())
        equal([entry["msg"].decode() for entry in pull(driver, topic, partition, 0)], [partition])
    parts = driver.coordinator("ConStartGetBroker", cli_name="消费者", topic_name=topic, part_name="北京", option=PSB_PULL, index=0)
    equal(json.loads(parts["parts"])["partkeys"][0]["name"], "北京")
    answer = driver.broker("push", **push_fields(topic, "上海", b"x"))
    check(answer["ret"] is False and answer["err"].decode(), f"push to an unknown partition: {answer}")
    refused(INTERNAL_ERROR, "", driver.coordinator, "ProGetBroker", topic_name=topic, part_name="上海")


def unknown(driver, name):
    """an unknown method is an exception of type 1, and the connection goes on"""
    for _ in range(3):
        refused(UNKNOWN_METHOD, "CreateTopic", driver.stranger, "CreateTopic", topic_name=name)
    make(driver, name, "p")
    push(driver, name, "p", b"x")


def sessions(driver, name):
    """a push repeated with `session` is stored once; without it Cmdindex is no identity"""
    make(driver, name, "p", "q")
    for i in (0, 1, 1, 0, 2, 2):
        push(driver, name, "p", b"%d" % i, session=99, Cmdindex=i)
        push(driver, name, "q", b"%d" % i, Cmdindex=i)
    equal(pull_all(driver, name, "p", 3), [b"0", b"1", b"2"])
    equal(pull_all(driver, name, "q", 6), [b"0", b"1", b"1", b"0", b"2", b"2"])


def batches(driver, name):
    """pullBatch, pushBatch and listOffset: batches go from one partition to another as they are"""
    make(driver, name, "from", "to")
    for i in range(5):
        push(driver, name, "from", b"%d" % i)
    answer = driver.broker("pullBatch", topic=name, partition="from", offset=0, max_bytes=1 << 20, min_bytes=1, wait_ms=1000)
    equal((answer["error"], answer["log_start"], answer["high_watermark"]), (0, 0, 5))
    rest, at = answer["batches"], 0
    while at < len(rest):
        size = 12 + int.from_bytes(rest[at + 8:at + 12], "big")
        pushed = driver.broker("pushBatch", topic=name, partition="to", ack=-1, batch=rest[at:at + size])
        equal((pushed["error"], pushed["duplicate"]), (0, False), f"pushBatch {pushed}")
        at += size
    equal(pull_all(driver, name, "to", 5), [b"%d" % i for i in range(5)])
    for timestamp, offset in ((-1, 5), (-2, 0), (1, 0)):
        equal(driver.broker("listOffset", topic=name, partition="to", timestamp_ms=timestamp)["offset"], offset, "listOffset")
    broken = bytearray(rest[:12 + int.from_bytes(rest[8:12], "big")])
    broken[-1] ^= 1
    answer = driver.broker("pushBatch", topic=name, partition="to", ack=-1, batch=bytes(broken))
    check(answer["error"] < 0 and answer["err"], f"a broken batch is answered {answer}")
    answer = driver.broker("pullBatch", topic=name, partition="no", offset=0, max_bytes=1000, min_bytes=0, wait_ms=0)
    check(answer["error"] < 0 and b"unknown partition" in answer["err"], f"{answer}")


def admin(driver, name):
    """listTopics, describeTopic, setTopicConfig, deletePart and deleteTopic"""
    check(driver.coordinator("CreateTopic", topic_name=name, partitions=3, ack=-1, config='{"retention_ms":86400000}')["ret"], "CreateTopic")
    answer = driver.coordinator("describeTopic", topic=name)
    equal((answer["error"], answer["err"]), (0, b""))
    equal(len(json.loads(answer["topic"])["partitions"]), 3)
    check(name.encode() in driver.coordinator("listTopics", prefix=name)["topics"], "listTopics does not list it")
    equal(driver.coordinator("setTopicConfig", topic=name, config='{"retention_bytes":1000000}')["error"], 0)
    config = json.loads(driver.coordinator("describeTopic", topic=name)["topic"])["config"]
    equal((config["retention_ms"], config["retention_bytes"]), (86400000, 1000000))
    answer = driver.coordinator("setTopicConfig", topic=name, config='{"retention":1}')
    check(answer["error"] < 0 and b"retention" in answer["err"], f"{answer}")
    equal(driver.coordinator("deletePart", topic=name, partition="1")["error"], 0)
    equal(len(json.loads(driver.coordinator("describeTopic", topic=name)["topic"])["partitions"]), 2)
    equal(driver.coordinator("deleteTopic", topic=name)["error"], 0)
    answer = driver.coordinator("describeTopic", topic=name)
    check(answer["error"] < 0 and b"unknown topic" in answer["err"], f"{answer}")
    check(driver.coordinator("CreateTopic", topic_name=name)["ret"], "a deleted topic can be created again")


def many(driver, name):
    """500 pushes in flight at once, where the client can: each answered, each stored once, in order where the client keeps one"""
    make(driver, name, "p")
    wanted = [b"%d" % i for i in range(500)]
    calls = [("broker", "push", push_fields(name, "p", message, -1 if int(message) % 3 else 1)) for message in wanted]
    for answer in driver.call_all(calls):
        equal((answer["ret"], answer["err"]), (True, b""))
    messages = pull_all(driver, name, "p", 500)
    equal(sorted(messages), sorted(wanted))
    if driver.ordered:
        equal(messages, wanted)
    pulls = [("broker", "pull", dict(consumer="c", topic=name, key="p", offset=i, size=1, option=PSB_PULL)) for i in range(500)]
    for i, answer in enumerate(driver.call_all(pulls)):
        equal((answer["Start_index"], json.loads(answer["Msgs"])[0]["index"]), (i, i))


SCENARIOS = (topics, leader, acks, subscribe, push_mode, windows, gaps, payloads, names, unknown, sessions, batches, admin, many)
