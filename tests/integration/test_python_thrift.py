"""Apache Thrift in Python as a foreign client: every method, in every form that it can send, each answer checked."""

import base64
import json
import socket
import struct
import time
import unittest

import harness

brokers, coordinators, types = harness.generated()
from thrift.Thrift import TApplicationException, TMessageType, TType  # noqa: E402
from thrift.protocol import TBinaryProtocol  # noqa: E402
from thrift.transport import TTransport  # noqa: E402

PTP_PUSH, PTP_PULL, PSB_PUSH, PSB_PULL = 1, 2, 3, 4


def push(topic, key, message, ack=-1, **fields):
    return types.PushRequest(
        producer="tester", topic=topic, key=key, message=message, StartIndex=0, EndIndex=0, Size=0, Ack=ack,
        Cmdindex=fields.pop("Cmdindex", 0), **fields)


def pull(topic, key, offset, size=10, option=PSB_PULL):
    return types.PullRequest(consumer="tester", topic=topic, key=key, offset=offset, size=size, option=option)


def messages(answer):
    return [base64.b64decode(entry["msg"]) for entry in json.loads(answer.Msgs)]


class EveryForm(unittest.TestCase):
    """The original client's way through the methods, once per form."""

    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(shards=2).start()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log_text()

    def go_through(self, name, **form):
        topic = "topic-" + name
        with harness.coordinator(self.server, **form) as zk, harness.broker(self.server, **form) as server:
            self.assertTrue(zk.CreateTopic(types.CreateTopicRequest(topic_name=topic)).ret)
            again = zk.CreateTopic(types.CreateTopicRequest(topic_name=topic))
            self.assertFalse(again.ret)
            self.assertTrue(again.err)
            self.assertTrue(zk.CreatePart(types.CreatePartRequest(topic_name=topic, part_name="xian")).ret)
            again = zk.CreatePart(types.CreatePartRequest(topic_name=topic, part_name="xian"))
            self.assertFalse(again.ret)
            self.assertTrue(
                zk.SetPartitionState(
                    types.SetPartitionStateRequest(topic=topic, partition="xian", option=-1, dupnum=3)).ret)
            where = zk.ProGetBroker(types.ProGetBrokRequest(topic_name=topic, part_name="xian"))
            self.assertTrue(where.ret)
            self.assertEqual(where.broker_host_port, f"127.0.0.1:{self.server.broker_port}")

            for ack in (-1, 1, 0):
                answer = server.push(push(topic, "xian", b"ack %d" % ack, ack))
                self.assertTrue(answer.ret, answer.err)
            # Ack 0 is answered on receipt: a later push at -1 on the same connection is stored behind it.
            self.assertTrue(server.push(push(topic, "xian", b"\x00binary\xff")).ret)

            parts = zk.ConStartGetBroker(
                types.ConStartGetBrokRequest(cli_name="c", topic_name=topic, part_name="xian", option=PSB_PULL, index=0))
            self.assertTrue(parts.ret)
            (part,) = json.loads(parts.parts)["partkeys"]
            self.assertEqual(part["name"], "xian")
            self.assertEqual(part["err"], "ok")
            self.assertEqual(part["brokerhp"], where.broker_host_port)
            self.assertTrue(part["brokername"].endswith("@" + where.broker_host_port), part)

            answer = server.pull(pull(topic, "xian", 0))
            self.assertEqual(messages(answer), [b"ack -1", b"ack 1", b"ack 0", b"\x00binary\xff"])
            self.assertEqual((answer.Start_index, answer.End_index), (0, 3))
            first = json.loads(answer.Msgs)[0]
            self.assertEqual((first["topic_name"], first["part_name"], first["size"]), (topic, "xian", 0))
            answer = server.pull(pull(topic, "xian", 2, size=1))
            self.assertEqual(messages(answer), [b"ack 0"])
            self.assertEqual((answer.Start_index, answer.End_index), (2, 2))
            answer = server.pull(pull(topic, "xian", 4))
            self.assertEqual(json.loads(answer.Msgs), [])
            self.assertEqual((answer.Start_index, answer.End_index, answer.Err), (3, 3, "ok"))

    def test_unframed(self):
        self.go_through("unframed")

    def test_framed(self):
        self.go_through("framed", framed=True)

    def test_compact(self):
        self.go_through("compact", compact=True)

    def test_compact_framed(self):
        self.go_through("compact-framed", compact=True, framed=True)

    def test_chinese_names(self):
        with harness.coordinator(self.server) as zk, harness.broker(self.server) as server:
            self.assertTrue(zk.CreateTopic(types.CreateTopicRequest(topic_name="phone")).ret)
            harness.create_partition(zk, "phone", "北京")
            self.assertTrue(server.push(push("phone", "北京", "你好".encode())).ret)
            self.assertEqual(messages(server.pull(pull("phone", "北京", 0))), ["你好".encode()])


