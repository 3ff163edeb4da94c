"""The commands of clymq against a real server: every option of topic, partition, produce, consume and bench, and how they end."""

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import unittest

import harness

RECORD_WORDS = [b"plain", b"", b"with\0nul", b"\xff\xfe not text", "北京".encode(), b"tab\there", b'quote " and \\']


def takes_interrupts(pid):
    with open(f"/proc/{pid}/status") as file:
        caught = [line.split()[1] for line in file if line.startswith("SigCgt:")]
    return caught and int(caught[0], 16) & 1 << (signal.SIGINT - 1)


class CommandLine(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = harness.Server().start()
        cls.count = 0

    @classmethod
    def tearDownClass(cls):
        cls.server.close()

    def clymq(self, *arguments, **more):
        return harness.clymq(self.server, *arguments, **more)

    def topic(self, partitions=1, **options):
        CommandLine.count += 1
        name = f"topic-{CommandLine.count}"
        flags = [word for key, value in options.items() for word in ("--" + key, str(value))]
        self.clymq("topic", "create", name, "--partitions", partitions, *flags)
        return name

    def read(self, topic, *flags):
        return self.clymq("consume", topic, "--from", "beginning", "--exit-at-end", *flags).stdout

    def test_topics(self):
        name = self.topic(partitions=3)
        again = self.clymq("topic", "create", name, check=False)
        self.assertEqual(again.returncode, 1)
        self.assertIn(b"already exists", again.stderr)
        self.assertIn(f"{name}\t3\n".encode(), self.clymq("topic", "list").stdout)
        self.assertEqual(self.clymq("topic", "list", "no-such").stdout, b"")
        topics = json.loads(self.clymq("topic", "list", name, "--json").stdout)["topics"]
        self.assertEqual([(topic["name"], topic["partitions"]) for topic in topics], [(name, 3)])
        self.clymq("partition", "create", name, "north")
        described = json.loads(self.clymq("topic", "describe", name, "--json").stdout)
        self.assertEqual([p["name"] for p in described["partitions"]], ["0", "1", "2", "north"])
        text = self.clymq("topic", "describe", name).stdout.decode()
        self.assertIn("north", text)
        self.clymq("partition", "set", name, "north", "--ack", "1")
        described = json.loads(self.clymq("topic", "describe", name, "--json").stdout)
        self.assertEqual(described["partitions"][3]["ack"], 1)
        self.clymq("partition", "delete", name, "north", "--yes")
        self.assertEqual(json.loads(self.clymq("topic", "delete", name, "--yes", "--json").stdout),
                         {"topic": name, "deleted": True})
        gone = self.clymq("topic", "describe", name, check=False)
        self.assertEqual(gone.returncode, 1)
        self.assertIn(b"unknown topic", gone.stderr)

    def test_any_bytes(self):
        name = self.topic()
        self.clymq("produce", name, stdin=b"\n".join(RECORD_WORDS))
        self.assertEqual(self.read(name), b"\n".join(RECORD_WORDS) + b"\n")
        self.assertEqual(self.read(name, "--format", "hex").split(b"\n")[2], b"with\0nul".hex().encode())
        lines = [json.loads(line) for line in self.read(name, "--json").splitlines()]
        self.assertEqual([line["offset"] for line in lines], sorted(line["offset"] for line in lines))
        self.assertEqual(lines[0]["value"], "plain")
        self.assertEqual(lines[1]["value"], "")
        self.assertNotIn("value", lines[3])
        self.assertEqual(lines[4]["value"], "北京")
        self.assertEqual(lines[6]["value"], 'quote " and \\')
        self.assertEqual(self.read(name, "--format", "none"), b"")

    def test_whole_file(self):
        name = self.topic()
        data = os.urandom(3_000_000)
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            self.clymq("produce", name, "--file", file.name, "--whole-file", "--header", "a=1", "--header=b=2=3")
        self.assertEqual(self.read(name), data + b"\n")
        line = json.loads(self.read(name, "--json"))
        self.assertEqual(line["headers"], [{"key": "a", "value": "1"}, {"key": "b", "value": "2=3"}])

    def test_keys(self):
        name = self.topic(partitions=4)
        lines = [b"key%d=value=%d" % (i % 10, i) for i in range(1000)] + [b"no key here"]
        self.clymq("produce", name, "--key-separator", "=", stdin=b"\n".join(lines))
        seen = {}
        for line in self.read(name, "--print-key", "--print-partition").splitlines():
            partition, key, value = line.split(b"\t")
            if value == b"no key here":
                self.assertEqual(key, b"")
                continue
            seen.setdefault(key, []).append((partition, int(value[6:])))
        self.assertEqual(len(seen), 10)
        for key, messages in seen.items():
            self.assertEqual(len({partition for partition, _ in messages}), 1, key)
            self.assertEqual([number for _, number in messages], list(range(int(key[3:]), 1000, 10)))

    def test_spread_and_compressions(self):
        name = self.topic(partitions=4)
        expected = []
        for codec in ("none", "gzip", "snappy", "lz4", "zstd"):
            lines = [b"%s line %d" % (codec.encode(), i) for i in range(20000)]
            expected += lines
            done = self.clymq("produce", name, "--compression", codec, "--batch-bytes", "16K", "--json",
                              stdin=b"\n".join(lines))
            summary = json.loads(done.stdout)
            self.assertEqual((summary["acknowledged"], summary["failed"]), (20000, 0))
        rows = [line.split(b"\t") for line in self.read(name, "--print-partition").splitlines()]
        self.assertEqual(sorted(value for _, value in rows), sorted(expected))
        self.assertEqual({partition for partition, _ in rows}, {b"0", b"1", b"2", b"3"})

    def test_places(self):
        name = self.topic()
        self.clymq("produce", name, "--partition", "0", stdin=b"".join(b"%d\n" % i for i in range(100)))
        offsets = [int(line.split(b"\t")[0]) for line in self.read(name, "--print-offset").splitlines()]
        stamps = [int(line.split(b"\t")[0]) for line in self.read(name, "--print-timestamp").splitlines()]
        middle = self.clymq("consume", name, "--partition", "0", "--from", offsets[50], "--count", "3").stdout
        self.assertEqual(middle, b"50\n51\n52\n")
        for place in (f"@{stamps[0]}", "-1h", "2020-01-01T00:00:00Z"):
            out = self.clymq("consume", name, "--from", place, "--no-follow").stdout
            self.assertEqual(out.splitlines()[0], b"0", place)
        late = self.clymq("consume", name, "--from", f"@{stamps[-1] + 1}", "--exit-at-end").stdout
        self.assertEqual(late, b"")
        out = self.clymq("consume", name, "--from", offsets[-1] + 1000, "--count", "1", check=False)
        self.assertEqual(out.returncode, 1)
        self.assertIn(b"offset out of range", out.stderr)

    def test_follow_and_interrupt(self):
        name = self.topic(partitions=2)
        consumer = harness.clymq_start(self.server, "consume", name, "--from", "beginning", stdout=subprocess.PIPE)
        for i in range(3):
            self.clymq("produce", name, stdin=b"message %d\n" % i)
            self.assertEqual(consumer.stdout.readline(), b"message %d\n" % i)
        consumer.send_signal(signal.SIGINT)
        self.assertEqual(consumer.wait(30), 130)
        consumer.stdout.close()

    def test_interrupted_producer_finishes_what_it_took(self):
        name = self.topic()
        producer = harness.clymq_start(self.server, "produce", name, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
        producer.stdin.write(b"one\ntwo\n")
        producer.stdin.flush()
        self.assertEqual(self.clymq("consume", name, "--from", "beginning", "--count", "2").stdout, b"one\ntwo\n")
        producer.send_signal(signal.SIGINT)
        self.assertEqual(producer.wait(30), 130)
        self.assertIn(b"2 messages were sent and all of them acknowledged", producer.stderr.read())
        producer.stdin.close()
        producer.stderr.close()

    def reader_goes_after_a_line(self, lines):
        """consume ends quietly when its reader has gone after the first of the lines."""
        name = self.topic()
        self.clymq("produce", name, stdin=lines)
        consumer = harness.clymq_start(self.server, "consume", name, "--from", "beginning", stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
        self.assertEqual(consumer.stdout.readline(), b"line\n")
        consumer.stdout.close()
        self.assertEqual(consumer.wait(30), 0)
        self.assertEqual(consumer.stderr.read(), b"")
        consumer.stderr.close()

    def test_closed_pipe(self):
        self.reader_goes_after_a_line(b"line\n" * 200000)

    def test_closed_pipe_of_a_quiet_topic(self):
        """Whoever follows a topic ends when its reader has gone, though nothing is left to be written."""
        self.reader_goes_after_a_line(b"line\n")

    def test_pipes_that_do_not_block(self):
        """As some programs leave the pipes that they share: nothing is lost, and nobody spins meanwhile."""
        name = self.topic()
        data = b"a line\n" * 100000
        for way in ("in", "out"):
            ours, theirs = socket.socketpair()
            with ours, theirs:
                theirs.setblocking(False)
                if way == "in":
                    child = harness.clymq_start(self.server, "produce", name, stdin=theirs, stderr=subprocess.PIPE)
                    theirs.close()
                    ours.sendall(data[:7])
                    time.sleep(0.5)  # it has nothing to do: the processor time below tells what it did
                    ours.sendall(data[7:])
                    ours.shutdown(socket.SHUT_WR)
                else:
                    child = harness.clymq_start(self.server, "consume", name, "--from", "beginning", "--exit-at-end",
                                                stdout=theirs, stderr=subprocess.PIPE)
                    theirs.close()
                    time.sleep(0.5)
                    read = b"".join(iter(lambda: ours.recv(1 << 20), b""))
                    self.assertEqual(len(read), len(data))
                    self.assertEqual(read, data)
                _, status, usage = os.wait4(child.pid, 0)
                self.assertEqual(status, 0, child.stderr.read())
                child.returncode = 0
                child.stderr.close()
                self.assertLess(usage.ru_utime + usage.ru_stime, 0.3, way)

    def test_closed_standard_streams(self):
        """Nothing else may come to stand where output goes."""
        program = os.path.join(harness.BIN, "clymq")
        for redirect, code, word in (("<&-", 0, b""), (">&-", 1, b"standard output"), ("2>&-", 0, b""), ("<&- 2>&-", 0, b"")):
            done = subprocess.run(["sh", "-c", f"{program} topic list --coordinator {self.server.coordinator} {redirect}"],
                                  capture_output=True, timeout=60)
            self.assertEqual(done.returncode, code, (redirect, done))
            self.assertIn(word, done.stderr)
        server = harness.Server()
        self.addCleanup(server.close)
        shell = subprocess.Popen(["sh", "-c", " ".join(server.command()) + " <&- 2>&- & echo $! && wait $!"],
                                 stdout=subprocess.PIPE)
        pid = int(shell.stdout.readline())
        try:
            self.assertIn(b"serves", shell.stdout.readline())
            harness.clymq(server, "topic", "create", "t")
            harness.clymq(server, "produce", "t", stdin=b"x\n")
            opened = [os.readlink(f"/proc/{pid}/fd/{fd}") for fd in (0, 2)]
        finally:
            os.kill(pid, signal.SIGTERM)
        self.assertEqual(shell.wait(60), 0)
        shell.stdout.close()
        self.assertEqual(opened, ["/dev/null", "/dev/null"])

    def test_rate(self):
        name = self.topic()
        done = self.clymq("produce", name, "--rate", "100", "--json", stdin=b"x\n" * 51)
        self.assertGreaterEqual(json.loads(done.stdout)["seconds"], 0.49)

    def test_rate_after_a_pause_of_the_input(self):
        """What a pause left undone is not sent in a burst."""
        name = self.topic()
        producer = harness.clymq_start(self.server, "produce", name, "--rate", "40", stdin=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
        producer.stdin.write(b"x\n")
        producer.stdin.flush()
        self.clymq("consume", name, "--from", "beginning", "--count", "1")
        time.sleep(1)  # the pause
        before = time.monotonic()
        producer.stdin.write(b"x\n" * 40)
        producer.stdin.close()
        self.assertEqual(producer.wait(30), 0, producer.stderr.read())
        self.assertGreaterEqual(time.monotonic() - before, 0.8)
        producer.stderr.close()

    def test_refusals(self):
        name = self.topic(ack=1)
        done = self.clymq("produce", name, "--ack", "-1", stdin=b"x\n", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"0 of 1 messages were acknowledged", done.stderr)
        self.assertIn(b"ack level", done.stderr)
        done = self.clymq("produce", name, "--ack", "1", "--partition", "nowhere", stdin=b"x\n", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"unknown partition", done.stderr)
        self.assertEqual(self.read(name), b"")

    def bench(self, *arguments):
        done = json.loads(self.clymq("bench", *arguments, "--json", "--server-pid", self.server.process.pid).stdout)
        self.assertEqual(done["failed"], 0)
        self.assertGreaterEqual(done["server"]["cpu_s"], 0)
        self.assertGreater(done["server"]["rss_max_bytes"], 1 << 20)
        latency = done.get("latency_ms") or done["age_ms"]
        ordered = [latency[name] for name in ("p50", "p90", "p99", "p999", "max")]
        self.assertEqual(ordered, sorted(ordered))
        return done

    def test_bench_library(self):
        done = self.bench("produce", "bench-library", "--messages", "20000", "--partitions", "2", "--connections", "3")
        self.assertEqual((done["messages"], done["bytes"], done["method"]), (20000, 2000000, "library"))
        done = self.bench("consume", "bench-library")
        self.assertEqual((done["messages"], done["bytes"]), (20000, 2000000))
        self.assertEqual(self.bench("consume", "bench-library", "--messages", "100")["messages"], 100)
        text = self.clymq("bench", "consume", "bench-library").stdout
        self.assertIn(b"messages/s", text)
        self.assertIn(b"p99.9", text)

    def test_bench_push(self):
        for ack in (1, -1, 0):
            done = self.bench("produce", f"bench-push{ack}", "--method", "push", "--messages", "5000", "--size", "50",
                              "--connections", "5", "--depth", "7", "--partitions", "3", "--ack", ack)
            self.assertEqual((done["messages"], done["bytes"]), (5000, 250000))
        self.assertEqual(self.bench("consume", "bench-push1")["messages"], 5000)
        # Every message is there: of partitions 0, 1 and 2 as the connections take turns.
        counts = {}
        for line in self.read("bench-push1", "--print-partition", "--format", "hex").splitlines():
            partition = line.split(b"\t")[0]
            counts[partition] = counts.get(partition, 0) + 1
        self.assertEqual(sorted(counts), [b"0", b"1", b"2"])

    def test_bench_push_batch(self):
        done = self.bench("produce", "bench-batch", "--method", "pushBatch", "--messages", "30000", "--size", "1K",
                          "--batch-bytes", "64K", "--connections", "2", "--partitions", "5", "--ack", "-1")
        per_call = done["messages_per_call"]
        self.assertTrue(60 <= per_call <= 63, per_call)
        self.assertEqual(done["messages"], (30000 + per_call - 1) // per_call * per_call)
        self.assertEqual(done["bytes"], done["messages"] * 1024)
        self.assertEqual(self.bench("consume", "bench-batch")["messages"], done["messages"])
        for flags in ([], ["--connections", "1", "--depth", "1"], ["--connections", "7", "--depth", "3"],
                      ["--fetch-bytes", "1"], ["--connections", "3", "--from", "0", "--fetch-bytes", "200K"]):
            pulled = self.bench("consume", "bench-batch", "--method", "pullBatch", *flags)
            self.assertEqual(pulled["messages"], done["messages"], flags)
            self.assertGreater(pulled["bytes"], done["bytes"])
        self.assertEqual(self.bench("consume", "bench-batch", "--method", "pullBatch", "--from", "end")["messages"], 0)

    def test_bench_rate(self):
        for method, flags in (("library", ["--linger", "0"]), ("push", ["--connections", "4"])):
            done = self.bench("produce", "bench-rate", "--method", method, "--rate", "2000", "--messages", "1001",
                              "--ack", "1", *flags)
            self.assertEqual(done["messages"], 1001)
            self.assertGreaterEqual(done["seconds"], 0.5)
        done = self.bench("produce", "bench-rate", "--method", "push", "--duration", "300ms", "--messages", "0", "--ack", "1")
        self.assertGreaterEqual(done["seconds"], 0.3)
        self.assertGreater(done["messages"], 0)

    def test_bench_rate_of_batches(self):
        """Messages a second are meant, however many go in a call, and a time-out counts from when a call goes out."""
        done = self.bench("produce", "bench-batch-rate", "--method", "pushBatch", "--rate", "1000", "--messages", "2000", "--ack",
                          "1", "--batch-bytes", "64K", "--timeout", "500ms")
        per_call = done["messages_per_call"]
        self.assertGreater(per_call, 500)
        calls = done["messages"] // per_call
        self.assertGreater(calls, 2)
        self.assertGreaterEqual(done["seconds"], (calls - 1) * per_call / 1000)

    def test_bench_charges_a_stall(self):
        """Messages that were due while the server stood still have waited, each for its part of the time."""
        self.bench("produce", "bench-stall", "--messages", "1", "--ack", "1")
        load = harness.clymq_start(self.server, "bench", "produce", "bench-stall", "--method", "push", "--rate", "1000",
                                   "--messages", "8000", "--ack", "1", "--depth", "10", "--json", stdout=subprocess.PIPE)
        harness.wait_until(lambda: self.clymq("consume", "bench-stall", "--from", "beginning", "--exit-at-end",
                                              "--format", "hex").stdout.count(b"\n") > 100, "the load has begun")
        self.server.signal(signal.SIGSTOP)
        time.sleep(0.5)  # the stall itself
        self.server.signal(signal.SIGCONT)
        done = json.loads(load.communicate(timeout=60)[0])
        self.assertEqual((done["messages"], done["failed"]), (8000, 0))
        # 500 of 8,000 were due meanwhile, though only ten were under way.
        self.assertGreater(done["latency_ms"]["p99"], 200)
        self.assertGreaterEqual(done["latency_ms"]["max"], 400)

    def test_bench_e2e(self):
        done = self.bench("e2e", "bench-e2e", "--messages", "1000", "--rate", "2000", "--partitions", "2", "--size", "16")
        self.assertEqual((done["messages"], done["bytes"]), (1000, 16000))
        self.assertGreaterEqual(done["seconds"], 0.49)
        # A second run is not misled by the first one's messages.
        done = self.bench("e2e", "bench-e2e", "--messages", "500", "--rate", "5000", "--ack", "-1")
        self.assertEqual(done["messages"], 500)

    def test_bench_connections(self):
        address = f"127.0.0.1:{self.server.broker_port}"
        done = self.bench("connections", "--address", address, "--connections", "500", "--calls", "3")
        self.assertEqual((done["calls"], done["connections"]), (1500, 500))
        self.assertLess(done["rss_bytes_per_connection"], 65536)
        text = self.clymq("bench", "connections", "--address", address, "--connections", "10", "--hold", "1ms").stdout
        self.assertIn(b"10 connections", text)

    def test_bench_interrupted(self):
        """It ends early with a report that says so, and with status 130."""
        self.bench("produce", "bench-interrupted", "--messages", "10", "--ack", "1")
        address = f"127.0.0.1:{self.server.broker_port}"
        for arguments in (
            ["produce", "bench-interrupted", "--messages", "0", "--duration", "1h", "--rate", "10", "--ack", "1"],
            ["produce", "bench-interrupted", "--method", "push", "--messages", "0", "--duration", "1h", "--rate", "10", "--ack", "1"],
            ["consume", "bench-interrupted", "--messages", "1000000"],
            ["e2e", "bench-interrupted", "--rate", "10", "--ack", "1"],
            ["connections", "--address", address, "--connections", "10", "--hold", "1h"],
        ):
            for flags in ([], ["--json"]):
                load = harness.clymq_start(self.server, "bench", *arguments, *flags, stdout=subprocess.PIPE)
                harness.wait_until(lambda: takes_interrupts(load.pid), "it catches signals")
                load.send_signal(signal.SIGINT)
                out = load.communicate(timeout=60)[0]
                self.assertEqual(load.returncode, 130, (arguments, out))
                if not out and arguments[0] == "connections":
                    continue  # before all were open
                if flags:
                    self.assertIs(json.loads(out)["interrupted"], True)
                else:
                    self.assertIn(b"interrupted\n", out)
        self.assertIs(self.bench("consume", "bench-interrupted", "--messages", "1")["interrupted"], False)

    def test_bench_refusals(self):
        for words, arguments in (
            (b"--duration", ["produce", "--messages", "0"]),
            (b"1000 at most", ["produce", "--connections", "1001"]),
            (b"pushBatch", ["produce", "--method", "carrier-pigeon"]),
            (b"expected beginning", ["consume", "--from", "sometime"]),
            (b"size", ["e2e", "--size", "15"]),
        ):
            done = self.clymq("bench", *arguments, check=False)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn(words, done.stderr)
        # A refused push is counted and told, with the server's sentence.
        name = self.topic(ack=1)
        done = self.clymq("bench", "produce", name, "--method", "push", "--messages", "10", "--ack", "-1", "--json", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertEqual((json.loads(done.stdout)["messages"], json.loads(done.stdout)["failed"]), (0, 10))
        self.assertIn(b"10 messages failed:", done.stderr)
        done = self.clymq("bench", "produce", self.topic(), "--messages", "10", "--server-pid", (1 << 31) - 1)
        self.assertIn(b"no such process", done.stderr)
        empty = self.topic(partitions=0)
        for method in ("library", "pullBatch"):
            for topic, words in (("no-such-topic", b"unknown topic"), (empty, b"no partition")):
                done = self.clymq("bench", "consume", topic, "--method", method, check=False)
                self.assertEqual(done.returncode, 1)
                self.assertIn(words, done.stderr)
        done = self.clymq("bench", "connections", "--address", "127.0.0.1:1", check=False)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"127.0.0.1:1", done.stderr)

    def test_examples(self):
        produce, consume = (os.path.join(harness.BIN, name) for name in ("example-produce", "example-consume"))
        if not os.path.exists(produce):
            self.skipTest("the examples are not built")
        name = self.topic()
        subprocess.run([produce, name, self.server.coordinator], input=b"one\ntwo\n", check=True, timeout=60)
        with subprocess.Popen([consume, name, "0", self.server.coordinator], stdout=subprocess.PIPE) as consumer:
            self.assertEqual([consumer.stdout.readline().split(b"\t")[1] for _ in range(2)], [b"one\n", b"two\n"])
            consumer.kill()


if __name__ == "__main__":
    harness.main()
