"""Slow, half-open, flooding and lying clients: the well-behaved one beside them is served, and memory stays bounded."""

import os
import random
import socket
import struct
import threading
import unittest

import harness

brokers, coordinators, types = harness.generated()
from test_python_thrift import call_bytes, push  # noqa: E402


class Hostile(unittest.TestCase):
    def setUp(self):
        self.server = harness.Server(
            shards=2, receive_ms="2s", send_ms="2s", max_message_bytes="4M", max_inflight_bytes="32M").start()
        self.addCleanup(self.server.close)
        with harness.coordinator(self.server) as zk:
            zk.CreateTopic(types.CreateTopicRequest(topic_name="t"))
            harness.create_partition(zk, "t", "p")

    def connect(self, port=None):
        connection = socket.create_connection(("127.0.0.1", port or self.server.broker_port))
        connection.settimeout(30)
        self.addCleanup(connection.close)
        return connection

    def behaves(self, calls=50):
        with harness.broker(self.server) as client:
            for i in range(calls):
                self.assertTrue(client.push(push("t", "p", b"good %d" % i)).ret)

    def ends(self, connection):
        """The server closes it (after whatever it says)."""
        try:
            while connection.recv(65536):
                pass
        except ConnectionResetError:
            pass

    def test_half_a_message_is_cut_off(self):
        """A message that never ends, in every form, is closed after receive_ms; others are served meanwhile."""
        body = call_bytes("push", 1, push("t", "p", b"x" * 100))
        beginnings = [
            body[:40],
            struct.pack(">i", len(body)) + body[:20],
            struct.pack(">IHHiH", 200, 0x1000, 0, 1, 2) + b"\0",
            b"\x82\x21\x01\x04push",
            struct.pack(">i", 50) + b"\x82\x21",
            body[:3],
        ]
        connections = [self.connect() for _ in beginnings]
        for connection, beginning in zip(connections, beginnings):
            connection.sendall(beginning)
        self.behaves()
        for connection in connections:
            self.ends(connection)

    def test_lengths_are_not_believed(self):
        """Announced gigabytes cost nothing and are refused."""
        before = self.server.rss_bytes()
        lies = [
            struct.pack(">iI", 0x3FFFFFFF, 0x80010001),
            struct.pack(">I", 0x80010001) + struct.pack(">i", 0x7FFFFFFF) + b"push",
            call_bytes("push", 1, push("t", "p", b"x")).replace(struct.pack(">i", 1) + b"x", struct.pack(">i", 0x7FFFFFF0) + b"x"),
            struct.pack(">I", 0x80010001) + struct.pack(">i", -5),
        ]
        for lie in lies * 50:
            connection = self.connect()
            connection.sendall(lie)
        self.behaves()
        self.assertLess(self.server.rss_bytes() - before, 32 << 20)

    def test_garbage_is_closed(self):
        rng = random.Random(7)
        for _ in range(100):
            connection = self.connect(rng.choice([self.server.broker_port, self.server.coordinator_port]))
            try:
                connection.sendall(b"\xff" + rng.randbytes(rng.randrange(8, 300)))
            except OSError:
                pass
            self.ends(connection)
        self.behaves()

    def test_never_reading_client_is_bounded(self):
        """It asks for much and reads nothing: the server stops reading from it, then closes it."""
        with harness.broker(self.server) as client:
            for i in range(100):
                client.push(push("t", "p", b"%d" % i + b"y" * 50000, ack=1))
            self.assertTrue(client.push(push("t", "p", b"last")).ret)
        before = self.server.rss_bytes()
        request = call_bytes(
            "pull", 1, types.PullRequest(consumer="c", topic="t", key="p", offset=0, size=100, option=4))
        connection = self.connect()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        closed = threading.Event()

        def flood():
            try:
                while True:
                    connection.sendall(request * 100)
            except OSError:
                closed.set()

        flooder = threading.Thread(target=flood, daemon=True)
        flooder.start()
        self.behaves(200)
        self.assertTrue(closed.wait(60), "it is closed for not reading")
        self.assertLess(self.server.rss_bytes() - before, 128 << 20)
        self.behaves()

    def test_flood_of_pushes_is_bounded(self):
        """Several clients push as fast as they can without reading answers until the end."""
        before = self.server.rss_bytes()
        message = call_bytes("push", 1, push("t", "p", b"z" * 10000, ack=1))
        done = []

        def flood():
            connection = self.connect()

            def drain():
                try:
                    while connection.recv(65536):
                        pass
                except OSError:
                    pass

            reader = threading.Thread(target=drain, daemon=True)
            reader.start()
            for _ in range(50):
                connection.sendall(message * 20)
            done.append(True)

        threads = [threading.Thread(target=flood, daemon=True) for _ in range(6)]
        for thread in threads:
            thread.start()
        self.behaves()
        for thread in threads:
            thread.join(60)
        self.assertEqual(len(done), 6)
        self.assertLess(self.server.rss_bytes() - before, 160 << 20)

    def test_mutated_messages(self):
        """Valid calls with flipped bytes: closed or answered, never a crash. SEED changes the run."""
        seed = int(os.environ.get("SEED", "20261122"))
        rng = random.Random(seed)
        original = call_bytes("push", 1, push("t", "p", b"mutant", session=5))
        for _ in range(400):
            mutated = bytearray(original)
            for _ in range(rng.randrange(1, 6)):
                mutated[rng.randrange(len(mutated))] = rng.randrange(256)
            connection = self.connect()
            try:
                connection.sendall(mutated)
                connection.shutdown(socket.SHUT_WR)
                self.ends(connection)
            except OSError:
                pass
            connection.close()
        self.behaves()


if __name__ == "__main__":
    harness.main()