class Failures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(shards=2, push_wait_ms="500ms").start()
        with harness.coordinator(cls.server) as zk:
            zk.CreateTopic(types.CreateTopicRequest(topic_name="t"))
            for name in ("p", "one"):
                harness.create_partition(zk, "t", name)
            zk.SetPartitionState(types.SetPartitionStateRequest(topic="t", partition="one", option=1, dupnum=1))

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log_text()

    def refused(self, call, *words, type_=TApplicationException.INTERNAL_ERROR):
        with self.assertRaises(TApplicationException) as raised:
            call()
        self.assertEqual(raised.exception.type, type_)
        for word in words:
            self.assertIn(word, str(raised.exception.message))

    def test_coordinator_failures_are_exceptions(self):
        with harness.coordinator(self.server) as zk:
            for name in ("", ".", "..", "a/b", "a\x01b", "x" * 250):
                self.refused(lambda: zk.CreateTopic(types.CreateTopicRequest(topic_name=name)), "name")
            self.refused(lambda: zk.CreatePart(types.CreatePartRequest(topic_name="nope", part_name="p")), "topic")
            self.refused(lambda: zk.ProGetBroker(types.ProGetBrokRequest(topic_name="t", part_name="nope")), "partition")
            self.refused(
                lambda: zk.SetPartitionState(types.SetPartitionStateRequest(topic="t", partition="p", option=5, dupnum=1)))
            for option in (PTP_PUSH, PTP_PULL, PSB_PUSH):
                self.refused(
                    lambda: zk.ConStartGetBroker(
                        types.ConStartGetBrokRequest(cli_name="c", topic_name="t", part_name="p", option=option, index=0)),
                    "subscription")

    def test_pull_failures_are_exceptions(self):
        with harness.broker(self.server) as server:
            self.refused(lambda: server.pull(pull("t", "nope", 0)), "partition")
            self.refused(lambda: server.pull(pull("t", "p", 1000)), "1000")
            for option in (PTP_PUSH, PTP_PULL, PSB_PUSH):
                self.refused(lambda: server.pull(pull("t", "p", 0, option=option)), "subscription")

    def test_push_refusals_are_answers(self):
        with harness.broker(self.server) as server:
            for request, word in (
                (push("t", "one", b"x", ack=-1), "ack"),
                (push("t", "p", b"x", ack=7), "ack"),
                (push("t", "nope", b"x"), "partition"),
            ):
                answer = server.push(request)
                self.assertFalse(answer.ret)
                self.assertIn(word, answer.err)
                self.assertNotEqual(answer.err, "partition remove")

    def test_half_closed(self):
        """A client that closes its sending direction gets what it asked for, a wait for data at once."""
        for form in ({}, {"framed": True}, {"compact": True}):
            with harness.broker(self.server, **form) as server:
                for _ in range(20):
                    server.client.send_push(push("t", "p", b"before the end"))
                server.client.send_pullBatch(
                    types.PullBatchRequest(topic="t", partition="p", offset=1 << 40, max_bytes=1, min_bytes=1, wait_ms=50000))
                began = time.monotonic()
                server.client.send_pullBatch(
                    types.PullBatchRequest(
                        topic="t", partition="one", offset=0, max_bytes=1000, min_bytes=1, wait_ms=50000))
                stream = server.transport._TFramedTransport__trans if form.get("framed") else server.transport._TBufferedTransport__trans
                stream.handle.shutdown(socket.SHUT_WR)
                for _ in range(20):
                    self.assertTrue(server.client.recv_push().ret)
                self.assertNotEqual(server.client.recv_pullBatch().error, 0)
                answer = server.client.recv_pullBatch()
                self.assertEqual((answer.error, answer.batches, answer.high_watermark), (0, b"", 0))
                self.assertLess(time.monotonic() - began, 30)
                self.assertEqual(stream.handle.recv(1), b"")

    def test_exceptions_have_numbers(self):
        """Field 20 of the exception, which Thrift's own class skips: seen in the bytes."""
        with socket.create_connection(("127.0.0.1", self.server.broker_port)) as stream:
            stream.settimeout(60)
            body = call_bytes("pull", 5, pull("t", "p", 1000))
            stream.sendall(struct.pack(">i", len(body)) + body)
            stream.shutdown(socket.SHUT_WR)
            answer = b"".join(iter(lambda: stream.recv(4096), b""))
        self.assertIn(struct.pack(">BhiBhiB", TType.I32, 2, 6, TType.I32, 20, -25, TType.STOP), answer)

    def test_unknown_method(self):
        with harness.broker(self.server) as server:
            server.client._oprot.writeMessageBegin("BecomeLeader", 1, 9)
            server.client._oprot.writeStructBegin("args")
            server.client._oprot.writeFieldStop()
            server.client._oprot.writeStructEnd()
            server.client._oprot.writeMessageEnd()
            server.transport.flush()
            self.refused(lambda: server.client.recv_push(), type_=TApplicationException.UNKNOWN_METHOD)

    def test_malformed_arguments_are_told(self):
        """A frame that ends inside its arguments: exception 7, and the connection goes on."""
        with harness.broker(self.server, framed=True) as server:
            protocol = server.client._oprot
            protocol.writeMessageBegin("push", TMessageType.CALL, 9)
            protocol.writeStructBegin("args")
            protocol.writeFieldBegin("req", TType.STRUCT, 1)
            protocol.writeFieldBegin("message", TType.STRING, 4)
            protocol.writeI32(1000)
            server.transport.flush()
            with self.assertRaises(TApplicationException) as raised:
                server.client.recv_push()
            self.assertEqual(raised.exception.type, TApplicationException.PROTOCOL_ERROR)
            self.assertTrue(server.push(push("t", "p", b"goes on")).ret)

    def test_oversized_message_is_told(self):
        with harness.broker(self.server, framed=True) as server:
            with self.assertRaises(TApplicationException) as raised:
                server.push(push("t", "p", b"x" * (17 << 20)))
            self.assertIn("max_message_bytes", str(raised.exception.message))
        with harness.broker(self.server) as server:
            self.assertTrue(server.push(push("t", "p", b"still serving")).ret)

    def test_repeats_are_known_by_session_alone(self):
        with harness.coordinator(self.server) as zk, harness.broker(self.server) as server:
            harness.create_partition(zk, "t", "sessions")
            for _ in range(2):
                self.assertTrue(server.push(push("t", "sessions", b"stored twice", Cmdindex=1)).ret)
            for _ in range(2):
                self.assertTrue(server.push(push("t", "sessions", b"stored once", Cmdindex=1, session=4711)).ret)
            self.assertTrue(server.push(push("t", "sessions", b"another session", Cmdindex=1, session=4712)).ret)
            self.assertEqual(
                messages(server.pull(pull("t", "sessions", 0))),
                [b"stored twice", b"stored twice", b"stored once", b"another session"])

    def test_a_changed_partition_goes_on(self):
        """SetPartitionState on a partition with data seals its block and opens the next: a gap, nothing lost."""
        with harness.coordinator(self.server) as zk, harness.broker(self.server) as server:
            harness.create_partition(zk, "t", "changed")
            self.assertTrue(server.push(push("t", "changed", b"before", session=1, Cmdindex=1)).ret)
            self.assertTrue(
                zk.SetPartitionState(types.SetPartitionStateRequest(topic="t", partition="changed", option=1, dupnum=1)).ret)
            self.assertTrue(server.push(push("t", "changed", b"after", ack=1)).ret)
            self.assertTrue(server.push(push("t", "changed", b"before", ack=1, session=1, Cmdindex=1)).ret)
            answer = server.push(push("t", "changed", b"refused", ack=-1))
            self.assertFalse(answer.ret)

            def everything():
                return messages(server.pull(pull("t", "changed", 0))) == [b"before", b"after"]

            # Level 1 answers before the commit, and only what is committed is shown.
            harness.wait_until(everything, "both messages are committed")


