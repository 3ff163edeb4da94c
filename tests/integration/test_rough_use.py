"""clymq used roughly: mistakes, odd names and data, much data, full outputs, dead and stopped servers; what it says and its exit code."""

import json
import os
import signal
import socket
import subprocess
import time
import unittest

import harness


class RoughUse(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server(shards=2).start()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, cls.server.log_text()

    def run_(self, *arguments, code=0, **more):
        done = harness.clymq(self.server, *arguments, check=False, **more)
        self.assertEqual(done.returncode, code, (arguments, done.stderr.decode()))
        return done

    def produce(self, topic, data, *flags):
        self.run_("topic", "create", topic, "--partitions", 1)
        self.run_("produce", topic, *flags, stdin=data)

    def consume(self, topic, *flags, **more):
        return self.run_("consume", topic, "--from", "beginning", "--exit-at-end", *flags, **more).stdout

    def test_wrong_usage_is_told(self):
        for arguments, word in (
            ((), "Usage"),
            (("topc", "list"), "topic list"),
            (("topic",), "create"),
            (("topic", "create"), "TOPIC"),
            (("topic", "create", "x", "--partitons", "3"), "--partitions"),
            (("topic", "create", "x", "--partitions", "many"), "many"),
            (("consume", "x", "--from", "yesterday"), "beginning"),
            (("produce", "x", "--ack", "5"), "ack"),
            (("produce", "x", "y"), "y"),
            (("partition", "set", "x", "0"), "--ack"),
            (("topic", "list", "--coordinator", "127.0.0.1:99999"), "HOST:PORT"),
        ):
            done = self.run_(*arguments, code=2)
            self.assertIn(word, done.stderr.decode(), arguments)
            self.assertEqual(done.stdout, b"")

    def test_what_is_not_there_is_told(self):
        self.run_("topic", "create", "there")
        for arguments, words in (
            (("topic", "describe", "nope"), ("nope", "create it first")),
            (("topic", "delete", "nope", "--yes"), ("nope", "clymq topic list")),
            (("topic", "set", "nope", "--retention", "1d"), ("nope", "clymq topic list")),
            (("partition", "create", "nope", "p"), ("topic nope", "create it first")),
            (("partition", "delete", "nope", "p", "--yes"), ("topic nope", "clymq topic list")),
            (("partition", "delete", "there", "nope", "--yes"), ("partition nope of topic there", "clymq topic describe")),
            (("partition", "set", "there", "nope", "--ack", "1"), ("partition nope of topic there", "clymq topic describe")),
            (("partition", "set", "there", "nope", "--replicas", "1"), ("partition nope of topic there", "clymq topic describe")),
            (("topic", "create", "there"), ("already exists",)),
            (("consume", "nope", "--exit-at-end"), ("nope", "create it first")),
            (("produce", "nope"), ("nope", "create it first")),
            (("consume", "there", "--partition", "nope", "--exit-at-end"), ("nope", "create it first")),
            (("produce", "there", "--file", "/nonexistent"), ("/nonexistent", "No such file")),
        ):
            done = self.run_(*arguments, code=1, stdin=b"x\n")
            for word in words:
                self.assertIn(word, done.stderr.decode(), arguments)
            if arguments[1] in ("delete", "set"):
                self.assertNotIn("create", done.stderr.decode(), arguments)
        done = self.run_("topic", "create", "there", code=1)
        self.assertEqual(done.stderr, b"clymq: topic there already exists\n")

    def test_names(self):
        for name in ("with space", "北京", "--dashes", "ü" * 124):
            self.run_("topic", "create", "--", name)
            self.run_("produce", "--partition", "0", "--", name, stdin=name.encode() + b"\n")
            out = self.run_("consume", "--from", "beginning", "--exit-at-end", "--", name).stdout
            self.assertEqual(out.decode(), name + "\n")
        listed = json.loads(self.run_("topic", "list", "--json").stdout)["topics"]
        self.assertTrue({"with space", "北京"} <= {topic["name"] for topic in listed})
        for name in ("", "a/b", "..", "x" * 250):
            self.assertIn("invalid name", self.run_("topic", "create", "--", name, code=1).stderr.decode())

    def test_odd_data(self):
        for at, (data, out) in enumerate((
            (b"", b""),
            (b"no newline at the end", b"no newline at the end\n"),
            (b"\n\n", b"\n\n"),
            (b"\x00\xff\r\n\xc3\x28\n", b"\x00\xff\r\n\xc3\x28\n"),
        )):
            self.produce(f"odd-{at}", data)
            self.assertEqual(self.consume(f"odd-{at}"), out)

    def test_too_big_is_told(self):
        self.run_("topic", "create", "big")
        done = self.run_("produce", "big", stdin=b"x" * (20 << 20), code=1)
        self.assertIn("message 1", done.stderr.decode())

    def test_a_million_lines(self):
        count = 1000000
        data = b"".join(b"%d\n" % i for i in range(count))
        self.run_("topic", "create", "million", "--partitions", 4)
        self.run_("produce", "million", stdin=data)
        out = self.consume("million").split()
        self.assertEqual(len(out), count)
        self.assertEqual(sorted(map(int, out)), list(range(count)))
        # The same for a second consumer; and both at once.
        both = [
            harness.clymq_start(
                self.server, "consume", "million", "--from", "beginning", "--exit-at-end", stdout=subprocess.PIPE)
            for _ in range(2)]
        for consumer in both:
            self.assertEqual(len(consumer.communicate(timeout=120)[0].split()), count)
            self.assertEqual(consumer.returncode, 0)

    def test_full_output_is_told(self):
        self.produce("full", b"some line\n")
        with open("/dev/full", "wb") as full:
            consumer = harness.clymq_start(
                self.server, "consume", "full", "--from", "beginning", "--exit-at-end", stdout=full, stderr=subprocess.PIPE)
            _, stderr = consumer.communicate(timeout=60)
        self.assertEqual(consumer.returncode, 1)
        self.assertIn(b"standard output", stderr)


    def test_partitions_made_while_following(self):
        self.run_("topic", "create", "growing", "--partitions", 0)
        consumer = harness.clymq_start(
            self.server, "consume", "growing", "--count", 3, "--print-partition", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.addCleanup(consumer.kill)
        self.assertIn(b"no partitions yet", consumer.stderr.readline())
        for name in ("first", "second"):
            self.run_("partition", "create", "growing", name)
            self.run_("produce", "growing", "--partition", name, stdin=b"x\n")
            self.assertEqual(consumer.stdout.readline(), name.encode() + b"\tx\n")
        self.run_("produce", "growing", "--partition", "first", stdin=b"y\n")
        self.assertEqual(consumer.stdout.readline(), b"first\ty\n")
        self.assertEqual(consumer.wait(60), 0)
        consumer.stdout.close()
        consumer.stderr.close()
        self.run_("topic", "create", "empty", "--partitions", 0)
        self.assertIn(b"no partitions", self.run_("consume", "empty", "--exit-at-end", code=1).stderr)


class SmallServer(unittest.TestCase):
    def test_batches_too_big_for_the_server(self):
        """The client does not know the server's limit: batches beyond it go in parts, and only what is too big alone fails."""
        server = harness.Server(max_message_bytes="20K").start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t")
        lines = [b"%d %s" % (i, b"x" * (i * 37 % 900)) for i in range(2000)]
        harness.clymq(server, "produce", "t", stdin=b"\n".join(lines))
        out = harness.clymq(server, "consume", "t", "--from", "beginning", "--exit-at-end").stdout
        self.assertEqual(out.splitlines(), lines)
        lines[1000] = b"y" * 30000
        done = harness.clymq(server, "produce", "t", "--json", stdin=b"\n".join(lines), check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"too big", done.stderr)
        out = harness.clymq(server, "consume", "t", "--from", "2000", "--exit-at-end").stdout
        self.assertEqual(out.splitlines(), lines[:1000] + lines[1001:])
        self.assertEqual(server.stop(), 0)


class WithoutServer(unittest.TestCase):
    def command(self, *arguments, address):
        done = subprocess.run(
            [os.path.join(harness.BIN, "clymq"), *arguments, "--coordinator", address, "--timeout", "1s"],
            input=b"x\n", capture_output=True, timeout=60)
        return done.returncode, done.stderr.decode()

    def test_nobody_listens(self):
        address = f"127.0.0.1:{harness.free_port()}"
        for arguments in (("topic", "list"), ("produce", "t"), ("consume", "t")):
            code, stderr = self.command(*arguments, address=address)
            self.assertEqual(code, 1, stderr)
            self.assertIn(address, stderr)
            self.assertIn("clymqd", stderr)

    def test_what_is_waited_for_is_said(self):
        """Nobody wonders at a silent terminal for long, nor waits half a minute for who is not there."""
        address = f"127.0.0.1:{harness.free_port()}"
        for arguments in (("consume", "t", "--partition", "p"), ("consume", "t"), ("topic", "describe", "t"), ("produce", "t"),
                          ("bench", "produce"), ("bench", "consume"), ("bench", "e2e")):
            began = time.monotonic()
            client = subprocess.Popen(
                [os.path.join(harness.BIN, "clymq"), *arguments, "--coordinator", address],
                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            self.addCleanup(client.kill)
            line = client.stderr.readline()
            self.assertIn(b"waiting for a coordinator", line)
            self.assertIn(address.encode(), line)
            if arguments[0] in ("topic", "bench"):
                client.send_signal(signal.SIGINT)
                self.assertEqual(client.wait(60), -signal.SIGINT)
            else:
                self.assertIn(b"cannot connect", client.stderr.read())
                self.assertEqual(client.wait(60), 1)
                self.assertLess(time.monotonic() - began, 20)
            client.stdout.close()
            client.stderr.close()

    def test_bench_says_what_it_waits_for_at_its_end(self):
        server = harness.Server().start()
        self.addCleanup(server.close)
        for command in ("produce", "e2e"):
            bench = harness.clymq_start(server, "bench", command, command, "--rate", "100", "--ack", "1",
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            harness.wait_until(
                lambda: harness.clymq(server, "consume", command, "--from", "beginning", "--exit-at-end", check=False).stdout,
                "messages are sent")
            server.signal(signal.SIGSTOP)
            time.sleep(0.2)  # 20 messages are due meanwhile
            bench.send_signal(signal.SIGINT)
            self.assertIn(b"Ctrl-C once more gives up", bench.stderr.readline())
            bench.send_signal(signal.SIGINT)
            self.assertEqual(bench.wait(60), 130)
            server.signal(signal.SIGCONT)
            bench.stdout.close()
            bench.stderr.close()

    def test_listener_that_never_answers(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"127.0.0.1:{listener.getsockname()[1]}"
            code, stderr = self.command("topic", "list", address=address)
        self.assertEqual(code, 1)
        self.assertIn(address, stderr)

    def test_stopped_server(self):
        """SIGSTOP: the client gives up when told to; after SIGCONT all is as before."""
        server = harness.Server().start()
        self.addCleanup(server.close)
        harness.clymq(server, "topic", "create", "t")
        server.signal(signal.SIGSTOP)
        code, _ = self.command("topic", "list", address=server.coordinator)
        self.assertEqual(code, 1)
        server.signal(signal.SIGCONT)
        harness.clymq(server, "produce", "t", stdin=b"after\n")
        self.assertEqual(
            harness.clymq(server, "consume", "t", "--from", "beginning", "--exit-at-end").stdout, b"after\n")

    def test_help_of_every_command(self):
        program = os.path.join(harness.BIN, "clymq")
        overview = subprocess.run([program, "help"], capture_output=True, timeout=60)
        self.assertEqual(overview.returncode, 0)
        commands = [line[2:21].strip() for line in overview.stdout.decode().splitlines() if line.startswith("  ")]
        self.assertIn("topic create", commands)
        for command in commands:
            for words in (["help", *command.split()], [*command.split(), "--help"]):
                done = subprocess.run([program, *words], capture_output=True, timeout=60)
                self.assertEqual(done.returncode, 0, words)
                self.assertIn(b"Usage: clymq " + command.encode(), done.stdout)
        for group, member in (("topic", b"topic describe "), ("bench", b"bench e2e ")):
            for words in (["help", group], [group, "--help"], [group, "help"]):
                done = subprocess.run([program, *words], capture_output=True, timeout=60)
                self.assertEqual(done.returncode, 0, words)
                self.assertIn(member, done.stdout)
                self.assertEqual(done.stderr, b"")


if __name__ == "__main__":
    harness.main()
