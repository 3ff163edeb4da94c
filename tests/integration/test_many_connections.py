"""10,000 connections at once are served, cost little, and the limits on connections hold."""

import resource
import select
import socket
import unittest

import harness

brokers, coordinators, types = harness.generated()

WANTED = 10000


def pull(key="0", offset=0):
    return types.PullRequest(consumer="c", topic="t", key=key, offset=offset, size=1, option=4)


def table_size(server):
    """Of the kernel's table of the server's descriptors."""
    with open(f"/proc/{server.process.pid}/status") as status:
        return int(next(line.split()[1] for line in status if line.startswith("FDSize:")))


class ManyConnections(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard < WANTED + 1000:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (WANTED * 3, WANTED * 3))
            except (ValueError, PermissionError):
                raise unittest.SkipTest(f"the limit of open files is {hard}")
        else:
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def test_ten_thousand(self):
        server = harness.Server().start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t", "--partitions", 1)
        from test_python_thrift import call_bytes

        request = call_bytes("pull", 7, pull())
        before, table = server.rss_bytes(), table_size(server)
        self.assertGreater(table, WANTED)
        connections = []
        self.addCleanup(lambda: [c.close() for c in connections])
        # More than one source address, since one has 28,000 ports at most.
        for i in range(WANTED):
            connection = socket.socket()
            connection.bind((f"127.0.0.{2 + i % 4}", 0))
            connection.connect(("127.0.0.1", server.broker_port))
            connections.append(connection)
        # Each is served: a call on every one, all sent before the first answer is read.
        for connection in connections:
            connection.settimeout(60)
            connection.sendall(request)
        for connection in connections:
            self.assertEqual(connection.recv(4)[:2], b"\x80\x01")
        per_connection = (server.rss_bytes() - before) / WANTED
        print(f"{per_connection:.0f} bytes of resident memory a connection")
        self.assertLess(per_connection, 16384)
        self.assertEqual(table_size(server), table)  # where it grows, the shard that accepts stands still
        with harness.broker(server) as client:
            client.pull(pull())
        self.assertEqual(server.stop(), 0)

    def test_few_descriptors(self):
        """Connections beyond what the system allows are closed on arrival; the logs and the other port still get theirs."""
        server = harness.Server(shards=2)
        server.open_files = 400
        server.start()
        self.addCleanup(server.close)
        self.assertIn("raise it (ulimit -n", server.log_text())
        harness.clymq(server, "topic", "create", "t", "--partitions", 200)
        connections = []
        self.addCleanup(lambda: [c.close() for c in connections])
        with harness.broker(server) as client:
            for round_ in range(3):
                for _ in range(150):
                    connection = socket.create_connection(("127.0.0.1", server.broker_port))
                    connections.append(connection)
                for partition in range(200):
                    answer = client.push(types.PushRequest(
                        producer="p", topic="t", key=str(partition), message=b"m", Ack=-1, Cmdindex=round_))
                    self.assertTrue(answer.ret, answer.err)
            self.assertEqual(len(harness.describe(server, "t")["partitions"]), 200)
            self.assertIn("135 are open", server.log_text())
            for partition in range(0, 200, 10):
                self.assertEqual(client.pull(pull(str(partition), 2)).End_index, 2)
        self.assertEqual(server.stop(), 0)

    def test_limits(self):
        server = harness.Server(max_connections=20, max_connections_per_address=5).start()
        self.addCleanup(server.close)

        def connect(address):
            connection = socket.socket()
            self.addCleanup(connection.close)
            connection.settimeout(20)
            connection.bind((address, 0))
            connection.connect(("127.0.0.1", server.broker_port))
            return connection

        def closed(connection):
            try:
                return connection.recv(1) == b""
            except ConnectionResetError:
                return True

        def without_closed(connections):
            """Those that stay open, once exactly one is closed. Which one may vary: shards decide at their own pace."""
            closed_ones = []
            harness.wait_until(
                lambda: closed_ones.extend(select.select(connections, [], [], 0)[0]) or closed_ones, "one is closed")
            (gone,) = closed_ones
            self.assertTrue(closed(gone))
            return [c for c in connections if c is not gone]

        kept = without_closed([connect("127.0.0.2") for _ in range(6)])
        for address in ("127.0.0.3", "127.0.0.4", "127.0.0.5"):
            kept += [connect(address) for _ in range(5)]
        self.assertTrue(closed(connect("127.0.0.6")), "a twenty-first connection in all")
        self.assertEqual(select.select(kept, [], [], 0)[0], [])
        # Room comes back when one is closed.
        kept.pop(0).close()

        def served_again():
            connection = connect("127.0.0.2")
            connection.settimeout(0.2)
            try:
                return connection.recv(1) != b""
            except ConnectionResetError:
                return False
            except socket.timeout:
                return True

        harness.wait_until(served_again, "a connection is accepted again")


if __name__ == "__main__":
    harness.main()