def call_bytes(method, sequence, request):
    memory = TTransport.TMemoryBuffer()
    protocol = TBinaryProtocol.TBinaryProtocol(memory)
    protocol.writeMessageBegin(method, 1, sequence)
    protocol.writeStructBegin("args")
    protocol.writeFieldBegin("req", 12, 1)
    request.write(protocol)
    protocol.writeFieldEnd()
    protocol.writeFieldStop()
    protocol.writeStructEnd()
    protocol.writeMessageEnd()
    return memory.getvalue()


class Pipelined(unittest.TestCase):
    """Many calls written before the first answer is read, as Node's client does; answers come in order."""

    def setUp(self):
        self.server = harness.Server(shards=2).start()
        self.addCleanup(self.server.close)
        with harness.coordinator(self.server) as zk:
            zk.CreateTopic(types.CreateTopicRequest(topic_name="t"))
            for name in "abcd":
                harness.create_partition(zk, "t", name)

    def pipeline(self, framed):
        count = 2000
        with socket.create_connection(("127.0.0.1", self.server.broker_port)) as stream:
            stream.settimeout(60)
            out = bytearray()
            for i in range(count):
                # Different partitions live on different shards: their answers become ready in another order.
                body = call_bytes("push", i, push("t", "abcd"[i % 4], b"message %d" % i, ack=(-1, 1, 0)[i % 3]))
                out += (struct.pack(">i", len(body)) if framed else b"") + body
            stream.sendall(out)
            # Unbuffered: it gives what has arrived instead of waiting for as much as was asked for.
            answers = TTransport.TFileObjectTransport(stream.makefile("rb", buffering=0))
            reader = (TTransport.TFramedTransport if framed else TTransport.TBufferedTransport)(answers)
            protocol = TBinaryProtocol.TBinaryProtocol(reader)
            for i in range(count):
                name, kind, sequence = protocol.readMessageBegin()
                self.assertEqual((name, kind, sequence), ("push", 2, i))
                result = brokers.push_result()
                result.read(protocol)
                protocol.readMessageEnd()
                self.assertTrue(result.success.ret, result.success.err)
        with harness.broker(self.server) as server:
            for at, name in enumerate("abcd"):
                expected = [b"message %d" % i for i in range(at, count, 4)]

                def everything():
                    found = []
                    while len(found) < len(expected):
                        answer = server.pull(pull("t", name, len(found), size=127))
                        if not messages(answer):
                            return False
                        found += messages(answer)
                    self.assertEqual(found, expected)
                    return True

                harness.wait_until(everything, "all messages are committed")

    def test_unframed(self):
        self.pipeline(framed=False)

    def test_framed(self):
        self.pipeline(framed=True)


if __name__ == "__main__":
    harness.main()
